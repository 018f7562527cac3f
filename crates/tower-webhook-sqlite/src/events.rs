//! Accepted events: each is stored once, with the job that processes it.
//!
//! For a service that answers the sender first and processes the event later. [`AcceptedEvents`] keeps each
//! event, so that an answered event is not lost, a repeat is recognised, and an operator can have an event
//! processed once more.
//!
//! ```
//! use tower_webhook::idempotency::IdempotencyKey;
//! use tower_webhook_sqlite::{AcceptedEvent, AcceptedEvents, Database, SqliteQueue};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_webhook::BoxError> {
//! # let dir = tempfile::tempdir()?;
//! let database = Database::open(dir.path().join("gateway.db"))?;
//! let queue = SqliteQueue::new(&database)?;
//! let events = AcceptedEvents::beside(&queue)?;
//!
//! // After a request was verified: stores the event and its job in one transaction.
//! let key = IdempotencyKey::new("/webhooks", "evt_1")?;
//! let event = AcceptedEvent::new(key, r#"{"eventId":"evt_1"}"#);
//! let first = events.accept(event.job("event")).await?; // on the disk: answer 200
//! assert!(!first.repeated);
//!
//! // The sender did not get the answer, and repeats the event.
//! let repeat = events.accept(event.job("event")).await?;
//! assert!(repeat.repeated);
//! assert_eq!(repeat.id, first.id);
//!
//! // An operator has it delivered once more.
//! let key = IdempotencyKey::new("/webhooks", "evt_1")?;
//! let event = events.find(&key).await?.expect("kept for 7 days");
//! events.accept_by(event.replay("event"), "replay", "evt_1").await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Beside the jobs, or apart from them
//!
//! [`beside`](AcceptedEvents::beside): events and jobs are in one file, and one transaction writes both.
//!
//! [`apart`](AcceptedEvents::apart): the jobs are elsewhere, in memory or on a server. The event is written
//! first, then its job is enqueued. Two more calls replace the missing transaction:
//! [`finished`](AcceptedEvents::finished) marks an event whose job has ended, and
//! [`take_up`](AcceptedEvents::take_up), called at each start, enqueues the events that are not marked. A
//! crash at any moment loses no event. An event that was not marked before the crash is processed once more,
//! unless the queue still knows its key.
//!
//! A file may change between the two modes from one start to the next, if `take_up` is called in both.
//!
//! # Durability
//!
//! [`accept`](AcceptedEvents::accept) and [`audit`](AcceptedEvents::audit) return when their rows are on the
//! disk. `finished` returns before its mark is written; if the process dies in between, `take_up` enqueues
//! the event again.
//!
//! # Bounds
//!
//! Finished events and audit records are removed after the [retention](AcceptedEventsBuilder::retention), 7
//! days by default, a few rows at a time. If the events take more than
//! [`max_bytes`](AcceptedEventsBuilder::max_bytes), the oldest are removed earlier: they can no longer be
//! found, and the observers are told, but their keys are kept. Events that are not finished are not removed;
//! the queue bounds how many there are. A repeat is recognised for the retention, even if the queue has
//! removed its task.
//!
//! # Errors
//!
//! [`StoreError`], with the kinds of [`SqliteQueue`](crate::queue#errors). If `accept` fails, the event is
//! not accepted. Exception: after `Unavailable` it may have been accepted; a sender that repeats it then gets
//! the task of the first delivery.
//!
//! # Cancel safety
//!
//! An operation that was queued in the database is done, even if its future is dropped. If the future of
//! `accept` is dropped, the event is accepted or not, and a repeat gets the right answer. With events apart
//! from the jobs, the drop may fall between the two writes; then a repeat, or the next `take_up`, enqueues
//! the job. If the future of `take_up` is dropped, the next `take_up` continues.

use crate::{
    SqliteQueue,
    database::{
        Chore, Database, DatabaseError, DatabaseErrorKind, OpenError, Row, Statement, Transaction,
    },
    queue::keys,
    stored,
};
use bytes::Bytes;
use rusqlite::{Connection, params};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};
use tower_webhook::{
    InvalidConfig, StoreError, StoreErrorKind,
    clock::WallClock,
    idempotency::IdempotencyKey,
    observe::{Event, Id, Observers},
    queue::{About, Enqueued, NewJob, Queue, TaskId},
};

const COMPONENT: &str = "tower-webhook/accepted";

/// Version 1 has the tables that the gateway had before they moved to this crate, and two more columns. The
/// old tables are renamed: no event is copied, and none is lost. A program of that time can no longer open
/// the file.
const STEPS: &[&str] = &[
    "
    CREATE TABLE IF NOT EXISTS gateway_accepted (
        row INTEGER PRIMARY KEY,
        scope TEXT NOT NULL,
        id TEXT NOT NULL,
        body BLOB NOT NULL,
        accepted_ms INTEGER NOT NULL,
        finished INTEGER NOT NULL,
        UNIQUE (id, scope)
    ) STRICT;
    ALTER TABLE gateway_accepted RENAME TO tower_webhook_accepted;
    -- How often it was accepted again before it was finished.
    ALTER TABLE tower_webhook_accepted ADD COLUMN repeats INTEGER NOT NULL DEFAULT 0;
    -- The id of its job; not known of those that the gateway kept.
    ALTER TABLE tower_webhook_accepted ADD COLUMN task BLOB CHECK (length(task) = 16);
    DROP INDEX IF EXISTS gateway_accepted_unfinished;
    CREATE INDEX tower_webhook_accepted_unfinished ON tower_webhook_accepted (row)
        WHERE finished = 0;
    CREATE TABLE IF NOT EXISTS gateway_audit (
        row INTEGER PRIMARY KEY,
        at_ms INTEGER NOT NULL,
        action TEXT NOT NULL,
        subject TEXT NOT NULL
    ) STRICT;
    ALTER TABLE gateway_audit RENAME TO tower_webhook_audit;
    DROP TABLE IF EXISTS gateway_probe;
    CREATE TABLE tower_webhook_accepted_probe (at_ms INTEGER NOT NULL) STRICT;
    INSERT INTO tower_webhook_accepted_probe VALUES (0);
    UPDATE tower_webhook_schema SET version = 2 WHERE component = 'gateway/accepted';
",
    "
    -- How much the events take: their bodies, and 256 bytes each for the rest.
    CREATE TABLE tower_webhook_accepted_size (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        bytes INTEGER NOT NULL
    ) STRICT;
    INSERT INTO tower_webhook_accepted_size
        SELECT 1, coalesce(sum(length(body) + 256), 0) FROM tower_webhook_accepted;
    CREATE TRIGGER tower_webhook_accepted_came AFTER INSERT ON tower_webhook_accepted BEGIN
        UPDATE tower_webhook_accepted_size SET bytes = bytes + length(new.body) + 256 WHERE only = 1;
    END;
    CREATE TRIGGER tower_webhook_accepted_went AFTER DELETE ON tower_webhook_accepted BEGIN
        UPDATE tower_webhook_accepted_size SET bytes = bytes - length(old.body) - 256 WHERE only = 1;
    END;
"];

/// The number of unfinished events that are read at a time.
const BATCH: i64 = 500;

/// The wait of [`AcceptedEvents::take_up`] after trouble with the queue or the file.
const PAUSE: Duration = Duration::from_secs(1);

/// The interval at which rows whose retention is over are looked for. The search visits the events that are
/// not finished too.
const LOOK_MS: i64 = 60_000;

/// An accepted event.
///
/// `Debug` shows the length of the body, not its content.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AcceptedEvent {
    /// The key that identifies the event: a scope, such as the route, and an id.
    pub key: IdempotencyKey,
    /// The body, byte for byte.
    pub body: Bytes,
}

impl AcceptedEvent {
    /// Makes an event from its key and body.
    pub fn new(key: IdempotencyKey, body: impl Into<Bytes>) -> Self {
        Self {
            key,
            body: body.into(),
        }
    }

    /// Makes the job that processes the event, for [`AcceptedEvents::accept`]. The body is the payload, the
    /// key is the deduplication key, and the id of the key is also the event id.
    ///
    /// The idempotency key, which a worker sends to the receiver, is the [text](IdempotencyKey::to_text) of the
    /// key: events with the same id in two scopes are two events to the receiver too. Where all events have one
    /// scope, set `about.idempotency_key` to the id alone if the receiver should see that.
    pub fn job(&self, kind: impl Into<String>) -> NewJob {
        let mut about = About::default();
        about.event_id = Some(self.key.id().to_owned());
        about.idempotency_key = Some(self.key.to_text());
        NewJob::new(kind, self.body.clone())
            .dedup_key(self.key.clone())
            .about(about)
    }

    /// Makes a job that processes the event once more, for [`AcceptedEvents::accept_by`]. Like [`job`](Self::job), but
    /// marked as a replay and without a deduplication key, because the queue would take it for a repeat.
    pub fn replay(&self, kind: impl Into<String>) -> NewJob {
        let mut job = self.job(kind);
        job.dedup_key = None;
        job.about.replay_of = Some(self.key.id().to_owned());
        job.about.replays = 1;
        job
    }
}

impl fmt::Debug for AcceptedEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcceptedEvent")
            .field("key", &self.key)
            .field("body", &self.body.len())
            .finish()
    }
}

/// Keeps accepted events in an SQLite file. Clones share it, and so do processes.
///
/// See the [module docs](self).
#[derive(Clone, Debug)]
pub struct AcceptedEvents {
    database: Database,
    jobs: Jobs,
}

#[derive(Clone, Debug)]
enum Jobs {
    /// The jobs are in the same file.
    Beside(SqliteQueue),
    Apart(Queue),
}

/// Builder of [`AcceptedEvents`]. Made by [`AcceptedEvents::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct AcceptedEventsBuilder {
    max_bytes: u64,
    retention: Duration,
}

impl AcceptedEventsBuilder {
    /// Sets how many bytes of the file the events may take: their bodies, and 256 bytes each for the rest.
    /// Default: 8 GiB. Only the first setting for a [`Database`] has an effect.
    ///
    /// When it is exceeded, the oldest events are removed, a few at a time, but for those that are not
    /// finished. They can no longer be [found](AcceptedEvents::find), of which the
    /// [observers](crate::database::DatabaseBuilder::observe) of the database are told with the number of events
    /// that were removed so far. A repeat is recognised all the same: the key of such an event is kept until
    /// the retention of the event is over, or, where the queue still knows its job, until that of the job
    /// is. It takes about 85 bytes.
    pub const fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets how long an accepted event and an entry of the audit log are kept. Default: 7 days. An event
    /// whose job has not finished is kept longer. Only the first setting for a [`Database`] has an effect.
    pub const fn retention(mut self, retention: Duration) -> Self {
        self.retention = retention;
        self
    }

    /// Like [`AcceptedEvents::beside`], with these settings.
    ///
    /// # Errors
    ///
    /// As [`AcceptedEvents::beside`].
    pub fn beside(self, queue: &SqliteQueue) -> Result<AcceptedEvents, OpenError> {
        self.open(queue.database(), Jobs::Beside(queue.clone()))
    }

    /// Like [`AcceptedEvents::apart`], with these settings.
    ///
    /// # Errors
    ///
    /// As [`AcceptedEvents::apart`].
    pub fn apart(self, database: &Database, queue: Queue) -> Result<AcceptedEvents, OpenError> {
        self.open(database, Jobs::Apart(queue))
    }

    fn open(self, database: &Database, jobs: Jobs) -> Result<AcceptedEvents, OpenError> {
        let max_bytes = match i64::try_from(self.max_bytes) {
            Ok(0) => return Err(InvalidConfig::new("max_bytes", "must be at least 1").into()),
            Ok(bytes) => bytes,
            Err(_) => return Err(InvalidConfig::new("max_bytes", "must be less than 2^63").into()),
        };
        keys::open(database)?;
        database.migrate(COMPONENT, STEPS)?;
        database.add_chore(Arc::new(Retention {
            clock: database.clock().clone(),
            observers: database.observers().clone(),
            max_bytes,
            retention_ms: i64::try_from(self.retention.as_millis()).unwrap_or(i64::MAX),
            looked: AtomicI64::new(i64::MIN),
            full_of_unfinished: AtomicI64::new(i64::MIN),
            removed: AtomicU64::new(0),
        }));
        Ok(AcceptedEvents {
            database: database.clone(),
            jobs,
        })
    }
}

impl AcceptedEvents {
    /// Opens the events in the file of `queue`. Creates or upgrades their tables, which blocks the thread:
    /// open at start.
    ///
    /// # Errors
    ///
    /// [`OpenError::NewerSchema`] if a newer release made the tables, and the errors of a
    /// [migration](Database::migrate).
    pub fn beside(queue: &SqliteQueue) -> Result<Self, OpenError> {
        Self::builder().beside(queue)
    }

    /// Opens the events in `database`, while their jobs are in another queue. Creates or upgrades their
    /// tables, which blocks the thread: open at start.
    ///
    /// # Errors
    ///
    /// As [`beside`](Self::beside).
    pub fn apart(database: &Database, queue: Queue) -> Result<Self, OpenError> {
        Self::builder().apart(database, queue)
    }

    /// Returns a builder with the default settings.
    pub const fn builder() -> AcceptedEventsBuilder {
        AcceptedEventsBuilder {
            max_bytes: 8 << 30,
            retention: Duration::from_secs(7 * 24 * 60 * 60),
        }
    }

    /// Stores an event and enqueues its job. The deduplication key of `job` is the key of the event, and the
    /// payload is its body. A repeat changes nothing and returns the task of the first delivery.
    ///
    /// A job without a deduplication key is enqueued, and no event is stored.
    ///
    /// # Errors
    ///
    /// See the [module docs](self#errors).
    pub async fn accept(&self, job: NewJob) -> Result<Enqueued, StoreError> {
        self.take(job, None).await
    }

    /// Like [`accept`](Self::accept), for an operator, and records the `action` and its `subject` as
    /// [`audit`](Self::audit) does: if the jobs are [beside](Self::beside) the events, in the same transaction,
    /// otherwise before.
    ///
    /// # Errors
    ///
    /// See the [module docs](self#errors). If the record cannot be written, nothing is accepted.
    pub async fn accept_by(
        &self,
        job: NewJob,
        action: impl Into<String>,
        subject: impl Into<String>,
    ) -> Result<Enqueued, StoreError> {
        let record = self.record(action.into(), subject.into());
        self.take(job, Some(record)).await
    }

    async fn take(
        &self,
        mut job: NewJob,
        record: Option<Statement>,
    ) -> Result<Enqueued, StoreError> {
        let key = job.dedup_key.clone();
        let accepted_ms = now(self.database.clock());
        let queue = match &self.jobs {
            Jobs::Beside(jobs) => {
                let jobs = jobs.clone();
                let written = self.database.write(move |transaction| {
                    if let Some(record) = &record {
                        transaction.execute(record)?;
                    }
                    match key {
                        Some(key) => accept_in(transaction, &jobs, job, &key, accepted_ms),
                        None => jobs.enqueue_in(transaction, &job),
                    }
                });
                return Ok(written.await?);
            }
            Jobs::Apart(queue) => queue,
        };
        if let Some(record) = record {
            self.database.execute(record).await?;
        }
        let Some(key) = key else {
            return queue.enqueue(job).await;
        };
        let (body, id, event) = (job.payload.clone(), job.id, key.clone());
        let known = self.database.write(move |transaction| {
            let known = insert(transaction, &key, &body, id, accepted_ms, false)?;
            if known.is_none()
                && let Some(task) = known_by_key(transaction, &key)?
            {
                transaction.execute(&of(REMOVE, &key))?;
                let task = Some(task);
                let finished = true;
                return Ok(Some(Known { finished, task }));
            }
            if known.as_ref().is_some_and(|known| !known.finished) {
                transaction.execute(&of(REPEATED, &key))?;
            }
            Ok(known)
        });
        let known = known.await?;
        if let Some(known) = &known {
            job.id = known.task.unwrap_or(job.id);
            if known.finished {
                return Ok(Enqueued {
                    id: job.id,
                    repeated: true,
                });
            }
        }
        let accepted = queue.enqueue(job).await;
        if accepted.is_err() && known.is_none() {
            // Nobody was told that it was accepted, unless it was accepted again meanwhile.
            self.database.execute(of(FORGET, &event)).await?;
        }
        accepted
    }

    /// The event with this key. `None` if it was never accepted, its retention is over, or it was removed earlier
    /// because the events took more than [`max_bytes`](AcceptedEventsBuilder::max_bytes).
    ///
    /// # Errors
    ///
    /// See the [module docs](self#errors).
    pub async fn find(&self, key: &IdempotencyKey) -> Result<Option<AcceptedEvent>, StoreError> {
        let query = of(FIND, key);
        let found = self.database.read(move |transaction| {
            let row = transaction.query_one(&query)?;
            row.map(|row| read(&row)).transpose()
        });
        Ok(found.await?)
    }

    /// Marks an event whose job has ended, done or dead-lettered, so that [`take_up`](Self::take_up) does not
    /// enqueue it again. Call it from an observer of the worker, for [`Event::JobEnded`], and from one of the queue, for
    /// [`Event::JobCancelled`]. It does not wait for the disk. If a mark is
    /// lost, the next `take_up` asks the queue whether the job has ended. It does nothing if the events are
    /// [beside](Self::beside) the jobs, because the transaction that stores such an event also enqueues its
    /// job.
    pub fn finished(&self, key: &IdempotencyKey) {
        if let Jobs::Apart(_) = self.jobs {
            drop(self.database.execute(of(FINISH, key)));
        }
    }

    /// Enqueues the events of earlier starts that are not finished, oldest first, and returns their number.
    /// `job` makes the job of each, as it was made for [`accept`](Self::accept).
    ///
    /// Call it at each start. It handles the events that were accepted before the call. It does not fail:
    /// while the queue is full or a store fails, it waits, tries again and tells the
    /// [observers](crate::database::DatabaseBuilder::observe) of the database. An event that is too large for
    /// the queue, whose job the queue [does not take](NewJob::admit), or that cannot be read, is skipped until the next
    /// start.
    pub async fn take_up(&self, job: impl Fn(&AcceptedEvent) -> NewJob) -> u64 {
        let (mut after, mut last, mut taken) = (0, None, 0);
        loop {
            match self
                .take_up_some(&job, &mut after, &mut last, &mut taken)
                .await
            {
                Ok(true) => {}
                Ok(false) => return taken,
                Err(error) => {
                    self.trouble("accepted events wait for the queue", &error);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn trouble(&self, what: &'static str, error: &StoreError) {
        self.database.observers().tell(|| Event::Trouble {
            part: "accepted_events",
            what,
            detail: Some(Id::new(error)),
        });
    }

    /// Whether there may be more.
    async fn take_up_some(
        &self,
        make: impl Fn(&AcceptedEvent) -> NewJob,
        after: &mut i64,
        last: &mut Option<i64>,
        taken: &mut u64,
    ) -> Result<bool, StoreError> {
        let newest = if let Some(newest) = *last {
            newest
        } else {
            let newest = self.database.query(Statement::new(NEWEST)).await?;
            let newest = newest.first().map_or(Ok(0), |row| row.get("newest"))?;
            *last = Some(newest);
            newest
        };
        let query = Statement::new(UNFINISHED)
            .bind(*after)
            .bind(newest)
            .bind(BATCH);
        let rows = self.database.query(query).await?;
        for row in &rows {
            let number = row.get::<i64>("row")?;
            match self.take_up_one(row, &make).await {
                Ok(()) => *taken += 1,
                Err(error) if error.kind() == StoreErrorKind::TooLarge => {
                    self.trouble("an accepted event is too large for the queue", &error);
                }
                Err(error) if error.kind() == StoreErrorKind::Rejected => {
                    self.trouble(
                        "the queue does not take the job of an accepted event",
                        &error,
                    );
                }
                Err(error) if error.kind() == StoreErrorKind::Corrupt => {
                    self.trouble("an accepted event cannot be read", &error);
                }
                Err(error) => return Err(error),
            }
            *after = number;
        }
        Ok(!rows.is_empty())
    }

    async fn take_up_one(
        &self,
        row: &Row,
        make: impl Fn(&AcceptedEvent) -> NewJob,
    ) -> Result<(), StoreError> {
        let event = read(row)?;
        let mut job = make(&event);
        // So that the sender's question for the status of its task is answered.
        job.id = task(row)?.unwrap_or(job.id);
        match &self.jobs {
            Jobs::Beside(jobs) => {
                let jobs = jobs.clone();
                let written = self.database.write(move |transaction| {
                    jobs.enqueue_in(transaction, &job)?;
                    transaction.execute(&of(FINISH, &event.key))
                });
                written.await?;
            }
            Jobs::Apart(queue) => {
                let there = queue.enqueue(job).await?;
                let task = queue.task(there.id).await?;
                if task.is_some_and(|task| task.status.is_final()) {
                    self.database.execute(of(FINISH, &event.key)).await?;
                }
            }
        }
        Ok(())
    }

    /// Checks whether events can be accepted, by a write to the file. Does not wait for the disk.
    ///
    /// # Errors
    ///
    /// See the [module docs](self#errors).
    pub async fn probe(&self) -> Result<(), StoreError> {
        let write = Statement::new(PROBE).bind(now(self.database.clock()));
        let written = self
            .database
            .write_relaxed(move |transaction| transaction.execute(&write));
        written.await?;
        Ok(())
    }

    /// Records that an operator asked for `action` on `subject`, an id or a filter, in the table
    /// `tower_webhook_audit`. Record it before the action, and do nothing if that fails: then nothing is done
    /// that the table does not have.
    ///
    /// # Errors
    ///
    /// See the [module docs](self#errors).
    pub async fn audit(
        &self,
        action: impl Into<String>,
        subject: impl Into<String>,
    ) -> Result<(), StoreError> {
        let record = self.record(action.into(), subject.into());
        self.database.execute(record).await?;
        Ok(())
    }

    fn record(&self, action: String, subject: String) -> Statement {
        Statement::new(AUDIT)
            .bind(now(self.database.clock()))
            .bind(action)
            .bind(subject)
    }
}

const INSERT: &str = "INSERT INTO tower_webhook_accepted
        (id, scope, body, task, accepted_ms, finished)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (id, scope) DO NOTHING";
const KNOWN: &str =
    "SELECT finished, task FROM tower_webhook_accepted WHERE id = ?1 AND scope = ?2";
const FIND: &str =
    "SELECT scope, id, body FROM tower_webhook_accepted WHERE id = ?1 AND scope = ?2";
const FINISH: &str = "UPDATE tower_webhook_accepted SET finished = 1 WHERE id = ?1 AND scope = ?2";
const REPEATED: &str = "UPDATE tower_webhook_accepted SET repeats = repeats + 1
    WHERE id = ?1 AND scope = ?2";
const SET_TASK: &str = "UPDATE tower_webhook_accepted SET task = ?3 WHERE id = ?1 AND scope = ?2";
const FORGET: &str = "DELETE FROM tower_webhook_accepted
    WHERE id = ?1 AND scope = ?2 AND finished = 0 AND repeats = 0";
const REMOVE: &str = "DELETE FROM tower_webhook_accepted WHERE id = ?1 AND scope = ?2";
const NEWEST: &str = "SELECT coalesce(max(row), 0) AS newest FROM tower_webhook_accepted";
const UNFINISHED: &str = "SELECT row, scope, id, body, task FROM tower_webhook_accepted
    WHERE finished = 0 AND row > ?1 AND row <= ?2 ORDER BY row LIMIT ?3";
const PROBE: &str = "UPDATE tower_webhook_accepted_probe SET at_ms = ?1";
const AUDIT: &str = "INSERT INTO tower_webhook_audit (at_ms, action, subject) VALUES (?1, ?2, ?3)";
/// Rows are in the order of their acceptance, so those that are over come first.
const OVER: &str = "SELECT
    EXISTS (SELECT 1 FROM (SELECT accepted_ms FROM tower_webhook_accepted
        WHERE finished = 1 ORDER BY row LIMIT 1) WHERE accepted_ms < ?1)
    OR EXISTS (SELECT 1 FROM (SELECT at_ms FROM tower_webhook_audit
        ORDER BY row LIMIT 1) WHERE at_ms < ?1)";
const SWEEP: &str = "DELETE FROM tower_webhook_accepted WHERE row IN (
    SELECT row FROM (SELECT row, accepted_ms FROM tower_webhook_accepted
        WHERE finished = 1 ORDER BY row LIMIT ?2)
    WHERE accepted_ms < ?1)";
const SWEEP_AUDIT: &str = "DELETE FROM tower_webhook_audit WHERE row IN (
    SELECT row FROM (SELECT row, at_ms FROM tower_webhook_audit ORDER BY row LIMIT ?2)
    WHERE at_ms < ?1)";

const BYTES: &str = "SELECT bytes FROM tower_webhook_accepted_size WHERE only = 1";
const OLDEST: &str = "SELECT row, scope, id, task, accepted_ms, length(body)
    FROM tower_webhook_accepted WHERE finished = 1 ORDER BY row LIMIT ?1";
const REMOVE_ROW: &str = "DELETE FROM tower_webhook_accepted WHERE row = ?1";

/// An event that is stored already.
struct Known {
    /// Its job has ended or is in this file: `take_up` has nothing to do.
    finished: bool,
    task: Option<TaskId>,
}

/// Stores an event. Returns `None` if it is new.
fn insert(
    transaction: &Transaction<'_>,
    key: &IdempotencyKey,
    body: &Bytes,
    id: TaskId,
    accepted_ms: i64,
    finished: bool,
) -> Result<Option<Known>, DatabaseError> {
    let insert = of(INSERT, key)
        .bind(body.clone())
        .bind(&id.as_bytes()[..])
        .bind(accepted_ms)
        .bind(finished);
    if transaction.execute(&insert)? == 1 {
        return Ok(None);
    }
    let known = transaction.query_one(&of(KNOWN, key))?;
    let known = known.map(|row| {
        Ok(Known {
            finished: row.get("finished")?,
            task: task(&row)?,
        })
    });
    known.transpose()
}

/// The event and its job, or neither.
fn accept_in(
    transaction: &Transaction<'_>,
    jobs: &SqliteQueue,
    mut job: NewJob,
    key: &IdempotencyKey,
    accepted_ms: i64,
) -> Result<Enqueued, DatabaseError> {
    let known = insert(transaction, key, &job.payload, job.id, accepted_ms, true)?;
    if let Some(known) = &known
        && let Some(task) = known.task
    {
        if known.finished {
            return Ok(Enqueued {
                id: task,
                repeated: true,
            });
        }
        job.id = task;
    }
    let accepted = jobs.enqueue_in(transaction, &job)?;
    if known.as_ref().is_some_and(|known| !known.finished) {
        // It was accepted while the jobs were elsewhere, and its job is here now.
        transaction.execute(&of(FINISH, key))?;
    }
    if accepted.repeated && known.is_none() {
        // The queue knows it for longer than it was kept here.
        transaction.execute(&of(REMOVE, key))?;
    } else if accepted.repeated {
        transaction.execute(&of(SET_TASK, key).bind(&accepted.id.as_bytes()[..]))?;
    }
    Ok(accepted)
}

/// The task of an event that was removed early.
fn known_by_key(
    transaction: &Transaction<'_>,
    key: &IdempotencyKey,
) -> Result<Option<TaskId>, DatabaseError> {
    keys::now(transaction)
        .and_then(|now| keys::known(transaction, &key.digest(), now))
        .map_err(DatabaseError::from_driver)
}

/// A statement on the event with this key.
fn of(sql: &'static str, key: &IdempotencyKey) -> Statement {
    Statement::new(sql).bind(key.id()).bind(key.scope())
}

fn read(row: &Row) -> Result<AcceptedEvent, DatabaseError> {
    let (scope, id): (String, String) = (row.get("scope")?, row.get("id")?);
    let key = IdempotencyKey::new(&scope, &id)
        .map_err(|error| DatabaseError::caused(DatabaseErrorKind::Corrupt, error))?;
    Ok(AcceptedEvent {
        key,
        body: row.get("body")?,
    })
}

fn task(row: &Row) -> Result<Option<TaskId>, DatabaseError> {
    let bytes: Option<Vec<u8>> = row.get("task")?;
    let id = bytes.and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
    Ok(id.map(TaskId::from_bytes))
}

fn now(clock: &WallClock) -> i64 {
    i64::try_from(clock.unix_millis()).unwrap_or(i64::MAX)
}

/// Removes events and audit records whose retention is over, and the oldest events before if they take too much.
struct Retention {
    clock: WallClock,
    observers: Observers,
    max_bytes: i64,
    retention_ms: i64,
    /// When the last search found no such row.
    looked: AtomicI64,
    /// When events took too much, and none of them was finished.
    full_of_unfinished: AtomicI64,
    /// The number of events that were removed before their time.
    removed: AtomicU64,
}

impl Retention {
    fn before(&self, now: i64) -> i64 {
        now.saturating_sub(self.retention_ms)
    }

    /// How many bytes too many the events take.
    fn excess(&self, connection: &Connection) -> rusqlite::Result<i64> {
        let bytes: i64 = connection
            .prepare_cached(BYTES)?
            .query_row([], |row| row.get(0))?;
        Ok(bytes.saturating_sub(self.max_bytes))
    }

    /// Removes the oldest events, at most `limit`, and keeps their keys.
    fn make_room(
        &self,
        transaction: &Transaction<'_>,
        excess: i64,
        limit: usize,
    ) -> rusqlite::Result<usize> {
        let connection = transaction.connection();
        let (wall, now) = (now(&self.clock), keys::now(transaction)?);
        let mut oldest = connection.prepare_cached(OLDEST)?;
        let mut rows = oldest.query([stored::count(limit)])?;
        let (mut removed, mut freed) = (0, 0);
        while freed < excess
            && let Some(row) = rows.next()?
        {
            let (scope, id): (String, String) = (row.get(1)?, row.get(2)?);
            let task = row.get::<_, Option<[u8; 16]>>(3)?;
            let task = task.map_or_else(TaskId::random, TaskId::from_bytes);
            let left = row.get::<_, i64>(4)?.saturating_sub(self.before(wall));
            // What is no key cannot be repeated.
            if let Ok(key) = IdempotencyKey::new(&scope, &id)
                && left > 0
            {
                keys::keep(transaction, &key.digest(), task, now.saturating_add(left))?;
            }
            freed += row.get::<_, i64>(5)? + 256;
            removed += connection
                .prepare_cached(REMOVE_ROW)?
                .execute([row.get::<_, i64>(0)?])?;
        }
        if removed == 0 {
            self.full_of_unfinished.store(wall, Ordering::Relaxed);
            return Ok(0);
        }
        let so_far = u64::try_from(removed).unwrap_or(u64::MAX);
        let so_far = so_far + self.removed.fetch_add(so_far, Ordering::Relaxed);
        self.observers.tell(|| Event::Trouble {
            part: "accepted_events",
            what: "events take more than may be: the oldest were removed before their time",
            detail: Some(Id::new(&so_far)),
        });
        Ok(removed)
    }
}

/// Whether `now` is within the interval of searches after this one.
fn is_recent(looked: &AtomicI64, now: i64) -> bool {
    let looked = looked.load(Ordering::Relaxed);
    (looked..looked.saturating_add(LOOK_MS)).contains(&now)
}

impl Chore for Retention {
    fn name(&self) -> &'static str {
        COMPONENT
    }

    fn due(&self, connection: &Connection) -> rusqlite::Result<bool> {
        let now = now(&self.clock);
        if !is_recent(&self.full_of_unfinished, now) && self.excess(connection)? > 0 {
            return Ok(true);
        }
        if is_recent(&self.looked, now) {
            return Ok(false);
        }
        let due: bool = connection
            .prepare_cached(OVER)?
            .query_row([self.before(now)], |row| row.get(0))?;
        if !due {
            self.looked.store(now, Ordering::Relaxed);
        }
        Ok(due)
    }

    fn sweep(&self, transaction: &Transaction<'_>, limit: usize) -> rusqlite::Result<usize> {
        let connection = transaction.connection();
        let before = self.before(now(&self.clock));
        let excess = self.excess(connection)?;
        let mut left = if excess > 0 {
            self.make_room(transaction, excess, limit)?
        } else {
            0
        };
        for sql in [SWEEP, SWEEP_AUDIT] {
            let most = i64::try_from(limit - left).unwrap_or(i64::MAX);
            left += connection
                .prepare_cached(sql)?
                .execute(params![before, most])?;
        }
        Ok(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the table holds: what is not finished is found by its own index, an event by its key.
    #[test]
    fn every_statement_finds_its_rows_by_an_index() {
        let connection = Connection::open_in_memory().unwrap();
        let versions = "CREATE TABLE tower_webhook_schema (component TEXT, version INTEGER)";
        connection.execute_batch(versions).unwrap();
        connection.execute_batch(&STEPS.concat()).unwrap();
        for (sql, by) in [
            (KNOWN, "(id=? AND scope=?)"),
            (FIND, "(id=? AND scope=?)"),
            (FINISH, "(id=? AND scope=?)"),
            (REPEATED, "(id=? AND scope=?)"),
            (SET_TASK, "(id=? AND scope=?)"),
            (FORGET, "(id=? AND scope=?)"),
            (REMOVE, "(id=? AND scope=?)"),
            (REMOVE_ROW, "INTEGER PRIMARY KEY"),
            (BYTES, "INTEGER PRIMARY KEY"),
            (NEWEST, "SEARCH tower_webhook_accepted"),
            (
                UNFINISHED,
                "tower_webhook_accepted_unfinished (row>? AND row<?)",
            ),
            (SWEEP, "INTEGER PRIMARY KEY"),
            (SWEEP_AUDIT, "INTEGER PRIMARY KEY"),
        ] {
            let mut plan = connection
                .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
                .unwrap();
            let mut steps = plan.raw_query();
            let mut whole = String::new();
            while let Some(step) = steps.next().unwrap() {
                let detail: String = step.get("detail").unwrap();
                whole = whole + &detail + "\n";
            }
            assert!(whole.contains(by), "{sql}: {whole}");
        }
    }
}
