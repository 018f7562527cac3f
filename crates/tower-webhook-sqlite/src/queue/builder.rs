use super::{Limits, SqliteQueue, schema, settle::Retention, wait::Seen};
use crate::database::{Database, Durability, OpenError};
use std::{path::Path, sync::Arc};
use tower_webhook::InvalidConfig;

/// What one row may hold, less than SQLite's own limit.
const LARGEST_PAYLOAD: usize = 512 << 20;

/// The same of a result, which those who ask for a task are given whole.
const LARGEST_RESULT: usize = LARGEST_PAYLOAD;

/// Settings of a [`SqliteQueue`].
///
/// # Examples
///
/// ```
/// use tower_webhook_sqlite::{Database, SqliteQueue};
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("queue.db");
/// let database = Database::builder().max_size(1 << 30).open(path)?;
/// let queue = SqliteQueue::builder()
///     .max_jobs(100_000)
///     .max_payload(1 << 20)
///     .build(&database)?;
/// # Ok::<(), tower_webhook_sqlite::database::OpenError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct SqliteQueueBuilder {
    durable_claims: bool,
    max_finished: u64,
    max_jobs: u64,
    max_payload: usize,
    max_result: usize,
}

impl Default for SqliteQueueBuilder {
    fn default() -> Self {
        Self {
            durable_claims: false,
            max_finished: 1_000_000,
            max_jobs: 1_000_000,
            max_payload: 16 << 20,
            max_result: 1 << 20,
        }
    }
}

impl SqliteQueueBuilder {
    /// Whether a claim is on the disk before its jobs are given out. `false` by default, which
    /// spares a flush.
    ///
    /// With `false` a claim survives the death of the process, and the last ones may be forgotten
    /// when the machine loses its power. Their jobs run again either way; forgotten is that the
    /// attempt was counted. Say `true` where a payload might take the whole machine down.
    pub const fn durable_claims(mut self, durable: bool) -> Self {
        self.durable_claims = durable;
        self
    }

    /// The most finished tasks of which the status is kept. 1,000,000 by default. Past it those
    /// leave whose time to live ends first, in small pieces as everything does whose time is over,
    /// and a repeat of their key is put in again: choose it above what finishes within the time to
    /// live. A finished task takes some 200 bytes, beside its key, its target and its result.
    ///
    /// Of the queues in one [`Database`] the first that is built decides; of several processes, the
    /// least.
    pub const fn max_finished(mut self, tasks: u64) -> Self {
        self.max_finished = tasks;
        self
    }

    /// The most jobs that are not finished. 1,000,000 by default. One more is refused as
    /// [`Full`](tower_webhook::StoreErrorKind::Full).
    pub const fn max_jobs(mut self, jobs: u64) -> Self {
        self.max_jobs = jobs;
        self
    }

    /// The largest payload, in bytes. 16 MiB by default, 512 MiB at the most. A larger one is
    /// refused as [`TooLarge`](tower_webhook::StoreErrorKind::TooLarge).
    pub const fn max_payload(mut self, bytes: usize) -> Self {
        self.max_payload = bytes;
        self
    }

    /// The largest result, in bytes. 1 MiB by default, 512 MiB at the most. A larger one is refused
    /// as [`TooLarge`](tower_webhook::StoreErrorKind::TooLarge), and the claim stands: settle it
    /// again without the result. Results stay for their time to live, when payloads are long gone:
    /// there may be [`max_finished`](Self::max_finished) of them.
    pub const fn max_result(mut self, bytes: usize) -> Self {
        self.max_result = bytes;
        self
    }

    /// The queue in a database that is already open, beside what else is in it. Makes its tables
    /// where they are not there, which blocks the thread: build at start.
    ///
    /// # Errors
    ///
    /// [`OpenError::Config`] names a setting that makes no sense. [`OpenError::NewerSchema`] when
    /// the tables are those of a newer release, and what can befall a
    /// [migration](Database::migrate).
    pub fn build(self, database: &Database) -> Result<SqliteQueue, OpenError> {
        let limits = self.limits()?;
        database.migrate(schema::COMPONENT, schema::STEPS)?;
        database.add_chore(Arc::new(Retention::new(
            database.clock().clone(),
            limits.max_finished,
        )));
        Ok(SqliteQueue {
            database: database.clone(),
            limits: Arc::new(limits),
            seen: Seen::default(),
        })
    }

    /// Opens the file at `path`, with the default settings of a [`Database`], and the queue in it.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build), and what [`Database::open`] says.
    pub fn open(self, path: impl AsRef<Path>) -> Result<SqliteQueue, OpenError> {
        // Before a file is made.
        self.limits()?;
        self.build(&Database::open(path)?)
    }

    fn limits(&self) -> Result<Limits, InvalidConfig> {
        let max_finished = match i64::try_from(self.max_finished) {
            Ok(0) => return Err(InvalidConfig::new("max_finished", "must be at least 1")),
            Ok(tasks) => tasks,
            Err(_) => return Err(InvalidConfig::new("max_finished", "must be less than 2^63")),
        };
        let max_jobs = match i64::try_from(self.max_jobs) {
            Ok(jobs) if jobs > 0 && jobs <= i64::MAX / 4 => jobs,
            Ok(0) => return Err(InvalidConfig::new("max_jobs", "must be at least 1")),
            _ => return Err(InvalidConfig::new("max_jobs", "must be less than 2^61")),
        };
        if self.max_payload == 0 || self.max_payload > LARGEST_PAYLOAD {
            return Err(InvalidConfig::new(
                "max_payload",
                "must be from 1 byte to 512 MiB",
            ));
        }
        if self.max_result == 0 || self.max_result > LARGEST_RESULT {
            return Err(InvalidConfig::new(
                "max_result",
                "must be from 1 byte to 512 MiB",
            ));
        }
        Ok(Limits {
            max_finished,
            max_jobs,
            max_payload: self.max_payload,
            max_result: self.max_result,
            claims: if self.durable_claims {
                Durability::Durable
            } else {
                Durability::Relaxed
            },
        })
    }
}
