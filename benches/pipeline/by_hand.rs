//! The same work as a team would wire it without this crate: the body as an extractor, `hmac` and
//! `data-encoding`, an owned struct by `serde_json`, a claim in moka and the answer stored there.

use axum::{Router, body::Bytes, extract::State, routing::post};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, StatusCode};
use moka::{policy::EvictionPolicy, sync::Cache};
use serde::Deserialize;
use sha2::Sha256;
use std::{sync::Arc, time::Duration};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    event_id: String,
    #[allow(dead_code)]
    timestamp: String,
    #[serde(rename = "type")]
    #[allow(dead_code)]
    kind: String,
    #[allow(dead_code)]
    payload: serde_json::Value,
    #[allow(dead_code)]
    user_id: Option<String>,
}

#[derive(Clone)]
struct Shared {
    key: Hmac<Sha256>,
    /// Nothing while the first request runs, then its status.
    seen: Cache<String, Option<u16>>,
}

pub fn router() -> Router {
    let shared = Shared {
        key: Hmac::new_from_slice(crate::SECRET.as_bytes()).expect("any length"),
        seen: Cache::builder()
            .max_capacity(100_000)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(Duration::from_secs(7 * 24 * 60 * 60))
            .build(),
    };
    Router::new()
        .route("/webhooks/cognigy", post(receive))
        .with_state(Arc::new(shared))
}

async fn receive(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let Some(signature) = headers.get("x-cognigy-signature") else {
        return StatusCode::UNAUTHORIZED;
    };
    let Ok(signature) = data_encoding::BASE64.decode(signature.as_bytes()) else {
        return StatusCode::UNAUTHORIZED;
    };
    let mut mac = shared.key.clone();
    mac.update(&body);
    if mac.verify_slice(&signature).is_err() {
        return StatusCode::UNAUTHORIZED;
    }
    let Ok(event) = serde_json::from_slice::<Event>(&body) else {
        return StatusCode::BAD_REQUEST;
    };
    let claim = shared
        .seen
        .entry(event.event_id.clone())
        .or_insert_with(|| None);
    if !claim.is_fresh() {
        return match claim.into_value() {
            Some(status) => StatusCode::from_u16(status).expect("a status"),
            None => StatusCode::CONFLICT,
        };
    }
    let status = StatusCode::OK;
    let id = event.event_id.clone();
    std::hint::black_box(event);
    shared.seen.insert(id, Some(status.as_u16()));
    status
}
