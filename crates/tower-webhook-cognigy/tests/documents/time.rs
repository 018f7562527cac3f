//! Under a paused clock: when a call is made again, when it is given up, and what is forgotten.

use crate::full::full;
use futures_util::StreamExt;
use http::{Request, Response, StatusCode, header::RETRY_AFTER};
use serde_json::json;
use std::{
    collections::VecDeque,
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::Instant;
use tower::{ServiceExt, service_fn};
use tower_webhook::{
    BoxError,
    body::BufferedBody,
    outcome::{OutcomeKind, Unreached},
    retry::{HintLimit, RetryConfig},
    target::TargetRules,
};
use tower_webhook_cognigy::{
    ApiErrorKind,
    connection::{Connection, ConnectionBuilder},
    documents::{BulkItem, Monitor, PolicyUpdate, RetryPolicy, WebhookEndpoint, Webhooks},
    https::HttpsClient,
};

const URL: &str = "https://api.cognigy.ai";

type Answer = Result<Response<BufferedBody>, BoxError>;

/// An API that answers with a script, and then with a webhook; and the moments at which it was asked.
fn api<const N: usize>(script: [Answer; N]) -> (Webhooks, Arc<Mutex<Vec<Duration>>>) {
    let (connection, asked) = scripted(script);
    let connection = connection.build().expect("a connection");
    (Webhooks::over(connection), asked)
}

fn scripted<const N: usize>(script: [Answer; N]) -> (ConnectionBuilder, Arc<Mutex<Vec<Duration>>>) {
    let (began, asked) = (Instant::now(), Arc::<Mutex<Vec<_>>>::default());
    let (log, script) = (Arc::clone(&asked), Mutex::new(VecDeque::from(script)));
    let script = Arc::new(script);
    let transport = service_fn(move |_: Request<BufferedBody>| {
        log.lock().expect("a log").push(began.elapsed());
        let next = script.lock().expect("a script").pop_front();
        let webhook = || Ok(Response::new(BufferedBody::from(r#"{"id":"wh_1"}"#)));
        let answer = next.unwrap_or_else(webhook);
        async {
            tokio::task::yield_now().await;
            answer
        }
    });
    (Connection::builder(URL).transport(transport), asked)
}

fn failed(status: StatusCode) -> Response<BufferedBody> {
    let mut answer = Response::new(BufferedBody::default());
    *answer.status_mut() = status;
    answer
}

fn over_the_limit(retry_after: Option<&'static str>) -> Response<BufferedBody> {
    let mut answer = failed(StatusCode::TOO_MANY_REQUESTS);
    let value = retry_after.map(http::HeaderValue::from_static);
    answer
        .headers_mut()
        .extend(value.map(|value| (RETRY_AFTER, value)));
    answer
}

fn endpoint() -> WebhookEndpoint {
    let endpoint = WebhookEndpoint::builder("abc", "https://example.com/");
    endpoint.build().expect("an endpoint")
}

fn policy() -> RetryPolicy {
    RetryPolicy::builder().build().expect("the defaults")
}

/// The times between the requests, in seconds.
fn waits(asked: &Mutex<Vec<Duration>>) -> Vec<f64> {
    let asked = asked.lock().expect("a log");
    let waits = asked.windows(2).map(|two| two[1].saturating_sub(two[0]));
    waits.map(|wait| wait.as_secs_f64()).collect()
}

#[tokio::test(start_paused = true)]
async fn s0_a_policy_over_the_rate_limit_is_sent_three_times_more_when_the_server_says() {
    let busy = || Ok(over_the_limit(Some("7")));
    let (api, asked) = api([busy(), busy(), busy()]);
    let update = api.set_retry_policy("bot", "hook", &policy(), "key").await;
    assert!(matches!(update, Ok(PolicyUpdate::Updated(_))));
    let waited = waits(&asked);
    assert_eq!(waited.len(), 3);
    for (wait, own) in waited.iter().zip([2.0_f64, 4.0, 8.0]) {
        // As long as the server says, or by the own delays where they are longer.
        let least = own.max(7.0);
        assert!((least..=least * 1.1 + 1.0).contains(wait), "{waited:?}");
    }

    // Where it says nothing, after two seconds, as in the document, and up to one more.
    let (api, asked) = self::api([Ok(over_the_limit(None))]);
    let update = api.set_retry_policy("bot", "hook", &policy(), "key").await;
    assert!(update.is_ok());
    assert!((2.0..=3.01).contains(&waits(&asked)[0]));

    let (api, asked) = self::api([busy(), busy(), busy(), busy()]);
    let error = api.set_retry_policy("bot", "hook", &policy(), "key").await;
    assert_eq!(error.expect_err("429").kind(), ApiErrorKind::Throttled);
    assert_eq!(asked.lock().expect("a log").len(), 4);
}

#[tokio::test(start_paused = true)]
async fn s2_a_registration_over_the_rate_limit_is_sent_four_times_more_after_growing_waits() {
    let busy = || Ok(over_the_limit(None));
    let (api, asked) = api([busy(), busy(), busy(), busy(), busy(), busy()]);
    let error = api.register(endpoint()).await.expect_err("429");
    assert_eq!(error.kind(), ApiErrorKind::Throttled);
    let waited = waits(&asked);
    assert_eq!(waited.len(), 4, "five requests");
    for (wait, least) in waited.iter().zip([1.0, 2.0, 4.0, 8.0]) {
        assert!((least..=least + 0.51).contains(wait), "{waited:?}");
    }

    let (api, asked) = self::api([Ok(over_the_limit(Some("20")))]);
    api.register(endpoint()).await.expect("registered");
    let waited = waits(&asked)[0];
    assert!((20.0..=22.01).contains(&waited), "{waited}");
}

/// A server that says a day is asked again after five minutes, or not at all, as the settings say.
#[tokio::test(start_paused = true)]
async fn a7_10_no_server_chooses_a_wait_beyond_the_limit() {
    let busy = || Ok(over_the_limit(Some("86400")));
    let (api, asked) = api([busy(), busy(), busy(), busy(), busy()]);
    let error = api.register(endpoint()).await.expect_err("429");
    assert_eq!(error.kind(), ApiErrorKind::Throttled);
    let waited = waits(&asked);
    assert_eq!(waited.len(), 4);
    assert!(waited.iter().all(|wait| *wait <= 300.0), "{waited:?}");

    for (limit, requests) in [
        (HintLimit::CapTo(Duration::from_secs(10)), 2),
        (HintLimit::GiveUp(Duration::from_secs(10)), 1),
    ] {
        let retry = RetryConfig::builder().attempts(2).hint_limit(limit).build();
        let (connection, asked) = scripted([busy(), busy(), busy(), busy(), busy()]);
        let connection = connection.retry(retry.expect("settings")).build();
        let api = Webhooks::over(connection.expect("a connection"));
        let error = api.register(endpoint()).await.expect_err("429");
        assert_eq!(error.kind(), ApiErrorKind::Throttled);
        assert_eq!(asked.lock().expect("a log").len(), requests);
        assert!(waits(&asked).iter().all(|wait| *wait <= 10.0));
    }
}

/// A policy is sent again unless it is known to be the one that the server took last.
#[tokio::test(start_paused = true)]
async fn a_policy_that_was_set_beside_another_is_not_skipped() {
    let (api, asked) = api([]);
    let other = RetryPolicy::builder().max_attempts(7).build().expect("one");
    let set = |policy: RetryPolicy| {
        let api = api.clone();
        async move { api.set_retry_policy("bot", "hook", &policy, "key").await }
    };
    let (one, two) = tokio::join!(set(policy()), set(other));
    assert!(one.is_ok() && two.is_ok());
    let again = set(policy()).await.expect("an answer");
    assert!(matches!(again, PolicyUpdate::Updated(_)), "nobody knows");
    let again = set(policy()).await.expect("an answer");
    assert_eq!(again, PolicyUpdate::Skipped);
    assert_eq!(asked.lock().expect("a log").len(), 3);
}

#[tokio::test(start_paused = true)]
async fn s2_a_registration_that_may_have_arrived_is_not_sent_again_and_one_that_never_left_is() {
    // The document's program sends both again, and registers the webhook twice.
    let (api, asked) = api([Err("connection reset".into())]);
    let error = api.register(endpoint()).await.expect_err("nobody knows");
    assert_eq!(error.kind(), ApiErrorKind::Transport);
    assert_eq!(asked.lock().expect("a log").len(), 1);

    let (api, asked) = self::api([Err(Unreached::new().into()), Err(Unreached::new().into())]);
    api.register(endpoint()).await.expect("registered");
    let waited = waits(&asked);
    for (wait, least) in waited.iter().zip([1.0, 2.0]) {
        assert!((least..=least + 0.51).contains(wait), "{waited:?}");
    }
    assert_eq!(waited.len(), 2);
}

/// What S0 and S1 advise.
#[tokio::test(start_paused = true)]
async fn s0_and_s1_an_api_that_fails_is_left_alone_by_a_circuit_breaker() {
    use ApiErrorKind::{Refused, Server};
    let failing = || [(); 20].map(|()| Ok(failed(StatusCode::INTERNAL_SERVER_ERROR)));
    let retry = RetryConfig::builder().attempts(1).build();
    let (connection, asked) = scripted(failing());
    let connection = connection.retry(retry.expect("settings")).build();
    let api = Webhooks::over(connection.expect("a connection"));
    let mut kinds = Vec::new();
    for _ in 0..8 {
        let error = api.register(endpoint()).await.expect_err("500");
        kinds.push(error.kind());
    }
    assert_eq!(kinds[..5], [Server; 5]);
    assert_eq!(kinds[5..], [Refused; 3]);
    assert_eq!(asked.lock().expect("a log").len(), 5);
    assert_eq!(api.connection().metrics().snapshot().breaker_trips(), 1);

    // By default a call waits for the breaker: what follows a short outage is not thrown away.
    let (api, asked) = self::api([(); 6].map(|()| Ok(failed(StatusCode::INTERNAL_SERVER_ERROR))));
    let many = (0..1000).map(|_| endpoint());
    let items: Vec<BulkItem> = api.register_all(many, 4).collect().await;
    let failed = items.iter().filter(|item| item.result.is_err()).count();
    assert_eq!((items.len(), failed), (1000, 6));
    assert_eq!(asked.lock().expect("a log").len(), 1000);
}

#[tokio::test(start_paused = true)]
async fn s0_and_s2_a_host_that_takes_no_connection_is_given_up_after_ten_seconds() {
    let (full, _queued) = full().await;
    let address = full.local_addr().expect("an address");
    let rules = TargetRules::new().allow_private(true);
    let client = HttpsClient::builder().rules(rules).build();
    let req = Request::get(format!("https://{address}/")).body(BufferedBody::default());
    let began = Instant::now();
    let error = client.oneshot(req.expect("a request")).await;
    let error = error.expect_err("no connection");
    assert_eq!(error.outcome().kind(), OutcomeKind::Unreached, "{error}");
    assert_eq!(began.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn s0_and_s2_an_attempt_is_given_up_after_thirty_seconds_and_a_record_after_ten() {
    let hangs = || service_fn(|_: Request<BufferedBody>| pending::<Answer>());
    let connection = Connection::builder(URL).transport(hangs());
    let api = Webhooks::over(connection.build().expect("a connection"));
    let began = Instant::now();
    let error = api.register(endpoint()).await.expect_err("no answer");
    assert_eq!(error.kind(), ApiErrorKind::Transport);
    assert_eq!(began.elapsed().as_secs(), 30);

    let monitor = Monitor::with(
        "https://monitoring.example.com/api/audits",
        TargetRules::new(),
        hangs(),
    );
    let began = Instant::now();
    let posted = monitor.expect("a monitor").post(&json!({})).await;
    assert_eq!(
        posted.expect_err("no answer").kind(),
        ApiErrorKind::Transport
    );
    assert_eq!(began.elapsed().as_secs(), 10);
}

/// In S0 the hashes of all policies are kept for ever.
#[tokio::test(start_paused = true)]
async fn s0_what_is_remembered_of_policies_is_bounded_and_what_is_forgotten_is_sent_again() {
    const MOST: usize = 10_000;
    let (api, asked) = api([]);
    let set = async |hook: usize| {
        let hook = format!("wh_{hook}");
        let update = api.set_retry_policy("bot", &hook, &policy(), "key").await;
        update.expect("taken")
    };
    for hook in 0..MOST {
        set(hook).await;
    }
    assert_eq!(set(0).await, PolicyUpdate::Skipped);
    assert!(matches!(set(MOST).await, PolicyUpdate::Updated(_)));
    assert!(matches!(set(0).await, PolicyUpdate::Updated(_)));
    assert_eq!(asked.lock().expect("a log").len(), MOST + 2);
}
