//! Retrying around a call that succeeds at once: what is kept for a second attempt is not used.

use super::{Copying, requests};
use crate::{
    bare::{Bare, now, request},
    measure::{Calls, Row, calls, service},
};
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

/// The least that tower's retry can be asked: three attempts, no delay, no budget; any error is repeated.
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

pub fn first_attempt(row: &mut Row, headers: usize) {
    let requests = || requests(headers);
    row.bare("bare call and one copy", service(Copying, requests()));
    let ours = RetryWithJitterLayer::new(RetryConfig::default());
    row.ours(service(ours.layer(Bare), requests()));
    let tower = tower::retry::Retry::new(Trivial(2), Bare);
    row.peer("tower::retry", service(tower, requests()));
    let resilience = tower_resilience_retry::RetryLayer::<
        Request<BufferedBody>,
        Response<BufferedBody>,
        BoxError,
    >::builder()
    .max_attempts(3)
    .exponential_backoff(Duration::from_millis(200))
    .build();
    let resilience = service(resilience.layer(Bare), requests());
    row.peer("tower-resilience", resilience);

    // Its own baseline: a client with middleware has costs of its own.
    let client = || ClientBuilder::new(reqwest::Client::new());
    let bare = client().with(Canned { copies: true }).build();
    row.bare("reqwest-middleware and one copy", execute(bare, headers));
    let policy = ExponentialBackoff::builder().build_with_max_retries(2);
    let retry = RetryTransientMiddleware::new_with_policy(policy);
    let retry = client().with(retry).with(Canned { copies: false }).build();
    row.peer("reqwest-retry", execute(retry, headers));
}

/// Answers instead of the network.
struct Canned {
    copies: bool,
}

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
        if self.copies {
            black_box(req.try_clone());
        }
        black_box(req);
        Box::pin(ready(Ok(Response::new("").into())))
    }
}

fn execute(client: ClientWithMiddleware, headers: usize) -> Calls {
    let uri = "https://peer.example/hooks".parse().unwrap();
    let mut req = reqwest::Request::new(http::Method::GET, uri);
    *req.headers_mut() = request(headers).headers().clone();
    calls(
        move || req.try_clone().unwrap(),
        move |req| now(client.execute(req)).unwrap(),
    )
}
