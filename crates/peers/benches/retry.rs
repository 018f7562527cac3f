//! Retrying around a call that succeeds: ours, tower's, tower-resilience's and reqwest-retry.
//!
//! Run: `cargo bench -p peers --bench retry`

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "../../../benches/support/bare.rs"]
mod bare;

use bare::{BATCH, Bare, measure, now, request};
use criterion::Criterion;
use http::{Request, Response};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Middleware, Next};
use reqwest_retry::{RetryTransientMiddleware, policies::ExponentialBackoff};
use std::{
    future::{Future, Ready, ready},
    hint::black_box,
    pin::Pin,
    time::Duration,
};
use tower::{Layer, retry::Policy};
use tower_webhook::{BoxError, RetryWithJitterLayer, body::BufferedBody, retry::RetryConfig};

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

fn services(criterion: &mut Criterion, name: &str, headers: usize) {
    let mut group = criterion.benchmark_group(name);
    let req = request(headers);
    let requests = || req.clone();
    measure(&mut group, "bare", Bare, requests);
    group.bench_function("clone_alone", |bencher| {
        bencher.iter_batched(requests, |req| (req.clone(), req), BATCH);
    });

    let layer = RetryWithJitterLayer::new(RetryConfig::default());
    measure(&mut group, "ours", layer.layer(Bare), requests);
    let tower = tower::retry::Retry::new(Trivial(2), Bare);
    measure(&mut group, "tower", tower, requests);
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
        "tower_resilience",
        resilience.layer(Bare),
        requests,
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
