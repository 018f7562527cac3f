//! The memory store beside a bare moka cache and a bare map, and the layer beside a bare service,
//! in the same run.
//!
//! Run: `cargo bench -p tower-webhook-benches --bench idempotency`
//!
//! No other crate's layer is here, because none that does the same work builds with the Rust that builds this:
//! - `idempotent` has a layer since 1.0, which asks for Rust 1.98; 0.3, its last release before, has a store
//!   alone. `README.md` has figures of 2.0, built without that check.
//! - `footing` asks for Rust 1.97 to 1.99 in each of its releases.
//! - `axum-idempotent` 0.6 builds, but keeps its answers in a web session (of `ruts`, which it does not
//!   re-export): a call without a cookie is not guarded at all, and one with a cookie measures sessions.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "support/bare.rs"]
mod bare;

use bare::now;
use bytes::Bytes;
use criterion::{Bencher, BenchmarkId, Criterion};
use http::{HeaderName, Request, Response};
use moka::{
    policy::EvictionPolicy,
    sync::{Cache, CacheBuilder},
};
use std::{
    collections::{HashMap, hash_map::RandomState},
    convert::Infallible,
    future::{Ready, ready},
    hash::{BuildHasher as _, BuildHasherDefault, Hash, Hasher},
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

type Builder<K> = CacheBuilder<K, Bytes, Cache<K, Bytes>>;

fn bare<K>(builder: Builder<K>) -> Builder<K> {
    let builder = builder.max_capacity(ENTRIES as u64);
    builder
        .eviction_policy(EvictionPolicy::lru())
        .time_to_live(TTL)
}

fn bare_moka() -> Cache<IdempotencyKey, Bytes> {
    bare(Cache::builder()).build()
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

/// Times one batch of work on new keys, or for repeats on known ones.
type Round<'a> = (&'static str, Box<dyn FnMut() -> Duration + 'a>);

/// One operation after another, with `ENTRIES` answers kept and each new one evicting another. What an
/// operation takes is made off the clock, a few at a time.
fn round<'a, I, T>(
    name: &'static str,
    operations: usize,
    mut make: impl FnMut(usize) -> I + 'a,
    mut work: impl FnMut(I) -> T + 'a,
) -> Round<'a> {
    let mut next = 0;
    let run = move || {
        let mut spent = Duration::ZERO;
        let mut inputs = Vec::with_capacity(AT_ONCE);
        let mut outputs = Vec::with_capacity(AT_ONCE);
        for _ in 0..operations / AT_ONCE {
            inputs.extend((next..next + AT_ONCE).map(&mut make));
            next += AT_ONCE;
            let started = processor_time();
            outputs.extend(inputs.drain(..).map(&mut work));
            spent += processor_time().saturating_sub(started);
            outputs.clear();
        }
        spent
    };
    (name, Box::new(run))
}

/// Of this thread: other programs on the machine must not count.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap()
}

/// Few enough that what was made off the clock is still in the processor's cache.
const AT_ONCE: usize = 32;
const OPERATIONS: usize = 1024;

/// As many rounds as moka takes until it has cleaned each part of its map once: it does so all at once, so
/// that fewer rounds may see all of it or none.
const CYCLE: usize = 32;

/// Keys of which every one is asked for again before others can evict it.
const REPEATED: usize = 1024;

/// A key that knows its hash, so that moka does not compute it whenever it cleans its map.
#[derive(PartialEq, Eq)]
struct Hashed(u64, IdempotencyKey);

impl Hash for Hashed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

#[derive(Clone, Default)]
struct PassOn(u64);

impl Hasher for PassOn {
    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The layer beside what it consists of. The rounds alternate: only ratios of one run mean anything.
fn kept(is_test: bool) {
    let (entries, rounds) = if is_test {
        (1024, 1)
    } else {
        (ENTRIES, 10 * CYCLE)
    };
    let header = HeaderName::from_static("x-id");
    let id = |n: usize| format!("evt_{n:032}");
    let key = |n: usize| IdempotencyKey::new("/hooks", &id(n)).unwrap();
    let request = |n: usize| {
        let req = Request::post("/hooks")
            .header(&header, id(n))
            .extension(7_u8);
        req.body(BufferedBody::from("{}")).unwrap()
    };
    // What the layer stores of the answer of `Bare`.
    let record = [
        &b"\x01\x00\x00\xc8\x00\x00\x00\x00\x00\x00\x00\x00"[..],
        b"answer",
    ]
    .concat();
    let value = || Bytes::from(record.clone());

    let mut service = Bare;
    let (moka, moka_made) = (bare_moka(), bare_moka());
    let hasher = RandomState::new();
    let hashing = bare(Cache::builder()).build_with_hasher(BuildHasherDefault::<PassOn>::default());
    let (store, store_made) = (MemoryStore::default(), MemoryStore::default());
    let whole = |store: &MemoryStore, key: &IdempotencyKey, value| {
        let token = begin(store, key);
        drop(store.complete(key, token, value, TTL));
    };
    let guard = |store: &MemoryStore| {
        let guard = IdempotencyLayer::webhook(store.clone(), KeySource::header(header.clone()));
        guard.layer(Bare)
    };
    let mut guarded = guard(&MemoryStore::default());
    let mut repeated = guard(&MemoryStore::default());
    for n in 0..entries {
        now(repeated.call(request(n))).unwrap();
    }

    let table = [
        round("bare service", OPERATIONS, request, |req| {
            now(service.call(req)).unwrap()
        }),
        round(
            "moka insert",
            OPERATIONS,
            |n| (key(n), value()),
            |(key, value)| moka.insert(key, value),
        ),
        round(
            "moka insert, key knows its hash",
            OPERATIONS,
            |n| (key(n), value()),
            |(key, value)| hashing.insert(Hashed(hasher.hash_one(&key), key), value),
        ),
        round("moka insert, key and value made", OPERATIONS, id, |id| {
            moka_made.insert(IdempotencyKey::new("/hooks", &id).unwrap(), value());
            id
        }),
        round(
            "store",
            OPERATIONS,
            |n| (key(n), value()),
            |(key, value)| whole(&store, &key, value),
        ),
        round("store, key and value made", OPERATIONS, id, |id| {
            let key = IdempotencyKey::new("/hooks", &id).unwrap();
            whole(&store_made, &key, value());
            id
        }),
        round("layer, fresh key", OPERATIONS, request, |req| {
            now(guarded.call(req)).unwrap()
        }),
        round(
            "layer, repeat",
            REPEATED,
            |n| request(entries - 1 - n % REPEATED),
            |req| now(repeated.call(req)).unwrap(),
        ),
    ];
    // Until the bound is reached, nothing is evicted.
    compare(table, entries / OPERATIONS + 8, rounds);
}

fn compare<const N: usize>(mut table: [Round<'_>; N], fill: usize, rounds: usize) {
    let mut times = vec![Vec::new(); N];
    for round in 0..fill + rounds {
        for ((_, run), times) in table.iter_mut().zip(&mut times) {
            let spent = run();
            if round >= fill {
                times.push(spent);
            }
        }
    }
    let means = |times: &[Duration]| {
        let mean = |cycle: &[Duration]| {
            let operations = u32::try_from(cycle.len() * OPERATIONS).unwrap();
            (cycle.iter().sum::<Duration>() / operations).as_secs_f64() * 1e9
        };
        let mut means: Vec<_> = times.chunks(CYCLE).map(mean).collect();
        means.sort_by(f64::total_cmp);
        (means[0], means[means.len() / 2])
    };
    let (_, moka) = means(&times[1]);
    println!(
        "{:<34}{:>10}{:>10}{:>8}",
        "ns, full", "least", "median", "/moka"
    );
    for ((name, _), times) in table.iter().zip(&times) {
        let (least, median) = means(times);
        println!(
            "{name:<34}{least:>10.0}{median:>10.0}{:>8.2}",
            median / moka
        );
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    kept(std::env::args().any(|arg| arg == "--test"));
    store(&mut criterion);
    criterion.final_summary();
}
