//! What each layer adds to a call that succeeds, beside the bare service in the same run.
//!
//! Run: `cargo bench -p tower-webhook-benches --bench layers`

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "support/bare.rs"]
mod bare;

use bare::{BATCH, Bare, now};
use bytes::Bytes;
use criterion::Criterion;
use http::Request;
use http_body_util::Full;
use tower::{Layer, Service};
use tower_webhook::BufferBodyLayer;

fn body(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("body");
    let payload = Bytes::from(vec![b'x'; 1024]);
    let request = || Request::new(Full::new(payload.clone()));

    let mut bare = Bare;
    group.bench_function("bare", |bencher| {
        bencher.iter_batched(request, |req| now(bare.call(req)).unwrap(), BATCH);
    });
    let mut buffered = BufferBodyLayer::new(64 << 10).layer(Bare);
    group.bench_function("buffer_body", |bencher| {
        bencher.iter_batched(request, |req| now(buffered.call(req)).unwrap(), BATCH);
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    body(&mut criterion);
    criterion.final_summary();
}
