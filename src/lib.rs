//! `Layer<S>` for webhooks: receive each one once, from who signed it; sign the ones you send.
//!
//! Composable [tower] layers for any hyper, axum or tonic app. A request is read under a limit,
//! verified over its very bytes, and handled once however often its sender repeats it; the handler
//! gets a typed event. On the way out, requests are signed afresh at each attempt.
//!
//! [tower]: https://docs.rs/tower
//!
//! # Receiving
//!
//! ```
//! use axum::{Router, body::Body, routing::post};
//! use http::{Request, StatusCode};
//! use tower::{ServiceBuilder, ServiceExt};
//! use tower_webhook::{
//!     BufferBodyLayer, CognigyEvent, IdempotencyLayer, SignatureVerifyLayer,
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
//! let once = IdempotencyLayer::webhook(MemoryStore::default(), KeySource::json_pointer("/eventId"));
//! let app = Router::new().route("/hooks", post(on_event)).layer(
//!     ServiceBuilder::new() // outermost first
//!         .layer(BufferBodyLayer::new(1 << 20))
//!         .layer(SignatureVerifyLayer::new(scheme))
//!         .layer(once.build()?),
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
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_webhook::{
//!     BoxError, SignLayer,
//!     body::BufferedBody,
//!     outcome::{Classify, HttpClassifier, MakeClassifier, OutcomeKind},
//!     signature::{MessageId, MessageIdLayer, scheme::StandardWebhooks},
//! };
//!
//! # tokio_test::block_on(async {
//! // The transport: a hyper-util client, reqwest, a tonic channel. Here a function.
//! let transport = service_fn(|req: Request<BufferedBody>| async move {
//!     assert!(req.headers().contains_key("webhook-signature"));
//!     Ok::<_, BoxError>(Response::builder().status(429).header("retry-after", "30").body(())?)
//! });
//! let client = ServiceBuilder::new()
//!     .layer(MessageIdLayer::new()) // one id, whatever retries stand behind it
//!     .layer(SignLayer::new(StandardWebhooks::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?))
//!     .service(transport);
//!
//! let req = Request::post("https://example.com/hooks").body(BufferedBody::from("{}"))?;
//! // What came of it, in the words that every layer understands.
//! let classifier = HttpClassifier::new().make_classifier(&req);
//! let result = client.oneshot(req).await;
//! let outcome = classifier.classify(result.as_ref());
//! assert_eq!(outcome.kind(), OutcomeKind::Throttled);
//! assert_eq!(outcome.retry_after().map(|wait| wait.as_secs()), Some(30));
//! # let _ = MessageId::generate();
//! # Ok::<_, BoxError>(())
//! # }).unwrap();
//! ```
//!
//! # Layers
//!
//! | Layer | In one line |
//! | --- | --- |
//! | [`BufferBodyLayer`] | read the body once, under a limit and a deadline; every later layer shares its bytes |
//! | [`SignatureVerifyLayer`] | refuse what no known secret has signed, or too long ago |
//! | [`IdempotencyLayer`] | run the handler once per key; repeats get the stored answer |
//! | [`SignLayer`] | sign each attempt afresh: same id, new timestamp |
//!
//! And beside them: [`CognigyEvent`] and the other types of [`cognigy`]; [`outcome`], one verdict on
//! a call for everything that must judge one; [`sqlite`], the file behind
//! [`SqliteStore`](idempotency::SqliteStore); [`problem`], what refused callers are told.
//!
//! # Order
//!
//! ```text
//! receive   buffer body > verify signature > idempotency > typed extractor > handler
//! send      message id > (retry) > sign > transport
//! ```
//!
//! Each module says what must stand outside and inside it, and what goes wrong otherwise: an id
//! that is remembered before it is verified can be burnt by anyone; a request that is signed
//! before it waits is stale when it arrives.
//!
//! # Features
//!
//! | Feature | Default | What it adds |
//! | --- | --- | --- |
//! | `signature` | yes | [`signature`]: verify and sign |
//! | `idempotency` | yes | [`idempotency`]: the layer, the store trait and its contract |
//! | `moka` | yes | [`MemoryStore`](idempotency::MemoryStore) |
//! | `cognigy` | yes | [`cognigy`]: typed events and answers |
//! | `sqlite` | | [`sqlite`] and [`SqliteStore`](idempotency::SqliteStore), with SQLite built in |
//! | `ed25519` | | Standard Webhooks `v1a` signatures |
//! | `aws-lc-rs` | | MACs through aws-lc: the same results, about 1.8 times as fast without SHA instructions |
//! | `canonical-json` | | fingerprints over canonical JSON (RFC 8785) |
//! | `axum` | | extractors, and the original path of nested routers |
//! | `tracing` | | events and spans, under the target `tower_webhook` |
//! | `full` | | all of these |
//!
//! Features only add. [`body`], [`clock`], [`outcome`] and [`problem`] are always there.
//!
//! # Cancel safety
//!
//! Dropping a future of this crate at any point leaks nothing: permits return, claims are released
//! or left to end with their lease. Each layer's module says what exactly happens.
//!
//! # What it needs
//!
//! Rust 1.89. A tokio runtime with time enabled, wherever something has to wait. No `unsafe` code
//! of its own.
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

pub mod attempt;
pub mod body;
pub mod clock;
#[cfg(feature = "cognigy")]
pub mod cognigy;
pub mod deadline;
pub mod grpc;
#[cfg(feature = "idempotency")]
pub mod idempotency;
pub mod key;
pub mod outcome;
pub mod problem;
#[cfg(feature = "retry")]
pub mod retry;
#[cfg(feature = "signature")]
pub mod signature;
#[cfg(feature = "sqlite")]
pub mod sqlite;

mod config;
mod trace;

#[cfg(feature = "cognigy")]
#[doc(inline)]
pub use self::cognigy::CognigyEvent;
#[cfg(feature = "idempotency")]
#[doc(inline)]
pub use self::idempotency::IdempotencyLayer;
#[cfg(feature = "retry")]
#[doc(inline)]
pub use self::retry::RetryWithJitterLayer;
#[cfg(feature = "signature")]
#[doc(inline)]
pub use self::signature::{SignLayer, SignatureVerifyLayer};
#[doc(inline)]
pub use self::{body::BufferBodyLayer, config::InvalidConfig};

/// A boxed error that can cross threads, as tower uses it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The README's code, as tests.
#[cfg(all(doctest, feature = "full"))]
#[doc = include_str!("../README.md")]
struct Readme;
