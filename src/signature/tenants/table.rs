//! A bounded map whose entries end. It has no clock: the time is an argument.
//!
//! Not a cache of [moka](https://docs.rs/moka), which measures time with a clock that tests cannot pause and has no
//! part for what is known of names: a flood of unknown ones must not evict the others, so each has its own table.

use std::{
    collections::HashMap,
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::time::Instant;

/// Entries by name, at most `capacity`. A full table gives the place of an entry that has ended, or that was not
/// used since the hand last came by ("second chance").
pub(super) struct Table<V> {
    places: HashMap<Arc<str>, usize>,
    entries: Vec<Entry<V>>,
    hand: usize,
    capacity: usize,
}

struct Entry<V> {
    name: Arc<str>,
    value: V,
    until: Instant,
    /// Atomic, so that readers need not exclude each other.
    used: AtomicBool,
}

impl<V> Table<V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            places: HashMap::new(),
            entries: Vec::new(),
            hand: 0,
            capacity,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entry of `name`, unless it has ended.
    pub(super) fn get(&self, name: &str, now: Instant) -> Option<(&Arc<str>, &V)> {
        let entry = &self.entries[*self.places.get(name)?];
        if entry.until <= now {
            return None;
        }
        entry.used.store(true, Ordering::Relaxed);
        Some((&entry.name, &entry.value))
    }

    /// Whether there is an entry of `name`, be it that it has ended.
    pub(super) fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// Returns the value that had the place.
    pub(super) fn insert(
        &mut self,
        name: &Arc<str>,
        value: V,
        until: Instant,
        now: Instant,
    ) -> Option<V> {
        let entry = Entry {
            name: name.clone(),
            value,
            until,
            used: AtomicBool::new(false),
        };
        let at = match self.places.get(name) {
            Some(at) => *at,
            None if self.entries.len() < self.capacity => {
                self.places.insert(name.clone(), self.entries.len());
                self.entries.push(entry);
                return None;
            }
            None => {
                let at = self.give_way(now);
                self.places.remove(&self.entries[at].name);
                self.places.insert(name.clone(), at);
                at
            }
        };
        Some(mem::replace(&mut self.entries[at], entry).value)
    }

    /// The place of an entry that is not needed. Found in the second round at the latest.
    fn give_way(&mut self, now: Instant) -> usize {
        loop {
            let at = self.hand % self.entries.len();
            self.hand = at + 1;
            let entry = &mut self.entries[at];
            if !mem::take(entry.used.get_mut()) || entry.until <= now {
                return at;
            }
        }
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<V> {
        let at = self.places.remove(name)?;
        let removed = self.entries.swap_remove(at);
        if let Some(moved) = self.entries.get(at)
            && let Some(place) = self.places.get_mut(&moved.name)
        {
            *place = at;
        }
        Some(removed.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn name(of: u8) -> Arc<str> {
        format!("tenant-{of}").into()
    }

    #[derive(Clone, Debug)]
    enum Move {
        Get(u8),
        Insert(u8, u64),
        Remove(u8),
        Wait(u64),
    }

    fn moves() -> impl Strategy<Value = Vec<Move>> {
        let one = prop_oneof![
            (0..12_u8).prop_map(Move::Get),
            (0..12_u8, 0..9_u64).prop_map(|(of, ttl)| Move::Insert(of, ttl)),
            (0..12_u8).prop_map(Move::Remove),
            (0..4_u64).prop_map(Move::Wait),
        ];
        proptest::collection::vec(one, 0..200)
    }

    proptest! {
        /// Beside a map without a bound: what is found is what was inserted last and has not ended, and only
        /// a full table forgets.
        #[test]
        fn finds_what_was_inserted_and_never_grows(moves in moves(), capacity in 1_usize..14) {
            let mut table = Table::new(capacity);
            let mut model: HashMap<u8, (usize, Instant)> = HashMap::new();
            let mut forgot = 0;
            let mut now = Instant::now();
            for (step, one) in moves.into_iter().enumerate() {
                match one {
                    Move::Get(of) => {
                        let found = table.get(&name(of), now).map(|(_, value)| *value);
                        let expected = model.get(&of).filter(|(_, until)| *until > now);
                        let expected = expected.map(|(value, _)| *value);
                        let was_evicted = forgot > 0 && !table.has(&name(of));
                        prop_assert!(found == expected || was_evicted, "{found:?} {expected:?}");
                    }
                    Move::Insert(of, ttl) => {
                        let until = now + Duration::from_secs(ttl);
                        let was_full = table.len() == capacity;
                        let replaced = table.has(&name(of));
                        let old = table.insert(&name(of), step, until, now);
                        prop_assert_eq!(old.is_some(), replaced || was_full);
                        forgot += u64::from(!replaced && was_full);
                        model.insert(of, (step, until));
                        prop_assert!(table.has(&name(of)));
                    }
                    Move::Remove(of) => {
                        let had = table.has(&name(of));
                        prop_assert_eq!(table.remove(&name(of)).is_some(), had);
                        model.remove(&of);
                        prop_assert!(!table.has(&name(of)));
                    }
                    Move::Wait(seconds) => now += Duration::from_secs(seconds),
                }
                prop_assert!(table.len() <= capacity);
                prop_assert_eq!(table.len(), table.places.len());
                for (name, at) in &table.places {
                    prop_assert_eq!(name, &table.entries[*at].name);
                }
            }
        }
    }

    #[test]
    fn what_is_used_stays_and_what_has_ended_goes_first() {
        let now = Instant::now();
        let later = now + Duration::from_secs(60);
        let mut table = Table::new(4);
        for of in 0..4 {
            let until = if of == 2 { now } else { later };
            table.insert(&name(of), of, until, now);
        }
        for of in [0, 1, 3] {
            assert!(table.get(&name(of), now).is_some());
        }
        assert_eq!(table.insert(&name(4), 4, later, now), Some(2));
        // Strangers take the places of strangers, as long as the others are in use.
        for of in 5..200 {
            for used in [0, 1, 3] {
                assert!(table.get(&name(used), now).is_some(), "{used} at {of}");
            }
            table.insert(&name(of), of, later, now);
        }
    }
}
