//! The command `cognigy`, as a process, against the strict fake.

#[path = "support/fake_documents.rs"]
mod fake_documents;
#[allow(dead_code, reason = "other tests need more of it")]
#[path = "support/fake_platform.rs"]
mod fake_platform;
#[path = "support/https.rs"]
mod https;

use fake_documents::{Fake, KEY};
use serde_json::{Value, json};
use std::{fs, path::PathBuf, process::Stdio};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
};

struct Ran {
    status: i32,
    stdout: String,
    stderr: String,
}

impl Ran {
    /// The lines of stdout as JSON.
    fn json(&self) -> Vec<Value> {
        let lines = self.stdout.lines();
        lines
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }

    fn error(&self) -> Value {
        let error: Value = serde_json::from_str(&self.stderr).expect("JSON");
        error["error"].clone()
    }
}

/// Starts the command with nothing of this process's environment.
fn start(args: &[&str], env: &[(&str, &str)]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_cognigy"))
        .args(args)
        .env_clear()
        .envs(env.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the command")
}

/// Runs the command to its end.
async fn run(args: &[&str], env: &[(&str, &str)], stdin: impl AsRef<[u8]>) -> Ran {
    let mut child = start(args, env);
    let mut input = child.stdin.take().expect("piped");
    // The command may end without reading it.
    drop(input.write_all(stdin.as_ref()).await);
    drop(input);
    let output = child.wait_with_output().await.expect("its output");
    Ran {
        status: output.status.code().expect("no signal"),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

struct Setup {
    fake: Fake,
    server: https::Server,
    folder: TempDir,
}

impl Setup {
    async fn new() -> Self {
        let fake = Fake::default();
        let server = https::serve(fake.app()).await;
        let folder = TempDir::new().expect("a folder");
        fs::write(folder.path().join("root.pem"), &server.root).expect("a file");
        Self {
            fake,
            server,
            folder,
        }
    }

    fn path(&self, name: &str) -> String {
        self.folder
            .path()
            .join(name)
            .to_str()
            .expect("UTF-8")
            .to_owned()
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path: PathBuf = self.folder.path().join(name);
        fs::write(&path, text).expect("a file");
        self.path(name)
    }

    /// A command and its flags, and the environment, with which it reaches the fake.
    fn reaching<'a>(
        &'a self,
        args: &[&'a str],
        root: &'a str,
    ) -> (Vec<&'a str>, [(&'a str, &'a str); 2]) {
        let mut all = vec![args[0], "--allow-private", "--root-certificates", root];
        all.extend(&args[1..]);
        let env = [
            ("COGNIGY_API_KEY", KEY),
            ("COGNIGY_BASE_URL", &*self.server.url),
        ];
        (all, env)
    }

    async fn run(&self, args: &[&str], stdin: impl AsRef<[u8]>) -> Ran {
        let root = self.path("root.pem");
        let (args, env) = self.reaching(args, &root);
        run(&args, &env, stdin).await
    }

    /// Starts to register so many webhooks, one after the other.
    fn registering(&self, count: usize) -> Child {
        let one = |number: usize| json!({"name": format!("hook-{number}"), "url": "https://example.com/"});
        let all: Vec<Value> = (0..count).map(one).collect();
        let file = self.file("many.json", &json!(all).to_string());
        let root = self.path("root.pem");
        let args = ["register", "--no-probe", "--concurrency", "1", &file];
        let (args, env) = self.reaching(&args, &root);
        start(&args, &env)
    }
}

#[tokio::test]
async fn register_takes_the_three_forms_and_tells_what_became_of_each() {
    let setup = Setup::new().await;
    let target = &setup.server.url;
    let two = json!([
        {"name": "s2-form", "url": target, "signatureHeader": "X-Cognigy-Signature", "signatureSecret": "the secret"},
        {"name": "s4-form", "url": target, "secret": "the secret", "events": ["DIALOG_STARTED"]},
    ]);
    let file = setup.file("two.json", &two.to_string());
    let one = json!({"name": "s1-form", "target_url": target, "trigger_conditions": [], "payload_template": "{}"});
    let ran = setup
        .run(&["register", "--json", &file, "-"], &one.to_string())
        .await;
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    let mut names: Vec<_> = ran
        .json()
        .iter()
        .map(|item| item["endpoint"].clone())
        .collect();
    names.sort_by_key(ToString::to_string);
    assert_eq!(names, ["s1-form", "s2-form", "s4-form"]);
    assert!(
        ran.json()
            .iter()
            .all(|item| item["success"] == true && item["data"]["id"].is_string())
    );
    assert_eq!(setup.fake.seen().registered.len(), 3);

    let ran = setup
        .run(&["register", "--no-probe", "-"], &one.to_string())
        .await;
    assert_eq!(
        (ran.status, &*ran.stdout),
        (0, "registered\ts1-form\twh_4\n"),
        "{}",
        ran.stderr
    );
}

#[tokio::test]
async fn register_does_not_register_what_cannot_be_reached_and_goes_on() {
    let setup = Setup::new().await;
    let gone = "https://localhost:1/";
    let all = json!([
        {"name": "unreachable", "url": gone},
        {"name": "reachable", "url": setup.server.url},
    ]);
    let ran = setup
        .run(&["register", "--json", "-"], &all.to_string())
        .await;
    assert_eq!(ran.status, 1);
    let items = ran.json();
    assert_eq!(
        (&items[0]["endpoint"], &items[0]["success"]),
        (&json!("unreachable"), &json!(false))
    );
    assert_eq!(
        (&items[1]["endpoint"], &items[1]["success"]),
        (&json!("reachable"), &json!(true))
    );
    assert_eq!(ran.error()["kind"], "some_failed");
    assert_eq!(ran.error()["message"], "1 of 2 failed");
    assert_eq!(setup.fake.seen().registered.len(), 1);
}

#[tokio::test]
async fn a_file_that_is_not_right_is_named_with_its_field_and_nothing_is_sent() {
    let setup = Setup::new().await;
    for (text, said) in [
        ("", "EOF"),
        ("{", "EOF"),
        (r#"{"name":"abc"}"#, "missing field `url`"),
        (
            r#"{"name":"ab","url":"https://example.com/"}"#,
            "`name` must be 3 to 100",
        ),
        (
            r#"{"name":"abc","url":"https://example.com/","timeoutMs":"SECRET"}"#,
            "timeoutMs",
        ),
        (
            r#"[{"name":"abc","url":"https://example.com/"},{"name":"abc","url":"ftp://a"}]"#,
            "webhook 2",
        ),
        (
            r#"{"name":"abc","url":"https://example.com/","extra":1}"#,
            "unknown field `extra`",
        ),
        ("7", "webhook 1"),
    ] {
        let ran = setup.run(&["register", "--no-probe", "-"], text).await;
        assert_eq!((ran.status, &*ran.stdout), (2, ""), "{text}");
        assert!(
            ran.stderr.contains(said) && !ran.stderr.contains("SECRET"),
            "{text}: {}",
            ran.stderr
        );
    }
    let ran = setup.run(&["register", "/no/such/file"], "").await;
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.contains("/no/such/file"));
    assert!(setup.fake.seen().requests.is_empty());
}

#[tokio::test]
async fn list_writes_a_line_for_each_webhook_of_all_pages() {
    let setup = Setup::new().await;
    let page = |id: &str| vec![json!({"id": id, "name": "a\tname"})];
    setup.fake.seen().pages.extend([
        (String::new(), (page("a"), Some("next".to_owned()))),
        ("next".to_owned(), (page("b"), None)),
    ]);
    let ran = setup.run(&["list", "bot"], "").await;
    assert_eq!(
        (ran.status, &*ran.stdout),
        (0, "a\ta\\tname\nb\ta\\tname\n"),
        "{}",
        ran.stderr
    );
    let ran = setup.run(&["list", "bot", "--json"], "").await;
    assert_eq!(ran.json(), [page("a"), page("b")].concat());

    let ran = setup.run(&["list", "nobody", "--json"], "").await;
    assert_eq!(ran.status, 1);
    assert_eq!(ran.error()["kind"], "not_found");
    assert_eq!(
        (&ran.error()["status"], &ran.error()["detail"]),
        (&json!(404), &json!("no such bot"))
    );
}

#[tokio::test]
async fn patch_sets_a_policy_and_refuses_one_outside_its_limits() {
    let setup = Setup::new().await;
    let ran = setup
        .run(
            &["patch", "bot", "hook", "--key", "k1", "--max-attempts", "5"],
            "",
        )
        .await;
    assert_eq!(
        (ran.status, &*ran.stdout),
        (0, "updated\thook\n"),
        "{}",
        ran.stderr
    );
    let policy = setup.fake.seen().policies[&("bot".to_owned(), "hook".to_owned())].clone();
    assert_eq!(policy["retryPolicy"]["maxAttempts"], 5);
    let ran = setup
        .run(
            &[
                "patch",
                "bot",
                "hook",
                "--key",
                "k1",
                "--max-attempts",
                "11",
            ],
            "",
        )
        .await;
    assert_eq!(ran.status, 2);
    assert!(
        ran.stderr.contains("`max_attempts` must be from 1 to 10"),
        "{}",
        ran.stderr
    );
    let ran = setup
        .run(
            &["patch", "bot", "hook", "--key", "k1", "--max-attempts", "6"],
            "",
        )
        .await;
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.contains("409"), "{}", ran.stderr);
}

#[tokio::test]
async fn who_asks_must_be_said_and_a_secret_is_never_shown() {
    let ran = run(&["list", "bot"], &[], "").await;
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.contains("COGNIGY_API_KEY"));
    let env = [
        ("COGNIGY_API_KEY", "THE-KEY"),
        ("COGNIGY_CLIENT_SECRET", "THE-SECRET"),
    ];
    for args in [
        &["list", "--help"][..],
        &["list"],
        &["list", "bot", "--api", "no url"],
    ] {
        let ran = run(args, &env, "").await;
        let all = ran.stdout + &ran.stderr;
        assert!(
            !all.contains("THE-KEY") && !all.contains("THE-SECRET"),
            "{all}"
        );
    }
}

#[tokio::test]
async fn s1_and_s4_a_key_or_a_client_with_its_secret_is_exchanged_for_a_token() {
    let setup = Setup::new().await;
    let root = setup.path("root.pem");
    setup
        .fake
        .seen()
        .pages
        .insert(String::new(), (vec![json!({"id": "a"})], None));
    let (id, secret) = fake_documents::CLIENT;
    for (names, grant, asked) in [
        (
            ["COGNIGY_API_KEY", "COGNIGY_API_SECRET"],
            &[][..],
            "POST /api/v2/auth/token",
        ),
        (
            ["COGNIGY_CLIENT_ID", "COGNIGY_CLIENT_SECRET"],
            &["--grant", "form"],
            "POST /api/v1/auth/oauth/token",
        ),
    ] {
        let args = [
            "list",
            "bot",
            "--allow-private",
            "--root-certificates",
            &root,
        ];
        let env = [
            (names[0], id),
            (names[1], secret),
            ("COGNIGY_BASE_URL", &*setup.server.url),
        ];
        let ran = run(&[&args[..], grant].concat(), &env, "").await;
        assert_eq!((ran.status, &*ran.stdout), (0, "a\t-\n"), "{}", ran.stderr);
        let requests = std::mem::take(&mut setup.fake.seen().requests);
        let lines: Vec<_> = requests.iter().map(|of| of.0.as_str()).collect();
        let list = "GET /api/v2/bots/bot/webhooks?pageSize=100";
        assert_eq!(lines, [asked, list]);
        let token = format!("Bearer {}", fake_documents::TOKEN);
        assert_eq!(requests[1].1["authorization"], token.as_str());
        assert!(!requests[1].1.contains_key("x-api-key"));
    }
    let alone = [("COGNIGY_API_SECRET", secret)];
    assert_eq!(run(&["list", "bot"], &alone, "").await.status, 2);
    // What is asked where nothing is said: S0 and S2.
    let help = run(&["list", "--help"], &[], "").await;
    assert!(
        help.stdout.contains("https://api.cognigy.ai"),
        "{}",
        help.stdout
    );
}

#[tokio::test]
async fn probe_tells_the_version_of_tls_and_why_a_target_is_refused() {
    let setup = Setup::new().await;
    let url = setup.server.url.clone();
    let ran = setup
        .run(&["probe", "--json", &url, "https://localhost:1/"], "")
        .await;
    assert_eq!(ran.status, 1);
    let reports = ran.json();
    assert_eq!(
        (&reports[0]["is_reachable"], &reports[0]["tls_version"]),
        (&json!(true), &json!("TLSv1.3"))
    );
    assert_eq!(reports[0]["url"], json!(url));
    assert_eq!(
        (&reports[1]["is_reachable"], &reports[1]["tls_version"]),
        (&json!(false), &json!("none"))
    );
    let ran = run(&["probe", &url], &[], "").await;
    assert_eq!(ran.status, 1);
    assert!(ran.stdout.starts_with("refused\t"), "{}", ran.stdout);
    assert_eq!(run(&["probe", "no url"], &[], "").await.status, 2);
}

#[tokio::test]
async fn verify_checks_a_captured_request() {
    const BODY: &str = r#"{"eventId":"evt_1","type":"DIALOG_STARTED"}"#;
    let hex = "3ed850e10f98e2977a8a8bc704966138973b5affe957229ecabc660d46523362";
    let base64 = "PthQ4Q+Y4pd6iovHBJZhOJc7Wv/pVyKeyrxmDUZSM2I=";
    let stamped = "1700000000,PthQ4Q+Y4pd6iovHBJZhOJc7Wv/pVyKeyrxmDUZSM2I=";
    let captured = |signature: &str, end: &str| {
        format!(
            "POST /webhooks HTTP/1.1\r\nHost: a\r\nX-Cognigy-Signature: {signature}\r\nContent-Length: {}\r\n\r\n{BODY}{end}",
            BODY.len()
        )
    };
    let env = [("COGNIGY_WEBHOOK_SECRET", "an-old-secret,test-secret")];
    let verify = async |args: &[&str], request: &str| {
        let all = [&["verify", "-"], args].concat();
        run(&all, &env, request).await
    };
    for signature in [hex, base64] {
        // An editor's last line end is no part of the body.
        let ran = verify(&["--json"], &captured(signature, "\n")).await;
        assert_eq!(ran.status, 0, "{}", ran.stderr);
        assert_eq!(
            (&ran.json()[0]["valid"], &ran.json()[0]["secret"]),
            (&json!(true), &json!("key-2"))
        );
    }
    let at = ["--at", "1700000100"];
    assert_eq!(verify(&at, &captured(stamped, "")).await.status, 0);
    let stale = verify(&["--at", "1700000301"], &captured(stamped, "")).await;
    assert_eq!(stale.status, 1);
    assert_eq!(
        verify(&["--form", "hex"], &captured(base64, ""))
            .await
            .status,
        1
    );
    let forged = verify(&["--json"], &captured(&hex.replace('3', "4"), "")).await;
    assert_eq!(forged.status, 1);
    assert_eq!(forged.error()["kind"], "refused");
    // Line ends of a file, in place of those of the protocol.
    let lines = captured(hex, "").replace("\r\n", "\n");
    assert_eq!(verify(&[], &lines).await.status, 0);
    for (bad, said) in [
        ("", "empty line"),
        ("POST / HTTP/1.1\r\n", "empty line"),
        ("hello\r\n\r\n", "no HTTP request"),
        (
            "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nshort",
            "5 of 9 bytes",
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0",
            "Transfer-Encoding",
        ),
    ] {
        let ran = verify(&[], bad).await;
        assert_eq!(ran.status, 2, "{bad}");
        assert!(ran.stderr.contains(said), "{bad}: {}", ran.stderr);
    }
}

#[tokio::test]
async fn render_shows_what_would_be_sent_and_to_whom() {
    let setup = Setup::new().await;
    let definition = |name: &str, least: f64| {
        json!({
            "name": name,
            "target_url": "https://example.com/hooks",
            "trigger_conditions": [{"event_type": "intent", "threshold": least}],
            "payload_template": "{\"said\": {{ payload.text }}}",
        })
    };
    let event = json!({
        "eventId": "evt_1",
        "timestamp": "2024-01-15T10:00:00Z",
        "type": "USER_INPUT_RECEIVED",
        "payload": {"input": "x", "text": "a \"quote\"", "intent": "order", "intentScore": 0.5},
    });
    let event = setup.file("event.json", &event.to_string());
    let one = setup.file("one.json", &definition("always", 0.0).to_string());
    let ran = setup.run(&["render", &one, &event], "").await;
    assert_eq!(
        (ran.status, &*ran.stdout),
        (0, "{\"said\": \"a \\\"quote\\\"\"}\n"),
        "{}",
        ran.stderr
    );
    let ran = setup.run(&["render", "--json", &one, &event], "").await;
    assert_eq!(
        ran.json()[0]["headers"]["x-webhook-source"],
        "cognigy-router"
    );
    assert_eq!(
        (&ran.json()[0]["method"], &ran.json()[0]["url"]),
        (&json!("POST"), &json!("https://example.com/hooks"))
    );

    let sure = setup.file("sure.json", &definition("sure", 0.99).to_string());
    let ran = setup.run(&["render", &sure, &event], "").await;
    assert_eq!(ran.status, 1, "its score is not known to be so high");
    let ran = setup.run(&["render", "--all", &sure, &event], "").await;
    assert_eq!(ran.status, 0, "{}", ran.stderr);

    let mut beside = definition("beside", 0.0);
    beside["payload_template"] = Value::Null;
    beside["payload_template_file"] = json!("beside.j2");
    let beside = setup.file("beside.json", &beside.to_string());
    setup.file("beside.j2", "{{ payload.input }}");
    let ran = setup.run(&["render", &beside, &event], "").await;
    assert_eq!(ran.stdout, "\"x\"\n", "{}", ran.stderr);

    let missing = setup.file("missing.json", r#"{"type":"intent","score":1}"#);
    let ran = setup.run(&["render", "--all", &one, &missing], "").await;
    assert_eq!(ran.status, 1);
    assert!(ran.stdout.starts_with("failed\talways\t"), "{}", ran.stdout);
    let bad = setup.file("bad.json", r#"{"name":"abc","target_url":"https://example.com/","trigger_conditions":[],"payload_template":"{{"}"#);
    let ran = setup.run(&["render", &bad, &event], "").await;
    assert_eq!(ran.status, 2);
    assert!(
        ran.stderr.contains("payload_template") && ran.stderr.contains("bad.json"),
        "{}",
        ran.stderr
    );
}

#[tokio::test]
async fn send_inject_and_notify_reach_an_endpoint_and_never_show_its_token() {
    use fake_platform::{ENDPOINT_KEY, REST, WEBHOOK};
    let fake = fake_platform::Fake::default();
    fake.seen().endpoints_need_key = true;
    let server = https::serve(fake.app()).await;
    let folder = TempDir::new().expect("a folder");
    let root = folder.path().join("root.pem");
    fs::write(&root, &server.root).expect("a file");
    let root = root.to_str().expect("UTF-8");
    let call = async |args: &[&str], token: &str, key: &str| {
        let whom = [
            "--allow-private",
            "--root-certificates",
            root,
            "--user",
            "u",
            "--session",
            "s",
        ];
        let url = format!("{}/{token}", server.url);
        let env = [
            ("COGNIGY_ENDPOINT_URL", &*url),
            ("COGNIGY_WEBHOOK_KEY", key),
        ];
        let ran = run(&[&args[..1], &whom, &args[1..]].concat(), &env, "").await;
        assert!(
            !ran.stderr.contains(token) && !ran.stderr.contains(ENDPOINT_KEY),
            "{}",
            ran.stderr
        );
        ran
    };
    let ran = call(&["send", "--json", "--text", "Hello"], REST, ENDPOINT_KEY).await;
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    assert!(ran.json()[0]["outputStack"].is_array());
    let ran = call(&["send", "--data", r#"{"a":1}"#], WEBHOOK, ENDPOINT_KEY).await;
    assert_eq!(
        (ran.status, &*ran.stdout),
        (0, "accepted\n"),
        "{}",
        ran.stderr
    );
    let ran = call(&["inject", "--text", "Hello"], WEBHOOK, ENDPOINT_KEY).await;
    assert_eq!(
        (ran.status, &*ran.stdout),
        (0, "injected\n"),
        "{}",
        ran.stderr
    );
    let ran = call(&["notify", "--text", "Hello"], WEBHOOK, ENDPOINT_KEY).await;
    assert_eq!(
        (ran.status, &*ran.stdout),
        (0, "notified\n"),
        "{}",
        ran.stderr
    );

    let ran = call(&["send", "--json", "--text", "Hello"], REST, "another key").await;
    assert_eq!(
        (ran.status, &ran.error()["kind"]),
        (1, &json!("unauthorized"))
    );
    for bad in [
        &["send"][..],
        &["send", "--data", "[1]"],
        &["send", "--data", "{"],
    ] {
        assert_eq!(call(bad, REST, ENDPOINT_KEY).await.status, 2, "{bad:?}");
    }
    let ran = call(&["send", "--text", "x"], "no-token", ENDPOINT_KEY).await;
    assert_eq!(ran.status, 2);
}

#[tokio::test]
async fn completions_name_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = run(&["completions", shell], &[], "").await;
        assert_eq!(ran.status, 0);
        for command in [
            "register", "list", "patch", "probe", "send", "inject", "notify", "render", "verify",
        ] {
            assert!(ran.stdout.contains(command), "{shell}: {command}");
        }
    }
    assert_eq!(run(&["completions", "cmd"], &[], "").await.status, 2);
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_the_command_quietly_and_not_with_success() {
    let setup = Setup::new().await;
    let mut child = setup.registering(10);
    drop(child.stdout.take());
    let ended = child.wait_with_output().await.expect("it ends");
    assert_eq!((ended.status.code(), &*ended.stderr), (Some(1), &b""[..]));
    // What was under way, and nothing of the rest.
    assert!((1..=2).contains(&setup.fake.seen().registered.len()));
}

#[cfg(unix)]
#[tokio::test]
async fn an_interrupt_ends_it_at_once_and_what_was_registered_has_been_said() {
    use std::os::unix::process::ExitStatusExt;
    const MINUTE: usize = 60;
    let setup = Setup::new().await;
    let mut child = setup.registering(2 * MINUTE);
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    // Then it waits for its turn, as the API permits sixty a minute.
    for number in 0..MINUTE {
        let line = lines.next_line().await.expect("text").expect("a line");
        assert_eq!(
            line,
            format!("registered\thook-{number}\twh_{}", number + 1)
        );
    }
    let id = child.id().expect("it runs").to_string();
    let killed = Command::new("kill").args(["-INT", &id]).status().await;
    assert!(killed.expect("kill is everywhere").success());
    let ended = child.wait_with_output().await.expect("it ends");
    assert_eq!((ended.status.signal(), &*ended.stderr), (Some(2), &b""[..]));
    assert_eq!(lines.next_line().await.expect("text"), None);
    assert_eq!(setup.fake.seen().registered.len(), MINUTE);
}

#[tokio::test]
async fn hostile_files_are_refused_by_their_name_and_nothing_is_sent() {
    let setup = Setup::new().await;
    let definition = json!({"name": "all", "target_url": "https://example.com/", "trigger_conditions": [], "payload_template": "{}"});
    let definition = setup.file("definition.json", &definition.to_string());
    let deep = "[".repeat(1 << 20);
    let long = " ".repeat((16 << 20) + 1);
    let hostile: [&[u8]; 8] = [
        b"",
        b"\0\0\0\0",
        b"\xff\xfe{\0}\0",
        b"\xef\xbb\xbf{}",
        b"{\"name\": \"\xff\"}",
        b"{\"a\": 1e999999}",
        deep.as_bytes(),
        long.as_bytes(),
    ];
    for stdin in hostile {
        for args in [
            &["register", "--no-probe", "-"][..],
            &["render", "--all", "-", &definition],
            &["render", "--all", &definition, "-"],
            &["verify", "--secret", "a secret of the test", "-"],
        ] {
            let ran = setup.run(args, stdin).await;
            let shown = String::from_utf8_lossy(&stdin[..stdin.len().min(20)]);
            assert_eq!(
                (ran.status, &*ran.stdout),
                (2, ""),
                "{args:?} {shown}: {}",
                ran.stderr
            );
            assert!(
                ran.stderr.starts_with("error: ") && ran.stderr.len() < 400,
                "{args:?} {shown}: {}",
                ran.stderr
            );
        }
    }
    // A folder in the place of a file, and a file that is no certificate.
    let folder = setup.path("");
    assert_eq!(setup.run(&["register", &folder], "").await.status, 2);
    let ran = run(
        &[
            "probe",
            "--root-certificates",
            &definition,
            "https://localhost:1/",
        ],
        &[],
        "",
    )
    .await;
    assert_eq!(ran.status, 2, "{}", ran.stdout);
    assert!(setup.fake.seen().requests.is_empty());
}

#[tokio::test]
async fn no_terminal_is_made_to_obey_a_server() {
    use axum::response::IntoResponse;
    let setup = Setup::new().await;
    let told = |body: &Value| axum::Json(body.clone()).into_response();
    let id = json!({"id": "wh\u{1b}[2J\r\n\u{9b}1A"});
    setup.fake.seen().script.push_back(told(&id));
    let webhook = json!({"name": "abc", "url": "https://example.com/"}).to_string();
    let ran = setup.run(&["register", "--no-probe", "-"], &webhook).await;
    assert_eq!(ran.stdout, "registered\tabc\twh\\u{1b}[2J\\r\\n\\u{9b}1A\n");

    let fake = fake_platform::Fake::default();
    let said = json!({"text": "One\n\ttwo\u{1b}]0;title\u{7}", "data": {}, "outputStack": [{"text": "One\n\ttwo\u{1b}]0;title\u{7}", "data": {}}]});
    fake.seen().script.push_back(told(&said));
    let server = https::serve(fake.app()).await;
    let root = setup.file("other.pem", &server.root);
    let url = format!("{}/{}", server.url, fake_platform::REST);
    let args = [
        "send",
        "--allow-private",
        "--root-certificates",
        &root,
        "--user",
        "u",
        "--session",
        "s",
        "--text",
        "x",
    ];
    let ran = run(&args, &[("COGNIGY_ENDPOINT_URL", &url)], "").await;
    assert_eq!(
        ran.stdout, "One\n\ttwo\\u{1b}]0;title\\u{7}\n",
        "{}",
        ran.stderr
    );
}

#[tokio::test]
async fn no_error_of_the_command_line_repeats_a_secret_of_it() {
    const SECRET: &str = "S3CRET-of-the-test";
    let url = format!("https://user:{SECRET}@localhost:1/");
    let odd = format!("https://user:{SECRET} @localhost:1/");
    for args in [
        &["list", "bot", "--api-key", SECRET, "--client-id", "c"][..],
        &["list", "bot", "--api-secret", SECRET],
        &["list", "bot", "--client-secret", SECRET],
        &[
            "list",
            "bot",
            "--client-id",
            "c",
            "--client-secret",
            SECRET,
            "--grant",
            "none",
        ],
        &["list", "--api-key", SECRET],
        &[
            "list",
            "bot",
            "--api-key",
            SECRET,
            "--api",
            "http://localhost:1",
        ],
        &["list", "bot", "--api-key", SECRET, "--api", &url],
        &["list", "bot", "--api-key", "S3CRET-of-the-test\n"],
        &["probe", &url],
        &["probe", &odd],
        &["verify", "/no/such/file", "--secret", SECRET],
        &["send", "--text", "x", "--webhook-key", SECRET],
        &[
            "send",
            "--user",
            "u",
            "--session",
            "s",
            "--text",
            "x",
            "--endpoint",
            &url,
        ],
        &[
            "send",
            "--user",
            "u",
            "--session",
            "s",
            "--text",
            "x",
            "--endpoint",
            &odd,
        ],
    ] {
        for more in [&[][..], &["--json"]] {
            let ran = run(&[args, more].concat(), &[], "").await;
            assert_eq!(ran.status, 2, "{args:?}: {}", ran.stderr);
            let all = ran.stdout + &ran.stderr;
            assert!(!all.contains(SECRET), "{args:?}: {all}");
        }
    }
    for command in ["list", "send", "verify"] {
        let env = [
            "COGNIGY_API_KEY",
            "COGNIGY_API_SECRET",
            "COGNIGY_BASE_URL",
            "COGNIGY_CLIENT_SECRET",
            "COGNIGY_ENDPOINT_URL",
            "COGNIGY_WEBHOOK_KEY",
            "COGNIGY_WEBHOOK_SECRET",
        ];
        let env = env.map(|name| (name, &*url));
        let ran = run(&[command, "--help"], &env, "").await;
        assert!(
            ran.status == 0 && !ran.stdout.contains(SECRET),
            "{}",
            ran.stdout
        );
    }
}

#[tokio::test]
async fn with_json_the_errors_of_the_command_line_are_json_too() {
    const ENDPOINT: [&str; 4] = ["send", "--endpoint", "https://localhost:1/t", "--user"];
    let key = [("COGNIGY_API_KEY", "k-1")];
    for (args, said) in [
        (&["list"][..], "<BOT>"),
        (&["nothing"], "unrecognized subcommand"),
        (&["list", "bot", "--colour"], "--colour"),
        (
            &[&ENDPOINT[..], &["u", "--session", "s"]].concat(),
            "--text or --data",
        ),
        // Not an id: nothing is sent.
        (&["patch", "..", "..", "--key", "k"], "must be an id"),
    ] {
        let ran = run(&[args, &["--json"]].concat(), &key, "").await;
        assert_eq!(ran.status, 2, "{args:?}: {}", ran.stderr);
        let error: Value = serde_json::from_str(&ran.stderr).expect("JSON");
        let message = error["error"]["message"].as_str().expect("text");
        assert!(message.contains(said), "{args:?}: {message}");
    }
    let help = run(&["--json", "--help"], &[], "").await;
    assert!(help.status == 0 && help.stdout.contains("Usage"));
}
