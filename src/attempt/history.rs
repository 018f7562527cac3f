use crate::{
    BoxError,
    outcome::{Outcome, OutcomeKind, links},
};
use std::{error::Error, fmt, time::Duration};

/// How many of the oldest and how many of the latest records are kept.
const EACH_END: usize = 16;

/// One call of a delivery: an attempt, or a call that was refused on our side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptRecord {
    number: u32,
    started: Duration,
    took: Duration,
    outcome: Outcome,
    pub(super) wait: Option<Duration>,
}

impl AttemptRecord {
    /// Makes a record of the attempt `number`. `started` is counted from the start of the delivery.
    pub const fn new(number: u32, started: Duration, took: Duration, outcome: Outcome) -> Self {
        Self {
            number,
            started,
            took,
            outcome,
            wait: None,
        }
    }

    /// Sets the wait before the next call.
    #[must_use]
    pub const fn with_wait(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }

    /// The number of the attempt, from 1. A refused call has the number of the attempt that it would have
    /// been; the call after it has the same number.
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// The time from the start of the delivery to that of the call.
    pub const fn started(&self) -> Duration {
        self.started
    }

    /// The duration of the call.
    pub const fn took(&self) -> Duration {
        self.took
    }

    /// The outcome: kind, code and hint.
    pub const fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// The wait before the next call, as it was decided; `None` for the last.
    pub const fn wait(&self) -> Option<Duration> {
        self.wait
    }
}

/// The history of the attempts of one delivery.
///
/// Bounded: of more than 32 calls, the first 16 and the last 16 are kept, and the others are counted.
///
/// The retry layer adds it to the extensions of a response that follows a failure, and to [`Failed`].
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
    /// The greatest number of records that are kept.
    pub const MAX_RECORDS: usize = 2 * EACH_END;

    /// Makes an empty history. Allocates with the first record.
    pub const fn new() -> Self {
        Self {
            records: Vec::new(),
            left_out: 0,
            attempts: 0,
            refusals: 0,
            gave_up: None,
        }
    }

    /// Adds a call. With [`MAX_RECORDS`](Self::MAX_RECORDS) records, one from the middle is removed.
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

    /// Adds the attempts of a later run, which began `offset` after this history did. The reason for
    /// giving up becomes that of the later run.
    #[cfg(feature = "dead-letter")]
    pub(crate) fn append(&mut self, later: &Self, offset: Duration) {
        let before = self.attempts;
        for record in &later.records {
            let mut record = *record;
            record.number = record.number.saturating_add(before);
            record.started = record.started.saturating_add(offset);
            self.push(record);
        }
        // Calls that the later history only counts are only counted here too.
        self.left_out = self.left_out.saturating_add(later.left_out);
        self.attempts = before.saturating_add(later.attempts);
        let pushed = later.records.iter();
        let refused = pushed.filter(|record| !record.outcome.was_attempted());
        let refused = u32::try_from(refused.count()).unwrap_or(u32::MAX);
        let missing = later.refusals.saturating_sub(refused);
        self.refusals = self.refusals.saturating_add(missing);
        self.gave_up = later.gave_up;
    }

    /// Sets why there were no further attempts.
    #[must_use]
    pub const fn with_gave_up(mut self, reason: GaveUp) -> Self {
        self.gave_up = Some(reason);
        self
    }

    /// The same history with start times counted from `origin`.
    #[cfg(feature = "queue")]
    pub(crate) fn counted_from(&self, origin: Duration) -> Self {
        let mut history = self.clone();
        for record in &mut history.records {
            record.started = record.started.saturating_sub(origin);
        }
        history
    }

    /// Raises the number of attempts to this one, if not all of them are recorded.
    #[cfg(feature = "queue")]
    pub(crate) fn with_attempts(mut self, attempts: u32) -> Self {
        self.attempts = self.attempts.max(attempts);
        self
    }

    /// The calls, oldest first.
    pub fn records(&self) -> &[AttemptRecord] {
        &self.records
    }

    /// The number of calls that are missing in [`records`](Self::records), between the 16th and the 17th.
    pub const fn left_out(&self) -> u32 {
        self.left_out
    }

    /// How many attempts were made.
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The number of calls that were refused on this side, before anything was sent.
    pub const fn refusals(&self) -> u32 {
        self.refusals
    }

    /// Why there were no further attempts; `None` if the last one succeeded.
    pub const fn gave_up(&self) -> Option<GaveUp> {
        self.gave_up
    }

    /// The last call.
    pub fn last(&self) -> Option<&AttemptRecord> {
        self.records.last()
    }
}

/// Why a failed delivery was not retried.
///
/// # Examples
///
/// ```
/// use tower_webhook::attempt::GaveUp;
///
/// assert_eq!(GaveUp::HintTooLong.as_str(), "hint_too_long");
/// assert_eq!(GaveUp::HintTooLong.to_string(), "the peer asks for a longer wait than there is time");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum GaveUp {
    /// The request body cannot be sent again.
    BodyNotReplayable,
    /// The retry budget is spent: too much of the recent traffic is retries.
    Budget,
    /// Another attempt could not end before the deadline of the call.
    Deadline,
    /// The peer asks for a longer wait than the hint limit allows, or than the time left.
    HintTooLong,
    /// The inner service failed in `poll_ready` before the next attempt.
    NotReady,
    /// The outcome does not allow a retry, or the request is not safe to repeat.
    NotRetryable,
    /// The call was refused on this side, for example by an open circuit, and is not delayed any longer.
    Refused,
    /// All allowed attempts have failed.
    RetriesExhausted,
    /// Another attempt could not end inside the total window of the retries.
    Window,
}

impl GaveUp {
    /// Every reason, in alphabetical order: for counters that are set up in advance.
    pub const ALL: &'static [Self] = &[
        Self::BodyNotReplayable,
        Self::Budget,
        Self::Deadline,
        Self::HintTooLong,
        Self::NotReady,
        Self::NotRetryable,
        Self::Refused,
        Self::RetriesExhausted,
        Self::Window,
    ];

    /// The name in lower case, for metric labels, logs and records. It does not change between
    /// releases.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BodyNotReplayable => "body_not_replayable",
            Self::Budget => "budget",
            Self::Deadline => "deadline",
            Self::HintTooLong => "hint_too_long",
            Self::NotReady => "not_ready",
            Self::NotRetryable => "not_retryable",
            Self::Refused => "refused",
            Self::RetriesExhausted => "retries_exhausted",
            Self::Window => "window",
        }
    }
}

impl fmt::Display for GaveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::BodyNotReplayable => "the body of the request cannot be sent again",
            Self::Budget => "the retry budget is spent",
            Self::Deadline => "the deadline leaves no time for an attempt",
            Self::HintTooLong => "the peer asks for a longer wait than there is time",
            Self::NotReady => "the service takes no more calls",
            Self::NotRetryable => "it is not retried",
            Self::Refused => "another was refused on this side and not sent",
            Self::RetriesExhausted => "no attempts left",
            Self::Window => "the retry window leaves no time for an attempt",
        })
    }
}

/// The last error of a delivery that was given up, with the history of its attempts.
///
/// Its [`source`](Error::source) is the error of the last attempt, which outer classifiers classify; the error of
/// this side, such as an open circuit, if no attempt has one. If the last call was refused on this side after an attempt
/// had failed with an error, that is the [`refusal`](Self::refusal).
///
/// # Examples
///
/// ```
/// use tower_webhook::BoxError;
/// use tower_webhook::attempt::{Failed, GaveUp, History};
/// use tower_webhook::outcome::{Outcome, OutcomeKind, Unreached};
///
/// let history = History::new().with_gave_up(GaveUp::RetriesExhausted);
/// let error = BoxError::from(Failed::new(Unreached::new(), history));
///
/// let failed = error.downcast_ref::<Failed>().unwrap();
/// assert_eq!(failed.history().gave_up(), Some(GaveUp::RetriesExhausted));
/// assert_eq!(Outcome::of_error(failed).kind(), OutcomeKind::Unreached);
/// ```
pub struct Failed {
    source: BoxError,
    refusal: Option<BoxError>,
    history: History,
}

impl Failed {
    /// Wraps the error of the last attempt.
    pub fn new(source: impl Into<BoxError>, history: History) -> Self {
        Self {
            source: source.into(),
            refusal: None,
            history,
        }
    }

    /// Adds the error with which the call after the last attempt was refused on this side.
    #[must_use]
    pub fn with_refusal(mut self, refusal: impl Into<BoxError>) -> Self {
        self.refusal = Some(refusal.into());
        self
    }

    /// The error with which the call after the last attempt was refused on this side, for example by an open circuit.
    pub fn refusal(&self) -> Option<&(dyn Error + 'static)> {
        self.refusal.as_deref().map(|refusal| refusal as _)
    }

    /// The history of the attempts.
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// Why there were no further attempts.
    pub const fn gave_up(&self) -> Option<GaveUp> {
        self.history.gave_up()
    }

    /// The error of the last attempt, and the history.
    pub fn into_parts(self) -> (BoxError, History) {
        (self.source, self.history)
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.history.attempts() {
            0 => f.write_str("not sent")?,
            1 => f.write_str("gave up after 1 attempt")?,
            attempts => write!(f, "gave up after {attempts} attempts")?,
        }
        let calls = self.history.records().iter().rev();
        let last = calls
            .map(AttemptRecord::outcome)
            .find(|outcome| outcome.was_attempted());
        if let Some(code) = last.and_then(Outcome::code) {
            write!(f, ", the last answered {code}")?;
        }
        match (self.history.gave_up(), last.map(Outcome::kind)) {
            (None, _) => return Ok(()),
            (Some(GaveUp::NotRetryable), Some(OutcomeKind::Transient | OutcomeKind::Throttled)) => {
                f.write_str(UNSAFE_TO_REPEAT)?;
            }
            // Nothing else says what happened: most programs print an error without its sources.
            (Some(GaveUp::Refused), None) => write!(f, ": {}", self.source)?,
            (Some(reason), _) => write!(f, ": {reason}")?,
        }
        match &self.refusal {
            Some(refusal) => write!(f, " ({refusal})"),
            // The root of the causes: what is above it names the client, and may show the path of a URL.
            None if last.is_some_and(|outcome| outcome.code().is_none()) => {
                let root = links(&*self.source).last();
                root.map_or(Ok(()), |root| write!(f, " ({root})"))
            }
            None => Ok(()),
        }
    }
}

/// The message and those of its causes, as `main` prints an error that it returns. `{:#?}` shows the fields.
impl fmt::Debug for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            return f
                .debug_struct("Failed")
                .field("source", &self.source)
                .field("refusal", &self.refusal)
                .field("history", &self.history)
                .finish();
        }
        write!(f, "Failed: {self}")?;
        links(&*self.source).try_for_each(|cause| write!(f, "; {cause}"))
    }
}

/// Why a failure that may pass is not retried, and what to do.
const UNSAFE_TO_REPEAT: &str = ": it is not retried, because the peer may have acted on it and cannot tell a repetition: \
    use an idempotent method, or add an idempotency-key, webhook-id or svix-id";

impl Error for Failed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
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

    #[test]
    fn all_names_every_reason_once_and_in_order() {
        assert!(GaveUp::ALL.is_sorted());
        assert!(GaveUp::ALL.iter().map(|reason| reason.as_str()).is_sorted());
        assert!(GaveUp::ALL.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
