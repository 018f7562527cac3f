//! The layer, its service and its response future.

use super::Level;
use crate::{
    context::{self, Counting, Made, Place, Verdict},
    observe::{Entered, Event, Observer, Observers, Scope},
    outcome::{Classify, HttpClassifier, MakeClassifier, Outcome},
    peer::{ByHost, PeerKey},
};
use pin_project::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    str,
    task::{Context, Poll, ready},
};
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

/// Measures each attempt, or each delivery, and reports it to observers.
///
/// See the [module docs](super) for what is measured and where the layer belongs in a stack.
#[derive(Clone, Debug)]
#[must_use]
pub struct DeliveryMetricsLayer<M = HttpClassifier, K = ByHost> {
    observers: Observers,
    level: Level,
    shares_instants: bool,
    make: M,
    peer: K,
}

impl DeliveryMetricsLayer {
    /// Makes a layer that measures attempts. It belongs inside the retry layer.
    pub const fn attempts() -> Self {
        Self::new(Level::Attempt)
    }

    /// Makes a layer that measures deliveries. It belongs outside everything that can fail a delivery.
    pub const fn deliveries() -> Self {
        Self::new(Level::Delivery)
    }

    const fn new(level: Level) -> Self {
        Self {
            observers: Observers::none(),
            level,
            shares_instants: false,
            make: HttpClassifier::new(),
            peer: ByHost,
        }
    }
}

impl<M, K> DeliveryMetricsLayer<M, K> {
    /// Adds an observer of the measurements: [`DeliveryMetrics`](super::DeliveryMetrics), an exporter, or
    /// one of your own. Default: none except `tracing`.
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.observers = self.observers.and(observer);
        self
    }

    /// Shares the instant of its beginning with the layers inside: in a ready-made stack.
    #[cfg(feature = "stack")]
    pub(crate) const fn sharing_instants(mut self) -> Self {
        self.shares_instants = true;
        self
    }

    /// Sets the classifier, which decides the outcome of each result. Default: [`HttpClassifier`]. Use the
    /// same classifier for every layer of a stack, so that metrics and retries agree.
    pub fn classifier<N>(self, make: N) -> DeliveryMetricsLayer<N, K> {
        DeliveryMetricsLayer {
            observers: self.observers,
            level: self.level,
            shares_instants: self.shares_instants,
            make,
            peer: self.peer,
        }
    }

    /// Sets the key that names the peer of a request. Default: [`ByHost`].
    /// [`OnePeer`](crate::peer::OnePeer) gives totals only.
    pub fn peer<L>(self, peer: L) -> DeliveryMetricsLayer<M, L> {
        DeliveryMetricsLayer {
            observers: self.observers,
            level: self.level,
            shares_instants: self.shares_instants,
            make: self.make,
            peer,
        }
    }
}

impl<S, M: Clone, K: Clone> Layer<S> for DeliveryMetricsLayer<M, K> {
    type Service = Measure<S, M, K>;

    fn layer(&self, inner: S) -> Self::Service {
        Measure {
            inner,
            observers: self.observers.clone(),
            level: self.level,
            shares_instants: self.shares_instants,
            make: self.make.clone(),
            peer: self.peer.clone(),
        }
    }
}

/// Middleware of [`DeliveryMetricsLayer`]. See the [module docs](super).
#[derive(Clone)]
pub struct Measure<S, M, K> {
    inner: S,
    observers: Observers,
    level: Level,
    shares_instants: bool,
    make: M,
    peer: K,
}

impl<S, M, K, Req> Service<Req> for Measure<S, M, K>
where
    S: Service<Req>,
    M: MakeClassifier<Req>,
    M::Classifier: Classify<S::Response, S::Error>,
    K: PeerKey<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, M::Classifier>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Req) -> Self::Future {
        if self.level == Level::Delivery && Made::is_reported() {
            return ResponseFuture {
                future: self.inner.call(req),
                flight: None,
                classifier: None,
            };
        }
        let classifier = self.make.make_classifier(&req);
        let heard = self.observers.is_heard().then(|| {
            let peer = self.peer.key(&req);
            Heard::begin(&self.observers, self.level, &peer)
        });
        if heard.is_none() && self.level == Level::Attempt {
            // A layer outside may count it.
            Made::begin_attempt();
        }
        let mut flight = InFlight {
            level: self.level,
            attempts: Made::default(),
            heard,
        };
        let began = flight.heard.as_ref().map(|heard| heard.began);
        let sharing = began.filter(|_| self.shares_instants).map(context::share);
        let entered = flight.entered();
        let future = self.inner.call(req);
        drop((entered, sharing));
        ResponseFuture {
            future,
            flight: Some(flight),
            classifier: Some(classifier),
        }
    }
}

impl<S: fmt::Debug, M, K> fmt::Debug for Measure<S, M, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Measure")
            .field("inner", &self.inner)
            .field("level", &self.level)
            .field("observers", &self.observers)
            .finish_non_exhaustive()
    }
}

/// Response future of [`Measure`].
#[must_use = "futures do nothing unless polled"]
#[pin_project]
pub struct ResponseFuture<F, C> {
    #[pin]
    future: F,
    /// `None` once there is a result, and if the call is not measured here.
    flight: Option<InFlight>,
    /// `None` as `flight` is.
    classifier: Option<C>,
}

impl<F, C, Res, Err> Future for ResponseFuture<F, C>
where
    F: Future<Output = Result<Res, Err>>,
    C: Classify<Res, Err>,
{
    type Output = Result<Res, Err>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(flight) = this.flight.as_mut() else {
            // Not measured, or polled after its end: then the inner future decides what happens.
            return this.future.poll(cx);
        };
        let _judging = context::judging();
        let entered = flight.entered();
        let result = ready!(this.future.poll(cx));
        drop(entered);
        if let Some(classifier) = this.classifier.take() {
            let mut verdict = Verdict::by(classifier, result.as_ref());
            flight.answered(verdict.outcome);
            if verdict.ended.is_none() && flight.heard.is_some() {
                verdict.ended = Some(Instant::now());
            }
            match &verdict.late {
                None => flight.end(verdict.outcome, verdict.ended),
                Some(late) => {
                    if let Some(mut flight) = this.flight.take() {
                        late.then(move |outcome| flight.end(outcome, None));
                    }
                }
            }
            *this.flight = None;
            verdict.tell();
        }
        Poll::Ready(result)
    }
}

impl<F, C> fmt::Debug for ResponseFuture<F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// An attempt or a delivery that has begun. If it is dropped without an outcome, it was cancelled.
struct InFlight {
    level: Level,
    /// The attempts of a delivery.
    attempts: Made,
    /// `None` if there was no observer when it began, and once its end was reported.
    heard: Option<Heard>,
}

/// The values that report the end of a call whose begin was reported.
struct Heard {
    observers: Observers,
    peer: PeerName,
    scope: Scope,
    began: Instant,
}

impl Heard {
    /// Tells that a call begins.
    fn begin(observers: &Observers, level: Level, peer: &str) -> Self {
        let (scope, place) = match level {
            Level::Attempt => (Scope::attempt(peer), Made::begin_attempt()),
            Level::Delivery => (Scope::deliver(peer), Place::First),
        };
        let entered = scope.entered();
        observers.tell(|| match (level, place) {
            (Level::Delivery, _) => Event::DeliveryBegan { peer },
            (Level::Attempt, Place::First) => Event::AttemptBegan {
                peer,
                retry: false,
                after: None,
            },
            (Level::Attempt, Place::Retry(after)) => Event::AttemptBegan {
                peer,
                retry: true,
                after,
            },
        });
        drop(entered);
        Self {
            observers: observers.clone(),
            peer: PeerName::new(peer),
            scope,
            // After the observers, whose time is not that of the call.
            began: Instant::now(),
        }
    }
}

impl InFlight {
    /// What is called until the guards are dropped is measured.
    #[inline]
    fn entered(&mut self) -> (Option<Counting<'_>>, Option<Entered<'_>>) {
        let counting = (self.level == Level::Delivery).then(|| self.attempts.count());
        (
            counting,
            self.heard.as_ref().map(|heard| heard.scope.entered()),
        )
    }

    /// Records the outcome for the attempt that follows.
    fn answered(&self, outcome: Outcome) {
        if self.level == Level::Attempt {
            Made::end_attempt(outcome.code());
        }
    }

    /// Tells the end, once. `at`: when the result was there, if it is not now.
    fn end(&mut self, outcome: Outcome, at: Option<Instant>) {
        let Some(heard) = &self.heard else {
            return;
        };
        let at = at.unwrap_or_else(Instant::now);
        let elapsed = at.saturating_duration_since(heard.began);
        let peer = heard.peer.as_str();
        let entered = heard.scope.entered();
        heard.observers.tell(|| match self.level {
            Level::Attempt => Event::AttemptEnded {
                peer,
                outcome,
                elapsed,
            },
            Level::Delivery => Event::DeliveryEnded {
                peer,
                outcome,
                elapsed,
                attempts: self.attempts.attempts,
                queued: false,
            },
        });
        drop(entered);
        self.heard = None;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.end(Outcome::cancelled(), None);
    }
}

/// The name of a peer, kept until the end of a call without an allocation unless it is longer than
/// nearly every host name. A shared string would need an interner with a lock and a bound.
#[allow(
    clippy::large_enum_variant,
    reason = "the large variant is the usual one"
)]
enum PeerName {
    Short { len: u8, bytes: [u8; SHORT] },
    Long(Box<str>),
}

/// Makes `PeerName` 64 bytes.
const SHORT: usize = 62;

impl PeerName {
    fn new(name: &str) -> Self {
        let mut bytes = [0; SHORT];
        match (bytes.get_mut(..name.len()), u8::try_from(name.len())) {
            (Some(place), Ok(len)) => {
                place.copy_from_slice(name.as_bytes());
                Self::Short { len, bytes }
            }
            _ => Self::Long(name.into()),
        }
    }

    fn as_str(&self) -> &str {
        match self {
            Self::Short { len, bytes } => {
                let name = bytes.get(..usize::from(*len)).unwrap_or_default();
                // Copied from a `str`, whole.
                str::from_utf8(name).unwrap_or_default()
            }
            Self::Long(name) => name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_any_length_is_given_back_whole() {
        for len in [0, 1, SHORT - 1, SHORT, SHORT + 1, 255, 256, 8192] {
            let name = "x".repeat(len);
            assert_eq!(PeerName::new(&name).as_str(), name);
        }
        let name = "ö".repeat(SHORT / 2);
        assert_eq!(PeerName::new(&name).as_str(), name);
        assert_eq!(size_of::<PeerName>(), 64);
    }
}
