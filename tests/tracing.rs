//! What a `tracing` subscriber sees of a receiving pipeline, a delivery and a job: the levels and spans that
//! are promised, and no secret, credential or body.
#![cfg(all(feature = "full", feature = "tracing"))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use http::{HeaderMap, Request, Response, StatusCode};
use std::{
    convert::Infallible,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_webhook::{
    BoxError, BufferBodyLayer, IdempotencyLayer, SignatureVerifyLayer,
    body::BufferedBody,
    circuit_breaker::BreakerConfig,
    clock::WallClock,
    dead_letter::{DeadLetters, MemoryDeadLetters},
    idempotency::{KeySource, MemoryStore},
    observe::{Event, Observers},
    outcome::Outcome,
    queue::{About, Job, MemoryQueue, NewJob, Queue, Status, Worker},
    retry::{Backoff, RetryConfig},
    signature::{MessageId, Outgoing, SignScheme, scheme::StandardWebhooks},
    stack,
};
use tracing::{
    Level, Metadata, Subscriber,
    span::{Attributes, Id, Record},
    subscriber::{DefaultGuard, Interest},
};
use tracing_subscriber::fmt::{MakeWriter, format::FmtSpan};

/// One at a time: subscribers of other threads change which events are looked at.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const BODY: &str = "BODY-THAT-IS-NOBODYS-BUSINESS";
const CREDENTIAL: &str = "Bearer CREDENTIAL-OF-THE-CALLER";

/// Everything that was written, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    /// Listens to everything on this thread, until the guard is dropped.
    fn listen(level: Level) -> (Self, DefaultGuard) {
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(log.clone())
            .with_max_level(level)
            .with_span_events(FmtSpan::NEW)
            .with_ansi(false)
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// Fails unless a line has all of these.
    fn has(&self, parts: &[&str]) {
        let text = self.text();
        let found = text
            .lines()
            .any(|line| parts.iter().all(|part| line.contains(part)));
        assert!(found, "no line with {parts:?} in:\n{text}");
    }

    fn keeps_secrets(&self) {
        let text = self.text();
        let key = SECRET.strip_prefix("whsec_").unwrap();
        for secret in [key, BODY, CREDENTIAL, "CREDENTIAL-OF", "v1,"] {
            assert!(!text.contains(secret), "`{secret}` is in:\n{text}");
        }
    }
}

/// A program that takes requests of anyone is told what to do, at `ERROR`, of each of its routes.
#[tokio::test]
async fn a_route_without_its_layer_is_an_error_that_says_what_to_do() {
    use axum::{Router, body::Body, routing::post};
    use tower_webhook::{idempotency::IdempotencyKey, signature::Verified};

    let _alone = ALONE.lock().await;
    let (log, _listening) = Log::listen(Level::ERROR);
    let app: Router = Router::new()
        .route("/signed", post(|_: Verified| async { "signed" }))
        .nest(
            "/nested",
            Router::new().route("/too", post(|_: Verified| async { "too" })),
        )
        .route("/once", post(|_: IdempotencyKey| async { "once" }));
    for path in ["/signed", "/nested/too", "/once"] {
        let request = Request::post(path).body(Body::from(BODY)).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
    for path in ["path=\"/signed\"", "path=\"/nested/too\""] {
        log.has(&[
            "ERROR",
            "part=\"signature\"",
            path,
            "put `stack::receive(scheme)`",
        ]);
    }
    log.has(&[
        "ERROR",
        "part=\"idempotency\"",
        "path=\"/once\"",
        "put an `IdempotencyLayer`",
    ]);
    assert_eq!(log.text().lines().count(), 3, "{}", log.text());
    log.keeps_secrets();
}

/// A flood neither fills the log nor leaves an honest sender's reason out that came with its first.
#[tokio::test]
async fn a_flood_of_refusals_is_ten_lines_and_others_are_still_told() {
    let _alone = ALONE.lock().await;
    let (log, _listening) = Log::listen(Level::WARN);
    // Of this test alone: the process has one throttle.
    let refused = |by, detail: &str| {
        Observers::none().tell(|| Event::Refused {
            by,
            reason: "mismatch",
            detail: tower_webhook::observe::Id::new(&detail),
        });
    };
    refused("flooded", "forged");
    refused("flooded", "the honest one");
    for _ in 0..1000 {
        refused("flooded", "forged");
    }
    refused("other", "of another scheme");
    log.has(&["WARN", "by=\"flooded\"", "the honest one"]);
    log.has(&["WARN", "by=\"other\"", "of another scheme"]);
    assert_eq!(log.text().lines().count(), 11, "{}", log.text());
}

fn scheme() -> StandardWebhooks {
    StandardWebhooks::new(SECRET).unwrap()
}

fn signed(id: &str) -> Request<BufferedBody> {
    let mut headers = HeaderMap::new();
    let message = MessageId::new(id).unwrap();
    let now = WallClock::system().unix_seconds();
    let outgoing = Outgoing::new(BODY.as_bytes(), now).with_id(&message);
    scheme().sign(&outgoing, &mut headers).unwrap();
    headers.insert("authorization", CREDENTIAL.parse().unwrap());
    let mut req = Request::post("/hooks")
        .body(BufferedBody::from(BODY))
        .unwrap();
    *req.headers_mut() = headers;
    req
}

#[tokio::test]
async fn a_request_is_told_of_from_its_body_to_its_claim() {
    let _alone = ALONE.lock().await;
    let (log, _listening) = Log::listen(Level::TRACE);
    let once = IdempotencyLayer::webhook(MemoryStore::default(), KeySource::verified_id());
    let service = ServiceBuilder::new()
        .layer(BufferBodyLayer::new(100))
        .layer(SignatureVerifyLayer::new(scheme()))
        .layer(once)
        .service(service_fn(|_: Request<BufferedBody>| async {
            Ok::<_, Infallible>(Response::new(BufferedBody::from(BODY)))
        }));
    let call = |req| service.clone().oneshot(req);

    assert_eq!(
        call(signed("msg_1")).await.unwrap().status(),
        StatusCode::OK
    );
    for span in ["receive", "verify", "claim"] {
        log.has(&["DEBUG", span, "new"]);
    }
    // One inside the other: what is told of a request can be found by its span.
    log.has(&["DEBUG", "receive:verify", "verified"]);
    log.has(&["DEBUG", "claimed"]);
    let repeat = call(signed("msg_1")).await.unwrap();
    assert!(repeat.headers().contains_key("idempotent-replayed"));
    log.has(&["DEBUG", "replayed"]);

    let mut forged = signed("msg_2");
    *forged.body_mut() = BufferedBody::from("something else");
    assert_eq!(
        call(forged).await.unwrap().status(),
        StatusCode::UNAUTHORIZED
    );
    log.has(&[
        "WARN",
        "refused",
        "by=\"standard_webhooks\"",
        "reason=\"mismatch\"",
    ]);
    let large = BufferedBody::from("x".repeat(101));
    let large = Request::post("/hooks").body(large).unwrap();
    let refused = call(large).await.unwrap();
    assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
    log.has(&["WARN", "refused", "buffer_body", "reason=\"too_large\""]);
    log.keeps_secrets();
}

#[tokio::test(start_paused = true)]
async fn a_delivery_is_told_of_from_its_attempts_to_its_dead_letter() {
    let _alone = ALONE.lock().await;
    let (log, _listening) = Log::listen(Level::TRACE);
    let backoff = Backoff::exponential(Duration::from_millis(10), Duration::from_millis(20));
    let retry = RetryConfig::builder()
        .attempts(3)
        .backoff(backoff.build().unwrap());
    let breaker = BreakerConfig::builder().consecutive_failures(3);
    let deliver = stack::deliver()
        .retry(retry.build().unwrap())
        .breaker(breaker.build().unwrap())
        .dead_letters(DeadLetters::new(MemoryDeadLetters::default()))
        .sign(scheme())
        .build()
        .unwrap();
    let client = deliver.layer(service_fn(|_: Request<BufferedBody>| async {
        let answer = Response::builder()
            .status(503)
            .body(BufferedBody::from(BODY));
        Ok::<_, BoxError>(answer?)
    }));
    let req = Request::post("https://user:CREDENTIAL-OF-THE-CALLER@peer.test/hooks")
        .header("authorization", CREDENTIAL)
        .header("webhook-id", "msg_1")
        .body(BufferedBody::from(BODY));
    let _ = client.oneshot(req.unwrap()).await;

    for span in ["deliver", "attempt"] {
        log.has(&["INFO", span, "new", "peer.test"]);
    }
    log.has(&["INFO", "attempt ended", "peer.test", "code=503"]);
    log.has(&[
        "WARN",
        "breaker changed",
        "peer.test",
        "from=closed",
        "to=open",
    ]);
    log.has(&[
        "WARN",
        "dead-lettered",
        "peer.test",
        "reason=\"retries_exhausted\"",
    ]);
    log.keeps_secrets();
}

#[tokio::test(start_paused = true)]
async fn a_job_is_told_of_from_its_claim_to_its_end() {
    let _alone = ALONE.lock().await;
    let (log, _listening) = Log::listen(Level::TRACE);
    let queue = Queue::new(MemoryQueue::default());
    let worker = Worker::builder(queue.clone())
        .dead_letters(DeadLetters::new(MemoryDeadLetters::default()))
        .build(service_fn(|_: Job| async {
            Err::<(), BoxError>("what the handler says".into())
        }))
        .unwrap();
    let running = worker.spawn();
    let job = NewJob::new("invoice", BODY.as_bytes().to_vec()).target("peer.test");
    let id = queue.enqueue(job).await.unwrap().id;
    while queue.task(id).await.unwrap().unwrap().status != Status::Failed {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    running.stop(Duration::from_secs(1)).await;

    log.has(&["INFO", "job", "new", "invoice"]);
    log.has(&["WARN", "job ended", "peer.test", "end=\"failed\""]);
    log.has(&["WARN", "dead-lettered", "peer.test"]);
    log.keeps_secrets();
}

/// At the level of most deployments.
#[tokio::test(start_paused = true)]
async fn a_failed_attempt_can_be_tied_to_its_job_and_event() {
    let _alone = ALONE.lock().await;
    let (log, _listening) = Log::listen(Level::INFO);
    let client = stack::deliver().build().unwrap();
    let client = client.layer(service_fn(|_: Request<BufferedBody>| async {
        let answer = Response::builder().status(400);
        Ok::<_, BoxError>(answer.body(BufferedBody::default())?)
    }));
    let queue = Queue::new(MemoryQueue::default());
    let running = Worker::http(queue.clone()).build(client).unwrap().spawn();
    let mut about = About::default();
    about.event_id = Some("evt_1".into());
    let job = NewJob::http(signed("msg_1")).about(about);
    let id = queue.enqueue(job).await.unwrap().id;
    while queue.task(id).await.unwrap().unwrap().status != Status::Failed {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    running.stop(Duration::from_secs(1)).await;

    let task = format!("task={id}");
    let ended = [
        "INFO",
        &task,
        "evt_1",
        "attempt{",
        "attempt ended",
        "code=400",
    ];
    log.has(&ended);
    log.keeps_secrets();
}

#[test]
fn an_event_is_told_although_no_observer_was_added() {
    let _alone = ALONE.blocking_lock();
    let (log, _listening) = Log::listen(Level::TRACE);
    Observers::none().tell(|| Event::Retrying {
        attempt: 1,
        outcome: Outcome::transient(),
        wait: Duration::ZERO,
    });
    log.has(&["DEBUG", "retrying", "attempt=1", "transient"]);
}

/// Listens to everything, and panics in one of its functions.
struct PanicsIn(&'static str);

impl PanicsIn {
    fn at(&self, function: &str) {
        assert!(self.0 != function, "on purpose, in {function}");
    }
}

impl Subscriber for PanicsIn {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        // Otherwise `enabled` is called only once for each place.
        Interest::sometimes()
    }

    fn enabled(&self, _: &Metadata<'_>) -> bool {
        self.at("enabled");
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        self.at("new_span");
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        self.at("event");
    }

    fn enter(&self, _: &Id) {
        self.at("enter");
    }

    fn exit(&self, _: &Id) {
        self.at("exit");
    }

    fn clone_span(&self, id: &Id) -> Id {
        self.at("clone_span");
        id.clone()
    }

    fn try_close(&self, _: Id) -> bool {
        self.at("try_close");
        true
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_panics_breaks_no_call() {
    let _alone = ALONE.lock().await;
    for function in [
        "enabled",
        "new_span",
        "event",
        "enter",
        "exit",
        "clone_span",
        "try_close",
    ] {
        let before = Observers::none().panics();
        let listening = tracing::subscriber::set_default(PanicsIn(function));

        let once = IdempotencyLayer::webhook(MemoryStore::default(), KeySource::verified_id());
        let receive = ServiceBuilder::new()
            .layer(BufferBodyLayer::new(100))
            .layer(SignatureVerifyLayer::new(scheme()))
            .layer(once)
            .service(service_fn(|_: Request<BufferedBody>| async {
                Ok::<_, Infallible>(Response::new(BufferedBody::from(BODY)))
            }));
        let received = receive.oneshot(signed("msg_1")).await.unwrap();
        assert_eq!(received.status(), StatusCode::OK, "{function}");

        let client = stack::deliver().build().unwrap();
        let client = client.layer(service_fn(|_: Request<BufferedBody>| async {
            Ok::<_, BoxError>(Response::new(BufferedBody::from(BODY)))
        }));
        let sent = client.clone().oneshot(signed("msg_1")).await.unwrap();
        assert_eq!(sent.status(), StatusCode::OK, "{function}");

        let queue = Queue::new(MemoryQueue::default());
        let running = Worker::http(queue.clone()).build(client).unwrap().spawn();
        let id = queue.enqueue(NewJob::http(signed("msg_2"))).await.unwrap();
        let done = async {
            while !queue.task(id.id).await.unwrap().unwrap().status.is_final() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), done)
            .await
            .unwrap_or_else(|_| panic!("the job does not end: {function}"));
        let ended = queue.task(id.id).await.unwrap().unwrap().status;
        assert_eq!(ended, Status::Succeeded { result: None }, "{function}");
        running.stop(Duration::from_secs(1)).await;

        drop(listening);
        assert!(Observers::none().panics() > before, "{function}");
    }
}
