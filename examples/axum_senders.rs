//! One axum server for GitHub, Stripe and a sender that uses Svix: each has its route, its secret and its own idea of
//! what makes an event the same.
//!
//! ```sh
//! GITHUB_SECRET=... STRIPE_SECRET=whsec_... SVIX_SECRET=whsec_... cargo run --example axum_senders --features axum
//! ```

use axum::{Json, Router, body::Bytes, http::HeaderMap, routing::post};
use http::HeaderName;
use serde_json::Value;
use std::env;
use tokio::net::TcpListener;
use tower_webhook::{
    BoxError,
    idempotency::{KeySource, MemoryStore},
    signature::{
        Signed,
        scheme::{GitHub, StandardWebhooks, Stripe},
    },
    stack,
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let store = MemoryStore::default();
    // A redelivery keeps its id. GitHub does not sign the id, so this stops only genuine repeats: anyone
    // who has one signed delivery can send it again with another id.
    let delivery = KeySource::header(HeaderName::from_static("x-github-delivery"));
    let github = stack::receive(GitHub::new(
        env::var("GITHUB_SECRET").expect("GITHUB_SECRET is set"),
    )?)
    .max_body(25 << 20) // the largest that GitHub sends
    .once_by(store.clone(), delivery)
    .build();
    // Stripe's id is in the body, which the signature covers.
    let stripe = stack::receive(Stripe::new(
        env::var("STRIPE_SECRET").expect("STRIPE_SECRET is set"),
    )?)
    .once_by(store.clone(), KeySource::json_pointer("/id")?)
    .build();
    // Svix signs the id.
    let svix = stack::receive(StandardWebhooks::svix(
        env::var("SVIX_SECRET").expect("SVIX_SECRET is set"),
    )?)
    .once(store)
    .build();
    let app = Router::new()
        .route("/github", post(on_delivery).layer(github))
        .route("/stripe", post(on_event).layer(stripe))
        .route("/svix", post(on_event).layer(svix));

    let address = env::args().nth(1).unwrap_or("127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

async fn on_delivery(headers: HeaderMap, Signed(body): Signed<Bytes>) -> String {
    let event = headers.get("x-github-event");
    let event = event.and_then(|name| name.to_str().ok());
    format!("{}: {} bytes", event.unwrap_or("unnamed"), body.len())
}

async fn on_event(Signed(Json(event)): Signed<Json<Value>>) -> String {
    event["type"].as_str().unwrap_or("unnamed").to_owned()
}
