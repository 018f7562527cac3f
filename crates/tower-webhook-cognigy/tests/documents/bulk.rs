//! Registering many.

use super::{Fake, api, start};
use axum::response::IntoResponse;
use futures_util::StreamExt;
use http::{Request, Response, StatusCode};
use std::{
    collections::BTreeSet,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::Instant;
use tower::service_fn;
use tower_webhook::body::BufferedBody;
use tower_webhook_cognigy::{
    connection::Connection,
    credential::{ClientCredentials, Credential, TokenSource},
    documents::{BulkItem, WebhookEndpoint, Webhooks},
    rate_limit::RateLimitLayer,
};

fn endpoints(count: usize) -> Vec<WebhookEndpoint> {
    let one = |index| {
        let endpoint = WebhookEndpoint::builder(format!("hook-{index}"), "https://example.com/");
        endpoint.build().expect("an endpoint")
    };
    (0..count).map(one).collect()
}

#[tokio::test]
async fn each_of_many_has_its_own_result_and_one_that_fails_stops_no_other() {
    let fake = Fake::default();
    let (_server, api) = api(&fake).await;
    for status in [200, 403, 200] {
        let status = StatusCode::from_u16(status).expect("a status");
        fake.seen()
            .script
            .push_back((status, r#"{"id":"wh"}"#).into_response());
    }
    let items: Vec<BulkItem> = api.register_all(endpoints(3), 1).collect().await;
    let json: Vec<_> = items
        .iter()
        .map(|item| serde_json::to_value(item).expect("JSON"))
        .collect();
    assert_eq!(
        json[0],
        serde_json::json!({"endpoint": "hook-0", "success": true, "data": {"id": "wh"}})
    );
    assert_eq!(json[1]["success"], false);
    assert!(json[1]["error"].as_str().expect("text").contains("403"));
    assert_eq!(json[2]["success"], true);
    assert_eq!(
        items.iter().map(|item| item.index).collect::<Vec<_>>(),
        [0, 1, 2]
    );
}

#[tokio::test]
async fn one_that_was_not_sent_says_why() {
    let (server, connection) = start(&Fake::default()).await;
    let api = Webhooks::over(connection.build().expect("a connection"));
    drop(server);
    let items: Vec<BulkItem> = api.register_all(endpoints(1), 1).collect().await;
    let json = serde_json::to_value(&items[0]).expect("JSON");
    let said = json["error"].as_str().expect("text");
    let begin = "cannot register the webhook: the server gave no answer: ";
    assert!(
        said.starts_with(begin) && said.contains("Connection refused"),
        "{said}"
    );
}

#[tokio::test]
async fn a_thousand_registrations_hold_the_rate_limit_exactly() {
    const LIMIT: usize = 100;
    let fake = Fake::default();
    let window = Duration::from_millis(200);
    let (_server, connection) = start(&fake).await;
    let limit = RateLimitLayer::new(LIMIT, window).expect("a limit");
    let api = Webhooks::over(connection.rate_limit(limit).build().expect("a connection"));
    let began = tokio::time::Instant::now();
    let items: Vec<BulkItem> = api.register_all(endpoints(1000), 16).collect().await;
    assert!(items.iter().all(|item| item.result.is_ok()));
    let names: BTreeSet<_> = items.iter().map(|item| item.name.as_str()).collect();
    assert_eq!((names.len(), fake.seen().registered.len()), (1000, 1000));
    // The last hundred may not begin before nine windows have passed.
    assert!(began.elapsed() >= 9 * window, "{:?}", began.elapsed());
}

/// Also where the token is refused in between, so that requests are sent once more.
#[tokio::test(start_paused = true)]
async fn in_no_window_there_are_more_requests_than_the_limit() {
    const LIMIT: usize = 60;
    let (log, window) = (
        Arc::<Mutex<Vec<Instant>>>::default(),
        Duration::from_secs(60),
    );
    let asked = Arc::clone(&log);
    let transport = service_fn(move |_: Request<BufferedBody>| {
        let mut asked = asked.lock().expect("a log");
        asked.push(Instant::now());
        let mut answer = Response::new(BufferedBody::from(r#"{"id":"wh"}"#));
        if matches!(asked.len(), 55..=70) {
            *answer.status_mut() = StatusCode::UNAUTHORIZED;
        }
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    let endpoint = service_fn(|_: Request<BufferedBody>| {
        let token = BufferedBody::from(r#"{"access_token":"t","expires_in":3600}"#);
        std::future::ready(Ok::<_, Infallible>(Response::new(token)))
    });
    let base = "https://api.cognigy.ai";
    let grant = ClientCredentials::basic_form("client", "secret");
    let tokens = TokenSource::builder(grant, base).build(endpoint);
    let limit = RateLimitLayer::new(LIMIT, window).expect("a limit");
    let connection = Connection::builder(base)
        .credential(Credential::token(tokens.expect("a source")))
        .rate_limit(limit)
        .transport(transport);
    let api = Webhooks::over(connection.build().expect("a connection"));
    let items: Vec<BulkItem> = api.register_all(endpoints(1000), 16).collect().await;
    assert_eq!(items.len(), 1000);
    let asked = log.lock().expect("a log");
    assert!(asked.len() > 1000, "some were sent once more");
    for within in asked.windows(LIMIT + 1) {
        assert!(within[LIMIT] - within[0] >= window);
    }
    // And no slower than it permits.
    let windows = u32::try_from(asked.len().div_ceil(LIMIT)).expect("few");
    assert!(asked[asked.len() - 1] - asked[0] < windows * window);
}

#[tokio::test]
async fn dropping_the_stream_sends_no_more() {
    let fake = Fake::default();
    let (_server, api) = api(&fake).await;
    let mut items = Box::pin(api.register_all(endpoints(100), 2));
    items.next().await.expect("the first");
    drop(items);
    assert!(fake.seen().registered.len() <= 4);
}
