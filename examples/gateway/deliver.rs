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
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{sync::Semaphore, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::{
    Layer, Service, ServiceExt,
    util::{BoxCloneSyncService, MapRequestLayer},
};
use tower_webhook::{
    BoxError, FailoverLayer, InvalidConfig,
    attempt::{Failed, GaveUp, History},
    body::BufferedBody,
    circuit_breaker::{BreakerConfig, Breakers},
    metrics::{DeliveryMetrics, exporter::FacadeRecorder},
    outcome::{Classify, HttpClassifier, MakeClassifier, Outcome, transport},
    retry::{Backoff, Refusals, RetryConfig},
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

/// What was postponed is taken up again after this long at the least, and at the most.
const PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);

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

    async fn deliver(&self, event: &Pending) -> End {
        let req = self.request(event);
        let classifier = self.classifier.make_classifier(&req);
        let mut stack = self.stack.clone();
        let result = async { stack.ready().await?.call(req).await }.await;
        let outcome = classifier.classify(result.as_ref());
        let history = match &result {
            Ok(answer) => answer.extensions().get::<History>(),
            Err(error) => error.downcast_ref::<Failed>().map(Failed::history),
        };
        let end = End::of(outcome, history);
        let reason = history.and_then(History::gave_up).map(GaveUp::as_str);
        let error = match result {
            Ok(answer) => {
                // What it says does not matter: the status was the answer. Nobody waits for it.
                let body = Limited::new(answer.into_body(), DRAIN).collect();
                tokio::spawn(tokio::time::timeout(DRAIN_TIME, body));
                None
            }
            Err(error) => Some(error),
        };
        let (kind, status) = (outcome.kind(), outcome.code());
        match end {
            End::Delivered => tracing::debug!(event.id, "delivered"),
            End::Failed => tracing::warn!(event.id, %kind, status, reason, error, "not delivered"),
            End::Postponed { .. } => {
                tracing::debug!(event.id, %kind, status, reason, error, "not delivered yet");
            }
        }
        end
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

/// How a delivery ended.
#[derive(Clone, Copy)]
enum End {
    Delivered,
    Failed,
    /// Our side held it back, not the peer: an open breaker, or a budget that others have used. It
    /// is as good as new.
    Postponed {
        attempts: u32,
        wait: Duration,
    },
}

impl End {
    fn of(outcome: Outcome, history: Option<&History>) -> Self {
        if !outcome.is_failure() {
            return Self::Delivered;
        }
        match history.and_then(History::gave_up) {
            Some(GaveUp::Budget | GaveUp::Refused) => Self::Postponed {
                attempts: history.map_or(0, History::attempts),
                wait: outcome
                    .retry_after()
                    .unwrap_or_default()
                    .clamp(PAUSE, MAX_PAUSE),
            },
            _ => Self::Failed,
        }
    }
}

fn retry(delivery: Delivery) -> Result<RetryConfig, InvalidConfig> {
    let backoff = Backoff::exponential(delivery.base_delay, delivery.max_delay).build()?;
    RetryConfig::builder()
        .attempts(delivery.max_attempts)
        .backoff(backoff)
        .window(DELIVERY)
        // Nobody waits for the answer, so the breaker is waited for.
        .refusals(Refusals::Wait(u32::MAX))
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
    let postponed = Arc::new(Postponed::default());
    // Everything up to this row has been started.
    let mut last = 0;
    loop {
        postponed.tidy();
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
                () = tokio::time::sleep(PAUSE) => {}
            }
            if postponed.is_due() {
                last = 0;
            }
            continue;
        }
        for event in batch {
            last = event.row;
            if !postponed.take_up(event.row) {
                continue;
            }
            let place = tokio::select! {
                () = stop.cancelled() => return,
                place = Arc::clone(&places).acquire_owned() => place,
            };
            let (app, postponed) = (Arc::clone(&app), Arc::clone(&postponed));
            running.spawn(async move {
                let _place = place;
                let end = app.deliverer.deliver(&event).await;
                let status = match postponed.after(event.row, end, app.deliverer.max_retries + 1) {
                    End::Postponed { .. } => return,
                    End::Delivered => Status::Delivered,
                    End::Failed => Status::Failed,
                };
                record(&app, event.row, status).await;
                postponed.finish(event.row);
            });
        }
    }
}

/// The events that are under way or wait for another time, by row. What it forgets at a restart
/// begins anew: the store has it as undelivered.
#[derive(Default)]
struct Postponed {
    events: Mutex<HashMap<i64, Waiting>>,
}

struct Waiting {
    /// `None` while it is under way.
    due: Option<Instant>,
    attempts: u32,
    /// Its end is recorded. It may still be in what was read of the store before.
    finished: bool,
}

impl Postponed {
    fn events(&self) -> MutexGuard<'_, HashMap<i64, Waiting>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_due(&self) -> bool {
        let now = Instant::now();
        let due = |waiting: &Waiting| waiting.due.is_some_and(|due| due <= now);
        self.events().values().any(due)
    }

    /// Whether an event is to be delivered now; it is under way then.
    fn take_up(&self, row: i64) -> bool {
        match self.events().entry(row) {
            Entry::Vacant(new) => {
                new.insert(Waiting {
                    due: None,
                    attempts: 0,
                    finished: false,
                });
                true
            }
            Entry::Occupied(mut known) => {
                let waiting = known.get_mut();
                let due = waiting.due.is_some_and(|due| due <= Instant::now());
                if due {
                    waiting.due = None;
                }
                due
            }
        }
    }

    /// What follows from the end of a delivery, where an event has so many attempts in all.
    fn after(&self, row: i64, end: End, most: u32) -> End {
        let End::Postponed { attempts, wait } = end else {
            return end;
        };
        let mut events = self.events();
        let Some(waiting) = events.get_mut(&row) else {
            return end;
        };
        waiting.attempts = waiting.attempts.saturating_add(attempts);
        if waiting.attempts >= most {
            let reason = GaveUp::RetriesExhausted.as_str();
            tracing::warn!(row, waiting.attempts, reason, "not delivered");
            return End::Failed;
        }
        waiting.due = Some(Instant::now() + wait);
        end
    }

    fn finish(&self, row: i64) {
        if let Some(waiting) = self.events().get_mut(&row) {
            waiting.finished = true;
        }
    }

    /// Forgets what is finished: before the store is read, which knows it by now.
    fn tidy(&self) {
        self.events().retain(|_, waiting| !waiting.finished);
    }
}

/// Records what became of a delivery, as often as the store needs.
async fn record(app: &App, row: i64, status: Status) {
    while let Err(error) = app.events.finish(row, status).await {
        tracing::warn!(%error, "the end of a delivery cannot be recorded yet");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
