//! The router: its application, its delivery, and its registration beside ours.

use crate::{
    api, bodies, client,
    fake_documents::{CLIENT, Fake},
    get,
    internet::Internet,
    programs::Programs,
    recorder::Recorder,
    told,
};
use http::Request;
use serde_json::{Value, json};
use tower::ServiceExt;
use tower_webhook::body::BufferedBody;
use tower_webhook_cognigy::{
    credential::ClientCredentials,
    documents::{TriggerCondition, TriggerType, WebhookDefinition},
};

#[tokio::test(flavor = "multi_thread")]
async fn s1_its_application_tells_its_health_and_takes_triggers() {
    let Some(programs) = Programs::here() else {
        return;
    };
    let server = programs.program("s1").serve();
    let (status, health) = get(&server.url("/api/v2/health")).await;
    assert_eq!(
        (status.as_u16(), &health["status"]),
        (200, &json!("healthy"))
    );
    assert_eq!(
        health["metrics"],
        json!({"total_requests": 0, "success_rate": 0.0, "avg_latency_ms": 0.0})
    );
    assert!(health["timestamp"].as_f64().unwrap() > 1.7e9);

    let trigger = async |body: &str| {
        let req = Request::post(server.url("/api/v2/webhooks/trigger"))
            .header("content-type", "application/json")
            .body(BufferedBody::from(body.to_owned()));
        told(client().oneshot(req.unwrap()).await.unwrap()).await
    };
    // Nobody has to say who he is, and nothing is queued.
    let (status, queued) = trigger(r#"{"id":"event-7","type":"intent"}"#).await;
    assert_eq!(
        (status.as_u16(), queued),
        (200, json!({"status": "queued"}))
    );
    assert_eq!(trigger("[]").await.0, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_its_engine_names_its_source_waits_2_4_and_8_seconds_and_keeps_what_failed() {
    let Some(programs) = Programs::here() else {
        return;
    };
    let script = |url: &str| {
        format!(
            r#"
engine = WebhookDeliveryEngine()
await engine.start()
await engine.enqueue("{url}", {{"text": "Grüße"}}, {{"conversation": "c-1"}})
await engine.retry_queue.join()
engine._running = False
dead = [engine.dead_letter_queue.get_nowait() for _ in range(engine.dead_letter_queue.qsize())]
answer([slept, dead])
"#
        )
    };
    let target = Recorder::default();
    let url = target.listen().await;
    let steps = programs.program("s1-steps");
    assert_eq!(steps.script(&script(&url)), json!([[], []]));
    let seen = target.seen();
    assert_eq!(seen[0].header("x-webhook-source"), "cognigy-router");
    assert_eq!(seen[0].header("content-type"), "application/json");
    assert_eq!(seen[0].json(), json!({"text": "Grüße"}));

    // The complete example has lost the header.
    programs.program("s1").script(&script(&url));
    assert!(!target.seen()[1].headers.contains_key("x-webhook-source"));

    // A client's fault is tried again like a server's.
    let failed = || (404, json!({}));
    let target = Recorder::answering([failed(), failed(), failed(), failed()]);
    let said = steps.script(&script(&target.listen().await));
    assert_eq!(said[0], json!([2.0, 4.0, 8.0]));
    assert_eq!(target.seen().len(), 4);
    assert_eq!(said[1][0]["attempts"], 4);
    assert_eq!(said[1][0]["metadata"], json!({"conversation": "c-1"}));
}

const DEFINITION: &str = r#"
auth = CognigyAuthManager("a client", "its+secret", "https://api.cognigy.ai")
definition = WebhookDefinition(
    name="Order Routing",
    target_url="https://api.example.com/hooks?v=2",
    trigger_conditions=[
        TriggerCondition(event_type="intent", threshold=0.85),
        TriggerCondition(event_type="flow_end", threshold=0.0, negate=True),
    ],
    payload_template='{"user_id": {{ user_id }}}',
    timeout_seconds=30,
    max_payload_size_kb=512,
)
"#;

#[tokio::test(flavor = "multi_thread")]
async fn s1_its_registration_cannot_be_sent_and_mended_it_is_what_ours_sends() {
    let Some(programs) = Programs::here() else {
        return;
    };
    let fake = Fake::default();
    let internet = Internet::of([("api.cognigy.ai", fake.app())]).await;
    let steps = programs
        .program("s1-steps")
        .behind(&internet.proxy, &internet.root);
    let register = format!(
        r"{DEFINITION}
try:
    answer(await register_webhook(auth, definition))
except TypeError as error:
    answer(str(error))
"
    );
    let said = steps.script(&register);
    assert!(
        said.as_str().unwrap().contains("not JSON serializable"),
        "{said}"
    );
    assert!(fake.seen().registered.is_empty());

    fake.seen().requests.clear();
    let said = steps.mended("json").script(&register);
    assert_eq!(said["status"], "active");
    let theirs = std::mem::take(&mut fake.seen().requests);

    let grant = ClientCredentials::basic_json(CLIENT.0, CLIENT.1);
    let (_server, api) = api(&fake, Some(grant)).await;
    let score = |kind, score| TriggerCondition::new(kind, score).unwrap();
    let definition =
        WebhookDefinition::builder("Order Routing", "https://api.example.com/hooks?v=2")
            .trigger(score(TriggerType::Intent, 0.85))
            .trigger(score(TriggerType::FlowEnd, 0.0).negate())
            .payload_template(r#"{"user_id": {{ user_id }}}"#)
            .timeout_seconds(30)
            .max_payload_size_kb(512);
    api.register(definition.build().unwrap()).await.unwrap();
    let ours = std::mem::take(&mut fake.seen().requests);
    assert_eq!(bodies(&theirs), bodies(&ours));
    for (theirs, ours) in theirs.iter().zip(&ours) {
        assert_eq!(theirs.1["authorization"], ours.1["authorization"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_its_validation_takes_limits_that_cannot_be_read_for_permission_and_ours_does_not() {
    let Some(programs) = Programs::here() else {
        return;
    };
    let (fake, target) = (Fake::default(), Recorder::default());
    let internet = Internet::of([
        ("api.cognigy.ai", fake.app()),
        ("api.example.com", target.app()),
    ])
    .await;
    let steps = programs
        .program("s1-steps")
        .behind(&internet.proxy, &internet.root);
    let validate = || {
        steps.script(&format!(
            "{DEFINITION}answer(await validate_webhook_config(definition, auth))"
        ))
    };
    let result =
        |permitted: Value| json!({"endpoint_reachable": true, "within_flow_limits": permitted});
    let (_server, api) = api(&fake, None).await;
    let definition =
        WebhookDefinition::builder("Order Routing", "https://api.example.com/hooks?v=2")
            .timeout_seconds(30)
            .max_payload_size_kb(512);
    let definition = definition.build().unwrap();
    let ours = async || serde_json::to_value(api.validate(&definition, true).await).unwrap();

    let limits = |kb: u32| json!({"max_webhook_timeout_seconds": 30, "max_webhook_payload_kb": kb});
    for (kb, permitted) in [(512, true), (256, false)] {
        fake.seen().limits = Some(limits(kb));
        assert_eq!(validate(), result(permitted.into()));
        assert_eq!(ours().await, result(permitted.into()));
    }
    let probe = &target.seen()[0];
    assert_eq!(probe.line, "GET /hooks?v=2");
    assert_eq!(probe.header("user-agent"), "Cognigy-Webhook-Validator/1.0");

    fake.seen().limits = None;
    assert_eq!(validate(), result(true.into()));
    assert_eq!(ours().await, result(Value::Null));
}
