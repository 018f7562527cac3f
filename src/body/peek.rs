//! Reads the beginning of failed responses, for classifiers that examine the body.
//!
//! [`PeekBodyLayer`] stores a limited part of such a body in the response's extensions as [`Peeked`], for
//! [`HttpClassifier::bodies`](crate::outcome::HttpClassifier::bodies), and passes the complete response on,
//! unchanged.
//!
//! # Examples
//!
//! ```
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Full};
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_webhook::{
//!     BoxError,
//!     body::peek::PeekBodyLayer,
//!     outcome::{Classify, HttpClassifier, MakeClassifier, Outcome},
//! };
//!
//! # tokio_test::block_on(async {
//! let transport = service_fn(|_: Request<()>| async {
//!     let answer = Full::<bytes::Bytes>::from(r#"{"error":"locked"}"#);
//!     Ok::<_, BoxError>(Response::builder().status(400).body(answer)?)
//! });
//! let client = PeekBodyLayer::new(4 << 10).layer(transport);
//! let classifier = HttpClassifier::new().bodies(|_, body| {
//!     let is_locked = body.windows(6).any(|window| window == b"locked");
//!     is_locked.then(Outcome::transient)
//! });
//!
//! let req = Request::put("/items/1").body(())?;
//! let classify = classifier.make_classifier(&req);
//! let res = client.oneshot(req).await;
//! assert!(classify.classify(res.as_ref()).may_retry());
//! assert_eq!(res?.into_body().collect().await?.to_bytes(), r#"{"error":"locked"}"#);
//! # Ok::<_, BoxError>(())
//! # }).unwrap();
//! ```
//!
//! # Order
//!
//! Inside everything that classifies (retry, breaker, metrics), and outside the transport. Outside the
//! retry it would be too late for the decision.
//!
//! # Settings
//!
//! | Setting | Default | Meaning |
//! | --- | --- | --- |
//! | [`new`](PeekBodyLayer::new) | to be set | bytes of a body that are read; with zero, none |
//! | [`time`](PeekBodyLayer::time) | 1 s | wait for a body that has not arrived: the head is delayed by that at most |
//! | [`when`](PeekBodyLayer::when) | not 2xx | statuses of the responses that are read |
//!
//! # Errors
//!
//! None of its own. A body that fails while it is read is passed on, and fails for its reader at the same place.
//!
//! # Cancel safety
//!
//! Dropping the response future drops the response and the bytes that were read.
//!
//! # Bounds
//!
//! Reading ends at the limit, at the time limit or at the [`Deadline`], whichever comes first, and the response is
//! classified by what has been read. A frame that goes beyond the limit is kept, and truncated in `Peeked`.
//!
//! # Panics
//!
//! A body that is pending at the first poll starts a timer, which needs a tokio runtime with time
//! enabled.

use super::{PeekedBody, peeked::Peek};
use crate::{deadline::Deadline, outcome::Peeked};
use bytes::{Buf, Bytes, BytesMut};
use http::{Response, StatusCode, response::Parts};
use http_body::Body;
use pin_project::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep};
use tower_layer::Layer;
use tower_service::Service;

/// Frames read in one poll before other tasks get their turn.
const FRAMES_PER_POLL: usize = 128;

/// Reads the beginning of failed responses, for classifiers that examine the body. See the
/// [module docs](self).
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct PeekBodyLayer {
    limit: usize,
    time: Duration,
    when: fn(StatusCode) -> bool,
}

impl PeekBodyLayer {
    /// Makes a layer that reads at most `limit` bytes of a response outside 2xx, within 1 s. With zero it
    /// reads nothing.
    pub const fn new(limit: usize) -> Self {
        Self {
            limit,
            time: Duration::from_secs(1),
            when: has_failed,
        }
    }

    /// Sets how long to wait for a body that has not arrived. Default: 1 s. With zero, only data that has
    /// arrived with the head is read.
    pub const fn time(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }

    /// Sets which responses are read. Default: those whose status is not 2xx.
    ///
    /// The head of such a response waits for its body: leave out responses that stream.
    pub const fn when(mut self, status: fn(StatusCode) -> bool) -> Self {
        self.when = status;
        self
    }
}

fn has_failed(status: StatusCode) -> bool {
    !status.is_success()
}

impl<S> Layer<S> for PeekBodyLayer {
    type Service = PeekBody<S>;

    fn layer(&self, inner: S) -> PeekBody<S> {
        PeekBody {
            inner,
            layer: *self,
        }
    }
}

/// Middleware of [`PeekBodyLayer`]. See the [module docs](self).
#[derive(Clone, Debug)]
pub struct PeekBody<S> {
    inner: S,
    layer: PeekBodyLayer,
}

impl<S, Req, B> Service<Req> for PeekBody<S>
where
    S: Service<Req, Response = Response<B>>,
    B: Body<Data = Bytes> + Unpin,
{
    type Response = Response<PeekedBody<B>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Req) -> Self::Future {
        ResponseFuture {
            state: State::Calling(self.inner.call(req)),
            layer: self.layer,
        }
    }
}

/// Response future of [`PeekBody`].
#[pin_project]
pub struct ResponseFuture<F, B: Body> {
    #[pin]
    state: State<F, B>,
    layer: PeekBodyLayer,
}

#[pin_project(project = StateProj)]
enum State<F, B: Body> {
    Calling(#[pin] F),
    Peeking {
        /// Taken when the response is returned.
        answer: Option<(Parts, PeekedBody<B>)>,
        left: usize,
        /// Started at the first poll of the body that is pending.
        #[pin]
        timer: Option<Sleep>,
    },
}

impl<F, B, E> Future for ResponseFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body<Data = Bytes> + Unpin,
{
    type Output = Result<Response<PeekedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let StateProj::Calling(future) = this.state.as_mut().project() {
            let res = ready!(future.poll(cx))?.map(PeekedBody::new);
            if this.layer.limit == 0 || !(this.layer.when)(res.status()) {
                return Poll::Ready(Ok(res));
            }
            this.state.set(State::Peeking {
                answer: Some(res.into_parts()),
                left: this.layer.limit,
                timer: None,
            });
        }
        let StateProj::Peeking {
            answer,
            left,
            mut timer,
        } = this.state.project()
        else {
            return Poll::Pending;
        };
        // Invariant: only taken below, on return.
        #[expect(clippy::expect_used, reason = "a future is not polled after its end")]
        let (_, body) = answer.as_mut().expect("polled after completion");
        for _ in 0..FRAMES_PER_POLL {
            let is_whole = match Pin::new(&mut *body).poll_peek(cx) {
                Poll::Ready(Peek::Data(data)) => {
                    let is_over = data.remaining() > *left;
                    // An empty frame counts too, because a body may consist of nothing but empty frames.
                    *left = left.saturating_sub(data.remaining().max(1));
                    match *left {
                        0 => !is_over && body.is_read(),
                        _ => continue,
                    }
                }
                Poll::Ready(Peek::Trailers(_) | Peek::Other) => {
                    *left = left.saturating_sub(1);
                    match *left {
                        0 => body.is_read(),
                        _ => continue,
                    }
                }
                Poll::Ready(Peek::Ended) => true,
                Poll::Ready(Peek::Failed) => false,
                Poll::Pending => {
                    if timer.is_none() {
                        let (time, now) = (this.layer.time, Instant::now());
                        let left = Deadline::current().map(|end| end.left(now));
                        timer.set(Some(sleep(left.map_or(time, |left| left.min(time)))));
                    }
                    if let Some(timer) = timer.as_mut().as_pin_mut() {
                        ready!(timer.poll(cx));
                    }
                    false
                }
            };
            let Some((mut head, body)) = answer.take() else {
                return Poll::Pending;
            };
            let bytes = beginning(&body, this.layer.limit);
            head.extensions.insert(Peeked::new(bytes, !is_whole));
            return Poll::Ready(Ok(Response::from_parts(head, body)));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Up to `limit` bytes of what has been read; not copied if they are in one frame.
fn beginning<B: Body<Data = Bytes>>(body: &PeekedBody<B>, limit: usize) -> Bytes {
    let mut chunks = body.peeked().filter(|chunk| !chunk.is_empty());
    let first = chunks.next().cloned().unwrap_or_default();
    let first = first.slice(..first.len().min(limit));
    let mut more = chunks.peekable();
    if first.len() == limit || more.peek().is_none() {
        return first;
    }
    let mut all = BytesMut::from(first);
    for chunk in more {
        let len = chunk.len().min(limit - all.len());
        all.extend_from_slice(&chunk[..len]);
    }
    all.freeze()
}

impl<F, B: Body> fmt::Debug for ResponseFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
