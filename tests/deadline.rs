//! What the time limits promise, by a paused clock.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::needless_pass_by_value
)]

use http::{HeaderName, Request, Response};
use std::{
    convert::Infallible,
    future::{Future, pending, ready},
    panic,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, advance, sleep};
use tokio_test::{assert_pending, assert_ready, assert_ready_ok, task};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_test::{assert_request_eq, mock};
use tower_webhook::{
    BoxError,
    attempt::Attempt,
    deadline::{
        AttemptTimeout, AttemptTimeoutLayer, Deadline, DeadlineExceeded, DeadlineLayer,
        PropagateDeadlineLayer,
    },
    observe::{Event, observer_fn},
    outcome::{Outcome, OutcomeKind},
};

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

fn total(time: Duration) -> DeadlineLayer {
    DeadlineLayer::new(time).unwrap()
}

fn each(time: Duration) -> AttemptTimeoutLayer {
    AttemptTimeoutLayer::new(time).unwrap()
}

fn exceeded(error: &BoxError) -> DeadlineExceeded {
    *error.downcast_ref().expect("a deadline")
}

fn timed_out(error: &BoxError) -> AttemptTimeout {
    *error.downcast_ref().expect("a timeout")
}

fn kind(error: &BoxError) -> OutcomeKind {
    Outcome::of_error(&**error).kind()
}

async fn hang<T>(_: T) -> Result<(), BoxError> {
    pending().await
}

/// Ready without being polled twice, and counts its calls.
fn counting(
    calls: &Arc<AtomicUsize>,
) -> impl Service<(), Response = (), Error = Infallible> + Clone + use<> {
    let calls = calls.clone();
    service_fn(move |()| {
        calls.fetch_add(1, Ordering::SeqCst);
        ready(Ok(()))
    })
}

// The deadline of a call

#[tokio::test(start_paused = true)]
async fn a_call_is_given_up_at_its_deadline_and_not_before() {
    let (mut service, mut peer) = mock::spawn_layer::<_, (), _>(total(SECOND));
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call("a"));
    assert_pending!(call.poll());
    let _unanswered = assert_request_eq!(peer, "a");
    advance(MILLI * 999).await;
    assert_pending!(call.poll());
    advance(MILLI).await;
    assert!(call.is_woken());
    let error = assert_ready!(call.poll()).unwrap_err();
    assert_eq!(exceeded(&error).allowed(), Some(SECOND));
    assert!(exceeded(&error).was_sent());
    assert_eq!(error.to_string(), "no response within its deadline of 1s");
    assert_eq!(kind(&error), OutcomeKind::Transient);
}

#[tokio::test(start_paused = true)]
async fn an_answer_and_an_error_in_time_pass_unchanged() {
    let (mut service, mut peer) = mock::spawn_layer(total(SECOND));
    for answer in [Ok("fine"), Err("broken")] {
        assert_ready_ok!(service.poll_ready());
        let mut call = task::spawn(service.call("a"));
        assert_pending!(call.poll());
        let responder = assert_request_eq!(peer, "a");
        match answer {
            Ok(answer) => responder.send_response(answer),
            Err(error) => responder.send_error(error),
        }
        let result = assert_ready!(call.poll()).map_err(|error: BoxError| error.to_string());
        assert_eq!(result, answer.map_err(str::to_owned));
    }
}

#[test]
fn a_call_that_is_ready_at_once_needs_no_runtime_and_no_timer() {
    let calls = Arc::new(AtomicUsize::new(0));
    let mut service = ServiceBuilder::new()
        .layer(total(SECOND))
        .layer(each(SECOND))
        .service(counting(&calls));
    // A timer would panic here.
    let mut call = task::spawn(service.call(()));
    assert_ready_ok!(call.poll());
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_inside_reads_the_deadline_when_called_and_when_polled() {
    let at = Instant::now() + SECOND;
    let service = total(SECOND).layer(service_fn(move |()| {
        assert_eq!(Deadline::current().map(Deadline::instant), Some(at));
        async move {
            assert_eq!(Deadline::current().map(Deadline::instant), Some(at));
            sleep(SECOND / 2).await;
            assert_eq!(Deadline::current().map(Deadline::instant), Some(at));
            Ok::<_, Infallible>(())
        }
    }));
    service.oneshot(()).await.unwrap();
    assert_eq!(Deadline::current(), None);
}

#[tokio::test(start_paused = true)]
async fn the_earlier_of_two_deadlines_wins_whichever_is_outside() {
    for (outer, inner) in [(1, 5), (5, 1)] {
        let start = Instant::now();
        let service = ServiceBuilder::new()
            .layer(total(SECOND * outer))
            .layer(total(SECOND * inner))
            .service_fn(hang);
        let error = service.oneshot(()).await.unwrap_err();
        assert_eq!(exceeded(&error).allowed(), Some(SECOND));
        assert_eq!(start.elapsed(), SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_a_scope_outside_holds() {
    let deadline = Deadline::at(Instant::now() + SECOND);
    for layered in [10, 3600] {
        let start = Instant::now();
        let call = deadline.scope(|| {
            total(SECOND * layered)
                .layer(service_fn(hang::<()>))
                .call(())
        });
        let error = call.await.unwrap_err();
        assert!(start.elapsed() <= SECOND);
        assert_eq!(
            kind(&error),
            if layered == 10 {
                OutcomeKind::Transient
            } else {
                OutcomeKind::Refused
            }
        );
    }
}

#[tokio::test(start_paused = true)]
async fn when_nothing_is_left_nothing_is_sent() {
    let calls = Arc::new(AtomicUsize::new(0));
    let passed = Deadline::at(Instant::now());
    let mut results = vec![
        passed.scope(|| task::spawn(total(SECOND).layer(counting(&calls)).call(())).poll()),
        passed.scope(|| task::spawn(each(SECOND).layer(counting(&calls)).call(())).poll()),
    ];
    let from_fn = DeadlineLayer::from_fn(|(): &()| Some(Duration::ZERO));
    results.push(task::spawn(from_fn.layer(counting(&calls)).call(())).poll());
    for result in results {
        let error = assert_ready!(result).unwrap_err();
        assert_eq!(exceeded(&error), DeadlineExceeded::before_sending());
        assert!(!exceeded(&error).was_sent());
        assert_eq!(kind(&error), OutcomeKind::Refused);
    }
    assert_eq!(calls.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn each_request_has_its_own_time() {
    let layer = DeadlineLayer::from_fn(|seconds: &u64| Some(Duration::from_secs(*seconds)));
    for seconds in [1, 7, 3600] {
        let start = Instant::now();
        let error = layer
            .layer(service_fn(hang))
            .oneshot(seconds)
            .await
            .unwrap_err();
        assert_eq!(
            exceeded(&error).allowed(),
            Some(Duration::from_secs(seconds))
        );
        assert_eq!(start.elapsed().as_secs(), seconds);
    }
}

#[tokio::test(start_paused = true)]
async fn no_time_is_too_long() {
    let none = DeadlineLayer::from_fn(|(): &()| None);
    let mut hanging = [
        task::spawn(none.layer(service_fn(hang::<()>)).boxed_clone().call(())),
        task::spawn(
            total(Duration::MAX)
                .layer(service_fn(hang::<()>))
                .boxed_clone()
                .call(()),
        ),
        task::spawn(
            total(Duration::from_secs(u64::MAX / 4))
                .layer(service_fn(hang::<()>))
                .boxed_clone()
                .call(()),
        ),
        task::spawn(
            total(Duration::from_secs(1 << 40))
                .layer(service_fn(hang::<()>))
                .boxed_clone()
                .call(()),
        ),
        task::spawn(
            each(Duration::MAX)
                .layer(service_fn(hang::<()>))
                .boxed_clone()
                .call(()),
        ),
    ];
    for call in &mut hanging {
        assert_pending!(call.poll());
    }
    advance(Duration::from_secs(3600 * 24 * 365)).await;
    for call in &mut hanging {
        assert_pending!(call.poll());
    }
}

#[tokio::test(start_paused = true)]
async fn an_endless_attempt_still_ends_with_the_deadline() {
    let service = ServiceBuilder::new()
        .layer(total(SECOND))
        .layer(each(Duration::MAX))
        .service_fn(hang);
    let error = service.oneshot(()).await.unwrap_err();
    assert!(timed_out(&error).by_deadline());
    assert_eq!(timed_out(&error).after(), SECOND);
}

#[test]
fn zero_cannot_be_built() {
    let header = HeaderName::from_static("x-timeout-ms");
    assert_eq!(
        DeadlineLayer::new(Duration::ZERO).unwrap_err().setting(),
        "deadline"
    );
    assert_eq!(
        AttemptTimeoutLayer::new(Duration::ZERO)
            .unwrap_err()
            .setting(),
        "timeout"
    );
    assert_eq!(
        DeadlineLayer::from_grpc_timeout(Duration::ZERO)
            .unwrap_err()
            .setting(),
        "max"
    );
    assert_eq!(
        DeadlineLayer::from_header(header, Duration::ZERO)
            .unwrap_err()
            .setting(),
        "max"
    );
}

// The same instant

#[tokio::test(start_paused = true)]
async fn an_answer_at_the_very_instant_of_the_deadline_is_heard() {
    let service = ServiceBuilder::new()
        .layer(total(SECOND))
        .layer(each(SECOND))
        .service_fn(|()| async {
            sleep(SECOND).await;
            Ok::<_, Infallible>("in time")
        });
    assert_eq!(service.oneshot(()).await.unwrap(), "in time");
}

#[tokio::test(start_paused = true)]
async fn the_attempt_speaks_before_the_deadline_that_cuts_it() {
    let start = Instant::now();
    let service = ServiceBuilder::new()
        .layer(total(SECOND))
        .layer(each(SECOND * 5))
        .service_fn(hang);
    let error = service.oneshot(()).await.unwrap_err();
    let timeout = timed_out(&error);
    assert_eq!(start.elapsed(), SECOND);
    assert_eq!((timeout.after(), timeout.attempt()), (SECOND, 1));
    assert!(timeout.by_deadline());
    assert_eq!(
        error.to_string(),
        "attempt 1 timed out after 1s, cut short by the deadline"
    );
    assert_eq!(kind(&error), OutcomeKind::Transient);
}

/// Never ready, and takes all of tokio's cooperative budget at each poll, as a busy connection may.
struct Greedy;

impl Future for Greedy {
    type Output = Result<(), Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        while tokio::task::coop::has_budget_remaining() {
            let consumed = std::pin::pin!(tokio::task::coop::consume_budget());
            if consumed.poll(cx).is_pending() {
                break;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[tokio::test]
async fn a_call_that_uses_up_the_budget_of_its_task_is_given_up_all_the_same() {
    let service = each(MILLI * 20).layer(service_fn(|()| Greedy));
    let call = tokio::spawn(service.oneshot(()));
    let ended = tokio::time::timeout(SECOND * 20, call).await;
    assert!(!timed_out(&ended.expect("it ends").unwrap().unwrap_err()).by_deadline());
}

// One attempt

#[tokio::test(start_paused = true)]
async fn an_attempt_is_given_up_and_says_which_it_was() {
    let (mut service, mut peer) = mock::spawn_layer::<_, (), _>(each(SECOND));
    assert_ready_ok!(service.poll_ready());
    let third = Attempt::first().next().next();
    let mut call = task::spawn(third.scope(|| service.call("a")));
    assert_pending!(call.poll());
    let _unanswered = assert_request_eq!(peer, "a");
    advance(MILLI * 999).await;
    assert_pending!(call.poll());
    advance(MILLI).await;
    let error = assert_ready!(call.poll()).unwrap_err();
    let timeout = timed_out(&error);
    assert_eq!((timeout.after(), timeout.attempt()), (SECOND, 3));
    assert!(!timeout.by_deadline());
    assert_eq!(error.to_string(), "attempt 3 timed out after 1s");
}

#[tokio::test(start_paused = true)]
async fn each_attempt_has_the_time_of_its_number() {
    let layer = AttemptTimeoutLayer::by_attempt(|attempt| SECOND * attempt);
    let mut attempt = Attempt::first();
    let mut service = layer.layer(service_fn(hang::<()>));
    for number in 1..=4 {
        let start = Instant::now();
        let error = attempt.scope(|| service.call(())).await.unwrap_err();
        assert_eq!(timed_out(&error).attempt(), number);
        assert_eq!(start.elapsed(), SECOND * number);
        attempt = attempt.next();
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_without_any_time_takes_what_is_there_at_once() {
    let layer = AttemptTimeoutLayer::by_attempt(|_| Duration::ZERO);
    let calls = Arc::new(AtomicUsize::new(0));
    assert!(layer.layer(counting(&calls)).oneshot(()).await.is_ok());
    let mut call = task::spawn(layer.layer(service_fn(hang::<()>)).call(()));
    let error = assert_ready!(call.poll()).unwrap_err();
    assert_eq!(timed_out(&error).after(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn inside_an_attempt_its_own_end_is_the_deadline() {
    let service = ServiceBuilder::new()
        .layer(total(SECOND * 9))
        .layer(each(SECOND))
        .service_fn(|()| {
            let left = Deadline::current().map(|deadline| deadline.left(Instant::now()));
            async move { Ok::<_, Infallible>(left) }
        });
    assert_eq!(service.oneshot(()).await.unwrap(), Some(SECOND));
}

#[tokio::test(start_paused = true)]
async fn observers_hear_of_each_limit_that_is_exceeded() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let note = || {
        let heard = heard.clone();
        observer_fn(move |event| {
            if let Event::DeadlineExceeded { what, limit } = event {
                heard.lock().unwrap().push((*what, *limit));
            }
        })
    };
    let outer = total(SECOND * 2).observe(note());
    let inner = each(SECOND).observe(note());
    assert!(outer.layer(service_fn(hang)).oneshot(()).await.is_err());
    assert!(inner.layer(service_fn(hang)).oneshot(()).await.is_err());
    let passed = Deadline::at(Instant::now());
    let mut late = passed.scope(|| task::spawn(outer.layer(service_fn(hang)).call(())));
    assert!(assert_ready!(late.poll()).is_err());
    let in_time = outer.layer(counting(&Arc::default()));
    assert!(in_time.oneshot(()).await.is_ok());
    assert_eq!(
        *heard.lock().unwrap(),
        [
            ("call", SECOND * 2),
            ("attempt", SECOND),
            ("call", Duration::ZERO)
        ]
    );
}

// Readiness and cancelling

#[tokio::test(start_paused = true)]
async fn readiness_is_the_inner_services_and_is_under_no_limit() {
    let stack = ServiceBuilder::new()
        .layer(total(SECOND))
        .layer(each(SECOND))
        .into_inner();
    let (mut service, mut peer) = mock::spawn_layer::<(), (), _>(stack);
    peer.allow(0);
    assert_pending!(service.poll_ready());
    advance(SECOND * 60).await;
    assert_pending!(service.poll_ready());
    peer.allow(1);
    assert_ready_ok!(service.poll_ready());
    peer.send_error("gone");
    assert!(assert_ready!(service.poll_ready()).is_err());
}

/// Hangs, and counts when it is dropped.
struct Held(Arc<AtomicUsize>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn holding(
    drops: &Arc<AtomicUsize>,
) -> impl Service<(), Response = (), Error = Infallible, Future: Send> + Clone + use<> {
    let drops = drops.clone();
    service_fn(move |()| {
        let held = Held(drops.clone());
        async move {
            let _held = held;
            pending().await
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_drops_what_is_inside_at_every_point() {
    let drops = Arc::new(AtomicUsize::new(0));
    let stack = ServiceBuilder::new()
        .layer(total(SECOND))
        .layer(each(SECOND));
    let mut service = stack.service(holding(&drops));
    drop(service.call(()));
    assert_eq!(drops.load(Ordering::SeqCst), 1);
    let mut call = task::spawn(service.call(()));
    assert_pending!(call.poll());
    drop(call);
    assert_eq!(drops.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_inside_ends_when_the_time_is_up_even_where_the_future_is_kept() {
    let drops = Arc::new(AtomicUsize::new(0));
    let mut by_deadline = task::spawn(total(SECOND).layer(holding(&drops)).call(()));
    let mut by_attempt = task::spawn(each(SECOND).layer(holding(&drops)).call(()));
    assert_pending!(by_deadline.poll());
    assert_pending!(by_attempt.poll());
    advance(SECOND).await;
    assert_ready!(by_deadline.poll()).unwrap_err();
    assert_ready!(by_attempt.poll()).unwrap_err();
    assert_eq!(drops.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_panic_inside_leaves_no_deadline_behind() {
    let mut service = total(SECOND).layer(service_fn(
        |()| -> std::future::Ready<Result<(), Infallible>> { panic!("on purpose") },
    ));
    let panicked = panic::catch_unwind(panic::AssertUnwindSafe(|| drop(service.call(()))));
    assert!(panicked.is_err());
    assert_eq!(Deadline::current(), None);
}

// On the wire

const MILLIS: HeaderName = HeaderName::from_static("x-timeout-ms");

/// What the peer is told.
fn told<B>(
    layer: PropagateDeadlineLayer,
    left: Option<Duration>,
    req: Request<B>,
) -> Result<Vec<String>, BoxError> {
    let mut service = layer.layer(service_fn(|req: Request<B>| {
        let told = req
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
        ready(Ok::<_, Infallible>(told.collect()))
    }));
    let mut call = match left {
        Some(left) => Deadline::at(Instant::now() + left).scope(|| task::spawn(service.call(req))),
        None => task::spawn(service.call(req)),
    };
    assert_ready!(call.poll())
}

fn request(name: &str, values: &[&str]) -> Request<()> {
    let mut req = Request::get("https://peer.test/");
    for value in values {
        req = req.header(name, *value);
    }
    req.body(()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_peer_is_told_what_is_left_rounded_down() {
    let left = Some(Duration::from_nanos(1_234_567_899));
    let grpc = told(PropagateDeadlineLayer::grpc(), left, Request::new(())).unwrap();
    assert_eq!(grpc, ["grpc-timeout: 1234567u"]);
    let millis = told(
        PropagateDeadlineLayer::millis(MILLIS),
        left,
        Request::new(()),
    )
    .unwrap();
    assert_eq!(millis, ["x-timeout-ms: 1234"]);
}

#[tokio::test(start_paused = true)]
async fn without_a_deadline_the_peer_is_told_nothing() {
    let req = request("grpc-timeout", &["7S"]);
    assert_eq!(
        told(PropagateDeadlineLayer::grpc(), None, req).unwrap(),
        ["grpc-timeout: 7S"]
    );
    assert!(
        told(PropagateDeadlineLayer::grpc(), None, Request::new(()))
            .unwrap()
            .is_empty()
    );
}

#[tokio::test(start_paused = true)]
async fn a_shorter_time_in_the_request_stays_and_everything_else_is_replaced() {
    for (said, expected) in [
        (vec!["5S"], "5S"),
        (vec!["60S"], "10000000u"),
        (vec!["soon"], "10000000u"),
        (vec!["5S", "6S"], "10000000u"),
    ] {
        let req = request("grpc-timeout", &said);
        let told = told(PropagateDeadlineLayer::grpc(), Some(SECOND * 10), req).unwrap();
        assert_eq!(told, [format!("grpc-timeout: {expected}")]);
    }
}

#[tokio::test(start_paused = true)]
async fn with_nothing_left_to_tell_nothing_is_sent() {
    for (layer, left) in [
        (PropagateDeadlineLayer::grpc(), Duration::ZERO),
        (PropagateDeadlineLayer::millis(MILLIS), Duration::ZERO),
        (
            PropagateDeadlineLayer::millis(MILLIS),
            Duration::from_nanos(999_999),
        ),
    ] {
        let error = told(layer, Some(left), Request::new(())).unwrap_err();
        assert_eq!(exceeded(&error), DeadlineExceeded::before_sending());
        assert_eq!(kind(&error), OutcomeKind::Refused);
    }
}

/// The deadline that a receiver sets itself, 10 s at most.
fn granted(name: HeaderName, values: &[&str]) -> Result<Duration, BoxError> {
    let max = SECOND * 10;
    let inner = service_fn(|_: Request<()>| {
        let left = Deadline::current()
            .expect("one is set")
            .left(Instant::now());
        ready(Ok::<_, Infallible>(left))
    });
    let layer = if name == MILLIS {
        DeadlineLayer::from_header(name.clone(), max)
    } else {
        DeadlineLayer::from_grpc_timeout(max)
    };
    let mut service = layer.unwrap().layer(inner);
    assert_ready!(task::spawn(service.call(request(name.as_str(), values))).poll())
}

#[tokio::test(start_paused = true)]
async fn a_receiver_takes_what_the_caller_says_and_never_more_than_its_own() {
    let grpc = |values: &[&str]| granted(HeaderName::from_static("grpc-timeout"), values).unwrap();
    let (max, long) = (SECOND * 10, "9".repeat(4096));
    assert_eq!(grpc(&["2S"]), SECOND * 2);
    assert_eq!(grpc(&["250m"]), MILLI * 250);
    for hostile in [
        &["11S"][..],
        &["99999999H"],
        &[],
        &[""],
        &["-1S"],
        &["1"],
        &["S"],
        &["123456789n"],
        &["1 S"],
        &["1e3m"],
        &[&long],
        &["1S", "2S"],
        &["1S, 2S"],
    ] {
        assert_eq!(grpc(hostile), max, "{hostile:.20?}");
    }
    let millis = |values: &[&str]| granted(MILLIS, values).unwrap();
    assert_eq!(millis(&["1500"]), MILLI * 1500);
    for hostile in [
        &["10001"][..],
        &["18446744073709551615"],
        &["18446744073709551616"],
        &[],
        &[""],
        &["-1"],
        &["+1"],
        &["1.5"],
        &["1s"],
        &[" 1"],
        &[&long],
        &["1", "2"],
    ] {
        assert_eq!(millis(hostile), max, "{hostile:.20?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_with_no_time_left_is_not_served() {
    for (name, value) in [("grpc-timeout", "0S"), ("x-timeout-ms", "0")] {
        let error = granted(HeaderName::from_static(name), &[value]).unwrap_err();
        assert_eq!(exceeded(&error), DeadlineExceeded::before_sending());
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_end_tells_the_other_end_keeps() {
    let server = DeadlineLayer::from_grpc_timeout(SECOND * 60)
        .unwrap()
        .layer(service_fn(|_: Request<()>| {
            pending::<Result<Response<()>, Infallible>>()
        }));
    let client = ServiceBuilder::new()
        .layer(total(SECOND * 3))
        .layer(PropagateDeadlineLayer::grpc())
        .service(server);
    let start = Instant::now();
    let error = client.oneshot(Request::new(())).await.unwrap_err();
    assert_eq!(start.elapsed(), SECOND * 3);
    assert_eq!(exceeded(&error).allowed(), Some(SECOND * 3));
}
