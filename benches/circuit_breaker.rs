//! What settings of a circuit breaker add to a call, beside the bare service in the same run. The default, its
//! rivals and a hundred thousand keys are in the table of `crates/peers`.
//!
//! Run: `cargo bench -p tower-webhook-benches --bench circuit_breaker`

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "support/bare.rs"]
mod bare;

use bare::{Bare, judge, measure_ready, now};
use criterion::Criterion;
use std::{borrow::Cow, time::Duration};
use tower::{Layer, Service};
use tower_webhook::{
    CircuitBreakerLayer,
    circuit_breaker::{BreakerConfig, BreakerConfigBuilder},
    outcome::{Outcome, classify_fn},
    peer::{OnePeer, peer_fn},
};

fn config(builder: BreakerConfigBuilder) -> BreakerConfig {
    builder.build().unwrap()
}

fn closed(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("closed");
    measure_ready(&mut group, "bare", Bare);
    let base = BreakerConfig::builder;
    let ours = |builder| {
        let layer = CircuitBreakerLayer::new(config(builder)).peer(OnePeer);
        layer.classifier(classify_fn(judge)).layer(Bare)
    };
    measure_ready(
        &mut group,
        "ours_without_rate",
        ours(base().without_failure_rate()),
    );
    measure_ready(
        &mut group,
        "ours_time_window",
        ours(base().window_time(Duration::from_secs(10))),
    );
    measure_ready(
        &mut group,
        "ours_slow_calls",
        ours(base().slow_call(Duration::from_secs(10))),
    );

    group.finish();
}

fn open(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("open");
    let layer = CircuitBreakerLayer::new(BreakerConfig::default()).peer(OnePeer);
    layer.breakers().find("").unwrap().force_open();
    let layer = layer.classifier(classify_fn(judge));
    measure_ready(&mut group, "ours_forced", layer.layer(Bare));
    group.finish();
}

/// Keys that outlive everything, so that a request need not own its own.
fn keys(count: usize) -> Vec<&'static str> {
    let keys = (0..count).map(|n| &*format!("endpoint-{n}.customers.test").leak());
    keys.collect()
}

fn keyed(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("keyed");
    for count in [1, 1_000] {
        let keys = keys(count);
        // All of them, and never the neighbour of the last one.
        let mut at = 0;
        let mut next = || {
            at = (at + 61_803) % count;
            keys[at]
        };
        let mut bare = Bare;
        group.bench_function(format!("bare/{count}"), |bencher| {
            bencher.iter(|| now(bare.call(next())).is_ok());
        });
        let builder = BreakerConfig::builder().max_peers(100_000);
        let layer = CircuitBreakerLayer::new(config(builder)).classifier(classify_fn(judge));
        let layer = layer.peer(peer_fn(|key: &&'static str| Cow::Borrowed(*key)));
        let mut service = layer.layer(Bare);
        for key in &keys {
            now(service.call(key)).unwrap();
        }
        group.bench_function(format!("ours/{count}"), |bencher| {
            bencher.iter(|| now(service.call(next())).is_ok());
        });
        assert_eq!(
            (layer.breakers().len(), layer.breakers().unguarded()),
            (count, 0)
        );
    }

    // Every call with a key that was never seen, in a map that is full.
    let builder = BreakerConfig::builder().max_peers(1_000);
    let layer = CircuitBreakerLayer::new(config(builder));
    let breakers = layer.breakers();
    let keys = keys(300_000);
    let mut fresh = keys.iter().cycle();
    group.bench_function("ours/new_key_in_a_full_map", |bencher| {
        bencher.iter(|| {
            breakers
                .admit(fresh.next().unwrap())
                .unwrap()
                .settle(Outcome::success());
        });
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    closed(&mut criterion);
    open(&mut criterion);
    keyed(&mut criterion);
    criterion.final_summary();
}
