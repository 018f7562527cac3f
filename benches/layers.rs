//! What each layer adds to a call that succeeds, beside the bare service in the same run.
//!
//! Run: `cargo bench --bench layers`

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use criterion::{BatchSize, Criterion};
use http::{Request, Response};
use http_body_util::Full;
use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
};
use tower::{Layer, Service};
use tower_webhook::{BufferBodyLayer, body::BufferedBody};

/// Few enough that requests made off the clock are still in the processor's cache when called.
const BATCH: BatchSize = BatchSize::NumIterations(32);

/// Answers at once, without an allocation.
#[derive(Clone, Copy)]
struct Bare;

impl<B> Service<Request<B>> for Bare {
    type Response = Response<BufferedBody>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Request<B>) -> Self::Future {
        black_box(req);
        ready(Ok(Response::new(BufferedBody::default())))
    }
}

/// Polls a future that is ready at once: a runtime would be most of what is measured.
fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the future waits"),
    }
}

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
