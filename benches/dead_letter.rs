//! What the dead letter layer adds to a call: to one that goes well, and to one that fails. No peer
//! has such a layer; beside it is the same by hand, which keeps a clone of the request and makes
//! the entry itself.
//!
//! Run: `cargo bench -p tower-webhook-benches --bench dead_letter`

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "support/bare.rs"]
mod bare;

use bare::{BATCH, now};
use criterion::Criterion;
use http::{Request, Response};
use std::{
    future::{Future, Ready, ready},
    hint::black_box,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::SystemTime,
};
use tower::{Layer, Service};
use tower_webhook::{
    BoxError, BoxFuture, DeadLetterLayer, StoreError,
    body::BufferedBody,
    dead_letter::{Cause, DeadLetters, Entry, EntryBody, EntryId, Reason, Redaction, Sink},
};

/// Answers at once.
#[derive(Clone, Copy)]
struct Bare(u16);

impl Service<Request<BufferedBody>> for Bare {
    type Response = Response<()>;
    type Error = BoxError;
    type Future = Ready<Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Request<BufferedBody>) -> Self::Future {
        black_box(req);
        ready(Ok(Response::builder().status(self.0).body(()).unwrap()))
    }
}

/// Takes everything and keeps nothing.
#[derive(Debug)]
struct Nowhere;

impl Sink for Nowhere {
    fn write(&self, entry: &Arc<Entry>) -> BoxFuture<Result<(), StoreError>> {
        black_box(entry);
        Box::pin(ready(Ok(())))
    }
}

/// The same by hand: no reasons but one, no shared copy, a boxed future.
struct ByHand {
    inner: Bare,
    entries: DeadLetters,
}

impl Service<Request<BufferedBody>> for ByHand {
    type Response = Response<()>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<()>, BoxError>>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Request<BufferedBody>) -> Self::Future {
        let (kept, entries) = (req.clone(), self.entries.clone());
        let call = self.inner.call(req);
        Box::pin(async move {
            let res = call.await?;
            if !res.status().is_success() {
                let target = kept.uri().host().unwrap_or_default();
                let cause = Cause::new(Reason::Rejected).with_code(Some(res.status().as_u16()));
                let (id, now) = (EntryId::random(), SystemTime::now());
                let mut entry = Entry::new(id, "http", target, cause, now);
                entry.uri = Some(kept.uri().to_string());
                entry.headers = { kept.headers().iter() }
                    .map(|(name, value)| {
                        let value = bytes::Bytes::copy_from_slice(value.as_bytes());
                        (name.as_str().to_owned(), value)
                    })
                    .collect();
                entry.body = EntryBody::new(kept.body().as_bytes(), 256 << 10);
                Redaction::new().apply(&mut entry);
                entries.write(Arc::new(entry)).await?;
            }
            Ok(res)
        })
    }
}

fn request() -> Request<BufferedBody> {
    let req = Request::post("https://peer.test/hooks?n=1")
        .header("webhook-id", "msg_1")
        .header("content-type", "application/json")
        .header("authorization", "Bearer abc");
    req.body(BufferedBody::from("{}")).unwrap()
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().build().unwrap();

    let mut criterion = Criterion::default().configure_from_args();
    let entries = || DeadLetters::new(Nowhere);
    let layer = DeadLetterLayer::new(entries());
    let mut group = criterion.benchmark_group("dead_letter");

    let mut bare = Bare(200);
    group.bench_function("well/bare", |bencher| {
        bencher.iter_batched(request, |req| now(bare.call(req)).unwrap(), BATCH);
    });
    let mut service = layer.layer(Bare(200));
    group.bench_function("well/layer", |bencher| {
        bencher.iter_batched(request, |req| now(service.call(req)).unwrap(), BATCH);
    });
    let mut by_hand = ByHand {
        inner: Bare(200),
        entries: entries(),
    };
    group.bench_function("well/by_hand", |bencher| {
        bencher.iter_batched(request, |req| now(by_hand.call(req)).unwrap(), BATCH);
    });

    // An entry is written by a task of its own, so here the runtime is part of what is measured.
    let mut bare = Bare(400);
    group.bench_function("failed/bare", |bencher| {
        let call = |req| runtime.block_on(bare.call(req)).unwrap();
        bencher.iter_batched(request, call, BATCH);
    });
    let mut service = layer.layer(Bare(400));
    group.bench_function("failed/layer", |bencher| {
        let call = |req| runtime.block_on(service.call(req)).unwrap();
        bencher.iter_batched(request, call, BATCH);
    });
    let mut by_hand = ByHand {
        inner: Bare(400),
        entries: entries(),
    };
    group.bench_function("failed/by_hand", |bencher| {
        let call = |req| runtime.block_on(by_hand.call(req)).unwrap();
        bencher.iter_batched(request, call, BATCH);
    });
    group.finish();
    criterion.final_summary();
}
