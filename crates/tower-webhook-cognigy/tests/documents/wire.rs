//! The exact forms on the wire, and the limits of each field.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::time::{Duration, UNIX_EPOCH};
use tower_webhook::{InvalidConfig, target::TargetRules};
use tower_webhook_cognigy::documents::{
    BackoffStrategy, EventWebhook, IntervalRetries, PayloadFormat, RegistrationRecord,
    RetryExhausted, RetryPolicy, RetrySuccess, TimeoutPipeline, TriggerCondition, TriggerType,
    WebhookDefinition, WebhookEndpoint,
};

fn setting<T: std::fmt::Debug>(result: Result<T, InvalidConfig>) -> &'static str {
    result.expect_err("outside its limits").setting()
}

#[test]
fn s0_the_retry_policy_has_the_documents_form_and_hash() {
    let policy = RetryPolicy::builder().build().expect("the defaults");
    let payload = json!({"retryPolicy": policy});
    // The document hashes Python's form of it: sorted keys, `": "` and `", "`.
    let python = payload.to_string().replace(':', ": ").replace(',', ", ");
    let hash = Sha256::digest(python.as_bytes());
    assert_eq!(
        data_encoding::HEXLOWER.encode(&hash),
        "0b974868207849171f2bb0dcb7fcf335c6d3dee8b1452f18cbd11c3fdbfae78a"
    );
    // That of the complete example.
    let example = RetryPolicy::builder()
        .max_delay_ms(15_000)
        .max_retry_window_seconds(300)
        .build();
    assert_eq!(
        serde_json::to_string(&example.expect("the example")).expect("JSON"),
        r#"{"enabled":true,"maxAttempts":3,"backoffStrategy":"exponential","baseDelayMs":1000,"maxDelayMs":15000,"maxRetryWindowSeconds":300}"#
    );
}

#[test]
fn s0_a_retry_policy_outside_its_limits_cannot_be_built_or_read() {
    let policy = RetryPolicy::builder;
    assert_eq!(setting(policy().max_attempts(0).build()), "max_attempts");
    assert_eq!(setting(policy().max_attempts(11).build()), "max_attempts");
    assert_eq!(
        setting(policy().max_retry_window_seconds(0).build()),
        "window"
    );
    assert_eq!(
        setting(policy().max_retry_window_seconds(86_401).build()),
        "window"
    );
    assert_eq!(setting(policy().base_delay_ms(0).build()), "base_delay");
    assert_eq!(setting(policy().base_delay_ms(31_000).build()), "max_delay");

    let read = serde_json::from_str::<RetryPolicy>;
    let linear = read(r#"{"maxAttempts":10,"backoffStrategy":"linear"}"#).expect("a policy");
    let built = policy().max_attempts(10).backoff(BackoffStrategy::Linear);
    assert_eq!(linear, built.build().expect("a policy"));
    assert!(
        read(r#"{"maxAttempts":11}"#)
            .unwrap_err()
            .to_string()
            .contains("max_attempts")
    );
    assert!(
        read(r#"{"max_attempts":3}"#)
            .unwrap_err()
            .to_string()
            .contains("unknown field")
    );
    assert!(
        read(r#"{"enabled":false}"#)
            .unwrap_err()
            .to_string()
            .contains("enabled")
    );
    assert!(read(r#"{"backoffStrategy":"cubic"}"#).is_err());
}

#[test]
fn s0_the_policy_is_the_schedule_of_the_retry_layer() {
    let policy = RetryPolicy::builder()
        .max_attempts(7)
        .build()
        .expect("a policy");
    let schedule = policy.schedule().expect("its limits are the layer's");
    assert_eq!(schedule.attempts(), 7);
    assert_eq!(schedule.window(), Duration::from_secs(3600));
    let second = schedule.backoff().delay(2, Duration::ZERO, 0);
    assert_eq!(second, Duration::from_secs(2));
}

#[test]
fn s1_a_definition_has_the_documents_form() {
    let definition =
        WebhookDefinition::builder("Order Routing", "https://api.example.com/hooks?v=2")
            .trigger(TriggerCondition::new(TriggerType::Intent, 0.85).expect("a score"))
            .trigger(
                TriggerCondition::new(TriggerType::FlowEnd, 0.0)
                    .expect("a score")
                    .negate(),
            )
            .payload_template(r#"{"user_id": {{ user_id }}}"#)
            .timeout_seconds(30)
            .max_payload_size_kb(512)
            .build()
            .expect("a definition");
    let golden = r#"{"name":"Order Routing","target_url":"https://api.example.com/hooks?v=2","trigger_conditions":[{"event_type":"intent","threshold":0.85,"negate":false},{"event_type":"flow_end","threshold":0.0,"negate":true}],"payload_template":"{\"user_id\": {{ user_id }}}","timeout_seconds":30,"max_payload_size_kb":512}"#;
    assert_eq!(serde_json::to_string(&definition).expect("JSON"), golden);
    let read: WebhookDefinition = serde_json::from_str(golden).expect("its own form");
    assert_eq!(serde_json::to_string(&read).expect("JSON"), golden);
}

#[test]
fn s1_a_definition_outside_its_limits_cannot_be_built_or_read() {
    let of = |name: &str| WebhookDefinition::builder(name, "https://example.com/");
    assert_eq!(setting(of("ab").build()), "name");
    assert_eq!(setting(of(&"x".repeat(129)).build()), "name");
    assert!(
        of(&"ü".repeat(128)).build().is_ok(),
        "characters, not bytes"
    );
    assert_eq!(
        setting(of("abc").timeout_seconds(0).build()),
        "timeout_seconds"
    );
    assert_eq!(
        setting(of("abc").timeout_seconds(31).build()),
        "timeout_seconds"
    );
    assert_eq!(
        setting(of("abc").max_payload_size_kb(0).build()),
        "max_payload_size_kb"
    );
    assert_eq!(
        setting(of("abc").payload_template("{\n{{ user").build()),
        "payload_template"
    );
    assert_eq!(
        setting(TriggerCondition::new(TriggerType::Entity, 1.1)),
        "threshold"
    );
    assert_eq!(
        setting(TriggerCondition::new(TriggerType::Entity, f64::NAN)),
        "threshold"
    );

    let mut json = json!({
        "name": "abc",
        "target_url": "https://example.com/",
        "trigger_conditions": [],
        "payload_template": "{}",
    });
    let read = |json: &Value| serde_json::from_value::<WebhookDefinition>(json.clone());
    let defaults = read(&json).expect("the defaults");
    assert_eq!(defaults.timeout(), Duration::from_secs(15));
    assert_eq!(defaults.max_payload_size_kb(), 256);
    // Minus five seconds ran in the document's program.
    json["timeout_seconds"] = json!(-5);
    assert!(read(&json).is_err());
    json["timeout_seconds"] = json!(15);
    for unknown in ["dialog", "DIALOG_STARTED"] {
        json["trigger_conditions"] = json!([{"event_type": unknown, "threshold": 0.5}]);
        let error = read(&json).unwrap_err().to_string();
        assert!(error.contains("`intent`"), "{error}");
    }
    json["trigger_conditions"] = json!([{"event_type": "intent"}]);
    assert!(read(&json).unwrap_err().to_string().contains("threshold"));
}

#[test]
fn targets_that_are_not_https_or_not_public_are_refused_unless_allowed() {
    for url in [
        "http://example.com/",
        "https://127.0.0.1/",
        "https://[::ffff:10.0.0.1]/",
        "https://169.254.169.254/latest",
        "https://user:pass@example.com/",
        "ftp://example.com/",
        "example.com",
        "/hooks",
    ] {
        assert_eq!(
            setting(WebhookEndpoint::builder("abc", url).build()),
            "url",
            "{url}"
        );
        let definition = WebhookDefinition::builder("abc", url).build();
        assert_eq!(setting(definition), "target_url", "{url}");
        assert_eq!(
            setting(EventWebhook::new("abc", url, "secret")),
            "url",
            "{url}"
        );
    }
    let local = TargetRules::new().allow_http(true).allow_private(true);
    let endpoint = WebhookEndpoint::builder("abc", "http://127.0.0.1:9/").rules(local);
    assert!(endpoint.build().is_ok());
}

#[test]
fn s2_an_endpoint_has_the_documents_form_without_its_fallback_urls() {
    // The first endpoint of the document's program.
    let endpoint = WebhookEndpoint::builder(
        "order-processing-webhook",
        "https://api.example.com/cognigy/orders",
    )
    .fallback_urls(["https://backup.example.com/cognigy/orders"])
    .header("Authorization", "Bearer prod-token-123")
    .header("X-Environment", "production")
    .method(http::Method::PUT)
    .payload_format(PayloadFormat::Xml)
    .retry_policy(IntervalRetries::new(3, Duration::from_secs(5)).expect("a policy"))
    .timeout(Duration::from_secs(15))
    .signature("X-Cognigy-Signature", "your-hmac-secret-key-32chars-long")
    .build()
    .expect("an endpoint");
    let golden = r#"{"name":"order-processing-webhook","url":"https://api.example.com/cognigy/orders","method":"PUT","headers":{"Authorization":"Bearer prod-token-123","X-Environment":"production"},"payloadFormat":"XML","isActive":true,"retryPolicy":{"maxRetries":3,"retryIntervalMs":5000},"timeout":15000,"signatureHeader":"X-Cognigy-Signature","signatureSecret":"your-hmac-secret-key-32chars-long"}"#;
    assert_eq!(serde_json::to_string(&endpoint).expect("JSON"), golden);
    assert_eq!(endpoint.fallback_urls().count(), 1);
    let shown = format!("{endpoint:?}");
    assert!(
        !shown.contains("prod-token") && !shown.contains("your-hmac"),
        "{shown}"
    );
}

#[test]
fn s2_an_endpoint_of_which_nothing_is_said_has_the_documents_defaults() {
    let golden = r#"{"name":"abc","url":"https://example.com/hooks","method":"POST","headers":{},"payloadFormat":"JSON","isActive":true,"retryPolicy":{"maxRetries":3,"retryIntervalMs":5000},"timeout":10000}"#;
    let json = |endpoint: &WebhookEndpoint| serde_json::to_string(endpoint).expect("JSON");
    let built = WebhookEndpoint::builder("abc", "https://example.com/hooks").build();
    let built = built.expect("an endpoint");
    assert_eq!(json(&built), golden);
    assert_eq!(built.fallback_urls().count(), 0);
    let read = serde_json::from_str::<WebhookEndpoint>;
    let least = read(r#"{"name":"abc","url":"https://example.com/hooks"}"#);
    assert_eq!(json(&least.expect("an endpoint")), golden);
    // What it is sent as can be read again; neither secret nor header is there without the other.
    let off = golden.replace("true", "false");
    assert_eq!(json(&read(&off).expect("an endpoint")), off);
}

#[test]
fn s2_an_endpoint_outside_its_limits_cannot_be_built_or_read() {
    let of = || WebhookEndpoint::builder("abc", "https://example.com/");
    let named = |name: &str| WebhookEndpoint::builder(name, "https://example.com/").build();
    assert_eq!(setting(named("ab")), "name");
    assert_eq!(setting(named(&"x".repeat(101))), "name");
    let six = ["https://example.com/"; 6];
    assert_eq!(setting(of().fallback_urls(six).build()), "fallback_urls");
    let private = ["https://10.0.0.1/"];
    assert_eq!(
        setting(of().fallback_urls(private).build()),
        "fallback_urls"
    );
    assert_eq!(setting(of().method(http::Method::PATCH).build()), "method");
    let ms = Duration::from_millis;
    assert_eq!(setting(of().timeout(ms(999)).build()), "timeout");
    assert_eq!(setting(of().timeout(ms(30_001)).build()), "timeout");
    assert_eq!(setting(IntervalRetries::new(11, ms(5000))), "max_retries");
    assert_eq!(setting(IntervalRetries::new(3, ms(999))), "interval");
    assert_eq!(setting(IntervalRetries::new(3, ms(30_001))), "interval");
    assert_eq!(
        setting(of().signature("X-Signature", "").build()),
        "signature"
    );
    assert_eq!(
        setting(of().signature("no header", "secret").build()),
        "signature"
    );
    assert_eq!(
        setting(of().header("X-A", "a\r\nX-B: b").build()),
        "headers"
    );

    let read = serde_json::from_str::<WebhookEndpoint>;
    let both = r#"{"name":"abc","url":"https://example.com/","signatureHeader":"X-A"}"#;
    assert!(read(both).unwrap_err().to_string().contains("both"));
    let casing = r#"{"name":"abc","url":"https://example.com/","payload_format":"JSON"}"#;
    assert!(
        read(casing)
            .unwrap_err()
            .to_string()
            .contains("unknown field")
    );
    let lower = r#"{"name":"abc","url":"https://example.com/","payloadFormat":"json"}"#;
    assert!(read(lower).is_err());
    let full = r#"{"name":"abc","url":"https://example.com/","timeoutMs":2000,"retryPolicy":{"maxRetries":0}}"#;
    let full = read(full).expect("an endpoint");
    assert_eq!(full.timeout(), ms(2000));
    assert_eq!(full.retry_policy().max_retries(), 0);
}

#[test]
fn s2_the_timeout_pipeline_gives_no_part_more_time_than_the_whole() {
    let json = |seconds| {
        serde_json::to_value(TimeoutPipeline::new(Duration::from_secs(seconds)).expect("a limit"))
    };
    let limits = |whole: u64, connect: u64| json!({"timeout": whole, "connectionTimeout": connect, "readTimeout": whole, "maxIdleTime": 30_000});
    assert_eq!(json(30).expect("JSON"), limits(30_000, 15_000));
    assert_eq!(json(8).expect("JSON"), limits(8_000, 5_000));
    assert_eq!(json(1).expect("JSON"), limits(1_000, 1_000));
}

#[test]
fn s4_an_event_webhook_has_the_documents_form() {
    let secret = "a secret";
    let webhook = EventWebhook::new(
        "Python Event Processor",
        "https://example.com/hooks",
        secret,
    );
    let webhook = webhook.expect("a webhook");
    let golden = r#"{"name":"Python Event Processor","url":"https://example.com/hooks","secret":"a secret","events":["DIALOG_STARTED","USER_INPUT_RECEIVED","PROFILE_UPDATED","DIALOG_ENDED"],"active":true}"#;
    assert_eq!(serde_json::to_string(&webhook).expect("JSON"), golden);
    assert!(!format!("{webhook:?}").contains("a secret"));
    assert_eq!(
        setting(EventWebhook::new("a", "https://example.com/", "")),
        "secret"
    );
    assert_eq!(
        setting(EventWebhook::new("", "https://example.com/", "s")),
        "name"
    );
    assert_eq!(setting(webhook.events([""; 1])), "events");
}

#[test]
fn s0_and_s2_the_audit_records_have_the_documents_forms() {
    let at = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let success = RetrySuccess::new("wh_1", 2, Duration::from_micros(1_234_567), at);
    assert_eq!(
        serde_json::to_string(&success).expect("JSON"),
        r#"{"action":"retry_success","webhook_id":"wh_1","attempt":2,"latency_ms":1234.57,"timestamp":"2023-11-14T22:13:20Z"}"#
    );
    let exhausted = RetryExhausted::new("wh_1", 3, "503", at, 0.5, Duration::from_millis(20));
    assert_eq!(
        serde_json::to_string(&exhausted).expect("JSON"),
        r#"{"event":"webhook_retry_exhausted","webhook_id":"wh_1","timestamp":"2023-11-14T22:13:20Z","error_details":{"webhook_id":"wh_1","max_attempts_reached":3,"final_error":"503"},"success_rate":50.0,"avg_latency_ms":20.0}"#
    );
    let url = "https://example.com/hooks".parse().expect("a URL");
    let registered = RegistrationRecord::new("wh_1", &url, at, Duration::from_millis(12), 1.0)
        .probed("TLSv1.3", 200);
    assert_eq!(
        serde_json::to_string(&registered).expect("JSON"),
        r#"{"webhook_id":"wh_1","action":"REGISTER","timestamp":"2023-11-14T22:13:20Z","latency_ms":12.0,"success_rate":100.0,"tls_version":"TLSv1.3","status_code":200,"endpoint_url":"https://example.com/hooks"}"#
    );
}
