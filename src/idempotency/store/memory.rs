//! The store in this process's memory: claims in a map of their own, answers in a
//! [moka](https://docs.rs/moka) cache.
//!
//! A cache may forget; a claim must not be forgotten, or the work runs twice. So claims in flight
//! are not cache entries. They live in a bounded map, and when that is full of live claims a new
//! key is refused ([`StoreErrorKind::Full`], 503), not accepted at the cost of another's claim.
//! Answers are evicted least recently used first, and only once more than
//! [`max_entries`](MemoryStoreBuilder::max_entries) or
//! [`max_bytes`](MemoryStoreBuilder::max_bytes) are kept. (moka's default policy would refuse a key
//! it has not seen often, which is every idempotency key.)
//!
//! What it keeps dies with the process: use it where a repeat after a restart may run again. Its
//! tokens go on from the time of day, so that those of a later process are greater.

use super::{Begin, Fingerprint, Settled, Store, StoreError, StoreErrorKind, Token};
use crate::{InvalidConfig, clock::WallClock, idempotency::Key};
use bytes::Bytes;
use moka::{Expiry, policy::EvictionPolicy, sync::Cache};
use std::{
    collections::{
        HashMap,
        hash_map::{Entry, RandomState},
    },
    fmt,
    future::{Ready, ready},
    hash::BuildHasher,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{self, Duration},
};
use tokio::time::Instant;

/// Maps that share the claims, so that two threads seldom meet at one lock.
const SHARDS: usize = 64;

/// What an entry costs beside its key and answer: the cache's own bookkeeping, measured at a
/// million entries (402 bytes resident with 36-byte keys, November 2026).
const ENTRY_OVERHEAD: usize = 400;

/// The default [`Store`]. See the [module docs](self).
///
/// Clones share what they keep. Its futures are ready at once and allocate nothing of their own.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_webhook::idempotency::{Begin, Key, MemoryStore, Store};
///
/// # tokio_test::block_on(async {
/// let store = MemoryStore::default();
/// let key = Key::new("orders", "evt_1")?;
/// let lease = Duration::from_secs(30);
///
/// assert!(matches!(store.begin(&key, None, lease).await?, Begin::Acquired(_)));
/// assert!(matches!(store.begin(&key, None, lease).await?, Begin::InProgress { .. }));
/// # Ok::<_, tower_webhook::BoxError>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

struct Shared {
    claims: Box<[Mutex<HashMap<Key, Claim, RandomState>>]>,
    /// Claims in all shards.
    in_flight: AtomicUsize,
    max_in_flight: usize,
    /// No claim ends before this moment (milliseconds since `epoch`): until then there is nothing
    /// to sweep, however often a full store is asked.
    earliest_end: AtomicU64,
    epoch: Instant,
    next_token: AtomicU64,
    answers: Cache<Key, Answer, RandomState>,
    max_bytes: usize,
    hasher: RandomState,
}

struct Claim {
    token: Token,
    fingerprint: Option<Fingerprint>,
    until: Instant,
}

#[derive(Clone)]
struct Answer {
    bytes: Bytes,
    fingerprint: Option<Fingerprint>,
    /// Checked on each read, by the clock that tests can pause; moka's own clock frees the memory.
    until: Instant,
    ttl: Duration,
}

/// Gives each answer the time to live that it came with.
struct TimeToLive;

impl Expiry<Key, Answer> for TimeToLive {
    fn expire_after_create(&self, _: &Key, answer: &Answer, _: time::Instant) -> Option<Duration> {
        Some(answer.ttl)
    }

    fn expire_after_update(
        &self,
        _: &Key,
        answer: &Answer,
        _: time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(answer.ttl)
    }
}

/// Settings of a [`MemoryStore`].
#[derive(Clone, Debug)]
#[must_use]
pub struct MemoryStoreBuilder {
    max_entries: usize,
    max_bytes: usize,
    max_in_flight: usize,
}

impl MemoryStoreBuilder {
    /// The most answers kept. Default: 100,000. Past it the least recently used one leaves, and its
    /// next repeat runs again: choose it above what arrives within your senders' retry horizon.
    pub const fn max_entries(mut self, entries: usize) -> Self {
        self.max_entries = entries;
        self
    }

    /// The most memory that answers take, in bytes, keys and bookkeeping included. Default: 128
    /// MiB. Past it the least recently used ones leave.
    pub const fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// The most claims in flight at once. Default: 16,384. Past it a new key is refused.
    pub const fn max_in_flight(mut self, claims: usize) -> Self {
        self.max_in_flight = claims;
        self
    }

    /// Builds the store.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] when a bound is zero, or `max_bytes` is under 1 KiB.
    pub fn build(self) -> Result<MemoryStore, InvalidConfig> {
        for (setting, value) in [
            ("max_entries", self.max_entries),
            ("max_in_flight", self.max_in_flight),
        ] {
            if value == 0 {
                return Err(InvalidConfig::new(setting, "must be at least 1"));
            }
        }
        if self.max_bytes < 1024 {
            return Err(InvalidConfig::new("max_bytes", "must be at least 1024"));
        }
        Ok(MemoryStore::build(&self))
    }
}

impl Default for MemoryStoreBuilder {
    fn default() -> Self {
        Self {
            max_entries: 100_000,
            max_bytes: 128 << 20,
            max_in_flight: 16_384,
        }
    }
}

impl Default for MemoryStore {
    /// A store with the defaults of [`MemoryStoreBuilder`].
    fn default() -> Self {
        Self::build(&MemoryStoreBuilder::default())
    }
}

impl MemoryStore {
    /// Settings to change before building.
    pub fn builder() -> MemoryStoreBuilder {
        MemoryStoreBuilder::default()
    }

    fn build(settings: &MemoryStoreBuilder) -> Self {
        let (entries, bytes) = (settings.max_entries as u128, settings.max_bytes as u128);
        // Both bounds in one: an answer takes one of `max_entries` slots, or as many as its bytes
        // are of `max_bytes`.
        let weigh = move |key: &Key, answer: &Answer| {
            let slots = (size(key, &answer.bytes) as u128 * entries).div_ceil(bytes);
            u32::try_from(slots.max(1)).unwrap_or(u32::MAX)
        };
        let hasher = RandomState::new();
        Self {
            shared: Arc::new(Shared {
                claims: (0..SHARDS)
                    .map(|_| Mutex::new(HashMap::with_hasher(hasher.clone())))
                    .collect(),
                in_flight: AtomicUsize::new(0),
                max_in_flight: settings.max_in_flight,
                earliest_end: AtomicU64::new(u64::MAX),
                epoch: Instant::now(),
                // A resource that remembers the tokens of an earlier process must not take those of
                // this one for stale. Nanoseconds: no store makes more claims than that.
                next_token: AtomicU64::new(WallClock::system().unix_nanos()),
                answers: Cache::builder()
                    .max_capacity(settings.max_entries as u64)
                    .eviction_policy(EvictionPolicy::lru())
                    .expire_after(TimeToLive)
                    .weigher(weigh)
                    .build_with_hasher(hasher.clone()),
                max_bytes: settings.max_bytes,
                hasher,
            }),
        }
    }

    /// Claims in flight now, those whose lease has run out and was not yet swept included.
    pub fn in_flight(&self) -> usize {
        self.shared.in_flight.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn shard(&self, key: &Key) -> MutexGuard<'_, HashMap<Key, Claim, RandomState>> {
        // The upper half of the hash: the map inside uses the lower.
        let hash = self.hasher.hash_one(key);
        let index = usize::try_from(hash >> 48).unwrap_or_default() % SHARDS;
        lock(&self.claims[index])
    }

    fn begin(
        &self,
        key: &Key,
        fingerprint: Option<&Fingerprint>,
        lease: Duration,
    ) -> Result<Begin, StoreError> {
        let now = Instant::now();
        if self.in_flight.load(Ordering::Relaxed) >= self.max_in_flight {
            self.sweep(now);
        }
        let mut shard = self.shard(key);
        if let Some(claim) = shard.get(key) {
            if differ(claim.fingerprint.as_ref(), fingerprint) && claim.until > now {
                return Ok(Begin::Mismatch);
            }
            let lease_left = claim.until.saturating_duration_since(now);
            if !lease_left.is_zero() {
                return Ok(Begin::InProgress { lease_left });
            }
        } else {
            // Under the shard's lock, as `complete` inserts: a key is always in one of the two.
            if let Some(answer) = self.answers.get(key).filter(|answer| answer.until > now) {
                return Ok(if differ(answer.fingerprint.as_ref(), fingerprint) {
                    Begin::Mismatch
                } else {
                    Begin::Completed(answer.bytes)
                });
            }
            let reserved =
                self.in_flight
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |claims| {
                        (claims < self.max_in_flight).then_some(claims + 1)
                    });
            if reserved.is_err() {
                return Err(StoreError::new(StoreErrorKind::Full));
            }
        }
        let token = Token::new(self.next_token.fetch_add(1, Ordering::Relaxed));
        let until = self.end_of(now, lease);
        let claim = Claim {
            token,
            fingerprint: fingerprint.copied(),
            until,
        };
        shard.insert(key.clone(), claim);
        Ok(Begin::Acquired(token))
    }

    /// When a lease from now ends; a lease too long for the clock ends in thirty years.
    fn end_of(&self, now: Instant, lease: Duration) -> Instant {
        let until = deadline(now, lease);
        self.earliest_end
            .fetch_min(self.millis(until), Ordering::Relaxed);
        until
    }

    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX)
    }

    /// Removes claims whose lease has run out. Looks only when there may be one.
    fn sweep(&self, now: Instant) {
        if self.millis(now) < self.earliest_end.load(Ordering::Relaxed) {
            return;
        }
        // Claims that are made while we look lower it again.
        self.earliest_end.store(u64::MAX, Ordering::Relaxed);
        for shard in &self.claims {
            let mut shard = lock(shard);
            let before = shard.len();
            shard.retain(|_, claim| claim.until > now);
            let gone = before - shard.len();
            self.in_flight.fetch_sub(gone, Ordering::Relaxed);
            let earliest = shard.values().map(|claim| self.millis(claim.until)).min();
            self.earliest_end
                .fetch_min(earliest.unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// Ends the claim of `token`, with what `settle` does while the key is locked.
    fn settle(&self, key: &Key, token: Token, settle: impl FnOnce(Claim)) -> Settled {
        let mut shard = self.shard(key);
        match shard.entry(key.clone()) {
            Entry::Occupied(entry) if entry.get().token == token => {
                settle(entry.remove());
                self.in_flight.fetch_sub(1, Ordering::Relaxed);
                Settled::Done
            }
            _ => Settled::Lost,
        }
    }
}

/// A poisoned lock is taken all the same: no code that can panic runs while it is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an answer takes of [`MemoryStoreBuilder::max_bytes`].
fn size(key: &Key, answer: &Bytes) -> usize {
    key.scope().len() + key.id().len() + answer.len() + ENTRY_OVERHEAD
}

fn differ(one: Option<&Fingerprint>, other: Option<&Fingerprint>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if one != other)
}

/// `now + wait`, thirty years at the most.
fn deadline(now: Instant, wait: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
    now + wait.min(FAR)
}

impl Store for MemoryStore {
    type Begin = Ready<Result<Begin, StoreError>>;
    type Settle = Ready<Result<Settled, StoreError>>;

    fn begin(&self, key: &Key, fingerprint: Option<&Fingerprint>, lease: Duration) -> Self::Begin {
        ready(self.shared.begin(key, fingerprint, lease))
    }

    fn renew(&self, key: &Key, token: Token, lease: Duration) -> Self::Settle {
        let mut claims = self.shared.shard(key);
        ready(Ok(match claims.get_mut(key) {
            Some(claim) if claim.token == token => {
                claim.until = self.shared.end_of(Instant::now(), lease);
                Settled::Done
            }
            _ => Settled::Lost,
        }))
    }

    fn complete(&self, key: &Key, token: Token, answer: Bytes, ttl: Duration) -> Self::Settle {
        let shared = &self.shared;
        if size(key, &answer) > shared.max_bytes {
            // The cache would drop it without a word.
            return ready(Err(StoreError::new(StoreErrorKind::Full)));
        }
        ready(Ok(shared.settle(key, token, |claim| {
            let answer = Answer {
                bytes: answer,
                fingerprint: claim.fingerprint,
                until: deadline(Instant::now(), ttl),
                ttl,
            };
            shared.answers.insert(key.clone(), answer);
        })))
    }

    fn release(&self, key: &Key, token: Token) -> Self::Settle {
        ready(Ok(self.shared.settle(key, token, |_| ())))
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("in_flight", &self.in_flight())
            .field("answers", &self.shared.answers.entry_count())
            .finish_non_exhaustive()
    }
}
