//! Send a streaming body again: what is sent is recorded, under a cap.

mod error;
mod record;
mod state;
mod turn;

pub use self::error::ReplayError;
use self::{
    record::Record,
    state::{Shared, State},
    turn::Turn,
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
/// While it is sent, its frames are recorded, trailers included; [`Replay`] makes further bodies
/// that give what is recorded and then, if the first was not read to its end, the rest from the
/// original. Nothing is read before the transport asks for it. `Bytes` are shared, not copied; data
/// of another type is copied once.
///
/// # The cap
///
/// It counts bytes of data and of trailers, and beside them frames: 16, and one for every 64 bytes
/// of the cap. A body that goes over it is passed on to its end, and cannot be sent again: what was
/// recorded is freed. So memory stays below about twice the cap, whatever the frames. (A `Bytes`
/// that is a slice of something larger keeps that in memory: what it comes from must be bounded.)
///
/// # When an answer comes early
///
/// A peer may answer while the body is still being sent, and a transport may hold the body longer
/// than the call. The body that is polled last made then takes over the original: the earlier one
/// gives [`ReplayError::TakenOver`] when it is polled again, so that its connection ends instead
/// of sending what belongs to the next. No two of them can give the same frame of the original, and
/// none of it is lost between them.
///
/// # Lengths
///
/// [`size_hint`](Body::size_hint) and [`is_end_stream`](Body::is_end_stream) say of each of them
/// what is left to be given, so that a known `content-length` stays right. One exception: where the
/// original has not told its length and there are trailers, its replay tells none either, because
/// HTTP/1 has no trailers after a body of known length.
///
/// # Errors
///
/// An error of the original is passed on, boxed, and ends all replaying.
///
/// # Cancel safety
///
/// Dropping one of the bodies loses nothing: the next continues. When all of them and the
/// [`Replay`] are dropped, so is the original.
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

/// Makes the bodies that send again what a [`ReplayBody`] sends.
///
/// Recording goes on while this lives: drop it when the body is not to be sent again.
pub struct Replay<B> {
    shared: Arc<Shared<B>>,
}

impl<B: Body> ReplayBody<B> {
    /// A body that is recorded while it is sent, up to `cap` bytes, and what sends it again.
    ///
    /// Two allocations, and what the recording takes.
    pub fn new(body: B, cap: usize) -> (Self, Replay<B>) {
        let shared = Arc::new(Shared::new(State::new(body, Record::new(cap))));
        let replay = Replay { shared };
        (replay.make(), replay)
    }
}

impl<B> ReplayBody<B> {
    /// A body that is sent once: nothing is recorded and nothing allocated.
    pub const fn once(body: B) -> Self {
        Self {
            kind: Kind::Once(body),
        }
    }
}

impl<B> Replay<B> {
    /// Whether the body can still be sent again: it has not gone over the cap and not failed.
    ///
    /// "Yes" is a promise. A body that is still being sent, and would go over the cap, waits from
    /// now on: for [`replay`](Self::replay), whose body takes over, or for this handle to be
    /// dropped, after which it goes on. So ask when the next attempt is about to be made, and drop
    /// this when it is not.
    pub fn can_replay(&self) -> bool {
        self.shared.lock().promise()
    }

    /// A body that gives the same again, from the beginning. `None` where it cannot.
    ///
    /// It takes the original over from earlier ones at its first poll. If the original fails
    /// before that, it gives [`ReplayError::Lost`].
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

/// What is in it is a matter between caller and peer.
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
