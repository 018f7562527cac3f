//! Handovers to human agents: what a flow is told of them, and what contact centres post.

use super::open::{open_enum, open_struct};
use serde_json::{Number, Value};

open_enum! {
    /// The status of a handover (O?).
    pub enum HandoverStatus {
        /// The user waits for an agent:
        Queue = "queue",
        /// An agent has taken over:
        Active = "active",
        /// The agent has ended it:
        Completed = "completed",
        /// The user or the flow has ended it before:
        Cancelled = "cancelled",
        /// It failed, with [`HandoverFailure`]:
        Error = "error",
        /// A message was injected while the agent talks:
        AgentInject = "agentInject",
        /// Something that the contact centre reports:
        GenericHandoverUpdate = "genericHandoverUpdate",
    }
}

open_enum! {
    /// Why a flow is told the status of a handover (O?).
    pub enum HandoverEventType {
        /// The place in the queue has changed:
        QueueUpdate = "queueUpdate",
        /// The user says nothing:
        HandoverInactivity = "handoverInactivity",
        /// Something that the contact centre reports:
        GenericHandoverUpdate = "genericHandoverUpdate",
    }
}

open_struct! {
    /// The input of a flow about a handover (O?).
    ///
    /// ```
    /// use tower_webhook_cognigy::platform::handover::{HandoverStatus, HandoverStatusInput};
    ///
    /// let input: HandoverStatusInput = serde_json::from_str(
    ///     r#"{"status":"queue","eventType":"queueUpdate","data":{"request":{"position":2,"estimatedWaitTime":60}}}"#,
    /// )?;
    /// assert_eq!(input.status, HandoverStatus::Queue);
    /// let queue = input.queue()?;
    /// assert_eq!(queue.position.and_then(|place| place.as_u64()), Some(2));
    /// # Ok::<_, serde_json::Error>(())
    /// ```
    pub struct HandoverStatusInput {
        required {
            pub status: HandoverStatus = "status",
        }
        pub event_type: HandoverEventType = "eventType",
        /// How often the user was reminded.
        pub inactivity_count: Number = "inactivityCount",
        pub error: HandoverFailure = "error",
        /// Depends on the status; for a queue typed by [`queue`](HandoverStatusInput::queue).
        pub data: Value = "data",
    }
}

impl HandoverStatusInput {
    /// `data.request`, the user's place in the queue; absent is empty.
    ///
    /// # Errors
    ///
    /// That of `serde_json`, if it is none.
    pub fn queue(&self) -> Result<QueuePosition, serde_json::Error> {
        match self.data.as_ref().and_then(|data| data.get("request")) {
            Some(request) => serde::Deserialize::deserialize(request),
            None => Ok(QueuePosition::default()),
        }
    }
}

open_struct! {
    /// A place in the queue.
    #[derive(Default)]
    pub struct QueuePosition {
        pub position: Number = "position",
        /// The unit is not documented.
        pub estimated_wait_time: Number = "estimatedWaitTime",
    }
}

open_enum! {
    /// Why a handover failed.
    pub enum HandoverFailureReason {
        /// The endpoint cannot do it:
        Unsupported = "unsupported",
        /// Anything else:
        Error = "error",
    }
}

open_struct! {
    /// Why a handover failed.
    pub struct HandoverFailure {
        required {
            pub reason: HandoverFailureReason = "reason",
        }
        pub message: String = "message",
    }
}

open_enum! {
    /// The contact centre of a handover (O?).
    pub enum HandoverService {
        /// The platform's own of old:
        Cognigy = "cognigy",
        /// No handover:
        None = "none",
        /// `RingCentral` Engage:
        RingCentralEngage = "rce",
        /// Chatwoot:
        Chatwoot = "chatwoot",
        /// Salesforce:
        Salesforce = "salesforce",
        /// Live Agent:
        LiveAgent = "liveAgent",
        /// Genesys Cloud:
        GenesysCloud = "genesysCloud",
        /// Genesys Cloud Open Messaging:
        GenesysCloudOm = "genesysCloudOM",
        /// 8x8:
        EightByEight = "eightByEight",
    }
}

open_enum! {
    /// The last segment of a URL at which the platform hears of a contact centre:
    /// `https://endpoint-<env>/handover/{name}` (O).
    pub enum HandoverWebhook {
        /// Live Agent:
        LiveAgent = "liveagent",
        /// Chatwoot:
        Chatwoot = "chatwoot",
        /// Genesys Cloud Open Messaging, with [`GenesysCloudOm`]:
        GenesysCloudOm = "genesysCloudOM",
        /// `RingCentral` Engage:
        RingCentralEngage = "rce",
        /// 8x8:
        EightByEight = "eightByEight",
    }
}

open_struct! {
    /// What Genesys Cloud Open Messaging posts to `/handover/genesysCloudOM` when a handover ends (O, up to
    /// Cognigy.AI 4.99). Its contract allows other fields.
    pub struct GenesysCloudOm {
        required {
            pub user_id: String = "userId",
            /// Such as `v2.detail.events.conversation.id.acw`.
            pub topic: String = "topic",
        }
        pub disconnect_type: String = "disconnectType",
    }
}

impl GenesysCloudOm {
    /// Makes a report of this topic about a user.
    pub fn new(user_id: impl Into<String>, topic: impl Into<String>) -> Self {
        Self {
            user_id: user_id.into(),
            topic: topic.into(),
            disconnect_type: None,
            other: serde_json::Map::new(),
        }
    }
}

open_struct! {
    /// A handover provider of a project: `/v2.0/handover/provider` (O). Times are seconds since 1970.
    #[derive(Default)]
    pub struct HandoverProvider {
        pub id: Box<str> = "_id",
        pub reference_id: Box<str> = "referenceId",
        pub organisation_id: Box<str> = "organisationId",
        pub project_id: Box<str> = "projectId",
        pub service_id: Box<str> = "serviceId",
        /// The contact centre; the documentation's example is `Live Agent`.
        pub service: HandoverService = "service",
        pub locale_id: Box<str> = "localeId",
        pub name: String = "name",
        pub created_at: u64 = "createdAt",
        pub last_changed_at: u64 = "lastChangedAt",
        pub created_by: Box<str> = "createdBy",
        pub last_changed_by: Box<str> = "lastChangedBy",
        pub properties: Vec<Value> = "properties",
        /// Depends on the service, and may contain secrets.
        pub settings: Value = "settings",
    }
}
