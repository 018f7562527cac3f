//! A process that is killed, or whose disk refuses a write, has lost nothing that it acknowledged.

use crate::support::{Home, TTL, child, childs_file, key, killed_after, say};
use bytes::Bytes;
use std::{collections::HashMap, time::Duration};
use tower_webhook::idempotency::{Begin, Store};
use tower_webhook::lease::{FencingToken, Settled};
use tower_webhook_sqlite::SqliteStore;

/// Does not end in the test.
const LEASE: Duration = Duration::from_secs(300);

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_kill_and_a_claim_does_not() {
    let home = Home::new();
    let mut acknowledged: HashMap<String, u64> = HashMap::new();
    // Several lives on one file, each cut short somewhere else.
    for lines in [1, 7, 40, 150, 600] {
        let child = child("crash::child_that_is_killed", &home.file());
        let mut held = String::new();
        killed_after(lines, child, |line| {
            if let Some(id) = line.strip_prefix("held ") {
                id.clone_into(&mut held);
            }
            let told = line.strip_prefix("done ").and_then(|it| it.split_once(' '));
            if let Some((id, token)) = told {
                acknowledged.insert(id.to_owned(), token.parse().unwrap());
            }
            told.is_some()
        });

        let store = home.store();
        for (id, token) in &acknowledged {
            let found = store.begin(&key(id), None, LEASE).await.unwrap();
            assert_eq!(
                found,
                Begin::Completed(Bytes::from(format!("{id} {token}")))
            );
        }
        // The work on it ended with the process, long before the lease.
        claim(&store, &held).await;
        home.is_sound();
        store.database().close().await;
    }
    assert!(acknowledged.len() >= 798);
}

#[tokio::test(flavor = "multi_thread")]
async fn child_that_is_killed() {
    let Some(file) = childs_file() else { return };
    let store = SqliteStore::open(file).unwrap();
    let process = std::process::id();
    let held = format!("{process}-held");
    claim(&store, &held).await;
    say(&format!("held {held}"));
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
                say(&format!("done {id} {token}"));
            }
        });
    }
    tasks.join_all().await;
}

async fn claim(store: &SqliteStore, id: &str) -> FencingToken {
    match store.begin(&key(id), None, LEASE).await.unwrap() {
        Begin::Acquired(token) => token,
        other => panic!("{id} is free: {other:?}"),
    }
}

/// Under a limit on the size of files, which is lifted while the child runs: to SQLite an I/O error
/// in the middle of a commit.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_the_system_refuses_is_told_and_passes_without_a_restart() {
    use crate::child::{limited, meets_its_limit};
    let home = Home::new();
    let limited = limited(3000, "crash::child_with_a_limit", &home.file());
    let kept = meets_its_limit(limited, 1, |_| {});
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
        match kept {
            Ok(settled) => {
                assert_eq!(settled, Settled::Done);
                say(&format!("kept {id}"));
                after += i32::from(refused);
            }
            Err(error) => {
                refused = true;
                say(&format!("refused {:?}", error.kind()));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        assert!(event < 5000, "neither refused nor recovered");
    }
}
