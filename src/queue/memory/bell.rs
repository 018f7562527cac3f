//! When waiters are woken: a pure record of what has become claimable since the last claim.
//!
//! Waiters are woken again for work that is left, in case the first one to look could not use it.
//!
//! The workers of one process share an engine. One of them may claim and leave a job because its
//! target is full by its terms, though not by those of another worker, which has not begun to wait yet
//! and so is not woken. An engine does not know who will wait. So waiters are woken again a few times,
//! after growing waits: soon enough for a worker that can use the job, and too rarely for one that
//! cannot to spin. Work that nobody can use by any terms wakes nobody.

use crate::queue::Terms;
use std::time::Duration;
use tokio::time::Instant;

/// How often waiters are woken again for the same work.
const REPEATS: u32 = 5;

/// The wait before waiters are woken again, after this many times: 1, 4, 16, 64 and 256 ms.
const fn gap(told: u32) -> Option<Duration> {
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
    pub(super) fn widen(&mut self, terms: &Terms) {
        if terms.jobs > 0 {
            self.per_target = self.per_target.max(terms.per_target);
        }
        self.failed_jobs |= terms.failed_jobs > 0;
    }
}

/// What has become claimable, and until when waiters sleep.
#[derive(Debug, Default)]
pub(super) struct Bell {
    /// Grows with each thing that becomes claimable. A waiter that began at another number wakes.
    version: u64,
    /// Nothing was claimed since.
    fresh: bool,
    /// The last claim left something that another worker might take.
    left: bool,
    /// How often waiters were woken again for it.
    told: u32,
    /// The latest time until which a waiter sleeps.
    armed: Option<Instant>,
    ring: bool,
}

impl Bell {
    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    /// Something has become claimable.
    pub(super) fn news(&mut self) {
        self.version = self.version.wrapping_add(1);
        self.fresh = true;
        self.told = 0;
        self.wake();
    }

    /// Something becomes claimable at this time: a waiter that sleeps longer is woken.
    pub(super) fn alarm(&mut self, at: Instant) {
        if self.armed.is_some_and(|armed| at < armed) {
            self.wake();
        }
    }

    /// A claim was made, and left something for others or nothing.
    pub(super) const fn looked(&mut self, left: bool) {
        self.fresh = false;
        self.left = left;
    }

    /// Whether a waiter that began at this version and time wakes.
    pub(super) fn has_news(&mut self, seen: u64, began: Instant, now: Instant) -> bool {
        if self.version != seen || self.fresh {
            return true;
        }
        let is_due = self.renotify_at(began).is_some_and(|at| at <= now);
        self.told += u32::from(is_due);
        is_due
    }

    /// When a waiter that began then is woken again for what is left.
    pub(super) fn renotify_at(&self, began: Instant) -> Option<Instant> {
        let gap = gap(self.told).filter(|_| self.left)?;
        Some(began + gap)
    }

    /// A waiter sleeps until then.
    pub(super) fn sleeps(&mut self, until: Instant) {
        self.armed = self.armed.max(Some(until));
    }

    /// Whether the waiters are to be woken now.
    pub(super) const fn take_ring(&mut self) -> bool {
        std::mem::replace(&mut self.ring, false)
    }

    const fn wake(&mut self) {
        self.ring = true;
        // Each waiter sets it again.
        self.armed = None;
    }
}
