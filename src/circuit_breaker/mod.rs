//! Stops calling a peer that fails, until it has had time to recover.
//!
//! A peer that is down or overloaded does not recover by being called more. The
//! [`CircuitBreakerLayer`] keeps a breaker for each host (or another [peer](crate::peer)) and watches
//! the outcomes of calls:
//!
//! | State | Calls | Ends when |
//! | --- | --- | --- |
//! | closed | pass | too many fail, in a row or as a share of the last ones, or too many are slow |
//! | open | are refused at once, with [`CircuitOpen`] | the open time has passed and a call arrives |
//! | half-open | a few pass as probes, others are refused | a probe fails: open again, for longer; enough succeed: closed |
//!
//! A call fails if its [`Outcome`](crate::outcome::Outcome) counts against the peer. A 400 does not, and
//! an error that arose on this side (a signing error, another breaker) counts neither way. A throttled
//! call (429) counts in the failure rate and fails a probe; it neither counts as a failure in a row nor
//! ends the row. A `Retry-After` on the answer that opens the breaker lengthens the open time, up to
//! [`max_open_for`](BreakerConfigBuilder::max_open_for).
//!
//! # Order
//!
//! ```text
//! (metrics) > retry > circuit breaker > attempt timeout > sign > transport
//! ```
//!
//! Outside: retry, so that the breaker admits and judges every attempt. A retry inside would hide
//! failures from the breaker, and would continue calls while it is open. Inside: the attempt timeout,
//! because a call that never ends never fails, and a timeout outside looks like a caller that cancelled.
//!
//! Clones of one layer share their breakers. Separate layers do not, unless they are made with
//! [`CircuitBreakerLayer::sharing`].
//!
//! # Guarantees
//!
//! - `poll_ready` does not fail because a breaker is open.
//! - A call passes or is refused; it never waits.
//! - A late result changes nothing. Every call carries the generation in which it was admitted, and a
//!   result of an earlier generation is [stale](Totals::stale).
//! - A probe that hangs does not keep the breaker half-open: it has a
//!   [lease](BreakerConfigBuilder::probe_lease).
//! - No observer is called under a lock, no task is spawned, no timer is started, no runtime is
//!   needed.
//!
//! # Cancel safety
//!
//! A response future that is dropped counts as cancelled, neither success nor failure. If it was a
//! probe, another probe can replace it and the breaker stays half-open. The same holds for a call that
//! panics.
//!
//! # Examples
//!
//! ```
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_webhook::{
//!     BoxError, CircuitBreakerLayer,
//!     circuit_breaker::{BreakerConfig, BreakerState, CircuitOpen},
//! };
//!
//! # tokio_test::block_on(async {
//! // Three failures in a row open it, for 5 seconds at first.
//! let config = BreakerConfig::builder().consecutive_failures(3).build()?;
//! let layer = CircuitBreakerLayer::new(config);
//! let breakers = layer.breakers().clone();
//! let client = ServiceBuilder::new().layer(layer).service(service_fn(|_: Request<()>| async {
//!     Ok::<_, BoxError>(Response::builder().status(500).body(())?)
//! }));
//!
//! let delivery = || Request::post("https://peer.test/hooks").body(());
//! for _ in 0..3 {
//!     assert_eq!(client.clone().oneshot(delivery()?).await?.status(), 500);
//! }
//! let refused = client.oneshot(delivery()?).await.unwrap_err();
//! assert!(refused.is::<CircuitOpen>());
//! let peer = breakers.find("peer.test").unwrap().snapshot();
//! assert_eq!((peer.state, peer.totals.trips), (BreakerState::Open, 1));
//! # Ok::<_, BoxError>(())
//! # }).unwrap();
//! ```

mod breaker;
mod config;
mod gate;
mod layer;
mod model;
#[cfg(test)]
mod properties;
mod registry;
mod state;
mod window;

/// What the gate is made of. The model checker in `tests/loom` has its own module of this name.
mod sync {
    pub(super) use std::sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    };
}

pub use self::{
    breaker::{BreakerPermit, BreakerSnapshot, CircuitOpen, PeerBreaker},
    config::{BreakerConfig, BreakerConfigBuilder},
    layer::{CircuitBreaker, CircuitBreakerLayer, ResponseFuture},
    model::{BreakerMode, BreakerState, Totals},
    registry::Breakers,
};
