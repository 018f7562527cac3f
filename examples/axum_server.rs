//! An axum endpoint for Standard Webhooks: each event is verified and handled once, in bounded memory.
//!
//! ```sh
//! WEBHOOK_SECRET=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw cargo run --example axum_server --features axum
//! ```

use axum::{Json, Router, routing::post};
use serde_json::{Value, json};
use std::env;
use tokio::net::TcpListener;
use tower_webhook::{
    BoxError,
    idempotency::MemoryStore,
    signature::{Signed, Verified, scheme::StandardWebhooks},
    stack,
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let scheme = StandardWebhooks::new(env::var("WEBHOOK_SECRET").expect("WEBHOOK_SECRET is set"))?;
    // What is unsigned is not even read.
    let receive = stack::receive(scheme).once(MemoryStore::default()).build();
    let app = Router::new().route("/hooks", post(on_event)).layer(receive);

    let address = env::args().nth(1).unwrap_or("127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

/// Runs once for each event, however often its sender repeats it.
async fn on_event(verified: Verified, Signed(Json(event)): Signed<Json<Value>>) -> Json<Value> {
    println!(
        "{} says {event}",
        verified.secret_label().unwrap_or("nobody")
    );
    Json(json!({ "handled": verified.id() }))
}
