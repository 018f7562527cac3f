//! Which handles keep claims in the file, and whose process is gone.
//!
//! Each handle holds a lock on a small file of its own beside the database, such as
//! `webhooks.db-owner-1f0c...`. The system releases the lock when the process ends, however it ends. A claim has
//! the number of its owner. Once the lock of an owner is free, its claims end, as if their leases had ended.
//!
//! A process that only stalls keeps its lock, and so its claims until their leases end. Leases alone decide
//! too wherever the lock says nothing: its file is not there, because the handle was closed in order, the
//! database was copied elsewhere, or somebody has removed it; it cannot be opened; or the file system has no
//! locks. A number is never given to a second owner.

use super::{
    DatabaseError, Transaction,
    file::Settings,
    operation::{Durability, Operation},
    upkeep::{Chore, Chores},
    writer::Queued,
};
use rusqlite::{Connection, params};
use std::{
    collections::HashSet,
    fs::{self, OpenOptions, TryLockError},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tower_webhook::{
    dead_letter::EntryId,
    observe::{Event, Id, Observers},
};

pub(super) const COMPONENT: &str = "tower-webhook/owners";

/// `gone` is when the lock was found free, in milliseconds since 1970.
pub(super) const STEPS: &[&str] = &["
    CREATE TABLE tower_webhook_owners (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL,
        gone INTEGER
    ) STRICT;
"];

const ALL: &str = "SELECT id, name, gone IS NOT NULL FROM tower_webhook_owners";
const ADD: &str = "INSERT INTO tower_webhook_owners (name) VALUES (?1)";
const GONE: &str = "UPDATE tower_webhook_owners SET gone = ?2 WHERE id = ?1 AND gone IS NULL";
const FORGET: &str = "DELETE FROM tower_webhook_owners WHERE id = ?1 AND gone IS NULL";
const FORGET_GONE: &str = "DELETE FROM tower_webhook_owners WHERE gone <= ?1";

/// How often the locks of the others are looked at. For each, a file is opened and closed.
const EVERY: Duration = Duration::from_secs(1);
/// How long an owner that is gone is kept, in milliseconds: until all handles that keep claims have looked.
const KEPT: i64 = 60_000;

/// The owners of the claims in a file, as one handle sees them.
#[derive(Debug, Default)]
pub(super) struct Owners {
    /// The path of the file, without links.
    beside: Option<PathBuf>,
    lock: Option<Lock>,
    known: Arc<Mutex<Known>>,
    looked: Option<Instant>,
    /// The number of chores at the last look.
    chores: usize,
    /// Whether it was told that there can be no lock.
    told: bool,
}

#[derive(Debug, Default)]
struct Known {
    /// The number of this handle. `None` until its row is committed.
    own: Option<i64>,
    /// The owners that are gone, whose claims this handle has ended.
    ended: HashSet<i64>,
}

impl Owners {
    /// The owner of the claims of this handle, if others can tell when its process is gone.
    pub(super) fn own(&self) -> Option<i64> {
        lock(&self.known).own
    }

    /// The file was opened again, and may be another one.
    pub(super) fn forget(&mut self) {
        *lock(&self.known) = Known::default();
        (self.beside, self.looked) = (None, None);
    }

    /// Looks whether an owner is gone, if it is time. Returns the operation that ends its claims.
    pub(super) fn look(
        &mut self,
        settings: &Settings,
        connection: &Connection,
        chores: &Chores,
    ) -> Option<Queued> {
        let count = chores.count();
        let is_early = self.looked.is_some_and(|at| at.elapsed() < EVERY);
        // A file in which nothing is claimed has no owners.
        if count == 0 || count == self.chores && is_early {
            return None;
        }
        self.looked = Some(Instant::now());
        let mut new = Vec::new();
        if count != self.chores {
            // The new one has ended nothing yet.
            lock(&self.known).ended.clear();
            new = chores.list().split_off(self.chores.min(count));
            self.chores = count;
        }
        // An error of the file is told by the next commit.
        let beside = match &self.beside {
            Some(beside) => beside.clone(),
            None => fs::canonicalize(&settings.path).ok()?,
        };
        self.beside = Some(beside.clone());
        if self.lock.as_ref().is_some_and(|lock| !lock.path.exists()) {
            // Somebody has removed it.
            self.lock = None;
        }
        let rows = rows(connection).ok()?;
        let mut change = Change {
            known: self.known.clone(),
            observers: settings.with.observers.clone(),
            chores: chores.list(),
            new,
            live: Vec::new(),
            add: None,
            added: None,
            gone: Vec::new(),
            files: Vec::new(),
            end: Vec::new(),
            forget: Vec::new(),
        };
        let mut known = lock(&self.known);
        known
            .ended
            .retain(|id| rows.iter().any(|row| row.id == *id));
        let name = self.lock.as_ref().map(|lock| lock.name.as_str());
        let is_own = |row: &Row| Some(row.id) == known.own && Some(row.name.as_str()) == name;
        let is_added = rows.iter().any(|row| is_own(row) && !row.is_gone);
        for row in rows.iter().filter(|row| !is_own(row)) {
            let path = path(&beside, &row.name);
            match row.is_gone {
                true if known.ended.contains(&row.id) => {}
                true => change.end.push(row.id),
                false => match probe(&path) {
                    Probe::Free => {
                        change.gone.push(row.id);
                        change.files.push(path);
                    }
                    Probe::Missing => change.forget.push(row.id),
                    Probe::Held => change.live.push(row.id),
                    Probe::Unknown => {}
                },
            }
        }
        if !is_added {
            known.own = None;
            drop(known);
            change.add = self.name(settings, &beside, &rows);
        }
        change.is_needed().then(|| Box::new(change) as Queued)
    }

    /// The name of the lock of this handle, which is taken here.
    fn name(&mut self, settings: &Settings, beside: &Path, rows: &[Row]) -> Option<String> {
        if self.lock.is_none() {
            if !self.told {
                remove_strays(beside, rows);
            }
            match Lock::take(beside) {
                Ok(lock) => self.lock = Some(lock),
                Err(error) if !self.told => {
                    self.told = true;
                    settings.with.observers.tell(|| Event::Trouble {
                        part: "sqlite",
                        what: "no lock can be held beside the file; if this process dies, its claims last as long \
                               as their leases",
                        detail: Some(Id::new(&error)),
                    });
                }
                Err(_) => {}
            }
        }
        self.lock.as_ref().map(|lock| lock.name.clone())
    }
}

/// Nothing that can panic runs while it is locked.
fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Row {
    id: i64,
    name: String,
    is_gone: bool,
}

fn rows(connection: &Connection) -> rusqlite::Result<Vec<Row>> {
    connection
        .prepare_cached(ALL)?
        .query_map([], |row| {
            Ok(Row {
                id: row.get(0)?,
                name: row.get(1)?,
                is_gone: row.get(2)?,
            })
        })?
        .collect()
}

/// What a look found, to be done in one transaction with the operations that wait.
struct Change {
    known: Arc<Mutex<Known>>,
    observers: Observers,
    chores: Vec<Arc<dyn Chore>>,
    /// Those that were not there at the last look.
    new: Vec<Arc<dyn Chore>>,
    /// The owners whose lock is held.
    live: Vec<i64>,
    /// The name of this handle, if it has no row.
    add: Option<String>,
    added: Option<i64>,
    /// The owners whose lock was found free, and its files.
    gone: Vec<i64>,
    files: Vec<PathBuf>,
    /// The owners that another handle found gone.
    end: Vec<i64>,
    /// The owners without a file.
    forget: Vec<i64>,
}

impl Change {
    const fn is_needed(&self) -> bool {
        self.add.is_some()
            || !(self.new.is_empty() || self.live.is_empty())
            || !self.gone.is_empty()
            || !self.end.is_empty()
            || !self.forget.is_empty()
    }

    fn write(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let (connection, now) = (transaction.connection(), transaction.now());
        connection
            .prepare_cached(FORGET_GONE)?
            .execute([now.saturating_sub(KEPT)])?;
        for chore in &self.new {
            for id in &self.live {
                chore.keep_claims(transaction, *id)?;
            }
        }
        for id in &self.gone {
            connection.prepare_cached(GONE)?.execute(params![id, now])?;
        }
        for id in self.gone.iter().chain(&self.end) {
            for chore in &self.chores {
                chore.end_claims(transaction, *id)?;
            }
        }
        for id in &self.forget {
            connection.prepare_cached(FORGET)?.execute([id])?;
        }
        if let Some(name) = &self.add {
            connection.prepare_cached(ADD)?.execute([name])?;
            self.added = Some(connection.last_insert_rowid());
            transaction.claim_as(self.added);
        }
        Ok(())
    }
}

impl Operation for Change {
    /// A lock does not outlive a loss of power either.
    fn durability(&self) -> Durability {
        Durability::Relaxed
    }

    fn run(&mut self, transaction: &Transaction<'_>) -> Result<(), DatabaseError> {
        self.write(transaction).map_err(DatabaseError::from_driver)
    }

    fn finish(self: Box<Self>, outcome: Result<(), DatabaseError>) {
        if let Err(error) = outcome {
            // The next look finds the same.
            return self.observers.tell(|| Event::Trouble {
                part: "sqlite",
                what: "the owners of claims could not be written; leases decide meanwhile",
                detail: Some(Id::new(&error)),
            });
        }
        for file in &self.files {
            let _ = fs::remove_file(file);
        }
        let mut known = lock(&self.known);
        known.ended.extend(self.gone.iter().chain(&self.end));
        known.own = known.own.or(self.added);
    }
}

/// The lock of this handle. The file is removed when it is dropped.
#[derive(Debug)]
struct Lock {
    name: String,
    path: PathBuf,
    /// Closed after the file was removed, so that nobody finds it unlocked.
    _file: fs::File,
}

impl Lock {
    fn take(beside: &Path) -> io::Result<Self> {
        let name = EntryId::random().to_string();
        let path = path(beside, &name);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        // Whoever may open the database may look at the lock.
        #[cfg(unix)]
        {
            use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
            options.mode(fs::metadata(beside)?.permissions().mode() & 0o666);
        }
        let file = options.open(&path)?;
        let taken = file.try_lock();
        let lock = Self {
            name,
            path,
            _file: file,
        };
        taken.map_err(io::Error::from)?;
        match probe(&lock.path) {
            Probe::Held => Ok(lock),
            // It was taken for a stray one, or locks do not exclude each other on this file system.
            _ => Err(ErrorKind::Unsupported.into()),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// What the lock of an owner says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    /// Its process is gone.
    Free,
    Held,
    Missing,
    Unknown,
}

/// Shares the lock for a moment, so that two who look do not take each other for the owner.
fn probe(path: &Path) -> Probe {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Probe::Missing,
        Err(_) => return Probe::Unknown,
    };
    match file.try_lock_shared() {
        // Its owner was closed in order meanwhile.
        Ok(()) if !path.exists() => Probe::Missing,
        Ok(()) => Probe::Free,
        Err(TryLockError::WouldBlock) => Probe::Held,
        Err(TryLockError::Error(_)) => Probe::Unknown,
    }
}

fn path(beside: &Path, name: &str) -> PathBuf {
    let mut path = beside.as_os_str().to_owned();
    path.push("-owner-");
    path.push(name);
    PathBuf::from(path)
}

/// Removes the files of processes that ended between making them and their row, or whose database is gone.
fn remove_strays(beside: &Path, rows: &[Row]) {
    let (Some(folder), Some(file)) = (beside.parent(), beside.file_name()) else {
        return;
    };
    let prefix = path(Path::new(file), "").into_os_string();
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let found = entry.file_name();
        let name = found
            .as_encoded_bytes()
            .strip_prefix(prefix.as_encoded_bytes());
        let is_stray = name.is_some_and(|name| rows.iter().all(|row| row.name.as_bytes() != name));
        let path = entry.path();
        if is_stray && probe(&path) == Probe::Free {
            let _ = fs::remove_file(path);
        }
    }
}
