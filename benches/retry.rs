//! What retrying adds to a call that succeeds, beside the bare service and the peers in the same
//! run.
//!
//! Run: `cargo bench --bench retry`

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use criterion::{BatchSize, BenchmarkGroup, Criterion, measurement::WallTime};
use http::{Request, Response};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Middleware, Next};
use reqwest_retry::{RetryTransientMiddleware, policies::ExponentialBackoff};
use std::{
    future::{Future, Ready, ready},
    hint::black_box,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};
use tower::{Layer, Service, retry::Policy};
use tower_webhook::{
    BoxError, RetryWithJitterLayer,
    body::BufferedBody,
    retry::{RetryConfig, RetryPolicy},
};

/// Few enough that requests made off the clock are still in the processor's cache when called.
const BATCH: BatchSize = BatchSize::NumIterations(32);

/// Answers at once, without an allocation.
#[derive(Clone, Copy)]
struct Bare;

impl Service<Request<BufferedBody>> for Bare {
    type Response = Response<BufferedBody>;
    type Error = BoxError;
    type Future = Ready<Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Request<BufferedBody>) -> Self::Future {
        black_box(req);
        ready(Ok(Response::new(BufferedBody::default())))
    }
}

/// The least that tower's retry can be asked: three attempts, no delay.
#[derive(Clone)]
struct Trivial(u32);

impl<Req: Clone, Res, E> Policy<Req, Res, E> for Trivial {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut Req, result: &mut Result<Res, E>) -> Option<Ready<()>> {
        self.0 = self.0.checked_sub(1)?;
        result.is_err().then(|| ready(()))
    }

    fn clone_request(&mut self, req: &Req) -> Option<Req> {
        Some(req.clone())
    }
}

/// Polls a future that is ready at once: a runtime would be most of what is measured.
fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the future waits"),
    }
}

fn request(headers: usize) -> Request<BufferedBody> {
    let mut builder = Request::get("https://peer.example/hooks");
    for n in 0..headers {
        builder = builder.header(format!("x-header-{n}"), "a value of usual length");
    }
    let req = builder.body(BufferedBody::from("{}")).unwrap();
    // The first copy of a name makes it shared: later ones are what is measured.
    drop(req.clone());
    req
}

fn measure<S>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, mut service: S, headers: usize)
where
    S: Service<Request<BufferedBody>>,
{
    let req = request(headers);
    group.bench_function(name, |bencher| {
        let call = |req| now(service.call(req)).map_err(|_| "failed").unwrap();
        bencher.iter_batched(|| req.clone(), call, BATCH);
    });
}

fn services(criterion: &mut Criterion, name: &str, headers: usize) {
    let mut group = criterion.benchmark_group(name);
    measure(&mut group, "bare", Bare, headers);

    let req = request(headers);
    group.bench_function("clone_alone", |bencher| {
        bencher.iter_batched(|| req.clone(), |req| (req.clone(), req), BATCH);
    });

    let layer = RetryWithJitterLayer::new(RetryConfig::default());
    measure(&mut group, "retry_with_jitter", layer.layer(Bare), headers);
    let once = RetryConfig::builder().attempts(1).build().unwrap();
    let once = RetryWithJitterLayer::new(once).layer(Bare);
    measure(&mut group, "retry_with_jitter_once", once, headers);
    let policy = tower::retry::Retry::new(RetryPolicy::new(RetryConfig::default()), Bare);
    measure(&mut group, "retry_policy", policy, headers);

    let tower = tower::retry::Retry::new(Trivial(2), Bare);
    measure(&mut group, "tower_trivial_policy", tower, headers);
    let resilience = tower_resilience_retry::RetryLayer::<
        Request<BufferedBody>,
        Response<BufferedBody>,
        BoxError,
    >::builder()
    .max_attempts(3)
    .exponential_backoff(Duration::from_millis(200))
    .build();
    measure(
        &mut group,
        "tower_resilience_retry",
        resilience.layer(Bare),
        headers,
    );
    group.finish();
}

/// Answers instead of the network.
struct Canned;

impl Middleware for Canned {
    fn handle<'life0, 'life1, 'life2, 'async_trait>(
        &'life0 self,
        req: reqwest::Request,
        _: &'life1 mut http::Extensions,
        _: Next<'life2>,
    ) -> Pin<
        Box<
            dyn Future<Output = reqwest_middleware::Result<reqwest::Response>>
                + Send
                + 'async_trait,
        >,
    >
    where
        Self: 'async_trait,
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
    {
        black_box(req);
        Box::pin(ready(Ok(Response::new("").into())))
    }
}

/// Its own baseline: a client with middleware has costs of its own.
fn reqwest_retry(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("retry_reqwest");
    let bare = ClientBuilder::new(reqwest::Client::new())
        .with(Canned)
        .build();
    let policy = ExponentialBackoff::builder().build_with_max_retries(2);
    let retrying = ClientBuilder::new(reqwest::Client::new())
        .with(RetryTransientMiddleware::new_with_policy(policy))
        .with(Canned)
        .build();
    for headers in [0, 12] {
        let mut req = reqwest::Request::new(
            http::Method::GET,
            "https://peer.example/hooks".parse().unwrap(),
        );
        *req.headers_mut() = request(headers).headers().clone();
        let mut measure = |name: &str, client: &ClientWithMiddleware| {
            group.bench_function(format!("{name}/{headers}_headers"), |bencher| {
                bencher.iter_batched(
                    || req.try_clone().unwrap(),
                    |req| now(client.execute(req)).unwrap(),
                    BATCH,
                );
            });
        };
        measure("middleware", &bare);
        measure("reqwest_retry", &retrying);
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    services(&mut criterion, "retry_no_headers", 0);
    services(&mut criterion, "retry_12_headers", 12);
    reqwest_retry(&mut criterion);
    criterion.final_summary();
}
