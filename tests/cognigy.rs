//! What the typed events accept, keep and refuse, and what is answered to them.
#![cfg(feature = "cognigy")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use bytes::Bytes;
use http::{Request, StatusCode};
use proptest::prelude::*;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tower_webhook::{
    CognigyEvent,
    body::BufferedBody,
    cognigy::{
        Ack, DialogAnswer, DialogEvent, Envelope, EventError, EventType, Source, WebhookDelivery,
    },
    problem::{Problem, Refusal},
};

/// The time of [`INPUT`], in seconds since 1970.
const INPUT_TIME: u64 = 1_705_312_800;

/// A layer at the time of [`INPUT`].
#[cfg(feature = "signature")]
fn recent() -> tower_webhook::cognigy::EventLayer {
    tower_webhook::cognigy::EventLayer::new().clock(clock_at(INPUT_TIME))
}

#[cfg(feature = "signature")]
fn clock_at(seconds: u64) -> tower_webhook::clock::WallClock {
    tower_webhook::clock::WallClock::fixed(UNIX_EPOCH + Duration::from_secs(seconds))
}

/// An event by S4's model (`CognigyEventPayload`), with every field.
const INPUT: &str = r#"{"eventId":"evt_1","timestamp":"2024-01-15T10:00:00Z","type":"USER_INPUT_RECEIVED","payload":{"input":{"text":"hello"}},"externalId":"crm-1","userId":"user-1"}"#;

/// An event by what S3's receiver reads.
const DIALOG: &str = r#"{"conversationId":"conv-1","currentNode":"lookup","variables":{"customerId":"c-1","tier":"gold"}}"#;

/// A delivery by the platform's documentation of its Webhook Endpoint.
const DELIVERY: &str = r#"{"userId":"user-1","sessionId":"session-1","AIOutput":{"text":"Hello!","data":{"_cognigy":{"a":1}},"traceId":"trace-1","disableSensitiveLogging":true,"source":"bot"}}"#;

fn envelope(body: &str) -> Envelope {
    Envelope::from_bytes(body.to_owned()).unwrap()
}

fn refused(body: impl Into<Bytes>) -> EventError {
    CognigyEvent::from_bytes(body).unwrap_err()
}

/// `base` with `value` at `field`, which may be of one or two levels.
fn with(base: &str, field: &str, value: Value) -> String {
    let mut body: Value = serde_json::from_str(base).unwrap();
    match field.split_once('.') {
        Some((outer, inner)) => body[outer][inner] = value,
        None => body[field] = value,
    }
    body.to_string()
}

/// However long keys are kept, and whenever an event was accepted: it is stale when its key is forgotten.
#[test]
fn no_accepted_event_is_recent_when_its_key_is_forgotten() {
    let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(seconds);
    let recent = |now, kept: u64| {
        let event = CognigyEvent::from_bytes(INPUT).unwrap();
        event
            .require_recent(at(now), Duration::from_secs(kept))
            .is_ok()
    };
    for kept in [0, 1, 2, 3600, 86_400, 172_800, 172_801, 604_800, 691_200] {
        let around = INPUT_TIME - 100_000..INPUT_TIME + kept + 100_000;
        let mut accepted = around
            .step_by(97)
            .filter(|now| recent(*now, kept))
            .peekable();
        assert!(accepted.peek().is_some() || kept < 97, "{kept}");
        for now in accepted {
            assert!(!recent(now + kept + 1, kept), "{kept}: accepted at {now}");
        }
        assert!(recent(INPUT_TIME, kept), "{kept}: at once");
    }
    let event = CognigyEvent::from_bytes(INPUT).unwrap();
    assert!(
        event
            .require_recent(at(INPUT_TIME * 2), Duration::MAX)
            .is_ok()
    );
}

/// A clock may be wrong by a day both ways, or by half of the time that keys are kept.
#[test]
fn an_event_may_be_half_as_old_or_as_early_as_its_key_is_kept() {
    const HOUR: u64 = 3600;
    for (kept, early, old) in [
        (HOUR, HOUR / 2, HOUR / 2),
        (24 * HOUR, 12 * HOUR, 12 * HOUR),
        (48 * HOUR, 24 * HOUR, 24 * HOUR),
        (72 * HOUR, 24 * HOUR, 48 * HOUR),
    ] {
        let edges = [
            (INPUT_TIME - early - 1, false),
            (INPUT_TIME - early, true),
            (INPUT_TIME + old, true),
            (INPUT_TIME + old + 1, false),
        ];
        for (now, is_recent) in edges {
            let event = CognigyEvent::from_bytes(INPUT).unwrap();
            let now = UNIX_EPOCH + Duration::from_secs(now);
            let result = event.require_recent(now, Duration::from_secs(kept));
            assert_eq!(result.is_ok(), is_recent, "{kept}: {now:?}");
        }
    }
}

fn without(base: &str, field: &str) -> String {
    let mut body: Value = serde_json::from_str(base).unwrap();
    let (object, key) = match field.split_once('.') {
        Some((outer, inner)) => (&mut body[outer], inner),
        None => (&mut body, field),
    };
    object.as_object_mut().unwrap().remove(key);
    body.to_string()
}

#[test]
fn an_envelope_gives_its_fields() {
    let event = CognigyEvent::from_bytes(INPUT).unwrap();
    let envelope = event.as_envelope().unwrap();
    assert_eq!(envelope.event_id(), "evt_1");
    assert_eq!(envelope.event_type(), &EventType::UserInputReceived);
    assert_eq!(envelope.timestamp(), "2024-01-15T10:00:00Z");
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_705_312_800);
    assert_eq!(envelope.time(), at);
    assert_eq!(envelope.payload(), r#"{"input":{"text":"hello"}}"#);
    assert_eq!(envelope.external_id(), Some("crm-1"));
    assert_eq!(envelope.user_id(), Some("user-1"));
    assert_eq!(envelope.contact_id(), Some("crm-1"));
    assert_eq!(event.event_id(), Some("evt_1"));
    assert_eq!(event.raw(), INPUT);
}

#[test]
fn a_dialog_event_gives_its_fields() {
    let event = CognigyEvent::from_bytes(DIALOG).unwrap();
    let dialog = event.as_dialog().unwrap();
    assert_eq!(dialog.conversation_id(), "conv-1");
    assert_eq!(dialog.current_node(), Some("lookup"));
    assert_eq!(dialog.customer_id(), Some("c-1"));
    assert_eq!(dialog.variables(), r#"{"customerId":"c-1","tier":"gold"}"#);
    assert_eq!(event.payload(), dialog.variables());
    assert_eq!(event.event_id(), None);
    assert_eq!(event.raw(), DIALOG);
}

#[test]
fn a_dialog_event_needs_no_more_than_its_conversation() {
    for body in [
        r#"{"conversationId":"c"}"#,
        r#"{"conversationId":"c","currentNode":null,"variables":null}"#,
    ] {
        let dialog = DialogEvent::from_bytes(body).unwrap();
        assert_eq!(dialog.current_node(), None);
        assert_eq!(dialog.variables(), "{}");
        assert_eq!(dialog.customer_id(), None);
        assert_eq!(dialog.variables_as::<Value>().unwrap(), json!({}));
    }
    let customer = |id| {
        let body = with(DIALOG, "variables.customerId", id);
        let dialog = DialogEvent::from_bytes(body).unwrap();
        dialog.customer_id().map(str::to_owned)
    };
    assert_eq!(customer(json!(42)).as_deref(), Some("42"));
    assert_eq!(customer(json!("a\"b")).as_deref(), Some("a\"b"));
    assert_eq!(customer(json!(null)), None);
    assert_eq!(customer(json!(["c"])), None);
}

#[test]
fn a_delivery_gives_its_fields() {
    let delivery = WebhookDelivery::from_bytes(DELIVERY).unwrap();
    assert_eq!(delivery.user_id(), "user-1");
    assert_eq!(delivery.session_id(), "session-1");
    assert_eq!(delivery.text(), Some("Hello!"));
    assert_eq!(delivery.data(), Some(r#"{"_cognigy":{"a":1}}"#));
    assert_eq!(delivery.trace_id(), "trace-1");
    assert!(delivery.disable_sensitive_logging());
    assert_eq!(delivery.source(), Some(&Source::Bot));
    assert_eq!(delivery.raw(), DELIVERY);

    let least = r#"{"AIOutput":{"text":null,"traceId":"t"},"sessionId":"s","userId":"u"}"#;
    let delivery = WebhookDelivery::from_bytes(least).unwrap();
    assert_eq!((delivery.text(), delivery.data()), (None, None));
    assert_eq!(delivery.source(), None);
    assert!(!delivery.disable_sensitive_logging());
    assert_eq!(delivery.data_as::<Option<Value>>().unwrap(), None);

    let other = with(DELIVERY, "AIOutput.source", json!("robot"));
    let delivery = WebhookDelivery::from_bytes(other).unwrap();
    assert_eq!(delivery.source(), Some(&Source::Unknown("robot".into())));
}

#[test]
fn unknown_types_and_fields_survive_unless_the_strict_form_is_asked_for() {
    let body = r#"{"eventId":"e","timestamp":1705312800,"type":"HANDOVER_STARTED","payload":{},"tenant":{"id":[7]}}"#;
    let event = envelope(body);
    assert_eq!(
        event.event_type(),
        &EventType::Unknown("HANDOVER_STARTED".into())
    );
    assert_eq!(event.raw(), body);
    assert_eq!(
        event.body_as::<Value>().unwrap()["tenant"],
        json!({"id":[7]})
    );

    let error = event.require_known_type().unwrap_err();
    assert_eq!(error.field(), Some("type"));
    assert!(envelope(INPUT).require_known_type().is_ok());
    let dialog = CognigyEvent::from_bytes(DIALOG).unwrap();
    assert!(dialog.require_known_type().is_ok());
}

#[test]
fn the_form_is_told_by_the_fields() {
    for (body, missing) in [
        ("{}", "conversationId"),
        (r#"{"currentNode":"n","variables":{}}"#, "conversationId"),
        (r#"{"payload":{},"timestamp":0}"#, "conversationId"),
        (r#"{"type":"DIALOG_STARTED"}"#, "eventId"),
        // The body of the published signature vectors.
        (
            r#"{"eventId":"evt_1","type":"DIALOG_STARTED"}"#,
            "timestamp",
        ),
        (r#"{"eventId":"evt_1","conversationId":"c"}"#, "timestamp"),
    ] {
        let error = refused(body);
        assert!(matches!(error, EventError::Missing { .. }), "{body}");
        assert_eq!(error.field(), Some(missing), "{body}");
    }
    let error = Envelope::from_bytes(DIALOG).unwrap_err();
    assert_eq!(error.field(), Some("eventId"));
    let error = DialogEvent::from_bytes(INPUT).unwrap_err();
    assert_eq!(error.field(), Some("conversationId"));
    // The platform's form on the signed route.
    assert_eq!(refused(DELIVERY).field(), Some("conversationId"));
}

#[test]
fn what_is_missing_is_named() {
    for field in ["eventId", "timestamp", "type", "payload", "payload.input"] {
        let error = refused(without(INPUT, field));
        assert_eq!(error.field(), Some(field));
        assert!(matches!(error, EventError::Missing { .. }), "{error:?}");
    }
    let profile = with(INPUT, "type", json!("PROFILE_UPDATED"));
    assert_eq!(refused(profile).field(), Some("payload.profile"));
    // S4's own receiver asks only that it is there.
    let null = with(INPUT, "payload.input", json!(null));
    assert!(CognigyEvent::from_bytes(null).is_ok());

    for field in ["userId", "sessionId", "AIOutput", "AIOutput.traceId"] {
        let error = WebhookDelivery::from_bytes(without(DELIVERY, field)).unwrap_err();
        assert_eq!(error.field(), Some(field));
    }
}

#[test]
fn what_has_the_wrong_type_is_named_and_not_quoted() {
    let others = |allowed: &[&str]| {
        let all = [
            ("null", json!(null)),
            ("bool", json!(true)),
            ("number", json!(-5_150_515_051_i64)),
            ("string", json!("s3cret!")),
            ("array", json!(["s3cret!"])),
            ("object", json!({"s3cret!": 1})),
        ];
        all.into_iter()
            .filter(|(name, _)| !allowed.contains(name))
            .map(|(_, value)| value)
            .collect::<Vec<_>>()
    };
    let check = |error: EventError, field: &str| {
        assert_eq!(error.field(), Some(field));
        assert!(matches!(error, EventError::Invalid { .. }), "{error:?}");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("s3cret"), "{shown}");
        assert!(!shown.contains("5150515051"), "{shown}");
    };

    for (base, field, allowed) in [
        (INPUT, "eventId", &["string"][..]),
        (INPUT, "timestamp", &["number"]),
        (INPUT, "type", &["string"]),
        (INPUT, "payload", &["object"]),
        (INPUT, "externalId", &["string", "null"]),
        (INPUT, "userId", &["string", "null"]),
        (DIALOG, "conversationId", &["string"]),
        (DIALOG, "currentNode", &["string", "null"]),
        (DIALOG, "variables", &["object", "null"]),
    ] {
        for value in others(allowed) {
            check(refused(with(base, field, value)), field);
        }
    }
    for (field, allowed) in [
        ("userId", &["string"][..]),
        ("sessionId", &["string"]),
        ("AIOutput", &["object"]),
        ("AIOutput.text", &["string", "null"]),
        ("AIOutput.traceId", &["string"]),
        ("AIOutput.disableSensitiveLogging", &["bool", "null"]),
        ("AIOutput.source", &["string", "null"]),
    ] {
        for value in others(allowed) {
            let body = with(DELIVERY, field, value);
            check(WebhookDelivery::from_bytes(body).unwrap_err(), field);
        }
    }
}

#[test]
fn ids_are_fit_to_be_keys() {
    let id = |id: &str| CognigyEvent::from_bytes(with(INPUT, "eventId", json!(id)));
    assert!(id(&"x".repeat(255)).is_ok());
    assert!(id("ütf-8 ✓").is_ok());
    assert!(id("a\"b\\c").is_ok());
    for bad in ["", &"x".repeat(256), "a\nb", "a\0", "a\u{7f}", "a\u{85}b"] {
        assert_eq!(id(bad).unwrap_err().field(), Some("eventId"), "{bad:?}");
    }
    let empty = with(DIALOG, "conversationId", json!(""));
    assert_eq!(refused(empty).field(), Some("conversationId"));
    let user = with(INPUT, "userId", json!("a\rb"));
    assert_eq!(refused(user).field(), Some("userId"));
    // S4 falls back from an empty external id to the user's.
    let event = envelope(&with(INPUT, "externalId", json!("")));
    assert_eq!(event.contact_id(), Some("user-1"));
}

#[test]
fn escapes_are_undone_in_keys_and_ids() {
    let body = INPUT
        .replace("eventId", "\\u0065ventId")
        .replace("evt_1", "\\u0065vt\\/1");
    assert_eq!(envelope(&body).event_id(), "evt/1");
    assert_eq!(envelope(&body).raw(), &body);

    let body = INPUT.replace("evt_1", "evt_\\ud83d\\ude00");
    assert_eq!(envelope(&body).event_id(), "evt_😀");

    let twice = INPUT.replacen('{', r#"{"event\u0049d":"other","#, 1);
    assert_eq!(refused(twice).to_string(), "`eventId` is there twice");
}

#[test]
fn half_an_emoji_matters_only_where_it_is_read() {
    let id = INPUT.replace("evt_1", "\\ud800");
    assert_eq!(refused(id).field(), Some("eventId"));

    let payload = INPUT.replace("hello", "\\ud800");
    let event = envelope(&payload);
    assert!(event.payload().contains("\\ud800"));
    let error = event.payload_as::<Value>().unwrap_err();
    assert_eq!(error.field(), Some("payload.input.text"));

    let text = DELIVERY.replace("Hello!", "\\udfff");
    let error = WebhookDelivery::from_bytes(text).unwrap_err();
    assert_eq!(error.field(), Some("AIOutput.text"));
}

#[test]
fn fields_that_are_there_twice_are_refused() {
    for (body, field) in [
        (r#"{"eventId":"a","eventId":"a"}"#, "eventId"),
        (r#"{"eventId":"a","eventId":1,"eventId":"b"}"#, "eventId"),
        (
            r#"{"payload":{"profile":1,"profile":2}}"#,
            "payload.profile",
        ),
        (r#"{"payload":{},"payload":{}}"#, "payload"),
        (
            r#"{"variables":{"customerId":1,"customerId":2}}"#,
            "variables.customerId",
        ),
    ] {
        let error = refused(body);
        assert_eq!(error.field(), Some(field));
        assert!(matches!(error, EventError::Duplicate { .. }), "{error:?}");
    }
    let body = DELIVERY.replace("\"source\"", "\"traceId\"");
    let error = WebhookDelivery::from_bytes(body).unwrap_err();
    assert_eq!(error.field(), Some("AIOutput.traceId"));
}

#[test]
fn what_is_no_json_object_is_refused_whole() {
    let kind = |body: &[u8]| refused(Bytes::copy_from_slice(body));
    for body in ["[]", "null", "5", "-1", "\"text\"", "true", " [{}]"] {
        assert_eq!(kind(body.as_bytes()), EventError::NotAnObject, "{body}");
    }
    for body in [
        "",
        " ",
        "{",
        "{}x",
        "{}{}",
        "\u{feff}{}",
        "a=b&c=d",
        "\0",
        "<xml/>",
        "{'a':1}",
    ] {
        let error = kind(body.as_bytes());
        assert!(
            matches!(error, EventError::Syntax { .. }),
            "{body:?} {error:?}"
        );
        assert_eq!(error.field(), None);
    }
    let bytes = b"{\"eventId\":\"\xff\"}";
    assert_eq!(kind(bytes), EventError::Encoding { offset: 12 });
}

#[test]
fn depth_is_bounded_in_every_part() {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    for (before, after) in [
        (
            r#"{"eventId":"e","timestamp":0,"type":"T","payload":{"a":"#,
            "}}",
        ),
        (r#"{"conversationId":"c","variables":{"customerId":"#, "}}"),
        (r#"{"conversationId":"c","unknown":{"a":"#, "}}"),
        (r#"{"conversationId":{"a":"#, "}}"),
    ] {
        let error = refused([before, &deep(20_000), after].concat());
        assert_eq!(error, EventError::Deep { limit: 128 });
        // Objects without an end, which cost their sender the least.
        let error = refused([before, &r#"{"a":"#.repeat(20_000)].concat());
        assert_eq!(error, EventError::Deep { limit: 128 });
    }
    let body = [
        r#"{"conversationId":"c","variables":{"a":"#,
        &deep(126),
        "}}",
    ]
    .concat();
    let event = CognigyEvent::from_bytes(body).unwrap();
    assert!(
        event.payload_as::<Value>().is_ok(),
        "what is accepted can be typed"
    );
}

#[test]
fn large_parts_are_kept_as_they_are() {
    let digits = "7".repeat(1 << 20);
    let body = format!(r#"{{"conversationId":"c","variables":{{"n":{digits}}},"m":-{digits}}}"#);
    let event = CognigyEvent::from_bytes(body.clone()).unwrap();
    assert_eq!(event.raw(), &body);
    let error = event.payload_as::<Value>().unwrap_err();
    assert_eq!(error.field(), Some("variables.n"));
    let time = format!(r#"{{"eventId":"e","type":"T","payload":{{}},"timestamp":{digits}}}"#);
    assert_eq!(refused(time).field(), Some("timestamp"));

    let text = "\\n\\\"é".repeat(1 << 18);
    let body = with(INPUT, "payload.input", json!("text")).replace("text", &text);
    assert!(CognigyEvent::from_bytes(body).is_ok());
}

#[test]
fn times_are_read_as_pydantic_reads_them() {
    let at = |time: Value| {
        let body = with(INPUT, "timestamp", time);
        CognigyEvent::from_bytes(body).map(|event| event.as_envelope().unwrap().time())
    };
    let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(1_705_312_800);
    for time in [
        json!("2024-01-15T10:00:00"),
        json!("2024-01-15T12:00:00+02:00"),
        json!(1_705_312_800),
        json!(1_705_312_800_000_i64),
        json!(1_705_312_800.0),
        json!("1705312800"),
    ] {
        assert_eq!(at(time.clone()), Ok(expected), "{time}");
    }
    for time in [
        json!(""),
        json!("yesterday"),
        json!("2024-02-30T10:00:00Z"),
        json!(1e300),
    ] {
        assert_eq!(
            at(time.clone()).unwrap_err().field(),
            Some("timestamp"),
            "{time}"
        );
    }
}

#[test]
fn a_payload_is_typed_when_asked_for_and_borrows() {
    #[derive(Debug, Deserialize)]
    struct Payload<'a> {
        #[serde(borrow)]
        input: Input<'a>,
    }
    #[derive(Debug, Deserialize)]
    struct Input<'a> {
        text: &'a str,
    }

    let event = CognigyEvent::from_bytes(Bytes::from(INPUT)).unwrap();
    let text = event.payload_as::<Payload<'_>>().unwrap().input.text;
    assert_eq!(text, "hello");
    assert!(event.raw().as_ptr_range().contains(&text.as_ptr()));

    let event = envelope(&with(INPUT, "payload.input", json!({"text": 4_711})));
    let error = event.payload_as::<Payload<'_>>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "`payload.input.text` must be a borrowed string"
    );
}

#[test]
fn a_buffered_request_shares_its_bytes_with_the_event_and_its_clones() {
    let body = Bytes::from(INPUT.to_owned());
    let req = Request::new(BufferedBody::new(body.clone()));
    let event = CognigyEvent::from_buffered(&req).unwrap();
    assert_eq!(event.clone().raw().as_ptr(), body.as_ptr());
    let within = event.event_id().unwrap().as_ptr();
    assert!(body.as_ptr_range().contains(&within));
}

#[test]
fn reading_an_event_allocates_nothing() {
    let strange = with(INPUT, "type", json!("HANDOVER"));
    for (body, allocations) in [
        (INPUT, 0),
        (DIALOG, 0),
        // The name of a type that is not known.
        (strange.as_str(), 1),
        // The text without its escapes, and where `serde_json` undoes them.
        (r#"{"conversationId":"\u0063"}"#, 2),
    ] {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let counted = allocation_counter::measure(|| {
            assert!(CognigyEvent::from_bytes(body).is_ok());
        });
        assert_eq!(counted.count_total, allocations);
    }
    let body = Bytes::from_static(DELIVERY.as_bytes());
    let counted = allocation_counter::measure(|| {
        assert!(WebhookDelivery::from_bytes(body).is_ok());
    });
    assert_eq!(counted.count_total, 0);
}

#[test]
fn events_can_go_anywhere_and_do_not_show_what_they_carry() {
    fn anywhere<T: Clone + Send + Sync + 'static>() {}
    anywhere::<CognigyEvent>();
    anywhere::<WebhookDelivery>();
    anywhere::<EventError>();

    let shown = format!(
        "{:?} {:?} {:?}",
        CognigyEvent::from_bytes(INPUT).unwrap(),
        CognigyEvent::from_bytes(DIALOG).unwrap(),
        WebhookDelivery::from_bytes(DELIVERY).unwrap(),
    );
    for carried in ["hello", "crm-1", "user-1", "gold", "Hello!", "_cognigy"] {
        assert!(!shown.contains(carried), "{shown}");
    }
    assert!(shown.contains("evt_1"));
}

#[test]
fn a_refusal_is_a_400_that_names_the_field() {
    let error = refused(without(INPUT, "payload.input"));
    assert_eq!(
        Problem::from(error.clone()).status(),
        StatusCode::BAD_REQUEST
    );
    let response = error.problem().into_response();
    assert_eq!(
        response.body().as_bytes(),
        r#"{"type":"about:blank","title":"Bad Request","status":400,"detail":"`payload.input` is missing, expected the input that `USER_INPUT_RECEIVED` tells of","field":"payload.input"}"#
    );
}

#[test]
fn answers_have_the_documented_bytes() {
    let body = |response: http::Response<BufferedBody>| {
        assert_eq!(response.headers()["content-type"], "application/json");
        (
            response.status().as_u16(),
            response.into_body().into_bytes(),
        )
    };
    for (ack, status, expected) in [
        (Ack::accepted(), 200, r#"{"status":"accepted"}"#),
        (
            Ack::queued("3f2a"),
            200,
            r#"{"status":"accepted","taskId":"3f2a"}"#,
        ),
        (
            Ack::duplicate(),
            200,
            r#"{"status":"accepted","duplicate":true}"#,
        ),
        (Ack::processing(), 202, r#"{"status":"processing"}"#),
    ] {
        assert_eq!(body(ack.into_response()), (status, Bytes::from(expected)));
    }

    // S3, step 3.
    assert_eq!(
        body(DialogAnswer::completed().into_response().unwrap()),
        (
            200,
            Bytes::from(
                r#"{"status":"success","nextNode":"continue_dialog","variables":{"lookupStatus":"completed"}}"#
            )
        )
    );
    assert_eq!(
        DialogAnswer::fallback(3).to_json().unwrap(),
        r#"{"status":"success","nextNode":"default_fallback_branch","variables":{"lookupStatus":"failed","failureReason":"downstream_unavailable","maxRetries":3}}"#
    );
    assert_eq!(
        DialogAnswer::fallback(4).at("sorry").to_json().unwrap(),
        r#"{"status":"success","nextNode":"sorry","variables":{"lookupStatus":"failed","failureReason":"downstream_unavailable","maxRetries":4}}"#
    );
    assert_eq!(
        DialogAnswer::new("greet", json!({"name": "Zoë"}))
            .to_json()
            .unwrap(),
        r#"{"status":"success","nextNode":"greet","variables":{"name":"Zoë"}}"#
    );
}

/// JSON with the fields of all forms in it, of any type.
fn any_json() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(vec![
        "eventId",
        "type",
        "timestamp",
        "payload",
        "externalId",
        "userId",
        "conversationId",
        "currentNode",
        "variables",
        "sessionId",
        "AIOutput",
        "traceId",
        "text",
        "data",
        "source",
        "profile",
        "input",
        "customerId",
        "other",
        "",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(json!("PROFILE_UPDATED")),
        Just(json!("2024-01-15T10:00:00Z")),
    ];
    leaf.prop_recursive(4, 48, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(key.clone(), inner, 0..10).prop_map(|map| {
                map.into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect()
            }),
        ]
    })
}

/// Reads `body` as everything, and everything there is of it.
fn read_all(body: &Bytes) {
    let event = CognigyEvent::from_bytes(body.clone());
    if let Ok(event) = &event {
        assert_eq!(event.raw(), body);
        assert!(serde_json::from_str::<IgnoredAny>(event.payload()).is_ok());
        let _ = (event.payload_as::<Value>(), format!("{event:?}"));
    }
    let delivery = WebhookDelivery::from_bytes(body.clone());
    if let Ok(delivery) = &delivery {
        assert_eq!(delivery.raw(), body);
        let _ = (delivery.data_as::<Value>(), format!("{delivery:?}"));
    }
    for error in [event.err(), delivery.err()].into_iter().flatten() {
        let _ = error.problem().into_response();
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        read_all(&bytes.into());
    }

    #[test]
    fn no_json_makes_it_panic(value in any_json()) {
        read_all(&value.to_string().into());
    }

    #[test]
    fn no_damage_makes_it_panic(
        base in prop::sample::select(vec![INPUT, DIALOG, DELIVERY]),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut body = base.as_bytes().to_vec();
        let at = at.index(body.len());
        body[at] = byte;
        read_all(&body.clone().into());
        body.truncate(cut.index(base.len()));
        read_all(&body.into());
    }

    #[test]
    fn what_was_sent_is_what_is_kept(
        id in "[!-~]{1,64}",
        input in any_json(),
        pretty in any::<bool>(),
    ) {
        let body = json!({
            "eventId": id, "timestamp": 0, "type": "USER_INPUT_RECEIVED",
            "payload": {"input": input},
        });
        let text = if pretty { format!("{body:#}") } else { body.to_string() };
        let event = envelope(&text);
        prop_assert_eq!(event.event_id(), id);
        prop_assert_eq!(event.raw(), &text);
        let parsed: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(event.payload_as::<Value>().unwrap(), parsed["payload"].clone());
    }
}

#[cfg(feature = "axum")]
mod in_axum {
    use super::*;
    use axum::{Router, body::Body, response::Response, routing::post};
    use http_body::Frame;
    use http_body_util::BodyExt as _;
    use std::{
        collections::VecDeque,
        io,
        pin::Pin,
        sync::{Arc, Mutex},
        task::{Context, Poll},
    };
    use tower::ServiceExt as _;
    use tower_webhook::{
        body::BodyError,
        cognigy::{EventRejection, Unverified},
        observe::{Event, Observers, observer_fn},
    };

    async fn on_event(_: CognigyEvent) -> Ack {
        Ack::accepted()
    }

    async fn on_unverified(
        Unverified(event): Unverified<CognigyEvent>,
    ) -> Result<DialogAnswer<Value>, EventError> {
        #[derive(Deserialize)]
        struct Payload {
            input: Value,
        }
        let Payload { input } = event.payload_as()?;
        Ok(DialogAnswer::new("next", input))
    }

    async fn on_output(Unverified(output): Unverified<WebhookDelivery>) -> String {
        output.text().unwrap_or_default().to_owned()
    }

    /// A body that does not say how long it is.
    struct Streamed(VecDeque<io::Result<Bytes>>);

    impl http_body::Body for Streamed {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
            Poll::Ready(self.0.pop_front().map(|chunk| chunk.map(Frame::data)))
        }
    }

    async fn send(path: &str, body: impl Into<Body>) -> (Response<()>, Bytes) {
        let app: Router = Router::new()
            .route("/signed", post(on_event))
            .route(
                "/signed/output",
                post(async |_: WebhookDelivery| Ack::accepted()),
            )
            .route("/open", post(on_unverified))
            .route("/output", post(on_output));
        let req = Request::post(path).body(body.into()).unwrap();
        let (parts, body) = app.oneshot(req).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (Response::from_parts(parts, ()), body)
    }

    #[tokio::test]
    async fn the_observers_of_the_router_hear_what_is_refused() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&told);
        let observers = Observers::new(observer_fn(move |event| {
            let line = match event {
                Event::Refused { by, reason, .. } => format!("{by} {reason}"),
                Event::MissingLayer { part, path, what } => format!("{part} {path} {what}"),
                _ => event.name().to_owned(),
            };
            seen.lock().unwrap().push(line);
        }));
        let app: Router = Router::new()
            .route("/signed", post(on_event))
            .route("/open", post(on_unverified))
            .layer(axum::Extension(observers));
        for (path, body) in [("/open", INPUT), ("/open", "{"), ("/signed", INPUT)] {
            let req = Request::post(path).body(Body::from(body)).unwrap();
            app.clone().oneshot(req).await.unwrap();
        }
        assert_eq!(
            *told.lock().unwrap(),
            [
                "cognigy syntax",
                "cognigy /signed an event was asked for on a route whose signature no layer checks: put a \
                 `SignatureVerifyLayer` around it, or take `Unverified`",
            ]
        );
    }

    #[tokio::test]
    async fn without_a_signature_layer_no_event_is_given() {
        for (path, body) in [
            ("/signed", INPUT),
            ("/signed", "{}"),
            ("/signed/output", DELIVERY),
        ] {
            let (response, body) = send(path, body).await;
            assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
            assert_eq!(
                body,
                r#"{"type":"about:blank","title":"Internal Server Error","status":500}"#
            );
            let reason = response.extensions().get::<EventRejection>();
            assert_eq!(reason, Some(&EventRejection::Unverified));
        }
    }

    #[tokio::test]
    async fn the_check_can_be_left_out() {
        let (response, body) = send("/open", INPUT).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(
            body,
            r#"{"status":"success","nextNode":"next","variables":{"text":"hello"}}"#
        );
        let (_, body) = send("/output", DELIVERY).await;
        assert_eq!(body, "Hello!");
    }

    #[tokio::test]
    async fn a_bad_event_is_a_problem_that_names_the_field() {
        let (response, body) = send("/open", without(INPUT, "eventId")).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json"
        );
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["field"], "eventId");
        assert!(matches!(
            response.extensions().get(),
            Some(EventRejection::Event(EventError::Missing { .. }))
        ));
        // By `?` in the handler.
        let (response, body) = send("/open", DIALOG).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["field"], "variables.input");
        assert!(response.extensions().get::<EventError>().is_some());
    }

    #[tokio::test]
    async fn bodies_are_bounded_whether_or_not_they_say_their_length() {
        let large = vec![b' '; (1 << 20) + 1];
        let chunks = large.chunks(64 << 10);
        let streamed = Streamed(
            chunks
                .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
                .collect(),
        );
        let streamed = Body::new(streamed);
        for body in [Body::from(large), streamed] {
            let (response, _) = send("/open", body).await;
            assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        }

        let broken = [Ok("{\"eventId\"".into()), Err(io::Error::other("reset"))];
        let (response, _) = send("/open", Body::new(Streamed(broken.into()))).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(
            response.extensions().get(),
            Some(&EventRejection::Body(BodyError::Unreadable))
        );
    }
}

#[cfg(feature = "signature")]
mod read_by_the_layer {
    use super::*;
    use http::{Extensions, HeaderMap, Response};
    use std::{
        convert::Infallible,
        future::{Future as _, pending, ready},
        pin::pin,
        sync::{Arc, Mutex},
        task::{Context, Poll, Waker},
    };
    use tower::{Layer as _, Service as _, ServiceBuilder, ServiceExt as _, service_fn};
    use tower_webhook::{
        SignatureVerifyLayer,
        cognigy::{EventLayer, EventRejection},
        observe::{Event, observer_fn},
        signature::{
            MessageId, Outgoing, SignScheme, Verified,
            scheme::{Cognigy, CognigyFormat, StandardWebhooks},
        },
    };

    fn scheme() -> Cognigy {
        let scheme = Cognigy::new("test-secret", [CognigyFormat::Hex]).unwrap();
        scheme.sign_as(CognigyFormat::Hex)
    }

    fn signed(scheme: &impl SignScheme, body: impl Into<Bytes>) -> Request<BufferedBody> {
        let mut req = Request::new(BufferedBody::new(body));
        let now = tower_webhook::clock::WallClock::system().unix_seconds();
        let id = MessageId::new("msg_1").unwrap();
        let message = Outgoing::new(req.body().as_bytes(), now).with_id(&id);
        let mut headers = HeaderMap::new();
        scheme.sign(&message, &mut headers).unwrap();
        *req.headers_mut() = headers;
        req
    }

    /// The extensions with which a handler behind both layers is called, and the answer.
    async fn handled(
        layer: SignatureVerifyLayer,
        req: Request<BufferedBody>,
    ) -> (Option<Extensions>, Response<()>) {
        let seen = Arc::new(Mutex::new(None));
        let handler = service_fn(|req: Request<BufferedBody>| {
            *seen.lock().unwrap() = Some(req.extensions().clone());
            ready(Ok::<_, Infallible>(Response::new(BufferedBody::default())))
        });
        let service = layer.layer(recent().layer(handler));
        let answer = service.oneshot(req).await.unwrap().map(drop);
        let seen = seen.lock().unwrap().take();
        (seen, answer)
    }

    #[tokio::test]
    async fn the_event_and_its_id_are_found_in_the_request() {
        let escaped = INPUT.replace("evt_1", "evt_\\u0031");
        for body in [INPUT, &escaped] {
            let body = Bytes::from(body.to_owned());
            let layer = SignatureVerifyLayer::new(scheme());
            let (seen, _) = handled(layer, signed(&scheme(), body.clone())).await;
            let seen = seen.unwrap();
            let event = seen.get::<CognigyEvent>().unwrap();
            let verified = seen.get::<Verified>().unwrap();
            assert_eq!(
                (event.event_id(), verified.id()),
                (Some("evt_1"), Some("evt_1"))
            );
            assert_eq!(event.raw().as_ptr(), body.as_ptr());
            assert_eq!(verified.body().unwrap().as_ptr(), body.as_ptr());
        }

        let (seen, _) = handled(
            SignatureVerifyLayer::new(scheme()),
            signed(&scheme(), DIALOG),
        )
        .await;
        let seen = seen.unwrap();
        assert!(seen.get::<CognigyEvent>().unwrap().as_dialog().is_some());
        assert_eq!(seen.get::<Verified>().unwrap().id(), None);
    }

    #[tokio::test]
    async fn an_id_that_a_header_has_signed_stays() {
        let scheme = StandardWebhooks::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let req = signed(&scheme, INPUT);
        let (seen, _) = handled(SignatureVerifyLayer::new(scheme), req).await;
        assert_eq!(seen.unwrap().get::<Verified>().unwrap().id(), Some("msg_1"));
    }

    /// Seven days: whatever is accepted is refused by the time its key is forgotten.
    #[tokio::test]
    async fn an_event_that_outlives_its_key_is_refused() {
        const DAY: u64 = 24 * 60 * 60;
        let handled_at = async |now: u64, body: &'static str| {
            let handler = service_fn(|_: Request<BufferedBody>| {
                ready(Ok::<_, Infallible>(Response::new(BufferedBody::default())))
            });
            let service = SignatureVerifyLayer::new(scheme())
                .layer(EventLayer::new().clock(clock_at(now)).layer(handler));
            service.oneshot(signed(&scheme(), body)).await.unwrap()
        };
        // Forward and back: a clock that is set is asked anew each time.
        for (now, taken) in [
            (INPUT_TIME, true),
            (INPUT_TIME + 6 * DAY, true),
            (INPUT_TIME + 6 * DAY + 1, false),
            (INPUT_TIME - DAY, true),
            (INPUT_TIME - DAY - 1, false),
            (0, false),
            (INPUT_TIME + 7 * DAY, false),
            (INPUT_TIME + 400 * DAY, false),
            (INPUT_TIME, true),
        ] {
            let answer = handled_at(now, INPUT).await;
            let status = if taken { 200 } else { 400 };
            assert_eq!(answer.status(), status, "at {now}");
            if !taken {
                let reason = answer.extensions().get::<EventRejection>().unwrap();
                assert_eq!(reason.as_str(), "stale");
                let EventRejection::Event(error) = reason else {
                    panic!("{reason:?}");
                };
                assert_eq!(error.field(), Some("timestamp"));
                assert_eq!(
                    error.to_string(),
                    "`timestamp` must be at most 144 h old and at most 24 h in the future"
                );
            }
            // It has no timestamp.
            assert_eq!(handled_at(now, DIALOG).await.status(), 200);
        }
    }

    #[tokio::test]
    async fn what_is_no_event_is_refused_before_the_handler() {
        let req = signed(&scheme(), without(INPUT, "timestamp"));
        let (seen, answer) = handled(SignatureVerifyLayer::new(scheme()), req).await;
        assert!(seen.is_none());
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        assert!(matches!(
            answer.extensions().get(),
            Some(EventRejection::Event(EventError::Missing { field, .. })) if field == "timestamp"
        ));
    }

    #[tokio::test]
    async fn without_verified_bytes_it_is_the_program_that_is_wrong() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&told);
        let service = recent()
            .observe(observer_fn(move |event| {
                seen.lock().unwrap().push(match event {
                    Event::MissingLayer { part, .. } => *part,
                    other => other.name(),
                });
            }))
            .refuse_with(|_, problem| problem.detail("mine").into_response())
            .layer(service_fn(|_: Request<BufferedBody>| {
                pending::<Result<Response<BufferedBody>, Infallible>>()
            }));
        let mut req = Request::new(BufferedBody::from(INPUT));
        for _ in 0..2 {
            let answer = service.clone().oneshot(req.clone()).await.unwrap();
            assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
            assert_eq!(answer.extensions().get(), Some(&EventRejection::Unverified));
            // It does not say what it has verified.
            req.extensions_mut().insert(Verified::new("mine"));
        }
        assert_eq!(*told.lock().unwrap(), ["cognigy", "cognigy"]);

        req.extensions_mut()
            .insert(Verified::new("mine").with_body(INPUT.into()));
        let mut call = tokio_test::task::spawn(service.oneshot(req));
        tokio_test::assert_pending!(call.poll());
    }

    /// The boxes of the two extensions, and nothing else.
    #[test]
    fn the_layers_allocate_their_extensions_alone() {
        let mut service = ServiceBuilder::new()
            .layer(SignatureVerifyLayer::new(scheme()))
            .layer(recent())
            .service_fn(|req: Request<BufferedBody>| {
                ready(Ok::<_, Infallible>(Response::new(req.into_body())))
            });
        let mut req = signed(&scheme(), INPUT);
        // As every server that routes has it: the map of extensions is there.
        req.extensions_mut().insert(1_u8);
        let mut req = Some(req);
        let counted = allocation_counter::measure(|| {
            let future = pin!(service.call(req.take().unwrap()));
            let mut cx = Context::from_waker(Waker::noop());
            assert!(matches!(future.poll(&mut cx), Poll::Ready(Ok(_))));
        });
        assert_eq!(counted.count_total, 2);
    }

    #[tokio::test]
    async fn dropping_the_future_drops_the_handler() {
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let mut service = recent().layer(service_fn(move |_: Request<BufferedBody>| {
            let held = Arc::clone(&held);
            async move {
                pending::<()>().await;
                drop(held);
                Ok::<_, Infallible>(Response::new(BufferedBody::default()))
            }
        }));
        let mut req = Request::new(BufferedBody::default());
        req.extensions_mut()
            .insert(Verified::new("mine").with_body(INPUT.into()));
        let mut call = tokio_test::task::spawn(service.call(req));
        tokio_test::assert_pending!(call.poll());
        assert_eq!(Arc::strong_count(&alive), 3);
        drop(call);
        assert_eq!(Arc::strong_count(&alive), 2);
    }
}

#[cfg(all(feature = "axum", feature = "signature"))]
mod behind_the_signature_layer {
    use super::*;
    use axum::{Router, body::Body, routing::post};
    use http_body_util::BodyExt as _;
    use tower::{Layer as _, ServiceBuilder, ServiceExt as _};
    use tower_webhook::{
        BufferBodyLayer, SignLayer, SignatureVerifyLayer,
        signature::scheme::{Cognigy, CognigyFormat},
    };

    /// More than the extractor reads on its own.
    const LIMIT: usize = 3 << 20;

    fn scheme() -> Cognigy {
        let formats = [CognigyFormat::Hex, CognigyFormat::Base64];
        Cognigy::new("test-secret", formats).unwrap()
    }

    fn app() -> Router {
        Router::new()
            .route("/", post(async |event: CognigyEvent| event.raw().clone()))
            .layer(
                ServiceBuilder::new()
                    .layer(BufferBodyLayer::new(LIMIT))
                    .layer(SignatureVerifyLayer::new(scheme())),
            )
    }

    async fn answer(response: axum::response::Response) -> (StatusCode, Bytes) {
        let status = response.status();
        (
            status,
            response.into_body().collect().await.unwrap().to_bytes(),
        )
    }

    async fn send(signature: &str, body: &'static str) -> (StatusCode, Bytes) {
        let req = Request::post("/")
            .header("X-Cognigy-Signature", signature)
            .body(Body::from(body))
            .unwrap();
        answer(app().oneshot(req).await.unwrap()).await
    }

    /// A layer between may decrypt, unpack or break the body: what the extractor gives was signed.
    #[tokio::test]
    async fn an_event_is_what_was_verified_and_not_what_the_body_is_now() {
        let replace = |req: Request<BufferedBody>| req.map(|_| BufferedBody::from(INPUT));
        let verify = || {
            ServiceBuilder::new()
                .layer(BufferBodyLayer::new(LIMIT))
                .layer(SignatureVerifyLayer::new(scheme()))
                .map_request(replace)
        };
        let route = || {
            let handler = async |event: DialogEvent| event.raw().clone();
            Router::new().route("/", post(handler))
        };
        for app in [
            route().layer(verify()),
            route().layer(verify().layer(recent())),
        ] {
            let signing = SignLayer::new(scheme().sign_as(CognigyFormat::Hex));
            let req = Request::post("/").body(BufferedBody::from(DIALOG)).unwrap();
            let response = signing.layer(app).oneshot(req).await.unwrap();
            let (status, kept) = answer(response).await;
            assert_eq!((status, kept), (StatusCode::OK, Bytes::from(DIALOG)));
        }
    }

    #[cfg(feature = "moka")]
    #[tokio::test]
    async fn the_event_that_was_read_once_is_the_key_and_the_event() {
        use tower_webhook::{
            IdempotencyLayer,
            idempotency::{KeySource, MemoryStore},
        };
        let once = IdempotencyLayer::webhook(MemoryStore::default(), KeySource::verified_id());
        let app = Router::new()
            .route(
                "/",
                post(async |event: Envelope| event.event_id().to_owned()),
            )
            .layer(
                ServiceBuilder::new()
                    .layer(BufferBodyLayer::new(LIMIT))
                    .layer(SignatureVerifyLayer::new(scheme()))
                    .layer(recent())
                    .layer(once),
            );
        let send = async |body: &'static str| {
            let signing = SignLayer::new(scheme().sign_as(CognigyFormat::Hex));
            let req = Request::post("/").body(BufferedBody::from(body)).unwrap();
            signing.layer(app.clone()).oneshot(req).await.unwrap()
        };
        for replayed in [None, Some("true")] {
            let response = send(INPUT).await;
            let marker = response.headers().get("idempotent-replayed");
            assert_eq!(marker.map(|value| value.to_str().unwrap()), replayed);
            assert_eq!(answer(response).await.1, "evt_1");
        }
        // No envelope, and no key.
        assert_eq!(send(DIALOG).await.status(), StatusCode::BAD_REQUEST);
    }

    /// The published vectors: their body is no whole event, which is found after the signature.
    #[tokio::test]
    async fn the_signature_is_asked_before_the_event() {
        const BODY: &str = r#"{"eventId":"evt_1","type":"DIALOG_STARTED"}"#;
        const HEX: &str = "3ed850e10f98e2977a8a8bc704966138973b5affe957229ecabc660d46523362";
        const BASE64: &str = "PthQ4Q+Y4pd6iovHBJZhOJc7Wv/pVyKeyrxmDUZSM2I=";

        for signature in [HEX, BASE64] {
            let (status, body) = send(signature, BODY).await;
            assert_eq!(status, StatusCode::BAD_REQUEST);
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["field"], "timestamp");
        }
        let (status, _) = send(&HEX.replace('3', "4"), BODY).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
    }

    #[tokio::test]
    async fn an_event_that_was_buffered_is_as_long_as_that_layer_allows() {
        let body = DIALOG.replace("gold", &"g".repeat(2 << 20));
        let signing = SignLayer::new(scheme().sign_as(CognigyFormat::Hex));
        let req = Request::post("/").body(BufferedBody::from(body.clone()));
        let response = signing.layer(app()).oneshot(req.unwrap()).await.unwrap();
        let (status, kept) = answer(response).await;
        assert_eq!(status, StatusCode::OK);
        assert!(kept == body);
    }
}

#[cfg(feature = "failover")]
#[test]
fn a_policy_has_at_most_five_fallback_urls() {
    use tower_webhook::cognigy::presets::fallback_urls;

    let many = |count| (0..count).map(|n| format!("https://{n}.test/"));
    assert!(fallback_urls(many(0)).unwrap().build().is_ok());
    assert!(fallback_urls(many(5)).unwrap().build().is_ok());
    assert_eq!(fallback_urls(many(6)).unwrap_err().setting(), "fallbacks");
    let nonsense = fallback_urls(["nonsense "]).unwrap().build();
    assert_eq!(nonsense.unwrap_err().setting(), "fallbacks");
}
