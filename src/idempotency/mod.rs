//! Run the handler once per key, and give repeats the stored answer.
//!
//! Every webhook sender repeats: after a timeout, after a lost answer, after its own crash. The
//! [`IdempotencyLayer`] claims the request's [`IdempotencyKey`] in a [`Store`], runs the handler, and stores
//! what it answered; a repeat gets that answer, marked `Idempotent-Replayed: true`, and the handler
//! does not run. Claims are leases with a [`FencingToken`]: a crash frees its key when the lease
//! ends, and a handler that comes back too late changes nothing.
//!
//! # Answers
//!
//! | Situation | Status | In the answer's extensions |
//! | --- | --- | --- |
//! | first request | the handler's | nothing, or [`Disposition::NotStored`] |
//! | repeat of a completed one | the stored one | [`Disposition::Replayed`] |
//! | repeat of one that still runs | 409 with `Retry-After`, or waits | [`IdempotencyError::InProgress`] |
//! | same key, other request | 422 | [`IdempotencyError::Mismatch`] |
//! | no key, or a bad one | 400 | [`IdempotencyError::Key`] |
//! | store down or full | 503 with `Retry-After`, or runs unclaimed | [`IdempotencyError::Store`], [`Disposition::Unclaimed`] |
//!
//! The statuses are those of
//! [draft-ietf-httpapi-idempotency-key-header-07](https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-idempotency-key-header-07),
//! an expired draft that most APIs follow. A replayed answer keeps its status, headers, body and
//! trailers, less the headers of one exchange: connection, date, length, credentials and cookies.
//!
//! # Order
//!
//! Outside: [`BufferBodyLayer`](crate::BufferBodyLayer), then signature verification. Before it, an
//! attacker could burn the keys of events that are still to come, or be told stored answers.
//! Inside: the handler. A timeout layer belongs inside too: outside, it would leave a handler's
//! effect without its stored answer.
//!
//! # Cancel safety
//!
//! A response future that is dropped (the caller hung up) drops the handler and frees the key, so
//! that a repeat runs. Dropped after the handler's answer was there to its last byte, it stores that
//! answer all the same. What cannot be done at once is finished by a task of the runtime; without
//! one, the lease runs out. A panic of the handler frees the key likewise.
//!
//! Dropped while a store is asked for a claim, the claim may have been made and nobody has its
//! token: its key is free when the lease ends. The memory store answers at once and has no such
//! moment.
//!
//! # Examples
//!
//! ```
//! use http::{HeaderName, Request, Response};
//! use std::convert::Infallible;
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_webhook::{
//!     IdempotencyLayer,
//!     body::BufferedBody,
//!     idempotency::{KeySource, MemoryStore},
//! };
//!
//! # tokio_test::block_on(async {
//! let key = KeySource::header(HeaderName::from_static("x-github-delivery"));
//! let layer = IdempotencyLayer::webhook(MemoryStore::default(), key).build()?;
//! let service = layer.layer(service_fn(|_: Request<BufferedBody>| async {
//!     Ok::<_, Infallible>(Response::new(BufferedBody::from("handled")))
//! }));
//!
//! let delivery = || {
//!     Request::post("/hooks")
//!         .header("x-github-delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958")
//!         .body(BufferedBody::from("{}"))
//! };
//! let first = service.clone().oneshot(delivery()?).await?;
//! let repeat = service.oneshot(delivery()?).await?;
//! assert!(!first.headers().contains_key("idempotent-replayed"));
//! assert_eq!(repeat.headers()["idempotent-replayed"], "true");
//! # Ok::<_, tower_webhook::BoxError>(())
//! # }).unwrap();
//! ```

mod answer;
#[cfg(feature = "canonical-json")]
mod canonical;
pub mod contract;
mod extensions;
mod fingerprint;
mod future;
mod held;
mod key;
mod layer;
#[cfg(feature = "moka")]
mod memory;
mod pointer;
mod run_once;
pub mod store;

pub use self::{
    extensions::{Claim, Disposition, IdempotencyError},
    fingerprint::FingerprintOf,
    future::ResponseFuture,
    key::{IdempotencyKey, KeyError, KeySource, MAX_ID_LEN, MAX_SCOPE_LEN},
    layer::{Idempotency, IdempotencyLayer, IdempotencyLayerBuilder, StoreOutage},
    run_once::{Ran, RunOnce, RunOnceError},
    store::{Begin, FencingToken, Fingerprint, Settled, Store},
};

#[cfg(feature = "moka")]
pub use self::memory::{MemoryStore, MemoryStoreBuilder};
