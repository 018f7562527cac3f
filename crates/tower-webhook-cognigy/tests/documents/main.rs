//! The client of the documents' API, against a strict fake of it over HTTPS.

#[path = "../support/fake_documents.rs"]
mod fake_documents;
#[path = "../support/full.rs"]
mod full;
#[path = "../support/https.rs"]
mod https;

mod alert;
mod bulk;
mod client;
mod errors;
mod headers;
mod limits;
mod time;
mod wire;

use fake_documents::{Fake, KEY};
use std::time::Duration;
use tower_webhook::{
    retry::{Backoff, RetryConfig},
    target::TargetRules,
};
use tower_webhook_cognigy::{
    connection::{Connection, ConnectionBuilder},
    credential::Credential,
    documents::Webhooks,
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
async fn start(fake: &Fake) -> (https::Server, ConnectionBuilder) {
    let server = https::serve(fake.app()).await;
    let connection = Connection::builder(&server.url)
        .credential(Credential::api_key(KEY).expect("a key"))
        .rules(TargetRules::new().allow_private(true))
        .root_certificates(server.root.as_bytes())
        .retry(quick_retry());
    (server, connection)
}

async fn api(fake: &Fake) -> (https::Server, Webhooks) {
    let (server, connection) = start(fake).await;
    (
        server,
        Webhooks::over(connection.build().expect("a connection")),
    )
}
