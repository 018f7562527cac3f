use super::{
    CloneExchange, Exchange, ExchangeResponse, ResponseFuture, RetryConfig, course::Course,
    future::Call,
};
use crate::{
    BoxError,
    attempt::kept::withdraw,
    deadline::Deadline,
    outcome::{Classify, HttpClassifier, MakeClassifier},
};
use std::{
    mem,
    task::{Context, Poll},
};
use tokio::time::Instant;
use tower_service::Service;

/// Middleware of [`RetryWithJitterLayer`](super::RetryWithJitterLayer). See the
/// [module docs](super).
#[derive(Clone, Debug)]
pub struct RetryWithJitter<S, M = HttpClassifier, X = CloneExchange> {
    pub(super) inner: S,
    pub(super) config: RetryConfig,
    pub(super) make: M,
    pub(super) exchange: X,
}

impl<S, M, X, Req> Service<Req> for RetryWithJitter<S, M, X>
where
    X: Exchange<Req> + ExchangeResponse<S::Response> + Clone,
    S: Service<X::Sent> + Clone,
    S::Error: Into<BoxError>,
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
        let settings = &self.config.settings;
        let now = Instant::now();
        let mut course = Course::new(now, Deadline::current());
        if let Err(reason) = course.begin(settings, now) {
            let history = course.end(reason);
            settings.hooks.gave_up(&history);
            return ResponseFuture::overdue(history);
        }
        settings.budget.deposit_at(now);
        let classifier = self.make.make_classifier(&req);
        let (sent, kept) = self.exchange.first(req, settings.attempts > 1);
        // A layer further in that repeats calls has other requests than this one.
        withdraw();
        let attempt = course.attempt();
        let (future, again) = match kept {
            None => (attempt.scope(|| self.inner.call(sent)), None),
            Some(kept) => {
                // The instance that was polled ready goes into the future, where it is driven to
                // ready again before a retry; its clone takes its place and will be polled before
                // it is called.
                let spare = self.inner.clone();
                let mut inner = mem::replace(&mut self.inner, spare);
                (attempt.scope(|| inner.call(sent)), Some((inner, kept)))
            }
        };
        let (exchange, config) = (self.exchange.clone(), self.config.clone());
        let call = Call::new(again, classifier, exchange, config, course);
        ResponseFuture::called(future, call)
    }
}
