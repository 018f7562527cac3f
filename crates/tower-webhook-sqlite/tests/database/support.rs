//! What the tests share.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant, UNIX_EPOCH},
};
use tower_webhook::{
    clock::WallClock,
    idempotency::{Begin, FencingToken, IdempotencyKey, Store},
};
use tower_webhook_sqlite::{
    Database, SqliteStore,
    database::{DatabaseError, Reply},
};

pub(crate) const LEASE: Duration = Duration::from_secs(30);
pub(crate) const TTL: Duration = Duration::from_secs(3600);

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

    pub(crate) fn store(&self) -> SqliteStore {
        SqliteStore::open(self.file()).unwrap()
    }

    /// A connection behind the database's back.
    pub(crate) fn raw(&self) -> rusqlite::Connection {
        let raw = rusqlite::Connection::open(self.file()).unwrap();
        raw.busy_timeout(Duration::from_secs(5)).unwrap();
        raw
    }
}

/// A wall clock that stands until it is moved, either way.
#[derive(Clone)]
pub(crate) struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicU64::new(1_700_000_000_000)))
    }

    pub(crate) fn forward(&self, by: Duration) {
        self.0.fetch_add(millis(by), Ordering::SeqCst);
    }

    pub(crate) fn back(&self, by: Duration) {
        self.0.fetch_sub(millis(by), Ordering::SeqCst);
    }

    pub(crate) fn wall(&self) -> WallClock {
        let millis = self.0.clone();
        WallClock::from_fn(move || {
            UNIX_EPOCH + Duration::from_millis(millis.load(Ordering::SeqCst))
        })
    }
}

fn millis(by: Duration) -> u64 {
    u64::try_from(by.as_millis()).unwrap()
}

pub(crate) fn key(id: &str) -> IdempotencyKey {
    IdempotencyKey::new("test", id).unwrap()
}

pub(crate) async fn begin(store: &SqliteStore, id: &str) -> Begin {
    store.begin(&key(id), None, LEASE).await.unwrap()
}

pub(crate) async fn acquire(store: &SqliteStore, id: &str) -> FencingToken {
    match begin(store, id).await {
        Begin::Acquired(token) => token,
        other => panic!("{id} is not free: {other:?}"),
    }
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

/// Runs one test of this binary as a process of its own, which sees `file` in `TEST_DATABASE`.
pub(crate) fn child(test: &str, file: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env("TEST_DATABASE", file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

/// The file that a child works on; `None` where the test runs among the others.
pub(crate) fn childs_file() -> Option<PathBuf> {
    std::env::var_os("TEST_DATABASE").map(PathBuf::from)
}

/// Ends a child whatever becomes of the test.
pub(crate) struct Ends(pub(crate) Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
