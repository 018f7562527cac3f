//! The entry: what failed, why, and everything that is needed to send it again.

use crate::{
    attempt::{GaveUp, History},
    outcome::{Outcome, OutcomeKind},
};
use bytes::Bytes;
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr, time::SystemTime};

/// Something that could not be delivered, and everything that is needed to see why and to try again.
///
/// Secrets and credentials do not belong in it: whoever makes one filters headers and URI (see
/// [`Redaction`](super::Redaction)). `Debug` shows neither headers nor body.
///
/// Its JSON form is described in [`json`](super::json).
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Entry {
    /// Its name. Writing an entry with the same name again replaces it.
    pub id: EntryId,
    /// Whether it was on its way out or in.
    pub direction: Direction,
    /// What kind of request it was: `http`, or the kind of a job.
    pub kind: String,
    /// Where it was to go: the key of breakers and metrics, such as a host.
    pub target: String,
    /// The method of an HTTP request.
    pub method: Option<String>,
    /// The URI of an HTTP request, without user and password. `None` too where it was too long.
    pub uri: Option<String>,
    /// Those of its headers that may be kept, names in lower case, in their order.
    pub headers: Vec<(String, Bytes)>,
    /// How many of its headers and trailers are left out though they are no credentials: for want
    /// of room, or because an entry has no place for them. Where there are any, the request is not
    /// the one it was.
    pub headers_left_out: u32,
    /// What was to be delivered.
    pub body: EntryBody,
    /// Why it was given up.
    pub cause: Cause,
    /// How the attempts went. Their times count from [`first_attempt_at`](Self::first_attempt_at).
    pub history: History,
    /// When the first attempt began; `None` where there was none.
    pub first_attempt_at: Option<SystemTime>,
    /// When the last attempt ended; `None` where there was none.
    pub last_attempt_at: Option<SystemTime>,
    /// When this record was made.
    pub written_at: SystemTime,
    /// When what it tells of happened, as its sender said.
    pub event_time: Option<SystemTime>,
    /// The id of the event, as its sender said.
    pub event_id: Option<String>,
    /// The key by which the receiver knows a repetition.
    pub idempotency_key: Option<String>,
    /// How often it was tried again from here. Counted when it is claimed for that.
    pub replays: u32,
    /// The event or entry that this was a repetition of.
    pub replay_of: Option<String>,
    /// The trace that it belonged to.
    pub trace_id: Option<String>,
}

impl Entry {
    /// The newest schema of the JSON form, and the one that is written.
    pub const SCHEMA_VERSION: u32 = 1;

    /// The longest error message that is kept, in characters: Sidekiq's bound.
    pub const MAX_MESSAGE: usize = 10_000;

    /// An entry that says what, why and when. The rest is set field by field.
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

/// Which way an entry was going.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// To us: an event whose handler failed.
    Inbound,
    /// From us: a delivery that failed.
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

/// Why an entry was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cause {
    /// The reason.
    pub reason: Reason,
    /// The last number that the peer answered with: an HTTP status, a gRPC code.
    pub code: Option<u16>,
    /// What the last attempt came to: the name of an
    /// [`OutcomeKind`](crate::outcome::OutcomeKind).
    pub class: Option<String>,
    /// The last error in words, at most [`Entry::MAX_MESSAGE`] characters of it.
    pub message: Option<String>,
}

impl Cause {
    /// A cause that is known by its reason alone.
    pub const fn new(reason: Reason) -> Self {
        Self {
            reason,
            code: None,
            class: None,
            message: None,
        }
    }

    /// Adds what the peer answered.
    #[must_use]
    pub const fn with_code(mut self, code: Option<u16>) -> Self {
        self.code = code;
        self
    }

    /// Adds what the last attempt came to.
    #[must_use]
    pub fn with_class(mut self, class: &str) -> Self {
        self.class = Some(class.to_owned());
        self
    }

    /// Adds the last error, in words that hold no secret. Cut to [`Entry::MAX_MESSAGE`]
    /// characters.
    #[must_use]
    pub fn with_message(mut self, message: &str) -> Self {
        let end = message.char_indices().nth(Entry::MAX_MESSAGE);
        let kept = end.map_or(message, |(end, _)| &message[..end]);
        self.message = Some(kept.to_owned());
        self
    }
}

/// What was to be delivered: all of it, or its beginning and what the whole was.
#[derive(Clone, PartialEq, Eq)]
pub struct EntryBody {
    bytes: Bytes,
    length: u64,
    sha256: [u8; 32],
}

impl EntryBody {
    /// A body of which no more than `most` bytes are kept.
    pub fn new(whole: &Bytes, most: usize) -> Self {
        Self {
            bytes: beginning(whole, most),
            length: u64::try_from(whole.len()).unwrap_or(u64::MAX),
            sha256: Sha256::digest(whole).into(),
        }
    }

    /// A body as a record has it: `bytes` are the beginning of a whole of this length and digest.
    /// `None` where they are more than that.
    pub fn from_parts(bytes: Bytes, length: u64, sha256: [u8; 32]) -> Option<Self> {
        let fits = u64::try_from(bytes.len()).is_ok_and(|kept| kept <= length);
        fits.then_some(Self {
            bytes,
            length,
            sha256,
        })
    }

    /// The same body of which no more than `most` bytes are kept.
    #[must_use]
    pub fn cut(self, most: usize) -> Self {
        Self {
            bytes: beginning(&self.bytes, most),
            ..self
        }
    }

    /// The bytes that are kept.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How long the whole is.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// The SHA-256 of the whole.
    pub const fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// Whether less than the whole is kept. Such an entry cannot be sent again from its record.
    pub fn is_truncated(&self) -> bool {
        u64::try_from(self.bytes.len()).is_ok_and(|kept| kept < self.length)
    }
}

/// A beginning is copied: it would hold on to the whole.
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

/// The name of an entry: 128 bits from the operating system's random source, as 32 hexadecimal
/// digits. Nothing else is an id, so that an id from outside cannot be a path or a pattern.
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
    /// An id that nobody can guess.
    ///
    /// # Panics
    ///
    /// When the operating system has no randomness to give, which no supported one does once it
    /// has started.
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        // A guessable id would be worse than none.
        #[expect(clippy::expect_used, reason = "documented")]
        getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
        Self(bytes)
    }

    /// An id of these bytes: one that was made elsewhere, such as that of the job that has failed.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
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

/// A text that is not 32 hexadecimal digits in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnId;

impl fmt::Display for NotAnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id is 32 hexadecimal digits in lower case")
    }
}

impl std::error::Error for NotAnId {}

/// Why something became a dead letter. Closed: every way in which a delivery or a job can end.
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
    /// The body had begun to be sent and could not be sent again.
    BodyNotReplayable,
    /// Too much of the traffic was retries already.
    Budget,
    /// The circuit breaker of its target was open.
    CircuitOpen,
    /// The deadline of the call left no time, or cut it.
    Deadline,
    /// The peer asked for a longer wait than there was time (`Retry-After` and the like).
    HintTooLong,
    /// The client could take no more calls.
    NotReady,
    /// It failed, and was not safe to send again.
    NotRetryable,
    /// What handled it panicked, at the last attempt.
    Panicked,
    /// Our side did not send it: a local limit.
    Refused,
    /// The peer does not want it, now or later: 400, 410, a redirect.
    Rejected,
    /// As many attempts as were allowed have failed.
    RetriesExhausted,
    /// It could not be sent, and never can: a key that cannot sign.
    Unsendable,
    /// The retry window left no time.
    Window,
    /// The process that handled it died, at the last attempt: a payload that kills its worker.
    WorkerLost,
}

impl Reason {
    /// Every reason, in alphabetical order: for counters that are set up in advance.
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

    /// The reason of a failure that ended so, after a retry layer gave up for `gave_up`, if there
    /// was one. An open circuit cannot be told from another refusal by its outcome:
    /// [`DeadLetterLayer`](super::DeadLetterLayer) looks into the error.
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

    /// The reason of this [name](Self::as_str).
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
