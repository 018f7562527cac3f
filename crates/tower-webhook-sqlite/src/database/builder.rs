use super::{Database, OpenError};
use std::{path::Path, time::Duration};
use tower_webhook::{
    InvalidConfig,
    clock::WallClock,
    observe::{Observer, Observers},
};

/// Settings of a [`Database`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_webhook_sqlite::database::Database;
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("events.db");
/// let database = Database::builder()
///     .busy_timeout(Duration::from_secs(2))
///     .max_waiting(10_000)
///     .max_size(1 << 30)
///     .open(path)?;
/// # Ok::<(), tower_webhook_sqlite::database::OpenError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct DatabaseBuilder {
    pub(super) busy_timeout: Duration,
    pub(super) clock: WallClock,
    pub(super) max_per_commit: usize,
    pub(super) max_rows: usize,
    pub(super) max_size: Option<u64>,
    pub(super) max_waiting: usize,
    pub(super) observers: Observers,
}

const LONGEST_BUSY_TIMEOUT: Duration = Duration::from_secs(3600);
/// Each waiting place is allocated when the database is opened.
const MOST_WAITING: usize = 1 << 20;

impl Default for DatabaseBuilder {
    fn default() -> Self {
        Self {
            busy_timeout: Duration::from_secs(5),
            clock: WallClock::system(),
            max_per_commit: 256,
            max_rows: 10_000,
            max_size: None,
            max_waiting: 1024,
            observers: Observers::none(),
        }
    }
}

impl DatabaseBuilder {
    /// Sets how long an operation waits for another process that holds the file. Default: 5 s; at most an
    /// hour; zero does not wait. After that time, the operation and those queued behind it fail as
    /// [`Busy`](super::DatabaseErrorKind::Busy).
    pub const fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    /// Sets the clock by which leases, waits and retention end. Default: the system clock.
    pub fn clock(mut self, clock: WallClock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the largest number of operations that share a commit. Default: 256. With more, fewer flushes to
    /// disk are needed, and the first operation waits longer for the last.
    pub const fn max_per_commit(mut self, operations: usize) -> Self {
        self.max_per_commit = operations;
        self
    }

    /// Sets the largest number of rows that a query may return. Default: 10,000. All of them are in memory at
    /// once.
    pub const fn max_rows(mut self, rows: usize) -> Self {
        self.max_rows = rows;
        self
    }

    /// Sets the maximum size of the file, in bytes, rounded down to whole pages (4 KiB). Default: none.
    /// An operation that would exceed it fails as [`DiskFull`](super::DatabaseErrorKind::DiskFull);
    /// operations that free space still work. The write-ahead log beside the file does not count; it
    /// is truncated to 64 MiB.
    pub const fn max_size(mut self, bytes: u64) -> Self {
        self.max_size = Some(bytes);
        self
    }

    /// Sets how many writes may wait, and how many reads. Default: 1024 of each; at most 2²⁰. One more is
    /// refused at once as [`Full`](super::DatabaseErrorKind::Full). Waiting operations are in memory, with
    /// the bodies that they write.
    pub const fn max_waiting(mut self, operations: usize) -> Self {
        self.max_waiting = operations;
        self
    }

    /// Adds an observer of [`Event::Trouble`](tower_webhook::observe::Event::Trouble) with the file and
    /// everything that is stored in it: a commit or a chore that failed, jobs that wait for a newer release,
    /// accepted events that cannot be enqueued. Default: none except `tracing`.
    ///
    /// Most events are reported on the writing thread, so an observer must not block or wait for this
    /// database. An observer that holds the database keeps it open.
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.observers = self.observers.and(observer);
        self
    }

    /// Opens the database at `path`. Creates the file if it does not exist, readable and writable by
    /// this user only (mode 0600 on Unix), because it holds payloads. Does not create its folder.
    ///
    /// Blocks the thread while the file is read, and for up to the busy timeout if another process
    /// holds it: open at start.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says why and what to do. A file that is not a database of this crate is not
    /// changed.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Database, OpenError> {
        Database::start(self.checked()?, path.as_ref())
    }

    fn checked(self) -> Result<Self, InvalidConfig> {
        if self.busy_timeout > LONGEST_BUSY_TIMEOUT {
            return Err(InvalidConfig::new(
                "busy_timeout",
                "must be an hour at the most",
            ));
        }
        if self.max_per_commit == 0 {
            return Err(InvalidConfig::new("max_per_commit", "must be at least 1"));
        }
        if self.max_rows == 0 {
            return Err(InvalidConfig::new("max_rows", "must be at least 1"));
        }
        if self.max_size.is_some_and(|bytes| bytes < 64 * 1024) {
            return Err(InvalidConfig::new("max_size", "must be at least 64 KiB"));
        }
        if self.max_waiting == 0 || self.max_waiting > MOST_WAITING {
            return Err(InvalidConfig::new(
                "max_waiting",
                "must be from 1 to 1048576",
            ));
        }
        Ok(self)
    }
}
