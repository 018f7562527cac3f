//! The entry: a failed call, its cause, and everything that is needed to send it again.

use crate::{
    attempt::{GaveUp, History},
    outcome::{Outcome, OutcomeKind},
};
use bytes::Bytes;
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr, time::SystemTime};

/// A dead-letter entry: a delivery, event or job that failed for good, with what is needed to find the
/// reason and to send it again.
///
/// It must hold no secrets: apply a [`Redaction`](super::Redaction) to an entry that you make. `Debug` shows
/// neither headers nor body. [`json`](super::json) describes its JSON form.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Entry {
    /// The id. Writing an entry with the same id again replaces it.
    pub id: EntryId,
    /// Whether it was received or sent.
    pub direction: Direction,
    /// The kind of request: `http`, or the kind of a job.
    pub kind: String,
    /// The peer, named as for breakers and metrics, such as a host.
    pub target: String,
    /// The method of an HTTP request.
    pub method: Option<String>,
    /// The URI of an HTTP request, without user and password. `None` if it was too long.
    pub uri: Option<String>,
    /// The headers in their order, without credentials. Names are in lower case.
    pub headers: Vec<(String, Bytes)>,
    /// The number of headers and trailers that were left out and are not credentials: headers that are too
    /// large, and all trailers, which an entry does not hold. Such a request is incomplete and cannot be
    /// sent again.
    pub headers_left_out: u32,
    /// The number of credentials that were left out: headers, and the body if a function of the
    /// [`Redaction`](super::Redaction) changed it.
    pub credentials_left_out: u32,
    /// The body.
    pub body: EntryBody,
    /// The cause of the failure.
    pub cause: Cause,
    /// The history of the attempts. Its times count from [`first_attempt_at`](Self::first_attempt_at).
    pub history: History,
    /// When the first attempt began; `None` without an attempt.
    pub first_attempt_at: Option<SystemTime>,
    /// When the last attempt ended; `None` without an attempt.
    pub last_attempt_at: Option<SystemTime>,
    /// When the entry was made.
    pub written_at: SystemTime,
    /// When the event happened, according to its sender.
    pub event_time: Option<SystemTime>,
    /// The id of the event, as its sender set it.
    pub event_id: Option<String>,
    /// The idempotency key, by which the receiver recognizes a repetition.
    pub idempotency_key: Option<String>,
    /// The number of times that it was sent again. A claim counts.
    pub replays: u32,
    /// The event or entry that it repeats.
    pub replay_of: Option<String>,
    /// The id of its trace.
    pub trace_id: Option<String>,
    /// The id of the task, if it is a job of a queue.
    pub task_id: Option<EntryId>,
    /// The deduplication key of the job, as text.
    pub dedup_key: Option<String>,
    /// The FIFO group of the job.
    pub fifo_group: Option<String>,
}

impl Entry {
    /// The newest schema version of the JSON form, which is the one that is written.
    pub const SCHEMA_VERSION: u32 = 1;

    /// The longest error message, in characters: 10,000, as in Sidekiq.
    pub const MAX_MESSAGE: usize = 10_000;

    /// Makes an entry with these fields. All other fields are empty, and can be set.
    pub fn new(
        id: EntryId,
        kind: &str,
        target: &str,
        cause: Cause,
        written_at: SystemTime,
    ) -> Self {
        Self {
            id,
            direction: Direction::Outbound,
            kind: kind.to_owned(),
            target: target.to_owned(),
            method: None,
            uri: None,
            headers: Vec::new(),
            headers_left_out: 0,
            credentials_left_out: 0,
            body: EntryBody::default(),
            cause,
            history: History::new(),
            first_attempt_at: None,
            last_attempt_at: None,
            written_at,
            event_time: None,
            event_id: None,
            idempotency_key: None,
            replays: 0,
            replay_of: None,
            trace_id: None,
            task_id: None,
            dedup_key: None,
            fifo_group: None,
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("target", &self.target)
            .field("reason", &self.cause.reason)
            .field("body", &self.body)
            .field("attempts", &self.history.attempts())
            .field("replays", &self.replays)
            .finish_non_exhaustive()
    }
}

/// The direction of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// Received: an event whose handler failed.
    Inbound,
    /// Sent: a delivery that failed.
    Outbound,
}

impl Direction {
    /// The name in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// The cause of a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cause {
    /// The reason.
    pub reason: Reason,
    /// The code of the last response: an HTTP status, a gRPC code.
    pub code: Option<u16>,
    /// The outcome of the last attempt: the name of an
    /// [`OutcomeKind`].
    pub class: Option<String>,
    /// The message of the last error, cut to [`Entry::MAX_MESSAGE`] characters.
    pub message: Option<String>,
}

impl Cause {
    /// Makes a cause with this reason and nothing else.
    pub const fn new(reason: Reason) -> Self {
        Self {
            reason,
            code: None,
            class: None,
            message: None,
        }
    }

    /// Adds the code of the last response.
    #[must_use]
    pub const fn with_code(mut self, code: Option<u16>) -> Self {
        self.code = code;
        self
    }

    /// Adds the outcome of the last attempt.
    #[must_use]
    pub fn with_class(mut self, class: &str) -> Self {
        self.class = Some(class.to_owned());
        self
    }

    /// Adds the message of the last error, which must hold no secret. It is cut to
    /// [`Entry::MAX_MESSAGE`] characters.
    #[must_use]
    pub fn with_message(mut self, message: &str) -> Self {
        let end = message.char_indices().nth(Entry::MAX_MESSAGE);
        let kept = end.map_or(message, |(end, _)| &message[..end]);
        self.message = Some(kept.to_owned());
        self
    }
}

/// The body of an entry: all of it, or its beginning with the length and digest of the whole body.
#[derive(Clone, PartialEq, Eq)]
pub struct EntryBody {
    bytes: Bytes,
    length: u64,
    sha256: [u8; 32],
}

impl EntryBody {
    /// Makes the body of an entry from `whole`. At most `most` bytes are stored.
    pub fn new(whole: &Bytes, most: usize) -> Self {
        Self {
            bytes: beginning(whole, most),
            length: u64::try_from(whole.len()).unwrap_or(u64::MAX),
            sha256: Sha256::digest(whole).into(),
        }
    }

    /// For stores: makes a body from its stored `bytes` and the length and digest of the whole body.
    /// `None` if `bytes` is longer than `length`.
    pub fn from_parts(bytes: Bytes, length: u64, sha256: [u8; 32]) -> Option<Self> {
        let fits = u64::try_from(bytes.len()).is_ok_and(|kept| kept <= length);
        fits.then_some(Self {
            bytes,
            length,
            sha256,
        })
    }

    /// Cuts the body, so that at most `most` bytes are stored.
    #[must_use]
    pub fn cut(self, most: usize) -> Self {
        Self {
            bytes: beginning(&self.bytes, most),
            ..self
        }
    }

    /// The stored bytes.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The length of the whole body, in bytes.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// The SHA-256 of the whole body.
    pub const fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// Whether only the beginning is stored. Such an entry cannot be sent again.
    pub fn is_truncated(&self) -> bool {
        u64::try_from(self.bytes.len()).is_ok_and(|kept| kept < self.length)
    }
}

/// Copies the beginning, because a slice would keep the whole body in memory.
fn beginning(whole: &Bytes, most: usize) -> Bytes {
    match whole.get(..most) {
        Some(beginning) if most < whole.len() => Bytes::copy_from_slice(beginning),
        _ => whole.clone(),
    }
}

/// An empty body.
impl Default for EntryBody {
    fn default() -> Self {
        Self::new(&Bytes::new(), 0)
    }
}

impl fmt::Debug for EntryBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "EntryBody({} of {} bytes)",
            self.bytes.len(),
            self.length
        )
    }
}

/// The id of an entry: 128 random bits, written as 32 hexadecimal digits in lower case. No other text
/// parses as an id, so that an id from outside cannot be a path or a pattern.
///
/// # Examples
///
/// ```
/// use tower_webhook::dead_letter::EntryId;
///
/// let id = EntryId::random();
/// assert_eq!(id.to_string().parse(), Ok(id));
/// assert!("../../etc/passwd".parse::<EntryId>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId([u8; 16]);

impl EntryId {
    /// Makes a random id, which cannot be guessed.
    ///
    /// # Panics
    ///
    /// If the operating system has no random bytes, which does not happen on a supported system that has
    /// started.
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        // A guessable id would be worse than none.
        #[expect(clippy::expect_used, reason = "documented")]
        getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
        Self(bytes)
    }

    /// Makes an id of these bytes, such as those of the id of a failed job.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes of the id.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 32];
        HEXLOWER.encode_mut(&self.0, &mut text);
        f.pad(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntryId({self})")
    }
}

impl FromStr for EntryId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let mut bytes = [0; 16];
        if text.len() != 32 {
            return Err(NotAnId);
        }
        HEXLOWER
            .decode_mut(text.as_bytes(), &mut bytes)
            .map_err(|_| NotAnId)?;
        Ok(Self(bytes))
    }
}

/// A text that is not an [`EntryId`], or not a [`Cursor`](super::Cursor).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnId;

impl fmt::Display for NotAnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an id or cursor: those are hexadecimal digits in lower case, 32 of an id")
    }
}

impl std::error::Error for NotAnId {}

/// The reason of a dead letter: a closed set.
///
/// # Examples
///
/// ```
/// use tower_webhook::{attempt::GaveUp, dead_letter::Reason, outcome::Outcome};
///
/// let of = |outcome, gave_up| Reason::of(outcome, gave_up);
/// assert_eq!(of(Outcome::transient(), Some(GaveUp::RetriesExhausted)), Reason::RetriesExhausted);
/// assert_eq!(of(Outcome::permanent().with_code(410), Some(GaveUp::NotRetryable)), Reason::Rejected);
/// assert_eq!(of(Outcome::refused(None), Some(GaveUp::Refused)), Reason::Refused);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The body was partly sent and could not be sent again.
    BodyNotReplayable,
    /// The retry budget was used up.
    Budget,
    /// The circuit breaker of the peer was open.
    CircuitOpen,
    /// The deadline left no time for another attempt, or ended the call.
    Deadline,
    /// The peer asked for a longer wait than is allowed (`Retry-After` and the like).
    HintTooLong,
    /// The service was not ready for another attempt.
    NotReady,
    /// The call failed, and a retry was not safe.
    NotRetryable,
    /// The last attempt panicked.
    Panicked,
    /// This side refused to send it, because of a local limit.
    Refused,
    /// The peer rejected it for good: 400, 410, a redirect.
    Rejected,
    /// All allowed attempts failed.
    RetriesExhausted,
    /// It can never be sent: its key cannot sign.
    Unsendable,
    /// The retry window left no time for another attempt.
    Window,
    /// The worker process died in the last attempt: the payload may kill its worker.
    WorkerLost,
}

impl Reason {
    /// Every reason, in alphabetical order.
    pub const ALL: &'static [Self] = &[
        Self::BodyNotReplayable,
        Self::Budget,
        Self::CircuitOpen,
        Self::Deadline,
        Self::HintTooLong,
        Self::NotReady,
        Self::NotRetryable,
        Self::Panicked,
        Self::Refused,
        Self::Rejected,
        Self::RetriesExhausted,
        Self::Unsendable,
        Self::Window,
        Self::WorkerLost,
    ];

    /// The reason for this outcome. `gave_up` is why a retry layer gave up, if there was one. An outcome
    /// does not distinguish an open circuit from another refusal:
    /// [`DeadLetterLayer`](super::DeadLetterLayer) finds that in the error.
    pub const fn of(outcome: Outcome, gave_up: Option<GaveUp>) -> Self {
        match (outcome.kind(), gave_up) {
            (_, Some(GaveUp::BodyNotReplayable)) => Self::BodyNotReplayable,
            (_, Some(GaveUp::Budget)) => Self::Budget,
            (_, Some(GaveUp::Deadline)) => Self::Deadline,
            (_, Some(GaveUp::HintTooLong)) => Self::HintTooLong,
            (_, Some(GaveUp::NotReady)) => Self::NotReady,
            (_, Some(GaveUp::RetriesExhausted)) => Self::RetriesExhausted,
            (_, Some(GaveUp::Window)) => Self::Window,
            (OutcomeKind::Permanent, _) => Self::Rejected,
            (OutcomeKind::Unsendable, _) => Self::Unsendable,
            (OutcomeKind::Refused, _) | (_, Some(GaveUp::Refused)) => Self::Refused,
            _ => Self::NotRetryable,
        }
    }

    /// The name in lower case, for records, metric labels and filters. It does not change between
    /// releases.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BodyNotReplayable => "body_not_replayable",
            Self::Budget => "budget",
            Self::CircuitOpen => "circuit_open",
            Self::Deadline => "deadline",
            Self::HintTooLong => "hint_too_long",
            Self::NotReady => "not_ready",
            Self::NotRetryable => "not_retryable",
            Self::Panicked => "panicked",
            Self::Refused => "refused",
            Self::Rejected => "rejected",
            Self::RetriesExhausted => "retries_exhausted",
            Self::Unsendable => "unsendable",
            Self::Window => "window",
            Self::WorkerLost => "worker_lost",
        }
    }

    /// The reason with this [name](Self::as_str).
    pub fn from_name(name: &str) -> Option<Self> {
        let known = Self::ALL.iter().copied();
        known.into_iter().find(|reason| reason.as_str() == name)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_names_every_reason_once_and_in_order() {
        assert!(Reason::ALL.is_sorted());
        assert!(Reason::ALL.iter().map(|reason| reason.as_str()).is_sorted());
        assert!(Reason::ALL.windows(2).all(|pair| pair[0] != pair[1]));
        for reason in Reason::ALL {
            assert_eq!(Reason::from_name(reason.as_str()), Some(*reason));
        }
    }

    #[test]
    fn every_way_of_giving_up_has_a_reason_of_its_own() {
        for gave_up in GaveUp::ALL {
            let outcome = match gave_up {
                GaveUp::Refused => Outcome::refused(None),
                _ => Outcome::transient(),
            };
            assert_eq!(
                Reason::of(outcome, Some(*gave_up)).as_str(),
                gave_up.as_str()
            );
        }
    }
}
