//! SQLite for [`tower_webhook`]: the idempotency store, the queue, the dead letters and the accepted
//! events in one file.
#![forbid(unsafe_code)]
#![warn(missing_docs, missing_debug_implementations, unreachable_pub)]
#![warn(
    clippy::expect_used,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used
)]
#![cfg_attr(test, allow(clippy::expect_used, clippy::unwrap_used))]

pub mod database;
pub mod dead_letter;
pub mod events;
pub mod idempotency;
pub mod queue;
mod stored;

#[doc(inline)]
pub use self::{
    database::Database,
    dead_letter::SqliteDeadLetters,
    events::{AcceptedEvent, AcceptedEvents},
    idempotency::SqliteStore,
    queue::SqliteQueue,
};

/// The code of the project's README, as tests: it needs this crate beside the library.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
