//! What the tests share.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};
use tower_webhook::{
    clock::WallClock,
    dead_letter::{Cause, Entry, EntryBody, EntryClaim, EntryId, LetterStore, Reason, Sink},
    lease::FencingToken,
};
use tower_webhook_sqlite::SqliteDeadLetters;

pub(crate) const LEASE: Duration = Duration::from_secs(60);

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

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("entries.db")
    }

    pub(crate) fn store(&self) -> SqliteDeadLetters {
        SqliteDeadLetters::open(self.file()).unwrap()
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

pub(crate) fn id(number: u64) -> EntryId {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    EntryId::from_bytes(bytes)
}

pub(crate) fn entry(number: u64) -> Entry {
    let written_at = UNIX_EPOCH + Duration::from_secs(1_700_000_000 + number);
    let cause = Cause::new(Reason::RetriesExhausted);
    let mut entry = Entry::new(id(number), "http", "peer.test", cause, written_at);
    entry.method = Some("POST".to_owned());
    entry.uri = Some("https://peer.test/hooks".to_owned());
    let body = format!(r#"{{"number":{number}}}"#);
    entry.body = EntryBody::new(&body.into(), 1024);
    entry
}

pub(crate) async fn write(store: &SqliteDeadLetters, number: u64) {
    store.write(&Arc::new(entry(number))).await.unwrap();
}

pub(crate) async fn claim(store: &SqliteDeadLetters, number: u64) -> FencingToken {
    match store.claim(id(number), LEASE, 1_000).await.unwrap() {
        EntryClaim::Claimed { token, .. } => token,
        other => panic!("{number} is not free: {other:?}"),
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
