//! The entries of a store in one process, as one state machine for the memory and the file store: it decides what an
//! operation changes ([`Change`]), and a store applies the change, at once or when its line is on the disk. Replaying
//! the changes gives the same entries. Pure: the time is an argument, counted from a moment that the store chooses.

use super::{Cursor, Discarded, Entry, EntryClaim, EntryId, Filter, Listing, Page, Summary};
use crate::{
    clock::WallClock,
    lease::{FencingToken, Settled},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

/// How many entries are looked at in one step: some microseconds.
const GLANCE: usize = 128;

/// What an operation changes.
#[derive(Debug)]
pub(super) enum Change {
    /// An entry is new, or replaced. Its number of replays is the count.
    Put {
        entry: Arc<Entry>,
        place: u64,
        /// Whether its claim ends.
        released: bool,
    },
    /// The number of replays is set, and the claim: its token and lease, or none.
    Count {
        id: EntryId,
        replays: u32,
        claim: Option<(FencingToken, Duration)>,
    },
    /// An entry is removed, and its id is not written again.
    Remove(EntryId),
}

impl Change {
    pub(super) fn id(&self) -> EntryId {
        match self {
            Self::Put { entry, .. } => entry.id,
            Self::Count { id, .. } | Self::Remove(id) => *id,
        }
    }
}

/// Entries by id, and in the order in which they were first written.
pub(super) struct State {
    items: HashMap<EntryId, Item>,
    places: BTreeMap<u64, EntryId>,
    pub(super) removed: Removed,
    /// The size of all entries, as the store measures them.
    pub(super) bytes: u64,
    next_place: u64,
    next_token: u64,
}

pub(super) struct Item {
    entry: Arc<Entry>,
    pub(super) size: u64,
    pub(super) place: u64,
    replays: u32,
    claim: Option<Claim>,
}

#[derive(Clone, Copy)]
struct Claim {
    token: FencingToken,
    until: Duration,
}

/// An entry as it was when it was looked at.
pub(super) struct Glimpse {
    pub(super) entry: Arc<Entry>,
    place: u64,
    replays: u32,
    in_progress: bool,
}

impl Item {
    pub(super) fn in_progress(&self, now: Duration) -> bool {
        self.claim.is_some_and(|claim| claim.until > now)
    }

    pub(super) fn entry(&self) -> Arc<Entry> {
        counted(&self.entry, self.replays)
    }
}

fn counted(entry: &Arc<Entry>, replays: u32) -> Arc<Entry> {
    let mut entry = Arc::clone(entry);
    if entry.replays != replays {
        Arc::make_mut(&mut entry).replays = replays;
    }
    entry
}

impl State {
    /// `most_removed`: how many removed ids are remembered.
    pub(super) fn new(most_removed: usize) -> Self {
        Self {
            items: HashMap::new(),
            places: BTreeMap::new(),
            removed: Removed::new(most_removed),
            bytes: 0,
            next_place: 1,
            // From the wall clock, so that the tokens of a later process are greater.
            next_token: WallClock::system().unix_millis().saturating_mul(1 << 20),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn item(&self, id: EntryId) -> Option<&Item> {
        self.items.get(&id)
    }

    pub(super) fn get(&self, id: EntryId) -> Option<Entry> {
        let item = self.items.get(&id)?;
        Some(Arc::unwrap_or_clone(item.entry()))
    }

    /// The size of all entries if this one had this size.
    pub(super) fn bytes_with(&self, id: EntryId, size: u64) -> u64 {
        let before = self.items.get(&id).map_or(0, |item| item.size);
        (self.bytes - before).saturating_add(size)
    }

    /// `None`: the entry was removed, and this is a late repetition. An entry that is there keeps its place, its claim
    /// and the greater number of replays.
    pub(super) fn write(&mut self, entry: &Arc<Entry>) -> Option<Change> {
        if self.removed.contains(entry.id) {
            return None;
        }
        let replays = self.items.get(&entry.id).map_or(0, |item| item.replays);
        Some(self.put(counted(entry, replays.max(entry.replays)), false))
    }

    fn put(&mut self, entry: Arc<Entry>, released: bool) -> Change {
        let place = self.items.get(&entry.id).map_or_else(
            || {
                let place = self.next_place;
                self.next_place = place.saturating_add(1);
                place
            },
            |item| item.place,
        );
        Change::Put {
            entry,
            place,
            released,
        }
    }

    pub(super) fn claim(
        &mut self,
        id: EntryId,
        lease: Duration,
        most: u32,
        now: Duration,
    ) -> (EntryClaim, Option<Change>) {
        let Some(item) = self.items.get(&id) else {
            return (EntryClaim::Missing, None);
        };
        let refused = match item.claim {
            Some(claim) if claim.until > now => EntryClaim::InProgress {
                lease_left: claim.until.saturating_sub(now),
            },
            _ if item.replays >= most => EntryClaim::Spent {
                replays: item.replays,
            },
            _ => {
                let replays = item.replays.saturating_add(1);
                let entry = Box::new(Arc::unwrap_or_clone(counted(&item.entry, replays)));
                let token = FencingToken::new(self.next_token);
                self.next_token = self.next_token.saturating_add(1);
                let change = Change::Count {
                    id,
                    replays,
                    claim: Some((token, lease)),
                };
                return (EntryClaim::Claimed { token, entry }, Some(change));
            }
        };
        (refused, None)
    }

    /// The item, if this token belongs to its claim, whether or not the lease has ended.
    fn held(&mut self, id: EntryId, token: FencingToken) -> Option<&mut Item> {
        let item = self.items.get_mut(&id)?;
        let held = item.claim.is_some_and(|claim| claim.token == token);
        held.then_some(item)
    }

    /// Nothing that is replayed: a claim ends with its process.
    pub(super) fn renew(
        &mut self,
        id: EntryId,
        token: FencingToken,
        lease: Duration,
        now: Duration,
    ) -> Settled {
        let Some(item) = self.held(id, token) else {
            return Settled::Lost;
        };
        let until = now.saturating_add(lease);
        item.claim = Some(Claim { token, until });
        Settled::Done
    }

    pub(super) fn release(
        &mut self,
        token: FencingToken,
        entry: Arc<Entry>,
    ) -> (Settled, Option<Change>) {
        match self.held(entry.id, token) {
            None => (Settled::Lost, None),
            Some(_) => (Settled::Done, Some(self.put(entry, true))),
        }
    }

    pub(super) fn remove(&mut self, id: EntryId, token: FencingToken) -> (Settled, Option<Change>) {
        match self.held(id, token) {
            None => (Settled::Lost, None),
            Some(_) => (Settled::Done, Some(Change::Remove(id))),
        }
    }

    pub(super) fn discard(&self, id: EntryId, now: Duration) -> (Discarded, Option<Change>) {
        match self.items.get(&id) {
            None => (Discarded::Missing, None),
            Some(item) if item.in_progress(now) => (Discarded::InProgress, None),
            Some(_) => (Discarded::Done, Some(Change::Remove(id))),
        }
    }

    /// Undoes a claim that nobody got, so that it does not count, if nobody has claimed the entry since.
    pub(super) fn unclaim(&mut self, id: EntryId, token: FencingToken) -> Option<Change> {
        self.held(id, token).map(|item| Change::Count {
            id,
            replays: item.replays.saturating_sub(1),
            claim: None,
        })
    }

    /// Applies a change that was decided or recorded. `size` is that of an entry that is put; a lease begins `now`.
    pub(super) fn apply(&mut self, change: Change, size: u64, now: Duration) {
        match change {
            Change::Put {
                entry,
                place,
                released,
            } => {
                let id = entry.id;
                // It can be here when its removal was forgotten, or when somebody has restored its line.
                self.removed.forget(id);
                self.bytes = self.bytes_with(id, size);
                let before = self.items.get(&id);
                let claim = before.and_then(|item| item.claim).filter(|_| !released);
                let place = before.map_or_else(|| self.free(place), |item| item.place);
                self.next_place = self.next_place.max(place.saturating_add(1));
                self.places.insert(place, id);
                let item = Item {
                    replays: entry.replays,
                    entry,
                    size,
                    place,
                    claim,
                };
                self.items.insert(id, item);
            }
            Change::Count { id, replays, claim } => {
                if let Some(item) = self.items.get_mut(&id) {
                    item.replays = replays;
                    item.claim = claim.map(|(token, lease)| Claim {
                        token,
                        until: now.saturating_add(lease),
                    });
                }
            }
            Change::Remove(id) => {
                self.take(id);
                self.removed.put(id);
            }
        }
    }

    /// This place, or the last one if it is none or another entry has it.
    fn free(&self, place: u64) -> u64 {
        if place == 0 || self.places.contains_key(&place) {
            self.next_place
        } else {
            place
        }
    }

    /// Takes an entry out without remembering its id.
    pub(super) fn take(&mut self, id: EntryId) {
        if let Some(item) = self.items.remove(&id) {
            self.places.remove(&item.place);
            self.bytes -= item.size;
        }
    }

    /// All entries, oldest first.
    pub(super) fn oldest_first(&self) -> impl Iterator<Item = (EntryId, &Item)> {
        let ids = self.places.values();
        ids.filter_map(|id| self.items.get(id).map(|item| (*id, item)))
    }

    /// The next entries before a place, newest first.
    pub(super) fn glance(&self, before: u64, now: Duration) -> Vec<Glimpse> {
        let ids = self.places.range(..before).rev();
        let items = ids.filter_map(|(_, id)| self.items.get(id));
        let glimpses = items.take(GLANCE).map(|item| Glimpse {
            entry: Arc::clone(&item.entry),
            place: item.place,
            replays: item.replays,
            in_progress: item.in_progress(now),
        });
        glimpses.collect()
    }

    /// Takes over the claims and tokens of an earlier state of the same entries.
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

/// Shows the entries before a place, newest first, until `visit` has enough. `glance` is [`State::glance`], so that a
/// store that is behind a lock holds it for a few entries at a time, and not while they are visited.
pub(super) fn visit(
    before: u64,
    mut glance: impl FnMut(u64) -> Vec<Glimpse>,
    mut visit: impl FnMut(&Glimpse) -> bool,
) {
    let mut end = before;
    loop {
        let some = glance(end);
        let Some(last) = some.last() else { return };
        end = last.place;
        if !some.iter().all(&mut visit) {
            return;
        }
    }
}

/// The matching entries of a page. `glance` as for [`visit`].
pub(super) fn list(
    filter: &Filter,
    page: &Page,
    glance: impl FnMut(u64) -> Vec<Glimpse>,
) -> Listing {
    let limit = page.limit.clamp(1, Page::MAX);
    let mut listing = Listing::default();
    let mut last = None;
    let before = page.after.as_ref().map_or(u64::MAX, Cursor::place);
    visit(before, glance, |seen| {
        if !filter.matches(&seen.entry) {
            return true;
        }
        if listing.entries.len() == limit {
            listing.next = last.map(Cursor::new);
            return false;
        }
        let mut summary = Summary::of(&seen.entry, seen.in_progress);
        summary.replays = seen.replays;
        listing.entries.push(summary);
        last = Some(seen.place);
        true
    });
    listing
}

/// The number of matching entries. `glance` as for [`visit`].
pub(super) fn count(filter: &Filter, glance: impl FnMut(u64) -> Vec<Glimpse>) -> u64 {
    let mut count = 0;
    visit(u64::MAX, glance, |seen| {
        count += u64::from(filter.matches(&seen.entry));
        true
    });
    count
}

/// The ids of the last entries that were removed or discarded, up to a limit.
pub(super) struct Removed {
    ids: HashMap<EntryId, u64>,
    order: BTreeMap<u64, EntryId>,
    next: u64,
    most: usize,
}

impl Removed {
    /// The number of ids that the memory and file stores remember.
    pub(super) const MOST: usize = 10_000;

    fn new(most: usize) -> Self {
        Self {
            ids: HashMap::new(),
            order: BTreeMap::new(),
            next: 0,
            most: most.max(1),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn contains(&self, id: EntryId) -> bool {
        self.ids.contains_key(&id)
    }

    /// Adds an id as the last one.
    fn put(&mut self, id: EntryId) {
        self.forget(id);
        self.order.insert(self.next, id);
        self.ids.insert(id, self.next);
        self.next = self.next.saturating_add(1);
        if self.ids.len() > self.most
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.ids.remove(&oldest);
        }
    }

    fn forget(&mut self, id: EntryId) {
        if let Some(place) = self.ids.remove(&id) {
            self.order.remove(&place);
        }
    }

    /// All ids, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = EntryId> {
        self.order.values().copied()
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
        removed.put(id(1));
        removed.put(id(2));
        removed.put(id(1));
        removed.put(id(3));
        assert!(removed.contains(id(1)) && !removed.contains(id(2)));
        removed.forget(id(1));
        removed.put(id(4));
        assert_eq!(removed.iter().collect::<Vec<_>>(), [id(3), id(4)]);
        assert_eq!(removed.len(), 2);
    }
}
