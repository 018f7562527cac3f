//! What operators do: look at dead letters, have them sent again or put away, replay an event,
//! trigger a delivery. Behind a bearer token that is compared in constant time.

use crate::{
    app::App,
    args::{Args, Problem as BadFlag},
    entries::DeadLetterDesk,
    events::{Event, job},
};
use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{FromRequest, Path, Query, Request, State, rejection::PathRejection},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{str::FromStr, sync::Arc, time::Duration};
use tower::ServiceBuilder;
use tower_webhook::{
    BufferBodyLayer, SignatureVerifyLayer, StoreError, StoreErrorKind,
    dead_letter::{Cursor, Discarded, EntryId, Filter, Page, Reason, json as record},
    idempotency::IdempotencyKey,
    problem::Problem,
    queue::{Enqueued, NewJob},
};

/// DeadLetterDesk in an answer, when nothing is said.
const PAGE: usize = 100;

/// What stands for the operator in the trail: whoever has the token.
const OPERATOR: &str = "operator";

/// The longest `Idempotency-Key`.
const MAX_KEY: usize = 255;

/// The operator routes.
pub fn router(args: &Args) -> Result<Router<Arc<App>>, BadFlag> {
    let scheme = args
        .operator_scheme()
        .map_err(|error| BadFlag::new("--operator-token", error))?;
    let routes = Router::new()
        .route("/webhooks/replay/{event_id}", post(replay))
        .route("/dead-letters", get(list))
        .route("/dead-letters/redrive", post(redrive_many))
        .route("/dead-letters/{id}", get(one).delete(discard))
        .route("/dead-letters/{id}/redrive", post(redrive_one))
        .route("/api/v2/webhooks/trigger", post(trigger));
    Ok(routes.route_layer(
        ServiceBuilder::new()
            .layer(BufferBodyLayer::new(args.max_body))
            .layer(SignatureVerifyLayer::new(scheme)),
    ))
}

/// An answer that is a refusal.
pub struct Refused(Problem);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        self.0.into_response().map(Body::new)
    }
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

/// 503: the operator comes back.
impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        if error.kind() == StoreErrorKind::TooLarge {
            return Self(Problem::new(StatusCode::PAYLOAD_TOO_LARGE));
        }
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "the store cannot be asked"
        );
        Self(unavailable())
    }
}

fn unavailable() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE).retry_after(Duration::from_secs(2))
}

fn not_found() -> Refused {
    Refused(Problem::new(StatusCode::NOT_FOUND))
}

fn bad(field: &'static str, expected: impl Into<String>) -> Refused {
    let problem = Problem::new(StatusCode::BAD_REQUEST);
    Refused(problem.detail(expected.into()).member("field", field))
}

/// The entries, where they are kept in a place that can be asked.
fn entries(app: &App) -> Result<&DeadLetterDesk, Refused> {
    if app.entries.store().is_some() {
        return Ok(&app.entries);
    }
    let detail = "dead letters are posted to the callback of --dead-letters, which cannot be asked";
    Err(Problem::new(StatusCode::NOT_IMPLEMENTED)
        .detail(detail)
        .into())
}

/// What is no id is no entry's.
fn entry_id(path: Result<Path<String>, PathRejection>) -> Result<EntryId, Refused> {
    let id = path.map(|Path(id)| id).unwrap_or_default();
    id.parse().map_err(|_| not_found())
}

/// Which entries: of a list's query, and of a re-drive's body.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wanted {
    reason: Option<String>,
    target: Option<String>,
    event_id: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
}

impl Wanted {
    /// Of a list: what is said with an empty value is not said. A re-drive takes nobody's slip for
    /// "all".
    fn said(self) -> Self {
        let said = |text: Option<String>| text.filter(|text| !text.is_empty());
        Self {
            reason: said(self.reason),
            target: said(self.target),
            event_id: said(self.event_id),
            limit: said(self.limit),
            cursor: said(self.cursor),
        }
    }

    fn filter(&self) -> Result<Filter, Refused> {
        let mut filter = Filter::all();
        if let Some(name) = &self.reason {
            let reason = Reason::from_name(name).ok_or_else(|| {
                let names: Vec<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
                bad(
                    "reason",
                    format!("`reason` must be one of {}", names.join(", ")),
                )
            })?;
            filter = filter.reason(reason);
        }
        if let Some(target) = &self.target {
            filter = filter.target(target);
        }
        if let Some(event_id) = &self.event_id {
            filter = filter.event_id(event_id);
        }
        Ok(filter)
    }

    fn page(&self) -> Result<Page, Refused> {
        let limit = match &self.limit {
            None => PAGE,
            Some(text) => text
                .parse()
                .ok()
                .filter(|limit| (1..=Page::MAX).contains(limit))
                .ok_or_else(|| bad("limit", format!("`limit` must be 1 to {}", Page::MAX)))?,
        };
        let page = Page::first(limit);
        match &self.cursor {
            None => Ok(page),
            Some(text) => Cursor::from_str(text)
                .map(|cursor| page.after(cursor))
                .map_err(|_| bad("cursor", "`cursor` must be the `nextCursor` of a list")),
        }
    }
}

/// `GET /dead-letters`: newest first.
async fn list(
    State(app): State<Arc<App>>,
    query: Result<Query<Wanted>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Refused> {
    let Query(wanted) = query.map_err(|error| bad("query", error.body_text()))?;
    let wanted = wanted.said();
    let (filter, page) = (wanted.filter()?, wanted.page()?);
    let store = entries(&app)?.store().ok_or_else(not_found)?;
    let listing = store.list(&filter, &page).await?;
    Ok(as_json(record::listing_json(&listing)))
}

fn as_json(body: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body.into()).into_response()
}

/// `GET /dead-letters/{id}`: the whole record.
async fn one(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Refused> {
    let id = entry_id(id)?;
    let store = entries(&app)?.store().ok_or_else(not_found)?;
    let entry = store.get(id).await?.ok_or_else(not_found)?;
    Ok(as_json(record::to_json(&entry)))
}

/// `DELETE /dead-letters/{id}`.
async fn discard(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Refused> {
    let id = entry_id(id)?;
    let store = entries(&app)?.store().ok_or_else(not_found)?;
    match store.discard(id).await? {
        Discarded::Done => {
            app.events.audit("discard", &id.to_string()).await?;
            Ok(StatusCode::NO_CONTENT)
        }
        Discarded::InProgress => {
            let detail = "the entry is just being sent again";
            Err(Problem::new(StatusCode::CONFLICT).detail(detail).into())
        }
        Discarded::Missing => Err(not_found()),
    }
}

/// `POST /dead-letters/{id}/redrive`: sends one again, in the background. It leaves the entries
/// when it is delivered.
async fn redrive_one(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Refused> {
    let id = entry_id(id)?;
    let store = entries(&app)?.store().ok_or_else(not_found)?;
    store.get(id).await?.ok_or_else(not_found)?;
    let queued = app.entries.redrive_one(id, OPERATOR).await;
    if queued {
        app.events.audit("redrive", &id.to_string()).await?;
    }
    Ok(started(1, u64::from(queued)))
}

/// `POST /dead-letters/redrive`: sends all again that the body's filter names.
async fn redrive_many(State(app): State<Arc<App>>, body: Bytes) -> Result<Response, Refused> {
    let wanted: Wanted = match body.as_ref() {
        [] => Wanted::default(),
        body => serde_json::from_slice(body).map_err(|error| bad("filter", error.to_string()))?,
    };
    if wanted.limit.is_some() || wanted.cursor.is_some() {
        return Err(bad("filter", "`limit` and `cursor` are for lists"));
    }
    let filter = wanted.filter()?;
    let store = entries(&app)?.store().ok_or_else(not_found)?;
    let matched = store.count(&filter).await?;
    let subject = serde_json::to_string(&json!({
        "reason": wanted.reason, "target": wanted.target, "eventId": wanted.event_id,
    }));
    app.events
        .audit("redrive", &subject.unwrap_or_default())
        .await?;
    let queued = if app.entries.redrive_many(filter, OPERATOR) {
        matched
    } else {
        0
    };
    Ok(started(matched, queued))
}

fn started(matched: u64, queued: u64) -> Response {
    let counts = json!({ "status": "queued", "matched": matched, "queued": queued });
    (StatusCode::ACCEPTED, Json(counts)).into_response()
}

/// `POST /webhooks/replay/{eventId}`: delivers a stored event once more. It was verified when it
/// came, so neither its signature nor the age of its timestamp is asked for again, and that it is
/// known is no reason to refuse it.
async fn replay(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Refused> {
    let id = id.map(|Path(id)| id).unwrap_or_default();
    let event = app.events.find(id).await?.ok_or_else(not_found)?;
    let queued = app.queue.enqueue(repetition(&event, &app)).await?;
    app.events.audit("replay", event.key.id()).await?;
    Ok(queued_as(queued))
}

/// A job like the event's own, but for the key, under which it is known.
fn repetition(event: &Event, app: &App) -> NewJob {
    let mut job = job(&event.key, event.body.clone(), &app.target);
    job.dedup_key = None;
    job.about.replay_of = Some(event.key.id().to_owned());
    job.about.replays = 1;
    job
}

/// `POST /api/v2/webhooks/trigger`: delivers a JSON object that did not come from a sender. One
/// with an `Idempotency-Key` is delivered once.
async fn trigger(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    req: Request,
) -> Result<Response, Refused> {
    let body = Bytes::from_request(req, &())
        .await
        .map_err(|_| bad("body", "the body cannot be read"))?;
    let payload: Value =
        serde_json::from_slice(&body).map_err(|error| bad("body", error.to_string()))?;
    let Some(payload) = payload.as_object() else {
        return Err(bad("body", "the body must be a JSON object"));
    };
    let key = match headers.get("idempotency-key") {
        None => None,
        Some(key) => {
            let key = key.to_str().unwrap_or_default();
            if key.len() > MAX_KEY {
                return Err(bad("idempotency-key", "the key is too long"));
            }
            let key = IdempotencyKey::new("trigger", key);
            Some(key.map_err(|error| bad("idempotency-key", error.to_string()))?)
        }
    };
    // S1 audits the event's own id.
    let named = ["id", "eventId"].iter().find_map(|name| payload.get(*name));
    let named = named.and_then(Value::as_str).map(str::to_owned);
    if named.as_ref().is_some_and(|id| id.len() > MAX_KEY) {
        return Err(bad("id", format!("an id has at most {MAX_KEY} bytes")));
    }

    let key = match key {
        Some(key) => key,
        // Its own: no other trigger is the same.
        None => IdempotencyKey::new("trigger", &uuid::Uuid::new_v4().to_string())
            .map_err(|error| bad("idempotency-key", error.to_string()))?,
    };
    let mut job = job(&key, body, &app.target);
    if named.is_some() {
        job.about.event_id = named;
    }
    let event_id = job.about.event_id.clone().unwrap_or_default();
    let queued = app.events.accept(job).await?;
    app.events.audit("trigger", &event_id).await?;
    Ok(queued_as(queued))
}

fn queued_as(queued: Enqueued) -> Response {
    let answer = json!({ "status": "queued", "taskId": queued.id.to_string() });
    (StatusCode::ACCEPTED, Json(answer)).into_response()
}
