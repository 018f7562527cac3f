use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;
use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

/// A body whose beginning a layer has read. It yields those frames first, unchanged, and then the rest.
#[pin_project]
pub struct PeekedBody<B: Body> {
    /// The first two frames without an allocation: most peeked responses are one message and its
    /// trailers.
    first: [Option<Frame<B::Data>>; 2],
    more: VecDeque<Frame<B::Data>>,
    /// How the body ended, if its end has been read.
    end: Option<End<B::Error>>,
    /// Bytes of data in the frames above.
    len: u64,
    #[pin]
    rest: B,
}

enum End<E> {
    Ended,
    Failed(E),
    /// The error has been yielded.
    Told,
}

/// The result of [`PeekedBody::poll_peek`].
pub(crate) enum Peek<'a, D> {
    Data(&'a D),
    #[cfg_attr(not(feature = "grpc"), expect(dead_code, reason = "gRPC reads them"))]
    Trailers(&'a http::HeaderMap),
    /// A frame of some other kind.
    Other,
    Ended,
    Failed,
}

impl<B: Body> PeekedBody<B> {
    /// A body of which nothing has been read.
    pub(crate) const fn new(body: B) -> Self {
        Self {
            first: [None, None],
            more: VecDeque::new(),
            end: None,
            len: 0,
            rest: body,
        }
    }

    /// Reads the next frame and keeps it, to be yielded later.
    pub(crate) fn poll_peek(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Peek<'_, B::Data>> {
        let this = self.project();
        if this.end.is_some() {
            return Poll::Ready(Peek::Ended);
        }
        let frame = match ready!(this.rest.poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                *this.end = Some(End::Failed(error));
                return Poll::Ready(Peek::Failed);
            }
            None => {
                *this.end = Some(End::Ended);
                return Poll::Ready(Peek::Ended);
            }
        };
        let data = frame.data_ref().map_or(0, Buf::remaining);
        *this.len = this.len.saturating_add(data as u64);
        let kept = match this.first {
            [first @ None, None] => Some(first.insert(frame)),
            [Some(_), second @ None] => Some(second.insert(frame)),
            _ => {
                this.more.push_back(frame);
                this.more.back_mut()
            }
        };
        let kept = kept.map(|frame| &*frame);
        Poll::Ready(
            match kept.map(|frame| (frame.data_ref(), frame.trailers_ref())) {
                Some((Some(data), _)) => Peek::Data(data),
                Some((_, Some(trailers))) => Peek::Trailers(trailers),
                _ => Peek::Other,
            },
        )
    }

    /// Whether the body has been read to its end.
    pub(crate) fn is_read(&self) -> bool {
        self.end.is_some() || self.rest.is_end_stream()
    }

    /// The data of the frames that have been read and not yet yielded.
    pub(crate) fn peeked(&self) -> impl Iterator<Item = &B::Data> {
        let first = self.first.iter().flatten();
        first.chain(&self.more).filter_map(Frame::data_ref)
    }

    /// Whether a frame has been read and not yet yielded.
    pub(crate) fn has_peeked(&self) -> bool {
        self.first.iter().any(Option::is_some) || !self.more.is_empty()
    }
}

impl<B: Body> Body for PeekedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let [first, second] = this.first;
        let peeked = first.take().or_else(|| second.take());
        if let Some(frame) = peeked.or_else(|| this.more.pop_front()) {
            let data = frame.data_ref().map_or(0, Buf::remaining);
            *this.len = this.len.saturating_sub(data as u64);
            return Poll::Ready(Some(Ok(frame)));
        }
        match this.end {
            None => this.rest.poll_frame(cx),
            Some(end) => match std::mem::replace(end, End::Told) {
                End::Failed(error) => Poll::Ready(Some(Err(error))),
                End::Ended | End::Told => Poll::Ready(None),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        !self.has_peeked()
            && match &self.end {
                None => self.rest.is_end_stream(),
                Some(End::Ended | End::Told) => true,
                Some(End::Failed(_)) => false,
            }
    }

    fn size_hint(&self) -> SizeHint {
        let rest = match &self.end {
            None => self.rest.size_hint(),
            Some(End::Ended | End::Told) => SizeHint::with_exact(0),
            Some(End::Failed(_)) => SizeHint::new(),
        };
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(self.len));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(self.len)) {
            hint.set_upper(upper);
        }
        hint
    }
}

impl<B: Body> fmt::Debug for PeekedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeekedBody")
            .field("peeked", &self.len)
            .finish_non_exhaustive()
    }
}
