use super::{ResponseFuture, TransportError, judge};
use crate::{
    BoxError, IntoBoxError,
    body::{BufferedBody, BufferedFrom},
    outcome::Outcome,
};
use bytes::Bytes;
use http::{Request, Response};
use pin_project::pin_project;
use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower_service::Service;

/// A reqwest client as a service of HTTP requests. Made by [`reqwest()`].
///
/// Type parameters: `C` is the client, `Q` its request, `B` the body of its responses.
pub struct Reqwest<C, Q, B> {
    client: C,
    types: PhantomData<fn(Q) -> B>,
}

/// Makes a service of a `reqwest::Client`, of any version that converts requests and responses of `http` 1.
///
/// Trailers of a request are not sent: reqwest has none. reqwest follows redirects and repeats some requests by itself. A
/// redirected webhook is a mistake, and the layers outside retry, so turn both off:
///
/// # Examples
///
/// ```
/// use http::Request;
/// use tower::ServiceExt;
/// use tower_webhook::{BoxError, body::BufferedBody, outcome::OutcomeKind, transport};
///
/// # tokio_test::block_on(async {
/// let client = reqwest::Client::builder()
///     .redirect(reqwest::redirect::Policy::none())
///     .retry(reqwest::retry::never())
///     .build()?;
/// let client = transport::reqwest(client);
/// let req = Request::post("http://127.0.0.1:1/").body(BufferedBody::from("{}"))?;
/// let error = client.oneshot(req).await.unwrap_err(); // nobody listens there
/// assert_eq!(error.outcome().kind(), OutcomeKind::Unreached);
/// # Ok::<_, BoxError>(())
/// # }).unwrap();
/// ```
pub const fn reqwest<C, Q, B>(client: C) -> Reqwest<C, Q, B>
where
    C: Service<Q, Response: Into<Response<B>>>,
{
    Reqwest {
        client,
        types: PhantomData,
    }
}

impl<C, Q, B, ReqB> Service<Request<ReqB>> for Reqwest<C, Q, B>
where
    BufferedBody: BufferedFrom<ReqB>,
    C: Service<Q, Response: Into<Response<B>>, Error: IntoBoxError>,
    Q: TryFrom<Request<Bytes>, Error: Into<BoxError>>,
{
    type Response = Response<B>;
    type Error = TransportError;
    type Future = ReqwestFuture<C::Future, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        let ready = self.client.poll_ready(cx);
        ready.map_err(|error| TransportError::judged(error.into(), judge::reqwest))
    }

    fn call(&mut self, req: Request<ReqB>) -> Self::Future {
        let req = BufferedBody::buffered(req);
        let state = match Q::try_from(req.map(BufferedBody::into_bytes)) {
            Ok(req) => State::Calling(ResponseFuture::new(self.client.call(req), judge::reqwest)),
            Err(error) => {
                State::Unsendable(Some(TransportError::new(Outcome::unsendable(), error)))
            }
        };
        ReqwestFuture {
            state,
            body: PhantomData,
        }
    }
}

impl<C: Clone, Q, B> Clone for Reqwest<C, Q, B> {
    fn clone(&self) -> Self {
        Self {
            client: self.client.clone(),
            types: PhantomData,
        }
    }
}

impl<C: fmt::Debug, Q, B> fmt::Debug for Reqwest<C, Q, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reqwest").field(&self.client).finish()
    }
}

/// The future of [`Reqwest`].
#[pin_project]
pub struct ReqwestFuture<F, B> {
    #[pin]
    state: State<F>,
    body: PhantomData<fn() -> B>,
}

#[pin_project(project = StateProj)]
enum State<F> {
    Calling(#[pin] ResponseFuture<F>),
    Unsendable(Option<TransportError>),
}

impl<F, B, R, E> Future for ReqwestFuture<F, B>
where
    F: Future<Output = Result<R, E>>,
    R: Into<Response<B>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<B>, TransportError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Calling(call) => Poll::Ready(ready!(call.poll(cx)).map(Into::into)),
            StateProj::Unsendable(error) => error
                .take()
                .map_or(Poll::Pending, |error| Poll::Ready(Err(error))),
        }
    }
}

impl<F, B> fmt::Debug for ReqwestFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReqwestFuture").finish_non_exhaustive()
    }
}
