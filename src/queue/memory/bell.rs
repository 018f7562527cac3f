//! Who waits for work is told when there is some: a pure record of what has happened since anybody
//! looked, and whether those who sleep must be woken for it.

use crate::queue::renotify;
use tokio::time::Instant;

/// News, and until when the sleepers sleep.
#[derive(Debug, Default)]
pub(super) struct Bell {
    /// Counts news: who saw another number when they began to wait has something to look at.
    version: u64,
    /// Nobody has looked since.
    fresh: bool,
    /// Who looked last left something that another might take.
    left: bool,
    /// How often those who wait were told of it again.
    told: u32,
    /// The latest moment for which a sleeper has set its alarm clock.
    armed: Option<Instant>,
    ring: bool,
}

impl Bell {
    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    /// Something can be claimed that could not be claimed before.
    pub(super) fn news(&mut self) {
        self.version = self.version.wrapping_add(1);
        self.fresh = true;
        self.told = 0;
        self.wake();
    }

    /// Something will happen at this time: whoever sleeps past it must set the alarm clock anew.
    pub(super) fn alarm(&mut self, at: Instant) {
        if self.armed.is_some_and(|armed| at < armed) {
            self.wake();
        }
    }

    /// Somebody looked, and took what it could. Whether something is left for others.
    pub(super) const fn looked(&mut self, left: bool) {
        self.fresh = false;
        self.left = left;
    }

    /// Whether somebody who has seen this version, and waits since `began`, need not sleep.
    pub(super) fn has_news(&mut self, seen: u64, began: Instant, now: Instant) -> bool {
        if self.version != seen || self.fresh {
            return true;
        }
        let is_due = self.renotify_at(began).is_some_and(|at| at <= now);
        self.told += u32::from(is_due);
        is_due
    }

    /// When somebody who waits since then is told again of what is left.
    pub(super) fn renotify_at(&self, began: Instant) -> Option<Instant> {
        let gap = renotify::gap(self.told).filter(|_| self.left)?;
        Some(began + gap)
    }

    /// Somebody goes to sleep until then.
    pub(super) fn sleeps(&mut self, until: Instant) {
        self.armed = self.armed.max(Some(until));
    }

    /// Whether the sleepers are to be woken now.
    pub(super) const fn take_ring(&mut self) -> bool {
        std::mem::replace(&mut self.ring, false)
    }

    const fn wake(&mut self) {
        self.ring = true;
        // They all set it again.
        self.armed = None;
    }
}
