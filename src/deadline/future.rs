use super::{AttemptTimeout, Deadline, DeadlineExceeded};
use crate::{
    BoxError,
    context::{self, CallContext, Entered},
    observe::{Event, Observers},
};
use pin_project::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    task::unconstrained,
    time::{Instant, Sleep, sleep_until},
};

/// Response future of [`WithDeadline`](super::WithDeadline) and
/// [`WithAttemptTimeout`](super::WithAttemptTimeout).
#[must_use = "futures do nothing unless polled"]
#[pin_project]
pub struct ResponseFuture<F> {
    /// `None`: it was not called, or its time has ended.
    #[pin]
    call: Option<F>,
    /// `None`: no limit.
    due: Option<Instant>,
    /// Started at the first poll that is pending: a call that is ready at once costs no timer.
    #[pin]
    timer: Option<Sleep>,
    /// The error when the time has ended.
    error: Limit,
    observers: Observers,
}

/// The error of the limit that was exceeded.
#[derive(Clone, Copy)]
pub(super) enum Limit {
    Attempt(AttemptTimeout),
    Call(DeadlineExceeded),
}

impl<F> ResponseFuture<F> {
    /// The call has the limit `due`, which is also the [`Deadline`] of the inner service.
    pub(super) fn called(
        call: F,
        due: Option<Instant>,
        error: Limit,
        observers: &Observers,
    ) -> Self {
        Self {
            call: Some(call),
            due,
            timer: None,
            error,
            observers: observers.clone(),
        }
    }

    /// No time was left: the inner service is not called.
    pub(super) fn too_late(observers: &Observers) -> Self {
        Self {
            call: None,
            due: None,
            timer: None,
            error: Limit::Call(DeadlineExceeded::before_sending()),
            observers: observers.clone(),
        }
    }
}

impl<F, T, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(call) = this.call.as_mut().as_pin_mut() {
            // Before the timer: an answer at the exact instant of the limit counts.
            let entered = under(*this.due);
            if let Poll::Ready(result) = call.poll(cx) {
                return Poll::Ready(result.map_err(Into::into));
            }
            drop(entered);
            let Some(due) = *this.due else {
                return Poll::Pending;
            };
            if this.timer.is_none() {
                this.timer.set(Some(sleep_until(due)));
            }
            if let Some(timer) = this.timer.as_pin_mut() {
                // Outside tokio's cooperative budget: a call that uses it up at every poll would
                // never time out.
                ready!(Pin::new(&mut unconstrained(timer)).poll(cx));
            }
            // Dropped now, even if this future is kept, so that its resources are released.
            this.call.set(None);
        }
        this.observers.tell(|| this.error.event());
        // What the inner service may have said is about another result.
        context::withdraw();
        Poll::Ready(Err(match *this.error {
            Limit::Attempt(error) => error.into(),
            Limit::Call(error) => error.into(),
        }))
    }
}

impl Limit {
    fn event(self) -> Event<'static> {
        let (what, limit) = match self {
            Self::Attempt(error) => ("attempt", error.after()),
            Self::Call(error) => ("call", error.allowed().unwrap_or(Duration::ZERO)),
        };
        Event::DeadlineExceeded { what, limit }
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// Enters the context of a call with this limit.
#[inline]
pub(super) fn under(due: Option<Instant>) -> Option<Entered> {
    let due = Deadline::at(due?);
    Some(CallContext::current().with_deadline(due).entered())
}

/// The earlier of two optional times.
pub(super) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
