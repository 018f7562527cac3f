//! What parts of the outbound stack add to a delivery that succeeds at once: the bare transport, the copy of the
//! request that any retry needs, and the stack without some of its layers, in the same run. The whole stack is
//! in the table of `crates/peers`.
//!
//! Run: `cargo bench -p tower-webhook-benches --bench deliver`

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "support/bare.rs"]
mod bare;

use bare::{BATCH, Bare, now, request};
use criterion::{BenchmarkGroup, Criterion, measurement::WallTime};
use http::{Request, Response};
use std::{
    fmt::Debug,
    future::Ready,
    hint::black_box,
    task::{Context, Poll, Waker},
    time::Duration,
};
use tower::{Service, ServiceBuilder};
use tower_webhook::{
    AttemptTimeoutLayer, BoxError, CircuitBreakerLayer, DeadlineLayer, DeliveryMetricsLayer,
    RetryWithJitterLayer,
    body::BufferedBody,
    circuit_breaker::BreakerConfig,
    metrics::DeliveryMetrics,
    retry::{HttpExchange, RetryConfig},
};

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

    let retry = || RetryWithJitterLayer::new(RetryConfig::default()).exchange(HttpExchange::new());
    let breaker = || CircuitBreakerLayer::new(BreakerConfig::default());
    let time = Duration::from_secs(10);
    let metrics = DeliveryMetrics::new();
    let retry_and_breaker = ServiceBuilder::new().layer(retry()).layer(breaker());
    measure(
        &mut group,
        "retry_breaker",
        retry_and_breaker.service(Bare),
        headers,
    );
    let without_metrics = ServiceBuilder::new()
        .layer(DeadlineLayer::new(time).unwrap())
        .layer(retry())
        .layer(breaker())
        .layer(AttemptTimeoutLayer::new(time).unwrap());
    measure(
        &mut group,
        "without_metrics",
        without_metrics.service(Bare),
        headers,
    );
    let only_metrics = ServiceBuilder::new()
        .layer(DeliveryMetricsLayer::deliveries().observe(metrics.clone()))
        .layer(DeliveryMetricsLayer::attempts().observe(metrics));
    measure(
        &mut group,
        "two_metrics",
        only_metrics.service(Bare),
        headers,
    );
    let only_deadlines = ServiceBuilder::new()
        .layer(DeadlineLayer::new(time).unwrap())
        .layer(AttemptTimeoutLayer::new(time).unwrap());
    measure(
        &mut group,
        "two_deadlines",
        only_deadlines.service(Bare),
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
