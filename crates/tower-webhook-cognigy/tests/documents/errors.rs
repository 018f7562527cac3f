//! What the server refuses, and what goes wrong on the way.

use super::{
    Fake, api,
    fake_documents::{KEY, MAX_BODY},
    start,
};
use crate::https;
use axum::{
    Router,
    body::{Body, Bytes},
    response::{IntoResponse, Response},
};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use http::StatusCode;
use serde_json::json;
use std::{
    convert::Infallible,
    error::Error,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tower_webhook_cognigy::{
    ApiError, ApiErrorKind,
    credential::Credential,
    documents::{
        EventWebhook, ListedWebhook, Registered, RetryPolicy, WebhookDefinition, WebhookEndpoint,
        Webhooks,
    },
};

fn answer(status: u16, content_type: &'static str, body: String) -> Response {
    let status = StatusCode::from_u16(status).expect("a status");
    (status, [("content-type", content_type)], body).into_response()
}

fn endpoint() -> WebhookEndpoint {
    let endpoint = WebhookEndpoint::builder("abc", "https://example.com/");
    endpoint.build().expect("an endpoint")
}

#[tokio::test]
async fn each_status_is_a_kind_that_carries_what_the_server_said() {
    let fake = Fake::default();
    let (_server, api) = api(&fake).await;
    for (status, kind) in [
        (400, ApiErrorKind::BadRequest),
        (401, ApiErrorKind::Unauthorized),
        (403, ApiErrorKind::Forbidden),
        (404, ApiErrorKind::NotFound),
        (409, ApiErrorKind::Conflict),
        (410, ApiErrorKind::NotFound),
        (413, ApiErrorKind::TooLarge),
        (418, ApiErrorKind::Status),
        (422, ApiErrorKind::Unprocessable),
        (307, ApiErrorKind::Redirected),
        (500, ApiErrorKind::Server),
        (501, ApiErrorKind::Server),
    ] {
        let problem = r#"{"type":"about:blank","title":"T","detail":"the reason\u001b[31m","code":1004,"traceId":"t-1"}"#;
        let problem = answer(status, "application/problem+json", problem.to_owned());
        fake.seen().script.push_back(problem);
        let error = api.register(endpoint()).await.expect_err("refused");
        assert_eq!(error.kind(), kind, "{status}");
        assert_eq!(error.status().map(|status| status.as_u16()), Some(status));
        assert_eq!(error.detail(), Some("the reason\u{1b}[31m"));
        assert_eq!(
            (error.code(), error.trace_id()),
            (Some("1004"), Some("t-1"))
        );
        let shown = error.to_string();
        assert!(shown.contains("cannot register the webhook") && shown.contains("the reason"));
        assert!(
            !shown.contains('\u{1b}'),
            "a terminal would obey it: {shown}"
        );
        assert_eq!(fake.seen().requests.len(), 1, "a registration is sent once");
        fake.seen().requests.clear();
    }
}

#[tokio::test]
async fn s2_a_redirect_is_an_error_and_not_followed() {
    let fake = Fake::default();
    let (server, api) = api(&fake).await;
    let location = [("location", format!("{}/elsewhere", server.url))];
    let moved = (StatusCode::TEMPORARY_REDIRECT, location);
    fake.seen().script.push_back(moved.into_response());
    let error = api.register(endpoint()).await.expect_err("307");
    assert_eq!(error.kind(), ApiErrorKind::Redirected);
    assert_eq!(fake.seen().requests.len(), 1);
}

#[tokio::test]
async fn other_forms_of_a_refusal_are_read_and_its_body_is_bounded() {
    let fake = Fake::default();
    let (_server, api) = api(&fake).await;
    let long = "x".repeat(2 << 20);
    for (body, detail) in [
        (r#"{"message":"M"}"#.to_owned(), Some("M".to_owned())),
        (
            r#"{"error":"invalid_scope","error_description":"D"}"#.to_owned(),
            Some("D".to_owned()),
        ),
        (
            r#"{"title":"T","detail":""}"#.to_owned(),
            Some("T".to_owned()),
        ),
        (
            r#"{"detail":[{"loc":["body","url"],"msg":"invalid"}]}"#.to_owned(),
            Some("body.url: invalid".to_owned()),
        ),
        ("<html>Bad Gateway</html>".to_owned(), None),
        ("[1]".to_owned(), None),
        (String::new(), None),
        (long.clone(), None),
        (
            format!(r#"{{"detail":"{}"}}"#, "y".repeat(9000)),
            Some("y".repeat(512)),
        ),
    ] {
        fake.seen()
            .script
            .push_back(answer(422, "text/plain", body.clone()));
        let error = api.register(endpoint()).await.expect_err("422");
        assert_eq!(error.detail(), detail.as_deref(), "{body:.60}");
        let kept = &body.as_bytes()[..body.len().min(4096)];
        assert_eq!(error.body(), kept);
        assert!(error.to_string().len() < 700);
    }
}

#[tokio::test]
async fn what_is_safe_to_repeat_is_repeated_and_nothing_else() {
    let fake = Fake::default();
    let (_server, api) = api(&fake).await;
    let fail = |count: usize, status: u16| {
        for _ in 0..count {
            fake.seen()
                .script
                .push_back(answer(status, "text/plain", String::new()));
        }
        fake.seen().requests.clear();
    };
    fake.seen().limits = Some(serde_json::json!({}));
    fail(3, 503);
    api.execution_limits().await.expect("the fourth attempt");
    assert_eq!(fake.seen().requests.len(), 4);

    // S0: a PATCH has a key, so it is repeated with it.
    let policy = RetryPolicy::builder().build().expect("a policy");
    fail(2, 500);
    api.set_retry_policy("b", "h", &policy, "k")
        .await
        .expect("the third attempt");
    let keys: Vec<_> = fake
        .seen()
        .requests
        .iter()
        .map(|of| of.1["idempotency-key"].clone())
        .collect();
    assert_eq!(keys, ["k"; 3]);

    // A registration may have arrived.
    fail(1, 503);
    let error = api.register(endpoint()).await.expect_err("503");
    assert_eq!(error.kind(), ApiErrorKind::Server);
    assert_eq!(fake.seen().requests.len(), 1);
    for status in [401, 409] {
        fail(1, status);
        api.execution_limits()
            .await
            .expect_err("never sent again blindly");
        assert_eq!(fake.seen().requests.len(), 1);
    }
}

#[tokio::test]
async fn s2_a_registration_that_is_over_the_rate_limit_is_sent_again_when_the_server_says() {
    let fake = Fake::default();
    let (_server, api) = api(&fake).await;
    let busy = || {
        let mut busy = answer(429, "text/plain", String::new());
        let soon = http::HeaderValue::from_static("0");
        busy.headers_mut().insert("retry-after", soon);
        busy
    };
    fake.seen().script.push_back(busy());
    assert_eq!(
        api.register(endpoint()).await.expect("registered").id(),
        "wh_1"
    );
    assert_eq!(fake.seen().requests.len(), 2);
}

#[tokio::test]
async fn a_wrong_credential_and_a_body_that_is_too_long_are_told_apart() {
    let fake = Fake::default();
    let (_server, connection) = start(&fake).await;
    let wrong = connection.credential(Credential::api_key("wrong").expect("a key"));
    let wrong = Webhooks::over(wrong.build().expect("a connection"));
    let error = wrong.execution_limits().await.expect_err("401");
    assert_eq!(error.kind(), ApiErrorKind::Unauthorized);
    assert_eq!(error.detail(), Some("no such key"));

    let (_server, api) = api(&fake).await;
    let long = WebhookDefinition::builder("abc", "https://example.com/")
        .payload_template("x".repeat(MAX_BODY));
    let error = api
        .register(long.build().expect("a definition"))
        .await
        .expect_err("413");
    assert_eq!(error.kind(), ApiErrorKind::TooLarge);
}

#[tokio::test]
async fn a_success_that_is_not_what_was_expected_is_an_error_that_names_the_field() {
    let fake = Fake::default();
    let (_server, api) = api(&fake).await;
    for (body, said) in [
        ("<html>", "expected value"),
        (r#"{"status":"active"}"#, "missing field `id`"),
        (r#"{"id":true}"#, "id: invalid"),
        ("", "EOF"),
    ] {
        fake.seen()
            .script
            .push_back(answer(200, "text/html", body.to_owned()));
        let error = api.register(endpoint()).await.expect_err("no registration");
        assert_eq!(error.kind(), ApiErrorKind::UnexpectedResponse, "{body}");
        let cause = error.source().expect("a cause").to_string();
        assert!(cause.contains(said), "{body}: {cause}");
        assert_eq!(error.body(), body);
    }
    fake.seen()
        .script
        .push_back(answer(200, "application/json", "x".repeat((1 << 20) + 1)));
    let error = api.register(endpoint()).await.expect_err("too long");
    assert_eq!(error.kind(), ApiErrorKind::Transport);
}

#[tokio::test]
async fn a_server_that_hangs_is_left_after_the_time_limit() {
    let app = Router::new().fallback(|| async {
        std::future::pending::<()>().await;
    });
    let server = https::serve(app).await;
    let connection = tower_webhook_cognigy::connection::Connection::builder(&server.url)
        .rules(tower_webhook::target::TargetRules::new().allow_private(true))
        .root_certificates(server.root.as_bytes())
        .attempt_timeout(Duration::from_millis(50));
    let api = Webhooks::over(connection.build().expect("a connection"));
    let error = api.register(endpoint()).await.expect_err("no answer");
    assert_eq!(
        (error.kind(), error.status()),
        (ApiErrorKind::Transport, None)
    );
}

/// An answer whose body goes on like this.
fn streaming(status: u16, body: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let body = Body::from_stream(body.map(Ok::<_, Infallible>));
    (StatusCode::from_u16(status).expect("a status"), body).into_response()
}

#[tokio::test]
async fn an_answer_without_an_end_is_read_to_the_bound_and_no_further() {
    let fake = Fake::default();
    let (_server, api) = api(&fake).await;
    for (status, kind) in [(500, ApiErrorKind::Server), (200, ApiErrorKind::Transport)] {
        let written = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&written);
        let piece = Bytes::from("x".repeat(64 << 10));
        let endless = stream::repeat_with(move || {
            counted.fetch_add(piece.len(), Ordering::SeqCst);
            piece.clone()
        });
        fake.seen().script.push_back(streaming(status, endless));
        let error = api.register(endpoint()).await.expect_err("no end");
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(error.body().len(), if status == 500 { 4096 } else { 0 });
        // A MiB that is read, and what fits into the buffers of the sockets.
        let written = written.load(Ordering::SeqCst);
        assert!(written < 32 << 20, "{written}");
    }
}

#[tokio::test]
async fn an_answer_that_drips_is_left_after_the_time_limit() {
    let fake = Fake::default();
    let (_server, connection) = start(&fake).await;
    let connection = connection.attempt_timeout(Duration::from_millis(200));
    let api = Webhooks::over(connection.build().expect("a connection"));
    for status in [200, 500] {
        let drips = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Some((Bytes::from_static(b" "), ()))
        });
        fake.seen().script.push_back(streaming(status, drips));
        let error = api.register(endpoint()).await.expect_err("no end");
        assert_eq!(
            (error.kind(), error.status()),
            (ApiErrorKind::Transport, None)
        );
    }
    assert_eq!(fake.seen().requests.len(), 2, "a registration is sent once");
}

#[tokio::test]
async fn a_redirect_is_an_error_and_no_other_place_is_sent_anything() {
    let (fake, elsewhere) = (Fake::default(), Fake::default());
    let (_server, api) = api(&fake).await;
    let (other, _) = start(&elsewhere).await;
    for status in [301, 302, 303, 307, 308] {
        let location = [("location", format!("{}/api/v2/webhooks", other.url))];
        let status = StatusCode::from_u16(status).expect("a status");
        let redirect = || (status, location.clone()).into_response();
        fake.seen().script.extend([redirect(), redirect()]);
        let error = api.register(endpoint()).await.expect_err("not there");
        assert_eq!(error.kind(), ApiErrorKind::Redirected);
        let listed: Vec<_> = api.list("bot").collect().await;
        assert!(
            matches!(&listed[..], [Err(error)] if error.kind() == ApiErrorKind::Redirected),
            "{listed:?}"
        );
    }
    assert!(elsewhere.seen().requests.is_empty());
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_refused_before_anything_is_sent() {
    let fake = Fake::default();
    let (server, _) = start(&fake).await;
    let connection = tower_webhook_cognigy::connection::Connection::builder(&server.url)
        .credential(Credential::api_key("a key").expect("a key"))
        .rules(tower_webhook::target::TargetRules::new().allow_private(true))
        .retry(super::quick_retry());
    let api = Webhooks::over(connection.build().expect("a connection"));
    let error = api
        .register(endpoint())
        .await
        .expect_err("an unknown authority");
    assert_eq!(error.kind(), ApiErrorKind::Transport);
    assert!(fake.seen().requests.is_empty());
}

/// As pydantic writes it, and as a careless server does.
#[tokio::test]
async fn what_a_server_repeats_of_a_secret_is_not_shown() {
    let (fake, secret) = (Fake::default(), "topsecret-topsecret-topsecret-00");
    let (_server, api) = api(&fake).await;
    let webhook = || EventWebhook::new("n", "https://example.com/", secret).expect("a webhook");
    for (body, said) in [
        (
            json!({"detail": [
                {"type": "missing", "loc": ["body", "name"], "msg": "Field required", "input": {"secret": secret}},
                {"loc": ["body", 1], "msg": "too short"},
            ]}),
            Some("body.name: Field required; body.1: too short"),
        ),
        (
            json!({"detail": format!("`{secret}` is too short")}),
            Some("`[redacted]` is too short"),
        ),
        (
            json!({"message": format!("unknown key {KEY}")}),
            Some("unknown key [redacted]"),
        ),
        (json!({"detail": {"input": secret}}), None),
    ] {
        let answer = (StatusCode::UNPROCESSABLE_ENTITY, body.to_string());
        fake.seen().script.push_back(answer.into_response());
        let error = api.register(webhook()).await.expect_err("refused");
        assert_eq!(error.detail(), said);
        for shown in [error.to_string(), format!("{error:?}")] {
            assert!(!shown.contains(secret) && !shown.contains(KEY), "{shown}");
        }
    }
    let echo = json!({"id": "wh", "secret": secret, "status": "active"}).to_string();
    fake.seen()
        .script
        .push_back((StatusCode::OK, echo).into_response());
    let registered = api.register(webhook()).await.expect("registered");
    assert_eq!(registered.more()["secret"], secret);
    assert!(!format!("{registered:?}").contains(secret));
}

/// The first webhook of a list, if it has any.
async fn first(api: &Webhooks) -> Result<Option<ListedWebhook>, ApiError> {
    let mut all = pin!(api.list("bot"));
    all.try_next().await
}

#[tokio::test]
async fn limits_and_pages_that_are_no_objects_are_errors_and_a_falsy_cursor_is_the_end() {
    let fake = Fake::default();
    let (_server, api) = api(&fake).await;
    let answer = |body: &str| (StatusCode::OK, body.to_owned()).into_response();
    for body in ["[]", "[30, 256]", "null"] {
        fake.seen().script.push_back(answer(body));
        let error = api.execution_limits().await.expect_err(body);
        assert_eq!(error.kind(), ApiErrorKind::UnexpectedResponse);
        fake.seen().script.push_back(answer(body));
        let error = first(&api).await.expect_err(body);
        assert_eq!(error.kind(), ApiErrorKind::UnexpectedResponse);
    }
    for cursor in ["null", "\"\"", "0", "false"] {
        let page = format!(r#"{{"items":null,"pagination":{{"nextCursor":{cursor}}}}}"#);
        fake.seen().script.push_back(answer(&page));
        assert!(first(&api).await.expect("a page").is_none());
    }
    for (id, read) in [("7", Some("7")), ("\"\"", None), ("null", None)] {
        fake.seen()
            .script
            .push_back(answer(&format!(r#"{{"id":{id}}}"#)));
        let webhook = EventWebhook::new("n", "https://example.com/", "a secret").expect("one");
        let registered = api.register(webhook).await;
        assert_eq!(registered.ok().as_ref().map(Registered::id), read);
    }
}
