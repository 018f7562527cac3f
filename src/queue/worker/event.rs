use crate::{
    dead_letter::{Cause, LetterEnd, SinkErrorKind},
    outcome::Outcome,
    queue::{Job, QueueErrorKind, TaskId},
};
use std::time::Duration;

/// What a worker tells its [hook](super::WorkerBuilder::on_event).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum WorkerEvent<'a> {
    /// A letter was written, or there is nowhere to write one to: the task has failed.
    Buried {
        /// The job.
        job: &'a Job,
        /// Where its letter is: in the sink; `None` where the worker has no dead letters.
        letter: Option<LetterEnd>,
    },
    /// A job was claimed. It is called next.
    Claimed {
        /// The job.
        job: &'a Job,
    },
    /// A job has failed for good. Its letter is written next, by this worker or another.
    Failed {
        /// The job.
        job: &'a Job,
        /// Why.
        cause: &'a Cause,
    },
    /// A job was given back without an attempt: its target refused it, the worker stops, or only a
    /// newer release can read it.
    HandedBack {
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
    /// The sink has not taken a letter. It is tried again, until the sink has it.
    NotBuried {
        /// The job.
        job: &'a Job,
        /// When.
        after: Duration,
        /// Whether there is a copy in the fallback sink meanwhile, or none.
        letter: LetterEnd,
        /// What the sink said. Of one that is [`Rejected`](SinkErrorKind::Rejected) or
        /// [`TooLarge`](SinkErrorKind::TooLarge) somebody must see to it.
        kind: SinkErrorKind,
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
        kind: QueueErrorKind,
    },
}

impl WorkerEvent<'_> {
    /// A fixed name, fit for a metric's label.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Buried { .. } => "buried",
            Self::Claimed { .. } => "claimed",
            Self::Failed { .. } => "failed",
            Self::HandedBack { .. } => "handed_back",
            Self::Lost { .. } => "lost",
            Self::NotBuried { .. } => "not_buried",
            Self::Retrying { .. } => "retrying",
            Self::Succeeded { .. } => "succeeded",
            Self::Trouble { .. } => "trouble",
        }
    }
}
