//! Decides when waiters are woken: a pure record of the changes that made something claimable.

use tokio::time::Instant;

/// The changes, and the time until which waiters sleep.
#[derive(Debug, Default)]
pub(super) struct Bell {
    /// The number of changes. A waiter whose claim has seen fewer wakes. Never the default mark's.
    changes: u64,
    /// The latest time until which any waiter sleeps.
    armed: Option<Instant>,
    ring: bool,
}

impl Bell {
    /// The number of changes, from 1.
    pub(super) const fn changes(&self) -> u64 {
        self.changes.saturating_add(1)
    }

    /// Records that work has become claimable.
    pub(super) const fn news(&mut self) {
        self.changes = self.changes.saturating_add(1);
        self.wake();
    }

    /// Records that work becomes claimable at this time: a waiter that sleeps longer is woken.
    pub(super) fn alarm(&mut self, at: Instant) {
        if self.armed.is_some_and(|armed| at < armed) {
            self.wake();
        }
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
