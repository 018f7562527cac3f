use super::{CloneExchange, RetryConfig, RetryWithJitter};
use crate::outcome::HttpClassifier;
use tower_layer::Layer;

/// Repeats calls that failed, as far as that is safe, wanted and worth it.
///
/// See the [module docs](super). `M` judges results, `X` keeps requests and puts responses away.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct RetryWithJitterLayer<M = HttpClassifier, X = CloneExchange> {
    config: RetryConfig,
    make: M,
    exchange: X,
}

impl RetryWithJitterLayer {
    /// For requests that can be cloned, judged as HTTP.
    pub fn new(config: RetryConfig) -> Self {
        Self {
            config,
            make: HttpClassifier::new(),
            exchange: CloneExchange,
        }
    }
}

impl<M, X> RetryWithJitterLayer<M, X> {
    /// What judges results. Default: [`HttpClassifier`].
    pub fn classifier<M2>(self, classifier: M2) -> RetryWithJitterLayer<M2, X> {
        RetryWithJitterLayer {
            config: self.config,
            make: classifier,
            exchange: self.exchange,
        }
    }

    /// How requests are kept and failed responses put away. Default: [`CloneExchange`].
    pub fn exchange<X2>(self, exchange: X2) -> RetryWithJitterLayer<M, X2> {
        RetryWithJitterLayer {
            config: self.config,
            make: self.make,
            exchange,
        }
    }

    /// The settings, among them the budget.
    pub const fn config(&self) -> &RetryConfig {
        &self.config
    }
}

impl<S, M: Clone, X: Clone> Layer<S> for RetryWithJitterLayer<M, X> {
    type Service = RetryWithJitter<S, M, X>;

    fn layer(&self, inner: S) -> Self::Service {
        RetryWithJitter {
            inner,
            config: self.config.clone(),
            make: self.make.clone(),
            exchange: self.exchange.clone(),
        }
    }
}
