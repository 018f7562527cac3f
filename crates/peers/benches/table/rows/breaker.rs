//! A circuit breaker around a call that succeeds.

use crate::{
    bare::{Bare, PEER, judge, now},
    measure::{Row, calls, service},
};
use failsafe::{backoff, failure_policy, futures::CircuitBreaker as _};
use std::{
    borrow::Cow,
    collections::HashMap,
    hint::black_box,
    sync::{Arc, Mutex},
    time::Duration,
};
use tower::{Layer, Service};
use tower_webhook::{
    CircuitBreakerLayer,
    circuit_breaker::BreakerConfig,
    outcome::{Outcome, classify_fn},
    peer::{OnePeer, peer_fn},
};

const LONG: Duration = Duration::from_secs(86_400);

fn name() -> &'static str {
    black_box(PEER)
}

pub fn closed(row: &mut Row) {
    row.bare("bare call", service(Bare, name));
    let layer = CircuitBreakerLayer::new(BreakerConfig::default()).peer(OnePeer);
    let layer = layer.classifier(classify_fn(judge));
    row.ours(service(layer.layer(Bare), name));

    let breaker = recloser::AsyncRecloser::from(recloser::Recloser::default());
    let call = move |peer| now(breaker.call(Bare.call(peer))).unwrap();
    row.peer("recloser", calls(name, call));
    let wait = backoff::constant(Duration::from_secs(10));
    let policy = failure_policy::consecutive_failures(3, wait);
    // Counts failures in a row and has no window.
    let breaker = failsafe::Config::new().failure_policy(policy).build();
    let call = move |peer| now(breaker.call(Bare.call(peer))).unwrap();
    row.peer("failsafe, consecutive", calls(name, call));
    let breaker = failsafe::Config::new().build();
    let call = move |peer| now(breaker.call(Bare.call(peer))).unwrap();
    row.peer("failsafe", calls(name, call));
    let layer = tower_resilience_circuitbreaker::CircuitBreakerLayer::builder();
    let layer = layer.build().unwrap();
    row.peer("tower-resilience", service(layer.layer(Bare), name));
}

/// Here nobody calls the service.
pub fn open(row: &mut Row) {
    row.bare("bare call", service(Bare, name));
    let config = BreakerConfig::builder().consecutive_failures(1);
    let config = config.open_for(LONG).max_open_for(LONG).build().unwrap();
    let layer = CircuitBreakerLayer::new(config).peer(OnePeer);
    let layer = layer.classifier(classify_fn(judge));
    let permit = layer.breakers().admit("").unwrap();
    permit.settle(Outcome::transient());
    let mut ours = layer.layer(Bare);
    let call = move |peer| assert!(now(ours.call(peer)).is_err());
    row.ours(calls(name, call));

    let breaker = recloser::Recloser::custom()
        .closed_len(1)
        .open_wait(LONG)
        .build();
    for _ in 0..2 {
        assert!(breaker.call(|| Err::<(), ()>(())).is_err());
    }
    let breaker = recloser::AsyncRecloser::from(breaker);
    let call = move |peer| assert!(now(breaker.call(Bare.call(peer))).is_err());
    row.peer("recloser", calls(name, call));
    let builder = tower_resilience_circuitbreaker::CircuitBreakerLayer::builder();
    let builder = builder.wait_duration_in_open(LONG);
    let (layer, handle) = builder.build_with_handle().unwrap();
    now(handle.force_open());
    let mut breaker = layer.layer(Bare);
    let call = move |peer| assert!(now(breaker.call(peer)).is_err());
    row.peer("tower-resilience", calls(name, call));
}

/// An unoptimised build only shows that the rows work.
const KEYS: usize = if cfg!(debug_assertions) {
    1_000
} else {
    100_000
};

/// All keys, and never the neighbour of the last one.
fn at_random() -> impl FnMut() -> &'static str {
    // Keys outlive everything, so that a request need not own its own.
    let keys = (0..KEYS).map(|n| &*format!("endpoint-{n}.customers.test").leak());
    let keys: Vec<_> = keys.collect();
    let mut at = 0;
    move || {
        at = (at + 61_803) % KEYS;
        keys[at]
    }
}

pub fn keyed(row: &mut Row) {
    row.at_least(512);
    row.bare("bare call", service(Bare, at_random()));

    let config = BreakerConfig::builder().max_peers(KEYS).build().unwrap();
    let layer = CircuitBreakerLayer::new(config).classifier(classify_fn(judge));
    let layer = layer.peer(peer_fn(|key: &&'static str| Cow::Borrowed(*key)));
    let mut ours = layer.layer(Bare);
    let mut keys = at_random();
    for _ in 0..KEYS {
        now(ours.call(keys())).unwrap();
    }
    let kept = layer.breakers().len();
    assert_eq!((kept, layer.breakers().unguarded()), (KEYS, 0));
    row.ours(service(ours, keys));

    // Less work: it finds a counter by its key and judges nothing. No registry can go below.
    let mut keys = at_random();
    let map: HashMap<&str, u64> = (0..KEYS).map(|_| (keys(), 0)).collect();
    let map = Mutex::new(map);
    let call = move |key: &'static str| {
        if let Some(calls) = map.lock().unwrap().get_mut(key) {
            *calls += 1;
        }
        now(Bare.call(key)).unwrap()
    };
    row.peer("a map behind a lock", calls(keys, call));

    // The same work: a breaker for each key.
    let mut keys = at_random();
    let breaker = || recloser::AsyncRecloser::from(recloser::Recloser::default());
    let map: HashMap<&str, _> = (0..KEYS).map(|_| (keys(), Arc::new(breaker()))).collect();
    let map = Mutex::new(map);
    let call = move |key: &'static str| {
        let breaker = Arc::clone(&map.lock().unwrap()[key]);
        now(breaker.call(Bare.call(key))).unwrap()
    };
    row.peer("a map of reclosers behind a lock", calls(keys, call));
}
