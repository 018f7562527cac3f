use super::Deadline;
use pin_project::pin_project;
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{
    task::unconstrained,
    time::{Instant, Sleep, sleep_until},
};

/// A future that is given up at a time, and under a [`Deadline`] until then.
#[pin_project]
pub(super) struct Bounded<F> {
    #[pin]
    future: F,
    /// `None`: it is never given up.
    due: Option<Instant>,
    /// Set when the future makes us wait: one that is ready at once costs no timer.
    #[pin]
    timer: Option<Sleep>,
}

impl<F> Bounded<F> {
    /// Makes the future under the deadline under which it will be polled.
    pub(super) fn new(due: Option<Instant>, make: impl FnOnce() -> F) -> Self {
        Self {
            future: under(due, make),
            due,
            timer: None,
        }
    }
}

impl<F: Future> Bounded<F> {
    /// `None` when the time is up. The future is asked first: what it has to say at that very
    /// instant is heard.
    pub(super) fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let mut this = self.project();
        if let Poll::Ready(output) = under(*this.due, || this.future.poll(cx)) {
            return Poll::Ready(Some(output));
        }
        let Some(due) = *this.due else {
            return Poll::Pending;
        };
        if this.timer.is_none() {
            this.timer.set(Some(sleep_until(due)));
        }
        match this.timer.as_pin_mut() {
            // Whatever tokio's cooperative budget says: a future that uses it up at every poll
            // would never be given up.
            Some(timer) => Pin::new(&mut unconstrained(timer)).poll(cx).map(|()| None),
            None => Poll::Pending,
        }
    }
}

fn under<T>(due: Option<Instant>, work: impl FnOnce() -> T) -> T {
    match due {
        Some(due) => Deadline::at(due).scope(work),
        None => work(),
    }
}

/// The earlier of two times, where there are any.
pub(super) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
