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
        Encoding, Message, Scheme, Secret, SignScheme, SignatureError, TimestampFormat,
        scheme::{
            Generic, GenericBuilder, HttpMessageSignatures, Piece, Slack, StandardWebhooks, Stripe,
        },
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
    let req = Request::post("https://hooks.example.com/hook?a=b");
    let req = req.body(BufferedBody::from(body)).unwrap();
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
    let mut request = Request::post("/hook?a=b").body(BufferedBody::from(body.to_owned()));
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

/// A template with its signature in this header, over these pieces.
fn generic(header: &'static str, content: impl IntoIterator<Item = Piece>) -> GenericBuilder {
    Generic::builder(HeaderName::from_static(header)).content(content)
}

#[test]
fn templates_take_what_senders_sign() {
    let name = HeaderName::from_static;
    let body = r#"{"note":"Zoë"}"#;
    let hubspot = generic(
        "x-hubspot-signature-v3",
        [
            Piece::Method,
            "https://hooks.example.com".into(),
            Piece::Target,
            Piece::Body,
            Piece::Timestamp,
        ],
    )
    .encoding(Encoding::Base64)
    .timestamp_header(name("x-hubspot-request-timestamp"))
    .timestamp_format(TimestampFormat::Milliseconds);
    let inngest =
        generic("x-inngest-signature", [Piece::Body, Piece::Timestamp]).fields("&", "t", "s");
    let r#box = generic("box-signature-primary", [Piece::Body, Piece::Timestamp])
        .or_header(name("box-signature-secondary"))
        .encoding(Encoding::Base64)
        .timestamp_header(name("box-delivery-timestamp"))
        .timestamp_format(TimestampFormat::Rfc3339);
    let mut clients = Foreign::start();
    for (client, builder) in [("hubspot", hubspot), ("inngest", inngest), ("box", r#box)] {
        let scheme = builder.clone().build("secret").unwrap();
        let headers = clients.sign(client, "secret", "", body);
        assert_eq!(verify(&scheme, &headers, body), Ok(()), "{client}");
        assert!(verify(&scheme, &headers, "{}").is_err(), "{client}");
        let other = builder.build("other").unwrap();
        assert!(verify(&other, &headers, body).is_err(), "{client}");
        let late = clients.sign_at(client, "secret", "", body, foreign::now() - 330);
        let result = verify(&scheme, &late, body);
        assert!(
            matches!(result, Err(SignatureError::Stale { .. })),
            "{client}: {result:?}"
        );
    }
    let headers = clients.sign("slack", "secret", "", body);
    let slack = Slack::new("secret").unwrap();
    assert_eq!(verify(&slack, &headers, body), Ok(()));
}

/// HTTP Message Signatures with a MAC, and with the Ed25519 key of RFC 9421 appendix B.1.4.
#[tokio::test]
async fn message_signatures_are_taken_both_ways() {
    const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF
-----END PRIVATE KEY-----
";
    const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=
-----END PUBLIC KEY-----
";
    // RFC 8032 §7.1 test 1.
    const OTHER: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
-----END PUBLIC KEY-----
";
    let client = "message_signatures";
    let of = |secret: &str| {
        let is_pem = secret.starts_with("-----BEGIN");
        let secret = Secret::new(secret).label("acme");
        let scheme = if is_pem {
            HttpMessageSignatures::ed25519(secret)
        } else {
            HttpMessageSignatures::hmac(secret)
        };
        scheme.unwrap()
    };
    let mut clients = Foreign::start();
    for (private, public, other) in [(NEW, NEW, OLD), (PRIVATE, PUBLIC, OTHER)] {
        for body in [r#"{"event":"paid","note":"Zoë"}"#, ""] {
            let receiver = |secret| of(secret).origin("https://hooks.example.com").unwrap();
            let headers = clients.sign(client, private, "", body);
            assert_eq!(verify(&receiver(public), &headers, body), Ok(()));
            let changed = verify(&receiver(public), &headers, "{}");
            assert_eq!(changed, Err(SignatureError::Mismatch));
            let forged = verify(&receiver(other), &headers, body);
            assert_eq!(forged, Err(SignatureError::Mismatch));
            let elsewhere = of(public).origin("https://other.example.com").unwrap();
            let elsewhere = verify(&elsewhere, &headers, body);
            assert_eq!(elsewhere, Err(SignatureError::Mismatch));
            let late = clients.sign_at(client, private, "", body, foreign::now() - 330);
            let late = verify(&receiver(public), &late, body);
            assert!(
                matches!(late, Err(SignatureError::Stale { .. })),
                "{late:?}"
            );

            let expiring = of(private).expires_after(std::time::Duration::from_secs(60));
            let ours = sent(expiring.tag("webhook").unwrap(), body).await;
            assert_eq!(clients.verify(client, public, &ours, body), Ok(()));
            assert!(clients.verify(client, other, &ours, body).is_err());
            assert!(clients.verify(client, public, &ours, "{}").is_err());
        }
    }
}
