//! Signatures through the public API: what passes, what is refused and why, and what a refusal says.
#![cfg(feature = "signature")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

#[path = "../support/bodies.rs"]
mod bodies;
mod layer;
mod message_signatures;
mod peers;
mod properties;
mod public_key;
mod replay;
mod rotation;
mod sign;
mod strict;
mod support;
mod tenants;
mod vectors;
mod wycheproof;
