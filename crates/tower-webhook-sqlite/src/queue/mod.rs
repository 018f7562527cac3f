//! An engine that keeps jobs in an SQLite file, where they survive restarts.
//!
//! ```
//! use std::time::Duration;
//! use tower_webhook::{
//!     lease::Settled,
//!     queue::{Ask, End, Engine, NewJob, Queue, Status},
//! };
//! use tower_webhook_sqlite::SqliteQueue;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_webhook::BoxError> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("queue.db");
//! let engine = SqliteQueue::open(path)?;
//! let queue = Queue::new(engine.clone());
//! let id = queue.enqueue(NewJob::new("event", "{}")).await?.id; // on the disk
//!
//! let claims = engine.claim(Ask::new(1, Duration::from_secs(30))).await?;
//! let job = &claims.jobs[0];
//! assert_eq!((job.id, job.attempt, &job.payload[..]), (id, 1, &b"{}"[..]));
//!
//! let done = End::Done { result: Some("ok".into()) };
//! assert_eq!(engine.settle(vec![(job.claim(), done)]).await?, [Settled::Done]);
//!
//! let task = queue.task(id).await?.expect("kept for a week");
//! assert_eq!(task.status, Status::Succeeded { result: Some("ok".into()) });
//! # Ok(())
//! # }
//! ```
//!
//! # In your own transaction
//!
//! With [`enqueue_in`](SqliteQueue::enqueue_in), an application writes its own rows and enqueues a job in one
//! transaction: both take effect, or neither. With [`settle_in`](SqliteQueue::settle_in), a handler writes
//! its rows and ends its job in one transaction: its effect on this database happens exactly once, though the
//! handler may run twice.
//!
//! ```
//! # use std::time::Duration;
//! # use tower_webhook::{lease::Settled, queue::{Ask, End, Engine, NewJob}};
//! # use tower_webhook_sqlite::{SqliteQueue, database::{Database, DatabaseError, Statement}};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_webhook::BoxError> {
//! # let dir = tempfile::tempdir()?;
//! # let database = Database::open(dir.path().join("app.db"))?;
//! database.migrate("shop", &["CREATE TABLE orders (id TEXT PRIMARY KEY, paid INTEGER) STRICT"])?;
//! let queue = SqliteQueue::new(&database)?;
//!
//! let accept = queue.clone();
//! let accepted = database.write(move |transaction| {
//!     transaction.execute(&Statement::new("INSERT INTO orders VALUES (?1, 0)").bind("order-1"))?;
//!     accept.enqueue_in(transaction, &NewJob::new("paid", "order-1"))
//! });
//! accepted.await?;
//!
//! let claims = queue.claim(Ask::new(1, Duration::from_secs(30))).await?;
//! let claim = claims.jobs[0].claim();
//! let finish = queue.clone();
//! let finished = database.write(move |transaction| {
//!     transaction.execute(&Statement::new("UPDATE orders SET paid = 1 WHERE id = ?1").bind("order-1"))?;
//!     match finish.settle_in(transaction, claim, End::Done { result: None })? {
//!         Settled::Done => Ok(()),
//!         // Another worker has the job: undo what was written above.
//!         Settled::Lost => Err(DatabaseError::aborted("the claim is lost")),
//!     }
//! });
//! finished.await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Dead letters in the same database
//!
//! If a worker's dead letters are a [`SqliteDeadLetters`](crate::SqliteDeadLetters) on a clone of the queue's
//! [`Database`], a job fails and its entry is written in one transaction, and a
//! [requeue](tower_webhook::dead_letter::redrive::RedriveBuilder::requeue) adds the job and removes the entry in one.
//!
//! # Durability
//!
//! Enqueuing, and settling as done, failed, dead-lettered or to be retried, are on the disk before the
//! answer. A claim, a renewal and a release survive the death of the process, but the last ones may be
//! lost when the machine loses its power. Then the job is as it was before and runs again, as it would
//! have when the lease ended; the lost attempt is counted only with
//! [`durable_claims`](SqliteQueueBuilder::durable_claims). Tokens grow in any case.
//!
//! # Several processes
//!
//! Any number of processes may share a file on a local file system. A worker that [waits](Engine::wait) is
//! woken at once by its own process, and within 50 ms by another one: while a worker waits, the file is
//! checked every 20 ms, which takes a few microseconds. A file has one queue: for two queues, open two files.
//!
//! When a process is gone, its claims end before their leases do: for a process that opens the file at once, and
//! for those that have it open within about a second. Their attempts count. This rests on a
//! [lock](crate::database#guarantees) that the system releases; where there is none, leases decide.
//!
//! # Time
//!
//! Due times, leases and retention end by the wall clock, because processes share the file and
//! restarts do not end them. The queue's time never goes back: if the wall clock does, the next
//! operation stores by how much. From then on no lease takes longer than it was granted. A wait or a
//! retention may take longer by the time that passed since the queue last stored its time, which is at
//! most a second while jobs are enqueued, claimed or settled that often.
//!
//! If the clock leaps ahead by more than a second, leases do not end: the file's writers see by the monotonic clock
//! that the time has not passed, and have each lease end as much later, so that no job runs twice. A process that
//! opens the file sees no leap before; it has those leases go on whose processes hold their lock, if they were not
//! over when the queue last stored its time. Due times and retention do come early. The
//! [age](tower_webhook::queue::Job::age) of a job, by which its retries end, leaves out what leapt while this process
//! had the file open. The time of a machine that sleeps counts as a leap.
//!
//! # Order and speed
//!
//! Jobs are claimed in the order in which they are due, and oldest first if due in the same
//! millisecond. Every operation finds its rows by an index, whatever the backlog and the history. A
//! claim skips the targets that have no room, one row each; there are no more of them than running
//! jobs. One claim takes at most 4096 jobs, and ends after the job with which the payloads exceed
//! 64 MiB.
//!
//! # Bounds
//!
//! - Jobs that are queued or running: [`max_jobs`](SqliteQueueBuilder::max_jobs). As many again may have failed and
//!   wait for their dead letters, so that a dead-letter sink that is away takes no room of new jobs. Beyond either, or
//!   on a full disk, enqueuing fails as [`Full`](StoreErrorKind::Full).
//! - Finished tasks: [`max_finished`](SqliteQueueBuilder::max_finished). Beyond it, those whose
//!   retention ends first are removed early: their status is unknown then, their deduplication keys are
//!   not. A payload is removed when its job is finished, the rest after the retention, a few rows at a
//!   time, while the queue works and while it is idle.
//! - Deduplication keys: [`max_keys`](SqliteQueueBuilder::max_keys). A key is known until the retention of
//!   its task is over. Beyond the bound, a job with a new key is refused as [`Full`](StoreErrorKind::Full),
//!   and the [observers](crate::database::DatabaseBuilder::observe) of the database are told.
//! - Operations that wait: [`max_waiting`](crate::database::DatabaseBuilder::max_waiting).
//! - A kind, a target or a FIFO group: [`NewJob::LONGEST_NAME`] bytes. [`NewJob::about`]: 64 KiB.
//!
//! # Errors
//!
//! | What | [`StoreErrorKind`] |
//! | --- | --- |
//! | too many jobs, too many operations are waiting, disk full | `Full` |
//! | another process held the file for longer than the busy timeout | `Timeout` |
//! | a payload, a result, a name or `about` is too long | `TooLarge` |
//! | the file is damaged, or a row is invalid | `Corrupt` |
//! | the database was closed | `Closed` |
//! | everything else: file gone or read-only, a write that failed | `Unavailable` |
//!
//! None of these is final: the queue works again as soon as the file allows it. An operation that
//! failed changed nothing, except after `Unavailable`, when this is unknown: enqueue the same
//! [`NewJob`] again; its id shows whether it is a repetition.
//!
//! # Other releases
//!
//! The tables of an older release are migrated when the file is opened. Tables of a newer release are
//! refused as [`OpenError::NewerSchema`].
//!
//! The `about`, the history and the cause of a job have a version of their own, that of the
//! [codec](tower_webhook::codec). If a newer release wrote one of them with a newer version, the job is
//! left to that release: a claim does not take it, counts no attempt, changes only its due time, to a
//! minute later, and tells [observers](crate::database::DatabaseBuilder::observe). The
//! jobs behind it in its FIFO group wait.
//!
//! If one of them is damaged, or another part of a row, the job goes on with what can be read, so that it is neither
//! lost nor claimed for ever: it runs with an empty `about` or history, or without its key, and the attempt counts. A
//! failed job with a damaged cause is dead-lettered as
//! [`NotRetryable`](tower_webhook::dead_letter::Reason::NotRetryable). A job whose id cannot be read waits as that of a
//! newer release does, and is told of with the number of its row. One whose kind is no text is listed, and not
//! claimed. No such row keeps others from being claimed.
//!
//! # Cancel safety
//!
//! Every operation is queued by the call that makes its future, and done even if the future is
//! dropped. A claim whose future is dropped before it returned its jobs releases them at once, and
//! their attempts do not count.

mod builder;
mod claim;
mod enqueue;
mod failed;
mod jobs;
pub(crate) mod keys;
mod ledger;
mod moves;
mod schema;
mod settle;
mod time;
mod wait;

pub use self::builder::SqliteQueueBuilder;

use crate::database::{
    Database, DatabaseError, DatabaseErrorKind, Durability, OpenError, Reply, Transaction,
};
use bytes::Bytes;
use rusqlite::Connection;
use std::{path::Path, sync::Arc, time::Duration};
use tower_webhook::{
    BoxFuture, StoreError, StoreErrorKind,
    dead_letter::Sink,
    idempotency::IdempotencyKey,
    lease::Settled,
    observe::Observers,
    queue::{
        Ask, Claim, Claims, Depth, End, Engine, Enqueued, Jobs, Mark, Moves, NewJob, Promises,
        Task, TaskId, Tasks,
    },
};

/// Keeps jobs in an SQLite file. Clones share it, and so do processes.
///
/// See the [module docs](self).
#[derive(Clone, Debug)]
pub struct SqliteQueue {
    database: Database,
    limits: Arc<Limits>,
}

#[derive(Debug)]
struct Limits {
    max_finished: i64,
    max_jobs: i64,
    max_keys: i64,
    max_payload: usize,
    max_result: usize,
    claims: Durability,
    observers: Observers,
    rules: Rules,
}

/// What belongs to the queue and not to who claims.
#[derive(Clone, Copy, Debug)]
struct Rules {
    attempts: u32,
    /// `u32::MAX`: no limit.
    per_target: u32,
    retention: Duration,
}

impl Limits {
    fn promises(&self) -> Promises {
        let rules = self.rules;
        let mut promises = Promises::default();
        promises.dedup = Some(rules.retention);
        promises.due_order = true;
        promises.fifo_groups = true;
        promises.per_target = (rules.per_target < u32::MAX).then_some(rules.per_target);
        promises.longest_delay = Duration::from_millis(crate::stored::LONGEST.unsigned_abs());
        promises.attempts = rules.attempts;
        promises.max_result = self.max_result;
        promises
    }
}

impl SqliteQueue {
    /// A queue with the default settings in an open database. See [`SqliteQueueBuilder::build`].
    ///
    /// # Errors
    ///
    /// The errors of [`SqliteQueueBuilder::build`].
    pub fn new(database: &Database) -> Result<Self, OpenError> {
        Self::builder().build(database)
    }

    /// Opens the file at `path` with the default settings, and a queue in it.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says why and what to do.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::builder().open(path)
    }

    /// A builder with the default settings.
    pub fn builder() -> SqliteQueueBuilder {
        SqliteQueueBuilder::default()
    }

    /// The database that the queue is in.
    pub const fn database(&self) -> &Database {
        &self.database
    }

    /// Enqueues a job within a transaction of the queue's [database](Self::database). Workers are woken
    /// when it is committed.
    ///
    /// # Errors
    ///
    /// [`DatabaseErrorKind::Full`] if there are too many jobs, and
    /// [`DatabaseErrorKind::Invalid`] if the job is too large or is to wait too long; nothing was changed, and the
    /// [source](std::error::Error::source) is the [`StoreError`]. Also the errors of the file.
    pub fn enqueue_in(
        &self,
        transaction: &Transaction<'_>,
        job: &NewJob,
    ) -> Result<Enqueued, DatabaseError> {
        enqueue::enqueue(transaction, self.database.clock(), &self.limits, job)
            .map_err(DatabaseError::from_driver)?
            .map_err(refused)
    }

    /// Ends a claim within a transaction of the queue's [database](Self::database). If it returns
    /// [`Settled::Lost`], the claim had ended and another worker may have the job: return an error, so
    /// that what the transaction did before is undone.
    ///
    /// # Errors
    ///
    /// [`DatabaseErrorKind::Invalid`] if the result is too large, with the [`StoreError`] as its
    /// source, and the errors of the file.
    pub fn settle_in(
        &self,
        transaction: &Transaction<'_>,
        claim: Claim,
        end: End,
    ) -> Result<Settled, DatabaseError> {
        let settled = self.settle_all_in(transaction, &[(claim, end)])?;
        Ok(settled.first().copied().unwrap_or(Settled::Lost))
    }

    fn settle_all_in(
        &self,
        transaction: &Transaction<'_>,
        ends: &[(Claim, End)],
    ) -> Result<Vec<Settled>, DatabaseError> {
        let fits = |end: &End| match end {
            End::Done {
                result: Some(result),
            } => result.len() <= self.limits.max_result,
            _ => true,
        };
        if !ends.iter().all(|(_, end)| fits(end)) {
            return Err(refused(StoreError::new(StoreErrorKind::TooLarge)));
        }
        settle::settle(transaction, ends, self.limits.rules.retention)
            .map_err(DatabaseError::from_driver)
    }

    fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> BoxFuture<Result<T, StoreError>> {
        answered(self.database.read(move |transaction| {
            look(transaction.connection()).map_err(DatabaseError::from_driver)
        }))
    }

    fn look_for(
        &self,
        find: impl FnOnce(&Connection) -> rusqlite::Result<Option<enqueue::Known>> + Send + 'static,
    ) -> BoxFuture<Result<Option<Task>, StoreError>> {
        let clock = self.database.clock().clone();
        self.read(move |connection| {
            let (_, now) = wait::changes(connection, &clock)?;
            Ok(find(connection)?.and_then(|known| known.into_task(now)))
        })
    }
}

impl Engine for SqliteQueue {
    fn promises(&self) -> Promises {
        self.limits.promises()
    }

    fn enqueue(
        &self,
        jobs: Vec<NewJob>,
    ) -> BoxFuture<Result<Vec<Result<Enqueued, StoreError>>, StoreError>> {
        let (clock, limits) = (self.database.clock().clone(), self.limits.clone());
        let reply = self.database.write(move |transaction| {
            jobs.iter()
                .map(|job| enqueue::enqueue(transaction, &clock, &limits, job))
                .collect::<rusqlite::Result<Vec<_>>>()
                .map_err(DatabaseError::from_driver)
        });
        Box::pin(async {
            let admitted = reply.await?.into_iter();
            Ok(admitted.collect())
        })
    }

    fn claim(&self, ask: Ask) -> BoxFuture<Result<Claims, StoreError>> {
        claim::ask(&self.database, ask, self.limits.rules, self.limits.claims)
    }

    fn renew(
        &self,
        claims: Vec<Claim>,
        lease: Duration,
    ) -> BoxFuture<Result<Vec<Settled>, StoreError>> {
        answered(self.database.write_relaxed(move |transaction| {
            settle::renew(transaction, &claims, lease).map_err(DatabaseError::from_driver)
        }))
    }

    fn settle(&self, ends: Vec<(Claim, End)>) -> BoxFuture<Result<Vec<Settled>, StoreError>> {
        let queue = self.clone();
        let relaxed = ends
            .iter()
            .all(|(_, end)| matches!(end, End::Release { .. }));
        let work = move |transaction: &Transaction<'_>| queue.settle_all_in(transaction, &ends);
        answered(if relaxed {
            self.database.write_relaxed(work)
        } else {
            self.database.write(work)
        })
    }

    fn wait(&self, seen: Mark, at_most: Duration) -> BoxFuture<()> {
        Box::pin(wait::wait(self.database.clone(), seen, at_most))
    }

    fn tasks(&self) -> Option<&dyn Tasks> {
        Some(self)
    }

    fn jobs(&self) -> Option<&dyn Jobs> {
        Some(self)
    }

    fn moves(&self, sink: &dyn Sink) -> Option<Box<dyn Moves>> {
        moves::between(self, sink)
    }
}

impl Tasks for SqliteQueue {
    fn task(&self, id: TaskId) -> BoxFuture<Result<Option<Task>, StoreError>> {
        self.look_for(move |connection| enqueue::get(connection, id))
    }

    fn find(&self, key: IdempotencyKey) -> BoxFuture<Result<Option<Task>, StoreError>> {
        self.look_for(move |connection| enqueue::find(connection, &key))
    }

    fn resolve(&self, id: TaskId, result: Option<Bytes>) -> BoxFuture<Result<bool, StoreError>> {
        if result.as_ref().map_or(0, Bytes::len) > self.limits.max_result {
            return Box::pin(async { Err(StoreError::new(StoreErrorKind::TooLarge)) });
        }
        let retention = self.limits.rules.retention;
        answered(self.database.write(move |transaction| {
            failed::resolve(transaction, id, result.as_deref(), retention)
                .map_err(DatabaseError::from_driver)
        }))
    }

    fn depth(&self) -> BoxFuture<Result<Depth, StoreError>> {
        let clock = self.database.clock().clone();
        self.read(move |connection| {
            let (_, now) = wait::changes(connection, &clock)?;
            enqueue::depth(connection, now)
        })
    }
}

/// A refusal as the error of a transaction.
fn refused(error: StoreError) -> DatabaseError {
    let told = match error.kind() {
        StoreErrorKind::Full => DatabaseErrorKind::Full,
        _ => DatabaseErrorKind::Invalid,
    };
    DatabaseError::caused(told, error)
}

fn answered<T: Send + 'static>(reply: Reply<T>) -> BoxFuture<Result<T, StoreError>> {
    Box::pin(async { Ok(reply.await?) })
}

/// The error of a queue whose database failed. If the source is a [`StoreError`], as with
/// [`SqliteQueue::enqueue_in`], its kind is kept.
impl From<DatabaseError> for StoreError {
    fn from(error: DatabaseError) -> Self {
        let refusal = std::error::Error::source(&error).and_then(|source| source.downcast_ref());
        let kind = match (refusal.map(Self::kind), error.kind()) {
            (Some(kind), _) => kind,
            (None, DatabaseErrorKind::Busy) => StoreErrorKind::Timeout,
            (None, DatabaseErrorKind::Closed) => StoreErrorKind::Closed,
            // The tables are strict: a value of another type, or out of its range, was put there by
            // somebody else.
            (None, DatabaseErrorKind::Corrupt | DatabaseErrorKind::Mistyped) => {
                StoreErrorKind::Corrupt
            }
            (None, DatabaseErrorKind::DiskFull | DatabaseErrorKind::Full) => StoreErrorKind::Full,
            (None, _) => StoreErrorKind::Unavailable,
        };
        Self::new(kind).caused_by(error)
    }
}
