//! The events that were accepted: each once, with the job that works on it.
//!
//! Whoever answers a sender first and works later must be able to say three things: that an event
//! which was answered is not lost, that a repeat of it is recognised, and what was in it when an
//! operator wants it worked on once more. [`AcceptedEvents`] is the table for that.
//!
//! ```
//! use tower_webhook::{idempotency::IdempotencyKey, queue::Queue};
//! use tower_webhook_sqlite::{AcceptedEvent, AcceptedEvents, Database, SqliteQueue};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_webhook::BoxError> {
//! # let dir = tempfile::tempdir()?;
//! let database = Database::open(dir.path().join("gateway.db"))?;
//! let queue = SqliteQueue::new(&database)?;
//! let events = AcceptedEvents::beside(&queue)?;
//!
//! // When a request was verified: the event and its job in one transaction.
//! let key = IdempotencyKey::new("/webhooks", "evt_1")?;
//! let event = AcceptedEvent::new(key, r#"{"eventId":"evt_1"}"#);
//! let first = events.accept(event.job("event")).await?; // on the disk: answer 200
//! assert!(!first.repeated);
//!
//! // The sender did not hear that, and sends it again.
//! let repeat = events.accept(event.job("event")).await?;
//! assert!(repeat.repeated);
//! assert_eq!(repeat.id, first.id);
//!
//! // An operator wants it delivered once more.
//! let event = events.find("evt_1").await?.expect("kept for a week");
//! Queue::new(queue).enqueue(event.replay("event")).await?;
//! events.audit("replay", "evt_1").await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Beside the jobs, or apart from them
//!
//! [`beside`](AcceptedEvents::beside): events and jobs are in one file, and one transaction writes
//! both. Nothing else is needed.
//!
//! [`apart`](AcceptedEvents::apart): the jobs are elsewhere, in memory or on a server. The event is
//! written first, then the job is put in. Two more calls make up for the missing transaction:
//! [`finished`](AcceptedEvents::finished) when a job is over, and
//! [`take_up`](AcceptedEvents::take_up) at each start, which puts in what no start before has
//! finished. A crash at any moment loses no event; an event whose end was not yet marked is worked
//! on once more, unless the queue remembers its key.
//!
//! A file may change from one to the other between two starts: call `take_up` in both.
//!
//! # Durability
//!
//! What [`accept`](AcceptedEvents::accept) answered is on the disk, and so is what
//! [`audit`](AcceptedEvents::audit) answered. A mark by `finished` is written soon after; when the
//! process dies before, `take_up` finds the event again.
//!
//! # Bounds
//!
//! Events that are finished, and what operators did, leave after the
//! [retention](AcceptedEventsBuilder::retention), 7 days by default, in small pieces while the
//! database works and when it is idle. What is not finished stays. A repeat is recognised for as long as
//! its event is kept, whatever the queue has forgotten.
//!
//! # Errors
//!
//! [`StoreError`], with the kinds of [`SqliteQueue`](crate::queue#errors). After an error of `accept`
//! nothing was accepted, but for `Unavailable`, after which it may have been: the sender tries again,
//! and gets the task of the first.
//!
//! # Cancel safety
//!
//! What was handed to the database is done, whether or not somebody waits for it. An `accept` that is
//! dropped has accepted the event or not, as when the connection to the sender breaks: the repeat
//! finds out. Apart from the jobs it may have been dropped between the two writes: then the repeat
//! puts the job in, or the next `take_up`. A `take_up` that is dropped goes on at the next one.

use crate::{
    SqliteQueue,
    database::{
        Chore, Database, DatabaseError, DatabaseErrorKind, OpenError, Row, Statement, Transaction,
    },
};
use bytes::Bytes;
use rusqlite::{Connection, params};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use tower_webhook::{
    StoreError, StoreErrorKind,
    clock::WallClock,
    idempotency::IdempotencyKey,
    observe::{Event, Id, Observers},
    queue::{About, Enqueued, NewJob, Queue, TaskId},
};

const COMPONENT: &str = "tower-webhook/accepted";

/// Version 1 has the shape of the tables that the gateway kept before they moved to this crate, and
/// two columns more. Those tables become these: no event is copied, and none is lost. A program of
/// that time is refused from then on.
const STEPS: &[&str] = &["
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
"];

/// Unfinished events that are read at a time.
const BATCH: i64 = 500;

/// The wait of [`AcceptedEvents::take_up`] after trouble with the queue or the file.
const PAUSE: Duration = Duration::from_secs(1);

/// What is over is looked for this often: the look passes over the events that are not finished.
const LOOK_MS: i64 = 60_000;

/// An event as it was accepted.
///
/// `Debug` shows the length of the body, not its content.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AcceptedEvent {
    /// The key that makes it one event: a scope, such as the route, and the id in it.
    pub key: IdempotencyKey,
    /// The body, to the byte.
    pub body: Bytes,
}

impl AcceptedEvent {
    /// An event to be accepted.
    pub fn new(key: IdempotencyKey, body: impl Into<Bytes>) -> Self {
        Self {
            key,
            body: body.into(),
        }
    }

    /// The job that works on it, for [`AcceptedEvents::accept`]: the body is its payload, the key its
    /// deduplication key, and the id of the key is its event id and idempotency key.
    pub fn job(&self, kind: impl Into<String>) -> NewJob {
        let mut about = About::default();
        about.event_id = Some(self.key.id().to_owned());
        about.idempotency_key = Some(self.key.id().to_owned());
        NewJob::new(kind, self.body.clone())
            .dedup_key(self.key.clone())
            .about(about)
    }

    /// A job that works on it once more. As [`job`](Self::job), but without a deduplication key,
    /// under which the event is known, and marked as a replay. For [`Queue::enqueue`].
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
    /// In the same file.
    Beside(SqliteQueue),
    Apart(Queue),
}

/// Settings of [`AcceptedEvents`]. Made by [`AcceptedEvents::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct AcceptedEventsBuilder {
    retention: Duration,
}

impl AcceptedEventsBuilder {
    /// Sets how long an accepted event and an entry of the audit log are kept. Default: 7 days. An event
    /// whose job has not finished is kept longer. Only the first setting for a [`Database`] has an effect.
    pub const fn retention(mut self, retention: Duration) -> Self {
        self.retention = retention;
        self
    }

    /// As [`AcceptedEvents::beside`], with these settings.
    ///
    /// # Errors
    ///
    /// As [`AcceptedEvents::beside`].
    pub fn beside(self, queue: &SqliteQueue) -> Result<AcceptedEvents, OpenError> {
        self.open(queue.database(), Jobs::Beside(queue.clone()))
    }

    /// As [`AcceptedEvents::apart`], with these settings.
    ///
    /// # Errors
    ///
    /// As [`AcceptedEvents::apart`].
    pub fn apart(self, database: &Database, queue: Queue) -> Result<AcceptedEvents, OpenError> {
        self.open(database, Jobs::Apart(queue))
    }

    fn open(self, database: &Database, jobs: Jobs) -> Result<AcceptedEvents, OpenError> {
        database.migrate(COMPONENT, STEPS)?;
        database.add_chore(Arc::new(Retention {
            clock: database.clock().clone(),
            retention_ms: i64::try_from(self.retention.as_millis()).unwrap_or(i64::MAX),
            looked: AtomicI64::new(i64::MIN),
        }));
        Ok(AcceptedEvents {
            database: database.clone(),
            jobs,
        })
    }
}

impl AcceptedEvents {
    /// The events in the file in which `queue` is. Makes the tables where they are not there, which
    /// blocks the thread: open at start.
    ///
    /// # Errors
    ///
    /// [`OpenError::NewerSchema`] when the tables are those of a newer release, and what can befall
    /// a [migration](Database::migrate).
    pub fn beside(queue: &SqliteQueue) -> Result<Self, OpenError> {
        Self::builder().beside(queue)
    }

    /// The events in a file in which the jobs are not. Makes the tables where they are not there,
    /// which blocks the thread: open at start.
    ///
    /// # Errors
    ///
    /// As [`beside`](Self::beside).
    pub fn apart(database: &Database, queue: Queue) -> Result<Self, OpenError> {
        Self::builder().apart(database, queue)
    }

    /// Settings, all with defaults.
    pub const fn builder() -> AcceptedEventsBuilder {
        AcceptedEventsBuilder {
            retention: Duration::from_secs(7 * 24 * 60 * 60),
        }
    }

    /// Accepts an event, whose key is the deduplication key of `job` and whose body is its payload,
    /// and puts the job into the queue. A repeat changes nothing and gets the first one's task.
    ///
    /// A job without a deduplication key is put into the queue and not kept.
    ///
    /// # Errors
    ///
    /// See the [module docs](self#errors).
    pub async fn accept(&self, mut job: NewJob) -> Result<Enqueued, StoreError> {
        let Some(key) = job.dedup_key.clone() else {
            return self.enqueue(job).await;
        };
        let accepted_ms = now(self.database.clock());
        match &self.jobs {
            Jobs::Beside(jobs) => {
                let jobs = jobs.clone();
                let written = self.database.write(move |transaction| {
                    accept_in(transaction, &jobs, job, &key, accepted_ms)
                });
                Ok(written.await?)
            }
            Jobs::Apart(queue) => {
                let (body, id, event) = (job.payload.clone(), job.id, key.clone());
                let known = self.database.write(move |transaction| {
                    let known = insert(transaction, &key, &body, id, accepted_ms, false)?;
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
        }
    }

    /// The newest event with this id, whatever its scope; `None` where it was never accepted or its
    /// retention is over.
    ///
    /// # Errors
    ///
    /// See the [module docs](self#errors).
    pub async fn find(&self, id: impl Into<String>) -> Result<Option<AcceptedEvent>, StoreError> {
        let query = Statement::new(FIND).bind(id.into());
        let found = self.database.read(move |transaction| {
            let row = transaction.query_one(&query)?;
            row.map(|row| read(&row)).transpose()
        });
        Ok(found.await?)
    }

    /// Marks an event whose job is over, done or dead-lettered, so that
    /// [`take_up`](Self::take_up) passes over it. Call it from an observer of the worker. It does not
    /// wait: what could not be marked is asked for in the queue at the next start. Does nothing
    /// [beside](Self::beside) the jobs, where that is not needed.
    pub fn finished(&self, key: &IdempotencyKey) {
        if let Jobs::Apart(_) = self.jobs {
            drop(self.database.execute(of(FINISH, key)));
        }
    }

    /// Puts the events into the queue that no start before has finished, oldest first, and returns
    /// how many. `job` makes the job of each, as it was made for [`accept`](Self::accept).
    ///
    /// Call it at each start. It takes what was accepted before it was called. It does not fail:
    /// while the queue is full or a store fails it waits and tries again, and tells observers so. An
    /// event that the queue refuses for its size, or that cannot be read, is passed over until the next
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
                    trouble("accepted events wait for the queue", &error);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
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
                    trouble("an accepted event is too large for the queue", &error);
                }
                Err(error) if error.kind() == StoreErrorKind::Corrupt => {
                    trouble("an accepted event cannot be read", &error);
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

    /// Writes to the file, and so finds out whether events can be accepted. Does not wait for the
    /// disk.
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

    /// Records that an operator did `action` to `subject`, an id or a filter, in the table
    /// `tower_webhook_audit`.
    ///
    /// # Errors
    ///
    /// See the [module docs](self#errors).
    pub async fn audit(
        &self,
        action: impl Into<String>,
        subject: impl Into<String>,
    ) -> Result<(), StoreError> {
        let insert = Statement::new(AUDIT)
            .bind(now(self.database.clock()))
            .bind(action.into())
            .bind(subject.into());
        self.database.execute(insert).await?;
        Ok(())
    }

    async fn enqueue(&self, job: NewJob) -> Result<Enqueued, StoreError> {
        match &self.jobs {
            Jobs::Beside(jobs) => {
                let jobs = jobs.clone();
                let written = self
                    .database
                    .write(move |transaction| jobs.enqueue_in(transaction, &job));
                Ok(written.await?)
            }
            Jobs::Apart(queue) => queue.enqueue(job).await,
        }
    }
}

const INSERT: &str = "INSERT INTO tower_webhook_accepted
        (id, scope, body, task, accepted_ms, finished)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (id, scope) DO NOTHING";
const KNOWN: &str =
    "SELECT finished, task FROM tower_webhook_accepted WHERE id = ?1 AND scope = ?2";
const FIND: &str = "SELECT scope, id, body FROM tower_webhook_accepted WHERE id = ?1
    ORDER BY row DESC LIMIT 1";
const FINISH: &str = "UPDATE tower_webhook_accepted SET finished = 1 WHERE id = ?1 AND scope = ?2";
const REPEATED: &str = "UPDATE tower_webhook_accepted SET repeats = repeats + 1
    WHERE id = ?1 AND scope = ?2";
const SET_TASK: &str = "UPDATE tower_webhook_accepted SET task = ?3 WHERE id = ?1 AND scope = ?2";
const FORGET: &str = "DELETE FROM tower_webhook_accepted
    WHERE id = ?1 AND scope = ?2 AND finished = 0 AND repeats = 0";
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

/// An event that is there already.
struct Known {
    /// Its job is over or in this file: there is nothing to take up.
    finished: bool,
    task: Option<TaskId>,
}

/// Puts an event in; `None` where it is new.
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
    if known.is_some_and(|known| !known.finished) {
        // It was accepted while the jobs were elsewhere, and its job is here now.
        transaction.execute(&of(FINISH, key))?;
    }
    if accepted.repeated {
        // The queue knows it for longer than it was kept here.
        transaction.execute(&of(SET_TASK, key).bind(&accepted.id.as_bytes()[..]))?;
    }
    Ok(accepted)
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

fn trouble(what: &'static str, error: &StoreError) {
    Observers::none().tell(|| Event::Trouble {
        part: "accepted_events",
        what,
        detail: Some(Id::new(error)),
    });
}

/// Events and actions whose time is over leave.
struct Retention {
    clock: WallClock,
    retention_ms: i64,
    /// When nothing that is over was found.
    looked: AtomicI64,
}

impl Retention {
    fn before(&self, now: i64) -> i64 {
        now.saturating_sub(self.retention_ms)
    }
}

impl Chore for Retention {
    fn name(&self) -> &'static str {
        COMPONENT
    }

    fn due(&self, connection: &Connection) -> rusqlite::Result<bool> {
        let now = now(&self.clock);
        let looked = self.looked.load(Ordering::Relaxed);
        if (looked..looked.saturating_add(LOOK_MS)).contains(&now) {
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

    fn sweep(&self, connection: &Connection, limit: usize) -> rusqlite::Result<usize> {
        let before = self.before(now(&self.clock));
        let mut left = 0;
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

    /// Whatever the table holds: what is not finished is found by its own index, an event by its id.
    #[test]
    fn every_statement_finds_its_rows_by_an_index() {
        let connection = Connection::open_in_memory().unwrap();
        let versions = "CREATE TABLE tower_webhook_schema (component TEXT, version INTEGER)";
        connection.execute_batch(versions).unwrap();
        connection.execute_batch(STEPS[0]).unwrap();
        for (sql, by) in [
            (KNOWN, "(id=? AND scope=?)"),
            (FIND, "(id=?)"),
            (FINISH, "(id=? AND scope=?)"),
            (REPEATED, "(id=? AND scope=?)"),
            (SET_TASK, "(id=? AND scope=?)"),
            (FORGET, "(id=? AND scope=?)"),
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
