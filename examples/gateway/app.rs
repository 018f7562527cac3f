//! The pipeline of the receiving side, and the routes around it.

use crate::{
    args::{Args, Problem as BadFlag},
    deliver::{Client, Deliverer},
    events::{Events, EventsError, NewEvent, Status},
};
use axum::{
    Json, Router,
    extract::{FromRequest, Path, Request, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{StatusCode, Uri};
use serde_json::json;
use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
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

/// From this many failed deliveries on, health says `degraded`.
const DEGRADED_AT: u64 = 10;

/// What the routes and the background share.
pub struct App {
    pub events: Events,
    pub deliverer: Deliverer,
    /// Rung when there is something to deliver.
    pub accepted: Notify,
    scheme: Arc<dyn Scheme>,
    endpoint_scheme: Arc<dyn Scheme>,
    max_body: usize,
}

impl App {
    pub fn new(args: &Args, events: Events, downstream: Uri) -> Result<Self, BadFlag> {
        let secret = |error| BadFlag::new("--secret", error);
        let outgoing = args.outgoing_scheme().map_err(secret)?;
        Ok(Self {
            events,
            deliverer: Deliverer::new(Client::new(), downstream, outgoing),
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
    pub fn router<St: Store>(self: &Arc<Self>, store: St) -> Result<Router, BadFlag> {
        let signed = guarded(
            post(receive::<CognigyEvent>),
            self,
            Arc::clone(&self.scheme),
            &store,
            "cognigy",
        )?;
        let platform = guarded(
            post(receive::<WebhookDelivery>),
            self,
            Arc::clone(&self.endpoint_scheme),
            &store,
            "cognigy-endpoint",
        )?;
        Ok(Router::new()
            .route("/webhooks/cognigy", signed)
            .route("/webhooks/cognigy/endpoint", platform)
            .route("/webhooks/cognigy/status/{task_id}", get(status))
            .route("/health", get(health))
            .route("/api/v2/health", get(health))
            .with_state(Arc::clone(self))
            .layer(TraceLayer::new_for_http())
            .layer(CatchPanicLayer::new()))
    }
}
