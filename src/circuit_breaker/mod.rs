//! Stops calling a peer that fails, until it has had time to recover.
//!
//! The [`CircuitBreakerLayer`] keeps a breaker for each host (or another [peer](crate::peer)), which watches the
//! outcomes of calls. While it is open, calls are refused at once, with [`CircuitOpen`].
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
//! # Settings
//!
//! Of the layer:
//!
//! | Setting | Default | Meaning |
//! | --- | --- | --- |
//! | [`classifier`](CircuitBreakerLayer::classifier) | [`HttpClassifier`](crate::outcome::HttpClassifier) | decides the outcome of each call |
//! | [`peer`](CircuitBreakerLayer::peer) | [`ByHost`](crate::peer::ByHost) | groups calls; each peer has a breaker |
//! | [`observe`](CircuitBreakerLayer::observe) | none except `tracing` | adds an observer of [`Event::BreakerChanged`](crate::observe::Event::BreakerChanged) |
//!
//! Of its [`BreakerConfig`]:
//!
//! | Setting | Default | Meaning |
//! | --- | --- | --- |
//! | [`consecutive_failures`](BreakerConfigBuilder::consecutive_failures) | 5 | failures in a row that open it; [off](BreakerConfigBuilder::without_consecutive_failures) |
//! | [`failure_rate`](BreakerConfigBuilder::failure_rate) | 0.5 | share of failed calls in the window that opens it; [off](BreakerConfigBuilder::without_failure_rate) |
//! | [`slow_call`](BreakerConfigBuilder::slow_call) | none | time after which a call counts as slow |
//! | [`slow_call_rate`](BreakerConfigBuilder::slow_call_rate) | 1 | share of slow calls in the window that opens it |
//! | [`window_calls`](BreakerConfigBuilder::window_calls) | 100 | last calls that the rates are of |
//! | [`window_time`](BreakerConfigBuilder::window_time) | a number of calls | time that the rates are of, in its place |
//! | [`window_buckets`](BreakerConfigBuilder::window_buckets) | 10 | parts of a window of time |
//! | [`min_calls`](BreakerConfigBuilder::min_calls) | 20 | calls in the window before rates are checked |
//! | [`open_for`](BreakerConfigBuilder::open_for) | 5 s | open time at first |
//! | [`max_open_for`](BreakerConfigBuilder::max_open_for) | 60 s | longest open time |
//! | [`open_growth`](BreakerConfigBuilder::open_growth) | 2 | factor of the open time for each failed round of probes |
//! | [`open_jitter`](BreakerConfigBuilder::open_jitter) | 0.2 | share by which the open time is shortened at random |
//! | [`probes`](BreakerConfigBuilder::probes) | 1 | calls at a time through a half-open breaker |
//! | [`probe_successes`](BreakerConfigBuilder::probe_successes) | 1 | probes that must succeed to close it |
//! | [`probe_lease`](BreakerConfigBuilder::probe_lease) | 30 s | time after which another probe may replace one |
//! | [`max_peers`](BreakerConfigBuilder::max_peers) | 10,000 | peers that have a breaker |
//! | [`forget_after`](BreakerConfigBuilder::forget_after) | 1 h | time after its last failure at which a peer may leave a full map |
//!
//! # Errors
//!
//! The error type becomes [`BoxError`](crate::BoxError). Errors of the inner service are boxed unchanged.
//!
//! | Error | When | Outcome |
//! | --- | --- | --- |
//! | [`CircuitOpen`], which says [when to come back](CircuitOpen::retry_after) | the breaker is open, or half-open with all its probes running | refused: nothing was sent |
//!
//! # Cancel safety
//!
//! A response future that is dropped counts as cancelled, neither success nor failure. If it was a
//! probe, another probe can replace it and the breaker stays half-open. The same holds for a call that
//! panics.
//!
//! # States
//!
//! | State | Calls | Ends when |
//! | --- | --- | --- |
//! | closed | pass | too many fail, in a row or as a share of the last ones, or too many are slow |
//! | open | are refused at once | the open time has passed and a call arrives |
//! | half-open | a few pass as probes, others are refused | a probe fails: open again, for longer; enough succeed: closed |
//!
//! A call fails if its [`Outcome`](crate::outcome::Outcome) counts against the peer. A 400 does not, and
//! an error that arose on this side (a signing error, another breaker) counts neither way. A throttled
//! call (429) counts in the failure rate and fails a probe; it neither counts as a failure in a row nor
//! ends the row. A `Retry-After` on the answer that opens the breaker lengthens the open time, up to
//! [`max_open_for`](BreakerConfigBuilder::max_open_for).
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
