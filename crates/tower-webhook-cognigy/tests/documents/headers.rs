//! What every call carries, whatever it is for.

use crate::{
    api,
    fake_documents::{Fake, KEY},
};
use futures_util::TryStreamExt;
use serde_json::json;
use tower_webhook_cognigy::documents::{
    EventWebhook, ListedWebhook, PolicyUpdate, RetryPolicy, WebhookDefinition, WebhookEndpoint,
};

#[tokio::test]
async fn s2_every_call_has_the_key_and_accepts_json_and_every_body_is_json() {
    let fake = Fake::default();
    fake.seen().limits = Some(json!({}));
    let page = (vec![json!({"id": "wh_1"})], None);
    fake.seen().pages.insert(String::new(), page);
    let (_server, api) = api(&fake).await;
    let endpoint = WebhookEndpoint::builder("abc", "https://example.com/").build();
    api.register(endpoint.expect("S2")).await.expect("S2");
    let events = EventWebhook::new("abc", "https://example.com/", "secret").expect("S4");
    api.register(events).await.expect("S4");
    let policy = RetryPolicy::builder().build().expect("the defaults");
    let set = api.set_retry_policy("bot", "wh_1", &policy, "rev-1").await;
    assert!(matches!(set, Ok(PolicyUpdate::Updated(_))));
    let _: Vec<ListedWebhook> = api.list("bot").try_collect().await.expect("a list");
    api.execution_limits().await.expect("limits");
    let definition = WebhookDefinition::builder("abc", "https://example.com/").build();
    let _ = api.validate(&definition.expect("S1"), false).await;

    let seen = fake.seen();
    let methods: Vec<_> = seen
        .requests
        .iter()
        .filter_map(|of| of.0.split(' ').next())
        .collect();
    assert_eq!(methods, ["POST", "POST", "PATCH", "GET", "GET", "GET"]);
    for (line, headers, body) in &seen.requests {
        assert_eq!(headers["x-api-key"], KEY, "{line}");
        assert_eq!(headers["accept"], "application/json", "{line}");
        let told = headers.get("content-type").map(http::HeaderValue::as_bytes);
        let is = (!body.is_empty()).then_some(&b"application/json"[..]);
        assert_eq!(told, is, "{line}");
    }
}
