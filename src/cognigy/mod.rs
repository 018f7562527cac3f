//! Typed NICE Cognigy events, and responses to them.
//!
//! [`CognigyEvent`] reads the events of the documents' contract, [`WebhookDelivery`] the output of the official platform's
//! Webhook Endpoint. [`EventLayer`] reads the event of a verified request once, for the layers and the handler inside.
//!
//! # Examples
//!
//! ```
//! use serde::Deserialize;
//! use tower_webhook::cognigy::{Ack, CognigyEvent, Envelope, EventError, EventType};
//!
//! #[derive(Deserialize)]
//! struct UserInput<'a> {
//!     input: &'a str,
//! }
//!
//! fn handle(event: &Envelope) -> Result<Ack, EventError> {
//!     match event.event_type() {
//!         EventType::UserInputReceived => {
//!             let UserInput { input } = event.payload_as()?;
//!             println!("{} says {input}", event.contact_id().unwrap_or("somebody"));
//!         }
//!         // New types are acknowledged: refusing them makes the sender repeat them.
//!         other => println!("ignored: {other}"),
//!     }
//!     Ok(Ack::accepted())
//! }
//!
//! let event = CognigyEvent::from_bytes(
//!     r#"{"eventId":"evt_1","timestamp":"2024-01-15T10:00:00Z","type":"USER_INPUT_RECEIVED",
//!         "payload":{"input":"hello"},"userId":"u-1"}"#,
//! )?;
//! let CognigyEvent::Envelope(envelope) = &event else { unreachable!() };
//! assert_eq!(handle(envelope)?, Ack::accepted());
//!
//! let error = CognigyEvent::from_bytes(
//!     r#"{"eventId":"evt_2","timestamp":"2024-01-15T10:00:00Z","type":"PROFILE_UPDATED","payload":{}}"#,
//! )
//! .unwrap_err();
//! assert_eq!(error.field(), Some("payload.profile"));
//! # Ok::<_, EventError>(())
//! ```
//!
//! # Order
//!
//! Outside: the signature layer, which needs the buffer layer, then [`EventLayer`], which reads the event once, and
//! the idempotency layer, whose key is the id of the event. Parsing before verification would parse data from
//! anyone.
//!
//! # Settings
//!
//! Of [`EventLayer`]:
//!
//! | Setting | Default | Meaning |
//! | --- | --- | --- |
//! | [`kept`](EventLayer::kept) | 7 days | time for which an id is recognised as a repeat: an event that is older is refused |
//! | [`refuse_with`](EventLayer::refuse_with) | `application/problem+json` | makes the response to a refused request |
//! | [`clock`](EventLayer::clock) | the system clock | measures the age of an event |
//! | [`observe`](EventLayer::observe) | none except `tracing` | adds an observer of [`Event::Refused`](crate::observe::Event::Refused) |
//!
//! Those of [`presets`] for the outbound layers are documented there.
//!
//! # Answers
//!
//! | Request | Status | Reason |
//! | --- | --- | --- |
//! | its body is not an event | 400 | [`EventRejection::Event`]: names the field and the expected value, and never quotes a value |
//! | the event is too old to be recognised as a repeat, or of the future | 400 | [`EventError::Stale`] |
//! | no layer outside has verified it | 500 | [`EventRejection::Unverified`] |
//!
//! Not an event: a body that is not JSON in UTF-8 (a byte order mark included), not an object, or nested deeper
//! than 128 levels; a documented field that is missing, occurs twice, or has another type; an id with
//! control characters; a key (`eventId`, `conversationId`) that is empty, longer than 255 bytes, or has whitespace
//! around it. `null` means that an optional field is absent.
//!
//! # Cancel safety
//!
//! An event is read in `call`, before there is a future to drop. Dropping the response future of [`EventLayer`] drops the
//! handler's future.
//!
//! # Two contracts
//!
//! The publications on Cognigy webhooks describe two different things:
//!
//! - **The documents' contract**: signed webhooks as five tutorials describe them, called
//!   S0 to S4 here. Two of them define the events. S3 ("Implementing Resilient NICE Cognigy Webhook
//!   Handlers in Python") has the [`DialogEvent`], S4 ("Handling NICE Cognigy Webhook Events with
//!   Python") the [`Envelope`]. The vendor's publications mention neither these events, nor the
//!   `X-Cognigy-Signature` header that signs them, nor the routes of S0 to S4: gateways and shims that
//!   follow those tutorials send them.
//! - **The official platform**: the [`WebhookDelivery`] that Cognigy.AI's Webhook
//!   Endpoint posts for each output. It has no signature, no event id and no time; the endpoint
//!   authenticates with HTTP Basic.
//!
//! The route decides which of them applies, never a guess: [`CognigyEvent`] reads the first contract,
//! [`WebhookDelivery`] the second.
//!
//! # Unknown data
//!
//! Types and fields that this crate does not know are not errors, and `raw()` returns the unchanged
//! bytes. The open part (`payload`, `variables`, `AIOutput.data`) is checked to be JSON and otherwise
//! left alone until `payload_as` types it. Reading an event copies nothing.
//!
//! # In axum
//!
//! With the feature `axum`, [`CognigyEvent`], [`Envelope`], [`DialogEvent`] and [`WebhookDelivery`]
//! are extractors. They return the event in the bytes that an outer layer has verified, which are in the
//! request's [`signature::Verified`](crate::signature), without a copy. The body of the request is not read: if a
//! layer inside the signature layer replaces it, the extractors still return what was verified. If an
//! [`EventLayer`] has read these bytes, its event is taken from the extensions and nothing is read again. Without
//! verified bytes they answer 500, because a route without a signature layer would accept events from anyone.
//! A bad event is answered with 400 and `application/problem+json`. `Unverified` skips the check: it reads the
//! body, up to 1 MiB whatever axum's `DefaultBodyLimit` is, and answers 413 to a longer one.
//!
//! An extractor reports refused events, and routes without a signature layer, to the
//! [`Observers`](crate::observe::Observers) in the request's extensions and to `tracing`. The router inserts
//! them: `.layer(axum::Extension(observers))`.
//!
//! ```
//! # #[cfg(all(feature = "axum", feature = "signature"))]
//! # tokio_test::block_on(async {
//! use axum::{Router, body::Body, http::Request, routing::post};
//! use tower::{ServiceBuilder, ServiceExt};
//! use tower_webhook::cognigy::{Ack, WebhookDelivery};
//! use tower_webhook::signature::scheme::BasicAuth;
//! use tower_webhook::{BoxError, BufferBodyLayer, SignatureVerifyLayer};
//!
//! async fn on_output(delivery: WebhookDelivery) -> Ack {
//!     println!("session {} says {:?}", delivery.session_id(), delivery.text());
//!     Ack::accepted()
//! }
//!
//! let app: Router = Router::new().route("/webhooks/cognigy/endpoint", post(on_output)).layer(
//!     ServiceBuilder::new() // outermost first
//!         .layer(BufferBodyLayer::new(1 << 20))
//!         .layer(SignatureVerifyLayer::new(BasicAuth::new("cognigy", "a long random text")?)),
//! );
//!
//! let request = Request::post("/webhooks/cognigy/endpoint")
//!     .header("authorization", "Basic Y29nbmlneTphIGxvbmcgcmFuZG9tIHRleHQ=")
//!     .body(Body::from(
//!         r#"{"userId":"u","sessionId":"s","AIOutput":{"text":"Hello!","traceId":"t"}}"#,
//!     ))?;
//! assert_eq!(app.oneshot(request).await?.status(), 200);
//! # Ok::<_, BoxError>(())
//! # }).unwrap();
//! ```

mod answer;
mod error;
mod event;
#[cfg(feature = "axum")]
mod extract;
mod json;
#[cfg(feature = "signature")]
mod layer;
mod platform;
pub mod presets;
mod typed;

#[cfg(feature = "axum")]
pub use self::extract::Unverified;
#[cfg(feature = "signature")]
pub use self::layer::{EventLayer, ReadEvent};
pub use self::{
    answer::{Ack, DialogAnswer, LookupVariables},
    error::{EventError, EventRejection},
    event::{CognigyEvent, DialogEvent, Envelope, EventType},
    platform::{Source, WebhookDelivery},
};
#[cfg(feature = "signature")]
pub use crate::refusal::CallOrRefusal as ResponseFuture;
