//! A call that may yet fail: what its letter would be made of.

use super::{Describe, Letter, LetterId, cause, layer::Shared};
use crate::{
    attempt::{AttemptRecord, History, Kept},
    key::RequestKey,
    outcome::Outcome,
    shield::shielded,
    trace::trouble,
};
use std::{error::Error, marker::PhantomData, mem, sync::Arc, time::Duration};
use tokio::time::Instant;

pub(super) struct Case<K, D: Describe<Req>, Req> {
    pub(super) shared: Arc<Shared<K, D>>,
    kept: D::Kept,
    /// Where the request itself is not kept.
    target: Option<String>,
    started: Instant,
    of: PhantomData<fn() -> Req>,
}

impl<K, D, Req> Case<K, D, Req>
where
    K: RequestKey<Req>,
    D: Describe<Req>,
    Req: 'static,
{
    /// And the request, where that is what is kept.
    pub(super) fn open(shared: &Arc<Shared<K, D>>, req: &Req) -> (Self, Option<Kept<Req>>) {
        let kept = shared.describe.keep(req);
        let copy = shared.describe.share(&kept);
        let target = copy.is_none().then(|| shared.key.key(req).into_owned());
        let case = Self {
            shared: Arc::clone(shared),
            kept,
            target,
            started: Instant::now(),
            of: PhantomData,
        };
        (case, copy)
    }

    /// The letter of a call that has failed. `noted` is what its answer says of its attempts.
    pub(super) fn letter(
        &self,
        outcome: Outcome,
        noted: Option<&History>,
        error: Option<&(dyn Error + 'static)>,
    ) -> Letter {
        let Shared {
            settings,
            key,
            describe,
        } = &*self.shared;
        let (cause, history) = cause::find(outcome, noted, error);
        let took = self.started.elapsed();
        let history = history.unwrap_or_else(|| alone(outcome, took));
        let now = settings.clock.now();

        let target = match (&self.target, describe.share(&self.kept)) {
            (Some(target), _) => target.clone(),
            (None, Some(kept)) => key.key(kept.request()).into_owned(),
            (None, None) => String::new(),
        };
        let mut letter = Letter::new(LetterId::random(), "request", &target, cause, now);
        letter.direction = settings.direction;
        if history.attempts() > 0 {
            let began = now.checked_sub(took).unwrap_or(now);
            let last = history.last().map(|last| last.started() + last.took());
            letter.first_attempt_at = Some(began);
            letter.last_attempt_at =
                Some(last.and_then(|last| began.checked_add(last)).unwrap_or(now));
        }
        letter.history = history;
        if shielded(|| describe.describe(&self.kept, &mut letter)).is_none() {
            trouble!(
                "dead_letter",
                "a request was not described whole",
                id = letter.id
            );
        }
        letter.body = mem::take(&mut letter.body).cut(settings.body_limit);
        settings.redaction.apply(&mut letter);
        letter
    }
}

/// The history of a call of which none is told: no retry layer is inside, or its call was cut.
fn alone(outcome: Outcome, took: Duration) -> History {
    let mut history = History::new();
    if outcome.was_attempted() {
        history.push(AttemptRecord::new(1, Duration::ZERO, took, outcome));
    }
    history
}
