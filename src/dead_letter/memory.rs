//! A store of entries in memory.

use super::{
    Cursor, Discarded, Entry, EntryClaim, EntryId, Filter, LetterStore, Listing, Page, Sink,
    Summary,
    index::{Claimable, Index, Item, Removed},
};
use crate::{
    BoxFuture, InvalidConfig, StoreError, StoreErrorKind,
    lease::{FencingToken, Settled},
    observe::{Event, Id, Observer, Observers},
};
use std::{
    fmt,
    future::ready,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// A dead-letter store in the memory of this process. Its entries are lost with the process.
///
/// Bounded by entries and by bytes. A full store refuses to write ([`StoreErrorKind::Full`]), so that the
/// caller knows that the entry is not stored. With [`drop_oldest`](MemoryDeadLettersBuilder::drop_oldest) it
/// drops the oldest entries instead, [counts](Self::dropped) them, and reports to
/// [observers](MemoryDeadLettersBuilder::observe).
///
/// It remembers the ids of the last 10,000 entries that were removed or discarded, and does not write
/// them again. Clones share the entries. A listing or a count takes as long as there are entries, but others
/// write, claim and remove meanwhile: it shows each entry as it was when it came to it.
///
/// # Cancel safety
///
/// Every operation except a claim is done when its future is made. A claim is done at the first poll of
/// its future, which is then ready: if it is dropped before, nothing is claimed.
///
/// # Examples
///
/// ```
/// use std::{sync::Arc, time::{Duration, SystemTime}};
/// use tower_webhook::dead_letter::{
///     Cause, Filter, Entry, EntryClaim, EntryId, LetterStore, MemoryDeadLetters, Page, Reason, Sink,
/// };
///
/// # tokio_test::block_on(async {
/// let store = MemoryDeadLetters::default();
/// let cause = Cause::new(Reason::Rejected).with_code(Some(410));
/// let entry = Entry::new(EntryId::random(), "http", "peer.test", cause, SystemTime::now());
/// store.write(&Arc::new(entry.clone())).await?;
///
/// let listing = store.list(&Filter::all().reason(Reason::Rejected), &Page::first(50)).await?;
/// assert_eq!(listing.entries[0].id, entry.id);
///
/// let claim = store.claim(entry.id, Duration::from_secs(60), 5).await?;
/// assert!(matches!(claim, EntryClaim::Claimed { .. }));
/// # Ok::<_, tower_webhook::BoxError>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct MemoryDeadLetters {
    shared: Arc<Shared>,
}

struct Shared {
    with: MemoryDeadLettersBuilder,
    epoch: Instant,
    state: Mutex<State>,
}

struct State {
    shelf: Index<Kept>,
    removed: Removed<()>,
    bytes: usize,
    dropped: u64,
}

/// How many entries are looked at under one lock: some microseconds.
const GLANCE: usize = 128;

/// An entry as it was when it was looked at.
struct Glimpse {
    entry: Arc<Entry>,
    place: u64,
    replays: u32,
    in_progress: bool,
}

struct Kept {
    entry: Arc<Entry>,
    weight: usize,
}

impl MemoryDeadLetters {
    /// Returns a builder with the default settings.
    pub const fn builder() -> MemoryDeadLettersBuilder {
        MemoryDeadLettersBuilder {
            max_entries: 10_000,
            max_bytes: 64 << 20,
            drop_oldest: false,
            observers: Observers::none(),
        }
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.state().shelf.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of entries that were dropped to make room.
    pub fn dropped(&self) -> u64 {
        self.state().dropped
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held, so the state is consistent even if it is poisoned.
        let state = self.shared.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.shared.epoch.elapsed()
    }

    /// Shows the entries before a position, newest first, until `visit` has enough. The lock is held for a few
    /// entries at a time, and not while they are visited: a store of a hundred thousand is listed while others
    /// write.
    fn visit(&self, before: Option<u64>, mut visit: impl FnMut(&Glimpse) -> bool) {
        let now = self.now();
        let mut end = before.unwrap_or(u64::MAX);
        loop {
            let some: Vec<_> = {
                let state = self.state();
                let some = state.shelf.newest_before(end).take(GLANCE);
                some.map(|(_, item)| Glimpse {
                    entry: Arc::clone(&item.kept.entry),
                    place: item.place,
                    replays: item.replays,
                    in_progress: item.in_progress(now),
                })
                .collect()
            };
            let Some(last) = some.last() else { return };
            end = last.place;
            if !some.iter().all(&mut visit) {
                return;
            }
        }
    }

    fn put(&self, entry: &Arc<Entry>) -> Result<(), StoreError> {
        let with = &self.shared.with;
        let weight = weight(entry);
        if weight > with.max_bytes {
            return Err(StoreError::new(StoreErrorKind::TooLarge));
        }
        let now = self.now();
        let mut locked = self.state();
        let state = &mut *locked;
        if state.removed.contains(entry.id) {
            return Ok(());
        }
        let present = state.shelf.get(entry.id);
        let (new, before) = present.map_or((1, 0), |item| (0, item.kept.weight));
        let mut entries = state.shelf.len() + new;
        let mut bytes = (state.bytes - before).saturating_add(weight);
        let mut leaving = Vec::new();
        for (id, item) in state.shelf.oldest_first() {
            if entries <= with.max_entries && bytes <= with.max_bytes || !with.drop_oldest {
                break;
            }
            if id != entry.id && !item.in_progress(now) {
                entries -= 1;
                bytes -= item.kept.weight;
                leaving.push(id);
            }
        }
        if entries > with.max_entries || bytes > with.max_bytes {
            return Err(StoreError::new(StoreErrorKind::Full));
        }
        for id in &leaving {
            state.shelf.take(*id);
        }
        let kept = Kept {
            entry: entry.clone(),
            weight,
        };
        state.shelf.put(entry.id, kept, entry.replays);
        state.bytes = bytes;
        state.dropped = state.dropped.saturating_add(leaving.len() as u64);
        drop(locked);
        let dropped = leaving.len();
        if dropped > 0 {
            with.observers.tell(|| Event::Trouble {
                part: "dead_letter",
                what: "the oldest entries were dropped",
                detail: Some(Id::new(&dropped)),
            });
        }
        Ok(())
    }
}

impl MemoryDeadLetters {
    fn take_claim(&self, id: EntryId, lease: Duration, max_replays: u32) -> EntryClaim {
        let now = self.now();
        let mut state = self.state();
        match state.shelf.claimable(id, now, max_replays) {
            Claimable::Missing => EntryClaim::Missing,
            Claimable::InProgress(lease_left) => EntryClaim::InProgress { lease_left },
            Claimable::Spent(replays) => EntryClaim::Spent { replays },
            Claimable::Yes(_) => {
                let token = state.shelf.claim(id, now.saturating_add(lease));
                match state.shelf.get(id).map(Item::entry) {
                    Some(entry) => EntryClaim::Claimed {
                        token,
                        entry: Box::new(entry),
                    },
                    None => EntryClaim::Missing,
                }
            }
        }
    }
}

impl State {
    /// Removes an entry, and remembers its id.
    fn remove(&mut self, id: EntryId) {
        if let Some(item) = self.shelf.take(id) {
            self.bytes -= item.kept.weight;
        }
        self.removed.put(id, ());
    }
}

impl Item<Kept> {
    fn entry(&self) -> Entry {
        let mut entry = (*self.kept.entry).clone();
        entry.replays = self.replays;
        entry
    }
}

/// The approximate memory of an entry.
pub(super) fn weight(entry: &Entry) -> usize {
    let texts = [
        &entry.method,
        &entry.uri,
        &entry.cause.class,
        &entry.cause.message,
        &entry.event_id,
        &entry.idempotency_key,
        &entry.replay_of,
        &entry.trace_id,
    ];
    let texts = texts.into_iter().flatten().map(String::len);
    let headers = entry.headers.iter();
    let headers =
        headers.map(|(name, value)| size_of::<(String, bytes::Bytes)>() + name.len() + value.len());
    let records = size_of_val(entry.history.records());
    // The entry, its item, and its share of a map and a tree.
    size_of::<Entry>()
        + 256
        + entry.kind.len()
        + entry.target.len()
        + entry.body.bytes().len()
        + records
        + texts.sum::<usize>()
        + headers.sum::<usize>()
}

fn done<T: Send + 'static>(result: Result<T, StoreError>) -> BoxFuture<Result<T, StoreError>> {
    Box::pin(ready(result))
}

impl Sink for MemoryDeadLetters {
    fn write(&self, entry: &Arc<Entry>) -> BoxFuture<Result<(), StoreError>> {
        done(self.put(entry))
    }
}

impl LetterStore for MemoryDeadLetters {
    fn list(&self, filter: &Filter, page: &Page) -> BoxFuture<Result<Listing, StoreError>> {
        let limit = page.limit.clamp(1, Page::MAX);
        let mut entries = Vec::new();
        let (mut last, mut next) = (None, None);
        self.visit(page.after.as_ref().map(Cursor::place), |seen| {
            if !filter.matches(&seen.entry) {
                return true;
            }
            if entries.len() == limit {
                next = last.map(Cursor::new);
                return false;
            }
            let mut summary = Summary::of(&seen.entry, seen.in_progress);
            summary.replays = seen.replays;
            entries.push(summary);
            last = Some(seen.place);
            true
        });
        done(Ok(Listing {
            entries,
            next,
            unreadable: 0,
        }))
    }

    fn get(&self, id: EntryId) -> BoxFuture<Result<Option<Entry>, StoreError>> {
        done(Ok(self.state().shelf.get(id).map(Item::entry)))
    }

    fn claim(
        &self,
        id: EntryId,
        lease: Duration,
        max_replays: u32,
    ) -> BoxFuture<Result<EntryClaim, StoreError>> {
        let entries = self.clone();
        Box::pin(async move { Ok(entries.take_claim(id, lease, max_replays)) })
    }

    fn renew(
        &self,
        id: EntryId,
        token: FencingToken,
        lease: Duration,
    ) -> BoxFuture<Result<Settled, StoreError>> {
        let now = self.now();
        let mut state = self.state();
        if !state.shelf.holds(id, token, now) {
            return done(Ok(Settled::Lost));
        }
        state.shelf.renew(id, now.saturating_add(lease));
        done(Ok(Settled::Done))
    }

    /// May exceed the limit of bytes by the growth of the entry, so that a claim can always be ended.
    fn release(
        &self,
        token: FencingToken,
        entry: &Arc<Entry>,
    ) -> BoxFuture<Result<Settled, StoreError>> {
        let now = self.now();
        let mut state = self.state();
        if !state.shelf.holds(entry.id, token, now) {
            return done(Ok(Settled::Lost));
        }
        let kept = Kept {
            entry: entry.clone(),
            weight: weight(entry),
        };
        let added = kept.weight;
        if let Some(before) = state.shelf.put(entry.id, kept, entry.replays) {
            state.bytes = (state.bytes - before.weight).saturating_add(added);
        }
        state.shelf.set_replays(entry.id, entry.replays);
        state.shelf.unclaim(entry.id, token);
        done(Ok(Settled::Done))
    }

    fn remove(&self, id: EntryId, token: FencingToken) -> BoxFuture<Result<Settled, StoreError>> {
        let now = self.now();
        let mut state = self.state();
        if !state.shelf.holds(id, token, now) {
            return done(Ok(Settled::Lost));
        }
        state.remove(id);
        done(Ok(Settled::Done))
    }

    fn discard(&self, id: EntryId) -> BoxFuture<Result<Discarded, StoreError>> {
        let now = self.now();
        let mut state = self.state();
        done(Ok(match state.shelf.get(id) {
            None => Discarded::Missing,
            Some(item) if item.in_progress(now) => Discarded::InProgress,
            Some(_) => {
                state.remove(id);
                Discarded::Done
            }
        }))
    }

    fn count(&self, filter: &Filter) -> BoxFuture<Result<u64, StoreError>> {
        let mut count = 0;
        self.visit(None, |seen| {
            count += u64::from(filter.matches(&seen.entry));
            true
        });
        done(Ok(count))
    }
}

impl Default for MemoryDeadLetters {
    fn default() -> Self {
        Self::of(Self::builder())
    }
}

impl MemoryDeadLetters {
    fn of(with: MemoryDeadLettersBuilder) -> Self {
        Self {
            shared: Arc::new(Shared {
                with,
                epoch: Instant::now(),
                state: Mutex::new(State {
                    shelf: Index::new(),
                    removed: Removed::<()>::new(Removed::<()>::MOST),
                    bytes: 0,
                    dropped: 0,
                }),
            }),
        }
    }
}

impl fmt::Debug for MemoryDeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("MemoryDeadLetters")
            .field("entries", &state.shelf.len())
            .field("bytes", &state.bytes)
            .field("dropped", &state.dropped)
            .finish_non_exhaustive()
    }
}

/// Builder of a [`MemoryDeadLetters`].
#[derive(Clone, Debug)]
#[must_use]
pub struct MemoryDeadLettersBuilder {
    max_entries: usize,
    max_bytes: usize,
    drop_oldest: bool,
    observers: Observers,
}

impl MemoryDeadLettersBuilder {
    /// Sets the largest number of entries. Default: 10,000.
    pub const fn max_entries(mut self, entries: usize) -> Self {
        self.max_entries = entries;
        self
    }

    /// Sets the memory limit of all entries, in bytes: bodies, headers and texts, and a few hundred bytes of
    /// bookkeeping for each. Default: 64 MiB.
    pub const fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Drops the oldest unclaimed entries to make room for new ones. Default: new ones are refused. Dropped
    /// entries are lost, and [counted](MemoryDeadLetters::dropped).
    pub const fn drop_oldest(mut self) -> Self {
        self.drop_oldest = true;
        self
    }

    /// Adds an observer of [`Event::Trouble`]: entries were dropped. Default: none except `tracing`.
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.observers = self.observers.and(observer);
        self
    }

    /// Builds an empty store.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] if a bound is zero.
    pub fn build(self) -> Result<MemoryDeadLetters, InvalidConfig> {
        for (setting, value) in [
            ("max_entries", self.max_entries),
            ("max_bytes", self.max_bytes),
        ] {
            if value == 0 {
                return Err(InvalidConfig::new(setting, "must be at least 1"));
            }
        }
        Ok(MemoryDeadLetters::of(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dead_letter::{Cause, Reason};
    use std::time::SystemTime;

    /// A listing does not keep writers waiting: were the lock held while an entry is looked at, this would wait for
    /// itself.
    #[test]
    fn others_write_and_remove_while_a_long_list_is_searched() {
        let (store, cause) = (MemoryDeadLetters::default(), Cause::new(Reason::Rejected));
        let write = || {
            let now = SystemTime::UNIX_EPOCH;
            let entry = Entry::new(EntryId::random(), "test", "peer", cause.clone(), now);
            store.put(&Arc::new(entry)).unwrap();
        };
        (0..1_000).for_each(|_| write());
        let mut seen = 0;
        store.visit(None, |glimpse| {
            seen += 1;
            write();
            store.state().remove(glimpse.entry.id);
            true
        });
        // Those that were there, and none that came meanwhile.
        assert_eq!((seen, store.len()), (1_000, 1_000));

        // What is looked at under one lock is all that is shown of those that are removed then.
        let mut seen = 0;
        store.visit(None, |_| {
            seen += 1;
            let all: Vec<_> = store
                .state()
                .shelf
                .oldest_first()
                .map(|(id, _)| id)
                .collect();
            for id in all {
                store.state().remove(id);
            }
            true
        });
        assert_eq!((seen, store.len()), (128, 0));
    }
}
