//! What is sent again, and what is read of a failed answer, where requests are HTTP.

use super::{Exchange, ExchangeResponse, KeptCopy};
use crate::{
    attempt::History,
    body::{Replay, ReplayBody},
    deadline::Deadline,
};
use bytes::Buf;
use http::{Request, Response, request::Parts};
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

/// Frames read in one poll before other tasks get their turn.
const FRAMES_PER_POLL: usize = 128;

/// The exchange for HTTP requests that can be cloned, as those with a
/// [`BufferedBody`](crate::body::BufferedBody) or a
/// [`RebuildBody`](crate::body::RebuildBody) can.
///
/// The request is cloned once before its first attempt, and once for each further one but the last:
/// its headers and extensions are copied, a body in memory is shared. Where a layer further out
/// offers the copy that it [keeps](crate::attempt::Kept), that one is used instead, and cloned for
/// each attempt after the first.
///
/// # Failed answers
///
/// An HTTP/1 connection whose answer was not read to its end cannot be used again. So a failed
/// answer is read before the next attempt, but no more than 64 KiB of it and for no longer than
/// 500 ms, nor beyond the [`Deadline`] that holds: reading more takes longer than a new connection.
/// One that declares more than that is dropped unread.
///
/// Over HTTP/2 dropping it would do; what is here already is read all the same, and what is not is
/// waited for as above.
///
/// # Panics
///
/// An answer that is not here whole at the first poll starts a timer, which needs a tokio runtime
/// with time enabled.
///
/// # Examples
///
/// ```
/// use http::Request;
/// use std::time::Duration;
/// use tower_webhook::body::BufferedBody;
/// use tower_webhook::retry::{Exchange, HttpExchange};
///
/// let exchange = HttpExchange::new().discard_within(16 << 10, Duration::from_millis(100));
/// let req = Request::post("/hooks").body(BufferedBody::from("{}"))?;
/// let (sent, mut kept) = exchange.first(req, true);
/// let again = exchange.again(&mut kept, true).ok_or("it was kept")?;
/// assert_eq!(again.body().as_bytes(), sent.body().as_bytes());
/// # Ok::<_, tower_webhook::BoxError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct HttpExchange {
    limit: usize,
    time: Duration,
}

impl HttpExchange {
    /// Reads up to 64 KiB of a failed answer, for up to 500 ms.
    pub const fn new() -> Self {
        Self {
            limit: 64 << 10,
            time: Duration::from_millis(500),
        }
    }

    /// How much of a failed answer is read, and for how long. Default: 64 KiB and 500 ms.
    ///
    /// Zero bytes: it is dropped at once. Zero time: only what is here already is read.
    pub const fn discard_within(mut self, bytes: usize, time: Duration) -> Self {
        self.limit = bytes;
        self.time = time;
        self
    }

    /// The exchange for requests with any body: it is recorded while it is sent, up to `cap` bytes.
    /// See [`ReplayBody`] for what the cap counts; 64 KiB is what Linkerd takes.
    ///
    /// The service inside is called with a `Request<ReplayBody<B>>`.
    pub const fn replaying(self, cap: usize) -> ReplayExchange {
        ReplayExchange { http: self, cap }
    }
}

impl Default for HttpExchange {
    fn default() -> Self {
        Self::new()
    }
}

impl<B: Clone + 'static> Exchange<Request<B>> for HttpExchange {
    type Sent = Request<B>;
    type Kept = KeptCopy<Request<B>>;

    fn first(&self, req: Request<B>, keep: bool) -> (Request<B>, Option<Self::Kept>) {
        let kept = keep.then(|| KeptCopy::of(&req));
        (req, kept)
    }

    fn can_send_again(&self, _: &Self::Kept) -> bool {
        true
    }

    fn again(&self, kept: &mut Option<Self::Kept>, last: bool) -> Option<Request<B>> {
        KeptCopy::again(kept, last)
    }
}

impl<B: Body> ExchangeResponse<Response<B>> for HttpExchange {
    type Discard = Discard<B>;

    fn discard(&self, res: Response<B>) -> Discard<B> {
        let body = res.into_body();
        let is_too_long = body.size_hint().lower() > self.limit as u64;
        Discard {
            body: (!is_too_long).then_some(body),
            left: self.limit,
            time: self.time,
            timer: None,
        }
    }

    fn annotate(&self, res: &mut Response<B>, history: History) {
        res.extensions_mut().insert(history);
    }
}

/// The exchange for HTTP requests with streaming bodies. Made by [`HttpExchange::replaying`].
///
/// A body that has gone over the cap, or says beforehand that it will, or has failed, is sent once.
///
/// # Examples
///
/// ```
/// use http::Request;
/// use http_body_util::{BodyExt, Full};
/// use tower_webhook::retry::{Exchange, HttpExchange};
///
/// # tokio_test::block_on(async {
/// let exchange = HttpExchange::new().replaying(64 << 10);
/// let req = Request::post("/hooks").body(Full::<bytes::Bytes>::from("{}"))?;
/// let (sent, mut kept) = exchange.first(req, true);
/// assert_eq!(sent.into_body().collect().await?.to_bytes(), "{}");
///
/// let again = exchange.again(&mut kept, true).ok_or("it was too long")?;
/// assert_eq!(again.into_body().collect().await?.to_bytes(), "{}");
/// # Ok::<_, tower_webhook::BoxError>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct ReplayExchange {
    http: HttpExchange,
    cap: usize,
}

/// What a [`ReplayExchange`] keeps of a request.
pub struct KeptRequest<B> {
    head: Parts,
    replay: Replay<B>,
}

impl<B: Body> Exchange<Request<B>> for ReplayExchange {
    type Sent = Request<ReplayBody<B>>;
    type Kept = KeptRequest<B>;

    fn first(&self, req: Request<B>, keep: bool) -> (Self::Sent, Option<KeptRequest<B>>) {
        if !keep || req.body().size_hint().lower() > self.cap as u64 {
            return (req.map(ReplayBody::once), None);
        }
        let (head, body) = req.into_parts();
        let (body, replay) = ReplayBody::new(body, self.cap);
        let kept = KeptRequest {
            head: head.clone(),
            replay,
        };
        (Request::from_parts(head, body), Some(kept))
    }

    fn can_send_again(&self, kept: &KeptRequest<B>) -> bool {
        kept.replay.can_replay()
    }

    fn again(&self, kept: &mut Option<KeptRequest<B>>, last: bool) -> Option<Self::Sent> {
        if last {
            let kept = kept.take()?;
            let body = kept.replay.replay()?;
            return Some(Request::from_parts(kept.head, body));
        }
        let kept = kept.as_ref()?;
        let body = kept.replay.replay()?;
        Some(Request::from_parts(kept.head.clone(), body))
    }
}

impl<B: Body> ExchangeResponse<Response<B>> for ReplayExchange {
    type Discard = Discard<B>;

    fn discard(&self, res: Response<B>) -> Discard<B> {
        self.http.discard(res)
    }

    fn annotate(&self, res: &mut Response<B>, history: History) {
        self.http.annotate(res, history);
    }
}

impl<B> fmt::Debug for KeptRequest<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptRequest")
            .field("method", &self.head.method)
            .field("replay", &self.replay)
            .finish_non_exhaustive()
    }
}

/// Future that reads a failed answer and throws it away. Made by [`HttpExchange`].
///
/// # Cancel safety
///
/// Dropping it drops the answer; its connection is closed then, unless it was read to its end.
#[must_use = "futures do nothing unless polled"]
#[pin_project]
pub struct Discard<B> {
    /// `None` when it is no longer of interest.
    #[pin]
    body: Option<B>,
    left: usize,
    time: Duration,
    /// Set when the body makes us wait.
    #[pin]
    timer: Option<Sleep>,
}

impl<B: Body> Future for Discard<B> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        for _ in 0..FRAMES_PER_POLL {
            let Some(body) = this.body.as_mut().as_pin_mut() else {
                return Poll::Ready(());
            };
            if *this.left == 0 || body.is_end_stream() {
                this.body.set(None);
                continue;
            }
            match body.poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    let len = frame.data_ref().map_or(0, Buf::remaining);
                    // A frame of nothing counts too: there may be no end of them.
                    *this.left = this.left.saturating_sub(len.max(1));
                }
                Poll::Ready(Some(Err(_)) | None) => this.body.set(None),
                Poll::Pending => {
                    if this.timer.is_none() {
                        let left = Deadline::current().map(|end| end.left(Instant::now()));
                        let time = left.map_or(*this.time, |left| left.min(*this.time));
                        this.timer.set(Some(sleep(time)));
                    }
                    if let Some(timer) = this.timer.as_mut().as_pin_mut() {
                        ready!(timer.poll(cx));
                    }
                    this.body.set(None);
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<B> fmt::Debug for Discard<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discard")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}
