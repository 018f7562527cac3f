//! The programs of the README, each pasted into a fresh package with the dependency lines above it and nothing else, and
//! run with clients that we did not write.
#![cfg(feature = "full")]
#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "support/faults/mod.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod faults;
#[path = "support/foreign.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod foreign;
#[path = "support/package.rs"]
mod package;
#[path = "support/process.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod process;

use faults::{Faults, answer};
use foreign::{Foreign, openssl_base64, post};
use package::Package;
use process::{Server, Stream};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const README: &str = include_str!("../README.md");
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The first block in this language below `heading`, before the next heading.
fn block<'a>(heading: &str, language: &str) -> &'a str {
    let (_, section) = README
        .split_once(&format!("\n### {heading}\n"))
        .unwrap_or_else(|| panic!("README has no {heading:?}"));
    let section = section.split("\n### ").next().unwrap();
    let (_, block) = section
        .split_once(&format!("\n```{language}\n"))
        .unwrap_or_else(|| panic!("{heading:?} has no {language}"));
    block.split_once("\n```\n").expect("its end").0
}

/// The headings that have a program.
fn programs() -> Vec<&'static str> {
    let sections = README.split("\n### ").skip(1);
    let with = sections.filter(|section| section.contains("\n```rust\n"));
    with.map(|section| section.lines().next().unwrap())
        .collect()
}

/// Builds the program below a heading of the README, and gives its path. It listens on any port that is free, not on
/// 8080.
fn build(heading: &str) -> PathBuf {
    let name = heading.to_lowercase().replace([' ', ','], "-");
    let package = Package::new(&format!("readme-{name}"), block(heading, "toml"));
    let program = block(heading, "rust").replace("127.0.0.1:8080\"", "127.0.0.1:0\"");
    fs::write(package.folder.join("src/main.rs"), program).unwrap();
    let output = package.cargo(&["build", "--quiet"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{heading:?} does not build:\n{said}"
    );
    package.program()
}

/// Starts a server of the README in an empty folder, with its secret.
fn serve(heading: &str, folder: &Path, secret: &str) -> Server {
    let mut command = Command::new(build(heading));
    command.env("WEBHOOK_SECRET", secret).current_dir(folder);
    Server::start(command)
}

/// Runs a program of the README to its end.
fn run(heading: &str, args: &[&str]) -> Output {
    let mut command = Command::new(build(heading));
    command
        .args(args)
        .env("WEBHOOK_SECRET", SECRET)
        .output()
        .expect("it starts")
}

#[test]
fn each_program_has_its_test() {
    let expected = [
        "Receive",
        "Deliver",
        "Work in the background",
        "Accept now, process later",
        "Cognigy",
        "Observe",
    ];
    assert_eq!(programs(), expected);
    let rust = README.matches("\n```rust\n").count();
    assert_eq!(
        rust,
        expected.len(),
        "a section has two programs, or a program no section"
    );
}

#[test]
fn the_receiver_takes_what_standardwebhooks_signs_and_tells_why_it_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = serve("Receive", folder.path(), SECRET);
    let (url, mut clients) = (server.url("/hooks"), Foreign::start());
    let body = r#"{"event":"paid","note":"Zoë"}"#;

    let signed = clients.sign("standardwebhooks", SECRET, "msg_1", body);
    let first = post(&url, &signed, body);
    assert_eq!(
        (first.status, first.json()["handled"].as_str()),
        (200, Some("msg_1")),
        "{first:?}"
    );
    let again = clients.sign("standardwebhooks", SECRET, "msg_1", body);
    let again = post(&url, &again, body);
    assert_eq!(
        (again.status, again.header("idempotent-replayed")),
        (200, Some("true")),
        "{again:?}"
    );

    let forged = post(&url, &signed, &body.replace("paid", "void"));
    assert_eq!(forged.status, 401, "{forged:?}");
    let said = server.wait_for(Stream::Out, "no secret matches");
    assert!(said.contains("WARN"), "{said}");
    let unsigned = post(&url, &[], body);
    assert_eq!(unsigned.status, 401, "{unsigned:?}");
    server.wait_for(Stream::Out, "lacks the header `webhook-");
    assert_eq!(
        server.written(Stream::Out).matches("Zoë").count(),
        1,
        "the handler runs once"
    );
}

#[test]
fn the_sender_signs_what_standardwebhooks_takes_and_repeats_it() {
    let server = Faults::http1().then(answer(503)).start();
    let output = run("Deliver", &[&server.url("/hooks")]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "200 OK\nSome(1.0)\n"
    );
    let seen = server.requests();
    assert_eq!(seen.len(), 2, "{seen:?}");
    let mut clients = Foreign::start();
    for request in seen {
        let body = String::from_utf8(request.body).unwrap();
        assert_eq!(body, r#"{"id":7}"#);
        let taken = clients.verify("standardwebhooks", SECRET, &request.headers, &body);
        assert_eq!(taken, Ok(()));
    }
}

#[test]
fn the_sender_says_which_address_it_cannot_send_to() {
    let output = run("Deliver", &["gopher://example.com/hooks"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{output:?}");
    assert!(said.contains("gopher"), "{said}");
    assert!(!said.contains("breaker"), "{said}");
}

#[test]
fn what_the_sender_sends_the_receiver_handles_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = serve("Receive", folder.path(), SECRET);
    for _ in 0..2 {
        let output = run("Deliver", &[&server.url("/hooks")]);
        assert!(output.status.success(), "{output:?}");
        assert!(output.stdout.starts_with(b"200 OK\n"), "{output:?}");
    }
    let said = server.wait_for(Stream::Out, r#"{"id":7}"#);
    assert_eq!(said.matches(r#"{"id":7}"#).count(), 1, "{said}");
}

#[test]
fn jobs_run_and_are_cancelled() {
    let output = run("Work in the background", &[]);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("invoice 7, attempt 1"), "{said}");
    assert!(!said.contains("invoice 8"), "{said}");
    assert!(said.contains("cancelled"), "{said}");
}

#[test]
fn what_was_accepted_is_processed_though_the_process_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut clients = Foreign::start();
    let mut server = serve("Accept now, process later", folder.path(), SECRET);
    let url = server.url("/invoices");
    for id in ["msg_1", "msg_2"] {
        let signed = clients.sign("standardwebhooks", SECRET, id, "{}");
        let accepted = post(&url, &signed, "{}");
        assert_eq!(accepted.status, 202, "{accepted:?}");
        assert!(accepted.json()["taskId"].is_string(), "{accepted:?}");
    }
    server.wait_for(Stream::Out, "attempt 1 at 2 bytes");
    server.kill();

    let mut server = serve("Accept now, process later", folder.path(), SECRET);
    let signed = clients.sign("standardwebhooks", SECRET, "msg_3", "[3]");
    assert_eq!(post(&server.url("/invoices"), &signed, "[3]").status, 202);
    server.wait_for(Stream::Out, "attempt 1 at 3 bytes");
}

#[test]
fn cognigy_events_arrive_with_their_type_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = serve("Cognigy", folder.path(), "a secret");
    let url = server.url("/webhooks/cognigy");
    let now = now();
    let body = format!(
        r#"{{"eventId":"evt_1","timestamp":"{now}","type":"DIALOG_STARTED","payload":{{"userId":"u7"}}}}"#
    );
    let signed = [(
        "x-cognigy-signature".to_owned(),
        openssl_base64("a secret", body.as_bytes()),
    )];
    let first = post(&url, &signed, &body);
    assert_eq!(first.status, 200, "{first:?}");
    let again = post(&url, &signed, &body);
    assert_eq!((again.status, again.body), (200, first.body));
    let said = server.wait_for(Stream::Out, "evt_1");
    assert_eq!(said.matches("u7").count(), 1, "{said}");
    assert_eq!(post(&url, &[], &body).status, 401);
}

/// The time in the format of RFC 3339, by the `date` of the system.
fn now() -> String {
    foreign::run("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"], b"")
}

#[test]
fn an_observer_sees_the_breaker_open() {
    let output = run("Observe", &[]);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("the breaker of 127.0.0.1:1 is open"),
        "{said}"
    );
}

/// Counted as the README says, on Linux.
#[test]
fn each_feature_needs_as_many_crates_as_the_table_says() {
    let (_, table) = README.split_once("| Features | Crates |").unwrap();
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let mut seen = 0;
    for row in rows {
        let mut cells = row
            .split('|')
            .skip(1)
            .map(|cell| cell.trim().trim_matches('`'));
        let (features, crates) = (cells.next().unwrap(), cells.next().unwrap());
        let tree = Command::new(env!("CARGO"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args([
                "tree",
                "--locked",
                "--package",
                "tower-webhook",
                "--edges",
                "normal",
                "--prefix",
                "none",
            ])
            .args([
                "--target",
                "x86_64-unknown-linux-gnu",
                "--format",
                "{p}",
                "--no-default-features",
            ])
            .args(["--features", if features == "none" { "" } else { features }])
            .output()
            .expect("cargo starts");
        assert!(tree.status.success(), "{tree:?}");
        let tree = String::from_utf8(tree.stdout).unwrap();
        let names = tree.lines().filter(|line| !line.is_empty());
        let names = names.map(|line| line.split(" (").next().unwrap());
        let names: std::collections::BTreeSet<_> = names.collect();
        assert_eq!(names.len().to_string(), crates, "{features}: {names:?}");
        seen += 1;
    }
    assert!(seen >= 3, "the table has {seen} rows");
}
