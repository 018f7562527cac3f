use super::{BodyError, BufferBody, BufferedBody};
use crate::problem::{Problem, Refuser};
use http::Response;
use std::time::Duration;
use tower_layer::Layer;

/// Reads each request body into memory, once, under a limit and a deadline.
///
/// See the [module docs](super) for what it refuses and where it stands in a stack.
#[derive(Clone, Debug)]
#[must_use]
pub struct BufferBodyLayer {
    pub(super) settings: Settings,
}

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) limit: usize,
    pub(super) deadline: Duration,
    pub(super) refuser: Refuser<BodyError>,
}

impl BufferBodyLayer {
    /// Refuses bodies longer than `limit` bytes. The deadline is 10 seconds.
    pub const fn new(limit: usize) -> Self {
        Self {
            settings: Settings {
                limit,
                deadline: Duration::from_secs(10),
                refuser: Refuser::new(),
            },
        }
    }

    /// The time that a whole body has to arrive, from its first byte read to its last. Default: 10
    /// seconds. Zero takes only bodies that are already here.
    ///
    /// A sender that trickles holds memory and a connection for this long, so keep it short.
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.settings.deadline = deadline;
        self
    }

    /// Replaces the answer to a refused request. The default is the [`Problem`] that the closure
    /// gets, as `application/problem+json`.
    pub fn refuse_with(
        mut self,
        respond: impl Fn(&BodyError, Problem) -> Response<BufferedBody> + Send + Sync + 'static,
    ) -> Self {
        self.settings.refuser = Refuser::with(respond);
        self
    }
}

impl<S> Layer<S> for BufferBodyLayer {
    type Service = BufferBody<S>;

    fn layer(&self, inner: S) -> BufferBody<S> {
        BufferBody {
            inner,
            settings: self.settings.clone(),
        }
    }
}
