//! Measures number, duration and outcome of attempts and of deliveries.
//!
//! Retries hide failures: a stack that delivers everything may need three attempts for each delivery. The same
//! [`DeliveryMetricsLayer`] is therefore used in two places:
//!
//! | Made by | Place | Measures |
//! | --- | --- | --- |
//! | [`deliveries`](DeliveryMetricsLayer::deliveries) | outside everything that can fail a delivery | what callers see: success after retries, time including waits |
//! | [`attempts`](DeliveryMetricsLayer::attempts) | inside retry and circuit breaker | what the peer does: each answer, each latency |
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
//!
//! # Order
//!
//! ```text
//! metrics(delivery) > dead letter > deadline > retry > breaker > metrics(attempt) > timeout > sign > transport
//! ```
//!
//! On the receiving side, put one layer outermost, with [`OnePeer`](crate::peer::OnePeer), because the
//! requests of a server name no host:
//!
//! ```text
//! metrics(delivery) > buffer body > verify signature > idempotency > handler
//! ```
//!
//! The attempt-level layer belongs inside retry, because outside it would measure deliveries a second
//! time, and inside the breaker, because outside it would measure refusals. A timeout belongs inside
//! the layer: outside, a call that timed out would count as cancelled.
//!
//! # Settings
//!
//! Of the layer:
//!
//! | Setting | Default | Meaning |
//! | --- | --- | --- |
//! | [`observe`](DeliveryMetricsLayer::observe) | none except `tracing` | adds an observer of the measurements: [`DeliveryMetrics`] or an exporter |
//! | [`classifier`](DeliveryMetricsLayer::classifier) | [`HttpClassifier`](crate::outcome::HttpClassifier) | decides the outcome of each result |
//! | [`peer`](DeliveryMetricsLayer::peer) | [`ByHost`](crate::peer::ByHost) | names the peer of a request |
//!
//! Of what counts them, in this process and through the `metrics` facade (feature `metrics-facade`):
//!
//! | Setting | Default | Meaning |
//! | --- | --- | --- |
//! | [`DeliveryMetrics::with_max_peers`] | 1,000 | peers that are counted separately |
//! | [`prefix`](FacadeExporterBuilder::prefix) | `tower_webhook_` | beginning of the names of the series |
//! | [`retries_name`](FacadeExporterBuilder::retries_name) | the prefix and `retries_total` | name of the counter of retries |
//! | [`trips_name`](FacadeExporterBuilder::trips_name) | the prefix and `breaker_trips_total` | name of the counter of breakers that opened |
//! | [`peer_label`](FacadeExporterBuilder::peer_label) | no label | peers that have series of their own |
//!
//! # Errors
//!
//! None of its own.
//!
//! # Cancel safety
//!
//! A response future that is dropped at any point is counted once, as cancelled, and is no longer in
//! flight.
//!
//! # What is counted
//!
//! The layer reports its measurements as [events](crate::observe), which observers count:
//! [`DeliveryMetrics`] in this process, as a [`Snapshot`]; [`FacadeExporter`] through the `metrics` facade, which has
//! exporters for Prometheus and others. Both count attempts and deliveries, and also breaker transitions, dead-letter
//! entries and retried jobs, if these are reported to them.
//!
//! The label is the [`Outcome`](crate::outcome::Outcome) that the classifier decides, a closed set.
//! In addition:
//!
//! - A future that is dropped before its result counts as cancelled, even if it was never polled, and
//!   so does one that panicked. Success rates and latencies leave cancelled calls out.
//! - A call that this side refused or could not send counts as a failure in the success rate.
//! - An answer that is judged late ([`Classify::late`](crate::outcome::Classify::late), gRPC
//!   streams) is in flight until it is judged.
//! - The worker of a queue reports a task as one delivery when the task has ended. Until then it is not
//!   in flight, because it waits in the queue between its attempts.
//! - A retry is an attempt after the first of its delivery, and counts under the code that ended the
//!   attempt before it. The attempt-level layer learns both from the delivery-level layer around it.
//!   Without one, it uses the number of [`Attempt::current`](crate::attempt::Attempt::current) and the
//!   code that the retry layer knows; a layer of yours that counts attempts tells none. An attempt after a refusal by a layer between the two (an open circuit) is
//!   not a retry, because nothing was attempted before.
//! - The attempts of a delivery are those that the attempt-level layer inside it counted.
//!
//! # Peers
//!
//! Metrics are kept for each peer. A [`PeerKey`](crate::peer::PeerKey) names the peer: its host by
//! default. The number of peers is bounded; further peers are counted together. Names come from
//! requests, so a name that could break a page (longer than 260 bytes, or with control characters) is
//! counted with the further peers too.

mod codes;
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
    in_process::DeliveryMetrics,
    layer::{DeliveryMetricsLayer, Measure, ResponseFuture},
    snapshot::{Latency, LevelSnapshot, PeerSnapshot, Snapshot},
};
use crate::observe::{BreakerState, Event};

/// The level at which a layer measures.
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

/// Maps a state that an operator set to its effect.
const fn shown_state(state: BreakerState) -> BreakerState {
    match state {
        BreakerState::HalfOpen => BreakerState::HalfOpen,
        state if state.is_refusing() => BreakerState::Open,
        _ => BreakerState::Closed,
    }
}

/// A change of a breaker in one word, of which the later one is the higher.
fn change_word(state: BreakerState, generation: u64) -> u64 {
    let at = STATES.iter().position(|shown| *shown == state);
    generation << 2 | at.map_or(0, |at| at as u64 + 1)
}

/// The state of a [`change_word`]. `None`: there was no change.
fn state_of(word: u64) -> Option<BreakerState> {
    let at = usize::try_from(word & 0b11).ok()?.checked_sub(1)?;
    STATES.get(at).copied()
}

/// Peer, reason and result of the write of a dead-letter entry.
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
        // A write that is tried again has no result yet.
        Event::Lost {
            peer,
            reason,
            retry_after: None,
            ..
        } => Some((peer, reason, "not_written")),
        _ => None,
    }
}
