//! Resources of the management API, as it returns them.
//!
//! Times are seconds since 1970 where they are numbers, and RFC 3339 where they are texts (O).

use super::{
    id::{MongoId, UrlToken},
    message::MessageData,
    open::{open_enum, open_struct},
};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Map, Number, Value};
use tower_webhook::signature::Secret;

open_enum! {
    /// The channel of an endpoint (O).
    pub enum Channel {
        /// A webhook of one's own:
        Webhook = "webhook",
        /// Requests with responses:
        Rest = "rest",
        /// Socket.IO:
        Socket = "socket",
        /// The web chat, version 3:
        Webchat3 = "webchat3",
        /// The web chat, version 2:
        Webchat2 = "webchat2",
        /// The chat in the platform's own interface:
        AdminWebchat = "admin-webchat",
        /// The same, of old:
        Adminconsole = "adminconsole",
        /// Injected inputs:
        Inject = "inject",
        /// What others are made of:
        AbstractRest = "abstract-rest",
        /// Any:
        Generic = "generic",
        /// Calls:
        VoiceGateway2 = "voiceGateway2",
        /// Agent Copilot for calls:
        AgentAssistVoice = "agentAssistVoice",
        /// Agent Copilot in Live Agent:
        LiveAgentAssist = "liveAgentAssist",
        /// Messenger:
        Facebook = "facebook",
        /// Workplace:
        Workplace = "workplace",
        /// Slack:
        Slack = "slack",
        /// Azure Bot Services:
        MicrosoftBotFramework = "microsoftBotFramework",
        /// Teams:
        MicrosoftTeams = "microsoftTeams",
        /// Sunshine Conversations:
        SunshineConversations = "sunshineConversations",
        /// `RingCentral` Engage:
        RingCentralEngage = "ringCentralEngage",
        /// Intercom:
        Intercom = "intercom",
        /// `WhatsApp`:
        Whatsapp = "whatsapp",
        /// 8x8:
        EightByEight = "eightByEight",
        /// Alexa:
        Alexa = "alexa",
        /// `AudioCodes`:
        AudioCodes = "audioCodes",
        /// Avaya:
        Avaya = "avaya",
        /// Bandwidth:
        Bandwidth = "bandwidth",
        /// Dialogflow:
        Dialogflow = "dialogflow",
        /// LINE:
        Line = "line",
        /// Twilio, calls:
        Twilio = "twilio",
        /// Twilio, text messages:
        TwilioSms = "twilio-sms",
        /// Userlike:
        Userlike = "userlike",
        /// No conversation:
        NonConversational = "nonConversational",
        /// Lex:
        AmazonLex = "amazonLex",
        /// Genesys Bot Connector:
        GenesysBotConnector = "genesysBotConnector",
        /// `NiCE` `CXone`:
        NiceCxone = "niceCXOne",
        /// Real time:
        Realtime = "realtime",
    }
}

open_struct! {
    lenient
    /// An endpoint: in a list with the fields up to `override_snapshot_connections`, by itself with all (O).
    pub struct Endpoint {
        required {
            pub id: MongoId = "_id",
        }
        pub name: String = "name",
        pub channel: Channel = "channel",
        pub url_token: UrlToken = "URLToken",
        /// May be empty.
        pub flow_id: Box<str> = "flowId",
        pub locale_id: Box<str> = "localeId",
        pub created_at: u64 = "createdAt",
        pub last_changed: u64 = "lastChanged",
        pub created_by: Box<str> = "createdBy",
        pub last_changed_by: Box<str> = "lastChangedBy",
        pub override_snapshot_connections: bool = "overrideSnapshotConnections",
        /// A snapshot or a project.
        pub entrypoint: Box<str> = "entrypoint",
        pub active: bool = "active",
        pub nlu_connector_id: Box<str> = "nluConnectorId",
        pub use_conversations: bool = "useConversations",
        pub mask_ip_address: bool = "maskIPAddress",
        pub mask_analytics: bool = "maskAnalytics",
        pub mask_logging: bool = "maskLogging",
        pub use_contact_profiles: bool = "useContactProfiles",
        pub use_analytics: bool = "useAnalytics",
        pub use_dashbot_analytics: bool = "useDashbotAnalytics",
        /// A secret.
        pub dashbot_apikey: Box<str> = "dashbotApikey",
        pub dashbot_platform: Box<str> = "dashbotPlatform",
        /// A boolean in the typings, a text in the documentation.
        pub disable_input_sanitization: Value = "disableInputSanitization",
        /// Depends on the channel, and has its secrets; of a webhook see
        /// [`WebhookSettings`](super::WebhookSettings).
        pub settings: Value = "settings",
        pub transformer: Transformer = "transformer",
        pub handover_settings: Value = "handoverSettings",
        pub translation_settings: Value = "translationSettings",
        pub file_storage_settings: Value = "fileStorageSettings",
        pub foreign_id: Box<str> = "foreignId",
        pub org_data_privacy_settings: Value = "orgDataPrivacySettings",
    }
}

impl Endpoint {
    /// `settings.webhookUrl`, of a Webhook Endpoint.
    pub fn webhook_url(&self) -> Option<&str> {
        self.settings.as_ref()?.get("webhookUrl")?.as_str()
    }
}

open_struct! {
    lenient
    /// The transformer of an endpoint.
    #[derive(Default)]
    pub struct Transformer {
        /// Whether a message is given up when the transformer fails.
        pub abort_on_error: bool = "abortOnError",
        /// Its code.
        pub transformer: String = "transformer",
        pub input_transformer_enabled: bool = "inputTransformerEnabled",
        pub output_transformer_enabled: bool = "outputTransformerEnabled",
        pub final_ping_transformer_enabled: bool = "finalPingTransformerEnabled",
        pub notify_transformer_enabled: bool = "notifyTransformerEnabled",
        pub inject_transformer_enabled: bool = "injectTransformerEnabled",
    }
}

open_struct! {
    lenient
    /// An API key of an endpoint, without the key (O, 2026.13).
    pub struct EndpointKey {
        required {
            pub id: MongoId = "_id",
        }
        pub name: String = "name",
        /// The first and the last four characters.
        pub key_preview: String = "keyPreview",
        pub created_at: u64 = "createdAt",
    }
}

/// An API key of an endpoint as it is made. No other response has the key: keep it.
///
/// `Debug` hides the key, and its memory is overwritten when it is dropped; that of the response, of which it is a copy,
/// is not.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NewEndpointKey {
    /// For the header `X-Webhook-Key`: 64 hexadecimal digits.
    pub key: Secret,
    /// What lists show of it.
    pub info: EndpointKey,
}

impl<'de> Deserialize<'de> for NewEndpointKey {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut fields = Map::deserialize(from)?;
        let key = match fields.remove("key") {
            Some(Value::String(key)) if !key.is_empty() => Secret::new(key),
            _ => return Err(D::Error::missing_field("key")),
        };
        let info = EndpointKey::deserialize(Value::Object(fields)).map_err(D::Error::custom)?;
        Ok(Self { key, info })
    }
}

open_enum! {
    /// The status of a task (O).
    pub enum TaskStatus {
        /// It waits:
        Queued = "queued",
        /// It runs:
        Active = "active",
        /// It has succeeded:
        Done = "done",
        /// It is being cancelled:
        Cancelling = "cancelling",
        /// It was cancelled:
        Cancelled = "cancelled",
        /// It has failed:
        Error = "error",
    }
}

impl TaskStatus {
    /// Whether the task has ended. Of a status that is not known, no.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Done | Self::Cancelled | Self::Error)
    }
}

open_struct! {
    lenient
    /// A task: a training, a snapshot, an import and the like (O).
    pub struct Task {
        required {
            pub id: MongoId = "_id",
            pub status: TaskStatus = "status",
        }
        pub name: String = "name",
        /// Its parameters.
        pub data: Value = "data",
        pub current_step: u64 = "currentStep",
        pub total_step: u64 = "totalStep",
        pub fail_reason: String = "failReason",
        /// A text.
        pub last_run_at: Box<str> = "lastRunAt",
        /// A text.
        pub last_finished_at: Box<str> = "lastFinishedAt",
        pub created_at: u64 = "createdAt",
        pub last_changed: u64 = "lastChanged",
        pub created_by: Box<str> = "createdBy",
        pub last_changed_by: Box<str> = "lastChangedBy",
    }
}

open_enum! {
    /// The type of an audit event (O).
    pub enum AuditEventType {
        /// Something was done:
        Action = "action",
        /// Something was made:
        Create = "create",
        /// Something was replaced:
        Replace = "replace",
        /// Something was changed:
        Patch = "patch",
        /// Something was deleted:
        Delete = "delete",
        /// Somebody was not allowed to:
        Unauthorized = "unauthorized",
        /// Somebody has signed in:
        Authentication = "authentication",
        /// Somebody was checked for a right:
        Authorization = "authorization",
    }
}

open_struct! {
    lenient
    /// An audit event. The documentation has `id` and `modifiedResources` (O), the typings `_id` and `chain` (O?): both
    /// are read.
    pub struct AuditEvent {
        required {
            pub kind: AuditEventType = "type",
        }
        /// RFC 3339.
        pub timestamp: Box<str> = "timestamp",
        pub id: MongoId = "id",
        pub mongo_id: MongoId = "_id",
        /// What was done, such as `cancelTask`.
        pub action_type: Box<str> = "actionType",
        /// Whose e-mail address it is who did it.
        pub user: String = "user",
        pub modified_resources: Vec<ModifiedResource> = "modifiedResources",
        pub chain: Vec<ModifiedResource> = "chain",
        /// The request, if the installation records it.
        pub payload: Value = "payload",
        pub project_reference: Box<str> = "projectReference",
        pub user_reference: Box<str> = "userReference",
        pub organisation_reference: Box<str> = "organisationReference",
        pub expires_at: Box<str> = "expiresAt",
    }
}

open_struct! {
    lenient
    /// A resource of an audit event, from the outermost to the innermost.
    #[derive(Default)]
    pub struct ModifiedResource {
        /// As the documentation has it.
        pub resource_id: Box<str> = "resourceId",
        /// As the documentation has it, such as `node`.
        pub resource_type: Box<str> = "resourceType",
        /// As the typings have it.
        pub element_id: Box<str> = "elementId",
        /// As the typings have it.
        pub element_type: Box<str> = "elementType",
    }
}

open_struct! {
    lenient
    /// A conversation, without its messages (O).
    #[derive(Default)]
    pub struct Conversation {
        pub id: Box<str> = "_id",
        pub session_id: String = "sessionId",
        pub contact_id: String = "contactId",
        pub channel: Box<str> = "channel",
        pub project_id: Box<str> = "projectId",
        pub project_name: String = "projectName",
        pub flow_name: String = "flowName",
        /// How many there are.
        pub messages: u64 = "messages",
        /// A text.
        pub start_time: Box<str> = "startTime",
        /// A text.
        pub end_time: Box<str> = "endTime",
        pub ratings: Vec<Number> = "ratings",
        pub rating_comments: Vec<String> = "ratingComments",
        pub endpoint_name: String = "endpointName",
    }
}

open_enum! {
    /// Who wrote an entry of a conversation (O?).
    pub enum ConversationSource {
        /// The user:
        User = "user",
        /// The flow:
        Bot = "bot",
        /// A person in a handover:
        Agent = "agent",
        /// What Agent Copilot proposes:
        Suggestion = "suggestion",
        /// A message that began the conversation:
        Engagement = "engagement",
    }
}

open_struct! {
    lenient
    /// An input or output of a conversation (O).
    #[derive(Default)]
    pub struct ConversationEntry {
        pub project_id: Box<str> = "projectId",
        pub session_id: String = "sessionId",
        pub contact_id: String = "contactId",
        pub input_id: Box<str> = "inputId",
        pub output_id: Box<str> = "outputId",
        /// `input` or `output`.
        pub kind: Box<str> = "type",
        pub source: ConversationSource = "source",
        pub input_text: String = "inputText",
        /// Anything; for a message typed by [`MessageData`].
        pub input_data: Value = "inputData",
        /// A text in RFC 3339; the documentation shows an object.
        pub timestamp: Value = "timestamp",
        pub channel: Box<str> = "channel",
        pub flow_name: String = "flowName",
        pub flow_reference_id: Box<str> = "flowReferenceId",
        pub endpoint_name: String = "endpointName",
        pub endpoint_url_token: UrlToken = "endpointUrlToken",
        pub locale_name: String = "localeName",
        pub in_handover_request: bool = "inHandoverRequest",
        pub in_handover_conversation: bool = "inHandoverConversation",
    }
}

impl ConversationEntry {
    /// `inputData` as the data of a message; absent is empty.
    ///
    /// # Errors
    ///
    /// That of `serde_json`, if it is none.
    pub fn message(&self) -> Result<MessageData, serde_json::Error> {
        match &self.input_data {
            Some(data) => MessageData::deserialize(data),
            None => Ok(MessageData::default()),
        }
    }
}

open_struct! {
    lenient
    /// A contact's profile (O?).
    pub struct Profile {
        required {
            pub id: MongoId = "_id",
        }
        pub active: bool = "active",
        /// What is known of the contact; the fields are the project's own.
        pub profile: Map<String, Value> = "profile",
        pub contact_ids: Vec<String> = "contactIds",
        pub project_id: Box<str> = "projectId",
        pub created_at: u64 = "createdAt",
        pub last_changed: u64 = "lastChanged",
    }
}

open_enum! {
    /// The level of a log entry (O?).
    pub enum LogLevel {
        /// The worst:
        Fatal = "fatal",
        /// A failure:
        Error = "error",
        /// A warning:
        Warn = "warn",
        /// A note:
        Info = "info",
        /// For the author of a flow:
        Debug = "debug",
        /// Everything:
        Trace = "trace",
    }
}

open_struct! {
    lenient
    /// An entry of a project's log, kept for a day (O).
    #[derive(Default)]
    pub struct LogEntry {
        pub id: Box<str> = "_id",
        /// RFC 3339.
        pub timestamp: Box<str> = "timestamp",
        pub kind: LogLevel = "type",
        pub msg: String = "msg",
        pub meta: Value = "meta",
        pub trace_id: Box<str> = "traceId",
    }
}
