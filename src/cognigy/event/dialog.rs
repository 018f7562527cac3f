use super::{CONVERSATION_ID, CURRENT_NODE, CUSTOMER_ID, Fields, VARIABLES};
use crate::cognigy::{
    EventError,
    json::{Span, Text, is_null},
    typed::typed,
};
use bytes::Bytes;
use serde::Deserialize;
use std::fmt;

const KEY: &str = "a string of 1 to 255 bytes without control characters and outer whitespace";
const NODE: &str = "a string without control characters, or null";
const OBJECT: &str = "an object";

/// S3's dialog event: `conversationId`, and optionally `currentNode` and `variables`.
///
/// | Field | Rule |
/// | --- | --- |
/// | `conversationId` | 1 to 255 bytes, no control characters, no whitespace around it |
/// | `currentNode` | absent, null, or text without control characters |
/// | `variables` | an object; absent or null means an empty one |
///
/// It has no id of its own: two deliveries of one event differ only in their time.
///
/// The whole body is kept unchanged, so other fields are not lost ([`body_as`](Self::body_as)). The
/// variables are checked to be JSON, and typed on demand. Clones share the bytes.
#[derive(Clone)]
pub struct DialogEvent {
    raw: Bytes,
    conversation_id: Text,
    current_node: Option<Text>,
    variables: Option<Span>,
    customer_id: Option<Text>,
}

impl DialogEvent {
    /// Reads a dialog event. The bytes are kept, not copied.
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
        let present = |span: Option<Span>| span.filter(|span| !is_null(&raw, *span));

        let conversation_id = fields
            .top
            .get(CONVERSATION_ID)
            .ok_or_else(|| EventError::missing("conversationId", KEY))?;
        let conversation_id = Text::key(&raw, conversation_id)
            .ok_or_else(|| EventError::invalid("conversationId", KEY))?;
        let current_node = match present(fields.top.get(CURRENT_NODE)) {
            Some(span) => match Text::id(&raw, span) {
                Some(node) => Some(node),
                None => return Err(EventError::invalid("currentNode", NODE)),
            },
            None => None,
        };
        let variables = present(fields.top.get(VARIABLES));
        if variables.is_some_and(|span| !span.of(&raw).starts_with(b"{")) {
            return Err(EventError::invalid("variables", OBJECT));
        }
        let customer_id = fields
            .variables
            .get(CUSTOMER_ID)
            .and_then(|span| Text::or_number(&raw, span));
        Ok(Self {
            raw,
            conversation_id,
            current_node,
            variables,
            customer_id,
        })
    }

    /// `conversationId`.
    pub fn conversation_id(&self) -> &str {
        self.conversation_id.as_str(&self.raw)
    }

    /// `currentNode`: the node of the flow that sent the event.
    pub fn current_node(&self) -> Option<&str> {
        self.current_node
            .as_ref()
            .map(|node| node.as_str(&self.raw))
    }

    /// `variables`: an unparsed JSON object. `{}` if there are none.
    pub fn variables(&self) -> &str {
        self.variables.map_or("{}", |span| span.str_of(&self.raw))
    }

    /// `variables`, typed. Text may be borrowed from the event.
    ///
    /// # Errors
    ///
    /// [`EventError`] with the path of the field at fault, such as `variables.customerId`.
    pub fn variables_as<'a, T: Deserialize<'a>>(&'a self) -> Result<T, EventError> {
        typed(self.variables(), "variables.")
    }

    /// `variables.customerId`, by which S3 looks the customer up: text, or the digits of a number. `None` if
    /// it is absent or anything else.
    pub fn customer_id(&self) -> Option<&str> {
        self.customer_id.as_ref().map(|id| id.as_str(&self.raw))
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

/// Leaves out the variables, because received data does not belong in logs.
impl fmt::Debug for DialogEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DialogEvent")
            .field("conversation_id", &self.conversation_id())
            .field("current_node", &self.current_node())
            .field("variables_bytes", &self.variables().len())
            .finish_non_exhaustive()
    }
}

impl TryFrom<Bytes> for DialogEvent {
    type Error = EventError;

    fn try_from(body: Bytes) -> Result<Self, EventError> {
        Self::from_bytes(body)
    }
}
