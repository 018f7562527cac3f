//! How many, how long, and how it ended: of attempts and of deliveries.
//!
//! Retries hide failures: a stack that delivers everything may need three attempts for each. So the
//! same [`DeliveryMetricsLayer`] stands in two places, and measures two things:
//!
//! | Made by | Stands | Says |
//! | --- | --- | --- |
//! | [`deliveries`](DeliveryMetricsLayer::deliveries) | outside everything that can fail a delivery | what callers see: success after retries, time with the waits |
//! | [`attempts`](DeliveryMetricsLayer::attempts) | inside retry and circuit breaker | what the peer does: each answer, each latency |
//!
//! What is measured goes to a [`Recorder`]: [`DeliveryMetrics`] counts in this process and gives a
//! [`Snapshot`]; `exporter::FacadeRecorder` (feature `metrics-facade`) writes to the `metrics`
//! facade, which has an exporter for Prometheus and others; `(one, other)` does both.
//!
//! # What counts as what
//!
//! The [`Outcome`](crate::outcome::Outcome) that the classifier finds is the closed set of labels.
//! Beside it:
//!
//! - A future that is dropped before its result counts as cancelled, also where it was never
//!   polled, and where it panicked. Cancelled calls are in no success rate and no latency.
//! - A call that we refused or could not send is a failure in the success rate.
//! - An answer that is judged late ([`Classify::late`](crate::outcome::Classify::late), gRPC
//!   streams) is in flight until its verdict.
//! - A retry is an attempt beyond the first of its delivery, and counts under the code that the
//!   attempt before it ended with. The attempt-level layer learns it from the delivery-level layer
//!   around it, on the same task. Where none is there, it goes by the number of
//!   [`Attempt::current`](crate::attempt::Attempt::current), and the code is unknown. A retry after
//!   a refusal by what stands between (an open circuit) is none: nothing was attempted.
//! - A delivery's number of attempts is how many the layer inside has counted.
//!
//! # Keys
//!
//! Every instance of a service remembers the series it used last, so that a stack that calls one
//! peer looks nothing up. Figures are kept by a [`PeerKey`](crate::peer::PeerKey), by host where nothing else is
//! said, up to a bound; the rest is counted together. Keys come from requests, so a key that would
//! break a page (longer than 260 bytes, or with control characters) is counted with the rest too.
//!
//! # Order
//!
//! ```text
//! metrics(delivery) > dead letter > deadline > retry > breaker > metrics(attempt) > timeout > sign > transport
//! ```
//!
//! On the receiving side one layer stands outermost, with
//! [`OnePeer`](crate::peer::OnePeer): the requests of a server name no host.
//!
//! ```text
//! metrics(delivery) > buffer body > verify signature > idempotency > handler
//! ```
//!
//! Attempt-level outside retry, it would measure deliveries a second time; outside the breaker, its
//! latencies would be those of refusals. A timeout belongs inside it: outside, what timed out would
//! count as cancelled.
//!
//! # Cancel safety
//!
//! A response future that is dropped at any point is counted once, as cancelled, and leaves nothing
//! in flight.
//!
//! # Examples
//!
//! ```
//! use http::{Request, Response};
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_webhook::{
//!     BoxError, DeliveryMetricsLayer,
//!     metrics::DeliveryMetrics,
//!     outcome::OutcomeKind,
//! };
//!
//! # tokio_test::block_on(async {
//! let metrics = DeliveryMetrics::new();
//! let client = DeliveryMetricsLayer::deliveries(metrics.clone())
//!     .layer(service_fn(|req: Request<&'static str>| async move {
//!         let status = if req.body().is_empty() { 400 } else { 200 };
//!         Ok::<_, BoxError>(Response::builder().status(status).body(())?)
//!     }));
//!
//! for body in ["{}", "{}", "{}", ""] {
//!     let req = Request::post("https://crm.example.com/hooks").body(body)?;
//!     client.clone().oneshot(req).await?;
//! }
//!
//! let snapshot = metrics.snapshot();
//! assert_eq!(snapshot.deliveries().success_rate(), Some(0.75));
//! assert_eq!(snapshot.deliveries().count(OutcomeKind::Permanent), 1);
//! let crm = snapshot.key("crm.example.com").unwrap();
//! assert_eq!(crm.deliveries().total(), 4);
//! assert!(crm.deliveries().latency().p99().is_some());
//! # Ok::<_, BoxError>(())
//! # }).unwrap();
//! ```

mod codes;
mod combine;
#[cfg(feature = "metrics-facade")]
pub mod exporter;
mod future;
mod guard;
mod histogram;
mod in_process;
mod keys;
mod layer;
mod recorder;
mod service;
mod snapshot;
mod stats;
mod trail;

pub use self::{
    combine::{Both, SharedRecorder},
    future::ResponseFuture,
    in_process::{DeliveryMetrics, DeliveryMetricsBuilder, DeliverySeries},
    layer::DeliveryMetricsLayer,
    recorder::{BreakerState, Level, Measurement, Recorder, Series},
    service::Measure,
    snapshot::{Latency, LevelSnapshot, PeerSnapshot, Snapshot},
};
