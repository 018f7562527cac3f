//! The SQLite engine: jobs that outlive the process, in one file.
//!
//! ```
//! use std::time::Duration;
//! use tower_webhook::{
//!     lease::Settled,
//!     queue::{Engine, NewJob, Status, Terms, Verdict},
//! };
//! use tower_webhook_sqlite::SqliteQueue;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_webhook::BoxError> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("queue.db");
//! let queue = SqliteQueue::open(path)?;
//! let id = queue.enqueue(NewJob::new("event", "{}")).await?.id; // on the disk
//!
//! let claims = queue.claim(Terms::new(1, Duration::from_secs(30))).await?;
//! let job = &claims.jobs[0];
//! assert_eq!((job.id, job.attempt, &job.payload[..]), (id, 1, &b"{}"[..]));
//!
//! let retention = Duration::from_secs(7 * 86_400);
//! let done = Verdict::Done { result: Some("ok".into()), retention };
//! assert_eq!(queue.settle(id, job.token, done).await?, Settled::Done);
//!
//! let task = queue.task(id).await?.expect("kept for a week");
//! assert_eq!(task.status, Status::Succeeded { result: Some("ok".into()) });
//! # Ok(())
//! # }
//! ```
//!
//! # In your own transaction
//!
//! What an application writes, and the job that is to follow from it, are one transaction with
//! [`enqueue_in`](SqliteQueue::enqueue_in): both are there, or neither. At the other end, what a
//! handler writes and the end of its job are one with [`settle_in`](SqliteQueue::settle_in): the
//! effect in this database is had exactly once, though the handler may run twice.
//!
//! ```
//! # use std::time::Duration;
//! # use tower_webhook::{lease::Settled, queue::{Engine, NewJob, Terms, Verdict}};
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
//! let claims = queue.claim(Terms::new(1, Duration::from_secs(30))).await?;
//! let (id, token) = (claims.jobs[0].id, claims.jobs[0].token);
//! let finish = queue.clone();
//! let finished = database.write(move |transaction| {
//!     transaction.execute(&Statement::new("UPDATE orders SET paid = 1 WHERE id = ?1").bind("order-1"))?;
//!     let done = Verdict::Done { result: None, retention: Duration::from_secs(3600) };
//!     match finish.settle_in(transaction, id, token, &done)? {
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
//! # Durability
//!
//! What was enqueued, done, dead-lettered or given a next attempt is on the disk before the answer. A
//! claim, its renewal and a job that is handed back survive the death of the process; when the
//! machine loses its power the last of them may be forgotten, and the job is as it was before: it
//! runs again, as it would have when the lease ended. Then that attempt is not counted, unless
//! [`durable_claims`](SqliteQueueBuilder::durable_claims) says so. Tokens grow all the same.
//!
//! # Several processes
//!
//! Any number of processes may work on one file on a local file system. Who
//! [waits](Engine::wait) is woken at once by its own process, and by another within 50 ms: while
//! somebody waits, the file is looked at every 20 ms, for some microseconds. One queue to a file:
//! whoever needs two opens two files.
//!
//! # Time
//!
//! Due times, leases and times to live end by the wall clock, because processes share the file and
//! restarts do not end them. The queue's time never goes back: when the wall clock does, whoever
//! looks next writes down how far, and no lease takes longer than it was granted from then on; a wait
//! or a time to live may take longer by what passed unseen before: by a second, while somebody
//! claims, puts in or settles that often. When the clock leaps ahead, leases and waits end early.
//!
//! # Order and speed
//!
//! Jobs are claimed due first first, and of those due at the same millisecond oldest first. Every
//! operation finds its rows by an index, whatever waits and whatever was done. Claims pass over
//! targets that have no room: as many rows as there are such targets, of which there are no more
//! than jobs that run. One claim takes no more than 4096 jobs, and no more than the first that
//! passes 64 MiB of payloads.
//!
//! # Bounds
//!
//! [`max_jobs`](SqliteQueueBuilder::max_jobs) unfinished ones; beyond that, and when the disk is
//! full, [`Full`](StoreErrorKind::Full). A payload leaves when its job is finished, the rest after
//! its time to live, in small pieces, while the queue works and when it is idle; and before that when
//! more than [`max_finished`](SqliteQueueBuilder::max_finished) are kept, those first whose time would
//! end first. Operations that
//! wait are bounded by [`max_waiting`](crate::database::DatabaseBuilder::max_waiting). A kind,
//! target or order key may have 4096 bytes, and what the entry would tell 64 KiB.
//!
//! # Errors
//!
//! | What | [`StoreErrorKind`] |
//! | --- | --- |
//! | too many unfinished jobs, too many operations are waiting, disk full | `Full` |
//! | another process held the file for longer than the busy timeout | `Timeout` |
//! | a payload, a result, a name or what the entry would tell is too long | `TooLarge` |
//! | the file is damaged, or a row makes no sense | `Corrupt` |
//! | the database was closed | `Closed` |
//! | everything else: file gone or read-only, a write that failed | `Unavailable` |
//!
//! After any of these the queue goes on as soon as the file allows it. What was answered with an
//! error was not done, but for `Unavailable`, after which it may have been: enqueue the same
//! [`NewJob`] again, whose id tells a repetition.
//!
//! # Other releases
//!
//! A file that an older release made gets the tables of this one when it is opened; one whose tables
//! are those of a newer release is refused as [`OpenError::NewerSchema`].
//!
//! What a job is about, its history and its cause have a version of their own, that of the
//! [codec](tower_webhook::codec). A job of which a newer release wrote one of these with a newer version
//! is left to it: a claim does not take the job, does not count an attempt and changes nothing of it
//! but when it is due, which is a minute later, and observers are told of it as
//! [`Event::Trouble`](tower_webhook::observe::Event::Trouble). The jobs behind it in its FIFO group wait.
//!
//! Where one of these is damaged, the job goes on with what can be read, so that it neither gets lost
//! nor holds up the queue: it is claimed, its attempt counts, and what cannot be read is empty. A
//! failed job without a cause that can be read is dead-lettered as
//! [`NotRetryable`](tower_webhook::dead_letter::Reason::NotRetryable).
//!
//! # Cancel safety
//!
//! Every operation is handed over when it is called, and done whether or not somebody waits for
//! it. A claim whose future is dropped before it gave its jobs away gives them back at once, with
//! their attempt not counted.

mod builder;
mod claim;
mod enqueue;
mod ledger;
mod schema;
mod settle;
mod time;
mod wait;

pub use self::builder::SqliteQueueBuilder;

use self::wait::Seen;
use crate::database::{
    Database, DatabaseError, DatabaseErrorKind, Durability, OpenError, Reply, Transaction,
};
use rusqlite::Connection;
use std::{path::Path, sync::Arc, time::Duration};
use tower_webhook::queue::{Claims, Depth, Engine, Enqueued, NewJob, Task, TaskId, Terms, Verdict};
use tower_webhook::{
    BoxFuture, StoreError, StoreErrorKind,
    idempotency::IdempotencyKey,
    lease::{FencingToken, Settled},
};

/// Keeps jobs in an SQLite file. Clones share it, and so do processes.
///
/// See the [module docs](self).
#[derive(Clone, Debug)]
pub struct SqliteQueue {
    database: Database,
    limits: Arc<Limits>,
    seen: Seen,
}

#[derive(Debug)]
struct Limits {
    max_finished: i64,
    max_jobs: i64,
    max_payload: usize,
    max_result: usize,
    claims: Durability,
}

impl SqliteQueue {
    /// The queue in a database that is already open, with the default settings. See
    /// [`SqliteQueueBuilder::build`].
    ///
    /// # Errors
    ///
    /// As [`SqliteQueueBuilder::build`].
    pub fn new(database: &Database) -> Result<Self, OpenError> {
        Self::builder().build(database)
    }

    /// Opens the file at `path`, and the queue in it, with the default settings.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says why and what to do.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::builder().open(path)
    }

    /// Settings, all with defaults.
    pub fn builder() -> SqliteQueueBuilder {
        SqliteQueueBuilder::default()
    }

    /// The database that the queue is in.
    pub const fn database(&self) -> &Database {
        &self.database
    }

    /// Puts a job in, as part of a transaction of the queue's own [database](Self::database).
    /// Workers are woken when it is committed.
    ///
    /// # Errors
    ///
    /// [`DatabaseErrorKind::Full`] when there are too many unfinished jobs, and
    /// [`DatabaseErrorKind::Invalid`] when the job is too large; nothing is changed by then, and
    /// the [source](std::error::Error::source) is the [`StoreError`]. What can befall a file.
    pub fn enqueue_in(
        &self,
        transaction: &Transaction<'_>,
        job: &NewJob,
    ) -> Result<Enqueued, DatabaseError> {
        enqueue::enqueue(transaction, self.database.clock(), &self.limits, job)
            .map_err(DatabaseError::from_driver)?
            .map_err(refused)
    }

    /// Ends a claim, as part of a transaction of the queue's own [database](Self::database). When
    /// it gives [`Settled::Lost`], another worker has the job or had it: return an error, so that
    /// what the transaction did before is undone.
    ///
    /// # Errors
    ///
    /// [`DatabaseErrorKind::Invalid`] when a result is larger than it may be, with the
    /// [`StoreError`] as its source, and what can befall a file.
    pub fn settle_in(
        &self,
        transaction: &Transaction<'_>,
        id: TaskId,
        token: FencingToken,
        verdict: &Verdict,
    ) -> Result<Settled, DatabaseError> {
        if !self.takes(verdict) {
            return Err(refused(StoreErrorKind::TooLarge));
        }
        settle::settle(transaction, self.database.clock(), id, token, verdict)
            .map_err(DatabaseError::from_driver)
    }

    fn takes(&self, verdict: &Verdict) -> bool {
        match verdict {
            Verdict::Done {
                result: Some(result),
                ..
            } => result.len() <= self.limits.max_result,
            _ => true,
        }
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
    fn enqueue(&self, job: NewJob) -> BoxFuture<Result<Enqueued, StoreError>> {
        let (clock, limits) = (self.database.clock().clone(), self.limits.clone());
        let reply = self.database.write(move |transaction| {
            enqueue::enqueue(transaction, &clock, &limits, &job).map_err(DatabaseError::from_driver)
        });
        Box::pin(async { reply.await?.map_err(StoreError::new) })
    }

    fn claim(&self, terms: Terms) -> BoxFuture<Result<Claims, StoreError>> {
        let (durability, seen) = (self.limits.claims, self.seen.clone());
        claim::ask(&self.database, terms, durability, seen)
    }

    fn renew(
        &self,
        claims: Vec<(TaskId, FencingToken)>,
        lease: Duration,
    ) -> BoxFuture<Result<Vec<Settled>, StoreError>> {
        let clock = self.database.clock().clone();
        answered(self.database.write_relaxed(move |transaction| {
            settle::renew(transaction, &clock, &claims, lease).map_err(DatabaseError::from_driver)
        }))
    }

    fn settle(
        &self,
        id: TaskId,
        token: FencingToken,
        verdict: Verdict,
    ) -> BoxFuture<Result<Settled, StoreError>> {
        if !self.takes(&verdict) {
            let too_large = StoreError::new(StoreErrorKind::TooLarge);
            return Box::pin(std::future::ready(Err(too_large)));
        }
        let queue = self.clone();
        let relaxed = matches!(verdict, Verdict::Release { .. });
        let work =
            move |transaction: &Transaction<'_>| queue.settle_in(transaction, id, token, &verdict);
        answered(if relaxed {
            self.database.write_relaxed(work)
        } else {
            self.database.write(work)
        })
    }

    fn task(&self, id: TaskId) -> BoxFuture<Result<Option<Task>, StoreError>> {
        self.look_for(move |connection| enqueue::get(connection, id))
    }

    fn find(&self, key: IdempotencyKey) -> BoxFuture<Result<Option<Task>, StoreError>> {
        self.look_for(move |connection| enqueue::find(connection, &key))
    }

    fn depth(&self) -> BoxFuture<Result<Depth, StoreError>> {
        let clock = self.database.clock().clone();
        self.read(move |connection| {
            let (_, now) = wait::changes(connection, &clock)?;
            enqueue::depth(connection, now)
        })
    }

    fn wait(&self, at_most: Duration) -> BoxFuture<()> {
        Box::pin(wait::wait(
            self.database.clone(),
            self.seen.clone(),
            at_most,
        ))
    }
}

/// A refusal as the error of a transaction.
fn refused(kind: StoreErrorKind) -> DatabaseError {
    let told = match kind {
        StoreErrorKind::Full => DatabaseErrorKind::Full,
        _ => DatabaseErrorKind::Invalid,
    };
    DatabaseError::caused(told, StoreError::new(kind))
}

fn answered<T: Send + 'static>(reply: Reply<T>) -> BoxFuture<Result<T, StoreError>> {
    Box::pin(async { Ok(reply.await?) })
}

/// What trouble with the file means to a queue in it. An error of a transaction that the queue itself
/// refused, as [`SqliteQueue::enqueue_in`] does, has the kind of that refusal.
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
