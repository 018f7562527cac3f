use super::{Limits, Rules, SqliteQueue, keys, ledger, schema, settle::Retention};
use crate::database::{Database, DatabaseError, Durability, OpenError};
use std::{
    path::Path,
    sync::{Arc, atomic::AtomicU32},
    time::Duration,
};
use tower_webhook::{InvalidConfig, observe::Observers, queue::Promises};

/// Less than SQLite's limit for a row.
const LARGEST_PAYLOAD: usize = 512 << 20;

/// A result is read into memory whole when its task is asked for.
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
    attempts: u32,
    per_target: u32,
    retention: Duration,
    durable_claims: bool,
    max_finished: u64,
    max_jobs: u64,
    max_keys: u64,
    max_payload: usize,
    max_result: usize,
}

impl Default for SqliteQueueBuilder {
    fn default() -> Self {
        Self {
            attempts: Promises::default().attempts,
            per_target: 8,
            retention: Duration::from_secs(7 * 24 * 60 * 60),
            durable_claims: false,
            max_finished: 1_000_000,
            max_jobs: 1_000_000,
            max_keys: 70_000_000,
            max_payload: 16 << 20,
            max_result: 1 << 20,
        }
    }
}

impl SqliteQueueBuilder {
    /// Sets the number of attempts of a job: if the lease of the last one ends, the job has failed for good.
    /// Default: 25. A [worker](tower_webhook::queue::WorkerBuilder::retry) may allow fewer, and not more.
    ///
    /// All processes that share the file should have the same settings.
    pub const fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// Sets how many jobs of one [target](tower_webhook::queue::NewJob::target) run at the same time, over all
    /// workers. The limit keeps a slow target from using all of the concurrency. Default: 8. `u32::MAX`: no
    /// limit, which makes each operation about a tenth faster. If a file had the other of the two before, it is
    /// converted when the queue is built, which reads all jobs.
    pub const fn per_target(mut self, jobs: u32) -> Self {
        self.per_target = jobs;
        self
    }

    /// Sets how long the status, the result and the deduplication key of a finished task are kept.
    /// Default: 7 days.
    pub const fn retention(mut self, retention: Duration) -> Self {
        self.retention = retention;
        self
    }

    /// Sets whether a claim is on the disk before its jobs are given out. Default: `false`, which
    /// saves a flush.
    ///
    /// With `false`, a claim survives the death of the process, but the last claims may be lost when the
    /// machine loses its power. Their jobs run again either way, but the attempt is not counted. Set it to
    /// `true` if a payload may crash the whole machine.
    pub const fn durable_claims(mut self, durable: bool) -> Self {
        self.durable_claims = durable;
        self
    }

    /// Sets the largest number of finished tasks that are kept. Default: 1,000,000.
    ///
    /// When it is exceeded, the tasks whose retention ends first are removed, a few at a time. Their status can
    /// no longer be requested; their deduplication keys stay known until the retention is over. A finished task
    /// takes about 200 bytes, plus its target and its result.
    ///
    /// If several queues are built in one [`Database`], the setting of the first applies; if several
    /// processes share the file, the smallest setting.
    pub const fn max_finished(mut self, tasks: u64) -> Self {
        self.max_finished = tasks;
        self
    }

    /// Sets the largest number of jobs that are queued or running. Default: 1,000,000. As many again may have failed
    /// and wait for their dead letters. One more is refused as [`Full`](tower_webhook::StoreErrorKind::Full).
    pub const fn max_jobs(mut self, jobs: u64) -> Self {
        self.max_jobs = jobs;
        self
    }

    /// Sets the largest number of deduplication keys: those of unfinished jobs, and those of finished tasks
    /// until their retention is over. Default: 70,000,000, which is 100 jobs a second with a retention of 8
    /// days. A key whose task was removed takes about 85 bytes of the file.
    ///
    /// A job with a new key beyond that is refused as [`Full`](tower_webhook::StoreErrorKind::Full), because a
    /// key that is forgotten early would let a repetition pass as new. Each refusal is told to the
    /// [observers](crate::database::DatabaseBuilder::observe) of the database, and when the number of keys
    /// reaches nine tenths of the bound. Jobs without a key, and repetitions, are accepted as before. If the bound is lowered below what a file has, its keys stay.
    pub const fn max_keys(mut self, keys: u64) -> Self {
        self.max_keys = keys;
        self
    }

    /// Sets the largest payload, in bytes. Default: 16 MiB; at most 512 MiB. A larger one is
    /// refused as [`TooLarge`](tower_webhook::StoreErrorKind::TooLarge).
    pub const fn max_payload(mut self, bytes: usize) -> Self {
        self.max_payload = bytes;
        self
    }

    /// Sets the largest result, in bytes. Default: 1 MiB; at most 512 MiB. A larger one is refused as
    /// [`TooLarge`](tower_webhook::StoreErrorKind::TooLarge), and the claim still holds: settle it
    /// again without the result. Results are kept for the retention, longer than payloads: there may
    /// be [`max_finished`](Self::max_finished) of them.
    pub const fn max_result(mut self, bytes: usize) -> Self {
        self.max_result = bytes;
        self
    }

    /// Builds the queue in an open database, which may hold other tables too. Creates or upgrades the
    /// queue's tables, which blocks the thread: build at start.
    ///
    /// # Errors
    ///
    /// [`OpenError::Config`] names an invalid setting. [`OpenError::NewerSchema`] if a newer release
    /// made the tables, and the errors of a [migration](Database::migrate).
    pub fn build(self, database: &Database) -> Result<SqliteQueue, OpenError> {
        let mut limits = self.limits()?;
        limits.observers = database.observers().clone();
        keys::open(database)?;
        let lanes = self.per_target < u32::MAX;
        let version = AtomicU32::new(u32::try_from(schema::STEPS.len()).unwrap_or(u32::MAX));
        database.at_start(schema::COMPONENT, &version, move |transaction| {
            ledger::use_lanes(transaction, lanes).map_err(DatabaseError::from_driver)
        })?;
        database.add_chore(Arc::new(Retention::new(
            database.clock().clone(),
            limits.max_finished,
        )));
        Ok(SqliteQueue {
            database: database.clone(),
            limits: Arc::new(limits),
        })
    }

    /// Opens the file at `path` with the default settings of a [`Database`], and builds the queue in
    /// it.
    ///
    /// # Errors
    ///
    /// The errors of [`build`](Self::build) and of [`Database::open`].
    pub fn open(self, path: impl AsRef<Path>) -> Result<SqliteQueue, OpenError> {
        // Before a file is made.
        self.limits()?;
        self.build(&Database::open(path)?)
    }

    fn limits(&self) -> Result<Limits, InvalidConfig> {
        for (setting, value) in [("attempts", self.attempts), ("per_target", self.per_target)] {
            if value == 0 {
                return Err(InvalidConfig::new(setting, "must be at least 1"));
            }
        }
        if self.retention.is_zero() {
            return Err(InvalidConfig::new("retention", "must be longer than zero"));
        }
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
        let max_keys = match i64::try_from(self.max_keys) {
            Ok(0) => return Err(InvalidConfig::new("max_keys", "must be at least 1")),
            Ok(keys) => keys,
            Err(_) => return Err(InvalidConfig::new("max_keys", "must be less than 2^63")),
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
            max_keys,
            max_payload: self.max_payload,
            max_result: self.max_result,
            rules: Rules {
                retention: self.retention,
                attempts: self.attempts,
                per_target: self.per_target,
            },
            claims: if self.durable_claims {
                Durability::Durable
            } else {
                Durability::Relaxed
            },
            observers: Observers::none(),
        })
    }
}
