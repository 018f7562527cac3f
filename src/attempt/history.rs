use super::GaveUp;
use crate::outcome::Outcome;
use std::time::Duration;

/// How many of the oldest and of the latest records are kept.
const EACH_END: usize = 16;

/// One call that was made, or refused, for a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptRecord {
    number: u32,
    started: Duration,
    took: Duration,
    outcome: Outcome,
    pub(super) wait: Option<Duration>,
}

impl AttemptRecord {
    /// The attempt of this number, which began this long after the delivery did.
    pub const fn new(number: u32, started: Duration, took: Duration, outcome: Outcome) -> Self {
        Self {
            number,
            started,
            took,
            outcome,
            wait: None,
        }
    }

    /// Sets how long was to be waited after it.
    #[must_use]
    pub const fn with_wait(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }

    /// Its number, from 1. A call that was refused has the number of the attempt that it would
    /// have been, and so does the next one.
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// When it began, from the beginning of the delivery.
    pub const fn started(&self) -> Duration {
        self.started
    }

    /// How long it took.
    pub const fn took(&self) -> Duration {
        self.took
    }

    /// How it went: kind, code and hint.
    pub const fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// How long was waited before the next one, as it was decided; `None` for the last.
    pub const fn wait(&self) -> Option<Duration> {
        self.wait
    }
}

/// How the attempts of one delivery went.
///
/// Bounded: of more than 32 calls the first 16 and the last 16 are kept, and the others counted.
///
/// The retry layer puts it into the extensions of a response that came after a failure, and into
/// [`Failed`](super::Failed).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_webhook::attempt::{AttemptRecord, GaveUp, History};
/// use tower_webhook::outcome::Outcome;
///
/// let mut history = History::new();
/// let took = Duration::from_millis(80);
/// history.push(AttemptRecord::new(1, Duration::ZERO, took, Outcome::permanent().with_code(400)));
/// let history = history.with_gave_up(GaveUp::NotRetryable);
///
/// assert_eq!((history.attempts(), history.refusals()), (1, 0));
/// assert_eq!(history.last().and_then(|last| last.outcome().code()), Some(400));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    pub(super) records: Vec<AttemptRecord>,
    pub(super) left_out: u32,
    pub(super) attempts: u32,
    pub(super) refusals: u32,
    pub(super) gave_up: Option<GaveUp>,
}

impl History {
    /// The most records that are kept.
    pub const MAX_RECORDS: usize = 2 * EACH_END;

    /// Of a delivery that has not begun. Allocates with the first record.
    pub const fn new() -> Self {
        Self {
            records: Vec::new(),
            left_out: 0,
            attempts: 0,
            refusals: 0,
            gave_up: None,
        }
    }

    /// Adds a call. Where there are [`MAX_RECORDS`](Self::MAX_RECORDS), one from the middle makes
    /// room.
    pub fn push(&mut self, record: AttemptRecord) {
        let count = if record.outcome.was_attempted() {
            &mut self.attempts
        } else {
            &mut self.refusals
        };
        *count = count.saturating_add(1);
        if self.records.len() == Self::MAX_RECORDS {
            self.records.remove(EACH_END);
            self.left_out = self.left_out.saturating_add(1);
        }
        self.records.push(record);
    }

    /// Adds the attempts of another time, which began this long after this history did. Why there
    /// were no more is said by the later one.
    #[cfg(feature = "dead-letter")]
    pub(crate) fn append(&mut self, later: &Self, offset: Duration) {
        let before = self.attempts;
        for record in &later.records {
            let mut record = *record;
            record.number = record.number.saturating_add(before);
            record.started = record.started.saturating_add(offset);
            self.push(record);
        }
        // Those that the later one counts and does not have are left out here too.
        self.left_out = self.left_out.saturating_add(later.left_out);
        self.attempts = before.saturating_add(later.attempts);
        let pushed = later.records.iter();
        let refused = pushed.filter(|record| !record.outcome.was_attempted());
        let refused = u32::try_from(refused.count()).unwrap_or(u32::MAX);
        let missing = later.refusals.saturating_sub(refused);
        self.refusals = self.refusals.saturating_add(missing);
        self.gave_up = later.gave_up;
    }

    /// Sets why there were no more.
    #[must_use]
    pub const fn with_gave_up(mut self, reason: GaveUp) -> Self {
        self.gave_up = Some(reason);
        self
    }

    /// The same with times that count from `origin` on, by which they began.
    #[cfg(feature = "queue")]
    pub(crate) fn counted_from(&self, origin: Duration) -> Self {
        let mut history = self.clone();
        for record in &mut history.records {
            record.started = record.started.saturating_sub(origin);
        }
        history
    }

    /// Sets how many attempts were made at least, where not all of them are known.
    #[cfg(feature = "queue")]
    pub(crate) fn with_attempts(mut self, attempts: u32) -> Self {
        self.attempts = self.attempts.max(attempts);
        self
    }

    /// The calls, oldest first.
    pub fn records(&self) -> &[AttemptRecord] {
        &self.records
    }

    /// How many calls are not among [`records`](Self::records). They are missing between the 16th
    /// and the 17th.
    pub const fn left_out(&self) -> u32 {
        self.left_out
    }

    /// How many attempts were made on the peer.
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// How many calls were refused on our side, before anything was sent.
    pub const fn refusals(&self) -> u32 {
        self.refusals
    }

    /// Why there were no more; `None` where the last one succeeded.
    pub const fn gave_up(&self) -> Option<GaveUp> {
        self.gave_up
    }

    /// The last call.
    pub fn last(&self) -> Option<&AttemptRecord> {
        self.records.last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_history_keeps_both_ends_and_counts_the_rest() {
        let mut history = History::new();
        for number in 1..=1_000 {
            let outcome = Outcome::transient();
            history.push(AttemptRecord::new(
                number,
                Duration::ZERO,
                Duration::ZERO,
                outcome,
            ));
        }
        let numbers: Vec<_> = history
            .records()
            .iter()
            .map(AttemptRecord::number)
            .collect();
        let expected: Vec<_> = (1..=16).chain(985..=1_000).collect();
        assert_eq!(numbers, expected);
        assert_eq!((history.attempts(), history.left_out()), (1_000, 968));
    }

    #[cfg(feature = "dead-letter")]
    #[test]
    fn what_came_later_follows_what_came_before() {
        let second = Duration::from_secs(1);
        let record = |number, outcome| AttemptRecord::new(number, second, second, outcome);
        let mut history = History::new().with_gave_up(GaveUp::Budget);
        history.push(record(1, Outcome::transient()));
        history.push(record(2, Outcome::refused(None)));
        let mut later = History::new().with_gave_up(GaveUp::RetriesExhausted);
        for number in 1..=40 {
            later.push(record(number, Outcome::transient()));
        }
        later.push(record(41, Outcome::refused(None)));
        history.append(&later, second * 10);

        assert_eq!((history.attempts(), history.refusals()), (41, 2));
        assert_eq!(history.gave_up(), Some(GaveUp::RetriesExhausted));
        assert_eq!(history.records().len(), History::MAX_RECORDS);
        assert_eq!(history.left_out(), 43 - 32);
        let third = history.records()[2];
        assert_eq!((third.number(), third.started()), (2, second * 11));
        assert_eq!(history.last().map(AttemptRecord::number), Some(42));
    }
}
