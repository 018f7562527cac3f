//! When waiters are woken: a pure record of what has become claimable since the last claim.

use crate::queue::renotify;
use tokio::time::Instant;

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
        let gap = renotify::gap(self.told).filter(|_| self.left)?;
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
