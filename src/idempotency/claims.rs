//! The claims of the memory store: a bounded map in shards, where each key is claimed once. Time, and the shard of a
//! key, are arguments. Times are in nanoseconds.
//!
//! The model checker in `tests/loom` includes this file.

use super::sync::{AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering, PoisonError};
use crate::lease::{FencingToken, Settled};
use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher, Hash},
};

/// The claims by key, each with what the store keeps of it.
pub(super) struct Claims<K, T, S> {
    shards: Box<[Shard<K, T, S>]>,
    counters: Counters,
    most: usize,
    /// No claim ends before this time. Until then a sweep finds nothing, so a full store does not sweep.
    earliest_end: AtomicU64,
}

/// On cache lines of its own, as are the counters, so that threads that use different shards do not
/// slow each other down.
#[repr(align(128))]
struct Shard<K, T, S>(Mutex<HashMap<K, Claim<T>, S>>);

/// The counters that every claim changes.
#[repr(align(128))]
struct Counters {
    /// The number of claims in all shards.
    in_flight: AtomicUsize,
    next_token: AtomicU64,
}

struct Claim<T> {
    token: FencingToken,
    kept: T,
    until: u64,
}

/// The result of [`Claims::begin`].
#[derive(Debug, PartialEq)]
pub(super) enum Begun<T, A> {
    Acquired(FencingToken),
    /// Another claim holds the key, for so long.
    Held {
        kept: T,
        left: u64,
    },
    /// The key is settled.
    Known(A),
    Full,
}

impl<K: Eq + Hash, T: Copy, S: BuildHasher + Default> Claims<K, T, S> {
    /// At most `most` claims, whose tokens begin with `token`.
    pub(super) fn new(shards: usize, most: usize, token: u64) -> Self {
        let shard = || Shard(Mutex::new(HashMap::default()));
        Self {
            shards: (0..shards).map(|_| shard()).collect(),
            counters: Counters {
                in_flight: AtomicUsize::new(0),
                next_token: AtomicU64::new(token),
            },
            most,
            earliest_end: AtomicU64::new(u64::MAX),
        }
    }

    /// The number of claims. Includes those whose lease has ended, until they are swept.
    pub(super) fn in_flight(&self) -> usize {
        self.counters.in_flight.load(Ordering::Relaxed)
    }

    /// Claims a key until `until`, unless it is claimed, or `known` finds that it is settled. `known` is called
    /// while the key is locked.
    pub(super) fn begin<A>(
        &self,
        at: usize,
        key: K,
        kept: T,
        [now, until]: [u64; 2],
        known: impl FnOnce(&K) -> Option<A>,
    ) -> Begun<T, A> {
        if self.in_flight() >= self.most {
            self.sweep(now);
        }
        let mut shard = self.shard(at);
        if let Some(claim) = shard.get(&key) {
            if claim.until > now {
                return Begun::Held {
                    kept: claim.kept,
                    left: claim.until - now,
                };
            }
        } else {
            // Under the shard's lock, as is what `settle` does: a key is always in one of the two.
            if let Some(known) = known(&key) {
                return Begun::Known(known);
            }
            let before = self.counters.in_flight.fetch_add(1, Ordering::Relaxed);
            if before >= self.most {
                self.counters.in_flight.fetch_sub(1, Ordering::Relaxed);
                return Begun::Full;
            }
        }
        let token = FencingToken::new(self.counters.next_token.fetch_add(1, Ordering::Relaxed));
        self.ends(until);
        let claim = Claim { token, kept, until };
        shard.insert(key, claim);
        Begun::Acquired(token)
    }

    /// Extends the claim of `token`.
    pub(super) fn renew(&self, at: usize, key: &K, token: FencingToken, until: u64) -> Settled {
        match self.shard(at).get_mut(key) {
            Some(claim) if claim.token == token => {
                claim.until = until;
                self.ends(until);
                Settled::Done
            }
            _ => Settled::Lost,
        }
    }

    /// Ends the claim of `token`, and calls `settle` while the key is locked.
    pub(super) fn settle(
        &self,
        at: usize,
        key: K,
        token: FencingToken,
        settle: impl FnOnce(K, T),
    ) -> Settled {
        match self.shard(at).entry(key) {
            Entry::Occupied(entry) if entry.get().token == token => {
                let (key, claim) = entry.remove_entry();
                settle(key, claim.kept);
                self.counters.in_flight.fetch_sub(1, Ordering::Relaxed);
                Settled::Done
            }
            _ => Settled::Lost,
        }
    }

    /// Notes when a claim ends. Call it under the shard's lock: a sweep that resets `earliest_end` either visits
    /// this shard later and finds the claim, or visited it before, and then its reset is visible here.
    fn ends(&self, until: u64) {
        // Read before it is written: it hardly ever changes, and all threads share it.
        if until < self.earliest_end.load(Ordering::Relaxed) {
            self.earliest_end.fetch_min(until, Ordering::Relaxed);
        }
    }

    /// Removes claims whose lease has ended. Visits the shards only if there may be one.
    fn sweep(&self, now: u64) {
        if now < self.earliest_end.load(Ordering::Relaxed) {
            return;
        }
        // Claims that are made during the sweep lower it again.
        self.earliest_end.store(u64::MAX, Ordering::Relaxed);
        for at in 0..self.shards.len() {
            let mut shard = self.shard(at);
            let before = shard.len();
            shard.retain(|_, claim| claim.until > now);
            let gone = before - shard.len();
            self.counters.in_flight.fetch_sub(gone, Ordering::Relaxed);
            let earliest = shard.values().map(|claim| claim.until).min();
            self.earliest_end
                .fetch_min(earliest.unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// Ignores poisoning: no code that can panic runs while the lock is held.
    fn shard(&self, at: usize) -> MutexGuard<'_, HashMap<K, Claim<T>, S>> {
        let shard = &self.shards[at % self.shards.len()];
        shard.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
