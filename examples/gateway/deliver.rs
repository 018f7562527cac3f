//! Delivers accepted events downstream, in the background, through the crate's client stack.

use crate::{
    app::App,
    args::{Args, Delivery, Problem, target_rules},
    events::{Pending, Status, housekeeping},
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        self,
        connect::{HttpConnector, dns::GaiResolver},
    },
    rt::{TokioExecutor, TokioTimer},
};
use std::{sync::Arc, time::Duration};
use tokio::{sync::Semaphore, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::{
    Layer, Service, ServiceExt,
    util::{BoxCloneSyncService, MapRequestLayer},
};
use tower_webhook::{
    BoxError, FailoverLayer, InvalidConfig,
    body::BufferedBody,
    circuit_breaker::{BreakerConfig, Breakers},
    metrics::{DeliveryMetrics, exporter::FacadeRecorder},
    outcome::{Classify, HttpClassifier, MakeClassifier, Outcome, transport},
    retry::{Backoff, RetryConfig},
    stack,
    target::GuardedResolver,
};

/// Deliveries under way at once.
const MAX_AT_ONCE: usize = 64;

/// Read from the store at a time.
const BATCH: usize = 256;

/// The time of a delivery, all attempts and waits together: the documents' retry window.
const DELIVERY: Duration = Duration::from_secs(3600);

/// How much of an answer is read, so that its connection can be used again, and for how long.
const DRAIN: usize = 64 << 10;
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// How long the running deliveries have when the gateway stops.
const LAST: Duration = Duration::from_secs(2);

/// The HTTP client: TLS for `https` targets, no redirects, no private addresses unless allowed.
#[derive(Clone)]
pub struct Client(Inner);

type Inner =
    legacy::Client<HttpsConnector<HttpConnector<GuardedResolver<GaiResolver>>>, BufferedBody>;

impl Client {
    pub fn new(allow_private: bool) -> Self {
        let resolver = target_rules(allow_private).resolver(GaiResolver::new());
        let mut connector = HttpConnector::new_with_resolver(resolver);
        connector.enforce_http(false);
        // The provider is named: a library in the same process may prefer another.
        let connector = HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
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

type Stack = BoxCloneSyncService<Request<BufferedBody>, Response<Incoming>, BoxError>;

/// Delivers events: the client stack of the crate, and what is known of it.
pub struct Deliverer {
    stack: Stack,
    downstream: Uri,
    classifier: HttpClassifier,
    pub max_retries: u32,
    pub metrics: DeliveryMetrics,
    pub breakers: Breakers,
}

impl Deliverer {
    /// `recorder` writes what is shown on the metrics page.
    pub fn new(args: &Args, downstream: Uri, recorder: FacadeRecorder) -> Result<Self, Problem> {
        let Delivery { max_attempts, .. } = args.delivery;
        let classifier = HttpClassifier::new().errors(transport::hyper_util);
        let failover = FailoverLayer::cognigy(args.fallbacks.clone())
            .classifier(classifier.clone())
            .build()
            .map_err(|error| Problem::new("--fallback-url", error))?;
        let scheme = args
            .outgoing_scheme()
            .map_err(|error| Problem::new("--secret", error))?;
        // The flags were checked, so nothing of this is news.
        let unfit = |error: InvalidConfig| Problem::new("the delivery", error);

        let metrics = DeliveryMetrics::new();
        let stack = stack::deliver()
            .retry(retry(args.delivery).map_err(unfit)?)
            .breaker(breaker(args.delivery).map_err(unfit)?)
            .deadline(DELIVERY)
            .attempt_timeout(args.delivery.attempt_timeout)
            .metrics((metrics.clone(), recorder))
            .classifier(classifier.clone())
            .failover(failover)
            .attempt_header(header::HeaderName::from_static("x-webhook-attempt"))
            .each_attempt(MapRequestLayer::new(|mut req: Request<BufferedBody>| {
                prevent_loop(req.headers_mut());
                req
            }))
            .sign(scheme)
            .build()
            .map_err(unfit)?;
        Ok(Self {
            breakers: stack.breakers().clone(),
            stack: Stack::new(stack.layer(Client::new(args.allow_private).into_inner())),
            downstream,
            classifier,
            max_retries: max_attempts - 1,
            metrics,
        })
    }

    async fn deliver(&self, event: &Pending) -> Outcome {
        let req = self.request(event);
        let classifier = self.classifier.make_classifier(&req);
        let mut stack = self.stack.clone();
        let result = async { stack.ready().await?.call(req).await }.await;
        let outcome = classifier.classify(result.as_ref());
        match result {
            Ok(answer) => {
                // What it says does not matter: the status was the answer.
                let body = Limited::new(answer.into_body(), DRAIN).collect();
                let _ = tokio::time::timeout(DRAIN_TIME, body).await;
                if outcome.is_failure() {
                    tracing::warn!(event.id, kind = %outcome.kind(), status = outcome.code(), "not delivered");
                } else {
                    tracing::debug!(event.id, "delivered");
                }
            }
            Err(error) => {
                tracing::warn!(event.id, kind = %outcome.kind(), error, "not delivered");
            }
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
        req
    }
}

fn retry(delivery: Delivery) -> Result<RetryConfig, InvalidConfig> {
    let backoff = Backoff::exponential(delivery.base_delay, delivery.max_delay).build()?;
    RetryConfig::builder()
        .attempts(delivery.max_attempts)
        .backoff(backoff)
        .window(DELIVERY)
        .build()
}

/// The documents' breaker, with the numbers of the flags.
fn breaker(delivery: Delivery) -> Result<BreakerConfig, InvalidConfig> {
    BreakerConfig::builder()
        .cognigy()
        .consecutive_failures(delivery.breaker_failures)
        .open_for(delivery.breaker_open)
        .max_open_for(delivery.breaker_open)
        // A probe has the time of an attempt, and a little to say how it ended.
        .probe_lease(delivery.attempt_timeout + Duration::from_secs(1))
        .build()
}

/// The loop-prevention headers of the documents (S2), with ids of this attempt's own.
fn prevent_loop(headers: &mut HeaderMap) {
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
