use super::*;
use crate::{holder::Holder, process::Stream};
use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

fn refused(flags: &[&str], environment: &[(&str, &str)]) -> Output {
    // What the default store would be in.
    let folder = tempfile::tempdir().unwrap();
    let mut command = command();
    command.current_dir(folder.path());
    if !flags.contains(&"--listen") {
        command.args(["--listen", "127.0.0.1:0"]);
    }
    command.args(flags);
    command.envs(environment.iter().copied());
    command.output().expect("it runs")
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn a_bad_value_ends_the_program_with_status_2_and_the_name_of_the_flag() {
    let folder = tempfile::tempdir().unwrap();
    let garbage = folder.path().join("garbage.db");
    std::fs::write(
        &garbage,
        "this is no database, however long it may be".repeat(200),
    )
    .unwrap();
    let garbage = format!("sqlite:{}", garbage.display());
    let nowhere = format!("sqlite:{}/no/such/folder/x.db", folder.path().display());
    let fresh = format!("sqlite:{}/fresh.db", folder.path().display());
    let a_folder = format!("sqlite:{}", folder.path().display());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (flags, names) in [
        (&["--listen", "nowhere"][..], "--listen"),
        (&["--listen", &taken], "--listen"),
        (&["--secret", ""], "--secret"),
        (
            &["--secret", "a secret of the sender,,another of the sender"],
            "--secret",
        ),
        (&["--secret", "fifteen bytes x"], "--secret"),
        (
            &[
                "--signature",
                "standard",
                "--secret",
                "whsec_MfKQ9r8GKYqrTwjU",
            ],
            "--secret",
        ),
        (&["--operator-token", "fifteen bytes x"], "--operator-token"),
        (
            &["--endpoint-auth", "a long user:hunter2-15bytes"],
            "--endpoint-auth",
        ),
        (&["--signature", "rot13"], "--signature"),
        (
            &["--signature", "standard", "--secret", "whsec_not base64!"],
            "--secret",
        ),
        (
            &[
                "--signature",
                "standard",
                "--secret",
                "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
            ],
            "--secret",
        ),
        (&["--endpoint-auth", "nocolon-hunter2"], "--endpoint-auth"),
        (&["--endpoint-auth", ":hunter2"], "--endpoint-auth"),
        (&["--endpoint-auth", "user:"], "--endpoint-auth"),
        (&["--store", "postgres://x"], "--store"),
        (&["--store", "sqlite:"], "--store"),
        (&["--store", "sqlite::memory:"], "--store"),
        (&["--store", "redis://u:hunter2@host"], "--store"),
        (
            &["--secret", "a secret of the sender, another of the sender"],
            "--secret",
        ),
        (&["--max-body", "-1"], "--max-body"),
        (&["--downstream", "ftp://u:hunter2@x"], "--downstream"),
        (&["--store", &garbage], "--store"),
        (&["--store", &nowhere], "--store"),
        (&["--store", &a_folder], "--store"),
        (&["--downstream", "ftp://x"], "--downstream"),
        (&["--downstream", "/path"], "--downstream"),
        (&["--downstream", "http://example.com/"], "--downstream"),
        (&["--downstream", "https://127.0.0.1/"], "--downstream"),
        (
            &["--downstream", "https://[::ffff:10.0.0.1]/"],
            "--downstream",
        ),
        (
            &["--downstream", "https://u:hunter2@example.com/"],
            "--downstream",
        ),
        (&["--fallback-url", "http://example.com/"], "--fallback-url"),
        (
            &["--fallback-url", "https://a.test,nonsense"],
            "--fallback-url",
        ),
        (
            &[
                "--fallback-url",
                "https://a.test,https://b.test,https://c.test,https://d.test,https://e.test,https://f.test",
            ],
            "--fallback-url",
        ),
        (&["--downstream-token", ""], "--downstream-token"),
        // There is no downstream that could get it.
        (&["--downstream-token", "hunter2"], "--downstream-token"),
        (&["--credentials", "/no/such/file"], "--credentials"),
        (&["--downstream-token", "hunter2\n"], "--downstream-token"),
        (
            &["--downstream-client", "me:hunter2"],
            "--downstream-token-url",
        ),
        (&["--downstream-scope", "events"], "--downstream-token-url"),
        (
            &["--downstream-token-url", "https://id.example.com/token"],
            "--downstream-client",
        ),
        (
            &[
                "--downstream-token-url",
                "https://id.example.com/token",
                "--downstream-client",
                "hunter2",
            ],
            "--downstream-client",
        ),
        (
            &[
                "--downstream-token-url",
                "https://u:hunter2@id.example.com/token",
                "--downstream-client",
                "me:hunter2",
            ],
            "--downstream-token-url",
        ),
        (
            &[
                "--downstream-token-url",
                "https://id.example.com/token",
                "--downstream-client",
                "me:hunter2",
                "--downstream-scope",
                "two words",
            ],
            "--downstream-scope",
        ),
        (
            &[
                "--downstream-token-url",
                "https://id.example.com/token",
                "--downstream-client",
                "me:hunter2",
                "--downstream-token",
                "hunter2",
            ],
            "--downstream-token",
        ),
        (&["--max-attempts", "0"], "--max-attempts"),
        (&["--max-attempts", "11"], "--max-attempts"),
        (&["--max-attempts", "-1"], "--max-attempts"),
        (&["--base-delay-ms", "0"], "--base-delay-ms"),
        (&["--base-delay-ms", "1.5"], "--base-delay-ms"),
        (&["--max-delay-ms", "999"], "--max-delay-ms"),
        (&["--attempt-timeout-ms", "0"], "--attempt-timeout-ms"),
        (
            &["--attempt-timeout-ms", "86400001"],
            "--attempt-timeout-ms",
        ),
        (&["--breaker-failures", "0"], "--breaker-failures"),
        (&["--breaker-open-ms", "0"], "--breaker-open-ms"),
        (&["--max-body", "0"], "--max-body"),
        (&["--store", "memory:", "--max-keys", "0"], "--max-keys"),
        (&["--store", &fresh, "--max-keys", "0"], "--max-keys"),
        (&["--max-event-bytes", "0"], "--max-event-bytes"),
        (&["--max-body", "many"], "--max-body"),
        (&["--log", "xml"], "--log"),
        (&["--trusted-proxy", "proxy.test"], "--trusted-proxy"),
        (&["--trusted-proxy", "10.0.0.0/8,::/0"], "--trusted-proxy"),
        (&["--no-such-flag"], "--no-such-flag"),
    ] {
        let output = refused(flags, &[]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {said}");
        assert!(said.contains(names), "{flags:?}: {said}");
        assert!(
            !said.contains("hunter2") && !said.contains("not base64"),
            "a secret: {said}"
        );
        assert!(output.stdout.is_empty(), "{flags:?}");
    }
    let output = refused(&[], &[("COGNIGY_WEBHOOK_SECRET", "")]);
    assert_eq!(
        output.status.code(),
        Some(2),
        "an empty secret is no secret"
    );
    let output = refused(&[], &[("GATEWAY_MAX_BODY", "-1")]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("--max-body"));
    for (variable, flag) in [
        ("COGNIGY_WEBHOOK_SECRET", "--secret"),
        ("GATEWAY_ENDPOINT_AUTH", "--endpoint-auth"),
    ] {
        use std::os::unix::ffi::OsStrExt;
        let mut command = command();
        command.env(variable, std::ffi::OsStr::from_bytes(b"u:\xff"));
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(
            String::from_utf8_lossy(&output.stderr).contains(flag),
            "{variable}"
        );
    }
}

#[test]
fn help_shows_no_value_of_the_environment() {
    let mut command = command();
    for variable in [
        "COGNIGY_WEBHOOK_SECRET",
        "DOWNSTREAM_BEARER_TOKEN",
        "GATEWAY_ENDPOINT_AUTH",
        "GATEWAY_DOWNSTREAM",
        "GATEWAY_DOWNSTREAM_CLIENT",
        "GATEWAY_DOWNSTREAM_TOKEN_URL",
        "GATEWAY_STORE",
    ] {
        command.env(variable, "http://u:hunter2@host");
    }
    let output = command.arg("--help").output().unwrap();
    assert!(output.status.success());
    assert!(!String::from_utf8_lossy(&output.stdout).contains("hunter2"));
}

#[test]
fn the_table_of_the_readme_has_every_flag_and_variable_of_the_help_and_no_other() {
    let output = command().arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let readme = include_str!("../../README.md");
    let (_, table) = readme.split_once("\n## Flags\n").expect("a section");
    let (table, _) = table.split_once("\n## ").expect("a section after it");
    // Of each row: the flags of the first cell, and the variables of the second.
    let mut documented = Vec::new();
    for row in table.lines().filter(|line| line.starts_with("| `--")) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let flags = cells[1].split(", ").map(|flag| flag.trim_matches('`'));
        let flags = flags.filter_map(|flag| flag.split(' ').next());
        let variables = cells[2].split(", ").map(|name| name.trim_matches('`'));
        documented.extend(flags.chain(variables).map(str::to_owned));
    }
    let mut told = Vec::new();
    for line in help.lines().map(str::trim_start) {
        let flag = line.strip_prefix("-h, ").unwrap_or(line).split(' ').next();
        told.extend(flag.filter(|flag| flag.starts_with("--")));
        if let Some((_, variable)) = line.split_once("[env: ") {
            told.extend(variable.split(['=', ']']).next());
        }
    }
    let told = told.into_iter().filter(|flag| *flag != "--help");
    let mut told: Vec<_> = told.map(str::to_owned).collect();
    documented.retain(|name| !name.is_empty());
    documented.sort();
    told.sort();
    assert_eq!(documented, told);
}

#[test]
fn asked_to_stop_as_soon_as_it_is_ready_it_ends_well() {
    for _ in 0..10 {
        let mut server = gateway(&[]);
        assert_eq!(server.terminate(Duration::from_secs(10)).code(), Some(0));
    }
}

#[test]
fn it_stops_in_time_whatever_holds_it_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.db");
    // A downstream that never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}/", silent.local_addr().unwrap());
    let mut server = gateway_on(&path, &["--downstream", &silent]);
    assert_eq!(post(&server, event("evt").as_bytes()).status, 200);
    // A request that never ends, and others that wait for a database that another program holds.
    let mut unfinished = Vec::new();
    let mut holder = Holder::start(&path);
    for n in 0..8 {
        let body = event(&format!("evt_{n}"));
        let sent = if n == 0 { "{" } else { body.as_str() };
        let mut stream = std::net::TcpStream::connect(server.address).unwrap();
        let head = format!(
            "POST /webhooks/cognigy HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\nx-cognigy-signature: {}\r\n\r\n{sent}",
            body.len(),
            openssl_hex(SECRET, body.as_bytes()),
        );
        stream.write_all(head.as_bytes()).unwrap();
        unfinished.push(stream);
    }
    // Another request, so that those have surely been taken up.
    assert_eq!(get(&server, "/nowhere").status, 404);
    assert_eq!(server.terminate(Duration::from_secs(10)).code(), Some(0));
    holder.release();
}

#[test]
fn a_database_of_a_newer_release_or_held_by_another_program_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.db");
    drop(gateway_on(&path, &[]));
    let store = format!("sqlite:{}", path.display());
    let sqlite = |sql: &str| crate::foreign::run("sqlite3", &[path.to_str().unwrap(), sql], b"");

    // Another program holds it: we wait for the busy timeout, and then say so.
    let mut holder = Holder::start(&path);
    let refusal = refused(&["--store", &store], &[]);
    let said = String::from_utf8_lossy(&refusal.stderr).into_owned();
    assert_eq!(refusal.status.code(), Some(2), "{said}");
    assert!(
        said.contains("--store") && said.contains("holds the database"),
        "{said}"
    );
    holder.release();

    sqlite("UPDATE tower_webhook_schema SET version = 99");
    let output = refused(&["--store", &store], &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("99"), "{said}");
}

#[test]
fn flags_come_from_the_environment_too() {
    let mut command = command();
    command.env(
        "COGNIGY_WEBHOOK_SECRET",
        format!("the first of the secrets,{SECRET}"),
    );
    command
        .env("GATEWAY_LISTEN", "127.0.0.1:0")
        .env("GATEWAY_ALLOW_PRIVATE", "1")
        .env("GATEWAY_DOWNSTREAM", "http://127.0.0.1:1/")
        .env("GATEWAY_STORE", "memory:");
    let server = Server::start(command);
    assert_eq!(post(&server, event("evt").as_bytes()).status, 200);
}

#[test]
fn a_newcomer_gets_secrets_and_a_command_that_works() {
    let mut command = command();
    command.args(["--listen", "127.0.0.1:0", "--store", "memory:"]);
    let mut server = Server::start(command);
    let said = server.wait_for(Stream::Err, "curl -i");
    assert!(
        said.contains("--secret") && said.contains("--endpoint-auth"),
        "{said}"
    );
    let pasted = said
        .lines()
        .find(|line| line.starts_with("curl -i"))
        .unwrap();
    let answer = crate::foreign::run("sh", &["-c", pasted], b"");
    assert!(
        answer.contains(r#"{"status":"accepted","taskId":"#),
        "{answer}"
    );
    let again = crate::foreign::run("sh", &["-c", pasted], b"");
    assert!(
        again.ends_with(r#"{"status":"accepted","duplicate":true}"#),
        "{again}"
    );
    assert_eq!(
        server.written(Stream::Out),
        "",
        "one line on stdout, and no more"
    );
}

/// S3's program has a constant.
#[test]
fn s3_a_secret_that_nobody_gave_is_another_one_at_each_start() {
    let [one, other] = [(); 2].map(|()| {
        let mut command = command();
        command.args(["--listen", "127.0.0.1:0", "--store", "memory:"]);
        let said = Server::start(command).wait_for(Stream::Err, "curl -i");
        let secret = said.lines().find(|line| line.contains("--secret"));
        secret.expect("the secret").to_owned()
    });
    assert_ne!(one, other);
}

#[test]
fn the_demo_shows_what_became_of_its_traffic_and_ends() {
    let mut server = gateway(&["--demo"]);
    let said = server.wait_for(Stream::Err, "how the gateway is");
    assert!(server.wait(Duration::from_secs(20)).success());
    for line in [
        "a signed event",
        "the same event again",
        "401 Unauthorized",
        "continue_dialog",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert_eq!(server.written(Stream::Out), "");
}

#[test]
fn json_logs_are_json_and_hold_no_secret() {
    let mut command = command();
    command.args([
        "--listen",
        "127.0.0.1:0",
        "--store",
        "memory:",
        "--log",
        "json",
    ]);
    command
        .args(["--secret", SECRET, "--endpoint-auth", "u:hunter2-and-more"])
        .env("RUST_LOG", "trace");
    let mut server = Server::start(command);
    let body = event("evt_logged");
    let signature = openssl_hex(SECRET, body.as_bytes());
    let accepted = send(&server, &signature, body.as_bytes());
    send(&server, "forged", body.as_bytes());
    result_of(&server, &task_id(&accepted));
    let said = server.wait_for(Stream::Err, "\"refused\"");
    let logged: Vec<_> = said.lines().filter(|line| line.starts_with('{')).collect();
    assert!(!logged.is_empty());
    for line in &logged {
        let parsed: serde_json::Value = serde_json::from_str(line).expect(line);
        assert!(parsed["level"].is_string(), "{line}");
        for secret in [SECRET, "hunter2", &signature, "Grüße"] {
            assert!(!line.contains(secret), "{secret}: {line}");
        }
    }
}

#[test]
fn it_listens_on_a_host_name_and_takes_secrets_of_16_bytes() {
    let mut command = command();
    command.args(["--listen", "localhost:0", "--store", "memory:"]);
    command.args(["--secret", "sixteen bytes xx", "--endpoint-auth"]);
    command.args(["u:sixteen bytes xx", "--operator-token", "sixteen bytes xx"]);
    let server = Server::start(command);
    let body = event("evt");
    let signature = openssl_hex("sixteen bytes xx", body.as_bytes());
    assert_eq!(send(&server, &signature, body.as_bytes()).status, 200);
}

#[test]
fn what_it_cannot_listen_on_or_write_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let missing = folder.path().join("missing");
    let store = format!("sqlite:{}", missing.join("x.db").display());
    let letters = format!("jsonl:{}", missing.join("x.jsonl").display());
    let make = format!("make its folder {} first", missing.display());
    for (flags, says) in [
        (
            ["--listen", "localhost"],
            "--listen: localhost: must be HOST:PORT, such as localhost:8080".to_owned(),
        ),
        (
            ["--listen", &taken],
            format!("--listen: cannot listen on {taken}: "),
        ),
        (
            ["--listen", "no-such-host.invalid:80"],
            "--listen: no-such-host.invalid:80: the address of this host cannot be found"
                .to_owned(),
        ),
        (
            ["--store", &store],
            format!(
                "its folder does not exist: make {} first",
                missing.display()
            ),
        ),
        (["--dead-letters", &letters], make),
        (
            ["--downstream", "http://example.com/"],
            "`http://` is permitted with --allow-private".to_owned(),
        ),
    ] {
        let output = refused(&flags, &[]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(&says), "{said}");
    }
}

#[test]
fn a_log_filter_that_cannot_be_read_is_told_of_and_stops_nothing() {
    for filter in ["tower_webhook=loud", "info[job]", "debug,,", "=,="] {
        let mut command = command();
        command
            .args(["--listen", "127.0.0.1:0", "--store", "memory:"])
            .args(["--secret", SECRET])
            .env("RUST_LOG", filter);
        let mut server = Server::start(command);
        let said = server.wait_for(Stream::Err, "RUST_LOG cannot be read");
        assert!(!said.contains('\u{1b}'), "colours in a pipe: {said}");
        send(&server, "forged", b"{}");
        server.wait_for(Stream::Err, "refused");
    }
}

#[test]
fn asked_to_stop_it_finishes_what_runs_and_ends_well() {
    use std::io::Read;
    let folder = tempfile::tempdir().unwrap();
    let mut server = gateway_on(&folder.path().join("gateway.db"), &[]);
    let body = event("evt_slow");
    let signature = openssl_hex(SECRET, body.as_bytes());
    let (first, second) = body.as_bytes().split_at(20);
    let second = second.to_vec();
    let mut slow = std::net::TcpStream::connect(server.address).unwrap();
    let head = format!(
        "POST /webhooks/cognigy HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\nx-cognigy-signature: {signature}\r\n\r\n",
        body.len()
    );
    slow.write_all(head.as_bytes()).unwrap();
    slow.write_all(first).unwrap();
    // Another request, so that the slow one has surely been taken up.
    assert_eq!(post(&server, event("evt").as_bytes()).status, 200);
    let idle = std::net::TcpStream::connect(server.address).unwrap();

    let late = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(500));
        slow.write_all(&second).unwrap();
        let mut answer = String::new();
        slow.read_to_string(&mut answer).unwrap();
        answer
    });
    let status = server.terminate(Duration::from_secs(10));
    assert_eq!(status.code(), Some(0));
    let answer = late.join().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(idle);
    assert!(std::net::TcpStream::connect(server.address).is_err());
}

/// A pipe that nobody reads: what is written to it is an error.
fn unread() -> std::io::PipeWriter {
    std::io::pipe().expect("there are pipes").1
}

#[test]
fn it_works_and_ends_well_when_nobody_reads_its_output() {
    use std::io::{BufRead, BufReader};
    let serve = ["--listen", "127.0.0.1:0", "--store", "memory:"];
    let mut idle = command();
    // Reads the one line, and closes the pipe.
    let idle = idle.args(serve).env("RUST_LOG", "trace");
    let mut idle = idle
        .stdout(Stdio::piped())
        .stderr(unread())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(idle.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    drop(stdout);
    let address = line.trim().strip_prefix("listening on ").unwrap();
    assert_eq!(
        curl(&format!("{address}/health"), &[], None, &[]).status,
        200
    );
    let id = idle.id().to_string();
    assert!(Command::new("kill").arg(id).status().unwrap().success());
    assert_eq!(idle.wait().unwrap().code(), Some(0), "an idle stop");

    for (flags, status) in [
        (&["--demo", "--store", "memory:"][..], 0),
        (&["--help"], 0),
        (&["--store", "nowhere"], 2),
        (&["--no-such-flag"], 2),
    ] {
        let mut ends = command();
        let ends = ends.args(&serve[..2]).args(flags);
        let ended = ends.stdout(unread()).stderr(unread()).status().unwrap();
        assert_eq!(ended.code(), Some(status), "{flags:?}");
    }
}

#[test]
fn a_downstream_that_is_not_there_is_warned_of_and_one_that_is_sees_no_request() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let mut server = gateway(&["--downstream", &nobody]);
    eventually("it says so", || {
        let said = server.written(Stream::Err);
        said.contains("the downstream cannot be reached now")
            .then_some(())
    });

    let seen = crate::downstream::Downstream::start();
    let mut server = gateway(&["--downstream", &seen.url()]);
    let accepted = post(&server, event("evt_1").as_bytes());
    result_of(&server, &task_id(&accepted));
    assert_eq!(seen.got().len(), 1, "the delivery alone");
    let said = server.written(Stream::Err);
    assert!(!said.contains("cannot be reached"), "{said}");
}
