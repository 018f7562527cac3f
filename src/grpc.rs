//! Makes the `grpc-status` in trailers visible to retry, breaker and metrics.
//!
//! A gRPC server sends the status of a call in trailers, after the message, and the head of such a response is
//! always a 200: judged by its head, every call is a success. [`GrpcPeekLayer`] reads the trailers for
//! [`GrpcClassifier`](crate::outcome::GrpcClassifier).
//!
//! # Examples
//!
//! ```
//! use bytes::Bytes;
//! use http::{HeaderMap, Request, Response};
//! use http_body_util::{BodyExt, Full};
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_webhook::{
//!     BoxError,
//!     grpc::GrpcPeekLayer,
//!     outcome::{Classify, GrpcClassifier, MakeClassifier, OutcomeKind},
//! };
//!
//! # tokio_test::block_on(async {
//! let channel = service_fn(|_: Request<()>| async {
//!     let mut trailers = HeaderMap::new();
//!     trailers.insert("grpc-status", 14.into());
//!     let body = Full::<Bytes>::from("a message").with_trailers(std::future::ready(Some(Ok(trailers))));
//!     Ok::<_, BoxError>(Response::builder().header("content-type", "application/grpc").body(body)?)
//! });
//! let client = GrpcPeekLayer::new().assume_unary(true).layer(channel);
//!
//! let call = Request::post("/greeter.Greeter/SayHello").body(())?;
//! let classify = GrpcClassifier::new().make_classifier(&call);
//! let outcome = classify.classify(client.oneshot(call).await.as_ref());
//! assert_eq!((outcome.kind(), outcome.code()), (OutcomeKind::Transient, Some(14)));
//! # Ok::<_, BoxError>(())
//! # }).unwrap();
//! ```
//!
//! # Order
//!
//! Inside retry, breaker and metrics; outside the transport. Placed outside retry, a call that
//! fails in its trailers is not retried.
//!
//! # Settings
//!
//! | Setting | Default | Meaning |
//! | --- | --- | --- |
//! | [`assume_unary`](GrpcPeekLayer::assume_unary) | `false` | whether every call is unary, so that its trailers are awaited |
//! | [`unary`](GrpcPeekLayer::unary) | none | which calls are unary, by path |
//! | [`max_message`](GrpcPeekLayer::max_message) | 4 MiB | bytes of a unary response that are held while its trailers are awaited |
//!
//! # Errors
//!
//! None of its own.
//!
//! # Cancel safety
//!
//! Dropping the response future drops the response and the frames that were read.
//!
//! # How a response is judged
//!
//! | Response | What the layer does | Judged |
//! | --- | --- | --- |
//! | has `grpc-status` in its head, or is not gRPC | nothing | at its head |
//! | its trailers have already arrived, alone or behind the first frames | reads them; a status other than `OK` goes into the response's extensions | at its head |
//! | is unary, as the settings or the request say | waits for the message and the trailers, then as above | at its head |
//! | any other: a stream | passes it on as it arrives; puts a [`LateOutcome`] into the response's extensions | when it ends |
//!
//! Frames that were read are delivered to the caller first, unchanged and without a copy.
//!
//! # Which calls are unary
//!
//! A gRPC response does not say whether it is a stream. By default the layer reads only what has
//! arrived together with the head and never waits, because waiting would delay the head of a slow
//! stream, and would deadlock with a peer that waits for our next message. Name the unary calls with
//! [`assume_unary`](GrpcPeekLayer::assume_unary) for a service without streams, with
//! [`unary`](GrpcPeekLayer::unary) by path, or with a [`Call`] in the request's extensions. A call
//! with one response message is unary here, even if its request is a stream.
//!
//! A streaming response that is declared unary is held back until it ends or exceeds
//! [`max_message`](GrpcPeekLayer::max_message), and a bidirectional stream deadlocks. The wait for
//! the trailers is part of the attempt: a timeout around the attempt covers it.
//!
//! # Streams
//!
//! The outcome of a stream is sent once, when its trailers are read. It is `UNKNOWN` if the stream
//! ends without a status, `UNAVAILABLE` if it breaks off, and
//! [`Cancelled`](crate::outcome::OutcomeKind::Cancelled) if the body is dropped before its end.

use crate::{
    body::{PeekedBody, peeked::Peek},
    outcome::{GrpcEnd, LateOutcome, LateSender},
};
use bytes::Buf;
use http::{HeaderMap, Request, Response, StatusCode, header, response::Parts};
use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tower_layer::Layer;
use tower_service::Service;

/// Most data frames read before the trailers when the layer does not wait: a message may arrive in
/// several frames.
const FRAMES_AT_ONCE: usize = 4;

/// Frames read in one poll before the task yields.
const FRAMES_PER_POLL: usize = 128;

/// Makes `grpc-status` in trailers visible to the layers outside. See the [module docs](self).
#[derive(Clone, Debug)]
#[must_use]
pub struct GrpcPeekLayer {
    settings: Settings,
}

#[derive(Clone, Debug)]
struct Settings {
    unary: Unary,
    max_message: usize,
}

#[derive(Clone)]
enum Unary {
    Always,
    Never,
    By(Arc<dyn Fn(&str) -> bool + Send + Sync>),
}

/// Whether the response of a call is one message or a stream. An extension of the request, which
/// overrides the settings of [`GrpcPeekLayer`].
///
/// With tonic: `request.extensions_mut().insert(Call::Unary)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// The response is a stream: the layer does not wait for its end.
    Streaming,
    /// The response is one message: the layer waits for its trailers.
    Unary,
}

impl GrpcPeekLayer {
    /// A layer that takes no call for unary, and so never waits for trailers.
    pub const fn new() -> Self {
        Self {
            settings: Settings {
                unary: Unary::Never,
                max_message: 4 << 20,
            },
        }
    }

    /// Sets whether every call is unary. Default: `false`. Replaces [`unary`](Self::unary).
    pub fn assume_unary(mut self, unary: bool) -> Self {
        self.settings.unary = if unary { Unary::Always } else { Unary::Never };
        self
    }

    /// Sets which calls are unary, by their path, such as `/greeter.Greeter/SayHello`. Default:
    /// none. Replaces [`assume_unary`](Self::assume_unary).
    pub fn unary(mut self, is_unary: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.settings.unary = Unary::By(Arc::new(is_unary));
        self
    }

    /// Sets how many bytes of a unary response are held while its trailers are awaited. Default:
    /// 4 MiB, the longest message that tonic 0.14 accepts. A longer response is passed on as a
    /// stream.
    pub const fn max_message(mut self, bytes: usize) -> Self {
        self.settings.max_message = bytes;
        self
    }
}

impl Settings {
    fn is_unary<B>(&self, req: &Request<B>) -> bool {
        match req.extensions().get::<Call>() {
            Some(call) => *call == Call::Unary,
            None => match &self.unary {
                Unary::Always => true,
                Unary::Never => false,
                Unary::By(is_unary) => is_unary(req.uri().path()),
            },
        }
    }
}

impl Default for GrpcPeekLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Unary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Always => "Always",
            Self::Never => "Never",
            Self::By(_) => "By(..)",
        })
    }
}

impl<S> Layer<S> for GrpcPeekLayer {
    type Service = GrpcPeek<S>;

    fn layer(&self, inner: S) -> GrpcPeek<S> {
        GrpcPeek {
            inner,
            settings: self.settings.clone(),
        }
    }
}

/// Middleware of [`GrpcPeekLayer`]. See the [module docs](self).
#[derive(Clone, Debug)]
pub struct GrpcPeek<S> {
    inner: S,
    settings: Settings,
}

impl<S> GrpcPeek<S> {
    #[cfg(feature = "tonic")]
    pub(crate) fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, ReqB, B> Service<Request<ReqB>> for GrpcPeek<S>
where
    S: Service<Request<ReqB>, Response = Response<B>>,
    B: Body + Unpin,
{
    type Response = Response<GrpcBody<B>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Request<ReqB>) -> Self::Future {
        let limit = self.settings.max_message;
        ResponseFuture {
            wait: self.settings.is_unary(&req).then_some(limit),
            state: State::Calling(self.inner.call(req)),
        }
    }
}

/// Response future of [`GrpcPeek`].
#[pin_project]
pub struct ResponseFuture<F, B: Body> {
    #[pin]
    state: State<F, B>,
    /// How many more bytes may be held while the trailers are awaited. `None`: they are not.
    wait: Option<usize>,
}

#[pin_project(project = StateProj)]
enum State<F, B: Body> {
    Calling(#[pin] F),
    /// `None` once the response is returned.
    Peeking(Option<(Parts, PeekedBody<B>)>),
}

/// What the frames that were read say.
enum Seen {
    End(GrpcEnd),
    /// The response goes on.
    Stream,
}

impl<F, B, E> Future for ResponseFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body + Unpin,
{
    type Output = Result<Response<GrpcBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let StateProj::Calling(future) = this.state.as_mut().project() {
            let res = ready!(future.poll(cx))?.map(PeekedBody::new);
            if res.status() != StatusCode::OK || !ends_in_trailers(res.headers()) {
                return Poll::Ready(Ok(res.map(|body| GrpcBody { body, late: None })));
            }
            this.state.set(State::Peeking(Some(res.into_parts())));
        }
        let StateProj::Peeking(response) = this.state.project() else {
            return Poll::Pending;
        };
        // Invariant: taken only below, where the future ends.
        #[expect(clippy::expect_used, reason = "a future is not polled after its end")]
        let (_, body) = response.as_mut().expect("polled after completion");
        let seen = match this.wait {
            Some(left) => ready!(wait_for_end(body, left, cx)),
            None => look(body, cx),
        };
        let Some((mut head, body)) = response.take() else {
            return Poll::Pending;
        };
        let late = match seen {
            // The head, a 200, is already judged a success: no extension, so no allocation.
            Seen::End(end) if end.is_ok() => None,
            Seen::End(end) => {
                head.extensions.insert(end);
                None
            }
            Seen::Stream => {
                let (sender, late) = LateOutcome::new();
                head.extensions.insert(late);
                Some(sender)
            }
        };
        Poll::Ready(Ok(Response::from_parts(head, GrpcBody { body, late })))
    }
}

/// Reads what has arrived, without waiting.
fn look<B: Body + Unpin>(body: &mut PeekedBody<B>, cx: &mut Context<'_>) -> Seen {
    for _ in 0..=FRAMES_AT_ONCE {
        match Pin::new(&mut *body).poll_peek(cx) {
            Poll::Ready(peek) => match end_in(&peek) {
                Some(end) => return Seen::End(end),
                None if body.is_read() => return Seen::End(GrpcEnd::MISSING),
                None => {}
            },
            Poll::Pending => break,
        }
    }
    Seen::Stream
}

/// Waits for the trailers, over at most `left` bytes of data.
fn wait_for_end<B: Body + Unpin>(
    body: &mut PeekedBody<B>,
    left: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<Seen> {
    for _ in 0..FRAMES_PER_POLL {
        if *left == 0 {
            return Poll::Ready(Seen::Stream);
        }
        let peek = ready!(Pin::new(&mut *body).poll_peek(cx));
        if let Some(end) = end_in(&peek) {
            return Poll::Ready(Seen::End(end));
        }
        let len = match peek {
            Peek::Data(data) => data.remaining(),
            _ => 0,
        };
        // An empty frame counts as one byte: a peer may send them without end.
        *left = left.saturating_sub(len.max(1));
        if body.is_read() {
            return Poll::Ready(Seen::End(GrpcEnd::MISSING));
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// How the call ended, if this frame is its end.
fn end_in<D>(peek: &Peek<'_, D>) -> Option<GrpcEnd> {
    match peek {
        Peek::Trailers(trailers) => Some(GrpcEnd::of_trailers(trailers)),
        Peek::Ended => Some(GrpcEnd::MISSING),
        Peek::Failed => Some(GrpcEnd::BROKEN),
        Peek::Data(_) | Peek::Other => None,
    }
}

/// Whether a response with this head has its status in trailers. gRPC-Web, which sends it in the
/// body, is another protocol.
fn ends_in_trailers(headers: &HeaderMap) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let is_grpc = headers.get(header::CONTENT_TYPE).is_some_and(|value| {
        let Some((kind, rest)) = value.as_bytes().split_at_checked(GRPC.len()) else {
            return false;
        };
        kind.eq_ignore_ascii_case(GRPC) && matches!(rest, [] | [b'+' | b';' | b' ', ..])
    });
    is_grpc && !headers.contains_key("grpc-status")
}

impl<F, B: Body> fmt::Debug for ResponseFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// The response body of [`GrpcPeek`]: the body of the transport, which reports the outcome of a
/// stream when it ends.
#[pin_project]
pub struct GrpcBody<B: Body> {
    #[pin]
    body: PeekedBody<B>,
    /// `None` if there is nothing to report, or no longer.
    late: Option<LateSender>,
}

impl<B: Body> Body for GrpcBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.body.as_mut().poll_frame(cx));
        if this.late.is_some() {
            let end = match &frame {
                None => Some(GrpcEnd::MISSING),
                Some(Err(_)) => Some(GrpcEnd::BROKEN),
                Some(Ok(frame)) => match frame.trailers_ref() {
                    Some(trailers) => Some(GrpcEnd::of_trailers(trailers)),
                    // A reader may stop polling here.
                    None => this.body.is_end_stream().then_some(GrpcEnd::MISSING),
                },
            };
            if let Some((end, late)) = end.and_then(|end| Some((end, this.late.take()?))) {
                late.send(end.judge());
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B: Body> fmt::Debug for GrpcBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcBody")
            .field("body", &self.body)
            .field("is_judged", &self.late.is_none())
            .finish()
    }
}
