//! The extractors for axum: what a handler gets, and what is answered where it gets nothing.
#![cfg(feature = "full")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

#[path = "support/stores.rs"]
mod stores;

use axum::{
    Extension, Json, Router,
    body::Body,
    extract::{Path, State},
    http::{Request, Response, StatusCode},
    middleware::{Next, from_fn},
    routing::post,
};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use serde::{Deserialize, Deserializer};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};
use stores::{Gate, Gated, Op};
use tower::{Layer as _, ServiceBuilder, ServiceExt as _, layer::util::Identity, service_fn};
use tower_webhook::{
    BoxError, IdempotencyLayer, SignLayer, StoreErrorKind,
    body::BufferedBody,
    idempotency::{IdempotencyKey, KeySource, MemoryStore, MissingKey, StoreOutage},
    observe::{Event, Observers, observer_fn},
    signature::{Signed, SignedRejection, Verified, scheme::StandardWebhooks},
    stack,
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

#[derive(Debug, Deserialize)]
struct Paid {
    invoice: u64,
    customer: Customer,
}

#[derive(Debug, Deserialize)]
struct Customer {
    name: String,
}

const PAID: &str = r#"{"invoice":7,"customer":{"name":"Zoë"}}"#;

/// A POST of this body, signed now.
async fn signed(secret: &str, path: &str, body: &str) -> Request<Body> {
    let sign = SignLayer::new(StandardWebhooks::new(secret).unwrap());
    let signing = sign.layer(service_fn(|req: Request<BufferedBody>| async move {
        Ok::<_, BoxError>(Response::new(req))
    }));
    let req = Request::post(path).header("webhook-id", "msg_1");
    let req = req.body(BufferedBody::from(body.to_owned())).unwrap();
    signing
        .oneshot(req)
        .await
        .unwrap()
        .into_body()
        .map(Body::new)
}

fn receive() -> stack::ReceiveLayer<Identity> {
    stack::receive(StandardWebhooks::new(SECRET).unwrap()).build()
}

async fn ask(app: &Router, req: Request<Body>) -> (StatusCode, String) {
    let response = app.clone().oneshot(req).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn on_paid(
    verified: Verified,
    Path(shop): Path<String>,
    State(name): State<&'static str>,
    Signed(Json(paid)): Signed<Json<Paid>>,
    maybe: Option<Verified>,
    Signed(bytes): Signed<Bytes>,
    body: String,
) -> String {
    assert_eq!(maybe.unwrap().id(), verified.id());
    assert_eq!(bytes, PAID);
    let (invoice, customer) = (paid.invoice, paid.customer.name);
    let (id, scheme) = (verified.id().unwrap(), verified.scheme());
    format!("{name} {shop} {scheme} {id} {invoice} {customer} {body}")
}

/// Nested, beside other extractors, and with a layer inside that swaps the body.
#[tokio::test]
async fn a_handler_gets_what_was_verified_and_not_what_became_of_it() {
    let swap = from_fn(|req: axum::extract::Request, next: Next| {
        next.run(req.map(|_| Body::from("swapped")))
    });
    let shops = Router::new()
        .route("/{shop}/paid", post(on_paid))
        .layer(swap)
        .with_state("app");
    let app = Router::new()
        .nest("/hooks", Router::new().nest("/shops", shops))
        .layer(receive());
    let answer = ask(&app, signed(SECRET, "/hooks/shops/7/paid", PAID).await).await;
    let expected = "app 7 standard_webhooks msg_1 7 Zoë swapped";
    assert_eq!(answer, (StatusCode::OK, expected.to_owned()));
}

#[tokio::test]
async fn json_of_another_shape_is_refused_by_the_name_of_its_field() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = told.clone();
    let observers = Observers::new(observer_fn(move |event| {
        tell.lock().unwrap().push(format!("{event:?}"));
    }));
    let app = Router::new()
        .route("/", post(|Signed(Json(_)): Signed<Json<Paid>>| async {}))
        .layer(receive())
        .layer(Extension(observers));
    for (body, field, detail) in [
        (
            r#"{"invoice":"SECRET","customer":{"name":"a"}}"#,
            Some("invoice"),
            "invoice: invalid, expected u64 at line 1 column 19",
        ),
        (
            r#"{"invoice":7,"customer":{"name":7}}"#,
            Some("customer.name"),
            "customer.name: invalid, expected a string at line 1 column 33",
        ),
        (
            r#"{"invoice":7,"customer":{}}"#,
            Some("customer.name"),
            "customer: missing field `name` at line 1 column 26",
        ),
        (
            r#"{"invoice":7}"#,
            Some("customer"),
            "missing field `customer` at line 1 column 13",
        ),
        ("payload=x", None, "expected value at line 1 column 1"),
        ("", None, "EOF while parsing a value at line 1 column 0"),
    ] {
        told.lock().unwrap().clear();
        let response = app
            .clone()
            .oneshot(signed(SECRET, "/", body).await)
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json"
        );
        let reason = response.extensions().get::<SignedRejection>().unwrap();
        let expected = SignedRejection::Json {
            field: field.map(str::to_owned),
            message: detail.to_owned(),
        };
        assert_eq!(*reason, expected);
        let problem = response.into_body().collect().await.unwrap().to_bytes();
        let problem: serde_json::Value = serde_json::from_slice(&problem).unwrap();
        assert_eq!(problem["detail"], detail);
        assert_eq!(problem["field"].as_str(), field);
        let last = told.lock().unwrap().pop().unwrap();
        let refused = format!(r#"Refused {{ by: "signed", reason: "json", detail: {detail} }}"#);
        assert_eq!(last, refused);
    }
}

static PARSED: AtomicUsize = AtomicUsize::new(0);

#[derive(Debug)]
struct Counted;

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        PARSED.fetch_add(1, Ordering::SeqCst);
        serde::de::IgnoredAny::deserialize(json).map(|_| Self)
    }
}

/// Over a socket, by a client that shares no code with the server.
#[tokio::test]
async fn what_is_forged_is_refused_before_it_is_parsed() {
    let app = Router::new()
        .route(
            "/",
            post(|Signed(Json(_)): Signed<Json<Counted>>| async { "parsed" }),
        )
        .layer(receive());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = tokio::spawn(async { axum::serve(listener, app).await });
    let client = reqwest::Client::new();
    let mut parsed = Vec::new();
    for (secret, body, status) in [
        (OTHER, "{}", 401),
        (OTHER, "{", 401),
        (SECRET, "{", 400),
        (SECRET, "{}", 200),
    ] {
        let (head, _) = signed(secret, "/", body).await.into_parts();
        let sent = client.post(&url).headers(head.headers).body(body).send();
        assert_eq!(sent.await.unwrap().status(), status, "{body}");
        parsed.push(PARSED.swap(0, Ordering::SeqCst) > 0);
    }
    assert_eq!(parsed, [false, false, true, true]);
    server.abort();
}

#[tokio::test]
async fn without_a_layer_that_verifies_nobody_is_let_in() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = told.clone();
    let observers = Observers::new(observer_fn(move |event| {
        if let Event::MissingLayer { part, .. } = event {
            tell.lock().unwrap().push(*part);
        }
    }));
    let app = Router::new()
        .route("/verified", post(|_: Verified| async { "in" }))
        .route("/json", post(|_: Signed<Json<Paid>>| async { "in" }))
        .route("/bytes", post(|_: Signed<Bytes>| async { "in" }))
        .route("/once", post(|_: IdempotencyKey| async { "in" }))
        .layer(Extension(observers));
    for path in ["/verified", "/json", "/bytes", "/once"] {
        let unsigned = Request::post(path).body(Body::from(PAID)).unwrap();
        // Signed or not: nobody looks.
        for req in [unsigned, signed(SECRET, path, PAID).await] {
            let response = app.clone().oneshot(req).await.unwrap();
            assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
            let extensions = response.extensions();
            match path {
                "/once" => assert!(extensions.get::<MissingKey>().is_some()),
                _ => assert_eq!(extensions.get(), Some(&SignedRejection::Unverified)),
            }
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let text = r#"{"type":"about:blank","title":"Internal Server Error","status":500}"#;
            assert_eq!(body, text, "the caller learns nothing of it");
        }
    }
    let told = std::mem::take(&mut *told.lock().unwrap());
    assert_eq!(told[..6], ["signature"; 6]);
    assert_eq!(told[6..], ["idempotency"; 2]);

    // A verification that does not say of which bytes proves nothing of any.
    let app = app.layer(Extension(Verified::new("mine")));
    for (path, status) in [("/verified", 200), ("/json", 500), ("/bytes", 500)] {
        let req = Request::post(path).body(Body::from(PAID)).unwrap();
        assert_eq!(ask(&app, req).await.0, status, "{path}");
    }
}

#[tokio::test]
async fn a_handler_that_can_do_without_gets_none() {
    let app: Router = Router::new().route(
        "/",
        post(
            |verified: Option<Verified>, key: Option<IdempotencyKey>| async move {
                format!("{} {}", verified.is_some(), key.is_some())
            },
        ),
    );
    let req = || Request::post("/").body(Body::empty()).unwrap();
    assert_eq!(ask(&app, req()).await.1, "false false");
    let app = app.layer(receive());
    assert_eq!(
        ask(&app, signed(SECRET, "/", "{}").await).await.1,
        "true false"
    );
}

#[tokio::test]
async fn a_handler_gets_the_key_that_the_layer_uses() {
    let scheme = || StandardWebhooks::new(SECRET).unwrap();
    let handler = |key: IdempotencyKey| async move { format!("{} {}", key.scope(), key.id()) };
    let router = || Router::new().nest("/hooks", Router::new().route("/a", post(handler)));
    let once = stack::receive(scheme())
        .once(MemoryStore::default())
        .build();
    let app = router().layer(once);
    let answer = ask(&app, signed(SECRET, "/hooks/a", "{}").await).await;
    assert_eq!(answer.1, "/hooks/a msg_1");

    // While the store is down, the layer knows the key and claims nothing.
    let store = Gated::default();
    store.set(Op::Begin, Gate::Fail(StoreErrorKind::Unavailable));
    let open = IdempotencyLayer::webhook(store, KeySource::verified_id());
    let open = open.store_outage(StoreOutage::FailOpen);
    let app = router().layer(ServiceBuilder::new().layer(receive()).layer(open));
    let answer = ask(&app, signed(SECRET, "/hooks/a", "{}").await).await;
    assert_eq!(answer, (StatusCode::OK, "/hooks/a msg_1".to_owned()));
}

#[test]
fn the_types_may_cross_threads() {
    fn cloned<T: Clone + Send + Sync + 'static>() {}
    cloned::<Signed<Bytes>>();
    cloned::<SignedRejection>();
    cloned::<MissingKey>();
}
