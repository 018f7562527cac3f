//! What operators ask of a queue: to cancel a job, and to list those that are not finished.

use super::{Kinds, Status, TaskId};
use crate::{BoxFuture, StoreError};
use std::time::{Duration, SystemTime};

/// Cancels and lists the jobs of an engine. An engine that cannot look into its queue, as a broker, has none.
pub trait Jobs: Send + Sync {
    /// Cancels a job. Returns the status of its task then: [`Cancelled`](Status::Cancelled) if it was cancelled, now
    /// or before; another final status if the job had ended, or had failed for good, and nothing is changed; `None` if
    /// the id is unknown.
    ///
    /// A queued job is not claimed any more, and the next one of its FIFO group may run.
    ///
    /// The claim of a running job can no longer be renewed: its holder is answered
    /// [`Lost`](crate::lease::Settled::Lost). Because that one may still run, the job keeps its place in its FIFO group
    /// and in the limit per target until its holder settles the claim, which is answered `Lost` too, or the lease ends.
    /// Until then [`Depth::running`](super::Depth::running) counts it.
    ///
    /// The task is finished: its payload is removed, and its status and its deduplication key are known for the
    /// retention, which begins when the job has left its place.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the job is cancelled or not.
    fn cancel(&self, id: TaskId) -> BoxFuture<Result<Option<Status>, StoreError>>;

    /// Lists the jobs that are queued or running, oldest first: those that match `filter` and come after the place
    /// `after`, which is the [`next`](JobListing::next) of the page before. At most `limit`, which is kept within
    /// 1 and [`JobListing::MOST`]. An engine looks at a bounded number of jobs for each page: a page may have fewer
    /// jobs, or none, though another one follows.
    ///
    /// A job that is there from the first page to the last is listed once, whatever becomes of the others.
    fn list(
        &self,
        filter: JobFilter,
        after: Option<u64>,
        limit: usize,
    ) -> BoxFuture<Result<JobListing, StoreError>>;
}

/// Which jobs are listed. Default: all.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_webhook::queue::JobFilter;
///
/// let stuck = JobFilter::default().kinds(["mail"]).older_than(Duration::from_secs(3600));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobFilter {
    /// The kinds.
    pub kinds: Kinds,
    /// The target.
    pub target: Option<String>,
    /// The shortest time since a job was accepted.
    pub older_than: Duration,
}

impl JobFilter {
    /// Sets the kinds. Default: all.
    #[must_use]
    pub fn kinds(mut self, kinds: impl Into<Kinds>) -> Self {
        self.kinds = kinds.into();
        self
    }

    /// Sets the target. Default: any.
    #[must_use]
    pub fn target(mut self, target: impl Into<String>) -> Self {
        self.target = Some(target.into());
        self
    }

    /// Sets the shortest time since a job was accepted. Default: zero.
    #[must_use]
    pub const fn older_than(mut self, age: Duration) -> Self {
        self.older_than = age;
        self
    }

    /// Whether a job of this kind, target and age matches. For engines.
    pub fn matches(&self, kind: &str, target: &str, age: Duration) -> bool {
        self.kinds.has(kind)
            && self.target.as_deref().is_none_or(|of| of == target)
            && age >= self.older_than
    }
}

/// A page of jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobListing {
    /// The jobs.
    pub jobs: Vec<JobSummary>,
    /// The place after which the next page begins. `None`: there is none.
    pub next: Option<u64>,
}

impl JobListing {
    /// The largest page.
    pub const MOST: usize = 1000;
}

/// A job that is queued or running, without its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobSummary {
    /// The id of the task.
    pub id: TaskId,
    /// The kind.
    pub kind: String,
    /// The target.
    pub target: String,
    /// The FIFO group.
    pub fifo_group: Option<String>,
    /// [`Queued`](Status::Queued) or [`Running`](Status::Running).
    pub status: Status,
    /// When the queue accepted it.
    pub accepted_at: SystemTime,
    /// The number of attempts that were begun.
    pub attempts: u32,
    /// The time until a queued job is due. Zero if it is due, also if it waits for another one of its FIFO group or
    /// for room at its target; and if it is running.
    pub due_in: Duration,
}

impl JobSummary {
    /// Makes a summary of a queued job that is due. For engines.
    pub fn new(
        id: TaskId,
        kind: impl Into<String>,
        target: impl Into<String>,
        accepted_at: SystemTime,
    ) -> Self {
        Self {
            id,
            kind: kind.into(),
            target: target.into(),
            fifo_group: None,
            status: Status::Queued,
            accepted_at,
            attempts: 0,
            due_in: Duration::ZERO,
        }
    }
}
