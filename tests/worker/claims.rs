//! Claims: whose a job is, for how long, and how many a worker has.

use crate::support::{Bench, Calls, LEASE, Mode, SECOND, wall_clock};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, advance, sleep};
use tokio_test::task;
use tower::{ServiceBuilder, service_fn};
use tower_webhook::{
    BoxError, BoxFuture, StoreError,
    dead_letter::Reason,
    idempotency::IdempotencyKey,
    lease::Settled,
    queue::{
        Ask, Claim, Claims, End, Engine, Enqueued, Job, JobFilter, Mark, MemoryQueue, NewJob,
        Promises, Queue, Status, Worker,
    },
};

/// Counts what runs at once.
#[derive(Clone, Default)]
struct Load {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Load {
    async fn job(self, time: Duration) -> Result<(), BoxError> {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        sleep(time).await;
        self.now.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }

    fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_job_keeps_its_claim_and_runs_once_beside_another_worker() {
    let bench = Bench::new();
    let calls = Calls::new();
    let worker = || {
        let seen = calls.clone();
        let long = service_fn(move |job: Job| {
            seen.note(&job);
            async {
                sleep(10 * LEASE).await;
                Ok::<_, BoxError>(())
            }
        });
        bench.worker().build(long).unwrap().spawn()
    };
    let _workers = (worker(), worker());
    let ids = [
        bench.put("one").await,
        bench.put("two").await,
        bench.put("three").await,
    ];
    for id in ids {
        assert_eq!(bench.end(id).await, Status::Succeeded { result: None });
        assert_eq!(bench.attempts(id).await, 1);
    }
    assert_eq!(calls.len(), 3);
    // All claims of a worker in one call, at a third of the lease.
    let rounds = bench.engine.renewals();
    assert!((28..=62).contains(&rounds), "{rounds}");
}

#[tokio::test(start_paused = true)]
async fn no_more_jobs_run_than_may_and_of_one_target_no_more_than_its_share() {
    let bench = Bench::with_queue(wall_clock(), MemoryQueue::builder().per_target(2));
    let (all, slow) = (Load::default(), Load::default());
    let (of_all, of_slow) = (all.clone(), slow.clone());
    let mut ids = Vec::new();
    for target in [
        "slow", "slow", "slow", "slow", "slow", "slow", "a", "b", "c", "d", "e", "f",
    ] {
        ids.push(bench.put_in(NewJob::new("event", "").target(target)).await);
    }
    let worker = bench.worker().concurrency(5);
    let worker = worker.build(service_fn(move |job: Job| {
        let slow = (job.target == "slow").then(|| of_slow.clone());
        let all = of_all.clone();
        async move {
            match slow {
                Some(slow) => {
                    tokio::try_join!(slow.job(100 * SECOND), all.job(100 * SECOND)).map(|_| ())
                }
                None => all.job(SECOND).await,
            }
        }
    }));
    let _worker = worker.unwrap().spawn();
    sleep(10 * SECOND).await;
    // The slow one has its two, and everything else is done.
    for id in &ids[6..] {
        assert_eq!(bench.status(*id).await, Status::Succeeded { result: None });
    }
    for id in ids {
        bench.end(id).await;
    }
    assert_eq!((all.most(), slow.most()), (5, 2));
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_done_leaves_its_place_before_it_is_settled() {
    let bench = Bench::new();
    let calls = Calls::new();
    let seen = calls.clone();
    bench.engine.settle_mode(Mode::Hangs);
    for _ in 0..20 {
        bench.put("").await;
    }
    let worker = bench.worker().concurrency(4);
    let worker = worker.build(service_fn(move |job: Job| {
        seen.note(&job);
        async { Ok::<_, BoxError>(()) }
    }));
    let _worker = worker.unwrap().spawn();
    sleep(SECOND).await;
    // As many again, and no more while the engine does not answer.
    assert_eq!(calls.len(), 8);
    assert_eq!(bench.queue.depth().await.unwrap().running, 8);
}

#[tokio::test(start_paused = true)]
async fn a_worker_with_much_to_do_claims_for_many_places_at_once() {
    let bench = Bench::with_queue(wall_clock(), MemoryQueue::builder().per_target(u32::MAX));
    let mut last = None;
    for number in 0..320_u64 {
        let job = NewJob::new("event", number.to_le_bytes().to_vec());
        last = Some(bench.put_in(job).await);
    }
    let worker = bench.worker().concurrency(32);
    // Each ends in a millisecond of its own.
    let worker = worker.build(service_fn(|job: Job| async move {
        let number = u64::from_le_bytes(job.payload[..].try_into().unwrap());
        sleep(Duration::from_millis(1000 + number)).await;
        Ok::<_, BoxError>(())
    }));
    let began = Instant::now();
    let _worker = worker.unwrap().spawn();
    bench.end(last.unwrap()).await;
    // Nor does a place stay empty for long.
    assert!(
        began.elapsed() < Duration::from_secs(14),
        "{:?}",
        began.elapsed()
    );
    // One for each job would be more than 280.
    assert!(bench.engine.claims() < 160, "{}", bench.engine.claims());
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_not_ready_is_waited_for_and_the_polled_one_is_called() {
    let bench = Bench::new();
    let load = Load::default();
    let of = load.clone();
    // `ConcurrencyLimit` panics where it is called without having been polled ready.
    let inner = ServiceBuilder::new()
        .concurrency_limit(2)
        .service(service_fn(move |_: Job| of.clone().job(SECOND)));
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(bench.put("").await);
    }
    let _worker = bench.worker().build(inner).unwrap().spawn();
    for id in ids {
        assert_eq!(bench.end(id).await, Status::Succeeded { result: None });
    }
    assert_eq!(load.most(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_fails_to_become_ready_gives_the_job_back_and_dead_letters_it_at_last() {
    #[derive(Clone)]
    struct Never;
    impl tower::Service<Job> for Never {
        type Response = ();
        type Error = BoxError;
        type Future = std::future::Ready<Result<(), BoxError>>;
        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), BoxError>> {
            std::task::Poll::Ready(Err("closed".into()))
        }
        fn call(&mut self, _: Job) -> Self::Future {
            panic!("it was never ready")
        }
    }
    let bench = Bench::new();
    let id = bench.put("").await;
    let _worker = bench.worker().build(Never).unwrap().spawn();
    assert_eq!(bench.end(id).await, Status::Failed);
    let entry = bench.sink.only();
    assert_eq!(entry.cause.reason, Reason::NotReady);
    assert_eq!(entry.history.attempts(), 0);
}

/// Sets its flag when it is dropped.
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_claim_cannot_be_renewed_is_dropped_before_another_can_have_it() {
    for mode in [Mode::Fails, Mode::Hangs] {
        let bench = Bench::new();
        let id = bench.put("").await;
        let dropped = Arc::new(AtomicUsize::new(0));
        let flag = Arc::clone(&dropped);
        let calls = Calls::new();
        let seen = calls.clone();
        let worker = bench.worker().build(service_fn(move |job: Job| {
            let first = seen.note(&job) == 0;
            let dropped = Dropped(Arc::clone(&flag));
            async move {
                let _dropped = dropped;
                if first {
                    std::future::pending::<()>().await;
                }
                Ok::<_, BoxError>(())
            }
        }));
        let _worker = worker.unwrap().spawn();
        sleep(SECOND).await;
        bench.engine.renew_mode(mode);
        bench.engine.claim_mode(Mode::Fails);
        sleep(28 * SECOND).await;
        assert_eq!(dropped.load(Ordering::SeqCst), 1, "{mode:?}: it runs on");
        assert_eq!(
            bench.status(id).await,
            Status::Running,
            "{mode:?}: the claim has ended"
        );
        assert_eq!(bench.count("lost"), 1);
        bench.engine.renew_mode(Mode::Well);
        bench.engine.claim_mode(Mode::Well);
        // The attempt was begun, so it counts.
        assert_eq!(bench.end(id).await, Status::Succeeded { result: None });
        assert_eq!(bench.attempts(id).await, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn renewals_that_fail_for_a_while_lose_nothing() {
    let bench = Bench::new();
    let id = bench.put("").await;
    let calls = Calls::new();
    let seen = calls.clone();
    let worker = bench.worker().build(service_fn(move |job: Job| {
        seen.note(&job);
        async {
            sleep(3 * LEASE).await;
            Ok::<_, BoxError>(())
        }
    }));
    let _worker = worker.unwrap().spawn();
    sleep(SECOND).await;
    bench.engine.renew_mode(Mode::Hangs);
    sleep(LEASE / 2).await;
    bench.engine.renew_mode(Mode::Well);
    assert_eq!(bench.end(id).await, Status::Succeeded { result: None });
    assert_eq!(calls.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_runs_when_a_process_has_stood_still_goes_on_if_nobody_has_claimed_it() {
    let bench = Bench::new();
    let id = bench.put("").await;
    let worker = bench.worker().build(service_fn(|_: Job| async {
        sleep(3 * LEASE).await;
        Ok::<_, BoxError>(())
    }));
    let _worker = worker.unwrap().spawn();
    sleep(SECOND).await;
    // Nor does this worker claim it.
    bench.engine.claim_mode(Mode::Fails);
    advance(2 * LEASE).await;
    sleep(2 * LEASE).await;
    assert_eq!(bench.status(id).await, Status::Succeeded { result: None });
    assert_eq!((bench.attempts(id).await, bench.count("lost")), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_passed_to_another_cancels_what_runs() {
    let bench = Bench::new();
    let id = bench.put("").await;
    let dropped = Arc::new(AtomicUsize::new(0));
    let flag = Arc::clone(&dropped);
    let worker = bench.worker().build(service_fn(move |_: Job| {
        let dropped = Dropped(Arc::clone(&flag));
        async move {
            let _dropped = dropped;
            std::future::pending::<Result<(), BoxError>>().await
        }
    }));
    let _worker = worker.unwrap().spawn();
    sleep(SECOND).await;
    // The process sleeps, as a laptop does: no renewal, and the lease ends.
    bench.engine.claim_mode(Mode::Fails);
    advance(2 * LEASE).await;
    let claims = bench.engine.inner.claim(Ask::new(1, LEASE)).await.unwrap();
    assert_eq!(claims.jobs[0].id, id);
    sleep(SECOND).await;
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
    assert_eq!(bench.count("lost"), 1);
    assert_eq!(bench.status(id).await, Status::Running);
}

/// It drops the work when it renews its claims: after a third of the lease.
#[tokio::test(start_paused = true)]
async fn a_worker_drops_the_work_of_a_job_that_is_cancelled() {
    let bench = Bench::new();
    let (runs, dropped) = (Calls::new(), Arc::new(AtomicUsize::new(0)));
    let (seen, flag) = (runs.clone(), Arc::clone(&dropped));
    let worker = bench.worker().build(service_fn(move |job: Job| {
        seen.note(&job);
        let dropped = Dropped(Arc::clone(&flag));
        async move {
            let _dropped = dropped;
            std::future::pending::<Result<(), BoxError>>().await
        }
    }));
    let _worker = worker.unwrap().spawn();
    let key = IdempotencyKey::new("orders", "7").unwrap();
    let keyed = NewJob::new("event", "").dedup_key(key.clone());
    let id = bench.put_in(keyed.clone()).await;
    let later = bench.put_in(NewJob::new("event", "").delay(LEASE)).await;
    sleep(SECOND).await;
    let status = bench.queue.cancel_by_key(key).await.unwrap();
    assert_eq!(status, Some(Status::Cancelled));
    let status = bench.queue.cancel(later).await.unwrap();
    assert_eq!(status, Some(Status::Cancelled));
    assert_eq!(dropped.load(Ordering::SeqCst), 0);
    sleep(LEASE / 3 + SECOND).await;
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
    assert_eq!(bench.count("lost"), 1);
    assert_eq!(bench.end(id).await, Status::Cancelled);
    // A repetition of it is none.
    assert!(bench.queue.enqueue(keyed).await.unwrap().repeated);
    let unknown = IdempotencyKey::new("orders", "8").unwrap();
    assert_eq!(bench.queue.cancel_by_key(unknown).await.unwrap(), None);
    sleep(2 * LEASE).await;
    assert_eq!(runs.len(), 1, "nothing else runs");
    assert!(bench.sink.all().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_job_of_a_kind_that_nobody_handles_stays_and_is_listed() {
    let bench = Bench::new();
    let worker = bench
        .worker()
        .kinds(["event"])
        .build(service_fn(|_: Job| async { Ok::<_, BoxError>(()) }));
    let _worker = worker.unwrap().spawn();
    let odd = bench.put_in(NewJob::new("nobody's", "").target("t")).await;
    let id = bench.put("").await;
    assert_eq!(bench.end(id).await, Status::Succeeded { result: None });
    sleep(60 * LEASE).await;
    assert_eq!(
        (bench.status(odd).await, bench.attempts(odd).await),
        (Status::Queued, 0)
    );
    let old = JobFilter::default().older_than(LEASE);
    let listed = bench.queue.list(old, None, 10).await.unwrap().jobs;
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].id, &*listed[0].kind), (odd, "nobody's"));
}

#[tokio::test(start_paused = true)]
async fn a_payload_that_kills_its_worker_is_dead_lettered_after_the_limit() {
    let bench = Bench::new();
    let id = bench.put("").await;
    let calls = Calls::new();
    for _ in 0..4 {
        let seen = calls.clone();
        let worker = bench.worker().build(service_fn(move |job: Job| {
            seen.note(&job);
            std::future::pending::<Result<(), BoxError>>()
        }));
        // The process dies: nothing is released.
        let run = worker.unwrap().run(std::future::pending());
        assert!(tokio::time::timeout(SECOND, run).await.is_err());
        sleep(2 * LEASE).await;
    }
    let numbers: Vec<_> = calls
        .all()
        .into_iter()
        .map(|(_, attempt)| attempt)
        .collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert_eq!(bench.end(id).await, Status::Failed);
    let entry = bench.sink.only();
    assert_eq!(entry.cause.reason, Reason::WorkerLost);
    assert_eq!(entry.history.attempts(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_idle_worker_asks_for_nothing() {
    let bench = Bench::new();
    let well = service_fn(|_: Job| async { Ok::<_, BoxError>(()) });
    let _worker = bench.worker().build(well).unwrap().spawn();
    sleep(3600 * SECOND).await;
    let claims = bench.engine.claims();
    assert!(claims <= 2 * 360 + 2, "{claims} claims in an idle hour");
    assert_eq!(bench.engine.renewals(), 0);
    // And it begins at once.
    let id = bench.put("").await;
    sleep(Duration::from_millis(1)).await;
    assert_eq!(bench.status(id).await, Status::Succeeded { result: None });
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_places_are_all_taken_does_not_spin() {
    let bench = Bench::new();
    for _ in 0..10 {
        bench.put("").await;
    }
    let long = service_fn(|_: Job| async {
        sleep(600 * SECOND).await;
        Ok::<_, BoxError>(())
    });
    let _worker = bench.worker().concurrency(2).build(long).unwrap().spawn();
    sleep(500 * SECOND).await;
    let claims = bench.engine.claims();
    assert!(claims <= 510, "{claims} claims");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_dropped_at_any_moment_loses_no_job() {
    let bench = Bench::new();
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(bench.put("").await);
    }
    let worker = || {
        Worker::builder(bench.queue.clone())
            .clock(bench.clock.clone())
            .concurrency(3)
            .retry(crate::support::retry().attempts(1_000).build().unwrap())
            .build(service_fn(|_: Job| async {
                sleep(Duration::from_millis(7)).await;
                Ok::<_, BoxError>(())
            }))
            .unwrap()
    };
    for millis in 0..30 {
        let run = worker().run(std::future::pending());
        let _ = tokio::time::timeout(Duration::from_millis(millis), run).await;
    }
    let _worker = worker().spawn();
    for id in ids {
        assert_eq!(bench.end(id).await, Status::Succeeded { result: None });
    }
    assert_eq!(bench.queue.depth().await.unwrap().unfinished(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_waits_for_a_place_begins_when_one_is_free() {
    let bench = Bench::new();
    let times = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&times);
    let worker = bench.worker().concurrency(1);
    let worker = worker.build(service_fn(move |job: Job| {
        let seen = Arc::clone(&seen);
        async move {
            seen.lock().unwrap().push(Instant::now());
            if job.payload == "slow" {
                sleep(Duration::from_millis(3500)).await;
            }
            seen.lock().unwrap().push(Instant::now());
            Ok::<_, BoxError>(())
        }
    }));
    let _worker = worker.unwrap().spawn();
    let job = |name| NewJob::new("event", name).target(name);
    bench.put_in(job("slow")).await;
    sleep(Duration::from_millis(300)).await;
    let quick = bench.put_in(job("quick")).await;
    bench.end(quick).await;
    let times = times.lock().unwrap();
    let gap = times[2] - times[1];
    assert!(gap <= Duration::from_millis(5), "{gap:?}");
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_has_ended_its_job_may_work_on() {
    let bench = Bench::new();
    let engine = bench.engine.inner.clone();
    let calls = Calls::new();
    let seen = calls.clone();
    let worker = bench.worker().build(service_fn(move |job: Job| {
        let (engine, seen) = (engine.clone(), seen.clone());
        async move {
            let done = vec![(job.claim(), End::Done { result: None })];
            assert_eq!(engine.settle(done).await?, [Settled::Done]);
            // It is over, whatever comes after.
            sleep(2 * LEASE).await;
            seen.note(&job);
            Err::<(), BoxError>("a cache could not be told".into())
        }
    }));
    let _worker = worker.unwrap().spawn();
    let id = bench.put("").await;
    sleep(3 * LEASE).await;
    assert_eq!(calls.len(), 1, "it was dropped");
    assert_eq!(bench.status(id).await, Status::Succeeded { result: None });
    assert_eq!(bench.events(), ["claimed", "succeeded"]);
}

#[tokio::test(start_paused = true)]
async fn a_success_that_was_not_noted_before_the_claim_passed_on_is_not_told_as_one() {
    let bench = Bench::new();
    let engine = bench.engine.clone();
    let worker = bench.worker().build(service_fn(move |_: Job| {
        engine.settle_mode(Mode::Fails);
        engine.renew_mode(Mode::Fails);
        engine.claim_mode(Mode::Fails);
        async { Ok::<_, BoxError>(()) }
    }));
    let _worker = worker.unwrap().spawn();
    let id = bench.put("").await;
    sleep(LEASE + SECOND).await;
    let other = bench.engine.inner.claim(Ask::new(1, LEASE)).await;
    assert_eq!(other.unwrap().jobs[0].id, id);
    bench.engine.settle_mode(Mode::Well);
    sleep(10 * SECOND).await;
    assert_eq!(bench.status(id).await, Status::Running);
    assert_eq!((bench.count("succeeded"), bench.count("lost")), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_success_that_was_noted_and_not_answered_is_told_once() {
    let bench = Bench::new();
    bench.engine.settle_mode(Mode::Unanswered);
    let well = service_fn(|_: Job| async { Ok::<_, BoxError>(()) });
    let _worker = bench.worker().build(well).unwrap().spawn();
    let id = bench.put("").await;
    sleep(SECOND).await;
    bench.engine.settle_mode(Mode::Well);
    sleep(10 * SECOND).await;
    assert_eq!(bench.status(id).await, Status::Succeeded { result: None });
    assert_eq!((bench.count("succeeded"), bench.count("lost")), (1, 0));
}

/// Jobs of one FIFO group run one after another, also if the first is cancelled: its worker is told when it renews the
/// claim, drops the work, and lets the next one run long before the lease would end.
#[tokio::test(start_paused = true)]
async fn the_next_of_a_group_begins_when_a_cancelled_one_was_dropped() {
    struct Ends(Arc<Mutex<Vec<String>>>, String);
    impl Drop for Ends {
        fn drop(&mut self) {
            self.0.lock().unwrap().push(format!("{} ends", self.1));
        }
    }
    let bench = Bench::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let service = service_fn(move |job: Job| {
        let log = Arc::clone(&log);
        async move {
            let name = String::from_utf8_lossy(&job.payload).into_owned();
            log.lock().unwrap().push(format!("{name} begins"));
            let _ends = Ends(log, name);
            sleep(60 * SECOND).await;
            Ok::<_, BoxError>(())
        }
    });
    let _worker = bench
        .worker()
        .lease(30 * SECOND)
        .build(service)
        .unwrap()
        .spawn();
    let new = |payload: &'static str| NewJob::new("event", payload).fifo_group("account-1");
    let first = bench.put_in(new("first")).await;
    let second = bench.put_in(new("second")).await;
    sleep(SECOND).await;
    bench.queue.cancel(first).await.unwrap();
    sleep(11 * SECOND).await;
    let expected = ["first begins", "first ends", "second begins"];
    assert_eq!(*seen.lock().unwrap(), expected);
    bench.end(second).await;
    assert_eq!(seen.lock().unwrap().len(), 4);
    assert_eq!(bench.status(first).await, Status::Cancelled);
}

/// The engine's first claim is answered when the process has stood still for two leases and another has the job.
#[derive(Debug)]
struct Slept {
    inner: MemoryQueue,
    theirs: Arc<Mutex<Option<Claims>>>,
}

impl Engine for Slept {
    fn promises(&self) -> Promises {
        self.inner.promises()
    }

    fn enqueue(
        &self,
        jobs: Vec<NewJob>,
    ) -> BoxFuture<Result<Vec<Result<Enqueued, StoreError>>, StoreError>> {
        self.inner.enqueue(jobs)
    }

    fn claim(&self, ask: Ask) -> BoxFuture<Result<Claims, StoreError>> {
        let (inner, theirs) = (self.inner.clone(), self.theirs.clone());
        Box::pin(async move {
            let claims = inner.claim(ask.clone()).await?;
            if !claims.jobs.is_empty() && theirs.lock().unwrap().is_none() {
                // Polled once: nothing runs meanwhile.
                let _ = task::spawn(advance(LEASE * 2)).poll();
                *theirs.lock().unwrap() = Some(inner.claim(ask).await?);
            }
            Ok(claims)
        })
    }

    fn renew(
        &self,
        claims: Vec<Claim>,
        lease: Duration,
    ) -> BoxFuture<Result<Vec<Settled>, StoreError>> {
        self.inner.renew(claims, lease)
    }

    fn settle(&self, ends: Vec<(Claim, End)>) -> BoxFuture<Result<Vec<Settled>, StoreError>> {
        self.inner.settle(ends)
    }

    fn wait(&self, seen: Mark, at_most: Duration) -> BoxFuture<()> {
        self.inner.wait(seen, at_most)
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_answered_after_its_lease_begins_no_job() {
    let theirs = Arc::default();
    let engine = Slept {
        inner: MemoryQueue::default(),
        theirs: Arc::clone(&theirs),
    };
    let queue = Queue::new(engine);
    queue.enqueue(NewJob::new("test", "x")).await.unwrap();
    let runs = Arc::new(AtomicU32::new(0));
    let counted = runs.clone();
    let service = service_fn(move |_: Job| {
        counted.fetch_add(1, Ordering::SeqCst);
        async { Ok::<_, BoxError>(()) }
    });
    let worker = Worker::builder(queue).lease(LEASE).build(service).unwrap();
    let _worker = worker.spawn();
    sleep(SECOND).await;
    let theirs = theirs.lock().unwrap().take().unwrap();
    assert_eq!(theirs.jobs.len(), 1, "another worker has the job");
    assert_eq!(runs.load(Ordering::SeqCst), 0, "it is another worker's");
}
