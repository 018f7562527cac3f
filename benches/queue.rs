//! What a queue's operations cost, and whether a backlog or a history makes them slower.
//!
//! Run: `cargo bench -p tower-webhook-benches --bench queue`
//!
//! - `enqueue`: one job of 1 KiB, with so many in the queue.
//! - `claim_settle`: one job is claimed and done, with so many behind it: for its own target
//!   (`backlog`), for targets in which as many run as may (`full`), or done and kept (`history`).
//!
//! An empty queue, beside a deque behind a lock, is in the table of `crates/peers`.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use criterion::{BatchSize, Bencher, BenchmarkId, Criterion};
use std::{
    future::Future,
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};
use tower_webhook::{
    StoreError,
    lease::Settled,
    queue::{Ask, End, Engine, MemoryQueue, NewJob, Tasks},
};

const LEASE: Duration = Duration::from_secs(3_600);
/// Finished tasks leave with the next operation.
const AT_ONCE: Duration = Duration::from_nanos(1);
const BATCH: BatchSize = BatchSize::NumIterations(32);
const SIZES: [usize; 2] = [10_000, 100_000];

/// Polls a future that is ready at once: a runtime would be most of what is measured.
fn now<T>(future: impl Future<Output = Result<T, StoreError>>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output.unwrap(),
        Poll::Pending => panic!("the future waits"),
    }
}

/// Finished tasks are kept for so long.
fn queue(retention: Duration) -> MemoryQueue {
    let queue = MemoryQueue::builder()
        .max_jobs(10_000_000)
        .max_bytes(1 << 40)
        .max_finished(10_000_000)
        .retention(retention);
    queue.build().unwrap()
}

fn job(target: &str) -> NewJob {
    static PAYLOAD: [u8; 1024] = [7; 1024];
    NewJob::new("bench", Bytes::from_static(&PAYLOAD)).target(target)
}

fn enqueue(queue: &MemoryQueue, job: NewJob) {
    assert!(now(queue.enqueue(vec![job]))[0].is_ok());
}

fn put(queue: &MemoryQueue, jobs: usize, target: impl Fn(usize) -> String) {
    for number in 0..jobs {
        enqueue(queue, job(&target(number)));
    }
}

fn take_and_finish(queue: &MemoryQueue) {
    let claims = now(queue.claim(Ask::new(1, LEASE)));
    let [job] = &claims.jobs[..] else {
        panic!("one job is given");
    };
    let done = (job.claim(), End::Done { result: None });
    assert_eq!(now(queue.settle(vec![done])), [Settled::Done]);
}

/// Puts one in off the clock, and takes it or the one before it on the clock.
fn claim_settle(bencher: &mut Bencher<'_>, queue: &MemoryQueue, target: &str) {
    let setup = || enqueue(queue, job(target));
    let work = |()| take_and_finish(queue);
    bencher.iter_batched(setup, work, BATCH);
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();

    let mut group = criterion.benchmark_group("enqueue");
    for size in SIZES {
        group.bench_function(BenchmarkId::new("memory", size), |bencher| {
            let queue = queue(AT_ONCE);
            put(&queue, size, |_| "target".to_owned());
            let setup = || {
                // Off the clock one leaves for each that comes: the size stays.
                if now(queue.depth()).queued > size as u64 {
                    take_and_finish(&queue);
                }
                job("target")
            };
            bencher.iter_batched(setup, |job| enqueue(&queue, black_box(job)), BATCH);
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("claim_settle");
    for size in SIZES {
        group.bench_function(BenchmarkId::new("memory/backlog", size), |bencher| {
            let queue = queue(AT_ONCE);
            put(&queue, size, |_| "target".to_owned());
            claim_settle(bencher, &queue, "target");
        });
    }
    for size in [10_000, 100_000] {
        group.bench_function(BenchmarkId::new("memory/full", size), |bencher| {
            let queue = queue(AT_ONCE);
            put(&queue, size, |number| format!("target-{}", number % 100));
            let running = now(queue.claim(Ask::new(usize::MAX, LEASE)));
            assert_eq!(running.jobs.len(), 800);
            claim_settle(bencher, &queue, "free");
        });
        group.bench_function(BenchmarkId::new("memory/history", size), |bencher| {
            let queue = queue(LEASE);
            for _ in 0..size {
                put(&queue, 1, |_| "target".to_owned());
                take_and_finish(&queue);
            }
            claim_settle(bencher, &queue, "target");
        });
    }
    group.finish();
    criterion.final_summary();
}
