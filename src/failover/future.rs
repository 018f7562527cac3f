use super::{
    Shared,
    choice::{says_more, target_at},
    targets::Targets,
};
use crate::{
    context::{self, Verdict},
    deadline::Deadline,
    observe::Event,
    outcome::{Classify, MakeClassifier, Outcome},
};
use pin_project::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::time::Instant;
use tower_service::Service;

/// Response future of [`Failover`](super::Failover).
///
/// `F` is the future of the inner service `S`, which gives `Res` or `Err`.
//
// Named by types and not by the service they belong to: the compiler fails to see that a task which
// holds `S::Future` is `Send` where the service inside judges boxed errors (rust-lang/rust#64552).
#[must_use = "futures do nothing unless polled"]
#[pin_project]
pub struct ResponseFuture<F, S, Req, Res, Err, T, M, C> {
    #[pin]
    step: Step<F>,
    round: Round<S, Req, Res, Err, T, M, C>,
}

#[pin_project(project = StepProj)]
enum Step<F> {
    Calling {
        #[pin]
        future: F,
    },
    /// Waits until the service is ready for the next target.
    Driving,
}

/// The state that a [`ResponseFuture`] keeps for the targets that follow.
struct Round<S, Req, Res, Err, T, M, C> {
    shared: Arc<Shared<T>>,
    /// `None` with a single target: its result is not judged.
    classifier: Option<C>,
    /// What further targets need; `None` with a single target.
    rest: Option<Rest<S, Req, M>>,
    start: usize,
    position: usize,
    /// The target before this one, and how it failed.
    failed: Option<(usize, Outcome)>,
    best: Option<Failed<Res, Err>>,
}

struct Rest<S, Req, M> {
    service: S,
    make: M,
    /// The unchanged request. The last target gets it, the others get a clone.
    kept: Option<Req>,
}

struct Failed<Res, Err> {
    result: Result<Res, Err>,
    outcome: Outcome,
    index: usize,
}

impl<F, S, Req, Res, Err, T, M, C> ResponseFuture<F, S, Req, Res, Err, T, M, C> {
    pub(super) const fn only(future: F, shared: Arc<Shared<T>>) -> Self {
        Self {
            step: Step::Calling { future },
            round: Round {
                shared,
                classifier: None,
                rest: None,
                start: 0,
                position: 0,
                failed: None,
                best: None,
            },
        }
    }

    pub(super) const fn first(
        future: F,
        shared: Arc<Shared<T>>,
        make: M,
        classifier: C,
        start: usize,
        service: S,
        req: Req,
    ) -> Self {
        Self {
            step: Step::Calling { future },
            round: Round {
                shared,
                classifier: Some(classifier),
                rest: Some(Rest {
                    service,
                    make,
                    kept: Some(req),
                }),
                start,
                position: 0,
                failed: None,
                best: None,
            },
        }
    }
}

impl<S, Req, T, M> Future
    for ResponseFuture<S::Future, S, Req, S::Response, S::Error, T, M, M::Classifier>
where
    S: Service<Req>,
    Req: Clone,
    T: Targets<Req, S::Response>,
    M: MakeClassifier<Req>,
    M::Classifier: Classify<S::Response, S::Error>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let _judging = context::judging();
        let this = self.project();
        let (mut step, round) = (this.step, this.round);
        loop {
            match step.as_mut().project() {
                StepProj::Calling { future } => {
                    context::withdraw();
                    let result = ready!(future.poll(cx));
                    if let Some(result) = round.settle(result) {
                        return Poll::Ready(result);
                    }
                    // The failed attempt ends before the next one begins.
                    step.set(Step::Driving);
                }
                StepProj::Driving => match ready!(round.drive(cx)) {
                    Ok(future) => step.set(Step::Calling { future }),
                    Err(result) => return Poll::Ready(result),
                },
            }
        }
    }
}

impl<S, Req, T, M, C> Round<S, Req, S::Response, S::Error, T, M, C>
where
    S: Service<Req>,
    Req: Clone,
    T: Targets<Req, S::Response>,
    M: MakeClassifier<Req, Classifier = C>,
    C: Classify<S::Response, S::Error>,
{
    /// Judges the result of one target; `None` if another target is tried.
    #[allow(clippy::type_complexity, reason = "a result in an option")]
    fn settle(
        &mut self,
        mut result: Result<S::Response, S::Error>,
    ) -> Option<Result<S::Response, S::Error>> {
        let Some(classifier) = self.classifier.take() else {
            return Some(result);
        };
        let verdict = Verdict::by(classifier, result.as_ref());
        let outcome = verdict.outcome;
        let index = target_at(self.start, self.position);
        if !outcome.may_retry() {
            if outcome.peer_is_healthy() == Some(true) {
                self.shared.answered(self.start, self.position);
            }
            self.mark(&mut result, index);
            verdict.tell();
            return Some(result);
        }
        let says_more = |best: &Failed<_, _>| says_more(outcome, best.outcome);
        if self.best.as_ref().is_none_or(says_more) {
            self.best = Some(Failed {
                result,
                outcome,
                index,
            });
        }
        if self.position + 1 >= self.shared.count || no_time_left() {
            return self.give_up();
        }
        self.position += 1;
        self.failed = Some((index, outcome));
        None
    }

    /// The most informative result.
    #[allow(clippy::type_complexity, reason = "a result in an option")]
    fn give_up(&mut self) -> Option<Result<S::Response, S::Error>> {
        let Failed {
            mut result,
            outcome,
            index,
        } = self.best.take()?;
        self.mark(&mut result, index);
        Verdict::of(outcome).tell();
        Some(result)
    }

    /// Calls the next target when the service is ready. An error of `poll_ready` ends the call with the
    /// best result so far.
    #[allow(
        clippy::type_complexity,
        reason = "a future, or the end of the whole call"
    )]
    #[expect(clippy::expect_used, reason = "a future is not polled after its end")]
    fn drive(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<S::Future, Result<S::Response, S::Error>>> {
        // Invariant of all three: `settle` moves on only where there is another target.
        let rest = self.rest.as_mut().expect("polled after completion");
        if let Err(error) = ready!(rest.service.poll_ready(cx)) {
            context::withdraw();
            return Poll::Ready(Err(self.give_up().unwrap_or(Err(error))));
        }
        // The service may have used up the remaining time to become ready.
        if no_time_left()
            && let Some(result) = self.give_up()
        {
            return Poll::Ready(Err(result));
        }
        let index = target_at(self.start, self.position);
        if let Some((from, outcome)) = self.failed.take() {
            self.shared.observers.tell(|| Event::FailedOver {
                from,
                to: index,
                outcome,
            });
        }
        let rest = self.rest.as_mut().expect("polled after completion");
        let next = if self.position + 1 < self.shared.count {
            rest.kept.clone()
        } else {
            rest.kept.take()
        };
        let mut req = next.expect("polled after completion");
        self.shared.targets.aim(&mut req, index);
        self.classifier = Some(rest.make.make_classifier(&req));
        Poll::Ready(Ok(rest.service.call(req)))
    }

    fn mark(&self, result: &mut Result<S::Response, S::Error>, index: usize) {
        if let Ok(res) = result {
            self.shared.targets.mark(res, index);
        }
    }
}

/// Whether the deadline of the call has passed.
fn no_time_left() -> bool {
    Deadline::current().is_some_and(|deadline| deadline.left(Instant::now()).is_zero())
}

impl<F, S, Req, Res, Err, T, M, C> fmt::Debug for ResponseFuture<F, S, Req, Res, Err, T, M, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
