//! Number, duration and outcome of attempts and of deliveries.
//!
//! Retries hide failures: a stack that delivers everything may need three attempts for each delivery.
//! So the same [`DeliveryMetricsLayer`] stands in two places, and measures two things:
//!
//! | Made by | Stands | Says |
//! | --- | --- | --- |
//! | [`deliveries`](DeliveryMetricsLayer::deliveries) | outside everything that can fail a delivery | what callers see: success after retries, time with the waits |
//! | [`attempts`](DeliveryMetricsLayer::attempts) | inside retry and circuit breaker | what the peer does: each answer, each latency |
//!
//! The layer tells what it measures as [events](crate::observe), and observers count them:
//! [`DeliveryMetrics`] in this process, as a [`Snapshot`]; `FacadeExporter` (feature
//! `metrics-facade`) through the `metrics` facade, which has an exporter for Prometheus and others.
//! Both count, beside attempts and deliveries, breaker transitions, dead-letter entries and retried
//! jobs, where those are told to them.
//!
//! # What counts as what
//!
//! The [`Outcome`](crate::outcome::Outcome) that the classifier finds is the closed set of labels.
//! Beside it:
//!
//! - A future that is dropped before its result counts as cancelled, also where it was never
//!   polled, and where it panicked. Cancelled calls are in no success rate and no latency.
//! - A call that this side refused or could not send is a failure in the success rate.
//! - An answer that is judged late ([`Classify::late`](crate::outcome::Classify::late), gRPC
//!   streams) is in flight until its verdict.
//! - A retry is an attempt beyond the first of its delivery, and counts under the code that the
//!   attempt before it ended with. The attempt-level layer learns both from the delivery-level layer
//!   around it. Where there is none, it goes by the number of
//!   [`Attempt::current`](crate::attempt::Attempt::current), and the code is unknown. An attempt
//!   after a refusal by a layer between the two (an open circuit) is no retry: nothing was attempted
//!   before.
//! - A delivery has as many attempts as the attempt-level layer inside it has counted.
//!
//! # Peers
//!
//! Figures are kept for each peer, as a [`PeerKey`](crate::peer::PeerKey) names it: by host, where
//! nothing else is set. There is a bound; further peers are counted together. The names come from
//! requests, so one that would break a page (longer than 260 bytes, or with control characters) is
//! counted with the rest too.
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
//! The attempt-level layer belongs inside retry, where it would otherwise measure deliveries a second
//! time, and inside the breaker, where it would otherwise measure refusals. A timeout belongs inside
//! it: outside, what timed out would count as cancelled.
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
//! let client = DeliveryMetricsLayer::deliveries()
//!     .observe(metrics.clone())
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
//! let crm = snapshot.peer("crm.example.com").unwrap();
//! assert_eq!(crm.deliveries().total(), 4);
//! assert!(crm.deliveries().latency().p99().is_some());
//! # Ok::<_, BoxError>(())
//! # }).unwrap();
//! ```

mod codes;
mod counter;
#[cfg(feature = "metrics-facade")]
mod facade;
mod histogram;
mod in_process;
mod layer;
#[cfg(feature = "metrics-facade")]
mod names;
mod peers;
mod snapshot;
mod stats;

#[cfg(feature = "metrics-facade")]
pub use self::facade::{FacadeExporter, FacadeExporterBuilder};
pub use self::{
    in_process::{DeliveryMetrics, DeliveryMetricsBuilder},
    layer::{DeliveryMetricsLayer, Measure, ResponseFuture},
    snapshot::{Latency, LevelSnapshot, PeerSnapshot, Snapshot},
};
use crate::observe::{BreakerState, Event};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    /// One call of the transport.
    Attempt,
    /// One call of the whole stack, with its retries and the waits between them.
    Delivery,
}

/// The states of a breaker that metrics show.
const STATES: [BreakerState; 3] = [
    BreakerState::Closed,
    BreakerState::HalfOpen,
    BreakerState::Open,
];

/// States that an operator set are shown as what they do.
const fn shown_state(state: BreakerState) -> BreakerState {
    match state {
        BreakerState::HalfOpen => BreakerState::HalfOpen,
        state if state.is_refusing() => BreakerState::Open,
        _ => BreakerState::Closed,
    }
}

/// Peer, reason and end of a dead-letter entry that was to be written.
const fn dead_lettered<'a>(event: &Event<'a>) -> Option<(&'a str, &'static str, &'static str)> {
    match *event {
        Event::DeadLettered {
            peer,
            reason,
            fell_back,
            ..
        } => Some((
            peer,
            reason,
            if fell_back { "fell_back" } else { "written" },
        )),
        Event::Lost { peer, reason, .. } => Some((peer, reason, "not_written")),
        _ => None,
    }
}
