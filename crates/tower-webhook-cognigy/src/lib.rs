//! Clients of both Cognigy webhook APIs, credentials, routing with templates, and probes, made of the layers of
//! [`tower_webhook`].
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
#[cfg(feature = "https")]
mod interim;
#[cfg(feature = "platform")]
pub mod platform;
#[cfg(feature = "probe")]
pub mod probe;
pub mod rate_limit;
#[cfg(feature = "routing")]
pub mod routing;

#[cfg(feature = "client")]
#[doc(inline)]
pub use self::error::{ApiError, ApiErrorKind};
