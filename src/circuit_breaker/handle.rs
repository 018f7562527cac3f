use super::{
    BreakerConfig, BreakerMode, BreakerSnapshot, BreakerState, CircuitOpen, Permit, Totals,
    Transition, breaker::Breaker, registry::Registry,
};
use std::{fmt, sync::Arc};
use tokio::sync::broadcast;

/// The circuit breakers of a layer, one for every key, and the handle on them.
///
/// Clones are the same breakers. Get it from
/// [`CircuitBreakerLayer::breakers`](super::CircuitBreakerLayer::breakers), or make it first and
/// give it to the layers that are to share it.
///
/// # Many keys
///
/// There is room for [`max_keys`](super::BreakerConfigBuilder::max_keys). When it is taken, a new
/// key takes the place of one that nobody would miss: with no call in flight, closed, and nothing
/// against it. What was held against a key is forgotten
/// [`forget_after`](super::BreakerConfigBuilder::forget_after) its last failure, or the end of its
/// open time: otherwise a thousand endpoints that are gone for good would fill the map for ever.
///
/// A few entries are looked at for each new key, never all. When none of them can be spared, the
/// call passes *unguarded* and is counted ([`unguarded`](Self::unguarded)): it is better to call
/// one peer too often than to refuse calls to a peer that nobody has anything against, which a
/// breaker shared by all such keys would do as soon as one of them fails.
///
/// # Examples
///
/// ```
/// use tower_webhook::circuit_breaker::{BreakerConfig, BreakerState, Breakers};
/// use tower_webhook::outcome::Outcome;
///
/// let breakers = Breakers::new(BreakerConfig::default());
/// breakers.on_transition(|change| {
///     println!("{}: {} to {}, {}", change.key, change.from, change.to, change.reason);
/// });
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

/// The handle on one breaker. While it is held, its key keeps its place.
#[derive(Clone)]
pub struct PeerBreaker {
    breaker: Arc<Breaker>,
}

impl Breakers {
    /// No breakers yet.
    pub fn new(config: BreakerConfig) -> Self {
        Self {
            registry: Arc::new(Registry::new(config)),
        }
    }

    /// Leave to make one call, for what is no tower service.
    ///
    /// # Errors
    ///
    /// [`CircuitOpen`] when the breaker of `key` refuses it.
    pub fn admit(&self, key: &str) -> Result<Permit, CircuitOpen> {
        self.registry.admit(key)
    }

    /// The breaker of `key`, if it has been called. That of the empty key is always there.
    pub fn find(&self, key: &str) -> Option<PeerBreaker> {
        let breaker = self.registry.find(key)?;
        Some(PeerBreaker { breaker })
    }

    /// The breaker of `key`, made where there is none: to force open what has not been called.
    /// `None` when there is no room.
    pub fn of(&self, key: &str) -> Option<PeerBreaker> {
        let breaker = self.registry.breaker(key)?;
        Some(PeerBreaker { breaker })
    }

    /// Every breaker as it is now, in no order: for a health page. That of the empty key is among
    /// them when it was called. Looks at each, one after the other; no call waits for more than one.
    pub fn snapshots(&self) -> Vec<BreakerSnapshot> {
        self.registry.snapshots()
    }

    /// What has been counted since the beginning, over all keys, those that have left the map too.
    /// Looks at each breaker.
    pub fn totals(&self) -> Totals {
        self.registry.totals()
    }

    /// How many keys there are, the empty one apart.
    pub fn len(&self) -> usize {
        self.registry.len()
    }

    /// Whether no key has been called, the empty one apart.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many calls passed without a breaker, because there was no room for their key.
    pub fn unguarded(&self) -> u64 {
        self.registry.unguarded()
    }

    /// How many keys made room for others.
    pub fn evicted(&self) -> u64 {
        self.registry.evicted()
    }

    /// Puts every breaker into `mode`, those that are still to come too.
    pub fn set_mode_of_all(&self, mode: BreakerMode) {
        self.registry.set_mode(mode);
    }

    /// Resets every breaker, as [`PeerBreaker::reset`] does.
    pub fn reset_all(&self) {
        self.registry.reset();
    }

    /// Calls `listener` with every transition, on the thread of the call that caused it, so it is
    /// brief. No lock is held meanwhile. A listener that panics is
    /// [counted](Self::listener_panics), and the call goes on.
    ///
    /// It stays for good. One that holds these breakers keeps them alive for good too.
    pub fn on_transition(&self, listener: impl Fn(&Transition) + Send + Sync + 'static) {
        self.registry.shared.listeners.add(listener);
    }

    /// A channel of the transitions from now on. A receiver that falls back by more than 256 is
    /// told how many it has lost.
    pub fn subscribe(&self) -> broadcast::Receiver<Transition> {
        self.registry.shared.listeners.subscribe()
    }

    /// How often a listener has panicked.
    pub fn listener_panics(&self) -> u64 {
        self.registry.shared.listeners.panics()
    }
}

impl PeerBreaker {
    /// As it is now.
    pub fn snapshot(&self) -> BreakerSnapshot {
        self.breaker.snapshot()
    }

    /// What it does with calls.
    pub fn state(&self) -> BreakerState {
        self.snapshot().state
    }

    /// Refuses every call, until told otherwise.
    pub fn force_open(&self) {
        self.set_mode(BreakerMode::ForcedOpen);
    }

    /// Lets every call pass and counts it, until told otherwise.
    pub fn force_closed(&self) {
        self.set_mode(BreakerMode::ForcedClosed);
    }

    /// Lets every call pass and counts nothing, until told otherwise.
    pub fn disable(&self) {
        self.set_mode(BreakerMode::Disabled);
    }

    /// Judges every call and refuses none, until told otherwise.
    pub fn metrics_only(&self) {
        self.set_mode(BreakerMode::MetricsOnly);
    }

    /// Back to deciding for itself: closed, and without evidence.
    pub fn auto(&self) {
        self.set_mode(BreakerMode::Auto);
    }

    /// Puts it into `mode`, without evidence. Nothing happens where it is in it already. Results of
    /// calls that are in flight come too late.
    pub fn set_mode(&self, mode: BreakerMode) {
        self.breaker.set_mode(mode);
    }

    /// Closes it and forgets all evidence. The mode and the totals stay. Results of calls that are
    /// in flight come too late.
    pub fn reset(&self) {
        self.breaker.reset();
    }
}

impl fmt::Debug for Breakers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breakers")
            .field("keys", &self.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for PeerBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snapshot = self.snapshot();
        f.debug_struct("PeerBreaker")
            .field("key", &snapshot.key)
            .field("state", &snapshot.state)
            .finish_non_exhaustive()
    }
}
