//! What `SignLayer` signs is taken by the packages that receivers really use, and what packages of senders sign
//! is taken by the schemes.
#![cfg(feature = "full")]
#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "support/foreign.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod foreign;

use foreign::Foreign;
use http::{HeaderMap, HeaderName, Request, Response};
use std::convert::Infallible;
use tower::{Layer, ServiceExt, service_fn};
use tower_webhook::{
    SignLayer,
    body::BufferedBody,
    clock::WallClock,
    signature::{
        Message, Scheme, Secret, SignScheme, SignatureError,
        scheme::{StandardWebhooks, Stripe},
    },
};

const NEW: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OLD: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// The headers with which a request leaves.
async fn sent(scheme: impl SignScheme, body: &'static str) -> HeaderMap {
    let transport = service_fn(|req: Request<BufferedBody>| async move {
        Ok::<_, Infallible>(Response::new(req.headers().clone()))
    });
    let client = SignLayer::new(scheme).layer(transport);
    let req = Request::post("/").body(BufferedBody::from(body)).unwrap();
    client.oneshot(req).await.unwrap().into_body()
}

fn rotating() -> [Secret; 2] {
    [Secret::new(NEW).label("new"), Secret::new(OLD).label("old")]
}

#[tokio::test]
async fn receivers_take_what_is_signed_with_either_key_of_a_rotation() {
    let body = r#"{"event":"paid","note":"Zoë"}"#;
    let mut clients = Foreign::start();
    for (client, headers) in [
        (
            "standardwebhooks",
            sent(StandardWebhooks::new(rotating()).unwrap(), body).await,
        ),
        (
            "svix",
            sent(StandardWebhooks::svix(rotating()).unwrap(), body).await,
        ),
        ("stripe", sent(Stripe::new(rotating()).unwrap(), body).await),
    ] {
        for secret in [NEW, OLD] {
            assert_eq!(
                clients.verify(client, secret, &headers, body),
                Ok(()),
                "{client}"
            );
        }
        let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        assert!(
            clients.verify(client, other, &headers, body).is_err(),
            "{client}"
        );
        assert!(
            clients.verify(client, NEW, &headers, "{}").is_err(),
            "{client}"
        );
    }
}

fn verify(
    scheme: &impl Scheme,
    headers: &[(String, String)],
    body: &str,
) -> Result<(), SignatureError> {
    let mut request = Request::post("/hook").body(BufferedBody::from(body.to_owned()));
    let request = request.as_mut().unwrap();
    for (name, value) in headers {
        let name = HeaderName::try_from(name).unwrap();
        request.headers_mut().append(name, value.parse().unwrap());
    }
    scheme
        .verify(&Message::of(request, &WallClock::system()))
        .map(drop)
}

#[test]
fn the_schemes_take_what_senders_sign() {
    let body = r#"{"event":"paid","note":"Zoë"}"#;
    let mut clients = Foreign::start();
    macro_rules! check {
        ($client:literal, $new:path) => {{
            let headers = clients.sign($client, NEW, "msg_1", body);
            let scheme = $new(NEW).unwrap();
            assert_eq!(verify(&scheme, &headers, body), Ok(()), $client);
            assert!(verify(&scheme, &headers, "{}").is_err(), $client);
            let other = $new(OLD).unwrap();
            assert!(verify(&other, &headers, body).is_err(), $client);
            headers
        }};
    }
    check!("stripe", Stripe::new);
    check!("standardwebhooks", StandardWebhooks::new);
    let mut svix = check!("svix", StandardWebhooks::svix);
    // As a sender does that changes from its own names to the standard ones.
    let standard = svix.iter().map(|(name, value)| {
        let name = name.replace("svix-", "webhook-");
        (name, value.clone())
    });
    let standard = standard.collect::<Vec<_>>();
    svix.extend(standard);
    let scheme = StandardWebhooks::svix([Secret::new(OLD), Secret::new(NEW)]).unwrap();
    assert_eq!(verify(&scheme, &svix, body), Ok(()));
}
