//! What `DeliveryMetricsLayer` measures, and what the recorder in this process says of it.

#![cfg(feature = "metrics")]
#![allow(clippy::expect_used, clippy::float_cmp, clippy::unwrap_used)]

mod cancel;
mod concurrency;
#[cfg(feature = "metrics-facade")]
mod facade;
mod keys;
mod layer;
mod levels;
mod recorders;
mod snapshot;

use http::{Request, Response};
use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::sleep;
use tower::Service;
use tower_webhook::{
    BoxError,
    attempt::Attempt,
    metrics::{DeliveryMetrics, LevelSnapshot},
    outcome::OutcomeKind,
};

type Req = Request<()>;
type Res = Response<()>;
type BoxFuture = Pin<Box<dyn Future<Output = Result<Res, BoxError>> + Send>>;

fn to(uri: &str) -> Req {
    Request::post(uri).body(()).unwrap()
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A peer that answers with these statuses, one after the other, each after 10 ms. A status of 0 is
/// a broken connection. Then it says 200.
#[derive(Clone, Default)]
struct Peer {
    statuses: Arc<Mutex<VecDeque<u16>>>,
}

impl Peer {
    fn new(statuses: impl IntoIterator<Item = u16>) -> Self {
        Self {
            statuses: Arc::new(Mutex::new(statuses.into_iter().collect())),
        }
    }
}

impl Service<Req> for Peer {
    type Response = Res;
    type Error = BoxError;
    type Future = BoxFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Req) -> BoxFuture {
        let status = self.statuses.lock().unwrap().pop_front().unwrap_or(200);
        Box::pin(async move {
            sleep(millis(10)).await;
            match status {
                0 => Err("the connection broke".into()),
                status => Ok(Response::builder().status(status).body(())?),
            }
        })
    }
}

/// Calls again what did not succeed, up to `most` times in all, a second apart.
#[derive(Clone)]
struct Again<S> {
    inner: S,
    most: u32,
}

impl<S> Service<Req> for Again<S>
where
    S: Service<Req, Response = Res, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Res;
    type Error = BoxError;
    type Future = BoxFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Req) -> BoxFuture {
        let (mut inner, most) = (self.inner.clone(), self.most);
        Box::pin(async move {
            let mut attempt = Attempt::first();
            loop {
                poll_fn(|cx| inner.poll_ready(cx)).await?;
                let mut call = pin!(attempt.scope(|| inner.call(req.clone())));
                let result = poll_fn(|cx| attempt.scope(|| call.as_mut().poll(cx))).await;
                let done = result.as_ref().is_ok_and(|res| res.status().is_success());
                if done || attempt.number() == most {
                    return result;
                }
                sleep(Duration::from_secs(1)).await;
                attempt = attempt.next();
            }
        })
    }
}

/// Every kind that was counted.
fn kinds(level: &LevelSnapshot) -> Vec<(OutcomeKind, u64)> {
    level.counts().filter(|(_, count)| *count > 0).collect()
}

/// Nothing is left open.
#[track_caller]
fn assert_idle(metrics: &DeliveryMetrics) {
    let snapshot = metrics.snapshot();
    assert_eq!(snapshot.attempts().in_flight(), 0);
    assert_eq!(snapshot.deliveries().in_flight(), 0);
}
