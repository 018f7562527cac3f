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
    attempt::History,
    clock::WallClock,
    lease::Settled,
    observe::{Observer, Observers},
    queue::{Engine, Job, NewJob, TaskId, Terms, Verdict},
};
use tower_webhook_sqlite::{
    Database, SqliteQueue,
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
        self.folder.path().join("queue.db")
    }

    pub(crate) fn queue(&self) -> SqliteQueue {
        SqliteQueue::open(self.file()).unwrap()
    }

    pub(crate) fn timed(&self) -> (SqliteQueue, ManualClock) {
        self.observed(Observers::none())
    }

    pub(crate) fn observed(&self, observer: impl Observer) -> (SqliteQueue, ManualClock) {
        let clock = ManualClock::new();
        let builder = Database::builder().clock(clock.wall()).observe(observer);
        let database = builder.open(self.file()).unwrap();
        (SqliteQueue::new(&database).unwrap(), clock)
    }

    /// A connection behind the database's back.
    pub(crate) fn raw(&self) -> rusqlite::Connection {
        let raw = rusqlite::Connection::open(self.file()).unwrap();
        raw.busy_timeout(Duration::from_secs(5)).unwrap();
        raw
    }

    /// Counts what is kept count of, and asks SQLite whether the file is sound.
    pub(crate) fn check(&self) {
        let raw = self.raw();
        let one = |sql: &str| -> i64 { raw.query_row(sql, [], |row| row.get(0)).unwrap() };
        let jobs = |states: &str| {
            one(&format!(
                "SELECT count(*) FROM tower_webhook_jobs WHERE state IN ({states})"
            ))
        };
        let kept = |column: &str| one(&format!("SELECT {column} FROM tower_webhook_queue"));
        assert_eq!(kept("queued"), jobs("0, 1"));
        assert_eq!(kept("running"), jobs("2"));
        assert_eq!(kept("dead_lettering"), jobs("3, 4"));
        assert_eq!(kept("finished"), jobs("5, 6"));
        assert_eq!(
            one("SELECT count(*) FROM tower_webhook_payloads"),
            jobs("0, 1, 2, 3, 4"),
            "a payload for each job that is not finished"
        );
        assert_eq!(
            one("SELECT count(*) FROM (
                SELECT target, count(*), sum(state = 2),
                    (SELECT at FROM tower_webhook_jobs AS d
                     WHERE d.target = j.target AND d.state = 1 ORDER BY at, seq LIMIT 1),
                    (SELECT seq FROM tower_webhook_jobs AS d
                     WHERE d.target = j.target AND d.state = 1 ORDER BY at, seq LIMIT 1)
                FROM tower_webhook_jobs AS j WHERE state < 3 GROUP BY target
                EXCEPT SELECT target, jobs, running, due, head FROM tower_webhook_lanes)"),
            0,
            "lanes say what is in them"
        );
        assert_eq!(
            one("SELECT count(*) FROM tower_webhook_lanes"),
            one("SELECT count(DISTINCT target) FROM tower_webhook_jobs WHERE state < 3"),
            "a lane for each target that has jobs"
        );
        let verdict: String = raw
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(verdict, "ok");
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

pub(crate) fn job(payload: &str) -> NewJob {
    NewJob::new("test", payload.to_owned())
}

pub(crate) async fn put(queue: &SqliteQueue, payload: &str) -> TaskId {
    queue.enqueue(job(payload)).await.unwrap().id
}

pub(crate) const fn one() -> Terms {
    Terms::new(1, LEASE)
}

pub(crate) async fn take(queue: &SqliteQueue) -> Job {
    let mut claims = queue.claim(one()).await.unwrap();
    claims.jobs.pop().expect("a job is due")
}

pub(crate) const fn done() -> Verdict {
    Verdict::Done {
        result: None,
        retention: TTL,
    }
}

pub(crate) const fn again(after: Duration) -> Verdict {
    Verdict::Retry {
        after,
        history: History::new(),
    }
}

pub(crate) async fn settle(queue: &SqliteQueue, job: &Job, verdict: Verdict) {
    let settled = queue.settle(job.id, job.token, verdict).await.unwrap();
    assert_eq!(settled, Settled::Done);
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
