use crate::{
    body::PeekedBody,
    outcome::{GrpcEnd, LateSender, late_verdict},
};
use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

/// The response body of [`GrpcPeek`](super::GrpcPeek): that of the transport, which says at its end
/// how the call went.
#[pin_project]
pub struct GrpcBody<B: Body> {
    #[pin]
    body: PeekedBody<B>,
    /// `None` where the verdict has been said, or is for others to say.
    late: Option<LateSender>,
}

impl<B: Body> GrpcBody<B> {
    pub(super) const fn new(body: PeekedBody<B>, late: Option<LateSender>) -> Self {
        Self { body, late }
    }
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
                    // A reader may stop here.
                    None => this.body.is_end_stream().then_some(GrpcEnd::MISSING),
                },
            };
            if let Some((end, late)) = end.and_then(|end| Some((end, this.late.take()?))) {
                late.send(late_verdict(end));
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
