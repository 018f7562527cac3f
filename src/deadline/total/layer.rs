use super::{AllowFn, Fixed, FromHeader, WithDeadline};
use crate::{
    InvalidConfig,
    deadline::{not_zero, wire::Wire},
};
use http::HeaderName;
use std::time::Duration;
use tower_layer::Layer;

/// Gives the whole of a call a time by which it must have ended: attempts, waits between them and
/// failover together.
///
/// See the [module docs](crate::deadline).
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct DeadlineLayer<A = Fixed> {
    allow: A,
}

impl DeadlineLayer {
    /// Every call has this long. [`Duration::MAX`], or what reaches past the end of the clock, is
    /// no deadline.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] where it is zero.
    pub fn new(deadline: Duration) -> Result<Self, InvalidConfig> {
        not_zero("deadline", deadline)?;
        Ok(Self {
            allow: Fixed(deadline),
        })
    }
}

impl<F> DeadlineLayer<AllowFn<F>> {
    /// A time for each request: `None` for no deadline, zero where nothing is left and it is not to
    /// be sent.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_webhook::deadline::DeadlineLayer;
    ///
    /// struct Job {
    ///     budget: Option<Duration>,
    /// }
    ///
    /// let layer = DeadlineLayer::from_fn(|job: &Job| job.budget);
    /// # let _ = layer;
    /// ```
    pub const fn from_fn<Req>(allowed: F) -> Self
    where
        F: Fn(&Req) -> Option<Duration>,
    {
        Self {
            allow: AllowFn(allowed),
        }
    }
}

impl DeadlineLayer<FromHeader> {
    /// The receiving half of [`PropagateDeadlineLayer::grpc`](crate::deadline::PropagateDeadlineLayer::grpc):
    /// what the `grpc-timeout` of a request says, and never more than `max`.
    ///
    /// A header that is missing, malformed or there twice counts as `max`: whoever cannot say how
    /// long they wait gets no longer for it.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] where `max` is zero.
    pub fn from_grpc_timeout(max: Duration) -> Result<Self, InvalidConfig> {
        Self::reading(Wire::GrpcTimeout, max)
    }

    /// The receiving half of
    /// [`PropagateDeadlineLayer::millis`](crate::deadline::PropagateDeadlineLayer::millis): whole
    /// milliseconds in the header `name`, and never more than `max`.
    ///
    /// Read as strictly as [`from_grpc_timeout`](Self::from_grpc_timeout): digits alone.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] where `max` is zero.
    pub fn from_header(name: HeaderName, max: Duration) -> Result<Self, InvalidConfig> {
        Self::reading(Wire::Millis(name), max)
    }

    fn reading(wire: Wire, max: Duration) -> Result<Self, InvalidConfig> {
        not_zero("max", max)?;
        Ok(Self {
            allow: FromHeader { wire, max },
        })
    }
}

impl<S, A: Clone> Layer<S> for DeadlineLayer<A> {
    type Service = WithDeadline<S, A>;

    fn layer(&self, inner: S) -> WithDeadline<S, A> {
        WithDeadline {
            inner,
            allow: self.allow.clone(),
        }
    }
}
