use super::{
    super::{PeekedBody, front::Peek},
    layer::Settings,
};
use crate::{deadline::Deadline, outcome::Peeked};
use bytes::{Buf, Bytes, BytesMut};
use http::{Response, response::Parts};
use http_body::Body;
use pin_project::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::time::{Instant, Sleep, sleep};

/// Frames read in one poll before other tasks get their turn.
const FRAMES_PER_POLL: usize = 128;

/// Response future of [`PeekBody`](super::PeekBody).
#[pin_project]
pub struct ResponseFuture<F, B: Body> {
    #[pin]
    state: State<F, B>,
    settings: Settings,
}

#[pin_project(project = StateProj)]
enum State<F, B: Body> {
    Calling(#[pin] F),
    Peeking {
        /// Taken with the answer.
        answer: Option<(Parts, PeekedBody<B>)>,
        left: usize,
        /// Set when the body makes us wait.
        #[pin]
        timer: Option<Sleep>,
    },
}

impl<F, B: Body> ResponseFuture<F, B> {
    pub(super) const fn new(future: F, settings: Settings) -> Self {
        Self {
            state: State::Calling(future),
            settings,
        }
    }
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
            if this.settings.limit == 0 || !(this.settings.when)(res.status()) {
                return Poll::Ready(Ok(res));
            }
            this.state.set(State::Peeking {
                answer: Some(res.into_parts()),
                left: this.settings.limit,
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
        // Invariant: taken here alone, on the way out.
        #[expect(clippy::expect_used, reason = "a future is not polled after its end")]
        let (_, body) = answer.as_mut().expect("polled after completion");
        for _ in 0..FRAMES_PER_POLL {
            let is_whole = match Pin::new(&mut *body).poll_peek(cx) {
                Poll::Ready(Peek::Data(data)) => {
                    let is_over = data.remaining() > *left;
                    // A frame of nothing counts too: there may be no end of them.
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
                        let (time, now) = (this.settings.time, Instant::now());
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
            let bytes = beginning(&body, this.settings.limit);
            head.extensions.insert(Peeked::new(bytes, !is_whole));
            return Poll::Ready(Ok(Response::from_parts(head, body)));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Up to `limit` bytes of what has been read: shared where they are in one frame.
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
