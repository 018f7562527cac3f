use super::WithAttemptTimeout;
use crate::{InvalidConfig, deadline::not_zero};
use std::{fmt, sync::Arc, time::Duration};
use tower_layer::Layer;

/// Gives each attempt a time by which it must have answered.
///
/// Stands inside the retry and inside the circuit breaker: see the
/// [module docs](crate::deadline).
#[derive(Clone, Debug)]
#[must_use]
pub struct AttemptTimeoutLayer {
    time: Time,
}

#[derive(Clone)]
pub(super) enum Time {
    Fixed(Duration),
    ByAttempt(Arc<dyn Fn(u32) -> Duration + Send + Sync>),
}

impl AttemptTimeoutLayer {
    /// Every attempt has this long, or what is left of the deadline where that is less.
    /// [`Duration::MAX`] leaves the deadline alone.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] where it is zero.
    pub fn new(timeout: Duration) -> Result<Self, InvalidConfig> {
        not_zero("timeout", timeout)?;
        Ok(Self {
            time: Time::Fixed(timeout),
        })
    }

    /// A time for each attempt, by its number from 1: a first attempt may be given up early, where
    /// a slow answer is likely to be a lost one, and a last one late.
    ///
    /// The number is that of [`Attempt::current`](crate::attempt::Attempt::current), or 1. Zero
    /// takes only what is answered at once.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_webhook::deadline::AttemptTimeoutLayer;
    ///
    /// let layer = AttemptTimeoutLayer::by_attempt(|attempt| Duration::from_secs(5) * attempt.min(3));
    /// # let _ = layer;
    /// ```
    pub fn by_attempt(timeout: impl Fn(u32) -> Duration + Send + Sync + 'static) -> Self {
        Self {
            time: Time::ByAttempt(Arc::new(timeout)),
        }
    }
}

impl<S> Layer<S> for AttemptTimeoutLayer {
    type Service = WithAttemptTimeout<S>;

    fn layer(&self, inner: S) -> WithAttemptTimeout<S> {
        WithAttemptTimeout {
            inner,
            time: self.time.clone(),
        }
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(time) => write!(f, "{time:?}"),
            Self::ByAttempt(_) => f.write_str("by attempt"),
        }
    }
}
