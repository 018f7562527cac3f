//! What the whole outbound stack adds to a delivery that succeeds at once: the bare transport, the
//! copy of the request that any retry needs, `stack::deliver()`, and the same stack without some of
//! its layers, beside tower's own layers and tower-resilience's in the same run.
//!
//! Run: `cargo bench --bench deliver --all-features`

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use criterion::{BatchSize, BenchmarkGroup, Criterion, measurement::WallTime};
use http::{HeaderName, HeaderValue, Request, Response};
use std::{
    fmt::Debug,
    future::{Future, Ready, ready},
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};
use tower::{Layer, Service, ServiceBuilder};
use tower_webhook::{
    BoxError, body::BufferedBody, circuit_breaker::BreakerConfig, metrics::DeliveryMetrics,
    retry::RetryConfig, stack, stack::WebhookServiceBuilderExt,
};

/// Few enough that requests made off the clock are still in the processor's cache when called.
const BATCH: BatchSize = BatchSize::NumIterations(32);

/// Answers at once, without an allocation.
#[derive(Clone, Copy)]
struct Bare;

impl Service<Request<BufferedBody>> for Bare {
    type Response = Response<BufferedBody>;
    type Error = BoxError;
    type Future = Ready<Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Request<BufferedBody>) -> Self::Future {
        black_box(req);
        ready(Ok(Response::new(BufferedBody::default())))
    }
}

/// Copies the request before it passes it on, as a layer does that may have to send it again.
#[derive(Clone, Copy)]
struct Copying;

impl Service<Request<BufferedBody>> for Copying {
    type Response = Response<BufferedBody>;
    type Error = BoxError;
    type Future = Ready<Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Request<BufferedBody>) -> Self::Future {
        black_box(req.clone());
        Bare.call(req)
    }
}

/// Polls a future that is ready at once: a runtime would be most of what is measured.
fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the future waits"),
    }
}

fn request(headers: usize) -> Request<BufferedBody> {
    let mut req = Request::post("https://crm.example.com/hooks")
        .body(BufferedBody::from("{}"))
        .unwrap();
    for n in 0..headers {
        let name = HeaderName::try_from(format!("x-header-{n}")).unwrap();
        req.headers_mut()
            .insert(name, HeaderValue::from_static("value"));
    }
    req
}

fn measure<S>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, mut service: S, headers: usize)
where
    S: Service<Request<BufferedBody>>,
    S::Error: Debug,
    S::Response: Debug,
{
    group.bench_function(name, |bencher| {
        let ready = &mut Context::from_waker(Waker::noop());
        let call = |req| {
            assert!(service.poll_ready(ready).is_ready());
            now(service.call(req)).unwrap()
        };
        bencher.iter_batched(|| request(headers), call, BATCH);
    });
}

fn stacks(criterion: &mut Criterion, name: &str, headers: usize) {
    let mut group = criterion.benchmark_group(name);
    measure(&mut group, "bare", Bare, headers);
    measure(&mut group, "copy", Copying, headers);
    let whole = stack::deliver().build().unwrap();
    measure(&mut group, "deliver", whole.layer(Bare), headers);

    let retry = || RetryConfig::default();
    let time = Duration::from_secs(10);
    let metrics = DeliveryMetrics::new();
    let retry_and_breaker = ServiceBuilder::new()
        .retry_with_jitter(retry())
        .circuit_breaker(BreakerConfig::default());
    measure(
        &mut group,
        "retry_breaker",
        retry_and_breaker.service(Bare),
        headers,
    );
    let without_metrics = ServiceBuilder::new()
        .within(time)
        .unwrap()
        .retry_with_jitter(retry())
        .circuit_breaker(BreakerConfig::default())
        .attempt_timeout(time)
        .unwrap();
    measure(
        &mut group,
        "without_metrics",
        without_metrics.service(Bare),
        headers,
    );
    let only_metrics = ServiceBuilder::new()
        .measure_deliveries(metrics.clone())
        .measure_attempts(metrics);
    measure(
        &mut group,
        "two_metrics",
        only_metrics.service(Bare),
        headers,
    );
    let only_deadlines = ServiceBuilder::new().within(time).unwrap();
    let only_deadlines = only_deadlines.attempt_timeout(time).unwrap();
    measure(
        &mut group,
        "two_deadlines",
        only_deadlines.service(Bare),
        headers,
    );

    let resilience_retry = tower_resilience_retry::RetryLayer::<
        Request<BufferedBody>,
        Response<BufferedBody>,
        tower_resilience_circuitbreaker::CircuitBreakerError<BoxError>,
    >::builder()
    .max_attempts(3)
    .exponential_backoff(Duration::from_millis(200))
    .build();
    let resilience_breaker = tower_resilience_circuitbreaker::CircuitBreakerLayer::builder()
        .build()
        .unwrap();
    let resilience = ServiceBuilder::new()
        .layer(resilience_retry)
        .layer(resilience_breaker);
    measure(
        &mut group,
        "tower_resilience_retry_breaker",
        resilience.service(Bare),
        headers,
    );
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default()
        .measurement_time(Duration::from_secs(2))
        .warm_up_time(Duration::from_millis(500))
        .configure_from_args();
    stacks(&mut criterion, "deliver/0_headers", 0);
    stacks(&mut criterion, "deliver/12_headers", 12);
    criterion.final_summary();
}
