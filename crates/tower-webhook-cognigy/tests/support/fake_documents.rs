//! The API of the documents, written from their text: it refuses what they do not say, by field and by header.

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
    routing::{get, patch, post},
};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};

/// The credentials that it takes: S2's, and the token of S0, S1 and S4, which it gives for the client's id and secret.
pub const KEY: &str = "the-api-key-of-the-test";
pub const TOKEN: &str = "the-token-of-the-test";
pub const CLIENT: (&str, &str) = ("a client", "its+secret");

/// The longest body, in bytes.
pub const MAX_BODY: usize = 64 << 10;

#[derive(Clone, Default)]
pub struct Fake(Arc<Mutex<Seen>>);

#[derive(Default)]
pub struct Seen {
    /// Every request: method and target, headers, body.
    pub requests: Vec<(String, HeaderMap, Bytes)>,
    /// The bodies of registered webhooks.
    pub registered: Vec<Value>,
    /// The policies by bot and webhook.
    pub policies: HashMap<(String, String), Value>,
    /// The payload that each idempotency key was used with.
    pub keys: HashMap<String, Bytes>,
    /// Answers that are given before anything is looked at.
    pub script: VecDeque<Response>,
    /// The pages of the list, by cursor: webhooks, and the next cursor.
    pub pages: HashMap<String, (Vec<Value>, Option<String>)>,
    pub limits: Option<Value>,
}

impl Fake {
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().expect("no test panics with it")
    }

    pub fn app(&self) -> Router {
        Router::new()
            .route("/api/v2/bots/{bot}/webhooks", get(list))
            .route("/api/v2/bots/{bot}/webhooks/{webhook}", patch(update))
            .route("/api/v2/webhooks", post(register))
            .route("/api/v1/webhooks", post(register_events))
            .route("/api/v2/flows/execution-limits", get(limits))
            .route("/api/v2/auth/token", post(basic_token))
            .route("/api/v1/auth/oauth/token", post(form_token))
            .layer(axum::middleware::from_fn_with_state(self.clone(), record))
            .with_state(self.clone())
    }
}

fn refused(status: u16, detail: &str) -> Response {
    let status = StatusCode::from_u16(status).expect("a status");
    (status, Json(json!({"detail": detail}))).into_response()
}

/// Keeps the request; checks what all of them need.
async fn record(
    State(fake): State<Fake>,
    req: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    let (head, body) = req.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX)
        .await
        .expect("a body");
    let line = format!("{} {}", head.method, head.uri);
    let scripted = {
        let mut seen = fake.seen();
        seen.requests
            .push((line, head.headers.clone(), body.clone()));
        seen.script.pop_front()
    };
    if let Some(answer) = scripted {
        return answer;
    }
    if body.len() > MAX_BODY {
        return refused(413, "longer than 64 kB");
    }
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    if !head.uri.path().ends_with("/token") {
        let bearer = header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        if header("x-api-key") != Some(KEY) && bearer != Some(TOKEN) {
            return refused(401, "no such key");
        }
        // Only S2 asks for it, and only S2 has a key.
        if bearer.is_none() && header("accept") != Some("application/json") {
            return refused(400, "Accept: application/json is missing");
        }
        if !body.is_empty() && header("content-type") != Some("application/json") {
            return refused(400, "Content-Type: application/json is missing");
        }
    }
    next.run(http::Request::from_parts(head, body.into())).await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ListQuery {
    page_size: u32,
    cursor: Option<String>,
}

async fn list(
    State(fake): State<Fake>,
    Path(bot): Path<String>,
    query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let Ok(Query(query)) = query else {
        return refused(400, "the query");
    };
    if query.page_size != 100 {
        return refused(400, "pageSize");
    }
    if bot == "nobody" {
        return refused(404, "no such bot");
    }
    let seen = fake.seen();
    let Some((items, next)) = seen.pages.get(&query.cursor.unwrap_or_default()) else {
        return refused(400, "no such cursor");
    };
    let mut page = Map::from_iter([("items".to_owned(), json!(items))]);
    if let Some(next) = next {
        page.insert("pagination".to_owned(), json!({"nextCursor": next}));
    }
    Json(page).into_response()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Policy {
    retry_policy: PolicyFields,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PolicyFields {
    enabled: bool,
    max_attempts: u32,
    backoff_strategy: String,
    #[allow(dead_code, reason = "that it is there is checked")]
    base_delay_ms: u64,
    #[allow(dead_code, reason = "that it is there is checked")]
    max_delay_ms: u64,
    max_retry_window_seconds: u64,
}

async fn update(
    State(fake): State<Fake>,
    Path((bot, webhook)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let policy = match serde_json::from_slice::<Policy>(&body) {
        Ok(policy) => policy.retry_policy,
        Err(error) => return refused(422, &error.to_string()),
    };
    if !policy.enabled
        || !(1..=10).contains(&policy.max_attempts)
        || policy.max_retry_window_seconds > 86_400
        || !["exponential", "linear"].contains(&policy.backoff_strategy.as_str())
    {
        return refused(422, "a value outside its limits");
    }
    let Some(key) = headers.get("idempotency-key") else {
        return refused(400, "Idempotency-Key is missing");
    };
    let key = key.to_str().expect("text").to_owned();
    let mut seen = fake.seen();
    if seen.keys.get(&key).is_some_and(|before| *before != body) {
        return refused(409, "the key was used with another payload");
    }
    seen.keys.insert(key, body.clone());
    let value: Value = serde_json::from_slice(&body).expect("JSON");
    seen.policies.insert((bot, webhook.clone()), value.clone());
    Json(json!({"id": webhook, "retryPolicy": value["retryPolicy"]})).into_response()
}

/// The fields of a form: those that must be there, and those that may.
fn fields_are(value: &Value, must: &[&str], may: &[&str]) -> Result<(), String> {
    let fields = value.as_object().ok_or("not an object")?;
    for name in must {
        if !fields.contains_key(*name) {
            return Err(format!("`{name}` is missing"));
        }
    }
    for name in fields.keys() {
        if !must.contains(&name.as_str()) && !may.contains(&name.as_str()) {
            return Err(format!("`{name}` is unknown"));
        }
    }
    Ok(())
}

async fn register(State(fake): State<Fake>, body: Bytes) -> Response {
    let Ok(value) = serde_json::from_slice::<Value>(&body) else {
        return refused(400, "no JSON");
    };
    let checked = if value.get("target_url").is_some() {
        let must = [
            "name",
            "target_url",
            "trigger_conditions",
            "payload_template",
            "timeout_seconds",
            "max_payload_size_kb",
        ];
        fields_are(&value, &must, &[])
    } else {
        let must = [
            "name",
            "url",
            "method",
            "headers",
            "payloadFormat",
            "isActive",
            "retryPolicy",
            "timeout",
        ];
        fields_are(&value, &must, &["signatureHeader", "signatureSecret"])
    };
    if let Err(why) = checked {
        return refused(422, &why);
    }
    let mut seen = fake.seen();
    seen.registered.push(value);
    let id = format!("wh_{}", seen.registered.len());
    let made = "2024-01-15T10:00:00Z";
    Json(json!({"id": id, "status": "active", "created_at": made})).into_response()
}

async fn register_events(State(fake): State<Fake>, body: Bytes) -> Response {
    let Ok(value) = serde_json::from_slice::<Value>(&body) else {
        return refused(400, "no JSON");
    };
    let must = ["name", "url", "secret", "events", "active"];
    if let Err(why) = fields_are(&value, &must, &[]) {
        return refused(422, &why);
    }
    let mut seen = fake.seen();
    seen.registered.push(value);
    (StatusCode::CREATED, Json(json!({"id": "wh_events"}))).into_response()
}

fn granted() -> Response {
    Json(json!({"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"})).into_response()
}

/// The credentials in a Basic header, and a form (S0) or JSON (S1).
async fn basic_token(headers: HeaderMap, body: Bytes) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let pair = format!("{}:{}", CLIENT.0, CLIENT.1);
    let basic = format!("Basic {}", data_encoding::BASE64.encode(pair.as_bytes()));
    if header("authorization") != Some(&basic) {
        return refused(401, "no such client");
    }
    let fits = match header("content-type") {
        Some("application/json") => &*body == br#"{"grant_type":"client_credentials"}"#,
        Some("application/x-www-form-urlencoded") => {
            fields(&body)
                == [
                    ("grant_type", "client_credentials"),
                    ("scope", "bot%3Awebhooks%3Amanage"),
                ]
        }
        _ => false,
    };
    if fits {
        granted()
    } else {
        refused(400, "neither the form nor the JSON of a client")
    }
}

/// All in a form (S4).
async fn form_token(headers: HeaderMap, body: Bytes) -> Response {
    let form = "application/x-www-form-urlencoded";
    let fits = headers.get("content-type").is_some_and(|kind| kind == form);
    let wants = [
        ("grant_type", "client_credentials"),
        ("client_id", "a+client"),
        ("client_secret", "its%2Bsecret"),
        ("scope", "webhook%3Aread+webhook%3Awrite+dialog%3Aread"),
    ];
    if fits && fields(&body) == wants {
        granted()
    } else {
        refused(400, "not the form of a client")
    }
}

/// The fields of a form, as they are encoded.
fn fields(body: &[u8]) -> Vec<(&str, &str)> {
    let text = std::str::from_utf8(body).unwrap_or_default();
    text.split('&')
        .map(|field| field.split_once('=').unwrap_or((field, "")))
        .collect()
}

async fn limits(State(fake): State<Fake>) -> Response {
    match fake.seen().limits.clone() {
        Some(limits) => Json(limits).into_response(),
        None => refused(503, "not now"),
    }
}
