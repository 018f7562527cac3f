//! Sending dead letters again from one file, by many at once.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../../tests/redrive/support.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod support;

use std::{sync::Arc, time::Duration};
use support::{Answer, Peer, entry, left};
use tokio::task::JoinSet;
use tower_webhook::dead_letter::{
    Filter, LetterStore, Sink,
    redrive::{Redrive, Report},
};
use tower_webhook_sqlite::SqliteDeadLetters;

const ENTRIES: u64 = 120;

async fn all_once(redrives: Vec<Redrive<support::Client>>, peer: &Peer) {
    let mut runs = JoinSet::new();
    for (number, redrive) in redrives.into_iter().enumerate() {
        runs.spawn(redrive.many(Filter::all(), &format!("operator {number}")));
    }
    let reports: Vec<Report> = runs
        .join_all()
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let accepted: u64 = reports.iter().map(|report| report.accepted).sum();
    assert_eq!(accepted, ENTRIES);
    let seen = peer.seen();
    assert_eq!(seen.len() as u64, ENTRIES);
    assert!(seen.values().all(|times| *times == 1), "{seen:?}");
    for report in reports {
        assert_eq!(report.done(), report.matched);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_over_several_handles_on_a_file_send_each_entry_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("entries.db");
    let stores: Vec<_> = (0..3)
        .map(|_| Arc::new(SqliteDeadLetters::open(&file).unwrap()))
        .collect();
    for number in 0..ENTRIES {
        stores[0].write(&Arc::new(entry(number))).await.unwrap();
    }
    let peer = Peer::default();
    let client = peer.behaving(|_, _| Answer::After(Duration::from_millis(2), 200));
    let redrives = (0..9).map(|number| {
        let store: Arc<dyn LetterStore> = stores[number % 3].clone();
        Redrive::builder(store)
            .no_rate()
            .build(client.clone())
            .unwrap()
    });
    all_once(redrives.collect(), &peer).await;
    assert_eq!(left(&*stores[1]).await, 0);
}
