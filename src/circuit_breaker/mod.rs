//! Stop calling a peer that fails, until it has had time to recover.
//!
//! A peer that is down or overloaded does not get better by being called more. The
//! [`CircuitBreakerLayer`] keeps a breaker for every host (or another [key](crate::peer)) and
//! watches how calls end:
//!
//! | State | Calls | Until |
//! | --- | --- | --- |
//! | closed | pass | too many fail, in a row or as a part of the last ones, or too many are slow |
//! | open | are refused at once, with [`CircuitOpen`] | the open time is over and a call comes |
//! | half-open | a few pass as probes, the rest is refused | a probe fails: open again, for longer; enough succeed: closed |
//!
//! What counts as a failure is said by the [`Outcome`](crate::outcome::Outcome): whatever is
//! evidence against the peer. A 400 is none, and an error that came from nearer by (a signing
//! error, another breaker) is no evidence at all. A call that the peer limits (429) counts in the rate and
//! fails a probe; in the row of consecutive failures it neither counts nor ends the row. A
//! `Retry-After` on the answer that opens the breaker lengthens the open time, up to its
//! [cap](BreakerConfigBuilder::max_open_for).
//!
//! # Order
//!
//! ```text
//! (metrics) > retry > circuit breaker > attempt timeout > sign > transport
//! ```
//!
//! Outside: retry, so that every attempt is judged, and asked for. A retry inside would hide from
//! the breaker how often the peer fails, and go on calling what is open. Inside: the timeout of one
//! attempt, because a call that never ends never fails, and a timeout outside looks like a caller
//! who went away.
//!
//! Share state on purpose: build one layer and clone it. Two that were built apart do not know of
//! each other, unless they are built with [`CircuitBreakerLayer::sharing`].
//!
//! # What it never does
//!
//! - It does not fail in `poll_ready`: what is open now is not gone for good.
//! - It does not wait. A call passes or is refused.
//! - It does not count what came too late. Every call carries the generation in which it was
//!   admitted, and a result from an earlier one is [stale](Totals::stale).
//! - It does not stay half-open over a probe that hangs: a probe has a
//!   [lease](BreakerConfigBuilder::probe_lease).
//! - It does not run listeners under a lock, spawn tasks, or start timers. No runtime is needed.
//!
//! # Cancel safety
//!
//! A response future that is dropped settles as cancelled, which is neither success nor failure; a
//! probe gives its place back, and the breaker stays half-open. So does a call that panics.
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
mod call;
mod check;
mod config;
mod error;
mod future;
mod gate;
mod handle;
mod layer;
mod listeners;
mod model;
mod probes;
#[cfg(test)]
mod properties;
mod registry;
mod rules;
mod service;
mod snapshot;
mod state;
mod sync;
mod window;

pub use self::{
    breaker::Permit,
    config::{BreakerConfig, BreakerConfigBuilder},
    error::CircuitOpen,
    future::ResponseFuture,
    handle::{Breakers, PeerBreaker},
    layer::CircuitBreakerLayer,
    model::{BreakerMode, BreakerState, Totals, TransitionReason},
    service::CircuitBreaker,
    snapshot::{BreakerSnapshot, Transition},
};
