//! What the errors of real clients mean, got from a server that does wrong what it is told to.
#![cfg(all(feature = "hyper-util", feature = "reqwest"))]
#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "support/faults/mod.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod faults;

#[path = "transport_errors/clients.rs"]
mod clients;

use clients::{CLIENTS, Https, Kind, Talk, https, judged, plain};
use faults::{Certificate, Faults, How, Point, Script, answer, close, go_away, reset, stall};
use h2::Reason;
use std::time::Duration;
use tower_webhook::outcome::OutcomeKind::{self, Throttled, Transient, Unreached, Unsendable};

async fn expect(script: Script, talk: Talk, expected: OutcomeKind, what: &str) {
    let server = script.start();
    for client in CLIENTS {
        if client.speaks(talk) {
            let (outcome, said) = judged(client, talk, &server.url("/x.Y/Z"), None).await;
            assert_eq!(
                outcome.kind(),
                expected,
                "{what}: {client:?} {talk:?}: {said}"
            );
            // A POST without a key.
            assert_eq!(outcome.may_retry(), expected == Unreached, "{what}: {said}");
        }
    }
}

#[tokio::test]
async fn what_happens_to_a_connection_after_the_request_is_transient() {
    for point in [
        Point::Head,
        Point::MidRequest,
        Point::Answer,
        Point::MidHead,
    ] {
        for step in [reset(point), close(point)] {
            let what = format!("{step:?}");
            let script = Faults::http1().otherwise(step.clone());
            expect(script, Talk::Http1, Transient, &what).await;
            let script = Faults::http2().otherwise(step);
            expect(script, Talk::Http2, Transient, &what).await;
        }
    }
}

#[tokio::test]
async fn a_head_that_is_no_http_is_transient() {
    let script = Faults::http1().otherwise(answer(200).header("bad name", "x"));
    expect(script, Talk::Http1, Transient, "bad head").await;
}

#[tokio::test]
async fn streams_that_were_refused_or_came_too_late_never_reached_the_peer() {
    let script = || Faults::http2();
    let stream = |reason| answer(200).fault(How::Stream(reason), Point::Head);
    let away =
        |reason, processed| answer(200).fault(How::GoAway { reason, processed }, Point::Answer);
    for (step, expected) in [
        (stream(Reason::REFUSED_STREAM), Unreached),
        (stream(Reason::INTERNAL_ERROR), Transient),
        (stream(Reason::CANCEL), Transient),
        (stream(Reason::ENHANCE_YOUR_CALM), Throttled),
        (go_away(), Unreached),
        (away(Reason::NO_ERROR, true), Transient),
        (away(Reason::INTERNAL_ERROR, false), Transient),
        (away(Reason::ENHANCE_YOUR_CALM, false), Throttled),
    ] {
        let what = format!("{step:?}");
        expect(script().otherwise(step), Talk::Http2, expected, &what).await;
    }
}

#[tokio::test]
async fn a_peer_that_is_down_or_has_no_address_was_not_reached() {
    let server = Faults::http1().start();
    server.refuse();
    for url in [server.url("/"), "http://no-such-host.invalid/".to_owned()] {
        for client in CLIENTS {
            let (outcome, said) = judged(client, Talk::Http2, &url, None).await;
            assert_eq!(outcome.kind(), Unreached, "{client:?} {url}: {said}");
        }
    }
}

#[tokio::test]
async fn a_handshake_that_fails_left_nothing_with_the_peer() {
    for certificate in [Certificate::WrongName, Certificate::Expired] {
        let server = Faults::http2().tls(certificate).start();
        for client in https(Some(&server.authority())) {
            let (outcome, said) = client.judged(&server.url("/")).await;
            assert_eq!(outcome.kind(), Unreached, "{certificate:?}: {said}");
        }
        assert!(server.requests().is_empty());
    }
    let server = Faults::http1().tls(Certificate::Good).start();
    for client in https(None) {
        let (outcome, said) = client.judged(&server.url("/")).await;
        assert_eq!(outcome.kind(), Unreached, "untrusted: {said}");
    }
    for step in [reset(Point::Accept), close(Point::Accept)] {
        let server = Faults::http1()
            .tls(Certificate::Good)
            .otherwise(step)
            .start();
        for client in https(Some(&server.authority())) {
            let (outcome, said) = client.judged(&server.url("/")).await;
            assert_eq!(outcome.kind(), Unreached, "cut: {said}");
        }
    }
    let server = Faults::http1().start();
    for client in https(None) {
        let url = server.url("/").replace("http:", "https:");
        let (outcome, said) = client.judged(&url).await;
        assert_eq!(outcome.kind(), Unreached, "plaintext: {said}");
    }
}

#[tokio::test]
async fn a_timeout_of_the_clients_own_is_transient_and_one_of_its_connector_is_not() {
    let server = Faults::http1().otherwise(stall(Point::Answer)).start();
    let timeout = Some(Duration::from_millis(100));
    let (outcome, said) = judged(Kind::Reqwest, Talk::Http1, &server.url("/"), timeout).await;
    assert_eq!(outcome.kind(), Transient, "{said}");
    let server = Faults::http2().otherwise(stall(Point::Answer)).start();
    let (outcome, said) = judged(Kind::Tonic, Talk::Http2, &server.url("/"), timeout).await;
    assert_eq!(outcome.kind(), Transient, "{said}");

    let server = Faults::http1()
        .tls(Certificate::Good)
        .otherwise(stall(Point::Accept))
        .start();
    for client in https(Some(&server.authority()))
        .into_iter()
        .filter(Https::has_connect_timeout)
    {
        let (outcome, said) = client.judged(&server.url("/")).await;
        assert_eq!(outcome.kind(), Unreached, "connect timeout: {said}");
    }
}

#[tokio::test]
async fn what_the_client_does_not_take_is_unsendable() {
    let (outcome, said) = judged(Kind::HyperUtil, Talk::Http1, "/no-host", None).await;
    assert_eq!(outcome.kind(), Unsendable, "{said}");
    for url in ["no url", "ftp://127.0.0.1/"] {
        let (outcome, said) = judged(Kind::Reqwest, Talk::Http1, url, None).await;
        assert_eq!(outcome.kind(), Unsendable, "{said}");
    }
}

#[tokio::test]
async fn a_body_of_our_own_that_fails_is_not_the_peers_fault() {
    for talk in [Talk::Http1, Talk::Http2] {
        let server = match talk {
            Talk::Http1 => Faults::http1().otherwise(stall(Point::Answer)).start(),
            Talk::Http2 => Faults::http2().otherwise(stall(Point::Answer)).start(),
        };
        let (outcome, said) = plain::failing_body(talk, &server.url("/")).await;
        assert_eq!(outcome.kind(), Unsendable, "{talk:?}: {said}");
        assert_eq!(outcome.peer_is_healthy(), None);
    }
}

#[tokio::test]
async fn reqwest_says_what_a_status_and_a_redirect_were() {
    use tower_webhook::outcome::{Outcome, transport};
    let server = Faults::http1()
        .then(answer(503))
        .otherwise(answer(302).header("location", "/"))
        .start();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let res = client.get(server.url("/")).send().await.unwrap();
    let outcome = transport::reqwest(&res.error_for_status().unwrap_err());
    assert_eq!(outcome, Some(Outcome::throttled(None).with_code(503)));
    let error = client.get(server.url("/")).send().await.unwrap_err();
    assert_eq!(transport::reqwest(&error), Some(Outcome::permanent()));
}

#[test]
fn a_request_that_a_connection_has_no_more_use_for_was_never_written() {
    use tower_webhook::outcome::{Outcome, transport};
    let server = Faults::http2()
        .then(go_away())
        .otherwise(stall(Point::Answer))
        .start();
    let (here, there) = (plain::runtime(), plain::runtime());
    here.block_on(async {
        let mut sender = there.connect(&server.url("/")).await;
        assert!(sender.send_request(plain::get()).await.is_err());
        while !sender.is_closed() {
            tokio::task::yield_now().await;
        }
        let error = sender.send_request(plain::get()).await.unwrap_err();
        assert!(error.is_canceled(), "{error:?}");
        assert_eq!(transport::hyper_util(&error), Some(Outcome::unreached()));
        assert_eq!(transport::tonic(&error), Some(Outcome::unreached()));

        // The end of a runtime is no fault of the request, and the peer has it.
        let mut sender = there.connect(&server.url("/")).await;
        let call = tokio::spawn(sender.send_request(plain::get()));
        server.seen(2).await;
        there.end();
        let error = call.await.unwrap().unwrap_err();
        assert!(error.is_user(), "{error:?}");
        assert_eq!(transport::hyper_util(&error), Some(Outcome::transient()));
    });
}
