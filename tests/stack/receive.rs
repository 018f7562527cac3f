//! The stack of a receiver.

use crate::{SECRET, bodies::Script};
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};
use tower::{Layer, ServiceExt, service_fn};
use tower_webhook::{
    BoxError, SignLayer,
    body::BufferedBody,
    idempotency::{KeySource, MemoryStore},
    observe::{Event, observer_fn},
    signature::{
        Verified,
        scheme::{GitHub, StandardWebhooks},
    },
    stack,
};

/// The headers of a signed message.
pub(super) async fn signed(id: &str, body: &'static str) -> HeaderMap {
    let sign = SignLayer::new(StandardWebhooks::new(SECRET).unwrap());
    let signing = sign.layer(service_fn(|req: Request<BufferedBody>| async move {
        Ok::<_, BoxError>(Response::new(req.headers().clone()))
    }));
    let req = Request::post("/hooks").header("webhook-id", id);
    let req = req.body(BufferedBody::from(body)).unwrap();
    signing.oneshot(req).await.unwrap().into_body()
}

#[tokio::test]
async fn a_receiver_reads_what_may_be_signed_and_handles_it_once() {
    let refused = Arc::new(Mutex::new(Vec::new()));
    let handled = Arc::new(AtomicUsize::new(0));
    let (tell, count) = (refused.clone(), handled.clone());
    let receive = stack::receive(StandardWebhooks::new(SECRET).unwrap())
        .max_body(100)
        .once(MemoryStore::default())
        .observe(observer_fn(move |event| {
            if let Event::Refused { by, .. } = event {
                tell.lock().unwrap().push(*by);
            }
        }))
        .build();
    let service = receive.layer(service_fn(move |req: Request<BufferedBody>| {
        count.fetch_add(1, Ordering::SeqCst);
        let verified = req.extensions().get::<Verified>().unwrap();
        let id = verified.id().unwrap().to_owned();
        async move { Ok::<_, BoxError>(Response::new(BufferedBody::from(id))) }
    }));

    let long: &'static str = "x".repeat(101).leak();
    let unsigned = HeaderMap::new();
    for (headers, body, status, reads) in [
        (unsigned, "{}", 401, 0),
        (signed("msg_1", "{}").await, "{}", 200, 2),
        (signed("msg_1", "{}").await, "{}", 200, 2),
        (signed("msg_2", "{}").await, "[]", 401, 2),
        (signed("msg_3", long).await, long, 413, 1),
    ] {
        let sent = Script::chunks([body]);
        let probe = sent.probe();
        let mut req = Request::post("/hooks").body(sent);
        *req.as_mut().unwrap().headers_mut() = headers;
        let res = service.clone().oneshot(req.unwrap()).await.unwrap();
        assert_eq!(res.status(), status, "{body}");
        assert_eq!(probe.polls(), reads, "{status} {body}");
        if status == 200 {
            let body = res.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, "msg_1");
        }
    }
    assert_eq!(handled.load(Ordering::SeqCst), 1, "the repeat is replayed");
    let refused = refused.lock().unwrap().clone();
    assert_eq!(
        refused,
        ["standard_webhooks", "standard_webhooks", "buffer_body"]
    );
}

#[tokio::test]
async fn a_scheme_without_an_id_needs_a_key_of_its_own() {
    let sign = || SignLayer::new(GitHub::new("secret").unwrap());
    let echo = || {
        service_fn(|_: Request<BufferedBody>| async {
            Ok::<_, BoxError>(Response::new(BufferedBody::default()))
        })
    };
    let request = || {
        let req = Request::post("/hooks").header("x-github-delivery", "1");
        req.body(BufferedBody::from("{}")).unwrap()
    };
    let receive = || stack::receive(GitHub::new("secret").unwrap());

    // The program is told what to write, and the caller is not.
    let told = Arc::new(Mutex::new(String::new()));
    let tell = told.clone();
    let observer = observer_fn(move |event| {
        if let Event::Refused { detail, .. } = event {
            *tell.lock().unwrap() = detail.to_string();
        }
    });
    let by_id = receive()
        .once(MemoryStore::default())
        .observe(observer)
        .build();
    let service = sign().layer(by_id.layer(echo()));
    let refused = service.oneshot(request()).await.unwrap();
    assert_eq!(refused.status(), 400);
    let said = refused.into_body().collect().await.unwrap().to_bytes();
    assert!(!String::from_utf8_lossy(&said).contains("once_by"));
    let detail = told.lock().unwrap().clone();
    assert!(
        detail.contains("`.once_by(store, KeySource::header("),
        "{detail}"
    );

    let key = KeySource::header("x-github-delivery".parse().unwrap());
    let keyed = receive().once_by(MemoryStore::default(), key).build();
    let service = sign().layer(keyed.layer(echo()));
    assert_eq!(service.oneshot(request()).await.unwrap().status(), 200);

    let service = sign().layer(receive().build().layer(echo()));
    assert_eq!(service.oneshot(request()).await.unwrap().status(), 200);
}
