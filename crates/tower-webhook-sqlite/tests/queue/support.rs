//! What the tests share.

pub(crate) use crate::{
    child::{Ends, child, childs_file, killed_after, say, told_by},
    home::{Home, ManualClock, hold_up, until},
};

use std::time::Duration;
use tower_webhook::{
    StoreError,
    attempt::History,
    lease::Settled,
    observe::{Observer, Observers},
    queue::{Ask, Claim, End, Engine, Enqueued, Job, Mark, NewJob, TaskId},
};
use tower_webhook_sqlite::{Database, SqliteQueue, database::Statement, queue::SqliteQueueBuilder};

pub(crate) const LEASE: Duration = Duration::from_secs(30);
pub(crate) const TTL: Duration = Duration::from_secs(3600);

/// Of a queue.
pub(crate) fn settings() -> SqliteQueueBuilder {
    SqliteQueue::builder()
        .attempts(3)
        .per_target(u32::MAX)
        .retention(TTL)
}

impl Home {
    pub(crate) fn queue(&self) -> SqliteQueue {
        settings().open(self.file()).unwrap()
    }

    pub(crate) fn timed(&self) -> (SqliteQueue, ManualClock) {
        self.observed(Observers::none())
    }

    pub(crate) fn timed_with(&self, settings: SqliteQueueBuilder) -> (SqliteQueue, ManualClock) {
        self.set_up(settings, Observers::none())
    }

    pub(crate) fn observed(&self, observer: impl Observer) -> (SqliteQueue, ManualClock) {
        self.set_up(settings(), observer)
    }

    fn set_up(
        &self,
        settings: SqliteQueueBuilder,
        observer: impl Observer,
    ) -> (SqliteQueue, ManualClock) {
        let clock = ManualClock::new();
        let builder = Database::builder().clock(clock.wall()).observe(observer);
        let database = builder.open(self.file()).unwrap();
        (settings.build(&database).unwrap(), clock)
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
        let cancelled =
            one("SELECT count(*) FROM tower_webhook_jobs WHERE state = 2 AND result IS NOT NULL");
        assert_eq!(
            one("SELECT count(*) FROM tower_webhook_payloads") + cancelled,
            jobs("0, 1, 2, 3, 4"),
            "a payload for each job that is not finished"
        );
        let has_lanes = kept("lanes") == 1;
        assert_eq!(
            one("SELECT count(*) FROM sqlite_schema WHERE name = 'tower_webhook_jobs_due'"),
            i64::from(has_lanes),
        );
        assert_eq!(
            one("SELECT count(*) FROM sqlite_schema WHERE name = 'tower_webhook_jobs_next'"),
            i64::from(!has_lanes),
        );
        let lanes = one("SELECT count(*) FROM tower_webhook_lanes");
        if has_lanes {
            self.check_lanes(lanes);
        } else {
            assert_eq!(lanes, 0, "no lanes where no limit needs them");
        }
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
            one("SELECT count(digest) FROM tower_webhook_jobs
                WHERE state < 5 AND NOT (state = 2 AND result IS NOT NULL)"),
            "a job that is not finished has its key as text"
        );
        self.is_sound();
    }

    fn check_lanes(&self, lanes: i64) {
        let raw = self.raw();
        let one = |sql: &str| -> i64 { raw.query_row(sql, [], |row| row.get(0)).unwrap() };
        assert_eq!(
            one("SELECT count(*) FROM (
                SELECT target, kind, count(*),
                    (SELECT count(*) FROM tower_webhook_jobs AS r
                     WHERE r.target = j.target AND r.state = 2),
                    (SELECT at FROM tower_webhook_jobs AS d WHERE d.target = j.target
                     AND d.kind = j.kind AND d.state = 1 ORDER BY at, seq LIMIT 1),
                    (SELECT seq FROM tower_webhook_jobs AS d WHERE d.target = j.target
                     AND d.kind = j.kind AND d.state = 1 ORDER BY at, seq LIMIT 1)
                FROM tower_webhook_jobs AS j WHERE state < 3 GROUP BY target, kind
                EXCEPT SELECT target, kind, jobs, running, due, head FROM tower_webhook_lanes)"),
            0,
            "lanes say what is in them"
        );
        assert_eq!(
            lanes,
            one("SELECT count(*) FROM (SELECT DISTINCT target, kind
                 FROM tower_webhook_jobs WHERE state < 3)"),
            "a lane for each target and kind that has jobs"
        );
    }
}

pub(crate) fn job(payload: &str) -> NewJob {
    NewJob::new("test", payload.to_owned())
}

pub(crate) async fn add(queue: &SqliteQueue, job: NewJob) -> Result<Enqueued, StoreError> {
    queue.enqueue(vec![job]).await?.remove(0)
}

pub(crate) async fn put(queue: &SqliteQueue, payload: &str) -> TaskId {
    add(queue, job(payload)).await.unwrap().id
}

/// The jobs of a claim.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) jobs: Vec<Job>,
    pub(crate) failed_jobs: Vec<Job>,
    pub(crate) mark: Mark,
}

impl Claimed {
    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.failed_jobs.is_empty()
    }
}

pub(crate) async fn claim(queue: &SqliteQueue, ask: Ask) -> Result<Claimed, StoreError> {
    let claims = queue.claim(ask).await?;
    let jobs = claims.jobs.into_iter();
    let (failed_jobs, jobs) = jobs.partition(|job| job.cause.is_some());
    Ok(Claimed {
        jobs,
        failed_jobs,
        mark: claims.mark,
    })
}

pub(crate) const fn one() -> Ask {
    Ask::new(1, LEASE)
}

pub(crate) async fn take(queue: &SqliteQueue) -> Job {
    let mut claims = claim(queue, one()).await.unwrap();
    claims.jobs.pop().expect("a job is due")
}

/// Checks that nothing can be claimed. Gives what the claim has seen.
pub(crate) async fn none(queue: &SqliteQueue) -> Mark {
    let claims = claim(queue, one()).await.unwrap();
    assert!(claims.is_empty(), "{claims:?}");
    claims.mark
}

pub(crate) const fn done() -> End {
    End::Done { result: None }
}

pub(crate) const fn again(after: Duration) -> End {
    End::Retry {
        after,
        history: History::new(),
    }
}

pub(crate) async fn end(
    queue: &SqliteQueue,
    claim: Claim,
    end: End,
) -> Result<Settled, StoreError> {
    Ok(queue.settle(vec![(claim, end)]).await?.remove(0))
}

pub(crate) async fn settle(queue: &SqliteQueue, job: &Job, how: End) {
    let settled = end(queue, job.claim(), how).await.unwrap();
    assert_eq!(settled, Settled::Done);
}

pub(crate) async fn rows(queue: &SqliteQueue, table: &str) -> i64 {
    let count = Statement::new(format!("SELECT count(*) FROM {table}"));
    queue.database().query(count).await.unwrap()[0]
        .get(0)
        .unwrap()
}
