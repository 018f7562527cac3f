//! A breaker for every key, under a bound.
//!
//! Keys are spread over shards by a hash that nobody outside can foresee. A call with a known key
//! looks at one entry of one shard. Only a call with a new key does more: when the map is full, it
//! moves the hand of a shard over a few entries, and puts out the first that can be spared.

use super::{
    BreakerConfig, BreakerMode, BreakerSnapshot, CircuitOpen, Permit, Totals,
    breaker::{Breaker, Shared},
    listeners::Listeners,
    rules::World,
    state::Machine,
};
use crate::trace::trouble;
use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::{BuildHasher, BuildHasherDefault, Hasher},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering, fence},
    },
};
use tokio::time::Instant;

const MAX_SHARDS: usize = 32;
/// Below so many keys a shard is not worth it.
const MIN_PER_SHARD: usize = 64;
/// Over how many entries the hand of a shard moves for one new key.
const REACH: usize = 8;

#[derive(Debug)]
pub(super) struct Registry {
    pub(super) shared: Arc<Shared>,
    max_keys: usize,
    /// The breaker of the empty key: no map for those who have one peer.
    root: Arc<Breaker>,
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
    /// In all shards together.
    keys: AtomicUsize,
    /// The shard that a new key asks next for room, where its own has none.
    neighbour: AtomicUsize,
    /// Of breakers that are still to be made.
    mode: Mutex<BreakerMode>,
    unguarded: AtomicU64,
    evicted: AtomicU64,
}

#[derive(Debug, Default)]
struct Shard {
    /// By the hash of the key.
    map: HashMap<u64, Arc<Breaker>, BuildHasherDefault<Hashed>>,
    /// The same, in the order of the hand.
    ring: Vec<Arc<Breaker>>,
    hand: usize,
    /// Of the breakers that have left.
    retired: Totals,
}

/// How many hold a breaker that nobody uses: its shard, twice.
const UNUSED: usize = 2;

impl Registry {
    pub(super) fn new(config: BreakerConfig) -> Self {
        let shared = Arc::new(Shared {
            rules: config.rules,
            epoch: Instant::now(),
            listeners: Listeners::default(),
        });
        let shards = (config.max_keys / MIN_PER_SHARD).clamp(1, MAX_SHARDS);
        Self {
            root: Breaker::new(&shared, "", 0, BreakerMode::Auto),
            shared,
            max_keys: config.max_keys,
            hasher: RandomState::new(),
            shards: (0..shards.next_power_of_two())
                .map(|_| Mutex::default())
                .collect(),
            keys: AtomicUsize::new(0),
            neighbour: AtomicUsize::new(0),
            mode: Mutex::default(),
            unguarded: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
        }
    }

    pub(super) fn admit(&self, key: &str) -> Result<Permit, CircuitOpen> {
        if let Some(breaker) = self.breaker(key) {
            return breaker.admit();
        }
        let calls = self.unguarded.fetch_add(1, Ordering::Relaxed) + 1;
        // Said now and then, not ten thousand times a second.
        if calls.is_power_of_two() {
            trouble!(
                "circuit_breaker",
                "no room for more keys",
                unguarded = calls
            );
        }
        Ok(Permit::unguarded())
    }

    /// The breaker of `key`, made where there is none. `None` where there is no room.
    pub(super) fn breaker(&self, key: &str) -> Option<Arc<Breaker>> {
        if key.is_empty() {
            return Some(Arc::clone(&self.root));
        }
        let hash = self.hasher.hash_one(key);
        let at = self.shard_of(hash);
        let mut shard = self.shard(at);
        match shard.map.get(&hash) {
            Some(breaker) if breaker.is_of(key) => {
                breaker.touch();
                Some(Arc::clone(breaker))
            }
            // Another key with the same 64 bits, which nobody can look for: as where there is no room.
            Some(_) => None,
            None => {
                if !self.make_room(&mut shard) {
                    drop(shard);
                    if !self.ask_neighbour(at) {
                        return None;
                    }
                    shard = self.shard(at);
                    if let Some(breaker) = shard.map.get(&hash) {
                        // Made meanwhile by another call, so the place is not needed.
                        self.keys.fetch_sub(1, Ordering::Relaxed);
                        return breaker.is_of(key).then(|| Arc::clone(breaker));
                    }
                }
                let breaker = Breaker::new(&self.shared, key, hash, self.mode());
                shard.map.insert(hash, Arc::clone(&breaker));
                shard.ring.push(Arc::clone(&breaker));
                Some(breaker)
            }
        }
    }

    pub(super) fn find(&self, key: &str) -> Option<Arc<Breaker>> {
        if key.is_empty() {
            return Some(Arc::clone(&self.root));
        }
        let hash = self.hasher.hash_one(key);
        let shard = self.shard(self.shard_of(hash));
        let breaker = shard.map.get(&hash)?;
        breaker.is_of(key).then(|| Arc::clone(breaker))
    }

    /// Takes a place: a free one, or that of a key of this shard that can be spared.
    fn make_room(&self, shard: &mut Shard) -> bool {
        let free = |keys: usize| (keys < self.max_keys).then_some(keys + 1);
        let taken = self
            .keys
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, free);
        taken.is_ok() || self.put_out(shard)
    }

    /// The place of a key of another shard. One lock is held at a time.
    fn ask_neighbour(&self, own: usize) -> bool {
        let next = self.neighbour.fetch_add(1, Ordering::Relaxed) & (self.shards.len() - 1);
        next != own && self.put_out(&mut self.shard(next))
    }

    /// Puts out one key that nobody would miss. Its place is not counted as free: the caller takes it.
    fn put_out(&self, shard: &mut Shard) -> bool {
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
            // What the last user did came before it let go.
            fence(Ordering::Acquire);
            let forgettable =
                |machine: &Machine| machine.is_forgettable(&self.shared.rules, normal, now);
            if !breaker.gate.look(forgettable) {
                continue;
            }
            // One that was used since the last round gets another, if there is a better one.
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

    /// Every breaker that there is, one shard after the other.
    pub(super) fn all(&self) -> Vec<Arc<Breaker>> {
        let mut all = Vec::with_capacity(self.len() + 1);
        all.push(Arc::clone(&self.root));
        for at in 0..self.shards.len() {
            all.extend(self.shard(at).ring.iter().cloned());
        }
        all
    }

    pub(super) fn set_mode(&self, mode: BreakerMode) {
        // First, so that a breaker is either made with it or found below.
        *self.mode.lock().unwrap_or_else(PoisonError::into_inner) = mode;
        for breaker in self.all() {
            breaker.set_mode(mode);
        }
    }

    pub(super) fn reset(&self) {
        for breaker in self.all() {
            breaker.reset();
        }
    }

    pub(super) fn snapshots(&self) -> Vec<BreakerSnapshot> {
        let mut all = self.all();
        if self.root.gate.look(Machine::is_untouched) {
            all.remove(0);
        }
        all.iter().map(|breaker| breaker.snapshot()).collect()
    }

    pub(super) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        self.root.gate.look(|machine| totals.add(machine.totals()));
        for at in 0..self.shards.len() {
            let shard = self.shard(at);
            totals.add(&shard.retired);
            for breaker in &shard.ring {
                breaker.gate.look(|machine| totals.add(machine.totals()));
            }
        }
        totals
    }

    pub(super) fn len(&self) -> usize {
        self.keys.load(Ordering::Relaxed)
    }

    pub(super) fn unguarded(&self) -> u64 {
        self.unguarded.load(Ordering::Relaxed)
    }

    pub(super) fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }
}

/// For keys that are hashes already.
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
