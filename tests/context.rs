//! What the layers of one call share: attempt, deadline, the instants and the verdict.
#![cfg(feature = "full")]
#![allow(clippy::expect_used, clippy::unwrap_used)]

use http::{Request, Response};
use std::{
    convert::Infallible,
    future::{Ready, pending, ready},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_webhook::{
    BoxError, CircuitBreakerLayer, DeadLetterLayer, DeadlineLayer, DeliveryMetricsLayer,
    FailoverLayer, FallbackLayer, RetryWithJitterLayer,
    attempt::Attempt,
    body::BufferedBody,
    circuit_breaker::BreakerConfig,
    context::{CallContext, JudgedInside},
    dead_letter::{DeadLetters, MemoryDeadLetters, describe_fn},
    deadline::{Deadline, DeadlineExceeded},
    fallback::Failure,
    observe::{Event, Observers, observer_fn},
    outcome::{Classify, MakeClassifier, Outcome, OutcomeKind, classify_fn},
    peer::OnePeer,
    retry::{CloneExchange, RetryConfig},
    stack,
};

type Answer = Response<BufferedBody>;

const SECOND: Duration = Duration::from_secs(1);

fn answer(status: u16) -> Result<Answer, BoxError> {
    Ok(Response::builder()
        .status(status)
        .body(BufferedBody::from(""))?)
}

fn request() -> Request<BufferedBody> {
    let builder = Request::post("https://peer.test/hooks").header("webhook-id", "msg_1");
    builder.body(BufferedBody::from("{}")).unwrap()
}

/// Counts how often requests are read and results judged.
#[derive(Clone, Default)]
struct Counting {
    read: Arc<AtomicU32>,
    judged: Arc<AtomicU32>,
}

impl Counting {
    fn counts(&self) -> (u32, u32) {
        (self.read.load(Relaxed), self.judged.load(Relaxed))
    }
}

impl<Req> MakeClassifier<Req> for Counting {
    type Classifier = Self;

    fn make_classifier(&self, _: &Req) -> Self {
        self.read.fetch_add(1, Relaxed);
        self.clone()
    }
}

impl Classify<Answer, BoxError> for Counting {
    fn classify(self, result: Result<&Answer, &BoxError>) -> Outcome {
        self.judged.fetch_add(1, Relaxed);
        match result {
            Ok(res) if res.status().is_success() => Outcome::success(),
            Ok(res) if res.status() == 404 => Outcome::permanent().with_code(404),
            Ok(res) => Outcome::transient().with_code(res.status().as_u16()),
            Err(error) => Outcome::of_error(&**error),
        }
    }
}

type Ended = Arc<Mutex<Vec<(&'static str, Outcome, Duration)>>>;

/// The outcomes of attempts and deliveries, in the order in which they ended.
fn outcomes() -> (Observers, Ended) {
    let seen = Ended::default();
    let told = Arc::clone(&seen);
    let observers = Observers::new(observer_fn(move |event| {
        let ended = match *event {
            Event::AttemptEnded {
                outcome, elapsed, ..
            } => ("attempt", outcome, elapsed),
            Event::DeliveryEnded {
                outcome, elapsed, ..
            } => ("delivery", outcome, elapsed),
            _ => return,
        };
        told.lock().unwrap().push(ended);
    }));
    (observers, seen)
}

#[tokio::test]
async fn outside_of_any_call_it_is_empty() {
    assert_eq!(CallContext::current(), CallContext::default());
    assert_eq!(Attempt::current(), None);
    assert_eq!(Deadline::current(), None);
    // Without a layer that has judged, an answer is a success, and an error judged by what it is.
    let judged = JudgedInside.classify(Ok::<_, &BoxError>(&()));
    assert_eq!(judged, Outcome::success());
    let error = BoxError::from("reset");
    let judged = JudgedInside.classify(Err::<&(), _>(&error));
    assert_eq!(judged, Outcome::transient().not_repeatable());
}

#[tokio::test(start_paused = true)]
async fn a_task_that_a_service_spawns_has_the_context_only_if_it_is_carried() {
    for carried in [true, false] {
        let peer = service_fn(move |_: Request<BufferedBody>| async move {
            let read = async { CallContext::current() };
            let inside = if carried {
                tokio::spawn(CallContext::current().carry(read)).await?
            } else {
                tokio::spawn(read).await?
            };
            let known = (inside.attempt(), inside.deadline().is_some());
            let expected = if carried {
                (Attempt::current(), true)
            } else {
                (None, false)
            };
            assert_eq!(known, expected);
            let second = Attempt::current() == Some(Attempt::numbered(2));
            answer(if second { 200 } else { 503 })
        });
        let deliver = stack::deliver().build().unwrap();
        let res = deliver.layer(peer).oneshot(request()).await.unwrap();
        assert_eq!(res.status(), 200);
    }
    assert_eq!(CallContext::current(), CallContext::default());
}

#[tokio::test(start_paused = true)]
async fn a_spawned_task_gives_up_at_the_deadline_of_the_call_that_spawned_it() {
    let hangs = service_fn(|()| pending::<Result<(), BoxError>>());
    let inner = RetryWithJitterLayer::new(RetryConfig::default())
        .classifier(classify_fn(|_: Result<&(), &BoxError>| {
            Outcome::transient()
        }))
        .layer(DeadlineLayer::new(60 * SECOND).unwrap().layer(hangs));
    let spawns = service_fn(move |()| {
        let work = CallContext::current().carry(inner.clone().oneshot(()));
        async move { tokio::spawn(work).await? }
    });
    let outer = DeadlineLayer::new(5 * SECOND).unwrap().layer(spawns);
    let began = tokio::time::Instant::now();
    outer.oneshot(()).await.unwrap_err();
    assert_eq!(began.elapsed(), 5 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_stack_reads_each_request_and_judges_each_result_once() {
    for (answers, status, made) in [
        (vec![200], 200, 1),
        (vec![503, 200], 200, 2),
        (vec![503, 502, 500], 500, 3),
        (vec![404], 404, 1),
    ] {
        let counting = Counting::default();
        let (observers, seen) = outcomes();
        let entries = MemoryDeadLetters::default();
        let asked = Arc::new(AtomicU32::new(0));
        let statuses = answers.clone();
        let peer = service_fn(move |_: Request<BufferedBody>| {
            let nth = asked.fetch_add(1, Relaxed) as usize;
            let status = statuses[nth];
            async move { answer(status) }
        });
        let deliver = stack::deliver()
            .classifier(counting.clone())
            .failover(FailoverLayer::fallbacks::<&str>([]).build().unwrap())
            .dead_letters(DeadLetters::new(entries.clone()))
            .observe(observers)
            .build()
            .unwrap();
        let breakers = deliver.breakers().clone();
        let res = deliver.layer(peer).oneshot(request()).await.unwrap();
        assert_eq!(res.status(), status);
        assert_eq!(counting.counts(), (made, made), "{answers:?}");

        // All layers say the same of it.
        let seen = seen.lock().unwrap();
        let (attempts, delivery) = seen.split_at(made as usize);
        assert!(attempts.iter().all(|(what, ..)| *what == "attempt"));
        let [("delivery", last, _)] = delivery else {
            panic!("{delivery:?}")
        };
        assert_eq!(*last, attempts.last().unwrap().1);
        let totals = breakers.totals();
        let judged = (totals.successes, totals.failures);
        let failed = answers.iter().filter(|status| **status >= 500).count() as u64;
        assert_eq!(judged, (u64::from(made) - failed, failed));
        assert_eq!(entries.len(), usize::from(status != 200));
    }
}

#[tokio::test(start_paused = true)]
async fn failover_judges_by_the_classifier_of_the_stack() {
    let counting = Counting::default();
    let peer = service_fn(|req: Request<BufferedBody>| async move {
        let down = req.uri().host() == Some("peer.test");
        answer(if down { 503 } else { 200 })
    });
    let failover = FailoverLayer::fallbacks(["https://backup.test/hooks"]);
    let deliver = stack::deliver()
        .classifier(counting.clone())
        .failover(failover.build().unwrap())
        .build()
        .unwrap();
    let res = deliver.layer(peer).oneshot(request()).await.unwrap();
    assert_eq!(res.status(), 200);
    assert_eq!(counting.counts(), (2, 2));
}

const MILLI: Duration = Duration::from_millis(1);

/// Work that blocks its thread: the paused clock goes on before it returns.
fn works_for(time: Duration) {
    // The clock moves at the first poll.
    let _ = task::spawn(tokio::time::advance(time)).poll();
}

/// Answers 200 after this time.
fn answers_after(
    time: Duration,
) -> impl Service<Request<BufferedBody>, Response = Answer, Error = BoxError, Future: Send> + Clone
{
    service_fn(move |_: Request<BufferedBody>| async move {
        tokio::time::sleep(time).await;
        answer(200)
    })
}

/// The end of an attempt and that of its delivery are one reading of the clock, and each begins after its observers.
#[tokio::test(start_paused = true)]
async fn an_observer_that_blocks_takes_no_time_of_what_it_hears_of() {
    let blocks = observer_fn(|event| {
        if let Event::DeliveryBegan { .. }
        | Event::AttemptBegan { .. }
        | Event::AttemptEnded { .. } = event
        {
            works_for(80 * MILLI);
        }
    });
    let (observers, seen) = outcomes();
    let deliver = stack::deliver()
        .observe(blocks)
        .observe(observers)
        .attempt_timeout(100 * MILLI)
        .build()
        .unwrap();
    let client = deliver.layer(answers_after(60 * MILLI));
    client.oneshot(request()).await.unwrap();
    // The delivery hears of the begin of its attempt, and ends as its attempt does.
    let well = Outcome::success().with_code(200);
    assert_eq!(
        *seen.lock().unwrap(),
        [
            ("attempt", well, 60 * MILLI),
            ("delivery", well, 140 * MILLI)
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn in_an_order_of_ones_own_each_layer_begins_when_it_is_called() {
    let (observers, seen) = outcomes();
    let limited = DeadlineLayer::new(50 * MILLI)
        .unwrap()
        .layer(answers_after(40 * MILLI));
    let measured = DeliveryMetricsLayer::attempts()
        .observe(observers.clone())
        .layer(limited);
    // A layer that works for a while before it calls the next one.
    let works_first = service_fn(move |req| {
        works_for(80 * MILLI);
        measured.clone().call(req)
    });
    let service = DeliveryMetricsLayer::deliveries()
        .observe(observers)
        .layer(works_first);
    service.oneshot(request()).await.unwrap();
    let well = Outcome::success().with_code(200);
    assert_eq!(
        *seen.lock().unwrap(),
        [
            ("attempt", well, 40 * MILLI),
            ("delivery", well, 120 * MILLI)
        ]
    );
}

#[tokio::test]
async fn a_verdict_ends_with_the_call_it_belongs_to() {
    let failing = service_fn(|_: Request<BufferedBody>| async { answer(503) });
    let other = CircuitBreakerLayer::new(BreakerConfig::default()).layer(failing);
    other.oneshot(request()).await.unwrap();
    // On the same thread, outside of that call:
    let judged = JudgedInside.classify(Ok::<_, &BoxError>(&answer(200).unwrap()));
    assert_eq!(judged, Outcome::success());
    let well = service_fn(|_: Request<BufferedBody>| async { answer(200) });
    let fallback = FallbackLayer::new(|_: &Failure<'_, Answer, BoxError>| answer(299).ok());
    let service = fallback.classifier(JudgedInside).layer(well);
    let res = service.oneshot(request()).await.unwrap();
    assert_eq!(res.status(), 200, "a good answer is not replaced");
}

#[tokio::test]
async fn a_fallback_that_answers_is_a_success_to_the_layers_around_it() {
    let (observers, seen) = outcomes();
    let entries = MemoryDeadLetters::default();
    let letters = DeadLetterLayer::new(DeadLetters::new(entries.clone()));
    let service = ServiceBuilder::new()
        .layer(
            DeliveryMetricsLayer::deliveries()
                .observe(observers)
                .classifier(JudgedInside),
        )
        .layer(letters.classifier(JudgedInside))
        .layer(FallbackLayer::new(|_: &Failure<'_, Answer, BoxError>| {
            answer(200).ok()
        }))
        .layer(CircuitBreakerLayer::new(BreakerConfig::default()))
        .service(service_fn(|_: Request<BufferedBody>| async { answer(503) }));
    assert_eq!(service.oneshot(request()).await.unwrap().status(), 200);
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0].1.kind(), OutcomeKind::Success);
    assert_eq!(entries.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_context_that_is_carried_into_a_nearer_deadline_keeps_the_nearer_one() {
    let far = Deadline::at(tokio::time::Instant::now() + 60 * SECOND);
    let context = far.scope(CallContext::current);
    let near = DeadlineLayer::new(SECOND).unwrap();
    let service = near.layer(service_fn(move |()| {
        context.carry(async { Ok::<_, BoxError>(Deadline::current()) })
    }));
    let left = service.oneshot(()).await.unwrap().unwrap();
    assert_eq!(left.left(tokio::time::Instant::now()), SECOND);
}

#[test]
fn a_stack_whose_classifier_judges_nothing_is_refused() {
    let refused = stack::deliver().classifier(JudgedInside).build();
    let error = refused.map(drop).unwrap_err();
    assert!(error.to_string().contains("classifier"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_layer_outside_that_waits_after_the_result_counts_that_time() {
    let (observers, seen) = outcomes();
    let inner = DeliveryMetricsLayer::attempts()
        .observe(observers.clone())
        .layer(answers_after(MILLI));
    let slow_to_return = service_fn(move |req: Request<BufferedBody>| {
        let call = inner.clone().oneshot(req);
        async move {
            let result = call.await;
            works_for(5 * MILLI);
            result
        }
    });
    let client = DeliveryMetricsLayer::deliveries()
        .observe(observers)
        .layer(slow_to_return);
    client.oneshot(request()).await.unwrap();
    let times: Vec<_> = seen.lock().unwrap().iter().map(|seen| seen.2).collect();
    assert_eq!(times, [MILLI, 6 * MILLI]);
}

#[tokio::test(start_paused = true)]
async fn the_verdict_of_a_call_inside_the_service_is_not_that_of_its_answer() {
    let failing = service_fn(|_: Request<BufferedBody>| async { answer(410) });
    let asks = stack::deliver().build().unwrap().layer(failing);
    // A handler that asks somebody else, fails there, and answers well.
    let handler = service_fn(move |_: Request<BufferedBody>| {
        let asked = asks.clone().oneshot(request());
        async move {
            assert_eq!(asked.await?.status(), 410);
            answer(200)
        }
    });
    let (observers, seen) = outcomes();
    let deliver = stack::deliver().observe(observers).build().unwrap();
    deliver.layer(handler).oneshot(request()).await.unwrap();
    let seen = seen.lock().unwrap();
    assert!(
        seen.iter()
            .all(|(_, outcome, _)| *outcome == Outcome::success().with_code(200)),
        "{seen:?}"
    );
}

/// An observer may do what it likes, even call another stack on this thread.
#[tokio::test(start_paused = true)]
async fn the_verdict_of_a_call_inside_an_observer_is_not_that_of_the_call_it_hears_of() {
    let failing = service_fn(|_: Request<BufferedBody>| async { answer(410) });
    let other = stack::deliver().build().unwrap().layer(failing);
    let meddles = observer_fn(move |event| {
        if matches!(
            event,
            Event::AttemptEnded { .. } | Event::Retrying { .. } | Event::GaveUp { .. }
        ) {
            let mut call = task::spawn(other.clone().oneshot(request()));
            assert_eq!(assert_ready!(call.poll()).unwrap().status(), 410);
        }
    });
    let (observers, seen) = outcomes();
    let deliver = stack::deliver()
        .observe(meddles)
        .observe(observers)
        .build()
        .unwrap();
    let peer = service_fn(|_: Request<BufferedBody>| async { answer(503) });
    deliver.layer(peer).oneshot(request()).await.unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 4);
    assert!(
        seen.iter()
            .all(|(_, outcome, _)| outcome.code() == Some(503)),
        "{seen:?}"
    );
}

/// Answers 503 once, and is not ready again after that.
#[derive(Clone, Default)]
struct ReadyOnce {
    called: Arc<AtomicU32>,
}

impl Service<Request<BufferedBody>> for ReadyOnce {
    type Response = Answer;
    type Error = BoxError;
    type Future = Ready<Result<Answer, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self.called.load(Relaxed) {
            0 => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        }
    }

    fn call(&mut self, _: Request<BufferedBody>) -> Self::Future {
        self.called.fetch_add(1, Relaxed);
        ready(answer(503))
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_ends_a_wait_is_judged_by_itself_and_not_by_the_attempt_before() {
    let (observers, seen) = outcomes();
    let entries = MemoryDeadLetters::default();
    let deliver = stack::deliver()
        .deadline(5 * SECOND)
        .dead_letters(DeadLetters::new(entries.clone()))
        .observe(observers)
        .build()
        .unwrap();
    let client = deliver.layer(ReadyOnce::default());
    let error = client.oneshot(request()).await.unwrap_err();
    assert!(error.is::<DeadlineExceeded>(), "{error}");
    let seen = seen.lock().unwrap();
    let codes: Vec<_> = seen
        .iter()
        .map(|(what, outcome, _)| (*what, outcome.kind(), outcome.code()))
        .collect();
    assert_eq!(
        codes,
        [
            ("attempt", OutcomeKind::Throttled, Some(503)),
            ("delivery", OutcomeKind::Transient, None)
        ]
    );
    assert_eq!(entries.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_is_a_refusal_to_every_layer() {
    let (observers, seen) = outcomes();
    let entries = MemoryDeadLetters::default();
    let deliver = stack::deliver()
        .dead_letters(DeadLetters::new(entries.clone()))
        .observe(observers)
        .build()
        .unwrap();
    deliver.breakers().of("peer.test").unwrap().force_open();
    let peer = service_fn(|_: Request<BufferedBody>| async {
        unreachable!("it is not called") as Result<Answer, BoxError>
    });
    deliver.layer(peer).oneshot(request()).await.unwrap_err();
    let seen = seen.lock().unwrap();
    let [("delivery", outcome, _)] = seen.as_slice() else {
        panic!("{seen:?}")
    };
    assert_eq!(outcome.kind(), OutcomeKind::Refused);
    assert_eq!(entries.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stack_of_ones_own_names_its_classifier_once_too() {
    #[derive(Clone)]
    struct Job;

    let judged = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&judged);
    let judge = classify_fn(move |result: Result<&(), &BoxError>| {
        count.fetch_add(1, Relaxed);
        result.map_or(Outcome::transient(), |()| Outcome::success())
    });
    let entries = MemoryDeadLetters::default();
    let layer = DeadLetterLayer::new(DeadLetters::new(entries.clone()));
    let retry = RetryWithJitterLayer::new(RetryConfig::default()).exchange(CloneExchange);
    let service = ServiceBuilder::new()
        .layer(
            layer
                .classifier(JudgedInside)
                .peer(OnePeer)
                .describe(describe_fn(|_: &Job, entry| entry.kind = "job".to_owned())),
        )
        .layer(retry.classifier(judge))
        .service(service_fn(|_: Job| async {
            Err::<(), _>(BoxError::from("broken"))
        }));
    service.oneshot(Job).await.unwrap_err();
    assert_eq!(judged.load(Relaxed), 3, "once for each attempt");
    assert_eq!(entries.len(), 1);
}

#[test]
fn a_context_that_was_entered_is_left_also_by_a_future_that_is_dropped() {
    let context = Attempt::numbered(3).scope(CallContext::current);
    let mut hangs = task::spawn(context.carry(async {
        assert_eq!(CallContext::current().attempt(), Some(Attempt::numbered(3)));
        pending::<Result<(), Infallible>>().await
    }));
    assert_pending!(hangs.poll());
    assert_eq!(CallContext::current(), CallContext::default());
    drop(hangs);
    assert_eq!(CallContext::current(), CallContext::default());
}
