//! The resilient handler: a `FastAPI` application, a Celery worker, and a downstream that both lead to.

use crate::{
    SECRET, deliver, get,
    internet::Internet,
    process::{Server, Stream},
    programs::{Program, Programs},
    recorder::Recorder,
    send,
};
use http::StatusCode;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tower_webhook::signature::scheme::CognigyFormat::{Base64, Hex};

const EVENT: &str = r#"{"conversationId":"conv-1","currentNode":"lookup","variables":{"customerId":"c-1","tier":"gold"}}"#;
const EVENTS: &str = "/webhooks/cognigy";

fn program<'a>(programs: &'a Programs, redis: &Server) -> Program<'a> {
    let s3 = programs.program("s3").env("COGNIGY_WEBHOOK_SECRET", SECRET);
    s3.env("CELERY_BROKER_URL", format!("redis://{}/0", redis.address))
        .env("CELERY_BACKEND_URL", format!("redis://{}/1", redis.address))
        .env("DOWNSTREAM_BEARER_TOKEN", "a downstream token")
}

/// Delivers the event, and asks for the status of its task until it is no longer pending.
async fn run(handler: &Server) -> (StatusCode, Value) {
    let (status, accepted) = deliver(&handler.url(EVENTS), Hex, SECRET, EVENT).await;
    assert_eq!(status, 200, "{accepted}");
    assert_eq!(accepted["status"], "accepted");
    let task = accepted["taskId"].as_str().expect("a task");
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let (status, answer) = get(&handler.url(&format!("{EVENTS}/status/{task}"))).await;
        if status != 202 {
            return (status, answer);
        }
        assert_eq!(answer, json!({"detail": "Processing"}));
        assert!(Instant::now() < until, "the task does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_the_handler_takes_our_hex_signature_and_its_worker_calls_the_downstream() {
    let Some(programs) = Programs::here() else {
        return;
    };
    let downstream = Recorder::default();
    let internet = Internet::of([("api.example.com", downstream.app())]).await;
    let redis = programs.redis();
    let s3 = program(&programs, &redis).behind(&internet.proxy, &internet.root);
    let (handler, _worker) = (s3.serve(), s3.worker());

    let (status, answer) = run(&handler).await;
    assert_eq!(status, 200, "{answer}");
    let success = json!({"status": "success", "nextNode": "continue_dialog", "variables": {"lookupStatus": "completed"}});
    assert_eq!(answer, success);
    let seen = downstream.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].line, "POST /v1/customer/lookup");
    assert_eq!(seen[0].header("authorization"), "Bearer a downstream token");
    assert_eq!(seen[0].header("content-type"), "application/json");
    let wanted = json!({"conversationId": "conv-1", "externalId": "c-1", "context": "lookup"});
    assert_eq!(seen[0].json(), wanted);

    // An id that nobody gave is pending for ever.
    let (status, answer) = get(&handler.url(&format!("{EVENTS}/status/nobody"))).await;
    assert_eq!(
        (status.as_u16(), answer),
        (202, json!({"detail": "Processing"}))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_the_handler_refuses_a_wrong_signature_and_an_event_without_its_conversation() {
    let Some(programs) = Programs::here() else {
        return;
    };
    let redis = programs.redis();
    let handler = program(&programs, &redis).serve();
    let url = handler.url(EVENTS);
    let unsigned = json!({"detail": "Invalid webhook signature"});
    for refused in [
        deliver(&url, Hex, "another secret", EVENT).await,
        deliver(&url, Base64, SECRET, EVENT).await,
        send(&url, b"", EVENT).await,
    ] {
        assert_eq!(refused, (StatusCode::UNAUTHORIZED, unsigned.clone()));
    }
    let bad = |detail: &str| (StatusCode::BAD_REQUEST, json!({"detail": detail}));
    let no_json = deliver(&url, Hex, SECRET, "{").await;
    assert_eq!(no_json, bad("Invalid JSON payload"));
    let nobody = deliver(&url, Hex, SECRET, r#"{"currentNode":"lookup"}"#).await;
    assert_eq!(nobody, bad("Missing conversationId"));
    // Its bug, which a receiver of ours does not have: a header outside ASCII is a 500.
    let (status, _) = send(&url, "zoë".as_bytes(), EVENT).await;
    assert_eq!(status, 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_a_downstream_that_fails_counts_as_success_until_the_program_is_mended() {
    let Some(programs) = Programs::here() else {
        return;
    };
    let failed = || (503, json!({}));
    let failing = || [failed(), failed(), failed(), failed()];
    let redis = programs.redis();
    let s3 = program(&programs, &redis);
    let handler = s3.serve();

    // As it stands: nothing raises the error, so nothing is tried again.
    let downstream = Recorder::answering(failing());
    let internet = Internet::of([("api.example.com", downstream.app())]).await;
    let worker = s3.clone().behind(&internet.proxy, &internet.root).worker();
    let (status, answer) = run(&handler).await;
    assert_eq!(
        (status.as_u16(), &answer["nextNode"]),
        (200, &json!("continue_dialog"))
    );
    assert_eq!(downstream.seen().len(), 1);
    drop(worker);

    // With the error raised, the breaker opens at the third, and that is an error of another kind: no fallback.
    let downstream = Recorder::answering(failing());
    let internet = Internet::of([("api.example.com", downstream.app())]).await;
    let mended = s3
        .clone()
        .behind(&internet.proxy, &internet.root)
        .mended("raise");
    let worker = mended.worker();
    let (status, answer) = run(&handler).await;
    assert_eq!(status, 500);
    let why = answer["detail"].as_str().unwrap();
    assert!(why.contains("circuit breaker opened"), "{why}");
    drop(worker);

    // With that mended too, the fallback is what its text says, after waits of its formula.
    let downstream = Recorder::answering(failing());
    let internet = Internet::of([("api.example.com", downstream.app())]).await;
    let mended = s3.behind(&internet.proxy, &internet.root).mended("raise");
    let mut worker = mended.mended("fallback").worker();
    let (status, answer) = run(&handler).await;
    assert_eq!(status, 200);
    let variables = json!({"lookupStatus": "failed", "failureReason": "downstream_unavailable", "maxRetries": 3});
    assert_eq!(
        answer,
        json!({"status": "success", "nextNode": "default_fallback_branch", "variables": variables})
    );
    assert_eq!(downstream.seen().len(), 3);
    let log = worker.written(Stream::Err);
    let slept: Vec<f64> = log
        .lines()
        .filter_map(|line| line.strip_prefix("slept ")?.parse().ok())
        .collect();
    assert!(
        matches!(slept[..], [first, second] if (2.0..=3.0).contains(&first) && (4.0..=5.0).contains(&second)),
        "{slept:?}"
    );
}
