use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use std::{
    convert::Infallible,
    fmt, mem,
    pin::Pin,
    task::{Context, Poll},
};

/// A body in memory: cheap to clone, `Unpin`, and reading it never fails.
///
/// The layers inside [`BufferBodyLayer`](super::BufferBodyLayer) take a `Request<BufferedBody>`, so
/// that the type guarantees that the verified bytes are the handled bytes.
///
/// `Debug` shows the length and not the content, because requests end up in logs.
#[derive(Clone, Default)]
pub struct BufferedBody {
    data: Bytes,
    /// Boxed, because few bodies have trailers and a `HeaderMap` would make every body larger.
    trailers: Option<Box<HeaderMap>>,
}

impl BufferedBody {
    /// Makes a body of these bytes, without trailers.
    pub fn new(data: impl Into<Bytes>) -> Self {
        Self {
            data: data.into(),
            trailers: None,
        }
    }

    /// Adds trailers (RFC 9110 §6.5), sent after the bytes.
    #[must_use]
    pub fn with_trailers(mut self, trailers: HeaderMap) -> Self {
        self.trailers = Some(Box::new(trailers));
        self
    }

    pub(super) const fn from_parts(data: Bytes, trailers: Option<Box<HeaderMap>>) -> Self {
        Self { data, trailers }
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &Bytes {
        &self.data
    }

    /// The trailers, if there are any.
    pub fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_deref()
    }

    /// The bytes, without the trailers.
    pub fn into_bytes(self) -> Bytes {
        self.data
    }
}

impl Body for BufferedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if !self.data.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(mem::take(&mut self.data)))));
        }
        Poll::Ready(self.trailers.take().map(|map| Ok(Frame::trailers(*map))))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_empty() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.len() as u64)
    }
}

impl fmt::Debug for BufferedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferedBody")
            .field("len", &self.data.len())
            .field("trailers", &self.trailers.as_ref().map(|map| map.len()))
            .finish()
    }
}

macro_rules! from {
    ($($source:ty),+) => {$(
        impl From<$source> for BufferedBody {
            fn from(data: $source) -> Self {
                Self::new(data)
            }
        }
    )+};
}
from!(Bytes, Vec<u8>, String, &'static str, &'static [u8]);
