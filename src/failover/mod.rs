//! Failover: when a target fails, the next one in the list is tried.
//!
//! A call begins at the first target and moves on when its outcome
//! [may be retried](crate::outcome::Outcome::may_retry): the circuit is open, the peer was not
//! reached, it sheds load, or it failed on a request that may be done twice. A success and a
//! permanent failure are answers, and end it; so does a failure of a request that may have taken
//! effect and must not be repeated. Each target is tried at most once in a call.
//!
//! # What comes back when all fail
//!
//! The result that says most, with the marks of its own target:
//!
//! 1. what came of an attempt on a peer that may have had it, the latest one
//! 2. a peer that was not reached, the latest one
//! 3. a refusal of our own, the one that is over soonest: every breaker is open, and this is when
//!    it is worth coming back
//!
//! # Targets
//!
//! | Constructor | First | Then |
//! | --- | --- | --- |
//! | [`to_uris`](FailoverLayer::to_uris) | the first URI of the list | the others |
//! | [`to_hosts`](FailoverLayer::to_hosts) | the first host of the list | the others, with the path of the request |
//! | [`fallbacks`](FailoverLayer::fallbacks) | the request's own URI | the list |
//! | [`over`](FailoverLayer::over) | the first of any list, for requests of any type | the others |
//!
//! All targets get the same request, credentials included: list only those that may see them.
//!
//! # Order
//!
//! ```text
//! fallback > deadline > retry > failover > circuit breaker by host > attempt timeout > transport
//! ```
//!
//! Inside retry and deadline: one attempt of the retry is a round of the targets, and no further
//! target is begun when the [`Deadline`](crate::deadline::Deadline) leaves no time. Outside a
//! breaker that is kept by host, so that each target has its own, and one that is known to be down
//! costs nothing; with one breaker for all, the failures of the first close the way to the others.
//! Outside the layer that signs, where a scheme signs the address. All targets go through one
//! service, which is driven ready again before each further one.
//!
//! # Cost
//!
//! With one target: nothing is copied. Otherwise the request and the service inside are cloned once
//! before the first attempt, and the request once for each further one but the last.
//!
//! # Cancel safety
//!
//! Dropping the response future drops the attempt that is being made and the results of the earlier
//! ones; no further target is tried, and what is preferred (see
//! [`sticky`](FailoverLayerBuilder::sticky)) stays as it was.
//!
//! # Examples
//!
//! ```
//! use http::{Request, Response};
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_webhook::{BoxError, FailoverLayer, failover::TargetIndex};
//!
//! # tokio_test::block_on(async {
//! let client = FailoverLayer::fallbacks(["https://backup.example.com/hooks"])
//!     .build()?
//!     .layer(service_fn(|req: Request<()>| async move {
//!         let status = if req.uri().host() == Some("backup.example.com") { 200 } else { 503 };
//!         Ok::<_, BoxError>(Response::builder().status(status).body(())?)
//!     }));
//!
//! let req = Request::post("https://example.com/hooks").header("webhook-id", "msg_1").body(())?;
//! let res = client.oneshot(req).await?;
//! assert_eq!(res.status(), 200);
//! assert_eq!(res.extensions().get::<TargetIndex>().map(|index| index.get()), Some(1));
//! # Ok::<_, BoxError>(())
//! # }).unwrap();
//! ```

mod builder;
mod choice;
mod future;
mod layer;
mod preference;
mod service;
mod targets;
mod uris;

pub use self::{
    builder::FailoverLayerBuilder,
    future::{ResponseFuture, Round},
    layer::FailoverLayer,
    service::Failover,
    targets::{EachOf, Targets},
    uris::{TargetIndex, Uris},
};
