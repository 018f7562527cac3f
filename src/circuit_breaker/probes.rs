//! The calls that a half-open breaker lets through.

use super::rules::Tick;

/// One round of probes: from half-open to open or closed.
#[derive(Debug, Default)]
pub(super) struct Probes {
    leases: Vec<Lease>,
    /// The last ticket given out in this round. Zero is no ticket.
    last: u32,
    pub(super) successes: u32,
}

#[derive(Debug)]
struct Lease {
    ticket: u32,
    until: Tick,
}

impl Probes {
    /// A ticket for one more probe, or the time when the first place may be free.
    pub(super) fn admit(&mut self, now: Tick, limit: u32, lease: u64) -> Result<u32, Tick> {
        if self.leases.len() >= limit as usize {
            let first = self.leases.iter().map(|lease| lease.until).min();
            return Err(first.unwrap_or(now));
        }
        self.last = self.last.wrapping_add(1).max(1);
        self.leases.push(Lease {
            ticket: self.last,
            until: now.after(lease),
        });
        Ok(self.last)
    }

    /// Takes back the places of probes that outlasted their lease; says how many.
    pub(super) fn expire(&mut self, now: Tick) -> u64 {
        let before = self.leases.len();
        self.leases.retain(|lease| now < lease.until);
        (before - self.leases.len()) as u64
    }

    /// Gives back the place of a probe that ended. `false` where it had been taken back.
    pub(super) fn release(&mut self, ticket: u32) -> bool {
        let found = self.leases.iter().position(|lease| lease.ticket == ticket);
        found.map(|at| self.leases.swap_remove(at)).is_some()
    }

    pub(super) const fn in_flight(&self) -> usize {
        self.leases.len()
    }

    /// Begins another round.
    pub(super) fn clear(&mut self) {
        // `last` stays: a ticket is not used twice.
        self.leases.clear();
        self.successes = 0;
    }
}
