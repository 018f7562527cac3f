//! Handling a request once. All stores are full.

use crate::{
    bare::now,
    measure::{Row, service},
};
use http::{HeaderName, Request, Response};
use moka::{policy::EvictionPolicy, sync::Cache};
use std::{
    convert::Infallible,
    future::{Ready, ready},
    hint::black_box,
    task::{Context, Poll},
    time::Duration,
};
use tower::{Layer, Service};
use tower_webhook::{
    IdempotencyLayer,
    body::BufferedBody,
    idempotency::{KeySource, MemoryStore},
};

/// An unoptimised build only shows that the rows work.
const KEPT: usize = if cfg!(debug_assertions) {
    1_000
} else {
    100_000
};
const TTL: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Answers at once, without an allocation.
#[derive(Clone, Copy)]
struct Handler;

impl Service<Request<BufferedBody>> for Handler {
    type Response = Response<BufferedBody>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Request<BufferedBody>) -> Self::Future {
        black_box(req);
        ready(Ok(Response::new(BufferedBody::from("answer"))))
    }
}

fn id() -> HeaderName {
    HeaderName::from_static("x-id")
}

fn request(number: usize) -> Request<BufferedBody> {
    let req = Request::post("/hooks").header(id(), format!("evt_{number:032}"));
    req.body(BufferedBody::from("{}")).unwrap()
}

/// No two are the same.
fn fresh() -> impl FnMut() -> Request<BufferedBody> {
    let mut number = 0;
    move || {
        number += 1;
        request(number)
    }
}

/// A service that has answered as many requests as its store keeps.
fn full<S>(mut guarded: S, mut requests: impl FnMut() -> Request<BufferedBody>) -> S
where
    S: Service<Request<BufferedBody>>,
{
    for _ in 0..KEPT {
        assert!(now(guarded.call(requests())).is_ok());
    }
    guarded
}

/// moka cleans a part of its map at once when that part is full of what was evicted: within so many inserts, each
/// part once.
const CYCLE: usize = if cfg!(debug_assertions) { 128 } else { 32_768 };

pub fn fresh_key(row: &mut Row) {
    row.rare_turns(CYCLE);
    row.bare("bare handler", service(Handler, fresh()));
    let mut requests = fresh();
    let layer = IdempotencyLayer::webhook(MemoryStore::default(), KeySource::header(id()));
    let guarded = full(layer.layer(Handler), &mut requests);
    row.ours(service(guarded, requests));
    let mut requests = fresh();
    let guarded = full(ByHand::inserting(), &mut requests);
    row.peer("a moka insert", service(guarded, requests));
    let mut requests = fresh();
    let guarded = full(ByHand::looking_first(), &mut requests);
    row.peer("a moka get and insert", service(guarded, requests));
}

pub fn repeat(row: &mut Row) {
    let requests = || {
        let req = request(KEPT);
        move || req.clone()
    };
    row.bare("bare handler", service(Handler, requests()));
    let layer = IdempotencyLayer::webhook(MemoryStore::default(), KeySource::header(id()));
    let guarded = full(layer.layer(Handler), fresh());
    row.ours(service(guarded, requests()));
    let guarded = full(ByHand::looking_first(), fresh());
    row.peer("a moka get", service(guarded, requests()));
}

/// Less work: no claim, so that two of the same at once run twice; of the answer only its body, as it is.
struct ByHand {
    inner: Handler,
    answers: Cache<Box<str>, BufferedBody>,
    looks: bool,
}

impl ByHand {
    /// Only the insert: what no layer on moka can go below. It keeps as many as our store does by default.
    fn inserting() -> Self {
        let answers = Cache::builder()
            .max_capacity(100_000)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(TTL)
            .build();
        Self {
            inner: Handler,
            answers,
            looks: false,
        }
    }

    fn looking_first() -> Self {
        Self {
            looks: true,
            ..Self::inserting()
        }
    }
}

impl Service<Request<BufferedBody>> for ByHand {
    type Response = Response<BufferedBody>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Request<BufferedBody>) -> Self::Future {
        let key: Box<str> = Box::from(req.headers()[id()].to_str().unwrap());
        let known = self.looks.then(|| self.answers.get(&key)).flatten();
        if let Some(answer) = known {
            return ready(Ok(Response::new(answer)));
        }
        let res = now(self.inner.call(req)).unwrap();
        self.answers.insert(key, res.body().clone());
        ready(Ok(res))
    }
}
