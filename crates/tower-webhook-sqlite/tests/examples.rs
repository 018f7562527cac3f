//! The examples, as a user runs them.
#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "../../../tests/support/process.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod process;

use process::command;
use std::{
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    thread,
};

#[test]
fn a_handler_that_breaks_off_has_its_write_undone_and_done_once() {
    let output = command("transactional_handler")
        .output()
        .expect("it starts");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    let paid: Vec<_> = text.lines().filter(|line| line.contains("paid")).collect();
    let once = |order| format!("{order} was paid 1 time(s)");
    assert_eq!(paid, ["order-1", "order-2", "order-3"].map(once));
    let events = |name| text.lines().filter(|line| *line == name).count();
    assert_eq!((events("claimed"), events("retrying")), (4, 1), "{text}");
    assert_eq!((events("succeeded"), events("lost")), (3, 0), "{text}");
}

#[test]
fn what_a_killed_worker_had_claimed_is_done_by_the_other() {
    let output = command("worker_process").output().expect("it starts");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("one of the two workers was killed"), "{text}");
    assert!(text.contains("all 40 are done"), "{text}");
    for n in 0..40 {
        assert!(
            text.contains(&format!(": job {n}, attempt ")),
            "{n}: {text}"
        );
    }
}

/// Runs a command of the example, and gives its lines.
fn jobs(file: &Path, args: &[&str]) -> Vec<String> {
    let mut command = command("worker_cli");
    let output = command.arg(file).args(args).output().expect("it starts");
    assert!(output.status.success(), "{args:?}: {output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_command_line_pushes_runs_cancels_and_requeues_deliveries() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("jobs.db");
    let gone = TcpListener::bind("127.0.0.1:0").expect("a port");
    let nobody = format!("http://{}/hooks", gone.local_addr().expect("its address"));

    let cancelled = &jobs(&file, &["push", &nobody, "1"])[0];
    assert_eq!(jobs(&file, &["cancel", cancelled]), ["cancelled"]);
    let task = &jobs(&file, &["push", &nobody, r#"{"id":7}"#])[0];
    let listed = jobs(&file, &["list"]);
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert!(
        listed[0].starts_with(&format!("{task}: queued, 0 attempts")),
        "{listed:?}"
    );

    // A peer that refuses it for good, then one that takes it.
    let peer = thread::spawn(move || {
        let mut bodies = Vec::new();
        for status in ["410 Gone", "200 OK"] {
            let (mut stream, _) = gone.accept().expect("a call");
            let mut request = Vec::new();
            while !request.ends_with(br#"{"id":7}"#) {
                let mut some = [0; 1024];
                let read = stream.read(&mut some).expect("a request");
                assert_ne!(read, 0, "{}", String::from_utf8_lossy(&request));
                request.extend_from_slice(&some[..read]);
            }
            bodies.push(request);
            let answer =
                format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).expect("it listens");
        }
        bodies.len()
    });
    jobs(&file, &["work", "--idle"]);
    let dead = jobs(&file, &["dead"]);
    assert_eq!(dead.len(), 1, "{dead:?}");
    let (entry, why) = dead[0].split_once(": ").expect("an entry");
    assert_eq!(why, "rejected after 1 attempts");
    assert_eq!(jobs(&file, &["requeue", entry]), ["accepted"]);
    assert_eq!(jobs(&file, &["dead"]), [""; 0]);
    jobs(&file, &["work", "--idle"]);
    assert_eq!(peer.join().expect("the peer was called"), 2);
    assert_eq!(jobs(&file, &["dead"]), [""; 0]);
    assert_eq!(jobs(&file, &["requeue", "all"]), ["0 are queued again"]);

    let wrong = command("worker_cli")
        .arg(&file)
        .arg("dance")
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&wrong.stderr);
    assert!(
        !wrong.status.success() && said.contains("usage"),
        "{wrong:?}"
    );
}
