//! Many threads at once.

use super::*;
use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

const THREADS: u64 = 4;
const CALLS: u64 = 20_000;

fn call(metrics: &DeliveryMetrics, n: u64) {
    let peer = ["a.test", "b.test", "c.test"][usize::try_from(n % 3).unwrap()];
    let outcome = match n % 4 {
        0 => Outcome::transient(),
        1 => Outcome::cancelled(),
        _ => Outcome::success(),
    };
    attempt(metrics, peer, outcome, Duration::from_micros(n % 100));
    retried(metrics, peer, Some(500));
}

#[test]
fn every_call_is_counted_once() {
    let metrics = DeliveryMetrics::with_max_peers(2).unwrap();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| (0..CALLS).for_each(|n| call(&metrics, n)));
        }
    });
    let snapshot = metrics.snapshot();
    let attempts = snapshot.attempts();
    assert_eq!(attempts.total(), THREADS * CALLS);
    assert_eq!(attempts.count(OutcomeKind::Transient), THREADS * CALLS / 4);
    assert_eq!(attempts.count(OutcomeKind::Success), THREADS * CALLS / 2);
    assert_eq!(attempts.latency().count(), THREADS * CALLS * 3 / 4);
    assert_eq!(snapshot.retries(), THREADS * CALLS);
    assert_eq!(snapshot.retries_by_code(), [(Some(500), THREADS * CALLS)]);
    assert_eq!(
        (snapshot.peers().len(), snapshot.other().is_some()),
        (2, true)
    );
    assert_idle(&metrics);
}

#[test]
fn snapshots_meanwhile_never_go_back_and_never_count_what_did_not_begin() {
    let metrics = DeliveryMetrics::new();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| (0..CALLS).for_each(|n| call(&metrics, n))))
            .collect();
        let reader = scope.spawn(|| {
            let mut last = metrics.snapshot();
            while !done.load(Relaxed) {
                let next = metrics.snapshot();
                let (before, after) = (last.attempts(), next.attempts());
                assert!(
                    before
                        .counts()
                        .zip(after.counts())
                        .all(|(one, two)| one.1 <= two.1)
                );
                assert!(before.latency().count() <= after.latency().count());
                let timed = after.total() - after.count(OutcomeKind::Cancelled);
                assert!(after.latency().count() >= timed);
                // No more than run, and no wrapped number.
                assert!(after.in_flight() <= 2 * CALLS);
                let rate = after.success_rate().unwrap_or(0.5);
                assert!((0.0..=1.0).contains(&rate));
                let mean = after.latency().mean().unwrap_or_default();
                assert!(mean <= Duration::from_micros(99));
                last = next;
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Relaxed);
        reader.join().unwrap();
    });
    assert_eq!(metrics.snapshot().attempts().total(), 2 * CALLS);
}
