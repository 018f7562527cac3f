//! Who waits for work is told when there is some: a pure record of what has happened since anybody
//! looked, and whether those who sleep must be woken for it.

use tokio::time::Instant;

/// News, and until when the sleepers sleep.
#[derive(Debug, Default)]
pub(super) struct Bell {
    /// Counts news: who saw another number when they began to wait has something to look at.
    version: u64,
    /// There is something that nobody has looked at: for those who looked just before it came and
    /// wait only now.
    pending: bool,
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
        self.pending = true;
        self.wake();
    }

    /// Something will happen at this time: whoever sleeps past it must set the alarm clock anew.
    pub(super) fn alarm(&mut self, at: Instant) {
        if self.armed.is_some_and(|armed| at < armed) {
            self.wake();
        }
    }

    /// Nothing is left that could be claimed.
    pub(super) const fn quiet(&mut self) {
        self.pending = false;
    }

    /// Whether somebody who has seen this version need not sleep. News that came before they began
    /// to wait are told once: whoever cannot use them would else spin.
    pub(super) const fn has_news(&mut self, seen: u64) -> bool {
        let pending = self.pending;
        if self.version != seen {
            return true;
        }
        self.pending = false;
        pending
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
