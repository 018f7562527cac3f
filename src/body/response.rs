use super::BufferedBody;
use bytes::Bytes;
#[cfg(feature = "idempotency")]
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

/// The response body of a layer that may answer in place of its inner service.
#[derive(Clone)]
#[pin_project]
pub struct ResponseBody<B> {
    #[pin]
    kind: Kind<B>,
}

#[derive(Clone)]
#[pin_project(project = KindProj)]
enum Kind<B> {
    /// The body of the inner service, unchanged.
    Inner(#[pin] B),
    /// The layer's own answer.
    Buffered(BufferedBody),
    /// The body of the inner service, of which the layer has read the beginning.
    #[cfg(feature = "idempotency")]
    Resumed {
        read: [Bytes; 2],
        trailers: Option<Box<HeaderMap>>,
        #[pin]
        rest: B,
    },
}

impl<B> ResponseBody<B> {
    /// Wraps the body of the inner service.
    pub const fn inner(body: B) -> Self {
        Self {
            kind: Kind::Inner(body),
        }
    }

    /// Wraps the answer of the layer itself.
    pub const fn buffered(body: BufferedBody) -> Self {
        Self {
            kind: Kind::Buffered(body),
        }
    }

    #[cfg(feature = "idempotency")]
    pub(crate) fn resumed((read, trailers, rest): ([Bytes; 2], Option<Box<HeaderMap>>, B)) -> Self {
        Self {
            kind: Kind::Resumed {
                read,
                trailers,
                rest,
            },
        }
    }
}

/// Empty. Some services need it to answer on their own.
impl<B> Default for ResponseBody<B> {
    fn default() -> Self {
        Self::buffered(BufferedBody::default())
    }
}

impl<B: Body<Data = Bytes>> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            KindProj::Inner(body) => body.poll_frame(cx),
            KindProj::Buffered(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(|never| match never {}),
            #[cfg(feature = "idempotency")]
            KindProj::Resumed {
                read,
                trailers,
                rest,
            } => {
                if let Some(chunk) = read.iter_mut().find(|chunk| !chunk.is_empty()) {
                    return Poll::Ready(Some(Ok(Frame::data(std::mem::take(chunk)))));
                }
                match trailers.take() {
                    Some(trailers) => Poll::Ready(Some(Ok(Frame::trailers(*trailers)))),
                    None => rest.poll_frame(cx),
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Inner(body) => body.is_end_stream(),
            Kind::Buffered(body) => body.is_end_stream(),
            #[cfg(feature = "idempotency")]
            Kind::Resumed {
                read,
                trailers,
                rest,
            } => read.iter().all(Bytes::is_empty) && trailers.is_none() && rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Inner(body) => body.size_hint(),
            Kind::Buffered(body) => body.size_hint(),
            #[cfg(feature = "idempotency")]
            Kind::Resumed { read, rest, .. } => {
                let read = read.iter().map(|chunk| chunk.len() as u64).sum::<u64>();
                let rest = rest.size_hint();
                let mut hint = SizeHint::new();
                hint.set_lower(rest.lower().saturating_add(read));
                if let Some(upper) = rest.upper() {
                    hint.set_upper(upper.saturating_add(read));
                }
                hint
            }
        }
    }
}

/// Shows nothing of the inner service's body.
impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Inner(_) => f.write_str("ResponseBody(inner)"),
            Kind::Buffered(body) => f.debug_tuple("ResponseBody").field(body).finish(),
            #[cfg(feature = "idempotency")]
            Kind::Resumed { .. } => f.write_str("ResponseBody(resumed)"),
        }
    }
}
