use super::{
    CloneExchange, Exchange, ExchangeResponse, RetryConfig,
    state::{Decision, RetryState},
};
use crate::{
    BoxError, IntoBoxError,
    attempt::{Failed, GaveUp, History},
    context::{self, CallContext, Verdict},
    observe::{Event, Observer, Observers},
    outcome::{Classify, HttpClassifier, MakeClassifier, Outcome, OutcomeKind},
};
use pin_project::pin_project;
use std::{
    error::Error,
    fmt,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::time::{Instant, Sleep, sleep_until};
use tower_layer::Layer;
use tower_service::Service;

/// Retries failed calls, if that is safe, allowed by the settings and likely to help.
///
/// See the [module docs](super). Type parameters: `M` classifies results; `X` keeps requests and
/// discards failed responses.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct RetryWithJitterLayer<M = HttpClassifier, X = CloneExchange> {
    config: RetryConfig,
    make: M,
    exchange: X,
    observers: Observers,
}

impl RetryWithJitterLayer {
    /// Makes a layer for requests that can be cloned, with the classifier for HTTP.
    pub fn new(config: RetryConfig) -> Self {
        Self {
            config,
            make: HttpClassifier::new(),
            exchange: CloneExchange,
            observers: Observers::none(),
        }
    }
}

impl<M, X> RetryWithJitterLayer<M, X> {
    /// Sets the classifier of results. Default: [`HttpClassifier`].
    pub fn classifier<M2>(self, classifier: M2) -> RetryWithJitterLayer<M2, X> {
        RetryWithJitterLayer {
            config: self.config,
            make: classifier,
            exchange: self.exchange,
            observers: self.observers,
        }
    }

    /// Sets the exchange, which keeps requests and discards failed responses. Default: [`CloneExchange`].
    pub fn exchange<X2>(self, exchange: X2) -> RetryWithJitterLayer<M, X2> {
        RetryWithJitterLayer {
            config: self.config,
            make: self.make,
            exchange,
            observers: self.observers,
        }
    }

    /// Adds an observer of [`Event::Retrying`], before each wait for another attempt, and of
    /// [`Event::GaveUp`], when a failed delivery is not retried. Default: none except `tracing`.
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.observers = self.observers.and(observer);
        self
    }

    /// The settings, including the budget.
    pub const fn config(&self) -> &RetryConfig {
        &self.config
    }
}

impl<S, M: Clone, X: Clone> Layer<S> for RetryWithJitterLayer<M, X> {
    type Service = RetryWithJitter<S, M, X>;

    fn layer(&self, inner: S) -> Self::Service {
        RetryWithJitter {
            inner,
            layer: self.clone(),
        }
    }
}

/// Middleware of [`RetryWithJitterLayer`]. See the [module docs](super).
#[derive(Clone, Debug)]
pub struct RetryWithJitter<S, M = HttpClassifier, X = CloneExchange> {
    inner: S,
    layer: RetryWithJitterLayer<M, X>,
}

impl<S, M, X, Req> Service<Req> for RetryWithJitter<S, M, X>
where
    X: Exchange<Req> + ExchangeResponse<S::Response> + Clone,
    S: Service<X::Sent> + Clone,
    S::Error: IntoBoxError,
    M: MakeClassifier<Req>,
    M::Classifier: Classify<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ResponseFuture<S, M::Classifier, X, Req>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, req: Req) -> Self::Future {
        let RetryWithJitterLayer {
            config,
            make,
            exchange,
            observers,
        } = &self.layer;
        let now = context::now();
        let mut state = RetryState::new(config, now, CallContext::current());
        if let Err(reason) = state.begin(now) {
            let history = state.end(reason);
            tell_gave_up(observers, &history);
            return ResponseFuture::too_late(history);
        }
        let classifier = make.make_classifier(&req);
        let (sent, kept) = exchange.first(req, config.settings.attempts > 1);
        let entered = state.entered();
        let (future, again) = match kept {
            None => (self.inner.call(sent), None),
            Some(kept) => {
                // The future takes the instance that was polled ready, and polls it ready again
                // before a retry. A clone, which is polled before its first call, replaces it.
                let spare = self.inner.clone();
                let mut inner = mem::replace(&mut self.inner, spare);
                (inner.call(sent), Some((inner, Some(kept))))
            }
        };
        drop(entered);
        let call = Call {
            again,
            classifier,
            exchange: exchange.clone(),
            observers: observers.clone(),
            state,
            resume_at: None,
            error: None,
        };
        ResponseFuture::called(future, call)
    }
}

/// Response future of [`RetryWithJitter`].
#[pin_project]
pub struct ResponseFuture<S, C, X, Req>
where
    X: Exchange<Req> + ExchangeResponse<S::Response>,
    S: Service<X::Sent>,
{
    #[pin]
    state: State<S::Future, X::Discard>,
    /// `None` if there was no time for a first attempt.
    call: Option<Call<S, C, X, Req>>,
}

#[pin_project(project = StateProj)]
enum State<F, D> {
    /// There was no time for a first attempt.
    TooLate { failed: Option<Failed> },
    /// An attempt is running.
    Calling {
        #[pin]
        future: F,
    },
    /// The response of a failed attempt is being discarded.
    Discarding {
        #[pin]
        discard: D,
    },
    /// The wait before the next attempt.
    Sleeping {
        #[pin]
        timer: Sleep,
    },
    /// The inner service is polled ready again.
    Readying,
}

/// The part of a call that its future keeps in every state.
struct Call<S, C, X: Exchange<Req>, Req> {
    /// The service that made the first attempt, and the kept request. `None` if there is no further
    /// attempt.
    again: Option<(S, Option<X::Kept>)>,
    classifier: C,
    exchange: X,
    observers: Observers,
    state: RetryState,
    /// When the next attempt is due; `None` for at once.
    resume_at: Option<Instant>,
    /// The error of the last attempt, and its outcome: returned if the next one cannot be made after all, or is refused
    /// on this side.
    error: Option<(Outcome, BoxError)>,
}

impl<S, C, X, Req> ResponseFuture<S, C, X, Req>
where
    X: Exchange<Req> + ExchangeResponse<S::Response>,
    S: Service<X::Sent>,
{
    fn too_late(history: History) -> Self {
        Self {
            state: State::TooLate {
                failed: Some(Failed::new(NotMade, history)),
            },
            call: None,
        }
    }

    const fn called(future: S::Future, call: Call<S, C, X, Req>) -> Self {
        Self {
            state: State::Calling { future },
            call: Some(call),
        }
    }
}

/// The next state, or the end.
type Next<S, X, Sent> = Result<
    State<
        <S as Service<Sent>>::Future,
        <X as ExchangeResponse<<S as Service<Sent>>::Response>>::Discard,
    >,
    Result<<S as Service<Sent>>::Response, BoxError>,
>;

impl<S, C, X, Req> Call<S, C, X, Req>
where
    X: Exchange<Req> + ExchangeResponse<S::Response>,
    S: Service<X::Sent>,
    S::Error: IntoBoxError,
    C: Classify<S::Response, S::Error> + Clone,
{
    /// The next state after the result of an attempt, or the end.
    fn judge(&mut self, result: Result<S::Response, S::Error>) -> Next<S, X, X::Sent> {
        let verdict = Verdict::by(self.classifier.clone(), result.as_ref());
        let outcome = verdict.outcome;
        if !outcome.is_failure() && self.state.is_first_call() {
            verdict.tell();
            return Err(result.map_err(Into::into));
        }
        let now = verdict.ended.unwrap_or_else(Instant::now);
        let failed = self.state.attempt();
        let (again, exchange) = (&self.again, &self.exchange);
        let can_send_again = || match again {
            Some((_, Some(kept))) => exchange.can_send_again(kept),
            _ => false,
        };
        match self.state.decide(outcome, now, can_send_again) {
            Decision::Done(history) => {
                let result = match (result, history) {
                    (Ok(mut res), Some(history)) => {
                        self.exchange.annotate(&mut res, history);
                        Ok(res)
                    }
                    (result, _) => result.map_err(Into::into),
                };
                verdict.tell();
                Err(result)
            }
            Decision::GiveUp(history) => {
                let result = match result {
                    Ok(mut res) => {
                        tell_gave_up(&self.observers, &history);
                        self.exchange.annotate(&mut res, history);
                        verdict.tell();
                        Ok(res)
                    }
                    Err(error) => {
                        if outcome.kind() != OutcomeKind::Refused {
                            self.error = None;
                        }
                        Err(self.fail(Some(error.into()), Some(verdict), history))
                    }
                };
                Err(result)
            }
            Decision::Retry(wait) => {
                self.observers.tell(|| Event::Retrying {
                    attempt: failed.number(),
                    outcome,
                    wait,
                });
                self.resume_at = (!wait.is_zero()).then(|| now + wait);
                match result {
                    Ok(res) => {
                        self.error = None;
                        Ok(State::Discarding {
                            discard: self.exchange.discard(res),
                        })
                    }
                    Err(error) => {
                        // A refusal on this side is not to hide what an attempt met.
                        let before = self.error.as_ref().map(|(outcome, _)| *outcome);
                        if outcome.was_attempted() || !before.is_some_and(Outcome::was_attempted) {
                            self.error = Some((outcome, error.into()));
                        }
                        Ok(self.wait())
                    }
                }
            }
        }
    }

    /// Begins the next attempt, after the wait.
    fn ready(&mut self, cx: &mut Context<'_>) -> Poll<Next<S, X, X::Sent>> {
        let Some((inner, kept)) = &mut self.again else {
            return Poll::Ready(Err(Err(self.not_made(GaveUp::BodyNotReplayable))));
        };
        if let Err(error) = ready!(inner.poll_ready(cx)) {
            let history = self.state.end(GaveUp::NotReady);
            let failed = self.fail(Some(error.into()), None, history);
            return Poll::Ready(Err(Err(failed)));
        }
        if let Err(reason) = self.state.begin(Instant::now()) {
            return Poll::Ready(Err(Err(self.not_made(reason))));
        }
        let last = self.state.is_last();
        let Some(sent) = self.exchange.again(kept, last) else {
            self.state.not_sent();
            return Poll::Ready(Err(Err(self.not_made(GaveUp::BodyNotReplayable))));
        };
        let _entered = self.state.entered();
        let future = inner.call(sent);
        Poll::Ready(Ok(State::Calling { future }))
    }

    fn wait(&self) -> State<S::Future, X::Discard> {
        match self.resume_at {
            // Even if that time has passed: polling a timer yields to other tasks from time to
            // time, which a service that fails at once does not.
            Some(at) => State::Sleeping {
                timer: sleep_until(at),
            },
            None => State::Readying,
        }
    }

    /// Ends the delivery although another attempt was decided on, for example because the time has
    /// passed meanwhile.
    fn not_made(&mut self, reason: GaveUp) -> BoxError {
        let history = self.state.end(reason);
        self.fail(None, None, history)
    }

    /// Ends the delivery with the error of its last attempt, or with the error of the call that ends it, if no attempt
    /// has one. `verdict` is on that call; `None` if nobody has judged it.
    fn fail(
        &mut self,
        last: Option<BoxError>,
        verdict: Option<Verdict>,
        history: History,
    ) -> BoxError {
        tell_gave_up(&self.observers, &history);
        let (failed, verdict) = match (self.error.take(), last) {
            (Some((outcome, error)), None) => {
                (Failed::new(error, history), Some(Verdict::of(outcome)))
            }
            (Some((outcome, error)), Some(refusal)) if outcome.was_attempted() => {
                let failed = Failed::new(error, history).with_refusal(refusal);
                (failed, Some(Verdict::of(outcome)))
            }
            (_, last) => {
                let error = last.unwrap_or_else(|| NotMade.into());
                (Failed::new(error, history), verdict)
            }
        };
        match verdict {
            Some(verdict) => verdict.tell(),
            None => context::withdraw(),
        }
        failed.into()
    }
}

fn tell_gave_up(observers: &Observers, history: &History) {
    if let Some(reason) = history.gave_up() {
        observers.tell(|| Event::GaveUp { reason, history });
    }
}

impl<S, C, X, Req> Future for ResponseFuture<S, C, X, Req>
where
    X: Exchange<Req> + ExchangeResponse<S::Response>,
    S: Service<X::Sent>,
    S::Error: IntoBoxError,
    C: Classify<S::Response, S::Error> + Clone,
{
    type Output = Result<S::Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let _judging = context::judging();
        let mut this = self.project();
        loop {
            let next = match (this.state.as_mut().project(), this.call.as_mut()) {
                (StateProj::Calling { future }, Some(call)) => {
                    context::withdraw();
                    let entered = call.state.entered();
                    let result = ready!(future.poll(cx));
                    drop(entered);
                    call.judge(result)
                }
                (StateProj::Discarding { discard }, Some(call)) => {
                    ready!(discard.poll(cx));
                    Ok(call.wait())
                }
                (StateProj::Sleeping { timer }, Some(_)) => {
                    ready!(timer.poll(cx));
                    Ok(State::Readying)
                }
                (StateProj::Readying, Some(call)) => ready!(call.ready(cx)),
                (StateProj::TooLate { failed }, _) => Err(Err(ended(failed.take()))),
                // Only `TooLate` is without a call.
                (_, None) => Err(Err(ended(None))),
            };
            match next {
                Ok(state) => this.state.set(state),
                Err(result) => return Poll::Ready(result),
            }
        }
    }
}

/// The result of a future that is polled after its end: it must not panic.
fn ended(failed: Option<Failed>) -> BoxError {
    failed.map_or_else(|| NotMade.into(), BoxError::from)
}

/// Replaces the error of an attempt if no attempt was made.
#[derive(Debug)]
struct NotMade;

impl fmt::Display for NotMade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no further attempt was made")
    }
}

impl Error for NotMade {}

impl<S, C, X, Req> fmt::Debug for ResponseFuture<S, C, X, Req>
where
    X: Exchange<Req> + ExchangeResponse<S::Response>,
    S: Service<X::Sent>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
