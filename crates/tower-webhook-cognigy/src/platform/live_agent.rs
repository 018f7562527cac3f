//! Live Agent: its events, and those of Chatwoot, from which it is made.

use super::open::{open_enum, open_struct};
use serde_json::{Number, Value};

open_enum! {
    /// The type of a [`LiveAgentEvent`] (O).
    pub enum LiveAgentEventType {
        /// The agent writes:
        TypingOn = "ai.cognigy.live-agent.conversation.typing_on",
        /// The agent has stopped:
        TypingOff = "ai.cognigy.live-agent.conversation.typing_off",
    }
}

open_struct! {
    /// An event of Live Agent's gateway, in the form of `CloudEvents` 1.0 (O): an installation of one's own posts it to
    /// the URL in `EVENT_GATEWAY_HTTP_ENDPOINT`. Nothing signs it.
    ///
    /// `source` and `id` together name the event, so they are a key for an idempotency layer.
    pub struct LiveAgentEvent {
        required {
            /// The version of `CloudEvents`: `1.0`.
            pub specversion: Box<str> = "specversion",
            pub kind: LiveAgentEventType = "type",
            /// The URL of the installation.
            pub source: String = "source",
            /// A ULID.
            pub id: Box<str> = "id",
        }
        /// Such as `conversation.2`.
        pub subject: String = "subject",
        /// RFC 3339.
        pub time: Box<str> = "time",
        pub datacontenttype: Box<str> = "datacontenttype",
        pub data: LiveAgentData = "data",
    }
}

impl LiveAgentEvent {
    /// The number in a subject such as `conversation.2`.
    pub fn conversation(&self) -> Option<u64> {
        let number = self.subject.as_ref()?.strip_prefix("conversation.")?;
        number.parse().ok()
    }
}

open_struct! {
    /// The data of a [`LiveAgentEvent`].
    #[derive(Default)]
    pub struct LiveAgentData {
        /// The session of the platform.
        pub cognigy_session_id: String = "cognigy_session_id",
    }
}

open_enum! {
    /// The event of a Chatwoot webhook (3).
    pub enum ChatwootEventType {
        /// A conversation began:
        ConversationCreated = "conversation_created",
        /// A conversation has changed:
        ConversationUpdated = "conversation_updated",
        /// A conversation was opened, resolved or set aside:
        ConversationStatusChanged = "conversation_status_changed",
        /// A message:
        MessageCreated = "message_created",
        /// A message has changed:
        MessageUpdated = "message_updated",
        /// A contact:
        ContactCreated = "contact_created",
        /// A contact has changed:
        ContactUpdated = "contact_updated",
        /// A visitor has opened the chat:
        WebwidgetTriggered = "webwidget_triggered",
        /// Somebody writes:
        ConversationTypingOn = "conversation_typing_on",
        /// Somebody has stopped:
        ConversationTypingOff = "conversation_typing_off",
    }
}

open_struct! {
    /// A webhook of Chatwoot (3). That Live Agent sends it is an inference (I).
    ///
    /// Its other fields depend on the event and are in `other`. It is signed as
    /// [`chatwoot`](super::signature::chatwoot) says.
    pub struct ChatwootEvent {
        required {
            pub event: ChatwootEventType = "event",
        }
        /// Of the message, the conversation or the contact.
        pub id: Number = "id",
        /// The text of a message.
        pub content: String = "content",
        /// `incoming`, `outgoing` or `template`; some versions send a number.
        pub message_type: Value = "message_type",
        /// The account: `{id, name}`.
        pub account: Value = "account",
        /// The conversation of a message.
        pub conversation: Value = "conversation",
        /// Who wrote the message.
        pub sender: Value = "sender",
    }
}
