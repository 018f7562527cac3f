use super::{
    BudgetPermit, HintLimit, Jitter, Refusals, RetryConfig,
    backoff::{nanos, part_of},
    config::Settings,
};
use crate::{
    attempt::{Attempt, AttemptRecord, GaveUp, History},
    context::{CallContext, Entered},
    deadline::Deadline,
    outcome::{Outcome, OutcomeKind},
};
use std::time::Duration;
use tokio::time::Instant;

/// The longest time that is added to a hint, so that clients with the same hint do not retry together.
const MAX_HINT_SPREAD: Duration = Duration::from_secs(10);

/// The retry state of one delivery. Pure: time is an argument, and randomness comes from the settings.
/// It shares only the budget.
///
/// A delivery is either made in one call, from [`new`](Self::new) to its end, or stored in a queue
/// between its attempts: then each attempt begins with [`resumed`](Self::resumed).
#[derive(Debug)]
pub(crate) struct RetryState {
    config: RetryConfig,
    /// When the first attempt began, or the stored delivery was resumed.
    started: Instant,
    /// The age of the delivery at `started`.
    before: Duration,
    /// The age of the delivery when its first attempt began.
    opened: Duration,
    /// When the current attempt began.
    began: Instant,
    deadline: Option<Deadline>,
    /// Counted from 1, without the attempts of an outer retry.
    attempt: Attempt,
    /// The number of attempts that an outer retry layer has completed; this delivery is part of its next one.
    made_outside: u32,
    /// The code that ended the last of those.
    after_outside: Option<u16>,
    /// Whether the delivery is stored in a queue between its attempts.
    is_stored: bool,
    refusals: u32,
    /// The delay of the backoff before the current attempt.
    delay: Duration,
    ticket: Ticket,
    history: History,
}

/// The next step after an outcome.
#[derive(Debug, PartialEq)]
pub(crate) enum Decision {
    /// The delivery succeeded. Holds the history if an earlier attempt failed.
    Done(Option<History>),
    /// The delivery failed for good.
    GiveUp(History),
    /// Another attempt follows after this wait.
    Retry(Duration),
}

impl RetryState {
    #[inline]
    pub(super) fn new(config: &RetryConfig, now: Instant, context: CallContext) -> Self {
        let outside = context.attempt().map_or(1, Attempt::number);
        Self {
            config: config.clone(),
            started: now,
            before: Duration::ZERO,
            opened: Duration::ZERO,
            began: now,
            deadline: context.deadline(),
            attempt: Attempt::first(),
            made_outside: outside - 1,
            after_outside: context.after(),
            is_stored: false,
            refusals: 0,
            delay: Duration::ZERO,
            ticket: Ticket::none(),
            history: History::new(),
        }
    }

    /// The state of a stored delivery of this age, whose next attempt has this number. The wait
    /// before that attempt is in the history.
    #[cfg(feature = "queue")]
    pub(crate) fn resumed(
        config: &RetryConfig,
        attempt: u32,
        history: History,
        age: Duration,
        now: Instant,
    ) -> Self {
        let opened = history.records().first();
        Self {
            before: age,
            opened: opened.map_or(age, |first| first.started().min(age)),
            attempt: Attempt::numbered(attempt),
            is_stored: true,
            refusals: history.refusals(),
            delay: history
                .last()
                .and_then(AttemptRecord::wait)
                .unwrap_or_default(),
            history,
            ..Self::new(config, now, CallContext::default())
        }
    }

    /// The current attempt, or the next one if none is running.
    pub(crate) fn attempt(&self) -> Attempt {
        Attempt::numbered(self.attempt.number().saturating_add(self.made_outside))
    }

    /// Enters the context of the current attempt, which says how the attempt before it ended.
    #[inline]
    pub(super) fn entered(&self) -> Entered {
        let mut records = self.history.records().iter().rev();
        // Between the two, calls may have been refused on this side.
        let before = records.find(|record| record.outcome().was_attempted());
        let after = before.map_or(self.after_outside, |record| record.outcome().code());
        let context = CallContext::current().with_attempt(self.attempt(), after);
        context.entered()
    }

    /// The age of the delivery.
    fn age(&self, now: Instant) -> Duration {
        let since = now.saturating_duration_since(self.started);
        self.before.saturating_add(since)
    }

    /// Whether no call has failed yet.
    #[inline]
    pub(super) fn is_first_call(&self) -> bool {
        self.history.records().is_empty()
    }

    /// Records that the call that was begun was not sent.
    pub(super) const fn not_sent(&mut self) {
        self.ticket.sent = false;
    }

    /// Whether the next call is the last one for any outcome. The last attempt is not, if it may be repeated
    /// after a refusal.
    pub(super) fn is_last(&self) -> bool {
        let attempts_left = self.attempt.number() < self.settings().attempts;
        !attempts_left && !self.may_wait_for_refusal()
    }

    /// Begins a call, if it can end in time.
    #[inline]
    pub(super) fn begin(&mut self, now: Instant) -> Result<(), GaveUp> {
        self.check_time(now)?;
        self.begin_now(now);
        Ok(())
    }

    fn check_time(&self, now: Instant) -> Result<(), GaveUp> {
        let (left, reason) = self.left(now);
        if left < self.settings().min_attempt || left.is_zero() {
            return Err(reason);
        }
        Ok(())
    }

    fn begin_now(&mut self, now: Instant) {
        self.began = now;
        self.ticket.sent = true;
        if self.attempt == Attempt::first() {
            self.settings().budget.deposit_at(now);
        }
    }

    /// Begins an attempt of a stored delivery, if it can end in time and, after a failed attempt, if the budget
    /// has a permit. If the budget has none, call [decide](Self::decide) with a refusal next.
    ///
    /// An attempt that was interrupted, or ended with its worker and is not in the history, says nothing about the
    /// peer. The one after it takes no permit: a restart would otherwise deliver what was under way at the rate
    /// of the budget's floor.
    ///
    /// After a refusal the time is not checked: the delivery was delayed for as long as there was time, and
    /// the outcome of this last call becomes the reason for giving up.
    #[cfg(feature = "queue")]
    pub(crate) fn begin_stored(&mut self, now: Instant) -> Result<(), GaveUp> {
        self.began = now;
        let last = self.history.last().map(AttemptRecord::outcome);
        if last.is_some_and(Outcome::was_attempted) {
            self.check_time(now)?;
        }
        let budget = &self.settings().budget;
        if self.follows_a_failure() {
            let permit = budget.withdraw_at(now).ok_or(GaveUp::Budget)?;
            self.ticket.replace(permit);
        }
        self.begin_now(now);
        Ok(())
    }

    /// Whether the attempt before this one is recorded, as a failure.
    #[cfg(feature = "queue")]
    fn follows_a_failure(&self) -> bool {
        let mut records = self.history.records().iter().rev();
        let last = records.find(|record| record.outcome().was_attempted());
        last.is_some_and(|last| {
            last.outcome().is_failure() && last.number().saturating_add(1) == self.attempt.number()
        })
    }

    fn settings(&self) -> &Settings {
        &self.config.settings
    }

    /// Ends the delivery for a reason that is not an outcome.
    pub(crate) fn end(&mut self, reason: GaveUp) -> History {
        std::mem::take(&mut self.history).with_gave_up(reason)
    }

    /// The history so far.
    #[cfg(feature = "queue")]
    pub(crate) fn into_history(mut self) -> History {
        std::mem::take(&mut self.history)
    }

    /// Ends the current attempt as cancelled: it was interrupted, and has not failed.
    #[cfg(feature = "queue")]
    pub(crate) fn interrupted(&mut self, now: Instant) -> History {
        let took = now.saturating_duration_since(self.began);
        let (number, started) = (self.attempt.number(), self.age(self.began));
        let outcome = Outcome::cancelled();
        self.history
            .push(AttemptRecord::new(number, started, took, outcome));
        std::mem::take(&mut self.history)
    }

    /// Decides the next step after the outcome of the current call. `can_send_again` is called only if
    /// everything else allows another attempt.
    pub(crate) fn decide(
        &mut self,
        outcome: Outcome,
        now: Instant,
        can_send_again: impl FnOnce() -> bool,
    ) -> Decision {
        if !outcome.is_failure() && self.is_first_call() {
            return Decision::Done(None);
        }
        let record = AttemptRecord::new(
            self.attempt.number(),
            self.age(self.began),
            now.saturating_duration_since(self.began),
            outcome,
        );
        if !outcome.is_failure() {
            self.history.push(record);
            return Decision::Done(Some(std::mem::take(&mut self.history)));
        }
        match self.next(outcome, now, can_send_again) {
            Ok(wait) => {
                self.history.push(record.with_wait(wait));
                Decision::Retry(wait)
            }
            Err(reason) => {
                self.history.push(record);
                Decision::GiveUp(self.end(reason))
            }
        }
    }

    /// The wait before another call, after the permit for it was taken.
    fn next(
        &mut self,
        outcome: Outcome,
        now: Instant,
        can_send_again: impl FnOnce() -> bool,
    ) -> Result<Duration, GaveUp> {
        let attempted = outcome.was_attempted();
        if !attempted {
            // Nothing was sent: the permit is used for the next call, and a first attempt buys no retry of others.
            if self.ticket.sent && self.attempt == Attempt::first() {
                self.settings().budget.retract_at(self.began);
            }
            self.ticket.sent = false;
        }
        if !outcome.may_retry() {
            return Err(GaveUp::NotRetryable);
        }
        if attempted && self.attempt.number() >= self.settings().attempts {
            return Err(GaveUp::RetriesExhausted);
        }
        if !attempted && !self.may_wait_for_refusal() {
            return Err(GaveUp::Refused);
        }
        if !can_send_again() {
            return Err(GaveUp::BodyNotReplayable);
        }
        let (wait, own) = self.wait(outcome, now, &mut self.settings().rng())?;
        if attempted {
            // A stored delivery takes its permit when the attempt begins.
            if !self.is_stored {
                let budget = &self.settings().budget;
                let permit = budget.withdraw_at(now).ok_or(GaveUp::Budget)?;
                self.ticket.replace(permit);
            }
            self.attempt = self.attempt.next();
        } else {
            self.refusals = self.refusals.saturating_add(1);
        }
        self.delay = own;
        Ok(wait)
    }

    fn may_wait_for_refusal(&self) -> bool {
        let settings = self.settings();
        match settings.refusals {
            None => self.is_stored,
            Some(Refusals::GiveUp) => false,
            Some(Refusals::Wait(most)) => {
                (settings.attempts > 1 || self.is_stored) && self.refusals < most
            }
        }
    }

    /// The wait, and the delay of the backoff alone.
    fn wait(
        &self,
        outcome: Outcome,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Result<(Duration, Duration), GaveUp> {
        let settings = self.settings();
        let (left, no_time) = self.left(now);
        // The longest wait that leaves time for an attempt.
        let room = left.checked_sub(settings.min_attempt).ok_or(no_time)?;
        let hint = outcome.retry_after().unwrap_or_default();
        if outcome.kind() == OutcomeKind::Refused {
            // Without any room it would ask again at once, and without end.
            if hint > room || room.is_zero() {
                return Err(GaveUp::Refused);
            }
            // The backoff is added to the hint. Otherwise all deliveries that a circuit refused in an
            // outage would be retried at the moment it closes. The delay is spread over the time that
            // each delivery will have waited by then; otherwise most deliveries of a long outage would
            // still be retried in the first second after it. A wait before the last attempt does not
            // count: a peer that fails now and then would delay a delivery by its whole age each time.
            let refusals = self.refusals.saturating_add(1);
            let own = settings.backoff.delay(refusals, self.delay, rng.u64(..));
            let waited = self.waited(now);
            let most = waited.saturating_add(hint).min(settings.hint_limit.limit());
            let spread = spread(settings, most, rng);
            return Ok((hint.saturating_add(own.max(spread)).min(room), own));
        }
        let tenth = |of: Duration| (of / 10).min(MAX_HINT_SPREAD);
        // A hint that is cut is spread below the limit, any other above itself.
        let (hint, most) = match settings.hint_limit {
            HintLimit::GiveUp(limit) if hint > limit => return Err(GaveUp::HintTooLong),
            HintLimit::GiveUp(_) => (hint, tenth(hint)),
            HintLimit::CapTo(limit) if hint > limit => {
                let below = spread(settings, tenth(limit), rng);
                (limit.saturating_sub(below), Duration::ZERO)
            }
            HintLimit::CapTo(limit) => (hint, tenth(hint).min(limit.saturating_sub(hint))),
        };
        if hint > room {
            return Err(GaveUp::HintTooLong);
        }
        let retry = self.attempt.number();
        let own = settings.backoff.delay(retry, self.delay, rng.u64(..));
        let spread = spread(settings, most.min(room.saturating_sub(hint)), rng);
        let wait = own.max(hint.saturating_add(spread));
        if wait > room {
            return Err(no_time);
        }
        Ok((wait, own))
    }

    /// How long this delivery has waited since its last attempt, or since it began where it has none.
    fn waited(&self, now: Instant) -> Duration {
        let mut records = self.history.records().iter().rev();
        let attempted = records.find(|record| record.outcome().was_attempted());
        let since = attempted.map_or(self.opened, |last| {
            last.started().saturating_add(last.took())
        });
        self.age(now).saturating_sub(since)
    }

    /// The time left, and the reason for giving up where it is too little.
    fn left(&self, now: Instant) -> (Duration, GaveUp) {
        let since = self.age(now).saturating_sub(self.opened);
        let window = self.settings().window.saturating_sub(since);
        match self.deadline.map(|deadline| deadline.left(now)) {
            Some(left) if left < window => (left, GaveUp::Deadline),
            _ => (window, GaveUp::Window),
        }
    }
}

/// A random time up to `most`; zero without jitter.
fn spread(settings: &Settings, most: Duration, rng: &mut fastrand::Rng) -> Duration {
    match settings.backoff.jitter() {
        Jitter::None => Duration::ZERO,
        _ => Duration::from_nanos(part_of(nanos(most), rng.u64(..))),
    }
}

/// The permit of the current attempt. It is returned to the budget unless the attempt was begun.
#[derive(Debug)]
struct Ticket {
    permit: Option<BudgetPermit>,
    sent: bool,
}

impl Ticket {
    const fn none() -> Self {
        Self {
            permit: None,
            sent: false,
        }
    }

    fn replace(&mut self, permit: BudgetPermit) {
        if let Some(used) = self.permit.replace(permit) {
            used.spend();
        }
        self.sent = false;
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
