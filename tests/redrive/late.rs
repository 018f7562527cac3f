//! Processes that stand still for longer than the lease: a machine that sleeps, a runtime that is blocked.

use crate::support::{
    Answer, Flaky, LEASE, Peer, entry, filled, id, left, redrive, refuses, replays,
};
use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};
use tokio::time::advance;
use tokio_test::{assert_pending, assert_ready, task};
use tower_webhook::{
    StoreErrorKind,
    dead_letter::{
        EntryClaim, Filter, LetterStore,
        redrive::{Redrive, Redriven},
    },
    lease::Settled,
};

/// The time passes at once, and nothing runs meanwhile.
fn stand_still(time: Duration) {
    assert_pending!(task::spawn(advance(time)).poll());
}

/// The store takes its time too, so that the claim looks lost before it has answered.
#[tokio::test(start_paused = true)]
async fn what_was_accepted_after_the_lease_is_removed_and_not_sent_again() {
    for takes in [Duration::ZERO, Duration::from_millis(5)] {
        let store = filled([entry(1)]).await;
        let flaky = Flaky {
            takes,
            ..Flaky::of(&store)
        };
        let peer = Peer::default();
        let client = peer.behaving(|_, _| {
            stand_still(LEASE * 2);
            Answer::Status(200)
        });
        let redrive = Redrive::builder(Arc::new(flaky)).build(client).unwrap();
        let redriven = redrive.one(id(1), "anna").await.unwrap();
        assert_eq!(redriven, Redriven::Accepted);
        let report = redrive.many(Filter::all(), "anna").await.unwrap();
        assert_eq!((report.sent(), peer.times(1)), (0, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn what_failed_after_the_lease_is_recorded() {
    let store = filled([entry(1)]).await;
    let peer = Peer::default();
    let client = peer.behaving(|_, _| {
        stand_still(LEASE * 2);
        Answer::Status(410)
    });
    match redrive(&store, client).one(id(1), "anna").await.unwrap() {
        Redriven::Failed { recorded, .. } => assert!(recorded),
        other => panic!("{other:?}"),
    }
    let after = store.get(id(1)).await.unwrap().unwrap();
    assert_eq!((after.cause.code, after.replays), (Some(410), 1));
}

/// The answer may be on its way: the store is asked whether another has the entry before the call is dropped.
#[tokio::test(start_paused = true)]
async fn a_call_that_stood_still_goes_on_if_nobody_has_claimed_the_entry() {
    let store = filled([entry(1)]).await;
    let peer = Peer::default();
    let client = peer.behaving(|_, _| Answer::After(LEASE * 3, 200));
    let redrive = redrive(&store, client);
    let mut one = task::spawn(redrive.one(id(1), "anna"));
    assert_pending!(one.poll());
    advance(LEASE * 2).await;
    assert_pending!(one.poll());
    let other = redrive.one(id(1), "bert").await.unwrap();
    assert!(matches!(other, Redriven::InProgress { .. }), "{other:?}");
    assert_eq!(one.await.unwrap(), Redriven::Accepted);
    assert_eq!((left(&*store).await, peer.times(1)), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_stood_still_ends_if_another_has_the_entry_or_nobody_knows() {
    for is_away in [false, true] {
        let store = filled([entry(1)]).await;
        let flaky = Flaky::of(&store);
        let peer = Peer::default();
        let client = peer.behaving(|_, _| Answer::Never);
        let redrive = Redrive::builder(Arc::new(flaky.clone()));
        let redrive = redrive.build(client).unwrap();
        let mut one = task::spawn(redrive.one(id(1), "anna"));
        while peer.times(1) == 0 {
            assert_pending!(one.poll());
            tokio::task::yield_now().await;
        }
        advance(LEASE * 2).await;
        if is_away {
            flaky.renew.store(u32::MAX, Ordering::SeqCst);
        } else {
            let claimed = store.claim(id(1), LEASE, 5).await.unwrap();
            assert!(matches!(claimed, EntryClaim::Claimed { .. }), "{claimed:?}");
        }
        assert_eq!(one.await.unwrap(), Redriven::Lost);
        let claims = if is_away { 1 } else { 2 };
        assert_eq!(replays(&*store, 1).await, claims);
    }
}

#[tokio::test(start_paused = true)]
async fn what_another_has_claimed_meanwhile_is_left_to_it() {
    for status in [200, 410] {
        let store = filled([entry(1)]).await;
        let peer = Peer::default();
        let (theirs, entries) = (Arc::new(Mutex::new(None)), store.clone());
        let claimed = Arc::clone(&theirs);
        let client = peer.behaving(move |_, _| {
            stand_still(LEASE * 2);
            let claim = task::spawn(entries.claim(id(1), LEASE, 5)).poll();
            *claimed.lock().unwrap() = Some(assert_ready!(claim).unwrap());
            Answer::Status(status)
        });
        let redriven = redrive(&store, client).one(id(1), "anna").await.unwrap();
        match redriven {
            Redriven::NotRemoved { kind } => assert_eq!((status, kind), (200, None)),
            Redriven::Failed { recorded, .. } => assert_eq!((status, recorded), (410, false)),
            other => panic!("{other:?}"),
        }
        let after = store.get(id(1)).await.unwrap().unwrap();
        assert_eq!((after.cause.code, after.replays), (Some(503), 2));
        let Some(EntryClaim::Claimed { token, .. }) = theirs.lock().unwrap().take() else {
            panic!("the lease was over");
        };
        let removed = store.remove(id(1), token).await.unwrap();
        assert_eq!(removed, Settled::Done);
    }
}

/// Nobody can claim it from a store that is away, so it is asked for longer than the lease.
#[tokio::test(start_paused = true)]
async fn a_store_that_was_away_for_longer_than_the_lease_removes_what_was_accepted() {
    let store = filled([entry(1)]).await;
    let flaky = Flaky::of(&store);
    flaky.remove.store(u32::MAX, Ordering::SeqCst);
    flaky.renew.store(u32::MAX, Ordering::SeqCst);
    let peer = Peer::default();
    let client = peer.behaving(|_, _| Answer::Status(200));
    let redrive = Redrive::builder(Arc::new(flaky.clone()));
    let redrive = redrive.build(client).unwrap();
    let back = async {
        tokio::time::sleep(LEASE * 2).await;
        flaky.remove.store(0, Ordering::SeqCst);
    };
    let (redriven, ()) = tokio::join!(redrive.one(id(1), "anna"), back);
    assert_eq!(redriven.unwrap(), Redriven::Accepted);
    assert_eq!((left(&*store).await, peer.times(1)), (0, 1));
}

/// What is never removed is reported after five leases, whether or not the claim is renewed meanwhile.
#[tokio::test(start_paused = true)]
async fn a_removal_is_given_up_after_five_leases() {
    for renewals in [u32::MAX, 0] {
        let store = filled([entry(1)]).await;
        let flaky = Flaky::of(&store);
        flaky.remove.store(u32::MAX, Ordering::SeqCst);
        flaky.renew.store(renewals, Ordering::SeqCst);
        let client = Peer::default().behaving(|_, _| Answer::Status(200));
        let redrive = Redrive::builder(Arc::new(flaky)).build(client).unwrap();
        let began = tokio::time::Instant::now();
        let kind = Some(StoreErrorKind::Unavailable);
        let redriven = redrive.one(id(1), "anna").await.unwrap();
        assert_eq!(redriven, Redriven::NotRemoved { kind });
        let took = began.elapsed().as_secs_f64() / LEASE.as_secs_f64();
        assert!((took - 5.0).abs() < 0.01, "{took}");
    }
}

/// Another has the entry, or the store cannot say who has it, or nobody has claimed it since.
#[tokio::test(start_paused = true)]
async fn who_slept_before_its_turn_sends_only_what_the_store_says_it_holds() {
    for (is_claimed, is_away) in [(true, false), (false, true), (false, false)] {
        let store = filled([entry(1), entry(2)]).await;
        let flaky = Flaky::of(&store);
        let peer = Peer::default();
        let client = peer.behaving(|_, _| Answer::Status(200));
        let redrive = Redrive::builder(Arc::new(flaky.clone())).rate(1.0);
        let redrive = redrive.build(client).unwrap();
        let first = redrive.one(id(2), "anna").await.unwrap();
        assert_eq!(first, Redriven::Accepted);
        let mut one = task::spawn(redrive.one(id(1), "anna"));
        while replays(&*store, 1).await == 0 {
            assert_pending!(one.poll());
            tokio::task::yield_now().await;
        }
        // It has the claim, and begins to wait.
        assert_pending!(one.poll());
        tokio::task::yield_now().await;
        assert_pending!(one.poll());
        assert_eq!(peer.times(1), 0, "it waits for its turn");
        stand_still(LEASE * 2);
        if is_claimed {
            let claimed = store.claim(id(1), LEASE, 5).await.unwrap();
            assert!(matches!(claimed, EntryClaim::Claimed { .. }), "{claimed:?}");
        }
        if is_away {
            flaky.renew.store(u32::MAX, Ordering::SeqCst);
        }
        let redriven = one.await.unwrap();
        let end = if is_claimed || is_away {
            (0, Redriven::Lost)
        } else {
            (1, Redriven::Accepted)
        };
        assert_eq!((peer.times(1), redriven), end, "{is_claimed} {is_away}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_what_another_has_claimed_is_no_refusal() {
    let store = filled([entry(1)]).await;
    let (peer, entries) = (Peer::default(), store.clone());
    let client = peer.behaving(move |_, _| {
        stand_still(LEASE * 2);
        let claim = task::spawn(entries.claim(id(1), LEASE, 5)).poll();
        assert!(matches!(
            assert_ready!(claim),
            Ok(EntryClaim::Claimed { .. })
        ));
        refuses(Duration::ZERO)
    });
    let report = redrive(&store, client).many(Filter::all(), "anna").await;
    let report = report.unwrap();
    assert_eq!((report.lost, report.done(), peer.times(1)), (1, 1, 1));
}
