use super::{Deadline, DeadlineExceeded, header::Format};
use crate::{BoxError, IntoBoxError, call::CallOrError};
use http::{HeaderMap, HeaderName, Request};
use std::task::{Context, Poll};
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

/// Writes the time left into a header of the request, so that the peer can stop work on a request that
/// no caller waits for.
///
/// It belongs inside the retry, so that each attempt carries the time left at its start; inside
/// [`AttemptTimeoutLayer`](super::AttemptTimeoutLayer), so that the header covers the end of the
/// attempt; and outside the layer that signs, if the header is signed.
///
/// The request is not changed if there is no [`Deadline`], or if its header already holds a shorter time.
/// If less time is left than one unit of the header, the request is not sent and the call fails with
/// [`DeadlineExceeded`].
#[derive(Clone, Debug)]
#[must_use]
pub struct PropagateDeadlineLayer {
    format: Format,
}

impl PropagateDeadlineLayer {
    /// Writes `grpc-timeout`, in the format of [gRPC over
    /// HTTP/2](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#requests): at most 8
    /// digits and a unit, rounded down.
    pub const fn grpc() -> Self {
        Self {
            format: Format::Grpc,
        }
    }

    /// Writes whole milliseconds, rounded down, into the header `name`.
    pub const fn millis(name: HeaderName) -> Self {
        Self {
            format: Format::Millis(name),
        }
    }
}

impl<S> Layer<S> for PropagateDeadlineLayer {
    type Service = PropagateDeadline<S>;

    fn layer(&self, inner: S) -> PropagateDeadline<S> {
        PropagateDeadline {
            inner,
            format: self.format.clone(),
        }
    }
}

/// Middleware of [`PropagateDeadlineLayer`].
#[derive(Clone, Debug)]
pub struct PropagateDeadline<S> {
    inner: S,
    format: Format,
}

impl<S, B> Service<Request<B>> for PropagateDeadline<S>
where
    S: Service<Request<B>>,
    S::Error: IntoBoxError,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = CallOrError<S::Future, DeadlineExceeded>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut req: Request<B>) -> Self::Future {
        match self.write(req.headers_mut()) {
            Ok(()) => CallOrError::called(self.inner.call(req)),
            Err(error) => CallOrError::failed(error),
        }
    }
}

impl<S> PropagateDeadline<S> {
    fn write(&self, headers: &mut HeaderMap) -> Result<(), DeadlineExceeded> {
        let Some(deadline) = Deadline::current() else {
            return Ok(());
        };
        let left = deadline.left(Instant::now());
        let Some(value) = self.format.write(left) else {
            return Err(DeadlineExceeded::before_sending());
        };
        if self.format.read(headers).is_none_or(|said| said > left) {
            headers.insert(self.format.name().clone(), value);
        }
        Ok(())
    }
}
