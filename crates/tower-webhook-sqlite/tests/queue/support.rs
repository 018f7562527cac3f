//! What the tests share.

pub(crate) use crate::{
    child::{Ends, child, childs_file, killed_after, say, told_by},
    home::{Home, ManualClock, hold_up, until},
};

use std::time::Duration;
use tower_webhook::{
    attempt::History,
    lease::Settled,
    observe::{Observer, Observers},
    queue::{Engine, Job, NewJob, TaskId, Terms, Verdict},
};
use tower_webhook_sqlite::{Database, SqliteQueue, database::Statement};

pub(crate) const LEASE: Duration = Duration::from_secs(30);
pub(crate) const TTL: Duration = Duration::from_secs(3600);

impl Home {
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
        assert_eq!(kept("keys"), one("SELECT count(*) FROM tower_webhook_keys"));
        assert_eq!(
            one("SELECT count(*) FROM (
                SELECT digest, id FROM tower_webhook_jobs WHERE digest IS NOT NULL
                EXCEPT SELECT key, id FROM tower_webhook_keys WHERE until IS NULL)"),
            0,
            "each job with a key has its key"
        );
        assert_eq!(
            one("SELECT count(*) FROM tower_webhook_keys WHERE until IS NULL"),
            one("SELECT count(digest) FROM tower_webhook_jobs"),
            "a key without a job has an end"
        );
        assert_eq!(
            one("SELECT count(key) FROM tower_webhook_payloads"),
            one("SELECT count(digest) FROM tower_webhook_jobs WHERE state < 5"),
            "a job that is not finished has its key as text"
        );
        self.is_sound();
    }
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

pub(crate) async fn rows(queue: &SqliteQueue, table: &str) -> i64 {
    let count = Statement::new(format!("SELECT count(*) FROM {table}"));
    queue.database().query(count).await.unwrap()[0]
        .get(0)
        .unwrap()
}
