//! Tower layers for webhooks: verify the ones you receive and handle each once; deliver the ones you send.
//!
//! Composable [tower] layers for any hyper, axum or tonic app. On the way in, a request is read under a
//! limit, its signature is verified over the bytes that were read, and its handler runs once however often
//! the sender repeats it; the handler gets a typed event. On the way out, a request is retried where that is
//! safe, inside a budget and a deadline, behind a circuit breaker for each host, signed afresh at each
//! attempt, and measured; what cannot be delivered becomes a dead letter. Between the two, a durable queue
//! accepts jobs that workers run later.
//!
//! The [`guide`] leads through it in five chapters.
//!
//! [tower]: https://docs.rs/tower
//!
//! # Receiving, with feature `axum`
//!
#![cfg_attr(feature = "axum", doc = "```")]
// An example for axum cannot run without it.
#![cfg_attr(not(feature = "axum"), doc = "```text")]
//! use axum::{Router, body::Body, routing::post};
//! use http::{Request, StatusCode};
//! use tower::{ServiceBuilder, ServiceExt};
//! use tower_webhook::{
//!     BufferBodyLayer, CognigyEvent, IdempotencyLayer, SignatureVerifyLayer,
//!     cognigy::EventLayer,
//!     idempotency::{KeySource, MemoryStore},
//!     signature::scheme::{Cognigy, CognigyFormat},
//! };
//!
//! async fn on_event(event: CognigyEvent) -> StatusCode {
//!     println!("{:?}", event.event_id());
//!     StatusCode::NO_CONTENT
//! }
//!
//! # tokio_test::block_on(async {
//! let scheme = Cognigy::new("test-secret", [CognigyFormat::Hex])?;
//! let once = IdempotencyLayer::webhook(MemoryStore::default(), KeySource::verified_id());
//! let app = Router::new().route("/hooks", post(on_event)).layer(
//!     ServiceBuilder::new() // outermost first
//!         .layer(BufferBodyLayer::new(1 << 20))
//!         .layer(SignatureVerifyLayer::new(scheme))
//!         .layer(EventLayer::new() // reads the event, whose id is the key
//! #           // The sample and its signature are of one day.
//! #           .clock(tower_webhook::clock::WallClock::fixed(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_795_262_400)))
//!         )
//!         .layer(once),
//! );
//!
//! let body = r#"{"eventId":"evt_1","timestamp":"2026-11-21T12:00:00Z","type":"DIALOG_STARTED","payload":{}}"#;
//! let delivery = |signature: &str| {
//!     Request::post("/hooks").header("x-cognigy-signature", signature).body(Body::from(body))
//! };
//! let signature = "83f5a5f3942675c336db65775d30db5aa0ea770790633b94fb63a29ac4435ff8";
//!
//! let first = app.clone().oneshot(delivery(signature)?).await?;
//! assert_eq!(first.status(), StatusCode::NO_CONTENT);
//! let repeat = app.clone().oneshot(delivery(signature)?).await?;
//! assert_eq!(repeat.headers()["idempotent-replayed"], "true");
//! let forged = app.oneshot(delivery(&"0".repeat(64))?).await?;
//! assert_eq!(forged.status(), StatusCode::UNAUTHORIZED);
//! # Ok::<_, tower_webhook::BoxError>(())
//! # }).unwrap();
//! ```
//!
//! # Sending
//!
//! ```
//! use http::{Request, Response};
//! use tower::{Layer, Service, ServiceExt, service_fn};
//! use tower_webhook::{
//!     BoxError, body::BufferedBody, circuit_breaker::BreakerConfig,
//!     signature::scheme::StandardWebhooks, stack,
//! };
//!
//! # tokio_test::block_on(async {
//! // The transport: a hyper-util client, reqwest, a tonic channel. Here a function.
//! let transport = service_fn(|req: Request<BufferedBody>| async move {
//!     assert!(req.headers().contains_key("webhook-signature"));
//!     Ok::<_, BoxError>(Response::new(BufferedBody::default()))
//! });
//! let deliver = stack::deliver() // retry, breaker, deadline, metrics, in the right order
//!     .breaker(BreakerConfig::builder().consecutive_failures(3).build()?)
//!     .sign(StandardWebhooks::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?)
//!     .build()?;
//! let mut client = deliver.layer(transport);
//!
//! let req = Request::post("https://example.com/hooks")
//!     .header("webhook-id", "msg_1") // the receiver recognises a repeat by it
//!     .body(BufferedBody::from("{}"))?;
//! let res = client.ready().await?.call(req).await?;
//! assert_eq!(res.status(), 200);
//! assert_eq!(deliver.metrics().snapshot().deliveries().success_rate(), Some(1.0));
//! # Ok::<_, BoxError>(())
//! # }).unwrap();
//! ```
//!
//! # Background jobs, with feature `queue`
//!
#![cfg_attr(feature = "queue", doc = "```")]
#![cfg_attr(not(feature = "queue"), doc = "```text")]
//! use serde::{Deserialize, Serialize};
//! use std::time::{Duration, SystemTime};
//! use tower_webhook::queue::{JobContext, JobError, JobKind, MemoryQueue, Queue, Worker};
//!
//! #[derive(Serialize, Deserialize)]
//! struct SendInvoice {
//!     id: u64,
//! }
//!
//! impl JobKind for SendInvoice {
//!     const KIND: &'static str = "send-invoice";
//! }
//!
//! async fn send_invoice(invoice: SendInvoice, job: JobContext) -> Result<(), JobError> {
//!     println!("invoice {}, attempt {}", invoice.id, job.attempt);
//!     Ok(())
//! }
//!
//! # tokio_test::block_on(async {
//! let queue = Queue::new(MemoryQueue::default()); // or `SqliteQueue`
//! let worker = Worker::builder(queue.clone()).handle(send_invoice).build()?.spawn();
//!
//! let first = queue.push(SendInvoice { id: 7 }).key("invoice-7").await?;
//! assert!(queue.push(SendInvoice { id: 7 }).key("invoice-7").await?.repeated);
//! let tomorrow = SystemTime::now() + Duration::from_secs(24 * 60 * 60);
//! let later = queue.push(SendInvoice { id: 8 }).run_at(tomorrow).await?;
//! queue.cancel(later.id).await?;
//! # while !queue.task(first.id).await?.is_some_and(|task| task.status.is_final()) {
//! #     tokio::time::sleep(Duration::from_millis(5)).await;
//! # }
//! worker.stop(Duration::from_secs(5)).await;
//! # Ok::<_, tower_webhook::BoxError>(())
//! # }).unwrap();
//! ```
//!
//! [`Queue::list`](queue::Queue::list) shows what waits and runs;
//! [`requeue`](dead_letter::redrive::RedriveBuilder::requeue) puts dead letters of jobs back into their queue.
//!
//! # Layers
//!
//! | Layer | In one line |
//! | --- | --- |
//! | [`BufferBodyLayer`] | read the body once, under a limit and a deadline; every later layer shares its bytes |
//! | [`SignatureVerifyLayer`] | refuse requests without a valid, recent signature |
//! | [`EventLayer`](cognigy::EventLayer) | read the Cognigy event of a verified request, once |
//! | [`LoopGuardLayer`] | mark what is sent, refuse what was sent from here |
//! | [`IdempotencyLayer`] | run the handler once per key; repeats get the stored response |
//! | [`SignLayer`] | sign each attempt afresh: same id, new timestamp |
//! | [`RetryWithJitterLayer`] | retry what is safe to retry, inside a budget and a deadline |
//! | [`CircuitBreakerLayer`] | stop calling a peer that fails, probe it, recover |
//! | [`DeadlineLayer`], [`AttemptTimeoutLayer`], [`PropagateDeadlineLayer`] | limit the time of a call and of each attempt; tell the peer the time that is left |
//! | [`FailoverLayer`] | call the next target while one is down |
//! | [`FallbackLayer`] | answer in place of a failure |
//! | [`DeadLetterLayer`] | write what failed for good to a sink, with its reason |
//! | [`DeliveryMetricsLayer`] | measure attempts and deliveries: outcomes, latency, retries |
//! | [`PeekBodyLayer`](body::peek::PeekBodyLayer) | show classifiers the start of a failed response body |
//! | [`GrpcPeekLayer`](grpc::GrpcPeekLayer) (feature `grpc`) | show classifiers the gRPC status in trailers |
//!
//! Beside the layers: [`stack`], the outbound order in one call; [`queue`], accept now and process later;
//! `transport`, clients at the bottom of it; [`dead_letter::redrive`], send entries again, each once; [`observe`], events and observers of all layers; typed
//! events in [`cognigy`]; [`outcome`], the result of a call, classified once for every layer; [`target`], where
//! requests may be sent; [`problem`], the responses to refused requests; [`codec`], for authors of stores and queues.
//!
//! The crate `tower-webhook-sqlite` keeps claims, jobs and dead letters in one SQLite file.
//!
//! # Order
//!
//! ```text
//! receive   verify head > buffer body > verify signature > loop guard > idempotency > typed extractor > handler
//!           verify head > buffer body > verify signature > loop guard > enqueue ... worker > send
//! send      metrics > dead letter > deadline > retry > failover > breaker > metrics > attempt timeout > mark > sign > transport
//! ```
//!
//! Verify head is [`SignatureVerifyLayer::before_body`], which may be left out: it keeps the bodies of strangers out
//! of memory.
//!
//! Each module says what must stand outside and inside it, and what goes wrong otherwise: anyone can use
//! up an id that is remembered before it is verified; a request that is signed before it waits is stale when
//! it arrives. The loop guard and its mark, [`LoopGuardLayer::outgoing`], are for services that do both.
//!
//! # Features
//!
//! | Feature | Default | What it adds |
//! | --- | --- | --- |
//! | `signature` | yes | [`signature`]: verify and sign |
//! | `idempotency` | yes | [`idempotency`]: the layer, the store trait and its contract |
//! | `moka` | yes | [`MemoryStore`](idempotency::MemoryStore) |
//! | `cognigy` | yes | [`cognigy`]: typed events and answers |
//! | `retry` | yes | [`retry`] |
//! | `circuit-breaker` | yes | [`circuit_breaker`] |
//! | `metrics` | yes | [`metrics`]: the layer and the in-process snapshot |
//! | `dead-letter` | yes | [`dead_letter`]: the layer, its sinks, re-drive |
//! | `failover` | yes | [`failover`] and [`fallback`] |
//! | `stack` | yes | [`stack`] |
//! | `tracing` | yes | events and spans, under the target `tower_webhook` |
//! | `grpc` | | [`grpc`]: the status in trailers, and [`LateOutcome`](outcome::LateOutcome) |
//! | `queue` | | [`queue`]: the memory engine, workers, the enqueue and status services |
//! | `metrics-facade` | | [`FacadeExporter`](metrics::FacadeExporter), for the `metrics` facade and its exporters |
//! | `tower` | yes | the errors of tower's own layers, such as `Overloaded`, are judged |
//! | `hyper-util`, `reqwest`, `tonic` | | [`transport`]: these clients at the bottom of a stack |
//! | `ed25519` | | Standard Webhooks `v1a` signatures, Discord, `ed25519` of RFC 9421 |
//! | `http-message-signatures` | | HTTP Message Signatures (RFC 9421) with `Content-Digest` (RFC 9530) |
//! | `p256` | | ECDSA with P-256: `SendGrid` |
//! | `sha1` | | HMAC-SHA1, for senders that have nothing better |
//! | `aws-lc-rs` | | MACs through aws-lc: the same results, about 1.8 times as fast without SHA instructions |
//! | `canonical-json` | | fingerprints over canonical JSON (RFC 8785) |
//! | `axum` | | extractors, and the original path of nested routers |
//! | `full` | | all of these |
//!
//! Features only add. [`lease`] comes with `dead-letter` or `idempotency`, [`codec`] with `dead-letter`; modules that
//! are not named here are always there.
//!
//! # Cancel safety
//!
//! Dropping a future of this crate at any point leaks nothing: permits return, claims are released
//! or left to end with their lease. Each layer's module has the details.
//!
//! # What it needs
//!
//! Rust 1.89, and a tokio runtime with time enabled. It has no `unsafe` code of its own.
// The front page links to all layers; without their features these links have no target.
#![cfg_attr(not(feature = "full"), allow(rustdoc::broken_intra_doc_links))]
#![forbid(unsafe_code)]
#![warn(missing_docs, missing_debug_implementations, unreachable_pub)]
#![warn(
    clippy::expect_used,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used
)]
#![cfg_attr(test, allow(clippy::expect_used, clippy::unwrap_used))]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "full")]
pub mod guide;

// What every layer may know, and what knows no layer.
pub mod attempt;
pub mod body;
pub mod clock;
pub mod context;
mod error;
#[cfg(any(feature = "dead-letter", feature = "idempotency"))]
pub mod lease;
pub mod observe;
pub mod outcome;
pub mod peer;
pub mod problem;
pub mod target;

// The layers. They never know each other.
#[cfg(feature = "circuit-breaker")]
pub mod circuit_breaker;
#[cfg(feature = "cognigy")]
pub mod cognigy;
#[cfg(feature = "dead-letter")]
pub mod dead_letter;
pub mod deadline;
#[cfg(feature = "failover")]
pub mod failover;
#[cfg(feature = "failover")]
pub mod fallback;
#[cfg(feature = "grpc")]
pub mod grpc;
#[cfg(feature = "idempotency")]
pub mod idempotency;
pub mod loop_guard;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(feature = "retry")]
pub mod retry;
#[cfg(feature = "signature")]
pub mod signature;

// What puts layers together, or what they keep into one form.
#[cfg(feature = "dead-letter")]
pub mod codec;
#[cfg(feature = "queue")]
pub mod queue;
#[cfg(feature = "stack")]
pub mod stack;
#[cfg(feature = "hyper-util")]
pub mod transport;

// Private parts that several of them share.
mod call;
mod catch_panic;
#[cfg(any(feature = "dead-letter", feature = "idempotency"))]
mod credentials;
#[cfg(feature = "axum")]
#[cfg_attr(
    not(any(feature = "cognigy", feature = "idempotency", feature = "signature")),
    allow(dead_code)
)]
mod extract;
#[cfg(feature = "idempotency")]
mod fields;
#[cfg(any(
    feature = "axum",
    feature = "cognigy",
    feature = "hyper-util",
    feature = "queue"
))]
#[cfg_attr(not(any(feature = "hyper-util", feature = "queue")), allow(dead_code))]
mod json;
#[cfg(any(
    feature = "dead-letter",
    feature = "idempotency",
    feature = "signature",
    all(feature = "axum", feature = "cognigy")
))]
mod original_uri;
mod percent;
#[cfg(feature = "dead-letter")]
mod race;
mod refusal;
#[cfg(feature = "failover")]
mod unbuilt;

#[cfg(feature = "circuit-breaker")]
#[doc(inline)]
pub use self::circuit_breaker::CircuitBreakerLayer;
#[cfg(feature = "cognigy")]
#[doc(inline)]
pub use self::cognigy::CognigyEvent;
#[cfg(feature = "dead-letter")]
#[doc(inline)]
pub use self::dead_letter::DeadLetterLayer;
#[cfg(feature = "idempotency")]
#[doc(inline)]
pub use self::idempotency::IdempotencyLayer;
#[cfg(feature = "metrics")]
#[doc(inline)]
pub use self::metrics::DeliveryMetricsLayer;
#[cfg(feature = "retry")]
#[doc(inline)]
pub use self::retry::RetryWithJitterLayer;
#[cfg(feature = "signature")]
#[doc(inline)]
pub use self::signature::{SignLayer, SignatureVerifyLayer};
#[doc(inline)]
pub use self::{
    body::BufferBodyLayer,
    deadline::{AttemptTimeoutLayer, DeadlineLayer, PropagateDeadlineLayer},
    error::{InvalidConfig, StoreError, StoreErrorKind},
    loop_guard::LoopGuardLayer,
};
#[cfg(feature = "failover")]
#[doc(inline)]
pub use self::{failover::FailoverLayer, fallback::FallbackLayer};

/// A boxed error that can cross threads, as tower uses it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An error that becomes a [`BoxError`]: a bound of the layers that add errors of their own to those of the service inside.
///
/// Every type that is `Into<BoxError>` is one: errors that can cross threads, `String`, and `BoxError` itself.
#[diagnostic::on_unimplemented(
    message = "the error `{Self}` does not become a `tower_webhook::BoxError`",
    label = "the error of the service inside is no `Error + Send + Sync + 'static`",
    note = "implement `std::error::Error` for it, or put `.map_err(..)` around the service: `ServiceExt::map_err` of tower's feature `util`",
    note = "a `Box<dyn Error>` is not enough: return a `tower_webhook::BoxError`, which is a `Box<dyn Error + Send + Sync>`"
)]
pub trait IntoBoxError: Into<BoxError> {}

// Otherwise the compiler would tell of `From`, in its own words.
#[diagnostic::do_not_recommend]
impl<E: Into<BoxError>> IntoBoxError for E {}

/// A boxed future that can cross threads, for stores and sinks that go to a file or a server.
pub type BoxFuture<T> = std::pin::Pin<Box<dyn Future<Output = T> + Send>>;
