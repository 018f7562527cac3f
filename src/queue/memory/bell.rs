//! Decides when waiters are woken: a pure record of what has become claimable since the last claim.
//!
//! Waiters are woken again for remaining work, in case the first waiter could not use it.
//!
//! The workers of one process share an engine. Their terms may differ: one worker may claim and leave a
//! job because its target is full by its own terms, but not by those of another worker, which has not
//! begun to wait yet and so is not woken. An engine does not know who will wait. It therefore wakes
//! waiters again a few times, with growing gaps: soon enough for a worker that can use the job, and
//! rarely enough that a worker that cannot does not spin. Work that no terms allow wakes nobody.

use crate::queue::Terms;
use std::time::Duration;
use tokio::time::Instant;

/// How many times waiters are woken again for the same work.
const REPEATS: u32 = 5;

/// The wait before waiters are woken again, after `told` times: 1, 4, 16, 64 and 256 ms.
const fn gap(told: u32) -> Option<Duration> {
    if told < REPEATS {
        Some(Duration::from_millis(1 << (2 * told)))
    } else {
        None
    }
}

/// The widest terms of any claim so far. They decide whether work is left.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Widest {
    /// How many jobs of a target may run. 0 until a claim asks for jobs.
    pub(super) per_target: u32,
    /// Whether a claim has asked for failed jobs.
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

/// The work that has become claimable, and the time until which waiters sleep.
#[derive(Debug, Default)]
pub(super) struct Bell {
    /// Grows whenever work becomes claimable. A waiter that began with another version wakes.
    version: u64,
    /// Whether there was no claim since.
    fresh: bool,
    /// Whether the last claim left work that another worker might take.
    left: bool,
    /// How many times waiters were woken again for it.
    told: u32,
    /// The latest time until which any waiter sleeps.
    armed: Option<Instant>,
    ring: bool,
}

impl Bell {
    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    /// Records that work has become claimable.
    pub(super) fn news(&mut self) {
        self.version = self.version.wrapping_add(1);
        self.fresh = true;
        self.told = 0;
        self.wake();
    }

    /// Records that work becomes claimable at this time: a waiter that sleeps longer is woken.
    pub(super) fn alarm(&mut self, at: Instant) {
        if self.armed.is_some_and(|armed| at < armed) {
            self.wake();
        }
    }

    /// Records a claim, and whether it left work for others.
    pub(super) const fn looked(&mut self, left: bool) {
        self.fresh = false;
        self.left = left;
    }

    /// Whether a waiter that began with this version, at this time, wakes.
    pub(super) fn has_news(&mut self, seen: u64, began: Instant, now: Instant) -> bool {
        if self.version != seen || self.fresh {
            return true;
        }
        let is_due = self.renotify_at(began).is_some_and(|at| at <= now);
        self.told += u32::from(is_due);
        is_due
    }

    /// When a waiter that began at this time is woken again for remaining work.
    pub(super) fn renotify_at(&self, began: Instant) -> Option<Instant> {
        let gap = gap(self.told).filter(|_| self.left)?;
        Some(began + gap)
    }

    /// Records that a waiter sleeps until this time.
    pub(super) fn sleeps(&mut self, until: Instant) {
        self.armed = self.armed.max(Some(until));
    }

    /// Whether to wake the waiters now.
    pub(super) const fn take_ring(&mut self) -> bool {
        std::mem::replace(&mut self.ring, false)
    }

    const fn wake(&mut self) {
        self.ring = true;
        // Each waiter sets it again.
        self.armed = None;
    }
}
