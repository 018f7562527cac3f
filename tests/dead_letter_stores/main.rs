//! Dead letters at rest: their JSON form, the way to a sink, and the sinks in memory and in a file,
//! with what goes wrong there.
#![cfg(feature = "dead-letter")]
#![allow(clippy::unwrap_used, clippy::expect_used)]
// Children of the tests speak through their stdout.
#![allow(clippy::print_stdout)]

#[path = "../support/child.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod child;

mod entries;
mod gone;
mod journal;
mod json;
mod jsonl;
mod memory;
mod support;
mod trouble;
