//! Jobs that are HTTP requests.

use crate::support::{Bench, Calls, SECOND, retry};
use bytes::Bytes;
use http::{Request, Response};
use std::sync::{Arc, Mutex};
use tower::service_fn;
use tower_webhook::{
    BoxError,
    body::BufferedBody,
    dead_letter::{Direction, Reason},
    queue::{NewJob, NotARequest, Status, Worker},
};

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
async fn what_the_peer_rejects_is_buried_at_once_with_all_but_its_secrets() {
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
    let letter = bench.sink.only();
    assert_eq!(
        (letter.cause.reason, letter.cause.code),
        (Reason::Rejected, Some(410))
    );
    assert_eq!(
        (letter.direction, letter.kind.as_str()),
        (Direction::Outbound, "http")
    );
    assert_eq!(letter.target, "peer.test");
    assert_eq!(letter.method.as_deref(), Some("POST"));
    assert_eq!(letter.uri.as_deref(), Some("https://peer.test/hooks?n=1"));
    assert_eq!(letter.idempotency_key.as_deref(), Some("evt_1"));
    assert_eq!(letter.body.bytes(), "{}");
    let names: Vec<_> = letter
        .headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["idempotency-key", "x-kind"]);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_makes_no_request_is_buried_as_unsendable() {
    let bench = Bench::new();
    let damaged = bench.put_in(NewJob::new("http", "damaged")).await;
    let calls = Calls::new();
    let client = service_fn(|_: Request<BufferedBody>| async {
        Ok::<_, BoxError>(Response::new(BufferedBody::default()))
    });
    let worker = bench.set_up(Worker::http(bench.queue.clone()));
    let _worker = worker.build(client).unwrap().spawn();
    assert_eq!(bench.end(damaged).await, Status::Failed);
    let letter = bench.sink.only();
    assert_eq!(letter.cause.reason, Reason::Unsendable);
    let message = letter.cause.message.clone().unwrap();
    assert!(message.contains(&NotARequest.to_string()), "{message}");
    assert_eq!(letter.body.bytes(), "damaged");
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
        .request(|job| {
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
