use std::{
    cell::Cell,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{
            AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
};

/// How many tables a thread remembers the last peer of: one for each exporter of a program that has many.
const REMEMBERED: usize = 4;

/// The number of the next table. Zero is none.
static NEXT: AtomicUsize = AtomicUsize::new(1);

thread_local! {
    /// The number of a table, and the slot where this thread found a peer last. A call is counted at its begin
    /// and at its end, by each of its layers: mostly the peer is the same as before, and needs no hash.
    static LAST: [Cell<(usize, usize)>; REMEMBERED] =
        const { [const { Cell::new((0, 0)) }; REMEMBERED] };
}

/// The name of the peers that are counted together.
pub(super) const OTHER: &str = "other";

/// A DNS name has at most 253 characters, and a port six.
const LONGEST_NAME: usize = 260;

/// A value for each peer, up to a bound; further peers share one. No peer is removed, because a series
/// that began again would look like a restart.
///
/// A lookup therefore needs no lock: the table has twice as many slots as there may be peers, and is
/// searched from the slot of the hash to the first empty one.
#[derive(Debug)]
pub(super) struct Peers<T> {
    number: usize,
    places: Box<[OnceLock<Entry<T>>]>,
    taken: AtomicUsize,
    /// Held while a peer is added.
    adding: Mutex<()>,
    most: usize,
    other: T,
    hasher: RandomState,
}

type Entry<T> = Box<(Arc<str>, T)>;

impl<T> Peers<T> {
    pub(super) fn new(most: usize, make: impl FnOnce(Arc<str>) -> T) -> Self {
        // Without peers of its own, it has no slots.
        let places = (most * 2).next_power_of_two() & !1;
        Self {
            number: NEXT.fetch_add(1, Relaxed),
            places: (0..places).map(|_| OnceLock::new()).collect(),
            taken: AtomicUsize::new(0),
            adding: Mutex::new(()),
            most,
            other: make(Arc::from(OTHER)),
            hasher: RandomState::new(),
        }
    }

    /// The value of `peer`. If there is none and there is room, `make` makes it.
    pub(super) fn get(&self, peer: &str, make: impl FnOnce(Arc<str>) -> T) -> &T {
        match self.last(peer) {
            Some(known) => known,
            None => self.look_up(peer, make),
        }
    }

    /// The value of `peer`, if this thread asked for that one last.
    fn last(&self, peer: &str) -> Option<&T> {
        let (number, at) = LAST.with(|last| last[self.number % REMEMBERED].get());
        let entry = self.places.get(at)?.get()?;
        (number == self.number && *entry.0 == *peer).then_some(&entry.1)
    }

    fn look_up(&self, peer: &str, make: impl FnOnce(Arc<str>) -> T) -> &T {
        // Asked before the look, because a table that was full then has got no other peers since.
        let has_room = self.has_room();
        if let Some(known) = self.find(peer) {
            return known;
        }
        if !has_room || !is_fit(peer) {
            return &self.other;
        }
        let name: Arc<str> = Arc::from(peer);
        // Before the lock is taken, because it may run foreign code. If two threads make one at the same
        // time, one of them is dropped.
        let entry = Box::new((Arc::clone(&name), make(name)));
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        if self.has_room()
            && self.find(peer).is_none()
            && let Some((_, place)) = self.search(peer).find(|(_, place)| place.get().is_none())
            && place.set(entry).is_ok()
        {
            self.taken.fetch_add(1, Release);
        }
        self.find(peer).unwrap_or(&self.other)
    }

    fn find(&self, peer: &str) -> Option<&T> {
        let mut filled = self
            .search(peer)
            .map_while(|(at, place)| Some((at, place.get()?)));
        let (at, entry) = filled.find(|(_, entry)| *entry.0 == *peer)?;
        LAST.with(|last| last[self.number % REMEMBERED].set((self.number, at)));
        Some(&entry.1)
    }

    pub(super) const fn other(&self) -> &T {
        &self.other
    }

    /// Every value except the shared one, sorted by name.
    pub(super) fn sorted(&self) -> Vec<&T> {
        let mut entries: Vec<_> = self.places.iter().filter_map(OnceLock::get).collect();
        entries.sort_unstable_by(|one, two| one.0.cmp(&two.0));
        entries.into_iter().map(|entry| &entry.1).collect()
    }

    /// The slots that may hold `peer`, and where they are, in search order.
    fn search(&self, peer: &str) -> impl Iterator<Item = (usize, &OnceLock<Entry<T>>)> {
        let hash = self.hasher.hash_one(peer);
        let first = usize::try_from(hash & (self.places.len() as u64).saturating_sub(1));
        let first = first.unwrap_or(0);
        let order = (first..self.places.len()).chain(0..first);
        order.filter_map(|at| Some((at, self.places.get(at)?)))
    }

    fn has_room(&self) -> bool {
        // Whoever sees the count sees the peers that it counts.
        self.taken.load(Acquire) < self.most
    }
}

/// Names come from requests. A name that could break a line or fill a page is not used.
fn is_fit(peer: &str) -> bool {
    peer.len() <= LONGEST_NAME && peer != OTHER && !peer.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::atomic::Ordering::Relaxed, thread};

    #[test]
    fn the_bound_holds_and_known_peers_keep_their_place() {
        let peers = Peers::new(2, |name| name);
        for peer in ["a", "b", "c", "a", "d"] {
            peers.get(peer, |name| name);
        }
        assert_eq!(**peers.get("b", |_| unreachable!()), *"b");
        assert_eq!(**peers.get("c", |_| unreachable!()), *OTHER);
        assert_eq!(peers.sorted().len(), 2);
    }

    #[test]
    fn what_is_no_name_has_no_place() {
        let peers = Peers::new(9, |name| name);
        let long = "x".repeat(LONGEST_NAME + 1);
        for peer in [long.as_str(), "two\nlines", "nul\0", "\u{85}", OTHER] {
            assert_eq!(**peers.get(peer, |_| unreachable!()), *OTHER, "{peer:?}");
        }
        for peer in ["", "quo\"ted", "größe", &long[1..]] {
            assert_eq!(**peers.get(peer, |name| name), *peer);
        }
    }

    #[test]
    fn what_a_thread_remembers_is_of_its_table() {
        let tables: Vec<_> = (0..3 * REMEMBERED)
            .map(|n| (n, Peers::new(9, |_| n)))
            .collect();
        for peer in ["a", "b", "a", "a"] {
            for (n, table) in &tables {
                assert_eq!(table.get(peer, |_| *n), n);
            }
        }
        assert!(tables.iter().all(|(_, table)| table.sorted().len() == 2));
    }

    #[test]
    fn without_places_everybody_shares_one() {
        let peers = Peers::new(0, |name| name);
        assert_eq!(**peers.get("a", |_| unreachable!()), *OTHER);
        assert!(peers.sorted().is_empty());
    }

    #[test]
    fn each_of_a_full_table_is_found_by_many_threads_under_one_value() {
        for most in [1, 2, 3, 100, 1000] {
            let peers = Peers::new(most, |_| AtomicUsize::new(0));
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        for n in 0..most {
                            let count = peers.get(&format!("{n}.test"), |_| AtomicUsize::new(0));
                            count.fetch_add(1, Relaxed);
                        }
                    });
                }
            });
            let counts = peers.sorted();
            assert_eq!(counts.len(), most);
            assert!(counts.iter().all(|count| count.load(Relaxed) == 4));
            assert_eq!(peers.other().load(Relaxed), 0);
        }
    }
}
