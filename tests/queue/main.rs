//! What a queue promises, of the engine in memory.

#![cfg(feature = "queue")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod memory;
