use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

/// A body that can be built afresh: from a file, from rows, from whatever is there a second time.
///
/// For uploads that are too long to be kept in memory. It is built when it is first polled, and a
/// clone is a body that has not been built yet, so that a `Request<RebuildBody<_, _>>` can be
/// cloned for each attempt.
///
/// What cannot be built gives a body that fails. What is slow to open is opened by the body, at its
/// first poll, not by the closure.
///
/// # Examples
///
/// ```
/// use http_body_util::{BodyExt, Full};
/// use tower_webhook::body::RebuildBody;
///
/// # tokio_test::block_on(async {
/// let body = RebuildBody::new(|| Full::<bytes::Bytes>::from("as often as you like")).len(20);
/// assert_eq!(body.clone().collect().await?.to_bytes(), "as often as you like");
/// assert_eq!(body.collect().await?.to_bytes(), "as often as you like");
/// # Ok::<_, std::convert::Infallible>(())
/// # }).unwrap();
/// ```
#[pin_project]
pub struct RebuildBody<F, B> {
    build: F,
    /// What is to come, where it was declared.
    left: Option<u64>,
    /// What was declared, for clones.
    len: Option<u64>,
    #[pin]
    built: Option<B>,
}

impl<F, B> RebuildBody<F, B>
where
    F: Fn() -> B,
    B: Body,
{
    /// A body that is what `build` returns.
    pub const fn new(build: F) -> Self {
        Self {
            build,
            left: None,
            len: None,
            built: None,
        }
    }

    /// Declares the length in bytes, so that the request can have a `content-length` although
    /// nothing has been built when its head is sent. It must be true of every body that is built.
    pub const fn len(mut self, bytes: u64) -> Self {
        self.left = Some(bytes);
        self.len = Some(bytes);
        self
    }
}

/// A body that is yet to be built, however far this one has been read.
impl<F: Clone, B> Clone for RebuildBody<F, B> {
    fn clone(&self) -> Self {
        Self {
            build: self.build.clone(),
            left: self.len,
            len: self.len,
            built: None,
        }
    }
}

impl<F, B> Body for RebuildBody<F, B>
where
    F: Fn() -> B,
    B: Body,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        if this.built.is_none() {
            let body = (this.build)();
            this.built.set(Some(body));
        }
        let Some(body) = this.built.as_pin_mut() else {
            return Poll::Ready(None);
        };
        let frame = ready!(body.poll_frame(cx));
        if let (Some(left), Some(Ok(frame))) = (this.left, &frame) {
            let len = frame.data_ref().map_or(0, Buf::remaining);
            *left = left.saturating_sub(len as u64);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.built.as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match (self.left, &self.built) {
            (Some(left), _) => SizeHint::with_exact(left),
            (None, Some(body)) => body.size_hint(),
            (None, None) => SizeHint::new(),
        }
    }
}

impl<F, B> fmt::Debug for RebuildBody<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RebuildBody")
            .field("len", &self.len)
            .field("built", &self.built.is_some())
            .finish_non_exhaustive()
    }
}
