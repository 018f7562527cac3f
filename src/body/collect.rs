use super::BufferedBody;
use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::Body;
use pin_project::pin_project;
use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

/// Frames read in one poll before other tasks get their turn: a body whose frames are always ready
/// must not block its thread.
const FRAMES_PER_POLL: usize = 128;

/// The longest trailers, in bytes of names and values: hyper's limit. Otherwise a body that is all
/// trailers would fill memory without exceeding the limit.
const MAX_TRAILERS: usize = 16 << 10;

/// Why a body could not be read into memory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CollectError<E> {
    /// The body could not be read to its end: the peer or the transport failed while sending.
    Read(E),
    /// The body is longer than the limit, or its trailers are longer than 16 KiB. Nothing was read if
    /// the declared length was over the limit.
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
}

impl<E> fmt::Display for CollectError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(_) => f.write_str("body could not be read to its end"),
            Self::TooLarge { limit } => write!(f, "body is longer than {limit} bytes"),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for CollectError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read(error) => Some(error),
            Self::TooLarge { .. } => None,
        }
    }
}

/// Future that reads a body to its end, up to a limit. Made by [`collect`].
///
/// # Cancel safety
///
/// Dropping it drops the body and what was read of it; nothing else is held.
#[must_use = "futures do nothing unless polled"]
#[pin_project]
pub struct Collect<B> {
    #[pin]
    body: B,
    limit: usize,
    chunks: Chunks,
    /// The chunk that exceeded the limit: kept for [`Collect::into_rest`].
    overflow: Bytes,
    trailers: Option<Box<HeaderMap>>,
    /// Bytes of names and values in `trailers`.
    trailers_len: usize,
}

/// Reads `body` to its end into memory, refusing more than `limit` bytes.
///
/// A body that declares a length over the limit is refused before a byte is read; one that declares
/// a wrong length or none is read up to the limit. A body that comes in one chunk, the common case,
/// is not copied. Trailers are kept, up to 16 KiB.
///
/// # Errors
///
/// The future fails with [`CollectError::TooLarge`] or [`CollectError::Read`].
///
/// # Examples
///
/// ```
/// use http_body_util::Full;
/// use tower_webhook::body::{CollectError, collect};
///
/// # tokio_test::block_on(async {
/// let body = Full::<bytes::Bytes>::from("hello");
/// assert_eq!(collect(body.clone(), 5).await?.as_bytes(), "hello");
/// assert_eq!(collect(body, 4).await.unwrap_err(), CollectError::TooLarge { limit: 4 });
/// # Ok::<_, CollectError<std::convert::Infallible>>(())
/// # }).unwrap();
/// ```
pub fn collect<B: Body>(body: B, limit: usize) -> Collect<B> {
    Collect {
        body,
        limit,
        chunks: Chunks::None,
        overflow: Bytes::new(),
        trailers: None,
        trailers_len: 0,
    }
}

/// What has been read so far.
enum Chunks {
    None,
    One(Bytes),
    Many(BytesMut),
}

impl Chunks {
    fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(chunk) => chunk.len(),
            Self::Many(chunks) => chunks.len(),
        }
    }

    fn push(&mut self, chunk: Bytes) {
        match self {
            Self::None => *self = Self::One(chunk),
            Self::One(first) => {
                // Grows by what has arrived, not by what was declared: declaring a length costs a
                // sender nothing.
                let mut all = BytesMut::with_capacity((first.len() + chunk.len()) * 2);
                all.extend_from_slice(first);
                all.extend_from_slice(&chunk);
                *self = Self::Many(all);
            }
            Self::Many(all) => all.extend_from_slice(&chunk),
        }
    }

    fn take(&mut self) -> Bytes {
        match mem::replace(self, Self::None) {
            Self::None => Bytes::new(),
            Self::One(chunk) => chunk,
            Self::Many(all) => all.freeze(),
        }
    }
}

impl<B> Collect<B> {
    pub(super) fn body(self: Pin<&mut Self>) -> Pin<&mut B> {
        self.project().body
    }
}

impl<B: Body> Collect<B> {
    /// What was read, in order, and the body with the rest: for a caller that passes on a body that
    /// is too long to keep.
    #[cfg(feature = "idempotency")]
    pub(crate) fn into_rest(mut self) -> ([Bytes; 2], Option<Box<HeaderMap>>, B) {
        (
            [self.chunks.take(), self.overflow],
            self.trailers,
            self.body,
        )
    }
}

impl<B: Body> Future for Collect<B> {
    type Output = Result<BufferedBody, CollectError<B::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let limit = *this.limit;
        let too_large = Poll::Ready(Err(CollectError::TooLarge { limit }));

        let declared = this.body.size_hint().lower();
        if declared > limit.saturating_sub(this.chunks.len()) as u64 {
            return too_large;
        }
        for _ in 0..FRAMES_PER_POLL {
            let frame = match ready!(this.body.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Err(CollectError::Read(error))),
                None => {
                    let body = BufferedBody::from_parts(this.chunks.take(), this.trailers.take());
                    return Poll::Ready(Ok(body));
                }
            };
            match frame.into_data() {
                Ok(mut data) => {
                    // `remaining`, not `chunk`: a frame may be several slices.
                    let chunk = data.copy_to_bytes(data.remaining());
                    if chunk.len() > limit - this.chunks.len() {
                        *this.overflow = chunk;
                        return too_large;
                    }
                    if !chunk.is_empty() {
                        this.chunks.push(chunk);
                    }
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        *this.trailers_len += trailers_len(&trailers);
                        let fits = merge(this.trailers, trailers);
                        if !fits || *this.trailers_len > MAX_TRAILERS {
                            return too_large;
                        }
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

fn trailers_len(trailers: &HeaderMap) -> usize {
    let fields = trailers.iter();
    fields
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum()
}

/// Adds trailers to those that came before. `false` if the map cannot hold them all.
fn merge(all: &mut Option<Box<HeaderMap>>, trailers: HeaderMap) -> bool {
    let Some(all) = all else {
        *all = Some(Box::new(trailers));
        return true;
    };
    // Appended, not extended: a repeated field keeps all its values.
    trailers
        .iter()
        .all(|(name, value)| all.try_append(name, value.clone()).is_ok())
}

impl<B> fmt::Debug for Collect<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collect")
            .field("limit", &self.limit)
            .field("read", &self.chunks.len())
            .finish_non_exhaustive()
    }
}
