//! The table of the module docs, row by row.

use crate::{
    LEASE, Runs, answering, call, counting, delivery, disposition, key, refusal,
    services::Strict,
    stores::{Gate, Gated, Op},
    text, webhook, with_status,
};
use http::{Request, Response, StatusCode, header};
use std::{convert::Infallible, time::Duration};
use tokio_test::{assert_pending, task};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_webhook::{
    StoreErrorKind,
    body::BufferedBody,
    idempotency::{
        Claim, Disposition, FingerprintOf, IdempotencyError, IdempotencyLayer, KeySource,
        MemoryStore, Store,
    },
};

#[tokio::test]
async fn the_first_request_gets_the_handlers_answer_and_no_mark() {
    let runs = Runs::default();
    let service = webhook(MemoryStore::default());
    let service = service.layer(counting(&runs));
    let answer = call(&service, delivery("a")).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(disposition(&answer), None);
    assert!(!answer.headers().contains_key("idempotent-replayed"));
    assert_eq!(text(answer).await, "run 1");
}

#[tokio::test]
async fn a_repeat_gets_the_stored_answer_and_the_mark() {
    let runs = Runs::default();
    let service = webhook(MemoryStore::default());
    let service = service.layer(counting(&runs));
    call(&service, delivery("a")).await;
    for _ in 0..3 {
        let repeat = call(&service, delivery("a")).await;
        assert_eq!(repeat.headers()["idempotent-replayed"], "true");
        assert_eq!(disposition(&repeat), Some(Disposition::Replayed));
        assert_eq!(text(repeat).await, "run 1");
    }
    assert_eq!(runs.count(), 1);
    assert_eq!(text(call(&service, delivery("b")).await).await, "run 2");
}

#[tokio::test(start_paused = true)]
async fn a_repeat_of_one_that_runs_is_a_conflict() {
    let service = webhook(MemoryStore::default());
    let service = service.layer(service_fn(async |_| {
        std::future::pending::<Result<Response<BufferedBody>, Infallible>>().await
    }));
    let mut first = task::spawn(service.clone().oneshot(delivery("a")));
    assert_pending!(first.poll());
    let repeat = call(&service, delivery("a")).await;
    assert_eq!(repeat.status(), StatusCode::CONFLICT);
    assert_eq!(repeat.headers()[header::RETRY_AFTER], "2");
    let retry_after = Duration::from_secs(2);
    assert_eq!(
        refusal(&repeat),
        Some(IdempotencyError::InProgress { retry_after })
    );
    assert_eq!(
        text(repeat).await,
        r#"{"type":"about:blank","title":"A request is outstanding for this Idempotency-Key","status":409}"#
    );
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_never_longer_than_the_lease_that_is_left() {
    let (store, key) = (MemoryStore::default(), key("a"));
    store.begin(&key, None, LEASE).await.unwrap();
    tokio::time::advance(LEASE.saturating_sub(Duration::from_millis(300))).await;
    let service = webhook(store);
    let repeat = call(&service.layer(counting(&Runs::default())), delivery("a")).await;
    assert_eq!(repeat.headers()[header::RETRY_AFTER], "1");
}

#[tokio::test(start_paused = true)]
async fn another_request_under_the_same_key_is_refused_during_and_after() {
    let store = Gated::default();
    store.set(Op::Complete, Gate::HoldRequest);
    let layer = IdempotencyLayer::api(store.clone());
    let service = layer.layer(counting(&Runs::default()));
    let req = |body: &'static str| {
        Request::post("/charges")
            .header("idempotency-key", "\"k\"")
            .body(BufferedBody::from(body))
            .unwrap()
    };
    let mut first = task::spawn(service.clone().oneshot(req("1 EUR")));
    assert_pending!(first.poll());
    for in_flight in [true, false] {
        let other = call(&service, req("2 EUR")).await;
        assert_eq!(other.status(), StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(refusal(&other), Some(IdempotencyError::Mismatch));
        assert_eq!(
            text(other).await,
            r#"{"type":"about:blank","title":"Idempotency-Key is already used","status":422}"#
        );
        if in_flight {
            assert_eq!(call(&service, req("1 EUR")).await.status(), 409);
            store.open(Op::Complete);
            assert_eq!((&mut first).await.unwrap().status(), 200);
        }
    }
    let repeat = call(&service, req("1 EUR")).await;
    assert_eq!(disposition(&repeat), Some(Disposition::Replayed));
}

#[tokio::test]
async fn a_missing_key_is_a_bad_request() {
    let runs = Runs::default();
    let layer = webhook(MemoryStore::default());
    let req = Request::post("/hooks")
        .body(BufferedBody::default())
        .unwrap();
    let refused = call(&layer.layer(counting(&runs)), req).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    let expected = "the header `x-id`".to_owned();
    let reason = IdempotencyError::KeyMissing { expected };
    assert_eq!(refusal(&refused), Some(reason));
    assert_eq!(
        text(refused).await,
        r#"{"type":"about:blank","title":"The idempotency key is missing","status":400,"detail":"expected the header `x-id`"}"#
    );
    assert_eq!(runs.count(), 0);
}

#[tokio::test]
async fn a_missing_key_is_told_where_it_was_expected() {
    let event = || KeySource::json_pointer("/eventId").unwrap();
    let other = KeySource::header("x-event".parse().unwrap());
    for (source, expected) in [
        (
            event(),
            "a string or an integer at `/eventId` in a JSON body",
        ),
        (
            KeySource::verified_id(),
            "an id that is signed and was verified by a layer outside",
        ),
        (
            event().or(other),
            "a string or an integer at `/eventId` in a JSON body, or the header `x-event`",
        ),
    ] {
        let layer = IdempotencyLayer::webhook(MemoryStore::default(), source);
        let service = layer.layer(counting(&Runs::default()));
        let refused = call(&service, Request::new(BufferedBody::from("{}"))).await;
        assert_eq!(
            refusal(&refused).unwrap().to_string(),
            format!("the idempotency key is missing: expected {expected}")
        );
        let said = text(refused).await;
        assert!(String::from_utf8_lossy(&said).contains(expected));
    }
}

#[tokio::test]
async fn a_store_that_is_down_is_a_503_that_says_when_to_come_back() {
    let (store, runs) = (Gated::default(), Runs::default());
    store.set(Op::Begin, Gate::Fail(StoreErrorKind::Unavailable));
    let layer = webhook(store);
    let refused = call(&layer.layer(counting(&runs)), delivery("a")).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()[header::RETRY_AFTER], "2");
    let reason = IdempotencyError::Store(StoreErrorKind::Unavailable);
    assert_eq!(refusal(&refused), Some(reason));
    assert_eq!(runs.count(), 0);
}

#[tokio::test]
async fn the_claim_reaches_the_handler() {
    let layer = webhook(MemoryStore::default());
    let service = layer.layer(service_fn(async |req: Request<BufferedBody>| {
        let claim = req.extensions().get::<Claim>().unwrap();
        assert_eq!(claim.key(), &key("a"));
        Ok::<_, Infallible>(Response::new(BufferedBody::from(claim.token().to_string())))
    }));
    let token = text(call(&service, delivery("a")).await).await;
    assert!(str::from_utf8(&token).unwrap().parse::<u64>().unwrap() > 0);
}

#[tokio::test]
async fn the_instance_that_was_polled_ready_is_called() {
    let layer = webhook(MemoryStore::default()).key_optional();
    let mut service = layer.layer(Strict::default());
    for id in ["a", "b", "a"] {
        let ready = service.ready().await.unwrap();
        let answer = ready.call(delivery(id)).await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    let unguarded = Request::new(BufferedBody::default());
    let answer = service.ready().await.unwrap().call(unguarded).await;
    assert_eq!(answer.unwrap().status(), 200);
}

#[tokio::test]
async fn a_closure_replaces_the_answer_and_the_reason_stays() {
    let layer = webhook(MemoryStore::default()).refuse_with(|reason, problem| {
        let mut response = Response::new(BufferedBody::from(reason.to_string()));
        *response.status_mut() = problem.status();
        response
    });
    let req = Request::new(BufferedBody::default());
    let refused = call(&layer.layer(counting(&Runs::default())), req).await;
    assert_eq!(refused.status(), 400);
    assert!(matches!(
        refusal(&refused),
        Some(IdempotencyError::KeyMissing { .. })
    ));
    assert_eq!(
        text(refused).await,
        "the idempotency key is missing: expected the header `x-id`"
    );
}

#[tokio::test]
async fn the_marker_has_the_name_it_was_given() {
    let layer = webhook(MemoryStore::default()).marker("x-seen-before".parse().unwrap());
    let service = layer.layer(answering(&Runs::default(), |_| with_status(202)));
    call(&service, delivery("a")).await;
    let repeat = call(&service, delivery("a")).await;
    assert_eq!(repeat.headers()["x-seen-before"], "true");
    assert!(!repeat.headers().contains_key("idempotent-replayed"));
}

#[test]
fn bad_settings_cannot_be_built() {
    let layer = || webhook(MemoryStore::default());
    for (setting, set) in [
        ("lease", layer().lease(Duration::ZERO)),
        ("ttl", layer().ttl(Duration::ZERO)),
        ("store_timeout", layer().store_timeout(Duration::ZERO)),
        ("methods", layer().methods([])),
    ] {
        assert_eq!(set.unwrap_err().setting(), setting);
    }
    for pointer in ["eventId", "", "~0"] {
        let error = KeySource::json_pointer(pointer).unwrap_err();
        assert_eq!(error.setting(), "json_pointer");
    }
    assert!(KeySource::json_pointer("/eventId").is_ok());
    for (setting, built) in [
        ("max_entries", MemoryStore::builder().max_entries(0).build()),
        (
            "max_in_flight",
            MemoryStore::builder().max_in_flight(0).build(),
        ),
        ("max_bytes", MemoryStore::builder().max_bytes(1023).build()),
    ] {
        assert_eq!(built.unwrap_err().setting(), setting);
    }
}

#[tokio::test]
async fn debug_shows_no_id_no_body_and_no_answer() {
    let (store, id) = (MemoryStore::default(), "customer-4711");
    let layer = webhook(store.clone()).fingerprint(FingerprintOf::Request);
    let service = layer.layer(answering(&Runs::default(), |_| {
        Response::new(BufferedBody::from("card-4712"))
    }));
    let mut req = delivery(id).map(|_| BufferedBody::from("card-4712"));
    // Headers are the caller's to hide.
    req.headers_mut().clear();
    call(&service, delivery(id)).await;
    let repeat = call(&service, delivery(id)).await;
    let begin = store.begin(&key(id), None, LEASE).await.unwrap();
    for text in [
        format!("{:?}", key(id)),
        format!("{layer:?} {store:?} {begin:?} {repeat:?} {req:?}"),
        format!("{:?}", service.clone().call(delivery(id))),
    ] {
        assert!(!text.contains("4711") && !text.contains("4712"), "{text}");
    }
}
