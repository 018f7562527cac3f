//! The client that sets retry policies, beside ours: what both send is the same.

use crate::{
    api, bodies,
    fake_documents::{CLIENT, Fake, TOKEN},
    internet::Internet,
    programs::{Program, Programs},
    recorder::Recorder,
};
use axum::response::{IntoResponse, Response};
use futures_util::TryStreamExt;
use serde_json::{Value, json};
use tower_webhook_cognigy::{
    credential::ClientCredentials,
    documents::{BackoffStrategy, RetryPolicy},
};

/// What each script begins with: a client of the fake.
const CLIENT_OF_IT: &str = r#"
auth = CognigyAuth("a client", "its+secret", "https://api.cognigy.ai/api/v2/auth/token", "bot:webhooks:manage")
retrier = CognigyWebhookRetrier("https://api.cognigy.ai", auth, dlq_callback_url="https://dead.example.com/ingest")
def policy(webhook, key, **of):
    return RetryConfig(webhook_id=webhook, idempotency_key=key, **of)
"#;

fn run(program: &Program<'_>, script: &str) -> Value {
    program.script(&format!("{CLIENT_OF_IT}{script}"))
}

/// The fake and a place for dead letters, as the program sees them.
async fn hosts(fake: &Fake, dead: &Recorder) -> Internet {
    Internet::of([
        ("api.cognigy.ai", fake.app()),
        ("dead.example.com", dead.app()),
    ])
    .await
}

fn s0<'a>(programs: &'a Programs, internet: &Internet) -> Program<'a> {
    programs
        .program("s0")
        .behind(&internet.proxy, &internet.root)
}

#[tokio::test(flavor = "multi_thread")]
async fn s0_its_client_sends_the_token_request_the_list_and_the_policy_that_ours_sends() {
    let Some(programs) = Programs::here() else {
        return;
    };
    let fake = Fake::default();
    let pages = [
        (
            "",
            vec![json!({"id": "wh_1"}), json!({"id": "wh_2"})],
            Some("page/2"),
        ),
        ("page/2", vec![json!({"id": "wh_3"})], None),
    ];
    for (cursor, items, next) in pages {
        let page = (items, next.map(str::to_owned));
        fake.seen().pages.insert(cursor.to_owned(), page);
    }
    let internet = hosts(&fake, &Recorder::default()).await;
    let said = run(
        &s0(&programs, &internet),
        r#"
listed = retrier.list_webhooks("bot-1")
first = retrier.update_webhook_retry_policy("bot-1", policy("wh_1", "key-1"))
other = policy("wh_2", "key-2", max_attempts=5, backoff_strategy="linear", base_delay_ms=500, max_delay_ms=15000, max_retry_window_seconds=300)
second = retrier.update_webhook_retry_policy("bot-1", other)
answer({"listed": listed, "first": first, "hash": retrier.processed_hashes["key-1"]})
"#,
    );
    assert_eq!(
        said["listed"],
        json!([{"id": "wh_1"}, {"id": "wh_2"}, {"id": "wh_3"}])
    );
    assert_eq!(said["first"]["id"], "wh_1");
    let hash = "0b974868207849171f2bb0dcb7fcf335c6d3dee8b1452f18cbd11c3fdbfae78a";
    assert_eq!(said["hash"], hash);
    let theirs = std::mem::take(&mut fake.seen().requests);

    let grant = ClientCredentials::basic_form(CLIENT.0, CLIENT.1).scopes(["bot:webhooks:manage"]);
    let (_server, api) = api(&fake, Some(grant)).await;
    let listed: Vec<_> = api.list("bot-1").try_collect().await.unwrap();
    assert_eq!(json!(listed), said["listed"]);
    let first = RetryPolicy::builder().build().unwrap();
    let second = RetryPolicy::builder()
        .max_attempts(5)
        .backoff(BackoffStrategy::Linear)
        .base_delay_ms(500)
        .max_delay_ms(15_000)
        .max_retry_window_seconds(300)
        .build()
        .unwrap();
    api.set_retry_policy("bot-1", "wh_1", &first, "key-1")
        .await
        .unwrap();
    api.set_retry_policy("bot-1", "wh_2", &second, "key-2")
        .await
        .unwrap();
    let ours = std::mem::take(&mut fake.seen().requests);

    assert_eq!(bodies(&theirs), bodies(&ours));
    for (theirs, ours) in theirs.iter().zip(&ours) {
        for name in ["authorization", "idempotency-key", "content-type"] {
            assert_eq!(theirs.1.get(name), ours.1.get(name), "{name} of {}", ours.0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s0_its_client_skips_the_policy_of_a_second_webhook_and_ours_does_not() {
    let Some(programs) = Programs::here() else {
        return;
    };
    let fake = Fake::default();
    let internet = hosts(&fake, &Recorder::default()).await;
    let said = run(
        &s0(&programs, &internet),
        r#"
retrier.update_webhook_retry_policy("bot-1", policy("wh_1", "key-1"))
answer(retrier.update_webhook_retry_policy("bot-1", policy("wh_2", "key-2")))
"#,
    );
    let skipped = json!({"status": "skipped", "reason": "idempotent_duplicate"});
    assert_eq!(said, skipped);
    assert_eq!(fake.seen().policies.len(), 1);

    let (_server, api) = api(&fake, None).await;
    let policy = RetryPolicy::builder().build().unwrap();
    let set = async |webhook, key| {
        let update = api.set_retry_policy("bot-1", webhook, &policy, key).await;
        serde_json::to_value(update.unwrap()).unwrap()
    };
    assert_ne!(set("wh_1", "key-1").await, skipped);
    assert_ne!(set("wh_2", "key-2").await, skipped);
    assert_eq!(fake.seen().policies.len(), 2);
    assert_eq!(set("wh_2", "key-2").await, skipped);
}

fn refusal(status: u16, headers: [(&'static str, &'static str); 1]) -> Response {
    let status = http::StatusCode::from_u16(status).unwrap();
    (status, headers, "{}").into_response()
}

#[tokio::test(flavor = "multi_thread")]
async fn s0_its_client_breaks_at_the_first_429_and_mended_it_waits_as_the_server_says() {
    let Some(programs) = Programs::here() else {
        return;
    };
    let fake = Fake::default();
    let internet = hosts(&fake, &Recorder::default()).await;
    let s0 = s0(&programs, &internet);
    let script = r#"
auth.token, auth.expires_at = "the-token-of-the-test", time.time() + 60
try:
    result = retrier.update_webhook_retry_policy("bot-1", policy("wh_1", "key-1"))
except Exception as error:
    result = type(error).__name__
answer([result, slept])
"#;
    let limit = || refusal(429, [("retry-after", "3")]);
    fake.seen().script.push_back(limit());
    assert_eq!(run(&s0, script), json!(["AttributeError", [3]]));
    assert_eq!(fake.seen().requests.len(), 1);

    fake.seen().script.extend([limit(), limit(), limit()]);
    let said = run(&s0.clone().mended("429"), script);
    assert_eq!(
        (&said[0]["id"], &said[1]),
        (&json!("wh_1"), &json!([3, 3, 3]))
    );

    // Four times is once too often, and then it is an error like any other.
    fake.seen()
        .script
        .extend([limit(), limit(), limit(), limit()]);
    let said = run(&s0.mended("429"), script);
    assert_eq!(said, json!(["HTTPStatusError", [3, 3, 3]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn s0_its_exhaustion_is_never_told_and_mended_it_is_what_ours_writes() {
    let Some(programs) = Programs::here() else {
        return;
    };
    let (fake, dead) = (Fake::default(), Recorder::default());
    let internet = hosts(&fake, &dead).await;
    let s0 = s0(&programs, &internet);
    let script = r#"
auth.token, auth.expires_at = "the-token-of-the-test", time.time() + 60
try:
    result = retrier.process_retry_event("bot-1", policy("wh_1", "key-1"), {})
except Exception as error:
    result = type(error).__name__
answer([result, slept, retrier.audit_log])
"#;
    let failed = || refusal(503, [("x-a", "b")]);
    fake.seen().script.extend([failed(), failed(), failed()]);
    let said = run(&s0, script);
    assert_eq!(
        (&said[0], &said[2]),
        (&json!("UnboundLocalError"), &json!([]))
    );
    assert!(dead.seen().is_empty());
    // It waits before the first attempt too, by its formula.
    let slept: Vec<f64> = serde_json::from_value(said[1].clone()).unwrap();
    for (slept, least) in slept.iter().zip([1.0, 2.0, 4.0]) {
        assert!((least..=least * 1.1).contains(slept), "{slept}");
    }

    fake.seen().script.extend([failed(), failed(), failed()]);
    let said = run(&s0.mended("exhausted"), script);
    let error = &said[0]["error"];
    assert_eq!(said[0]["status"], "exhausted");
    assert_eq!(error["max_attempts_reached"], 3);
    let letters = dead.seen();
    assert_eq!(letters[0].line, "POST /ingest");
    assert_eq!(letters[0].json(), *error);
    // Its alert has the fields of our record, and ours with its values is the same JSON, but for the two clocks.
    let alert = &said[2][0];
    let ours = tower_webhook_cognigy::documents::RetryExhausted::new(
        "wh_1",
        3,
        error["final_error"].as_str().unwrap(),
        std::time::UNIX_EPOCH,
        0.0,
        std::time::Duration::ZERO,
    );
    let mut ours = serde_json::to_value(ours).unwrap();
    for clock in ["timestamp", "avg_latency_ms"] {
        assert!(!alert[clock].is_null());
        ours[clock] = alert[clock].clone();
    }
    assert_eq!(*alert, ours);
}

#[tokio::test(flavor = "multi_thread")]
async fn s0_its_program_runs_from_start_to_end() {
    let Some(programs) = Programs::here() else {
        return;
    };
    let api = Recorder::answering([
        (200, json!({"access_token": TOKEN, "expires_in": 3600})),
        (200, json!({"id": "YOUR_WEBHOOK_ID"})),
    ]);
    let internet = Internet::of([("api.cognigy.ai", api.app())]).await;
    let log = s0(&programs, &internet).main();
    assert!(log.contains("Retry succeeded on attempt 1"), "{log}");
    let seen = api.seen();
    assert_eq!(seen[0].line, "POST /api/v2/auth/token");
    assert_eq!(
        seen[0].body,
        "grant_type=client_credentials&scope=bot%3Awebhooks%3Amanage"
    );
    assert_eq!(
        seen[1].line,
        "PATCH /api/v2/bots/YOUR_BOT_ID/webhooks/YOUR_WEBHOOK_ID"
    );
    assert_eq!(seen[1].header("idempotency-key"), "retry-config-v1-abc123");
    let policy = RetryPolicy::builder()
        .max_delay_ms(15_000)
        .max_retry_window_seconds(300);
    let wanted = json!({"retryPolicy": policy.build().unwrap()});
    assert_eq!(seen[1].json(), wanted);
}
