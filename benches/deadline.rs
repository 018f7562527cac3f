//! What a time limit adds to a call that is answered at once, beside tower's and tower-http's in
//! the same run.
//!
//! Run: `cargo bench --bench deadline`

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use criterion::{BatchSize, Criterion};
use http::{Request, Response, StatusCode};
use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};
use tower::{Layer, Service, timeout::TimeoutLayer};
use tower_webhook::{
    BoxError,
    deadline::{AttemptTimeoutLayer, DeadlineLayer, PropagateDeadlineLayer},
};

const LIMIT: Duration = Duration::from_secs(30);

/// Few enough that requests made off the clock are still in the processor's cache when called.
const BATCH: BatchSize = BatchSize::NumIterations(32);

/// Answers at once, without an allocation.
#[derive(Clone, Copy)]
struct Bare;

impl Service<Request<()>> for Bare {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Request<()>) -> Self::Future {
        black_box(req);
        ready(Ok(Response::new(())))
    }
}

/// Polls a future that is ready at once: a runtime would be most of what is measured.
fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the future waits"),
    }
}

fn measure<S>(criterion: &mut Criterion, name: &str, mut service: S)
where
    S: Service<Request<()>, Response = Response<()>, Error: Into<BoxError>>,
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
    let tower_http = tower_http::timeout::TimeoutLayer::with_status_code;
    let tower_http = tower_http(StatusCode::GATEWAY_TIMEOUT, LIMIT);

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
    measure(
        &mut criterion,
        "tower_timeout",
        TimeoutLayer::new(LIMIT).layer(Bare),
    );
    measure(&mut criterion, "tower_http_timeout", tower_http.layer(Bare));
    criterion.final_summary();
}
