//! The official platform: the deliveries of its Webhook Endpoint.

use super::{
    EventError,
    json::{self, Members, Scanner, Span, Text, is_null},
    typed::typed,
};
use crate::body::BufferedBody;
use bytes::Bytes;
use http::Request;
use serde::Deserialize;
use std::fmt;

const USER_ID: usize = 0;
const SESSION_ID: usize = 1;
const AI_OUTPUT: usize = 2;

const TEXT: usize = 0;
const DATA: usize = 1;
const TRACE_ID: usize = 2;
const SENSITIVE: usize = 3;
const SOURCE: usize = 4;

/// The positions of the fields in a body.
#[derive(Debug)]
struct Fields {
    top: Members<3>,
    output: Members<5>,
}

impl Fields {
    /// Reads the body once, to its end.
    fn read(body: &[u8]) -> json::Result<Self> {
        let mut top = Members::new("", &["userId", "sessionId", "AIOutput"]);
        let mut output = Members::new(
            "AIOutput.",
            &[
                "text",
                "data",
                "traceId",
                "disableSensitiveLogging",
                "source",
            ],
        );
        Scanner::new(body)?.root(|scan, key| {
            let Some(index) = top.find(key)? else {
                return scan.value().map(drop);
            };
            let span = match index {
                AI_OUTPUT => output.read(scan)?,
                _ => scan.value()?,
            };
            top.set(index, span);
            Ok(())
        })?;
        Ok(Self { top, output })
    }
}

const ID: &str = "a string without control characters";
const BOOL: &str = "true or false";

/// One output of a flow, as the platform's Webhook Endpoint posts it:
/// `{userId, sessionId, AIOutput: {text?, data?, traceId, disableSensitiveLogging, source}}`.
///
/// | Field | Rule |
/// | --- | --- |
/// | `userId`, `sessionId`, `AIOutput.traceId` | required, text without control characters |
/// | `AIOutput` | required, an object |
/// | `AIOutput.text` | absent, null, or text |
/// | `AIOutput.data` | anything; null is absent |
/// | `AIOutput.disableSensitiveLogging` | a boolean; absent or null is false |
/// | `AIOutput.source` | absent, null, or text without control characters |
///
/// A delivery has no id, no time and no signature. The outputs of one turn share their trace id, so that
/// it is not sufficient as a deduplication key. The endpoint authenticates with HTTP Basic, if at all. An
/// output transformer may replace the body with anything: such an endpoint needs its own type, for which
/// the bytes are available unchanged.
///
/// # Examples
///
/// ```
/// use tower_webhook::cognigy::{Source, WebhookDelivery};
///
/// let delivery = WebhookDelivery::from_bytes(
///     r#"{"userId":"user-1","sessionId":"session-1","AIOutput":{"text":"Hello!","data":{},
///         "traceId":"trace-1","disableSensitiveLogging":false,"source":"bot"}}"#,
/// )?;
/// assert_eq!(delivery.text(), Some("Hello!"));
/// assert_eq!(delivery.source(), Some(&Source::Bot));
/// # Ok::<_, tower_webhook::cognigy::EventError>(())
/// ```
#[derive(Clone)]
pub struct WebhookDelivery {
    raw: Bytes,
    user_id: Text,
    session_id: Text,
    trace_id: Text,
    text: Option<Text>,
    data: Option<Span>,
    source: Option<Source>,
    sensitive: bool,
}

impl WebhookDelivery {
    /// Reads a delivery. The bytes are kept, not copied; nothing is allocated unless a text is written with
    /// escapes or the source is unknown.
    ///
    /// # Errors
    ///
    /// [`EventError`] names the field at fault.
    pub fn from_bytes(body: impl Into<Bytes>) -> Result<Self, EventError> {
        let raw = body.into();
        let Fields { top, output } = Fields::read(&raw).map_err(|error| *error)?;

        let id = |field, span: Option<Span>| {
            let span = span.ok_or_else(|| EventError::missing(field, ID))?;
            Text::id(&raw, span).ok_or_else(|| EventError::invalid(field, ID))
        };
        let present = |span: Option<Span>| span.filter(|span| !is_null(&raw, *span));

        let user_id = id("userId", top.get(USER_ID))?;
        let session_id = id("sessionId", top.get(SESSION_ID))?;
        let body = top
            .get(AI_OUTPUT)
            .ok_or_else(|| EventError::missing("AIOutput", "an object"))?;
        if !body.of(&raw).starts_with(b"{") {
            return Err(EventError::invalid("AIOutput", "an object"));
        }
        let trace_id = id("AIOutput.traceId", output.get(TRACE_ID))?;
        let text = match present(output.get(TEXT)) {
            Some(span) => match Text::read(&raw, span) {
                Some(text) => Some(text),
                None => return Err(EventError::invalid("AIOutput.text", "a string, or null")),
            },
            None => None,
        };
        let sensitive = match present(output.get(SENSITIVE)).map(|span| span.of(&raw)) {
            None | Some(b"false") => false,
            Some(b"true") => true,
            Some(_) => {
                return Err(EventError::invalid(
                    "AIOutput.disableSensitiveLogging",
                    BOOL,
                ));
            }
        };
        let source = match present(output.get(SOURCE)) {
            Some(span) => {
                let name = id("AIOutput.source", Some(span))?;
                Some(Source::from(name.as_str(&raw)))
            }
            None => None,
        };
        let data = present(output.get(DATA));
        Ok(Self {
            raw,
            user_id,
            session_id,
            trace_id,
            text,
            data,
            source,
            sensitive,
        })
    }

    /// Reads the delivery of a buffered request, and shares its bytes.
    ///
    /// For services behind a layer that checks credentials: this function does not check that it is there.
    ///
    /// # Errors
    ///
    /// [`EventError`] names the field at fault.
    pub fn from_buffered(req: &Request<BufferedBody>) -> Result<Self, EventError> {
        Self::from_bytes(req.body().as_bytes().clone())
    }

    /// `userId`.
    pub fn user_id(&self) -> &str {
        self.user_id.as_str(&self.raw)
    }

    /// `sessionId`.
    pub fn session_id(&self) -> &str {
        self.session_id.as_str(&self.raw)
    }

    /// `AIOutput.traceId`: shared by the outputs of one turn.
    pub fn trace_id(&self) -> &str {
        self.trace_id.as_str(&self.raw)
    }

    /// `AIOutput.text`.
    pub fn text(&self) -> Option<&str> {
        self.text.as_ref().map(|text| text.as_str(&self.raw))
    }

    /// `AIOutput.data`: unparsed JSON. `None` if it is absent or null.
    pub fn data(&self) -> Option<&str> {
        self.data.map(|span| span.str_of(&self.raw))
    }

    /// `AIOutput.data`, typed; absent is null. Text may be borrowed from the delivery.
    ///
    /// # Errors
    ///
    /// [`EventError`] with the path of the field at fault, such as `AIOutput.data._cognigy`.
    pub fn data_as<'a, T: Deserialize<'a>>(&'a self) -> Result<T, EventError> {
        typed(self.data().unwrap_or("null"), "AIOutput.data.")
    }

    /// `AIOutput.source`.
    pub const fn source(&self) -> Option<&Source> {
        self.source.as_ref()
    }

    /// `AIOutput.disableSensitiveLogging`: the flow asks that this output is not logged.
    pub const fn disable_sensitive_logging(&self) -> bool {
        self.sensitive
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

/// Leaves out text, data and user, because received data does not belong in logs.
impl fmt::Debug for WebhookDelivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookDelivery")
            .field("session_id", &self.session_id())
            .field("trace_id", &self.trace_id())
            .field("source", &self.source)
            .field("bytes", &self.raw.len())
            .finish_non_exhaustive()
    }
}

impl TryFrom<Bytes> for WebhookDelivery {
    type Error = EventError;

    fn try_from(body: Bytes) -> Result<Self, EventError> {
        Self::from_bytes(body)
    }
}

/// The author of an [output](WebhookDelivery). An open enum, because the platform may add more.
///
/// `bot` is what the Webhook Endpoint documents; the others are in the platform's typings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// `agent`: a person in a handover.
    Agent,
    /// `bot`: the flow.
    Bot,
    /// `engagement`.
    Engagement,
    /// `user`.
    User,
    /// Any other, as it is written. It comes from the sender, so it must not be a metric label.
    Unknown(Box<str>),
}

impl Source {
    /// The spelling on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Agent => "agent",
            Self::Bot => "bot",
            Self::Engagement => "engagement",
            Self::User => "user",
            Self::Unknown(name) => name,
        }
    }
}

impl From<&str> for Source {
    fn from(name: &str) -> Self {
        match name {
            "agent" => Self::Agent,
            "bot" => Self::Bot,
            "engagement" => Self::Engagement,
            "user" => Self::User,
            other => Self::Unknown(other.into()),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
