//! Sending dead letters again from one file: by many at once, and later than the lease.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../../tests/redrive/support.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod support;

#[path = "support/home.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod home;

use home::Home;
use std::{sync::Arc, time::Duration};
use support::{Answer, LEASE, Peer, each_once, entry, id, left};
use tower::service_fn;
use tower_webhook::{
    BoxError,
    body::BufferedBody,
    dead_letter::{
        EntryClaim, Filter, LetterStore, Sink,
        redrive::{Redrive, Redriven},
    },
    lease::Settled,
};
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

/// Its process stood still, and the file too.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_after_the_lease_is_removed_and_not_sent_again() {
    let home = Home::new();
    let (database, clock) = home.timed_database();
    let store = Arc::new(SqliteDeadLetters::new(&database).unwrap());
    store.write(&Arc::new(entry(1))).await.unwrap();
    let peer = Peer::default();
    let client = peer.behaving(move |_, _| {
        clock.forward(LEASE * 2);
        Answer::Status(200)
    });
    let redrive = Redrive::builder(store).lease(LEASE).build(client).unwrap();
    let redriven = redrive.one(id(1), "anna").await.unwrap();
    assert_eq!(redriven, Redriven::Accepted);
    let report = redrive.many(Filter::all(), "anna").await.unwrap();
    assert_eq!((report.sent(), peer.times(1)), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_has_claimed_meanwhile_is_left_to_it() {
    let home = Home::new();
    let (database, clock) = home.timed_database();
    let store = Arc::new(SqliteDeadLetters::new(&database).unwrap());
    store.write(&Arc::new(entry(1))).await.unwrap();
    let (claimed, mut theirs) = tokio::sync::mpsc::unbounded_channel();
    let entries = store.clone();
    let client = service_fn(move |_: http::Request<BufferedBody>| {
        clock.forward(LEASE * 2);
        let (claim, claimed) = (entries.claim(id(1), LEASE, 5), claimed.clone());
        async move {
            claimed.send(claim.await?)?;
            Ok::<_, BoxError>(http::Response::new(BufferedBody::default()))
        }
    });
    let redrive = Redrive::builder(store.clone()).lease(LEASE);
    let redriven = redrive.build(client).unwrap().one(id(1), "anna").await;
    assert_eq!(redriven.unwrap(), Redriven::NotRemoved { kind: None });
    let Some(EntryClaim::Claimed { token, .. }) = theirs.recv().await else {
        panic!("the lease was over");
    };
    let removed = store.remove(id(1), token).await.unwrap();
    assert_eq!(removed, Settled::Done);
}
