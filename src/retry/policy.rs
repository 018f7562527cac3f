use super::{
    RetryConfig, Retrying,
    course::{Course, Verdict},
};
use crate::{
    deadline::Deadline,
    outcome::{Classify, HttpClassifier, MakeClassifier},
};
use pin_project::pin_project;
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::time::{Instant, Sleep, sleep};
use tower::retry::Policy;

/// The same decisions as a [`tower::retry::Policy`], for
/// [`ServiceBuilder::retry`](tower::ServiceBuilder::retry).
///
/// What tower's trait has no room for is in [`RetryWithJitterLayer`](super::RetryWithJitterLayer)
/// alone: streaming bodies, [`Attempt`](crate::attempt::Attempt), the history in responses and
/// errors, and the check that there is still time when the service has become ready. The last
/// attempt is copied only where a hook or a refusal may need it.
///
/// # Examples
///
/// ```
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_webhook::BoxError;
/// use tower_webhook::outcome::{Outcome, classify_fn};
/// use tower_webhook::retry::{RetryConfig, RetryPolicy};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let judge = classify_fn(|result: Result<&u32, &BoxError>| match result {
///     Ok(_) => Outcome::success(),
///     Err(error) => Outcome::of_error(&**error),
/// });
/// let service = ServiceBuilder::new()
///     .retry(RetryPolicy::new(RetryConfig::default()).classifier(judge))
///     .concurrency_limit(8)
///     .service_fn(|n: u32| async move { if n == 7 { Ok(n) } else { Err(BoxError::from("odd")) } });
/// assert_eq!(service.oneshot(7).await.unwrap(), 7);
/// # });
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct RetryPolicy<M = HttpClassifier> {
    config: RetryConfig,
    make: M,
    /// Of the request that this copy of the policy is for.
    course: Option<Course>,
    /// Whether the next request that is asked for is for another attempt.
    again: bool,
}

impl RetryPolicy {
    /// Judges as HTTP.
    pub const fn new(config: RetryConfig) -> Self {
        Self {
            config,
            make: HttpClassifier::new(),
            course: None,
            again: false,
        }
    }
}

impl<M> RetryPolicy<M> {
    /// What judges results. Default: [`HttpClassifier`].
    pub fn classifier<M2>(self, classifier: M2) -> RetryPolicy<M2> {
        RetryPolicy {
            config: self.config,
            make: classifier,
            course: self.course,
            again: self.again,
        }
    }
}

impl<M, Req, Res, E> Policy<Req, Res, E> for RetryPolicy<M>
where
    Req: Clone,
    M: MakeClassifier<Req>,
    M::Classifier: Classify<Res, E>,
{
    type Future = RetryWait;

    fn retry(&mut self, req: &mut Req, result: &mut Result<Res, E>) -> Option<RetryWait> {
        let course = self.course.as_mut()?;
        let outcome = self.make.make_classifier(req).classify(result.as_ref());
        if !outcome.is_failure() && course.is_first_call() {
            return None;
        }
        let settings = &self.config.settings;
        let failed = course.attempt();
        match course.decide(settings, outcome, Instant::now(), || true) {
            Verdict::Done(_) => None,
            Verdict::GiveUp(history) => {
                settings.hooks.gave_up(&history);
                None
            }
            Verdict::Retry(wait) => {
                settings.hooks.retrying(&Retrying {
                    failed,
                    outcome,
                    wait,
                });
                self.again = true;
                let timer = (!wait.is_zero()).then(|| sleep(wait));
                Some(RetryWait { timer })
            }
        }
    }

    /// Called before each attempt, with what it will be made with. The first time on the policy
    /// that is copied for every request, where `retry` is never called.
    fn clone_request(&mut self, req: &Req) -> Option<Req> {
        let settings = &self.config.settings;
        let now = Instant::now();
        if !std::mem::take(&mut self.again) {
            settings.budget.deposit_at(now);
            self.course = None;
        }
        let course = self
            .course
            .get_or_insert_with(|| Course::new(now, Deadline::current()));
        // tower makes the attempt whatever is said here.
        course.begin_anyway(now);
        let wanted = !course.is_last(settings) || settings.hooks.on_give_up.is_some();
        wanted.then(|| req.clone())
    }
}

/// The wait before another attempt of [`RetryPolicy`].
#[pin_project]
#[derive(Debug)]
pub struct RetryWait {
    /// `None` where there is none: a timer is only built to wait.
    #[pin]
    timer: Option<Sleep>,
}

impl Future for RetryWait {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(timer) = self.project().timer.as_pin_mut() {
            ready!(timer.poll(cx));
        }
        Poll::Ready(())
    }
}
