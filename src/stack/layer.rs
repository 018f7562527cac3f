use crate::{
    AttemptTimeoutLayer, CircuitBreakerLayer, DeadlineLayer, DeliveryMetricsLayer,
    RetryWithJitterLayer,
    circuit_breaker::{Breakers, CircuitBreaker},
    deadline::{WithAttemptTimeout, WithDeadline},
    metrics::{DeliveryMetrics, Measure},
    retry::RetryWithJitter,
};
use tower_layer::{Identity, Layer};

/// The outbound stack. Made by [`Deliver::build`](super::Deliver::build).
///
/// Clones, and every service it makes, share budget, breakers and metrics.
#[derive(Clone, Debug)]
#[must_use]
pub struct DeliverLayer<M, K, X, F, E, B = Identity> {
    pub(super) deliveries: DeliveryMetricsLayer<M, K>,
    pub(super) entries: B,
    pub(super) deadline: DeadlineLayer,
    pub(super) retry: RetryWithJitterLayer<M, X>,
    pub(super) failover: F,
    pub(super) breaker: CircuitBreakerLayer<M, K>,
    pub(super) attempts: DeliveryMetricsLayer<M, K>,
    pub(super) attempt_timeout: AttemptTimeoutLayer,
    pub(super) each: E,
    pub(super) metrics: DeliveryMetrics,
}

impl<M, K, X, F, E, B> DeliverLayer<M, K, X, F, E, B> {
    /// The breakers: to inspect, to force open or closed, to share.
    pub const fn breakers(&self) -> &Breakers {
        self.breaker.breakers()
    }

    /// What was measured.
    pub const fn metrics(&self) -> &DeliveryMetrics {
        &self.metrics
    }

    /// The retry layer's settings, among them the budget.
    pub const fn retry(&self) -> &crate::retry::RetryConfig {
        self.retry.config()
    }
}

/// One attempt on one target: what failover and breaker stand around. `S` is the transport with
/// what is done to each attempt.
type Target<S, M, K> = CircuitBreaker<Measure<WithAttemptTimeout<S>, M, K>, M, K>;

/// The service of a [`DeliverLayer`], where `S` is what the failover makes of one target, or that
/// target itself, and `B` the layer of the dead letters, where there is one.
pub type DeliverService<S, M, K, X, B = Identity> =
    Measure<<B as Layer<Bounded<S, M, X>>>::Service, M, K>;

/// All attempts within the deadline of the whole.
type Bounded<S, M, X> = WithDeadline<RetryWithJitter<S, M, X>>;

impl<S, M, K, X, F, E, B> Layer<S> for DeliverLayer<M, K, X, F, E, B>
where
    E: Layer<S>,
    F: Layer<Target<E::Service, M, K>>,
    M: Clone,
    K: Clone,
    X: Clone,
    B: Layer<Bounded<F::Service, M, X>>,
{
    type Service = DeliverService<F::Service, M, K, X, B>;

    fn layer(&self, transport: S) -> Self::Service {
        let attempt = self.attempt_timeout.layer(self.each.layer(transport));
        let target = self.breaker.layer(self.attempts.layer(attempt));
        let retried = self.retry.layer(self.failover.layer(target));
        let bounded = self.deadline.layer(retried);
        self.deliveries.layer(self.entries.layer(bounded))
    }
}
