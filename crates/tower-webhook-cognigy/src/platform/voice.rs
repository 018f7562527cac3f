//! Voice Gateway: the events of calls in a flow, and the status of an outbound call.

use super::open::{open_enum, open_struct};
use serde_json::Number;

open_enum! {
    /// The event of a call (O).
    pub enum VoiceEventName {
        /// Whether a person or a machine has answered:
        AnsweringMachineDetection = "ANSWERING_MACHINE_DETECTION",
        /// The call was ended:
        CallCompleted = "CALL_COMPLETED",
        /// The call came in:
        CallCreated = "CALL_CREATED",
        /// The call was broken off:
        CallFailed = "CALL_FAILED",
        /// The call is answered, if the endpoint is set to tell:
        CallInProgress = "CALL_IN_PROGRESS",
        /// The call is back after trouble in the network:
        CallReconnected = "CALL_RECONNECTED",
        /// The other side did not answer:
        NoAnswer = "NO_ANSWER",
        /// The user has pressed keys:
        RecognizedDtmf = "RECOGNIZED_DTMF",
        /// The user has spoken:
        RecognizedSpeech = "RECOGNIZED_SPEECH",
        /// A transfer with `Dial` failed:
        TransferDialError = "TRANSFER_DIAL_ERROR",
        /// A transfer with `Dial` succeeded:
        TransferDialSuccess = "TRANSFER_DIAL_SUCCESS",
        /// A transfer with `Refer` failed:
        TransferReferError = "TRANSFER_REFER_ERROR",
        /// A transfer with `Refer` succeeded:
        TransferReferSuccess = "TRANSFER_REFER_SUCCESS",
        /// The user is busy:
        UserBusy = "USER_BUSY",
        /// The user says nothing:
        UserInputTimeout = "USER_INPUT_TIMEOUT",
    }
}

open_struct! {
    /// An event of a call, as a flow sees it in `input.data` (O).
    pub struct VoiceEvent {
        required {
            pub event: VoiceEventName = "event",
        }
        pub msgid: Box<str> = "msgid",
        pub payload: Call = "payload",
    }
}

open_enum! {
    /// The direction of a call.
    pub enum CallDirection {
        /// Somebody calls the flow:
        Inbound = "inbound",
        /// The flow calls somebody:
        Outbound = "outbound",
    }
}

open_enum! {
    /// The status of a call (O; `busy` only in an example).
    pub enum CallStatus {
        /// The other side is being found:
        Trying = "trying",
        /// It rings:
        Ringing = "ringing",
        /// Sound before the answer:
        EarlyMedia = "early-media",
        /// Answered:
        InProgress = "in-progress",
        /// Ended after an answer:
        Completed = "completed",
        /// Not connected:
        Failed = "failed",
        /// The other side was busy or did not answer:
        NoAnswer = "no-answer",
        /// The other side was busy:
        Busy = "busy",
    }
}

impl CallStatus {
    /// Whether no other status comes after it. Of one that is not known, no.
    pub const fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Failed | Self::NoAnswer | Self::Busy
        )
    }
}

open_struct! {
    lenient
    /// A call, and what has happened in it. The fields of single events (`sip`, `speech`, `digits`, `greeting` and
    /// others) are in `other`.
    ///
    /// The body that Voice Gateway posts to the `notifyUrl` of an outbound call is not documented except for its
    /// status; that it has these fields is an inference (I).
    ///
    /// A field whose value is not of its type, such as a number as text, is in `other` as well.
    #[derive(Default)]
    pub struct Call {
        pub call_sid: Box<str> = "call_sid",
        pub direction: CallDirection = "direction",
        /// A number or a name.
        pub from: String = "from",
        pub to: String = "to",
        pub call_id: Box<str> = "call_id",
        pub sip_status: Number = "sip_status",
        pub sip_reason: String = "sip_reason",
        pub call_status: CallStatus = "call_status",
        pub account_sid: Box<str> = "account_sid",
        pub trace_id: Box<str> = "trace_id",
        pub application_sid: Box<str> = "application_sid",
        pub fs_sip_address: String = "fs_sip_address",
        pub originating_sip_ip: String = "originating_sip_ip",
        pub originating_sip_trunk_name: String = "originating_sip_trunk_name",
        /// Who has ended it, such as `bot` or `caller`.
        pub call_termination_by: String = "call_termination_by",
        /// In seconds.
        pub duration: Number = "duration",
        pub api_base_url: String = "api_base_url",
        /// Why the event happened, such as `timeout` or `dtmfDetected`.
        pub reason: String = "reason",
    }
}

open_struct! {
    /// The response to `POST /v1/Accounts/{sid}/Calls`, with status 201 (O).
    pub struct CreatedCall {
        required {
            /// Of the session.
            pub sid: Box<str> = "sid",
            /// Of the `INVITE`.
            pub callid: Box<str> = "callid",
        }
    }
}
