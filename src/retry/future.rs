use super::{
    Exchange, ExchangeResponse, RetryConfig, Retrying,
    course::{Course, Verdict},
};
use crate::{
    BoxError,
    attempt::{Failed, GaveUp, History},
    outcome::Classify,
    trace::passed,
};
use pin_project::pin_project;
use std::{
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::time::{Instant, Sleep, sleep_until};
use tower_service::Service;

/// Response future of [`RetryWithJitter`](super::RetryWithJitter).
#[pin_project]
pub struct ResponseFuture<S, C, X, Req>
where
    X: Exchange<Req> + ExchangeResponse<S::Response>,
    S: Service<X::Sent>,
{
    #[pin]
    state: State<S::Future, X::Discard>,
    /// `None` where there was no time for a first attempt.
    call: Option<Call<S, C, X, Req>>,
}

#[pin_project(project = StateProj)]
enum State<F, D> {
    /// There was no time for a first attempt.
    Overdue { failed: Option<Failed> },
    /// An attempt is made.
    Calling {
        #[pin]
        future: F,
    },
    /// The response of a failed one is put away.
    Discarding {
        #[pin]
        discard: D,
    },
    /// The time until the next one is slept away.
    Sleeping {
        #[pin]
        timer: Sleep,
    },
    /// The service is driven to ready again.
    Readying,
}

/// What a call has beside its state.
pub(super) struct Call<S, C, X: Exchange<Req>, Req> {
    /// What makes another attempt: the service that made the first, and what was kept of the
    /// request.
    again: Option<(S, Option<X::Kept>)>,
    classifier: C,
    exchange: X,
    config: RetryConfig,
    course: Course,
    /// When the next attempt is due; `None` is at once.
    resume_at: Option<Instant>,
    /// The error of the last attempt, if it was one: returned where no other can be made after all.
    error: Option<BoxError>,
}

impl<S, C, X, Req> ResponseFuture<S, C, X, Req>
where
    X: Exchange<Req> + ExchangeResponse<S::Response>,
    S: Service<X::Sent>,
{
    pub(super) fn overdue(history: History) -> Self {
        Self {
            state: State::Overdue {
                failed: Some(Failed::new(NotMade, history)),
            },
            call: None,
        }
    }

    pub(super) const fn called(future: S::Future, call: Call<S, C, X, Req>) -> Self {
        Self {
            state: State::Calling { future },
            call: Some(call),
        }
    }
}

/// The state that follows, or the end.
type Next<S, X, Sent> = Result<
    State<
        <S as Service<Sent>>::Future,
        <X as ExchangeResponse<<S as Service<Sent>>::Response>>::Discard,
    >,
    Result<<S as Service<Sent>>::Response, BoxError>,
>;

impl<S, C, X: Exchange<Req>, Req> Call<S, C, X, Req> {
    pub(super) fn new(
        again: Option<(S, X::Kept)>,
        classifier: C,
        exchange: X,
        config: RetryConfig,
        course: Course,
    ) -> Self {
        Self {
            again: again.map(|(inner, kept)| (inner, Some(kept))),
            classifier,
            exchange,
            config,
            course,
            resume_at: None,
            error: None,
        }
    }
}

impl<S, C, X, Req> Call<S, C, X, Req>
where
    X: Exchange<Req> + ExchangeResponse<S::Response>,
    S: Service<X::Sent>,
    S::Error: Into<BoxError>,
    C: Classify<S::Response, S::Error> + Clone,
{
    /// What follows from the result of an attempt.
    fn judge(&mut self, result: Result<S::Response, S::Error>) -> Next<S, X, X::Sent> {
        let outcome = self.classifier.clone().classify(result.as_ref());
        if !outcome.is_failure() && self.course.is_first_call() {
            return Err(result.map_err(Into::into));
        }
        let (now, failed) = (Instant::now(), self.course.attempt());
        let (again, exchange) = (&self.again, &self.exchange);
        let can_send_again = || match again {
            Some((_, Some(kept))) => exchange.can_send_again(kept),
            _ => false,
        };
        let settings = &self.config.settings;
        match self.course.decide(settings, outcome, now, can_send_again) {
            Verdict::Done(history) => Err(match (result, history) {
                (Ok(mut res), Some(history)) => {
                    self.exchange.annotate(&mut res, history);
                    Ok(res)
                }
                (result, _) => result.map_err(Into::into),
            }),
            Verdict::GiveUp(history) => Err(match result {
                Ok(mut res) => {
                    self.tell(&history);
                    self.exchange.annotate(&mut res, history);
                    Ok(res)
                }
                Err(error) => Err(self.fail(error, history)),
            }),
            Verdict::Retry(wait) => {
                passed!(
                    "retry",
                    "again",
                    attempt = failed.number(),
                    kind = outcome.kind()
                );
                settings.hooks.retrying(&Retrying {
                    failed,
                    outcome,
                    wait,
                });
                self.resume_at = (!wait.is_zero()).then(|| now + wait);
                match result {
                    Ok(res) => Ok(State::Discarding {
                        discard: self.exchange.discard(res),
                    }),
                    Err(error) => {
                        self.error = Some(error.into());
                        Ok(self.wait())
                    }
                }
            }
        }
    }

    /// Begins the next attempt, once its time has come.
    fn ready(&mut self, cx: &mut Context<'_>) -> Poll<Next<S, X, X::Sent>> {
        let Some((inner, kept)) = &mut self.again else {
            return Poll::Ready(Err(Err(self.not_made(GaveUp::BodyNotReplayable))));
        };
        if let Err(error) = ready!(inner.poll_ready(cx)) {
            let history = self.course.end(GaveUp::NotReady);
            return Poll::Ready(Err(Err(self.fail(error, history))));
        }
        let settings = &self.config.settings;
        if let Err(reason) = self.course.begin(settings, Instant::now()) {
            return Poll::Ready(Err(Err(self.not_made(reason))));
        }
        let last = self.course.is_last(settings);
        let Some(sent) = self.exchange.again(kept, last) else {
            self.course.not_sent();
            return Poll::Ready(Err(Err(self.not_made(GaveUp::BodyNotReplayable))));
        };
        let future = self.course.attempt().scope(|| inner.call(sent));
        Poll::Ready(Ok(State::Calling { future }))
    }

    fn wait(&self) -> State<S::Future, X::Discard> {
        match self.resume_at {
            // A timer also where its time has passed meanwhile: it yields to other tasks now and
            // then, which a service that fails at once does not.
            Some(at) => State::Sleeping {
                timer: sleep_until(at),
            },
            None => State::Readying,
        }
    }

    /// The delivery ends, although another attempt was decided on: its time passed meanwhile.
    fn not_made(&mut self, reason: GaveUp) -> BoxError {
        let history = self.course.end(reason);
        let error = self.error.take().unwrap_or_else(|| NotMade.into());
        self.fail(error, history)
    }

    fn fail(&self, error: impl Into<BoxError>, history: History) -> BoxError {
        self.tell(&history);
        Failed::new(error, history).into()
    }

    fn tell(&self, history: &History) {
        if let Some(reason) = history.gave_up() {
            passed!("retry", "gave up", reason = reason.as_str());
        }
        self.config.settings.hooks.gave_up(history);
    }
}

impl<S, C, X, Req> Future for ResponseFuture<S, C, X, Req>
where
    X: Exchange<Req> + ExchangeResponse<S::Response>,
    S: Service<X::Sent>,
    S::Error: Into<BoxError>,
    C: Classify<S::Response, S::Error> + Clone,
{
    type Output = Result<S::Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match (this.state.as_mut().project(), this.call.as_mut()) {
                (StateProj::Calling { future }, Some(call)) => {
                    let result = ready!(call.course.attempt().scope(|| future.poll(cx)));
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
                (StateProj::Overdue { failed }, _) => Err(Err(ended(failed.take()))),
                // Only `Overdue` is without a call.
                (_, None) => Err(Err(ended(None))),
            };
            match next {
                Ok(state) => this.state.set(state),
                Err(result) => return Poll::Ready(result),
            }
        }
    }
}

/// What a future that was polled after its end says: any answer will do, but not a panic.
fn ended(failed: Option<Failed>) -> BoxError {
    failed.map_or_else(|| NotMade.into(), BoxError::from)
}

/// Stands for the error of an attempt that was not made.
#[derive(Debug)]
struct NotMade;

impl fmt::Display for NotMade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no attempt was made any more")
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
