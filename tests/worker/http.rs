//! Jobs that are HTTP requests.

use crate::support::{Bench, Calls, Mode, SECOND, retry};
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::time::sleep;
use tower::{Layer, Service, ServiceExt, service_fn, util::BoxCloneService};
use tower_webhook::{
    BoxError, DeadLetterLayer,
    body::BufferedBody,
    context::JudgedInside,
    dead_letter::{DeadLetters, Direction, Reason},
    metrics::{DeliveryMetrics, DeliveryMetricsLayer},
    observe::observer_fn,
    outcome::{Outcome, OutcomeKind, classify_fn},
    queue::{Ask, Engine, Job, NewJob, Status, Worker},
    stack,
};

type Client = BoxCloneService<Request<BufferedBody>, Response<BufferedBody>, BoxError>;

/// Answers with these statuses, one after the other.
fn peer(
    statuses: &'static [u16],
) -> impl Service<
    Request<BufferedBody>,
    Response = Response<BufferedBody>,
    Error = Infallible,
    Future: Send,
> + Clone
+ Send
+ Sync {
    let calls = Arc::new(AtomicUsize::new(0));
    service_fn(move |_: Request<BufferedBody>| {
        let mut answer = Response::new(BufferedBody::default());
        let call = calls.fetch_add(1, Ordering::SeqCst);
        *answer.status_mut() = statuses[call].try_into().unwrap();
        async { Ok(answer) }
    })
}

fn request() -> NewJob {
    let req = Request::post("https://peer.test/hooks?n=1")
        .header("idempotency-key", "evt_1")
        .header("authorization", "Bearer secret")
        .header("x-kind", "order")
        .body(BufferedBody::from("{}"));
    NewJob::http(req.unwrap())
}

#[tokio::test(start_paused = true)]
async fn the_request_is_sent_as_it_was_put_in_and_its_answer_judged() {
    let bench = Bench::new();
    let id = bench.put_in(request()).await;
    let sent = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&sent);
    let client = service_fn(move |req: Request<BufferedBody>| {
        let (head, body) = req.into_parts();
        let mut sent = seen.lock().unwrap();
        sent.push((
            head.uri.to_string(),
            head.headers["x-kind"].clone(),
            body.into_bytes(),
        ));
        let status = if sent.len() == 1 { 503 } else { 200 };
        async move {
            Ok::<_, BoxError>(
                Response::builder()
                    .status(status)
                    .body(BufferedBody::from("done"))?,
            )
        }
    });
    let worker = bench
        .set_up(Worker::http(bench.queue.clone()))
        .result(|res: &Response<BufferedBody>| Some(res.body().as_bytes().clone()))
        .build(client);
    let _worker = worker.unwrap().spawn();
    let result = Some(Bytes::from_static(b"done"));
    assert_eq!(bench.end(id).await, Status::Succeeded { result });
    let sent = sent.lock().unwrap();
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[0].0, "https://peer.test/hooks?n=1");
    assert_eq!(
        (&sent[1].1, &sent[1].2),
        (&"order".parse().unwrap(), &Bytes::from_static(b"{}"))
    );
}

#[tokio::test(start_paused = true)]
async fn what_the_peer_rejects_is_dead_lettered_at_once_with_all_but_its_secrets() {
    let bench = Bench::new();
    let id = bench.put_in(request()).await;
    let gone = service_fn(|_: Request<BufferedBody>| async {
        Ok::<_, BoxError>(
            Response::builder()
                .status(410)
                .body(BufferedBody::default())?,
        )
    });
    let worker = bench.set_up(Worker::http(bench.queue.clone()));
    let _worker = worker.build(gone).unwrap().spawn();
    assert_eq!(bench.end(id).await, Status::Failed);
    let entry = bench.sink.only();
    assert_eq!(
        (entry.cause.reason, entry.cause.code),
        (Reason::Rejected, Some(410))
    );
    assert_eq!(
        (entry.direction, entry.kind.as_str()),
        (Direction::Outbound, "http")
    );
    assert_eq!(entry.target, "peer.test");
    assert_eq!(entry.method.as_deref(), Some("POST"));
    assert_eq!(entry.uri.as_deref(), Some("https://peer.test/hooks?n=1"));
    assert_eq!(entry.idempotency_key.as_deref(), Some("evt_1"));
    assert_eq!(entry.body.bytes(), "{}");
    let names: Vec<_> = entry
        .headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["idempotency-key", "x-kind"]);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_makes_no_request_is_dead_lettered_as_unsendable() {
    let bench = Bench::new();
    let damaged = bench.put_in(NewJob::new("http", "damaged")).await;
    let calls = Calls::new();
    let client = service_fn(|_: Request<BufferedBody>| async {
        Ok::<_, BoxError>(Response::new(BufferedBody::default()))
    });
    let worker = bench.set_up(Worker::http(bench.queue.clone()));
    let _worker = worker.build(client).unwrap().spawn();
    assert_eq!(bench.end(damaged).await, Status::Failed);
    let entry = bench.sink.only();
    assert_eq!(entry.cause.reason, Reason::Unsendable);
    let message = entry.cause.message.clone().unwrap();
    assert!(
        message.contains("no HTTP request that can be read"),
        "{message}"
    );
    // What it is cannot be told, so it may be a credential.
    assert_eq!((entry.body.bytes().len(), entry.body.length()), (0, 7));
    assert_eq!(calls.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_may_be_made_of_any_job() {
    let bench = Bench::new();
    let id = bench.put("event").await;
    let client = service_fn(|req: Request<BufferedBody>| async move {
        assert_eq!(req.body().as_bytes(), "event");
        Ok::<_, BoxError>(Response::new(BufferedBody::default()))
    });
    let worker = bench
        .set_up(Worker::http(bench.queue.clone()))
        .retry(retry().build().unwrap())
        .request(["event"], |job| {
            Request::post("https://peer.test/").body(BufferedBody::from(job.payload.clone()))
        })
        .build(client);
    let _worker = worker.unwrap().spawn();
    assert_eq!(bench.end(id).await, Status::Succeeded { result: None });
}

/// An answer whose body never ends.
#[derive(Debug)]
struct Endless;

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        std::task::Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_never_ends_is_done_all_the_same() {
    let bench = Bench::new();
    let id = bench.put_in(request()).await;
    let client =
        service_fn(|_: Request<BufferedBody>| async { Ok::<_, BoxError>(Response::new(Endless)) });
    let worker = bench
        .set_up(Worker::http(bench.queue.clone()))
        .result(|res: &Response<BufferedBody>| Some(res.body().as_bytes().clone()))
        .build(client);
    let _worker = worker.unwrap().spawn();
    tokio::time::sleep(6 * SECOND).await;
    assert_eq!(bench.status(id).await, Status::Succeeded { result: None });
    assert_eq!(bench.attempts(id).await, 1);
}

fn answers(
    status: u16,
) -> impl tower::Service<
    Request<BufferedBody>,
    Response = Response<BufferedBody>,
    Error = BoxError,
    Future: Send,
> + Clone
+ Send
+ 'static {
    service_fn(move |_: Request<BufferedBody>| async move {
        let res = Response::builder().status(status);
        Ok::<_, BoxError>(res.body(BufferedBody::default())?)
    })
}

#[tokio::test(start_paused = true)]
async fn a_job_of_a_newer_form_waits_for_a_newer_release() {
    let bench = Bench::new();
    let mut job = request();
    let mut payload = job.payload.to_vec();
    payload[0] += 1;
    job.payload = payload.into();
    let id = bench.put_in(job).await;
    let worker = bench.set_up(Worker::http(bench.queue.clone()));
    let worker = worker.build(answers(200)).unwrap().spawn();
    sleep(2 * 3600 * SECOND).await;
    assert_eq!(bench.status(id).await, Status::Queued);
    assert_eq!(bench.attempts(id).await, 0);
    let looks = bench.count("released");
    assert!((120..=260).contains(&looks), "{looks} looks in two hours");
    assert!(bench.sink.all().is_empty());
    worker.stop(SECOND).await;
    // The release that can read it is there.
    let worker = bench
        .set_up(Worker::http(bench.queue.clone()))
        .request([NewJob::HTTP], |_: &Job| {
            Request::post("https://peer.test/").body(BufferedBody::default())
        })
        .build(answers(200));
    let _worker = worker.unwrap().spawn();
    assert_eq!(bench.end(id).await, Status::Succeeded { result: None });
}

#[tokio::test(start_paused = true)]
async fn a_header_that_is_marked_as_sensitive_is_sent_so_and_in_no_entry() {
    let bench = Bench::new();
    let mut pin = HeaderValue::from_static("1234");
    pin.set_sensitive(true);
    let req = Request::post("https://peer.test/")
        .header("x-customer-pin", pin)
        .header("x-kind", "order");
    let id = bench
        .put_in(NewJob::http(req.body(BufferedBody::from("{}")).unwrap()))
        .await;
    let worker = bench.set_up(Worker::http(bench.queue.clone()));
    let client = service_fn(|req: Request<BufferedBody>| async move {
        assert!(req.headers()["x-customer-pin"].is_sensitive());
        let gone = Response::builder().status(410);
        Ok::<_, BoxError>(gone.body(BufferedBody::default())?)
    });
    let _worker = worker.build(client).unwrap().spawn();
    assert_eq!(bench.end(id).await, Status::Failed);
    let entry = bench.sink.only();
    assert_eq!(entry.cause.reason, Reason::Rejected);
    let names: Vec<_> = entry.headers.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["x-kind"]);
}

#[tokio::test(start_paused = true)]
async fn an_event_has_one_id_in_the_entries_of_a_layer_and_of_a_worker() {
    let req = || {
        Request::post("https://peer.test/")
            .header("ce-id", "evt_1")
            .header("idempotency-key", "key_1")
            .header(
                "traceparent",
                "ff-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01",
            )
            .body(BufferedBody::from("{}"))
            .unwrap()
    };
    let bench = Bench::new();
    let layer = DeadLetterLayer::new(DeadLetters::new(bench.sink.clone()));
    layer.layer(answers(410)).oneshot(req()).await.unwrap();
    let worker = bench.set_up(Worker::http(bench.queue.clone()));
    let _worker = worker.build(answers(410)).unwrap().spawn();
    let id = bench.put_in(NewJob::http(req())).await;
    assert_eq!(bench.end(id).await, Status::Failed);
    let entries = bench.sink.all();
    assert_eq!(entries.len(), 2);
    for entry in entries {
        assert_eq!(entry.event_id.as_deref(), Some("evt_1"));
        assert_eq!(entry.idempotency_key.as_deref(), Some("key_1"));
        assert_eq!(entry.trace_id, None);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_told_and_stored_of_a_failure_holds_no_credentials() {
    let bench = Bench::new();
    bench.sink.mode(Mode::Fails);
    bench.put_in(request()).await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&told);
    let worker = bench
        .set_up(Worker::http(bench.queue.clone()))
        .observe(observer_fn(move |event| {
            seen.lock().unwrap().push(format!("{event:?}"));
        }))
        .build(service_fn(|_: Request<BufferedBody>| async {
            let error = "for url (https://user:SECRET@peer.test/?token=SECRET)";
            Err::<Response<BufferedBody>, BoxError>(error.into())
        }));
    let worker = worker.unwrap().spawn();
    sleep(60 * SECOND).await;
    assert_eq!(worker.stop(SECOND).await, 0);
    assert!(bench.count("not_dead_lettered") > 0);
    let told = told.lock().unwrap().concat();
    assert!(told.contains("Failed") && !told.contains("SECRET"));
    // What is stored until the sink takes the entry is redacted too.
    sleep(600 * SECOND).await;
    let claims = bench.engine.inner.claim(Ask::new(1, SECOND)).await;
    let cause = claims.unwrap().jobs.remove(0).cause.unwrap();
    let message = cause.message.unwrap();
    assert!(
        message.contains("for url (https://peer.test)") && !message.contains("SECRET"),
        "{message}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_worker_and_its_client_that_share_metrics_count_everything_once() {
    let client = |stack: &str, metrics: &DeliveryMetrics| -> (Client, u64) {
        if stack == "attempt" {
            let stack = stack::attempt().metrics(metrics.clone()).build().unwrap();
            let client = stack.layer(peer(&[500, 500, 200]));
            (Client::new(client), 3)
        } else {
            let twice = retry().attempts(2).build().unwrap();
            let stack = stack::deliver().metrics(metrics.clone()).retry(twice);
            let client = stack.build().unwrap().layer(peer(&[500, 500, 500, 200]));
            (Client::new(client), 4)
        }
    };
    for stack in ["attempt", "deliver"] {
        let bench = Bench::new();
        let metrics = DeliveryMetrics::new();
        let (client, calls) = client(stack, &metrics);
        let id = bench.put_in(request()).await;
        let worker = bench
            .set_up(Worker::http(bench.queue.clone()))
            .observe(metrics.clone())
            .build(client);
        let worker = worker.unwrap().spawn();
        bench.end(id).await;
        // What ends a job is told after it is settled.
        worker.stop(SECOND).await;

        let seen = metrics.snapshot();
        assert_eq!(seen.attempts().total(), calls, "{stack}");
        assert_eq!(
            seen.retries_by_code(),
            [(Some(500), calls - 1)],
            "{stack}: each attempt but the first is one retry"
        );
        assert_eq!(seen.deliveries().total(), 1, "{stack}");
        assert_eq!(seen.deliveries().count(OutcomeKind::Success), 1, "{stack}");
        assert_eq!(seen.retried_deliveries(), 1, "{stack}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_takes_the_outcome_of_its_stack() {
    let judged = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&judged);
    // To this peer a 404 means that the event is not known yet.
    let judge = classify_fn(move |result: Result<&Response<BufferedBody>, &BoxError>| {
        count.fetch_add(1, Ordering::SeqCst);
        match result {
            Ok(res) if res.status() == 404 => Outcome::transient().with_code(404),
            Ok(res) => Outcome::success().with_code(res.status().as_u16()),
            Err(error) => Outcome::of_error(&**error),
        }
    });
    let stack = stack::attempt().classifier(judge).build().unwrap();
    let bench = Bench::new();
    let id = bench.put_in(request()).await;
    let worker = bench
        .set_up(Worker::http(bench.queue.clone()).classifier(JudgedInside))
        .build(stack.layer(peer(&[404, 404, 200])));
    let worker = worker.unwrap().spawn();
    let ended = bench.end(id).await;
    worker.stop(SECOND).await;
    assert_eq!(ended, Status::Succeeded { result: None });
    assert_eq!(judged.load(Ordering::SeqCst), 3, "each answer once");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_makes_two_deliveries_retries_neither_of_them() {
    let bench = Bench::new();
    let metrics = DeliveryMetrics::new();
    let attempts = DeliveryMetricsLayer::attempts().observe(metrics.clone());
    let client = attempts.layer(peer(&[200, 500, 200, 200]));
    let worker = bench
        .worker()
        .observe(metrics.clone())
        .build(service_fn(move |_: Job| {
            let client = client.clone();
            async move {
                for host in ["http://a.test/", "http://b.test/"] {
                    let req = Request::post(host).body(BufferedBody::default())?;
                    let answer = client.clone().oneshot(req).await?;
                    if !answer.status().is_success() {
                        return Err(BoxError::from("refused"));
                    }
                }
                Ok(())
            }
        }));
    let id = bench.put("payload").await;
    let worker = worker.unwrap().spawn();
    bench.end(id).await;
    worker.stop(SECOND).await;
    let seen = metrics.snapshot();
    assert_eq!(seen.attempts().total(), 4);
    assert_eq!(seen.retries(), 1, "the worker's");
    assert_eq!(seen.deliveries().total(), 1);
}
