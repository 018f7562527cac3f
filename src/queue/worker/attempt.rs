//! One claim on a job: the attempt, and how its result settles the claim.

use super::{
    Shared,
    dead_letter::{Written, cause},
    held::{Holding, Signal, Signals},
    perform::{Called, Done, Perform, Performing},
};
use crate::{
    attempt::{AttemptRecord, GaveUp, History},
    dead_letter::Reason,
    deadline::Deadline,
    lease::Settled,
    observe::{JobEnd, Scope},
    outcome::{Outcome, OutcomeKind},
    queue::{End, Job},
    race::{Race, race},
    retry::{Decision, RetryState},
};
use std::{
    error::Error,
    mem,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::{Instant, timeout};

/// A claimed job whose attempt has not ended.
pub(super) struct Attempting {
    state: RetryState,
    claimed: Claimed,
}

/// A job and the claim on it.
struct Claimed {
    shared: Arc<Shared>,
    job: Job,
    scope: Scope,
    signals: Signals,
    /// The last field, so that it is dropped last and renews the claim until then.
    holding: Holding,
}

/// How the attempt ended.
enum Ended {
    Done(Done),
    /// The handler has settled the claim itself, in a transaction of its own.
    Settled,
    Signal(Signal),
}

impl Attempting {
    pub(super) fn new(
        shared: &Arc<Shared>,
        mut job: Job,
        (holding, signals): (Holding, Signals),
    ) -> Self {
        let age = job.age();
        let history = mem::take(&mut job.history);
        let now = Instant::now();
        let state = RetryState::resumed(&shared.retry, job.attempt, history, age, now);
        let claimed = Claimed {
            shared: Arc::clone(shared),
            scope: Scope::job(
                &job.id,
                &job.kind,
                job.attempt,
                job.about.event_id.as_deref(),
            ),
            job,
            signals,
            holding,
        };
        Self { state, claimed }
    }

    /// Begins the attempt, if the retry state allows one. The returned future ends it and settles the claim.
    pub(super) fn start(
        mut self,
        perform: &dyn Perform,
    ) -> impl Future<Output = ()> + Send + 'static {
        let Claimed {
            shared, job, scope, ..
        } = &self.claimed;
        scope.enter(|| shared.job_began(job));
        let limit = shared.attempt_timeout;
        let now = Instant::now();
        let called = Called::default();
        let begun = self.state.begin_stored(now).map(|()| {
            let deadline = now.checked_add(limit).map(Deadline::at);
            let (scope, attempt) = (scope.clone(), self.state.attempt());
            let counter = perform.counter(job, attempt);
            let (job, called) = (job.clone(), called.clone());
            let perform = || perform.perform(job, called);
            Performing::begin(perform, attempt, counter, deadline, scope)
        });
        async move {
            let ended = match begun {
                Ok(performing) => self.perform(performing, &called).await,
                Err(GaveUp::Budget) => Ended::Done(Done::held_back(Reason::Budget, None)),
                Err(reason) => return self.too_late(reason).await,
            };
            let took = now.elapsed();
            match ended {
                Ended::Done(done) => self.done(done, took).await,
                Ended::Settled => self.claimed.was_done(Outcome::success(), took),
                Ended::Signal(Signal::Lost) => self.claimed.lost(took),
                Ended::Signal(Signal::Over) => self.claimed.let_go(took).await,
                Ended::Signal(Signal::Stop) => self.stopped(called.is_set(), took).await,
            }
        }
    }

    async fn perform(&mut self, performing: Performing, called: &Called) -> Ended {
        let Claimed {
            shared,
            job,
            signals,
            ..
        } = &mut self.claimed;
        let mut performing = pin!(timeout(shared.attempt_timeout, performing));
        match race(signals.next(), &mut performing).await {
            Race::First(signal @ (Signal::Lost | Signal::Over)) => {
                // Meanwhile the work is not polled. The margin of the renewal covers this wait.
                if !shared.is_done(job, shared.lease / 20).await {
                    return Ended::Signal(signal);
                }
                let _ = performing.await;
                Ended::Settled
            }
            Race::First(signal) => Ended::Signal(signal),
            Race::Second(Ok(done)) => Ended::Done(done),
            Race::Second(Err(_)) if called.is_set() => Ended::Done(Done::timed_out()),
            Race::Second(Err(_)) => Ended::Done(Done::held_back(Reason::NotReady, None)),
        }
    }

    /// Judges the attempt and settles the claim.
    async fn done(self, mut done: Done, took: Duration) {
        if done.outcome.kind() == OutcomeKind::Cancelled {
            // There is no caller who could have cancelled: the work is still wanted.
            done.outcome = Outcome::transient();
        }
        let outcome = done.outcome;
        let Self { mut state, claimed } = self;
        if done.is_newer {
            let wait = claimed.shared.newer_wait(&claimed.job);
            return claimed.release(wait, state.into_history(), took).await;
        }
        match state.decide(outcome, Instant::now(), || true) {
            Decision::Done(_) => claimed.succeeded(done, took).await,
            Decision::Retry(wait) if outcome.was_attempted() => {
                claimed
                    .retry(outcome, wait, state.into_history(), took)
                    .await;
            }
            Decision::Retry(wait) => claimed.release(wait, state.into_history(), took).await,
            Decision::GiveUp(history) => claimed.failed(&done, history, took).await,
        }
    }

    /// Ends a job whose retry window was over before this attempt.
    async fn too_late(mut self, reason: GaveUp) {
        let history = self.state.end(reason);
        let last = history.last().map(AttemptRecord::outcome);
        let outcome = last.unwrap_or(Outcome::transient());
        let done = Done::failed(outcome, None);
        self.claimed.failed(&done, history, Duration::ZERO).await;
    }

    /// Releases the job for another worker, because this one stops.
    async fn stopped(self, was_called: bool, took: Duration) {
        let Self { mut state, claimed } = self;
        let (job, shared) = (&claimed.job, &claimed.shared);
        let after = Duration::ZERO;
        let (settle, end) = if was_called {
            let history = state.interrupted(Instant::now());
            let outcome = Outcome::cancelled();
            let end = JobEnd::Retrying { outcome, after };
            (End::Retry { after, history }, end)
        } else {
            let history = state.into_history();
            let end = JobEnd::Released { after };
            (End::Release { after, history }, end)
        };
        if shared.settle(job.claim(), settle).await == Settled::Done {
            shared.released.fetch_add(1, Ordering::Relaxed);
            claimed.ended(end, took);
        } else {
            claimed.lost(took);
        }
    }
}

impl Claimed {
    fn ended(&self, end: JobEnd, took: Duration) {
        let tell = || self.shared.job_ended(&self.job, end, took);
        self.scope.enter(tell);
    }

    fn lost(&self, took: Duration) {
        self.scope.enter(|| self.shared.claim_lost());
        self.ended(JobEnd::Lost, took);
    }

    /// Ends a claim that the engine calls lost, after the work was dropped. A job that was cancelled keeps its place in
    /// its FIFO group and at its target until then.
    async fn let_go(mut self, took: Duration) {
        self.lost(took);
        let (after, history) = (Duration::ZERO, History::new());
        self.holding.is_done();
        let settling = self
            .shared
            .settle(self.job.claim(), End::Release { after, history });
        // Without an answer it ends with its lease.
        let _ = timeout(self.shared.lease / 3, settling).await;
    }

    fn was_done(&self, outcome: Outcome, took: Duration) {
        self.ended(JobEnd::Succeeded, took);
        self.delivered(outcome, self.job.attempt);
    }

    fn delivered(&self, outcome: Outcome, attempts: u32) {
        let tell = || self.shared.delivery_ended(&self.job, outcome, attempts);
        self.scope.enter(tell);
    }

    /// Settles the claim. Returns whether this worker still held it.
    async fn settle(&mut self, end: End, took: Duration) -> bool {
        let is_ours = self.ask(end).await == Settled::Done;
        if !is_ours {
            self.lost(took);
        }
        is_ours
    }

    async fn ask(&mut self, end: End) -> Settled {
        self.holding.is_done();
        let settling = self.shared.settle(self.job.claim(), end);
        let settled = self.signals.unless_lost(settling, self.shared.lease / 3);
        settled.await.unwrap_or(Settled::Lost)
    }

    async fn succeeded(mut self, done: Done, took: Duration) {
        let result = done.result;
        let settled = self.ask(End::Done { result }).await;
        let patience = self.shared.lease / 3;
        if settled == Settled::Done || self.shared.is_done(&self.job, patience).await {
            self.was_done(done.outcome, took);
        } else {
            self.lost(took);
        }
    }

    async fn retry(mut self, outcome: Outcome, after: Duration, history: History, took: Duration) {
        let end = End::Retry { after, history };
        if self.settle(end, took).await {
            self.ended(JobEnd::Retrying { outcome, after }, took);
        }
    }

    async fn release(mut self, after: Duration, history: History, took: Duration) {
        let end = End::Release { after, history };
        if self.settle(end, took).await {
            self.ended(JobEnd::Released { after }, took);
        }
    }

    async fn failed(mut self, done: &Done, history: History, took: Duration) {
        let error = done.error.as_deref();
        let error = error.map(|error| error as &(dyn Error + 'static));
        let cause = cause(&self.job, done.outcome, &history, done.reason, error);
        let (reason, code) = (cause.reason.as_str(), cause.code);
        let attempts = history.attempts();
        if self.shared.moves.is_some() {
            self.job.history = history.clone();
            let writing = self.shared.write(&self.job, &cause);
            let written = self.signals.unless_lost(writing, self.shared.lease / 3);
            match written.await {
                None | Some(Written::Lost) => return self.lost(took),
                Some(Written::Moved) => {
                    self.ended(JobEnd::Failed { reason, code }, took);
                    self.delivered(done.outcome, attempts);
                    self.ended(JobEnd::DeadLettered, Duration::ZERO);
                    return;
                }
                // It waits in the queue until its entry is written.
                Some(_) => {}
            }
        }
        if self.settle(End::Failed { cause, history }, took).await {
            self.ended(JobEnd::Failed { reason, code }, took);
            self.delivered(done.outcome, attempts);
        }
    }
}
