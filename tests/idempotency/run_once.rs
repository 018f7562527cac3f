//! The same promises without HTTP.

use crate::{
    Fate, LEASE, Runs, fate, key,
    stores::{Gate, Gated, Op},
};
use bytes::Bytes;
use std::{
    convert::Infallible,
    future::{Ready, pending, ready},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, advance, sleep},
};
use tokio_test::{assert_pending, task};
use tower_webhook::StoreErrorKind;
use tower_webhook::idempotency::{Fingerprint, MemoryStore, Ran, RunOnce, RunOnceError, Store};

const TTL: Duration = Duration::from_secs(3600);

fn once<St: Store>(store: &St) -> RunOnce<St> {
    RunOnce::new(store.clone(), TTL)
        .unwrap()
        .lease(LEASE)
        .unwrap()
}

fn answer(text: &'static str) -> Ready<Result<Bytes, Infallible>> {
    ready(Ok(Bytes::from_static(text.as_bytes())))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_fifty_at_once_one_runs_and_the_others_are_told() {
    let (once, runs) = (once(&MemoryStore::default()), Runs::default());
    let gate = Arc::new(Semaphore::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..50 {
        let (once, runs, gate) = (once.clone(), runs.clone(), Arc::clone(&gate));
        tasks.spawn(async move {
            let work = |_| async move {
                runs.begin();
                gate.acquire().await.unwrap().forget();
                answer("done").await
            };
            once.run_once(&key("a"), work).await
        });
    }
    for _ in 0..49 {
        let told = tasks.join_next().await.unwrap().unwrap();
        assert!(matches!(told, Err(RunOnceError::InProgress { .. })));
    }
    gate.add_permits(1);
    let ran = tasks.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(ran, Ran::Executed("done".into()));
    assert_eq!(runs.count(), 1);
    let repeat = once.run_once(&key("a"), |_| answer("again")).await.unwrap();
    assert_eq!(repeat, Ran::Replayed("done".into()));
}

#[tokio::test]
async fn an_error_a_panic_and_a_drop_free_the_key() {
    let store = MemoryStore::default();
    let once = once(&store);

    let failed = once
        .run_once(&key("a"), |_| async { Err::<Bytes, _>("no") })
        .await;
    assert!(matches!(failed, Err(RunOnceError::Work("no"))));
    assert_eq!(fate(&store, "a").await, Fate::Free);

    let panicking = once.clone();
    let panicked = tokio::spawn(async move {
        let work = |_| async {
            if true {
                panic!("in the work")
            } else {
                answer("").await
            }
        };
        panicking.run_once(&key("a"), work).await.unwrap()
    });
    assert!(panicked.await.unwrap_err().is_panic());
    assert_eq!(fate(&store, "a").await, Fate::Free);

    let key = key("a");
    let mut dropped = task::spawn(once.run_once(&key, |_| pending::<Result<Bytes, Infallible>>()));
    assert_pending!(dropped.poll());
    assert_eq!(fate(&store, "a").await, Fate::Claimed);
    drop(dropped);
    assert_eq!(fate(&store, "a").await, Fate::Free);
}

#[tokio::test]
async fn dropped_after_the_work_its_answer_is_stored_all_the_same() {
    let (store, key) = (Gated::default(), key("a"));
    store.set(Op::Complete, Gate::HoldRequest);
    let once = once(&store);
    let mut dropped = task::spawn(once.run_once(&key, |_| answer("done")));
    assert_pending!(dropped.poll());
    drop(dropped);
    store.open(Op::Complete);
    store.reached(Op::Complete, 2).await;
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(fate(&store.inner, "a").await, Fate::Answered);
}

#[tokio::test]
async fn other_work_under_the_same_key_is_refused() {
    let once = once(&MemoryStore::default());
    let (mine, other) = (Fingerprint::new([1; 32]), Fingerprint::new([2; 32]));
    let key = key("a");
    let ran = once.run_once_checked(&key, mine, |_| answer("mine")).await;
    assert!(!ran.unwrap().is_repeat());
    let refused = once
        .run_once_checked(&key, other, |_| answer("other"))
        .await;
    assert!(matches!(refused, Err(RunOnceError::Mismatch)));
    let repeat = once.run_once_checked(&key, mine, |_| answer("again")).await;
    assert_eq!(repeat.unwrap().into_answer(), "mine");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_or_slow_runs_nothing() {
    for (gate, kind) in [
        (
            Gate::Fail(StoreErrorKind::Unavailable),
            StoreErrorKind::Unavailable,
        ),
        (Gate::HoldRequest, StoreErrorKind::Timeout),
    ] {
        let (store, runs) = (Gated::default(), Runs::default());
        store.set(Op::Begin, gate);
        let refused = once(&store)
            .run_once(&key("a"), |_| {
                runs.begin();
                answer("never")
            })
            .await;
        match refused {
            Err(RunOnceError::Store(error)) => assert_eq!(error.kind(), kind),
            other => panic!("the store failed, and the caller was told {other:?}"),
        }
        assert_eq!(runs.count(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_outlives_its_lease_is_renewed_and_a_lost_claim_is_left_alone() {
    for (gate, renewals, completed, fate_after) in [
        (Gate::Pass, 5, 1, Fate::Answered),
        (Gate::Lose, 1, 0, Fate::Free),
    ] {
        let store = Gated::default();
        store.set(Op::Renew, gate);
        let (once, key, started) = (once(&store), key("a"), Instant::now());
        let ran = once.run_once(&key, |_| async {
            sleep(LEASE * 2).await;
            answer("late").await
        });
        assert_eq!(ran.await.unwrap(), Ran::Executed("late".into()));
        assert_eq!(started.elapsed().as_secs(), 60);
        assert_eq!(store.count(Op::Renew), renewals);
        assert_eq!(store.count(Op::Complete), completed);
        assert_eq!(fate(&store.inner, "a").await, fate_after);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_stored_is_returned_and_leaves_after_its_lease() {
    let store = Gated::default();
    store.set(Op::Complete, Gate::Fail(StoreErrorKind::Unavailable));
    let ran = once(&store).run_once(&key("a"), |_| answer("done")).await;
    assert_eq!(ran.unwrap(), Ran::Executed("done".into()));
    assert_eq!(fate(&store.inner, "a").await, Fate::Claimed);
    advance(LEASE).await;
    assert_eq!(fate(&store.inner, "a").await, Fate::Free);
}

#[tokio::test(start_paused = true)]
async fn an_answer_leaves_after_its_time_to_live() {
    let (once, key) = (once(&MemoryStore::default()), key("a"));
    for (text, wait) in [
        ("first", TTL.saturating_sub(LEASE)),
        ("first", LEASE),
        ("second", TTL),
    ] {
        let ran = once.run_once(&key, |_| answer(text)).await.unwrap();
        assert_eq!(ran.into_answer(), text);
        advance(wait).await;
    }
}

#[test]
fn bad_settings_cannot_be_built() {
    let zero = Duration::ZERO;
    let built = RunOnce::new(MemoryStore::default(), zero);
    assert_eq!(built.unwrap_err().setting(), "ttl");
    let built = RunOnce::new(MemoryStore::default(), TTL)
        .unwrap()
        .lease(zero);
    assert_eq!(built.unwrap_err().setting(), "lease");
}

#[test]
fn debug_shows_no_answer() {
    for ran in [
        Ran::Executed("secret".into()),
        Ran::Replayed("secret".into()),
    ] {
        assert!(!format!("{ran:?}").contains("secret"));
    }
}
