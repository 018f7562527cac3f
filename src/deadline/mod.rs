//! Time limits: of a whole call, of each attempt, and on their way to the peer.
//!
//! | Layer | What it limits | Where it stands |
//! | --- | --- | --- |
//! | [`DeadlineLayer`] | the whole call, with its attempts and waits | outside retry and failover |
//! | [`AttemptTimeoutLayer`] | one attempt | inside the circuit breaker |
//! | [`PropagateDeadlineLayer`] | nothing: it tells the peer what is left | inside the attempt timeout |
//!
//! The deadline is ambient: [`Deadline::current`] says it to everything inside, so that no wait is
//! begun that cannot end in time. Where deadlines are nested, the earliest holds.
//!
//! # Order
//!
//! ```text
//! deadline > retry > failover > circuit breaker > attempt timeout > tell deadline > sign > transport
//! ```
//!
//! [`DeadlineLayer`] inside a retry is a deadline for each attempt, and nothing ends the whole.
//! [`AttemptTimeoutLayer`] outside the breaker hides every hang from it: the breaker sees a call
//! that was dropped, which says nothing about the peer, and never opens.
//!
//! At the same instant the innermost speaks: an attempt that is cut short by the deadline ends with
//! [`AttemptTimeout`], which the breaker and the history see, and not with [`DeadlineExceeded`].
//!
//! # Errors
//!
//! The error type becomes [`BoxError`](crate::BoxError), with what is inside unchanged in it.
//!
//! | Error | When | Outcome |
//! | --- | --- | --- |
//! | [`AttemptTimeout`] | an attempt took too long | transient |
//! | [`DeadlineExceeded`] | the call took too long | transient |
//! | [`DeadlineExceeded`] | nothing was left when it would have begun | refused: it was not sent |
//!
//! A server that limits its handlers has to make a response of them, in axum with
//! `HandleErrorLayer` outside.
//!
//! # Cost
//!
//! No allocation. One reading of the clock for each call; a timer only where what is inside is not
//! ready at its first poll. What waits for readiness is outside all limits: the call has not begun.
//!
//! # Cancel safety
//!
//! Dropping a response future drops the call inside and its timer, and nothing else is held. When a
//! limit passes, the call inside is dropped at once, also where the response future is kept.
//!
//! # Panics
//!
//! A call that is not ready at the first poll starts a timer, which needs a tokio runtime with time
//! enabled.
//!
//! # Examples
//!
//! ```
//! use http::{Request, Response};
//! use std::{convert::Infallible, time::Duration};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_webhook::deadline::*;
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

mod attempt_timeout;
mod bounded;
mod current;
mod error;
mod grpc_timeout;
mod tell;
mod total;
mod wire;

pub use self::{
    attempt_timeout::{
        AttemptTimeout, AttemptTimeoutFuture, AttemptTimeoutLayer, WithAttemptTimeout,
    },
    current::Deadline,
    error::DeadlineExceeded,
    grpc_timeout::{GrpcTimeout, GrpcTimeoutError},
    tell::{PropagateDeadline, PropagateDeadlineFuture, PropagateDeadlineLayer},
    total::{AllowFn, AllowTime, DeadlineFuture, DeadlineLayer, Fixed, FromHeader, WithDeadline},
};

use crate::InvalidConfig;
use std::time::Duration;

fn not_zero(setting: &'static str, time: Duration) -> Result<(), InvalidConfig> {
    if time.is_zero() {
        return Err(InvalidConfig::new(setting, "must be longer than zero"));
    }
    Ok(())
}
