//! The pipeline of the receiving side, and the routes around it.

use crate::{
    args::{Args, Problem as BadFlag},
    deliver::Deliverer,
    events::{Events, EventsError, NewEvent, Status},
    health::health,
    metrics::MetricsPage,
};
use axum::{
    Json, Router,
    extract::{FromRequest, Path, Request, State, rejection::PathRejection},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};
use http::{StatusCode, Uri, header};
use serde_json::json;
use std::{sync::Arc, time::Duration};
use tokio::sync::Notify;
use tower::ServiceBuilder;
use tower_http::{catch_panic::CatchPanicLayer, trace::TraceLayer};
use tower_webhook::{
    BufferBodyLayer, CognigyEvent, IdempotencyLayer, SignatureVerifyLayer,
    body::{BufferedBody, ResponseBody},
    cognigy::{Ack, DialogAnswer, platform::WebhookDelivery},
    idempotency::{Claim, Disposition, KeySource, Store},
    problem::Problem,
    signature::Scheme,
};

/// How long an accept may take before its key is free again: accepting is one insert.
const LEASE: Duration = Duration::from_secs(10);

/// What the routes and the background share.
pub struct App {
    pub events: Events,
    pub deliverer: Deliverer,
    pub page: MetricsPage,
    /// Rung when there is something to deliver.
    pub accepted: Notify,
    scheme: Arc<dyn Scheme>,
    endpoint_scheme: Arc<dyn Scheme>,
    max_body: usize,
}

impl App {
    pub fn new(args: &Args, events: Events, downstream: Uri) -> Result<Self, BadFlag> {
        let secret = |error| BadFlag::new("--secret", error);
        let page = MetricsPage::install()?;
        Ok(Self {
            events,
            deliverer: Deliverer::new(args, downstream, page.recorder())?,
            page,
            accepted: Notify::new(),
            scheme: args.scheme().map_err(secret)?.into(),
            endpoint_scheme: Arc::new(
                args.endpoint_scheme()
                    .map_err(|error| BadFlag::new("--endpoint-auth", error))?,
            ),
            max_body: args.max_body,
        })
    }

    /// The routes. Idempotency answers from `store`.
    pub fn router<St: Store>(self: &Arc<Self>, store: &St) -> Result<Router, BadFlag> {
        let max_body = self.max_body;
        let signed = guarded::<CognigyEvent, _>(Arc::clone(&self.scheme), store, max_body)?;
        let endpoint_scheme = Arc::clone(&self.endpoint_scheme);
        let platform = guarded::<WebhookDelivery, _>(endpoint_scheme, store, max_body)?;
        Ok(Router::new()
            .route("/webhooks/cognigy", signed)
            .route("/webhooks/cognigy/endpoint", platform)
            .route("/webhooks/cognigy/status/{task_id}", get(status))
            .route("/health", get(health))
            .route("/api/v2/health", get(health))
            .route("/metrics", get(metrics))
            .with_state(Arc::clone(self))
            .layer(TraceLayer::new_for_http())
            .layer(CatchPanicLayer::new()))
    }
}

/// A route behind the receiving pipeline. Outermost first: body, signature, then each event once.
fn guarded<E: Event, St: Store>(
    scheme: Arc<dyn Scheme>,
    store: &St,
    max_body: usize,
) -> Result<MethodRouter<Arc<App>>, BadFlag> {
    let once = IdempotencyLayer::webhook(store.clone(), event_key::<E>())
        .scope_with(|req| scope::<E>(req).to_owned())
        .lease(LEASE)
        // A body that is no event has no key; the handler says what is wrong with it.
        .key_optional()
        .build()
        .map_err(|error| BadFlag::new("--store", error))?;
    // Not around the answer to another method, which is 405 for everybody.
    Ok(post(receive::<E>).route_layer(
        ServiceBuilder::new()
            .layer(BufferBodyLayer::new(max_body))
            .layer(SignatureVerifyLayer::new(scheme))
            .map_response(say_duplicate)
            .layer(once),
    ))
}

/// The id of an event is its key. The forms that have none are known by their bytes: a repeat is
/// the same bytes.
fn event_key<E: Event>() -> KeySource {
    let digest = KeySource::body_digest();
    KeySource::from_fn(move |req| match E::read(req.body().as_bytes()) {
        Some(event) => match event.id() {
            Some(id) => Ok(Some(id.to_owned())),
            None => Ok(digest.find(req)?.map(Into::into)),
        },
        None => Ok(None),
    })
}

/// Ids are apart by route, and from the digests that stand in for them.
fn scope<E: Event>(req: &http::Request<BufferedBody>) -> &'static str {
    match E::read(req.body().as_bytes()) {
        Some(event) if event.id().is_some() => E::SCOPES[0],
        _ => E::SCOPES[1],
    }
}

/// A repeat is answered in the documents' words instead of the first answer's.
fn say_duplicate<B>(answer: http::Response<ResponseBody<B>>) -> http::Response<ResponseBody<B>> {
    let replayed = matches!(
        answer.extensions().get(),
        Some(Disposition::Replayed | Disposition::ReplayedWithoutBody)
    );
    if !(replayed && answer.status() == StatusCode::OK) {
        return answer;
    }
    answer.map(|_| ResponseBody::buffered(BufferedBody::new(Ack::duplicate().to_json())))
}

/// An event of either route, as the routes share it.
trait Event: FromRequest<()> + Sized + Send + 'static {
    /// Of events with an id, and of those that are known by their bytes.
    const SCOPES: [&'static str; 2];

    fn read(body: &bytes::Bytes) -> Option<Self>;
    fn id(&self) -> Option<&str>;
    fn raw(&self) -> bytes::Bytes;
}

impl Event for CognigyEvent {
    const SCOPES: [&'static str; 2] = ["cognigy/event", "cognigy/dialog"];

    fn read(body: &bytes::Bytes) -> Option<Self> {
        Self::from_bytes(body.clone()).ok()
    }

    fn id(&self) -> Option<&str> {
        self.event_id()
    }

    fn raw(&self) -> bytes::Bytes {
        Self::raw(self).clone()
    }
}

impl Event for WebhookDelivery {
    const SCOPES: [&'static str; 2] = ["cognigy/endpoint-id", "cognigy/endpoint"];

    fn read(body: &bytes::Bytes) -> Option<Self> {
        Self::from_bytes(body.clone()).ok()
    }

    fn id(&self) -> Option<&str> {
        None
    }

    fn raw(&self) -> bytes::Bytes {
        Self::raw(self).clone()
    }
}

/// Stores the event and answers; the background delivers it.
async fn receive<E: Event>(State(app): State<Arc<App>>, req: Request) -> Response {
    let claim = req.extensions().get::<Claim>().cloned();
    let event = match E::from_request(req, &()).await {
        Ok(event) => event,
        Err(refusal) => return refusal.into_response(),
    };
    let Some(claim) = claim else {
        // Whatever parses here has a key: see `event_key`.
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let event = NewEvent {
        scope: claim.key().scope().to_owned(),
        id: claim.key().id().to_owned(),
        task_id: uuid::Uuid::new_v4().to_string(),
        body: event.raw(),
    };
    match app.events.accept(event).await {
        Ok(task_id) => {
            app.accepted.notify_one();
            Ack::queued(task_id)
                .into_response()
                .map(axum::body::Body::new)
        }
        Err(error) => store_down(&error),
    }
}

/// 503: the sender comes back, and the key is free for it.
fn store_down(error: &EventsError) -> Response {
    tracing::error!(%error, "events cannot be stored or read");
    Problem::new(StatusCode::SERVICE_UNAVAILABLE)
        .retry_after(Duration::from_secs(2))
        .into_response()
        .map(axum::body::Body::new)
}

/// What became of an event, by the task id of its acceptance.
async fn status(
    State(app): State<Arc<App>>,
    task_id: Result<Path<String>, PathRejection>,
) -> Response {
    // What is not even text is no task's id.
    let task_id = task_id.map(|Path(id)| id).unwrap_or_default();
    match app.events.status(task_id).await {
        Ok(None) => Problem::new(StatusCode::NOT_FOUND)
            .into_response()
            .map(axum::body::Body::new),
        Ok(Some(Status::Pending)) => {
            (StatusCode::ACCEPTED, Json(json!({"status": "processing"}))).into_response()
        }
        Ok(Some(Status::Delivered)) => Json(DialogAnswer::completed()).into_response(),
        Ok(Some(Status::Failed)) => {
            Json(DialogAnswer::fallback(app.deliverer.max_retries)).into_response()
        }
        Err(error) => store_down(&error),
    }
}

/// What the deliveries came to, as Prometheus text.
async fn metrics(State(app): State<Arc<App>>) -> Response {
    let content_type = [(header::CONTENT_TYPE, MetricsPage::CONTENT_TYPE)];
    (content_type, app.page.render()).into_response()
}
