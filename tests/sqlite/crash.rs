//! A process that is killed has lost nothing that it acknowledged.

use crate::support::{Ends, Home, TTL, child, childs_file, key};
use bytes::Bytes;
use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    time::Duration,
};
use tower_webhook::idempotency::{Begin, Settled, SqliteStore, Store, Token};

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
    let life = std::process::id();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..16 {
        let store = store.clone();
        tasks.spawn(async move {
            for event in 0..100_000 {
                let id = format!("{life}-{task}-{event}");
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

async fn claim(store: &SqliteStore, id: &str) -> Token {
    match store.begin(&key(id), None, LEASE).await.unwrap() {
        Begin::Acquired(token) => token,
        other => panic!("{id} is new: {other:?}"),
    }
}
