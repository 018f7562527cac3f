//! Refuse what is not signed; sign what is sent.
//!
//! [`SignatureVerifyLayer`] lets a request pass when a [`scheme`] finds that someone who
//! holds one of its keys signed exactly these bytes, recently. [`SignLayer`] writes the headers
//! that such a layer verifies.
//!
//! # Refusals
//!
//! | What | Status | [`SignatureError`] |
//! | --- | --- | --- |
//! | a header is not there | 401 | [`Missing`](SignatureError::Missing) |
//! | a header is there twice, or is not what the scheme says | 401 | [`Malformed`](SignatureError::Malformed) |
//! | the timestamp is outside the tolerance | 401 | [`Stale`](SignatureError::Stale), [`Early`](SignatureError::Early) |
//! | no key made this signature over these bytes | 401 | [`Mismatch`](SignatureError::Mismatch) |
//! | received before, where replays are refused | 401 | [`Replayed`](SignatureError::Replayed) |
//! | too many messages to remember one more | 503 | [`ReplayCacheFull`](SignatureError::ReplayCacheFull) |
//!
//! All the 401 look alike to the caller. The typed reason is among the response's extensions, and
//! in a `tracing` event. A body that is too long (413) or cannot be read (400) is refused by
//! [`BufferBodyLayer`](crate::BufferBodyLayer), before anything is verified.
//!
//! # Order
//!
//! Inside [`BufferBodyLayer`](crate::BufferBodyLayer): the body is verified as bytes, never as what
//! a parser makes of them. Outside idempotency and everything else that trusts the request: an id
//! that was not verified lets anyone use up the ids of others. The handler finds [`Verified`] among
//! the request's extensions.
//!
//! On the way out, [`SignLayer`] stands inside the retry and [`MessageIdLayer`] outside it.
//!
//! # Rotation
//!
//! A scheme takes several [`Secrets`], each with a label, and its `signing_keys()` give a [`SigningKeys`] handle
//! that replaces them while requests are served. The label that matched is in [`Verified`];
//! [`SigningKeys::usage`] counts.
//!
//! # Replays
//!
//! A signature says who wrote a message, not how often it was sent. A scheme that signs a timestamp
//! lets a copy pass for the tolerance of 300 seconds; [`SignatureVerifyLayer::reject_replays`]
//! closes that. A scheme that does not (GitHub, Shopify, Cognigy's hex and base64) lets it pass
//! for ever: put idempotency behind it, as one should in any case.
//!
//! # Cancel safety
//!
//! Verification is done in `call`, before there is a future to drop. Dropping the response future
//! drops that of the handler; where replays are refused, the message then counts as not received.
//! Dropping the future of [`Sign`] drops that of the transport; nothing else is held.
//!
//! # Examples
//!
//! ```
//! use http::{Request, Response, StatusCode};
//! use std::convert::Infallible;
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_webhook::SignatureVerifyLayer;
//! use tower_webhook::body::BufferedBody;
//! use tower_webhook::signature::{SignatureError, Verified, scheme::GitHub};
//!
//! # tokio_test::block_on(async {
//! let scheme = GitHub::new("It's a Secret to Everybody").map_err(|_| ()).unwrap();
//! let service = SignatureVerifyLayer::new(scheme).layer(service_fn(
//!     |req: Request<BufferedBody>| async move {
//!         assert_eq!(req.extensions().get::<Verified>().map(Verified::scheme), Some("github"));
//!         Ok::<_, Infallible>(Response::new(req.into_body()))
//!     },
//! ));
//!
//! let signed = |body| {
//!     Request::builder()
//!         .header(
//!             "x-hub-signature-256",
//!             "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
//!         )
//!         .body(BufferedBody::from(body))
//!         .unwrap()
//! };
//! let passed = service.clone().oneshot(signed("Hello, World!")).await?;
//! assert_eq!(passed.status(), StatusCode::OK);
//!
//! let refused = service.oneshot(signed("Hello, Mallory!")).await?;
//! assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
//! assert_eq!(refused.extensions().get(), Some(&SignatureError::Mismatch));
//! # Ok::<_, Infallible>(())
//! # }).unwrap();
//! ```

#[cfg(feature = "ed25519")]
mod ed25519;
mod error;
mod mac;
mod message;
mod replay;
pub mod scheme;
mod secrets;
mod sign;
mod verify;

#[doc(inline)]
pub use self::{
    error::{Defect, SignatureError},
    mac::{Backend, Encoding},
    message::{Message, Tolerance, Verified},
    replay::ReplayCache,
    scheme::Scheme,
    secrets::{Secret, SecretLabel, SecretUsage, Secrets, SigningKeys},
    sign::{
        MessageId, MessageIdLayer, Outgoing, SetMessageId, Sign, SignError, SignLayer, SignScheme,
    },
    verify::{ResponseFuture, SignatureVerify, SignatureVerifyLayer},
};
