use crate::outcome::Outcome;
use std::time::Duration;

/// What is measured: one try, or all of them until the caller has an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// One call of the transport.
    Attempt,
    /// One call of the whole stack, with its retries and the waits between them.
    Delivery,
}

impl Level {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Attempt, Self::Delivery];

    /// The name in lower case, for metric labels and logs. It does not change between releases.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Attempt => "attempt",
            Self::Delivery => "delivery",
        }
    }
}

/// What a circuit breaker does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BreakerState {
    /// Calls pass.
    Closed,
    /// A few calls pass, to see how the peer is.
    HalfOpen,
    /// No call passes.
    Open,
}

impl BreakerState {
    /// Every state, in alphabetical order.
    pub const ALL: [Self; 3] = [Self::Closed, Self::HalfOpen, Self::Open];

    /// The name in lower case, for metric labels and logs. It does not change between releases.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

/// How an attempt or a delivery went.
#[derive(Clone, Copy, Debug)]
pub struct Measurement {
    level: Level,
    outcome: Outcome,
    elapsed: Duration,
    attempts: u32,
}

impl Measurement {
    /// One that was made elsewhere than in the layer. It has taken one attempt.
    pub const fn new(level: Level, outcome: Outcome, elapsed: Duration) -> Self {
        Self {
            level,
            outcome,
            elapsed,
            attempts: 1,
        }
    }

    /// Sets how many attempts it has taken.
    #[must_use]
    pub const fn with_attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// What was measured.
    pub const fn level(&self) -> Level {
        self.level
    }

    /// How it ended. [`Cancelled`](crate::outcome::OutcomeKind::Cancelled) where its future was
    /// dropped.
    pub const fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// How long it took, until the verdict was known: until the end of an answer that is judged
    /// late.
    pub const fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// How many attempts it has taken. Of an attempt: 1. Of a delivery: those that an attempt-level
    /// layer inside has counted, so 0 where none stands there, or where all were refused before.
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }
}

/// Where measurements go: [`DeliveryMetrics`](super::DeliveryMetrics), an exporter, or one of your
/// own.
///
/// A recorder is asked for the [`Series`] of a key, and the series is told what happens. The layer
/// keeps the series it used last, so that calls for one key do not look it up again, and gives a
/// clone of it to each call's future, so that the end of a call needs no look-up either. That is
/// why a series should be cheap to clone: an `Arc`, or an index.
///
/// Two recorders are one: `(metrics, exporter)`. `Option<R>` records or not; [`SharedRecorder`]
/// forgets which one it is.
///
/// # Panics
///
/// A recorder should not panic. Where one does, the layer catches it: the measurement is lost, the
/// call goes on, and with feature `tracing` a warning says so.
///
/// # Examples
///
/// An audit log, with names of its own:
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use tower_webhook::metrics::{Measurement, Recorder, Series};
///
/// #[derive(Clone, Default)]
/// struct Audit {
///     lines: Arc<Mutex<Vec<String>>>,
/// }
///
/// #[derive(Clone)]
/// struct AuditOf {
///     audit: Audit,
///     key: Arc<str>,
/// }
///
/// impl Recorder for Audit {
///     type Series = AuditOf;
///
///     fn series(&self, key: &str) -> AuditOf {
///         AuditOf { audit: self.clone(), key: key.into() }
///     }
/// }
///
/// impl Series for AuditOf {
///     fn is_for(&self, key: &str) -> bool {
///         *self.key == *key
///     }
///
///     fn finished(&self, measurement: &Measurement) {
///         let line = format!("{} {}", self.key, measurement.outcome().kind());
///         self.audit.lines.lock().unwrap().push(line);
///     }
/// }
/// ```
///
/// [`SharedRecorder`]: super::SharedRecorder
pub trait Recorder: Send + Sync + 'static {
    /// What is kept for one key.
    type Series: Series + Clone;

    /// The series of `key`. Called on the way of a request, so it is quick, and does not allocate
    /// for a key that it has seen; keys come from requests, so there is a bound on how many it
    /// keeps.
    fn series(&self, key: &str) -> Self::Series;

    /// A retry for `key` was made, because the attempt before ended with `code`.
    ///
    /// For retries that no attempt-level layer sees: such a layer counts them by itself (see the
    /// [module docs](super)), and a hook that calls this too would count each twice.
    fn retried(&self, key: &str, code: Option<u16>) {
        self.series(key).retried(code);
    }

    /// The circuit breaker of `key` is now in this state. For a breaker's listener.
    fn breaker_changed(&self, key: &str, state: BreakerState) {
        self.series(key).breaker_changed(state);
    }

    /// A dead letter for `key` was to be written. See [`Series::dead_lettered`].
    fn dead_lettered(&self, key: &str, reason: &'static str, end: &'static str) {
        self.series(key).dead_lettered(reason, end);
    }
}

/// What happens to the calls for one key. See [`Recorder`].
///
/// Every method is called on the way of a request, on any thread, with no lock held.
pub trait Series: Send + Sync + 'static {
    /// Whether this is what [`Recorder::series`] would give for `key`. `false`, the default, asks
    /// the recorder at every call.
    fn is_for(&self, key: &str) -> bool {
        let _ = key;
        false
    }

    /// An attempt or a delivery has begun. Each is [`finished`](Self::finished) once, whatever
    /// happens to it.
    fn started(&self, level: Level) {
        let _ = level;
    }

    /// An attempt or a delivery has ended.
    fn finished(&self, measurement: &Measurement);

    /// A retry was made, because the attempt before ended with `code`: an HTTP status or a gRPC
    /// code, `None` where there was no answer.
    fn retried(&self, code: Option<u16>) {
        let _ = code;
    }

    /// The circuit breaker of this key is now in this state.
    fn breaker_changed(&self, state: BreakerState) {
        let _ = state;
    }

    /// A dead letter was to be written: why, and where it ended up. Both are names of closed sets,
    /// fit for labels: a reason such as `retries_exhausted`, and `written`, `fell_back` or `not_written`.
    fn dead_lettered(&self, reason: &'static str, end: &'static str) {
        let _ = (reason, end);
    }
}
