use super::{TransportError, judge};
use crate::{BoxError, IntoBoxError, outcome::ErrorRule};
use pin_project::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};
use tower_service::Service;

/// A hyper client whose errors are judged. Made by [`hyper()`].
#[derive(Clone, Debug)]
pub struct Hyper<S> {
    client: S,
}

/// Makes a service of [hyper-util's client](https://docs.rs/hyper-util), with any connector, or of a plain connection of
/// hyper.
///
/// It takes the requests that the client takes: give a client that stands below these layers the body
/// [`BufferedBody`](crate::body::BufferedBody).
///
/// # Examples
///
/// ```
/// use http::Request;
/// use hyper_util::{client::legacy::Client, rt::TokioExecutor};
/// use tower::ServiceExt;
/// use tower_webhook::{body::BufferedBody, outcome::OutcomeKind, transport};
///
/// # tokio_test::block_on(async {
/// let client = transport::hyper(Client::builder(TokioExecutor::new()).build_http());
/// let req = Request::post("https://example.com/").body(BufferedBody::default()).unwrap();
/// let error = client.oneshot(req).await.unwrap_err(); // a connector without TLS
/// assert_eq!(error.outcome().kind(), OutcomeKind::Unsendable);
/// # });
/// ```
pub const fn hyper<S>(client: S) -> Hyper<S> {
    Hyper { client }
}

impl<S, Req> Service<Req> for Hyper<S>
where
    S: Service<Req, Error: IntoBoxError>,
{
    type Response = S::Response;
    type Error = TransportError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        let ready = self.client.poll_ready(cx);
        ready.map_err(|error| TransportError::judged(error.into(), judge::hyper_util))
    }

    fn call(&mut self, req: Req) -> Self::Future {
        ResponseFuture::new(self.client.call(req), judge::hyper_util)
    }
}

/// The future of a client, whose error is judged.
#[pin_project]
pub struct ResponseFuture<F> {
    #[pin]
    call: F,
    rule: ErrorRule,
}

impl<F> ResponseFuture<F> {
    pub(super) const fn new(call: F, rule: ErrorRule) -> Self {
        Self { call, rule }
    }
}

impl<F, T, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, TransportError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let rule = *this.rule;
        let result = this.call.poll(cx);
        result.map_err(|error| TransportError::judged(error.into(), rule))
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
