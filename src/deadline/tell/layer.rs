use super::PropagateDeadline;
use crate::deadline::wire::Wire;
use http::HeaderName;
use tower_layer::Layer;

/// Tells the peer how much time is left, so that it stops working on what nobody waits for.
///
/// Stands inside the retry, so that each attempt says what is left then, and inside
/// [`AttemptTimeoutLayer`](crate::deadline::AttemptTimeoutLayer), so that the peer hears of the
/// attempt's own end; outside the layer that signs, where the header is signed.
///
/// Without a [`Deadline`](crate::deadline::Deadline) the request stays as it is. A shorter time
/// that the request says already stays too. Where nothing is left (less than the header's unit),
/// the request is not sent: [`DeadlineExceeded`](crate::deadline::DeadlineExceeded).
#[derive(Clone, Debug)]
#[must_use]
pub struct PropagateDeadlineLayer {
    wire: Wire,
}

impl PropagateDeadlineLayer {
    /// As `grpc-timeout`, in gRPC's format ([`GrpcTimeout`](crate::deadline::GrpcTimeout)).
    pub const fn grpc() -> Self {
        Self {
            wire: Wire::GrpcTimeout,
        }
    }

    /// In whole milliseconds, rounded down, as the header `name`.
    pub const fn millis(name: HeaderName) -> Self {
        Self {
            wire: Wire::Millis(name),
        }
    }
}

impl<S> Layer<S> for PropagateDeadlineLayer {
    type Service = PropagateDeadline<S>;

    fn layer(&self, inner: S) -> PropagateDeadline<S> {
        PropagateDeadline {
            inner,
            wire: self.wire.clone(),
        }
    }
}
