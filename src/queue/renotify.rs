//! Wakes waiters again for work that is left, in case the first one to look could not use it.
//!
//! The workers of one process share an engine. One of them may claim and leave a job because its
//! target is full by its terms, though not by those of another worker, which has not begun to wait yet
//! and so is not woken. An engine does not know who will wait. So waiters are woken again a few times,
//! after growing waits: soon enough for a worker that can use the job, and too rarely for one that
//! cannot to spin. Work that nobody can use by any terms wakes nobody.

use std::time::Duration;

/// How often waiters are woken again for the same work.
const REPEATS: u32 = 5;

/// The wait before waiters are woken again, after this many times: 1, 4, 16, 64 and 256 ms.
pub(super) const fn gap(told: u32) -> Option<Duration> {
    if told < REPEATS {
        Some(Duration::from_millis(1 << (2 * told)))
    } else {
        None
    }
}

/// The widest terms of any claim so far, by which it is judged whether work is left.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Widest {
    /// How many jobs of a target may run. 0 until jobs are asked for.
    pub(super) per_target: u32,
    /// Whether failed jobs are asked for.
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
