//! The entry of a job that has failed for good.

use super::shared::Shared;
use crate::{
    attempt::{AttemptRecord, History},
    catch_panic::catch_panic,
    dead_letter::{
        Cause, Describe as _, Direction, Entry, EntryBody, HttpRequests, Reason, Redaction,
        cause::message,
    },
    outcome::{LocallyRefused, Outcome, OutcomeKind, links},
    queue::{FailedJob, Job, NewJob},
    trace::trouble,
};
use std::{error::Error, mem, sync::Arc, time::Duration};

pub(super) type Describe = Arc<dyn Fn(&Job, &mut Entry) + Send + Sync>;

/// Why a job is dead-lettered. `reason` is what is known of it beside the outcome. It is stored, and told
/// to hooks: what it says is redacted as it will be in the entry.
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
        // The last of several attempts panicked: that is what to look at.
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

/// By the rule alone: a function of the user's own is to see the whole entry, later.
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

impl Shared {
    /// The entry of a failed job. The same each time but for when it was written.
    pub(super) fn entry(&self, failed_job: &FailedJob) -> Entry {
        let job = &failed_job.job;
        let now = self.clock.now();
        let id = job.id.entry_id();
        let mut entry = Entry::new(id, &job.kind, &job.target, failed_job.cause.clone(), now);
        let origin = job.history.records().first().map(AttemptRecord::started);
        let last = job.history.last();
        let at = |age: Duration| job.accepted_at.checked_add(age);
        entry.first_attempt_at = origin.and_then(at);
        entry.last_attempt_at =
            last.and_then(|last| at(last.started().saturating_add(last.took())));
        entry.history = job.history.counted_from(origin.unwrap_or_default());
        if failed_job.cause.reason == Reason::WorkerLost {
            // Nobody was left to note how those went.
            entry.history = entry.history.with_attempts(job.attempt);
        }
        if let Ok(req) = job.http_request() {
            HttpRequests.describe(&Arc::new(req), &mut entry);
        } else if job.kind == NewJob::HTTP {
            // What cannot be read of a request may be its credentials.
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
            trouble!("worker", "a job was not described whole", id = job.id);
        }
        entry.body = mem::take(&mut entry.body).cut(self.entry_body);
        self.redaction.apply(&mut entry);
        entry
    }
}
