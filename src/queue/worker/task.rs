//! One claim, from its beginning to its end.

use super::{
    WorkerEvent,
    entry::cause,
    held::{Holding, Signal, Told},
    perform::{Called, Done, Perform, Performing},
    race::{Race, race},
    shared::Shared,
};
use crate::{
    StoreErrorKind,
    attempt::{AttemptRecord, GaveUp, History},
    dead_letter::{Reason, WriteOutcome},
    deadline::Deadline,
    lease::Settled,
    outcome::{Outcome, OutcomeKind},
    queue::{FailedJob, Job, NewJob, Verdict},
    retry::{Step, StoredCourse},
    trace::trouble,
};
use std::{
    error::Error,
    mem,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::{Instant, timeout};

/// A job that was claimed, before its attempt is over.
pub(super) struct Task {
    course: StoredCourse,
    claimed: Claimed,
}

/// A job, and the claim on it.
struct Claimed {
    shared: Arc<Shared>,
    job: Job,
    told: Told,
    /// Last, so that the claim is renewed until all of it is over.
    _holding: Holding,
}

/// How the attempt ended.
enum End {
    Done(Done),
    /// The handler has ended the job, in a transaction of its own.
    Ended,
    Signal(Signal),
}

impl Task {
    pub(super) fn new(
        shared: &Arc<Shared>,
        mut job: Job,
        (holding, told): (Holding, Told),
    ) -> Self {
        let age = shared.age(job.accepted_at);
        let history = mem::take(&mut job.history);
        let now = Instant::now();
        let course = StoredCourse::resume(&shared.retry, job.attempt, history, age, now);
        let claimed = Claimed {
            shared: Arc::clone(shared),
            job,
            told,
            _holding: holding,
        };
        Self { course, claimed }
    }

    /// Begins the attempt, if it is to be made. The future makes it and ends the claim.
    pub(super) fn start(
        mut self,
        perform: &dyn Perform,
    ) -> impl Future<Output = ()> + Send + 'static {
        let Claimed { shared, job, .. } = &self.claimed;
        let limit = shared.attempt_timeout;
        shared.tell(&WorkerEvent::Claimed { job });
        let now = Instant::now();
        let called = Called::default();
        let begun = self.course.begin(now).map(|()| {
            let deadline = now.checked_add(limit).map(Deadline::at);
            let (job, called) = (job.clone(), called.clone());
            let perform = || perform.perform(job, called);
            Performing::begin(perform, self.course.attempt(), deadline)
        });
        async move {
            let end = match begun {
                Ok(performing) => self.perform(performing, &called).await,
                Err(GaveUp::Budget) => End::Done(Done::held_back(Reason::Budget, None)),
                Err(reason) => return self.too_late(reason).await,
            };
            match end {
                End::Done(done) => self.done(done, now.elapsed()).await,
                End::Ended => {
                    let Claimed { shared, job, .. } = &self.claimed;
                    shared.succeeded(job, Outcome::success(), now.elapsed());
                }
                End::Signal(Signal::Lost) => self.claimed.shared.lost(&self.claimed.job),
                End::Signal(Signal::Stop) => self.stopped(called.is_set()).await,
            }
        }
    }

    async fn perform(&mut self, performing: Performing, called: &Called) -> End {
        let Claimed {
            shared, job, told, ..
        } = &mut self.claimed;
        let mut performing = pin!(timeout(shared.attempt_timeout, performing));
        match race(told.next(), &mut performing).await {
            Race::First(Signal::Lost) => {
                // What runs stands still meanwhile, and no longer than the claim surely lasts.
                if !shared.is_done(job, shared.lease / 20).await {
                    return End::Signal(Signal::Lost);
                }
                let _ = performing.await;
                End::Ended
            }
            Race::First(signal) => End::Signal(signal),
            Race::Second(Ok(done)) => End::Done(done),
            Race::Second(Err(_)) if called.is_set() => End::Done(Done::overdue()),
            Race::Second(Err(_)) => End::Done(Done::held_back(Reason::NotReady, None)),
        }
    }

    /// The attempt has ended: what follows.
    async fn done(self, mut done: Done, took: Duration) {
        if done.outcome.kind() == OutcomeKind::Cancelled {
            // Nobody is there who could have gone away: the work is still wanted.
            done.outcome = Outcome::transient();
        }
        let outcome = done.outcome;
        let Self { course, claimed } = self;
        if done.is_newer {
            let wait = claimed.shared.newer(&claimed.job);
            return claimed.release(wait, course.into_history()).await;
        }
        match course.decide(outcome, Instant::now()) {
            Step::Done => claimed.succeeded(done, took).await,
            Step::Again { wait, history } if outcome.was_attempted() => {
                claimed.retry(outcome, wait, history).await;
            }
            Step::Again { wait, history } => claimed.release(wait, history).await,
            Step::GiveUp(history) => claimed.dead_letter(&done, history).await,
        }
    }

    /// Nobody came for it in time.
    async fn too_late(self, reason: GaveUp) {
        let history = self.course.end(reason);
        let last = history.last().map(AttemptRecord::outcome);
        let outcome = last.unwrap_or(Outcome::transient());
        let done = Done::failed(outcome, None);
        self.claimed.dead_letter(&done, history).await;
    }

    /// The worker stops: the job is another's.
    async fn stopped(self, was_called: bool) {
        let Self { course, claimed } = self;
        let (job, shared) = (&claimed.job, &claimed.shared);
        let after = Duration::ZERO;
        let (verdict, event) = if was_called {
            let history = course.broken_off(Instant::now());
            let outcome = Outcome::cancelled();
            let event = WorkerEvent::Retrying {
                job,
                outcome,
                after,
            };
            (Verdict::Retry { after, history }, event)
        } else {
            let history = course.into_history();
            let event = WorkerEvent::Released { job, after };
            (Verdict::Release { after, history }, event)
        };
        if shared.settle(job.id, job.token, verdict).await == Settled::Done {
            shared.released.fetch_add(1, Ordering::Relaxed);
            shared.tell(&event);
        } else {
            shared.lost(job);
        }
    }
}

impl Claimed {
    /// Ends the claim. Whether it was still ours.
    async fn settle(&mut self, verdict: Verdict) -> bool {
        let is_ours = self.ask(verdict).await == Settled::Done;
        if !is_ours {
            self.shared.lost(&self.job);
        }
        is_ours
    }

    async fn ask(&mut self, verdict: Verdict) -> Settled {
        let (id, token) = (self.job.id, self.job.token);
        let mut settling = pin!(self.shared.settle(id, token, verdict));
        match race(&mut settling, self.told.lost()).await {
            Race::First(settled) => settled,
            Race::Second(()) => {
                // A settled claim can no longer be renewed, and looks lost for a moment.
                let settled = timeout(self.shared.lease / 3, settling).await;
                settled.unwrap_or(Settled::Lost)
            }
        }
    }

    async fn succeeded(mut self, done: Done, took: Duration) {
        let (result, retention) = (done.result, self.shared.retention);
        let settled = self.ask(Verdict::Done { result, retention }).await;
        let (job, shared) = (&self.job, &self.shared);
        if settled == Settled::Done || shared.is_done(job, shared.lease / 3).await {
            shared.succeeded(job, done.outcome, took);
        } else {
            shared.lost(job);
        }
    }

    async fn retry(mut self, outcome: Outcome, after: Duration, history: History) {
        if self.settle(Verdict::Retry { after, history }).await {
            let job = &self.job;
            self.shared.retried(job, outcome);
            self.shared.tell(&WorkerEvent::Retrying {
                job,
                outcome,
                after,
            });
        }
    }

    async fn release(mut self, after: Duration, history: History) {
        if self.settle(Verdict::Release { after, history }).await {
            let job = &self.job;
            self.shared.tell(&WorkerEvent::Released { job, after });
        }
    }

    async fn dead_letter(mut self, done: &Done, history: History) {
        let error = done.error.as_deref();
        let error = error.map(|error| error as &(dyn Error + 'static));
        let cause = cause(&self.job, done.outcome, &history, done.reason, error);
        let attempts = history.attempts();
        let verdict = Verdict::Failed {
            cause: cause.clone(),
            history,
        };
        if self.settle(verdict).await {
            let job = &self.job;
            self.shared.finished(job, done.outcome, attempts);
            let cause = &cause;
            self.shared.tell(&WorkerEvent::Failed { job, cause });
        }
    }
}

impl Shared {
    fn succeeded(&self, job: &Job, outcome: Outcome, took: Duration) {
        self.finished(job, outcome, job.attempt);
        self.tell(&WorkerEvent::Succeeded { job, took });
    }

    fn lost(&self, job: &Job) {
        trouble!("worker", "a claim was lost", id = job.id);
        self.tell(&WorkerEvent::Lost { id: job.id });
    }

    /// Writes the entry of a job that has failed for good, and ends the claim on that.
    pub(super) async fn dead_letter(
        self: Arc<Self>,
        failed_job: FailedJob,
        (_holding, mut told): (Holding, Told),
    ) {
        let written = match race(told.next(), self.write(&failed_job)).await {
            Race::First(signal) => Err(signal),
            Race::Second(written) => Ok(written),
        };
        let (job, after) = (&failed_job.job, Duration::ZERO);
        let history = || job.history.clone();
        let (verdict, event) = match written {
            Err(Signal::Lost) => return self.lost(job),
            Err(Signal::Stop) => {
                let history = history();
                let event = WorkerEvent::Released { job, after };
                (Verdict::Release { after, history }, event)
            }
            Ok(Written::Newer) => {
                let (after, history) = (self.newer(job), history());
                let event = WorkerEvent::Released { job, after };
                (Verdict::Release { after, history }, event)
            }
            Ok(Written::Nowhere) => {
                let (retention, entry) = (self.retention, None);
                let event = WorkerEvent::DeadLettered { job, entry };
                (Verdict::DeadLettered { retention }, event)
            }
            Ok(Written::There) => {
                let (retention, entry) = (self.retention, Some(WriteOutcome::Written));
                let event = WorkerEvent::DeadLettered { job, entry };
                (Verdict::DeadLettered { retention }, event)
            }
            Ok(Written::NotYet { entry, kind }) => {
                let (after, history) = (self.not_written(job, kind), history());
                if let (WriteOutcome::NotWritten, Some(dead_letters)) = (entry, &self.dead_letters)
                {
                    let (id, reason) = (job.id.entry_id(), failed_job.cause.reason);
                    dead_letters.lost(id, &job.target, reason, kind, Some(after));
                }
                let event = WorkerEvent::NotDeadLettered {
                    job,
                    after,
                    entry,
                    kind,
                };
                (Verdict::Retry { after, history }, event)
            }
        };
        let settling = self.settle(job.id, job.token, verdict);
        match race(settling, told.lost()).await {
            Race::First(Settled::Done) => {
                let is_over = matches!(event, WorkerEvent::DeadLettered { .. });
                if is_over && failed_job.cause.reason == Reason::WorkerLost {
                    // Of the others, the worker that gave up on them has told.
                    self.finished(job, Outcome::transient(), job.attempt);
                }
                self.tell(&event);
            }
            Race::First(Settled::Lost) | Race::Second(()) => self.lost(job),
        }
    }

    /// Writes an entry. What is too large for the sink is cut until it is not.
    async fn write(&self, failed_job: &FailedJob) -> Written {
        let job = &failed_job.job;
        if is_newer(job) {
            return Written::Newer;
        }
        let Some(dead_letters) = &self.dead_letters else {
            trouble!(
                "worker",
                "a job has failed, and there are no dead letters",
                id = job.id,
                reason = failed_job.cause.reason
            );
            return Written::Nowhere;
        };
        let mut entry = Arc::new(self.entry(failed_job));
        let mut shorter = [entry.body.bytes().len() / 2, 0].into_iter();
        loop {
            let (end, kind) = match dead_letters.attempt(Arc::clone(&entry)).await {
                Ok(None) => {
                    self.unwritten.store(0, Ordering::Relaxed);
                    return Written::There;
                }
                Ok(Some(kind)) => (WriteOutcome::FellBack, kind),
                Err(error) => (WriteOutcome::NotWritten, error.first().kind()),
            };
            if kind == StoreErrorKind::TooLarge
                && !entry.body.bytes().is_empty()
                && let Some(most) = shorter.next()
            {
                trouble!("worker", "an entry is too large, and is cut", id = job.id);
                let entry = Arc::make_mut(&mut entry);
                entry.body = mem::take(&mut entry.body).cut(most);
                continue;
            }
            return Written::NotYet { entry: end, kind };
        }
    }

    /// When a job is looked at again that only a newer release can read.
    fn newer(&self, job: &Job) -> Duration {
        trouble!("worker", "only a newer release can read a job", id = job.id);
        self.as_long_again(job.accepted_at, Duration::from_secs(60))
    }
}

/// What came of an entry.
enum Written {
    /// Its job cannot be read by this release.
    Newer,
    /// The sink has not taken it.
    NotYet {
        entry: WriteOutcome,
        kind: StoreErrorKind,
    },
    /// There are no dead letters.
    Nowhere,
    /// It is in the sink.
    There,
}

fn is_newer(job: &Job) -> bool {
    job.kind == NewJob::HTTP && job.http_request().is_err_and(|error| error.is_newer())
}
