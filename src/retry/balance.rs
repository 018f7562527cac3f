//! The balance of a budget: what came in and went out in the slots of the window. The slot is an argument.
//!
//! The model checker in `tests/loom` includes this file.

use super::sync::{AtomicU64, Mutex, MutexGuard, Ordering, PoisonError};

/// The number of slots of the window.
const SLOTS: usize = 10;

/// One retry in the unit of the balance, which is a millionth of a retry.
pub(super) const RETRY: u64 = 1_000_000;

/// The bits of a tick, which is the number of a slot since the start. Enough for 21 years of the shortest slots.
pub(super) const TICK: u64 = (1 << 36) - 1;

pub(super) struct Balance {
    share: u64,
    /// The floor for a whole window, in millionths of a retry.
    reserve: u64,
    /// The first attempts in each slot, packed with the slot's tick. Without a lock, because every
    /// delivery adds one.
    deposits: [AtomicU64; SLOTS],
    /// The retries in each slot. Locked, because check and withdrawal must be one step; only retries
    /// take the lock.
    withdrawals: Mutex<[Withdrawn; SLOTS]>,
}

#[derive(Clone, Copy, Default)]
struct Withdrawn {
    tick: u64,
    retries: u64,
}

impl Balance {
    /// `share` is of a first attempt, `reserve` of the window, both in millionths of a retry.
    pub(super) fn new(share: u64, reserve: u64) -> Self {
        Self {
            share,
            reserve,
            deposits: Default::default(),
            withdrawals: Mutex::default(),
        }
    }

    /// Counts a first attempt.
    pub(super) fn deposit(&self, tick: u64) {
        let slot = &self.deposits[index(tick)];
        let mut seen = slot.load(Ordering::Relaxed);
        loop {
            let next = packed::add(seen, tick);
            match slot.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(newer) => seen = newer,
            }
        }
    }

    /// Takes back a first attempt.
    pub(super) fn retract(&self, tick: u64) {
        let slot = &self.deposits[index(tick)];
        let mut seen = slot.load(Ordering::Relaxed);
        while let Some(next) = packed::remove(seen, tick) {
            match slot.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(newer) => seen = newer,
            }
        }
    }

    /// The balance, in millionths of a retry.
    pub(super) fn left(&self, tick: u64) -> u64 {
        self.balance(tick, &self.withdrawals())
    }

    /// Visits each slot once, however long ago the last call was.
    fn balance(&self, tick: u64, withdrawals: &[Withdrawn; SLOTS]) -> u64 {
        let deposited: u64 = self
            .deposits
            .iter()
            .map(|slot| slot.load(Ordering::Relaxed))
            .filter(|&slot| is_recent(packed::tick(slot), tick))
            .map(packed::count)
            .sum();
        let withdrawn: u64 = withdrawals
            .iter()
            .filter(|slot| is_recent(slot.tick, tick))
            .map(|slot| slot.retries)
            .fold(0, u64::saturating_add);
        deposited
            .saturating_mul(self.share)
            .saturating_add(self.reserve)
            .saturating_sub(withdrawn.saturating_mul(RETRY))
    }

    /// Withdraws one retry, and returns the tick of the slot that counts it.
    pub(super) fn withdraw(&self, tick: u64) -> Option<u64> {
        let mut withdrawals = self.withdrawals();
        if self.balance(tick, &withdrawals) < RETRY {
            return None;
        }
        let slot = &mut withdrawals[index(tick)];
        // A thread that read the clock earlier adds to the current slot.
        if slot.tick < tick {
            *slot = Withdrawn { tick, retries: 0 };
        }
        slot.retries = slot.retries.saturating_add(1);
        Some(slot.tick)
    }

    /// Gives back a retry that the slot of this tick counts.
    pub(super) fn release(&self, tick: u64) {
        let slot = &mut self.withdrawals()[index(tick)];
        if slot.tick == tick {
            slot.retries = slot.retries.saturating_sub(1);
        }
    }

    /// Nothing under the lock can panic, so poisoning is ignored.
    fn withdrawals(&self) -> MutexGuard<'_, [Withdrawn; SLOTS]> {
        self.withdrawals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn index(tick: u64) -> usize {
    usize::try_from(tick % SLOTS as u64).unwrap_or_default()
}

/// Whether the slot `then` is inside the window at `now`. A slot in the future was filled by a thread
/// that read the clock later, and counts.
const fn is_recent(then: u64, now: u64) -> bool {
    then.saturating_add(SLOTS as u64) > now
}

/// The tick of a slot and its count, in one word.
mod packed {
    /// Enough for 268 million first attempts in a slot; more are not counted.
    const COUNT: u64 = (1 << 28) - 1;

    pub(super) const fn tick(slot: u64) -> u64 {
        slot >> 28
    }

    pub(super) const fn count(slot: u64) -> u64 {
        slot & COUNT
    }

    pub(super) const fn add(slot: u64, now: u64) -> u64 {
        // A thread that read the clock earlier adds to the current slot.
        if tick(slot) < now {
            return (now << 28) | 1;
        }
        if count(slot) == COUNT { slot } else { slot + 1 }
    }

    /// `None` if the slot counts another time by now, or nothing.
    pub(super) const fn remove(slot: u64, then: u64) -> Option<u64> {
        if tick(slot) == then && count(slot) > 0 {
            Some(slot - 1)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_slot_stays_full() {
        let full = (3 << 28) | ((1 << 28) - 1);
        assert_eq!(packed::add(full, 3), full);
        assert_eq!(packed::add(full - 1, 3), full);
    }
}
