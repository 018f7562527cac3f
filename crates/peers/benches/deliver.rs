//! A delivery that succeeds at once through a retry and a breaker: ours, with everything else that
//! `stack::deliver()` has, and tower-resilience's two alone.
//!
//! Run: `cargo bench -p peers --bench deliver`

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "../../../benches/support/bare.rs"]
mod bare;

use bare::{BATCH, Bare, now, request};
use criterion::{BenchmarkGroup, Criterion, measurement::WallTime};
use http::{Request, Response};
use std::{
    fmt::Debug,
    task::{Context, Waker},
    time::Duration,
};
use tower::{Layer, Service, ServiceBuilder};
use tower_webhook::{BoxError, body::BufferedBody, stack};

fn measure<S>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, mut service: S, headers: usize)
where
    S: Service<Request<BufferedBody>, Error: Debug, Response: Debug>,
{
    let req = request(headers);
    group.bench_function(name, |bencher| {
        let ready = &mut Context::from_waker(Waker::noop());
        let call = |req| {
            assert!(service.poll_ready(ready).is_ready());
            now(service.call(req)).unwrap()
        };
        bencher.iter_batched(|| req.clone(), call, BATCH);
    });
}

fn stacks(criterion: &mut Criterion, headers: usize) {
    let mut group = criterion.benchmark_group(format!("deliver/{headers}_headers"));
    measure(&mut group, "bare", Bare, headers);
    let ours = stack::deliver().build().unwrap();
    measure(&mut group, "ours", ours.layer(Bare), headers);

    let retry = tower_resilience_retry::RetryLayer::<
        Request<BufferedBody>,
        Response<BufferedBody>,
        tower_resilience_circuitbreaker::CircuitBreakerError<BoxError>,
    >::builder()
    .max_attempts(3)
    .exponential_backoff(Duration::from_millis(200))
    .build();
    let breaker = tower_resilience_circuitbreaker::CircuitBreakerLayer::builder();
    let peer = ServiceBuilder::new()
        .layer(retry)
        .layer(breaker.build().unwrap());
    let peer = peer.service(Bare);
    measure(&mut group, "tower_resilience", peer, headers);
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for headers in [0, 12] {
        stacks(&mut criterion, headers);
    }
    criterion.final_summary();
}
