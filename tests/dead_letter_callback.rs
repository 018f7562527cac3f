//! Entries that are posted to a URL: through the ready-made stack, over sockets, to a server that
//! does wrong what it is told to.
#![cfg(all(feature = "dead-letter", feature = "hyper-util", feature = "stack"))]
#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "support/faults/mod.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod faults;

use faults::{Faults, Point, answer, reset, stall};
use http::{HeaderName, HeaderValue, Request, Response};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use std::{
    sync::Arc,
    time::{Duration, Instant, UNIX_EPOCH},
};
use tower::Service;
use tower_webhook::{
    BoxError, StoreError, StoreErrorKind,
    body::BufferedBody,
    dead_letter::{
        CallbackSink, Cause, DeadLetters, Entry, EntryBody, EntryId, MemoryDeadLetters, Reason,
        Sink, WriteOutcome, json,
    },
    retry::{Backoff, RetryConfig},
    stack, transport,
};

/// The whole stack, quick to try again.
fn client() -> impl Service<
    Request<BufferedBody>,
    Response = Response<hyper::body::Incoming>,
    Error: Into<BoxError>,
    Future: Send,
> + Clone
+ Send
+ 'static {
    let backoff = Backoff::exponential(Duration::from_millis(5), Duration::from_millis(20));
    let retry = RetryConfig::builder().backoff(backoff.build().unwrap());
    stack::deliver()
        .retry(retry.build().unwrap())
        .build()
        .unwrap()
        .layer(transport::hyper(
            Client::builder(TokioExecutor::new()).build_http::<BufferedBody>(),
        ))
}

fn entry() -> Arc<Entry> {
    let cause = Cause::new(Reason::RetriesExhausted).with_message("the peer answered 503");
    let id = EntryId::from_bytes([0x5A; 16]);
    let written_at = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let mut entry = Entry::new(id, "http", "peer.test", cause, written_at);
    entry.event_id = Some("evt_1".to_owned());
    entry.body = EntryBody::new(&br#"{"type":"paid"}"#[..].into(), 1024);
    Arc::new(entry)
}

async fn posted(server: &Faults) -> Result<(), StoreError> {
    let sink = CallbackSink::new(&server.url("/dlq"), client()).unwrap();
    sink.write(&entry()).await
}

#[tokio::test]
async fn a_receiver_that_fails_twice_has_the_record_at_last_under_one_key() {
    let server = Faults::http1()
        .then(answer(503))
        .then(reset(Point::Head))
        .then(answer(202))
        .start();
    posted(&server).await.unwrap();
    let seen = server.requests();
    assert_eq!(seen.len(), 3);
    for request in &seen {
        assert_eq!((&*request.method, &*request.path), ("POST", "/dlq"));
        assert_eq!(request.headers["content-type"], "application/json");
        assert_eq!(request.headers["idempotency-key"], "5a".repeat(16));
    }
    assert_eq!(json::from_json(&seen[2].body).unwrap(), *entry());
}

#[tokio::test]
async fn a_body_of_ones_own_and_the_operators_headers_are_sent() {
    let server = Faults::http1().start();
    let name = HeaderName::from_static("authorization");
    let value = HeaderValue::from_static("Bearer secret");
    let sink = CallbackSink::new(&server.url("/dlq"), client()).unwrap();
    let sink = sink
        .body(|entry| format!(r#"{{"target":"{}"}}"#, entry.target))
        .header(name, value);
    assert!(!format!("{sink:?}").contains("secret"));
    assert!(!format!("{sink:?}").contains("dlq"));
    sink.write(&entry()).await.unwrap();
    let seen = server.requests();
    assert_eq!(seen[0].headers["authorization"], "Bearer secret");
    assert_eq!(&*seen[0].body, br#"{"target":"peer.test"}"#);
}

#[tokio::test]
async fn what_the_receiver_answers_is_told_apart() {
    for (status, kind, requests) in [
        (400, StoreErrorKind::Rejected, 1),
        (401, StoreErrorKind::Rejected, 1),
        (302, StoreErrorKind::Rejected, 1),
        (413, StoreErrorKind::TooLarge, 1),
        (429, StoreErrorKind::Unavailable, 3),
        (500, StoreErrorKind::Unavailable, 3),
    ] {
        let server = Faults::http1().otherwise(answer(status)).start();
        let refused = posted(&server).await.unwrap_err();
        assert_eq!(refused.kind(), kind, "{status}");
        assert_eq!(server.requests().len(), requests, "{status}");
    }
    let server = Faults::http1().start();
    server.refuse();
    let away = posted(&server).await.unwrap_err();
    assert_eq!(away.kind(), StoreErrorKind::Unavailable);
    assert!(std::error::Error::source(&away).is_some());
}

#[tokio::test]
async fn a_receiver_that_hangs_is_given_up_and_the_fallback_has_the_entry() {
    let server = Faults::http1().otherwise(stall(Point::Head)).start();
    let limit = Duration::from_millis(200);
    let sink = || {
        let sink = CallbackSink::new(&server.url("/dlq"), client()).unwrap();
        sink.time_limit(limit).unwrap()
    };
    let began = Instant::now();
    let hung = sink().write(&entry()).await.unwrap_err();
    assert_eq!(hung.kind(), StoreErrorKind::Timeout);
    assert!(began.elapsed() < Duration::from_secs(5));
    let fallback = MemoryDeadLetters::default();
    let entries = DeadLetters::new(sink()).fallback(fallback.clone());
    assert_eq!(
        entries.write(entry()).await.unwrap(),
        WriteOutcome::FellBack
    );
    assert_eq!(fallback.len(), 1);
}

/// The time limit of S0's callback.
#[tokio::test(start_paused = true)]
async fn s0_a_receiver_has_fifteen_seconds() {
    let hangs = tower::service_fn(|_: Request<BufferedBody>| {
        std::future::pending::<Result<Response<BufferedBody>, BoxError>>()
    });
    let sink = CallbackSink::new("https://dead.example.com/ingest", hangs).unwrap();
    let began = tokio::time::Instant::now();
    let hung = sink.write(&entry()).await.unwrap_err();
    assert_eq!(hung.kind(), StoreErrorKind::Timeout);
    assert_eq!(began.elapsed().as_secs(), 15);
}

/// The path of a callback may be as good as a password, and clients quote it.
#[tokio::test]
async fn an_error_shows_neither_the_path_nor_the_clients_error_that_does() {
    for quote in [
        |req: &Request<BufferedBody>| format!("error sending request for url ({})", req.uri()),
        |req: &Request<BufferedBody>| format!("refused: POST {}", req.uri().path()),
        |req: &Request<BufferedBody>| format!("no route to \"{}\"", &req.uri().path()[1..]),
    ] {
        let client = tower::service_fn(move |req: Request<BufferedBody>| {
            let error: BoxError = std::io::Error::other(quote(&req)).into();
            async move { Err::<Response<BufferedBody>, _>(error) }
        });
        let url = "https://ops.test/hooks/SECRET-PATH?key=SECRET";
        let entries = DeadLetters::new(CallbackSink::new(url, client).unwrap());
        let error = entries.write(entry()).await.unwrap_err();
        let source = std::error::Error::source(error.first()).unwrap();
        let shown = format!("{error} {error:?} {source} {source:?}");
        assert!(!shown.contains("SECRET"), "{shown}");
    }
}

#[test]
fn urls_that_cannot_be_posted_to_are_refused() {
    for url in [
        "",
        "/dlq",
        "ftp://ops.test/",
        "ops.test",
        "http://a:b@ops.test/",
    ] {
        let refused = CallbackSink::new(url, ()).unwrap_err();
        assert_eq!(refused.setting(), "url", "{url}");
        assert!(!refused.to_string().contains("a:b"));
    }
    let sink = CallbackSink::new("http://ops.test", ()).unwrap();
    let refused = sink.time_limit(Duration::ZERO).unwrap_err();
    assert_eq!(refused.setting(), "time_limit");
}
