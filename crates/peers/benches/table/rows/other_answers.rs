//! Another target or another answer in place of a failure, around a call that succeeds at once.

use super::{Copying, requests};
use crate::{
    bare::Bare,
    measure::{Row, service},
};
use http::{Request, Response, Uri};
use pin_project::pin_project;
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower::{Layer, Service};
use tower_webhook::{BoxError, FailoverLayer, FallbackLayer, body::BufferedBody, outcome::Outcome};

const TARGETS: [&str; 2] = [
    "https://one.peer.example/hooks",
    "https://two.peer.example/hooks",
];

pub fn failover(row: &mut Row) {
    row.bare("bare call and one copy", service(Copying, requests(0)));
    let ours = FailoverLayer::to_uris(TARGETS).build().unwrap();
    row.ours(service(ours.layer(Bare), requests(0)));
    let by_hand = ByHand {
        inner: Bare,
        targets: TARGETS.map(|target| target.parse().unwrap()),
    };
    row.peer("by hand", service(by_hand, requests(0)));
}

/// Less work: any error moves on, and no response does.
struct ByHand<S> {
    inner: S,
    targets: [Uri; 2],
}

#[pin_project]
struct ByHandFuture<S: Service<Request<BufferedBody>>> {
    #[pin]
    call: S::Future,
    /// The second target, until it is called.
    next: Option<(S, Request<BufferedBody>, Uri)>,
}

impl<S> Service<Request<BufferedBody>> for ByHand<S>
where
    S: Service<Request<BufferedBody>> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ByHandFuture<S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut req: Request<BufferedBody>) -> ByHandFuture<S> {
        let [first, second] = self.targets.clone();
        let next = Some((self.inner.clone(), req.clone(), second));
        *req.uri_mut() = first;
        ByHandFuture {
            call: self.inner.call(req),
            next,
        }
    }
}

impl<S> Future for ByHandFuture<S>
where
    S: Service<Request<BufferedBody>>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let result = ready!(this.call.as_mut().poll(cx));
            match (result, this.next.take()) {
                (Err(_), Some((mut service, mut req, target))) => {
                    *req.uri_mut() = target;
                    this.call.set(service.call(req));
                }
                (result, _) => return Poll::Ready(result),
            }
        }
    }
}

pub fn fallback(row: &mut Row) {
    row.bare("bare call", service(Bare, requests(0)));
    let ours = FallbackLayer::http(|_: Outcome| Some(Response::new(BufferedBody::default())));
    row.ours(service(ours.layer(Bare), requests(0)));
    // Copies the request, and judges errors only.
    let peer = tower_resilience_fallback::FallbackLayer::<
        Request<BufferedBody>,
        Response<BufferedBody>,
        BoxError,
    >::value_fn(|| Response::new(BufferedBody::default()));
    row.peer("tower-resilience", service(peer.layer(Bare), requests(0)));
}
