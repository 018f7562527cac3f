//! The sign layer.

use crate::support::{ALL_COGNIGY, NOW, WHSEC, at, verify};
use http::{HeaderName, HeaderValue, Request, Response};
use std::{
    collections::HashSet,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_webhook::{
    BoxError, SignLayer,
    body::BufferedBody,
    clock::WallClock,
    signature::{
        MessageId, MessageIdLayer, Outgoing, Secret, SignError, SignScheme,
        scheme::{Cognigy, CognigyFormat, GitHub, Shopify, Slack, StandardWebhooks, Stripe},
    },
};

/// What would be sent.
async fn sent(
    layer: SignLayer,
    request: Request<BufferedBody>,
) -> Result<Request<BufferedBody>, BoxError> {
    layer
        .layer(service_fn(|request: Request<BufferedBody>| async move {
            Ok::<_, Infallible>(request)
        }))
        .oneshot(request)
        .await
}

fn standard() -> StandardWebhooks {
    StandardWebhooks::new(WHSEC).unwrap()
}

#[tokio::test]
async fn each_attempt_has_the_same_id_and_a_new_timestamp() {
    let now = Arc::new(AtomicU64::new(NOW));
    let read = now.clone();
    let clock =
        WallClock::from_fn(move || UNIX_EPOCH + Duration::from_secs(read.load(Ordering::Relaxed)));
    let layer = SignLayer::new(standard()).clock(clock);
    let mut request = Request::new(BufferedBody::from("body"));
    request
        .headers_mut()
        .insert("webhook-id", HeaderValue::from_static("order-1"));
    let first = sent(layer.clone(), request.clone()).await.unwrap();
    now.store(NOW + 300, Ordering::Relaxed);
    let second = sent(layer, request).await.unwrap();
    for (attempt, time) in [(&first, NOW), (&second, NOW + 300)] {
        assert_eq!(attempt.headers()["webhook-id"], "order-1");
        assert_eq!(
            attempt.headers()["webhook-timestamp"],
            time.to_string().as_str()
        );
        verify(&standard(), attempt).unwrap();
    }
    assert_ne!(
        first.headers()["webhook-signature"],
        second.headers()["webhook-signature"]
    );
}

#[tokio::test]
async fn the_id_is_the_header_then_the_extension_then_a_new_one() {
    let layer = || SignLayer::new(standard()).clock(at(NOW));
    let mut request = Request::new(BufferedBody::from("body"));
    let generated = async || {
        let request = sent(layer(), Request::new(BufferedBody::from("body")))
            .await
            .unwrap();
        request.headers()["webhook-id"].to_str().unwrap().to_owned()
    };
    let mut ids = HashSet::new();
    for _ in 0..100 {
        let id = generated().await;
        assert!(id.starts_with("msg_"));
        assert!(ids.insert(id));
    }
    request
        .extensions_mut()
        .insert(MessageId::new("extension").unwrap());
    let out = sent(layer(), request.clone()).await.unwrap();
    assert_eq!(out.headers()["webhook-id"], "extension");
    request
        .headers_mut()
        .insert("webhook-id", HeaderValue::from_static("header"));
    let out = sent(layer(), request.clone()).await.unwrap();
    assert_eq!(out.headers()["webhook-id"], "header");
    verify(&standard(), &out).unwrap();

    // Not ours to sign.
    for bad in ["", "a.b", "a b", &"x".repeat(4097)] {
        request
            .headers_mut()
            .insert("webhook-id", bad.parse().unwrap());
        let error = sent(layer(), request.clone()).await.unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&SignError::InvalidId));
    }
    request
        .headers_mut()
        .insert("webhook-id", HeaderValue::from_static("a"));
    request
        .headers_mut()
        .append("webhook-id", HeaderValue::from_static("b"));
    let error = sent(layer(), request).await.unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&SignError::InvalidId));
}

#[tokio::test]
async fn one_id_for_all_attempts_from_outside_the_retry() {
    let mut attempts = Vec::new();
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = seen.clone();
    let inner = ServiceBuilder::new()
        .layer(SignLayer::new(StandardWebhooks::svix(WHSEC).unwrap()))
        .service(service_fn(move |request: Request<BufferedBody>| {
            let id = request.headers()["svix-id"].clone();
            log.lock().unwrap().push(id);
            async { Ok::<_, Infallible>(Response::new(BufferedBody::default())) }
        }));
    let twice = service_fn(move |request: Request<BufferedBody>| {
        let inner = inner.clone();
        async move {
            inner.clone().oneshot(request.clone()).await?;
            inner.oneshot(request).await
        }
    });
    let mut service = MessageIdLayer::new().layer(twice);
    for _ in 0..2 {
        let request = Request::new(BufferedBody::default());
        service.ready().await.unwrap().call(request).await.unwrap();
    }
    attempts.append(&mut seen.lock().unwrap());
    assert_eq!(attempts[0], attempts[1]);
    assert_eq!(attempts[2], attempts[3]);
    assert_ne!(attempts[0], attempts[2]);
}

#[tokio::test]
async fn headers_that_were_there_are_replaced_and_others_stay() {
    let mut request = Request::new(BufferedBody::from("body"));
    for name in ["webhook-timestamp", "webhook-signature", "x-other"] {
        for value in ["one", "two"] {
            let name = HeaderName::from_static(name);
            request
                .headers_mut()
                .append(name, HeaderValue::from_static(value));
        }
    }
    let out = sent(SignLayer::new(standard()).clock(at(NOW)), request)
        .await
        .unwrap();
    verify(&standard(), &out).unwrap();
    assert_eq!(out.headers().get_all("x-other").iter().count(), 2);
    assert!(out.headers()["webhook-signature"].is_sensitive());
    assert_eq!(out.body().as_bytes(), "body");
}

#[test]
fn several_keys_sign_where_there_is_room() {
    let secrets = || [Secret::new("YQ=="), Secret::new("Yg==")];
    let one = |key: &str| Secret::new(key);
    macro_rules! check {
        ($new:expr, $first_only:expr) => {{
            let new = $new;
            let message = crate::support::signed(&new(secrets().to_vec()), "body");
            verify(&new(vec![one("YQ==")]), &message).unwrap();
            let second = verify(&new(vec![one("Yg==")]), &message);
            assert_eq!(second.is_err(), $first_only);
        }};
    }
    check!(
        |keys: Vec<Secret>| StandardWebhooks::new(keys).unwrap(),
        false
    );
    check!(|keys: Vec<Secret>| Stripe::new(keys).unwrap(), false);
    check!(
        |keys: Vec<Secret>| Cognigy::new(keys, ALL_COGNIGY).unwrap(),
        false
    );
    check!(
        |keys: Vec<Secret>| Cognigy::new(keys, ALL_COGNIGY)
            .unwrap()
            .sign_as(CognigyFormat::Hex),
        true
    );
    check!(|keys: Vec<Secret>| GitHub::new(keys).unwrap(), true);
    check!(|keys: Vec<Secret>| Slack::new(keys).unwrap(), true);
    check!(|keys: Vec<Secret>| Shopify::new(keys).unwrap(), true);
}

#[cfg(feature = "ed25519")]
#[tokio::test]
async fn public_keys_do_not_sign() {
    let (private, public) = crate::support::ed25519_keys();
    let request = || Request::new(BufferedBody::from("body"));
    let layer = SignLayer::new(StandardWebhooks::new(&*public).unwrap());
    let error = sent(layer, request()).await.unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&SignError::NoSigningKey));
    // A seed alone is a private key too.
    let seed = data_encoding::BASE64
        .decode(&private.as_bytes()[5..])
        .unwrap();
    let seed = format!("whsk_{}", data_encoding::BASE64.encode(&seed[..32]));
    let layer = SignLayer::new(StandardWebhooks::new(seed).unwrap()).clock(at(NOW));
    let out = sent(layer, request()).await.unwrap();
    verify(&StandardWebhooks::new(public).unwrap(), &out).unwrap();
}

#[tokio::test]
async fn errors_of_the_transport_pass_through_and_nothing_is_sent_unsigned() {
    struct Never;
    impl SignScheme for Never {
        fn sign(&self, _: &Outgoing<'_>, _: &mut http::HeaderMap) -> Result<(), SignError> {
            Err(SignError::Custom { reason: "no" })
        }
    }
    let transport = |called: bool| {
        service_fn(move |_: Request<BufferedBody>| async move {
            assert!(called, "unsigned");
            Err::<Response<BufferedBody>, _>(std::io::Error::other("reset"))
        })
    };
    let request = || Request::new(BufferedBody::default());
    let boxed: Box<dyn SignScheme> = Box::new(Never);
    let service = SignLayer::new(boxed).layer(transport(false));
    let error = service.oneshot(request()).await.unwrap_err();
    assert_eq!(error.to_string(), "no");
    let service = SignLayer::new(standard()).layer(transport(true));
    let error = service.oneshot(request()).await.unwrap_err();
    assert!(error.is::<std::io::Error>());
}

/// Readiness is passed on: the mock panics when a service is called that was not polled.
#[tokio::test]
async fn the_instance_that_was_polled_is_called() {
    let (mut service, mut handle) =
        tower_test::mock::spawn_layer::<Request<BufferedBody>, Response<BufferedBody>, _>(
            SignLayer::new(standard()),
        );
    handle.allow(0);
    tokio_test::assert_pending!(service.poll_ready());
    handle.allow(1);
    tokio_test::assert_ready_ok!(service.poll_ready());
    let call = service.call(Request::new(BufferedBody::default()));
    let (request, respond) = handle.next_request().await.unwrap();
    assert!(request.headers().contains_key("webhook-signature"));
    respond.send_response(Response::default());
    call.await.unwrap();
}

#[test]
fn dropping_the_future_drops_the_transport() {
    let alive = Arc::new(());
    let held = alive.clone();
    let mut service =
        SignLayer::new(standard()).layer(service_fn(move |_: Request<BufferedBody>| {
            let held = held.clone();
            async move {
                std::future::pending::<()>().await;
                drop(held);
                Ok::<_, Infallible>(())
            }
        }));
    let mut call = tokio_test::task::spawn(service.call(Request::new(BufferedBody::default())));
    tokio_test::assert_pending!(call.poll());
    assert_eq!(Arc::strong_count(&alive), 3);
    drop(call);
    assert_eq!(Arc::strong_count(&alive), 2);
}
