//! Our own side does not send: an open breaker, a service that takes no calls.

use crate::support::{Answer, Peer, builder, entry, filled, id, left, refuses, replays};
use http::{Request, Response};
use std::{
    path::Path,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;
use tower::{Layer, Service, service_fn};
use tower_webhook::{
    BoxError,
    attempt::{AttemptRecord, Failed, GaveUp, History},
    body::BufferedBody,
    circuit_breaker::{BreakerConfig, CircuitBreakerLayer},
    dead_letter::{
        Entry, Filter, JsonlDeadLetters, LetterStore, Sink,
        redrive::{Redrive, Redriven},
    },
    outcome::{LocallyRefused, Outcome},
};

const SECOND: Duration = Duration::from_secs(1);

fn for_b(number: u64) -> Entry {
    let mut entry = entry(number);
    "b.test".clone_into(&mut entry.target);
    entry
}

#[tokio::test(start_paused = true)]
async fn a_refusal_gives_the_replay_back_and_leaves_the_entry_as_it_was() {
    let store = filled([entry(1)]).await;
    let client = Peer::default().behaving(|_, _| refuses(SECOND * 7));
    let redrive = builder(&store).max_replays(1).build(client).unwrap();
    for _ in 0..3 {
        let refused = redrive.one(id(1), "anna").await.unwrap();
        let retry_after = Some(SECOND * 7);
        assert_eq!(refused, Redriven::Refused { retry_after });
    }
    assert_eq!(store.get(id(1)).await.unwrap(), Some(entry(1)));
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_is_a_refusal_and_the_run_waits_for_it() {
    let store = filled((1..=20).map(entry)).await;
    let peer = Peer::default();
    let breaker = BreakerConfig::builder()
        .consecutive_failures(3)
        .open_for(SECOND * 5);
    let breaker = CircuitBreakerLayer::new(breaker.build().unwrap());
    // Down for its first three requests.
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let client =
        peer.behaving(
            move |_, _| match count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
                0..3 => Answer::Status(500),
                _ => Answer::Status(200),
            },
        );
    let redrive = builder(&store)
        .concurrency(1)
        .build(breaker.layer(client))
        .unwrap();
    let began = Instant::now();
    let report = redrive.many(Filter::all(), "anna").await.unwrap();
    assert_eq!((report.failed, report.accepted), (3, 17));
    assert_eq!(report.refused, 0);
    assert!(began.elapsed() >= SECOND, "{:?}", began.elapsed());
    // Those that waited were sent once, and only those that failed have a replay.
    assert!(peer.seen().values().all(|times| *times == 1));
    assert_eq!(left(&*store).await, 3);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_stays_refused_does_not_hold_up_the_others() {
    let entries = (0..60).map(|number| match number % 2 {
        0 => entry(number),
        _ => for_b(number),
    });
    let store = filled(entries).await;
    let peer = Peer::default();
    let client = peer.behaving(|number, _| match number % 2 {
        0 => refuses(SECOND * 4),
        _ => Answer::Status(200),
    });
    let redrive = builder(&store)
        .max_refusal_wait(SECOND * 10)
        .build(client)
        .unwrap();
    let began = Instant::now();
    let report = redrive.many(Filter::all(), "anna").await.unwrap();
    assert_eq!((report.refused, report.accepted), (30, 30));
    assert_eq!(report.done(), report.matched);
    // It waits for a target once, not for each entry.
    assert!(began.elapsed() <= SECOND * 20, "{:?}", began.elapsed());
    assert!(!report.stopped);
    for number in (0..60).step_by(2) {
        assert_eq!(replays(&*store, number).await, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_after_an_attempt_is_a_failure() {
    let store = filled([entry(1)]).await;
    let client = service_fn(|_: Request<BufferedBody>| async {
        let mut history = History::new();
        let transient = Outcome::transient().with_code(500);
        history.push(AttemptRecord::new(1, Duration::ZERO, SECOND, transient));
        history.push(AttemptRecord::new(
            2,
            SECOND,
            Duration::ZERO,
            Outcome::refused(None),
        ));
        let history = history.with_gave_up(GaveUp::Refused);
        let refused = LocallyRefused::after(SECOND);
        Err::<Response<()>, BoxError>(Failed::new(refused, history).into())
    });
    let redrive = builder(&store).build(client).unwrap();
    let failed = redrive.one(id(1), "anna").await.unwrap();
    assert!(matches!(failed, Redriven::Failed { .. }), "{failed:?}");
    assert_eq!(replays(&*store, 1).await, 1);
}

#[derive(Clone)]
struct NeverReady;

impl Service<Request<BufferedBody>> for NeverReady {
    type Response = Response<()>;
    type Error = BoxError;
    type Future = std::future::Ready<Result<Response<()>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Err("closed".into()))
    }

    fn call(&mut self, _: Request<BufferedBody>) -> Self::Future {
        panic!("called though it was not ready")
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_takes_no_calls_costs_no_replay() {
    let store = filled([entry(1)]).await;
    let redrive = builder(&store).build(NeverReady).unwrap();
    let refused = redrive.one(id(1), "anna").await.unwrap();
    assert_eq!(refused, Redriven::Refused { retry_after: None });
    let report = redrive.many(Filter::all(), "anna").await.unwrap();
    assert_eq!(report.refused, 1);
    assert_eq!(store.get(id(1)).await.unwrap(), Some(entry(1)));
}

/// A released entry stays released when the store is opened again.
#[tokio::test]
async fn a_refusal_costs_no_replay_in_files_either() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("entries.jsonl");
    for _ in 0..3 {
        let store = Arc::new(opened(&file).await);
        store.write(&Arc::new(entry(1))).await.unwrap();
        let client = Peer::default().behaving(|_, _| refuses(SECOND));
        let redrive = Redrive::builder(store.clone()).max_replays(1);
        let redrive = redrive.build(client).unwrap();
        let refused = redrive.one(id(1), "anna").await.unwrap();
        assert!(matches!(refused, Redriven::Refused { .. }), "{refused:?}");
    }
    let store = Arc::new(opened(&file).await);
    assert_eq!(replays(&*store, 1).await, 0);
}

/// The file is closed a moment after its last handle is gone.
async fn opened(file: &Path) -> JsonlDeadLetters {
    for _ in 0..500 {
        if let Ok(store) = JsonlDeadLetters::open(file) {
            return store;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it stays locked")
}
