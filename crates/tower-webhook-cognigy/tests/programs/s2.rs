//! The registrar: its registration beside ours, and what its program really does.

use crate::{
    api, bodies,
    fake_documents::{Fake, KEY},
    internet::Internet,
    programs::Programs,
    recorder::Recorder,
};
use serde_json::{Value, json};
use std::time::Duration;
use tower_webhook_cognigy::documents::{IntervalRetries, TimeoutPipeline, WebhookEndpoint};

/// The two endpoints of its program.
const ENDPOINTS: &str = r#"
endpoints = [
    WebhookEndpoint(
        name="order-processing-webhook",
        url="https://api.example.com/cognigy/orders",
        fallbackUrls=["https://backup.example.com/cognigy/orders"],
        headers={"Authorization": "Bearer prod-token-123", "X-Environment": "production"},
        retryPolicy=RetryPolicy(maxRetries=3, retryIntervalMs=5000),
        timeoutMs=15000,
        signatureHeader="X-Cognigy-Signature",
        signatureSecret="your-hmac-secret-key-32chars-long",
    ),
    WebhookEndpoint(
        name="analytics-sync-webhook",
        url="https://metrics.example.com/cognigy/events",
        headers={"X-Tenant-Id": "tenant-99"},
        method="PUT",
        payloadFormat="XML",
    ),
]
"#;

fn script(rest: &str) -> String {
    format!("client = create_cognigy_client(\"{KEY}\")\n{ENDPOINTS}{rest}")
}

#[tokio::test(flavor = "multi_thread")]
async fn s2_its_client_registers_in_the_form_that_ours_sends() {
    let Some(programs) = Programs::here() else {
        return;
    };
    let fake = Fake::default();
    let internet = Internet::of([("api.cognigy.ai", fake.app())]).await;
    let s2 = programs
        .program("s2")
        .behind(&internet.proxy, &internet.root);
    let said = s2.script(&script(
        "answer([await process_registration_jobs(client, [endpoint]) for endpoint in endpoints])",
    ));
    let theirs = std::mem::take(&mut fake.seen().requests);

    let (_server, api) = api(&fake, None).await;
    let orders = WebhookEndpoint::builder(
        "order-processing-webhook",
        "https://api.example.com/cognigy/orders",
    )
    .fallback_urls(["https://backup.example.com/cognigy/orders"])
    .header("Authorization", "Bearer prod-token-123")
    .header("X-Environment", "production")
    .retry_policy(IntervalRetries::new(3, Duration::from_secs(5)).unwrap())
    .timeout(Duration::from_secs(15))
    .signature("X-Cognigy-Signature", "your-hmac-secret-key-32chars-long");
    let analytics = WebhookEndpoint::builder(
        "analytics-sync-webhook",
        "https://metrics.example.com/cognigy/events",
    )
    .header("X-Tenant-Id", "tenant-99")
    .method(http::Method::PUT)
    .payload_format(tower_webhook_cognigy::documents::PayloadFormat::Xml);
    for (endpoint, said) in [orders, analytics]
        .into_iter()
        .zip(said.as_array().unwrap())
    {
        let endpoint = endpoint.build().unwrap();
        assert_eq!(said[0]["endpoint"], endpoint.name());
        assert_eq!(said[0]["success"], true);
        assert_eq!(said[0]["data"]["status"], "active");
        api.register(endpoint).await.unwrap();
    }
    let ours = std::mem::take(&mut fake.seen().requests);
    assert_eq!(bodies(&theirs), bodies(&ours));
    for (theirs, ours) in theirs.iter().zip(&ours) {
        for name in ["x-api-key", "content-type", "accept"] {
            assert_eq!(theirs.1.get(name), ours.1.get(name), "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s2_its_client_waits_after_429_and_takes_201_for_a_failure() {
    let Some(programs) = Programs::here() else {
        return;
    };
    let limit = || (429, json!({}));
    let api = Recorder::answering([
        limit(),
        limit(),
        (200, json!({"id": "wh_1"})),
        (201, json!({"id": "wh_2"})),
    ]);
    let internet = Internet::of([("api.cognigy.ai", api.app())]).await;
    let s2 = programs
        .program("s2")
        .behind(&internet.proxy, &internet.root);
    let said = s2.script(&script(
        "answer([await register_webhook_with_retry(client, endpoint) for endpoint in endpoints] + [slept])",
    ));
    assert_eq!(said[0], json!([true, {"id": "wh_1"}]));
    assert_eq!(
        said[1],
        json!([false, {"status_code": 201, "detail": "{\"id\":\"wh_2\"}"}])
    );
    let slept: Vec<f64> = serde_json::from_value(said[2].clone()).unwrap();
    assert!(
        matches!(slept[..], [first, second] if (1.0..=1.5).contains(&first) && (2.0..=2.5).contains(&second)),
        "{slept:?}"
    );

    let api = Recorder::answering([limit(), limit(), limit(), limit(), limit(), limit()]);
    let internet = Internet::of([("api.cognigy.ai", api.app())]).await;
    let s2 = programs
        .program("s2")
        .behind(&internet.proxy, &internet.root);
    let said = s2.script(&script(
        "answer(await register_webhook_with_retry(client, endpoints[0]))",
    ));
    assert_eq!(said, json!([false, {"error": "Max retries exceeded"}]));
    assert_eq!(api.seen().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn s2_its_program_skips_every_endpoint_and_gives_them_its_key() {
    let Some(programs) = Programs::here() else {
        return;
    };
    let (api, targets) = (Recorder::default(), Recorder::default());
    let internet = Internet::of([
        ("api.cognigy.ai", api.app()),
        ("api.example.com", targets.app()),
        ("metrics.example.com", targets.app()),
    ])
    .await;
    let s2 = programs
        .program("s2")
        .behind(&internet.proxy, &internet.root);
    let log = s2.main();
    assert!(log.contains("No endpoints passed validation"), "{log}");
    assert!(
        log.contains("uses unsupported TLS version: unknown"),
        "{log}"
    );
    assert!(api.seen().is_empty());
    for probe in targets.seen() {
        assert_eq!(probe.header("x-api-key"), "YOUR_COGNIGY_API_KEY");
    }
    assert_eq!(targets.seen().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn s2_its_audit_goes_to_monitoring_in_our_form_and_takes_its_key_along() {
    let Some(programs) = Programs::here() else {
        return;
    };
    let monitoring = Recorder::default();
    let internet = Internet::of([("monitoring.example.com", monitoring.app())]).await;
    let s2 = programs
        .program("s2")
        .behind(&internet.proxy, &internet.root);
    let said = s2.script(&script(
        r#"
record = WebhookAuditLog("wh_1", "REGISTER", "2023-11-14T22:13:20Z", 12.0, 100.0, "TLSv1.3", 200, "https://example.com/hooks")
url, headers = "https://monitoring.example.com/api/audits", {"Authorization": "Bearer monitor-token-456"}
answer([
    await sync_to_monitoring_platform(client, record, url, headers),
    configure_timeout_pipeline(30000),
    inject_loop_prevention_headers({"X-A": "b"}),
])
"#,
    ));
    assert_eq!(said[0], true);
    let seen = &monitoring.seen()[0];
    assert_eq!(seen.header("authorization"), "Bearer monitor-token-456");
    assert_eq!(seen.header("x-api-key"), KEY);
    let at = std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let url = "https://example.com/hooks".parse().unwrap();
    let ours = tower_webhook_cognigy::documents::RegistrationRecord::new(
        "wh_1",
        &url,
        at,
        Duration::from_millis(12),
        1.0,
    );
    let ours = serde_json::to_string(&ours.probed("TLSv1.3", 200)).unwrap();
    assert_eq!(seen.body, ours);

    let pipeline = TimeoutPipeline::new(Duration::from_secs(30)).unwrap();
    assert_eq!(said[1], serde_json::to_value(pipeline).unwrap());
    let headers = said[2].as_object().unwrap();
    let names: Vec<&str> = headers.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "Prevent-Loop",
            "X-A",
            "X-Cognigy-Webhook-Source",
            "X-Correlation-Id",
            "X-Request-Id"
        ]
    );
    assert_eq!(
        headers["X-Cognigy-Webhook-Source"],
        Value::from("bot-integration")
    );
    assert_eq!(headers["Prevent-Loop"], Value::from("true"));
}

#[tokio::test(flavor = "multi_thread")]
async fn s2_its_verifier_takes_our_signature_for_five_minutes_and_a_new_time_for_ever() {
    let Some(programs) = Programs::here() else {
        return;
    };
    let said = programs.program("s2").script(
        r#"
made = "PthQ4Q+Y4pd6iovHBJZhOJc7Wv/pVyKeyrxmDUZSM2I="
body = b'{"eventId":"evt_1","type":"DIALOG_STARTED"}'
def takes(header, secret="test-secret", body=body):
    return verify_webhook_signature(body, header, secret)
now = int(time.time())
answer([
    [takes(f"{now},{made}"), takes(f" {now - 290} , {made} "), takes(f"{now + 290},{made}")],
    [
        takes(f"{now - 310},{made}"), takes(f"{now + 310},{made}"), takes(made), takes("now," + made), takes(""),
        takes(f"{now},{made}", secret=""), takes(f"{now},{made}", secret="another"), takes(f"{now},{made}", body=b"{}"),
        takes(f"{now},zoë"),
    ],
])
"#,
    );
    assert_eq!(said, json!([vec![true; 3], vec![false; 9]]));
}
