//! The breaker of one peer: the permit for a call, the handle for operators, the snapshot.

use super::{
    BreakerMode, BreakerState, Totals,
    gate::Gate,
    model::{Rules, Tick, World, nanos},
    state::{Admission, Change, Evidence, Machine},
};
use crate::{
    observe::{Event, Observers},
    outcome::{LocallyRefused, Outcome, OutcomeKind},
};
use std::{
    error::Error,
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// The generation that begins next. One order for the whole process, because several registries may report to
/// one observer.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A longer key is cut after this number of bytes. Such keys are distinguished by hash and length.
const MAX_KEY_LEN: usize = 256;
/// Longer than nearly every host name. With it, what a call reads fits into two cache lines.
const PREFIX: usize = 39;

/// The state that all breakers of a registry share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) rules: Rules,
    /// The time of tick 0.
    epoch: Instant,
    /// Behind a lock, because breakers are shared before all of their observers are known. Read only if
    /// there is an event.
    pub(super) observers: RwLock<Observers>,
}

impl Shared {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            epoch: Instant::now(),
            observers: RwLock::default(),
        }
    }

    fn tick(&self, now: Instant) -> Tick {
        Tick(nanos(now.saturating_duration_since(self.epoch)))
    }

    const fn at(&self, now: Option<Instant>) -> At<'_> {
        At { shared: self, now }
    }

    /// Reports to the observers, with no lock held.
    pub(super) fn tell<'a>(&self, event: impl FnOnce() -> Event<'a>) {
        let observers = self.observers.read();
        let observers = observers.unwrap_or_else(PoisonError::into_inner).clone();
        observers.tell(event);
    }
}

impl World for Shared {
    fn now(&self) -> Tick {
        self.tick(Instant::now())
    }

    fn generation(&self) -> u64 {
        // Two breakers of one peer follow each other under the lock of their shard, which orders this.
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    fn random(&self) -> f64 {
        fastrand::f64()
    }
}

/// The world of a caller that may have read the clock already.
struct At<'a> {
    shared: &'a Shared,
    now: Option<Instant>,
}

impl World for At<'_> {
    fn now(&self) -> Tick {
        self.shared.tick(self.now.unwrap_or_else(Instant::now))
    }

    fn generation(&self) -> u64 {
        self.shared.generation()
    }

    fn random(&self) -> f64 {
        self.shared.random()
    }
}

/// In the order of use. With many peers each call fetches its breaker from main memory: while the peer is
/// well, that is the fields up to the first of the gate, and the count of references that the `Arc` puts before them.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Breaker {
    shared: Arc<Shared>,
    key_len: usize,
    /// Whether it was used since the eviction of its shard last visited it.
    pub(super) touched: AtomicBool,
    /// The beginning of the key, which is all of nearly every host name.
    prefix: [u8; PREFIX],
    pub(super) gate: Gate,
    pub(super) hash: u64,
    peer: Arc<str>,
}

impl Breaker {
    pub(super) fn new(shared: &Arc<Shared>, key: &str, hash: u64, mode: BreakerMode) -> Arc<Self> {
        let machine = Machine::new(&shared.rules, mode, &**shared);
        // Zero is always a boundary.
        let boundary = |at: &usize| key.is_char_boundary(*at);
        let kept = (0..=MAX_KEY_LEN).rev().find(boundary).unwrap_or(0);
        let mut prefix = [0; PREFIX];
        for (place, byte) in prefix.iter_mut().zip(key.bytes()) {
            *place = byte;
        }
        Arc::new(Self {
            shared: Arc::clone(shared),
            key_len: key.len(),
            // A key that is used only once is evicted before those that are used again.
            touched: AtomicBool::new(false),
            prefix,
            gate: Gate::new(machine),
            hash,
            peer: key[..kept].into(),
        })
    }

    /// Whether this is the breaker of `key`, given that the hashes are equal.
    pub(super) fn is_of(&self, key: &str) -> bool {
        let prefix = self.prefix.get(..self.key_len).unwrap_or(&self.prefix);
        let key = key.as_bytes();
        self.key_len == key.len()
            && key.starts_with(prefix)
            && (key.len() <= PREFIX || key.starts_with(self.peer.as_bytes()))
    }

    pub(super) fn touch(&self) {
        // Read first: a cache line that is only read stays shared between the processors.
        if !self.touched.load(Ordering::Relaxed) {
            self.touched.store(true, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(super) fn admit(
        self: Arc<Self>,
        now: Option<Instant>,
    ) -> Result<BreakerPermit, CircuitOpen> {
        let shared = &*self.shared;
        match self.gate.pass(&shared.rules, &shared.at(now)) {
            Some(admission) => Ok(BreakerPermit {
                breaker: Some(self),
                admission,
            }),
            None => self.decide(now),
        }
    }

    #[inline(never)]
    fn decide(self: Arc<Self>, now: Option<Instant>) -> Result<BreakerPermit, CircuitOpen> {
        let shared = &*self.shared;
        let (admitted, change) = self.gate.admit(&shared.rules, &shared.at(now));
        self.tell(change);
        match admitted {
            Ok(admission) => Ok(BreakerPermit {
                breaker: Some(self),
                admission,
            }),
            Err(refusal) => Err(CircuitOpen {
                peer: Arc::clone(&self.peer),
                state: refusal.state,
                refused: LocallyRefused::by_circuit(Duration::from_nanos(refusal.retry_after)),
            }),
        }
    }

    #[inline]
    fn settle(&self, admission: Admission, evidence: Evidence, now: Option<Instant>) {
        let shared = &*self.shared;
        let world = shared.at(now);
        let change = self.gate.settle(&shared.rules, admission, evidence, &world);
        self.tell(change);
    }

    #[inline(never)]
    fn cancel(&self, admission: Admission) {
        self.settle(admission, Evidence::Cancelled, None);
    }

    pub(super) fn set_mode(&self, mode: BreakerMode) {
        self.tell(self.gate.set_mode(mode, &*self.shared));
    }

    pub(super) fn reset(&self) {
        self.tell(self.gate.reset(&*self.shared));
    }

    pub(super) fn snapshot(&self) -> BreakerSnapshot {
        let now = self.shared.now();
        let view = self.gate.look(|machine| machine.view(now));
        let counts = view.counts;
        let judged = counts.calls >= u64::from(self.shared.rules.min_calls);
        #[allow(clippy::cast_precision_loss, reason = "a window holds fewer calls")]
        let rate = judged.then(|| counts.failures as f64 / counts.calls as f64);
        BreakerSnapshot {
            peer: Arc::clone(&self.peer),
            state: view.state,
            since: Duration::from_nanos(now.since(view.entered)),
            time_left: view.left.map(Duration::from_nanos),
            calls: counts.calls,
            failures: counts.failures,
            slow: counts.slow,
            failure_rate: rate,
            consecutive_failures: view.consecutive,
            probes_in_flight: view.probes,
            probe_successes: view.probe_successes,
            failed_rounds: view.rounds,
            generation: view.generation,
            totals: view.totals,
        }
    }

    /// Ends it, when it was removed from its shard. The change is to be told without a lock.
    pub(super) fn evict(&self) -> Option<Change> {
        self.gate.evict(&*self.shared)
    }

    /// Called after the lock of the gate is released.
    #[inline]
    pub(super) fn tell(&self, change: Option<Change>) {
        if let Some(change) = change {
            self.announce(change);
        }
    }

    #[cold]
    #[inline(never)]
    fn announce(&self, change: Change) {
        self.shared.tell(|| Event::BreakerChanged {
            peer: &self.peer,
            from: change.from,
            to: change.to,
            reason: change.reason.as_str(),
            open_for: change.open_for.map(Duration::from_nanos),
            generation: change.generation,
        });
    }
}

/// The permission to make one call. [`settle`](Self::settle) reports its outcome.
///
/// A permit that is dropped without an outcome counts as a cancelled call, neither a success nor a
/// failure. If it was a probe, another probe can replace it.
#[must_use = "a permit that is dropped counts as a cancelled call"]
pub struct BreakerPermit {
    /// `None` once it is settled, and if no breaker guards the call.
    breaker: Option<Arc<Breaker>>,
    admission: Admission,
}

impl BreakerPermit {
    pub(super) const fn unguarded() -> Self {
        Self {
            breaker: None,
            admission: Admission {
                generation: 0,
                ticket: 0,
                started: None,
                answered: None,
            },
        }
    }

    /// Reports the outcome of the call.
    #[inline]
    pub fn settle(self, outcome: Outcome) {
        self.settle_at(outcome, None);
    }

    /// Reports the outcome of a call that ended at `now`, if the caller has read the clock.
    #[inline]
    pub(crate) fn settle_at(mut self, outcome: Outcome, now: Option<Instant>) {
        if let Some(breaker) = self.breaker.take() {
            breaker.settle(self.admission, evidence(outcome), now);
        }
    }

    /// Ends the time that decides whether the call was slow. For calls that are settled later, such as
    /// streams.
    pub fn answered(&mut self) {
        self.answered_at(None);
    }

    /// As [`answered`](Self::answered), if the caller has read the clock.
    pub(crate) fn answered_at(&mut self, now: Option<Instant>) {
        if self.admission.started.is_some()
            && let Some(breaker) = &self.breaker
        {
            self.admission.answered = Some(breaker.shared.at(now).now());
        }
    }

    /// Whether the call is a probe of a half-open breaker.
    pub const fn is_probe(&self) -> bool {
        self.admission.ticket != 0
    }
}

impl Drop for BreakerPermit {
    #[inline]
    fn drop(&mut self) {
        if let Some(breaker) = self.breaker.take() {
            breaker.cancel(self.admission);
        }
    }
}

impl fmt::Debug for BreakerPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerPermit")
            .field("is_probe", &self.is_probe())
            .finish_non_exhaustive()
    }
}

#[inline]
fn evidence(outcome: Outcome) -> Evidence {
    let hint = || outcome.retry_after().map(nanos);
    match (outcome.peer_is_healthy(), outcome.kind()) {
        (Some(true), _) => Evidence::Healthy,
        (Some(false), _) if outcome.is_rate_limit() => Evidence::Throttled { hint: hint() },
        (Some(false), _) => Evidence::Failed { hint: hint() },
        (None, OutcomeKind::Cancelled) => Evidence::Cancelled,
        (None, _) => Evidence::Neutral,
    }
}

/// A handle to the breaker of one peer. While it is held, the breaker is not removed to make room for
/// others.
#[derive(Clone)]
pub struct PeerBreaker {
    pub(super) breaker: Arc<Breaker>,
}

impl PeerBreaker {
    /// The current snapshot of the breaker.
    pub fn snapshot(&self) -> BreakerSnapshot {
        self.breaker.snapshot()
    }

    /// The current state.
    pub fn state(&self) -> BreakerState {
        self.snapshot().state
    }

    /// Refuses every call, until another mode is set.
    pub fn force_open(&self) {
        self.set_mode(BreakerMode::ForcedOpen);
    }

    /// Lets every call pass and counts it, until another mode is set.
    pub fn force_closed(&self) {
        self.set_mode(BreakerMode::ForcedClosed);
    }

    /// Lets every call pass and counts nothing, until another mode is set.
    pub fn disable(&self) {
        self.set_mode(BreakerMode::Disabled);
    }

    /// Judges every call and refuses none, until another mode is set.
    pub fn metrics_only(&self) {
        self.set_mode(BreakerMode::MetricsOnly);
    }

    /// Lets the breaker decide again. It starts closed and without evidence.
    pub fn auto(&self) {
        self.set_mode(BreakerMode::Auto);
    }

    /// Sets the mode and clears the evidence; does nothing if the breaker is in that mode already.
    /// Results of calls in flight are then stale.
    pub fn set_mode(&self, mode: BreakerMode) {
        self.breaker.set_mode(mode);
    }

    /// Closes the breaker and clears the evidence; mode and totals stay. Results of calls in flight
    /// are then stale.
    pub fn reset(&self) {
        self.breaker.reset();
    }
}

impl fmt::Debug for PeerBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snapshot = self.snapshot();
        f.debug_struct("PeerBreaker")
            .field("peer", &snapshot.peer)
            .field("state", &snapshot.state)
            .finish_non_exhaustive()
    }
}

/// A snapshot of the breaker of one peer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BreakerSnapshot {
    /// The peer, cut after 256 bytes; empty with [`OnePeer`](crate::peer::OnePeer).
    pub peer: Arc<str>,
    /// The state. An open breaker stays open after its open time until a call arrives.
    pub state: BreakerState,
    /// How long it has been in this state.
    pub since: Duration,
    /// How long it stays open. Zero if the next call is a probe; `None` if it is not open.
    pub time_left: Option<Duration>,
    /// Calls in the window. While it is open, the calls that opened it; while it is half-open, the probes of this
    /// round that have ended.
    pub calls: u64,
    /// The calls of the window that failed.
    pub failures: u64,
    /// The calls of the window that were slow.
    pub slow: u64,
    /// The share of the calls that failed, from 0 to 1; `None` below the minimum of calls.
    pub failure_rate: Option<f64>,
    /// Failures in a row.
    pub consecutive_failures: u32,
    /// Probes in flight.
    pub probes_in_flight: usize,
    /// Probes of this round that succeeded.
    pub probe_successes: u32,
    /// The number of failed rounds of probes since it was last closed. The open time grows with it.
    pub failed_rounds: u32,
    /// The generation of its last [change](Event::BreakerChanged::generation); where there was none, of its
    /// making.
    pub generation: u64,
    /// The counts since the breaker was made.
    pub totals: Totals,
}

/// The error of a call that was refused because the breaker is open.
///
/// Its [`source`](Error::source) is a [`LocallyRefused`], which tells every layer that the call may be
/// tried again after [`retry_after`](Self::retry_after), costs no retry budget, and does not count
/// against the peer.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_webhook::circuit_breaker::{BreakerConfig, Breakers, CircuitOpen};
/// use tower_webhook::outcome::{Outcome, OutcomeKind};
///
/// let breakers = Breakers::new(BreakerConfig::default());
/// for _ in 0..5 {
///     breakers.admit("peer.test")?.settle(Outcome::transient());
/// }
/// let open: CircuitOpen = breakers.admit("peer.test").unwrap_err();
/// assert_eq!(open.peer(), "peer.test");
/// assert!(open.retry_after() <= Duration::from_secs(5));
/// assert_eq!(Outcome::of_error(&open).kind(), OutcomeKind::Refused);
/// # Ok::<_, CircuitOpen>(())
/// ```
#[derive(Clone, Debug)]
pub struct CircuitOpen {
    peer: Arc<str>,
    state: BreakerState,
    refused: LocallyRefused,
}

impl CircuitOpen {
    /// The peer, cut after 256 bytes; empty with [`OnePeer`](crate::peer::OnePeer).
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// The state: [`Open`](BreakerState::Open), [`ForcedOpen`](BreakerState::ForcedOpen), or
    /// [`HalfOpen`](BreakerState::HalfOpen) while all probes are running.
    pub const fn state(&self) -> BreakerState {
        self.state
    }

    /// The wait before the next try: the rest of the open time. At most a second while probes are running;
    /// the configured open time if an operator opened the breaker.
    pub const fn retry_after(&self) -> Duration {
        self.refused.retry_after()
    }
}

impl fmt::Display for CircuitOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the circuit ")?;
        if !self.peer.is_empty() {
            write!(f, "for {:?} ", self.peer)?;
        }
        f.write_str(match self.state {
            BreakerState::ForcedOpen => "was opened by an operator",
            BreakerState::HalfOpen => "is half open, and its probes are under way",
            _ => "is open",
        })
    }
}

impl Error for CircuitOpen {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::circuit_breaker::BreakerConfig;

    #[test]
    fn keys_with_the_same_beginning_are_told_apart() {
        let shared = Arc::new(Shared::new(BreakerConfig::default().rules));
        for key in [
            "a",
            &"a".repeat(PREFIX),
            &"a".repeat(PREFIX + 1),
            &"a".repeat(256),
            &"a".repeat(300),
            &"é".repeat(200),
        ] {
            let breaker = Breaker::new(&shared, key, 0, BreakerMode::Auto);
            assert!(breaker.peer.len() <= MAX_KEY_LEN);
            assert!(breaker.is_of(key));
            assert!(!breaker.is_of(&format!("{key}a")));
            assert!(!breaker.is_of(&key[..key.len() - key.chars().last().unwrap().len_utf8()]));
        }
    }
}
