//! What retrying adds to a call that succeeds, beside the bare service in the same run.
//!
//! Run: `cargo bench -p tower-webhook-benches --bench retry`

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "support/bare.rs"]
mod bare;

use bare::{BATCH, Bare, now, request};
use criterion::{BenchmarkGroup, Criterion, measurement::WallTime};
use http::Request;
use tower::{Layer, Service};
use tower_webhook::{RetryWithJitterLayer, body::BufferedBody, retry::RetryConfig};

fn measure<S>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, mut service: S, headers: usize)
where
    S: Service<Request<BufferedBody>>,
{
    let req = request(headers);
    group.bench_function(name, |bencher| {
        let call = |req| now(service.call(req)).map_err(|_| "failed").unwrap();
        bencher.iter_batched(|| req.clone(), call, BATCH);
    });
}

fn services(criterion: &mut Criterion, name: &str, headers: usize) {
    let mut group = criterion.benchmark_group(name);
    measure(&mut group, "bare", Bare, headers);

    let req = request(headers);
    group.bench_function("clone_alone", |bencher| {
        bencher.iter_batched(|| req.clone(), |req| (req.clone(), req), BATCH);
    });

    let layer = RetryWithJitterLayer::new(RetryConfig::default());
    measure(&mut group, "retry_with_jitter", layer.layer(Bare), headers);
    let once = RetryConfig::builder().attempts(1).build().unwrap();
    let once = RetryWithJitterLayer::new(once).layer(Bare);
    measure(&mut group, "retry_with_jitter_once", once, headers);

    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    services(&mut criterion, "retry_no_headers", 0);
    services(&mut criterion, "retry_12_headers", 12);
    criterion.final_summary();
}
