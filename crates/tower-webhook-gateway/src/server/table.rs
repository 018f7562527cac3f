//! The table of open connections: which of them is closed when there is no room for all. Pure, and O(log n)
//! for each connection.
//!
//! Every connection begins as a stranger. It is known from its first request on that was verified. When all
//! places are taken, or all of one peer, a newcomer takes the place of the stranger that has been there longest:
//! of all, or of its peer. So a stranger has as long for its first request as it takes to fill all places anew,
//! however many addresses the others have. Strangers never push out known connections, and known ones never
//! take all places, so that a newcomer always finds a stranger to push out.

use crate::peer::Peer;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The number of a connection. Later ones have greater numbers.
pub type Id = u64;

/// The connections of one peer may take one place in so many.
const SHARE: usize = 4;

/// Known connections leave one place in so many to strangers.
const STRANGERS: usize = 8;

/// Open connections with a handle of each, which is handed back when the connection has to go.
#[derive(Debug)]
pub struct Table<H> {
    places: usize,
    next: Id,
    known: usize,
    open: HashMap<Id, Peer>,
    /// Those that are not known, in the order in which they came.
    strangers: BTreeMap<Id, H>,
    peers: HashMap<Peer, Of>,
}

/// The connections of one peer.
#[derive(Debug, Default)]
struct Of {
    known: usize,
    strangers: BTreeSet<Id>,
}

/// Why a connection had to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// All places are taken.
    Places,
    /// All places of its peer are.
    Share,
}

impl<H> Table<H> {
    /// A table with this many places.
    pub fn new(places: usize) -> Self {
        Self {
            places,
            next: 0,
            known: 0,
            open: HashMap::new(),
            strangers: BTreeMap::new(),
            peers: HashMap::new(),
        }
    }

    /// Enters a connection, and returns its number and the handle of the one that has to go for it. A peer of
    /// which many others are `behind` has no share: a trusted proxy.
    pub fn enter(&mut self, peer: Peer, behind: bool, handle: H) -> (Id, Option<(H, Full)>) {
        let of = self.peers.get(&peer);
        let open = of.map_or(0, |of| of.known + of.strangers.len());
        let first = if !behind && open >= share(self.places) {
            let first = of.and_then(|of| of.strangers.first());
            first.map(|id| (*id, Full::Share))
        } else if self.open.len() >= self.places {
            let first = self.strangers.first_key_value();
            first.map(|(id, _)| (*id, Full::Places))
        } else {
            None
        };
        let gone = first.and_then(|(id, why)| Some((self.remove(id)?, why)));
        let id = self.next;
        self.next += 1;
        self.open.insert(id, peer);
        self.strangers.insert(id, handle);
        self.peers.entry(peer).or_default().strangers.insert(id);
        (id, gone)
    }

    /// A request of the connection was verified: strangers cannot push it out any more, unless as many
    /// connections as may be are known already. Returns the handle, which then serves no end.
    pub fn verified(&mut self, id: Id, behind: bool) -> Option<H> {
        let peer = *self.open.get(&id)?;
        let of = self.peers.get_mut(&peer)?;
        let full = |known, places| known >= places - least_strangers(places);
        if full(self.known, self.places) || !behind && full(of.known, share(self.places)) {
            return None;
        }
        let handle = self.strangers.remove(&id)?;
        of.strangers.remove(&id);
        of.known += 1;
        self.known += 1;
        Some(handle)
    }

    /// The connection is closed. Says nothing of one that had to go.
    pub fn leave(&mut self, id: Id) {
        self.remove(id);
    }

    fn remove(&mut self, id: Id) -> Option<H> {
        let peer = self.open.remove(&id)?;
        let handle = self.strangers.remove(&id);
        if let Some(of) = self.peers.get_mut(&peer) {
            if handle.is_some() {
                of.strangers.remove(&id);
            } else {
                of.known -= 1;
                self.known -= 1;
            }
            if of.known == 0 && of.strangers.is_empty() {
                self.peers.remove(&peer);
            }
        }
        handle
    }
}

/// The most connections of one peer.
pub fn share(places: usize) -> usize {
    places.div_ceil(SHARE)
}

fn least_strangers(places: usize) -> usize {
    places.div_ceil(STRANGERS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::net::Ipv4Addr;

    /// A table whose handles are the numbers of the connections.
    struct Tested(Table<Id>);

    impl Tested {
        fn enter(&mut self, peer: u32) -> (Id, Option<(Id, Full)>) {
            let handle = self.0.next;
            self.0.enter(of(peer), false, handle)
        }

        fn known(&mut self, id: Id) -> bool {
            self.0.verified(id, false).is_some()
        }

        fn open(&self) -> usize {
            self.0.open.len()
        }

        fn holds(&self, id: Id) -> bool {
            self.0.open.contains_key(&id)
        }
    }

    fn of(peer: u32) -> Peer {
        Peer(Ipv4Addr::from(peer).into())
    }

    #[test]
    fn the_stranger_that_was_there_first_goes_for_a_newcomer_of_its_peer() {
        let mut table = Tested(Table::new(16));
        let ids: Vec<_> = (0..4).map(|_| table.enter(1).0).collect();
        assert_eq!(table.enter(2).1, None);
        assert!(table.known(ids[0]));
        let (_, gone) = table.enter(1);
        assert_eq!(gone, Some((ids[1], Full::Share)));
        assert!(table.holds(ids[0]));
        assert_eq!(table.open(), 5);
    }

    #[test]
    fn in_a_full_table_the_stranger_that_was_there_first_gives_way() {
        let mut table = Tested(Table::new(16));
        let ids: Vec<_> = (100..116).map(|peer| table.enter(peer).0).collect();
        assert!(table.known(ids[1]));
        assert_eq!(table.enter(7).1, Some((ids[0], Full::Places)));
        assert_eq!(table.enter(7).1, Some((ids[2], Full::Places)));
    }

    /// An honest sender that posts many at once has more strangers than each peer of the crowd.
    #[test]
    fn a_crowd_of_peers_does_not_push_out_who_came_last() {
        let mut table = Tested(Table::new(4096));
        for peer in 1..=4096 {
            table.enter(peer);
        }
        let posts: Vec<_> = (0..500).map(|_| table.enter(0).0).collect();
        for peer in 5000..8000 {
            table.enter(peer);
        }
        assert!(posts.iter().all(|id| table.holds(*id)));
    }

    #[test]
    fn ten_thousand_peers_with_one_connection_each_lock_nobody_out() {
        let mut table = Tested(Table::new(4096));
        let (honest, _) = table.enter(0);
        assert!(table.known(honest));
        for peer in 1..=10_000 {
            table.enter(peer);
            assert!(table.open() <= 4096);
        }
        assert!(table.holds(honest));
        let (late, gone) = table.enter(20_000);
        assert!(gone.is_some() && table.holds(late));
    }

    #[test]
    fn known_connections_leave_places_to_strangers() {
        let mut table = Tested(Table::new(64));
        let mut known = Vec::new();
        for peer in 0..200 {
            let (id, _) = table.enter(peer);
            if table.known(id) {
                known.push(id);
            }
        }
        assert_eq!(known.len(), 56, "seven eighths");
        assert!(known.iter().all(|id| table.holds(*id)));
        assert_eq!(table.open(), 64);
        // Of one peer's share likewise.
        let mut table = Tested(Table::new(64));
        let known = (0..100).filter(|_| {
            let (id, _) = table.enter(1);
            table.known(id)
        });
        assert_eq!(known.count(), 14);
        assert_eq!(table.open(), 16);
    }

    #[test]
    fn a_trusted_proxy_has_no_share() {
        let mut table = Table::new(16);
        for id in 0..14 {
            assert_eq!(table.enter(of(1), true, id).1, None);
            assert_eq!(table.verified(id, true), Some(id));
        }
        table.enter(of(1), true, 14);
        assert_eq!(table.verified(14, true), None, "places of strangers");
        assert_eq!(table.enter(of(1), true, 15).1, None);
        assert_eq!(table.enter(of(2), false, 16).1, Some((14, Full::Places)));
    }

    #[test]
    fn whatever_happens_the_table_counts_right_and_lets_newcomers_in() {
        for seed in 0..64 {
            let mut random = fastrand::Rng::with_seed(seed);
            let places = random.usize(4..40);
            let mut table = Tested(Table::new(places));
            let mut known = BTreeSet::new();
            let mut all = Vec::new();
            for _ in 0..600 {
                match random.u8(..8) {
                    0..=4 => {
                        let (id, gone) = table.enter(random.u32(..6));
                        if let Some((gone, _)) = gone {
                            assert!(!known.contains(&gone), "a known one was pushed out");
                            assert!(!table.holds(gone));
                        }
                        assert!(table.holds(id));
                        all.push(id);
                    }
                    5 => {
                        if let Some(id) = random.choice(&all).copied()
                            && table.known(id)
                        {
                            known.insert(id);
                        }
                    }
                    _ => {
                        if let Some(id) = random.choice(&all).copied() {
                            known.remove(&id);
                            table.0.leave(id);
                        }
                    }
                }
                let Table {
                    open,
                    peers,
                    strangers,
                    ..
                } = &table.0;
                assert!(open.len() <= places, "seed {seed}");
                let count = |count: fn(&Of) -> usize| peers.values().map(count).sum::<usize>();
                assert_eq!(count(|of| of.known), known.len(), "seed {seed}");
                assert_eq!(table.0.known, known.len(), "seed {seed}");
                assert_eq!(count(|of| of.known + of.strangers.len()), open.len());
                let right = peers.values().flat_map(|of| &of.strangers).copied();
                assert_eq!(
                    right.collect::<BTreeSet<_>>(),
                    strangers.keys().copied().collect()
                );
                let most = |of: &Of| of.known + of.strangers.len() <= share(places);
                assert!(peers.values().all(most), "seed {seed}");
            }
        }
    }
}
