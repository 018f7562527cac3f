//! The order, claims and removed ids of entries, shared by the stores of one process. Pure: the time is
//! an argument, counted from a moment that the store chooses.

use super::{Cursor, EntryId, Page};
use crate::{clock::WallClock, lease::FencingToken};
use std::{
    collections::{BTreeMap, HashMap},
    mem,
    time::Duration,
};

/// Entries, or facts about them, by id and in the order in which they were first written.
pub(super) struct Index<T> {
    items: HashMap<EntryId, Item<T>>,
    places: BTreeMap<u64, EntryId>,
    next_place: u64,
    next_token: u64,
}

pub(super) struct Item<T> {
    pub(super) kept: T,
    pub(super) place: u64,
    pub(super) replays: u32,
    claim: Option<Claim>,
}

#[derive(Clone, Copy)]
struct Claim {
    token: FencingToken,
    until: Duration,
}

/// Whether an entry can be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claimable {
    /// It can be claimed; this is the number of the replay.
    Yes(u32),
    InProgress(Duration),
    Missing,
    Spent(u32),
}

impl<T> Item<T> {
    pub(super) fn in_progress(&self, now: Duration) -> bool {
        self.claim.is_some_and(|claim| claim.until > now)
    }
}

impl<T> Index<T> {
    pub(super) fn new() -> Self {
        Self {
            items: HashMap::new(),
            places: BTreeMap::new(),
            next_place: 1,
            // From the wall clock, so that the tokens of a later process are greater.
            next_token: WallClock::system().unix_millis().saturating_mul(1 << 20),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn get(&self, id: EntryId) -> Option<&Item<T>> {
        self.items.get(&id)
    }

    /// The position of an entry, or a new one that is reserved for it.
    pub(super) fn reserve(&mut self, id: EntryId) -> u64 {
        if let Some(item) = self.items.get(&id) {
            return item.place;
        }
        let place = self.next_place;
        self.next_place = self.next_place.saturating_add(1);
        place
    }

    /// Adds an entry at the end. An existing entry keeps its position, its claim and the greater number of
    /// replays. Returns the replaced value.
    pub(super) fn put(&mut self, id: EntryId, kept: T, replays: u32) -> Option<T> {
        self.put_at(self.next_place, id, kept, replays)
    }

    /// Like [`put`](Self::put), at this position, or at the end if another entry has it.
    pub(super) fn put_at(&mut self, place: u64, id: EntryId, kept: T, replays: u32) -> Option<T> {
        if let Some(item) = self.items.get_mut(&id) {
            item.replays = item.replays.max(replays);
            return Some(mem::replace(&mut item.kept, kept));
        }
        let free = place > 0 && !self.places.contains_key(&place);
        let place = if free { place } else { self.next_place };
        self.next_place = self.next_place.max(place.saturating_add(1));
        self.places.insert(place, id);
        let item = Item {
            kept,
            place,
            replays,
            claim: None,
        };
        self.items.insert(id, item);
        None
    }

    pub(super) fn take(&mut self, id: EntryId) -> Option<Item<T>> {
        let item = self.items.remove(&id)?;
        self.places.remove(&item.place);
        Some(item)
    }

    pub(super) fn claimable(&self, id: EntryId, now: Duration, max_replays: u32) -> Claimable {
        match self.items.get(&id) {
            None => Claimable::Missing,
            Some(item) => match item.claim {
                Some(claim) if claim.until > now => {
                    Claimable::InProgress(claim.until.saturating_sub(now))
                }
                _ if item.replays >= max_replays => Claimable::Spent(item.replays),
                _ => Claimable::Yes(item.replays.saturating_add(1)),
            },
        }
    }

    /// Claims an entry that is [claimable](Self::claimable).
    pub(super) fn claim(&mut self, id: EntryId, until: Duration) -> FencingToken {
        let token = FencingToken::new(self.next_token);
        self.next_token = self.next_token.saturating_add(1);
        if let Some(item) = self.items.get_mut(&id) {
            item.replays = item.replays.saturating_add(1);
            item.claim = Some(Claim { token, until });
        }
        token
    }

    /// Whether this token belongs to the current claim, whose lease has not ended.
    pub(super) fn holds(&self, id: EntryId, token: FencingToken, now: Duration) -> bool {
        let claim = self.items.get(&id).and_then(|item| item.claim);
        claim.is_some_and(|claim| claim.token == token && claim.until > now)
    }

    pub(super) fn renew(&mut self, id: EntryId, until: Duration) {
        let claim = self.items.get_mut(&id).and_then(|item| item.claim.as_mut());
        if let Some(claim) = claim {
            claim.until = until;
        }
    }

    /// Sets the replays of a released entry: less than claimed if nothing was sent.
    pub(super) fn set_replays(&mut self, id: EntryId, replays: u32) {
        if let Some(item) = self.items.get_mut(&id) {
            item.replays = replays;
        }
    }

    /// Ends the claim of this token.
    pub(super) fn unclaim(&mut self, id: EntryId, token: FencingToken) {
        if let Some(item) = self.items.get_mut(&id)
            && item.claim.is_some_and(|claim| claim.token == token)
        {
            item.claim = None;
        }
    }

    /// Ends the claim of this token without counting it.
    pub(super) fn release(&mut self, id: EntryId, token: FencingToken) {
        if let Some(item) = self.items.get_mut(&id)
            && item.claim.is_some_and(|claim| claim.token == token)
        {
            item.claim = None;
            item.replays = item.replays.saturating_sub(1);
        }
    }

    /// The matching entries of a page, newest first, and the position after which there are more.
    pub(super) fn page(
        &self,
        page: &Page,
        matches: impl Fn(&T) -> bool,
    ) -> (Vec<(EntryId, &Item<T>)>, Option<u64>) {
        let end = page.after.as_ref().map_or(u64::MAX, Cursor::place);
        let limit = page.limit.clamp(1, Page::MAX);
        let mut found = Vec::new();
        for (id, item) in self.newest_before(end) {
            if !matches(&item.kept) {
                continue;
            }
            if found.len() == limit {
                let next = found.last().map(|(_, item): &(_, &Item<T>)| item.place);
                return (found, next);
            }
            found.push((id, item));
        }
        (found, None)
    }

    /// The entries before this position, newest first.
    pub(super) fn newest_before(&self, end: u64) -> impl Iterator<Item = (EntryId, &Item<T>)> {
        let ids = self.places.range(..end).rev().map(|(_, id)| *id);
        ids.filter_map(|id| self.items.get(&id).map(|item| (id, item)))
    }

    /// All entries, oldest first.
    pub(super) fn oldest_first(&self) -> impl Iterator<Item = (EntryId, &Item<T>)> {
        let ids = self.places.values();
        ids.filter_map(|id| self.items.get(id).map(|item| (*id, item)))
    }

    /// The value of an entry.
    pub(super) fn kept_mut(&mut self, id: EntryId) -> Option<&mut T> {
        self.items.get_mut(&id).map(|item| &mut item.kept)
    }

    pub(super) fn count(&self, matches: impl Fn(&T) -> bool) -> u64 {
        let matching = self.items.values().filter(|item| matches(&item.kept));
        matching.fold(0, |count, _| count + 1)
    }

    /// Takes over the claims and tokens of an earlier index of the same entries.
    pub(super) fn inherit(&mut self, earlier: &Self) {
        self.next_token = self.next_token.max(earlier.next_token);
        self.next_place = self.next_place.max(earlier.next_place);
        for (id, item) in &mut self.items {
            if let Some(before) = earlier.items.get(id) {
                item.claim = before.claim;
                item.replays = item.replays.max(before.replays);
            }
        }
    }
}

/// The ids of the last entries that were removed or discarded, up to a limit, each with a value.
pub(super) struct Removed<T> {
    ids: HashMap<EntryId, (u64, T)>,
    order: BTreeMap<u64, EntryId>,
    next: u64,
    most: usize,
}

impl<T> Removed<T> {
    /// The number of ids that the memory and file stores remember.
    pub(super) const MOST: usize = 10_000;

    pub(super) fn new(most: usize) -> Self {
        Self {
            ids: HashMap::new(),
            order: BTreeMap::new(),
            next: 0,
            most: most.max(1),
        }
    }

    pub(super) fn contains(&self, id: EntryId) -> bool {
        self.ids.contains_key(&id)
    }

    /// Adds an id as the last one. Returns its former value, and the value of the id that is forgotten to
    /// make room.
    pub(super) fn put(&mut self, id: EntryId, known: T) -> [Option<T>; 2] {
        let before = self.forget(id);
        self.order.insert(self.next, id);
        self.ids.insert(id, (self.next, known));
        self.next = self.next.saturating_add(1);
        let oldest = match self.order.first_key_value() {
            Some((_, oldest)) if self.ids.len() > self.most => Some(*oldest),
            _ => None,
        };
        [before, oldest.and_then(|oldest| self.forget(oldest))]
    }

    pub(super) fn forget(&mut self, id: EntryId) -> Option<T> {
        let (place, known) = self.ids.remove(&id)?;
        self.order.remove(&place);
        Some(known)
    }

    /// The value of an id.
    pub(super) fn known_mut(&mut self, id: EntryId) -> Option<&mut T> {
        self.ids.get_mut(&id).map(|(_, known)| known)
    }

    /// All ids, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (EntryId, &T)> {
        let ids = self.order.values();
        ids.filter_map(|id| self.ids.get(id).map(|(_, known)| (*id, known)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> EntryId {
        EntryId::from_bytes([number; 16])
    }

    #[test]
    fn the_last_ones_are_remembered() {
        let mut removed = Removed::new(2);
        assert_eq!(removed.put(id(1), 'a'), [None, None]);
        assert_eq!(removed.put(id(2), 'b'), [None, None]);
        assert_eq!(removed.put(id(1), 'c'), [Some('a'), None]);
        assert_eq!(removed.put(id(3), 'd'), [None, Some('b')]);
        assert!(removed.contains(id(1)) && !removed.contains(id(2)));
        assert_eq!(removed.forget(id(1)), Some('c'));
        assert_eq!(removed.put(id(4), 'e'), [None, None]);
        let left: Vec<_> = removed.iter().map(|(id, known)| (id, *known)).collect();
        assert_eq!(left, [(id(3), 'd'), (id(4), 'e')]);
    }
}
