//! Replays, under a paused clock.

use crate::support::{NOW, WHSEC, at, signed, status, through};
use http::{HeaderValue, Request, Response, StatusCode};
use std::{convert::Infallible, time::Duration};
use tower::{Layer, Service, service_fn};
use tower_webhook::{
    SignatureVerifyLayer,
    body::BufferedBody,
    signature::{
        ReplayCache, Secret, SignatureError,
        scheme::{AnyOf, Cognigy, CognigyFormat, GitHub, Slack, StandardWebhooks, Stripe},
    },
};

fn standard() -> StandardWebhooks {
    StandardWebhooks::new(WHSEC).unwrap()
}

fn layer(cache: &ReplayCache) -> SignatureVerifyLayer {
    SignatureVerifyLayer::new(standard())
        .clock(at(NOW))
        .reject_replays(cache.clone())
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_message_passes_once_in_its_window() {
    let cache = ReplayCache::new(10);
    let layer = layer(&cache);
    assert_eq!(status(&layer, signed(&standard(), "a")).await, 200);
    assert_eq!(status(&layer, signed(&standard(), "b")).await, 200);
    let again = through_refused(&layer, signed(&standard(), "a")).await;
    assert_eq!(again, (StatusCode::UNAUTHORIZED, "replayed"));
    assert_eq!(cache.len(), 2);

    tokio::time::advance(Duration::from_secs(600)).await;
    assert_eq!(status(&layer, signed(&standard(), "b")).await, 401);
    // Now the timestamp alone would refuse it, were the wall clock not fixed here.
    tokio::time::advance(Duration::from_secs(2)).await;
    assert!(cache.is_empty());
    assert_eq!(status(&layer, signed(&standard(), "a")).await, 200);
}

async fn through_refused(
    layer: &SignatureVerifyLayer,
    request: Request<BufferedBody>,
) -> (StatusCode, &'static str) {
    let response = through(layer, request).await;
    let reason = response.extensions().get::<SignatureError>().unwrap();
    (response.status(), reason.as_str())
}

/// What is refused leaves no trace: nobody can fill the cache from outside.
#[tokio::test(start_paused = true)]
async fn only_verified_messages_enter() {
    let cache = ReplayCache::new(10);
    let layer = layer(&cache);
    for number in 0..20 {
        let mut request = signed(&standard(), "a");
        let id = HeaderValue::try_from(format!("msg_{number}x")).unwrap();
        request.headers_mut().insert("webhook-id", id);
        assert_eq!(status(&layer, request).await, 401);
    }
    assert!(cache.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_full_cache_refuses_and_forgets_nothing() {
    let cache = ReplayCache::new(2);
    let layer = layer(&cache);
    assert_eq!(status(&layer, signed(&standard(), "a")).await, 200);
    tokio::time::advance(Duration::from_secs(100)).await;
    assert_eq!(status(&layer, signed(&standard(), "b")).await, 200);
    let full = through(&layer, signed(&standard(), "c")).await;
    assert_eq!(full.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(full.headers()["retry-after"], "501");
    assert_eq!(status(&layer, signed(&standard(), "a")).await, 401);
    tokio::time::advance(Duration::from_secs(501)).await;
    assert_eq!(status(&layer, signed(&standard(), "c")).await, 200);
    assert_eq!(status(&layer, signed(&standard(), "b")).await, 401);
}

/// During a rotation a message has one signature for each key; leaving one out does not make a new
/// message of it, nor does turning the keys.
#[tokio::test(start_paused = true)]
async fn the_other_signature_of_the_same_message_is_a_replay() {
    let secrets = || {
        [
            Secret::new("new").label("new"),
            Secret::new("old").label("old"),
        ]
    };
    let both = Stripe::new(secrets()).unwrap();
    let message = signed(&both, "body");
    let text = message.headers()["stripe-signature"]
        .to_str()
        .unwrap()
        .to_owned();
    let parts = text.split(',').collect::<Vec<_>>();
    let [time, new, old] = parts[..] else {
        panic!("{text}")
    };

    let receiver = Stripe::new(Secret::new("old").label("old")).unwrap();
    let keys = receiver.signing_keys();
    let layer = SignatureVerifyLayer::new(receiver)
        .clock(at(NOW))
        .reject_replays(ReplayCache::new(10))
        .unwrap();
    assert_eq!(status(&layer, message.clone()).await, 200);
    keys.replace(secrets()).unwrap();
    for header in [
        format!("{time},{new}"),
        format!("{time},{old}"),
        format!("{time},{old},{new}"),
    ] {
        let mut copy = message.clone();
        let value = HeaderValue::try_from(header).unwrap();
        copy.headers_mut().insert("stripe-signature", value);
        assert_eq!(through_refused(&layer, copy).await.1, "replayed");
    }
    keys.replace(Secret::new("new")).unwrap();
    assert_eq!(through_refused(&layer, message).await.1, "replayed");
}

/// The same words at another time are another message, and so they are under another id.
#[tokio::test(start_paused = true)]
async fn id_time_and_body_make_the_message() {
    let slack = Slack::new("secret").unwrap();
    let layer = SignatureVerifyLayer::new(slack.clone())
        .clock(at(NOW))
        .reject_replays(ReplayCache::new(10))
        .unwrap();
    for time in [NOW, NOW + 1] {
        let mut headers = http::HeaderMap::new();
        let message = tower_webhook::signature::Outgoing::new(b"body", time);
        tower_webhook::signature::SignScheme::sign(&slack, &message, &mut headers).unwrap();
        let mut request = Request::new(BufferedBody::from("body"));
        *request.headers_mut() = headers;
        assert_eq!(status(&layer, request.clone()).await, 200);
        assert_eq!(status(&layer, request).await, 401);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_not_handled_may_come_again() {
    let answers: [(Result<u16, &str>, bool); 10] = [
        (Ok(200), false),
        (Ok(202), false),
        (Ok(400), false),
        (Ok(422), false),
        (Ok(500), true),
        (Ok(503), true),
        (Ok(408), true),
        (Ok(409), true),
        (Ok(429), true),
        (Err("boom"), true),
    ];
    for (answer, may_come_again) in answers {
        let cache = ReplayCache::new(10);
        let mut service =
            layer(&cache).layer(service_fn(move |_: Request<BufferedBody>| async move {
                answer.map(|status| {
                    let mut response = Response::new(BufferedBody::default());
                    *response.status_mut() = StatusCode::from_u16(status).unwrap();
                    response
                })
            }));
        let _ = service.call(signed(&standard(), "a")).await;
        assert_eq!(cache.is_empty(), may_come_again, "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_future_releases_its_message() {
    let cache = ReplayCache::new(10);
    let mut service = layer(&cache).layer(service_fn(|_: Request<BufferedBody>| {
        std::future::pending::<Result<Response<BufferedBody>, Infallible>>()
    }));
    // Before its first poll, and after it.
    let call = service.call(signed(&standard(), "a"));
    assert_eq!(cache.len(), 1);
    drop(call);
    assert!(cache.is_empty());
    let mut call = tokio_test::task::spawn(service.call(signed(&standard(), "a")));
    tokio_test::assert_pending!(call.poll());
    // While it is handled, a copy is refused.
    let mut copy = tokio_test::task::spawn(service.call(signed(&standard(), "a")));
    assert_eq!(tokio_test::assert_ready_ok!(copy.poll()).status(), 401);
    drop(copy);
    assert_eq!(cache.len(), 1);
    drop(call);
    assert!(cache.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_scheme_without_a_timestamp_needs_a_window_of_its_own() {
    let cache = || ReplayCache::new(10);
    let window = Duration::from_secs(60);
    let layer = |accepted: &[CognigyFormat]| {
        let scheme = Cognigy::new("secret", accepted.iter().copied()).unwrap();
        SignatureVerifyLayer::new(scheme)
    };
    let refused = |layer: SignatureVerifyLayer| layer.reject_replays(cache()).unwrap_err();
    for layer in [
        SignatureVerifyLayer::new(GitHub::new("secret").unwrap()),
        layer(&[CognigyFormat::UnsignedTimestamp]),
        layer(&[CognigyFormat::SignedTimestamp, CognigyFormat::Hex]),
        SignatureVerifyLayer::new(AnyOf::first(standard()).or(GitHub::new("secret").unwrap())),
    ] {
        assert_eq!(refused(layer.clone()).setting(), "reject_replays");
        let hour = Duration::from_secs(3600);
        let _ = layer.reject_replays(cache().window(hour)).unwrap();
    }
    let _ = layer(&[CognigyFormat::SignedTimestamp])
        .reject_replays(cache())
        .unwrap();
    SignatureVerifyLayer::new(standard())
        .reject_replays(cache().window(window))
        .unwrap_err();

    // The timestamp of the tutorials' third format can be rewritten; the message stays the same.
    let scheme = Cognigy::new("secret", [CognigyFormat::UnsignedTimestamp])
        .unwrap()
        .sign_as(CognigyFormat::UnsignedTimestamp);
    let layer = SignatureVerifyLayer::new(scheme.clone())
        .clock(at(NOW))
        .reject_replays(cache().window(window))
        .unwrap();
    let message = signed(&scheme, "body");
    let text = message.headers()["x-cognigy-signature"].to_str().unwrap();
    let rewritten = text.replace(&NOW.to_string(), &(NOW + 7).to_string());
    assert_eq!(status(&layer, message.clone()).await, 200);
    let mut copy = message;
    let value = HeaderValue::try_from(rewritten).unwrap();
    copy.headers_mut().insert("x-cognigy-signature", value);
    assert_eq!(status(&layer, copy.clone()).await, 401);
    // And this is why a window does not make it safe.
    tokio::time::advance(Duration::from_secs(61)).await;
    assert_eq!(status(&layer, copy).await, 200);
}
