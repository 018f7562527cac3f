use super::{
    Level, change_word,
    codes::{self, CODES},
    histogram::{Counts, Histogram},
    shown_state, state_of,
};
use crate::{
    observe::BreakerState,
    outcome::{Outcome, OutcomeKind},
};
use std::{
    array,
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

pub(super) const KINDS: usize = OutcomeKind::ALL.len();

/// The counters of one peer. Many threads write them, and none waits.
///
/// A total is not counted but summed from its parts when it is read, because each counter costs a
/// locked instruction in every request.
#[derive(Debug)]
pub(super) struct PeerStats {
    pub(super) name: Arc<str>,
    attempts: OnceLock<Box<LevelStats>>,
    deliveries: OnceLock<Box<LevelStats>>,
    pub(super) retries: AtomicU64,
    pub(super) repeated: AtomicU64,
    pub(super) trips: AtomicU64,
    pub(super) dead_letters: AtomicU64,
    /// The newest change that was told.
    breaker: AtomicU64,
}

/// The counters of rare events, for all peers together.
#[derive(Debug)]
pub(super) struct SharedStats {
    retries: [AtomicU64; CODES],
    /// By reason and result. Few and rare, so a lock is good enough.
    dead_letters: Mutex<DeadLetters>,
}

type DeadLetters = BTreeMap<(&'static str, &'static str), u64>;

impl SharedStats {
    pub(super) fn new() -> Self {
        Self {
            retries: array::from_fn(|_| AtomicU64::new(0)),
            dead_letters: Mutex::default(),
        }
    }

    pub(super) fn dead_letters(&self) -> Vec<(&'static str, &'static str, u64)> {
        let counts = self.counted();
        let counts = counts.iter();
        counts
            .map(|((reason, end), n)| (*reason, *end, *n))
            .collect()
    }

    /// Ignores poisoning: nothing that can panic runs under the lock.
    fn counted(&self) -> MutexGuard<'_, DeadLetters> {
        let counts = self.dead_letters.lock();
        counts.unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn retries(&self) -> Vec<(Option<u16>, u64)> {
        let counts = self.retries.iter().map(|count| count.load(Relaxed));
        let named = counts.enumerate().map(|(at, n)| (codes::code(at), n));
        named.filter(|(_, count)| *count > 0).collect()
    }
}

/// One level of one peer. What a success writes stands together, except for its bucket.
#[derive(Debug)]
#[repr(C)]
pub(super) struct LevelStats {
    started: AtomicU64,
    /// Nanoseconds, as are the next two. All three saturate at `u64::MAX`, 584 years.
    sum: AtomicU64,
    least: AtomicU64,
    most: AtomicU64,
    /// All outcomes except success, which its histogram counts.
    kinds: [AtomicU64; KINDS],
    /// Made at the first failure.
    failures: OnceLock<Box<Histogram>>,
    successes: Histogram,
}

/// The values of a [`LevelStats`] at one time.
#[derive(Clone, Debug)]
pub(super) struct LevelCounts {
    pub(super) started: u64,
    pub(super) kinds: [u64; KINDS],
    pub(super) times: Counts,
    pub(super) sum: u128,
    pub(super) least: u64,
    pub(super) most: u64,
}

impl PeerStats {
    pub(super) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            attempts: OnceLock::new(),
            deliveries: OnceLock::new(),
            retries: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            trips: AtomicU64::new(0),
            dead_letters: AtomicU64::new(0),
            breaker: AtomicU64::new(0),
        }
    }

    /// Made when it is first used: most peers are measured at one level.
    const fn place(&self, level: Level) -> &OnceLock<Box<LevelStats>> {
        match level {
            Level::Attempt => &self.attempts,
            Level::Delivery => &self.deliveries,
        }
    }

    fn level(&self, level: Level) -> &LevelStats {
        self.place(level)
            .get_or_init(|| Box::new(LevelStats::new()))
    }

    pub(super) fn add_to(&self, level: Level, counts: &mut LevelCounts) {
        if let Some(stats) = self.place(level).get() {
            stats.add_to(counts);
        }
    }

    pub(super) fn breaker(&self) -> Option<BreakerState> {
        state_of(self.breaker.load(Relaxed))
    }

    /// Whether anything was recorded for this peer.
    pub(super) fn is_used(&self) -> bool {
        self.attempts.get().is_some()
            || self.deliveries.get().is_some()
            || self.retries.load(Relaxed) > 0
            || self.breaker.load(Relaxed) > 0
            || self.dead_letters.load(Relaxed) > 0
    }
}

impl PeerStats {
    pub(super) fn began(&self, level: Level) {
        self.level(level).started.fetch_add(1, Relaxed);
    }

    pub(super) fn ended(&self, level: Level, outcome: Outcome, elapsed: Duration) {
        self.level(level).finish(outcome.kind(), elapsed);
    }

    pub(super) fn breaker_changed(&self, state: BreakerState, generation: u64) {
        let state = shown_state(state);
        if state == BreakerState::Open {
            self.trips.fetch_add(1, Relaxed);
        }
        self.breaker
            .fetch_max(change_word(state, generation), Relaxed);
    }
}

impl SharedStats {
    pub(super) fn retried(&self, code: Option<u16>) {
        if let Some(count) = self.retries.get(codes::index(code)) {
            count.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn dead_lettered(&self, reason: &'static str, end: &'static str) {
        let mut counts = self.counted();
        let count = counts.entry((reason, end)).or_default();
        *count = count.saturating_add(1);
    }
}

impl LevelStats {
    fn new() -> Self {
        Self {
            started: AtomicU64::new(0),
            kinds: array::from_fn(|_| AtomicU64::new(0)),
            successes: Histogram::new(),
            failures: OnceLock::new(),
            sum: AtomicU64::new(0),
            least: AtomicU64::new(u64::MAX),
            most: AtomicU64::new(0),
        }
    }

    fn finish(&self, kind: OutcomeKind, elapsed: Duration) {
        // The time until a caller cancels says nothing about the peer.
        if kind != OutcomeKind::Cancelled {
            let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
            // Read first: a new extreme is rare, and reading is cheap.
            if nanos < self.least.load(Relaxed) {
                self.least.fetch_min(nanos, Relaxed);
            }
            if nanos > self.most.load(Relaxed) {
                self.most.fetch_max(nanos, Relaxed);
            }
            let before = self.sum.fetch_add(nanos, Relaxed);
            if before.checked_add(nanos).is_none() {
                self.sum.store(u64::MAX, Relaxed);
            }
            if kind == OutcomeKind::Success {
                return self.successes.record(nanos);
            }
            let failures = self.failures.get_or_init(|| Box::new(Histogram::new()));
            failures.record(nanos);
        }
        // Released last, as in the histogram, so that a reader that sees this count also sees the
        // start and the duration of the call.
        if let Some(count) = self.kinds.get(kind as usize) {
            count.fetch_add(1, Release);
        }
    }

    fn add_to(&self, counts: &mut LevelCounts) {
        for (sum, kind) in counts.kinds.iter_mut().zip(&self.kinds) {
            *sum += kind.load(Acquire);
        }
        let successes = self.successes.add_to(&mut counts.times);
        if let Some(sum) = counts.kinds.get_mut(OutcomeKind::Success as usize) {
            *sum += successes;
        }
        if let Some(failures) = self.failures.get() {
            failures.add_to(&mut counts.times);
        }
        counts.sum += u128::from(self.sum.load(Relaxed));
        counts.least = counts.least.min(self.least.load(Relaxed));
        counts.most = counts.most.max(self.most.load(Relaxed));
        counts.started += self.started.load(Relaxed);
    }
}

impl LevelCounts {
    pub(super) fn new() -> Self {
        Self {
            started: 0,
            kinds: [0; KINDS],
            times: Counts::new(),
            sum: 0,
            least: u64::MAX,
            most: 0,
        }
    }

    pub(super) fn clear(&mut self) {
        self.times.clear();
        (self.started, self.sum) = (0, 0);
        (self.least, self.most) = (u64::MAX, 0);
        self.kinds = [0; KINDS];
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.started += other.started;
        for (sum, kind) in self.kinds.iter_mut().zip(&other.kinds) {
            *sum += kind;
        }
        self.times.add(&other.times);
        self.sum += other.sum;
        self.least = self.least.min(other.least);
        self.most = self.most.max(other.most);
    }
}
