//! Retries failed calls, if that is safe, allowed by the settings and likely to help.
//!
//! [`RetryWithJitterLayer`] makes another attempt only if every row of this table allows it; the
//! last column is the reason that it reports otherwise:
//!
//! | Decided by | Setting | Default | Gives up as |
//! | --- | --- | --- | --- |
//! | the classifier | [`classifier`](RetryWithJitterLayer::classifier) | [`HttpClassifier`](crate::outcome::HttpClassifier): idempotent methods, requests with an idempotency key, and requests that never arrived | [`GaveUp::NotRetryable`] |
//! | attempts | [`attempts`](RetryConfigBuilder::attempts) | 3 | [`GaveUp::RetriesExhausted`] |
//! | refusals on this side | [`refusals`](RetryConfigBuilder::refusals) | no wait | [`GaveUp::Refused`] |
//! | the request | [`exchange`](RetryWithJitterLayer::exchange) | cloned | [`GaveUp::BodyNotReplayable`] |
//! | the peer's `Retry-After` | [`hint_limit`](RetryConfigBuilder::hint_limit) | capped at 5 min | [`GaveUp::HintTooLong`] |
//! | the deadline of the call | [`Deadline`](crate::deadline::Deadline) | none | [`GaveUp::Deadline`] |
//! | the window of the retries | [`window`](RetryConfigBuilder::window) | an hour from the first attempt | [`GaveUp::Window`] |
//! | the budget | [`budget`](RetryConfigBuilder::budget) | 20 % of the traffic and 10 a second | [`GaveUp::Budget`] |
//!
//! Between attempts it waits for the delay of the [`Backoff`] (exponential from 200 ms to 20 s, full
//! jitter) or for the time that the peer asks for, whichever is longer. It gives up at once, without
//! a wait, if the next attempt could not end in time.
//!
//! It returns the last response or the last error. A response carries the
//! [`History`](crate::attempt::History) of the attempts in its extensions, with [`HttpExchange`]; an
//! error is wrapped in [`Failed`](crate::attempt::Failed). Layers inside read the number of the
//! attempt from [`Attempt::current`](crate::attempt::Attempt::current).
//!
//! Only the default classifier and [`HttpExchange`] know HTTP: a job, or any other request that can
//! be cloned, is retried by the same layer with a [`classify_fn`](crate::outcome::classify_fn).
//!
//! # Why jitter
//!
//! Clients that failed together retry together, unless jitter spreads them. Below, each client reads
//! a version, writes if it has not changed, and backs off if another client was faster (the model of
//! [Exponential Backoff And Jitter](https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/)).
//! Full jitter needs the fewest calls; backoff without jitter saves few calls and takes by far the
//! longest.
//!
//! <div>
#![doc = include_str!("jitter.svg")]
//! </div>
//!
//! # Why a budget
//!
//! Five attempts per delivery are five times the load, at the time when the peer can bear it least.
//! With a budget, an outage adds to the load only a fifth of the traffic and the floor; with a breaker
//! inside, almost nothing. Calls that the breaker refused can be delivered afterwards, spread over time:
//! see [`Refusals::Wait`].
//!
//! <div>
#![doc = include_str!("outage.svg")]
//! </div>
//!
//! Both charts are made with this code by `examples/jitter_simulation`.
//!
//! # Order
//!
//! ```text
//! metrics > dead letters > total deadline > RETRY > breaker > metrics > attempt timeout > sign > transport
//! ```
//!
//! - Outside: everything that must happen once for a delivery, such as the idempotency key (without one
//!   a POST is not retried), the total deadline and the dead letters.
//! - Inside: everything that must happen for each attempt. A signature that is made outside is stale
//!   when the last attempt arrives. A breaker outside sees one failure instead of three, and does not
//!   keep the retries from a peer that is down.
//! - The attempt timeout is a separate layer, inside the breaker. A timeout in this layer would drop
//!   the breaker's call, which the breaker counts as cancelled: a peer that never answers would never
//!   open the circuit.
//! - Two layers that retry multiply: three attempts of three attempts are nine. The inner one continues
//!   the attempt numbers of the outer one.
//! # Cancel safety
//!
//! A dropped response future makes no further attempt and leaves no timer. The budget's permit for a
//! retry is returned if the retry was not sent, and spent if it was. The call inside is dropped with
//! it.
//!
//! # Examples
//!
//! ```
//! use http::{Request, Response};
//! use std::time::Duration;
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_webhook::{
//!     BoxError, RetryWithJitterLayer,
//!     attempt::Attempt,
//!     observe::{Event, observer_fn},
//!     retry::{Backoff, HintLimit, RetryConfig},
//! };
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! let config = RetryConfig::builder()
//!     .attempts(4)
//!     .backoff(Backoff::exponential(Duration::from_millis(100), Duration::from_secs(5)).build()?)
//!     .hint_limit(HintLimit::GiveUp(Duration::from_secs(60)))
//!     .build()?;
//! let report = observer_fn(|event| {
//!     if let Event::GaveUp { reason, history } = event {
//!         eprintln!("{reason} after {}", history.attempts());
//!     }
//! });
//!
//! // A peer that is busy at first.
//! let peer = service_fn(|_: Request<()>| async {
//!     let busy = Attempt::current().is_some_and(|attempt| attempt.number() < 3);
//!     let answer = Response::builder().status(if busy { 503 } else { 204 });
//!     Ok::<_, BoxError>(answer.header("retry-after", "2").body(())?)
//! });
//! let service = RetryWithJitterLayer::new(config).observe(report).layer(peer);
//!
//! let put = Request::put("https://peer.example/orders/7").body(())?;
//! assert_eq!(service.clone().oneshot(put).await?.status(), 204);
//!
//! // Without an idempotency key, a POST is sent once.
//! let post = Request::post("https://peer.example/orders").body(())?;
//! assert_eq!(service.oneshot(post).await?.status(), 503);
//! # Ok::<_, BoxError>(())
//! # }).unwrap();
//! ```
//!
//! [`GaveUp::BodyNotReplayable`]: crate::attempt::GaveUp::BodyNotReplayable
//! [`GaveUp::Budget`]: crate::attempt::GaveUp::Budget
//! [`GaveUp::Deadline`]: crate::attempt::GaveUp::Deadline
//! [`GaveUp::HintTooLong`]: crate::attempt::GaveUp::HintTooLong
//! [`GaveUp::NotRetryable`]: crate::attempt::GaveUp::NotRetryable
//! [`GaveUp::Refused`]: crate::attempt::GaveUp::Refused
//! [`GaveUp::RetriesExhausted`]: crate::attempt::GaveUp::RetriesExhausted
//! [`GaveUp::Window`]: crate::attempt::GaveUp::Window

mod backoff;
mod balance;
mod budget;
mod config;
mod exchange;
mod http;
mod schedule;
mod service;
mod state;

/// What the balance of a budget is made of. The model checker in `tests/loom` has its own module of this name.
mod sync {
    pub(super) use std::sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    };
}

#[cfg(feature = "queue")]
pub(crate) use self::state::{Decision, RetryState};
pub use self::{
    backoff::{Backoff, BackoffBuilder, Jitter},
    budget::{Budget, BudgetBuilder, BudgetPermit},
    config::{HintLimit, Refusals, RetryConfig, RetryConfigBuilder},
    exchange::{CloneExchange, Exchange, ExchangeResponse, WithCopies},
    http::{HttpExchange, ReplayExchange},
    schedule::Schedule,
    service::{ResponseFuture, RetryWithJitter, RetryWithJitterLayer},
};
