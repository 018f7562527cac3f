use super::{
    Deadline, ResponseFuture,
    future::{Limit, earlier, under},
    not_zero,
};
use crate::{
    BoxError, IntoBoxError, InvalidConfig,
    attempt::Attempt,
    context::{self, CallContext},
    observe::{Observer, Observers},
};
use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tower_layer::Layer;
use tower_service::Service;

/// Limits the time of each attempt.
///
/// It belongs inside the retry and inside the circuit breaker: see the [module docs](super).
#[derive(Clone, Debug)]
#[must_use]
pub struct AttemptTimeoutLayer {
    time: Time,
    observers: Observers,
}

#[derive(Clone)]
enum Time {
    Fixed(Duration),
    ByAttempt(Arc<dyn Fn(u32) -> Duration + Send + Sync>),
}

impl AttemptTimeoutLayer {
    /// Sets the same limit for every attempt. An attempt also ends at the [`Deadline`], if that is earlier.
    /// With [`Duration::MAX`], only the deadline ends it.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] if it is zero.
    pub fn new(timeout: Duration) -> Result<Self, InvalidConfig> {
        not_zero("timeout", timeout)?;
        Ok(Self::with(Time::Fixed(timeout)))
    }

    /// Sets the limit of each attempt as a function of its number, from 1. Example: a short limit for the
    /// first attempt, because a slow answer is often a lost one, and longer limits later.
    ///
    /// The number is that of [`Attempt::current`], or 1 if nothing counts attempts. With a limit of zero, an
    /// attempt succeeds only if it is answered at its first poll.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_webhook::deadline::AttemptTimeoutLayer;
    ///
    /// let layer = AttemptTimeoutLayer::by_attempt(|attempt| Duration::from_secs(5) * attempt.min(3));
    /// # let _ = layer;
    /// ```
    pub fn by_attempt(timeout: impl Fn(u32) -> Duration + Send + Sync + 'static) -> Self {
        Self::with(Time::ByAttempt(Arc::new(timeout)))
    }

    const fn with(time: Time) -> Self {
        Self {
            time,
            observers: Observers::none(),
        }
    }

    /// Adds an observer of [`Event::DeadlineExceeded`](crate::observe::Event::DeadlineExceeded). Default:
    /// none except `tracing`.
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.observers = self.observers.and(observer);
        self
    }
}

impl<S> Layer<S> for AttemptTimeoutLayer {
    type Service = WithAttemptTimeout<S>;

    fn layer(&self, inner: S) -> WithAttemptTimeout<S> {
        WithAttemptTimeout {
            inner,
            layer: self.clone(),
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

/// Middleware of [`AttemptTimeoutLayer`]. See the [module docs](super).
#[derive(Clone, Debug)]
pub struct WithAttemptTimeout<S> {
    inner: S,
    layer: AttemptTimeoutLayer,
}

impl<S, Req> Service<Req> for WithAttemptTimeout<S>
where
    S: Service<Req>,
    S::Error: IntoBoxError,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, req: Req) -> Self::Future {
        let observers = &self.layer.observers;
        let context = CallContext::current();
        let attempt = context.attempt().map_or(1, Attempt::number);
        let time = match &self.layer.time {
            Time::Fixed(time) => *time,
            Time::ByAttempt(time) => time(attempt),
        };
        let deadline = context.deadline().map(Deadline::instant);
        let now = context::last_now();
        if deadline.is_some_and(|deadline| deadline <= now) {
            return ResponseFuture::too_late(observers);
        }
        let own = now.checked_add(time);
        let due = earlier(own, deadline);
        let error = Limit::Attempt(AttemptTimeout {
            after: due.map_or(Duration::MAX, |due| due.saturating_duration_since(now)),
            attempt,
            by_deadline: due != own,
        });
        let _entered = under(due);
        ResponseFuture::called(self.inner.call(req), due, error, observers)
    }
}

/// One attempt took too long.
///
/// Its [outcome](crate::outcome) is [`Transient`](crate::outcome::OutcomeKind::Transient): the peer
/// may have processed the request, and a circuit breaker counts it as a failure of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttemptTimeout {
    after: Duration,
    attempt: u32,
    by_deadline: bool,
}

impl AttemptTimeout {
    /// The time limit of the attempt.
    pub const fn after(&self) -> Duration {
        self.after
    }

    /// The number of the attempt, from 1; 1 if nothing counts attempts.
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Whether the [`Deadline`] of the whole call ended the attempt, before its own limit.
    pub const fn by_deadline(&self) -> bool {
        self.by_deadline
    }
}

impl fmt::Display for AttemptTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = if self.by_deadline {
            ", cut short by the deadline"
        } else {
            ""
        };
        let (attempt, after) = (self.attempt, self.after);
        write!(f, "attempt {attempt} timed out after {after:?}{cut}")
    }
}

impl std::error::Error for AttemptTimeout {}
