//! Puts dead letters of jobs back into their queue.

use super::{About, Enqueued, Moves, NewJob, Queue, TaskId};
use crate::{
    BoxError, BoxFuture, InvalidConfig, StoreError, StoreErrorKind,
    dead_letter::{
        DescribeResponse, Entry, EntryId, HttpRequests, Sink,
        redrive::{NotSendable, Redrive, RedriveBuilder, Resend},
    },
    idempotency::IdempotencyKey,
    lease::FencingToken,
    outcome::{Classify, MakeClassifier, Outcome},
};
use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};
use tower_service::Service;

/// A re-drive that puts entries back into a queue. Made by [`RedriveBuilder::requeue`].
pub type Requeue = Redrive<ToQueue, ToQueue, ToQueue>;

/// The part of a [`Requeue`] that knows the queue.
#[derive(Clone)]
pub struct ToQueue {
    queue: Queue,
    moves: Option<Arc<dyn Moves>>,
    to_job: Arc<ToJob>,
}

/// The id and the claim of an entry, and the job that takes its place.
type Again = (EntryId, FencingToken, NewJob);

type ToJob = dyn Fn(&Entry) -> Result<NewJob, NotSendable> + Send + Sync;

impl<M, R> RedriveBuilder<M, R> {
    /// Builds a re-drive that puts entries back into `queue`, where workers do the rest. `to_job` makes the job of an
    /// entry: [`NewJob::of_entry`], or a function that adds what the entry lacks.
    ///
    /// The job has new attempts, and keeps its task id: a task that failed is [queued again](NewJob::requeue), so that
    /// its status becomes that of the new attempts. The claim counts a [replay](About::replays). An entry is *accepted*
    /// when its job is in the queue. If the queue and the store are [in one database](super::Engine::moves), the job is
    /// added and the entry removed in one transaction, unless another has claimed the entry meanwhile. Otherwise the entry
    /// is removed after the job was added: if the process dies in between, the entry is there until it is requeued once
    /// more, which adds nothing if the job waits, runs, has succeeded, or was cancelled by somebody. While the queue is
    /// full or away, entries are refused, and stay unchanged. An entry whose deduplication key is that of another task by
    /// now fails, and stays too.
    ///
    /// A classifier or a [`Resend`] that was set before has no effect.
    ///
    /// # Errors
    ///
    /// As with [`build`](RedriveBuilder::build).
    ///
    /// # Examples
    ///
    /// ```
    /// # tokio_test::block_on(async {
    /// use std::{sync::Arc, time::SystemTime};
    /// use tower_webhook::{
    ///     dead_letter::{
    ///         Cause, Entry, EntryBody, EntryId, Filter, MemoryDeadLetters, Reason, Sink, redrive::Redrive,
    ///     },
    ///     queue::{MemoryQueue, NewJob, Queue},
    /// };
    ///
    /// let (store, queue) = (Arc::new(MemoryDeadLetters::default()), Queue::new(MemoryQueue::default()));
    /// // As a worker writes it.
    /// let cause = Cause::new(Reason::RetriesExhausted);
    /// let mut entry = Entry::new(EntryId::random(), "send-invoice", "mail", cause, SystemTime::now());
    /// entry.task_id = Some(entry.id);
    /// entry.body = EntryBody::new(&r#"{"id":7}"#.into(), 1024);
    /// store.write(&Arc::new(entry)).await?;
    ///
    /// let requeue = Redrive::builder(store).rate(50.0).requeue(queue.clone(), NewJob::of_entry)?;
    /// let report = requeue.many(Filter::all().target("mail"), "anna, ticket 4711").await?;
    /// assert_eq!((report.matched, report.accepted), (1, 1));
    /// assert_eq!(queue.depth().await?.queued, 1);
    ///
    /// let report = requeue.many(Filter::all().target("nobody"), "anna, ticket 4711").await?;
    /// assert_eq!((report.matched, report.done()), (0, 0));
    /// # Ok::<_, tower_webhook::BoxError>(())
    /// # }).unwrap();
    /// ```
    pub fn requeue(
        self,
        queue: Queue,
        to_job: impl Fn(&Entry) -> Result<NewJob, NotSendable> + Send + Sync + 'static,
    ) -> Result<Requeue, InvalidConfig> {
        let sink: &dyn Sink = &**self.store();
        let moves = queue.engine().moves(sink).map(Arc::from);
        let to_queue = ToQueue {
            queue,
            moves,
            to_job: Arc::new(to_job),
        };
        self.classifier(to_queue.clone())
            .resend(to_queue.clone())
            .build(to_queue)
    }
}

impl NewJob {
    /// Makes the job of a dead-letter entry, to queue it again. An entry of a job has its task id, kind, target,
    /// deduplication key and FIFO group, and the facts that it is about; an entry of an HTTP request that was no job is
    /// a job of kind [`NewJob::HTTP`] with the id of the entry.
    ///
    /// # Errors
    ///
    /// [`NotSendable`]: the entry lacks a part of the job. Its body was cut, or credentials were
    /// [left out](Entry::credentials_left_out), or it is neither of a job nor of an HTTP request.
    pub fn of_entry(entry: &Entry) -> Result<Self, NotSendable> {
        if entry.credentials_left_out > 0 {
            let left_out = entry.credentials_left_out;
            let reason = format!("{left_out} of its credentials were not kept");
            return Err(NotSendable::Because(reason));
        }
        let mut job = if entry.kind == Self::HTTP {
            Self::http(HttpRequests::request_of(entry)?)
        } else if entry.task_id.is_none() {
            return Err(NotSendable::Missing { part: "task" });
        } else if entry.body.is_truncated() {
            return Err(NotSendable::BodyTruncated {
                kept: u64::try_from(entry.body.bytes().len()).unwrap_or(u64::MAX),
                length: entry.body.length(),
            });
        } else {
            Self::new(&entry.kind, entry.body.bytes().clone())
        };
        job.id = TaskId::from_bytes(*entry.task_id.unwrap_or(entry.id).as_bytes());
        job.target.clone_from(&entry.target);
        job.fifo_group.clone_from(&entry.fifo_group);
        let key = entry.dedup_key.as_deref().map(IdempotencyKey::from_text);
        let part = "deduplication key";
        job.dedup_key = key
            .transpose()
            .map_err(|_| NotSendable::Malformed { part })?;
        job.about = About {
            event_id: entry.event_id.clone(),
            event_time: entry.event_time,
            idempotency_key: entry.idempotency_key.clone(),
            // An operator has it sent anew.
            hops: None,
            replay_of: entry.replay_of.clone(),
            replays: entry.replays,
            trace_id: entry.trace_id.clone(),
            entry_id: Some(EntryId::random()),
        };
        Ok(job)
    }
}

impl Resend for ToQueue {
    type Request = Again;

    fn to_request(&self, entry: &Entry, token: FencingToken) -> Result<Again, NotSendable> {
        let mut job = (self.to_job)(entry)?;
        job.requeue = true;
        job.about.replays = entry.replays;
        job.about.entry_id = Some(EntryId::random());
        Ok((entry.id, token, job))
    }
}

impl DescribeResponse<Enqueued> for ToQueue {}

impl Service<Again> for ToQueue {
    type Response = Enqueued;
    type Error = BoxError;
    type Future = BoxFuture<Result<Enqueued, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (entry, token, job): Again) -> Self::Future {
        let Some(moves) = &self.moves else {
            let (queue, id) = (self.queue.clone(), job.id);
            return Box::pin(async move { Ok(queue.enqueue(job).await?.as_task(id)?) });
        };
        let moving = moves.requeue(entry, token, job);
        Box::pin(async move { moving.await?.ok_or_else(|| "the claim is lost".into()) })
    }
}

impl MakeClassifier<Again> for ToQueue {
    type Classifier = Self;

    fn make_classifier(&self, _: &Again) -> Self {
        self.clone()
    }
}

/// A queue that is full or away refuses an entry, which stays as it is. Only a job that it can never take fails.
impl Classify<Enqueued, BoxError> for ToQueue {
    fn classify(self, result: Result<&Enqueued, &BoxError>) -> Outcome {
        let Err(error) = result else {
            return Outcome::success();
        };
        match error.downcast_ref().map(StoreError::kind) {
            Some(StoreErrorKind::Rejected | StoreErrorKind::TooLarge) => Outcome::permanent(),
            // Or the claim is lost, as its release tells.
            _ => Outcome::refused(None),
        }
    }
}

impl fmt::Debug for ToQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToQueue")
            .field("queue", &self.queue)
            .field("is_one_database", &self.moves.is_some())
            .finish_non_exhaustive()
    }
}
