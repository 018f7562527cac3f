//! What a time limit adds to a call that is answered at once, beside the bare service in the same run.
//!
//! Run: `cargo bench -p tower-webhook-benches --bench deadline`

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "support/bare.rs"]
mod bare;

use bare::{BATCH, Bare, now};
use criterion::Criterion;
use http::Request;
use std::time::Duration;
use tower::{Layer, Service};
use tower_webhook::{
    BoxError,
    deadline::{AttemptTimeoutLayer, DeadlineLayer, PropagateDeadlineLayer},
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
    // The timers of the peers need a runtime, also where they do not run.
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().build().unwrap();
    let _entered = runtime.enter();

    let mut criterion = Criterion::default().configure_from_args();
    let deadline = DeadlineLayer::new(LIMIT).unwrap();
    let attempt = AttemptTimeoutLayer::new(LIMIT).unwrap();
    let tell = PropagateDeadlineLayer::grpc();

    measure(&mut criterion, "bare", Bare);
    measure(&mut criterion, "deadline", deadline.layer(Bare));
    measure(&mut criterion, "attempt_timeout", attempt.layer(Bare));
    measure(
        &mut criterion,
        "deadline_and_attempt_timeout",
        deadline.layer(attempt.layer(Bare)),
    );
    measure(
        &mut criterion,
        "deadline_and_tell",
        deadline.layer(tell.layer(Bare)),
    );
    criterion.final_summary();
}
