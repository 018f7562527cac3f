//! What the calls do.

use super::{Fake, KEY, api, start};
use crate::https;
use axum::{Json, Router, response::IntoResponse, routing::post};
use futures_util::{StreamExt, TryStreamExt};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};
use tower_webhook::target::TargetRules;
use tower_webhook_cognigy::{
    ApiErrorKind,
    connection::Connection,
    documents::{
        EventWebhook, ListedWebhook, Monitor, Paths, PolicyUpdate, RetryPolicy, Validation,
        WebhookDefinition, WebhookEndpoint, Webhooks,
    },
    https::HttpsClient,
};

fn policy(attempts: u32) -> RetryPolicy {
    let policy = RetryPolicy::builder().max_attempts(attempts).build();
    policy.expect("a policy")
}

fn page(ids: &[&str], next: Option<&str>) -> (Vec<Value>, Option<String>) {
    let items = ids
        .iter()
        .map(|id| json!({"id": id, "name": "a hook", "extra": [1, null]}));
    (items.collect(), next.map(str::to_owned))
}

#[tokio::test]
async fn s0_a_list_is_read_page_by_page_as_it_is_asked_for() {
    let fake = Fake::default();
    fake.seen().pages.extend([
        (
            String::new(),
            page(&["a", "b"], Some("one/two+three&four=%")),
        ),
        (
            "one/two+three&four=%".to_owned(),
            page(&["c"], Some("last")),
        ),
        ("last".to_owned(), page(&[], None)),
    ]);
    let (_server, api) = api(&fake).await;
    let mut hooks = std::pin::pin!(api.list("bot-1"));
    let first = hooks.try_next().await.expect("a page").expect("a webhook");
    assert_eq!((first.id(), first.name()), (Some("a"), Some("a hook")));
    assert_eq!(
        first.fields()["extra"],
        json!([1, null]),
        "unknown fields are kept"
    );
    assert_eq!(
        fake.seen().requests.len(),
        1,
        "the second page is not asked for yet"
    );

    let rest: Vec<ListedWebhook> = hooks.try_collect().await.expect("all pages");
    let ids: Vec<_> = rest.iter().filter_map(ListedWebhook::id).collect();
    assert_eq!(ids, ["b", "c"]);
    let asked: Vec<_> = fake.seen().requests.iter().map(|of| of.0.clone()).collect();
    assert_eq!(
        asked,
        [
            "GET /api/v2/bots/bot-1/webhooks?pageSize=100",
            "GET /api/v2/bots/bot-1/webhooks?pageSize=100&cursor=one%2Ftwo%2Bthree%26four%3D%25",
            "GET /api/v2/bots/bot-1/webhooks?pageSize=100&cursor=last",
        ]
    );
}

#[tokio::test]
async fn s0_a_page_may_lack_its_webhooks_and_its_cursor() {
    let fake = Fake::default();
    let (_server, api) = api(&fake).await;
    for last in [
        json!({}),
        json!({"items": []}),
        json!({"pagination": {}}),
        json!({"items": [], "pagination": {"nextCursor": null}}),
        json!({"items": [], "pagination": {"nextCursor": ""}}),
    ] {
        let first = json!({"items": [{"id": "a"}], "pagination": {"nextCursor": "next"}});
        let pages = [Json(first).into_response(), Json(&last).into_response()];
        fake.seen().script.extend(pages);
        let all: Vec<_> = api.list("bot").try_collect().await.expect("two pages");
        assert_eq!(json!(all), json!([{"id": "a"}]), "{last}");
    }
    assert_eq!(fake.seen().requests.len(), 10);
}

#[tokio::test]
async fn pages_that_loop_end_with_an_error() {
    let fake = Fake::default();
    fake.seen().pages.extend([
        (String::new(), page(&["a"], Some("one"))),
        ("one".to_owned(), page(&["b"], Some("two"))),
        ("two".to_owned(), page(&["c"], Some("one"))),
    ]);
    let (_server, api) = api(&fake).await;
    let all: Vec<_> = api.list("bot").collect().await;
    assert_eq!(all.iter().filter(|one| one.is_ok()).count(), 2);
    let error = all
        .last()
        .and_then(|last| last.as_ref().err())
        .expect("an error");
    assert_eq!(error.kind(), ApiErrorKind::UnexpectedResponse);
    assert_eq!(fake.seen().requests.len(), 3);
}

#[tokio::test]
async fn s0_a_policy_is_not_sent_again_to_the_webhook_that_has_it_but_to_every_other() {
    let fake = Fake::default();
    let (_server, api) = api(&fake).await;
    let set = async |hook: &str, attempts, key: &str| {
        let policy = policy(attempts);
        api.set_retry_policy("bot", hook, &policy, key)
            .await
            .expect("taken")
    };
    assert!(matches!(set("a", 3, "k1").await, PolicyUpdate::Updated(_)));
    let again = set("a", 3, "k2").await;
    assert_eq!(again, PolicyUpdate::Skipped);
    assert_eq!(
        serde_json::to_string(&again).expect("JSON"),
        r#"{"status":"skipped","reason":"idempotent_duplicate"}"#
    );
    // The document's program skips the second webhook.
    assert!(matches!(set("b", 3, "k1").await, PolicyUpdate::Updated(_)));
    // And back: what counts is what the webhook has.
    assert!(matches!(set("a", 5, "k3").await, PolicyUpdate::Updated(_)));
    assert!(matches!(set("a", 3, "k1").await, PolicyUpdate::Updated(_)));

    let seen = fake.seen();
    assert_eq!(seen.requests.len(), 4);
    let (line, headers, body) = &seen.requests[0];
    assert_eq!(line, "PATCH /api/v2/bots/bot/webhooks/a");
    assert_eq!(headers["idempotency-key"], "k1");
    assert_eq!(
        body,
        r#"{"retryPolicy":{"enabled":true,"maxAttempts":3,"backoffStrategy":"exponential","baseDelayMs":1000,"maxDelayMs":30000,"maxRetryWindowSeconds":3600}}"#
    );
}

#[tokio::test]
async fn s0_a_policy_that_failed_is_sent_again() {
    let fake = Fake::default();
    let (_server, api) = api(&fake).await;
    let set = |attempts, key: &'static str| {
        let api = api.clone();
        async move {
            api.set_retry_policy("bot", "a", &policy(attempts), key)
                .await
        }
    };
    set(3, "k1").await.expect("taken");
    // The key is of another payload.
    let conflict = set(4, "k1").await.expect_err("409");
    assert_eq!(conflict.kind(), ApiErrorKind::Conflict);
    assert_eq!(fake.seen().requests.len(), 2, "409 is not sent again");
    // Nobody knows now which policy it has.
    assert!(matches!(set(3, "k1").await, Ok(PolicyUpdate::Updated(_))));
}

#[tokio::test]
async fn ids_are_one_segment_of_the_path_whatever_is_in_them() {
    let fake = Fake::default();
    let (_server, api) = api(&fake).await;
    for (id, encoded) in [
        ("a/b", "a%2Fb"),
        ("a%2Fb", "a%252Fb"),
        ("../../admin", "..%2F..%2Fadmin"),
        ("a?b#c", "a%3Fb%23c"),
        ("a b\r\nX: y", "a%20b%0D%0AX%3A%20y"),
        ("ü", "%C3%BC"),
    ] {
        api.set_retry_policy(id, id, &policy(3), "key")
            .await
            .expect("taken");
        let (line, ..) = fake.seen().requests.pop().expect("a request");
        assert_eq!(
            line,
            format!("PATCH /api/v2/bots/{encoded}/webhooks/{encoded}")
        );
        assert!(
            fake.seen()
                .policies
                .contains_key(&(id.to_owned(), id.to_owned()))
        );
    }
    for id in ["", ".", ".."] {
        let refused = api.set_retry_policy("bot", id, &policy(3), "key").await;
        assert_eq!(
            refused.expect_err("no id").kind(),
            ApiErrorKind::InvalidRequest
        );
        let refused: Vec<_> = api.list(id).collect().await;
        assert!(
            matches!(&refused[..], [Err(error)] if error.kind() == ApiErrorKind::InvalidRequest)
        );
    }
    for key in ["", "a\nb"] {
        let refused = api.set_retry_policy("bot", "a", &policy(3), key).await;
        assert_eq!(
            refused.expect_err("no key").kind(),
            ApiErrorKind::InvalidRequest
        );
    }
    assert!(fake.seen().requests.is_empty(), "nothing was sent");
}

#[tokio::test]
async fn the_three_forms_are_registered() {
    let fake = Fake::default();
    let (_server, api) = api(&fake).await;
    let definition = WebhookDefinition::builder("s1-form", "https://example.com/s1");
    let one = api
        .register(definition.build().expect("S1"))
        .await
        .expect("S1");
    assert_eq!(
        (one.id(), one.status(), one.created_at()),
        ("wh_1", Some("active"), Some("2024-01-15T10:00:00Z"))
    );
    let endpoint = WebhookEndpoint::builder("s2-form", "https://example.com/s2");
    assert_eq!(
        api.register(endpoint.build().expect("S2"))
            .await
            .expect("S2")
            .id(),
        "wh_2"
    );
    let events = EventWebhook::new("s4-form", "https://example.com/s4", "secret").expect("S4");
    assert_eq!(api.register(events).await.expect("S4").id(), "wh_events");
    let seen = fake.seen();
    let lines: Vec<_> = seen.requests.iter().map(|of| of.0.as_str()).collect();
    assert_eq!(
        lines,
        [
            "POST /api/v2/webhooks",
            "POST /api/v2/webhooks",
            "POST /api/v1/webhooks"
        ]
    );
    assert_eq!(seen.registered.len(), 3);
    for (_, headers, _) in &seen.requests {
        assert_eq!(headers["x-api-key"], KEY);
        assert_eq!(headers["content-type"], "application/json");
        assert_eq!(headers["accept"], "application/json");
    }
}

#[tokio::test]
async fn any_success_with_an_id_is_a_registration() {
    // S2's program takes 201 for a failure; S1's takes any 2xx, S4's 200 and 201.
    let fake = Fake::default();
    let (_server, api) = api(&fake).await;
    for status in [StatusCode::OK, StatusCode::CREATED, StatusCode::ACCEPTED] {
        let answer = (status, Json(json!({"id": "wh_8f3a2c", "status": "active"})));
        fake.seen().script.push_back(answer.into_response());
        let endpoint = WebhookEndpoint::builder("abc", "https://example.com/");
        let registered = api.register(endpoint.build().expect("S2")).await;
        assert_eq!(registered.expect("taken").id(), "wh_8f3a2c", "{status}");
    }
}

#[tokio::test]
async fn all_paths_and_the_key_header_can_be_set() {
    let taken: Arc<Mutex<Vec<(String, HeaderMap)>>> = Arc::default();
    let log = Arc::clone(&taken);
    let app = Router::new().fallback(move |req: axum::extract::Request| {
        let line = format!("{} {}", req.method(), req.uri());
        log.lock()
            .expect("a log")
            .push((line, req.headers().clone()));
        async { Json(json!({"id": "x"})) }
    });
    let server = https::serve(app).await;
    let connection = Connection::builder(format!("{}/tenant-7/", server.url))
        .rules(TargetRules::new().allow_private(true))
        .root_certificates(server.root.as_bytes());
    let paths = Paths::default()
        .bot_webhooks("/v9/b/{bot}/hooks")
        .webhooks("/v9/hooks")
        .event_webhooks("/v9/event-hooks")
        .execution_limits("/v9/limits")
        .idempotency_key(http::HeaderName::from_static("x-key"));
    let api = Webhooks::over(connection.build().expect("a connection")).paths(paths);
    let url = "https://example.com/";
    let _: Vec<_> = api.list("b").collect().await;
    api.set_retry_policy("b", "h", &policy(3), "k")
        .await
        .expect("taken");
    let definition = WebhookDefinition::builder("abc", url).build().expect("S1");
    api.register(&definition).await.expect("S1");
    api.register(EventWebhook::new("abc", url, "s").expect("S4"))
        .await
        .expect("S4");
    api.execution_limits().await.expect("limits");
    let taken = taken.lock().expect("a log");
    let lines: Vec<_> = taken.iter().map(|of| of.0.as_str()).collect();
    assert_eq!(
        lines,
        [
            "GET /tenant-7/v9/b/b/hooks?pageSize=100",
            "PATCH /tenant-7/v9/b/b/hooks/h",
            "POST /tenant-7/v9/hooks",
            "POST /tenant-7/v9/event-hooks",
            "GET /tenant-7/v9/limits",
        ]
    );
    assert_eq!(taken[1].1["x-key"], "k");
}

#[tokio::test]
async fn s1_limits_that_cannot_be_read_are_unknown_and_no_permission() {
    let fake = Fake::default();
    let (_server, api) = api(&fake).await;
    let definition = |seconds, kilobytes| {
        WebhookDefinition::builder("abc", "https://example.com/")
            .timeout_seconds(seconds)
            .max_payload_size_kb(kilobytes)
            .build()
            .expect("a definition")
    };
    let unknown = api.validate(&definition(15, 256), true).await;
    assert_eq!(unknown.within_flow_limits, None);
    assert_eq!(
        serde_json::to_string(&unknown).expect("JSON"),
        r#"{"endpoint_reachable":true,"within_flow_limits":null}"#
    );
    let validation = |within| Validation {
        endpoint_reachable: false,
        within_flow_limits: Some(within),
    };
    // Missing keys are the documents' values.
    fake.seen().limits = Some(json!({}));
    assert_eq!(
        api.validate(&definition(30, 256), false).await,
        validation(true)
    );
    assert_eq!(
        api.validate(&definition(30, 257), false).await,
        validation(false)
    );
    let limits = json!({"max_webhook_timeout_seconds": 10, "max_webhook_payload_kb": 64});
    fake.seen().limits = Some(limits);
    assert_eq!(
        api.validate(&definition(10, 64), false).await,
        validation(true)
    );
    assert_eq!(
        api.validate(&definition(11, 64), false).await,
        validation(false)
    );
}

#[tokio::test]
async fn s2_a_record_is_posted_without_the_apis_credential() {
    let posted: Arc<Mutex<Vec<HeaderMap>>> = Arc::default();
    let log = Arc::clone(&posted);
    let answer = move |status: StatusCode| {
        let log = Arc::clone(&log);
        post(move |headers: HeaderMap| {
            log.lock().expect("a log").push(headers);
            async move { status }
        })
    };
    let app = Router::new()
        .route("/200", answer(StatusCode::OK))
        .route("/204", answer(StatusCode::NO_CONTENT))
        .route("/201", answer(StatusCode::CREATED))
        .route("/202", answer(StatusCode::ACCEPTED))
        .route("/400", answer(StatusCode::BAD_REQUEST));
    let server = https::serve(app).await;
    let rules = TargetRules::new().allow_private(true);
    let monitor = |path: &str| {
        let client = HttpsClient::builder().rules(rules);
        let client = client
            .root_certificates(server.root.as_bytes())
            .expect("a root");
        Monitor::with(&format!("{}{path}", server.url), rules, client.build()).expect("a monitor")
    };
    let record = json!({"action": "REGISTER"});
    monitor("/200").post(&record).await.expect("200");
    monitor("/204").post(&record).await.expect("204");
    monitor("/201").post(&record).await.expect("201");
    let accepted = monitor("/202")
        .post(&record)
        .await
        .expect_err("202 is not stored");
    assert_eq!(accepted.kind(), ApiErrorKind::UnexpectedResponse);
    let refused = monitor("/400").post(&record).await.expect_err("400");
    assert_eq!(refused.kind(), ApiErrorKind::BadRequest);
    let posted = posted.lock().expect("a log");
    assert_eq!(posted.len(), 5);
    for headers in posted.iter() {
        assert!(!headers.contains_key("x-api-key") && !headers.contains_key("authorization"));
    }
    assert!(Monitor::new("http://example.com/").is_err());
}

#[tokio::test]
async fn dropping_a_call_leaves_the_client_usable() {
    let fake = Fake::default();
    let (_server, connection) = start(&fake).await;
    let api = Webhooks::over(connection.build().expect("a connection"));
    let mut call = Box::pin(api.execution_limits());
    let waiting = futures_util::future::select(&mut call, std::future::ready(())).await;
    assert!(matches!(waiting, futures_util::future::Either::Right(_)));
    drop(call);
    fake.seen().limits = Some(json!({}));
    api.execution_limits().await.expect("limits");
}

#[tokio::test]
async fn s2_calls_that_follow_each_other_share_a_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        // No other is answered.
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut head = Vec::new();
        while let Ok(byte) = stream.read_u8().await {
            head.push(byte);
            if head.ends_with(b"\r\n\r\n") {
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
                stream.write_all(answer).await.expect("it is read");
            }
        }
    });
    let rules = TargetRules::new().allow_http(true).allow_private(true);
    let connection = Connection::builder(url).rules(rules);
    let api = Webhooks::over(connection.build().expect("a connection"));
    for _ in 0..3 {
        let limits = timeout(Duration::from_secs(10), api.execution_limits());
        limits.await.expect("an answer").expect("limits");
    }
}
