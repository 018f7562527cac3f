//! The signed events of the documents' contract: S4's [`Envelope`] and S3's [`DialogEvent`].

mod dialog;
mod envelope;
mod timestamp;

pub use self::{dialog::DialogEvent, envelope::Envelope};

use super::{
    EventError,
    json::{self, Members, Scanner},
};
use crate::body::BufferedBody;
use bytes::Bytes;
use http::Request;
use serde::Deserialize;
use std::{
    fmt,
    time::{Duration, SystemTime},
};

/// An event of the signed route, in either of its documented forms.
///
/// A body with an `eventId` or a `type` is an [`Envelope`]; any other is a [`DialogEvent`] and must
/// have a `conversationId`. With the feature `axum` this is an extractor: see the
/// [module](super#in-axum).
///
/// # Examples
///
/// ```
/// use tower_webhook::cognigy::{CognigyEvent, EventType};
///
/// let event = CognigyEvent::from_bytes(
///     r#"{"eventId":"evt_1","timestamp":"2024-01-15T10:00:00Z","type":"DIALOG_STARTED","payload":{}}"#,
/// )?;
/// match &event {
///     CognigyEvent::Envelope(envelope) => {
///         assert_eq!(envelope.event_id(), "evt_1");
///         assert_eq!(envelope.event_type(), &EventType::DialogStarted);
///     }
///     CognigyEvent::Dialog(dialog) => println!("at {:?}", dialog.current_node()),
///     _ => {}
/// }
///
/// let error = CognigyEvent::from_bytes("{}").unwrap_err();
/// assert_eq!(error.field(), Some("conversationId"));
/// # Ok::<_, tower_webhook::cognigy::EventError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CognigyEvent {
    /// S3's form.
    Dialog(DialogEvent),
    /// S4's form.
    Envelope(Envelope),
}

impl CognigyEvent {
    /// Reads an event. The bytes are kept, not copied; nothing is allocated unless an id is written with
    /// escapes or the type is not one of S4's four.
    ///
    /// This function does not check who sent the bytes: verify the signature first.
    ///
    /// # Errors
    ///
    /// [`EventError`] names the field at fault.
    pub fn from_bytes(body: impl Into<Bytes>) -> Result<Self, EventError> {
        let body = body.into();
        let fields = Fields::read(&body).map_err(|error| *error)?;
        if fields.is_envelope() {
            Envelope::from_fields(body, &fields).map(Self::Envelope)
        } else {
            DialogEvent::from_fields(body, &fields).map(Self::Dialog)
        }
    }

    /// Reads the event of a buffered request, and shares its bytes.
    ///
    /// For services behind the signature layer: this function does not check that the layer is there.
    ///
    /// # Errors
    ///
    /// [`EventError`] names the field at fault.
    pub fn from_buffered(req: &Request<BufferedBody>) -> Result<Self, EventError> {
        Self::from_bytes(req.body().as_bytes().clone())
    }

    /// Refuses an envelope whose type is outside S4's four. A dialog event has no type and passes.
    ///
    /// # Errors
    ///
    /// [`EventError::Invalid`] for the field `type`.
    pub fn require_known_type(self) -> Result<Self, EventError> {
        match self {
            Self::Envelope(envelope) => envelope.require_known_type().map(Self::Envelope),
            dialog @ Self::Dialog(_) => Ok(dialog),
        }
    }

    /// Refuses an envelope that is too old, or too far in the future: see
    /// [`Envelope::require_recent`]. A dialog event has no timestamp and passes.
    ///
    /// # Errors
    ///
    /// [`EventError::Stale`].
    pub fn require_recent(self, now: SystemTime, kept: Duration) -> Result<Self, EventError> {
        match self {
            Self::Envelope(envelope) => envelope.require_recent(now, kept).map(Self::Envelope),
            dialog @ Self::Dialog(_) => Ok(dialog),
        }
    }

    /// The envelope, if it is one.
    pub const fn as_envelope(&self) -> Option<&Envelope> {
        match self {
            Self::Envelope(envelope) => Some(envelope),
            Self::Dialog(_) => None,
        }
    }

    /// The dialog event, if it is one.
    pub const fn as_dialog(&self) -> Option<&DialogEvent> {
        match self {
            Self::Dialog(dialog) => Some(dialog),
            Self::Envelope(_) => None,
        }
    }

    /// `eventId` of an envelope, which is its deduplication key. A dialog event has none.
    pub fn event_id(&self) -> Option<&str> {
        self.as_envelope().map(Envelope::event_id)
    }

    /// `text`, which is a part of this event, as bytes: shared, unless it was written with escapes.
    #[cfg(feature = "signature")]
    pub(super) fn shared(&self, text: &str) -> Bytes {
        let (raw, text) = (self.raw(), text.as_bytes());
        if raw.as_ptr_range().contains(&text.as_ptr()) {
            raw.slice_ref(text)
        } else {
            Bytes::copy_from_slice(text)
        }
    }

    /// The open part of the event, unparsed: `payload` of an envelope, `variables` of a dialog event.
    pub fn payload(&self) -> &str {
        match self {
            Self::Dialog(dialog) => dialog.variables(),
            Self::Envelope(envelope) => envelope.payload(),
        }
    }

    /// The open part of the event, typed. Text may be borrowed from the event.
    ///
    /// # Errors
    ///
    /// [`EventError`] with the path of the field at fault, such as `payload.profile.email`.
    pub fn payload_as<'a, T: Deserialize<'a>>(&'a self) -> Result<T, EventError> {
        match self {
            Self::Dialog(dialog) => dialog.variables_as(),
            Self::Envelope(envelope) => envelope.payload_as(),
        }
    }

    /// The body, byte for byte as it was received.
    pub const fn raw(&self) -> &Bytes {
        match self {
            Self::Dialog(dialog) => dialog.raw(),
            Self::Envelope(envelope) => envelope.raw(),
        }
    }
}

impl TryFrom<Bytes> for CognigyEvent {
    type Error = EventError;

    fn try_from(body: Bytes) -> Result<Self, EventError> {
        Self::from_bytes(body)
    }
}

/// The type of an [`Envelope`]: one of S4's four, or any other.
///
/// An open enum: a verified event of a type that this crate does not know is still an event, and
/// refusing it would make the sender repeat it. [`Envelope::require_known_type`] is the strict form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventType {
    /// `DIALOG_ENDED`.
    DialogEnded,
    /// `DIALOG_STARTED`.
    DialogStarted,
    /// `PROFILE_UPDATED`: the payload has a `profile`.
    ProfileUpdated,
    /// `USER_INPUT_RECEIVED`: the payload has an `input`.
    UserInputReceived,
    /// A type outside S4's four, as it is written. It comes from the sender, so it must not be a metric label.
    Unknown(Box<str>),
}

impl EventType {
    /// The spelling on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::DialogEnded => "DIALOG_ENDED",
            Self::DialogStarted => "DIALOG_STARTED",
            Self::ProfileUpdated => "PROFILE_UPDATED",
            Self::UserInputReceived => "USER_INPUT_RECEIVED",
            Self::Unknown(name) => name,
        }
    }

    /// Whether it is one of S4's four.
    pub const fn is_known(&self) -> bool {
        !matches!(self, Self::Unknown(_))
    }
}

impl From<&str> for EventType {
    fn from(name: &str) -> Self {
        match name {
            "DIALOG_ENDED" => Self::DialogEnded,
            "DIALOG_STARTED" => Self::DialogStarted,
            "PROFILE_UPDATED" => Self::ProfileUpdated,
            "USER_INPUT_RECEIVED" => Self::UserInputReceived,
            other => Self::Unknown(other.into()),
        }
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The positions of the fields of both signed forms in a body.
#[derive(Debug)]
struct Fields {
    top: Members<9>,
    payload: Members<2>,
    variables: Members<1>,
}

const EVENT_ID: usize = 0;
const TYPE: usize = 1;
const TIMESTAMP: usize = 2;
const PAYLOAD: usize = 3;
const EXTERNAL_ID: usize = 4;
const USER_ID: usize = 5;
const CONVERSATION_ID: usize = 6;
const CURRENT_NODE: usize = 7;
const VARIABLES: usize = 8;

const PROFILE: usize = 0;
const INPUT: usize = 1;

const CUSTOMER_ID: usize = 0;

impl Fields {
    /// Reads the body once, to its end.
    fn read(body: &[u8]) -> json::Result<Self> {
        let mut top = Members::new(
            "",
            &[
                "eventId",
                "type",
                "timestamp",
                "payload",
                "externalId",
                "userId",
                "conversationId",
                "currentNode",
                "variables",
            ],
        );
        let mut payload = Members::new("payload.", &["profile", "input"]);
        let mut variables = Members::new("variables.", &["customerId"]);

        Scanner::new(body)?.root(|scan, key| {
            let Some(index) = top.find(key)? else {
                return scan.value().map(drop);
            };
            let span = match index {
                PAYLOAD => payload.read(scan)?,
                VARIABLES => variables.read(scan)?,
                _ => scan.value()?,
            };
            top.set(index, span);
            Ok(())
        })?;
        Ok(Self {
            top,
            payload,
            variables,
        })
    }

    /// Whether the body is meant to be S4's envelope.
    fn is_envelope(&self) -> bool {
        self.top.get(EVENT_ID).is_some() || self.top.get(TYPE).is_some()
    }
}
