//! Runs the handler once per key, and answers repeats with the stored response.
//!
//! Every webhook sender repeats requests: after a timeout, after a lost response, after its own crash.
//! The [`IdempotencyLayer`] claims the request's [`IdempotencyKey`] in a [`Store`], runs the handler,
//! and stores its response. A repeat gets that response, marked `Idempotent-Replayed: true`, and the
//! handler does not run.
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
//! let layer = IdempotencyLayer::webhook(MemoryStore::default(), key);
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
//!
//! # Order
//!
//! Outside this layer: [`BufferBodyLayer`](crate::BufferBodyLayer), then signature verification. If
//! this layer stood outside verification, an attacker could use up the keys of events that have not
//! arrived yet, or read stored responses. Inside: the handler. A timeout layer belongs inside too:
//! outside, it could cut a handler whose effect then has no stored response.
//!
//! # Settings
//!
//! | Setting | Default | Meaning |
//! | --- | --- | --- |
//! | [`key`](IdempotencyLayer::key) | of [`webhook`](IdempotencyLayer::webhook): its argument; of [`api`](IdempotencyLayer::api): the header `Idempotency-Key` | where the id of a request is |
//! | [`key_optional`](IdempotencyLayer::key_optional) | refused with 400 | lets requests without a key pass |
//! | [`scope`](IdempotencyLayer::scope), [`scope_with`](IdempotencyLayer::scope_with) | the original path | what tells equal ids apart, such as route and tenant |
//! | [`methods`](IdempotencyLayer::methods) | all; API: `POST` and `PATCH` | methods that need a claim |
//! | [`fingerprint`](IdempotencyLayer::fingerprint) | nothing; API: the whole request | what must be equal in two requests with one key |
//! | [`lease`](IdempotencyLayer::lease) | 60 s | time for which a crash blocks a key |
//! | [`ttl`](IdempotencyLayer::ttl) | 7 days; API: 24 h | time for which an answer is kept |
//! | [`wait`](IdempotencyLayer::wait) | zero | time that a repeat waits for the first request before it is refused with 409 |
//! | [`store_outage`](IdempotencyLayer::store_outage) | [`FailClosed`](StoreOutage::FailClosed) | what to do while the store does not answer |
//! | [`store_timeout`](IdempotencyLayer::store_timeout) | 5 s | time limit of an operation of the store |
//! | [`store_when`](IdempotencyLayer::store_when) | success; API: all but "not now" | which answers are stored |
//! | [`store_headers`](IdempotencyLayer::store_headers) | no cookies and credentials | which headers of an answer are stored |
//! | [`max_answer`](IdempotencyLayer::max_answer) | 256 KiB | bytes of the longest body that is stored |
//! | [`marker`](IdempotencyLayer::marker) | `Idempotent-Replayed` | header that marks a replayed response |
//! | [`refuse_with`](IdempotencyLayer::refuse_with) | `application/problem+json` | makes the response to a refused request |
//! | [`observe`](IdempotencyLayer::observe) | none except `tracing` | adds an observer of claims, replays, refusals and trouble with the store |
//!
//! Of the store in memory, [`MemoryStore`]:
//!
//! | Setting | Default | Meaning |
//! | --- | --- | --- |
//! | [`max_entries`](MemoryStoreBuilder::max_entries) | 100,000 | answers; the least recently used is evicted |
//! | [`max_bytes`](MemoryStoreBuilder::max_bytes) | 128 MiB | bytes of all answers |
//! | [`max_in_flight`](MemoryStoreBuilder::max_in_flight) | 16,384 | claims of requests that still run; further keys are refused |
//!
//! # Answers
//!
//! | Situation | Status | In the answer's extensions |
//! | --- | --- | --- |
//! | first request | the handler's | nothing, or [`Disposition::NotStored`] |
//! | repeat of a completed request | the stored one | [`Disposition::Replayed`] |
//! | repeat of a request that still runs | 409 with `Retry-After`, or waits | [`IdempotencyError::InProgress`] |
//! | same key, other request | 422 | [`IdempotencyError::Mismatch`] |
//! | no key, or one that cannot be used | 400 | [`IdempotencyError::KeyMissing`], [`IdempotencyError::Key`] |
//! | store down or full | 503 with `Retry-After`, or runs without a claim | [`IdempotencyError::Store`], [`Disposition::Unclaimed`] |
//! | stored response of a newer release, or damaged | 503 with `Retry-After` | [`IdempotencyError::Store`] |
//!
//! The statuses are those of
//! [draft-ietf-httpapi-idempotency-key-header-07](https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-idempotency-key-header-07),
//! an expired draft that most APIs follow. A replayed response has the stored status, headers, body and
//! trailers. It lacks the headers and trailers that belong to one exchange: connection, date, length, credentials
//! and cookies ([`store_headers`](IdempotencyLayer::store_headers) says otherwise).
//!
//! # Cancel safety
//!
//! Dropping the response future (the caller closed the connection) drops the handler and frees the key,
//! so that a repeat runs. A panic of the handler frees the key too. If the handler's response was
//! complete, body included, when the future was dropped, the response is stored. A task of the runtime
//! finishes what cannot be done at once; without a runtime, the lease ends by itself.
//!
//! If the future is dropped while the store is asked for a claim, the claim may exist without a holder:
//! its key is free when the lease ends. The memory store answers at once, so this cannot happen with
//! it.
//!
//! # Leases
//!
//! Claims are leases with a [`FencingToken`](crate::lease::FencingToken): after a crash, the key is free when
//! the lease ends. The response of a handler that finishes after its lease is stored, as long as no repeat has claimed the key
//! since; otherwise it changes nothing.

mod answer;
#[cfg(feature = "canonical-json")]
mod canonical;
#[cfg(feature = "moka")]
mod claims;
pub mod contract;
mod extensions;
#[cfg(feature = "axum")]
mod extract;
mod fingerprint;
mod future;
mod held;
mod key;
mod layer;
#[cfg(feature = "moka")]
mod memory;
mod pointer;
mod run_once;
mod store;

/// What the claims of the memory store are made of. The model checker in `tests/loom` has its own module of this
/// name.
#[cfg(feature = "moka")]
mod sync {
    pub(super) use std::sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    };
}

#[cfg(feature = "axum")]
pub use self::extract::MissingKey;
pub use self::{
    answer::stored_by_default,
    extensions::{Claim, Disposition, IdempotencyError},
    fingerprint::FingerprintOf,
    future::ResponseFuture,
    key::{IdempotencyKey, KeyError, KeySource, MAX_ID_LEN, MAX_SCOPE_LEN},
    layer::{Idempotency, IdempotencyLayer, StoreOutage},
    run_once::{Ran, RunOnce, RunOnceError},
    store::{Begin, Fingerprint, Store},
};

#[cfg(feature = "moka")]
pub use self::memory::{MemoryStore, MemoryStoreBuilder};
