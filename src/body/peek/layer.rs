use super::PeekBody;
use http::StatusCode;
use std::time::Duration;
use tower_layer::Layer;

/// Reads the beginning of failed answers, for classifiers that look at it. See the
/// [module docs](super).
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct PeekBodyLayer {
    pub(super) settings: Settings,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) limit: usize,
    pub(super) time: Duration,
    pub(super) when: fn(StatusCode) -> bool,
}

impl PeekBodyLayer {
    /// Shows up to `limit` bytes of answers outside 2xx, and waits for them up to 1 second.
    ///
    /// A limit of zero shows none.
    pub const fn new(limit: usize) -> Self {
        Self {
            settings: Settings {
                limit,
                time: Duration::from_secs(1),
                when: has_failed,
            },
        }
    }

    /// How long to wait for a body that is not here. Default: 1 second. Zero shows only what is
    /// here with the head.
    pub const fn time(mut self, time: Duration) -> Self {
        self.settings.time = time;
        self
    }

    /// Which answers are looked at. Default: those whose status is not 2xx.
    ///
    /// The head of an answer that is looked at waits for its body: leave out what streams.
    pub const fn when(mut self, status: fn(StatusCode) -> bool) -> Self {
        self.settings.when = status;
        self
    }
}

fn has_failed(status: StatusCode) -> bool {
    !status.is_success()
}

impl<S> Layer<S> for PeekBodyLayer {
    type Service = PeekBody<S>;

    fn layer(&self, inner: S) -> PeekBody<S> {
        PeekBody {
            inner,
            settings: self.settings,
        }
    }
}
