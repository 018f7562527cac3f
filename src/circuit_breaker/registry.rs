//! A breaker for each peer, up to a limit.
//!
//! Keys are spread over shards by a hash that cannot be predicted from outside. A call with a known key
//! reads one entry of one shard. A call with a new key does more only when the map is full: it examines a
//! few entries of a shard in turn (the "hand"), and removes the first that is not needed.

use super::{
    BreakerConfig, BreakerMode, BreakerPermit, BreakerSnapshot, CircuitOpen, PeerBreaker, Totals,
    breaker::{Breaker, Shared},
    model::World,
    state::{Change, Machine},
};
use crate::observe::{Event, Id, Observer};
use std::{
    collections::{HashMap, hash_map::RandomState},
    fmt,
    hash::{BuildHasher, BuildHasherDefault, Hasher},
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering, fence},
    },
};
use tokio::time::Instant;

/// The circuit breakers of a layer, one for each peer.
///
/// Clones share the breakers. Take them from
/// [`CircuitBreakerLayer::breakers`](super::CircuitBreakerLayer::breakers), or make them first and pass
/// them to the layers that share them.
///
/// # Many peers
///
/// The map has room for [`max_peers`](super::BreakerConfigBuilder::max_peers). When it is full, a new
/// peer replaces one that is not needed: closed, without a call in flight, and without evidence against
/// it. Evidence expires [`forget_after`](super::BreakerConfigBuilder::forget_after) its last failure or
/// the end of its open time, so that endpoints that no longer exist do not fill the map for ever.
///
/// A breaker that goes while it is open or half-open tells a last change, to `closed` with the reason
/// `evicted`: its peer's next call is let through, by a new breaker.
///
/// For each new peer a few entries are examined, never all. If none of them can be removed, the call
/// passes *unguarded* and is [counted](Self::unguarded). The alternative, one breaker for all peers
/// without room, would refuse calls to healthy peers as soon as one of them fails.
///
/// # Examples
///
/// ```
/// use tower_webhook::circuit_breaker::{BreakerConfig, BreakerState, Breakers};
/// use tower_webhook::observe::{Event, observer_fn};
/// use tower_webhook::outcome::Outcome;
///
/// let breakers = Breakers::new(BreakerConfig::default()).observe(observer_fn(|event| {
///     if let Event::BreakerChanged { peer, from, to, reason, .. } = event {
///         println!("{peer}: {from} to {to}, {reason}");
///     }
/// }));
///
/// // What the layer does at every call:
/// breakers.admit("peer.test")?.settle(Outcome::success());
///
/// // What an operator does:
/// let peer = breakers.find("peer.test").expect("it was called");
/// peer.force_open();
/// assert!(breakers.admit("peer.test").is_err());
/// peer.auto();
/// assert_eq!(peer.snapshot().state, BreakerState::Closed);
/// assert_eq!(breakers.totals().refused, 1);
/// # Ok::<_, tower_webhook::circuit_breaker::CircuitOpen>(())
/// ```
#[derive(Clone)]
pub struct Breakers {
    registry: Arc<Registry>,
}

impl Breakers {
    /// Makes breakers with these settings.
    pub fn new(config: BreakerConfig) -> Self {
        Self {
            registry: Arc::new(Registry::new(config)),
        }
    }

    /// Adds an observer of [`Event::BreakerChanged`], which is called on the thread of the call that caused the
    /// change. Default: none except `tracing`.
    ///
    /// It observes these breakers through all clones, including those that were made before. It stays as
    /// long as they exist; an observer that holds the breakers keeps them alive.
    #[allow(clippy::must_use_candidate, reason = "clones have the observer too")]
    pub fn observe(self, observer: impl Observer) -> Self {
        {
            let observers = self.registry.shared.observers.write();
            let mut observers = observers.unwrap_or_else(PoisonError::into_inner);
            *observers = mem::take(&mut *observers).and(observer);
        }
        self
    }

    /// Asks for permission to make one call to a peer. For code that is not a tower service.
    ///
    /// # Errors
    ///
    /// [`CircuitOpen`] if the breaker of the peer refuses.
    #[inline]
    pub fn admit(&self, peer: &str) -> Result<BreakerPermit, CircuitOpen> {
        self.admit_at(peer, None)
    }

    /// As [`admit`](Self::admit), for a call that begins at `now`, if the caller has read the clock. `None` reads it
    /// where it matters, which it seldom does.
    #[inline]
    pub(crate) fn admit_at(
        &self,
        peer: &str,
        now: Option<Instant>,
    ) -> Result<BreakerPermit, CircuitOpen> {
        self.registry.admit(peer, now)
    }

    /// The breaker of a peer that has been called. The breaker of `""` always exists.
    pub fn find(&self, peer: &str) -> Option<PeerBreaker> {
        let breaker = self.registry.find(peer)?;
        Some(PeerBreaker { breaker })
    }

    /// The breaker of a peer, which is made if there is none, so that a peer can be forced open before its
    /// first call. `None` if there is no room.
    pub fn of(&self, peer: &str) -> Option<PeerBreaker> {
        let breaker = self.registry.breaker(peer)?;
        Some(PeerBreaker { breaker })
    }

    /// A snapshot of each breaker, in no order: for a health page. The breaker of `""` is included if it was
    /// called. Breakers are locked one after another.
    pub fn snapshots(&self) -> Vec<BreakerSnapshot> {
        let mut all = self.registry.all();
        if self.registry.root.gate.look(Machine::is_untouched) {
            all.remove(0);
        }
        all.iter().map(|breaker| breaker.snapshot()).collect()
    }

    /// The counts of all breakers together, including those that were removed from the map. Breakers are
    /// locked one after another.
    pub fn totals(&self) -> Totals {
        let registry = &*self.registry;
        let mut totals = Totals::default();
        let root = &registry.root;
        root.gate.look(|machine| totals.add(machine.totals()));
        for at in 0..registry.shards.len() {
            let shard = registry.shard(at);
            totals.add(&shard.retired);
            for breaker in &shard.ring {
                breaker.gate.look(|machine| totals.add(machine.totals()));
            }
        }
        totals
    }

    /// The number of peers in the map, without `""`.
    pub fn len(&self) -> usize {
        self.registry.peers.load(Ordering::Relaxed)
    }

    /// Whether no peer except `""` has been called.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of calls that passed without a breaker, because there was no room for their peer.
    pub fn unguarded(&self) -> u64 {
        self.registry.unguarded.load(Ordering::Relaxed)
    }

    /// The number of peers that were removed to make room for others.
    pub fn evicted(&self) -> u64 {
        self.registry.evicted.load(Ordering::Relaxed)
    }

    /// Sets the mode of every breaker, including those that are made later.
    pub fn set_mode_of_all(&self, mode: BreakerMode) {
        // First, so that a breaker is either made with this mode or found below.
        let normal = self.registry.mode.lock();
        *normal.unwrap_or_else(PoisonError::into_inner) = mode;
        for breaker in self.registry.all() {
            breaker.set_mode(mode);
        }
    }

    /// Resets every breaker, as [`PeerBreaker::reset`] does.
    pub fn reset_all(&self) {
        for breaker in self.registry.all() {
            breaker.reset();
        }
    }
}

impl fmt::Debug for Breakers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breakers")
            .field("peers", &self.len())
            .finish_non_exhaustive()
    }
}

const MAX_SHARDS: usize = 32;
/// A shard has room for at least this many keys.
const MIN_PER_SHARD: usize = 64;
/// How many entries the hand of a shard examines for one new key.
const REACH: usize = 8;

/// A change of a breaker, to be told.
type Told = (Arc<Breaker>, Change);
/// What a new key changes: the breaker that went, and its own.
type Untold = [Option<Told>; 2];

struct Registry {
    shared: Arc<Shared>,
    max_peers: usize,
    /// The breaker of the empty key: where there is one peer, no map is needed.
    root: Arc<Breaker>,
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
    /// Entries of all shards together.
    peers: AtomicUsize,
    /// The shard that a new key asks next for room, if its own has none.
    neighbour: AtomicUsize,
    /// The mode in which breakers are made.
    mode: Mutex<BreakerMode>,
    unguarded: AtomicU64,
    evicted: AtomicU64,
}

#[derive(Debug, Default)]
struct Shard {
    /// By the hash of the key.
    map: HashMap<u64, Arc<Breaker>, BuildHasherDefault<Hashed>>,
    /// The same breakers, in the order of the hand.
    ring: Vec<Arc<Breaker>>,
    hand: usize,
    /// The totals of breakers that were removed.
    retired: Totals,
}

/// The references to a breaker that is not in use: its shard has two.
const UNUSED: usize = 2;

impl Registry {
    fn new(config: BreakerConfig) -> Self {
        let shared = Arc::new(Shared::new(config.rules));
        let shards = (config.max_peers / MIN_PER_SHARD).clamp(1, MAX_SHARDS);
        Self {
            root: Breaker::new(&shared, "", 0, BreakerMode::Auto),
            shared,
            max_peers: config.max_peers,
            hasher: RandomState::new(),
            shards: (0..shards.next_power_of_two())
                .map(|_| Mutex::default())
                .collect(),
            peers: AtomicUsize::new(0),
            neighbour: AtomicUsize::new(0),
            mode: Mutex::default(),
            unguarded: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
        }
    }

    #[inline]
    fn admit(&self, key: &str, now: Option<Instant>) -> Result<BreakerPermit, CircuitOpen> {
        match self.breaker(key) {
            Some(breaker) => breaker.admit(now),
            None => Ok(self.unguarded()),
        }
    }

    #[cold]
    #[inline(never)]
    fn unguarded(&self) -> BreakerPermit {
        let calls = self.unguarded.fetch_add(1, Ordering::Relaxed) + 1;
        // Reported at powers of two, so that a full map does not report at every call.
        if calls.is_power_of_two() {
            self.shared.tell(|| Event::Trouble {
                part: "circuit_breaker",
                what: "no room for more peers; this many calls passed without a breaker",
                detail: Some(Id::new(&calls)),
            });
        }
        BreakerPermit::unguarded()
    }

    /// The breaker of `key`, made if there is none. `None` if there is no room.
    #[inline]
    fn breaker(&self, key: &str) -> Option<Arc<Breaker>> {
        if key.is_empty() {
            return Some(Arc::clone(&self.root));
        }
        self.keyed(key)
    }

    #[inline(never)]
    fn keyed(&self, key: &str) -> Option<Arc<Breaker>> {
        let mut untold = Untold::default();
        let found = self.find_or_make(key, &mut untold);
        for (breaker, change) in untold.into_iter().flatten() {
            breaker.tell(Some(change));
        }
        found
    }

    /// Leaves the changes that are to be told, which must not happen under the lock of a shard.
    #[inline]
    fn find_or_make(&self, key: &str, untold: &mut Untold) -> Option<Arc<Breaker>> {
        let [gone, begun] = untold;
        let hash = self.hasher.hash_one(key);
        let at = self.shard_of(hash);
        let mut shard = self.shard(at);
        match shard.map.get(&hash) {
            Some(breaker) if breaker.is_of(key) => {
                breaker.touch();
                Some(Arc::clone(breaker))
            }
            // Another key with the same 64 bits, which cannot be provoked: as if there were no room.
            Some(_) => None,
            None => {
                if !self.make_room(&mut shard, gone) {
                    drop(shard);
                    if !self.ask_neighbour(at, gone) {
                        return None;
                    }
                    shard = self.shard(at);
                    if let Some(breaker) = shard.map.get(&hash) {
                        // Made meanwhile by another call, so the place is not needed.
                        self.peers.fetch_sub(1, Ordering::Relaxed);
                        return breaker.is_of(key).then(|| Arc::clone(breaker));
                    }
                }
                let breaker = Breaker::new(&self.shared, key, hash, self.mode());
                shard.map.insert(hash, Arc::clone(&breaker));
                shard.ring.push(Arc::clone(&breaker));
                *begun = breaker
                    .gate
                    .look(Machine::begin)
                    .map(|change| (Arc::clone(&breaker), change));
                Some(breaker)
            }
        }
    }

    fn find(&self, key: &str) -> Option<Arc<Breaker>> {
        if key.is_empty() {
            return Some(Arc::clone(&self.root));
        }
        let hash = self.hasher.hash_one(key);
        let shard = self.shard(self.shard_of(hash));
        let breaker = shard.map.get(&hash)?;
        breaker.is_of(key).then(|| Arc::clone(breaker))
    }

    /// Takes a place: a free one, or that of a key of this shard that is not needed.
    fn make_room(&self, shard: &mut Shard, untold: &mut Option<Told>) -> bool {
        let free = |peers: usize| (peers < self.max_peers).then_some(peers + 1);
        let taken = self
            .peers
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, free);
        taken.is_ok() || self.evict(shard, untold)
    }

    /// Takes the place of a key of another shard. One lock is held at a time.
    fn ask_neighbour(&self, own: usize, untold: &mut Option<Told>) -> bool {
        let next = self.neighbour.fetch_add(1, Ordering::Relaxed) & (self.shards.len() - 1);
        next != own && self.evict(&mut self.shard(next), untold)
    }

    /// Removes one key that is not needed. Its place is not counted as free: the caller takes it.
    fn evict(&self, shard: &mut Shard, untold: &mut Option<Told>) -> bool {
        let now = self.shared.now();
        let normal = self.mode();
        let mut spare = None;
        for _ in 0..REACH.min(shard.ring.len()) {
            if shard.hand >= shard.ring.len() {
                shard.hand = 0;
            }
            let at = shard.hand;
            shard.hand += 1;
            let Some(breaker) = shard.ring.get(at) else {
                break;
            };
            if Arc::strong_count(breaker) > UNUSED {
                continue;
            }
            // Orders this after what the last user did before it dropped its reference.
            fence(Ordering::Acquire);
            let forgettable =
                |machine: &Machine| machine.is_forgettable(&self.shared.rules, normal, now);
            if !breaker.gate.look(forgettable) {
                continue;
            }
            // One that was used since the last round is taken only if there is no other.
            if breaker.touched.swap(false, Ordering::Relaxed) {
                spare = spare.or(Some(at));
            } else {
                spare = Some(at);
                break;
            }
        }
        let Some(at) = spare else {
            return false;
        };
        let gone = shard.ring.swap_remove(at);
        shard.map.remove(&gone.hash);
        gone.gate
            .look(|machine| shard.retired.add(machine.totals()));
        *untold = gone.evict().map(|change| (gone, change));
        self.evicted.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn shard_of(&self, hash: u64) -> usize {
        // Other bits than the map uses: it takes the lowest and the highest seven.
        let bits = usize::try_from(hash >> 32 & 0xFFFF).unwrap_or(0);
        bits & (self.shards.len() - 1)
    }

    fn shard(&self, at: usize) -> MutexGuard<'_, Shard> {
        self.shards[at]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn mode(&self) -> BreakerMode {
        *self.mode.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every breaker, the one of the empty key first.
    fn all(&self) -> Vec<Arc<Breaker>> {
        let mut all = Vec::with_capacity(self.peers.load(Ordering::Relaxed) + 1);
        all.push(Arc::clone(&self.root));
        for at in 0..self.shards.len() {
            all.extend(self.shard(at).ring.iter().cloned());
        }
        all
    }
}

/// A hasher for keys that are hashes already.
#[derive(Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
