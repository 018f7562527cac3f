//! Delivers accepted events downstream, in the background: one attempt each.

use crate::{
    app::App,
    events::{Pending, Status, housekeeping},
};
use http::{HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{sync::Semaphore, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::{Layer, Service, ServiceExt};
use tower_webhook::{
    BoxError, SignLayer,
    body::BufferedBody,
    outcome::{Classify, HttpClassifier, MakeClassifier, Outcome},
    signature::scheme::Cognigy,
};

/// Deliveries under way at once.
const MAX_AT_ONCE: usize = 64;

/// Read from the store at a time.
const BATCH: usize = 256;

/// The time of one attempt.
const ATTEMPT: Duration = Duration::from_secs(10);

/// How much of an answer is read, so that its connection can be used again.
const DRAIN: usize = 64 << 10;

/// How long the running deliveries have when the gateway stops.
const LAST: Duration = Duration::from_secs(2);

/// The HTTP client: TLS for `https` targets, no redirects.
#[derive(Clone)]
pub struct Client(Inner);

type Inner = legacy::Client<HttpsConnector<HttpConnector>, BufferedBody>;

impl Client {
    pub fn new() -> Self {
        // The provider is named: a library in the same process may prefer another.
        let connector = HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1()
            .build();
        Self(
            legacy::Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(Duration::from_secs(30))
                .build(connector),
        )
    }

    pub fn into_inner(self) -> Inner {
        self.0
    }
}

/// Sends one event.
pub struct Deliverer {
    client: Client,
    downstream: Uri,
    sign: SignLayer,
    totals: Counters,
}

#[derive(Default)]
struct Counters {
    attempts: AtomicU64,
    delivered: AtomicU64,
    latency_us: AtomicU64,
}

/// What the deliveries came to since the start.
pub struct Totals {
    pub attempts: u64,
    delivered: u64,
    latency_us: u64,
}

impl Totals {
    /// A fraction, zero before the first attempt.
    #[allow(clippy::cast_precision_loss, reason = "shown with four digits")]
    pub fn success_rate(&self) -> f64 {
        let rate = self.delivered as f64 / self.attempts.max(1) as f64;
        (rate * 1e4).round() / 1e4
    }

    #[allow(clippy::cast_precision_loss, reason = "shown with two digits")]
    pub fn mean_latency_ms(&self) -> f64 {
        let mean = self.latency_us as f64 / self.attempts.max(1) as f64 / 1e3;
        (mean * 1e2).round() / 1e2
    }
}

impl Deliverer {
    pub fn new(client: Client, downstream: Uri, scheme: Cognigy) -> Self {
        Self {
            client,
            downstream,
            sign: SignLayer::new(scheme),
            totals: Counters::default(),
        }
    }

    pub fn totals(&self) -> Totals {
        Totals {
            attempts: self.totals.attempts.load(Ordering::Relaxed),
            delivered: self.totals.delivered.load(Ordering::Relaxed),
            latency_us: self.totals.latency_us.load(Ordering::Relaxed),
        }
    }

    async fn deliver(&self, event: &Pending) -> Outcome {
        let started = Instant::now();
        let req = self.request(event);
        let classifier = HttpClassifier::new().make_classifier(&req);
        let result = tokio::time::timeout(ATTEMPT, self.send(req)).await;
        let result = result.unwrap_or_else(|elapsed| Err(elapsed.into()));
        let outcome = classifier.classify(result.as_ref());

        let latency = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.totals.attempts.fetch_add(1, Ordering::Relaxed);
        self.totals.latency_us.fetch_add(latency, Ordering::Relaxed);
        if outcome.is_failure() {
            let error = result.err();
            tracing::warn!(event.id, kind = %outcome.kind(), status = outcome.code(), error, "not delivered");
        } else {
            self.totals.delivered.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(event.id, "delivered");
        }
        outcome
    }

    fn request(&self, event: &Pending) -> Request<BufferedBody> {
        let mut req = Request::new(BufferedBody::new(event.body.clone()));
        *req.method_mut() = Method::POST;
        *req.uri_mut() = self.downstream.clone();
        let headers = req.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        // An id is printable text, so its bytes are a header value.
        if let Ok(id) = HeaderValue::from_bytes(event.id.as_bytes()) {
            headers.insert("idempotency-key", id);
        }
        headers.insert("x-webhook-attempt", HeaderValue::from_static("1"));
        // The loop-prevention headers of the documents, with ids of this delivery's own.
        headers.insert(
            "x-cognigy-webhook-source",
            HeaderValue::from_static("bot-integration"),
        );
        headers.insert("prevent-loop", HeaderValue::from_static("true"));
        for name in ["x-request-id", "x-correlation-id"] {
            if let Ok(id) = HeaderValue::try_from(uuid::Uuid::new_v4().to_string()) {
                headers.insert(name, id);
            }
        }
        req
    }

    async fn send(&self, req: Request<BufferedBody>) -> Result<http::Response<()>, BoxError> {
        let mut signed = self
            .sign
            .layer(self.client.0.clone().map_err(BoxError::from));
        let answer = signed.ready().await?.call(req).await?;
        let (head, body) = answer.into_parts();
        // What it says does not matter: the status was the answer.
        let _ = Limited::new(body, DRAIN).collect().await;
        Ok(http::Response::from_parts(head, ()))
    }
}

/// The deliveries of a running gateway.
pub struct Deliveries {
    stop: CancellationToken,
    running: TaskTracker,
    background: Vec<JoinHandle<()>>,
}

/// Delivers what was accepted before this start, and then whatever is accepted.
pub fn start(app: Arc<App>) -> Deliveries {
    let stop = CancellationToken::new();
    let running = TaskTracker::new();
    let background = vec![
        tokio::spawn(dispatch(Arc::clone(&app), stop.clone(), running.clone())),
        tokio::spawn(housekeeping(app)),
    ];
    Deliveries {
        stop,
        running,
        background,
    }
}

impl Deliveries {
    /// Starts no more deliveries and lets the running ones finish. What is not finished in time
    /// stays undelivered in the store, for the next start.
    pub async fn stop(self) {
        self.stop.cancel();
        self.running.close();
        if tokio::time::timeout(LAST, self.running.wait())
            .await
            .is_err()
        {
            tracing::warn!("some deliveries did not end in time: the next start takes them up");
        }
        for task in self.background {
            task.abort();
        }
    }
}

async fn dispatch(app: Arc<App>, stop: CancellationToken, running: TaskTracker) {
    let places = Arc::new(Semaphore::new(MAX_AT_ONCE));
    // Everything up to this row has been started.
    let mut last = 0;
    loop {
        let batch = match app.events.pending(last, BATCH).await {
            Ok(batch) => batch,
            Err(error) => {
                tracing::warn!(%error, "events cannot be read");
                Vec::new()
            }
        };
        if batch.is_empty() {
            // Now and then even without a ring, for what could not be read before.
            tokio::select! {
                () = stop.cancelled() => return,
                () = app.accepted.notified() => {}
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
            continue;
        }
        for event in batch {
            let place = tokio::select! {
                () = stop.cancelled() => return,
                place = Arc::clone(&places).acquire_owned() => place,
            };
            last = event.row;
            let app = Arc::clone(&app);
            running.spawn(async move {
                let _place = place;
                let status = match app.deliverer.deliver(&event).await {
                    outcome if outcome.is_failure() => Status::Failed,
                    _ => Status::Delivered,
                };
                record(&app, event.row, status).await;
            });
        }
    }
}

/// Records what became of a delivery, as often as the store needs.
async fn record(app: &App, row: i64, status: Status) {
    while let Err(error) = app.events.finish(row, status).await {
        tracing::warn!(%error, "the end of a delivery cannot be recorded yet");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
