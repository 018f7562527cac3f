//! Sends a streaming body again. The body is recorded while it is sent, up to a cap.

mod record;
mod state;

use self::{
    record::Record,
    state::{Shared, State, Turn},
};
use crate::BoxError;
use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;
use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

/// A streaming body that can be sent again.
///
/// While it is sent, its frames are recorded, trailers included. [`Replay`] makes further bodies,
/// which yield the recorded frames and then, if the first body was not read to its end, the rest of
/// the original. Nothing is read before the transport polls. `Bytes` are shared, not copied; data of
/// another type is copied once.
///
/// # The cap
///
/// The cap limits the bytes of data and trailers, and also the number of frames: 16, and one more for
/// every 64 bytes of the cap. A body that exceeds it is sent to its end and cannot be sent again; its
/// record is freed. So memory stays below about twice the cap, whatever the size of the frames. (A
/// `Bytes` that is a slice of a larger buffer keeps that buffer in memory.)
///
/// # Early responses
///
/// A peer may respond while the body is still being sent, and a transport may hold the body longer
/// than the call. The newest body takes over the original at its first poll: an earlier one then
/// fails with [`ReplayError::TakenOver`], so that its connection ends and does not consume what
/// belongs to the newer one. Each frame of the original is read once, and none is lost.
///
/// # Lengths
///
/// [`size_hint`](Body::size_hint) and [`is_end_stream`](Body::is_end_stream) of each body cover what it
/// has yet to yield, so that `content-length` stays right. One exception: if the original has no known
/// length and there are trailers, a replay has no known length either, because HTTP/1 has no trailers
/// after a body of known length.
///
/// # Errors
///
/// An error of the original is passed on, boxed. The body cannot be replayed then.
///
/// # Cancel safety
///
/// Dropping one of the bodies loses nothing: the next one continues. The original is dropped when all
/// of them and the [`Replay`] are.
///
/// # Examples
///
/// ```
/// use http_body_util::{BodyExt, Full};
/// use tower_webhook::body::ReplayBody;
///
/// # tokio_test::block_on(async {
/// let upload = Full::<bytes::Bytes>::from("hello");
/// let (first, replay) = ReplayBody::new(upload, 64 << 10);
/// assert_eq!(first.collect().await?.to_bytes(), "hello");
///
/// let again = replay.replay().ok_or("it was too long")?;
/// assert_eq!(again.collect().await?.to_bytes(), "hello");
/// # Ok::<_, tower_webhook::BoxError>(())
/// # }).unwrap();
/// ```
#[pin_project]
pub struct ReplayBody<B> {
    #[pin]
    kind: Kind<B>,
}

#[pin_project(project = KindProj)]
enum Kind<B> {
    /// Sent once: nothing is recorded, nothing allocated.
    Once(#[pin] B),
    Shared(Turn<B>),
}

/// Makes further bodies with the content of a [`ReplayBody`].
///
/// The body is recorded while this exists: drop it when the body is not to be sent again.
pub struct Replay<B> {
    shared: Arc<Shared<B>>,
}

impl<B: Body> ReplayBody<B> {
    /// Makes a body that is recorded while it is sent, up to `cap` bytes, and the handle that sends
    /// it again.
    ///
    /// Costs two allocations, and the memory of the record.
    pub fn new(body: B, cap: usize) -> (Self, Replay<B>) {
        let shared = Arc::new(Shared::new(State::new(body, Record::new(cap))));
        let replay = Replay { shared };
        (replay.make(), replay)
    }
}

impl<B> ReplayBody<B> {
    /// Makes a body that is sent once: nothing is recorded or allocated.
    pub const fn once(body: B) -> Self {
        Self {
            kind: Kind::Once(body),
        }
    }
}

impl<B> Replay<B> {
    /// Whether the body can still be sent again: it has not exceeded the cap and not failed.
    ///
    /// `true` is a promise: from now on a body that is still being sent and would exceed the cap
    /// waits, until [`replay`](Self::replay) makes a body that takes over, or until this handle is
    /// dropped. So call it when the next attempt is about to be made, and drop the handle if it is
    /// not made.
    pub fn can_replay(&self) -> bool {
        self.shared.lock().promise()
    }

    /// Makes a body with the same content, from the beginning. `None` if that is not possible.
    ///
    /// It takes over the original from earlier bodies at its first poll. If the original fails before
    /// that, it fails with [`ReplayError::Lost`].
    pub fn replay(&self) -> Option<ReplayBody<B>> {
        let may = {
            let mut state = self.shared.lock();
            state.is_promised() || state.promise()
        };
        may.then(|| self.make())
    }

    fn make(&self) -> ReplayBody<B> {
        ReplayBody {
            kind: Kind::Shared(Turn::new(&self.shared)),
        }
    }
}

impl<B> Drop for Replay<B> {
    fn drop(&mut self) {
        let waiting = self.shared.lock().forget();
        state::wake(waiting);
    }
}

impl<B> Body for ReplayBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.project().kind.project() {
            KindProj::Once(body) => body.poll_frame(cx).map(|frame| frame.map(into_bytes)),
            KindProj::Shared(turn) => turn.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Once(body) => body.is_end_stream(),
            Kind::Shared(turn) => turn.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Once(body) => body.size_hint(),
            Kind::Shared(turn) => turn.size_hint(),
        }
    }
}

fn into_bytes<D: Buf, E: Into<BoxError>>(
    frame: Result<Frame<D>, E>,
) -> Result<Frame<Bytes>, BoxError> {
    match frame {
        // `remaining`, not `chunk`: a frame may be several slices.
        Ok(frame) => Ok(frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))),
        Err(error) => Err(error.into()),
    }
}

/// Why a [`ReplayBody`] ended with an error that is not the original body's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReplayError {
    /// The original body failed while an earlier attempt was sending it.
    Lost,
    /// A later attempt has taken over the body.
    TakenOver,
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "the body failed while it was sent before",
            Self::TakenOver => "the body is sent by a later attempt now",
        })
    }
}

impl std::error::Error for ReplayError {}

/// Shows nothing of the content: bodies do not belong in logs.
impl<B> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.kind {
            Kind::Once(_) => "ReplayBody(once)",
            Kind::Shared(_) => "ReplayBody(recorded)",
        })
    }
}

impl<B> fmt::Debug for Replay<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        f.debug_struct("Replay")
            .field("recorded", &state.record.data())
            .field("lost", &state.record.is_lost())
            .finish_non_exhaustive()
    }
}
