//! What the errors of real clients mean, got from a server that does wrong what it is told to.
#![cfg(all(feature = "reqwest", feature = "stack", feature = "tonic"))]
#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "support/faults/mod.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod faults;

#[path = "transport_errors/clients.rs"]
mod clients;

use clients::{CLIENTS, Https, Kind, Talk, https, judged, plain, said};
use faults::{Certificate, Faults, How, Point, Script, answer, close, go_away, reset, stall};
use h2::Reason;
use http::{Request, Response};
use hyper_util::rt::TokioExecutor;
use std::{sync::Arc, time::Duration};
use tokio::sync::Semaphore;
use tower::{
    Service, ServiceExt, buffer::Buffer, limit::ConcurrencyLimit, load_shed::LoadShed, service_fn,
    timeout::Timeout,
};
use tower_webhook::{
    BoxError,
    body::BufferedBody,
    circuit_breaker::{BreakerConfig, BreakerState},
    outcome::{
        Outcome,
        OutcomeKind::{self, Throttled, Transient, Unreached, Unsendable},
    },
    stack, transport,
};

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
    for (client, url) in [
        (Kind::HyperUtil, "/no-host"),
        (Kind::Reqwest, "/no-host"),
        (Kind::Reqwest, "ftp://127.0.0.1/"),
    ] {
        let (outcome, said) = judged(client, Talk::Http1, url, None).await;
        assert_eq!(outcome.kind(), Unsendable, "{client:?} {url}: {said}");
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
async fn an_address_that_the_connector_does_not_take_is_unsendable_and_one_call() {
    for client in CLIENTS {
        let (outcome, said) = judged(client, Talk::Http2, "https://127.0.0.1:1/", None).await;
        // tonic is built without TLS here, and then does not ask for the scheme.
        let expected = if client == Kind::Tonic {
            Unreached
        } else {
            Unsendable
        };
        assert_eq!(outcome.kind(), expected, "{client:?}: {said}");
    }
    for client in https(None) {
        let (outcome, said) = client.judged("ftp://127.0.0.1:1/").await;
        assert_eq!(outcome.kind(), Unsendable, "{said}");
        assert!(said.contains("unsupported scheme"), "{said}");
    }

    // No retry, no evidence against the host, and the caller sees the cause.
    let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build_http();
    let breaker = BreakerConfig::builder().consecutive_failures(1).build();
    let stack = stack::deliver().breaker(breaker.unwrap()).build().unwrap();
    let deliver = stack.layer(transport::hyper(client));
    for _ in 0..3 {
        let req = Request::post("https://example.com/").header("webhook-id", "1");
        let req = req.body(BufferedBody::default()).unwrap();
        let error = deliver.clone().oneshot(req).await.unwrap_err();
        let said = said(&*error);
        assert!(said.contains("scheme is not http"), "{said}");
    }
    assert_eq!(stack.metrics().snapshot().attempts().total(), 3);
}

#[tokio::test]
async fn a_redirect_too_many_is_permanent() {
    let server = Faults::http1()
        .otherwise(answer(302).header("location", "/"))
        .start();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let req = Request::get(server.url("/")).body(BufferedBody::default());
    let error = transport::reqwest(client)
        .oneshot(req.unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.outcome(), Outcome::permanent());
}

#[tokio::test]
async fn an_event_that_a_redirect_turned_into_a_get_is_not_delivered() {
    let moved = || {
        Faults::http1()
            .then(answer(301).header("location", "/login?token=7"))
            .start()
    };
    let send = |method: &str, server: &Faults, redirects: bool| {
        let mut client = reqwest::Client::builder().no_proxy();
        if !redirects {
            client = client.redirect(reqwest::redirect::Policy::none());
        }
        let req = Request::builder()
            .method(method)
            .uri(server.url("/hooks?a=b"));
        let req = req
            .header("webhook-id", "msg_1")
            .body(BufferedBody::from("{}"));
        let deliver = stack::deliver().build().unwrap();
        let deliver = deliver.layer(transport::reqwest(client.build().unwrap()));
        deliver.oneshot(req.unwrap())
    };
    let server = moved();
    let error = send("POST", &server, true).await.unwrap_err();
    assert_eq!(Outcome::of_error(&*error), Outcome::permanent());
    let text = error.to_string();
    assert!(
        text.contains(&format!("a redirect to {}, on", server.url(""))),
        "{text}"
    );
    assert!(!text.contains("token") && !text.contains("login"), "{text}");
    assert_eq!(server.requests().len(), 2, "it is not tried again");

    let server = moved();
    assert_eq!(send("GET", &server, true).await.unwrap().status(), 200);
    let server = moved();
    assert_eq!(send("POST", &server, false).await.unwrap().status(), 301);
    let server = Faults::http1().start();
    assert_eq!(send("POST", &server, true).await.unwrap().status(), 200);
}

#[tokio::test]
async fn what_a_status_means_is_judged_by_the_classifier() {
    let server = Faults::http1().otherwise(answer(503)).start();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let deliver = stack::deliver().attempts(2).build().unwrap();
    let req = Request::get(server.url("/")).body(BufferedBody::default());
    let res = deliver
        .layer(transport::reqwest(client))
        .oneshot(req.unwrap())
        .await;
    assert_eq!(res.unwrap().status(), 503);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_request_that_a_connection_has_no_more_use_for_was_never_written() {
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
        let error = transport::hyper(plain::Connection(sender))
            .call(plain::get())
            .await
            .unwrap_err();
        assert_eq!(error.outcome(), Outcome::unreached(), "{error:?}");

        // The end of a runtime is no fault of the request, and the peer has it.
        let sender = there.connect(&server.url("/")).await;
        let call = tokio::spawn(transport::hyper(plain::Connection(sender)).call(plain::get()));
        server.seen(2).await;
        there.end();
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.outcome(), Outcome::transient(), "{error:?}");
    });
}

#[tokio::test]
async fn calls_that_tower_shed_open_no_circuit() {
    let peer = service_fn(|_: Request<BufferedBody>| async {
        Ok::<_, BoxError>(Response::new(BufferedBody::default()))
    });
    // Its only place is taken for good.
    let limited = ConcurrencyLimit::with_semaphore(peer, Arc::new(Semaphore::new(0)));
    let breaker = BreakerConfig::builder().consecutive_failures(1).build();
    let stack = stack::deliver()
        .attempts(1)
        .breaker(breaker.unwrap())
        .build()
        .unwrap();
    let deliver = stack.layer(LoadShed::new(limited));
    for _ in 0..5 {
        let req = Request::post("http://a.test/").body(BufferedBody::default());
        let error = deliver.clone().oneshot(req.unwrap()).await.unwrap_err();
        let said = said(&*error);
        assert!(said.contains("service overloaded"), "{said}");
    }
    let breaker = stack.breakers().find("a.test").unwrap();
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[tokio::test]
async fn a_buffer_whose_task_has_ended_is_no_peer_that_failed() {
    let peer = service_fn(|()| async { Ok::<_, BoxError>(()) });
    let (buffer, worker) = Buffer::pair(peer, 1);
    drop(worker);
    let outcome = Outcome::of_error(&*buffer.oneshot(()).await.unwrap_err());
    assert_eq!(outcome, Outcome::refused(None).never_retry());

    // A timeout of tower's says that the peer was too slow.
    let slow = Timeout::new(
        service_fn(|()| std::future::pending::<Result<(), BoxError>>()),
        Duration::from_millis(1),
    );
    let outcome = Outcome::of_error(&*slow.oneshot(()).await.unwrap_err());
    assert_eq!(outcome, Outcome::transient());
}
