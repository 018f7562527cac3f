//! How a worker treats jobs, its queue and its sinks, whatever goes wrong.

#![cfg(all(feature = "circuit-breaker", feature = "queue"))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod claims;
mod enqueue;
mod http;
mod outcomes;
mod requeue;
mod stopping;
mod support;
mod trouble;
mod typed;
