//! What a time limit adds to a call that is answered at once, beside the bare service in the same run.
//!
//! Run: `cargo bench -p tower-webhook-benches --bench deadline`

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "support/bare.rs"]
mod bare;

use bare::{Bare, measure};
use criterion::Criterion;
use http::Request;
use std::time::Duration;
use tower::Layer;
use tower_webhook::deadline::{AttemptTimeoutLayer, DeadlineLayer, PropagateDeadlineLayer};

const LIMIT: Duration = Duration::from_secs(30);

fn main() {
    // The timers of the peers need a runtime, also where they do not run.
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().build().unwrap();
    let _entered = runtime.enter();

    let mut criterion = Criterion::default().configure_from_args();
    let deadline = DeadlineLayer::new(LIMIT).unwrap();
    let attempt = AttemptTimeoutLayer::new(LIMIT).unwrap();
    let tell = PropagateDeadlineLayer::grpc();

    let requests = || Request::new(());
    let mut group = criterion.benchmark_group("deadline");
    measure(&mut group, "bare", Bare, requests);
    measure(&mut group, "deadline", deadline.layer(Bare), requests);
    measure(&mut group, "attempt_timeout", attempt.layer(Bare), requests);
    measure(
        &mut group,
        "deadline_and_attempt_timeout",
        deadline.layer(attempt.layer(Bare)),
        requests,
    );
    measure(
        &mut group,
        "deadline_and_tell",
        deadline.layer(tell.layer(Bare)),
        requests,
    );
    group.finish();
    criterion.final_summary();
}
