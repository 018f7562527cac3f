use crate::{
    DeadLetterLayer,
    metrics::Recorder,
    observe::{Event, observer_fn},
};
use tower_layer::Identity;

/// That failed deliveries become dead letters, described by `D`. Made by
/// [`Deliver::dead_letters`](super::Deliver::dead_letters).
#[derive(Clone, Debug)]
pub struct DeadLettering<D> {
    pub(super) layer: DeadLetterLayer<(), (), D>,
}

/// What a [`Deliver`](super::Deliver) does with deliveries that have failed: nothing (`Identity`),
/// or [`DeadLettering`].
pub trait DeadLetter<M, K, R>: private::Sealed {
    /// The layer that does it.
    type Layer;

    /// Makes it, once classifier, key and recorder are known.
    fn layer(self, make: &M, key: &K, recorder: &R) -> Self::Layer;
}

impl<M, K, R> DeadLetter<M, K, R> for Identity {
    type Layer = Self;

    fn layer(self, _: &M, _: &K, _: &R) -> Self {
        self
    }
}

impl<M: Clone, K: Clone, R: Recorder + Clone, D> DeadLetter<M, K, R> for DeadLettering<D> {
    type Layer = DeadLetterLayer<M, K, D>;

    fn layer(self, make: &M, key: &K, recorder: &R) -> Self::Layer {
        let recorder = recorder.clone();
        let layer = self.layer.map_dead_letters(|dead_letters| {
            dead_letters.observe(observer_fn(move |event| match event {
                Event::DeadLettered {
                    peer,
                    reason,
                    fell_back,
                    ..
                } => {
                    let end = if *fell_back { "fell_back" } else { "written" };
                    recorder.dead_lettered(peer, reason, end);
                }
                Event::Lost { peer, reason, .. } => {
                    recorder.dead_lettered(peer, reason, "not_written");
                }
                _ => {}
            }))
        });
        layer.classifier(make.clone()).peer(key.clone())
    }
}

mod private {
    use super::{DeadLettering, Identity};

    pub trait Sealed {}

    impl Sealed for Identity {}
    impl<D> Sealed for DeadLettering<D> {}
}
