//! Ready-made stacks, with the layers in the right order.
//!
//! [`receive()`] builds the layers of a receiver of signed webhooks, [`deliver()`] those of a delivery around a
//! transport, and [`attempt()`] those of one attempt, for the workers of a queue.
//!
//! # Examples
//!
//! A delivery:
//!
//! ```
//! use http::{Request, Response};
//! use tower::{ServiceExt, service_fn};
//! use tower_webhook::{BoxError, body::BufferedBody, signature::scheme::StandardWebhooks, stack};
//!
//! # tokio_test::block_on(async {
//! let deliver = stack::deliver()
//!     .sign(StandardWebhooks::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?)
//!     .build()?;
//!
//! // The transport: a hyper-util client, reqwest, a tonic channel. Here a function.
//! let client = deliver.layer(service_fn(|req: Request<BufferedBody>| async move {
//!     assert!(req.headers().contains_key("webhook-signature"));
//!     Ok::<_, BoxError>(Response::new(BufferedBody::default()))
//! }));
//!
//! let req = Request::post("https://example.com/hooks")
//!     .header("webhook-id", "msg_1") // known again by its receiver, so it may be repeated
//!     .body(BufferedBody::from("{}"))?;
//! assert_eq!(client.oneshot(req).await?.status(), 200);
//! assert_eq!(deliver.metrics().snapshot().deliveries().success_rate(), Some(1.0));
//! # Ok::<_, BoxError>(())
//! # }).unwrap();
//! ```
//!
//! In the worker of a queue, which tries again later, one attempt at a time. The worker takes the outcome of the stack
//! with [`classifier(JudgedInside)`](crate::context::JudgedInside):
//!
//! ```
//! use tower_webhook::{signature::scheme::StandardWebhooks, stack};
//!
//! let attempt = stack::attempt()
//!     .sign(StandardWebhooks::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?)
//!     .build()?;
//! # let _ = attempt;
//! # Ok::<_, tower_webhook::BoxError>(())
//! ```
//!
//! # Order
//!
//! A receiver:
//!
//! ```text
//! receive   verify head > buffer body > verify signature > idempotency, if it is set > handler
//! ```
//!
//! axum's `from_fn` needs nothing outside of a receiver, and on a router inside of it. Between its layers, which are then put
//! together with a `ServiceBuilder`, it stands in a `BetweenLayer` (feature `axum`):
//!
//! | Place of `from_fn` | What to write | What it sees |
//! | --- | --- | --- |
//! | outside | `.layer(from_fn(f)).layer(receive)` in a `ServiceBuilder` | what arrives, before its body is read |
//! | between buffer body and verify signature | `.layer(BetweenLayer::new(from_fn(f), limit))` | what is within the limits |
//! | between verify signature and idempotency | the same | what is signed, repeats too |
//! | inside | `.layer(from_fn(f)).layer(receive)` on the `Router` | what is handled |
//!
//! An attempt, and what a delivery adds around it:
//!
//! ```text
//! attempt   failover > breaker(host) > metrics(attempt) > attempt timeout > attempt number > sign > transport
//! deliver   metrics(delivery) > dead letter > deadline > retry > attempt
//! ```
//!
//! For any other order, build the stack with a [`ServiceBuilder`](https://docs.rs/tower/0.5/tower/struct.ServiceBuilder.html).
//!
//! | Layer | Reason for its place |
//! | --- | --- |
//! | metrics of deliveries | measure what the caller sees, including waits |
//! | [`DeadLetterLayer`](crate::DeadLetterLayer), if set | outside everything that can end a delivery, including the deadline; inside the metrics, so that they include the time to write an entry |
//! | [`DeadlineLayer`](crate::DeadlineLayer) | limits all attempts and the waits between them |
//! | [`RetryWithJitterLayer`](crate::RetryWithJitterLayer) | inside the deadline, so that it begins no attempt that cannot end in time; outside the breaker, so that the breaker decides on each attempt, and a refusal costs neither an attempt nor budget |
//! | [`FailoverLayer`](crate::FailoverLayer), if set | each attempt goes to the first target that takes it; outside the breaker, so that each target has its own |
//! | [`CircuitBreakerLayer`](crate::CircuitBreakerLayer) | sees every attempt; outside the retry layer it would see each delivery once, and late |
//! | metrics of attempts | measure what the peer sees: a refusal by the breaker is not an attempt |
//! | [`AttemptTimeoutLayer`](crate::AttemptTimeoutLayer) | inside the breaker, so that a peer that hangs counts as failed: a timeout outside looks like a caller that went away |
//! | [`AttemptHeaderLayer`](crate::attempt::AttemptHeaderLayer), and what else changes a request | fresh for each attempt |
//! | [`SignLayer`](crate::SignLayer) | last: a request that is signed before it waits is stale when it arrives, and what is added later is not signed |
//!
//! A [`FallbackLayer`](crate::FallbackLayer), which answers instead of a failure, stands outside all of
//! them. An open breaker ends the delivery at once; a worker in the
//! background waits for it with [`Refusals::Wait`](crate::retry::Refusals::Wait).
//!
//! # Settings
//!
//! Of [`receive()`], whose argument is the scheme, the tenants or the layer that verifies:
//!
//! | Setting | Default | Meaning |
//! | --- | --- | --- |
//! | [`max_body`](ReceiveBuilder::max_body) | 1 MiB | bytes of the longest body |
//! | [`grpc`](ReceiveBuilder::grpc) | off | refuse with gRPC statuses, for a tonic server |
//! | [`once`](ReceiveBuilder::once), [`once_by`](ReceiveBuilder::once_by) | repeats are handled again | store, and key, by which a repeat is known |
//! | [`observe`](ReceiveBuilder::observe) | none except `tracing` | adds an observer of all layers |
//!
//! Of [`deliver()`], and of [`attempt()`] alike:
//!
//! | Setting | Default | Meaning |
//! | --- | --- | --- |
//! | [`sign`](DeliverBuilder::sign) | not signed | scheme that signs each attempt |
//! | [`attempt_timeout`](DeliverBuilder::attempt_timeout), [`attempt_timeout_by`](DeliverBuilder::attempt_timeout_by) | 10 s | time limit of an attempt |
//! | [`breaker`](DeliverBuilder::breaker) | [`BreakerConfig::default`](crate::circuit_breaker::BreakerConfig) | when the circuit breaker of a peer opens and closes |
//! | [`without_breaker`](DeliverBuilder::without_breaker) | with one | leaves the circuit breaker out |
//! | [`breakers`](DeliverBuilder::breakers) | new ones | breakers that other stacks share |
//! | [`peer`](DeliverBuilder::peer) | [`ByHost`](crate::peer::ByHost) | tells peers apart |
//! | [`failover`](DeliverBuilder::failover) | none | other targets, for each attempt |
//! | [`classifier`](DeliverBuilder::classifier), [`grpc`](DeliverBuilder::grpc) | [`HttpClassifier`](crate::outcome::HttpClassifier) | judges each attempt, for all layers |
//! | [`attempt_header`](DeliverBuilder::attempt_header) | none | header with the number of the attempt |
//! | [`each_attempt`](DeliverBuilder::each_attempt) | none | a layer around each call of the transport |
//! | [`metrics`](DeliverBuilder::metrics) | new ones | what counts attempts and deliveries |
//! | [`observe`](DeliverBuilder::observe) | none except `tracing` | adds an observer of the layers |
//!
//! Of [`deliver()`] alone:
//!
//! | Setting | Default | Meaning |
//! | --- | --- | --- |
//! | [`deadline`](DeliverBuilder::deadline) | 5 min | time limit of a delivery, with all attempts and waits |
//! | [`attempts`](DeliverBuilder::attempts) | 3 | attempts of a delivery |
//! | [`retry`](DeliverBuilder::retry) | [`RetryConfig::default`](crate::retry::RetryConfig) | when and how often a delivery is retried |
//! | [`exchange`](DeliverBuilder::exchange) | [`HttpExchange`](crate::retry::HttpExchange), which clones | keeps requests for further attempts |
//! | [`dead_letters`](DeliverBuilder::dead_letters), [`dead_letter_layer`](DeliverBuilder::dead_letter_layer) | none | sink for deliveries that failed for good |
//!
//! # Errors
//!
//! Those of the layers. A delivery that was tried fails as [`Failed`](crate::attempt::Failed), with the error of the last
//! attempt and the history; one that ran out of time as [`DeadlineExceeded`](crate::deadline::DeadlineExceeded); one whose
//! entry was lost as [`EntryLost`](crate::dead_letter::EntryLost); one outside of a tokio runtime as [`NoRuntime`]. A
//! receiver answers as [body](crate::body#answers), [signature](crate::signature#answers) and idempotency say.
//!
//! # Cancel safety
//!
//! As that of the layers: dropping a response future makes no further attempt, and leaves neither a timer nor a place that
//! is taken in a breaker or a budget.
//!
//! # What is shared
//!
//! A stack is a set of settings with what its calls have in common. All services that one stack makes, its clones and
//! theirs share breakers, retry budget and metrics, whatever stands below them: a host that one client finds broken is
//! broken for the others. The services of one [`receive()`] share the store, the budget of bodies and the scheme's secrets;
//! keys are kept apart by the path. Two calls of `build` share nothing, except what both were given:
//! [`breakers`](DeliverBuilder::breakers), [`metrics`](DeliverBuilder::metrics), a store.
//!
//! # Spawning
//!
//! `tokio::spawn(client.oneshot(req))` always compiles, and so does
//! `client.ready().await?.call(req).await` in a spawned `async` block around clients with an error
//! type of their own, such as hyper-util's and reqwest's. Where the error of the service inside is
//! a [`BoxError`](crate::BoxError) already, the compiler says of such a block that an implementation
//! is "not general enough" ([rust#64552](https://github.com/rust-lang/rust/issues/64552)): spawn the
//! future of `oneshot`, or put the finished stack into a
//! [`BoxCloneSyncService`](https://docs.rs/tower/0.5/tower/util/struct.BoxCloneSyncService.html).

mod attempt;
#[cfg(feature = "axum")]
mod between;
mod deliver;
mod receive;
mod service;

#[cfg(feature = "axum")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
pub use self::between::{Between, BetweenLayer};
pub use self::{
    attempt::{AttemptBuilder, attempt},
    deliver::{DeliverBuilder, deliver},
    receive::{ReceiveBuilder, ReceiveLayer, receive},
    service::{NoRuntime, Oneshot, Stacked, Transport},
};

use self::service::Bottom;
use crate::{circuit_breaker::Breakers, metrics::DeliveryMetrics};
use tower_layer::Layer;

/// A stack. Made by [`AttemptBuilder::build`] and [`DeliverBuilder::build`].
///
/// Its clones and all services made by it share the retry budget, the breakers and the metrics. Its services are called
/// inside of a tokio runtime; elsewhere a call fails as [`NoRuntime`].
#[derive(Clone, Debug)]
#[must_use]
pub struct StackLayer<L> {
    layer: L,
    breakers: Breakers,
    metrics: DeliveryMetrics,
}

impl<L> StackLayer<L> {
    /// The breakers. Use them to inspect states, force a breaker open or closed, or share them.
    pub const fn breakers(&self) -> &Breakers {
        &self.breakers
    }

    /// The metrics.
    pub const fn metrics(&self) -> &DeliveryMetrics {
        &self.metrics
    }

    /// Puts the stack around a [`Transport`], as that of tower's `Layer`, which need not be imported.
    pub fn layer<S>(&self, transport: S) -> Stacked<L::Service>
    where
        L: Layer<Bottom<S>>,
    {
        Stacked::new(self.layer.layer(Bottom::new(transport)))
    }
}

impl<S, L: Layer<Bottom<S>>> Layer<S> for StackLayer<L> {
    type Service = Stacked<L::Service>;

    fn layer(&self, transport: S) -> Self::Service {
        Self::layer(self, transport)
    }
}
