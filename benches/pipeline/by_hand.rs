//! The same work as a team would wire it without this crate: time and number of requests in atomics, the body as
//! an extractor, `hmac` or `aws-lc-rs` and `data-encoding`, an event by `serde_json`, a claim in moka and the
//! answer stored there.

use crate::Payload;
use axum::{
    Router,
    body::Bytes,
    extract::{Request, State},
    middleware::{self, Next},
    response::Response,
    routing::post,
};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, StatusCode};
use moka::{policy::EvictionPolicy, sync::Cache};
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::Sha256;
use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tower_webhook::signature::Backend;

/// The ids borrowed from the body, and the payload left as it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code)]
struct Deferred<'a> {
    #[serde(borrow)]
    event_id: Cow<'a, str>,
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    payload: &'a RawValue,
    #[serde(borrow)]
    user_id: Option<Cow<'a, str>>,
}

/// Everything copied out of the body.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code)]
struct Owned {
    event_id: String,
    timestamp: String,
    #[serde(rename = "type")]
    kind: String,
    payload: serde_json::Value,
    user_id: Option<String>,
}

enum Key {
    AwsLc(aws_lc_rs::hmac::Key),
    RustCrypto(Hmac<Sha256>),
}

impl Key {
    fn new(backend: Backend) -> Self {
        use aws_lc_rs::hmac::{HMAC_SHA256, Key};
        let secret = crate::SECRET.as_bytes();
        match backend {
            Backend::AwsLc => Self::AwsLc(Key::new(HMAC_SHA256, secret)),
            _ => Self::RustCrypto(Hmac::new_from_slice(secret).expect("any length")),
        }
    }

    fn verify(&self, body: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::AwsLc(key) => aws_lc_rs::hmac::verify(key, body, signature).is_ok(),
            Self::RustCrypto(key) => {
                let mut mac = key.clone();
                mac.update(body);
                mac.verify_slice(signature).is_ok()
            }
        }
    }
}

struct Shared {
    key: Key,
    payload: Payload,
    /// Nothing while the first request runs, then its status.
    seen: Cache<String, Option<u16>>,
    requests: AtomicU64,
    failures: AtomicU64,
    nanos: AtomicU64,
}

pub fn router(backend: Backend, payload: Payload) -> Router {
    let shared = Arc::new(Shared {
        key: Key::new(backend),
        payload,
        seen: Cache::builder()
            .max_capacity(100_000)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(Duration::from_secs(7 * 24 * 60 * 60))
            .build(),
        requests: AtomicU64::new(0),
        failures: AtomicU64::new(0),
        nanos: AtomicU64::new(0),
    });
    Router::new()
        .route("/webhooks/cognigy", post(receive))
        .layer(middleware::from_fn_with_state(shared.clone(), measure))
        .with_state(shared)
}

async fn measure(State(shared): State<Arc<Shared>>, req: Request, next: Next) -> Response {
    let start = Instant::now();
    let response = next.run(req).await;
    shared.requests.fetch_add(1, Relaxed);
    if response.status().is_server_error() {
        shared.failures.fetch_add(1, Relaxed);
    }
    let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
    shared.nanos.fetch_add(nanos, Relaxed);
    response
}

async fn receive(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let Some(signature) = headers.get("x-cognigy-signature") else {
        return StatusCode::UNAUTHORIZED;
    };
    let Ok(signature) = data_encoding::BASE64.decode(signature.as_bytes()) else {
        return StatusCode::UNAUTHORIZED;
    };
    if !shared.key.verify(&body, &signature) {
        return StatusCode::UNAUTHORIZED;
    }
    match shared.payload {
        Payload::Deferred => match serde_json::from_slice::<Deferred<'_>>(&body) {
            Ok(event) => once(&shared, event.event_id.clone().into_owned(), event),
            Err(_) => StatusCode::BAD_REQUEST,
        },
        Payload::Owned => match serde_json::from_slice::<Owned>(&body) {
            Ok(event) => once(&shared, event.event_id.clone(), event),
            Err(_) => StatusCode::BAD_REQUEST,
        },
    }
}

/// Handles an event whose id was not seen before.
fn once<E>(shared: &Shared, id: String, event: E) -> StatusCode {
    let claim = shared.seen.entry(id.clone()).or_insert_with(|| None);
    if !claim.is_fresh() {
        return match claim.into_value() {
            Some(status) => StatusCode::from_u16(status).expect("a status"),
            None => StatusCode::CONFLICT,
        };
    }
    let status = StatusCode::OK;
    std::hint::black_box(event);
    shared.seen.insert(id, Some(status.as_u16()));
    status
}
