use super::*;
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
};

#[test]
fn what_is_not_json_is_refused() {
    let server = gateway(&[]);
    let deep = "[".repeat(20_000);
    let deep_payload = event("deep").replace("[1]", &format!("{deep}{}", "]".repeat(20_000)));
    for body in [
        &b""[..],
        b"[]",
        b"null",
        b"7",
        b"\"text\"",
        b"{",
        b"{\"eventId\":\"e\"",
        b"{} {}",
        b"\xef\xbb\xbf{}",
        b"{\"conversationId\":\"\xff\"}",
        b"\xff\xfe\x00",
        b"conversationId=c",
        b"{\"conversationId\":\"c\",\"conversationId\":\"d\"}",
        b"{\"conversationId\":\"\\ud800\"}",
        b"{\"conversationId\":NaN}",
        deep.as_bytes(),
        deep_payload.as_bytes(),
    ] {
        let refused = post(&server, body);
        assert_eq!(
            refused.status,
            400,
            "{} {refused:?}",
            String::from_utf8_lossy(&body[..body.len().min(80)])
        );
        assert_eq!(
            refused.header("content-type"),
            Some("application/problem+json")
        );
    }
}

#[test]
fn the_metrics_say_what_is_wrong_with_a_body() {
    let server = gateway(&[]);
    let timed = event_of("timed", r#""yesterday""#);
    let stale = event_of("stale", r#""2024-01-15T10:00:00Z""#);
    for (body, reason) in [
        ("{", "syntax"),
        ("7", "not_an_object"),
        (&*timed, "invalid"),
        (&*stale, "stale"),
        (r#"{"eventId":"e"}"#, "missing"),
    ] {
        assert_eq!(post(&server, body.as_bytes()).status, 400, "{body}");
        let page = curl(&server.url("/metrics"), &[], None, &[]).body;
        let line = format!(r#"tower_webhook_refusals_total{{by="enqueue",reason="{reason}"}} 1"#);
        assert!(page.lines().any(|shown| shown == line), "{line}\n{page}");
    }
}

#[test]
fn a_body_over_the_limit_is_refused_declared_or_not() {
    let server = gateway(&["--max-body", "1000"]);
    let fits = event(&"e".repeat(200));
    let padded = format!("{fits}{}", " ".repeat(1000 - fits.len()));
    assert_eq!(
        post(&server, padded.as_bytes()).status,
        200,
        "exactly the limit"
    );

    let large = format!("{padded} ");
    let signature = openssl_hex(SECRET, large.as_bytes());
    let header = [("x-cognigy-signature", signature.as_str())];
    let url = server.url("/webhooks/cognigy");
    let refused = curl(&url, &header, Some(large.as_bytes()), &[]);
    assert_eq!(refused.status, 413, "{refused:?}");
    assert_eq!(
        refused.header("content-type"),
        Some("application/problem+json")
    );
    let streamed = curl(
        &url,
        &header,
        Some(large.as_bytes()),
        &["-H", "transfer-encoding: chunked"],
    );
    assert_eq!(streamed.status, 413);
    let gigabyte = ask(
        &server,
        &format!("content-length: 1000000000\r\nx-cognigy-signature: {signature}\r\n"),
        b"",
        Shutdown::Write,
    );
    assert!(
        gigabyte.starts_with("HTTP/1.1 413"),
        "before a byte of it is read: {gigabyte}"
    );
}

#[test]
fn a_body_that_ends_early_is_refused_or_dropped_and_never_accepted() {
    let server = gateway(&[]);
    let body = event("evt_cut");
    let signature = openssl_hex(SECRET, &body.as_bytes()[..50]);
    let head = format!("content-length: 500\r\nx-cognigy-signature: {signature}\r\n");
    let answer = ask(&server, &head, &body.as_bytes()[..50], Shutdown::Write);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 400"),
        "{answer}"
    );

    let head = format!("transfer-encoding: chunked\r\nx-cognigy-signature: {signature}\r\n");
    let answer = ask(&server, &head, b"ffff\r\n{\"eventId\":", Shutdown::Write);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 400"),
        "{answer}"
    );
    let answer = ask(&server, &head, b"zz\r\n{}\r\n0\r\n\r\n", Shutdown::Write);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 400"),
        "{answer}"
    );

    assert_eq!(post(&server, body.as_bytes()).json()["status"], "accepted");
}

#[test]
fn a_sender_that_trickles_is_cut_off_and_holds_up_nobody() {
    let server = gateway(&[]);
    let mut slow = TcpStream::connect(server.address).unwrap();
    let signature = openssl_hex(SECRET, b"never whole");
    let head = format!(
        "POST /webhooks/cognigy HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\nx-cognigy-signature: {signature}\r\n\r\n{{"
    );
    slow.write_all(head.as_bytes()).unwrap();
    let started = Instant::now();
    let trickle = slow.try_clone().unwrap();
    std::thread::spawn(move || {
        let mut trickle = trickle;
        while trickle.write_all(b" ").is_ok() {
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    assert_eq!(
        post(&server, event("evt").as_bytes()).status,
        200,
        "others are served"
    );
    let mut answer = [0; 12];
    slow.set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    slow.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    assert!(
        started.elapsed() > Duration::from_secs(5),
        "it had its ten seconds"
    );
}

#[test]
fn a_head_that_could_be_read_in_two_ways_is_refused() {
    let server = gateway(&[]);
    let event = event("framed");
    let signature = openssl_hex(SECRET, event.as_bytes());
    let length = event.len();
    let sized = format!("content-length: {length}\r\nx-cognigy-signature: {signature}\r\n");
    let chunks = format!("{length:x}\r\n{event}\r\n0\r\n\r\n");
    let coded = |codings: &str| format!("{codings}x-cognigy-signature: {signature}\r\n");
    for (version, head, body, status) in [
        ("1.1", sized.clone(), &event, 400),
        ("1.1", format!("host: x\r\nhost: x\r\n{sized}"), &event, 400),
        ("1.1", format!("host: x\r\nHost: y\r\n{sized}"), &event, 400),
        ("1.1", format!("host: a@x\r\n{sized}"), &event, 400),
        (
            "1.1",
            coded("host: x\r\ntransfer-encoding: gzip, chunked\r\n"),
            &chunks,
            501,
        ),
        (
            "1.1",
            coded("host: x\r\ntransfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n"),
            &chunks,
            501,
        ),
        (
            "1.1",
            coded("host: x\r\ntransfer-encoding: chunked, chunked\r\n"),
            &chunks,
            400,
        ),
        // What is read in one way alone.
        ("1.0", sized.clone(), &event, 200),
        ("1.1", format!("host: x\r\n{sized}"), &event, 200),
        (
            "1.1",
            coded("host: x\r\ntransfer-encoding: Chunked\r\n"),
            &chunks,
            200,
        ),
    ] {
        let mut stream = TcpStream::connect(server.address).unwrap();
        // A second request, in case that the connection goes on.
        let request = format!(
            "POST /webhooks/cognigy HTTP/{version}\r\n{head}\r\n{body}GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        let expected = [format!("HTTP/1.1 {status}"), format!("HTTP/1.0 {status}")];
        assert!(
            expected.iter().any(|line| answer.starts_with(line)),
            "{head}: {answer}"
        );
        let answers = answer.matches("HTTP/1.").count();
        assert!(status == 200 || answers == 1, "it went on: {answer}");
    }
}

/// Sends a request by hand and reads what comes back.
fn ask(server: &Server, headers: &str, body: &[u8], then: Shutdown) -> String {
    let mut stream = TcpStream::connect(server.address).unwrap();
    let head =
        format!("POST /webhooks/cognigy HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    stream.shutdown(then).unwrap();
    let mut answer = String::new();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let _ = stream.read_to_string(&mut answer);
    answer
}
