//! The queue in SQLite, beside what the bare driver does with the same rows on the same disk, in turns.
//!
//! Run: `cargo bench -p tower-webhook-sqlite --bench queue`; with `-- --test` for a moment, to see that it works.
//!
//! Jobs of 1 KiB, without keys. `synchronous=FULL` where a row does not say otherwise: a commit is on the disk when it is
//! answered. A claim is flushed only with `durable_claims`.
//!
//! - `enqueue`: 64 tasks, each of which enqueues its next job when the one before is on the disk; the bare driver
//!   commits 64 jobs at a time.
//! - `claim and settle`: 32 jobs are claimed with their payloads, and settled with one call: what one busy process
//!   does. The bare driver claims with one `UPDATE ... RETURNING`, and finishes with an `UPDATE` and a `DELETE` for each job.
//! - `with a limit per target`: the same of 100 targets, beside the same bare driver.
//! - `one after another`: enqueue, claim and settle of one job, each in a commit of its own.
//! - `push to start`: from the call of `enqueue` until a worker that waited has the job.
//!
//! Each is done in a file that has kept no finished task yet, and in files that keep many. Not criterion: the two sides
//! take turns, so that they have the same disk, and the table says the least and the median.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use rusqlite::{Connection, params};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    runtime::Runtime,
    sync::mpsc::{self, UnboundedReceiver},
    task::{JoinHandle, JoinSet},
};
use tower_webhook::{
    lease::Settled,
    queue::{Ask, End, Engine, NewJob, TaskId},
};
use tower_webhook_sqlite::{SqliteQueue, database::Statement};

const LEASE: Duration = Duration::from_secs(3600);
const PAYLOAD: [u8; 1024] = [7; 1024];
const TASKS: usize = 64;
const CLAIMED: usize = 32;
/// Of finished tasks, far in the future.
const END: i64 = 4_000_000_000_000;

fn main() {
    let is_tried_out = std::env::args().any(|argument| argument == "--test");
    let (kept, rounds, jobs) = if is_tried_out {
        (&[0, 1000][..], 1, 128)
    } else {
        (&[0, 200_000, 2_000_000][..], 15, 3200)
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    println!("microseconds a job, least / median of {rounds} rounds");
    println!(
        "{:<12} {:<34} {:>15} {:>15} {:>12}",
        "finished", "", "queue", "bare driver", "times"
    );
    for &finished in kept {
        measure(&runtime, finished, rounds, jobs);
    }
}

fn measure(runtime: &Runtime, finished: usize, rounds: usize, jobs: usize) {
    let ours = |durable, per_target| Ours::open(runtime, finished, durable, per_target);
    for (per_target, [enqueues, works]) in [
        (u32::MAX, ["enqueue, 64 tasks", "claim 32 and settle"]),
        (
            8,
            [
                "enqueue, with a limit per target",
                "claim and settle, with a limit",
            ],
        ),
    ] {
        let (ours, bare) = (ours(false, per_target), Bare::open(finished));
        let mut enqueue = Row::default();
        let mut work = Row::default();
        for _ in 0..rounds {
            enqueue.add(jobs, || ours.enqueue(jobs), || bare.enqueue(jobs));
            work.add(jobs, || ours.work(), || bare.work());
        }
        enqueue.print(finished, enqueues);
        work.print(finished, works);
    }

    let cycles = (jobs / 16).max(8);
    for (durable, name) in [
        (false, "one after another"),
        (true, "the same, each claim flushed"),
    ] {
        let (free, bare) = (ours(durable, u32::MAX), Bare::open(finished));
        let mut row = Row::default();
        for _ in 0..rounds {
            row.add(
                cycles,
                || free.cycles(cycles),
                || bare.cycles(cycles, durable),
            );
        }
        row.print(finished, name);
    }

    let free = ours(false, u32::MAX);
    let mut took = free.pushes((jobs / 2).max(50));
    took.sort_unstable();
    let at = |thousandth: usize| took[(took.len() - 1) * thousandth / 1000].as_secs_f64() * 1e6;
    println!(
        "{finished:<12} {:<34} p50 {:.0}, p99 {:.0}, max {:.0}",
        "push to start",
        at(500),
        at(990),
        at(1000)
    );
}

/// Of each round, the time for one job.
#[derive(Default)]
struct Row {
    ours: Vec<Duration>,
    bare: Vec<Duration>,
}

impl Row {
    fn add(&mut self, jobs: usize, ours: impl FnOnce(), bare: impl FnOnce()) {
        let jobs = u32::try_from(jobs).unwrap();
        let time = |work: &mut dyn FnMut()| {
            let began = Instant::now();
            work();
            began.elapsed() / jobs
        };
        let (mut ours, mut bare) = (Some(ours), Some(bare));
        let ours = time(&mut || (ours.take().unwrap())());
        let bare = time(&mut || (bare.take().unwrap())());
        self.ours.push(ours);
        self.bare.push(bare);
    }

    fn print(mut self, finished: usize, name: &str) {
        let micros = |all: &mut Vec<Duration>| {
            all.sort_unstable();
            let micros = |time: Duration| time.as_secs_f64() * 1e6;
            (micros(all[0]), micros(all[all.len() / 2]))
        };
        let (ours, bare) = (micros(&mut self.ours), micros(&mut self.bare));
        let both = |(least, median): (f64, f64)| format!("{least:.1} / {median:.1}");
        println!(
            "{finished:<12} {name:<34} {:>15} {:>15} {:>12}",
            both(ours),
            both(bare),
            format!("{:.2} / {:.2}", ours.0 / bare.0, ours.1 / bare.1)
        );
    }
}

struct Ours<'a> {
    runtime: &'a Runtime,
    queue: SqliteQueue,
    _folder: tempfile::TempDir,
}

impl<'a> Ours<'a> {
    fn open(runtime: &'a Runtime, finished: usize, durable: bool, per_target: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let builder = SqliteQueue::builder()
            .max_jobs(100_000_000)
            .max_finished(100_000_000)
            .durable_claims(durable)
            .per_target(per_target)
            .retention(LEASE);
        let queue = builder.open(folder.path().join("queue.db")).unwrap();
        for sql in [
            format!(
                "INSERT INTO tower_webhook_jobs (id, state, at, token, attempts, accepted, target, kind)
                 {}, 5, {END} + n, 1, 1, 1, 't', 'bench' FROM numbers",
                finished_ids(finished)
            ),
            format!("UPDATE tower_webhook_queue SET finished = {finished}"),
        ] {
            runtime.block_on(queue.database().execute(Statement::new(sql))).unwrap();
        }
        Self {
            runtime,
            queue,
            _folder: folder,
        }
    }

    fn enqueue(&self, jobs: usize) {
        self.runtime.block_on(async {
            let mut set = JoinSet::new();
            for task in 0..TASKS {
                let queue = self.queue.clone();
                set.spawn(async move {
                    for number in 0..jobs / TASKS {
                        put(&queue, task * 31 + number).await;
                    }
                });
            }
            set.join_all().await;
        });
    }

    /// Claims and settles all that there is.
    fn work(&self) {
        while self.runtime.block_on(work(&self.queue, CLAIMED)) > 0 {}
    }

    fn cycles(&self, cycles: usize) {
        self.runtime.block_on(async {
            for number in 0..cycles {
                put(&self.queue, number).await;
                assert_eq!(work(&self.queue, 1).await, 1);
            }
        });
    }

    fn pushes(&self, pushes: usize) -> Vec<Duration> {
        let (working, mut begins) = self.worker();
        let took = self.runtime.block_on(async {
            let mut took = Vec::with_capacity(pushes);
            for number in 0..pushes {
                // The worker waits by then.
                tokio::time::sleep(Duration::from_millis(1)).await;
                let pushed = Instant::now();
                let id = put(&self.queue, number).await;
                let (begun, at) = begins.recv().await.unwrap();
                assert_eq!(begun, id);
                took.push(at.saturating_duration_since(pushed));
            }
            took
        });
        working.abort();
        took
    }

    fn worker(&self) -> (JoinHandle<()>, UnboundedReceiver<(TaskId, Instant)>) {
        let worker = self.queue.clone();
        let (begun, begins) = mpsc::unbounded_channel();
        let working = self.runtime.spawn(async move {
            loop {
                let claims = worker.claim(Ask::new(8, LEASE)).await.unwrap();
                if claims.jobs.is_empty() {
                    worker.wait(claims.mark, Duration::from_secs(5)).await;
                }
                for job in claims.jobs {
                    begun.send((job.id, Instant::now())).unwrap();
                    let settled = worker.settle(vec![(job.claim(), done())]).await;
                    assert_eq!(settled.unwrap(), [Settled::Done]);
                }
            }
        });
        (working, begins)
    }
}

const fn done() -> End {
    End::Done { result: None }
}

async fn put(queue: &SqliteQueue, number: usize) -> TaskId {
    let job = NewJob::new("bench", Bytes::from_static(&PAYLOAD));
    let job = job.target(format!("peer-{}.example.com:443", number % 100));
    let mut results = queue.enqueue(vec![job]).await.unwrap();
    results.remove(0).unwrap().id
}

/// Claims up to `most` and settles them at once. How many there were.
async fn work(queue: &SqliteQueue, most: usize) -> usize {
    let claims = queue.claim(Ask::new(most, LEASE)).await.unwrap();
    let ends = claims.jobs.iter().map(|job| (job.claim(), done()));
    let settled = queue.settle(ends.collect()).await.unwrap();
    assert!(settled.iter().all(|settled| *settled == Settled::Done));
    claims.jobs.len()
}

/// A query of so many ids, each later than the one before.
fn finished_ids(finished: usize) -> String {
    format!(
        "WITH RECURSIVE numbers (n) AS (SELECT 1 WHERE {finished} > 0
             UNION ALL SELECT n + 1 FROM numbers WHERE n < {finished})
         SELECT CAST(unhex(printf('%012x', 1700000000000 + n)) || randomblob(10) AS BLOB)"
    )
}

struct Bare {
    raw: Connection,
    target: Arc<str>,
    _folder: tempfile::TempDir,
}

impl Bare {
    fn open(finished: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let raw = Connection::open(folder.path().join("raw.db")).unwrap();
        raw.pragma_update(None, "journal_mode", "WAL").unwrap();
        raw.pragma_update(None, "synchronous", "FULL").unwrap();
        raw.execute_batch(
            "CREATE TABLE jobs (seq INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, state INTEGER,
                at INTEGER, attempts INTEGER, target TEXT) STRICT;
             CREATE INDEX due ON jobs (at) WHERE state = 1;
             CREATE TABLE payloads (seq INTEGER PRIMARY KEY, payload BLOB) STRICT;",
        )
        .unwrap();
        let ids = finished_ids(finished);
        raw.execute_batch(&format!(
            "INSERT INTO jobs (id, state, at, attempts, target) {ids}, 5, {END} + n, 1, 't' FROM numbers"
        ))
        .unwrap();
        Self {
            raw,
            target: "peer-00.example.com:443".into(),
            _folder: folder,
        }
    }

    fn run(&self, sql: &str) {
        self.raw.prepare_cached(sql).unwrap().execute([]).unwrap();
    }

    fn commit(&self, work: impl FnOnce()) {
        self.run("BEGIN IMMEDIATE");
        work();
        self.run("COMMIT");
    }

    fn insert(&self) {
        let id = TaskId::random();
        self.raw
            .prepare_cached(
                "INSERT INTO jobs (id, state, at, attempts, target) VALUES (?1, 1, 0, 0, ?2)",
            )
            .unwrap()
            .execute(params![id.as_bytes(), &*self.target])
            .unwrap();
        self.raw
            .prepare_cached("INSERT INTO payloads VALUES (?1, ?2)")
            .unwrap()
            .execute(params![self.raw.last_insert_rowid(), &PAYLOAD[..]])
            .unwrap();
    }

    /// The claim is not flushed, as ours.
    fn claim(&self, most: usize, is_flushed: bool) -> Vec<(i64, Vec<u8>)> {
        if !is_flushed {
            self.raw
                .pragma_update(None, "synchronous", "NORMAL")
                .unwrap();
        }
        let mut claimed = Vec::new();
        self.commit(|| {
            let mut claim = self
                .raw
                .prepare_cached(
                    "UPDATE jobs SET state = 2, at = 1, attempts = attempts + 1
                     WHERE seq IN (SELECT seq FROM jobs WHERE state = 1 ORDER BY at, seq LIMIT ?1)
                     RETURNING seq, (SELECT payload FROM payloads AS p WHERE p.seq = jobs.seq)",
                )
                .unwrap();
            let rows = claim
                .query_map([i64::try_from(most).unwrap()], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .unwrap();
            claimed.extend(rows.map(Result::unwrap));
        });
        if !is_flushed {
            self.raw.pragma_update(None, "synchronous", "FULL").unwrap();
        }
        claimed
    }

    fn settle(&self, claimed: &[(i64, Vec<u8>)]) {
        self.commit(|| {
            for (seq, _) in claimed {
                self.raw
                    .prepare_cached("UPDATE jobs SET state = 5, at = ?2 WHERE seq = ?1")
                    .unwrap()
                    .execute([*seq, END])
                    .unwrap();
                self.raw
                    .prepare_cached("DELETE FROM payloads WHERE seq = ?1")
                    .unwrap()
                    .execute([seq])
                    .unwrap();
            }
        });
    }

    fn enqueue(&self, jobs: usize) {
        for _ in 0..jobs / TASKS {
            self.commit(|| (0..TASKS).for_each(|_| self.insert()));
        }
    }

    fn work(&self) {
        loop {
            let claimed = self.claim(CLAIMED, false);
            if claimed.is_empty() {
                return;
            }
            self.settle(&claimed);
        }
    }

    fn cycles(&self, cycles: usize, is_flushed: bool) {
        for _ in 0..cycles {
            self.commit(|| self.insert());
            let claimed = self.claim(1, is_flushed);
            assert_eq!(claimed.len(), 1);
            self.settle(&claimed);
        }
    }
}
