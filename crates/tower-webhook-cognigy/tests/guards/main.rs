//! What keeps calls within limits: how often an API is called, and what a target is before it is registered.

#![allow(clippy::expect_used, clippy::unwrap_used)]

#[cfg(feature = "probe")]
#[path = "../support/full.rs"]
mod full;
#[cfg(feature = "probe")]
mod probe;
mod rate_limit;
