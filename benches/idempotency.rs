//! The memory store beside a bare moka cache and a bare map, and the layer beside a bare service,
//! in the same run.
//!
//! Run: `cargo bench -p tower-webhook-benches --bench idempotency`
//!
//! `axum-idempotent` 0.6, the nearest peer, is not here: it keeps its answers in a web session (of
//! `ruts`, which it does not re-export), so that a call without a cookie is not guarded at all, and
//! with one measures cookies and sessions.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "support/bare.rs"]
mod bare;

use bare::{BATCH, now};
use bytes::Bytes;
use criterion::{Bencher, BenchmarkId, Criterion};
use http::{HeaderName, Request, Response};
use moka::{policy::EvictionPolicy, sync::Cache};
use std::{
    collections::HashMap,
    convert::Infallible,
    future::{Ready, ready},
    hint::black_box,
    sync::{
        Barrier, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    thread,
    time::{Duration, Instant},
};
use tower::{Layer, Service};
use tower_webhook::{
    IdempotencyLayer,
    body::BufferedBody,
    idempotency::{Begin, IdempotencyKey, KeySource, MemoryStore, Store},
    lease::FencingToken,
};

const LEASE: Duration = Duration::from_secs(60);
const TTL: Duration = Duration::from_secs(24 * 60 * 60);
const ENTRIES: usize = 100_000;

/// Operations between two looks at the clock.
const CHUNK: usize = 4096;

/// No two keys of a process are the same.
fn fresh_keys() -> Vec<IdempotencyKey> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let first = NEXT.fetch_add(CHUNK, Ordering::Relaxed);
    (first..first + CHUNK)
        .map(|n| IdempotencyKey::new("/hooks", &format!("evt_{n:032}")).unwrap())
        .collect()
}

/// Times `work` on `threads` at once, each with keys of its own; the slowest counts. Keys are made,
/// and `clean` is done, off the clock.
fn on_threads<T>(
    bencher: &mut Bencher<'_>,
    threads: usize,
    keys: impl Fn(usize) -> Vec<IdempotencyKey> + Sync,
    work: impl Fn(&IdempotencyKey) -> T + Sync,
    clean: impl Fn(&[IdempotencyKey], &[T]) + Sync,
) {
    bencher.iter_custom(|iters| {
        let barrier = Barrier::new(threads);
        let time = &|thread| {
            let mut left = usize::try_from(iters).unwrap();
            let mut spent = Duration::ZERO;
            let mut results = Vec::with_capacity(CHUNK);
            while left > 0 {
                let keys = keys(thread);
                let keys = &keys[..left.min(keys.len())];
                barrier.wait();
                let started = Instant::now();
                results.extend(keys.iter().map(&work));
                spent += started.elapsed();
                clean(keys, &results);
                results.clear();
                left -= keys.len();
            }
            spent
        };
        thread::scope(|scope| {
            let running: Vec<_> = (0..threads)
                .map(|thread| scope.spawn(move || time(thread)))
                .collect();
            let times = running.into_iter().map(|thread| thread.join().unwrap());
            times.max().unwrap_or_default()
        })
    });
}

fn begin(store: &MemoryStore, key: &IdempotencyKey) -> FencingToken {
    match store.begin(key, None, LEASE).into_inner() {
        Ok(Begin::Acquired(token)) => token,
        other => panic!("the key must be free, and is {other:?}"),
    }
}

fn bare_moka() -> Cache<IdempotencyKey, Bytes> {
    Cache::builder()
        .max_capacity(ENTRIES as u64)
        .eviction_policy(EvictionPolicy::lru())
        .time_to_live(TTL)
        .build()
}

fn store(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("store");
    let answer = Bytes::from(vec![7; 256]);
    for threads in [1, 2] {
        let id = |name: &str| BenchmarkId::new(name, threads);
        let none = |_: &[IdempotencyKey], _: &[()]| {};

        group.bench_function(id("fresh/mutex_hash_map"), |bencher| {
            let map = Mutex::new(HashMap::new());
            let work = |key: &IdempotencyKey| {
                let until = Instant::now() + LEASE;
                map.lock().unwrap().entry(key.clone()).or_insert(until);
            };
            let clean = |keys: &[IdempotencyKey], _: &[()]| {
                let mut map = map.lock().unwrap();
                for key in keys {
                    map.remove(key);
                }
            };
            on_threads(bencher, threads, |_| fresh_keys(), work, clean);
        });
        group.bench_function(id("fresh/moka_or_insert_with"), |bencher| {
            let cache = bare_moka();
            let work = |key: &IdempotencyKey| {
                let entry = cache.entry_by_ref(key).or_default();
                assert!(entry.is_fresh());
            };
            on_threads(bencher, threads, |_| fresh_keys(), work, none);
        });
        group.bench_function(id("fresh/memory_store"), |bencher| {
            let store = MemoryStore::default();
            let work = |key: &IdempotencyKey| -> FencingToken { begin(&store, key) };
            let clean = |keys: &[IdempotencyKey], tokens: &[FencingToken]| {
                for (key, token) in keys.iter().zip(tokens) {
                    drop(store.release(key, *token));
                }
            };
            on_threads(bencher, threads, |_| fresh_keys(), work, clean);
        });

        group.bench_function(id("repeat/moka_get"), |bencher| {
            let cache = bare_moka();
            let keys: Vec<_> = (0..threads).map(|_| fresh_keys()).collect();
            for key in keys.iter().flatten() {
                cache.insert(key.clone(), answer.clone());
            }
            let work = |key: &IdempotencyKey| {
                assert!(black_box(cache.get(key)).is_some());
            };
            on_threads(bencher, threads, |thread| keys[thread].clone(), work, none);
        });
        group.bench_function(id("repeat/memory_store"), |bencher| {
            let store = MemoryStore::default();
            let keys: Vec<_> = (0..threads).map(|_| fresh_keys()).collect();
            for key in keys.iter().flatten() {
                let token = begin(&store, key);
                drop(store.complete(key, token, answer.clone(), TTL));
            }
            let work = |key: &IdempotencyKey| {
                let begun = store.begin(key, None, LEASE).into_inner().unwrap();
                assert!(matches!(black_box(begun), Begin::Completed(_)));
            };
            on_threads(bencher, threads, |thread| keys[thread].clone(), work, none);
        });

        group.bench_function(id("whole/moka_insert"), |bencher| {
            let cache = bare_moka();
            let work = |key: &IdempotencyKey| cache.insert(key.clone(), answer.clone());
            on_threads(bencher, threads, |_| fresh_keys(), work, none);
        });
        group.bench_function(id("whole/memory_store"), |bencher| {
            let store = MemoryStore::default();
            let work = |key: &IdempotencyKey| {
                let token = begin(&store, key);
                drop(black_box(store.complete(key, token, answer.clone(), TTL)));
            };
            on_threads(bencher, threads, |_| fresh_keys(), work, none);
        });
    }
    group.finish();
}

/// Answers at once, without an allocation.
#[derive(Clone, Copy)]
struct Bare;

impl Service<Request<BufferedBody>> for Bare {
    type Response = Response<BufferedBody>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Request<BufferedBody>) -> Self::Future {
        black_box(req);
        ready(Ok(Response::new(BufferedBody::from("answer"))))
    }
}

fn layer(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("layer");
    let header = HeaderName::from_static("x-id");
    let request = |n: usize| {
        let id = format!("evt_{n:032}");
        let req = Request::post("/hooks").header(&header, id).extension(7_u8);
        req.body(BufferedBody::from("{}")).unwrap()
    };
    let next = AtomicUsize::new(1);
    let fresh = || request(next.fetch_add(1, Ordering::Relaxed));

    let mut bare = Bare;
    group.bench_function("bare", |bencher| {
        let call = |req| now(bare.call(req)).unwrap();
        bencher.iter_batched(fresh, call, BATCH);
    });
    let key = KeySource::header(header.clone());
    let guard = IdempotencyLayer::webhook(MemoryStore::default(), key);
    let mut guarded = guard.build().unwrap().layer(Bare);
    group.bench_function("fresh", |bencher| {
        let call = |req| now(guarded.call(req)).unwrap();
        bencher.iter_batched(fresh, call, BATCH);
    });
    now(guarded.call(request(0))).unwrap();
    group.bench_function("repeat", |bencher| {
        let call = |req| now(guarded.call(req)).unwrap();
        bencher.iter_batched(|| request(0), call, BATCH);
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    store(&mut criterion);
    layer(&mut criterion);
    criterion.final_summary();
}
