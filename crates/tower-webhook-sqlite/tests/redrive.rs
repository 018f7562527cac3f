//! Sending dead letters again from one file, by many at once.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../../tests/redrive/support.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod support;

use std::{sync::Arc, time::Duration};
use support::{Answer, Peer, each_once, entry, left};
use tower_webhook::dead_letter::{LetterStore, Sink, redrive::Redrive};
use tower_webhook_sqlite::SqliteDeadLetters;

const ENTRIES: u64 = 120;

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
    each_once(redrives.collect(), &peer, ENTRIES).await;
    assert_eq!(left(&*stores[1]).await, 0);
}
