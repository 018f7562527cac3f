use super::{AttemptTimeout, AttemptTimeoutFuture, layer::Time};
use crate::{
    BoxError,
    attempt::Attempt,
    deadline::{Deadline, bounded::earlier},
};
use std::{
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;
use tower_service::Service;

/// Middleware of [`AttemptTimeoutLayer`](super::AttemptTimeoutLayer). See the
/// [module docs](crate::deadline).
#[derive(Clone, Debug)]
pub struct WithAttemptTimeout<S> {
    pub(super) inner: S,
    pub(super) time: Time,
}

impl<S, Req> Service<Req> for WithAttemptTimeout<S>
where
    S: Service<Req>,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = AttemptTimeoutFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, req: Req) -> Self::Future {
        let attempt = Attempt::current().map_or(1, Attempt::number);
        let time = match &self.time {
            Time::Fixed(time) => *time,
            Time::ByAttempt(time) => time(attempt),
        };
        let deadline = Deadline::current().map(Deadline::instant);
        let now = Instant::now();
        if deadline.is_some_and(|deadline| deadline <= now) {
            return AttemptTimeoutFuture::too_late();
        }
        let own = now.checked_add(time);
        let due = earlier(own, deadline);
        let error = AttemptTimeout {
            after: due.map_or(Duration::MAX, |due| due.saturating_duration_since(now)),
            attempt,
            by_deadline: due != own,
        };
        AttemptTimeoutFuture::called(due, error, || self.inner.call(req))
    }
}
