use super::{Sign, SignScheme};
use crate::clock::WallClock;
use std::{fmt, sync::Arc};
use tower_layer::Layer;

/// Signs each request afresh: the same id, a new timestamp.
///
/// Stands inside the retry, next to the transport: a timestamp that was signed before a long wait
/// is stale when it arrives. Outside the retry stands [`MessageIdLayer`](super::MessageIdLayer).
///
/// The id, where the scheme signs one, is the value of its id header in the request; else the
/// [`MessageId`](super::MessageId) among the request's extensions; else a new random one.
///
/// # Examples
///
/// ```
/// use tower_webhook::SignLayer;
/// use tower_webhook::signature::{Secret, scheme::StandardWebhooks};
///
/// // Two keys during a rotation: two signatures in one header.
/// let layer = SignLayer::new(StandardWebhooks::new([
///     Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").label("2026-11"),
///     Secret::new("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").label("2025-11"),
/// ])?);
/// # let _ = layer;
/// # Ok::<(), tower_webhook::InvalidConfig>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct SignLayer {
    scheme: Arc<dyn SignScheme>,
    clock: WallClock,
}

impl SignLayer {
    /// Signs with `scheme`, which may be an `Arc` or `Box` of one.
    pub fn new(scheme: impl SignScheme) -> Self {
        Self {
            scheme: Arc::new(scheme),
            clock: WallClock::system(),
        }
    }

    /// The clock that timestamps are read from. Default: the system's.
    pub fn clock(mut self, clock: WallClock) -> Self {
        self.clock = clock;
        self
    }
}

impl<S> Layer<S> for SignLayer {
    type Service = Sign<S>;

    fn layer(&self, inner: S) -> Sign<S> {
        Sign {
            inner,
            scheme: self.scheme.clone(),
            clock: self.clock.clone(),
        }
    }
}

impl fmt::Debug for SignLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignLayer")
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}
