//! What keeps calls within limits: how often an API is called, and what a target is before it is registered.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod rate_limit;
