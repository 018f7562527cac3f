//! The receiving pipeline, and the routes around it.

use crate::{
    args::{Args, Problem as BadFlag},
    dead_letters::DeadLetterHandling,
    deliver::Deliverer,
    events::{self, Events},
    guesses::{self, Guesses},
    health::{StoreState, health},
    metrics::MetricsPage,
    routes, server,
};
use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    middleware,
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post_service},
};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::sync::Semaphore;
use tower::{ServiceBuilder, util::MapRequestLayer};
use tower_http::{catch_panic::CatchPanicLayer, trace::TraceLayer};
use tower_webhook::{
    BufferBodyLayer, CognigyEvent, LoopGuardLayer, SignatureVerifyLayer,
    body::{BodyBudget, BufferedBody},
    cognigy::{Ack, DialogAnswer, EventError, WebhookDelivery},
    idempotency::{IdempotencyKey, KeySource},
    loop_guard::Hops,
    observe::{self, Id},
    problem::{Problem, Refusal},
    queue::{EnqueueService, Enqueued, NewJob, Queue, Status},
    signature::Scheme,
};
use tower_webhook_cognigy::routing::Routes;
use tower_webhook_operator::Operator;
use tower_webhook_sqlite::AcceptedEvent;

/// The state that the routes and the background tasks share.
pub(crate) struct App {
    pub events: Events,
    pub queue: Queue,
    pub dead_letters: DeadLetterHandling,
    pub operator: Operator,
    pub deliverer: Arc<Deliverer>,
    pub routes: Option<Routes>,
    pub page: MetricsPage,
    pub degraded_at: u64,
    /// One budget for the bodies of all routes.
    pub bodies: BodyBudget,
    pub stores: StoreState,
    /// Places for requests of a task's status, which anyone may send: the store has a line of its own, and they
    /// must not fill it.
    pub lookups: Semaphore,
}

impl App {
    /// The number of [`lookups`](Self::lookups) that read the store at the same time.
    pub const LOOKUPS: usize = 64;
}

/// The routes.
pub fn router(app: &Arc<App>, args: &Args) -> Result<Router, BadFlag> {
    let scheme: Arc<dyn Scheme> = args
        .scheme()
        .map_err(|error| BadFlag::new("--secret", error))?
        .into();
    let endpoint_scheme = args
        .endpoint_scheme()
        .map_err(|error| BadFlag::new("--endpoint-auth", error))?;
    let bodies = BufferBodyLayer::new(args.max_body)
        .budget(app.bodies.clone())
        .map_err(|error| BadFlag::new("--body-budget", error))?
        .observe(app.deliverer.observers.clone());
    let loops = args
        .loop_guard
        .clone()
        .observe(app.deliverer.observers.clone());
    let strict = args.strict_events;
    let signed = guarded::<CognigyEvent>(app, scheme, &bodies, &loops, strict);
    let endpoint = Arc::new(endpoint_scheme);
    let platform = guarded::<WebhookDelivery>(app, endpoint, &bodies, &loops, false);
    let operator = app.operator.router();
    let operator = operator.route_layer(middleware::from_fn(server::verified_by_success));
    Ok(Router::new()
        .route("/webhooks/cognigy", signed)
        .route("/webhooks/cognigy/endpoint", platform)
        .route("/webhooks/cognigy/status/{task_id}", get(status))
        .route("/health", get(health))
        .route("/api/v2/health", get(health))
        .route("/metrics", get(metrics))
        .with_state(Arc::clone(app))
        .merge(operator)
        .layer(middleware::from_fn_with_state(
            Guesses::new(app.deliverer.observers.clone()),
            guesses::slow,
        ))
        // At DEBUG: a line for each request is for whoever asks for it. What is refused or fails is told to
        // the observers, which limit the lines.
        .layer(TraceLayer::new_for_http().on_failure(()))
        .layer(CatchPanicLayer::new()))
}

/// A route behind the receiving pipeline, outermost first: refuse what the head shows to be unsigned, buffer
/// the body, verify the signature, refuse what was sent from here, accept the event once. Its key, the event and its job
/// are one transaction.
fn guarded<E: Event>(
    app: &Arc<App>,
    scheme: Arc<dyn Scheme>,
    bodies: &BufferBodyLayer,
    loops: &LoopGuardLayer,
    strict: bool,
) -> MethodRouter<Arc<App>> {
    let (events, jobs) = (app.events.clone(), app.events.clone());
    let accept = move |job: NewJob| {
        let events = events.clone();
        Box::pin(async move { events.accept(job).await })
    };
    let observers = &app.deliverer.observers;
    let enqueue = EnqueueService::new(accept, move |req| job::<E>(&req, &jobs, strict))
        .answer(acknowledge)
        .observe(observers.clone());
    let verify = SignatureVerifyLayer::new(scheme).observe(observers.clone());
    post_service(
        ServiceBuilder::new()
            .layer(verify.before_body())
            .layer(bodies.clone())
            .layer(verify)
            .layer(MapRequestLayer::new(server::verified::<BufferedBody>))
            .layer(loops.clone())
            .service(enqueue),
    )
}

/// The delivery of the event that a request carries. Nothing is stored of an event that is refused here.
fn job<E: Event>(
    req: &http::Request<BufferedBody>,
    events: &Events,
    strict: bool,
) -> Result<NewJob, Problem> {
    let event = E::read(req.body().as_bytes(), SystemTime::now(), strict)
        .map_err(|error| error.problem())?;
    // The id of an event is its key. The key of an event without an id is the digest of its body: a
    // repeat has the same bytes.
    let key = match event.id() {
        Some(id) => IdempotencyKey::new(E::SCOPES[0], id),
        None => IdempotencyKey::new(E::SCOPES[1], &digest(req)?),
    };
    let key = key.map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST).detail(format!("the event's id: {error}"))
    })?;
    let mut job = events.job(&AcceptedEvent::new(key, event.raw()));
    job.about.hops = req.extensions().get::<Hops>().map(Hops::to_string);
    Ok(job)
}

fn digest(req: &http::Request<BufferedBody>) -> Result<String, Problem> {
    let digest = KeySource::body_digest().find(req);
    let digest = digest.ok().flatten().map(|digest| digest.to_string());
    digest.ok_or_else(|| Problem::new(StatusCode::BAD_REQUEST))
}

/// The documents' answers to the first delivery and to a repeat.
fn acknowledge(accepted: &Enqueued) -> http::Response<BufferedBody> {
    if accepted.repeated {
        let mut answer = Ack::duplicate().into_response();
        let headers = answer.headers_mut();
        headers.insert("idempotent-replayed", HeaderValue::from_static("true"));
        return answer;
    }
    Ack::queued(accepted.id.to_string()).into_response()
}

/// The facts about an event that the routes need.
trait Event: Sized + Send + 'static {
    /// Scopes of the key: of events with an id, and of events without.
    const SCOPES: [&'static str; 2];

    /// `strict`: an event of a type that the documents do not name is refused.
    fn read(body: &bytes::Bytes, now: SystemTime, strict: bool) -> Result<Self, EventError>;
    fn id(&self) -> Option<&str>;
    fn raw(&self) -> bytes::Bytes;
}

impl Event for CognigyEvent {
    const SCOPES: [&'static str; 2] = [events::EVENT, "cognigy/dialog"];

    /// Refuses an event whose key is forgotten while it is still recent: it may be a captured one.
    fn read(body: &bytes::Bytes, now: SystemTime, strict: bool) -> Result<Self, EventError> {
        let event = Self::from_bytes(body.clone())?.require_recent(now, events::KEPT)?;
        if strict {
            event.require_known_type()
        } else {
            Ok(event)
        }
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

    /// The platform's form has no timestamp.
    fn read(body: &bytes::Bytes, _: SystemTime, _: bool) -> Result<Self, EventError> {
        Self::from_bytes(body.clone())
    }

    fn id(&self) -> Option<&str> {
        None
    }

    fn raw(&self) -> bytes::Bytes {
        Self::raw(self).clone()
    }
}

/// The status of an event, by the task id in the answer that accepted it.
async fn status(
    State(app): State<Arc<App>>,
    task_id: Result<Path<String>, PathRejection>,
) -> Response {
    // Text that is not an id belongs to no task: 404.
    let id = task_id.ok().and_then(|Path(id)| id.parse().ok());
    let status = match id {
        Some(id) => {
            // Never closed.
            let _place = app.lookups.acquire().await;
            match app.queue.task(id).await {
                Ok(Some(task)) => routes::answered(&app.queue, task.status).await.map(Some),
                other => other.map(|_| None),
            }
        }
        None => Ok(None),
    };
    let status = match status {
        Ok(Some(status)) => status,
        Ok(None) => {
            return Problem::new(StatusCode::NOT_FOUND)
                .into_response()
                .map(Body::new);
        }
        Err(error) => {
            app.deliverer.observers.tell(|| observe::Event::Trouble {
                part: "status",
                what: "the queue failed to tell the status of a task",
                detail: Some(Id::new(&error)),
            });
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE);
            let problem = problem.retry_after(Duration::from_secs(2));
            return problem.into_response().map(Body::new);
        }
    };
    match status {
        Status::Queued | Status::Running => {
            (StatusCode::ACCEPTED, Json(json!({"status": "processing"}))).into_response()
        }
        Status::Succeeded {
            result: Some(result),
        } => {
            let json = HeaderValue::from_static("application/json");
            ([(header::CONTENT_TYPE, json)], result).into_response()
        }
        Status::Succeeded { result: None } => Json(DialogAnswer::completed()).into_response(),
        // The reason is for operators: it is in the dead letter.
        Status::Cancelled | Status::Failed => {
            Json(DialogAnswer::fallback(app.deliverer.max_retries)).into_response()
        }
    }
}

/// The metrics of deliveries, as Prometheus text.
async fn metrics(State(app): State<Arc<App>>) -> Response {
    let content_type = [(header::CONTENT_TYPE, MetricsPage::CONTENT_TYPE)];
    (content_type, app.page.render()).into_response()
}
