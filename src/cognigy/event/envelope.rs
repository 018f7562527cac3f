use super::{
    EVENT_ID, EXTERNAL_ID, EventType, Fields, INPUT, PAYLOAD, PROFILE, TIMESTAMP, TYPE, USER_ID,
    timestamp,
};
use crate::cognigy::{
    EventError,
    json::{MAX_KEY, Span, Text, is_null},
    typed::typed,
};
use bytes::Bytes;
use serde::Deserialize;
use std::{
    fmt,
    time::{Duration, SystemTime},
};

const KEY: &str = "a string of 1 to 255 bytes without control characters and outer whitespace";
const _: () = assert!(MAX_KEY == 255, "as the text above says");
const ID: &str = "a string without control characters, or null";
const TIME: &str = "a date and time (RFC 3339), or a number of seconds or milliseconds";
const OBJECT: &str = "an object";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// S4's envelope: `eventId`, `timestamp`, `type`, `payload`, and optionally `externalId` and `userId`.
///
/// | Field | Rule |
/// | --- | --- |
/// | `eventId` | 1 to 255 bytes, no control characters, no whitespace around it, because it becomes a key |
/// | `timestamp` | RFC 3339, in UTC if it has no offset; or a number of seconds, or of milliseconds if beyond 2·10¹⁰ |
/// | `type` | like `eventId`; S4's four or [any other](EventType::Unknown) |
/// | `payload` | an object; has `profile` for `PROFILE_UPDATED`, `input` for `USER_INPUT_RECEIVED` |
/// | `externalId`, `userId` | absent, null, or text without control characters |
///
/// The whole body is kept unchanged, so other fields are not lost ([`body_as`](Self::body_as)). The
/// payload is checked to be JSON, and typed on demand. Clones share the bytes.
#[derive(Clone)]
pub struct Envelope {
    raw: Bytes,
    event_id: Text,
    kind: EventType,
    time: SystemTime,
    timestamp: Text,
    payload: Span,
    external_id: Option<Text>,
    user_id: Option<Text>,
}

impl Envelope {
    /// Reads an envelope. The bytes are kept, not copied.
    ///
    /// # Errors
    ///
    /// [`EventError`] names the field at fault.
    pub fn from_bytes(body: impl Into<Bytes>) -> Result<Self, EventError> {
        let body = body.into();
        let fields = Fields::read(&body).map_err(|error| *error)?;
        Self::from_fields(body, &fields)
    }

    pub(super) fn from_fields(raw: Bytes, fields: &Fields) -> Result<Self, EventError> {
        let key = |field, span: Option<Span>| {
            let span = span.ok_or_else(|| EventError::missing(field, KEY))?;
            Text::key(&raw, span).ok_or_else(|| EventError::invalid(field, KEY))
        };
        let id = |field, span: Option<Span>| match span {
            Some(span) if !is_null(&raw, span) => match Text::id(&raw, span) {
                Some(text) => Ok(Some(text)),
                None => Err(EventError::invalid(field, ID)),
            },
            _ => Ok(None),
        };

        let event_id = key("eventId", fields.top.get(EVENT_ID))?;
        let timestamp = fields
            .top
            .get(TIMESTAMP)
            .ok_or_else(|| EventError::missing("timestamp", TIME))?;
        let timestamp = Text::or_number(&raw, timestamp)
            .ok_or_else(|| EventError::invalid("timestamp", TIME))?;
        let time = timestamp::parse(timestamp.as_str(&raw))
            .ok_or_else(|| EventError::invalid("timestamp", TIME))?;
        let kind = EventType::from(key("type", fields.top.get(TYPE))?.as_str(&raw));
        let payload = fields
            .top
            .get(PAYLOAD)
            .ok_or_else(|| EventError::missing("payload", OBJECT))?;
        if !payload.of(&raw).starts_with(b"{") {
            return Err(EventError::invalid("payload", OBJECT));
        }
        let external_id = id("externalId", fields.top.get(EXTERNAL_ID))?;
        let user_id = id("userId", fields.top.get(USER_ID))?;

        // S4's validator checks only that they are present.
        match kind {
            EventType::ProfileUpdated if fields.payload.get(PROFILE).is_none() => {
                Err(EventError::missing(
                    "payload.profile",
                    "the profile that `PROFILE_UPDATED` tells of",
                ))
            }
            EventType::UserInputReceived if fields.payload.get(INPUT).is_none() => {
                Err(EventError::missing(
                    "payload.input",
                    "the input that `USER_INPUT_RECEIVED` tells of",
                ))
            }
            _ => Ok(Self {
                raw,
                event_id,
                kind,
                time,
                timestamp,
                payload,
                external_id,
                user_id,
            }),
        }
    }

    /// Refuses a type outside S4's four, as S4's own receiver does.
    ///
    /// # Errors
    ///
    /// [`EventError::Invalid`] for the field `type`.
    pub fn require_known_type(self) -> Result<Self, EventError> {
        if self.kind.is_known() {
            return Ok(self);
        }
        Err(EventError::invalid(
            "type",
            "`DIALOG_STARTED`, `USER_INPUT_RECEIVED`, `PROFILE_UPDATED` or `DIALOG_ENDED`",
        ))
    }

    /// Refuses an event that could be a captured one, sent again after its key was forgotten.
    ///
    /// `kept` is how long an accepted `eventId` is recognised as a repeat: 7 days in
    /// `IdempotencyLayer::webhook`. An event is refused if its `timestamp` is
    /// more than a day after `now`, or more than `kept` less that day before it. So whatever is accepted is too old
    /// by the time its key is forgotten. The day, or half of `kept` if that is shorter, is for senders whose clocks
    /// are wrong or that write their local time without an offset.
    ///
    /// This holds while the clock that `now` is read from is the one by which keys are forgotten. If it leaps
    /// forward by `kept` and back, the keys of the time before are gone and their events young again.
    ///
    /// # Errors
    ///
    /// [`EventError::Stale`].
    pub fn require_recent(self, now: SystemTime, kept: Duration) -> Result<Self, EventError> {
        let max_ahead = DAY.min(kept / 2);
        let max_age = kept.saturating_sub(max_ahead);
        let is_recent = match now.duration_since(self.time) {
            Ok(age) => age <= max_age,
            Err(future) => future.duration() <= max_ahead,
        };
        if is_recent {
            Ok(self)
        } else {
            Err(EventError::Stale { max_age, max_ahead })
        }
    }

    /// `eventId`: the same for all deliveries of one event.
    pub fn event_id(&self) -> &str {
        self.event_id.as_str(&self.raw)
    }

    /// `type`.
    pub const fn event_type(&self) -> &EventType {
        &self.kind
    }

    /// `timestamp` as a point in time. Without an offset, it counts as UTC.
    pub const fn time(&self) -> SystemTime {
        self.time
    }

    /// `timestamp` as it is written; a number as its digits.
    pub fn timestamp(&self) -> &str {
        self.timestamp.as_str(&self.raw)
    }

    /// `externalId`.
    pub fn external_id(&self) -> Option<&str> {
        self.external_id.as_ref().map(|id| id.as_str(&self.raw))
    }

    /// `userId`.
    pub fn user_id(&self) -> Option<&str> {
        self.user_id.as_ref().map(|id| id.as_str(&self.raw))
    }

    /// The id to look the user up elsewhere, as in S4: `externalId`, or else `userId`. Empty ones count as
    /// absent.
    pub fn contact_id(&self) -> Option<&str> {
        let ids = [self.external_id(), self.user_id()];
        ids.into_iter().flatten().find(|id| !id.is_empty())
    }

    /// `payload`: an unparsed JSON object.
    pub fn payload(&self) -> &str {
        self.payload.str_of(&self.raw)
    }

    /// `payload`, typed. Text may be borrowed from the event.
    ///
    /// # Errors
    ///
    /// [`EventError`] with the path of the field at fault, such as `payload.profile.email`.
    pub fn payload_as<'a, T: Deserialize<'a>>(&'a self) -> Result<T, EventError> {
        typed(self.payload(), "payload.")
    }

    /// The whole body, typed: for fields other than the documented ones.
    ///
    /// # Errors
    ///
    /// [`EventError`] with the path of the field at fault.
    pub fn body_as<'a, T: Deserialize<'a>>(&'a self) -> Result<T, EventError> {
        typed(Span::all(&self.raw).str_of(&self.raw), "")
    }

    /// The body, byte for byte as it was received.
    pub const fn raw(&self) -> &Bytes {
        &self.raw
    }
}

/// Leaves out payload and user, because received data does not belong in logs.
impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope")
            .field("event_id", &self.event_id())
            .field("event_type", &self.kind)
            .field("timestamp", &self.timestamp())
            .field("payload_bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}

impl TryFrom<Bytes> for Envelope {
    type Error = EventError;

    fn try_from(body: Bytes) -> Result<Self, EventError> {
        Self::from_bytes(body)
    }
}
