use super::{
    Begin, Fingerprint, Store,
    claims::{Begun, Claims},
};
use crate::{
    InvalidConfig, StoreError, StoreErrorKind,
    clock::WallClock,
    idempotency::IdempotencyKey,
    lease::{FencingToken, Settled},
};
use bytes::Bytes;
use moka::{Expiry, policy::EvictionPolicy, sync::Cache};
use std::{
    collections::hash_map::RandomState,
    fmt,
    future::{Ready, ready},
    hash::{BuildHasher, Hash, Hasher},
    sync::Arc,
    time::{self, Duration},
};
use tokio::time::Instant;

/// The number of maps that share the claims, so that threads seldom wait for the same lock.
const SHARDS: usize = 64;

/// What an entry is counted with besides its key and answer: the cache's own bookkeeping. Resident at a million entries
/// with 36-byte keys and 64-byte answers: 625 bytes each, of which 500 are counted (November 2026).
const ENTRY_OVERHEAD: usize = 400;

/// The default [`Store`], in the memory of this process. It keeps claims in a map, and answers in a
/// [moka](https://docs.rs/moka) cache.
///
/// A cache may evict an entry, but a claim must not be lost, or the work would run twice. Claims in
/// flight are therefore kept in a bounded map outside the cache. When it is full of live claims, a new
/// key is refused ([`StoreErrorKind::Full`], 503); no live claim is dropped for it. Claims whose lease has ended are
/// dropped then: their holders can complete them until somebody claims the key, or until the map is full.
/// Answers are evicted only when more than [`max_entries`](MemoryStoreBuilder::max_entries) or
/// [`max_bytes`](MemoryStoreBuilder::max_bytes) are kept, the least recently used first. (moka's
/// default policy would not admit a key that it has rarely seen, and every idempotency key is such a
/// key.)
///
/// Claims and answers are lost when the process ends: use this store only where a repeat after a
/// restart may run again. Its fencing tokens start at the time of day, so that the tokens of a later
/// process are greater.
///
/// Clones share their contents. Its futures are ready at once and allocate nothing of their own.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_webhook::idempotency::{Begin, IdempotencyKey, MemoryStore, Store};
///
/// # tokio_test::block_on(async {
/// let store = MemoryStore::default();
/// let key = IdempotencyKey::new("orders", "evt_1")?;
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
    /// By the time since `epoch`.
    claims: Claims<Hashed, Option<Fingerprint>, PassOn>,
    epoch: Instant,
    answers: Cache<Hashed, Answer, PassOn>,
    bounds: Bounds,
    hasher: RandomState,
}

/// Combines both bounds on answers: an answer takes one of `slots`, or as many as its bytes fill.
#[derive(Clone, Copy)]
struct Bounds {
    slots: usize,
    slot_bytes: usize,
}

impl Bounds {
    fn new(settings: &MemoryStoreBuilder) -> Self {
        let slot_bytes = (settings.max_bytes / settings.max_entries).max(1);
        Self {
            slots: settings.max_entries.min(settings.max_bytes / slot_bytes),
            slot_bytes,
        }
    }

    const fn slots(self, bytes: usize) -> usize {
        bytes.div_ceil(self.slot_bytes)
    }
}

/// A key and its hash. The hash is computed once, for the shard, its map and the cache, which asks for those
/// of all its keys whenever it has evicted a tenth as many.
#[repr(C)]
struct Hashed {
    // First, to be on the cache line of the cache's own count.
    hash: u64,
    key: IdempotencyKey,
}

impl PartialEq for Hashed {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.key == other.key
    }
}

impl Eq for Hashed {}

impl Hash for Hashed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// The hasher of [`Hashed`]: returns the hash that a keyed hasher computed before.
#[derive(Clone, Copy, Default)]
struct PassOn(u64);

impl BuildHasher for PassOn {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        *self
    }
}

impl Hasher for PassOn {
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    // Never called, because `Hashed` writes one `u64`; correct all the same.
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Clone)]
struct Answer {
    bytes: Bytes,
    fingerprint: Option<Fingerprint>,
    /// When the answer ends, checked on each read by the clock that tests can pause. moka's own clock
    /// frees the memory.
    until: Instant,
}

/// Gives each answer the time to live that `complete` set.
struct TimeToLive;

impl Expiry<Hashed, Answer> for TimeToLive {
    fn expire_after_create(
        &self,
        _: &Hashed,
        answer: &Answer,
        now: time::Instant,
    ) -> Option<Duration> {
        Some(answer.until.into_std().saturating_duration_since(now))
    }

    fn expire_after_update(
        &self,
        key: &Hashed,
        answer: &Answer,
        now: time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.expire_after_create(key, answer, now)
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
    /// Sets the largest number of answers that are kept. Default: 100,000. When it is exceeded, the least
    /// recently used answer is evicted, and its next repeat runs again: set it above the number of requests
    /// that arrive within your senders' retry horizon.
    pub const fn max_entries(mut self, entries: usize) -> Self {
        self.max_entries = entries;
        self
    }

    /// Sets the memory limit for answers, in bytes, including keys and bookkeeping. Default: 128 MiB. When
    /// it is exceeded, the least recently used answers are evicted.
    pub const fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets the largest number of claims in flight. Default: 16,384. When it is reached, new keys are
    /// refused.
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
    /// Makes a store with the defaults of [`MemoryStoreBuilder`].
    fn default() -> Self {
        Self::build(&MemoryStoreBuilder::default())
    }
}

impl MemoryStore {
    /// Returns a builder with the default settings.
    pub fn builder() -> MemoryStoreBuilder {
        MemoryStoreBuilder::default()
    }

    fn build(settings: &MemoryStoreBuilder) -> Self {
        let bounds = Bounds::new(settings);
        let weigh = move |key: &Hashed, answer: &Answer| {
            let slots = bounds.slots(size(&key.key, &answer.bytes));
            u32::try_from(slots).unwrap_or(u32::MAX)
        };
        Self {
            shared: Arc::new(Shared {
                // A resource that remembers the tokens of an earlier process must not take those of this
                // one for stale. Nanoseconds, because no store makes more than one claim per nanosecond.
                claims: Claims::new(
                    SHARDS,
                    settings.max_in_flight,
                    WallClock::system().unix_nanos(),
                ),
                epoch: Instant::now(),
                answers: Cache::builder()
                    .max_capacity(bounds.slots as u64)
                    .eviction_policy(EvictionPolicy::lru())
                    .expire_after(TimeToLive)
                    .weigher(weigh)
                    .build_with_hasher(PassOn::default()),
                bounds,
                hasher: RandomState::new(),
            }),
        }
    }

    /// Returns the number of claims in flight. Includes claims whose lease has ended, until they are swept.
    pub fn in_flight(&self) -> usize {
        self.shared.claims.in_flight()
    }
}

impl Shared {
    fn hashed(&self, key: &IdempotencyKey) -> Hashed {
        Hashed {
            hash: self.hasher.hash_one(key),
            key: key.clone(),
        }
    }

    fn begin(
        &self,
        key: &IdempotencyKey,
        fingerprint: Option<&Fingerprint>,
        lease: Duration,
    ) -> Result<Begin, StoreError> {
        let now = Instant::now();
        let key = self.hashed(key);
        let times = [self.nanos(now), self.nanos(deadline(now, lease))];
        let known = |key: &Hashed| {
            let answer = self.answers.get(key);
            answer.filter(|answer| answer.until > now)
        };
        let begun = (self.claims).begin(shard(&key), key, fingerprint.copied(), times, known);
        let differs = |other: Option<Fingerprint>| differ(other.as_ref(), fingerprint);
        match begun {
            Begun::Acquired(token) => Ok(Begin::Acquired(token)),
            Begun::Held { kept, .. } if differs(kept) => Ok(Begin::Mismatch),
            Begun::Held { left, .. } => Ok(Begin::InProgress {
                lease_left: Duration::from_nanos(left),
            }),
            Begun::Known(answer) if differs(answer.fingerprint) => Ok(Begin::Mismatch),
            Begun::Known(answer) => Ok(Begin::Completed(answer.bytes)),
            Begun::Full => Err(StoreError::new(StoreErrorKind::Full)),
        }
    }

    /// Enough for 584 years after `epoch`.
    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Ends the claim of `token`, and calls `settle` while the key is locked.
    fn settle(
        &self,
        key: &IdempotencyKey,
        token: FencingToken,
        settle: impl FnOnce(Hashed, Option<Fingerprint>),
    ) -> Settled {
        let key = self.hashed(key);
        self.claims.settle(shard(&key), key, token, settle)
    }
}

/// The map inside uses these bits neither for its slots nor for its tags.
fn shard(key: &Hashed) -> usize {
    usize::try_from(key.hash >> 48).unwrap_or_default()
}

/// Returns how many bytes of [`MemoryStoreBuilder::max_bytes`] an answer takes.
fn size(key: &IdempotencyKey, answer: &Bytes) -> usize {
    key.len() + answer.len() + ENTRY_OVERHEAD
}

fn differ(one: Option<&Fingerprint>, other: Option<&Fingerprint>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if one != other)
}

/// Returns `now + wait`, at most thirty years from now.
fn deadline(now: Instant, wait: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
    now + wait.min(FAR)
}

impl Store for MemoryStore {
    type Begin = Ready<Result<Begin, StoreError>>;
    type Settle = Ready<Result<Settled, StoreError>>;

    fn begin(
        &self,
        key: &IdempotencyKey,
        fingerprint: Option<&Fingerprint>,
        lease: Duration,
    ) -> Self::Begin {
        ready(self.shared.begin(key, fingerprint, lease))
    }

    fn renew(&self, key: &IdempotencyKey, token: FencingToken, lease: Duration) -> Self::Settle {
        let key = self.shared.hashed(key);
        let until = self.shared.nanos(deadline(Instant::now(), lease));
        ready(Ok(self.shared.claims.renew(
            shard(&key),
            &key,
            token,
            until,
        )))
    }

    fn complete(
        &self,
        key: &IdempotencyKey,
        token: FencingToken,
        answer: Bytes,
        ttl: Duration,
    ) -> Self::Settle {
        let shared = &self.shared;
        if shared.bounds.slots(size(key, &answer)) > shared.bounds.slots {
            // The cache would drop it silently.
            return ready(Err(StoreError::new(StoreErrorKind::Full)));
        }
        ready(Ok(shared.settle(key, token, |key, fingerprint| {
            let answer = Answer {
                bytes: answer,
                fingerprint,
                until: deadline(Instant::now(), ttl),
            };
            shared.answers.insert(key, answer);
        })))
    }

    fn release(&self, key: &IdempotencyKey, token: FencingToken) -> Self::Settle {
        ready(Ok(self.shared.settle(key, token, |_, _| ())))
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
