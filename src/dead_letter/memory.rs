//! A store of entries in memory.

use super::{
    Discarded, Entry, EntryClaim, EntryId, Filter, LetterStore, Listing, Page, Sink,
    state::{self, Change, Glimpse, Removed, State},
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
    kept: Mutex<Kept>,
}

struct Kept {
    state: State,
    dropped: u64,
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
        self.kept().state.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of entries that were dropped to make room.
    pub fn dropped(&self) -> u64 {
        self.kept().dropped
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing panics while the lock is held, so the state is consistent even if it is poisoned.
        let kept = self.shared.kept.lock();
        kept.unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.shared.epoch.elapsed()
    }

    /// Looks at a few entries under the lock.
    fn glance(&self) -> impl FnMut(u64) -> Vec<Glimpse> {
        let now = self.now();
        move |before| self.kept().state.glance(before, now)
    }

    /// Decides under the lock, and applies what is changed.
    fn change<T>(&self, decide: impl FnOnce(&mut State, Duration) -> (T, Option<Change>)) -> T {
        let now = self.now();
        let mut kept = self.kept();
        let state = &mut kept.state;
        let (answer, change) = decide(state, now);
        if let Some(change) = change {
            let size = match &change {
                Change::Put { entry, .. } => weight(entry) as u64,
                Change::Count { .. } | Change::Remove(_) => 0,
            };
            state.apply(change, size, now);
        }
        answer
    }

    fn put(&self, entry: &Arc<Entry>) -> Result<(), StoreError> {
        let with = &self.shared.with;
        let (max_bytes, weight) = (with.max_bytes as u64, weight(entry) as u64);
        if weight > max_bytes {
            return Err(StoreError::new(StoreErrorKind::TooLarge));
        }
        let now = self.now();
        let mut locked = self.kept();
        let state = &mut locked.state;
        let Some(change) = state.write(entry) else {
            return Ok(());
        };
        let mut entries = state.len() + usize::from(state.item(entry.id).is_none());
        let mut bytes = state.bytes_with(entry.id, weight);
        let mut leaving = Vec::new();
        for (id, item) in state.oldest_first() {
            if entries <= with.max_entries && bytes <= max_bytes || !with.drop_oldest {
                break;
            }
            if id != entry.id && !item.in_progress(now) {
                entries -= 1;
                bytes -= item.size;
                leaving.push(id);
            }
        }
        if entries > with.max_entries || bytes > max_bytes {
            return Err(StoreError::new(StoreErrorKind::Full));
        }
        for id in &leaving {
            state.take(*id);
        }
        state.apply(change, weight, now);
        let dropped = leaving.len();
        locked.dropped = locked.dropped.saturating_add(dropped as u64);
        drop(locked);
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
        &entry.dedup_key,
        &entry.fifo_group,
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
        done(Ok(state::list(filter, page, self.glance())))
    }

    fn get(&self, id: EntryId) -> BoxFuture<Result<Option<Entry>, StoreError>> {
        done(Ok(self.kept().state.get(id)))
    }

    fn claim(
        &self,
        id: EntryId,
        lease: Duration,
        max_replays: u32,
    ) -> BoxFuture<Result<EntryClaim, StoreError>> {
        let entries = self.clone();
        Box::pin(async move {
            Ok(entries.change(|state, now| state.claim(id, lease, max_replays, now)))
        })
    }

    fn renew(
        &self,
        id: EntryId,
        token: FencingToken,
        lease: Duration,
    ) -> BoxFuture<Result<Settled, StoreError>> {
        let now = self.now();
        done(Ok(self.kept().state.renew(id, token, lease, now)))
    }

    /// May exceed the limit of bytes by the growth of the entry, so that a claim can always be ended.
    fn release(
        &self,
        token: FencingToken,
        entry: &Arc<Entry>,
    ) -> BoxFuture<Result<Settled, StoreError>> {
        let entry = Arc::clone(entry);
        done(Ok(self.change(|state, _| state.release(token, entry))))
    }

    fn remove(&self, id: EntryId, token: FencingToken) -> BoxFuture<Result<Settled, StoreError>> {
        done(Ok(self.change(|state, _| state.remove(id, token))))
    }

    fn discard(&self, id: EntryId) -> BoxFuture<Result<Discarded, StoreError>> {
        done(Ok(self.change(|state, now| state.discard(id, now))))
    }

    fn count(&self, filter: &Filter) -> BoxFuture<Result<u64, StoreError>> {
        done(Ok(state::count(filter, self.glance())))
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
                kept: Mutex::new(Kept {
                    state: State::new(Removed::MOST),
                    dropped: 0,
                }),
            }),
        }
    }
}

impl fmt::Debug for MemoryDeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.kept();
        f.debug_struct("MemoryDeadLetters")
            .field("entries", &kept.state.len())
            .field("bytes", &kept.state.bytes)
            .field("dropped", &kept.dropped)
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
        let remove = |id| store.change(|_, _| ((), Some(Change::Remove(id))));
        let mut seen = 0;
        state::visit(u64::MAX, store.glance(), |glimpse| {
            seen += 1;
            write();
            remove(glimpse.entry.id);
            true
        });
        // Those that were there, and none that came meanwhile.
        assert_eq!((seen, store.len()), (1_000, 1_000));

        // What is looked at under one lock is all that is shown of those that are removed then.
        let mut seen = 0;
        state::visit(u64::MAX, store.glance(), |_| {
            seen += 1;
            let kept = store.kept();
            let all: Vec<_> = kept.state.oldest_first().map(|(id, _)| id).collect();
            drop(kept);
            all.into_iter().for_each(remove);
            true
        });
        assert_eq!((seen, store.len()), (128, 0));
    }
}
