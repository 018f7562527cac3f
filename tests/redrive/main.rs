//! Sending dead letters again: once however many want it, removed after acceptance alone, nothing
//! lost wherever it is cut off.
#![cfg(all(feature = "dead-letter", feature = "stack"))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cancelled;
mod late;
mod many;
mod one;
mod refused;
mod support;
mod together;
mod trouble;
