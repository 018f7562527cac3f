//! Telling again of what is left, to those who may not have been told.
//!
//! Workers of one process share an engine, and one may look at what another could use and it
//! cannot: its target is full by the terms of the one and not of the other. Who is about to wait has
//! not heard of it then, and an engine does not know who waits. So those who wait are told again,
//! a few times, after longer and longer waits: soon enough for who could use it, and too seldom for
//! who cannot to run in circles. What nobody could use by any terms is no reason.

use std::time::Duration;

/// How often what came once is told again.
const REPEATS: u32 = 5;

/// How long somebody waits who is told again, after so many times: 1, 4, 16, 64 and 256 ms.
pub(super) const fn gap(told: u32) -> Option<Duration> {
    if told < REPEATS {
        Some(Duration::from_millis(1 << (2 * told)))
    } else {
        None
    }
}

/// The most that anybody has asked for so far: what is left is left by these terms.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Widest {
    /// How many jobs of a target may run. 0 while nobody asked for jobs.
    pub(super) per_target: u32,
    /// Whether somebody writes entries.
    pub(super) failed_jobs: bool,
}

impl Widest {
    pub(super) fn widen(&mut self, terms: &super::Terms) {
        if terms.jobs > 0 {
            self.per_target = self.per_target.max(terms.per_target);
        }
        self.failed_jobs |= terms.failed_jobs > 0;
    }
}
