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
    any::Any,
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
/// Trailers of a request are not sent: reqwest has none. reqwest repeats some requests by itself, and follows redirects: it
/// turns a POST that is answered 301, 302 or 303 into a GET, and the event is lost. A request that is not `GET`, `HEAD` or
/// `OPTIONS` and whose answer comes from another URL is therefore
/// [`Permanent`](crate::outcome::OutcomeKind::Permanent), whatever its status. Turn both off:
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
    C: Service<Q, Response: Into<Response<B>> + 'static, Error: IntoBoxError>,
    Q: TryFrom<Request<Bytes>, Error: Into<BoxError>> + 'static,
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
            Ok(req) => State::Calling {
                url: url_if_unsafe(&req),
                call: ResponseFuture::new(self.client.call(req), judge::reqwest),
            },
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

/// The URL of a request that does something. A request of another version of reqwest is not known.
fn url_if_unsafe<Q: 'static>(req: &Q) -> Option<::reqwest::Url> {
    let req = (req as &dyn Any).downcast_ref::<::reqwest::Request>()?;
    (!req.method().is_safe()).then(|| req.url().clone())
}

fn redirected<R: 'static>(url: &::reqwest::Url, res: &R) -> Option<TransportError> {
    let res = (res as &dyn Any).downcast_ref::<::reqwest::Response>()?;
    if res.url() == url {
        return None;
    }
    let to = res.url().origin().ascii_serialization(); // a path may be a secret
    let text = format!(
        "the client followed a redirect to {to}, on which most requests lose their method and body: send to the new \
         address, and build the client with `redirect(Policy::none())`"
    );
    Some(TransportError::new(Outcome::permanent(), text))
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
    Calling {
        /// That of a request which a redirect would lose.
        url: Option<::reqwest::Url>,
        #[pin]
        call: ResponseFuture<F>,
    },
    Unsendable(Option<TransportError>),
}

impl<F, B, R, E> Future for ReqwestFuture<F, B>
where
    F: Future<Output = Result<R, E>>,
    R: Into<Response<B>> + 'static,
    E: Into<BoxError>,
{
    type Output = Result<Response<B>, TransportError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Calling { url, call } => {
                let res = ready!(call.poll(cx))?;
                let redirected = url.as_ref().and_then(|url| redirected(url, &res));
                Poll::Ready(redirected.map_or_else(|| Ok(res.into()), Err))
            }
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
