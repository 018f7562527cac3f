//! The state machine of one breaker. Time and randomness are arguments, so it is deterministic.
//!
//! Every change of state begins a new generation, and every call carries the one in which it was
//! admitted: the result of a call of an earlier generation is stale. Generations of all breakers are in one
//! order, so that an observer can tell the changes of a breaker from those of one that replaced it.

use super::{
    model::{BreakerMode, BreakerState, Reason, Rules, Tick, Totals, World},
    window::{Counts, Window},
};

/// The longest `retry_after` of a call that is refused because all probes are running. When they end
/// is unknown, so this only bounds how often callers ask.
const PROBE_WAIT: u64 = 1_000_000_000;

/// An admitted call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Admission {
    pub(super) generation: u64,
    /// The number of a probe; zero for any other call.
    pub(super) ticket: u32,
    /// Read only where calls can be slow.
    pub(super) started: Option<Tick>,
    /// When the answer arrived, if its outcome is known later.
    pub(super) answered: Option<Tick>,
}

/// A refused call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) state: BreakerState,
    pub(super) retry_after: u64,
}

/// The evidence of a call about the peer. A hint is the wait that the peer asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    Cancelled,
    Failed { hint: Option<u64> },
    Healthy,
    Neutral,
    Throttled { hint: Option<u64> },
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) from: BreakerState,
    pub(super) to: BreakerState,
    pub(super) reason: Reason,
    /// The generation that begins.
    pub(super) generation: u64,
    pub(super) open_for: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    HalfOpen,
    Open { until: Tick },
}

#[derive(Debug)]
pub(super) struct Machine {
    generation: u64,
    /// Whether calls can be slow, so that each of them is judged.
    timed: bool,
    mode: BreakerMode,
    state: State,
    consecutive: u32,
    window: Window,
    totals: Totals,
    /// Rounds of probes that failed since it was last closed.
    rounds: u32,
    probes: Probes,
    /// The latest time that was read: a clock that goes back counts as stopped.
    latest: Tick,
    /// When the last failure or slow call was counted.
    trouble: Tick,
    /// When this state began.
    entered: Tick,
}

/// The values of a state machine at one moment, for a snapshot.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) state: BreakerState,
    pub(super) generation: u64,
    pub(super) entered: Tick,
    pub(super) left: Option<u64>,
    pub(super) counts: Counts,
    pub(super) consecutive: u32,
    pub(super) rounds: u32,
    pub(super) probes: usize,
    pub(super) probe_successes: u32,
    pub(super) totals: Totals,
}

impl Machine {
    pub(super) fn new(rules: &Rules, mode: BreakerMode, world: &impl World) -> Self {
        let now = world.now();
        Self {
            generation: world.generation(),
            timed: rules.slow_call.is_some(),
            mode,
            state: State::Closed,
            consecutive: 0,
            window: Window::new(rules.window),
            totals: Totals::default(),
            rounds: 0,
            probes: Probes::default(),
            latest: now,
            trouble: now,
            entered: now,
        }
    }

    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether every call of this generation passes, so that none needs the lock.
    pub(super) const fn passes_all(&self) -> bool {
        match self.mode {
            BreakerMode::Auto => matches!(self.state, State::Closed),
            BreakerMode::ForcedOpen => false,
            BreakerMode::Disabled | BreakerMode::ForcedClosed | BreakerMode::MetricsOnly => true,
        }
    }

    /// Whether the peer is closed and nothing is held against it, so that further successes are only counted.
    pub(super) const fn is_well(&self) -> bool {
        self.passes_all()
            && !matches!(self.mode, BreakerMode::Disabled)
            && !self.timed
            && self.consecutive == 0
            && self.window.is_well()
    }

    /// Counts calls that succeeded while it was [well](Self::is_well).
    pub(super) fn succeeded(&mut self, calls: u64) {
        self.totals.successes += calls;
        self.window.succeeded(calls);
    }

    pub(super) const fn state(&self) -> BreakerState {
        match (self.mode, self.state) {
            (BreakerMode::Auto, State::Closed) => BreakerState::Closed,
            (BreakerMode::Auto, State::HalfOpen) => BreakerState::HalfOpen,
            (BreakerMode::Auto, State::Open { .. }) => BreakerState::Open,
            (BreakerMode::Disabled, _) => BreakerState::Disabled,
            (BreakerMode::ForcedClosed, _) => BreakerState::ForcedClosed,
            (BreakerMode::ForcedOpen, _) => BreakerState::ForcedOpen,
            (BreakerMode::MetricsOnly, _) => BreakerState::MetricsOnly,
        }
    }

    fn clock(&mut self, world: &impl World) -> Tick {
        self.latest = self.latest.max(world.now());
        self.latest
    }

    /// Admits a call, or refuses it.
    pub(super) fn admit(
        &mut self,
        rules: &Rules,
        world: &impl World,
    ) -> (Result<Admission, Refusal>, Option<Change>) {
        let now = self.clock(world);
        let mut change = None;
        if self.passes_all() {
            return (Ok(self.admission(rules, 0, now)), None);
        }
        if self.mode == BreakerMode::ForcedOpen {
            return (Err(self.refuse(rules.open_for)), None);
        }
        if let State::Open { until } = self.state {
            if now < until {
                return (Err(self.refuse(until.since(now))), None);
            }
            self.probes.clear();
            // The probes have a window of their own.
            self.window.clear();
            let reason = Reason::OpenTimeOver;
            change = Some(self.enter(State::HalfOpen, reason, now, world));
        }
        self.totals.leases_lost += self.probes.expire(now);
        let admitted = match self.probes.admit(now, rules.probes, rules.probe_lease) {
            Ok(ticket) => Ok(self.admission(rules, ticket, now)),
            Err(free) => Err(self.refuse(free.since(now).min(PROBE_WAIT))),
        };
        (admitted, change)
    }

    fn admission(&self, rules: &Rules, ticket: u32, now: Tick) -> Admission {
        Admission {
            generation: self.generation,
            ticket,
            started: rules.slow_call.map(|_| now),
            answered: None,
        }
    }

    fn refuse(&mut self, retry_after: u64) -> Refusal {
        self.totals.refused += 1;
        Refusal {
            state: self.state(),
            retry_after,
        }
    }

    /// Counts the result of a call.
    pub(super) fn settle(
        &mut self,
        rules: &Rules,
        admission: Admission,
        evidence: Evidence,
        world: &impl World,
    ) -> Option<Change> {
        let current = admission.generation == self.generation;
        if current && self.mode == BreakerMode::Disabled {
            return None;
        }
        let mut kept = current;
        if current && admission.ticket != 0 {
            let now = self.clock(world);
            self.totals.leases_lost += self.probes.expire(now);
            kept = self.probes.release(admission.ticket);
        }
        let (failed, hint) = match evidence {
            // A call without a result is never stale.
            Evidence::Cancelled => {
                self.totals.cancelled += 1;
                return None;
            }
            _ if !kept => {
                self.totals.stale += 1;
                return None;
            }
            Evidence::Neutral => {
                self.totals.neutral += 1;
                return None;
            }
            Evidence::Healthy => (false, None),
            Evidence::Failed { hint } | Evidence::Throttled { hint } => (true, hint),
        };
        // The clock is read once, and not at all for a call that is only counted.
        let timed = failed
            || admission.ticket != 0
            || admission.started.is_some()
            || self.window.needs_time();
        let now = if timed {
            self.clock(world)
        } else {
            self.latest
        };
        let slow = is_slow(rules, admission, now);
        if failed {
            self.totals.failures += 1;
            self.totals.throttled += u64::from(matches!(evidence, Evidence::Throttled { .. }));
        } else {
            self.totals.successes += 1;
        }
        self.totals.slow += u64::from(slow);

        // A throttled call does not change the number: the peer answers, but limits its rate.
        match evidence {
            Evidence::Throttled { .. } => {}
            _ if failed => self.consecutive = self.consecutive.saturating_add(1),
            _ => self.consecutive = 0,
        }
        self.window.record(now, failed, slow);
        if admission.ticket != 0 {
            return self.settle_probe(rules, failed || slow, hint, now, world);
        }
        if failed || slow {
            self.trouble = now;
        }
        if self.mode == BreakerMode::ForcedClosed {
            return None;
        }
        let reason = self.verdict(rules)?;
        if self.mode == BreakerMode::MetricsOnly {
            self.totals.held_back += 1;
            self.forget();
            return None;
        }
        self.totals.trips += 1;
        Some(self.open(rules, hint, reason, world))
    }

    fn settle_probe(
        &mut self,
        rules: &Rules,
        failed: bool,
        hint: Option<u64>,
        now: Tick,
        world: &impl World,
    ) -> Option<Change> {
        if failed {
            self.rounds = self.rounds.saturating_add(1);
            self.totals.reopened += 1;
            return Some(self.open(rules, hint, Reason::ProbeFailed, world));
        }
        self.probes.successes += 1;
        if self.probes.successes < rules.probe_successes {
            return None;
        }
        self.forget();
        Some(self.enter(State::Closed, Reason::ProbesSucceeded, now, world))
    }

    /// The first condition that holds.
    #[allow(clippy::cast_precision_loss, reason = "a window holds fewer calls")]
    fn verdict(&self, rules: &Rules) -> Option<Reason> {
        if rules
            .consecutive_failures
            .is_some_and(|limit| self.consecutive >= limit)
        {
            return Some(Reason::ConsecutiveFailures);
        }
        let counts = self.window.counts();
        if counts.calls < u64::from(rules.min_calls) {
            return None;
        }
        // A division, because it rounds 3 of 10 to exactly the number that is written 0.3.
        let reaches = |part: u64, rate: f64| part > 0 && part as f64 / counts.calls as f64 >= rate;
        if rules
            .failure_rate
            .is_some_and(|rate| reaches(counts.failures, rate))
        {
            return Some(Reason::FailureRate);
        }
        (rules.slow_call.is_some() && reaches(counts.slow, rules.slow_call_rate))
            .then_some(Reason::SlowCallRate)
    }

    fn open(
        &mut self,
        rules: &Rules,
        hint: Option<u64>,
        reason: Reason,
        world: &impl World,
    ) -> Change {
        let now = self.clock(world);
        self.trouble = now;
        let open_for = rules.open_time(self.rounds, hint, world.random());
        let until = now.after(open_for);
        Change {
            open_for: Some(open_for),
            ..self.enter(State::Open { until }, reason, now, world)
        }
    }

    fn enter(&mut self, state: State, reason: Reason, now: Tick, world: &impl World) -> Change {
        self.change(reason, now, world, |machine| machine.state = state)
    }

    fn change(
        &mut self,
        reason: Reason,
        now: Tick,
        world: &impl World,
        change: impl FnOnce(&mut Self),
    ) -> Change {
        let from = self.state();
        change(self);
        self.generation = world.generation();
        self.entered = now;
        Change {
            from,
            to: self.state(),
            reason,
            generation: self.generation,
            open_for: None,
        }
    }

    /// Clears all evidence.
    fn forget(&mut self) {
        self.window.clear();
        self.consecutive = 0;
        self.rounds = 0;
        self.probes.clear();
    }

    /// Changes the mode, and clears all evidence.
    pub(super) fn set_mode(&mut self, mode: BreakerMode, world: &impl World) -> Option<Change> {
        if mode == self.mode {
            return None;
        }
        let now = self.clock(world);
        self.forget();
        Some(self.change(Reason::Operator, now, world, |machine| {
            machine.mode = mode;
            machine.state = State::Closed;
        }))
    }

    /// Closes the breaker and clears all evidence; the mode stays. Always begins a new generation, so
    /// that results of calls in flight are stale, but is a change only if the state was another.
    pub(super) fn reset(&mut self, world: &impl World) -> Option<Change> {
        let now = self.clock(world);
        self.forget();
        let change = self.enter(State::Closed, Reason::Operator, now, world);
        (change.from != change.to).then_some(change)
    }

    /// Ends a breaker that was [forgettable](Self::is_forgettable). A change if calls were refused until now:
    /// without it, whoever shows the state would show that for ever.
    pub(super) fn evict(&mut self, world: &impl World) -> Option<Change> {
        let now = self.clock(world);
        let refused = self.state().is_refusing();
        refused.then(|| {
            self.change(Reason::Evicted, now, world, |machine| {
                machine.mode = BreakerMode::Auto;
                machine.state = State::Closed;
            })
        })
    }

    /// A new breaker that refuses calls because an operator has set the mode of all.
    pub(super) fn begin(&self) -> Option<Change> {
        let state = self.state();
        state.is_refusing().then_some(Change {
            from: BreakerState::Closed,
            to: state,
            reason: Reason::Operator,
            generation: self.generation,
            open_for: None,
        })
    }

    /// Whether the breaker can be dropped and made again without a difference: it is in the normal mode,
    /// closed, and has no evidence against the peer, or only evidence older than `forget_after`.
    pub(super) fn is_forgettable(&self, rules: &Rules, normal: BreakerMode, now: Tick) -> bool {
        if self.mode != normal {
            return false;
        }
        let old = |since: Tick| now.since(since) >= rules.forget_after;
        match self.state {
            State::Closed => {
                let counts = self.window.counts_at(now);
                let clean = self.consecutive == 0 && counts.failures == 0 && counts.slow == 0;
                clean || old(self.trouble)
            }
            // No call came in all the time in which it could have been a probe.
            State::Open { until } => old(until),
            State::HalfOpen => old(self.latest),
        }
    }

    pub(super) fn is_untouched(&self) -> bool {
        self.state() == BreakerState::Closed && self.totals == Totals::default()
    }

    pub(super) const fn totals(&self) -> &Totals {
        &self.totals
    }

    pub(super) fn view(&self, now: Tick) -> View {
        let now = now.max(self.latest);
        let counts = match self.state {
            // What opened it, however long ago.
            State::Open { .. } => self.window.counts(),
            State::Closed | State::HalfOpen => self.window.counts_at(now),
        };
        View {
            state: self.state(),
            generation: self.generation,
            entered: self.entered,
            left: match (self.mode, self.state) {
                (BreakerMode::Auto, State::Open { until }) => Some(until.since(now)),
                _ => None,
            },
            counts,
            consecutive: self.consecutive,
            rounds: self.rounds,
            probes: self.probes.in_flight(),
            probe_successes: self.probes.successes,
            totals: self.totals,
        }
    }
}

fn is_slow(rules: &Rules, admission: Admission, now: Tick) -> bool {
    let (Some(limit), Some(started)) = (rules.slow_call, admission.started) else {
        return false;
    };
    admission.answered.unwrap_or(now).since(started) > limit
}

/// The probes of one round: from half-open to open or closed.
#[derive(Debug, Default)]
pub(super) struct Probes {
    leases: Vec<Lease>,
    /// The last ticket that was given out. Zero is no ticket.
    last: u32,
    pub(super) successes: u32,
}

#[derive(Debug)]
struct Lease {
    ticket: u32,
    until: Tick,
}

impl Probes {
    /// A ticket for one more probe, or the time when the first lease ends.
    pub(super) fn admit(&mut self, now: Tick, limit: u32, lease: u64) -> Result<u32, Tick> {
        if self.leases.len() >= limit as usize {
            let first = self.leases.iter().map(|lease| lease.until).min();
            return Err(first.unwrap_or(now));
        }
        self.last = self.last.wrapping_add(1).max(1);
        self.leases.push(Lease {
            ticket: self.last,
            until: now.after(lease),
        });
        Ok(self.last)
    }

    /// Removes the probes whose lease has ended, and returns how many.
    pub(super) fn expire(&mut self, now: Tick) -> u64 {
        let before = self.leases.len();
        self.leases.retain(|lease| now < lease.until);
        (before - self.leases.len()) as u64
    }

    /// Removes a probe that ended. `false` if its lease had ended before.
    pub(super) fn release(&mut self, ticket: u32) -> bool {
        let found = self.leases.iter().position(|lease| lease.ticket == ticket);
        found.map(|at| self.leases.swap_remove(at)).is_some()
    }

    pub(super) const fn in_flight(&self) -> usize {
        self.leases.len()
    }

    /// Begins another round. Tickets go on, so that none is used twice.
    pub(super) fn clear(&mut self) {
        self.leases.clear();
        self.successes = 0;
    }
}
