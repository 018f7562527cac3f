//! Handovers, Live Agent, Chatwoot, Voice Gateway.

use super::unchanged;
use serde_json::json;
use tower_webhook_cognigy::platform::{
    handover::{
        GenesysCloudOm, HandoverEventType, HandoverFailureReason, HandoverProvider,
        HandoverService, HandoverStatus, HandoverStatusInput, HandoverWebhook,
    },
    limits,
    live_agent::{ChatwootEvent, ChatwootEventType, LiveAgentEvent, LiveAgentEventType},
    voice::{Call, CallDirection, CallStatus, CreatedCall, VoiceEvent, VoiceEventName},
};

#[test]
fn b6_each_handover_status_is_typed() {
    let statuses = [
        ("queue", HandoverStatus::Queue),
        ("active", HandoverStatus::Active),
        ("completed", HandoverStatus::Completed),
        ("cancelled", HandoverStatus::Cancelled),
        ("error", HandoverStatus::Error),
        ("agentInject", HandoverStatus::AgentInject),
        (
            "genericHandoverUpdate",
            HandoverStatus::GenericHandoverUpdate,
        ),
        ("later", HandoverStatus::Other("later".into())),
    ];
    for (name, status) in statuses {
        let input: HandoverStatusInput = unchanged(&json!({"status": name}).to_string());
        assert_eq!(input.status, status);
    }

    let input: HandoverStatusInput = unchanged(
        r#"{"status":"queue","eventType":"queueUpdate","data":{"request":{"position":2,"estimatedWaitTime":60}}}"#,
    );
    assert_eq!(input.event_type, Some(HandoverEventType::QueueUpdate));
    let queue = input.queue().unwrap();
    assert_eq!(queue.position, Some(2.into()));
    assert_eq!(queue.estimated_wait_time, Some(60.into()));

    let input: HandoverStatusInput =
        unchanged(r#"{"status":"active","eventType":"handoverInactivity","inactivityCount":3}"#);
    assert_eq!(input.inactivity_count, Some(3.into()));
    assert_eq!(input.queue().unwrap().position, None);

    let input: HandoverStatusInput =
        unchanged(r#"{"status":"error","error":{"reason":"unsupported","message":"no provider"}}"#);
    assert_eq!(
        input.error.unwrap().reason,
        HandoverFailureReason::Unsupported
    );

    assert!(serde_json::from_str::<HandoverStatusInput>(r#"{"eventType":"queueUpdate"}"#).is_err());
}

#[test]
fn b6_genesys_cloud_om_allows_other_fields() {
    let body: GenesysCloudOm = unchanged(
        r#"{"userId":"u-1","topic":"v2.detail.events.conversation.id.acw","disconnectType":"PEER","mediaType":"MESSAGE"}"#,
    );
    assert_eq!(body.topic, "v2.detail.events.conversation.id.acw");
    assert_eq!(body.other["mediaType"], "MESSAGE");
    assert!(serde_json::from_str::<GenesysCloudOm>(r#"{"topic":"t"}"#).is_err());
    assert_eq!(HandoverWebhook::GenesysCloudOm.as_str(), "genesysCloudOM");
}

#[test]
fn b6_a_handover_provider_is_typed_and_keeps_its_settings() {
    let provider: HandoverProvider = unchanged(
        r#"{"_id":"5e997f0cdcfc57730cf32941","referenceId":"r","organisationId":"o","serviceId":"s","service":"genesysCloudOM",
            "localeId":"l","name":"Genesys","createdAt":1694518620,"lastChangedAt":1694518621,"createdBy":"a","lastChangedBy":"b",
            "properties":[{}],"settings":{"webhookSecret":"hidden"}}"#,
    );
    assert_eq!(provider.service, Some(HandoverService::GenesysCloudOm));
    assert!(provider.other.is_empty());
    assert!(!format!("{provider:?}").contains("hidden"));
}

#[test]
fn b6_live_agent_events_are_cloud_events() {
    let event: LiveAgentEvent = unchanged(
        r#"{"specversion":"1.0","type":"ai.cognigy.live-agent.conversation.typing_off","source":"http://127.0.0.1:3000",
            "subject":"conversation.2","id":"01J9KKW5VS6A0FPWDQ11BHRVWX","time":"2024-10-07T13:49:35Z",
            "datacontenttype":"application/json","data":{"cognigy_session_id":"c101cbc0-807d-426f-bd81-tb756dbdec44"}}"#,
    );
    assert_eq!(event.kind, LiveAgentEventType::TypingOff);
    assert_eq!(event.conversation(), Some(2));
    let data = event.data.as_ref().unwrap();
    assert_eq!(
        data.cognigy_session_id.as_deref(),
        Some("c101cbc0-807d-426f-bd81-tb756dbdec44")
    );

    for missing in ["specversion", "type", "source", "id"] {
        let mut without = serde_json::to_value(&event).unwrap();
        without.as_object_mut().unwrap().remove(missing);
        let error = serde_json::from_value::<LiveAgentEvent>(without).unwrap_err();
        assert!(error.to_string().contains(missing), "{error}");
    }
}

#[test]
fn b6_each_chatwoot_event_is_typed_and_keeps_the_rest() {
    for name in [
        "conversation_created",
        "conversation_updated",
        "conversation_status_changed",
        "message_created",
        "message_updated",
        "contact_created",
        "contact_updated",
        "webwidget_triggered",
        "conversation_typing_on",
        "conversation_typing_off",
    ] {
        let json =
            json!({"event": name, "id": 7, "account": {"id": 1, "name": "A"}, "is_private": false});
        let event: ChatwootEvent = unchanged(&json.to_string());
        assert_eq!(event.event.as_str(), name);
        assert!(
            !matches!(event.event, ChatwootEventType::Other(_)),
            "{name}"
        );
        assert_eq!(event.other["is_private"], false);
    }
    let event: ChatwootEvent = unchanged(r#"{"event":"inbox_created","message_type":1}"#);
    assert_eq!(
        event.event,
        ChatwootEventType::Other("inbox_created".into())
    );
}

#[test]
fn b6_documented_voice_gateway_events_are_read_and_written_back_unchanged() {
    let completed: VoiceEvent = unchanged(
        r#"{"payload":{"call_sid":"c0855b01-4207-480b-xxxx-xxxxxxxxxxxx","direction":"inbound","from":"user-2U4yyrZ3sgBXYvX6yyxxxx",
            "to":"123456789","call_id":"9adb52f3-5e1e-123c-xxxx-xxxxxxxxxxxx","sip_status":200,"sip_reason":"OK",
            "call_status":"completed","account_sid":"28265983-502c-4ed7-xxxx-xxxxxxxxxxxx","trace_id":"ddd45512f6c5bf3ab8d14727d2a93739",
            "application_sid":"822aff21-5879-403f-xxxx-xxxxxxxxxxxx","fs_sip_address":"10.1.193.xxx:xxxx","originating_sip_ip":"88.77.xx.xxx",
            "call_termination_by":"bot","duration":12,"api_base_url":"voice-gateway-app.cognigy.ai/v1"},"event":"CALL_COMPLETED"}"#,
    );
    assert_eq!(completed.event, VoiceEventName::CallCompleted);
    let call = completed.payload.unwrap();
    assert_eq!(call.direction, Some(CallDirection::Inbound));
    assert_eq!(call.call_status, Some(CallStatus::Completed));
    assert_eq!(call.duration, Some(12.into()));
    assert!(call.other.is_empty(), "{:?}", call.other.keys());

    let failed: VoiceEvent = unchanged(
        r#"{"payload":{"call_sid":"ec16c74e-8e8a-4dee-xxxx-xxxxxxxxxxxx","direction":"outbound","from":"12345","to":"10001",
            "sip_status":400,"sip_reason":"Bad Request","call_status":"failed"},"msgid":"6pAjboxUDzavLME7JMUMUC","event":"CALL_FAILED"}"#,
    );
    assert_eq!(failed.msgid.as_deref(), Some("6pAjboxUDzavLME7JMUMUC"));

    let texts: VoiceEvent = unchanged(
        r#"{"event":"CALL_COMPLETED","payload":{"sip_status":"200","duration":"3","from":"+49"}}"#,
    );
    let call = texts.payload.unwrap();
    assert_eq!((call.sip_status, call.from.as_deref()), (None, Some("+49")));
    assert_eq!(call.other["sip_status"], "200");

    let machine: VoiceEvent = unchanged(
        r#"{"payload":{"call_status":"in-progress","originating_sip_trunk_name":"Twilio","type":"amd_machine_detected",
            "reason":"long greeting","greeting":"Sanctuary was never meant for human kind it was","language":"en-us"},
            "event":"ANSWERING_MACHINE_DETECTION","numberMetaData":{"number":"+140xxxxxxxx","country":"US","valid":true}}"#,
    );
    assert_eq!(machine.event, VoiceEventName::AnsweringMachineDetection);
    assert_eq!(
        machine.payload.unwrap().other["type"],
        "amd_machine_detected"
    );
    assert_eq!(machine.other["numberMetaData"]["country"], "US");

    let dtmf: VoiceEvent = unchanged(
        r#"{"payload":{"call_status":"in-progress","digits":"9791108569","reason":"dtmfDetected"},"event":"RECOGNIZED_DTMF"}"#,
    );
    assert_eq!(dtmf.payload.unwrap().other["digits"], "9791108569");

    let no_answer: VoiceEvent = unchanged(
        r#"{"event":"NO_ANSWER","payload":{"direction":"inbound","call_status":"completed","call_termination_by":"caller","duration":15,
            "dial_call_status":"no-answer","dial_sip_status":487,"dial_call_sid":"5c854151-0e0a-4fbf-xxxx-xxxxxxxxxxxx"}}"#,
    );
    assert_eq!(no_answer.event, VoiceEventName::NoAnswer);

    let busy: VoiceEvent = unchanged(
        r#"{"payload":{"direction":"outbound","sip_status":603,"sip_reason":"Decline","call_status":"busy"},
            "msgid":"4dPkLyVhcK8bTxUoJFDXhm","event":"USER_BUSY"}"#,
    );
    assert_eq!(busy.payload.unwrap().call_status, Some(CallStatus::Busy));
}

#[test]
fn b6_all_fifteen_voice_events_have_a_name() {
    for name in [
        "ANSWERING_MACHINE_DETECTION",
        "CALL_COMPLETED",
        "CALL_CREATED",
        "CALL_FAILED",
        "CALL_IN_PROGRESS",
        "CALL_RECONNECTED",
        "NO_ANSWER",
        "RECOGNIZED_DTMF",
        "RECOGNIZED_SPEECH",
        "TRANSFER_DIAL_ERROR",
        "TRANSFER_DIAL_SUCCESS",
        "TRANSFER_REFER_ERROR",
        "TRANSFER_REFER_SUCCESS",
        "USER_BUSY",
        "USER_INPUT_TIMEOUT",
    ] {
        assert!(
            !matches!(VoiceEventName::from(name), VoiceEventName::Other(_)),
            "{name}"
        );
        assert_eq!(VoiceEventName::from(name).as_str(), name);
    }
}

#[test]
fn b6_each_status_of_an_outbound_call_says_whether_it_is_the_last() {
    for (name, is_final) in [
        ("trying", false),
        ("ringing", false),
        ("early-media", false),
        ("in-progress", false),
        ("completed", true),
        ("failed", true),
        ("no-answer", true),
        ("later", false),
    ] {
        let call: Call = unchanged(&json!({"call_sid": "c", "call_status": name}).to_string());
        assert_eq!(call.call_status.unwrap().is_final(), is_final, "{name}");
    }
    let created: CreatedCall = unchanged(
        r#"{"sid":"98e4dd21-b178-4af1-83b6-3c1582893890","callid":"8d07a246-f1ac-123b-b8ac-02113b73b840"}"#,
    );
    assert_eq!(&*created.sid, "98e4dd21-b178-4af1-83b6-3c1582893890");
}

#[test]
fn b7_the_limits_are_those_of_the_documentation() {
    assert_eq!(
        (limits::RATE_REQUESTS, limits::RATE_WINDOW.as_secs()),
        (1_000, 300)
    );
    assert_eq!(
        (limits::API_JSON_BODY, limits::API_RAW_BODY),
        (60_000, 2_000_000)
    );
    assert_eq!(
        (limits::MEMORY_OBJECT, limits::MEMORY_OBJECT_APP),
        (65_000, 1_500_000)
    );
    assert_eq!(
        (limits::HTTP_NODE_REQUEST, limits::HTTP_NODE_RESPONSE),
        (65_000, 524_000)
    );
    let seconds = [
        limits::HTTP_NODE_TIMEOUT,
        limits::HTTP_NODE_TIMEOUT_APP,
        limits::TRANSFORMER_TIMEOUT,
        limits::SUPER_API_KEY,
    ];
    assert_eq!(seconds.map(|time| time.as_secs()), [8, 15, 5, 900]);
    assert_eq!(
        (
            limits::TRANSFORMER_REQUESTS,
            limits::TRANSFORMER_REQUESTS_TRIAL
        ),
        (1, 2)
    );
    let days = [
        limits::SESSION_STATE,
        limits::LOGS,
        limits::AUDIT_EVENTS,
        limits::TRANSCRIPTS,
    ];
    assert_eq!(days.map(|time| time.as_secs() / 86_400), [7, 1, 30, 30]);
}
