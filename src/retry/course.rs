use super::{
    HintLimit, Jitter, Permit, Refusals,
    backoff::{nanos, part_of},
    config::Settings,
};
use crate::{
    attempt::{Attempt, AttemptRecord, GaveUp, History},
    deadline::Deadline,
    outcome::{Outcome, OutcomeKind},
};
use std::time::Duration;
use tokio::time::Instant;

/// The most that is added to a hint, so that those who were told the same do not return together.
const MAX_HINT_SPREAD: Duration = Duration::from_secs(10);

/// Where one delivery is. Pure: the time and the randomness come in as arguments; what it knows of
/// the world is the budget.
#[derive(Clone, Debug)]
pub(super) struct Course {
    /// When the first attempt began, or the stored delivery was taken up again.
    started: Instant,
    /// How old the delivery was then.
    before: Duration,
    /// How old it was when its first attempt began.
    opened: Duration,
    /// When the current attempt began.
    began: Instant,
    deadline: Option<Deadline>,
    /// Counted from 1, whatever was made further out.
    attempt: Attempt,
    /// The attempts that were made further out: this delivery is part of the next.
    made_outside: u32,
    /// Whether each attempt is decided on and made apart from the others.
    is_stored: bool,
    refusals: u32,
    /// The own delay before the current attempt.
    delay: Duration,
    ticket: Ticket,
    history: History,
}

/// What follows from an outcome.
#[derive(Debug)]
pub(super) enum Verdict {
    /// There is nothing to retry. With the history, where something had to be.
    Done(Option<History>),
    GiveUp(History),
    /// Another attempt is to be made after this wait.
    Retry(Duration),
}

impl Course {
    pub(super) fn new(now: Instant, deadline: Option<Deadline>) -> Self {
        let outside = Attempt::current().map_or(1, Attempt::number);
        Self {
            started: now,
            before: Duration::ZERO,
            opened: Duration::ZERO,
            began: now,
            deadline,
            attempt: Attempt::first(),
            made_outside: outside - 1,
            is_stored: false,
            refusals: 0,
            delay: Duration::ZERO,
            ticket: Ticket::none(),
            history: History::new(),
        }
    }

    /// A delivery of this age whose next attempt has this number. What was decided about the one
    /// before is in its history.
    #[cfg(feature = "queue")]
    pub(super) fn resumed(attempt: Attempt, history: History, age: Duration, now: Instant) -> Self {
        let opened = history.records().first();
        Self {
            before: age,
            opened: opened.map_or(age, |first| first.started().min(age)),
            attempt,
            made_outside: 0,
            is_stored: true,
            refusals: history.refusals(),
            delay: history
                .last()
                .and_then(AttemptRecord::wait)
                .unwrap_or_default(),
            history,
            ..Self::new(now, None)
        }
    }

    /// The attempt that is made, or will be next.
    pub(super) fn attempt(&self) -> Attempt {
        Attempt::numbered(self.attempt.number().saturating_add(self.made_outside))
    }

    /// How old the delivery is.
    fn age(&self, now: Instant) -> Duration {
        let since = now.saturating_duration_since(self.started);
        self.before.saturating_add(since)
    }

    /// Whether nothing has failed yet.
    pub(super) fn is_first_call(&self) -> bool {
        self.history.records().is_empty()
    }

    /// What was begun is not sent after all.
    pub(super) const fn not_sent(&mut self) {
        self.ticket.sent = false;
    }

    /// Whether the call that is about to be made is the last, however it ends. The last attempt is
    /// not, while a refusal of it could be waited for.
    pub(super) fn is_last(&self, settings: &Settings) -> bool {
        let attempts_left = self.attempt.number() < settings.attempts;
        !attempts_left && !self.may_wait_for_refusal(settings)
    }

    /// Begins a call, if one that begins now can end in time.
    pub(super) fn begin(&mut self, settings: &Settings, now: Instant) -> Result<(), GaveUp> {
        let (left, reason) = self.left(settings, now);
        if left < settings.min_attempt || left.is_zero() {
            return Err(reason);
        }
        self.begin_anyway(now);
        Ok(())
    }

    /// Begins a call, whatever time there is.
    pub(super) const fn begin_anyway(&mut self, now: Instant) {
        self.began = now;
        self.ticket.sent = true;
    }

    /// Begins a call of a stored delivery: if it can end in time, and the budget has a permit for
    /// it where it is a retry.
    ///
    /// After a refusal there is always one more call: it was put off as long as there was time, and
    /// what it says is why it ends.
    #[cfg(feature = "queue")]
    pub(super) fn begin_stored(&mut self, settings: &Settings, now: Instant) -> Result<(), GaveUp> {
        self.began = now;
        let last = self.history.last().map(AttemptRecord::outcome);
        if last.is_some_and(Outcome::was_attempted) {
            self.begin(settings, now)?;
        }
        if self.attempt > Attempt::first() {
            let permit = settings.budget.withdraw_at(now).ok_or(GaveUp::Budget)?;
            self.ticket.replace(permit);
        } else if self.is_first_call() {
            settings.budget.deposit_at(now);
        }
        self.begin_anyway(now);
        Ok(())
    }

    /// Ends the delivery for a reason that is not in an outcome.
    pub(super) fn end(&mut self, reason: GaveUp) -> History {
        std::mem::take(&mut self.history).with_gave_up(reason)
    }

    /// The history so far.
    #[cfg(feature = "queue")]
    pub(super) fn into_history(mut self) -> History {
        std::mem::take(&mut self.history)
    }

    /// Ends the current call without a verdict: it was broken off.
    #[cfg(feature = "queue")]
    pub(super) fn broken_off(&mut self, now: Instant) -> History {
        let took = now.saturating_duration_since(self.began);
        let (number, started) = (self.attempt.number(), self.age(self.began));
        let outcome = Outcome::cancelled();
        self.history
            .push(AttemptRecord::new(number, started, took, outcome));
        std::mem::take(&mut self.history)
    }

    /// Judges how the current call went. `can_send_again` is asked only where everything else
    /// speaks for another one.
    pub(super) fn decide(
        &mut self,
        settings: &Settings,
        outcome: Outcome,
        now: Instant,
        can_send_again: impl FnOnce() -> bool,
    ) -> Verdict {
        if !outcome.is_failure() && self.is_first_call() {
            return Verdict::Done(None);
        }
        let record = AttemptRecord::new(
            self.attempt.number(),
            self.age(self.began),
            now.saturating_duration_since(self.began),
            outcome,
        );
        if !outcome.is_failure() {
            self.history.push(record);
            return Verdict::Done(Some(std::mem::take(&mut self.history)));
        }
        match self.next(settings, outcome, now, can_send_again) {
            Ok(wait) => {
                self.history.push(record.with_wait(wait));
                Verdict::Retry(wait)
            }
            Err(reason) => {
                self.history.push(record);
                Verdict::GiveUp(self.end(reason))
            }
        }
    }

    /// How long to wait before another call, and all that is due for it.
    fn next(
        &mut self,
        settings: &Settings,
        outcome: Outcome,
        now: Instant,
        can_send_again: impl FnOnce() -> bool,
    ) -> Result<Duration, GaveUp> {
        let attempted = outcome.was_attempted();
        if !attempted {
            // What was not sent has cost nothing: the permit serves for the next call.
            self.ticket.sent = false;
        }
        if !outcome.may_retry() {
            return Err(GaveUp::NotRetryable);
        }
        if attempted && self.attempt.number() >= settings.attempts {
            return Err(GaveUp::RetriesExhausted);
        }
        if !attempted && !self.may_wait_for_refusal(settings) {
            return Err(GaveUp::Refused);
        }
        if !can_send_again() {
            return Err(GaveUp::BodyNotReplayable);
        }
        let mut rng = settings.rng();
        let (wait, own) = self.wait(settings, outcome, now, &mut rng)?;
        if attempted {
            // A stored delivery asks when its time has come.
            if !self.is_stored {
                let permit = settings.budget.withdraw_at(now).ok_or(GaveUp::Budget)?;
                self.ticket.replace(permit);
            }
            self.attempt = self.attempt.next();
        } else {
            self.refusals = self.refusals.saturating_add(1);
        }
        self.delay = own;
        Ok(wait)
    }

    const fn may_wait_for_refusal(&self, settings: &Settings) -> bool {
        match settings.refusals {
            None => self.is_stored,
            Some(Refusals::GiveUp) => false,
            Some(Refusals::Wait(most)) => {
                (settings.attempts > 1 || self.is_stored) && self.refusals < most
            }
        }
    }

    /// How long to wait, and what the backoff alone would have waited.
    fn wait(
        &self,
        settings: &Settings,
        outcome: Outcome,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Result<(Duration, Duration), GaveUp> {
        let (left, no_time) = self.left(settings, now);
        // The wait may be as long as leaves time for an attempt.
        let room = left.checked_sub(settings.min_attempt).ok_or(no_time)?;
        let hint = outcome.retry_after().unwrap_or_default();
        if outcome.kind() == OutcomeKind::Refused {
            // At the last moment, to wait no time at all would be to ask without end.
            if hint > room || room.is_zero() {
                return Err(GaveUp::Refused);
            }
            // Added, not compared: all that a circuit refused in an outage would return at the
            // moment it closes. And spread over as long as each will have waited by then, or most
            // of a long outage's deliveries would still come in the first second after it.
            let refusals = self.refusals.saturating_add(1);
            let own = settings.backoff.delay(refusals, self.delay, rng.u64(..));
            let waited = self.age(now).saturating_sub(self.opened);
            let most = waited.saturating_add(hint).min(settings.hint_limit.limit());
            let spread = spread(settings, most, rng);
            return Ok((hint.saturating_add(own.max(spread)).min(room), own));
        }
        let hint = match settings.hint_limit {
            HintLimit::GiveUp(limit) if hint > limit => return Err(GaveUp::HintTooLong),
            HintLimit::GiveUp(_) => hint,
            HintLimit::CapTo(limit) => hint.min(limit),
        };
        if hint > room {
            return Err(GaveUp::HintTooLong);
        }
        let retry = self.attempt.number();
        let own = settings.backoff.delay(retry, self.delay, rng.u64(..));
        let most = (hint / 10).min(MAX_HINT_SPREAD);
        let spread = spread(settings, most.min(room.saturating_sub(hint)), rng);
        let wait = own.max(hint.saturating_add(spread));
        if wait > room {
            return Err(no_time);
        }
        Ok((wait, own))
    }

    /// How much time there is, and the reason for giving up where it is too little.
    fn left(&self, settings: &Settings, now: Instant) -> (Duration, GaveUp) {
        let since = self.age(now).saturating_sub(self.opened);
        let window = settings.window.saturating_sub(since);
        match self.deadline.map(|deadline| deadline.left(now)) {
            Some(left) if left < window => (left, GaveUp::Deadline),
            _ => (window, GaveUp::Window),
        }
    }
}

/// Up to `most`; nothing where no jitter is wanted.
fn spread(settings: &Settings, most: Duration, rng: &mut fastrand::Rng) -> Duration {
    match settings.backoff.jitter() {
        Jitter::None => Duration::ZERO,
        _ => Duration::from_nanos(part_of(nanos(most), rng.u64(..))),
    }
}

/// The permit of the current attempt. It goes back to the budget, unless the attempt was begun.
#[derive(Debug)]
struct Ticket {
    permit: Option<Permit>,
    sent: bool,
}

impl Ticket {
    const fn none() -> Self {
        Self {
            permit: None,
            sent: false,
        }
    }

    fn replace(&mut self, permit: Permit) {
        if let Some(used) = self.permit.replace(permit) {
            used.spend();
        }
        self.sent = false;
    }
}

/// A permit is one retry's: a copy of the delivery has none.
impl Clone for Ticket {
    fn clone(&self) -> Self {
        Self::none()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take()
            && self.sent
        {
            permit.spend();
        }
    }
}

#[cfg(test)]
mod tests;
