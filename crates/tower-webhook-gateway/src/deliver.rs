//! Delivers accepted events downstream, in the background: a worker of the queue around the client
//! stack.
//!
//! Each run of a job is one attempt through the stack. The queue schedules the next attempt, so that
//! waits and counts outlive the process.

use crate::{
    app::App,
    args::{Args, Delivery, Place, Problem, target_rules},
    events,
    routes::{self, Errand, Routed, Routing},
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, Uri, header};
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
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{sleep, timeout};
use tower::{Layer, Service, limit::GlobalConcurrencyLimitLayer, util::BoxCloneSyncService};
use tower_webhook::{
    BoxError, BoxFuture, InvalidConfig, RetryWithJitterLayer,
    body::{BufferedBody, collect},
    circuit_breaker::{BreakerConfig, Breakers},
    cognigy::{DialogAnswer, presets},
    context::JudgedInside,
    dead_letter::Direction,
    idempotency::IdempotencyKey,
    loop_guard::Hops,
    metrics::{DeliveryMetrics, FacadeExporter},
    observe::{Event, Id, JobEnd, Observer, Observers},
    peer::{ByHost, PeerKey},
    queue::{Job, Kinds, Queue, TaskId, Worker, WorkerHandle},
    retry::{Backoff, Budget, HttpExchange, Refusals, RetryConfig},
    stack,
    target::{GuardedResolver, TargetRules},
    transport::{self, InterimFlood, InterimLimited, TransportError},
};
use tower_webhook_cognigy::{credential::CredentialName, probe::Probe, routing::Routes};

/// The largest number of concurrent requests downstream.
const MAX_CONCURRENT_REQUESTS: usize = 64;

/// The largest number of claimed jobs whose delivery has not ended: half as many more than requests, so that these
/// need not wait for the disk on which a claim is written. A claim counts as an attempt, so a kill charges one to at most
/// the 32 whose request was not begun.
const MAX_CLAIMED_JOBS: usize = MAX_CONCURRENT_REQUESTS + MAX_CONCURRENT_REQUESTS / 2;

/// The time limit of a delivery, with all attempts and waits: the documents' retry window.
const DELIVERY: Duration = Duration::from_secs(3600);

/// The largest number of claimed jobs of one target where there are many, the downstream among them.
pub const MOST_OF_A_TARGET: u32 = 24;

/// The largest number of claimed jobs of definitions, each with its request or its lookups: five targets that hang leave
/// places for the others.
const MAX_ROUTED_JOBS: usize = 6 * MOST_OF_A_TARGET as usize;

/// The longest timeout that a definition may have.
const LONGEST_ROUTED: Duration = Duration::from_secs(30);

/// The time limit for posting a dead letter, with all attempts. If it fails, a worker tries again later.
pub const POSTING: Duration = Duration::from_secs(20);

/// The lease of a job, renewed while its delivery runs. The job of a process that hangs runs again after
/// this long; SQLite knows sooner when a process is gone.
const LEASE: Duration = Duration::from_secs(10);

/// The time limit for running deliveries when the gateway stops.
const LAST: Duration = Duration::from_secs(2);

/// The HTTP client: TLS for `https` targets, no redirects, no private addresses unless allowed.
#[derive(Clone)]
pub(crate) struct Client(transport::Hyper<Inner>);

type Inner =
    legacy::Client<HttpsConnector<HttpConnector<GuardedResolver<GaiResolver>>>, BufferedBody>;

impl Client {
    pub fn new(allow_private: bool) -> Self {
        let resolver = target_rules(allow_private).resolver(GaiResolver::new());
        let mut connector = HttpConnector::new_with_resolver(resolver);
        connector.enforce_http(false);
        // This connector names its own provider of cryptography, `ring`, whatever the process's default.
        let connector = HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(MAX_CONCURRENT_REQUESTS)
            .build(connector);
        Self(transport::hyper(client))
    }
}

impl Service<Request<BufferedBody>> for Client {
    type Response = Response<Incoming>;
    type Error = TransportError;
    type Future = InterimLimited<transport::ResponseFuture<legacy::ResponseFuture>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Service::<Request<BufferedBody>>::poll_ready(&mut self.0, cx)
    }

    fn call(&mut self, mut req: Request<BufferedBody>) -> Self::Future {
        InterimFlood::of(&mut req).limit(self.0.call(req))
    }
}

pub(crate) type Stack = BoxCloneSyncService<Request<BufferedBody>, Response<Incoming>, BoxError>;

/// The client stack, and the handles on its metrics and breakers.
pub(crate) struct Deliverer {
    /// The stack for one attempt.
    once: Stack,
    /// The same for the targets of definitions, which have no fallback and each their own timeout. Their jobs are its places.
    routed: Stack,
    downstream: Option<Uri>,
    /// What requests to the downstream carry.
    credential: Option<CredentialName>,
    retry: RetryConfig,
    /// The same for definitions, with a budget of its own.
    routed_retry: RetryConfig,
    pub max_retries: u32,
    pub metrics: DeliveryMetrics,
    /// Of the downstream and its fallbacks, and of the targets of definitions.
    pub breakers: [Breakers; 2],
    /// The metrics and the exporter. Every layer, store and worker of the gateway tells them what happens.
    pub observers: Observers,
}

impl Deliverer {
    /// Builds the stack. `exporter` writes to the metrics page.
    pub fn new(
        args: &Args,
        downstream: Option<Uri>,
        exporter: &FacadeExporter,
    ) -> Result<Self, Problem> {
        let Delivery { max_attempts, .. } = args.delivery;
        let metrics = DeliveryMetrics::new();
        let observers = Observers::new(metrics.clone()).and(exporter.clone());
        let scheme = args
            .outgoing_scheme()
            .map_err(|error| Problem::new("--secret", error))?;
        // Not reached: the flags were checked.
        let unfit = |error: InvalidConfig| Problem::new("the delivery", error);
        let breaker = breaker(args.delivery).map_err(unfit)?;
        let stack = |fallbacks: Vec<Uri>, attempt_timeout: Duration| {
            let failover = presets::fallback_urls(fallbacks)
                .and_then(|uris| uris.observe(observers.clone()).build())
                .map_err(|error| Problem::new("--fallback-url", error))?;
            let stack = stack::attempt()
                .breaker(breaker.clone())
                .attempt_timeout(attempt_timeout)
                // Apart, because the stack observes with its metrics anyhow.
                .metrics(metrics.clone())
                .observe(exporter.clone())
                .failover(failover)
                .attempt_header(HeaderName::from_static("x-webhook-attempt"))
                .each_attempt(args.loop_guard.outgoing().headers(presets::loop_headers))
                // Inside of the failover, which sets the target.
                .each_attempt(args.credentials.all.clone())
                .sign(scheme.clone())
                .build()
                .map_err(unfit)?;
            let breakers = stack.breakers().clone();
            Ok((
                Stack::new(stack.layer(Client::new(args.allow_private))),
                breakers,
            ))
        };
        let (once, breakers) = stack(args.fallbacks.clone(), args.delivery.attempt_timeout)?;
        // Breakers of its own: each stack tells the metrics of its own.
        let (routed, routed_breakers) = stack(Vec::new(), LONGEST_ROUTED)?;
        Ok(Self {
            once: Stack::new(GlobalConcurrencyLimitLayer::new(MAX_CONCURRENT_REQUESTS).layer(once)),
            routed,
            breakers: [breakers, routed_breakers],
            downstream,
            credential: args.credentials.downstream.clone(),
            retry: retry(args.delivery).map_err(unfit)?,
            routed_retry: retry(args.delivery).map_err(unfit)?,
            max_retries: max_attempts - 1,
            metrics,
            observers,
        })
    }

    /// The stack for one attempt, with routing before it.
    pub fn routing(&self, routes: Option<Routes>, queue: Queue) -> Routing {
        Routing {
            stack: self.once.clone(),
            routed: self.routed.clone(),
            routes,
            downstream: self.downstream.as_ref().map(|uri| target(uri).into()),
            queue,
            observers: self.observers.clone(),
        }
    }

    /// The client for re-drives, whose caller waits: all attempts are one call.
    pub fn again(&self, routes: Option<Routes>, queue: Queue) -> Again {
        let retry = RetryWithJitterLayer::new(self.retry.clone())
            .classifier(JudgedInside)
            .observe(self.observers.clone())
            .exchange(HttpExchange::new());
        Again {
            stack: BoxCloneSyncService::new(retry.layer(self.routing(routes, queue.clone()))),
            queue,
            observers: self.observers.clone(),
        }
    }

    /// The request that delivers an event. The one of a definition is made when its turn comes.
    pub fn request(&self, body: Bytes, id: Option<&str>) -> Request<BufferedBody> {
        let mut req = Request::new(BufferedBody::new(body));
        *req.method_mut() = Method::POST;
        if let Some(downstream) = &self.downstream {
            *req.uri_mut() = downstream.clone();
        }
        if let Some(credential) = &self.credential {
            req.extensions_mut().insert(credential.clone());
        }
        let headers = req.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        // An id is printable text: its bytes are a header value.
        if let Some(Ok(id)) = id.map(|id| HeaderValue::from_bytes(id.as_bytes())) {
            headers.insert("idempotency-key", id);
        }
        req
    }
}

/// The most file handles that requests to the targets take: of each, connections in use and idle ones.
pub fn handles(args: &Args) -> usize {
    // The built-in echo has the other ends too.
    let downstream = if args.downstream.is_some() { 1 } else { 2 };
    let posting = usize::from(matches!(args.dead_letters, Place::Callback(_)));
    let requests = (downstream + args.fallbacks.len() + posting) * MAX_CONCURRENT_REQUESTS;
    // To the targets, and of lookups.
    let routed = 2 * usize::from(args.routes.is_some()) * MAX_ROUTED_JOBS;
    (requests + routed) * 2
}

/// The stack that posts dead letters: without fallback targets, and not counted as deliveries.
pub fn posting(args: &Args) -> Result<Stack, Problem> {
    let unfit = |error: InvalidConfig| Problem::new("--dead-letters", error);
    let stack = stack::deliver()
        .attempt_timeout(args.delivery.attempt_timeout)
        .deadline(POSTING)
        .sign(args.outgoing_scheme().map_err(unfit)?)
        .build()
        .map_err(unfit)?;
    Ok(Stack::new(
        GlobalConcurrencyLimitLayer::new(MAX_CONCURRENT_REQUESTS)
            .layer(stack.layer(Client::new(args.allow_private))),
    ))
}

/// Asks the downstream once whether it is there, and warns if not. Events are accepted in any case.
pub async fn probe(downstream: &Uri, rules: TargetRules) {
    // No request: the downstream sees deliveries only.
    if let Err(error) = Probe::new().rules(rules).connect(downstream).await {
        tracing::warn!(
            %error,
            "the downstream cannot be reached now; events are accepted, and delivered when it can"
        );
    }
}

fn retry(delivery: Delivery) -> Result<RetryConfig, InvalidConfig> {
    let backoff = Backoff::exponential(delivery.base_delay, delivery.max_delay).build()?;
    RetryConfig::builder()
        .attempts(delivery.max_attempts)
        .backoff(backoff)
        .window(DELIVERY)
        // Half of the traffic. A downstream that fails a fifth of all attempts needs retries for a quarter
        // of the events; with a smaller budget the queue would only grow.
        .budget(Budget::builder().share(0.5).build()?)
        // Nobody waits for the answer: a delivery that an open breaker refuses waits for the breaker.
        .refusals(Refusals::Wait(u32::MAX))
        .build()
}

/// The documents' circuit breaker, with the numbers of the flags.
fn breaker(delivery: Delivery) -> Result<BreakerConfig, InvalidConfig> {
    presets::circuit_breaker_open_for(delivery.breaker_open)
        .consecutive_failures(delivery.breaker_failures)
        // A probe takes at most the time of an attempt, and a little to record its end.
        .probe_lease(delivery.attempt_timeout + Duration::from_secs(1))
        .build()
}

/// The target of deliveries to this URL: its host.
pub fn target(downstream: &Uri) -> String {
    let mut req = Request::new(());
    *req.uri_mut() = downstream.clone();
    ByHost.key(&req).into_owned()
}

/// Starts the workers. They deliver the events of earlier starts first, then new ones.
///
/// Events have a worker of their own, so that targets of definitions and lookups that hang take nothing from the downstream.
pub fn start(app: &Arc<App>) -> Result<Vec<WorkerHandle>, Problem> {
    let (deliverer, queue) = (&app.deliverer, &app.queue);
    let routing = deliverer.routing(app.routes.clone(), queue.clone());
    let retry = &deliverer.retry;
    if app.routes.is_none() {
        // The jobs of definitions that are left fail: there is none any more.
        let kinds = [events::KIND, routes::KIND];
        return Ok(vec![worker(app, kinds, MAX_CLAIMED_JOBS, retry, routing)?]);
    }
    let routed = Routing {
        stack: deliverer.routed.clone(),
        ..routing.clone()
    };
    let routed_retry = &deliverer.routed_retry;
    Ok(vec![
        worker(app, [events::KIND], MAX_CLAIMED_JOBS, retry, routing)?,
        worker(app, [routes::KIND], MAX_ROUTED_JOBS, routed_retry, routed)?,
    ])
}

fn worker(
    app: &Arc<App>,
    kinds: impl Into<Kinds>,
    jobs: usize,
    retry: &RetryConfig,
    routing: Routing,
) -> Result<WorkerHandle, Problem> {
    let deliverer = &app.deliverer;
    let definitions = app.routes.clone();
    let requests = Arc::clone(&app.deliverer);
    let told = Arc::clone(&app.deliverer);
    let worker = Worker::http(app.queue.clone())
        .request(kinds, move |job: &Job| {
            let id = job.about.idempotency_key.as_deref();
            let mut req = requests.request(job.payload.clone(), id);
            if let Some(hops) = &job.about.hops {
                // Not reached: what cannot be read was refused.
                req.extensions_mut().insert(hops.parse::<Hops>()?);
            }
            if let Some(errand) = Errand::of_job(job) {
                req.extensions_mut().insert(errand);
            }
            Ok::<_, BoxError>(req)
        })
        .classifier(JudgedInside)
        .result(answer)
        .concurrency(jobs)
        .lease(LEASE)
        .retry(retry.clone())
        .dead_letters(app.dead_letters.sink())
        .observe(deliverer.observers.clone())
        .describe(move |job, entry| {
            entry.direction = Direction::Outbound;
            let to = if job.kind == routes::KIND {
                let definition =
                    Errand::of_job(job).and_then(|errand| errand.definition(definitions.as_ref()?));
                definition.map(|found| (found.method().clone(), found.target_url().clone()))
            } else {
                told.downstream.clone().map(|uri| (Method::POST, uri))
            };
            let (method, uri) = to.unzip();
            entry.method = method.map(|method| method.to_string());
            entry.uri = uri.map(|uri| uri.to_string());
        })
        // The whole body: an entry that is cut cannot be sent again.
        .entry_body(usize::MAX)
        .observe(Watch(Arc::clone(app)))
        .build(routing)
        .map_err(|error| Problem::new("the delivery", error))?;
    Ok(worker.spawn())
}

/// What the downstream answered, for those who ask for the status of the task, after what was made of the event. `None`: the
/// default.
fn answer(res: &Response<BufferedBody>) -> Option<Bytes> {
    let answer = DialogAnswer::of(res).and_then(|answer| answer.to_json().ok());
    match res.extensions().get::<Routed>() {
        Some(routed) => routed.with(answer),
        None => answer,
    }
}

/// The time limit for reading the answer to a re-drive.
const ANSWER: Duration = Duration::from_secs(5);

/// The longest answer that is kept.
const MAX_ANSWER: usize = 64 << 10;

/// Sends a dead letter again. When it is delivered, its task has succeeded, with the downstream's answer, before the
/// entry is removed: if the process dies in between, it is sent once more.
#[derive(Clone)]
pub(crate) struct Again {
    stack: BoxCloneSyncService<
        Request<BufferedBody>,
        <Routing as Service<Request<BufferedBody>>>::Response,
        BoxError,
    >,
    queue: Queue,
    observers: Observers,
}

/// The task whose dead letter a request sends again.
#[derive(Clone, Copy)]
pub(crate) struct Redriven(pub TaskId);

impl Service<Request<BufferedBody>> for Again {
    type Response = Response<BufferedBody>;
    type Error = BoxError;
    type Future = BoxFuture<Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.stack.poll_ready(cx)
    }

    fn call(&mut self, req: Request<BufferedBody>) -> Self::Future {
        let task = req.extensions().get::<Redriven>().copied();
        let (sending, this) = (self.stack.call(req), self.clone());
        Box::pin(async move {
            let (head, body) = sending.await?.into_parts();
            if !head.status.is_success() {
                // At once, so that the stack's verdict holds.
                return Ok(Response::from_parts(head, BufferedBody::default()));
            }
            let body = timeout(ANSWER, collect(body, MAX_ANSWER)).await;
            let body = body.ok().and_then(Result::ok).unwrap_or_default();
            let res = Response::from_parts(head, body);
            if let Some(Redriven(task)) = task {
                this.resolve(task, answer(&res)).await;
            }
            Ok(res)
        })
    }
}

impl Again {
    /// Tries for three seconds. The event is delivered in any case.
    async fn resolve(&self, task: TaskId, answer: Option<Bytes>) {
        for wait in [100, 200, 400, 800, 1600] {
            let Err(error) = self.queue.resolve(task, answer.clone()).await else {
                return;
            };
            self.observers.tell(|| Event::Trouble {
                part: "redrive",
                what: "the task of a delivered dead letter could not be marked as succeeded",
                detail: Some(Id::new(&error)),
            });
            sleep(Duration::from_millis(wait)).await;
        }
    }
}

/// Finishes running deliveries, or releases their jobs for the next start.
pub async fn stop(deliveries: Vec<WorkerHandle>) {
    let stopping: Vec<_> = deliveries
        .into_iter()
        .map(|worker| tokio::spawn(worker.stop(LAST)))
        .collect();
    let mut released = 0;
    for stopped in stopping {
        // Not reached: a worker catches panics.
        released += stopped.await.unwrap_or_default();
    }
    if released > 0 {
        tracing::info!(released, "deliveries are left for the next start");
    }
}

/// Counts dead-letter entries, and marks events whose delivery is over.
struct Watch(Arc<App>);

impl Observer for Watch {
    fn on(&self, event: &Event<'_>) {
        let app = &*self.0;
        match event {
            Event::DeadLettered { .. } => app.dead_letters.written(),
            Event::JobEnded {
                kind: events::KIND,
                end: JobEnd::DeadLettered | JobEnd::Succeeded,
                dedup_key: Some((scope, id)),
                ..
            } => {
                if let Ok(key) = IdempotencyKey::new(scope, id) {
                    app.events.finished(&key);
                }
            }
            _ => {}
        }
    }
}
