//! The signed events of the documents' contract: S4's [`Envelope`] and S3's [`DialogEvent`].

mod dialog;
mod envelope;
mod fields;
mod kind;
mod timestamp;

pub use self::{dialog::DialogEvent, envelope::Envelope, kind::EventType};

use self::fields::Fields;
use super::EventError;
use crate::body::BufferedBody;
use bytes::Bytes;
use http::Request;
use serde::Deserialize;

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
    /// Reads an event. The bytes are kept, not copied; nothing is allocated unless an id is
    /// spelled with escapes or the type is not one of S4's four.
    ///
    /// Whether the bytes come from where they claim is not asked here: verify the signature first.
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

    /// Reads the event that a buffered request carries; the event shares its bytes.
    ///
    /// For services behind the signature layer: whether that layer is there is not asked.
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

    /// `eventId` of an envelope, the key to deduplicate by. A dialog event has none.
    pub fn event_id(&self) -> Option<&str> {
        self.as_envelope().map(Envelope::event_id)
    }

    /// The open part of the event, as it came: `payload` of an envelope, `variables` of a dialog
    /// event.
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

    /// The body, byte for byte as it came.
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
