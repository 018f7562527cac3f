//! Requests, a clock that stands still, and schemes of every kind.

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use std::{
    convert::Infallible,
    time::{Duration, UNIX_EPOCH},
};
use tower::{Layer, ServiceExt, service_fn};
use tower_webhook::{
    SignatureVerifyLayer,
    body::BufferedBody,
    clock::WallClock,
    signature::{
        Algorithm, Encoding, Head, Message, MessageId, Outgoing, Scheme, SignScheme,
        SignatureError, TimestampFormat, Verified,
        scheme::{
            BasicAuth, Cognigy, CognigyFormat, Generic, GitHub, Piece, SharedToken, Shopify, Slack,
            StandardWebhooks, Stripe,
        },
    },
};

pub(crate) const NOW: u64 = 1_700_000_000;
pub(crate) const WHSEC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
pub(crate) const ALL_COGNIGY: [CognigyFormat; 4] = [
    CognigyFormat::Base64,
    CognigyFormat::Hex,
    CognigyFormat::SignedTimestamp,
    CognigyFormat::UnsignedTimestamp,
];

pub(crate) fn at(unix_seconds: u64) -> WallClock {
    WallClock::fixed(UNIX_EPOCH + Duration::from_secs(unix_seconds))
}

pub(crate) fn request<V>(
    headers: &[(&str, V)],
    body: impl Into<BufferedBody>,
) -> Request<BufferedBody>
where
    V: AsRef<[u8]>,
{
    let mut request = Request::new(body.into());
    for (name, value) in headers {
        request.headers_mut().append(
            HeaderName::try_from(*name).unwrap(),
            HeaderValue::from_bytes(value.as_ref()).unwrap(),
        );
    }
    request
}

/// Verifies at [`NOW`], without the layer.
pub(crate) fn verify(
    scheme: &dyn Scheme,
    request: &Request<BufferedBody>,
) -> Result<Verified, SignatureError> {
    verify_at(scheme, request, NOW)
}

pub(crate) fn verify_at(
    scheme: &dyn Scheme,
    request: &Request<BufferedBody>,
    now: u64,
) -> Result<Verified, SignatureError> {
    let clock = at(now);
    let message = Message::of(request, &clock);
    let result = scheme.verify(&message);
    // What is refused before the body is read is what is refused after it, and for the same reason.
    if let Err(early) = scheme.verify_head(&message.head()) {
        assert_eq!(Some(&early), result.as_ref().err(), "{request:?}");
    }
    result
}

/// Whether the head alone shows that a request is refused, at [`NOW`].
pub(crate) fn head_is_refused(scheme: &dyn Scheme, request: &Request<BufferedBody>) -> bool {
    scheme.verify_head(&Head::of(request, &at(NOW))).is_err()
}

/// Why it is refused, as in the metric.
pub(crate) fn refused(scheme: &dyn Scheme, request: &Request<BufferedBody>) -> &'static str {
    verify(scheme, request)
        .expect_err("it must not pass")
        .as_str()
}

/// A scheme that signs and verifies.
pub(crate) trait Both: Scheme + SignScheme {}
impl<T: Scheme + SignScheme> Both for T {}

/// The request as `scheme` signs it at [`NOW`], with the id `msg_1`.
pub(crate) fn signed(
    scheme: &dyn SignScheme,
    body: impl Into<BufferedBody>,
) -> Request<BufferedBody> {
    let mut request = Request::new(body.into());
    let id = MessageId::new("msg_1").unwrap();
    let mut headers = HeaderMap::new();
    let message = Outgoing::new(request.body().as_bytes(), NOW).with_id(&id);
    scheme.sign(&message, &mut headers).unwrap();
    *request.headers_mut() = headers;
    request
}

/// Every scheme that covers the body, in every format.
pub(crate) fn covering_schemes() -> Vec<Box<dyn Both>> {
    let mut schemes: Vec<Box<dyn Both>> = vec![
        Box::new(GitHub::new("github").unwrap()),
        Box::new(Shopify::new("shopify").unwrap()),
        Box::new(Slack::new("slack").unwrap()),
        Box::new(Stripe::new("whsec_stripe").unwrap()),
        Box::new(StandardWebhooks::new(WHSEC).unwrap()),
        Box::new(StandardWebhooks::svix(WHSEC).unwrap()),
        Box::new(
            StandardWebhooks::new(WHSEC)
                .unwrap()
                .header_prefix("acme")
                .unwrap(),
        ),
        Box::new(
            Generic::builder(HeaderName::from_static("x-everything"))
                .prefix("v0=")
                .separator(",")
                .id_header(HeaderName::from_static("x-id"))
                .timestamp_header(HeaderName::from_static("x-time"))
                .content([
                    Piece::Id,
                    "|".into(),
                    Piece::Timestamp,
                    "|".into(),
                    Piece::Body,
                    "|end".into(),
                ])
                .build("everything")
                .unwrap(),
        ),
    ];
    let name = HeaderName::from_static;
    let zendesk = Generic::builder(name("x-zendesk-webhook-signature"))
        .encoding(Encoding::Base64)
        .timestamp_header(name("x-zendesk-webhook-signature-timestamp"))
        .timestamp_format(TimestampFormat::Rfc3339)
        .content([Piece::Timestamp, Piece::Body]);
    let workos = Generic::builder(name("workos-signature"))
        .fields(", ", "t", "v1")
        .timestamp_format(TimestampFormat::Milliseconds)
        .content([Piece::Timestamp, ".".into(), Piece::Body]);
    let inngest = Generic::builder(name("x-inngest-signature"))
        .fields("&", "t", "s")
        .content([Piece::Body, Piece::Timestamp]);
    let paystack = Generic::builder(name("x-paystack-signature")).algorithm(Algorithm::Sha512);
    let builders = [zendesk, workos, inngest, paystack];
    for builder in builders {
        schemes.push(Box::new(builder.build("secret").unwrap()));
    }
    #[cfg(feature = "sha1")]
    schemes.push(Box::new(
        Generic::builder(name("x-hub-signature"))
            .algorithm(Algorithm::LegacySha1)
            .prefix("sha1=")
            .build("secret")
            .unwrap(),
    ));
    for format in ALL_COGNIGY {
        schemes.push(Box::new(
            Cognigy::new("cognigy", ALL_COGNIGY)
                .unwrap()
                .sign_as(format),
        ));
    }
    #[cfg(feature = "ed25519")]
    schemes.push(Box::new(StandardWebhooks::new(ed25519_keys().0).unwrap()));
    schemes
}

/// Schemes that send a secret along.
pub(crate) fn credential_schemes() -> Vec<Box<dyn Both>> {
    vec![
        Box::new(BasicAuth::new("user", "password").unwrap()),
        Box::new(SharedToken::bearer("token").unwrap()),
        Box::new(SharedToken::gitlab("token").unwrap()),
        Box::new(SharedToken::webhook_key("token").unwrap()),
    ]
}

/// RFC 8032 §7.1 test 1, as `whsk_` and `whpk_`.
#[cfg(feature = "ed25519")]
pub(crate) fn ed25519_keys() -> (String, String) {
    let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap();
    let seed = hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
    let public = hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
    let base64 = |bytes: &[u8]| data_encoding::BASE64.encode(bytes);
    (
        format!("whsk_{}", base64(&[&seed[..], &public].concat())),
        format!("whpk_{}", base64(&public)),
    )
}

/// Sends one request through the layer; the handler gives its [`Verified`] back in the answer.
pub(crate) async fn through(
    layer: &SignatureVerifyLayer,
    request: Request<BufferedBody>,
) -> Response<tower_webhook::body::ResponseBody<BufferedBody>> {
    let handler = service_fn(|request: Request<BufferedBody>| async move {
        let verified = request.extensions().get::<Verified>().cloned();
        let mut response = Response::new(request.into_body());
        response.extensions_mut().insert(verified.unwrap());
        Ok::<_, Infallible>(response)
    });
    layer.layer(handler).oneshot(request).await.unwrap()
}

pub(crate) async fn status(
    layer: &SignatureVerifyLayer,
    request: Request<BufferedBody>,
) -> StatusCode {
    through(layer, request).await.status()
}
