//! Fallback: an answer of our own where no peer gives one.
//!
//! When everything inside has failed (attempts exhausted, circuit open, deadline passed),
//! [`FallbackLayer`] asks a function for an answer, and the caller gets that. Where the function
//! has one for every failure, the caller sees no failure.
//!
//! # What is replaced
//!
//! | [Outcome](crate::outcome) | Replaced | Why |
//! | --- | --- | --- |
//! | `Throttled`, `Transient`, `Unreached`, `Refused` | yes | the peer could not be used: exhaustion, a deadline, an open circuit |
//! | `Permanent` | no | the peer answered, and the answer is about the request: a 400 or 404 that looks like an outage hides a mistake of the caller's |
//! | `Unsendable` | no | a mistake of ours, which somebody has to see |
//! | `Success`, `Cancelled` | never | |
//!
//! [`when`](FallbackLayer::when) says otherwise. Whether a request may be repeated makes no
//! difference here: a 500 that answers a POST without a key ends the attempts, and is replaced.
//!
//! # Order
//!
//! Outside retry, deadline and failover, whose last word it replaces. And outside whatever must
//! know of the failure: for metrics and dead letters that stand outside of it, the fallback is a
//! success.
//!
//! ```text
//! fallback > metrics > dead letter > deadline > retry > failover > circuit breaker > transport
//! ```
//!
//! An error of `poll_ready` is not replaced: no call has been made.
//!
//! # Cancel safety
//!
//! Dropping the response future drops the call inside; no answer is made for it.
//!
//! # Examples
//!
//! An answer over HTTP. What went wrong is in the response's extensions, for logs and metrics; it is
//! not in the answer:
//!
//! ```
//! use http::{Request, Response, StatusCode};
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_webhook::{BoxError, body::BufferedBody, FallbackLayer};
//! use tower_webhook::fallback::FallbackReason;
//! use tower_webhook::outcome::OutcomeKind;
//!
//! # tokio_test::block_on(async {
//! let lookup = FallbackLayer::http(|_outcome| Some(Response::new(BufferedBody::from("[]"))))
//!     .layer(service_fn(|_: Request<()>| async {
//!         Err::<Response<BufferedBody>, BoxError>("connection reset".into())
//!     }));
//!
//! let res = lookup.oneshot(Request::get("https://example.com/").body(())?).await?;
//! assert_eq!(res.status(), StatusCode::OK);
//! let reason = res.extensions().get::<FallbackReason>().ok_or("no reason")?;
//! assert_eq!(reason.outcome().kind(), OutcomeKind::Transient);
//! # Ok::<_, BoxError>(())
//! # }).unwrap();
//! ```
//!
//! A service that speaks no HTTP:
//!
//! ```
//! use std::io;
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_webhook::{FallbackLayer, fallback::Failure, outcome::{Outcome, classify_fn}};
//!
//! # tokio_test::block_on(async {
//! let price = FallbackLayer::new(|failure: &Failure<'_, u32, io::Error>| {
//!     failure.error().is_some().then_some(100)
//! })
//! .classifier(classify_fn(|result: Result<&u32, &io::Error>| match result {
//!     Ok(_) => Outcome::success(),
//!     Err(error) => Outcome::of_error(error),
//! }))
//! .layer(service_fn(|_: &str| async { Err(io::ErrorKind::ConnectionRefused.into()) }));
//!
//! assert_eq!(price.oneshot("tea").await?, 100);
//! # Ok::<_, io::Error>(())
//! # }).unwrap();
//! ```

mod answer;
mod future;
mod http;
mod layer;
mod service;

pub use self::{
    answer::{Answer, AnswerFn, Failure},
    future::ResponseFuture,
    http::{AnswerHttp, FallbackReason},
    layer::FallbackLayer,
    service::Fallback,
};
