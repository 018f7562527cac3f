//! What comes back is refused, and what is sent is marked.

#![allow(clippy::unwrap_used)]

use http::{Request, Response};
use std::{
    convert::Infallible,
    future::pending,
    sync::{Arc, Mutex},
};
use tower::{Layer, ServiceExt, service_fn};
use tower_test::mock;
use tower_webhook::{
    LoopGuardLayer,
    body::BufferedBody,
    loop_guard::{Hops, LoopError, MarkLayer},
    observe::{Event, Observer},
    outcome::{Classify, HttpClassifier, MakeClassifier},
};

fn guard() -> LoopGuardLayer {
    LoopGuardLayer::new("orders").unwrap()
}

fn post(marks: &str) -> Request<()> {
    let req = Request::post("/hooks").header("webhook-loop", marks);
    req.body(()).unwrap()
}

/// The headers with which `req` is sent through `layer`.
async fn sent(layer: &MarkLayer, req: Request<()>) -> http::HeaderMap {
    let transport = service_fn(|req: Request<()>| async { Ok::<_, Infallible>(req) });
    let sent = layer.layer(transport).oneshot(req).await;
    sent.unwrap().into_parts().0.headers
}

#[tokio::test]
async fn what_comes_back_is_refused_with_508_and_a_problem() {
    let handler = service_fn(|_: Request<()>| async {
        unreachable!("the handler is not called") as Result<Response<BufferedBody>, Infallible>
    });
    for (marks, reason, detail) in [
        (
            "shop, orders",
            LoopError::OwnMark,
            "this message was sent from here",
        ),
        (
            "1,2,3,4,5,6,7,8,9,10",
            LoopError::TooManyHops,
            "this message has passed too many deployments",
        ),
        (
            "hops=-1",
            LoopError::Malformed,
            "`Webhook-Loop` is not a list of marks",
        ),
    ] {
        let res = guard().layer(handler).oneshot(post(marks)).await.unwrap();
        assert_eq!(res.status(), 508);
        assert_eq!(res.headers()["content-type"], "application/problem+json");
        assert_eq!(res.extensions().get(), Some(&reason));
        let classifier = HttpClassifier::new().assume_repeatable(true);
        let outcome = classifier
            .make_classifier(&post(""))
            .classify(Ok::<_, &Infallible>(&res));
        assert!(!outcome.may_retry(), "a sender must not repeat a loop");
        assert_eq!(outcome.peer_is_healthy(), Some(true));
        let body = http_body_util::BodyExt::collect(res.into_body())
            .await
            .unwrap();
        let expected = format!(
            r#"{{"type":"about:blank","title":"Loop Detected","status":508,"detail":"{detail}"}}"#
        );
        assert_eq!(body.to_bytes(), expected);
    }
}

#[tokio::test]
async fn a_handler_finds_where_the_message_has_been() {
    let handler = service_fn(|req: Request<()>| async move {
        let hops = req.extensions().get::<Hops>().map(ToString::to_string);
        Ok::<_, Infallible>(Response::new(BufferedBody::from(hops.unwrap_or_default())))
    });
    for (marks, found) in [
        ("", ""),
        ("shop", "shop"),
        ("shop,billing", "shop, billing"),
    ] {
        let res = guard().layer(handler).oneshot(post(marks)).await.unwrap();
        let body = http_body_util::BodyExt::collect(res.into_body())
            .await
            .unwrap();
        assert_eq!(body.to_bytes(), found);
    }
}

#[tokio::test]
async fn what_is_sent_has_the_mark_after_those_that_were_carried_on() {
    let mark = guard().outgoing();
    assert_eq!(
        sent(&mark, Request::new(())).await["webhook-loop"],
        "orders"
    );

    let mut carried = post("ignored");
    carried
        .extensions_mut()
        .insert("shop, billing".parse::<Hops>().unwrap());
    assert_eq!(
        sent(&mark, carried).await["webhook-loop"],
        "shop, billing, orders"
    );

    // A request that is passed on as it came, and one whose header makes no sense.
    assert_eq!(
        sent(&mark, post("shop")).await["webhook-loop"],
        "shop, orders"
    );
    assert_eq!(sent(&mark, post("a b")).await["webhook-loop"], "orders");
}

#[cfg(feature = "cognigy")]
#[tokio::test]
async fn s2_deliveries_have_its_four_headers_with_fresh_ids() {
    use std::collections::BTreeSet;
    use tower_webhook::cognigy::presets;

    let mark = guard().outgoing().headers(presets::loop_headers);
    let mut ids = BTreeSet::new();
    for _ in 0..100 {
        let headers = sent(&mark, Request::new(())).await;
        assert_eq!(headers["x-cognigy-webhook-source"], "bot-integration");
        assert_eq!(headers["prevent-loop"], "true");
        for name in ["x-request-id", "x-correlation-id"] {
            let id = headers[name].to_str().unwrap().to_owned();
            let parts: Vec<_> = id.split('-').map(str::len).collect();
            assert_eq!(parts, [8, 4, 4, 4, 12], "{id}");
            assert!(
                id.bytes()
                    .all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
            );
            assert_eq!(&id[14..15], "4", "the version: {id}");
            assert!("89ab".contains(&id[19..20]), "the variant: {id}");
            assert!(ids.insert(id), "not fresh");
        }
    }
    let mut known = Request::new(());
    let id = "the delivery".parse().unwrap();
    known.headers_mut().insert("x-correlation-id", id);
    assert_eq!(sent(&mark, known).await["x-correlation-id"], "the delivery");
}

#[tokio::test]
async fn a_refusal_is_told_and_its_answer_can_be_replaced() {
    struct Told(Arc<Mutex<Vec<String>>>);

    impl Observer for Told {
        fn on(&self, event: &Event<'_>) {
            if let Event::Refused { by, reason, detail } = event {
                let told = format!("{by} {reason}: {detail}");
                self.0.lock().unwrap().push(told);
            }
        }
    }

    let told = Arc::default();
    let guard = guard()
        .observe(Told(Arc::clone(&told)))
        .refuse_with(|reason, problem| {
            assert_eq!(*reason, LoopError::OwnMark);
            problem.into_grpc()
        });
    let handler =
        service_fn(|_: Request<()>| pending::<Result<Response<BufferedBody>, Infallible>>());
    let res = guard.layer(handler).oneshot(post("orders")).await.unwrap();
    assert_eq!(res.headers()["grpc-status"], "9");
    let told = told.lock().unwrap();
    assert_eq!(
        *told,
        ["loop_guard own_mark: this message was sent from here"]
    );
}

#[tokio::test]
async fn dropping_a_call_drops_the_inner_one() {
    let guard = guard();
    let (mut service, mut peer) =
        mock::spawn_with(|mock: mock::Mock<Request<()>, Response<BufferedBody>>| {
            guard.layer(guard.outgoing().layer(mock))
        });
    peer.allow(1);
    assert!(service.poll_ready().is_ready());
    let call = service.call(post("shop"));
    let (_, answer) = peer.next_request().await.unwrap();
    drop(call);
    answer.send_response(Response::new(BufferedBody::default()));
    assert!(
        service.poll_ready().is_pending(),
        "its readiness is that of the inner service"
    );
}
