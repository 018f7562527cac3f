//! What a queue promises, of the engine in memory.

#![cfg(feature = "queue")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod memory;
mod model;

use std::time::Duration;
use tower_webhook::{
    attempt::{AttemptRecord, History},
    outcome::Outcome,
};

/// A history of so many attempts.
fn history(attempts: u32) -> History {
    let mut history = History::new();
    for number in 1..=attempts {
        let (started, took) = (Duration::ZERO, Duration::from_millis(7));
        history.push(AttemptRecord::new(
            number,
            started,
            took,
            Outcome::transient(),
        ));
    }
    history
}
