use super::{
    Deadline, DeadlineExceeded, ResponseFuture,
    future::{Limit, earlier, under},
    header::Format,
    not_zero,
};
use crate::{
    BoxError, IntoBoxError, InvalidConfig, context,
    observe::{Observer, Observers},
};
use http::{HeaderName, Request};
use std::{
    fmt,
    task::{Context, Poll},
    time::Duration,
};
use tower_layer::Layer;
use tower_service::Service;

/// Limits the time of a whole call: attempts, waits between them and failover together.
///
/// See the [module docs](super).
#[derive(Clone, Debug)]
#[must_use]
pub struct DeadlineLayer<A = Duration> {
    allow: A,
    observers: Observers,
}

impl DeadlineLayer {
    /// Sets the same limit for every call. [`Duration::MAX`], or a time beyond the end of the clock, means
    /// no limit.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] if it is zero.
    pub fn new(deadline: Duration) -> Result<Self, InvalidConfig> {
        not_zero("deadline", deadline)?;
        Ok(Self::allowing(deadline))
    }
}

impl DeadlineLayer {
    /// Sets the limit of each call as a function of its request. `None` means no limit. Zero means that no
    /// time is left, and the request is not sent.
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
    pub const fn from_fn<F, Req>(
        allowed: F,
    ) -> DeadlineLayer<impl AllowTime<Req> + Clone + fmt::Debug>
    where
        F: Fn(&Req) -> Option<Duration> + Clone,
    {
        DeadlineLayer::allowing(AllowFn(allowed))
    }
}

impl DeadlineLayer<FromHeader> {
    /// Sets the limit of each call from the header `name`, in whole milliseconds, to at most `max`. This is
    /// the receiving side of [`PropagateDeadlineLayer::millis`](super::PropagateDeadlineLayer::millis).
    ///
    /// A header that is missing, malformed or repeated counts as `max`. Only digits are accepted.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] if `max` is zero.
    pub fn from_header(name: HeaderName, max: Duration) -> Result<Self, InvalidConfig> {
        Self::reading(Format::Millis(name), max)
    }

    /// Sets the limit of each call from its `grpc-timeout` header, to at most `max`. This is the receiving
    /// side of [`PropagateDeadlineLayer::grpc`](super::PropagateDeadlineLayer::grpc).
    ///
    /// A header that is missing, malformed or repeated counts as `max`.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] if `max` is zero.
    pub fn from_grpc_timeout(max: Duration) -> Result<Self, InvalidConfig> {
        Self::reading(Format::Grpc, max)
    }

    fn reading(format: Format, max: Duration) -> Result<Self, InvalidConfig> {
        not_zero("max", max)?;
        Ok(Self::allowing(FromHeader { format, max }))
    }
}

impl<A> DeadlineLayer<A> {
    const fn allowing(allow: A) -> Self {
        Self {
            allow,
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

impl<S, A: Clone> Layer<S> for DeadlineLayer<A> {
    type Service = WithDeadline<S, A>;

    fn layer(&self, inner: S) -> WithDeadline<S, A> {
        WithDeadline {
            inner,
            layer: self.clone(),
        }
    }
}

/// Middleware of [`DeadlineLayer`]. See the [module docs](super).
#[derive(Clone, Debug)]
pub struct WithDeadline<S, A = Duration> {
    inner: S,
    layer: DeadlineLayer<A>,
}

impl<S, A, Req> Service<Req> for WithDeadline<S, A>
where
    S: Service<Req>,
    S::Error: IntoBoxError,
    A: AllowTime<Req>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, req: Req) -> Self::Future {
        let DeadlineLayer { allow, observers } = &self.layer;
        let allowed = allow.allowed(&req);
        let outer = Deadline::current().map(Deadline::instant);
        if allowed.is_none() && outer.is_none() {
            let error = Limit::Call(DeadlineExceeded::after(Duration::MAX));
            return ResponseFuture::called(self.inner.call(req), None, error, observers);
        }
        let now = context::now();
        let own = allowed.and_then(|allowed| now.checked_add(allowed));
        let due = earlier(own, outer);
        let left = due.map_or(Duration::MAX, |due| due.saturating_duration_since(now));
        if left.is_zero() {
            return ResponseFuture::too_late(observers);
        }
        let _entered = under(due);
        let error = Limit::Call(DeadlineExceeded::after(left));
        ResponseFuture::called(self.inner.call(req), due, error, observers)
    }
}

/// Returns the time limit of a whole call.
#[diagnostic::on_unimplemented(
    message = "`{Self}` allows no time to requests of type `{Req}`",
    note = "a deadline from a header needs `http::Request<_>`; use `DeadlineLayer::from_fn(|req: &{Req}| ...)` for other requests"
)]
pub trait AllowTime<Req> {
    /// `None`: no limit of its own. Zero: no time is left, and the request is not sent.
    fn allowed(&self, req: &Req) -> Option<Duration>;
}

impl<Req> AllowTime<Req> for Duration {
    fn allowed(&self, _: &Req) -> Option<Duration> {
        Some(*self)
    }
}

/// A time limit that a function computes from the request.
#[derive(Clone, Copy)]
struct AllowFn<F>(F);

impl<F, Req> AllowTime<Req> for AllowFn<F>
where
    F: Fn(&Req) -> Option<Duration>,
{
    fn allowed(&self, req: &Req) -> Option<Duration> {
        (self.0)(req)
    }
}

impl<F> fmt::Debug for AllowFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AllowFn").finish_non_exhaustive()
    }
}

/// The time limit in a header of the request, at most `max`.
#[derive(Clone, Debug)]
pub struct FromHeader {
    format: Format,
    max: Duration,
}

impl<B> AllowTime<Request<B>> for FromHeader {
    fn allowed(&self, req: &Request<B>) -> Option<Duration> {
        let said = self.format.read(req.headers());
        Some(said.map_or(self.max, |said| said.min(self.max)))
    }
}
