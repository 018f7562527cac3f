//! The limit of calls in a window: who may begin when, and who waits.

use http::{Request, Response};
use proptest::prelude::*;
use std::{
    convert::Infallible,
    future::{Future, Ready, pending, ready},
    mem,
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::{
    runtime,
    time::{Instant, sleep, timeout},
};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_webhook::{
    BoxError,
    outcome::{Outcome, OutcomeKind},
};
use tower_webhook_cognigy::rate_limit::{RateLimit, RateLimitLayer, RateLimited};

const MINUTE: Duration = Duration::from_secs(60);

/// An inner service that notes which calls begin, and when.
#[derive(Clone)]
struct Api {
    begin: Instant,
    log: Arc<Mutex<Vec<(u32, Duration)>>>,
    answer: fn(u32) -> Response<()>,
}

impl Api {
    fn new(answer: fn(u32) -> Response<()>) -> Self {
        Self {
            begin: Instant::now(),
            log: Arc::default(),
            answer,
        }
    }

    /// The calls, and the second at which each began.
    fn seconds(&self) -> Vec<(u32, u64)> {
        let log = self.log.lock().unwrap();
        log.iter().map(|(call, at)| (*call, at.as_secs())).collect()
    }
}

impl Service<Request<u32>> for Api {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Request<u32>) -> Self::Future {
        let call = *req.body();
        self.log.lock().unwrap().push((call, self.begin.elapsed()));
        ready(Ok((self.answer)(call)))
    }
}

fn fine(_: u32) -> Response<()> {
    Response::new(())
}

fn status(code: u16, retry_after: &str) -> Response<()> {
    let response = Response::builder().status(code);
    response
        .header("retry-after", retry_after)
        .body(())
        .unwrap()
}

async fn call(service: &RateLimit<Api>, number: u32) -> Result<Response<()>, BoxError> {
    service.clone().oneshot(Request::new(number)).await
}

/// Makes these calls at the same time, in this order.
async fn call_all(service: &RateLimit<Api>, numbers: impl IntoIterator<Item = u32>) {
    let calls: Vec<_> = numbers
        .into_iter()
        .map(|number| tokio::spawn(service.clone().oneshot(Request::new(number))))
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn s2_at_most_60_requests_begin_in_any_minute() {
    let api = Api::new(fine);
    let service = RateLimitLayer::documents().layer(api.clone());
    call_all(&service, 0..150).await;
    let expected: Vec<_> = (0..150)
        .map(|call| (call, u64::from(call / 60) * 60))
        .collect();
    assert_eq!(api.seconds(), expected);
}

#[tokio::test(start_paused = true)]
async fn the_platform_gets_at_most_1000_requests_in_any_five_minutes() {
    let api = Api::new(fine);
    let layer = RateLimitLayer::platform().max_waiting(5000);
    call_all(&layer.layer(api.clone()), 0..2500).await;
    let log = api.seconds();
    let begun = |second| log.iter().filter(|(_, at)| *at == second).count();
    assert_eq!([begun(0), begun(300), begun(600)], [1000, 1000, 500]);
}

#[tokio::test(start_paused = true)]
async fn clones_and_services_of_one_layer_share_the_limit() {
    let api = Api::new(fine);
    let layer = RateLimitLayer::new(2, MINUTE).unwrap();
    let (one, other) = (layer.layer(api.clone()), layer.clone().layer(api.clone()));
    for (number, service) in [(0, &one), (1, &other), (2, &one), (3, &other)] {
        call(service, number).await.unwrap();
    }
    assert_eq!(api.seconds(), [(0, 0), (1, 0), (2, 60), (3, 60)]);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_call_that_is_dropped_gives_its_place_to_the_next() {
    let api = Api::new(fine);
    let layer = RateLimitLayer::new(1, MINUTE).unwrap().max_waiting(3);
    let service = layer.layer(api.clone());
    call(&service, 0).await.unwrap();
    let waiting = |number| tokio::spawn(service.clone().oneshot(Request::new(number)));
    let (mut first, second, third) = (waiting(1), waiting(2), waiting(3));
    let waits = timeout(Duration::from_secs(10), &mut first).await;
    assert!(waits.is_err());
    assert!(call(&service, 4).await.is_err(), "nobody else may wait");

    // The first of those that wait, and the one in the middle.
    second.abort();
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    assert!(second.await.unwrap_err().is_cancelled());
    let fifth = waiting(5);
    third.await.unwrap().unwrap();
    fifth.await.unwrap().unwrap();
    assert_eq!(api.seconds(), [(0, 0), (3, 60), (5, 120)]);
}

#[tokio::test(start_paused = true)]
async fn a_call_beyond_those_that_may_wait_is_refused_and_told_its_turn() {
    let api = Api::new(fine);
    let layer = RateLimitLayer::new(2, MINUTE).unwrap().max_waiting(3);
    let service = layer.layer(api.clone());
    let calls = tokio::spawn({
        let service = service.clone();
        async move { call_all(&service, 0..5).await }
    });
    sleep(Duration::from_secs(10)).await;

    let error = call(&service, 9).await.unwrap_err();
    let refused = error.downcast_ref::<RateLimited>().unwrap();
    // Two begin at 60 s and one at 120 s, with this one beside it.
    assert_eq!(refused.retry_after(), Duration::from_secs(110));
    let outcome = Outcome::of_error(&*error);
    assert_eq!(outcome.kind(), OutcomeKind::Refused);
    assert_eq!(outcome.retry_after(), Some(Duration::from_secs(110)));

    calls.await.unwrap();
    assert_eq!(api.seconds().len(), 5, "the refused call was not made");
}

#[tokio::test(start_paused = true)]
async fn after_a_429_all_calls_wait_as_long_as_the_server_asks() {
    let api = Api::new(|call| match call {
        0 => status(429, "30"),
        _ => fine(call),
    });
    let service = RateLimitLayer::documents().layer(api.clone());
    let limited = call(&service, 0).await.unwrap();
    assert_eq!(limited.status(), 429, "it passes through");
    call_all(&service, 1..4).await;
    assert_eq!(api.seconds(), [(0, 0), (1, 30), (2, 30), (3, 30)]);
}

#[tokio::test(start_paused = true)]
async fn a_429_holds_back_those_that_wait_already() {
    let api = Api::new(|call| match call {
        1 => status(429, "90"),
        _ => fine(call),
    });
    let layer = RateLimitLayer::new(1, MINUTE).unwrap();
    call_all(&layer.layer(api.clone()), 0..4).await;
    assert_eq!(api.seconds(), [(0, 0), (1, 60), (2, 150), (3, 210)]);
}

#[tokio::test(start_paused = true)]
async fn only_a_429_with_a_valid_wait_holds_back_and_for_an_hour_at_most() {
    let answers: [fn(u32) -> Response<()>; 4] = [
        |_| status(503, "30"),
        |_| status(429, "soon"),
        |_| status(429, "-5"),
        |_| status(429, "99999999999999999999"),
    ];
    for (answer, second) in answers.into_iter().zip([0, 0, 0, 3600]) {
        let api = Api::new(answer);
        let service = RateLimitLayer::documents().layer(api.clone());
        for number in [0, 1] {
            call(&service, number).await.unwrap();
        }
        assert_eq!(api.seconds(), [(0, 0), (1, second)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_dropped_after_it_began_stays_counted() {
    let layer = RateLimitLayer::new(1, MINUTE).unwrap();
    let hangs = layer.layer(service_fn(|_: Request<()>| {
        pending::<Result<Response<()>, Infallible>>()
    }));
    let dropped = timeout(Duration::from_secs(1), hangs.oneshot(Request::new(()))).await;
    assert!(dropped.is_err());

    let api = Api::new(fine);
    call(&layer.layer(api.clone()), 0).await.unwrap();
    assert_eq!(api.seconds(), [(0, 59)]);
}

/// Fails a call for which it was not made ready.
#[derive(Default)]
struct Strict(bool);

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Service<Request<()>> for Strict {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0 = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        assert!(mem::take(&mut self.0), "not ready");
        ready(Ok(Response::new(())))
    }
}

#[tokio::test(start_paused = true)]
async fn the_instance_that_was_ready_is_the_one_that_is_called_after_a_wait() {
    let layer = RateLimitLayer::new(1, MINUTE).unwrap();
    let mut service = layer.layer(Strict::default());
    for _ in 0..3 {
        let ready = service.ready().await.unwrap();
        ready.call(Request::new(())).await.unwrap();
    }
}

#[test]
fn settings_that_make_no_sense_are_named() {
    for (calls, per, setting) in [
        (0, MINUTE, "calls"),
        (1_000_001, MINUTE, "calls"),
        (1, Duration::ZERO, "per"),
        (1, Duration::MAX, "per"),
    ] {
        let error = RateLimitLayer::new(calls, per).unwrap_err();
        assert_eq!(error.setting(), setting);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_for_which_there_is_room_allocates_nothing() {
    let bare = service_fn(|_: Request<u32>| ready(Ok::<_, Infallible>(Response::new(()))));
    let mut service = RateLimitLayer::new(3, MINUTE).unwrap().layer(bare);
    for _ in 0..3 {
        let counted = allocation_counter::measure(|| {
            let mut cx = Context::from_waker(Waker::noop());
            let future = pin!(service.call(Request::new(0)));
            assert!(future.poll(&mut cx).is_ready());
        });
        assert_eq!(counted.count_total, 0);
    }
    // The counter counts: the next one waits.
    let waits = allocation_counter::measure(|| drop(service.call(Request::new(0))));
    assert_ne!(waits.count_total, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_window_has_more_calls_than_the_limit_whoever_comes_and_gives_up(
        limit in 1_usize..5,
        callers in proptest::collection::vec((0_u64..30, proptest::option::of(0_u64..200)), 1..40),
    ) {
        let per = Duration::from_millis(100);
        let mut runtime = runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        let log = runtime.block_on(async {
            let api = Api::new(fine);
            let service = RateLimitLayer::new(limit, per).unwrap().layer(api.clone());
            let mut tasks = Vec::new();
            for (number, (gap, patience)) in (0_u32..).zip(callers) {
                sleep(Duration::from_millis(gap)).await;
                let call = service.clone().oneshot(Request::new(number));
                let patience = Duration::from_millis(patience.unwrap_or(1_000_000));
                tasks.push(tokio::spawn(timeout(patience, call)));
            }
            for task in tasks {
                let _ = task.await.unwrap();
            }
            let log = api.log.lock().unwrap();
            log.clone()
        });
        prop_assert!(log.is_sorted_by_key(|(number, _)| *number), "first come, first served");
        for window in log.windows(limit + 1) {
            prop_assert!(window[limit].1 >= window[0].1 + per);
        }
    }
}
