//! Futures that are dropped.

use crate::support::{Answer, Flaky, LEASE, Peer, entry, filled, id, left, replays};
use std::{sync::Arc, task::Poll, time::Duration};
use tokio_test::task;
use tower_webhook::dead_letter::{
    Filter, LetterStore,
    redrive::{Redrive, Redriven},
};

/// Dropped after any number of polls, with a store whose operations take their time: the entry is
/// there, or the peer has accepted it; and in the end it was accepted.
#[tokio::test(start_paused = true)]
async fn dropped_at_any_point_nothing_is_lost() {
    let mut ended = false;
    for polls in 0.. {
        let store = filled([entry(1)]).await;
        let flaky = Flaky {
            takes: Duration::from_millis(1),
            ..Flaky::of(&store)
        };
        let peer = Peer::default();
        let client = peer.behaving(|_, _| Answer::After(Duration::from_millis(30), 200));
        let redrive = Redrive::builder(Arc::new(flaky)).build(client).unwrap();
        let mut one = task::spawn(redrive.one(id(1), "anna"));
        for _ in 0..polls {
            if let Poll::Ready(redriven) = one.poll() {
                assert_eq!(redriven.unwrap(), Redriven::Accepted);
                ended = true;
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
            tokio::task::yield_now().await;
        }
        let accepted = peer.answered() > 0;
        drop(one);
        if !accepted {
            assert_eq!(left(&*store).await, 1, "after {polls} polls");
        }
        // What is settled in the background, or the lease.
        tokio::time::sleep(LEASE + Duration::from_secs(1)).await;
        if accepted {
            assert_eq!(left(&*store).await, 0, "after {polls} polls");
            assert_eq!(peer.times(1), 1);
        } else {
            let counted = replays(&*store, 1).await;
            assert!(counted <= 1, "{counted} after {polls} polls");
            let report = redrive.many(Filter::all(), "bert").await.unwrap();
            assert_eq!(report.accepted, 1, "after {polls} polls");
        }
        if ended {
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_dropped_gives_its_entries_back() {
    let store = filled((0..10).map(entry)).await;
    let peer = Peer::default();
    let client = peer.behaving(|_, _| Answer::Never);
    let redrive = Redrive::builder(store.clone())
        .rate(1.0)
        .build(client)
        .unwrap();
    let mut run = task::spawn(redrive.many(Filter::all(), "anna"));
    for _ in 0..100 {
        assert!(run.poll().is_pending());
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    assert_eq!(peer.seen().len(), 2);
    drop(run);
    tokio::time::sleep(Duration::from_millis(1)).await;
    // Free at once; the replay counts for those that were sent.
    let mut counted = 0;
    for number in 0..10 {
        assert!(!is_claimed(&*store, number).await, "{number}");
        counted += replays(&*store, number).await;
        let replayed = replays(&*store, number).await;
        assert_eq!(replayed, peer.times(number), "{number}");
    }
    assert_eq!((counted, left(&*store).await), (2, 10));
}

async fn is_claimed(store: &dyn LetterStore, number: u64) -> bool {
    let page = tower_webhook::dead_letter::Page::first(100);
    let listing = store.list(&Filter::all(), &page).await.unwrap();
    let mut entries = listing.entries.iter();
    entries.any(|entry| entry.id == id(number) && entry.in_progress)
}
