use super::BreakerState;
use crate::{
    StoreErrorKind,
    attempt::{GaveUp, History},
    outcome::Outcome,
};
use std::{fmt, time::Duration};

/// Something that happened. Events borrow their values: an observer copies what it wants to keep.
///
/// No event carries a secret or a body; of headers only ids of events and idempotency keys, and of targets only the path where a
/// [layer is missing](Self::MissingLayer). A
/// [`detail`](Self::Refused::detail) may name a field of a body by its path, which can contain keys that the
/// sender chose, at most 128 bytes. `peer` is the key
/// by which breakers and metrics tell peers apart (a host, a tenant; see [`peer`](crate::peer)). It comes
/// from requests, so an observer that keeps data for each peer needs a bound. The `&'static str` fields are
/// names from closed sets, fit for metric labels.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A queue accepted a job, or had accepted it before.
    Accepted {
        /// The id of the task.
        task: Id<'a>,
        /// The kind of the job.
        kind: &'a str,
        /// The target of the job.
        peer: &'a str,
        /// Whether its deduplication key was known, so that no job was added.
        repeated: bool,
    },
    /// One call of a transport begins.
    AttemptBegan {
        /// The peer that is called.
        peer: &'a str,
        /// Whether this attempt follows another one of the same delivery in the same run: the retries of a
        /// queue's worker are [`JobEnd::Retrying`].
        retry: bool,
        /// The status or gRPC code that ended the attempt before.
        after: Option<u16>,
    },
    /// One call of a transport has ended.
    AttemptEnded {
        /// The peer that was called.
        peer: &'a str,
        /// The outcome of the attempt. `Cancelled` if its future was dropped.
        outcome: Outcome,
        /// The time until the outcome was known.
        elapsed: Duration,
    },
    /// A circuit breaker changed its state.
    BreakerChanged {
        /// The peer of the breaker.
        peer: &'a str,
        /// The state before.
        from: BreakerState,
        /// The state now.
        to: BreakerState,
        /// The reason: a name from a closed set.
        reason: &'static str,
        /// How long the breaker stays open, if it has opened.
        open_for: Option<Duration>,
        /// Grows with each change of any breaker in this process, so also from a breaker that was removed to
        /// the next one of the same peer. Two threads may report two changes at the same time: the change with
        /// the higher generation is the later one. An observer that shows the state ignores a change whose
        /// generation is not above that of the one it shows.
        generation: u64,
    },
    /// An idempotency key was claimed, and its work begins.
    Claimed {
        /// The scope of the key.
        scope: &'a str,
    },
    /// A claim could not be renewed before its lease ended, or passed to another, before the work under it was
    /// done.
    ClaimLost {
        /// What was claimed: `idempotency_key`, `job`, `dead_letter`.
        what: &'static str,
    },
    /// A delivery or job failed for good, and a dead-letter entry holds it.
    DeadLettered {
        /// The id of the entry.
        entry: Id<'a>,
        /// The peer of the delivery or job.
        peer: &'a str,
        /// The reason: a name from a closed set.
        reason: &'static str,
        /// The id of its event, as the event's sender set it.
        event_id: Option<&'a str>,
        /// Whether the fallback sink took it, because the first sink did not.
        fell_back: bool,
    },
    /// A deadline or attempt timeout ended a call.
    DeadlineExceeded {
        /// What was ended: `attempt` or `call`.
        what: &'static str,
        /// Its time limit.
        limit: Duration,
    },
    /// A delivery begins: a call of the whole stack, with its retries and waits. Not told of the tasks of a
    /// queue.
    DeliveryBegan {
        /// The peer that is called.
        peer: &'a str,
    },
    /// A delivery has ended.
    DeliveryEnded {
        /// The peer that was called.
        peer: &'a str,
        /// The outcome of the delivery. `Cancelled` if its future was dropped.
        outcome: Outcome,
        /// The time until the outcome was known.
        elapsed: Duration,
        /// The number of attempts that the inner metrics layer counted.
        attempts: u32,
        /// Whether the worker of a queue tells it, of a task that has ended. No
        /// [`DeliveryBegan`](Self::DeliveryBegan) precedes it, because the task waited in the queue before
        /// and between its attempts: [`Accepted`](Self::Accepted) is its beginning.
        queued: bool,
    },
    /// An operator removed a dead-letter entry without sending it again.
    Discarded {
        /// The id of the entry.
        entry: Id<'a>,
        /// The operator who asked for it, in their own words.
        by: &'a str,
    },
    /// A call moves on to another target.
    FailedOver {
        /// The index of the target that failed.
        from: usize,
        /// The index of the next one.
        to: usize,
        /// The outcome of the call to `from`.
        outcome: Outcome,
    },
    /// A fallback replaced a failure.
    FallbackAnswered {
        /// The outcome of the call.
        outcome: Outcome,
    },
    /// The retry layer stopped retrying a delivery.
    GaveUp {
        /// The reason.
        reason: GaveUp,
        /// The history of its attempts.
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
    /// A job was cancelled. Told by its queue.
    JobCancelled {
        /// The id of the task.
        task: Id<'a>,
        /// Whether a worker had claimed it: that worker drops the work when it next renews its lease.
        running: bool,
        /// The scope and id of its deduplication key.
        dedup_key: Option<(&'a str, &'a str)>,
    },
    /// A worker ended an attempt at a job; the job may be tried again.
    JobEnded {
        /// The id of the task.
        task: Id<'a>,
        /// The kind of the job.
        kind: &'a str,
        /// The target of the job.
        peer: &'a str,
        /// The number of the attempt, from 1.
        attempt: u32,
        /// The result.
        end: JobEnd,
        /// How long this attempt took. Zero if the job ended without an attempt.
        elapsed: Duration,
        /// The scope and id of its deduplication key.
        dedup_key: Option<(&'a str, &'a str)>,
        /// The id of the event, as its sender named it.
        event_id: Option<&'a str>,
    },
    /// The keys of a signature scheme were replaced.
    KeysRotated {
        /// The number of keys now.
        keys: usize,
    },
    /// A dead-letter entry could not be written. It is lost unless the write is tried again
    /// ([`retry_after`](Self::Lost::retry_after)).
    Lost {
        /// The id of the entry.
        entry: Id<'a>,
        /// The peer of the delivery or job.
        peer: &'a str,
        /// The reason for the dead letter: a name from a closed set.
        reason: &'static str,
        /// The error of the sink.
        kind: StoreErrorKind,
        /// The wait before the write is tried again; `None` if it is not.
        retry_after: Option<Duration>,
    },
    /// A handler asked for what only a layer gives, and no such layer stands outside it. The fault is in the
    /// program: every such request is answered 500.
    MissingLayer {
        /// The part of the library that the layer belongs to: `cognigy`, `idempotency`, `signature`.
        part: &'static str,
        /// The path that was requested, with what nested routers removed from it. Its sender chose it.
        path: &'a str,
        /// What was asked for and what to do, in fixed words.
        what: &'static str,
    },
    /// A re-drive has sent a dead-letter entry again, or skipped it.
    Redriven {
        /// The id of the entry.
        entry: Id<'a>,
        /// The operator who asked for the re-drive, in their own words, at most 256 characters.
        by: &'a str,
        /// The result: a name from a closed set.
        result: &'static str,
        /// The number of entries that the run has sent or skipped, including this one.
        done: u64,
        /// The number of entries that matched when the run began.
        total: u64,
        /// The cursor at which another run can continue: all entries before it are done. `None` is the
        /// beginning.
        cursor: Option<Id<'a>>,
    },
    /// A request was refused.
    Refused {
        /// The name of the layer, extractor or routes that refused it, such as `buffer_body`,
        /// `idempotency`, `enqueue` or `operator`. For a signature layer, the name of its scheme, such as `github` or `bearer`.
        by: &'static str,
        /// The reason: a name from a closed set.
        reason: &'static str,
        /// The reason in words.
        detail: Id<'a>,
    },
    /// A repeated request got the stored response.
    Replayed {
        /// The scope of the key.
        scope: &'a str,
    },
    /// An attempt failed, and another one follows.
    Retrying {
        /// The number of the attempt that failed, from 1.
        attempt: u32,
        /// The outcome of that attempt.
        outcome: Outcome,
        /// The wait before the next attempt.
        wait: Duration,
    },
    /// Something went wrong that an operator should know of; the program continues.
    Trouble {
        /// The part of the library: `idempotency`, `queue`, `dead_letter`, `circuit_breaker`, ...
        part: &'static str,
        /// What happened, in fixed words.
        what: &'static str,
        /// Details, such as an error.
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
            Self::Discarded { .. } => "discarded",
            Self::FailedOver { .. } => "failed_over",
            Self::FallbackAnswered { .. } => "fallback_answered",
            Self::GaveUp { .. } => "gave_up",
            Self::JobBegan { .. } => "job_began",
            Self::JobCancelled { .. } => "job_cancelled",
            Self::JobEnded { .. } => "job_ended",
            Self::KeysRotated { .. } => "keys_rotated",
            Self::Lost { .. } => "lost",
            Self::MissingLayer { .. } => "missing_layer",
            Self::Redriven { .. } => "redriven",
            Self::Refused { .. } => "refused",
            Self::Replayed { .. } => "replayed",
            Self::Retrying { .. } => "retrying",
            Self::Trouble { .. } => "trouble",
            Self::Verified { .. } => "verified",
        }
    }
}

/// A value that an observer can format: an id, an error. It is formatted only on demand.
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
    /// The job failed for good. Its dead-letter entry is written, or no sink is set.
    DeadLettered,
    /// The job failed for good. Its dead-letter entry is written next.
    Failed {
        /// The reason: a name from a closed set.
        reason: &'static str,
        /// The status or gRPC code that ended the last attempt.
        code: Option<u16>,
    },
    /// The claim could not be renewed before its lease ended, or passed to another worker.
    Lost,
    /// The job was released without counting an attempt. It can be claimed again after `after`.
    Released {
        /// The wait.
        after: Duration,
    },
    /// The attempt failed, and the job is tried again.
    Retrying {
        /// The outcome of the attempt.
        outcome: Outcome,
        /// The wait before the next attempt.
        after: Duration,
    },
    /// The job succeeded.
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
