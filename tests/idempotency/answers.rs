//! What is stored of an answer, and what a repeat gets of it.

use crate::{
    Fate, LEASE, Runs, answering, bodies,
    bodies::{Script, Step, data, header_map, trailers},
    call, counting, delivery, disposition, fate, refusal,
    stores::{Gated, Op},
    text, webhook, with_status,
};
use bytes::Bytes;
use http::{Request, Response, header};
use http_body::Body;
use http_body_util::BodyExt;
use std::time::Duration;
use tokio::time::{Instant, advance};
use tower::{Layer, ServiceExt};
use tower_webhook::{
    body::BufferedBody,
    idempotency::{
        Disposition, IdempotencyError, IdempotencyLayer, MemoryStore, stored_by_default,
    },
};

/// Sends an event twice to a handler that answers with `status`; says how often it ran.
async fn runs_of_two(layer: IdempotencyLayer<MemoryStore>, status: u16) -> usize {
    let runs = Runs::default();
    let service = layer.layer(answering(&runs, move |_| with_status(status)));
    for _ in 0..2 {
        let mut req = delivery("a");
        let id = "a".parse().unwrap();
        req.headers_mut().insert("idempotency-key", id);
        let answer = call(&service, req).await;
        assert_eq!(answer.status(), status);
        assert_eq!(text(answer).await, "answer");
    }
    runs.count()
}

#[tokio::test]
async fn the_webhook_preset_keeps_successes_and_frees_the_key_on_anything_else() {
    for (status, runs) in [
        (200, 1),
        (202, 1),
        (204, 1),
        (302, 2),
        (400, 2),
        (404, 2),
        (410, 2),
        (422, 2),
        (408, 2),
        (409, 2),
        (425, 2),
        (429, 2),
        (500, 2),
        (502, 2),
        (503, 2),
        (504, 2),
        (599, 2),
    ] {
        let layer = webhook(MemoryStore::default());
        assert_eq!(runs_of_two(layer, status).await, runs, "{status}");
    }
}

#[tokio::test]
async fn the_webhook_preset_frees_the_key_of_a_failed_grpc_call() {
    for (code, runs) in [("0", 1), ("3", 2), ("14", 2)] {
        let ran = Runs::default();
        let layer = webhook(MemoryStore::default());
        let service = layer.layer(answering(&ran, move |_| {
            let mut answer = with_status(200);
            answer
                .headers_mut()
                .insert("grpc-status", code.parse().unwrap());
            answer
        }));
        for _ in 0..2 {
            call(&service, delivery("a")).await;
        }
        assert_eq!(ran.count(), runs, "{code}");
    }
}

#[tokio::test]
async fn the_api_preset_keeps_errors_too() {
    for (status, runs) in [
        (201, 1),
        (400, 1),
        (402, 1),
        (500, 1),
        (502, 1),
        (504, 1),
        (408, 2),
        (409, 2),
        (425, 2),
        (429, 2),
        (503, 2),
    ] {
        let layer = IdempotencyLayer::api(MemoryStore::default());
        assert_eq!(runs_of_two(layer, status).await, runs, "{status}");
    }
}

#[tokio::test]
async fn a_closure_says_which_statuses_are_kept() {
    for (status, runs) in [(200, 2), (418, 1)] {
        let layer = webhook(MemoryStore::default()).store_when(|head| head.status == 418);
        assert_eq!(runs_of_two(layer, status).await, runs, "{status}");
    }
}

#[tokio::test]
async fn an_error_of_the_handler_frees_the_key() {
    let (store, runs) = (MemoryStore::default(), Runs::default());
    let layer = webhook(store.clone());
    let failing = runs.clone();
    let service = layer.layer(tower::service_fn(move |_| {
        failing.begin();
        std::future::ready(Err::<Response<BufferedBody>, _>("no"))
    }));
    for _ in 0..2 {
        let result = service.clone().oneshot(delivery("a")).await;
        assert_eq!(result.unwrap_err(), "no");
        assert_eq!(fate(&store, "a").await, Fate::Free);
    }
    assert_eq!(runs.count(), 2);
}

#[tokio::test]
async fn credentials_are_not_replayed_unless_a_closure_says_so() {
    let answer = |_| {
        Response::builder()
            .header("X-Auth-Token", "1")
            .header("x-next-page-token", "2")
            .header("x-kind", "3")
            .header("date", "Sat, 21 Nov 2026 00:00:00 GMT")
            .body(BufferedBody::default())
            .unwrap()
    };
    let cautious = webhook(MemoryStore::default());
    let told = webhook(MemoryStore::default()).store_headers(|name| name != "x-auth-token");
    let more_cautious = webhook(MemoryStore::default())
        .store_headers(|name| stored_by_default(name) && name != "x-kind");
    for (layer, expected) in [
        (more_cautious, &[][..]),
        (cautious, &["x-kind"][..]),
        (told, &["x-kind", "x-next-page-token"]),
    ] {
        let service = layer.layer(answering(&Runs::default(), answer));
        let first = service.clone().oneshot(delivery("a")).await.unwrap();
        assert!(first.headers().contains_key("x-auth-token"), "{first:?}");
        let repeat = service.oneshot(delivery("a")).await.unwrap();
        let names = repeat.headers().keys().map(http::HeaderName::as_str);
        let mut names: Vec<_> = names
            .filter(|name| *name != "idempotent-replayed")
            .collect();
        names.sort_unstable();
        assert_eq!(names, expected);
    }
}

#[tokio::test]
async fn trailers_are_stored_by_the_rule_of_headers() {
    let sent = [
        ("x-auth-token", "secret"),
        ("set-cookie", "s=1"),
        ("connection", "x"),
        ("x-hop", "1"),
        ("x-kind", "2"),
        ("x-sum", "3"),
    ];
    let cautious = webhook(MemoryStore::default());
    let told = webhook(MemoryStore::default())
        .store_headers(|name| name != "x-kind" && name != "set-cookie");
    for (layer, stored) in [
        (cautious, &[("x-kind", "2"), ("x-sum", "3")]),
        (told, &[("x-auth-token", "secret"), ("x-sum", "3")]),
    ] {
        let service = layer.layer(answering(&Runs::default(), move |_| {
            let answer = Response::builder().header("connection", "x-hop");
            answer
                .body(Script::new([data("order"), trailers(&sent)]))
                .unwrap()
        }));
        let first = call(&service, delivery("a")).await;
        let (_, all) = bodies::read(first.into_body()).await;
        assert_eq!(all, Some(header_map(&sent)));
        let repeat = call(&service, delivery("a")).await;
        assert_eq!(disposition(&repeat), Some(Disposition::Replayed));
        let (_, kept) = bodies::read(repeat.into_body()).await;
        assert_eq!(kept, Some(header_map(stored)));
    }
}

#[tokio::test]
async fn headers_are_replayed_but_those_of_one_exchange() {
    let layer = webhook(MemoryStore::default());
    let service = layer.layer(answering(&Runs::default(), |_| {
        Response::builder()
            .status(201)
            .header("location", "/orders/1")
            .header("link", "</a>; rel=next")
            .header("link", "</b>; rel=prev")
            .header("x-binary", &b"caf\xe9"[..])
            .header("set-cookie", "session=1")
            .header("set-cookie", "csrf=2")
            .header("content-length", "5")
            .header("date", "Sat, 21 Nov 2026 00:00:00 GMT")
            .header("connection", "x-hop")
            .header("x-hop", "1")
            .header("transfer-encoding", "chunked")
            .header("www-authenticate", "Basic")
            .header("proxy-authenticate", "Basic")
            .body(BufferedBody::from("order"))
            .unwrap()
    }));
    let first = call(&service, delivery("a")).await;
    assert_eq!(first.headers().get_all("set-cookie").iter().count(), 2);

    let repeat = call(&service, delivery("a")).await;
    assert_eq!(repeat.status(), 201);
    let mut names: Vec<_> = repeat
        .headers()
        .keys()
        .map(http::HeaderName::as_str)
        .collect();
    names.sort_unstable();
    let expected = ["idempotent-replayed", "link", "location", "x-binary"];
    assert_eq!(names, expected);
    let links: Vec<_> = repeat.headers().get_all("link").iter().collect();
    assert_eq!(links, ["</a>; rel=next", "</b>; rel=prev"]);
    assert_eq!(repeat.headers()["x-binary"].as_bytes(), b"caf\xe9");
    assert_eq!(text(repeat).await, "order");
}

/// Over a real connection, because the length and the date are the server's to count.
#[tokio::test]
async fn length_and_date_are_counted_anew_on_the_wire() {
    let layer = webhook(MemoryStore::default());
    let service = tower_webhook::BufferBodyLayer::new(1024).layer(layer.layer(answering(
        &Runs::default(),
        |_| {
            Response::builder()
                .header("content-length", "5")
                .header("date", "Thu, 01 Jan 1970 00:00:00 GMT")
                .body(Script::chunks(["or", "der"]))
                .unwrap()
        },
    )));
    let (client, server) = tokio::io::duplex(1024);
    tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(
        hyper_util::rt::TokioIo::new(server),
        hyper_util::service::TowerToHyperService::new(service),
    ));
    let io = hyper_util::rt::TokioIo::new(client);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    for replayed in [false, true] {
        sender.ready().await.unwrap();
        let answer = sender.send_request(delivery("a")).await.unwrap();
        assert_eq!(
            answer.headers().contains_key("idempotent-replayed"),
            replayed
        );
        assert_eq!(answer.headers()[header::CONTENT_LENGTH], "5");
        let date = answer.headers()[header::DATE].to_str().unwrap();
        assert_eq!(date.ends_with("1970 00:00:00 GMT"), !replayed);
        assert_eq!(text(answer).await, "order");
    }
}

#[tokio::test]
async fn binary_bodies_and_trailers_are_replayed_to_the_byte() {
    let bytes: Bytes = (0..=255).collect::<Vec<u8>>().repeat(40).into();
    let sent = bytes.clone();
    let layer = webhook(MemoryStore::default());
    let service = layer.layer(answering(&Runs::default(), move |_| {
        Response::new(Script::new([
            data(sent.slice(..1000)),
            data(sent.slice(1000..)),
            trailers(&[("x-sum", "1"), ("x-sum", "2")]),
        ]))
    }));
    for replayed in [None, Some(Disposition::Replayed)] {
        let answer = call(&service, delivery("a")).await;
        assert_eq!(disposition(&answer), replayed);
        let (body, kept) = bodies::read(answer.into_body()).await;
        assert_eq!(body, bytes);
        let sums = header_map(&[("x-sum", "1"), ("x-sum", "2")]);
        assert_eq!(kept, Some(sums));
    }
}

#[tokio::test]
async fn answers_without_a_body_are_replayed_without_one() {
    for (method, status) in [("HEAD", 200), ("POST", 204), ("GET", 304)] {
        let runs = Runs::default();
        let layer = webhook(MemoryStore::default()).store_when(|_| true);
        let layer = layer;
        let service = layer.layer(answering(&runs, move |_| {
            let answer = Response::builder().status(status).header("etag", "\"1\"");
            // What a HEAD answer declares is the length of the body it does not have.
            let answer = answer.header("content-length", "1000000");
            answer.body(BufferedBody::default()).unwrap()
        }));
        for replayed in [None, Some(Disposition::Replayed)] {
            let mut req = delivery("a");
            *req.method_mut() = method.parse().unwrap();
            let answer = call(&service, req).await;
            assert_eq!(disposition(&answer), replayed, "{method}");
            assert_eq!(answer.status(), status);
            assert_eq!(answer.headers()["etag"], "\"1\"");
            assert!(text(answer).await.is_empty());
        }
        assert_eq!(runs.count(), 1);
    }
}

#[tokio::test]
async fn an_oversized_answer_reaches_its_caller_whole_and_a_repeat_gets_its_head() {
    let scripts: [fn() -> Script; 5] = [
        || Script::chunks(["0123456789"]),
        || Script::chunks(["0", "1", "23", "456", "789"]),
        || Script::chunks(["01234567", "89"]),
        || Script::chunks(["01234", "56789"]).declares(10),
        || {
            Script::new([
                data("012345678"),
                Step::Wait(Duration::from_millis(1)),
                data("9"),
                trailers(&[("x-end", "1")]),
            ])
        },
    ];
    for (index, script) in scripts.into_iter().enumerate() {
        let runs = Runs::default();
        let layer = webhook(MemoryStore::default()).max_answer(8);
        let service = layer.layer(answering(&runs, move |_| {
            let answer = Response::builder().status(201).header("location", "/1");
            answer.body(script()).unwrap()
        }));
        let first = call(&service, delivery("a")).await;
        assert_eq!(disposition(&first), Some(Disposition::NotStored));
        assert!(first.body().size_hint().lower() <= 10);
        assert!(!first.body().is_end_stream());
        let (body, kept) = bodies::read(first.into_body()).await;
        assert_eq!(body, "0123456789", "script {index}");
        let expected = (index == 4).then(|| header_map(&[("x-end", "1")]));
        assert_eq!(kept, expected);

        let repeat = call(&service, delivery("a")).await;
        assert_eq!(
            (repeat.status(), runs.count()),
            (201.try_into().unwrap(), 1)
        );
        assert_eq!(repeat.headers()["location"], "/1");
        assert_eq!(repeat.headers()["idempotent-replayed"], "true");
        let expected = Disposition::ReplayedWithoutBody;
        assert_eq!(disposition(&repeat), Some(expected));
        assert!(text(repeat).await.is_empty());
    }
}

#[tokio::test]
async fn the_cap_of_an_answer_is_exact() {
    for (body, stored) in [("12345678", true), ("123456789", false)] {
        let layer = webhook(MemoryStore::default()).max_answer(8);
        let service = layer.layer(answering(&Runs::default(), move |_| {
            Response::new(Script::chunks([body]))
        }));
        assert_eq!(text(call(&service, delivery("a")).await).await, body);
        let repeat = text(call(&service, delivery("a")).await).await;
        assert_eq!(repeat == body, stored);
    }
}

#[tokio::test]
async fn an_oversized_answer_that_declares_its_length_is_not_read_first() {
    let layer = webhook(MemoryStore::default()).max_answer(8);
    let body = Script::chunks(["01234", "56789"]).declares(10);
    let probe = body.probe();
    let body = std::sync::Arc::new(std::sync::Mutex::new(Some(body)));
    let service = layer.layer(answering(&Runs::default(), move |_| {
        Response::new(body.lock().unwrap().take().unwrap())
    }));
    let answer = call(&service, delivery("a")).await;
    assert_eq!(probe.polls(), 0);
    assert_eq!(answer.body().size_hint().exact(), Some(10));
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_a_500_and_frees_the_key() {
    let (store, runs) = (MemoryStore::default(), Runs::default());
    let layer = webhook(store.clone());
    let service = layer.layer(answering(&runs, |run| {
        let steps = if run == 1 {
            [data("half"), Step::Fail]
        } else {
            [data("who"), data("le")]
        };
        Response::new(Script::new(steps))
    }));
    let broken = call(&service, delivery("a")).await;
    assert_eq!(broken.status(), 500);
    assert_eq!(refusal(&broken), Some(IdempotencyError::BrokenAnswer));
    assert_eq!(fate(&store, "a").await, Fate::Free);
    assert_eq!(text(call(&service, delivery("a")).await).await, "whole");
}

#[tokio::test]
async fn an_oversized_answer_that_breaks_off_breaks_at_its_caller() {
    let layer = webhook(MemoryStore::default()).max_answer(4);
    let service = layer.layer(answering(&Runs::default(), |_| {
        Response::new(Script::new([data("01234567"), Step::Fail]))
    }));
    let mut body = call(&service, delivery("a")).await.into_body();
    let first = body.frame().await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "01234567");
    assert_eq!(body.frame().await.unwrap().unwrap_err(), bodies::Gone);
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_under_the_cap_is_stored_and_keeps_its_claim() {
    let store = Gated::default();
    let layer = webhook(store.clone());
    let service = layer.layer(answering(&Runs::default(), |_| {
        let slow = (0..10).flat_map(|_| [Step::Wait(LEASE / 2), data("x")]);
        Response::new(Script::new(slow))
    }));
    let started = Instant::now();
    let answer = call(&service, delivery("a")).await;
    assert!(started.elapsed() >= LEASE * 5);
    assert_eq!(disposition(&answer), None);
    assert!(store.count(Op::Renew) >= 14, "{}", store.count(Op::Renew));
    let repeat = call(&service, delivery("a")).await;
    assert_eq!(text(repeat).await, "xxxxxxxxxx");
}

#[tokio::test(start_paused = true)]
async fn an_answer_leaves_after_its_time_to_live() {
    let runs = Runs::default();
    let ttl = Duration::from_secs(3600);
    let layer = webhook(MemoryStore::default()).ttl(ttl).unwrap();
    let service = layer.layer(counting(&runs));
    call(&service, delivery("a")).await;
    advance(ttl - Duration::from_millis(1)).await;
    assert_eq!(text(call(&service, delivery("a")).await).await, "run 1");
    advance(Duration::from_millis(1)).await;
    assert_eq!(text(call(&service, delivery("a")).await).await, "run 2");
}

#[tokio::test(start_paused = true)]
async fn the_longest_settings_are_no_panic() {
    let layer = webhook(MemoryStore::default())
        .lease(Duration::MAX)
        .unwrap()
        .ttl(Duration::MAX)
        .unwrap()
        .wait(Duration::MAX)
        .store_timeout(Duration::MAX)
        .unwrap()
        .max_answer(usize::MAX);
    let runs = Runs::default();
    let service = layer.layer(answering(&runs, |_| {
        let wait = Step::Wait(Duration::from_secs(60));
        Response::new(Script::new([wait, data("late")]))
    }));
    let (first, repeat) =
        tokio::join!(call(&service, delivery("a")), call(&service, delivery("a")));
    assert_eq!(
        (text(first).await, text(repeat).await),
        ("late".into(), "late".into())
    );
    assert_eq!(runs.count(), 1);
}

#[tokio::test]
async fn the_handlers_request_is_the_callers() {
    let layer = webhook(MemoryStore::default());
    let service = layer.layer(tower::service_fn(async |req: Request<BufferedBody>| {
        assert_eq!(req.uri(), "/hooks");
        assert_eq!(req.headers()[crate::ID], "a");
        assert_eq!(req.extensions().get::<u8>(), Some(&7));
        Ok::<_, std::convert::Infallible>(Response::new(req.into_body()))
    }));
    let mut req = delivery("a");
    req.extensions_mut().insert(7_u8);
    assert_eq!(text(call(&service, req).await).await, "{}");
}
