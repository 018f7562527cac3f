use super::{AllowTime, DeadlineFuture, Fixed};
use crate::{
    BoxError,
    deadline::{Deadline, bounded::earlier},
};
use std::task::{Context, Poll};
use tokio::time::Instant;
use tower_service::Service;

/// Middleware of [`DeadlineLayer`](super::DeadlineLayer). See the [module docs](crate::deadline).
#[derive(Clone, Copy, Debug)]
pub struct WithDeadline<S, A = Fixed> {
    pub(super) inner: S,
    pub(super) allow: A,
}

impl<S, A, Req> Service<Req> for WithDeadline<S, A>
where
    S: Service<Req>,
    S::Error: Into<BoxError>,
    A: AllowTime<Req>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = DeadlineFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, req: Req) -> Self::Future {
        let allowed = self.allow.allowed(&req);
        let outer = Deadline::current().map(Deadline::instant);
        if allowed.is_none() && outer.is_none() {
            return DeadlineFuture::unbounded(|| self.inner.call(req));
        }
        let now = Instant::now();
        let own = allowed.and_then(|allowed| now.checked_add(allowed));
        match earlier(own, outer) {
            Some(due) if due <= now => DeadlineFuture::too_late(),
            Some(due) => DeadlineFuture::until(due, now, || self.inner.call(req)),
            None => DeadlineFuture::unbounded(|| self.inner.call(req)),
        }
    }
}
