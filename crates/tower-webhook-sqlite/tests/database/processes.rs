//! Several handles and several processes on one file.

use crate::support::{Ends, Home, LEASE, TTL, child, childs_file, key, told_by};
use bytes::Bytes;
use std::collections::HashSet;
use tower_webhook::idempotency::{Begin, Store};
use tower_webhook::lease::Settled;
use tower_webhook_sqlite::SqliteStore;

const KEYS: usize = 300;

/// Claims and completes every key that it gets.
async fn take(store: &SqliteStore) -> Vec<usize> {
    let mut taken = Vec::new();
    for id in 0..KEYS {
        let key = key(&id.to_string());
        if let Begin::Acquired(token) = store.begin(&key, None, LEASE).await.unwrap() {
            taken.push(id);
            let answer = Bytes::from(id.to_string());
            let done = store.complete(&key, token, answer, TTL).await.unwrap();
            assert_eq!(done, Settled::Done);
        }
    }
    taken
}

#[tokio::test(flavor = "multi_thread")]
async fn two_handles_give_each_key_away_once() {
    let home = Home::new();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let store = home.store();
        for _ in 0..4 {
            let store = store.clone();
            tasks.spawn(async move { take(&store).await });
        }
    }
    let mut taken: Vec<_> = tasks.join_all().await.concat();
    taken.sort_unstable();
    assert_eq!(taken, (0..KEYS).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_give_each_key_away_once() {
    let home = Home::new();
    let store = home.store();
    let others: Vec<_> = (0..2)
        .map(|_| Ends::spawn(child("processes::child_that_takes", &home.file())))
        .collect();
    let mut taken = take(&store).await;
    let theirs = told_by(others, "took ");
    taken.extend(theirs.iter().map(|id| id.parse::<usize>().unwrap()));
    assert_eq!(taken.len(), KEYS);
    assert_eq!(taken.iter().collect::<HashSet<_>>().len(), KEYS);
    for id in 0..KEYS {
        let found = store
            .begin(&key(&id.to_string()), None, LEASE)
            .await
            .unwrap();
        assert_eq!(found, Begin::Completed(id.to_string().into()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn child_that_takes() {
    if let Some(file) = childs_file() {
        for id in take(&SqliteStore::open(file).unwrap()).await {
            println!("\ntook {id}");
        }
    }
}
