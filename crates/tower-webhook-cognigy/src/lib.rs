//! What surrounds Cognigy webhooks, made of the layers of [`tower_webhook`]: clients of both APIs, credentials, routing with
//! templates, probes, a rate limit. The typed events are the library's
//! ([`tower_webhook::cognigy`]).
//!
//! **Two APIs, and they are not the same.** `documents` speaks the webhook API of five tutorials, S0 to S4, whose routes have
//! no trace in Cognigy's own documentation. `platform` speaks the official platform, Cognigy.AI. Each module says which source
//! confirms what.
//!
//! | Module | Feature | Has |
//! | --- | --- | --- |
//! | `documents` | `documents` | list, register in three forms and in bulk, retry policies, validation, execution limits |
//! | `platform` | `platform` | the management API, endpoints, typed messages and payloads |
//! | `routing` | `routing` | definitions with conditions, targets and templates, as a tower service |
//! | `probe` | `probe` | whether a target can be reached, and by which version of TLS |
//! | `hook` | `documents`, `routing` | types that both have |
//! | `connection` | `documents`, `platform` | the layers that each call of a client goes through, and their settings |
//! | `https` | all of these but `routing` | an HTTPS client that follows [rules for targets](tower_webhook::target) |
//! | [`credential`] | none | API key, Basic and bearer tokens as a layer, to one origin only |
//! | [`rate_limit`] | none | requests in a window of time, as a layer |
//!
//! The features are on by default. `cli` builds the command `cognigy`.
//!
//! # Examples
//!
//! A client of your own behind the layers of this crate:
//!
//! ```
//! # use std::convert::Infallible;
//! # use http::{Request, Response};
//! # use tower::service_fn;
//! # use tower_webhook::{BoxError, body::BufferedBody};
//! use tower::{Layer, ServiceExt};
//! use tower_webhook_cognigy::{
//!     credential::{Credential, CredentialLayer},
//!     rate_limit::RateLimitLayer,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! # let client = service_fn(|req: Request<BufferedBody>| async move {
//! #     assert_eq!(req.headers()["x-api-key"], "9f1c");
//! #     Ok::<_, Infallible>(Response::new(BufferedBody::default()))
//! # });
//! let api = "https://api.cognigy.ai";
//! let key = CredentialLayer::new(Credential::api_key("9f1c")?, api)?;
//! let limit = RateLimitLayer::documents(); // 60 requests a minute for each key
//! let client = key.layer(limit.layer(client)); // what is sent once more after a 401 counts too
//!
//! let request = Request::get(format!("{api}/api/v2/webhooks")).body(BufferedBody::default())?;
//! let response = client.oneshot(request).await?;
//! assert!(response.status().is_success());
//! # Ok(())
//! # }
//! ```
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

#[cfg(feature = "client")]
#[cfg_attr(
    not(feature = "documents"),
    allow(
        dead_code,
        reason = "what it has for one client, the other may not need"
    )
)]
pub mod connection;
pub mod credential;
#[cfg(feature = "documents")]
pub mod documents;
#[cfg(feature = "client")]
#[cfg_attr(not(feature = "documents"), allow(dead_code, reason = "as above"))]
mod error;
#[cfg(any(feature = "documents", feature = "routing"))]
pub mod hook;
#[cfg(feature = "https")]
pub mod https;
#[cfg(feature = "platform")]
pub mod platform;
#[cfg(feature = "probe")]
pub mod probe;
pub mod rate_limit;
#[cfg(feature = "routing")]
pub mod routing;
#[cfg(any(feature = "documents", feature = "routing"))]
#[cfg_attr(
    not(feature = "routing"),
    allow(dead_code, reason = "only routing looks at what tags have in them")
)]
mod template;

#[cfg(feature = "client")]
#[doc(inline)]
pub use self::error::{ApiError, ApiErrorKind};

/// The code of the README, as a test.
#[cfg(all(doctest, feature = "documents", feature = "probe"))]
#[doc = include_str!("../README.md")]
struct Readme;
