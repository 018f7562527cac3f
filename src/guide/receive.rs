//! Receive from one sender.
//!
//! Find the sender in [`signature::scheme`](crate::signature::scheme), and take the secret from its settings page. One call
//! builds the layers in their order:
//!
//! ```
//! use axum::{Json, Router, routing::post};
//! use serde_json::{Value, json};
//! use tower_webhook::{
//!     InvalidConfig,
//!     idempotency::MemoryStore,
//!     signature::{Signed, Verified, scheme::StandardWebhooks},
//!     stack,
//! };
//!
//! fn app(secret: &str) -> Result<Router, InvalidConfig> {
//!     let receive = stack::receive(StandardWebhooks::new(secret)?) // Stripe::new, GitHub::new, ...
//!         .once(MemoryStore::default()) // a repeat gets the first answer
//!         .build();
//!     Ok(Router::new().route("/hooks", post(on_event)).layer(receive))
//! }
//!
//! async fn on_event(verified: Verified, Signed(Json(event)): Signed<Json<Value>>) -> Json<Value> {
//!     println!("{event}");
//!     Json(json!({ "handled": verified.id() }))
//! }
//! # drop(app("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?);
//! # Ok::<_, InvalidConfig>(())
//! ```
//!
//! # What makes an event the same
//!
//! Senders repeat: after a timeout, after an error, and sometimes for no reason. `once` recognises a repeat by the id that
//! the signature covers. Where the sender signs none, [`once_by`](crate::stack::ReceiveBuilder::once_by) names another:
//!
//! | Sender | Key |
//! | --- | --- |
//! | Standard Webhooks, Svix | the id is signed: `once(store)` |
//! | Stripe and others with an id in the body | `KeySource::json_pointer("/id")?` |
//! | GitHub | `KeySource::header(HeaderName::from_static("x-github-delivery"))`; it is not signed, so this stops genuine repeats only |
//! | none has an id | `KeySource::body_digest()`: the same bytes are the same event |
//!
//! What the handler answers with 2xx is stored and repeated. Another answer is not: the sender may try again, and the handler
//! runs again. Memory is lost with the process; `SqliteStore` of `tower-webhook-sqlite` is not.
//!
//! # Test the handler
//!
//! [`SignLayer`](crate::SignLayer) signs as the sender does, so a test needs no fixture:
//!
//! ```
//! use axum::{Router, body::Body, routing::post};
//! use http::Request;
//! use tower::{Layer, ServiceExt};
//! use tower_webhook::{BoxError, SignLayer, body::BufferedBody, signature::scheme::StandardWebhooks, stack};
//!
//! # tokio_test::block_on(async {
//! let scheme = StandardWebhooks::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?;
//! let app = Router::new()
//!     .route("/hooks", post(|body: String| async move { body.len().to_string() }))
//!     .layer(stack::receive(scheme.clone()).build());
//!
//! let sender = app.clone().map_request(|req: Request<BufferedBody>| req.map(Body::new));
//! let sender = SignLayer::new(scheme).layer(sender.map_err(BoxError::from));
//! let signed = Request::post("/hooks").header("webhook-id", "msg_1").body(BufferedBody::from("{}"))?;
//! assert_eq!(sender.oneshot(signed).await?.status(), 200);
//!
//! let forged = Request::post("/hooks").body(Body::from("{}"))?;
//! assert_eq!(app.oneshot(forged).await?.status(), 401);
//! # Ok::<_, BoxError>(())
//! # }).unwrap();
//! ```
//!
//! # Why 401?
//!
//! The sender is not told, because that would help a forger. The log is: where a `tracing` subscriber is installed, a
//! refusal is a line at `WARN` with its reason. A flood is throttled: of the refusals of one scheme for one kind of reason, ten in ten
//! seconds are lines at `WARN`. The others are at `DEBUG`, and the next line at `WARN` counts them, as `more`. An
//! [observer](crate::observe) hears of all.
//!
//! | Reason | Nearly always |
//! | --- | --- |
//! | no secret matches its signature | the secret of another endpoint or environment; or something on the way parsed the body and wrote it anew |
//! | it lacks a header | another scheme, or a proxy that drops headers |
//! | its timestamp is too old or in the future | a clock, or a request that was recorded |
//!
//! The bytes that were signed must arrive: no layer outside may decompress or change the body, and the handler must not verify
//! what it has serialised itself.
//!
//! # Limits
//!
//! A body may have 1 MiB ([`max_body`](crate::stack::ReceiveBuilder::max_body)); GitHub sends up to 25 MiB. axum's
//! own `Json` and `Bytes` refuse more than 2 MB: take [`Signed`](crate::signature::Signed), which has the bytes already, or lift
//! axum's `DefaultBodyLimit`. What has no valid
//! signature is refused before its body is read, where the head shows that. The number of connections is for the server to
//! limit.
