//! GitHub webhooks: the signature of `X-Hub-Signature-256`, each delivery once.
//!
//! ```sh
//! WEBHOOK_SECRET="It's a Secret to Everybody" cargo run --example github_webhooks --features axum
//! ```

use axum::{Router, body::Bytes, http::HeaderMap, routing::post};
use http::{HeaderName, StatusCode};
use std::env;
use tokio::net::TcpListener;
use tower_webhook::{
    BoxError,
    idempotency::{KeySource, MemoryStore},
    signature::scheme::GitHub,
    stack,
};

/// The largest body that GitHub sends.
const MAX_BODY: usize = 25 << 20;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let scheme = GitHub::new(env::var("WEBHOOK_SECRET")?)?;
    // A redelivery keeps its id. GitHub does not sign the id, so this stops only genuine repeats: anyone
    // who has one signed delivery can send it again with another id.
    let key = KeySource::header(HeaderName::from_static("x-github-delivery"));
    let receive = stack::receive(scheme)
        .max_body(MAX_BODY)
        .once_by(MemoryStore::default(), key)
        .build()?;
    let app = Router::new()
        .route("/github", post(on_delivery))
        .layer(receive);

    let address = env::args().nth(1).unwrap_or("127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

async fn on_delivery(headers: HeaderMap, body: Bytes) -> (StatusCode, String) {
    let event = headers
        .get("x-github-event")
        .and_then(|name| name.to_str().ok());
    let event = event.unwrap_or("unnamed");
    (StatusCode::OK, format!("{event}: {} bytes\n", body.len()))
}
