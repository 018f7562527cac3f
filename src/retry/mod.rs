//! Try again what failed, as far as that is safe, wanted and worth it.
//!
//! [`RetryWithJitterLayer`] asks the [`Outcome`](crate::outcome::Outcome) of each attempt whether
//! the request may be sent again, and everything else whether it should be:
//!
//! | Asked | Setting | Default | Otherwise |
//! | --- | --- | --- | --- |
//! | the classifier | [`classifier`](RetryWithJitterLayer::classifier) | [`HttpClassifier`](crate::outcome::HttpClassifier): idempotent methods, requests with an idempotency key, and those that never arrived | [`GaveUp::NotRetryable`] |
//! | attempts | [`attempts`](RetryConfigBuilder::attempts) | 3 | [`GaveUp::RetriesExhausted`] |
//! | refusals on our side | [`refusals`](RetryConfigBuilder::refusals) | not waited for | [`GaveUp::Refused`] |
//! | the request | [`exchange`](RetryWithJitterLayer::exchange) | cloned | [`GaveUp::BodyNotReplayable`] |
//! | the peer's hint | [`hint_limit`](RetryConfigBuilder::hint_limit) | cut at 5 min | [`GaveUp::HintTooLong`] |
//! | the deadline of the call | [`Deadline`](crate::deadline::Deadline) | none | [`GaveUp::Deadline`] |
//! | the window of the retries | [`window`](RetryConfigBuilder::window) | an hour from the first attempt | [`GaveUp::Window`] |
//! | the budget | [`budget`](RetryConfigBuilder::budget) | 20 % of the traffic and 10 a second | [`GaveUp::Budget`] |
//!
//! Between attempts it waits as the [`Backoff`] says (exponential from 200 ms to 20 s, full jitter)
//! or as long as the peer asks, whichever is longer. It never waits only to find that there is no
//! time left: what cannot end in time is given up at once.
//!
//! What it returns is the last response, with the [`History`](crate::attempt::History) of the
//! attempts where the exchange has a place for it, or the last error inside
//! [`Failed`](crate::attempt::Failed). Whatever stands inside can ask
//! [`Attempt::current`](crate::attempt::Attempt::current) which attempt it is.
//!
//! Nothing here knows HTTP but the default classifier: a job, or any other request that can be
//! cloned, is retried by the same layer with a
//! [`classify_fn`](crate::outcome::classify_fn) of its own. [`RetryPolicy`] makes the same decisions
//! inside tower's own retry.
//!
//! # Why jitter
//!
//! Clients that failed together come back together, unless something spreads them. Below, each
//! client reads a version and writes under it, and backs off where another was faster (the model of
//! [Exponential Backoff And Jitter](https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/)).
//! Full jitter takes the fewest calls; backoff without jitter saves few, and takes the longest by
//! far.
//!
//! <div>
#![doc = include_str!("jitter.svg")]
//! </div>
//!
//! # Why a budget
//!
//! Five attempts are five times the load exactly when the peer can bear it least. With a budget an
//! outage costs it a fifth more than it was offered, and the floor; with a breaker inside, next to
//! nothing. What the breaker refused is delivered afterwards, spread over time: see
//! [`Refusals::Wait`].
//!
//! <div>
#![doc = include_str!("outage.svg")]
//! </div>
//!
//! Both are drawn by `examples/jitter_simulation`, through this code.
//!
//! # Order
//!
//! ```text
//! metrics > dead letters > total deadline > RETRY > breaker > metrics > attempt timeout > sign > transport
//! ```
//!
//! - Outside: whatever must happen once for a delivery. The idempotency key (or else a POST is not
//!   repeated, and rightly), the total deadline, the dead letters.
//! - Inside: whatever must happen for each attempt. A signature that was made outside is stale when
//!   the last attempt arrives. A breaker outside sees one failure where there were three, and does
//!   not keep the retries from a peer that is down.
//! - The timeout of an attempt is a layer of its own, inside the breaker. A timeout in here would
//!   drop the breaker's call, which is a cancellation to it and no evidence: a peer that never
//!   answers would never open the circuit.
//! - Two retrying layers multiply: three attempts of three attempts are nine. The inner one goes on
//!   counting from the attempt that the outer one makes.
//!
//! # Cancel safety
//!
//! A response future that is dropped sends nothing more and leaves no timer. The budget's permit for
//! a retry that was not sent goes back; one for a retry that was sent is spent. The service inside
//! sees its own call dropped, at whatever point that was.
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
//!     retry::{Backoff, HintLimit, RetryConfig},
//! };
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! let config = RetryConfig::builder()
//!     .attempts(4)
//!     .backoff(Backoff::exponential(Duration::from_millis(100), Duration::from_secs(5)).build()?)
//!     .hint_limit(HintLimit::GiveUp(Duration::from_secs(60)))
//!     .on_give_up(|history| eprintln!("{:?} after {}", history.gave_up(), history.attempts()))
//!     .build()?;
//!
//! // A peer that is busy at first.
//! let peer = service_fn(|_: Request<()>| async {
//!     let busy = Attempt::current().is_some_and(|attempt| attempt.number() < 3);
//!     let answer = Response::builder().status(if busy { 503 } else { 204 });
//!     Ok::<_, BoxError>(answer.header("retry-after", "2").body(())?)
//! });
//! let service = RetryWithJitterLayer::new(config).layer(peer);
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
mod budget;
mod config;
mod course;
mod exchange;
mod future;
mod hooks;
mod http;
mod layer;
mod policy;
mod schedule;
mod service;
#[cfg(feature = "queue")]
mod stored;

#[cfg(feature = "queue")]
pub(crate) use self::stored::{Step, StoredCourse};
pub use self::{
    backoff::{Backoff, BackoffBuilder, Jitter},
    budget::{Budget, BudgetBuilder, Permit},
    config::{HintLimit, Refusals, RetryConfig, RetryConfigBuilder},
    exchange::{CloneExchange, Exchange, ExchangeResponse, KeptCopy},
    future::ResponseFuture,
    hooks::Retrying,
    http::{Discard, HttpExchange, KeptRequest, ReplayExchange},
    layer::RetryWithJitterLayer,
    policy::{RetryPolicy, RetryWait},
    schedule::Schedule,
    service::RetryWithJitter,
};
