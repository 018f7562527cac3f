//! What the tests of everything in a file share.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant, UNIX_EPOCH},
};
use tower_webhook::clock::WallClock;
use tower_webhook_sqlite::{
    Database,
    database::{DatabaseError, Reply},
};

/// A folder of its own for a test, and a file in it.
pub(crate) struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("test.db")
    }

    pub(crate) fn database(&self) -> Database {
        Database::open(self.file()).unwrap()
    }

    /// A database whose time stands until it is moved.
    pub(crate) fn timed_database(&self) -> (Database, ManualClock) {
        let clock = ManualClock::new();
        let builder = Database::builder().clock(clock.wall());
        (builder.open(self.file()).unwrap(), clock)
    }

    /// A connection behind the database's back.
    pub(crate) fn raw(&self) -> rusqlite::Connection {
        let raw = rusqlite::Connection::open(self.file()).unwrap();
        raw.busy_timeout(Duration::from_secs(5)).unwrap();
        raw
    }

    /// Asks SQLite whether the file is sound.
    pub(crate) fn is_sound(&self) {
        let raw = self.raw();
        let verdict = raw.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0));
        assert_eq!(verdict.unwrap(), "ok");
    }
}

/// A wall clock that stands until time passes, or until it is set to another time.
#[derive(Clone)]
pub(crate) struct ManualClock {
    /// Milliseconds that passed, and those by which the clock was set.
    passed: Arc<AtomicU64>,
    set: Arc<AtomicI64>,
}

impl ManualClock {
    pub(crate) fn new() -> Self {
        Self {
            passed: Arc::default(),
            set: Arc::new(AtomicI64::new(1_700_000_000_000)),
        }
    }

    /// Time passes.
    pub(crate) fn forward(&self, by: Duration) {
        self.passed.fetch_add(millis(by), Ordering::SeqCst);
    }

    /// The clock is set, and no time passes.
    pub(crate) fn leap(&self, by: Duration) {
        self.set.fetch_add(signed(by), Ordering::SeqCst);
    }

    /// The clock is set, and no time passes.
    pub(crate) fn back(&self, by: Duration) {
        self.set.fetch_sub(signed(by), Ordering::SeqCst);
    }

    pub(crate) fn wall(&self) -> WallClock {
        let (this, passed) = (self.clone(), self.passed.clone());
        let elapsed = move || Duration::from_millis(passed.load(Ordering::SeqCst));
        let now = move || {
            let set = u64::try_from(this.set.load(Ordering::SeqCst)).unwrap();
            UNIX_EPOCH + Duration::from_millis(set + this.passed.load(Ordering::SeqCst))
        };
        WallClock::from_fns(now, elapsed)
    }
}

fn signed(by: Duration) -> i64 {
    i64::try_from(by.as_millis()).unwrap()
}

fn millis(by: Duration) -> u64 {
    u64::try_from(by.as_millis()).unwrap()
}

/// Asks until it is so, for 20 s at the most.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut so: impl FnMut() -> F) {
    let end = Instant::now() + Duration::from_secs(20);
    while !so().await {
        assert!(Instant::now() < end, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Holds up the writing thread until the guard is dropped.
pub(crate) struct HoldUp {
    _release: mpsc::Sender<()>,
    _reply: Reply<()>,
}

pub(crate) fn hold_up(database: &Database) -> HoldUp {
    let (release, held) = mpsc::channel::<()>();
    let (running, started) = mpsc::channel();
    let reply = database.write(move |_| {
        running.send(()).unwrap();
        let _ = held.recv();
        Ok::<_, DatabaseError>(())
    });
    started.recv().unwrap();
    HoldUp {
        _release: release,
        _reply: reply,
    }
}
