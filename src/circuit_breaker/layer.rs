use super::{BreakerConfig, BreakerPermit, Breakers, CircuitOpen};
use crate::{
    BoxError, IntoBoxError,
    context::{self, Verdict},
    observe::Observer,
    outcome::{Classify, HttpClassifier, MakeClassifier},
    peer::{ByHost, PeerKey},
};
use pin_project::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower_layer::Layer;
use tower_service::Service;

/// Stops calling a peer that fails, until it has had time to recover.
///
/// See the [module docs](super). Clones of a layer, and all services made by it, share their breakers.
#[derive(Clone, Debug)]
#[must_use]
pub struct CircuitBreakerLayer<M = HttpClassifier, K = ByHost> {
    breakers: Breakers,
    make: M,
    peer: K,
}

impl CircuitBreakerLayer {
    /// Makes a layer with a breaker for each host, and outcomes by [`HttpClassifier`].
    pub fn new(config: BreakerConfig) -> Self {
        Self::sharing(Breakers::new(config))
    }

    /// Makes a layer with existing breakers, for several layers that call the same peers.
    pub fn sharing(breakers: Breakers) -> Self {
        Self {
            breakers,
            make: HttpClassifier::new(),
            peer: ByHost,
        }
    }
}

impl<M, K> CircuitBreakerLayer<M, K> {
    /// Sets the classifier, which decides the outcome of each call. Default: [`HttpClassifier`].
    pub fn classifier<M2>(self, make: M2) -> CircuitBreakerLayer<M2, K> {
        CircuitBreakerLayer {
            breakers: self.breakers,
            make,
            peer: self.peer,
        }
    }

    /// Sets the key that groups calls by peer; each peer has a breaker. Default: [`ByHost`].
    ///
    /// [`OnePeer`](crate::peer::OnePeer) makes one breaker for all calls, and
    /// [`peer_fn`](crate::peer::peer_fn) takes a function. The key should have few values, without ids or
    /// query strings.
    pub fn peer<K2>(self, peer: K2) -> CircuitBreakerLayer<M, K2> {
        CircuitBreakerLayer {
            breakers: self.breakers,
            make: self.make,
            peer,
        }
    }

    /// Adds an observer of the breakers, including shared ones: see [`Breakers::observe`]. Default: none except
    /// `tracing`.
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.breakers = self.breakers.observe(observer);
        self
    }

    /// The breakers. Use them to inspect states, force a breaker open or closed, or share them.
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
            peer: self.peer.clone(),
        }
    }
}

/// Middleware of [`CircuitBreakerLayer`]. See the [module docs](super).
///
/// Its error is a [`BoxError`]: the error of the inner service, or a [`CircuitOpen`].
#[derive(Clone, Debug)]
pub struct CircuitBreaker<S, M = HttpClassifier, K = ByHost> {
    inner: S,
    breakers: Breakers,
    make: M,
    peer: K,
}

impl<S, M, K, Req> Service<Req> for CircuitBreaker<S, M, K>
where
    S: Service<Req>,
    S::Error: IntoBoxError,
    M: MakeClassifier<Req>,
    M::Classifier: Classify<S::Response, S::Error>,
    K: PeerKey<Req>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future, M::Classifier>;

    /// Polls the inner service only. An open breaker refuses in `call`, because an error here would mean
    /// that this service has failed for good.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, req: Req) -> Self::Future {
        let admitted = self
            .breakers
            .admit_at(&self.peer.key(&req), context::shared());
        let state = match admitted {
            Ok(permit) => {
                let classifier = self.make.make_classifier(&req);
                State::Called {
                    future: self.inner.call(req),
                    settle: Some((permit, classifier)),
                }
            }
            Err(open) => State::Refused { open: Some(open) },
        };
        ResponseFuture { state }
    }
}

/// Response future of [`CircuitBreaker`].
#[must_use = "futures do nothing unless polled"]
#[pin_project]
pub struct ResponseFuture<F, C> {
    #[pin]
    state: State<F, C>,
}

#[pin_project(project = StateProj)]
enum State<F, C> {
    Called {
        #[pin]
        future: F,
        /// Dropped with the future if there is no result: the call then counts as cancelled.
        settle: Option<(BreakerPermit, C)>,
    },
    Refused {
        open: Option<CircuitOpen>,
    },
}

impl<F, C, Res, E> Future for ResponseFuture<F, C>
where
    F: Future<Output = Result<Res, E>>,
    C: Classify<Res, E>,
    E: Into<BoxError>,
{
    type Output = Result<Res, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Called { future, settle } => {
                let _judging = context::judging();
                let result = ready!(future.poll(cx));
                if let Some((mut permit, classifier)) = settle.take() {
                    let verdict = Verdict::by(classifier, result.as_ref());
                    match &verdict.late {
                        None => permit.settle_at(verdict.outcome, verdict.ended),
                        Some(late) => {
                            permit.answered_at(verdict.ended);
                            late.then(move |outcome| permit.settle(outcome));
                        }
                    }
                    verdict.tell();
                }
                Poll::Ready(result.map_err(Into::into))
            }
            StateProj::Refused { open } => {
                // Invariant: taken here alone, at the end.
                #[expect(clippy::expect_used, reason = "a future is not polled after its end")]
                let open = open.take().expect("polled after completion");
                context::withdraw();
                Poll::Ready(Err(open.into()))
            }
        }
    }
}

impl<F, C> fmt::Debug for ResponseFuture<F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
