use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

/// The name under which the keys stand that have no place of their own.
pub(super) const OTHER: &str = "other";

/// A DNS name has 253 characters at the most, and a port six.
const LONGEST_KEY: usize = 260;

/// A value for each key, up to a bound; all further keys share one. No key leaves: a series that
/// began anew would look like a restart.
#[derive(Debug)]
pub(super) struct Keys<T> {
    known: RwLock<HashMap<Arc<str>, Arc<T>>>,
    other: Arc<T>,
    most: usize,
}

impl<T> Keys<T> {
    pub(super) fn new(most: usize, make: impl FnOnce(Arc<str>) -> T) -> Self {
        Self {
            known: RwLock::default(),
            other: Arc::new(make(Arc::from(OTHER))),
            most,
        }
    }

    /// The value of `key`, which `make` makes where it has none and there is room.
    pub(super) fn get(&self, key: &str, make: impl FnOnce(Arc<str>) -> T) -> Arc<T> {
        if let Some(known) = self.find(key) {
            return known;
        }
        if !is_fit(key) || self.is_full() {
            return Arc::clone(&self.other);
        }
        // Before the lock is taken, because it may ask somebody else's code. Of two that are made
        // at once, one is dropped.
        let name: Arc<str> = Arc::from(key);
        let value = Arc::new(make(Arc::clone(&name)));
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(key) {
            return Arc::clone(known);
        }
        if known.len() >= self.most {
            return Arc::clone(&self.other);
        }
        known.insert(name, Arc::clone(&value));
        value
    }

    pub(super) const fn other(&self) -> &Arc<T> {
        &self.other
    }

    /// Every value that is not the shared one, in the order of its key.
    pub(super) fn sorted(&self) -> Vec<Arc<T>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut entries: Vec<_> = known
            .iter()
            .map(|(key, value)| (Arc::clone(key), Arc::clone(value)))
            .collect();
        drop(known);
        entries.sort_unstable_by(|(one, _), (two, _)| one.cmp(two));
        entries.into_iter().map(|(_, value)| value).collect()
    }

    fn find(&self, key: &str) -> Option<Arc<T>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(key).map(Arc::clone)
    }

    fn is_full(&self) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.len() >= self.most
    }
}

/// Keys come from requests. One that would break a line or fill a page is no name of a peer.
fn is_fit(key: &str) -> bool {
    key.len() <= LONGEST_KEY && key != OTHER && !key.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_holds_and_known_keys_keep_their_place() {
        let keys = Keys::new(2, |name| name);
        for key in ["a", "b", "c", "a", "d"] {
            keys.get(key, |name| name);
        }
        assert_eq!(**keys.get("b", |_| unreachable!()), *"b");
        assert_eq!(**keys.get("c", |_| unreachable!()), *OTHER);
        assert_eq!(keys.sorted().len(), 2);
    }

    #[test]
    fn what_is_no_name_has_no_place() {
        let keys = Keys::new(9, |name| name);
        let long = "x".repeat(LONGEST_KEY + 1);
        for key in [long.as_str(), "two\nlines", "nul\0", "\u{85}", OTHER] {
            assert_eq!(**keys.get(key, |_| unreachable!()), *OTHER, "{key:?}");
        }
        for key in ["", "quo\"ted", "größe", &long[1..]] {
            assert_eq!(**keys.get(key, |name| name), *key);
        }
    }
}
