use super::{BreakerConfig, Breakers, CircuitBreaker};
use crate::{outcome::HttpClassifier, peer::ByHost};
use tower_layer::Layer;

/// Stops calling a peer that fails, until it has had time to recover.
///
/// See the [module docs](super). Clones, and every service that [`layer`](Layer::layer) makes, share
/// their breakers.
#[derive(Clone, Debug)]
#[must_use]
pub struct CircuitBreakerLayer<M = HttpClassifier, K = ByHost> {
    breakers: Breakers,
    make: M,
    key: K,
}

impl CircuitBreakerLayer {
    /// For HTTP: a breaker for every host, and the verdicts of [`HttpClassifier`].
    pub fn new(config: BreakerConfig) -> Self {
        Self::sharing(Breakers::new(config))
    }

    /// The same, with breakers that others use too: two layers in front of the same peers.
    pub fn sharing(breakers: Breakers) -> Self {
        Self {
            breakers,
            make: HttpClassifier::new(),
            key: ByHost,
        }
    }
}

impl<M, K> CircuitBreakerLayer<M, K> {
    /// What judges the calls. Default: [`HttpClassifier`].
    pub fn classifier<M2>(self, make: M2) -> CircuitBreakerLayer<M2, K> {
        CircuitBreakerLayer {
            breakers: self.breakers,
            make,
            key: self.key,
        }
    }

    /// What calls have a breaker in common. Default: [`ByHost`].
    /// [`OnePeer`](crate::peer::OnePeer) where there is one peer, [`peer_fn`](crate::peer::peer_fn) for
    /// everything else; few values, and none with ids or query strings in it.
    pub fn key<K2>(self, key: K2) -> CircuitBreakerLayer<M, K2> {
        CircuitBreakerLayer {
            breakers: self.breakers,
            make: self.make,
            key,
        }
    }

    /// The handle: to observe, to force, to subscribe, to share.
    pub const fn breakers(&self) -> &Breakers {
        &self.breakers
    }
}

impl<S, M: Clone, K: Clone> Layer<S> for CircuitBreakerLayer<M, K> {
    type Service = CircuitBreaker<S, M, K>;

    fn layer(&self, inner: S) -> Self::Service {
        CircuitBreaker {
            inner,
            breakers: self.breakers.clone(),
            make: self.make.clone(),
            key: self.key.clone(),
        }
    }
}
