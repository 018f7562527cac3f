//! A process that is killed, or whose disk refuses a write, has lost nothing that it acknowledged.

use crate::support::{Ends, Home, TTL, child, childs_file, key};
use bytes::Bytes;
use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    time::Duration,
};
use tower_webhook::idempotency::{Begin, FencingToken, Settled, Store};
use tower_webhook_sqlite::SqliteStore;

/// Long enough that what was in flight is still claimed when the test looks.
const LEASE: Duration = Duration::from_secs(300);

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_kill() {
    let home = Home::new();
    let mut acknowledged: HashMap<String, u64> = HashMap::new();
    // Several lives on one file, each cut short somewhere else.
    for lines in [1, 7, 40, 150, 600] {
        let mut life = Ends(
            child("crash::child_that_is_killed", &home.file())
                .spawn()
                .unwrap(),
        );
        let mut told = BufReader::new(life.0.stdout.take().unwrap()).lines();
        let mut heard = 0;
        while let Some(Ok(line)) = told.next() {
            if let Some((id, token)) = line.strip_prefix("done ").and_then(|it| it.split_once(' '))
            {
                acknowledged.insert(id.to_owned(), token.parse().unwrap());
                heard += 1;
                if heard == lines {
                    life.0.kill().unwrap();
                    // What it still said before it died is in the pipe, and counts.
                }
            }
        }
        assert!(
            heard >= lines,
            "the child ended by itself after {heard} lines"
        );
        life.0.wait().unwrap();

        let store = home.store();
        for (id, token) in &acknowledged {
            let found = store.begin(&key(id), None, LEASE).await.unwrap();
            assert_eq!(
                found,
                Begin::Completed(Bytes::from(format!("{id} {token}")))
            );
        }
        let verdict: String = home
            .raw()
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(verdict, "ok");
        store.database().close().await;
    }
    assert!(acknowledged.len() >= 798);
}

#[tokio::test(flavor = "multi_thread")]
async fn child_that_is_killed() {
    let Some(file) = childs_file() else { return };
    let store = SqliteStore::open(file).unwrap();
    let process = std::process::id();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..16 {
        let store = store.clone();
        tasks.spawn(async move {
            for event in 0..100_000 {
                let id = format!("{process}-{task}-{event}");
                let token = claim(&store, &id).await;
                let answer = Bytes::from(format!("{id} {token}"));
                let done = store.complete(&key(&id), token, answer, TTL).await.unwrap();
                assert_eq!(done, Settled::Done);
                // One write: a line is whole or not there.
                let line = format!("\ndone {id} {token}\n");
                std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
                std::io::stdout().flush().unwrap();
            }
        });
    }
    tasks.join_all().await;
}

async fn claim(store: &SqliteStore, id: &str) -> FencingToken {
    match store.begin(&key(id), None, LEASE).await.unwrap() {
        Begin::Acquired(token) => token,
        other => panic!("{id} is new: {other:?}"),
    }
}

/// Under a limit on the size of files, which is lifted while the child runs: to SQLite an I/O error
/// in the middle of a commit.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_the_system_refuses_is_told_and_passes_without_a_restart() {
    let home = Home::new();
    let limited = child("crash::child_with_a_limit", &home.file());
    // An ignored signal stays ignored across `exec`; the write then fails instead.
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "trap '' XFSZ; ulimit -S -f 3000; exec \"$0\" \"$@\""])
        .arg(limited.get_program())
        .args(limited.get_args())
        .env("TEST_DATABASE", home.file())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null());
    let mut process = Ends(command.spawn().unwrap());
    let mut kept = Vec::new();
    let (mut refused, mut recovered) = (false, false);
    for line in BufReader::new(process.0.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some(id) = line.strip_prefix("kept ") {
            kept.push(id.to_owned());
            recovered |= refused;
        } else if line == "refused" && !refused {
            refused = true;
            let lifted = std::process::Command::new("prlimit")
                .args(["--fsize=unlimited:", "--pid", &process.0.id().to_string()])
                .status();
            // Nothing else can lift another process's limit.
            assert!(
                lifted.as_ref().is_ok_and(std::process::ExitStatus::success),
                "prlimit (package util-linux; ./tests/run installs it) does not work: {lifted:?}"
            );
        }
    }
    assert!(process.0.wait().unwrap().success());
    assert!(refused, "the limit was never reached");
    assert!(recovered, "it never worked again");
    let store = home.store();
    for id in &kept {
        let found = store.begin(&key(id), None, LEASE).await.unwrap();
        assert_eq!(found, Begin::Completed(large(id)), "{id}");
    }
}

fn large(id: &str) -> Bytes {
    id.repeat(20_000).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn child_with_a_limit() {
    let Some(file) = childs_file() else { return };
    let store = SqliteStore::open(file).unwrap();
    let (mut event, mut refused, mut after) = (0, false, 0);
    while after < 20 {
        event += 1;
        let id = format!("{event:04}");
        let kept = match store.begin(&key(&id), None, LEASE).await {
            Ok(Begin::Acquired(token)) => store.complete(&key(&id), token, large(&id), TTL).await,
            Ok(other) => panic!("{id} is new: {other:?}"),
            Err(error) => Err(error),
        };
        if let Ok(settled) = kept {
            assert_eq!(settled, Settled::Done);
            println!("\nkept {id}");
            after += i32::from(refused);
        } else {
            refused = true;
            println!("\nrefused");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(event < 5000, "neither refused nor recovered");
    }
}
