//! A time limit around a call that is answered at once: ours, tower's and tower-http's.
//!
//! Run: `cargo bench -p peers --bench deadline`

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "../../../benches/support/bare.rs"]
mod bare;

use bare::{Bare, measure};
use criterion::Criterion;
use http::{Request, StatusCode};
use std::time::Duration;
use tower::{Layer, timeout::TimeoutLayer};
use tower_webhook::deadline::{AttemptTimeoutLayer, DeadlineLayer};

const LIMIT: Duration = Duration::from_secs(30);

fn main() {
    // The timers need a runtime, also where they do not run.
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().build().unwrap();
    let _entered = runtime.enter();

    let mut criterion = Criterion::default().configure_from_args();
    let tower_http = tower_http::timeout::TimeoutLayer::with_status_code;
    let tower_http = tower_http(StatusCode::GATEWAY_TIMEOUT, LIMIT);
    let deadline = DeadlineLayer::new(LIMIT).unwrap();
    let attempt = AttemptTimeoutLayer::new(LIMIT).unwrap();

    let requests = || Request::new(());
    let mut group = criterion.benchmark_group("deadline");
    measure(&mut group, "bare", Bare, requests);
    measure(&mut group, "ours_deadline", deadline.layer(Bare), requests);
    measure(
        &mut group,
        "ours_attempt_timeout",
        attempt.layer(Bare),
        requests,
    );
    let tower = TimeoutLayer::new(LIMIT);
    measure(&mut group, "tower", tower.layer(Bare), requests);
    measure(&mut group, "tower_http", tower_http.layer(Bare), requests);
    group.finish();
    criterion.final_summary();
}
