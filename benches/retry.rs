//! What retrying adds to a call that succeeds, beside the bare service in the same run.
//!
//! Run: `cargo bench -p tower-webhook-benches --bench retry`

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "support/bare.rs"]
mod bare;

use bare::{BATCH, Bare, measure, request};
use criterion::Criterion;
use tower::Layer;
use tower_webhook::{RetryWithJitterLayer, retry::RetryConfig};

fn services(criterion: &mut Criterion, name: &str, headers: usize) {
    let mut group = criterion.benchmark_group(name);
    let req = request(headers);
    let requests = || req.clone();
    measure(&mut group, "bare", Bare, requests);
    group.bench_function("clone_alone", |bencher| {
        bencher.iter_batched(requests, |req| (req.clone(), req), BATCH);
    });

    let layer = RetryWithJitterLayer::new(RetryConfig::default());
    measure(&mut group, "retry_with_jitter", layer.layer(Bare), requests);
    let once = RetryConfig::builder().attempts(1).build().unwrap();
    let once = RetryWithJitterLayer::new(once).layer(Bare);
    measure(&mut group, "retry_with_jitter_once", once, requests);

    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    services(&mut criterion, "retry_no_headers", 0);
    services(&mut criterion, "retry_12_headers", 12);
    criterion.final_summary();
}
