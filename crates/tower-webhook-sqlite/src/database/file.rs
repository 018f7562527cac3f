//! Opening the file, and noticing that it is gone.

use super::{DatabaseBuilder, DatabaseError, DatabaseErrorKind, OpenError, schema};
use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig};
use std::{
    cell::Cell,
    fs::{Metadata, OpenOptions},
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// A file up to this size is checked completely when it is opened, which takes some tens of
/// milliseconds.
const CHECKED_WHOLE: i64 = 32 << 20;
/// The write-ahead log is truncated to this size, in bytes.
const LOG_LIMIT: i64 = 64 << 20;
/// How many prepared statements are cached.
const PREPARED: usize = 64;
/// The delay between two tries to open a file that another process holds.
const RETRY: Duration = Duration::from_millis(10);
/// The delay between two tries to begin a write transaction: about a commit of another process.
const TURN: Duration = Duration::from_micros(500);
/// The value of `PRAGMA synchronous` for `FULL`.
const SYNCHRONOUS_FULL: i64 = 2;

/// Everything that is needed to open the file, and to open it again.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) path: PathBuf,
    pub(super) with: DatabaseBuilder,
    /// The file at the path when it was last opened for writing.
    opened: Mutex<Option<Identity>>,
    /// Whether the file became shorter, and was not checked since.
    shrunk: AtomicBool,
}

/// An open file.
#[derive(Debug)]
pub(super) struct File {
    pub(super) connection: Connection,
    identity: Option<Identity>,
    /// Its length when it was last looked at.
    length: Cell<u64>,
}

/// What is at a path. Nothing, where there is no file.
#[derive(Default)]
struct Found {
    identity: Option<Identity>,
    length: u64,
}

/// The device and inode of the file at a path.
type Identity = (u64, u64);

impl File {
    /// Opens the file for writing, for the first time: makes it, checks it, marks it as ours.
    pub(super) fn open(settings: &Settings) -> Result<Self, OpenError> {
        make(&settings.path)?;
        // SQLite itself waits for some locks, but not for the one that turns on the write-ahead log.
        let deadline = Instant::now() + settings.with.busy_timeout;
        loop {
            match Self::writing(settings, true) {
                Err(OpenError::Locked { .. }) if Instant::now() < deadline => {
                    std::thread::sleep(RETRY);
                }
                other => return other,
            }
        }
    }

    /// Opens the file again, after an error or after it was gone. It must be there, and ours.
    ///
    /// Another file in its place is opened only if there is no write-ahead log: SQLite would apply the
    /// log of the old file to the new one ("How To Corrupt An SQLite Database File", 1.4).
    pub(super) fn open_again(settings: &Settings) -> Result<Self, DatabaseError> {
        let mut log = settings.path.clone().into_os_string();
        log.push("-wal");
        if !settings.leads_where_it_did() && Path::new(&log).exists() {
            return Err(DatabaseError::caused(
                DatabaseErrorKind::Unavailable,
                "the file was removed or replaced, and its `-wal` was not",
            ));
        }
        Self::writing(settings, false).map_err(gone)
    }

    /// Opens the file for reading only.
    pub(super) fn open_to_read(settings: &Settings) -> Result<Self, OpenError> {
        let file = Self::connect(settings, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        file.connection
            .pragma_update(None, "query_only", true)
            .map_err(|error| settings.because(error))?;
        Ok(file)
    }

    /// [`open_to_read`](Self::open_to_read) after the file failed or was away: the file that is
    /// open for writing, no other.
    pub(super) fn open_to_read_again(settings: &Settings) -> Result<Self, DatabaseError> {
        if !settings.leads_where_it_did() {
            return Err(moved());
        }
        Self::open_to_read(settings).map_err(gone)
    }

    fn connect(settings: &Settings, access: OpenFlags) -> Result<Self, OpenError> {
        let because = |error| settings.because(error);
        // Without `SQLITE_OPEN_URI`: a path is a path, whatever it begins with.
        let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&settings.path, flags).map_err(because)?;
        connection
            .busy_timeout(settings.with.busy_timeout)
            .map_err(because)?;
        connection.set_prepared_statement_cache_capacity(PREPARED);
        connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)
            .map_err(because)?;
        // Plans do not depend on values. Otherwise a statement with a value that might be that of a partial index is
        // prepared again each time that the value is bound.
        connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
            .map_err(because)?;
        for pragma in ["cell_size_check", "foreign_keys"] {
            connection
                .pragma_update(None, pragma, true)
                .map_err(because)?;
        }
        connection
            .pragma_update(None, "trusted_schema", false)
            .map_err(because)?;
        let found = found(&settings.path);
        Ok(Self {
            identity: found.identity,
            length: Cell::new(found.length),
            connection,
        })
    }

    fn writing(settings: &Settings, first: bool) -> Result<Self, OpenError> {
        let because = |error| settings.because(error);
        let file = Self::connect(settings, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let connection = &file.connection;
        // If it may not write the file, SQLite opens it for reading, without an error.
        if connection.is_readonly("main").map_err(because)? {
            return Err(OpenError::ReadOnly {
                path: settings.path.clone(),
            });
        }
        schema::recognise(connection, settings, first)?;
        if settings.shrunk.load(Ordering::Relaxed) {
            check_whole(connection, settings)?;
            settings.shrunk.store(false, Ordering::Relaxed);
        } else if first {
            check(connection, settings)?;
        }
        let mode: String = connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))
            .map_err(because)?;
        if mode != "wal" {
            return Err(settings.cannot(format!(
                "its file system cannot share memory between processes (journal mode {mode})"
            )));
        }
        // `fullfsync` makes macOS flush the drive as well; it has no effect elsewhere.
        for pragma in ["fullfsync", "checkpoint_fullfsync"] {
            connection
                .pragma_update(None, pragma, true)
                .map_err(because)?;
        }
        connection
            .pragma_update(None, "journal_size_limit", LOG_LIMIT)
            .map_err(because)?;
        // What is deleted is overwritten. It costs nothing that could be measured for bodies up to 8 KiB; to delete
        // one of 64 KiB takes as long as to insert it (SQLite 3.40, November 2026).
        connection
            .pragma_update(None, "secure_delete", true)
            .map_err(because)?;
        // What an operation changed is remembered in memory until it is done, so that it can be undone alone. Beyond
        // 64 KiB SQLite would make a temporary file for it in each transaction.
        connection
            .pragma_update(None, "temp_store", "MEMORY")
            .map_err(because)?;
        file.flush_on_commit().map_err(because)?;
        if let Some(bytes) = settings.with.max_size {
            let page: u64 = pragma(connection, "page_size")
                .map_err(because)?
                .unsigned_abs();
            let pages = i64::try_from(bytes / page.max(1)).unwrap_or(i64::MAX);
            let pages = pages.min(i64::from(u32::MAX - 1));
            connection
                .pragma_update(None, "max_page_count", pages)
                .map_err(because)?;
        }
        if first {
            schema::mark(connection).map_err(because)?;
        }
        *settings.opened() = file.identity;
        Ok(file)
    }

    /// Every commit waits for the disk. Reads the setting back, and fails if it was not applied.
    pub(super) fn flush_on_commit(&self) -> rusqlite::Result<()> {
        self.connection.pragma_update(None, "synchronous", "FULL")?;
        if pragma(&self.connection, "synchronous")? == SYNCHRONOUS_FULL {
            return Ok(());
        }
        Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR),
            Some("`synchronous` could not be set to FULL".to_owned()),
        ))
    }

    /// Commits wait for the disk only at a checkpoint.
    pub(super) fn flush_later(&self) -> rusqlite::Result<()> {
        self.connection.pragma_update(None, "synchronous", "NORMAL")
    }

    /// Begins a write transaction, waiting up to `patience` for other processes.
    ///
    /// SQLite's own busy handler sleeps for up to 100 ms between two tries: beside another process
    /// that wrote all the time, it took up to 530 ms to get a turn (November 2026).
    pub(super) fn begin(&self, settings: &Settings, patience: Duration) -> rusqlite::Result<()> {
        let connection = &self.connection;
        let deadline = Instant::now() + patience;
        connection.busy_timeout(Duration::ZERO)?;
        let begun = loop {
            let begun = connection
                .prepare_cached("BEGIN IMMEDIATE")
                .and_then(|mut begin| begin.execute([]));
            match begun {
                Err(error)
                    if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                        && Instant::now() < deadline =>
                {
                    std::thread::sleep(TURN);
                }
                begun => break begun,
            }
        };
        connection.busy_timeout(settings.with.busy_timeout)?;
        begun.map(drop)
    }

    /// Whether this file is still the one at the path, and whole. A file that was removed or replaced accepts
    /// writes, which are lost when it is closed. So does one that was truncated: they go to the log, and what
    /// was read before is cached. Only `VACUUM` makes it shorter lawfully, after which it is checked and opened
    /// again.
    pub(super) fn in_place(&self, settings: &Settings) -> Result<(), DatabaseError> {
        // One look: this is done for each transaction.
        let found = found(&settings.path);
        if self.identity != found.identity {
            return Err(moved());
        }
        if found.length < self.length.replace(found.length) {
            settings.shrunk.store(true, Ordering::Relaxed);
            return Err(DatabaseError::caused(
                DatabaseErrorKind::Unavailable,
                "the file became shorter",
            ));
        }
        Ok(())
    }

    /// Writes the log into the file and empties it, so that what was deleted is not in the log either. Does not
    /// wait for others: `false` if one of them reads or writes.
    pub(super) fn empty_log(&self, settings: &Settings) -> rusqlite::Result<bool> {
        let connection = &self.connection;
        connection.busy_timeout(Duration::ZERO)?;
        let busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
            row.get::<_, i64>(0)
        });
        connection.busy_timeout(settings.with.busy_timeout)?;
        Ok(busy? == 0)
    }
}

impl Settings {
    pub(super) const fn new(path: PathBuf, with: DatabaseBuilder) -> Self {
        Self {
            path,
            with,
            opened: Mutex::new(None),
            shrunk: AtomicBool::new(false),
        }
    }

    fn opened(&self) -> MutexGuard<'_, Option<Identity>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leads_where_it_did(&self) -> bool {
        found(&self.path).identity == *self.opened()
    }

    /// Why opening failed.
    pub(super) fn because(&self, error: rusqlite::Error) -> OpenError {
        let path = self.path.clone();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::Locked {
                path,
                waited: self.with.busy_timeout,
            },
            Some(ErrorCode::DatabaseCorrupt) => OpenError::Corrupt {
                path,
                detail: error.to_string(),
            },
            Some(ErrorCode::NotADatabase) => OpenError::NotADatabase { path },
            Some(ErrorCode::ReadOnly) => OpenError::ReadOnly { path },
            // "unable to open database file": the file is there, so it is the file that cannot be opened.
            Some(ErrorCode::CannotOpen) => {
                let rights = "this user needs the right to read and write the file and its folder, and the process a free file handle";
                self.cannot(rights)
            }
            _ => self.cannot(error),
        }
    }

    pub(super) fn cannot(&self, source: impl Into<tower_webhook::BoxError>) -> OpenError {
        OpenError::CannotOpen {
            path: self.path.clone(),
            source: source.into(),
        }
    }
}

/// The file at the path is another one, or gone.
pub(super) fn moved() -> DatabaseError {
    DatabaseError::caused(
        DatabaseErrorKind::Unavailable,
        "the file was removed or replaced",
    )
}

/// The error of the operations that wait while the file cannot be opened again.
fn gone(error: OpenError) -> DatabaseError {
    let kind = match &error {
        OpenError::Locked { .. } => DatabaseErrorKind::Busy,
        OpenError::ReadOnly { .. } => DatabaseErrorKind::ReadOnly,
        OpenError::Corrupt { .. } | OpenError::NotADatabase { .. } => DatabaseErrorKind::Corrupt,
        _ => DatabaseErrorKind::Unavailable,
    };
    DatabaseError::caused(kind, error)
}

pub(super) fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}

/// Creates the file, for this user only, if it does not exist.
///
/// Never opens an existing file: closing it would drop all locks that this process holds on it
/// through other handles ("How To Corrupt An SQLite Database File", 2.2).
fn make(path: &Path) -> Result<(), OpenError> {
    let cannot = |source: tower_webhook::BoxError| OpenError::CannotOpen {
        path: path.to_owned(),
        source,
    };
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => return Err(cannot("it is a folder".into())),
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            return Err(OpenError::ReadOnly {
                path: path.to_owned(),
            });
        }
        Err(error) => return Err(cannot(error.into())),
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        // Another process was faster.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let folder = path.parent().unwrap_or(path).display();
            Err(cannot(
                format!("its folder does not exist: make {folder} first").into(),
            ))
        }
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            Err(OpenError::ReadOnly {
                path: path.to_owned(),
            })
        }
        Err(error) => Err(cannot(error.into())),
    }
}

/// Checks the file for damage. Of a large file, SQLite only compares the length with the header; other
/// damage is found when it is read.
fn check(connection: &Connection, settings: &Settings) -> Result<(), OpenError> {
    let because = |error| settings.because(error);
    let pages = pragma(connection, "page_count").map_err(because)?;
    let page = pragma(connection, "page_size").map_err(because)?;
    if pages.saturating_mul(page) > CHECKED_WHOLE {
        return Ok(());
    }
    check_whole(connection, settings)
}

fn check_whole(connection: &Connection, settings: &Settings) -> Result<(), OpenError> {
    let because = |error| settings.because(error);
    let verdict: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(because)?;
    if verdict == "ok" {
        return Ok(());
    }
    Err(OpenError::Corrupt {
        path: settings.path.clone(),
        detail: verdict.replace('\n', " "),
    })
}

/// Which of the file, its log and its index everybody on the machine can read or write.
#[cfg(unix)]
pub(super) fn open_to_all(path: &Path) -> Vec<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let named = ["", "-wal", "-shm"].map(|end| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    });
    let is_open = |path: &PathBuf| {
        std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o007 != 0)
    };
    named.into_iter().filter(is_open).collect()
}

/// Elsewhere the folder says who may read.
#[cfg(not(unix))]
pub(super) fn open_to_all(_path: &Path) -> Vec<PathBuf> {
    Vec::new()
}

fn found(path: &Path) -> Found {
    std::fs::metadata(path).map_or_else(
        |_| Found::default(),
        |found| Found {
            identity: identity(&found),
            length: found.len(),
        },
    )
}

#[cfg(unix)]
#[allow(clippy::unnecessary_wraps, reason = "elsewhere there is none")]
fn identity(found: &Metadata) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;
    Some((found.dev(), found.ino()))
}

/// Elsewhere an open file cannot be removed.
#[cfg(not(unix))]
fn identity(_found: &Metadata) -> Option<Identity> {
    None
}
