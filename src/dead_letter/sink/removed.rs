//! DeadLetterDesk that are gone for good: their ids do not come again.

use crate::dead_letter::EntryId;
use std::collections::{BTreeMap, HashMap};

/// The ids of the last entries that were removed or discarded, so many at the most, and what is
/// known of each.
pub(super) struct Removed<T> {
    ids: HashMap<EntryId, (u64, T)>,
    order: BTreeMap<u64, EntryId>,
    next: u64,
    most: usize,
}

impl<T> Removed<T> {
    /// How many ids stores without a table remember.
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

    /// Remembers one, as the last. Gives what was known of it before, and of the one that is
    /// forgotten for it.
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

    /// What is known of one, to be changed.
    pub(super) fn known_mut(&mut self, id: EntryId) -> Option<&mut T> {
        self.ids.get_mut(&id).map(|(_, known)| known)
    }

    /// All of them, the first one first.
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
