//! Measuring a call that succeeds.

use super::requests;
use crate::{
    bare::Bare,
    measure::{Row, service},
};
use http::Request;
use pin_project::pin_project;
use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Instant,
};
use tower::{Layer, Service};
use tower_http::trace::TraceLayer;
use tower_webhook::{DeliveryMetricsLayer, body::BufferedBody, metrics::DeliveryMetrics};

pub fn one_host(row: &mut Row) {
    row.bare("bare call", service(Bare, requests(0)));
    let ours = DeliveryMetricsLayer::attempts().observe(DeliveryMetrics::new());
    row.ours(service(ours.layer(Bare), requests(0)));
    let by_hand = ByHand {
        inner: Bare,
        counters: Arc::default(),
    };
    row.peer("by hand", service(by_hand, requests(0)));
    // Nobody listens to it, so it measures nothing.
    let trace = TraceLayer::new_for_http();
    row.peer(
        "tower-http's TraceLayer",
        service(trace.layer(Bare), requests(0)),
    );
}

/// Less work: two looks at the clock and three counters, for all hosts together, without a verdict but `Ok`.
struct ByHand<S> {
    inner: S,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Counters {
    started: AtomicU64,
    succeeded: AtomicU64,
    nanos: AtomicU64,
}

#[pin_project]
struct ByHandFuture<F> {
    #[pin]
    inner: F,
    counters: Arc<Counters>,
    started: Instant,
}

impl<S: Service<Request<BufferedBody>>> Service<Request<BufferedBody>> for ByHand<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = ByHandFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Request<BufferedBody>) -> Self::Future {
        self.counters.started.fetch_add(1, Relaxed);
        ByHandFuture {
            started: Instant::now(),
            inner: self.inner.call(req),
            counters: Arc::clone(&self.counters),
        }
    }
}

impl<F, T, E> Future for ByHandFuture<F>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.inner.poll(cx));
        if result.is_ok() {
            this.counters.succeeded.fetch_add(1, Relaxed);
        }
        let nanos = u64::try_from(this.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        this.counters.nanos.fetch_add(nanos, Relaxed);
        Poll::Ready(result)
    }
}
