use crate::{
    StoreErrorKind,
    dead_letter::{Cause, WriteOutcome},
    outcome::Outcome,
    queue::{Job, TaskId},
};
use std::time::Duration;

/// What a worker tells its [hook](super::WorkerBuilder::on_event).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum WorkerEvent<'a> {
    /// An entry was written, or there is nowhere to write one to: the task has failed.
    DeadLettered {
        /// The job.
        job: &'a Job,
        /// Where its entry is: in the sink; `None` where the worker has no dead letters.
        entry: Option<WriteOutcome>,
    },
    /// A job was claimed. It is called next.
    Claimed {
        /// The job.
        job: &'a Job,
    },
    /// A job has failed for good. Its entry is written next, by this worker or another.
    Failed {
        /// The job.
        job: &'a Job,
        /// Why.
        cause: &'a Cause,
    },
    /// A job was given back without an attempt: its target refused it, the worker stops, or only a
    /// newer release can read it.
    Released {
        /// The job.
        job: &'a Job,
        /// When it may be claimed again.
        after: Duration,
    },
    /// A claim ended before its work did: the lease could not be renewed in time, or another has
    /// the job. What ran was dropped.
    Lost {
        /// The job.
        id: TaskId,
    },
    /// The sink has not taken an entry. It is tried again, until the sink has it.
    NotDeadLettered {
        /// The job.
        job: &'a Job,
        /// When.
        after: Duration,
        /// Whether there is a copy in the fallback sink meanwhile, or none.
        entry: WriteOutcome,
        /// What the sink said. Of one that is [`Rejected`](StoreErrorKind::Rejected) or
        /// [`TooLarge`](StoreErrorKind::TooLarge) somebody must see to it.
        kind: StoreErrorKind,
    },
    /// A job has failed, or was broken off, and is tried again.
    Retrying {
        /// The job.
        job: &'a Job,
        /// How it failed.
        outcome: Outcome,
        /// When.
        after: Duration,
    },
    /// A job is done.
    Succeeded {
        /// The job.
        job: &'a Job,
        /// How long this attempt took.
        took: Duration,
    },
    /// The queue did not do what it was asked. The worker goes on.
    Trouble {
        /// What it was asked: `claim`, `renew`, `settle` or `task`.
        asked: &'static str,
        /// What kind of trouble it has.
        kind: StoreErrorKind,
    },
}

impl WorkerEvent<'_> {
    /// A fixed name, fit for a metric's label.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::DeadLettered { .. } => "dead_lettered",
            Self::Claimed { .. } => "claimed",
            Self::Failed { .. } => "failed",
            Self::Released { .. } => "released",
            Self::Lost { .. } => "lost",
            Self::NotDeadLettered { .. } => "not_dead_lettered",
            Self::Retrying { .. } => "retrying",
            Self::Succeeded { .. } => "succeeded",
            Self::Trouble { .. } => "trouble",
        }
    }
}
