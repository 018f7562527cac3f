//! Dead letters: a call that goes well, and one whose entry is written to a sink that keeps nothing.

use crate::measure::{Row, calls, service};
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

/// Answers at once with this status.
#[derive(Clone, Copy)]
struct Answers(u16);

impl Service<Request<BufferedBody>> for Answers {
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
pub struct Nowhere;

impl Sink for Nowhere {
    fn write(&self, entry: &Arc<Entry>) -> BoxFuture<Result<(), StoreError>> {
        black_box(entry);
        Box::pin(ready(Ok(())))
    }
}

fn request() -> Request<BufferedBody> {
    let req = Request::post("https://peer.test/hooks?n=1")
        .header("webhook-id", "msg_1")
        .header("content-type", "application/json")
        .header("authorization", "Bearer abc");
    req.body(BufferedBody::from("{}")).unwrap()
}

fn requests() -> impl Fn() -> Request<BufferedBody> {
    let req = request();
    move || req.clone()
}

pub fn well(row: &mut Row) {
    row.bare("bare call", service(Answers(200), requests()));
    let layer = DeadLetterLayer::new(DeadLetters::new(Nowhere));
    row.ours(service(layer.layer(Answers(200)), requests()));
    row.peer("by hand", service(ByHand::around(200), requests()));
}

/// An entry is written by a task of its own, so here the runtime is part of what is measured.
pub fn failed(row: &mut Row) {
    fn on_runtime<S>(mut service: S) -> crate::measure::Calls
    where
        S: Service<Request<BufferedBody>, Response = Response<()>, Error = BoxError> + 'static,
    {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().build().unwrap();
        calls(requests(), move |req| {
            runtime.block_on(service.call(req)).unwrap()
        })
    }
    row.bare("bare call", on_runtime(Answers(400)));
    let layer = DeadLetterLayer::new(DeadLetters::new(Nowhere));
    row.ours(on_runtime(layer.layer(Answers(400))));
    row.peer("by hand", on_runtime(ByHand::around(400)));
}

/// Less work: no reasons but one, nothing kept when its future is dropped, a boxed future.
struct ByHand {
    inner: Answers,
    entries: DeadLetters,
}

impl ByHand {
    fn around(status: u16) -> Self {
        Self {
            inner: Answers(status),
            entries: DeadLetters::new(Nowhere),
        }
    }
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
