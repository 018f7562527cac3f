//! Time limits: of a whole call and of each attempt, and the time left as a header for the peer.
//!
//! | Layer | Limits | Place |
//! | --- | --- | --- |
//! | [`DeadlineLayer`] | the whole call, with its attempts and waits | outside retry and failover |
//! | [`AttemptTimeoutLayer`] | one attempt | inside the circuit breaker |
//! | [`PropagateDeadlineLayer`] | nothing: it writes the time left into a header for the peer | inside the attempt timeout |
//!
//! # Examples
//!
//! ```
//! use http::{Request, Response};
//! use std::{convert::Infallible, time::Duration};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_webhook::deadline::{AttemptTimeout, AttemptTimeoutLayer, DeadlineLayer, PropagateDeadlineLayer};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower_webhook::BoxError> {
//! let client = ServiceBuilder::new()
//!     .layer(DeadlineLayer::new(Duration::from_secs(30))?)
//!     .layer(AttemptTimeoutLayer::new(Duration::from_secs(10))?)
//!     .layer(PropagateDeadlineLayer::grpc())
//!     .service(service_fn(|req: Request<()>| async move {
//!         assert_eq!(req.headers()["grpc-timeout"], "10000000u");
//!         std::future::pending::<Result<Response<()>, Infallible>>().await
//!     }));
//!
//! let error = client.oneshot(Request::new(())).await.unwrap_err();
//! let timeout = error.downcast_ref::<AttemptTimeout>().ok_or("another error")?;
//! assert_eq!(timeout.after(), Duration::from_secs(10));
//! # Ok(())
//! # }
//! ```
//!
//! # Order
//!
//! ```text
//! deadline > retry > failover > circuit breaker > attempt timeout > propagate deadline > sign > transport
//! ```
//!
//! If [`DeadlineLayer`] is inside a retry, it limits each attempt, and nothing limits the whole call.
//! If [`AttemptTimeoutLayer`] is outside the breaker, the breaker never sees a peer hang: it sees a
//! dropped call, which does not count as a failure of the peer, and never opens.
//!
//! If both limits end at the same instant, the inner one reports it: an attempt that the deadline ends
//! fails with [`AttemptTimeout`], which the breaker and the history see, and not with
//! [`DeadlineExceeded`].
//!
//! # Settings
//!
//! | Setting | Default | Meaning |
//! | --- | --- | --- |
//! | [`DeadlineLayer::new`] | to be set | time limit of each call |
//! | [`DeadlineLayer::from_fn`] | | time limit by the request; `None`: no limit |
//! | [`DeadlineLayer::from_header`] | | milliseconds in a header of the request, and the longest time |
//! | [`DeadlineLayer::from_grpc_timeout`] | | the same from `grpc-timeout` |
//! | [`DeadlineLayer::observe`] | none except `tracing` | adds an observer of [`Event::DeadlineExceeded`](crate::observe::Event::DeadlineExceeded) |
//! | [`AttemptTimeoutLayer::new`] | to be set | time limit of every attempt |
//! | [`AttemptTimeoutLayer::by_attempt`] | | time limit by the number of the attempt, from 1 |
//! | [`AttemptTimeoutLayer::observe`] | none except `tracing` | adds an observer of [`Event::DeadlineExceeded`](crate::observe::Event::DeadlineExceeded) |
//! | [`PropagateDeadlineLayer::grpc`] | | writes `grpc-timeout` |
//! | [`PropagateDeadlineLayer::millis`] | | writes milliseconds into a header of this name |
//!
//! The deadline is ambient: every inner layer reads it from [`Deadline::current`], so that no wait begins
//! that cannot end in time. Of nested deadlines, the earliest applies.
//!
//! # Errors
//!
//! The error type becomes [`BoxError`](crate::BoxError). Errors of the inner service are boxed
//! unchanged.
//!
//! | Error | When | Outcome |
//! | --- | --- | --- |
//! | [`AttemptTimeout`] | an attempt took too long | transient |
//! | [`DeadlineExceeded`] | the call took too long | transient |
//! | [`DeadlineExceeded`] | no time was left to begin the call | refused: nothing was sent |
//!
//! A server that limits its handlers must turn these errors into responses, in axum with
//! `HandleErrorLayer` outside.
//!
//! # Cancel safety
//!
//! Dropping a response future drops the inner call and its timer. When a limit passes, the inner call is
//! dropped at once, even if the response future is kept.
//!
//! # Cost
//!
//! No allocation. The clock is read once for each call; a timer starts only if the inner call is not
//! ready at its first poll. Waiting in `poll_ready` is not limited, because the call has not begun.
//!
//! # Panics
//!
//! A call that is not ready at the first poll starts a timer, which needs a tokio runtime with time
//! enabled.

mod attempt_timeout;
mod future;
mod header;
mod propagate;
mod total;

pub use self::{
    attempt_timeout::{AttemptTimeout, AttemptTimeoutLayer, WithAttemptTimeout},
    future::ResponseFuture,
    propagate::{PropagateDeadline, PropagateDeadlineLayer},
    total::{DeadlineLayer, WithDeadline},
};

use crate::{InvalidConfig, context::CallContext, outcome::LocallyRefused};
use std::{error::Error, fmt, time::Duration};
use tokio::time::Instant;

/// The time by which the whole of the current call must have ended.
///
/// Set by [`DeadlineLayer`] around everything inside it, and read by every inner layer that waits. It is a part of
/// the [context](crate::context) of the call; a spawned task gets it by
/// [`CallContext::carry`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tokio::time::Instant;
/// use tower_webhook::deadline::Deadline;
///
/// assert_eq!(Deadline::current(), None);
///
/// let outer = Deadline::at(Instant::now() + Duration::from_secs(5));
/// outer.scope(|| {
///     assert_eq!(Deadline::current(), Some(outer));
///     // An inner one cannot be later.
///     let inner = Deadline::at(Instant::now() + Duration::from_secs(60));
///     inner.scope(|| assert_eq!(Deadline::current(), Some(outer)));
/// });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    at: Instant,
}

impl Deadline {
    /// Makes a deadline at this time, by the clock of [`tokio::time`].
    pub const fn at(at: Instant) -> Self {
        Self { at }
    }

    /// The deadline of the current call, if it has one.
    pub fn current() -> Option<Self> {
        CallContext::current().deadline()
    }

    /// The time of the deadline.
    pub const fn instant(self) -> Instant {
        self.at
    }

    /// The time left at `now`; zero when the deadline has passed.
    pub fn left(self, now: Instant) -> Duration {
        self.at.saturating_duration_since(now)
    }

    /// Runs `work` under this deadline, or under the current one if that is earlier.
    pub fn scope<T>(self, work: impl FnOnce() -> T) -> T {
        let context = CallContext::current().with_deadline(self);
        context.enter(work)
    }
}

/// The time of a whole call has ended.
///
/// If the call had begun, its [outcome](crate::outcome) is
/// [`Transient`](crate::outcome::OutcomeKind::Transient): the peer may have processed the request. If no
/// time was left to begin it, the outcome is [`Refused`](crate::outcome::OutcomeKind::Refused): nothing
/// was sent, so it does not count for or against the peer.
///
/// # Examples
///
/// ```
/// use tower_webhook::deadline::DeadlineExceeded;
/// use tower_webhook::outcome::{Outcome, OutcomeKind};
///
/// let error = DeadlineExceeded::before_sending();
/// assert_eq!(Outcome::of_error(&error).kind(), OutcomeKind::Refused);
/// assert_eq!(error.to_string(), "not sent: its deadline had passed, or left too little time");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeadlineExceeded {
    /// `None`: nothing was sent.
    allowed: Option<Duration>,
}

impl DeadlineExceeded {
    /// The call was ended after this time.
    const fn after(allowed: Duration) -> Self {
        Self {
            allowed: Some(allowed),
        }
    }

    /// No time was left to begin the call, so nothing was sent.
    pub const fn before_sending() -> Self {
        Self { allowed: None }
    }

    /// The time limit of the call; `None` if no time was left and nothing was sent.
    pub const fn allowed(&self) -> Option<Duration> {
        self.allowed
    }

    /// Whether the call had begun, so that the peer may have processed the request.
    pub const fn was_sent(&self) -> bool {
        self.allowed.is_some()
    }
}

impl fmt::Display for DeadlineExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.allowed {
            Some(allowed) => write!(f, "no response within its deadline of {allowed:?}"),
            None => f.write_str("not sent: its deadline had passed, or left too little time"),
        }
    }
}

impl Error for DeadlineExceeded {
    /// [`LocallyRefused`] if nothing was sent, so that a [classifier](crate::outcome) knows it.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        static NOT_SENT: LocallyRefused = LocallyRefused::after(Duration::ZERO);
        match self.allowed {
            Some(_) => None,
            None => Some(&NOT_SENT),
        }
    }
}

fn not_zero(setting: &'static str, time: Duration) -> Result<(), InvalidConfig> {
    if time.is_zero() {
        return Err(InvalidConfig::new(setting, "must be longer than zero"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic;

    #[test]
    fn the_former_deadline_is_back_after_a_panic() {
        let now = Instant::now();
        let (near, far) = (
            Deadline::at(now),
            Deadline::at(now + Duration::from_secs(9)),
        );
        far.scope(|| {
            let _ = panic::catch_unwind(|| near.scope(|| panic!("on purpose")));
            assert_eq!(Deadline::current(), Some(far));
        });
        assert_eq!(Deadline::current(), None);
        assert_eq!(near.left(now + Duration::from_secs(1)), Duration::ZERO);
    }
}
