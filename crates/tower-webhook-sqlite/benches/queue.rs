//! The queue in SQLite, beside what the bare driver does with the same disk in the same run.
//!
//! Run: `cargo bench -p tower-webhook-sqlite --bench queue`
//!
//! - `enqueue`: jobs of 1 KiB, by 1, 16 and 64 tasks. Each is on the disk when it is answered.
//! - `cycle`: enqueue, claim and done, one after another, with nothing else in the queue, with so
//!   many that wait (`backlog`), and with so many that are done and kept (`history`).
//! - `work`: claims of 32 jobs, all settled at once: what one busy process does.
//! - `push_to_start`: from the call of `enqueue` until a worker that waited has the job.
//! - `raw`: the same rows with the bare driver, write-ahead log, `synchronous=FULL`: the insert of a
//!   job and its payload, one and 64 to a commit; and a whole cycle, three commits, of which the
//!   claim's is flushed as well.
//!
//! One element is one job. Every figure is of a file of its own.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, measurement::WallTime};
use rusqlite::params;
use std::time::{Duration, Instant};
use tokio::{runtime::Runtime, task::JoinSet};
use tower_webhook::{
    lease::Settled,
    queue::{Ask, End, Engine, NewJob, TaskId},
};
use tower_webhook_sqlite::SqliteQueue;

const LEASE: Duration = Duration::from_secs(3600);
const PAYLOAD: [u8; 1024] = [7; 1024];

type Group<'a> = BenchmarkGroup<'a, WallTime>;

fn job() -> NewJob {
    NewJob::new("bench", Bytes::from_static(&PAYLOAD)).target("example.com:443")
}

const fn done() -> End {
    End::Done { result: None }
}

async fn put(queue: &SqliteQueue) -> TaskId {
    let mut results = queue.enqueue(vec![job()]).await.unwrap();
    results.remove(0).unwrap().id
}

fn queue() -> (tempfile::TempDir, SqliteQueue) {
    let folder = tempfile::tempdir().unwrap();
    let builder = SqliteQueue::builder()
        .max_jobs(100_000_000)
        .per_target(u32::MAX)
        .retention(LEASE);
    let queue = builder.open(folder.path().join("queue.db")).unwrap();
    (folder, queue)
}

/// How much there is beside what is measured. Little where the bench is only tried out.
fn many() -> usize {
    if std::env::args().any(|argument| argument == "--test") {
        1000
    } else {
        100_000
    }
}

/// So many at once, in few transactions.
async fn fill(queue: &SqliteQueue, jobs: usize, later: bool) {
    for chunk in 0..jobs.div_ceil(10_000) {
        let filling = queue.clone();
        let count = (jobs - chunk * 10_000).min(10_000);
        let filled = queue.database().write(move |transaction| {
            for _ in 0..count {
                let delay = if later { LEASE } else { Duration::ZERO };
                filling.enqueue_in(transaction, &job().delay(delay))?;
            }
            Ok(())
        });
        filled.await.unwrap();
    }
}

/// Claims up to `most` and settles them at once. How many there were.
async fn work(queue: &SqliteQueue, most: usize) -> u64 {
    let claims = queue.claim(Ask::new(most, LEASE)).await.unwrap();
    let ends: Vec<_> = claims
        .jobs
        .iter()
        .map(|job| (job.claim(), done()))
        .collect();
    let settled = queue.settle(ends).await.unwrap();
    assert!(settled.iter().all(|settled| *settled == Settled::Done));
    claims.jobs.len() as u64
}

async fn cycle(queue: &SqliteQueue) {
    put(queue).await;
    assert_eq!(work(queue, 1).await, 1);
}

fn enqueue(runtime: &Runtime, group: &mut Group<'_>) {
    for tasks in [1, 16, 64] {
        let (_folder, queue) = queue();
        let id = BenchmarkId::new("enqueue", format!("{tasks} tasks"));
        group.bench_function(id, |bencher| {
            bencher.iter_custom(|jobs| {
                runtime.block_on(async {
                    let start = Instant::now();
                    let mut set = JoinSet::new();
                    for task in 0..tasks {
                        let queue = queue.clone();
                        let share = jobs / tasks + u64::from(task < jobs % tasks);
                        set.spawn(async move {
                            for _ in 0..share {
                                put(&queue).await;
                            }
                        });
                    }
                    set.join_all().await;
                    start.elapsed()
                })
            });
        });
    }
}

fn cycles(runtime: &Runtime, group: &mut Group<'_>) {
    for (name, backlog, history) in [
        ("empty", 0, 0),
        ("100k backlog", many(), 0),
        ("100k history", 0, many()),
    ] {
        let (_folder, queue) = queue();
        runtime.block_on(async {
            fill(&queue, history, false).await;
            while work(&queue, 32).await > 0 {}
            fill(&queue, backlog, false).await;
        });
        group.bench_function(BenchmarkId::new("cycle", name), |bencher| {
            bencher.iter_custom(|jobs| {
                runtime.block_on(async {
                    let start = Instant::now();
                    for _ in 0..jobs {
                        cycle(&queue).await;
                    }
                    start.elapsed()
                })
            });
        });
    }
}

fn working(runtime: &Runtime, group: &mut Group<'_>) {
    for (name, later) in [("empty", 0), ("100k that wait for their time", many())] {
        let (_folder, queue) = queue();
        runtime.block_on(fill(&queue, later, true));
        group.bench_function(BenchmarkId::new("work", name), |bencher| {
            bencher.iter_custom(|jobs| {
                runtime.block_on(async {
                    fill(&queue, jobs.try_into().unwrap(), false).await;
                    let start = Instant::now();
                    let mut left = jobs;
                    while left > 0 {
                        left -= work(&queue, 32).await;
                    }
                    start.elapsed()
                })
            });
        });
    }
}

fn push_to_start(runtime: &Runtime, group: &mut Group<'_>) {
    let (_folder, queue) = queue();
    let worker = queue.clone();
    let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
    let working = runtime.spawn(async move {
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
    let mut all = Vec::new();
    group.bench_function("push_to_start", |bencher| {
        bencher.iter_custom(|jobs| {
            runtime.block_on(async {
                let mut took = Duration::ZERO;
                for _ in 0..jobs {
                    // The worker waits by then.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    let pushed = Instant::now();
                    let id = put(&queue).await;
                    let (begun, at): (TaskId, Instant) = begins.recv().await.unwrap();
                    assert_eq!(begun, id);
                    let one = at.saturating_duration_since(pushed);
                    all.push(one);
                    took += one;
                }
                took
            })
        });
    });
    working.abort();
    all.sort_unstable();
    let at = |share: usize| all.get(all.len().saturating_sub(1) * share / 1000);
    if let (Some(p50), Some(p99), Some(p999)) = (at(500), at(990), at(999)) {
        eprintln!("push to start: p50 {p50:?}, p99 {p99:?}, p99.9 {p999:?}");
    }
}

fn raw(group: &mut Group<'_>) {
    let open = |folder: &tempfile::TempDir| {
        let raw = rusqlite::Connection::open(folder.path().join("raw.db")).unwrap();
        raw.pragma_update(None, "journal_mode", "WAL").unwrap();
        raw.pragma_update(None, "synchronous", "FULL").unwrap();
        raw.execute_batch(
            "CREATE TABLE jobs (seq INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, state INTEGER,
                at INTEGER, attempts INTEGER, target TEXT) STRICT;
             CREATE INDEX due ON jobs (target, at) WHERE state = 1;
             CREATE TABLE payloads (seq INTEGER PRIMARY KEY, payload BLOB) STRICT;",
        )
        .unwrap();
        raw
    };
    let insert = |raw: &rusqlite::Connection| {
        let id = TaskId::random();
        raw.prepare_cached(
            "INSERT INTO jobs (id, state, at, attempts, target)
             VALUES (?1, 1, 0, 0, 'example.com:443')",
        )
        .unwrap()
        .execute([id.as_bytes()])
        .unwrap();
        raw.prepare_cached("INSERT INTO payloads VALUES (?1, ?2)")
            .unwrap()
            .execute(params![raw.last_insert_rowid(), &PAYLOAD[..]])
            .unwrap();
    };
    for per_commit in [1, 64] {
        let folder = tempfile::tempdir().unwrap();
        let raw = open(&folder);
        let name = format!("enqueue, {per_commit} per commit");
        group.bench_function(BenchmarkId::new("raw", name), |bencher| {
            bencher.iter_custom(|jobs| {
                let start = Instant::now();
                let mut left = jobs;
                while left > 0 {
                    let now = left.min(per_commit);
                    raw.execute_batch("BEGIN IMMEDIATE").unwrap();
                    (0..now).for_each(|_| insert(&raw));
                    raw.execute_batch("COMMIT").unwrap();
                    left -= now;
                }
                start.elapsed()
            });
        });
    }
    let folder = tempfile::tempdir().unwrap();
    let raw = open(&folder);
    group.bench_function(BenchmarkId::new("raw", "cycle"), |bencher| {
        bencher.iter_custom(|jobs| {
            let start = Instant::now();
            for _ in 0..jobs {
                raw.execute_batch("BEGIN IMMEDIATE").unwrap();
                insert(&raw);
                raw.execute_batch("COMMIT; BEGIN IMMEDIATE").unwrap();
                let seq: i64 = raw
                    .prepare_cached(
                        "UPDATE jobs SET state = 2, at = 1, attempts = attempts + 1
                         WHERE seq = (SELECT seq FROM jobs WHERE target = 'example.com:443'
                            AND state = 1 ORDER BY at, seq LIMIT 1) RETURNING seq",
                    )
                    .unwrap()
                    .query_row([], |row| row.get(0))
                    .unwrap();
                raw.execute_batch("COMMIT; BEGIN IMMEDIATE").unwrap();
                raw.prepare_cached("UPDATE jobs SET state = 5 WHERE seq = ?1")
                    .unwrap()
                    .execute([seq])
                    .unwrap();
                raw.prepare_cached("DELETE FROM payloads WHERE seq = ?1")
                    .unwrap()
                    .execute([seq])
                    .unwrap();
                raw.execute_batch("COMMIT").unwrap();
            }
            start.elapsed()
        });
    });
}

fn main() {
    let mut criterion = Criterion::default()
        .configure_from_args()
        .sample_size(10)
        .measurement_time(Duration::from_secs(3));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let mut group = criterion.benchmark_group("queue_sqlite");
    group.throughput(Throughput::Elements(1));
    raw(&mut group);
    enqueue(&runtime, &mut group);
    cycles(&runtime, &mut group);
    working(&runtime, &mut group);
    push_to_start(&runtime, &mut group);
    group.finish();
    criterion.final_summary();
}
