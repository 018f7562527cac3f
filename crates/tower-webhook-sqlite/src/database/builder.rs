use super::{Database, OpenError};
use std::{path::Path, time::Duration};
use tower_webhook::{InvalidConfig, clock::WallClock};

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
}

/// An hour: whoever waits longer for a lock wants something else.
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
        }
    }
}

impl DatabaseBuilder {
    /// How long to wait for another process that holds the file, before an operation (and those
    /// behind it) fails as [`Busy`](super::DatabaseErrorKind::Busy). 5 s by default, an hour at
    /// the most; zero does not wait.
    pub const fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    /// Where stores in this database read the time of day for what they write: leases, times to
    /// live. The system clock by default.
    pub fn clock(mut self, clock: WallClock) -> Self {
        self.clock = clock;
        self
    }

    /// The most operations that share a commit. 256 by default. More of them share the price of
    /// one flush to disk, and the first waits for the last.
    pub const fn max_per_commit(mut self, operations: usize) -> Self {
        self.max_per_commit = operations;
        self
    }

    /// The most rows that a query may give, all of which are in memory at once. 10,000 by default.
    pub const fn max_rows(mut self, rows: usize) -> Self {
        self.max_rows = rows;
        self
    }

    /// The greatest size of the file, in bytes, rounded down to whole pages (4 KiB). As large as
    /// the disk by default. An operation that would pass it fails as
    /// [`DiskFull`](super::DatabaseErrorKind::DiskFull); those that make room still work. The
    /// write-ahead log beside the file is not counted; it is cut back to 64 MiB.
    pub const fn max_size(mut self, bytes: u64) -> Self {
        self.max_size = Some(bytes);
        self
    }

    /// The most operations that may wait, of each kind (writes and reads). 1024 by default, 2²⁰
    /// at the most. One more is refused at once as [`Full`](super::DatabaseErrorKind::Full). What
    /// is waiting is in memory, with the bodies that it is about to write.
    pub const fn max_waiting(mut self, operations: usize) -> Self {
        self.max_waiting = operations;
        self
    }

    /// Opens the database at `path`, and makes it when the file does not exist: readable and
    /// writable by this user alone (mode 0600 on Unix), because it holds payloads. Its folder is
    /// not made.
    ///
    /// Blocks the thread while the file is read, and for up to the busy timeout when another
    /// process holds it: open at start.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says why and what to do. A file that is anything else than a database of
    /// this crate is not touched.
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
