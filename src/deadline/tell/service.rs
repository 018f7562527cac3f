use super::PropagateDeadlineFuture;
use crate::{
    BoxError,
    deadline::{Deadline, DeadlineExceeded, wire::Wire},
};
use http::{HeaderMap, Request};
use std::task::{Context, Poll};
use tokio::time::Instant;
use tower_service::Service;

/// Middleware of [`PropagateDeadlineLayer`](super::PropagateDeadlineLayer).
#[derive(Clone, Debug)]
pub struct PropagateDeadline<S> {
    pub(super) inner: S,
    pub(super) wire: Wire,
}

impl<S, B> Service<Request<B>> for PropagateDeadline<S>
where
    S: Service<Request<B>>,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = PropagateDeadlineFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut req: Request<B>) -> Self::Future {
        match self.tell(req.headers_mut()) {
            Ok(()) => PropagateDeadlineFuture::called(self.inner.call(req)),
            Err(error) => PropagateDeadlineFuture::failed(error),
        }
    }
}

impl<S> PropagateDeadline<S> {
    fn tell(&self, headers: &mut HeaderMap) -> Result<(), DeadlineExceeded> {
        let Some(deadline) = Deadline::current() else {
            return Ok(());
        };
        let left = deadline.left(Instant::now());
        let Some(value) = self.wire.write(left) else {
            return Err(DeadlineExceeded::before_sending());
        };
        if self.wire.read(headers).is_none_or(|said| said > left) {
            headers.insert(self.wire.name().clone(), value);
        }
        Ok(())
    }
}
