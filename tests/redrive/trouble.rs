//! Stores that fail.

use crate::support::{Answer, Flaky, LEASE, Peer, entry, filled, id, left, replays};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tower_webhook::StoreErrorKind;
use tower_webhook::dead_letter::{
    Filter,
    redrive::{Redrive, Redriven, Run},
};
use tower_webhook::observe::{Event, observer_fn};

fn over(flaky: &Flaky, client: crate::support::Client) -> Redrive<crate::support::Client> {
    let store = Arc::new(flaky.clone());
    Redrive::builder(store).no_rate().build(client).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_fails_is_tried_again() {
    let store = filled([entry(1)]).await;
    let flaky = Flaky::of(&store);
    flaky.remove.store(4, Ordering::SeqCst);
    let peer = Peer::default();
    let redrive = over(&flaky, peer.behaving(|_, _| Answer::Status(200)));
    assert_eq!(
        redrive.one(id(1), "anna").await.unwrap(),
        Redriven::Accepted
    );
    assert_eq!((left(&*store).await, peer.times(1)), (0, 1));
}

/// For shorter than the lease, and for longer while the claim is renewed.
#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_after_the_acceptance_is_asked_until_it_is_back() {
    for (removals, renewals) in [(9, 3), (40, 0)] {
        let store = filled([entry(1)]).await;
        let flaky = Flaky::of(&store);
        flaky.remove.store(removals, Ordering::SeqCst);
        flaky.renew.store(renewals, Ordering::SeqCst);
        let peer = Peer::default();
        let redrive = over(&flaky, peer.behaving(|_, _| Answer::Status(200)));
        let began = tokio::time::Instant::now();
        let redriven = redrive.one(id(1), "anna").await.unwrap();
        assert_eq!(redriven, Redriven::Accepted);
        assert!(began.elapsed() > Duration::from_secs(10));
        assert_eq!((left(&*store).await, peer.times(1)), (0, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_removal_goes_on_when_whoever_asked_for_it_is_gone() {
    let store = filled([entry(1)]).await;
    let flaky = Flaky::of(&store);
    flaky.remove.store(40, Ordering::SeqCst);
    let redrive = over(&flaky, Peer::default().behaving(|_, _| Answer::Status(200)));
    let asked = redrive.one(id(1), "anna");
    assert!(tokio::time::timeout(LEASE * 2, asked).await.is_err());
    assert_eq!(left(&*store).await, 1);
    tokio::time::sleep(LEASE * 2).await;
    assert_eq!(left(&*store).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_removal_whose_answer_was_lost_is_a_removal() {
    let store = filled([entry(1)]).await;
    let flaky = Flaky::of(&store);
    flaky.mute_remove.store(1, Ordering::SeqCst);
    let redrive = over(&flaky, Peer::default().behaving(|_, _| Answer::Status(200)));
    assert_eq!(
        redrive.one(id(1), "anna").await.unwrap(),
        Redriven::Accepted
    );
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_was_accepted_and_not_removed_is_reported_as_such() {
    let store = filled([entry(1)]).await;
    let flaky = Flaky::of(&store);
    flaky.remove.store(u32::MAX, Ordering::SeqCst);
    let redrive = over(&flaky, Peer::default().behaving(|_, _| Answer::Status(200)));
    let kind = Some(StoreErrorKind::Unavailable);
    let redriven = redrive.one(id(1), "anna").await.unwrap();
    assert_eq!(redriven, Redriven::NotRemoved { kind });
    assert_eq!(left(&*store).await, 1);
    // Held until its lease ends: nobody sends it at once.
    let report = redrive.many(Filter::all(), "anna").await.unwrap();
    assert_eq!((report.in_progress, report.sent()), (1, 0));
    tokio::time::sleep(LEASE).await;
    let report = redrive.many(Filter::all(), "anna").await.unwrap();
    assert_eq!((report.not_removed, report.sent()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_briefly_away_while_an_entry_is_sent_does_not_end_it() {
    let store = filled([entry(1)]).await;
    let flaky = Flaky::of(&store);
    flaky.renew.store(3, Ordering::SeqCst);
    let peer = Peer::default();
    let client = peer.behaving(|_, _| Answer::After(LEASE * 3, 200));
    let redrive = over(&flaky, client);
    assert_eq!(
        redrive.one(id(1), "anna").await.unwrap(),
        Redriven::Accepted
    );
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_cannot_be_renewed_ends_the_sending() {
    let store = filled([entry(1)]).await;
    let flaky = Flaky::of(&store);
    flaky.renew.store(u32::MAX, Ordering::SeqCst);
    let peer = Peer::default();
    let lost = Arc::new(AtomicU32::new(0));
    let told = Arc::clone(&lost);
    let redrive = Redrive::builder(Arc::new(flaky))
        .observe(observer_fn(move |event| {
            if let Event::ClaimLost { what } = event {
                assert_eq!(*what, "dead_letter");
                told.fetch_add(1, Ordering::SeqCst);
            }
        }))
        .build(peer.behaving(|_, _| Answer::Never))
        .unwrap();
    let began = tokio::time::Instant::now();
    assert_eq!(redrive.one(id(1), "anna").await.unwrap(), Redriven::Lost);
    assert_eq!(lost.load(Ordering::SeqCst), 1);
    assert!(began.elapsed() <= LEASE + Duration::from_millis(1));
    assert_eq!((left(&*store).await, replays(&*store, 1).await), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_could_not_be_recorded_says_so() {
    let store = filled([entry(1)]).await;
    let flaky = Flaky::of(&store);
    flaky.release.store(u32::MAX, Ordering::SeqCst);
    let redrive = over(&flaky, Peer::default().behaving(|_, _| Answer::Status(400)));
    match redrive.one(id(1), "anna").await.unwrap() {
        Redriven::Failed { recorded, .. } => assert!(!recorded),
        other => panic!("{other:?}"),
    }
    assert_eq!(replays(&*store, 1).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_ends_the_run_and_the_next_goes_on() {
    let store = filled((0..250).map(entry)).await;
    let flaky = Flaky::of(&store);
    let peer = Peer::default();
    let failing = flaky.clone();
    let client = peer.behaving(move |number, _| {
        if number == 170 {
            failing.list.store(1, Ordering::SeqCst);
        }
        Answer::Status(200)
    });
    let redrive = over(&flaky, client);
    let failed = redrive.many(Filter::all(), "anna").await.unwrap_err();
    assert_eq!(failed.error().kind(), StoreErrorKind::Unavailable);
    let report = failed.report().clone();
    assert_eq!(report.accepted, 100);
    let rest = Run::new(Filter::all(), "anna").after(report.cursor.unwrap());
    let rest = redrive.run(rest).await.unwrap();
    assert_eq!(rest.accepted, 150);
    assert!(peer.seen().values().all(|times| *times == 1));

    let store = filled([entry(1)]).await;
    let flaky = Flaky::of(&store);
    flaky.claim.store(1, Ordering::SeqCst);
    let redrive = over(&flaky, Peer::default().behaving(|_, _| Answer::Status(200)));
    let failed = redrive.many(Filter::all(), "anna").await.unwrap_err();
    assert_eq!(failed.report().done(), 0);
    assert!(redrive.one(id(1), "anna").await.is_ok());
}
