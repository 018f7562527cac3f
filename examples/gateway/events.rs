//! The events that were accepted, kept so that an operator can have one delivered again, and what
//! operators did.
//!
//! Accepting is one transaction where events and jobs are in one file: the event, its key and its
//! job are there together or not at all. Where they are in two places the event is stored first, and
//! the sender, who had no answer, comes again after a crash between the two.

use bytes::Bytes;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tower_webhook::{
    clock::WallClock,
    idempotency::Key,
    queue::{About, Enqueued, NewJob, Queue, QueueError, QueueErrorKind, SqliteQueue},
    sqlite::{Database, DatabaseError, DatabaseErrorKind, OpenError, Statement, Transaction},
};

/// Events, statuses and the trail of operators are kept this long.
pub const KEEP: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Events in memory at the most, and the bytes of their bodies. Beyond it the oldest leave: they
/// are delivered all the same, and cannot be replayed.
const MAX_IN_MEMORY: usize = 100_000;
const MAX_BYTES_IN_MEMORY: usize = 128 << 20;

/// Read or removed at a time.
const BATCH: i64 = 500;

/// An event, as it was accepted.
#[derive(Clone)]
pub struct Event {
    /// The route and form, within which the id is unique, and the id.
    pub key: Key,
    /// The bytes as they were signed.
    pub body: Bytes,
}

/// The delivery of an event: known by its key, and known to the receiver by the same id.
pub fn job(key: &Key, body: Bytes, target: &str) -> NewJob {
    let mut about = About::default();
    about.event_id = Some(key.id().to_owned());
    about.idempotency_key = Some(key.id().to_owned());
    NewJob::new("event", body)
        .key(key.clone())
        .target(target)
        .about(about)
}

#[derive(Clone)]
pub struct Events {
    kept: Kept,
    queue: Queue,
    target: Arc<str>,
}

#[derive(Clone)]
enum Kept {
    Memory(Arc<Mutex<Memory>>),
    /// Events and jobs in one file.
    Together(Database, SqliteQueue),
    /// Jobs are elsewhere. Where they do not outlive the process, an event is marked when it is
    /// done, so that the next start puts the others in again.
    Apart {
        database: Database,
        marked: bool,
    },
}

#[derive(Default)]
struct Memory {
    next_row: u64,
    events: BTreeMap<u64, Event>,
    by_id: HashMap<Key, u64>,
    bytes: usize,
}

impl Events {
    /// In memory. `target` is whom deliveries burden.
    pub fn memory(queue: Queue, target: &str) -> Self {
        Self {
            kept: Kept::Memory(Arc::default()),
            queue,
            target: target.into(),
        }
    }

    /// In the file in which the jobs are.
    pub fn together(
        database: &Database,
        jobs: SqliteQueue,
        queue: Queue,
        target: &str,
    ) -> Result<Self, OpenError> {
        migrate(database)?;
        Ok(Self {
            kept: Kept::Together(database.clone(), jobs),
            queue,
            target: target.into(),
        })
    }

    /// In a file of their own. `lasting`: whether the jobs outlive the process.
    pub fn apart(
        database: &Database,
        queue: Queue,
        lasting: bool,
        target: &str,
    ) -> Result<Self, OpenError> {
        migrate(database)?;
        let kept = Kept::Apart {
            database: database.clone(),
            marked: !lasting,
        };
        Ok(Self {
            kept,
            queue,
            target: target.into(),
        })
    }

    /// Stores an event, which is the job's key and payload, and puts its delivery into the queue. A
    /// repeat gets the first one's task.
    pub async fn accept(&self, job: NewJob) -> Result<Enqueued, QueueError> {
        let Some(key) = job.key.clone() else {
            return self.queue.enqueue(job).await;
        };
        let event = Event {
            key,
            body: job.payload.clone(),
        };
        match &self.kept {
            Kept::Memory(memory) => {
                lock(memory).insert(event);
                self.queue.enqueue(job).await
            }
            Kept::Together(database, jobs) => {
                let jobs = jobs.clone();
                let written = database.write(move |transaction| {
                    let accepted = jobs.enqueue_in(transaction, &job)?;
                    if !accepted.repeated {
                        insert(transaction, &event, true)?;
                    }
                    Ok(accepted)
                });
                written.await.map_err(queue_error)
            }
            Kept::Apart { database, marked } => {
                let finished = !marked;
                let written =
                    database.write(move |transaction| insert(transaction, &event, finished));
                written.await.map_err(queue_error)?;
                self.queue.enqueue(job).await
            }
        }
    }

    /// The newest event of this id.
    pub async fn find(&self, id: String) -> Result<Option<Event>, QueueError> {
        match &self.kept {
            Kept::Memory(memory) => Ok(lock(memory).find(&id)),
            Kept::Together(database, _) | Kept::Apart { database, .. } => {
                let query = Statement::new(
                    "SELECT scope, id, body FROM gateway_accepted WHERE id = ?1
                     ORDER BY row DESC LIMIT 1",
                )
                .bind(id);
                let found = database.read(move |transaction| {
                    let row = transaction.query_one(&query)?;
                    row.map(|row| read(&row)).transpose()
                });
                found.await.map_err(queue_error)
            }
        }
    }

    /// Whether the store can be written: what cannot be written cannot be accepted.
    pub async fn probe(&self) -> Result<(), QueueError> {
        match &self.kept {
            Kept::Memory(_) => Ok(()),
            Kept::Together(database, _) | Kept::Apart { database, .. } => {
                let asked = database.write_relaxed(|transaction| {
                    transaction.query(&Statement::new("SELECT 1")).map(drop)
                });
                asked.await.map_err(queue_error)
            }
        }
    }

    /// Notes that the delivery of an event is over, where that has to be remembered.
    pub fn finished(&self, key: &Key) {
        if let Kept::Apart {
            database,
            marked: true,
        } = &self.kept
        {
            let mark = Statement::new(
                "UPDATE gateway_accepted SET finished = 1 WHERE id = ?1 AND scope = ?2",
            )
            .bind(key.id())
            .bind(key.scope());
            // What is not marked is delivered again after a restart: at least once.
            drop(database.execute(mark));
        }
    }

    /// Puts the events into the queue whose jobs ended with the process before. Gives how many.
    pub async fn take_up(&self) -> Result<u64, QueueError> {
        let Kept::Apart {
            database,
            marked: true,
        } = &self.kept
        else {
            return Ok(0);
        };
        let (mut after, mut taken) = (0, 0);
        loop {
            let query = Statement::new(
                "SELECT row, scope, id, body FROM gateway_accepted
                 WHERE finished = 0 AND row > ?1 ORDER BY row LIMIT ?2",
            )
            .bind(after)
            .bind(BATCH);
            let rows = database.query(query).await.map_err(queue_error)?;
            if rows.is_empty() {
                return Ok(taken);
            }
            for row in rows {
                after = row.get::<i64>("row").map_err(queue_error)?;
                let event = read(&row).map_err(queue_error)?;
                let job = job(&event.key, event.body, &self.target);
                self.queue.enqueue(job).await?;
                taken += 1;
            }
        }
    }

    /// Writes down what an operator did, and to what.
    pub async fn audit(&self, action: &'static str, subject: &str) -> Result<(), QueueError> {
        tracing::info!(target: "gateway::audit", action, subject, "an operator acted");
        let now = WallClock::system().unix_millis();
        match &self.kept {
            // The line in the log is all that outlives anything here.
            Kept::Memory(_) => Ok(()),
            Kept::Together(database, _) | Kept::Apart { database, .. } => {
                let insert = Statement::new(
                    "INSERT INTO gateway_audit (at_ms, action, subject) VALUES (?1, ?2, ?3)",
                )
                .bind(i64::try_from(now).unwrap_or(i64::MAX))
                .bind(action)
                .bind(subject);
                database
                    .execute(insert)
                    .await
                    .map(drop)
                    .map_err(queue_error)
            }
        }
    }

    /// Removes what is older than [`KEEP`], a few rows at a time.
    async fn purge(&self) -> Result<(), QueueError> {
        let (Kept::Together(database, _) | Kept::Apart { database, .. }) = &self.kept else {
            return Ok(());
        };
        let keep = u64::try_from(KEEP.as_millis()).unwrap_or(u64::MAX);
        let before = WallClock::system().unix_millis().saturating_sub(keep);
        let before = i64::try_from(before).unwrap_or(i64::MAX);
        // Rows are in the order of their acceptance: the old ones are the first ones.
        let statements = [
            "DELETE FROM gateway_accepted WHERE row IN (
                 SELECT row FROM (SELECT row, accepted_ms, finished FROM gateway_accepted
                                  ORDER BY row LIMIT ?2)
                 WHERE accepted_ms < ?1 AND finished = 1)",
            "DELETE FROM gateway_audit WHERE row IN (
                 SELECT row FROM (SELECT row, at_ms FROM gateway_audit ORDER BY row LIMIT ?2)
                 WHERE at_ms < ?1)",
        ];
        for sql in statements {
            loop {
                let delete = Statement::new(sql).bind(before).bind(BATCH);
                if database.execute(delete).await.map_err(queue_error)? == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Purges now and then, for as long as the gateway runs.
    pub async fn housekeeping(self) {
        loop {
            if let Err(error) = self.purge().await {
                tracing::warn!(%error, "old events could not be removed");
            }
            tokio::time::sleep(Duration::from_secs(60 * 60)).await;
        }
    }
}

fn migrate(database: &Database) -> Result<(), OpenError> {
    database.migrate(
        "gateway/accepted",
        &["CREATE TABLE gateway_accepted (
               row INTEGER PRIMARY KEY,
               scope TEXT NOT NULL,
               id TEXT NOT NULL,
               body BLOB NOT NULL,
               accepted_ms INTEGER NOT NULL,
               finished INTEGER NOT NULL,
               UNIQUE (id, scope)
           ) STRICT;
           CREATE INDEX gateway_accepted_unfinished ON gateway_accepted (row) WHERE finished = 0;
           CREATE TABLE gateway_audit (
               row INTEGER PRIMARY KEY,
               at_ms INTEGER NOT NULL,
               action TEXT NOT NULL,
               subject TEXT NOT NULL
           ) STRICT;"],
    )
}

fn insert(
    transaction: &Transaction<'_>,
    event: &Event,
    finished: bool,
) -> Result<(), DatabaseError> {
    let now = WallClock::system().unix_millis();
    let insert = Statement::new(
        "INSERT INTO gateway_accepted (scope, id, body, accepted_ms, finished)
         VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (id, scope) DO NOTHING",
    )
    .bind(event.key.scope())
    .bind(event.key.id())
    .bind(event.body.clone())
    .bind(i64::try_from(now).unwrap_or(i64::MAX))
    .bind(finished);
    transaction.execute(&insert).map(drop)
}

fn read(row: &tower_webhook::sqlite::Row) -> Result<Event, DatabaseError> {
    let (scope, id): (String, String) = (row.get("scope")?, row.get("id")?);
    let key = Key::new(&scope, &id).map_err(DatabaseError::aborted)?;
    Ok(Event {
        key,
        body: row.get("body")?,
    })
}

fn queue_error(error: DatabaseError) -> QueueError {
    let kind = match error.kind() {
        DatabaseErrorKind::Full | DatabaseErrorKind::DiskFull => QueueErrorKind::Full,
        DatabaseErrorKind::Busy => QueueErrorKind::Timeout,
        DatabaseErrorKind::Mistyped => QueueErrorKind::Corrupt,
        _ => QueueErrorKind::Unavailable,
    };
    QueueError::new(kind).caused_by(error)
}

impl Memory {
    fn insert(&mut self, event: Event) {
        if self.by_id.contains_key(&event.key) {
            return;
        }
        self.bytes += event.body.len();
        self.next_row += 1;
        self.by_id.insert(event.key.clone(), self.next_row);
        self.events.insert(self.next_row, event);
        while self.events.len() > MAX_IN_MEMORY || self.bytes > MAX_BYTES_IN_MEMORY {
            let Some((_, oldest)) = self.events.pop_first() else {
                return;
            };
            self.bytes -= oldest.body.len();
            self.by_id.remove(&oldest.key);
        }
    }

    /// Over all of them: an operator asks, now and then.
    fn find(&self, id: &str) -> Option<Event> {
        let mut newest_first = self.events.values().rev();
        newest_first.find(|event| event.key.id() == id).cloned()
    }
}

fn lock(memory: &Mutex<Memory>) -> MutexGuard<'_, Memory> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}
