//! Retries failed calls, if that is safe, allowed by the settings and likely to help.
//!
//! Between attempts, [`RetryWithJitterLayer`] waits for the delay of the [`Backoff`] or for the time that the peer
//! asks for, whichever is longer. It gives up at once, without a wait, if the next attempt could not end in time.
//!
//! # Examples
//!
//! ```
//! use http::{Request, Response};
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_webhook::{BoxError, RetryWithJitterLayer, attempt::Attempt, retry::RetryConfig};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! // A peer that is busy at first.
//! let peer = service_fn(|_: Request<()>| async {
//!     let busy = Attempt::current().is_some_and(|attempt| attempt.number() < 3);
//!     let answer = Response::builder().status(if busy { 503 } else { 204 });
//!     Ok::<_, BoxError>(answer.header("retry-after", "2").body(())?)
//! });
//! let client = RetryWithJitterLayer::new(RetryConfig::default()).layer(peer);
//!
//! let put = Request::put("https://peer.example/orders/7").body(())?;
//! assert_eq!(client.clone().oneshot(put).await?.status(), 204);
//!
//! // Without an idempotency key, a POST is sent once.
//! let post = Request::post("https://peer.example/orders").body(())?;
//! assert_eq!(client.oneshot(post).await?.status(), 503);
//! # Ok::<_, BoxError>(())
//! # }).unwrap();
//! ```
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
//!
//! # Settings
//!
//! Of the layer:
//!
//! | Setting | Default | Meaning |
//! | --- | --- | --- |
//! | [`classifier`](RetryWithJitterLayer::classifier) | [`HttpClassifier`](crate::outcome::HttpClassifier) | decides which results may be retried |
//! | [`exchange`](RetryWithJitterLayer::exchange) | [`CloneExchange`] | keeps requests, and discards failed responses |
//! | [`observe`](RetryWithJitterLayer::observe) | none except `tracing` | adds an observer of [`Event::Retrying`](crate::observe::Event::Retrying) and [`Event::GaveUp`](crate::observe::Event::GaveUp) |
//!
//! Of its [`RetryConfig`]:
//!
//! | Setting | Default | Meaning |
//! | --- | --- | --- |
//! | [`attempts`](RetryConfigBuilder::attempts) | 3 | calls of a delivery, including the first |
//! | [`backoff`](RetryConfigBuilder::backoff) | exponential from 200 ms to 20 s, full jitter | delay before each retry |
//! | [`schedule`](RetryConfigBuilder::schedule) | none | attempts, backoff and window of a published schedule |
//! | [`hint_limit`](RetryConfigBuilder::hint_limit) | capped at 5 min | limit of the waits that a peer asks for, with `Retry-After` for example |
//! | [`window`](RetryConfigBuilder::window) | 1 h | time from the start of the first attempt in which a retry may begin |
//! | [`min_attempt`](RetryConfigBuilder::min_attempt) | 10 ms | shortest time that an attempt needs |
//! | [`budget`](RetryConfigBuilder::budget) | [`Budget::new`] | limit of the retries of all calls together |
//! | [`refusals`](RetryConfigBuilder::refusals) | give up | what to do if a call is refused on this side |
//! | [`seed`](RetryConfigBuilder::seed) | random | seed of the jitter, for tests |
//!
//! Of a [`Backoff`], a [`Budget`] and an [`HttpExchange`]:
//!
//! | Setting | Default | Meaning |
//! | --- | --- | --- |
//! | [`factor`](BackoffBuilder::factor) | 2 | growth of an exponential backoff |
//! | [`cap`](BackoffBuilder::cap) | by the kind of backoff | longest delay, including jitter |
//! | [`jitter`](BackoffBuilder::jitter) | full | randomness of the delay |
//! | [`share`](BudgetBuilder::share) | 0.2 | retries per first attempt |
//! | [`floor`](BudgetBuilder::floor) | 10 | retries per second for any traffic |
//! | [`window`](BudgetBuilder::window) | 10 s | time over which both are counted |
//! | [`discard_within`](HttpExchange::discard_within) | 64 KiB and 500 ms | how much of a failed response is read, so that its connection can be used again |
//! | [`replaying`](HttpExchange::replaying) | cloned | records streamed bodies while they are sent, so that they can be sent again |
//!
//! # Errors
//!
//! The error type becomes [`BoxError`](crate::BoxError). It returns the last response or the last error. A response
//! carries the [`History`](crate::attempt::History) of the attempts in its extensions, with [`HttpExchange`]; an
//! error is wrapped in [`Failed`](crate::attempt::Failed), which has it too.
//!
//! # Cancel safety
//!
//! A dropped response future makes no further attempt and leaves no timer. The budget's permit for a
//! retry is returned if the retry was not sent, and spent if it was. The call inside is dropped with
//! it.
//!
//! # What is retried
//!
//! Another attempt is made only if every row of this table allows it; the last column is the reason that is
//! reported otherwise:
//!
//! | Decided by | Allows | Gives up as |
//! | --- | --- | --- |
//! | the classifier | idempotent methods, requests with an idempotency key, and requests that never arrived | [`GaveUp::NotRetryable`] |
//! | the attempts | as many as are set | [`GaveUp::RetriesExhausted`] |
//! | refusals on this side | no wait for an open circuit, by default | [`GaveUp::Refused`] |
//! | the exchange | requests that it could keep | [`GaveUp::BodyNotReplayable`] |
//! | the peer's hint | waits inside the hint limit, or capped at it | [`GaveUp::HintTooLong`] |
//! | the deadline of the call | attempts that can begin before it: see [`Deadline`](crate::deadline::Deadline) | [`GaveUp::Deadline`] |
//! | the window | attempts that can begin in it | [`GaveUp::Window`] |
//! | the budget | retries in proportion to the traffic | [`GaveUp::Budget`] |
//!
//! Layers inside read the number of the attempt from [`Attempt::current`](crate::attempt::Attempt::current).
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
