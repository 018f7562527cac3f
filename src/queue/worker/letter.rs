//! The letter of a job that has failed for good.

use super::shared::Shared;
use crate::{
    attempt::{AttemptRecord, History},
    dead_letter::{
        Cause, Describe as _, Direction, HttpRequests, Letter, LetterBody, Reason, Redaction,
        cause::message,
    },
    outcome::{LocallyRefused, Outcome, OutcomeKind, links},
    queue::{Burial, Job, NewJob},
    shield::shielded,
    trace::trouble,
};
use std::{error::Error, mem, sync::Arc, time::Duration};

pub(super) type Describe = Arc<dyn Fn(&Job, &mut Letter) + Send + Sync>;

/// Why a job is buried. `reason` is what is known of it beside the outcome. It is stored, and told
/// to hooks: what it says is redacted as it will be in the letter.
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

/// By the rule alone: a function of the user's own is to see the whole letter, later.
fn redacted(job: &Job, cause: Cause) -> Cause {
    let id = job.id.letter_id();
    let mut letter = Letter::new(id, &job.kind, &job.target, cause, job.accepted_at);
    Redaction::new().apply(&mut letter);
    letter.cause
}

fn is_open_circuit(error: &(dyn Error + 'static)) -> bool {
    links(error)
        .filter_map(|link| link.downcast_ref::<LocallyRefused>())
        .any(LocallyRefused::is_circuit_open)
}

impl Shared {
    /// The letter of a burial. The same each time but for when it was written.
    pub(super) fn letter(&self, burial: &Burial) -> Letter {
        let job = &burial.job;
        let now = self.clock.now();
        let id = job.id.letter_id();
        let mut letter = Letter::new(id, &job.kind, &job.target, burial.cause.clone(), now);
        let origin = job.history.records().first().map(AttemptRecord::started);
        let last = job.history.last();
        let at = |age: Duration| job.accepted_at.checked_add(age);
        letter.first_attempt_at = origin.and_then(at);
        letter.last_attempt_at =
            last.and_then(|last| at(last.started().saturating_add(last.took())));
        letter.history = job.history.counted_from(origin.unwrap_or_default());
        if burial.cause.reason == Reason::WorkerLost {
            // Nobody was left to note how those went.
            letter.history = letter.history.with_attempts(job.attempt);
        }
        if let Ok(req) = job.http_request() {
            HttpRequests.describe(&Arc::new(req), &mut letter);
        } else if job.kind == NewJob::HTTP {
            // What cannot be read of a request may be its credentials.
            letter.body = LetterBody::new(&job.payload, 0);
        } else {
            letter.direction = Direction::Inbound;
            letter.body = LetterBody::new(&job.payload, usize::MAX);
        }
        let about = job.about.clone();
        letter.event_id = about.event_id.or(letter.event_id);
        letter.event_time = about.event_time.or(letter.event_time);
        letter.idempotency_key = about.idempotency_key.or(letter.idempotency_key);
        letter.trace_id = about.trace_id.or(letter.trace_id);
        letter.replay_of = about.replay_of;
        letter.replays = about.replays;
        if let Some(describe) = &self.describe
            && shielded(|| describe(job, &mut letter)).is_none()
        {
            trouble!("worker", "a job was not described whole", id = job.id);
        }
        letter.body = mem::take(&mut letter.body).cut(self.letter_body);
        self.redaction.apply(&mut letter);
        letter
    }
}
