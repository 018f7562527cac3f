//! Tower layers for webhooks.
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

pub mod body;
pub mod clock;
#[cfg(feature = "cognigy")]
pub mod cognigy;
#[cfg(feature = "idempotency")]
pub mod idempotency;
pub mod outcome;
pub mod problem;
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
#[cfg(feature = "signature")]
#[doc(inline)]
pub use self::signature::{SignLayer, SignatureVerifyLayer};
#[doc(inline)]
pub use self::{body::BufferBodyLayer, config::InvalidConfig};

/// A boxed error that can cross threads, as tower uses it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
