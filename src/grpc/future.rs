use super::GrpcBody;
use crate::{
    body::{PeekedBody, peeked::Peek},
    outcome::{GrpcEnd, LateOutcome},
};
use bytes::Buf;
use http::{HeaderMap, Response, StatusCode, header, response::Parts};
use http_body::Body;
use pin_project::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

/// Frames of data that are looked behind where nothing is waited for: a message may be cut into
/// some.
const FRAMES_AT_ONCE: usize = 4;

/// Frames read in one poll before other tasks get their turn.
const FRAMES_PER_POLL: usize = 128;

/// Response future of [`GrpcPeek`](super::GrpcPeek).
#[pin_project]
pub struct ResponseFuture<F, B: Body> {
    #[pin]
    state: State<F, B>,
    /// How many bytes are held while the trailers are waited for. `None`: they are not.
    wait: Option<usize>,
}

#[pin_project(project = StateProj)]
enum State<F, B: Body> {
    Calling(#[pin] F),
    /// Taken with the answer.
    Peeking(Option<(Parts, PeekedBody<B>)>),
}

/// What came of peeking.
enum Seen {
    End(GrpcEnd),
    /// It goes on.
    Stream,
}

impl<F, B: Body> ResponseFuture<F, B> {
    pub(super) const fn new(future: F, wait: Option<usize>) -> Self {
        Self {
            state: State::Calling(future),
            wait,
        }
    }
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
                return Poll::Ready(Ok(res.map(|body| GrpcBody::new(body, None))));
            }
            this.state.set(State::Peeking(Some(res.into_parts())));
        }
        let StateProj::Peeking(answer) = this.state.project() else {
            return Poll::Pending;
        };
        // Invariant: taken here alone, on the way out.
        #[expect(clippy::expect_used, reason = "a future is not polled after its end")]
        let (_, body) = answer.as_mut().expect("polled after completion");
        let seen = match this.wait {
            Some(left) => ready!(wait_for_end(body, left, cx)),
            None => look(body, cx),
        };
        let Some((mut head, body)) = answer.take() else {
            return Poll::Pending;
        };
        let late = match seen {
            // The head says as much: it costs nothing to leave it at that.
            Seen::End(end) if end.code() == 0 => None,
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
        let body = GrpcBody::new(body, late);
        Poll::Ready(Ok(Response::from_parts(head, body)))
    }
}

/// Reads what is here, and waits for nothing.
fn look<B: Body + Unpin>(body: &mut PeekedBody<B>, cx: &mut Context<'_>) -> Seen {
    for _ in 0..=FRAMES_AT_ONCE {
        match Pin::new(&mut *body).poll_peek(cx) {
            Poll::Ready(peek) => match of_peek(&peek) {
                Some(end) => return Seen::End(end),
                None if body.is_read() => return Seen::End(GrpcEnd::MISSING),
                None => {}
            },
            Poll::Pending => break,
        }
    }
    Seen::Stream
}

/// Reads to the trailers, however long they take, up to `left` bytes.
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
        if let Some(end) = of_peek(&peek) {
            return Poll::Ready(Seen::End(end));
        }
        let len = match peek {
            Peek::Data(data) => data.remaining(),
            _ => 0,
        };
        // A frame of nothing counts too: there may be no end of them.
        *left = left.saturating_sub(len.max(1));
        if body.is_read() {
            return Poll::Ready(Seen::End(GrpcEnd::MISSING));
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// How the call has ended, where this frame says it.
fn of_peek<D>(peek: &Peek<'_, D>) -> Option<GrpcEnd> {
    match peek {
        Peek::Trailers(trailers) => Some(GrpcEnd::of_trailers(trailers)),
        Peek::Ended => Some(GrpcEnd::MISSING),
        Peek::Failed => Some(GrpcEnd::BROKEN),
        Peek::Data(_) | Peek::Other => None,
    }
}

/// Whether this is the head of an answer whose status is yet to come. gRPC-Web, which has it in
/// the body, is another protocol.
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
