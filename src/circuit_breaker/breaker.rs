//! One key's breaker, and the permit for one call.

use super::{
    BreakerMode, BreakerSnapshot, CircuitOpen, Transition, TransitionReason,
    call::{Admission, Change, Evidence},
    gate::Gate,
    listeners::Listeners,
    model::BreakerState,
    rules::{Rules, Tick, World, nanos},
    state::Machine,
};
use crate::{
    outcome::{LocallyRefused, Outcome, OutcomeKind},
    trace::{passed, trouble},
};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// Longer keys are told apart, but shown and kept only so far.
const MAX_KEY_LEN: usize = 256;

/// What all breakers of a registry have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) rules: Rules,
    /// What ticks are counted from.
    pub(super) epoch: Instant,
    pub(super) listeners: Listeners,
}

impl World for Shared {
    fn now(&self) -> Tick {
        Tick(nanos(Instant::now().saturating_duration_since(self.epoch)))
    }

    fn random(&self) -> f64 {
        fastrand::f64()
    }
}

#[derive(Debug)]
pub(super) struct Breaker {
    pub(super) gate: Gate,
    /// Asked for since the hand of the map came by.
    pub(super) touched: AtomicBool,
    pub(super) hash: u64,
    key_len: usize,
    key: Arc<str>,
    shared: Arc<Shared>,
}

impl Breaker {
    pub(super) fn new(shared: &Arc<Shared>, key: &str, hash: u64, mode: BreakerMode) -> Arc<Self> {
        let machine = Machine::new(&shared.rules, mode, shared.now());
        // Zero is a boundary of every text.
        let boundary = |at: &usize| key.is_char_boundary(*at);
        let kept = (0..=MAX_KEY_LEN).rev().find(boundary).unwrap_or(0);
        Arc::new(Self {
            gate: Gate::new(machine),
            // A key that is used once goes before those that are used again.
            touched: AtomicBool::new(false),
            hash,
            key_len: key.len(),
            key: key[..kept].into(),
            shared: Arc::clone(shared),
        })
    }

    /// Whether it is the breaker of `key`, given that the hashes are the same.
    pub(super) fn is_of(&self, key: &str) -> bool {
        self.key_len == key.len() && key.as_bytes().starts_with(self.key.as_bytes())
    }

    pub(super) fn touch(&self) {
        // Read first: a line that is only read stays shared between the processors.
        if !self.touched.load(Ordering::Relaxed) {
            self.touched.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn admit(self: Arc<Self>) -> Result<Permit, CircuitOpen> {
        let (admitted, change) = self.gate.admit(&self.shared.rules, &*self.shared);
        self.tell(change);
        match admitted {
            Ok(admission) => Ok(Permit {
                breaker: Some(self),
                admission,
            }),
            Err(refusal) => Err(CircuitOpen {
                key: Arc::clone(&self.key),
                state: refusal.state,
                refused: LocallyRefused::by_circuit(Duration::from_nanos(refusal.retry_after)),
            }),
        }
    }

    fn settle(&self, admission: Admission, evidence: Evidence) {
        let shared = &*self.shared;
        let change = self.gate.settle(&shared.rules, admission, evidence, shared);
        self.tell(change);
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
            key: Arc::clone(&self.key),
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

    /// After the lock is given back: listeners take their time.
    fn tell(&self, change: Option<Change>) {
        if let Some(change) = change {
            self.announce(change);
        }
    }

    #[cold]
    fn announce(&self, change: Change) {
        let Change { to, reason, .. } = change;
        match (to, reason) {
            (BreakerState::Open, _) | (_, TransitionReason::Operator) => {
                trouble!(
                    "circuit_breaker",
                    "the circuit changed",
                    to = to,
                    reason = reason
                );
            }
            _ => {
                passed!(
                    "circuit_breaker",
                    "the circuit changed",
                    to = to,
                    reason = reason
                );
            }
        }
        self.shared.listeners.tell(|| Transition {
            key: Arc::clone(&self.key),
            from: change.from,
            to,
            reason,
            at: self.shared.epoch + Duration::from_nanos(change.at.0),
            open_for: change.open_for.map(Duration::from_nanos),
            generation: change.generation,
        });
    }
}

/// Leave to make one call. Say with [`settle`](Self::settle) what came of it.
///
/// Dropped without, it counts as cancelled: neither a success nor a failure, and the place of a
/// probe is free again.
#[must_use = "a permit that is dropped counts as a cancelled call"]
pub struct Permit {
    /// `None` once it is settled, and where no breaker guards the call.
    breaker: Option<Arc<Breaker>>,
    admission: Admission,
}

impl Permit {
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

    /// Says what came of the call.
    pub fn settle(mut self, outcome: Outcome) {
        if let Some(breaker) = self.breaker.take() {
            breaker.settle(self.admission, evidence(outcome));
        }
    }

    /// The answer is here, though not yet the verdict: what follows does not make the call slow.
    pub fn answered(&mut self) {
        if self.admission.started.is_some()
            && let Some(breaker) = &self.breaker
        {
            self.admission.answered = Some(breaker.shared.now());
        }
    }

    /// Whether it is one of the probes of a half-open breaker.
    pub const fn is_probe(&self) -> bool {
        self.admission.ticket != 0
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(breaker) = self.breaker.take() {
            breaker.settle(self.admission, Evidence::Cancelled);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("is_probe", &self.is_probe())
            .finish_non_exhaustive()
    }
}

fn evidence(outcome: Outcome) -> Evidence {
    let hint = outcome.retry_after().map(nanos);
    match (outcome.peer_is_healthy(), outcome.kind()) {
        (_, OutcomeKind::Cancelled) => Evidence::Cancelled,
        (Some(false), _) if outcome.is_rate_limit() => Evidence::Throttled { hint },
        (Some(false), _) => Evidence::Failed { hint },
        (Some(true), _) => Evidence::Healthy,
        (None, _) => Evidence::Neutral,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::circuit_breaker::BreakerConfig;

    #[test]
    fn keys_with_the_same_beginning_are_told_apart() {
        let shared = Arc::new(Shared {
            rules: BreakerConfig::default().rules,
            epoch: Instant::now(),
            listeners: Listeners::default(),
        });
        for key in ["a", &"a".repeat(256), &"a".repeat(300), &"é".repeat(200)] {
            let breaker = Breaker::new(&shared, key, 0, BreakerMode::Auto);
            assert!(breaker.key.len() <= MAX_KEY_LEN);
            assert!(breaker.is_of(key));
            assert!(!breaker.is_of(&format!("{key}a")));
            assert!(!breaker.is_of(&key[..key.len() - key.chars().last().unwrap().len_utf8()]));
        }
    }
}
