//! What every bench measures against: a service that answers at once, and a call that is polled once.

#![allow(dead_code, reason = "each bench uses some of it")]

use criterion::{BatchSize, BenchmarkGroup, measurement::WallTime};
use http::{Request, Response};
use std::{
    future::{Future, Ready, ready},
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
};
use tower::Service;
use tower_webhook::{BoxError, body::BufferedBody, outcome::Outcome};

/// Few enough that requests made off the clock are still in the processor's cache when called.
pub const BATCH: BatchSize = BatchSize::NumIterations(32);

/// Answers at once, without an allocation.
#[derive(Clone, Copy, Debug)]
pub struct Bare;

impl<B> Service<Request<B>> for Bare {
    type Response = Response<BufferedBody>;
    type Error = BoxError;
    type Future = Ready<Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Request<B>) -> Self::Future {
        black_box(req);
        ready(Ok(Response::new(BufferedBody::default())))
    }
}

/// The same for a request that is only the name of its peer.
impl Service<&'static str> for Bare {
    type Response = usize;
    type Error = BoxError;
    type Future = Ready<Result<usize, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: &'static str) -> Self::Future {
        ready(Ok(black_box(req).len()))
    }
}

/// Polls a future that is ready at once: a runtime would be most of what is measured.
pub fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the future waits"),
    }
}

/// Measures a call of `service` with requests that are made off the clock.
pub fn measure<S, Req>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    mut service: S,
    request: impl Fn() -> Req,
) where
    S: Service<Req>,
{
    group.bench_function(name, |bencher| {
        let call = |req| now(service.call(req)).map_err(|_| "failed").unwrap();
        bencher.iter_batched(&request, call, BATCH);
    });
}

/// The peer that services are asked for which take only its name.
pub const PEER: &str = "peer.test";

/// Measures a call with the readiness of the service as part of it.
pub fn measure_ready<S>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, mut service: S)
where
    S: Service<&'static str>,
{
    let mut cx = Context::from_waker(Waker::noop());
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            assert!(service.poll_ready(&mut cx).is_ready());
            now(service.call(black_box(PEER))).is_ok()
        });
    });
}

/// What an answer of [`Bare`] to a name means.
pub fn judge(result: Result<&usize, &BoxError>) -> Outcome {
    match result {
        Ok(_) => Outcome::success(),
        Err(error) => Outcome::of_error(&**error),
    }
}

/// A request with this many headers of usual length.
pub fn request(headers: usize) -> Request<BufferedBody> {
    let mut builder = Request::get("https://peer.example/hooks");
    for n in 0..headers {
        builder = builder.header(format!("x-header-{n}"), "a value of usual length");
    }
    let req = builder.body(BufferedBody::from("{}")).unwrap();
    // The first copy of a name makes it shared: later ones are what is measured.
    drop(req.clone());
    req
}
