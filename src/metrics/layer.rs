use super::{Level, Measure, Recorder};
use crate::{outcome::HttpClassifier, peer::ByHost};
use tower_layer::Layer;

/// Measures each attempt, or each delivery, and tells a [`Recorder`].
///
/// See the [module docs](super) for what counts as what and where it stands in a stack.
#[derive(Clone, Debug)]
#[must_use]
pub struct DeliveryMetricsLayer<R, M = HttpClassifier, K = ByHost> {
    recorder: R,
    level: Level,
    make: M,
    key: K,
}

impl<R: Recorder> DeliveryMetricsLayer<R> {
    /// Measures attempts: stands inside the retry layer.
    pub const fn attempts(recorder: R) -> Self {
        Self::new(recorder, Level::Attempt)
    }

    /// Measures deliveries: stands outside everything that can fail one.
    pub const fn deliveries(recorder: R) -> Self {
        Self::new(recorder, Level::Delivery)
    }

    const fn new(recorder: R, level: Level) -> Self {
        Self {
            recorder,
            level,
            make: HttpClassifier::new(),
            key: ByHost,
        }
    }
}

impl<R, M, K> DeliveryMetricsLayer<R, M, K> {
    /// Who judges the results. Default: [`HttpClassifier`]. Give every layer of a stack the same
    /// one, so that the metrics say what the retries were decided by.
    pub fn classifier<N>(self, make: N) -> DeliveryMetricsLayer<R, N, K> {
        DeliveryMetricsLayer {
            recorder: self.recorder,
            level: self.level,
            make,
            key: self.key,
        }
    }

    /// What the figures are kept by. Default: [`ByHost`];
    /// [`OnePeer`](crate::peer::OnePeer) keeps only totals.
    pub fn key<L>(self, key: L) -> DeliveryMetricsLayer<R, M, L> {
        DeliveryMetricsLayer {
            recorder: self.recorder,
            level: self.level,
            make: self.make,
            key,
        }
    }
}

impl<S, R, M, K> Layer<S> for DeliveryMetricsLayer<R, M, K>
where
    R: Recorder + Clone,
    M: Clone,
    K: Clone,
{
    type Service = Measure<S, R, M, K>;

    fn layer(&self, inner: S) -> Self::Service {
        Measure {
            inner,
            recorder: self.recorder.clone(),
            level: self.level,
            make: self.make.clone(),
            key: self.key.clone(),
            last: None,
        }
    }
}
