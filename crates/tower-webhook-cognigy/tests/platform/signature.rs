//! The signature forms of the senders around the platform.
//!
//! The MACs are those of `openssl dgst -sha256 -hmac 'a long random text'` and of Python's `hmac` over
//! `1700000000.<body>`.

use http::{Request, StatusCode};
use std::{
    convert::Infallible,
    time::{Duration, UNIX_EPOCH},
};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_webhook::{
    SignatureVerifyLayer,
    body::BufferedBody,
    clock::WallClock,
    signature::{Scheme, Verified},
};
use tower_webhook_cognigy::platform::signature;

const SECRET: &str = "a long random text";
const TIME: u64 = 1_700_000_000;

/// The status of a request with these headers, `late` seconds after it was signed.
async fn status(
    scheme: impl Scheme,
    headers: &[(&str, &str)],
    body: &str,
    late: u64,
) -> StatusCode {
    let clock = WallClock::fixed(UNIX_EPOCH + Duration::from_secs(TIME + late));
    let handler = service_fn(|request: Request<BufferedBody>| async move {
        assert!(request.extensions().get::<Verified>().is_some());
        Ok::<_, Infallible>(http::Response::new(
            http_body_util::Full::<bytes::Bytes>::default(),
        ))
    });
    let service = SignatureVerifyLayer::new(scheme)
        .clock(clock)
        .layer(handler);
    let mut request = Request::post("/")
        .body(BufferedBody::from(body.to_owned()))
        .unwrap();
    for (name, value) in headers {
        let name = http::HeaderName::try_from(*name).unwrap();
        request.headers_mut().append(name, value.parse().unwrap());
    }
    service.oneshot(request).await.unwrap().status()
}

#[tokio::test]
async fn b8_chatwoot_signs_the_timestamp_and_the_raw_body() {
    let body = r#"{"event":"message_created","id":7,"content":"héllo"}"#;
    let mac = "sha256=9de17de1c87065d00c9e56dc9024a4185490847bd4c006e2c9d66588fb26c504";
    let headers = [
        ("x-chatwoot-signature", mac),
        ("x-chatwoot-timestamp", "1700000000"),
        ("x-chatwoot-delivery", "d-1"),
    ];
    let scheme = || signature::chatwoot(SECRET).unwrap();
    assert_eq!(status(scheme(), &headers, body, 0).await, 200);
    assert_eq!(status(scheme(), &headers, body, 300).await, 200);
    assert_eq!(status(scheme(), &headers, body, 301).await, 401);
    assert_eq!(
        status(scheme(), &headers, &body.replace('7', "8"), 0).await,
        401
    );
    assert_eq!(status(scheme(), &headers[..1], body, 0).await, 401);
    let other_time = [headers[0], ("x-chatwoot-timestamp", "1700000001")];
    assert_eq!(status(scheme(), &other_time, body, 0).await, 401);
    let bare = [("x-chatwoot-signature", &mac[7..]), headers[1]];
    assert_eq!(status(scheme(), &bare, body, 0).await, 401);
}

#[tokio::test]
async fn b8_nice_expert_signs_the_timestamp_and_the_xml() {
    let body = r#"<event><page id="42"/></event>"#;
    let headers = [
        (
            "x-nexus-signature-256",
            "sha256=2c8b94b03a77658ad697096d7628bbbe1c469b4601223a3c2b14f8cc4ea652f5",
        ),
        ("x-nexus-timestamp", "1700000000"),
        ("x-nexus-event-type", "Page_Create"),
        ("x-nexus-delivery-id", "d-1"),
    ];
    let scheme = || signature::nice_expert(SECRET).unwrap();
    assert_eq!(status(scheme(), &headers, body, 0).await, 200);
    assert_eq!(status(scheme(), &headers, "<event/>", 0).await, 401);
    assert_eq!(status(scheme(), &headers, body, 301).await, 401);
}

#[tokio::test]
async fn b8_voice_gateway_signs_as_jambonz_with_any_number_of_v1() {
    let body = r#"{"call_sid":"c0855b01","call_status":"completed"}"#;
    let mac = "f38bcae9e33e0d01c639ffbd5d00e35becaecb54453e48c732f520a44e7d1771";
    let scheme = || signature::voice_gateway(SECRET).unwrap();
    let one = format!("t=1700000000,v1={mac}");
    let two = format!("t=1700000000,v1={},v1={mac}", "0".repeat(64));
    for value in [&one, &two] {
        assert_eq!(
            status(scheme(), &[("jambonz-signature", value)], body, 300).await,
            200
        );
        assert_eq!(
            status(scheme(), &[("jambonz-signature", value)], body, 301).await,
            401
        );
        assert_eq!(
            status(scheme(), &[("jambonz-signature", value)], "{}", 0).await,
            401
        );
        assert_eq!(
            status(scheme(), &[("stripe-signature", value)], body, 0).await,
            401
        );
    }
}

#[test]
fn no_scheme_can_be_made_of_an_empty_secret() {
    assert!(signature::chatwoot("").is_err());
    assert!(signature::nice_expert("").is_err());
    assert!(signature::voice_gateway("").is_err());
}
