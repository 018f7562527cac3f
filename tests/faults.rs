//! That each fault of the fault server is really what it says: seen by a raw socket, or by a client
//! that we did not write.
#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "support/faults/mod.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod faults;

use bytes::Bytes;
use faults::{
    Certificate, Faults, How, Point, answer, client_config, close, go_away, grpc, grpc_late, reset,
    stall,
};
use h2::Reason;
use http::{Request, Version};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
};
use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

const POST: &str = "POST /hook?a=b HTTP/1.1\r\nhost: x\r\ncontent-length: 8\r\n\r\n12345678";

/// A raw connection with a request on it.
fn raw(server: &Faults, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// All that comes, and how it ended.
fn rest(mut stream: TcpStream) -> (String, Option<ErrorKind>) {
    let mut all = Vec::new();
    let ended = stream.read_to_end(&mut all).err().map(|error| error.kind());
    (String::from_utf8(all).unwrap(), ended)
}

#[test]
fn answers_are_what_was_asked_for_and_requests_are_recorded() {
    let step = answer(429)
        .header("retry-after", "1")
        .header("connection", "close");
    let server = Faults::http1().then(step.body("slow down")).start();
    let (answer, ended) = rest(raw(&server, POST));
    assert_eq!(
        answer,
        "HTTP/1.1 429 Scripted\r\ncontent-length: 9\r\nretry-after: 1\r\nconnection: close\r\n\r\nslow down"
    );
    assert_eq!(ended, None);
    let seen = &server.requests()[0];
    assert_eq!(
        (seen.method.as_str(), seen.path.as_str()),
        ("POST", "/hook?a=b")
    );
    assert_eq!(
        (seen.body.as_slice(), seen.connection),
        (&b"12345678"[..], 0)
    );
    assert_eq!(seen.headers["host"], "x");
}

#[test]
fn resets_are_resets_and_closes_are_closes_and_both_come_where_they_should() {
    let body = "a body that is cut";
    let whole = format!("HTTP/1.1 200 Scripted\r\ncontent-length: 18\r\n\r\n{body}");
    let head = whole.len() - body.len();
    for (point, sent, read) in [
        (Point::Accept, 0, None),
        (Point::Head, 0, Some(0)),
        (Point::MidRequest, 0, Some(4)),
        (Point::Answer, 0, Some(8)),
        (Point::MidHead, head / 2, Some(8)),
        (Point::AfterHead, head, Some(8)),
        (Point::MidBody, head + body.len() / 2, Some(8)),
        (Point::End, whole.len(), Some(8)),
    ] {
        let server = Faults::http1()
            .then(close(point))
            .then(reset(point))
            .start();
        let (answer, ended) = rest(raw(&server, POST));
        assert_eq!(
            (answer.as_str(), ended),
            (&whole[..sent], None),
            "{point:?}"
        );

        // What was sent before an RST may be lost on the way, so it is not looked at.
        let mut stream = TcpStream::connect(server.address).unwrap();
        // The reset may come first.
        let _ = stream.write_all(POST.as_bytes());
        let (_, ended) = rest(stream);
        assert_eq!(ended, Some(ErrorKind::ConnectionReset), "{point:?}");

        let bodies: Vec<_> = server
            .requests()
            .iter()
            .map(|seen| seen.body.len())
            .collect();
        assert_eq!(
            bodies,
            read.map_or(vec![], |read| vec![read; 2]),
            "{point:?}"
        );
        assert_eq!(server.connections(), 2);
    }
}

#[test]
fn stalls_last_until_they_are_released() {
    for point in [
        Point::Head,
        Point::Answer,
        Point::MidHead,
        Point::AfterHead,
        Point::MidBody,
    ] {
        let server = Faults::http1()
            .then(stall(point).header("connection", "close"))
            .start();
        let stream = raw(&server, POST);
        stream
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let mut all = vec![0; 4096];
        let mut read = 0;
        let stalled = loop {
            match (&stream).read(&mut all[read..]) {
                Ok(length) => read += length,
                Err(error) => break error.kind(),
            }
        };
        assert_eq!(stalled, ErrorKind::WouldBlock, "{point:?}");
        server.release();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let (rest, ended) = rest(stream);
        let all = String::from_utf8(all[..read].to_vec()).unwrap() + &rest;
        assert!(all.ends_with("a body that waits"), "{point:?}: {all}");
        assert_eq!(ended, None);
    }
}

#[test]
fn a_trickle_is_one_byte_at_a_time() {
    let step = answer(200).body("12345").header("connection", "close");
    let server = Faults::http1()
        .then(step.trickle(Duration::from_millis(2)))
        .start();
    let started = Instant::now();
    let mut stream = raw(&server, POST);
    let mut buffer = [0; 4096];
    let (mut reads, mut bytes) = (0, 0);
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        (reads, bytes) = (reads + 1, bytes + length);
    }
    // A busy machine reads several at once.
    assert!(reads > bytes / 10, "{bytes} bytes in {reads} reads");
    assert!(started.elapsed() >= Duration::from_millis(2 * bytes as u64));
}

#[test]
fn an_endless_body_has_no_end() {
    let server = Faults::http1().then(answer(200).endless()).start();
    let mut stream = raw(&server, POST);
    let mut some = vec![0; 64 * 1024];
    stream.read_exact(&mut some).unwrap();
}

#[test]
fn an_early_answer_comes_before_the_body() {
    let server = Faults::http1().then(answer(413).early()).start();
    let mut stream = raw(&server, &POST[..POST.len() - 8]);
    let mut head = [0; 20];
    stream.read_exact(&mut head).unwrap();
    assert!(head.starts_with(b"HTTP/1.1 413"));
    assert!(server.requests()[0].body.is_empty());
    // And the connection goes on once the body came.
    stream.write_all(b"12345678").unwrap();
    stream.write_all(POST.as_bytes()).unwrap();
    let mut text = String::new();
    while !text.contains("HTTP/1.1 200") {
        let mut some = [0; 64];
        let length = stream.read(&mut some).unwrap();
        text.push_str(std::str::from_utf8(&some[..length]).unwrap());
    }
    assert_eq!(server.requests()[0].body, b"12345678");
}

#[test]
fn flapping_goes_round() {
    let server = Faults::http1()
        .then(answer(201))
        .flapping((2, answer(200)), (1, answer(503)))
        .start();
    let statuses: Vec<_> = (0..7)
        .map(|_| {
            let mut head = [0; 12];
            raw(&server, POST).read_exact(&mut head).unwrap();
            String::from_utf8(head[9..].to_vec()).unwrap()
        })
        .collect();
    assert_eq!(statuses, ["201", "200", "200", "503", "200", "200", "503"]);
}

#[test]
fn a_server_that_is_down_refuses_and_comes_back_on_the_same_port() {
    let server = Faults::http1().start();
    let kept = raw(&server, "");
    server.refuse();
    let refused = TcpStream::connect(server.address).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    rest(kept);
    server.listen();
    let mut head = [0; 12];
    raw(&server, POST).read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
}

#[test]
fn every_retry_after_can_be_said() {
    let digits = "9".repeat(4096);
    for values in [
        vec!["7"],
        vec!["Fri, 31 Dec 1999 23:59:59 GMT"],
        vec!["soon"],
        vec!["1", "2"],
        vec![digits.as_str()],
        vec!["-1"],
        vec!["1e9"],
        vec!["Fri, 32 Dec 2027 23:59:59 GMT"],
    ] {
        let step = values
            .iter()
            .fold(answer(503).header("connection", "close"), |step, value| {
                step.header("retry-after", value)
            });
        let server = Faults::http1().then(step).start();
        let (head, _) = rest(raw(&server, POST));
        for value in values {
            assert!(
                head.contains(&format!("\r\nretry-after: {value}\r\n")),
                "{head}"
            );
        }
    }
}

#[tokio::test]
async fn reqwest_reads_http1_with_chunks_and_trailers() {
    let step = answer(200).body("hello").trailer("x-sum", "5");
    let server = Faults::http1().then(step).start();
    let client = reqwest::Client::new();
    let body = reqwest::Body::wrap_stream(tokio_stream::iter(
        ["one", "two"].map(Ok::<_, std::io::Error>),
    ));
    let res = client
        .post(server.url("/"))
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(res.text().await.unwrap(), "hello");
    assert_eq!(server.requests()[0].body, b"onetwo");
    client
        .post(server.url("/"))
        .body("again")
        .send()
        .await
        .unwrap();
    assert_eq!(server.connections(), 1, "it is kept alive");
    assert_eq!(server.requests()[1].connection, 0);
}

type Sender = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

async fn http2(server: &Faults) -> Sender {
    let stream = tokio::net::TcpStream::connect(server.address)
        .await
        .unwrap();
    let handshake =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    sender
}

fn post(server: &Faults) -> Request<Full<Bytes>> {
    Request::post(server.url("/hook"))
        .body(Full::from("12345678"))
        .unwrap()
}

fn h2_error(error: &hyper::Error) -> &h2::Error {
    std::error::Error::source(error)
        .unwrap()
        .downcast_ref()
        .unwrap()
}

#[tokio::test]
async fn http2_answers_with_trailers_and_keeps_its_connection() {
    let server = Faults::http2()
        .then(grpc_late(8, b"hi"))
        .then(grpc(14))
        .start();
    let mut sender = http2(&server).await;
    let res = sender.send_request(post(&server)).await.unwrap();
    assert!(!res.headers().contains_key("grpc-status"));
    let body = res.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-status"], "8");
    assert_eq!(body.to_bytes().as_ref(), b"\0\0\0\0\x02hi");
    let res = sender.send_request(post(&server)).await.unwrap();
    assert_eq!(res.headers()["grpc-status"], "14");
    assert!(hyper::body::Body::is_end_stream(res.body()));
    assert_eq!(server.connections(), 1);
    assert_eq!(server.requests()[1].body, b"12345678");
}

#[tokio::test]
async fn streams_are_reset_with_the_reason_and_nothing_else_is() {
    for reason in [
        Reason::REFUSED_STREAM,
        Reason::INTERNAL_ERROR,
        Reason::CANCEL,
    ] {
        let server = Faults::http2()
            .then(answer(200).fault(How::Stream(reason), Point::Head))
            .then(
                answer(200)
                    .body("half")
                    .fault(How::Stream(reason), Point::MidBody),
            )
            .start();
        let mut sender = http2(&server).await;
        let error = sender.send_request(post(&server)).await.unwrap_err();
        assert!(h2_error(&error).is_reset() && h2_error(&error).is_remote());
        assert_eq!(h2_error(&error).reason(), Some(reason));
        let res = sender.send_request(post(&server)).await.unwrap();
        let error = res.into_body().collect().await.unwrap_err();
        assert_eq!(h2_error(&error).reason(), Some(reason));
        assert!(sender.send_request(post(&server)).await.is_ok());
        assert_eq!(server.connections(), 1);
    }
}

#[tokio::test]
async fn a_go_away_says_whether_the_request_was_processed() {
    let server = Faults::http2().then(go_away()).start();
    let error = http2(&server)
        .await
        .send_request(post(&server))
        .await
        .unwrap_err();
    assert!(h2_error(&error).is_go_away() && h2_error(&error).is_remote());
    assert_eq!(h2_error(&error).reason(), Some(Reason::NO_ERROR));

    // The one before it was.
    let server = Faults::http2().then(answer(200)).then(go_away()).start();
    let mut sender = http2(&server).await;
    assert!(sender.send_request(post(&server)).await.is_ok());
    let error = sender.send_request(post(&server)).await.unwrap_err();
    assert!(h2_error(&error).is_go_away());

    let (reason, processed) = (Reason::NO_ERROR, true);
    let step = answer(200).fault(How::GoAway { reason, processed }, Point::Answer);
    let server = Faults::http2().then(step).start();
    let error = http2(&server)
        .await
        .send_request(post(&server))
        .await
        .unwrap_err();
    let source = std::error::Error::source(&error).unwrap();
    assert!(
        source.is::<std::io::Error>(),
        "{error:?}: it may have been processed"
    );
}

#[tokio::test]
async fn http2_connections_are_reset_closed_and_stalled() {
    for point in [Point::Accept, Point::Head, Point::MidRequest, Point::Answer] {
        for step in [reset(point), close(point)] {
            let server = Faults::http2().then(step).start();
            assert!(
                http2(&server)
                    .await
                    .send_request(post(&server))
                    .await
                    .is_err()
            );
        }
    }
    for point in [Point::AfterHead, Point::MidBody] {
        for step in [reset(point), close(point)] {
            let server = Faults::http2().then(step).start();
            // What was sent before an RST may be lost on the way.
            if let Ok(res) = http2(&server).await.send_request(post(&server)).await {
                assert!(res.into_body().collect().await.is_err());
            }
        }
    }
    let server = Faults::http2().then(stall(Point::AfterHead)).start();
    let res = http2(&server)
        .await
        .send_request(post(&server))
        .await
        .unwrap();
    server.release();
    assert_eq!(
        res.into_body().collect().await.unwrap().to_bytes(),
        "a body that waits"
    );
}

#[tokio::test(start_paused = true)]
async fn it_works_under_a_paused_clock() {
    let server = Faults::http1().then(stall(Point::Answer)).start();
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let call = tokio::spawn(client.request(post(&server)));
    server.seen(1).await;
    server.release();
    assert_eq!(call.await.unwrap().unwrap().status(), 200);
}

fn https(server: &Faults) -> Client<impl Connect, Full<Bytes>> {
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(client_config(server.authority()))
        .https_only()
        .enable_all_versions()
        .build();
    Client::builder(TokioExecutor::new()).build(connector)
}

use hyper_util::client::legacy::connect::Connect as Connected;
trait Connect: Connected + Clone + Send + Sync + 'static {}
impl<C: Connected + Clone + Send + Sync + 'static> Connect for C {}

#[tokio::test]
async fn tls_is_taken_with_a_good_certificate_alone() {
    for (script, version) in [
        (Faults::http1(), Version::HTTP_11),
        (Faults::http2(), Version::HTTP_2),
    ] {
        let server = script.tls(Certificate::Good).start();
        let res = https(&server).request(post(&server)).await.unwrap();
        assert_eq!(res.version(), version);
    }
    for (certificate, text) in [
        (Certificate::WrongName, "not valid for name"),
        (Certificate::Expired, "expired"),
    ] {
        let server = Faults::http1().tls(certificate).start();
        let error = https(&server).request(post(&server)).await.unwrap_err();
        let said = format!("{error:?}");
        let said = said.to_lowercase();
        assert!(error.is_connect(), "{said}");
        assert!(
            said.contains("certificate")
                && (said.contains(text) || said.contains("notvalidforname")),
            "{said}"
        );
        assert!(server.requests().is_empty());
    }
}

#[test]
fn a_plaintext_server_answers_a_handshake_as_such_servers_do() {
    let server = Faults::http1().start();
    let (answer, ended) = rest(raw(&server, "\x16\x03\x01\x02\0\x01"));
    assert!(answer.starts_with("HTTP/1.1 400"));
    assert_eq!(ended, None);
}
