//! What `IdempotencyLayer`, `RunOnce` and the memory store promise: in races, when dropped, when
//! they outlive their lease, and when the store fails them.

#![cfg(all(feature = "idempotency", feature = "moka"))]
#![allow(
    clippy::expect_used,
    clippy::manual_assert,
    clippy::unchecked_time_subtraction,
    clippy::unused_async,
    clippy::unwrap_used
)]

mod answers;
mod cancel;
mod concurrency;
mod events;
mod keys;
mod leases;
mod memory;
mod outage;
mod run_once;
mod table;

#[path = "../support/bodies.rs"]
mod bodies;
#[path = "../support/services.rs"]
mod services;
#[path = "../support/stores.rs"]
mod stores;

use bytes::Bytes;
use http::{HeaderName, Request, Response};
use http_body::Body;
use std::{
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tower::{Service, ServiceExt, service_fn};
use tower_webhook::{
    body::{BufferedBody, ResponseBody},
    idempotency::{
        Begin, Disposition, IdempotencyError, IdempotencyKey, IdempotencyLayer, KeySource, Store,
    },
};

const ID: HeaderName = HeaderName::from_static("x-id");
const LEASE: Duration = Duration::from_secs(30);

/// The webhook preset, with the id in the header `x-id`.
fn webhook<St: Store>(store: St) -> IdempotencyLayer<St> {
    IdempotencyLayer::webhook(store, KeySource::header(ID))
        .lease(LEASE)
        .unwrap()
}

/// A delivery of the event `id` to `/hooks`.
fn delivery(id: &str) -> Request<BufferedBody> {
    Request::post("/hooks")
        .header(ID, id)
        .body(BufferedBody::from("{}"))
        .unwrap()
}

/// The key of a [`delivery`].
fn key(id: &str) -> IdempotencyKey {
    IdempotencyKey::new("/hooks", id).unwrap()
}

/// How often a handler ran.
#[derive(Clone, Debug, Default)]
struct Runs(Arc<AtomicUsize>);

impl Runs {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    fn begin(&self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }
}

/// A handler that answers at once, with what `answer` makes of the number of its run.
fn answering<B, F>(
    runs: &Runs,
    answer: F,
) -> impl Service<
    Request<BufferedBody>,
    Response = Response<B>,
    Error = Infallible,
    Future = Ready<Result<Response<B>, Infallible>>,
> + Clone
+ use<B, F>
where
    F: Fn(usize) -> Response<B> + Clone,
{
    let runs = runs.clone();
    service_fn(move |_| ready(Ok(answer(runs.begin()))))
}

/// A handler that answers at once, with the number of its run.
fn counting(
    runs: &Runs,
) -> impl Service<
    Request<BufferedBody>,
    Response = Response<BufferedBody>,
    Error = Infallible,
    Future = Ready<Result<Response<BufferedBody>, Infallible>>,
> + Clone
+ use<> {
    answering(runs, |run| Response::new(format!("run {run}").into()))
}

fn with_status(status: u16) -> Response<BufferedBody> {
    let mut response = Response::new(BufferedBody::from("answer"));
    *response.status_mut() = status.try_into().unwrap();
    response
}

async fn call<S, B>(service: &S, req: Request<BufferedBody>) -> Response<ResponseBody<B>>
where
    S: Service<Request<BufferedBody>, Response = Response<ResponseBody<B>>> + Clone,
    S::Error: fmt::Debug,
{
    service.clone().oneshot(req).await.unwrap()
}

async fn text<B>(response: Response<B>) -> Bytes
where
    B: Body,
    B::Error: fmt::Debug,
{
    bodies::read(response.into_body()).await.0
}

fn disposition<B>(response: &Response<B>) -> Option<Disposition> {
    response.extensions().get().copied()
}

fn refusal<B>(response: &Response<B>) -> Option<IdempotencyError> {
    response.extensions().get().cloned()
}

/// What has become of a key. Leaves it as it is.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Free,
    Claimed,
    Answered,
}

async fn fate(store: &impl Store, id: &str) -> Fate {
    let key = key(id);
    match store.begin(&key, None, LEASE).await.unwrap() {
        Begin::Acquired(token) => {
            let _ = store.release(&key, token).await.unwrap();
            Fate::Free
        }
        Begin::InProgress { .. } => Fate::Claimed,
        Begin::Completed(_) => Fate::Answered,
        Begin::Mismatch => panic!("no fingerprint was given"),
    }
}
