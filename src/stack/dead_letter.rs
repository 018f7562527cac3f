use crate::{DeadLetterLayer, dead_letter::DeadLetters, observe::Observers};
use tower_layer::Identity;

/// That failed deliveries become dead letters, described by `D`. Made by
/// [`Deliver::dead_letters`](super::Deliver::dead_letters).
#[derive(Clone, Debug)]
pub struct DeadLettering<D> {
    pub(super) layer: DeadLetterLayer<(), (), D>,
}

/// What a [`Deliver`](super::Deliver) does with deliveries that have failed: nothing (`Identity`),
/// or [`DeadLettering`].
pub trait DeadLetter<M, K>: private::Sealed {
    /// The layer that does it.
    type Layer;

    /// Makes it, once classifier, key and observers are known.
    fn layer(self, make: &M, key: &K, observers: &Observers) -> Self::Layer;
}

impl<M, K> DeadLetter<M, K> for Identity {
    type Layer = Self;

    fn layer(self, _: &M, _: &K, _: &Observers) -> Self {
        self
    }
}

impl<M: Clone, K: Clone, D> DeadLetter<M, K> for DeadLettering<D> {
    type Layer = DeadLetterLayer<M, K, D>;

    fn layer(self, make: &M, key: &K, observers: &Observers) -> Self::Layer {
        let observers = observers.clone();
        let observe = |dead_letters: DeadLetters| dead_letters.observe(observers);
        let layer = self.layer.map_dead_letters(observe);
        layer.classifier(make.clone()).peer(key.clone())
    }
}

mod private {
    use super::{DeadLettering, Identity};

    pub trait Sealed {}

    impl Sealed for Identity {}
    impl<D> Sealed for DeadLettering<D> {}
}
