//! What becomes of a job, by how its attempts went.

use crate::support::{Bench, Calls, Fake, LEASE, SECOND, retry, wall_clock};
use bytes::Bytes;
use std::{
    future::pending,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceBuilder, service_fn};
use tower_webhook::{
    BoxError, CircuitBreakerLayer, InvalidConfig, RetryWithJitterLayer,
    attempt::Attempt,
    body::BufferedBody,
    circuit_breaker::{BreakerConfig, Breakers},
    clock::WallClock,
    dead_letter::{Direction, Reason},
    deadline::Deadline,
    idempotency::IdempotencyKey,
    lease::Settled,
    metrics::DeliveryMetrics,
    observe::{Event, observer_fn},
    outcome::{LocallyRefused, Outcome, OutcomeKind, Unsendable, classify_fn},
    queue::{End, Job, MemoryQueue, NewJob, Queue, Status, Worker},
    retry::{Backoff, Budget, HintLimit, Refusals, RetryConfig, RetryConfigBuilder},
};

#[tokio::test(start_paused = true)]
async fn a_job_is_done_once_and_its_result_is_kept() {
    let bench = Bench::new();
    let id = bench.put("payload").await;
    let calls = Calls::new();
    let seen = calls.clone();
    let worker = bench
        .worker()
        .result(|length: &usize| Some(Bytes::from(length.to_string())))
        .build(service_fn(move |job: Job| {
            seen.note(&job);
            async move { Ok::<_, BoxError>(job.payload.len()) }
        }))
        .unwrap();
    let worker = worker.spawn();
    let result = Some(Bytes::from_static(b"7"));
    assert_eq!(bench.end(id).await, Status::Succeeded { result });
    sleep(3600 * SECOND).await;
    assert_eq!(calls.all(), [(0, 1)]);
    assert_eq!(bench.events(), ["claimed", "succeeded"]);
    assert_eq!(worker.stop(SECOND).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_its_handler_has_ended_itself_is_done_and_not_lost() {
    let bench = Bench::new();
    let id = bench.put("payload").await;
    let queue = bench.queue.clone();
    let worker = bench.worker().build(service_fn(move |job: Job| {
        let queue = queue.clone();
        async move {
            let result = Some(Bytes::from_static(b"mine"));
            let done = vec![(job.claim(), End::Done { result })];
            assert_eq!(queue.engine().settle(done).await?, [Settled::Done]);
            Ok::<_, BoxError>(())
        }
    }));
    let _worker = worker.unwrap().spawn();
    let result = Some(Bytes::from_static(b"mine"));
    assert_eq!(bench.end(id).await, Status::Succeeded { result });
    sleep(SECOND).await;
    assert_eq!(bench.events(), ["claimed", "succeeded"]);
}

#[tokio::test(start_paused = true)]
async fn a_result_that_is_too_long_is_not_kept_and_the_job_is_done_all_the_same() {
    let bench = Bench::new();
    let id = bench.put("payload").await;
    let worker = bench
        .worker()
        .result(|(): &()| Some(Bytes::from(vec![0; (64 << 10) + 1])));
    let worker = worker
        .build(service_fn(|_| async { Ok::<_, BoxError>(()) }))
        .unwrap();
    let _worker = worker.spawn();
    assert_eq!(bench.end(id).await, Status::Succeeded { result: None });
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_tried_again_after_its_delay_and_dead_lettered_after_the_last() {
    let bench = Bench::new();
    let id = bench.put("payload").await;
    let calls = Calls::new();
    let seen = calls.clone();
    let worker = bench.worker().build(service_fn(move |job: Job| {
        seen.note(&job);
        // Whatever runs inside knows the stored number, and when its time is over.
        let number = Attempt::current().map(Attempt::number);
        assert_eq!(number, Some(job.attempt));
        assert!(Deadline::current().is_some());
        async move { Err::<(), _>(io::Error::other(format!("broke {}", job.attempt))) }
    }));
    let _worker = worker.unwrap().spawn();
    assert_eq!(bench.end(id).await, Status::Failed);
    assert_eq!(calls.all(), [(0, 1), (10, 2), (20, 3)]);

    let entry = bench.sink.only();
    assert_eq!(entry.id, id.entry_id());
    assert_eq!(entry.cause.reason, Reason::RetriesExhausted);
    assert_eq!(entry.cause.message.as_deref(), Some("broke 3"));
    assert_eq!(entry.history.attempts(), 3);
    assert_eq!(entry.direction, Direction::Inbound);
    assert_eq!(entry.body.bytes(), "payload");
    let first = entry.history.records()[0];
    assert_eq!(
        (first.started(), first.wait()),
        (Duration::ZERO, Some(10 * SECOND))
    );
    let span = entry
        .last_attempt_at
        .unwrap()
        .duration_since(entry.first_attempt_at.unwrap());
    assert_eq!(span.unwrap().as_secs(), 20);
    assert_eq!(
        bench.events(),
        [
            "claimed",
            "retrying",
            "claimed",
            "retrying",
            "claimed",
            "failed",
            "dead_lettered"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failed_attempt_and_the_reason_where_it_was_the_last() {
    let bench = Bench::new();
    let (poison, well) = (bench.put("poison").await, bench.put("well").await);
    let worker = bench.worker().build(service_fn(|job: Job| async move {
        assert!(job.payload != "poison", "on purpose");
        Ok::<_, BoxError>(())
    }));
    let _worker = worker.unwrap().spawn();
    assert_eq!(bench.end(poison).await, Status::Failed);
    assert_eq!(bench.status(well).await, Status::Succeeded { result: None });
    let entry = bench.sink.only();
    assert_eq!(entry.cause.reason, Reason::Panicked);
    assert_eq!(entry.history.attempts(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_panic_outside_of_the_future_is_no_worse() {
    let bench = Bench::new();
    let id = bench.put("payload").await;
    let worker = bench
        .worker()
        .classifier(classify_fn(|_: Result<&(), &BoxError>| -> Outcome {
            panic!("on purpose")
        }))
        .build(service_fn(|_: Job| async { Ok::<_, BoxError>(()) }));
    let _worker = worker.unwrap().spawn();
    assert_eq!(bench.end(id).await, Status::Failed);
    assert_eq!(bench.sink.only().cause.reason, Reason::Panicked);
}

#[tokio::test(start_paused = true)]
async fn a_hint_is_waited_for() {
    let bench = Bench::new();
    let id = bench.put("payload").await;
    let calls = Calls::new();
    let seen = calls.clone();
    let worker = bench
        .worker()
        .classifier(classify_fn(|result: Result<&(), &BoxError>| match result {
            Ok(()) => Outcome::success(),
            Err(_) => Outcome::throttled(Some(60 * SECOND)),
        }))
        .build(service_fn(move |job: Job| {
            let first = seen.note(&job) == 0;
            async move {
                if first {
                    Err(BoxError::from("busy"))
                } else {
                    Ok(())
                }
            }
        }));
    let _worker = worker.unwrap().spawn();
    assert_eq!(bench.end(id).await, Status::Succeeded { result: None });
    assert_eq!(calls.all(), [(0, 1), (60, 2)]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_sent_is_dead_lettered_at_once() {
    let bench = Bench::new();
    let id = bench.put("payload").await;
    let worker = bench.worker().build(service_fn(|_: Job| async {
        Err::<(), _>(Unsendable::because("no key"))
    }));
    let _worker = worker.unwrap().spawn();
    assert_eq!(bench.end(id).await, Status::Failed);
    let entry = bench.sink.only();
    assert_eq!(entry.cause.reason, Reason::Unsendable);
    assert_eq!(entry.cause.class.as_deref(), Some("unsendable"));
}

/// Three failures in a row open it for exactly 15 seconds.
fn three_in_a_row() -> BreakerConfig {
    let config = BreakerConfig::builder().consecutive_failures(3);
    let config = config.open_for(15 * SECOND).max_open_for(15 * SECOND);
    config.open_jitter(0.0).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_gives_the_job_back_and_counts_no_attempt() {
    let bench = Bench::new();
    let breakers = Breakers::new(three_in_a_row());
    for _ in 0..3 {
        breakers.admit("").unwrap().settle(Outcome::transient());
    }
    let id = bench.put("payload").await;
    let calls = Calls::new();
    let seen = calls.clone();
    let inner = CircuitBreakerLayer::sharing(breakers)
        .peer(tower_webhook::peer::OnePeer)
        .classifier(classify_fn(|_: Result<&(), &BoxError>| Outcome::success()))
        .layer(service_fn(move |job: Job| {
            seen.note(&job);
            async { Ok::<_, BoxError>(()) }
        }));
    let _worker = bench.worker().build(inner).unwrap().spawn();
    assert_eq!(bench.end(id).await, Status::Succeeded { result: None });
    let calls = calls.all();
    assert_eq!((calls.len(), calls[0].1), (1, 1));
    assert!(
        calls[0].0 >= 15,
        "it came before the circuit closed: {calls:?}"
    );
    assert!(bench.count("released") >= 1);
    assert_eq!(bench.attempts(id).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_circuit_that_stays_open_dead_letters_the_job_when_its_window_is_over() {
    let bench = Bench::new();
    let breakers = Breakers::new(three_in_a_row());
    breakers.of("").unwrap().force_open();
    let id = bench.put("payload").await;
    let inner = CircuitBreakerLayer::sharing(breakers)
        .peer(tower_webhook::peer::OnePeer)
        .classifier(classify_fn(|_: Result<&(), &BoxError>| Outcome::success()))
        .layer(service_fn(|_: Job| async { Ok::<_, BoxError>(()) }));
    let retry = retry().window(600 * SECOND).build().unwrap();
    let _worker = bench.worker().retry(retry).build(inner).unwrap().spawn();
    assert_eq!(bench.end(id).await, Status::Failed);
    let entry = bench.sink.only();
    assert_eq!(entry.cause.reason, Reason::CircuitOpen);
    assert_eq!(entry.history.attempts(), 0);
    assert!(entry.history.refusals() > 1);
    let span = entry
        .last_attempt_at
        .unwrap()
        .duration_since(entry.first_attempt_at.unwrap());
    assert!(span.unwrap() >= 500 * SECOND && span_below(&entry, 660 * SECOND));
}

fn span_below(entry: &tower_webhook::dead_letter::Entry, most: Duration) -> bool {
    let (first, last) = (
        entry.first_attempt_at.unwrap(),
        entry.last_attempt_at.unwrap(),
    );
    last.duration_since(first).unwrap() < most
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_is_not_to_be_waited_for_dead_letters_the_job() {
    let bench = Bench::new();
    let id = bench.put("payload").await;
    let retry = retry().refusals(Refusals::GiveUp).build().unwrap();
    let refuse = service_fn(|_: Job| async { Err::<(), _>(LocallyRefused::after(SECOND)) });
    let _worker = bench.worker().retry(retry).build(refuse).unwrap().spawn();
    assert_eq!(bench.end(id).await, Status::Failed);
    assert_eq!(bench.sink.only().cause.reason, Reason::Refused);
}

#[tokio::test(start_paused = true)]
async fn a_spent_budget_gives_the_retry_back_until_there_is_one() {
    let bench = Bench::new();
    let id = bench.put("payload").await;
    let calls = Calls::new();
    let seen = calls.clone();
    let budget = Budget::builder().share(0.0).floor(1).window(100 * SECOND);
    let budget = budget.build().unwrap();
    while let Some(permit) = budget.withdraw() {
        permit.spend();
    }
    let retry = retry().budget(budget).build().unwrap();
    let worker = bench
        .worker()
        .retry(retry)
        .build(service_fn(move |job: Job| {
            let first = seen.note(&job) == 0;
            async move {
                if first {
                    Err(BoxError::from("broke"))
                } else {
                    Ok(())
                }
            }
        }));
    let _worker = worker.unwrap().spawn();
    assert_eq!(bench.end(id).await, Status::Succeeded { result: None });
    let calls = calls.all();
    assert_eq!((calls.len(), calls[1].1), (2, 2));
    assert!(
        calls[1].0 >= 90,
        "it did not wait for the budget: {calls:?}"
    );
    assert!(bench.count("released") >= 1);
}

/// After a crash, everything that was under way would otherwise run again at the rate of the floor.
#[tokio::test(start_paused = true)]
async fn jobs_of_a_worker_that_is_gone_do_not_wait_for_the_budget() {
    let bench = Bench::new();
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(bench.put("payload").await);
    }
    let calls = Calls::new();
    let seen = calls.clone();
    let hangs = bench.worker().build(service_fn(move |job: Job| {
        seen.note(&job);
        pending::<Result<(), BoxError>>()
    }));
    let gone = tokio::spawn(hangs.unwrap().run(pending()));
    while calls.len() < 5 {
        sleep(SECOND / 10).await;
    }
    gone.abort();
    let budget = Budget::builder().share(0.0).floor(1).window(1000 * SECOND);
    let budget = budget.build().unwrap();
    while let Some(permit) = budget.withdraw() {
        permit.spend();
    }
    let began = Instant::now();
    let retry = retry().budget(budget).build().unwrap();
    let worker = bench
        .worker()
        .retry(retry)
        .build(service_fn(|_: Job| async { Ok::<_, BoxError>(()) }));
    let _worker = worker.unwrap().spawn();
    for id in ids {
        assert_eq!(bench.end(id).await, Status::Succeeded { result: None });
        assert_eq!(bench.attempts(id).await, 2);
    }
    assert!(began.elapsed() <= 2 * LEASE, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_takes_too_long_is_dropped_and_fails() {
    let bench = Bench::new();
    let id = bench.put("payload").await;
    let calls = Calls::new();
    let seen = calls.clone();
    let worker = bench.worker().attempt_timeout(60 * SECOND);
    let worker = worker.build(service_fn(move |job: Job| {
        seen.note(&job);
        std::future::pending::<Result<(), BoxError>>()
    }));
    let _worker = worker.unwrap().spawn();
    assert_eq!(bench.end(id).await, Status::Failed);
    assert_eq!(calls.all(), [(0, 1), (70, 2), (140, 3)]);
    let entry = bench.sink.only();
    assert_eq!(entry.cause.reason, Reason::RetriesExhausted);
    assert_eq!(entry.cause.class.as_deref(), Some("transient"));
}

#[tokio::test(start_paused = true)]
async fn a_retry_layer_inside_goes_on_counting_from_the_stored_attempt() {
    let bench = Bench::new();
    let id = bench.put("payload").await;
    let numbers = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&numbers);
    let once = RetryConfig::builder().attempts(1).build().unwrap();
    let judge = classify_fn(|_: Result<&(), &BoxError>| Outcome::transient());
    let inner = ServiceBuilder::new()
        .layer(RetryWithJitterLayer::new(once).classifier(judge))
        .service(service_fn(move |_: Job| {
            let number = Attempt::current().map(Attempt::number);
            seen.lock().unwrap().push(number.unwrap());
            async { Err::<(), BoxError>("broke".into()) }
        }));
    let _worker = bench.worker().build(inner).unwrap().spawn();
    assert_eq!(bench.end(id).await, Status::Failed);
    assert_eq!(*numbers.lock().unwrap(), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_verdict_of_cancelled_does_not_lose_the_job() {
    let bench = Bench::new();
    let id = bench.put("payload").await;
    let worker = bench
        .worker()
        .classifier(classify_fn(|_: Result<&(), &BoxError>| {
            Outcome::cancelled()
        }))
        .build(service_fn(|_: Job| async { Ok::<_, BoxError>(()) }));
    let _worker = worker.unwrap().spawn();
    assert_eq!(bench.end(id).await, Status::Failed);
    assert_eq!(bench.sink.only().history.attempts(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_finished_task_is_one_delivery_from_its_acceptance_on() {
    let bench = Bench::new();
    let metrics = DeliveryMetrics::new();
    let good = bench
        .put_in(NewJob::new("event", "good").target("peer"))
        .await;
    let bad = bench
        .put_in(NewJob::new("event", "bad").target("peer"))
        .await;
    let worker = bench
        .worker()
        .observe(metrics.clone())
        .build(service_fn(|job: Job| async move {
            if job.payload == "bad" {
                Err(BoxError::from("broke"))
            } else {
                Ok(())
            }
        }));
    let _worker = worker.unwrap().spawn();
    bench.end(good).await;
    bench.end(bad).await;
    let snapshot = metrics.snapshot();
    let total = snapshot.deliveries();
    assert_eq!(total.count(OutcomeKind::Success), 1);
    assert_eq!(total.count(OutcomeKind::Transient), 1);
}

#[tokio::test(start_paused = true)]
async fn observers_are_told_which_job_how_it_ended_and_of_its_delivery() {
    let bench = Bench::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&told);
    let key = IdempotencyKey::new("hooks", "evt_1").unwrap();
    let job = NewJob::new("event", "payload").target("peer");
    let id = bench.put_in(job.dedup_key(key)).await;
    let worker = bench
        .worker()
        .retry(retry().attempts(2).build().unwrap())
        .observe(observer_fn(move |event| {
            let text = match event {
                Event::JobBegan {
                    task,
                    kind,
                    peer,
                    attempt,
                } => format!(
                    "began {kind} {peer} {attempt} {}",
                    task.to_string() == id.to_string()
                ),
                Event::JobEnded {
                    attempt,
                    end,
                    elapsed,
                    dedup_key,
                    ..
                } => format!("{} {attempt} {elapsed:?} {dedup_key:?}", end.as_str()),
                Event::DeadLettered {
                    entry,
                    peer,
                    reason,
                    event_id: None,
                    fell_back: false,
                } => format!("{peer} {reason} {}", entry.to_string() == id.to_string()),
                Event::DeliveryEnded {
                    peer,
                    outcome,
                    elapsed,
                    attempts,
                    queued: true,
                } => format!("{peer} {} {elapsed:?} {attempts}", outcome.kind()),
                other => format!("{other:?}"),
            };
            seen.lock().unwrap().push(text);
        }))
        .build(service_fn(|_: Job| async {
            sleep(SECOND).await;
            Err::<(), BoxError>("broke".into())
        }));
    let _worker = worker.unwrap().spawn();
    assert_eq!(bench.end(id).await, Status::Failed);
    assert_eq!(
        *told.lock().unwrap(),
        [
            "began event peer 1 true",
            r#"retrying 1 1s Some(("hooks", "evt_1"))"#,
            "began event peer 2 true",
            r#"failed 2 1s Some(("hooks", "evt_1"))"#,
            "peer transient 12s 2",
            "peer retries_exhausted true",
            r#"dead_lettered 2 0ns Some(("hooks", "evt_1"))"#,
        ]
    );
}

/// Somebody sets the clock of the machine, ahead or back, while a job waits for its next attempt. The job has its
/// window, no less and no more.
#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_leaps_neither_ends_a_job_nor_keeps_it() {
    for ahead in [true, false] {
        let (steady, leaps) = (wall_clock(), Arc::new(AtomicU32::new(0)));
        let leapt = Arc::clone(&leaps);
        let bench = Bench::with_clock(WallClock::from_fn(move || {
            let by = 7_200 * SECOND * leapt.load(Ordering::Relaxed);
            let now = steady.now();
            if ahead { now + by } else { now - by }
        }));
        let id = bench.put("payload").await;
        let retry = retry().attempts(1_000).window(65 * SECOND).build().unwrap();
        let worker = bench.worker().retry(retry).build(service_fn(move |_: Job| {
            leaps.fetch_add(1, Ordering::Relaxed);
            async { Err::<(), BoxError>("broke".into()) }
        }));
        let _worker = worker.unwrap().spawn();
        assert_eq!(bench.end(id).await, Status::Failed);
        // At once, and then each ten seconds.
        assert_eq!(bench.attempts(id).await, 7, "ahead: {ahead}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_dead_letters_a_job_fails_in_the_open() {
    let bench = Bench::new();
    let id = bench.put("payload").await;
    let worker = Worker::builder(bench.queue.clone())
        .clock(bench.clock.clone())
        .retry(retry().build().unwrap())
        .build(service_fn(|_: Job| async {
            Err::<(), BoxError>("broke".into())
        }));
    let _worker = worker.unwrap().spawn();
    assert_eq!(bench.end(id).await, Status::Failed);
}

/// A result that the queue does not keep does not keep its job from being done.
#[tokio::test(start_paused = true)]
async fn a_result_that_the_queue_has_no_room_for_is_not_kept() {
    let bench = Bench::with_queue(wall_clock(), MemoryQueue::builder().max_results(10));
    let id = bench.put("payload").await;
    let worker = bench
        .worker()
        .result(|(): &()| Some(Bytes::from_static(b"eleven byte")));
    let well = service_fn(|_| async { Ok::<_, BoxError>(()) });
    let _worker = worker.build(well).unwrap().spawn();
    assert_eq!(bench.end(id).await, Status::Succeeded { result: None });
    assert_eq!(bench.count("trouble"), 1);
}

/// Workers for kinds of their own on one queue: each does its jobs, and leaves the others.
#[tokio::test(start_paused = true)]
async fn a_worker_leaves_the_kinds_of_others_to_them() {
    let bench = Bench::new();
    let (mine, others) = (Calls::new(), Calls::new());
    let worker = |kind: &str, calls: &Calls| {
        let calls = calls.clone();
        let builder = bench.worker().kinds([kind]);
        let worker = builder.build(service_fn(move |job: Job| {
            calls.note(&job);
            async { Ok::<_, BoxError>(()) }
        }));
        worker.unwrap().spawn()
    };
    let first = bench.put_in(NewJob::new("mail", "")).await;
    let unknown = bench.put_in(NewJob::new("fax", "")).await;
    let _mail = worker("mail", &mine);
    let _http = Worker::http(bench.queue.clone())
        .build(service_fn(|_: http::Request<BufferedBody>| async {
            Ok::<_, BoxError>(http::Response::new(BufferedBody::default()))
        }))
        .unwrap()
        .spawn();
    assert_eq!(bench.end(first).await, Status::Succeeded { result: None });
    sleep(3600 * SECOND).await;
    assert_eq!(bench.status(unknown).await, Status::Queued);
    assert_eq!(bench.attempts(unknown).await, 0);
    let _fax = worker("fax", &others);
    assert_eq!(bench.end(unknown).await, Status::Succeeded { result: None });
    assert_eq!((mine.len(), others.len()), (1, 1));
}

#[tokio::test]
async fn settings_that_make_no_sense_are_named() {
    let bench = Bench::new();
    let well = || service_fn(|_: Job| async { Ok::<_, BoxError>(()) });
    let setting = |worker: Result<Worker, InvalidConfig>| worker.unwrap_err().setting();
    assert_eq!(
        setting(bench.worker().concurrency(0).build(well())),
        "concurrency"
    );
    assert_eq!(
        setting(bench.worker().kinds([""; 0]).build(well())),
        "kinds"
    );
    assert_eq!(
        setting(bench.worker().lease(Duration::ZERO).build(well())),
        "lease"
    );
    assert_eq!(
        setting(bench.worker().lease(Duration::MAX).build(well())),
        "lease"
    );
    assert_eq!(
        setting(bench.worker().attempt_timeout(Duration::ZERO).build(well())),
        "attempt_timeout"
    );
    let more = retry().attempts(1_001).build().unwrap();
    assert_eq!(setting(bench.worker().retry(more).build(well())), "retry");
    // What the engine does not promise.
    let mut engine = Fake::new(MemoryQueue::builder());
    engine.promises.longest_delay = 300 * SECOND;
    let on = |engine: &Fake, retry: RetryConfigBuilder| {
        let worker = Worker::builder(Queue::new(engine.clone()));
        worker.retry(retry.build().unwrap())
    };
    assert!(on(&engine, RetryConfig::builder()).build(well()).is_ok());
    let slow =
        || RetryConfig::builder().backoff(Backoff::table([SECOND, 301 * SECOND]).build().unwrap());
    assert!(on(&engine, slow().attempts(2)).build(well()).is_ok());
    assert_eq!(setting(on(&engine, slow()).build(well())), "retry");
    let hints = RetryConfig::builder().hint_limit(HintLimit::GiveUp(301 * SECOND));
    assert_eq!(setting(on(&engine, hints).build(well())), "retry");
    let once = RetryConfig::builder().attempts(1);
    engine.promises.longest_delay = Duration::ZERO;
    assert!(on(&engine, once).build(well()).is_ok());
    engine.promises = bench.queue.engine().promises();
    engine.promises.max_result = 0;
    let results = Worker::builder(Queue::new(engine)).result(|(): &()| None);
    assert_eq!(setting(results.build(well())), "result");
    assert!(
        bench
            .worker()
            .attempt_timeout(Duration::MAX)
            .build(well())
            .is_ok()
    );
}
