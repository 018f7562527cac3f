use super::SignatureVerify;
use crate::{
    InvalidConfig,
    body::BufferedBody,
    clock::WallClock,
    problem::{Problem, Refuser},
    signature::{ReplayCache, Scheme, SignatureError},
};
use http::Response;
use std::{fmt, sync::Arc, time::Duration};
use tower_layer::Layer;

/// Refuses requests that are not signed as a [`Scheme`] says.
///
/// See the [module docs](crate::signature) for what it refuses and where it stands in a stack.
#[derive(Clone, Debug)]
#[must_use]
pub struct SignatureVerifyLayer {
    settings: Settings,
}

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) scheme: Arc<dyn Scheme>,
    pub(super) clock: WallClock,
    pub(super) replays: Option<(ReplayCache, Duration)>,
    pub(super) refuser: Refuser<SignatureError>,
    pub(super) label_responses: bool,
}

impl SignatureVerifyLayer {
    /// Verifies with `scheme`, which may be an `Arc` or `Box` of one.
    pub fn new(scheme: impl Scheme) -> Self {
        Self {
            settings: Settings {
                scheme: Arc::new(scheme),
                clock: WallClock::system(),
                replays: None,
                refuser: Refuser::new(),
                label_responses: false,
            },
        }
    }

    /// The clock that timestamps are judged by. Default: the system's.
    pub fn clock(mut self, clock: WallClock) -> Self {
        self.settings.clock = clock;
        self
    }

    /// Refuses a message that was received before, inside the tolerance of its timestamp. Default:
    /// not; a copy that is sent again in time passes.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `reject_replays` when the cache has no room, when its window is
    /// shorter than the scheme's or longer than a day, and when the scheme signs no timestamp and
    /// the cache has no [window](ReplayCache::window) of its own.
    pub fn reject_replays(mut self, cache: ReplayCache) -> Result<Self, InvalidConfig> {
        let window = self.settings.scheme.replay_window();
        self.settings.replays = Some(cache.for_scheme(window)?);
        Ok(self)
    }

    /// Puts the [`KeyLabel`](crate::signature::KeyLabel) that matched into the extensions of each
    /// answer, where a metrics layer outside this one finds it. Default: not, because it costs
    /// allocations on each call; [`Keys::usage`](crate::signature::Keys::usage) counts the matches
    /// of each key for nothing.
    pub const fn label_responses(mut self, label: bool) -> Self {
        self.settings.label_responses = label;
        self
    }

    /// Replaces the answer to a refused request. The default is the [`Problem`] that the closure
    /// gets, as `application/problem+json`. Do not say which check failed.
    pub fn refuse_with(
        mut self,
        respond: impl Fn(&SignatureError, Problem) -> Response<BufferedBody> + Send + Sync + 'static,
    ) -> Self {
        self.settings.refuser = Refuser::with(respond);
        self
    }
}

impl<S> Layer<S> for SignatureVerifyLayer {
    type Service = SignatureVerify<S>;

    fn layer(&self, inner: S) -> SignatureVerify<S> {
        SignatureVerify {
            inner,
            settings: Arc::new(self.settings.clone()),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("scheme", &self.scheme.name())
            .field("clock", &self.clock)
            .field("replays", &self.replays)
            .field("refuser", &self.refuser)
            .field("label_responses", &self.label_responses)
            .finish()
    }
}
