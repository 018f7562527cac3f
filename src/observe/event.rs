use super::BreakerState;
use crate::{
    StoreErrorKind,
    attempt::{GaveUp, History},
    outcome::Outcome,
};
use std::{fmt, time::Duration};

/// Something that happened. Borrowed: an observer that keeps a fact copies what it needs.
///
/// No event carries a secret, a header value or a body. `peer` is the key by which breakers and
/// metrics are kept (a host, a tenant; see [`peer`](crate::peer)): it comes from requests, so an
/// observer that keeps something for each peer needs a bound. The `&'static str` fields are names
/// from closed sets, fit for metric labels.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A job was accepted into a queue, or known there already.
    Accepted {
        /// The id of the task.
        task: Id<'a>,
        /// The kind of the job.
        kind: &'a str,
        /// The target of the job.
        peer: &'a str,
        /// Whether the deduplication key was known, so that nothing was put in.
        repeated: bool,
    },
    /// One call of a transport begins.
    AttemptBegan {
        /// Which peer is called.
        peer: &'a str,
        /// Whether this attempt follows another one of the same delivery.
        retry: bool,
        /// The status or gRPC code that the attempt before was answered with.
        after: Option<u16>,
    },
    /// One call of a transport has ended.
    AttemptEnded {
        /// Which peer was called.
        peer: &'a str,
        /// How it went. Cancelled where its future was dropped.
        outcome: Outcome,
        /// The time until the outcome was known.
        elapsed: Duration,
    },
    /// A circuit breaker changed its state.
    BreakerChanged {
        /// Whose breaker.
        peer: &'a str,
        /// The state before.
        from: BreakerState,
        /// The state now.
        to: BreakerState,
        /// Why: a name from a closed set.
        reason: &'static str,
        /// How long the breaker stays open, where it opened.
        open_for: Option<Duration>,
        /// Grows by one with each change of this breaker. Two changes may be told at once by two
        /// threads: the one with the higher generation is the later.
        generation: u64,
    },
    /// An idempotency key was claimed: its work runs now.
    Claimed {
        /// The scope of the key.
        scope: &'a str,
    },
    /// A lease ended, or passed to another, while the work under it ran.
    ClaimLost {
        /// What was claimed: `idempotency_key`, `job`, `dead_letter`.
        what: &'static str,
    },
    /// A delivery or job failed for good, and a dead-letter entry holds it.
    DeadLettered {
        /// The id of the entry.
        entry: Id<'a>,
        /// Where it was to go.
        peer: &'a str,
        /// Why: a name from a closed set.
        reason: &'static str,
        /// The event it belongs to, as its sender named it.
        event_id: Option<&'a str>,
        /// Whether the fallback sink took it, because the first one did not.
        fell_back: bool,
    },
    /// A deadline or attempt timeout cut a call.
    DeadlineExceeded {
        /// What was cut: `attempt` or `call`.
        what: &'static str,
        /// The time it had.
        limit: Duration,
    },
    /// A delivery begins: a call of the whole stack, with its retries and waits.
    DeliveryBegan {
        /// Which peer is called.
        peer: &'a str,
    },
    /// A delivery has ended.
    DeliveryEnded {
        /// Which peer was called.
        peer: &'a str,
        /// How it went. Cancelled where its future was dropped.
        outcome: Outcome,
        /// The time until the outcome was known.
        elapsed: Duration,
        /// How many attempts an attempt-level layer counted.
        attempts: u32,
    },
    /// A call moves on to another target.
    FailedOver {
        /// The index of the target that failed.
        from: usize,
        /// The index of the next one.
        to: usize,
        /// How it failed.
        outcome: Outcome,
    },
    /// A fallback answered in place of a failure.
    FallbackAnswered {
        /// How the call failed.
        outcome: Outcome,
    },
    /// A delivery is not retried any more.
    GaveUp {
        /// Why.
        reason: GaveUp,
        /// How its attempts went.
        history: &'a History,
    },
    /// A worker begins a job.
    JobBegan {
        /// The id of the task.
        task: Id<'a>,
        /// The kind of the job.
        kind: &'a str,
        /// The target of the job.
        peer: &'a str,
        /// The number of the attempt, from 1.
        attempt: u32,
    },
    /// A worker is done with a job, for now or for good.
    JobEnded {
        /// The id of the task.
        task: Id<'a>,
        /// The kind of the job.
        kind: &'a str,
        /// The target of the job.
        peer: &'a str,
        /// The number of the attempt, from 1.
        attempt: u32,
        /// What came of it.
        end: JobEnd,
        /// How long this attempt took. Zero for an end that is no attempt's.
        elapsed: Duration,
        /// Scope and id of its deduplication key.
        dedup_key: Option<(&'a str, &'a str)>,
    },
    /// The keys of a scheme were replaced.
    KeysRotated {
        /// How many keys there are now.
        keys: usize,
    },
    /// A dead-letter entry could not be written: what it holds is lost, unless its holder tries
    /// again ([`retry_after`](Self::Lost::retry_after)).
    Lost {
        /// The id of the entry.
        entry: Id<'a>,
        /// Where it was to go.
        peer: &'a str,
        /// Why it was to be dead-lettered: a name from a closed set.
        reason: &'static str,
        /// The error of the sink.
        kind: StoreErrorKind,
        /// When the write is tried again; `None` where nobody does.
        retry_after: Option<Duration>,
    },
    /// A dead-letter entry that an operator asked to send again was dealt with.
    Redriven {
        /// The id of the entry.
        entry: Id<'a>,
        /// Who asked for it, in their own words, at most 256 characters.
        by: &'a str,
        /// What came of it: a name from a closed set.
        result: &'static str,
        /// How many entries of the run are done, this one included.
        done: u64,
        /// How many entries matched when the run began.
        total: u64,
        /// Where another run can go on: everything before it is done. `None` is the beginning.
        cursor: Option<Id<'a>>,
    },
    /// A request was refused.
    Refused {
        /// Which layer refused it: `buffer_body`, `verify_signature`, `idempotency`, `cognigy`,
        /// `enqueue`.
        by: &'static str,
        /// Why: a name from a closed set.
        reason: &'static str,
        /// The same in words.
        detail: Id<'a>,
    },
    /// A stored response was given for a repeated request.
    Replayed {
        /// The scope of the key.
        scope: &'a str,
    },
    /// An attempt failed, and another one follows.
    Retrying {
        /// The number of the attempt that failed, from 1.
        attempt: u32,
        /// How it failed.
        outcome: Outcome,
        /// The wait before the next one.
        wait: Duration,
    },
    /// Something did not work as an operator would want; the program goes on.
    Trouble {
        /// Which part: `idempotency`, `queue`, `dead_letter`, `circuit_breaker`, ...
        part: &'static str,
        /// What happened, in fixed words.
        what: &'static str,
        /// More on it, such as an error.
        detail: Option<Id<'a>>,
    },
    /// A signature was verified.
    Verified {
        /// The name of the scheme.
        scheme: &'static str,
        /// The label of the secret that matched.
        label: Option<&'a str>,
    },
}

impl Event<'_> {
    /// The name in lower case, for metric labels and logs. It does not change between releases.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Accepted { .. } => "accepted",
            Self::AttemptBegan { .. } => "attempt_began",
            Self::AttemptEnded { .. } => "attempt_ended",
            Self::BreakerChanged { .. } => "breaker_changed",
            Self::ClaimLost { .. } => "claim_lost",
            Self::Claimed { .. } => "claimed",
            Self::DeadLettered { .. } => "dead_lettered",
            Self::DeadlineExceeded { .. } => "deadline_exceeded",
            Self::DeliveryBegan { .. } => "delivery_began",
            Self::DeliveryEnded { .. } => "delivery_ended",
            Self::FailedOver { .. } => "failed_over",
            Self::FallbackAnswered { .. } => "fallback_answered",
            Self::GaveUp { .. } => "gave_up",
            Self::JobBegan { .. } => "job_began",
            Self::JobEnded { .. } => "job_ended",
            Self::KeysRotated { .. } => "keys_rotated",
            Self::Lost { .. } => "lost",
            Self::Redriven { .. } => "redriven",
            Self::Refused { .. } => "refused",
            Self::Replayed { .. } => "replayed",
            Self::Retrying { .. } => "retrying",
            Self::Trouble { .. } => "trouble",
            Self::Verified { .. } => "verified",
        }
    }
}

/// A value of which an observer can make text: an id, an error. Nothing is formatted unless it does.
#[derive(Clone, Copy)]
pub struct Id<'a>(&'a dyn fmt::Display);

impl<'a> Id<'a> {
    /// The text of `value`.
    pub const fn new(value: &'a dyn fmt::Display) -> Self {
        Self(value)
    }
}

impl fmt::Display for Id<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Id<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How an attempt at a job ended.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum JobEnd {
    /// Its dead-letter entry is written, or there is nowhere to write one. The task has failed.
    DeadLettered,
    /// It failed for good. Its dead-letter entry is written next.
    Failed {
        /// Why: a name from a closed set.
        reason: &'static str,
        /// The status or gRPC code that the last attempt was answered with.
        code: Option<u16>,
    },
    /// Its lease ended before its work did: another worker may have it.
    Lost,
    /// It was released without counting an attempt, and may be claimed again after this wait.
    Released {
        /// The wait.
        after: Duration,
    },
    /// It failed, and is tried again.
    Retrying {
        /// How it failed.
        outcome: Outcome,
        /// The wait before the next attempt.
        after: Duration,
    },
    /// It is done.
    Succeeded,
}

impl JobEnd {
    /// The name in lower case, for metric labels and logs. It does not change between releases.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DeadLettered => "dead_lettered",
            Self::Failed { .. } => "failed",
            Self::Lost => "lost",
            Self::Released { .. } => "released",
            Self::Retrying { .. } => "retrying",
            Self::Succeeded => "succeeded",
        }
    }
}
