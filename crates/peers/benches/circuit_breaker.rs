//! A circuit breaker around a call: ours, recloser, failsafe and tower-resilience.
//!
//! Run: `cargo bench -p peers --bench circuit_breaker`

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "../../../benches/support/bare.rs"]
mod bare;

use bare::{Bare, PEER, judge, measure_ready, now};
use criterion::Criterion;
use failsafe::{backoff, failure_policy, futures::CircuitBreaker as _};
use std::{hint::black_box, time::Duration};
use tower::{Layer, Service};
use tower_webhook::{
    CircuitBreakerLayer,
    circuit_breaker::BreakerConfig,
    outcome::{Outcome, classify_fn},
    peer::OnePeer,
};

const LONG: Duration = Duration::from_secs(86_400);

fn closed(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("closed");
    measure_ready(&mut group, "bare", Bare);
    let layer = CircuitBreakerLayer::new(BreakerConfig::default()).peer(OnePeer);
    let layer = layer.classifier(classify_fn(judge));
    measure_ready(&mut group, "ours", layer.layer(Bare));

    let breaker = recloser::AsyncRecloser::from(recloser::Recloser::default());
    group.bench_function("recloser", |bencher| {
        bencher.iter(|| now(breaker.call(Bare.call(black_box(PEER)))).is_ok());
    });
    let breaker = failsafe::Config::new().build();
    group.bench_function("failsafe", |bencher| {
        bencher.iter(|| now(breaker.call(Bare.call(black_box(PEER)))).is_ok());
    });
    let wait = backoff::constant(Duration::from_secs(10));
    let policy = failure_policy::consecutive_failures(3, wait);
    let breaker = failsafe::Config::new().failure_policy(policy).build();
    group.bench_function("failsafe_consecutive", |bencher| {
        bencher.iter(|| now(breaker.call(Bare.call(black_box(PEER)))).is_ok());
    });
    let layer = tower_resilience_circuitbreaker::CircuitBreakerLayer::builder();
    let layer = layer.build().unwrap();
    measure_ready(&mut group, "tower_resilience", layer.layer(Bare));
    group.finish();
}

fn open(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("open");
    let config = BreakerConfig::builder().consecutive_failures(1);
    let config = config.open_for(LONG).max_open_for(LONG).build().unwrap();
    let layer = CircuitBreakerLayer::new(config).peer(OnePeer);
    let layer = layer.classifier(classify_fn(judge));
    let permit = layer.breakers().admit("").unwrap();
    permit.settle(Outcome::transient());
    measure_ready(&mut group, "ours", layer.layer(Bare));

    let breaker = recloser::Recloser::custom()
        .closed_len(1)
        .open_wait(LONG)
        .build();
    for _ in 0..2 {
        assert!(breaker.call(|| Err::<(), ()>(())).is_err());
    }
    let breaker = recloser::AsyncRecloser::from(breaker);
    group.bench_function("recloser", |bencher| {
        bencher.iter(|| now(breaker.call(Bare.call(black_box(PEER)))).is_err());
    });
    let builder = tower_resilience_circuitbreaker::CircuitBreakerLayer::builder();
    let (layer, handle) = builder.build_with_handle().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread();
    { runtime }.build().unwrap().block_on(handle.force_open());
    measure_ready(&mut group, "tower_resilience_forced", layer.layer(Bare));
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    closed(&mut criterion);
    open(&mut criterion);
    criterion.final_summary();
}
