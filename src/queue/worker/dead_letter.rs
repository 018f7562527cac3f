//! Dead-letters a job that failed for good: makes the entry and writes it to the sink.

use super::{
    Shared,
    held::{Holding, Signal, Signals},
};
use crate::{
    StoreErrorKind,
    attempt::{AttemptRecord, History},
    catch_panic::catch_panic,
    dead_letter::{
        Cause, Describe as _, Direction, Entry, EntryBody, HttpRequests, Reason, Redaction,
        cause::message,
    },
    idempotency::IdempotencyKey,
    lease::Settled,
    observe::JobEnd,
    outcome::{LocallyRefused, Outcome, OutcomeKind, links},
    queue::{End, Job, NewJob},
    race::{Race, race},
};
use std::{
    error::Error,
    mem,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::timeout;

pub(super) type Describe = Arc<dyn Fn(&Job, &mut Entry) + Send + Sync>;

/// Returns why a job is dead-lettered. `reason` is set if more is known than the outcome. The queue
/// stores the cause, so it is redacted here already, and again in the entry.
pub(super) fn cause(
    job: &Job,
    outcome: Outcome,
    history: &History,
    reason: Option<Reason>,
    error: Option<&(dyn Error + 'static)>,
) -> Cause {
    let is_refused = outcome.kind() == OutcomeKind::Refused;
    let said = Reason::of(outcome, history.gave_up());
    let reason = match reason {
        // The panic of the last attempt is more informative than the number of attempts.
        Some(Reason::Panicked) if said == Reason::RetriesExhausted => Reason::Panicked,
        Some(reason) if is_refused => reason,
        _ if is_refused && error.is_some_and(is_open_circuit) => Reason::CircuitOpen,
        _ if is_refused => Reason::Refused,
        _ => said,
    };
    let cause = Cause::new(reason)
        .with_code(outcome.code())
        .with_class(outcome.kind().as_str());
    match error {
        Some(error) => redacted(job, cause.with_message(&message(error))),
        None => cause,
    }
}

/// Redacts by the default rules. The worker's own redaction is later applied to the whole entry.
fn redacted(job: &Job, cause: Cause) -> Cause {
    let id = job.id.entry_id();
    let mut entry = Entry::new(id, &job.kind, &job.target, cause, job.accepted_at);
    Redaction::new().apply(&mut entry);
    entry.cause
}

fn is_open_circuit(error: &(dyn Error + 'static)) -> bool {
    links(error)
        .filter_map(|link| link.downcast_ref::<LocallyRefused>())
        .any(LocallyRefused::is_circuit_open)
}

/// The result of writing an entry.
pub(super) enum Written {
    /// Only a newer release can read the job.
    Newer,
    /// The sink has not stored it.
    NotYet {
        kind: StoreErrorKind,
        /// Whether the fallback sink has a copy.
        fell_back: bool,
    },
    /// The claim is lost.
    Lost,
    /// The sink has stored it, and the task has failed, in one transaction.
    Moved,
    /// The worker has no sink.
    Nowhere,
    /// The sink has stored it.
    There,
}

impl Shared {
    /// Whether a job has had its attempts, and the last one ended with its worker. The engine finds this only
    /// if the queue allows no more attempts than this worker.
    pub(super) fn has_lost_its_attempts(&self, job: &Job) -> bool {
        let recorded = job.history.attempts();
        job.attempt > self.retry.attempts() && recorded.saturating_add(1) < job.attempt
    }

    /// Marks such a job as failed for good.
    pub(super) async fn give_up(
        self: Arc<Self>,
        job: Job,
        (_holding, mut signals): (Holding, Signals),
    ) {
        let (cause, history) = (Cause::new(Reason::WorkerLost), job.history.clone());
        let settling = self.settle(job.claim(), End::Failed { cause, history });
        if !matches!(
            race(settling, signals.lost()).await,
            Race::First(Settled::Done)
        ) {
            self.claim_lost();
        }
    }

    /// Writes the entry of a job that failed for good, and settles the claim by the result.
    pub(super) async fn dead_letter(
        self: Arc<Self>,
        job: Job,
        cause: Cause,
        (_holding, mut signals): (Holding, Signals),
    ) {
        let mut writing = pin!(self.write(&job, &cause));
        let written = match race(signals.next(), &mut writing).await {
            Race::First(Signal::Lost | Signal::Over) if self.moves.is_some() => {
                // A claim that is settled cannot be renewed, and looks lost until the answer arrives.
                let written = timeout(self.lease / 3, writing).await;
                written.map_or(Some(Written::Lost), Some)
            }
            Race::First(Signal::Lost | Signal::Over) => Some(Written::Lost),
            Race::First(Signal::Stop) => None,
            Race::Second(written) => Some(written),
        };
        let (job, reason) = (&job, cause.reason);
        let after = match &written {
            Some(Written::Newer) => self.newer_wait(job),
            Some(Written::NotYet { kind, .. }) => self.rewrite_wait(job, *kind),
            _ => Duration::ZERO,
        };
        let history = || job.history.clone();
        let end = match &written {
            None | Some(Written::Newer) => End::Release {
                after,
                history: history(),
            },
            Some(Written::NotYet { .. }) => End::Retry {
                after,
                history: history(),
            },
            Some(Written::Lost) => return self.claim_lost(),
            _ => End::Done { result: None },
        };
        if !matches!(written, Some(Written::Moved)) {
            let settling = self.settle(job.claim(), end);
            let Race::First(Settled::Done) = race(settling, signals.lost()).await else {
                return self.claim_lost();
            };
        }
        match written {
            None | Some(Written::Newer) => {
                self.job_ended(job, JobEnd::Released { after }, Duration::ZERO);
            }
            Some(Written::NotYet { kind, fell_back }) => {
                if let (false, Some(dead_letters)) = (fell_back, &self.dead_letters) {
                    dead_letters.lost(job.entry_id(), &job.target, reason, kind, Some(after));
                }
            }
            Some(Written::Lost) => {}
            Some(Written::Moved | Written::Nowhere | Written::There) => {
                self.job_ended(job, JobEnd::DeadLettered, Duration::ZERO);
                if reason == Reason::WorkerLost {
                    // For every other reason, the worker that made the last attempt has reported it.
                    let attempts = job.attempt.min(self.retry.attempts());
                    self.delivery_ended(job, Outcome::transient(), attempts);
                }
            }
        }
    }

    /// Writes an entry, and ends its job in the same transaction if that can be. Cuts its body if it is too large for
    /// the sink.
    pub(super) async fn write(&self, job: &Job, cause: &Cause) -> Written {
        if is_newer(job) {
            return Written::Newer;
        }
        let Some(dead_letters) = &self.dead_letters else {
            self.trouble(
                "a job has failed, and the worker has no dead letters",
                &job.id,
            );
            return Written::Nowhere;
        };
        let mut entry = Arc::new(self.entry(job, cause));
        let mut shorter = [entry.body.bytes().len() / 2, 0].into_iter();
        loop {
            let written = if let Some(moves) = &self.moves {
                let moving = || moves.dead_letter(job.claim(), &entry);
                let moved = dead_letters.attempt_by(&entry, moving).await;
                moved.map(|moved| moved.map(Some))
            } else {
                let written = dead_letters.attempt(Arc::clone(&entry)).await;
                written.map(|fell_back| fell_back.map_or(Ok(None), Err))
            };
            let (kind, fell_back) = match written {
                Ok(Ok(Some(Settled::Lost))) => return Written::Lost,
                Ok(Ok(moved)) => {
                    self.unwritten.store(0, Ordering::Relaxed);
                    return moved.map_or(Written::There, |_| Written::Moved);
                }
                Ok(Err(kind)) => (kind, true),
                Err(error) => (error.first().kind(), false),
            };
            if kind == StoreErrorKind::TooLarge
                && !entry.body.bytes().is_empty()
                && let Some(most) = shorter.next()
            {
                self.trouble("an entry is too large for the sink, and is cut", &job.id);
                let entry = Arc::make_mut(&mut entry);
                entry.body = mem::take(&mut entry.body).cut(most);
                continue;
            }
            return Written::NotYet { kind, fell_back };
        }
    }

    /// The wait before the next try to read a job that only a newer release can read.
    pub(super) fn newer_wait(&self, job: &Job) -> Duration {
        self.trouble("only a newer release can read a job", &job.id);
        as_long_again(job.age(), Duration::from_secs(60))
    }

    /// The wait before the next try to write an entry.
    fn rewrite_wait(&self, job: &Job, kind: StoreErrorKind) -> Duration {
        if matches!(kind, StoreErrorKind::Rejected | StoreErrorKind::TooLarge) {
            // The fault is in the entry, so other entries need not wait.
            let last = job.history.last();
            let ended = last.map(|last| last.started().saturating_add(last.took()));
            let since = job.age().saturating_sub(ended.unwrap_or_default());
            return as_long_again(since, Duration::from_secs(60 * 60));
        }
        // The fault is in the sink: the wait grows with the failures in a row.
        let before = self.unwritten.fetch_add(1, Ordering::Relaxed);
        let longest = Duration::from_secs(1 << before.min(6));
        longest.mul_f64(fastrand::f64().mul_add(0.5, 0.5))
    }

    /// The entry of a failed job. It is the same for each write, except for the time of writing.
    fn entry(&self, job: &Job, cause: &Cause) -> Entry {
        let now = self.clock.now();
        let id = job.entry_id();
        let mut entry = Entry::new(id, &job.kind, &job.target, cause.clone(), now);
        entry.task_id = Some(job.id.entry_id());
        entry.dedup_key = job.dedup_key.as_ref().map(IdempotencyKey::to_text);
        entry.fifo_group.clone_from(&job.fifo_group);
        let origin = job.history.records().first().map(AttemptRecord::started);
        let last = job.history.last();
        let at = |age: Duration| job.accepted_at.checked_add(age);
        entry.first_attempt_at = origin.and_then(at);
        entry.last_attempt_at =
            last.and_then(|last| at(last.started().saturating_add(last.took())));
        entry.history = job.history.counted_from(origin.unwrap_or_default());
        if cause.reason == Reason::WorkerLost {
            // The worker that made the last attempts died and could not store their history.
            let attempts = job.attempt.min(self.retry.attempts());
            entry.history = entry.history.with_attempts(attempts);
        }
        if let Ok(req) = job.http_request() {
            HttpRequests.describe(&Arc::new(req), &mut entry);
        } else if job.kind == NewJob::HTTP {
            // If a request cannot be read, its credentials cannot be redacted.
            entry.body = EntryBody::new(&job.payload, 0);
        } else {
            entry.direction = Direction::Inbound;
            entry.body = EntryBody::new(&job.payload, usize::MAX);
        }
        let about = job.about.clone();
        entry.event_id = about.event_id.or(entry.event_id);
        entry.event_time = about.event_time.or(entry.event_time);
        entry.idempotency_key = about.idempotency_key.or(entry.idempotency_key);
        entry.trace_id = about.trace_id.or(entry.trace_id);
        entry.replay_of = about.replay_of;
        entry.replays = about.replays;
        if let Some(describe) = &self.describe
            && catch_panic(|| describe(job, &mut entry)).is_none()
        {
            self.trouble("the function that describes an entry panicked", &job.id);
        }
        entry.body = mem::take(&mut entry.body).cut(self.entry_body);
        self.redaction.apply(&mut entry);
        entry
    }
}

fn is_newer(job: &Job) -> bool {
    job.kind == NewJob::HTTP && job.http_request().is_err_and(|error| error.is_newer())
}

/// A wait that grows without a counter: at most the time that has passed, and at most `most`.
fn as_long_again(passed: Duration, most: Duration) -> Duration {
    let longest = passed.clamp(Duration::from_secs(1), most);
    longest.mul_f64(fastrand::f64().mul_add(0.5, 0.5))
}
