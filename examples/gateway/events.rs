//! The events that were accepted, and what became of them: in memory or in SQLite.

use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tower_webhook::{
    clock::WallClock,
    sqlite::{Database, DatabaseError, OpenError, Statement},
};

/// Finished events are kept this long, so that their status can be asked for.
pub const KEEP: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Events in memory at the most, and the bytes of their bodies. Beyond it the oldest finished ones
/// leave, and where none is finished nothing more is accepted.
const MAX_IN_MEMORY: usize = 100_000;
const MAX_BYTES_IN_MEMORY: usize = 256 << 20;

pub struct NewEvent {
    /// What the id is unique within: the route and the form.
    pub scope: String,
    pub id: String,
    pub task_id: String,
    /// The bytes as they were signed.
    pub body: Bytes,
}

/// An event to deliver. `row` orders events by their acceptance.
pub struct Pending {
    pub row: i64,
    pub id: String,
    pub body: Bytes,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Pending,
    Delivered,
    Failed,
}

impl Status {
    const fn code(self) -> i64 {
        match self {
            Self::Pending => 0,
            Self::Delivered => 1,
            Self::Failed => 2,
        }
    }

    const fn from_code(code: i64) -> Self {
        match code {
            0 => Self::Pending,
            1 => Self::Delivered,
            _ => Self::Failed,
        }
    }
}

/// The store cannot be asked, or is full.
#[derive(Debug)]
pub enum EventsError {
    Database(DatabaseError),
    Full,
}

impl fmt::Display for EventsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database(error) => error.fmt(f),
            Self::Full => f.write_str("too many events wait for their delivery"),
        }
    }
}

impl From<DatabaseError> for EventsError {
    fn from(error: DatabaseError) -> Self {
        Self::Database(error)
    }
}

pub enum Events {
    Memory(Mutex<Memory>),
    Sqlite(Database),
}

#[derive(Default)]
pub struct Memory {
    next_row: i64,
    events: BTreeMap<i64, Kept>,
    by_id: HashMap<(String, String), i64>,
    by_task: HashMap<String, i64>,
    finished: BTreeSet<i64>,
    bytes: usize,
    failed: u64,
}

struct Kept {
    event: NewEvent,
    status: Status,
}

impl Events {
    pub fn memory() -> Self {
        Self::Memory(Mutex::default())
    }

    /// The events in `database`, in tables of their own.
    pub fn sqlite(database: &Database) -> Result<Self, OpenError> {
        database.migrate(
            "gateway/events",
            // A row's number is never used again, so that whoever has seen all up to one has seen
            // them: what finished is removed, the newest too.
            &["CREATE TABLE gateway_events (
                   row INTEGER PRIMARY KEY AUTOINCREMENT,
                   scope TEXT NOT NULL,
                   id TEXT NOT NULL,
                   task_id TEXT NOT NULL UNIQUE,
                   body BLOB NOT NULL,
                   status INTEGER NOT NULL DEFAULT 0,
                   finished_ms INTEGER,
                   UNIQUE (scope, id)
               ) STRICT;
               CREATE INDEX gateway_events_pending ON gateway_events (row) WHERE status = 0;
               CREATE INDEX gateway_events_failed ON gateway_events (row) WHERE status = 2;
               CREATE INDEX gateway_events_finished ON gateway_events (finished_ms)
                   WHERE finished_ms IS NOT NULL;"],
        )?;
        Ok(Self::Sqlite(database.clone()))
    }

    /// Stores an event, and returns the task id under which it is known: the first one's, where a
    /// crash between storing and answering made the sender repeat it.
    pub async fn accept(&self, event: NewEvent) -> Result<String, EventsError> {
        match self {
            Self::Memory(memory) => lock(memory).accept(event),
            Self::Sqlite(database) => {
                let accepted = database.write(move |transaction| {
                    let insert = Statement::new(
                        "INSERT INTO gateway_events (scope, id, task_id, body)
                         VALUES (?1, ?2, ?3, ?4) ON CONFLICT (scope, id) DO NOTHING",
                    )
                    .bind(event.scope.as_str())
                    .bind(event.id.as_str())
                    .bind(event.task_id.as_str())
                    .bind(event.body.to_vec());
                    if transaction.execute(&insert)? == 1 {
                        return Ok(event.task_id);
                    }
                    let first = Statement::new(
                        "SELECT task_id FROM gateway_events WHERE scope = ?1 AND id = ?2",
                    )
                    .bind(event.scope)
                    .bind(event.id);
                    match transaction.query_one(&first)? {
                        Some(row) => row.get("task_id"),
                        None => Ok(event.task_id),
                    }
                });
                Ok(accepted.await?)
            }
        }
    }

    /// The oldest undelivered events after `row`.
    pub async fn pending(&self, row: i64, limit: usize) -> Result<Vec<Pending>, EventsError> {
        match self {
            Self::Memory(memory) => Ok(lock(memory).pending(row, limit)),
            Self::Sqlite(database) => {
                let query = Statement::new(
                    "SELECT row, id, body FROM gateway_events
                     WHERE status = 0 AND row > ?1 ORDER BY row LIMIT ?2",
                )
                .bind(row)
                .bind(i64::try_from(limit).unwrap_or(i64::MAX));
                let rows = database.query(query).await?;
                rows.iter()
                    .map(|row| {
                        Ok(Pending {
                            row: row.get("row")?,
                            id: row.get("id")?,
                            body: row.get::<Vec<u8>>("body")?.into(),
                        })
                    })
                    .collect()
            }
        }
    }

    /// Records what became of a delivery.
    pub async fn finish(&self, row: i64, status: Status) -> Result<(), EventsError> {
        match self {
            Self::Memory(memory) => lock(memory).finish(row, status),
            Self::Sqlite(database) => {
                let now = WallClock::system().unix_millis();
                let finish = Statement::new(
                    "UPDATE gateway_events SET status = ?1, finished_ms = ?2 WHERE row = ?3",
                )
                .bind(status.code())
                .bind(i64::try_from(now).unwrap_or(i64::MAX))
                .bind(row);
                database.execute(finish).await?;
            }
        }
        Ok(())
    }

    pub async fn status(&self, task_id: String) -> Result<Option<Status>, EventsError> {
        match self {
            Self::Memory(memory) => {
                let memory = lock(memory);
                let row = memory.by_task.get(&task_id);
                Ok(row
                    .and_then(|row| memory.events.get(row))
                    .map(|kept| kept.status))
            }
            Self::Sqlite(database) => {
                let query = Statement::new("SELECT status FROM gateway_events WHERE task_id = ?1")
                    .bind(task_id);
                let rows = database.query(query).await?;
                let status = rows
                    .first()
                    .map(|row| row.get::<i64>("status"))
                    .transpose()?;
                Ok(status.map(Status::from_code))
            }
        }
    }

    /// How many deliveries failed: asked in the way that events are stored.
    pub async fn failed(&self) -> Result<u64, EventsError> {
        match self {
            Self::Memory(memory) => Ok(lock(memory).failed),
            Self::Sqlite(database) => {
                // By the writing thread: what cannot be written cannot be accepted.
                let counted = database.write_relaxed(|transaction| {
                    let query =
                        Statement::new("SELECT count(*) AS n FROM gateway_events WHERE status = 2");
                    let row = transaction.query_one(&query)?;
                    row.map(|row| row.get::<i64>("n")).transpose()
                });
                let count = counted.await?;
                Ok(count.and_then(|n| n.try_into().ok()).unwrap_or_default())
            }
        }
    }

    /// Removes events that finished longer than [`KEEP`] ago, a few at a time.
    pub async fn purge(&self) -> Result<(), EventsError> {
        let Self::Sqlite(database) = self else {
            return Ok(());
        };
        let keep = u64::try_from(KEEP.as_millis()).unwrap_or(u64::MAX);
        let before = WallClock::system().unix_millis().saturating_sub(keep);
        loop {
            let delete = Statement::new(
                "DELETE FROM gateway_events WHERE row IN (
                     SELECT row FROM gateway_events WHERE finished_ms < ?1 LIMIT 500)",
            )
            .bind(i64::try_from(before).unwrap_or(i64::MAX));
            if database.execute(delete).await? == 0 {
                return Ok(());
            }
        }
    }
}

impl Memory {
    fn accept(&mut self, event: NewEvent) -> Result<String, EventsError> {
        let id = (event.scope.clone(), event.id.clone());
        if let Some(kept) = self.by_id.get(&id).and_then(|row| self.events.get(row)) {
            return Ok(kept.event.task_id.clone());
        }
        while self.events.len() >= MAX_IN_MEMORY
            || self.bytes + event.body.len() > MAX_BYTES_IN_MEMORY
        {
            let oldest = self.finished.pop_first().ok_or(EventsError::Full)?;
            self.remove(oldest);
        }
        self.bytes += event.body.len();
        self.next_row += 1;
        let (row, task_id) = (self.next_row, event.task_id.clone());
        self.by_id.insert(id, row);
        self.by_task.insert(task_id.clone(), row);
        let status = Status::Pending;
        self.events.insert(row, Kept { event, status });
        Ok(task_id)
    }

    fn remove(&mut self, row: i64) {
        if let Some(kept) = self.events.remove(&row) {
            self.bytes -= kept.event.body.len();
            self.by_id.remove(&(kept.event.scope, kept.event.id));
            self.by_task.remove(&kept.event.task_id);
            self.failed -= u64::from(kept.status == Status::Failed);
        }
    }

    fn pending(&self, after: i64, limit: usize) -> Vec<Pending> {
        self.events
            .range(after + 1..)
            .filter(|(_, kept)| kept.status == Status::Pending)
            .take(limit)
            .map(|(row, kept)| Pending {
                row: *row,
                id: kept.event.id.clone(),
                body: kept.event.body.clone(),
            })
            .collect()
    }

    fn finish(&mut self, row: i64, status: Status) {
        if let Some(kept) = self.events.get_mut(&row) {
            kept.status = status;
            self.finished.insert(row);
            self.failed += u64::from(status == Status::Failed);
        }
    }
}

fn lock(memory: &Mutex<Memory>) -> MutexGuard<'_, Memory> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Purges now and then, for as long as the gateway runs.
pub async fn housekeeping(events: Arc<crate::app::App>) {
    loop {
        if let Err(error) = events.events.purge().await {
            tracing::warn!(%error, "finished events could not be removed");
        }
        tokio::time::sleep(Duration::from_secs(60 * 60)).await;
    }
}
