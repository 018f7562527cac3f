//! Tower layers for webhooks.
#![forbid(unsafe_code)]
#![warn(missing_docs, missing_debug_implementations, unreachable_pub)]
#![warn(clippy::expect_used, clippy::unwrap_used)]
#![cfg_attr(test, allow(clippy::expect_used, clippy::unwrap_used))]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod body;
pub mod clock;
#[cfg(feature = "idempotency")]
pub mod idempotency;
pub mod problem;

mod config;
mod trace;

#[cfg(feature = "idempotency")]
#[doc(inline)]
pub use self::idempotency::IdempotencyLayer;
#[doc(inline)]
pub use self::{body::BufferBodyLayer, config::InvalidConfig};

/// A boxed error that can cross threads, as tower uses it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
