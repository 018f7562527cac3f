use super::{Level, Recorder, ResponseFuture, Series, combine::catch_panic, guard::InFlight};
use crate::{
    outcome::{Classify, MakeClassifier},
    peer::PeerKey,
};
use std::{
    fmt,
    task::{Context, Poll},
};
use tower_service::Service;

/// Middleware of [`DeliveryMetricsLayer`](super::DeliveryMetricsLayer). See the
/// [module docs](super).
pub struct Measure<S, R: Recorder, M, K> {
    pub(super) inner: S,
    pub(super) recorder: R,
    pub(super) level: Level,
    pub(super) make: M,
    pub(super) key: K,
    /// The series that was used last: most services call one peer.
    pub(super) last: Option<R::Series>,
}

impl<S, R, M, K, Req> Service<Req> for Measure<S, R, M, K>
where
    S: Service<Req>,
    R: Recorder,
    M: MakeClassifier<Req>,
    M::Classifier: Classify<S::Response, S::Error>,
    K: PeerKey<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, M::Classifier, R::Series>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Req) -> Self::Future {
        let classifier = self.make.make_classifier(&req);
        let series = {
            let key = self.key.key(&req);
            catch_panic(|| match &self.last {
                Some(last) if last.is_for(&key) => last.clone(),
                _ => self.last.insert(self.recorder.series(&key)).clone(),
            })
        };
        let mut flight = InFlight::start(series, self.level);
        let future = flight.scope(|| self.inner.call(req));
        ResponseFuture::new(future, flight, classifier)
    }
}

impl<S, R, M, K> Clone for Measure<S, R, M, K>
where
    S: Clone,
    R: Recorder + Clone,
    M: Clone,
    K: Clone,
{
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            recorder: self.recorder.clone(),
            level: self.level,
            make: self.make.clone(),
            key: self.key.clone(),
            last: self.last.clone(),
        }
    }
}

impl<S, R, M, K> fmt::Debug for Measure<S, R, M, K>
where
    S: fmt::Debug,
    R: Recorder + fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Measure")
            .field("inner", &self.inner)
            .field("level", &self.level)
            .field("recorder", &self.recorder)
            .finish_non_exhaustive()
    }
}
