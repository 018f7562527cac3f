//! The events that were accepted, kept so that an operator can have one delivered again, and what
//! operators did.
//!
//! Accepting is one transaction where events and jobs are in one file: the event, its key and its
//! job are there together or not at all. Where they are in two places the event is stored first, and
//! marked when its delivery is over: a start puts those that are not into its queue, whichever that
//! is now.

use bytes::Bytes;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tower_webhook::{
    StoreError, StoreErrorKind,
    clock::WallClock,
    idempotency::IdempotencyKey,
    queue::{About, Enqueued, NewJob, Queue},
};
use tower_webhook_sqlite::{
    Database, SqliteQueue,
    database::{DatabaseError, OpenError, Statement, Transaction},
};

/// Events, statuses and the trail of operators are kept this long.
pub const KEEP: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Events in memory at the most, and the bytes of their bodies. Beyond it the oldest leave: they
/// are delivered all the same, and cannot be replayed.
const MAX_IN_MEMORY: usize = 100_000;
const MAX_BYTES_IN_MEMORY: usize = 128 << 20;

/// The queue counts as full for so long after it refused something.
const FULL: Duration = Duration::from_secs(10);

/// Read or removed at a time.
const BATCH: i64 = 500;

/// An event, as it was accepted.
#[derive(Clone)]
pub struct Event {
    /// The route and form, within which the id is unique, and the id.
    pub key: IdempotencyKey,
    /// The bytes as they were signed.
    pub body: Bytes,
}

/// The delivery of an event: known by its key, and known to the receiver by the same id.
pub fn job(key: &IdempotencyKey, body: Bytes, target: &str) -> NewJob {
    let mut about = About::default();
    about.event_id = Some(key.id().to_owned());
    about.idempotency_key = Some(key.id().to_owned());
    NewJob::new("event", body)
        .dedup_key(key.clone())
        .target(target)
        .about(about)
}

#[derive(Clone)]
pub struct Events {
    kept: Kept,
    queue: Queue,
    target: Arc<str>,
    full: Arc<Mutex<Option<Instant>>>,
}

#[derive(Clone)]
enum Kept {
    Memory(Arc<Mutex<Memory>>),
    /// Events and jobs in one file.
    Together(Database, SqliteQueue),
    /// Jobs are elsewhere. An event is marked when it is done.
    Apart(Database),
}

#[derive(Default)]
struct Memory {
    next_row: u64,
    events: BTreeMap<u64, Event>,
    by_id: HashMap<IdempotencyKey, u64>,
    bytes: usize,
}

impl Events {
    /// In memory. `target` is whom deliveries burden.
    pub fn memory(queue: Queue, target: &str) -> Self {
        Self {
            kept: Kept::Memory(Arc::default()),
            queue,
            target: target.into(),
            full: Arc::default(),
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
            full: Arc::default(),
        })
    }

    /// In a file of their own.
    pub fn apart(database: &Database, queue: Queue, target: &str) -> Result<Self, OpenError> {
        migrate(database)?;
        Ok(Self {
            kept: Kept::Apart(database.clone()),
            queue,
            target: target.into(),
            full: Arc::default(),
        })
    }

    /// Stores an event, which is the job's key and payload, and puts its delivery into the queue. A
    /// repeat gets the first one's task.
    pub async fn accept(&self, job: NewJob) -> Result<Enqueued, StoreError> {
        let accepted = self.store(job).await;
        if let Err(error) = &accepted
            && error.kind() == StoreErrorKind::Full
        {
            *lock(&self.full) = Some(Instant::now());
        }
        accepted
    }

    /// Whether an event was refused lately because there is no room.
    pub fn was_full(&self) -> bool {
        lock(&self.full).is_some_and(|when| when.elapsed() < FULL)
    }

    async fn store(&self, job: NewJob) -> Result<Enqueued, StoreError> {
        let Some(key) = job.dedup_key.clone() else {
            return self.queue.enqueue(job).await;
        };
        let event = Event {
            key,
            body: job.payload.clone(),
        };
        match &self.kept {
            Kept::Memory(memory) => {
                // After the queue has it: what is refused takes no place from what is accepted.
                let accepted = self.queue.enqueue(job).await?;
                lock(memory).insert(event);
                Ok(accepted)
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
                Ok(written.await?)
            }
            Kept::Apart(database) => {
                let stored = event.clone();
                let known = database.write(move |transaction| insert(transaction, &stored, false));
                let known = known.await?;
                if known == Some(true) {
                    // Its delivery is over, whatever the queue remembers.
                    return Ok(Enqueued {
                        id: job.id,
                        repeated: true,
                    });
                }
                let accepted = self.queue.enqueue(job).await;
                if accepted.is_err() && known.is_none() {
                    // Nobody was told that it was accepted.
                    database.execute(forget(&event.key)).await?;
                }
                accepted
            }
        }
    }

    /// The newest event of this id.
    pub async fn find(&self, id: String) -> Result<Option<Event>, StoreError> {
        match &self.kept {
            Kept::Memory(memory) => Ok(lock(memory).find(&id)),
            Kept::Together(database, _) | Kept::Apart(database) => {
                let query = Statement::new(
                    "SELECT scope, id, body FROM gateway_accepted WHERE id = ?1
                     ORDER BY row DESC LIMIT 1",
                )
                .bind(id);
                let found = database.read(move |transaction| {
                    let row = transaction.query_one(&query)?;
                    row.map(|row| read(&row)).transpose()
                });
                Ok(found.await?)
            }
        }
    }

    /// Whether the store can be written: what cannot be written cannot be accepted.
    pub async fn probe(&self) -> Result<(), StoreError> {
        match &self.kept {
            Kept::Memory(_) => Ok(()),
            Kept::Together(database, _) | Kept::Apart(database) => {
                let asked = database.write_relaxed(|transaction| {
                    let now = i64::try_from(WallClock::system().unix_millis()).unwrap_or(i64::MAX);
                    let write = Statement::new("UPDATE gateway_probe SET at_ms = ?1").bind(now);
                    transaction.execute(&write).map(drop)
                });
                Ok(asked.await?)
            }
        }
    }

    /// Notes that the delivery of an event is over, where that has to be remembered.
    pub fn finished(&self, key: &IdempotencyKey) {
        if let Kept::Apart(database) = &self.kept {
            // What is not marked is asked for in the queue at the next start.
            drop(database.execute(mark(key)));
        }
    }

    /// Puts the events into the queue that no start before has finished, as there is room.
    pub async fn take_up(self) {
        let (mut after, mut taken) = (0, 0_u64);
        loop {
            match self.take_up_some(&mut after).await {
                Ok(0) => break,
                Ok(some) => taken += some,
                Err(error) => {
                    tracing::warn!(%error, "events of the run before wait for the queue");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
        if taken > 0 {
            tracing::info!(taken, "events of the run before are in the queue");
        }
    }

    async fn take_up_some(&self, after: &mut i64) -> Result<u64, StoreError> {
        let (Kept::Together(database, _) | Kept::Apart(database)) = &self.kept else {
            return Ok(0);
        };
        let query = Statement::new(
            "SELECT row, scope, id, body FROM gateway_accepted
             WHERE finished = 0 AND row > ?1 ORDER BY row LIMIT ?2",
        )
        .bind(*after)
        .bind(BATCH);
        let mut taken = 0;
        for row in database.query(query).await? {
            let event = read(&row)?;
            let job = job(&event.key, event.body, &self.target);
            let there = self.queue.enqueue(job).await?;
            let together = matches!(self.kept, Kept::Together(..));
            let task = self.queue.task(there.id).await?;
            if together || task.is_some_and(|task| task.status.is_final()) {
                let marked = database.execute(mark(&event.key));
                marked.await?;
            }
            *after = row.get::<i64>("row")?;
            taken += 1;
        }
        Ok(taken)
    }

    /// Writes down what an operator did, and to what.
    pub async fn audit(&self, action: &'static str, subject: &str) -> Result<(), StoreError> {
        tracing::info!(target: "gateway::audit", action, subject, "an operator acted");
        let now = WallClock::system().unix_millis();
        match &self.kept {
            // The line in the log is all that outlives anything here.
            Kept::Memory(_) => Ok(()),
            Kept::Together(database, _) | Kept::Apart(database) => {
                let insert = Statement::new(
                    "INSERT INTO gateway_audit (at_ms, action, subject) VALUES (?1, ?2, ?3)",
                )
                .bind(i64::try_from(now).unwrap_or(i64::MAX))
                .bind(action)
                .bind(subject);
                database.execute(insert).await?;
                Ok(())
            }
        }
    }

    /// Removes what is older than [`KEEP`], a few rows at a time.
    async fn purge(&self) -> Result<(), StoreError> {
        let (Kept::Together(database, _) | Kept::Apart(database)) = &self.kept else {
            return Ok(());
        };
        let keep = u64::try_from(KEEP.as_millis()).unwrap_or(u64::MAX);
        let before = WallClock::system().unix_millis().saturating_sub(keep);
        let before = i64::try_from(before).unwrap_or(i64::MAX);
        // Rows are in the order of their acceptance: the old ones are the first ones.
        let statements = [
            "DELETE FROM gateway_accepted WHERE row IN (
                 SELECT row FROM (SELECT row, accepted_ms FROM gateway_accepted
                                  WHERE finished = 1 ORDER BY row LIMIT ?2)
                 WHERE accepted_ms < ?1)",
            "DELETE FROM gateway_audit WHERE row IN (
                 SELECT row FROM (SELECT row, at_ms FROM gateway_audit ORDER BY row LIMIT ?2)
                 WHERE at_ms < ?1)",
        ];
        for sql in statements {
            loop {
                let delete = Statement::new(sql).bind(before).bind(BATCH);
                if database.execute(delete).await? == 0 {
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
           CREATE TABLE gateway_probe (at_ms INTEGER NOT NULL) STRICT;
           INSERT INTO gateway_probe VALUES (0);
           CREATE TABLE gateway_audit (
               row INTEGER PRIMARY KEY,
               at_ms INTEGER NOT NULL,
               action TEXT NOT NULL,
               subject TEXT NOT NULL
           ) STRICT;"],
    )
}

/// Gives whether the delivery of an event is over that is there already.
fn insert(
    transaction: &Transaction<'_>,
    event: &Event,
    finished: bool,
) -> Result<Option<bool>, DatabaseError> {
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
    if transaction.execute(&insert)? == 1 {
        return Ok(None);
    }
    let known =
        Statement::new("SELECT finished FROM gateway_accepted WHERE id = ?1 AND scope = ?2")
            .bind(event.key.id())
            .bind(event.key.scope());
    let known = transaction.query_one(&known)?;
    known.map(|row| row.get("finished")).transpose()
}

fn mark(key: &IdempotencyKey) -> Statement {
    Statement::new("UPDATE gateway_accepted SET finished = 1 WHERE id = ?1 AND scope = ?2")
        .bind(key.id())
        .bind(key.scope())
}

fn forget(key: &IdempotencyKey) -> Statement {
    Statement::new("DELETE FROM gateway_accepted WHERE id = ?1 AND scope = ?2 AND finished = 0")
        .bind(key.id())
        .bind(key.scope())
}

fn read(row: &tower_webhook_sqlite::database::Row) -> Result<Event, DatabaseError> {
    let (scope, id): (String, String) = (row.get("scope")?, row.get("id")?);
    let key = IdempotencyKey::new(&scope, &id).map_err(DatabaseError::aborted)?;
    Ok(Event {
        key,
        body: row.get("body")?,
    })
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
