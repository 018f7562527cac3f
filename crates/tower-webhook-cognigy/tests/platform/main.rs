//! The official platform: its messages, the payloads around it, their signatures, and the clients.
//!
//! The documented examples are literals. Those marked O are from the official documentation or its packages.
#![cfg(feature = "platform")]

#[path = "../support/fake_platform.rs"]
mod fake_platform;
#[path = "../support/https.rs"]
mod https;

mod endpoint;
mod management;
mod messages;
mod payloads;
mod signature;

use fake_platform::{Fake, KEY};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::time::Duration;
use tower_webhook::{
    retry::{Backoff, RetryConfig},
    target::TargetRules,
};
use tower_webhook_cognigy::{
    connection::{Connection, ConnectionBuilder},
    credential::Credential,
    platform::ApiClient,
};

fn quick_retry() -> RetryConfig {
    let backoff = Backoff::constant(Duration::from_millis(1)).build();
    let retry = RetryConfig::builder().attempts(4);
    retry
        .backoff(backoff.expect("a delay"))
        .build()
        .expect("a policy")
}

/// The fake behind HTTPS, and a connection to it that waits little.
async fn connection(fake: &Fake) -> (https::Server, ConnectionBuilder) {
    let server = https::serve(fake.app()).await;
    let connection = Connection::builder(&server.url)
        .rules(TargetRules::new().allow_private(true))
        .root_certificates(server.root.as_bytes())
        .retry(quick_retry());
    (server, connection)
}

/// A client of the fake's management API.
async fn api(fake: &Fake) -> (https::Server, ApiClient) {
    let (server, connection) = connection(fake).await;
    let credential = Credential::api_key(KEY).expect("a key");
    let connection = connection.credential(credential).build();
    (server, ApiClient::over(connection.expect("a connection")))
}

/// Reads `json` and asserts that it is written back as equal JSON.
#[track_caller]
fn unchanged<T: Serialize + DeserializeOwned>(json: &str) -> T {
    let before: Value = serde_json::from_str(json).expect("the test's JSON");
    let typed: T = serde_json::from_str(json).expect("it fits the type");
    let after = serde_json::to_value(&typed).expect("it can be written");
    assert_eq!(after, before);
    // Through text as well, because numbers could change there.
    let text = serde_json::to_string(&typed).expect("it can be written");
    let again: Value = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!(again, before);
    typed
}
