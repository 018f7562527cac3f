//! Keeps HTTP requests for further attempts, and discards failed HTTP responses.

use super::{CloneExchange, Exchange, ExchangeResponse};
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

/// The exchange for HTTP requests that can be cloned, such as those with a
/// [`BufferedBody`](crate::body::BufferedBody). For an upload that is too long for memory, use a body
/// type whose clone opens the source again.
///
/// The request is cloned once before its first attempt, and once for each further one except the
/// last: headers and extensions are copied, a body in memory is shared. If an outer layer keeps a
/// [copy](crate::attempt::Copied) already, that is cloned for each attempt after the first.
///
/// # Failed responses
///
/// An HTTP/1 connection cannot be reused unless its response has been read to the end. A failed response
/// is therefore read before the next attempt, up to 64 KiB, for at most 500 ms and not beyond the
/// [`Deadline`]: reading more would take longer than a new connection. A response that declares a
/// longer body is dropped unread.
///
/// HTTP/2 does not need this, but its responses are read in the same way.
///
/// # Panics
///
/// A response that is pending at the first poll starts a timer, which needs a tokio runtime with time
/// enabled.
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
    /// Makes an exchange that reads up to 64 KiB of a failed response, for up to 500 ms.
    pub const fn new() -> Self {
        Self {
            limit: 64 << 10,
            time: Duration::from_millis(500),
        }
    }

    /// Sets how many bytes of a failed response are read, and for how long. Default: 64 KiB and 500 ms.
    /// With zero bytes, the response is dropped at once; with zero time, only data that has already arrived
    /// is read.
    pub const fn discard_within(mut self, bytes: usize, time: Duration) -> Self {
        self.limit = bytes;
        self.time = time;
        self
    }

    /// Sets the exchange to record the body of a request while it is sent, up to `cap` bytes. Default:
    /// requests are cloned. See [`ReplayBody`] for what the cap counts; Linkerd's is 64 KiB.
    ///
    /// The inner service is called with a `Request<ReplayBody<B>>`.
    pub const fn replaying(self, cap: usize) -> ReplayExchange {
        ReplayExchange { http: self, cap }
    }
}

impl Default for HttpExchange {
    fn default() -> Self {
        Self::new()
    }
}

impl<B: Clone> Exchange<Request<B>> for HttpExchange {
    type Sent = Request<B>;
    type Kept = Request<B>;

    const CLONES: bool = true;

    fn first(&self, req: Request<B>, keep: bool) -> (Request<B>, Option<Request<B>>) {
        CloneExchange.first(req, keep)
    }

    fn can_send_again(&self, kept: &Request<B>) -> bool {
        CloneExchange.can_send_again(kept)
    }

    fn again(&self, kept: &mut Option<Request<B>>, last: bool) -> Option<Request<B>> {
        CloneExchange.again(kept, last)
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
/// A body that declares a length over the cap, exceeds it or fails is sent once.
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

impl<B: Body> Exchange<Request<B>> for ReplayExchange {
    type Sent = Request<ReplayBody<B>>;
    type Kept = (Parts, Replay<B>);

    fn first(&self, req: Request<B>, keep: bool) -> (Self::Sent, Option<Self::Kept>) {
        if !keep || req.body().size_hint().lower() > self.cap as u64 {
            return (req.map(ReplayBody::once), None);
        }
        let (head, body) = req.into_parts();
        let (body, replay) = ReplayBody::new(body, self.cap);
        let kept = (head.clone(), replay);
        (Request::from_parts(head, body), Some(kept))
    }

    fn can_send_again(&self, (_, replay): &Self::Kept) -> bool {
        replay.can_replay()
    }

    fn again(&self, kept: &mut Option<Self::Kept>, last: bool) -> Option<Self::Sent> {
        if last {
            let (head, replay) = kept.take()?;
            return Some(Request::from_parts(head, replay.replay()?));
        }
        let (head, replay) = kept.as_ref()?;
        Some(Request::from_parts(head.clone(), replay.replay()?))
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

/// Future that reads a failed response and discards it. Made by [`HttpExchange`].
///
/// # Cancel safety
///
/// Dropping it drops the response; its connection is closed unless the response was read to its end.
#[must_use = "futures do nothing unless polled"]
#[pin_project]
pub struct Discard<B> {
    /// `None` when it has been discarded.
    #[pin]
    body: Option<B>,
    left: usize,
    time: Duration,
    /// Started at the first poll of the body that is pending.
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
                    // An empty frame counts too, because a body may consist of nothing but empty frames.
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
