//! What `DeliveryMetricsLayer` measures, and what `DeliveryMetrics` says of it.

#![cfg(feature = "metrics")]
#![allow(clippy::expect_used, clippy::float_cmp, clippy::unwrap_used)]

mod cancel;
mod concurrency;
#[cfg(feature = "metrics-facade")]
mod facade;
mod layer;
mod levels;
mod observers;
mod peers;
mod snapshot;

use http::{Request, Response};
use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::sleep;
use tower::Service;
use tower_webhook::{
    BoxError, StoreErrorKind,
    attempt::Attempt,
    metrics::{DeliveryMetrics, LevelSnapshot},
    observe::{BreakerState, Event, Id, JobEnd, Observer},
    outcome::{Outcome, OutcomeKind},
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

/// What the layer tells of an attempt for `peer`.
fn attempt(metrics: &impl Observer, peer: &str, outcome: Outcome, elapsed: Duration) {
    metrics.on(&Event::AttemptBegan {
        peer,
        retry: false,
        after: None,
    });
    metrics.on(&Event::AttemptEnded {
        peer,
        outcome,
        elapsed,
    });
}

/// What a worker tells of a job for `peer` that failed with `code` and is tried again.
fn retried(metrics: &impl Observer, peer: &str, code: Option<u16>) {
    let outcome = Outcome::transient();
    metrics.on(&Event::JobEnded {
        task: Id::new(&1),
        kind: "event",
        peer,
        attempt: 1,
        end: JobEnd::Retrying {
            outcome: code.map_or(outcome, |code| outcome.with_code(code)),
            after: Duration::ZERO,
        },
        elapsed: Duration::ZERO,
        dedup_key: None,
        event_id: None,
    });
}

/// What a worker tells of a task for `peer` that has succeeded.
fn queued(peer: &str) -> Event<'_> {
    Event::DeliveryEnded {
        peer,
        outcome: Outcome::success(),
        elapsed: millis(1),
        attempts: 1,
        queued: true,
    }
}

/// What a sink that takes an entry at the third try is told of; another entry is lost.
fn dead_lettered(metrics: &impl Observer, peer: &str) {
    let (entry, reason) = (Id::new(&1), "retries_exhausted");
    for retry_after in [Some(millis(500)), Some(millis(900)), None] {
        metrics.on(&Event::Lost {
            entry,
            peer,
            reason,
            kind: StoreErrorKind::Full,
            retry_after,
        });
    }
    metrics.on(&Event::DeadLettered {
        entry,
        peer,
        reason,
        event_id: None,
        fell_back: false,
    });
}

/// A change after all those before.
fn breaker_changed(metrics: &impl Observer, peer: &str, to: BreakerState) {
    static LAST: AtomicU64 = AtomicU64::new(1_000);
    let generation = LAST.fetch_add(1, Ordering::Relaxed);
    breaker_changed_as(metrics, peer, to, generation);
}

fn breaker_changed_as(metrics: &impl Observer, peer: &str, to: BreakerState, generation: u64) {
    metrics.on(&Event::BreakerChanged {
        peer,
        from: BreakerState::Closed,
        to,
        reason: "consecutive_failures",
        open_for: None,
        generation,
    });
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
