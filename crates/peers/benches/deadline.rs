//! A time limit around a call that is answered at once: ours, tower's and tower-http's.
//!
//! Run: `cargo bench -p peers --bench deadline`

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "../../../benches/support/bare.rs"]
mod bare;

use bare::{BATCH, Bare, now};
use criterion::Criterion;
use http::{Request, StatusCode};
use std::time::Duration;
use tower::{Layer, Service, timeout::TimeoutLayer};
use tower_webhook::{
    BoxError,
    deadline::{AttemptTimeoutLayer, DeadlineLayer},
};

const LIMIT: Duration = Duration::from_secs(30);

fn measure<S>(criterion: &mut Criterion, name: &str, mut service: S)
where
    S: Service<Request<()>, Error: Into<BoxError>>,
{
    let mut group = criterion.benchmark_group("deadline");
    group.bench_function(name, |bencher| {
        let call = |req| now(service.call(req)).map_err(Into::into).unwrap();
        bencher.iter_batched(|| Request::new(()), call, BATCH);
    });
    group.finish();
}

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

    measure(&mut criterion, "bare", Bare);
    measure(&mut criterion, "ours_deadline", deadline.layer(Bare));
    measure(&mut criterion, "ours_attempt_timeout", attempt.layer(Bare));
    let tower = TimeoutLayer::new(LIMIT);
    measure(&mut criterion, "tower", tower.layer(Bare));
    measure(&mut criterion, "tower_http", tower_http.layer(Bare));
    criterion.final_summary();
}
