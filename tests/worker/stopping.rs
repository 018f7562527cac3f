//! How a worker ends.

use crate::support::{Bench, Calls, Mode, SECOND};
use std::task::{Context, Poll};
use tokio::time::{Instant, sleep};
use tower::{Service, service_fn};
use tower_webhook::{
    BoxError, BoxFuture,
    outcome::OutcomeKind,
    queue::{Ask, Engine, Job, Status},
};

#[tokio::test(start_paused = true)]
async fn what_ends_within_the_grace_is_waited_for() {
    let bench = Bench::new();
    let id = bench.put("").await;
    let slow = service_fn(|_: Job| async {
        sleep(3 * SECOND).await;
        Ok::<_, BoxError>(())
    });
    let worker = bench.worker().build(slow).unwrap().spawn();
    sleep(SECOND).await;
    let second = bench.put("").await;
    let began = Instant::now();
    let stopping = worker.stop(10 * SECOND);
    assert_eq!(stopping.await, 0);
    assert!(began.elapsed() < 4 * SECOND);
    assert_eq!(bench.status(id).await, Status::Succeeded { result: None });
    // It had been claimed before, or is another's: it is not lost.
    let _ = bench.status(second).await;
}

#[tokio::test(start_paused = true)]
async fn what_does_not_is_dropped_and_given_back_with_its_attempt() {
    let bench = Bench::new();
    let id = bench.put("").await;
    let never = service_fn(|_: Job| std::future::pending::<Result<(), BoxError>>());
    let worker = bench.worker().build(never).unwrap().spawn();
    sleep(SECOND).await;
    let began = Instant::now();
    assert_eq!(worker.stop(5 * SECOND).await, 1);
    assert!(began.elapsed() <= 6 * SECOND);
    assert_eq!(bench.status(id).await, Status::Queued);
    let claims = bench.engine.inner.claim(Ask::new(1, SECOND)).await.unwrap();
    let job = &claims.jobs[0];
    assert_eq!(job.attempt, 2);
    let last = job.history.last().unwrap();
    assert_eq!(last.outcome().kind(), OutcomeKind::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn what_was_never_called_is_given_back_as_it_was() {
    #[derive(Clone)]
    struct NeverReady;
    impl Service<Job> for NeverReady {
        type Response = ();
        type Error = BoxError;
        type Future = BoxFuture<Result<(), BoxError>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Pending
        }
        fn call(&mut self, _: Job) -> Self::Future {
            panic!("it was never ready")
        }
    }
    let bench = Bench::new();
    bench.put("").await;
    let worker = bench.worker().build(NeverReady).unwrap().spawn();
    sleep(SECOND).await;
    assert_eq!(worker.stop(SECOND).await, 1);
    let claims = bench.engine.inner.claim(Ask::new(1, SECOND)).await.unwrap();
    assert_eq!(claims.jobs[0].attempt, 1);
    assert_eq!(claims.jobs[0].history.attempts(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_worker_stops_in_time_though_its_queue_hangs() {
    let bench = Bench::new();
    bench.put("").await;
    let never = service_fn(|_: Job| std::future::pending::<Result<(), BoxError>>());
    let worker = bench.worker().build(never).unwrap().spawn();
    sleep(SECOND).await;
    bench.engine.settle_mode(Mode::Hangs);
    bench.engine.claim_mode(Mode::Hangs);
    let began = Instant::now();
    assert_eq!(worker.stop(5 * SECOND).await, 0);
    assert!(began.elapsed() <= 7 * SECOND, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_claim_hangs_stops_too() {
    let bench = Bench::new();
    bench.engine.claim_mode(Mode::Hangs);
    let well = service_fn(|_: Job| async { Ok::<_, BoxError>(()) });
    let worker = bench.worker().build(well).unwrap().spawn();
    sleep(SECOND).await;
    let began = Instant::now();
    assert_eq!(worker.stop(5 * SECOND).await, 0);
    assert!(began.elapsed() <= 3 * SECOND, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_handle_that_is_dropped_stops_its_worker() {
    let bench = Bench::new();
    let calls = Calls::new();
    let seen = calls.clone();
    let worker = bench.worker().build(service_fn(move |job: Job| {
        seen.note(&job);
        async { Ok::<_, BoxError>(()) }
    }));
    drop(worker.unwrap().spawn());
    sleep(10 * SECOND).await;
    let id = bench.put("").await;
    sleep(100 * SECOND).await;
    assert_eq!((calls.len(), bench.status(id).await), (0, Status::Queued));
}

#[tokio::test(start_paused = true)]
async fn a_worker_runs_until_it_is_told() {
    let bench = Bench::new();
    let id = bench.put("").await;
    let never = service_fn(|_: Job| std::future::pending::<Result<(), BoxError>>());
    let worker = bench.worker().grace(SECOND).build(never).unwrap();
    assert_eq!(worker.run(sleep(10 * SECOND)).await, 1);
    assert_eq!(bench.status(id).await, Status::Queued);
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_queue_hangs_altogether_ends_two_seconds_after_its_grace() {
    for grace in [std::time::Duration::ZERO, SECOND, 5 * SECOND] {
        let bench = Bench::new();
        bench.put("").await;
        let never = service_fn(|_: Job| std::future::pending::<Result<(), BoxError>>());
        let worker = bench.worker().build(never).unwrap().spawn();
        sleep(SECOND).await;
        // A claim is under way when it is told.
        bench.engine.settle_mode(Mode::Hangs);
        bench.engine.renew_mode(Mode::Hangs);
        bench.engine.claim_mode(Mode::Hangs);
        bench.put("").await;
        sleep(SECOND).await;
        let began = Instant::now();
        assert_eq!(worker.stop(grace).await, 0);
        let took = began.elapsed();
        let slack = std::time::Duration::from_millis(10);
        assert!(took <= grace + 2 * SECOND + slack, "{grace:?}: {took:?}");
    }
}
