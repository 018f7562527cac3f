//! The SQLite store, beside what the bare driver does with the same disk in the same run.
//!
//! - `raw`: `INSERT .. ON CONFLICT DO NOTHING` into a table with a text key, write-ahead log,
//!   `synchronous=FULL`: one to a commit, and 100 to a commit.
//! - `claims`: `begin` of fresh keys, by 1 and by 64 tasks.
//! - `pairs`: `begin` and `complete` of fresh keys, with an answer of 64 bytes and of 1 KiB. The
//!   answer is on the disk when it is acknowledged.
//! - `writes`: one row through `Database::execute` (durable) and `write_relaxed`.
//!
//! One element is one key. Every figure is of a new file.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, measurement::WallTime};
use std::{
    hint::black_box,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};
use tokio::{runtime::Runtime, task::JoinSet};
use tower_webhook::idempotency::{Begin, Fingerprint, IdempotencyKey, Store};
use tower_webhook::lease::Settled;
use tower_webhook_sqlite::{Database, SqliteStore, database::Statement};

const LEASE: Duration = Duration::from_secs(30);
const TTL: Duration = Duration::from_secs(7 * 86_400);
const TABLE: &str = "CREATE TABLE t (key TEXT NOT NULL PRIMARY KEY, at INTEGER, body BLOB) STRICT";
const INSERT: &str = "INSERT INTO t (key, at, body) VALUES (?1, 0, ?2) ON CONFLICT DO NOTHING";

/// A key nobody has seen, in no order.
fn fresh() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    // An odd factor permutes the numbers: unique, and spread over the index.
    let number = NEXT
        .fetch_add(1, Ordering::Relaxed)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15);
    format!("evt_{number:016x}{:016x}", number.rotate_left(32))
}

fn raw(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, per_commit: u64, body: usize) {
    let folder = tempfile::tempdir().unwrap();
    let connection = rusqlite::Connection::open(folder.path().join("raw.db")).unwrap();
    connection
        .pragma_update(None, "journal_mode", "WAL")
        .unwrap();
    connection
        .pragma_update(None, "synchronous", "FULL")
        .unwrap();
    connection.execute_batch(TABLE).unwrap();
    let body = vec![7_u8; body];
    group.bench_function(BenchmarkId::new("raw", name), |bencher| {
        bencher.iter_custom(|keys| {
            let mut insert = connection.prepare(INSERT).unwrap();
            let start = Instant::now();
            let mut left = keys;
            while left > 0 {
                let now = left.min(per_commit);
                connection.execute_batch("BEGIN IMMEDIATE").unwrap();
                for _ in 0..now {
                    insert.execute((fresh(), &body)).unwrap();
                }
                connection.execute_batch("COMMIT").unwrap();
                left -= now;
            }
            start.elapsed()
        });
    });
}

/// Shares `keys` among `tasks` and measures until all are done.
fn shared<F>(runtime: &Runtime, tasks: u64, keys: u64, work: impl Fn(u64) -> F) -> Duration
where
    F: Future<Output = ()> + Send + 'static,
{
    runtime.block_on(async {
        let start = Instant::now();
        let mut set = JoinSet::new();
        for task in 0..tasks {
            set.spawn(work(keys / tasks + u64::from(task < keys % tasks)));
        }
        set.join_all().await;
        start.elapsed()
    })
}

async fn claim(store: &SqliteStore, key: &IdempotencyKey) -> tower_webhook::lease::FencingToken {
    let print = Fingerprint::new([7; 32]);
    match store.begin(key, Some(&print), LEASE).await.unwrap() {
        Begin::Acquired(token) => token,
        other => panic!("{other:?}"),
    }
}

fn store(runtime: &Runtime, group: &mut BenchmarkGroup<'_, WallTime>, tasks: u64) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("claims.db")).unwrap();
    group.bench_function(
        BenchmarkId::new("claims", format!("{tasks} tasks")),
        |bencher| {
            bencher.iter_custom(|keys| {
                shared(runtime, tasks, keys, |keys| {
                    let store = store.clone();
                    async move {
                        for _ in 0..keys {
                            black_box(
                                claim(&store, &IdempotencyKey::new("/hooks", &fresh()).unwrap())
                                    .await,
                            );
                        }
                    }
                })
            });
        },
    );
    for size in [64, 1024] {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path().join("pairs.db")).unwrap();
        let answer = Bytes::from(vec![7; size]);
        let name = format!("{size} B, {tasks} tasks");
        group.bench_function(BenchmarkId::new("pairs", name), |bencher| {
            bencher.iter_custom(|keys| {
                shared(runtime, tasks, keys, |keys| {
                    let (store, answer) = (store.clone(), answer.clone());
                    async move {
                        for _ in 0..keys {
                            let key = IdempotencyKey::new("/hooks", &fresh()).unwrap();
                            let token = claim(&store, &key).await;
                            let done = store.complete(&key, token, answer.clone(), TTL).await;
                            assert_eq!(done.unwrap(), Settled::Done);
                        }
                    }
                })
            });
        });
    }
}

fn database(runtime: &Runtime, group: &mut BenchmarkGroup<'_, WallTime>, tasks: u64) {
    for durable in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(folder.path().join("writes.db")).unwrap();
        database.migrate("bench", &[TABLE]).unwrap();
        let name = format!(
            "{}, {tasks} tasks",
            if durable { "durable" } else { "relaxed" }
        );
        group.bench_function(BenchmarkId::new("writes", name), |bencher| {
            bencher.iter_custom(|keys| {
                shared(runtime, tasks, keys, |keys| {
                    let database = database.clone();
                    async move {
                        for _ in 0..keys {
                            let insert = Statement::new(INSERT).bind(fresh()).bind(&[7_u8; 64][..]);
                            let rows = if durable {
                                database.execute(insert).await
                            } else {
                                database.write_relaxed(move |it| it.execute(&insert)).await
                            };
                            assert_eq!(rows.unwrap(), 1);
                        }
                    }
                })
            });
        });
    }
}

fn main() {
    let mut criterion = Criterion::default()
        .configure_from_args()
        .sample_size(20)
        .measurement_time(Duration::from_secs(3));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let mut group = criterion.benchmark_group("sqlite");
    group.throughput(Throughput::Elements(1));
    raw(&mut group, "1 per commit", 1, 0);
    raw(&mut group, "100 per commit", 100, 0);
    raw(&mut group, "1 KiB, 1 per commit", 1, 1024);
    raw(&mut group, "1 KiB, 100 per commit", 100, 1024);
    for tasks in [1, 64] {
        store(&runtime, &mut group, tasks);
        database(&runtime, &mut group, tasks);
    }
    group.finish();
    criterion.final_summary();
}
