//! Two signature schemes that the crate does not contain: one from a template, and one in code of the parts that
//! the crate's own schemes are made of.
//!
//! ```sh
//! cargo run --example custom_scheme
//! ```

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, Request, Response, StatusCode};
use http_body_util::BodyExt;
use sha2::Sha256;
use std::convert::Infallible;
use tower::{Layer, ServiceExt, service_fn};
use tower_webhook::{
    BoxError, InvalidConfig, SignatureVerifyLayer,
    body::BufferedBody,
    signature::{
        Encoding, Keyring, Message, Scheme, Secrets, SignatureError, Verified,
        scheme::{AnyOf, Generic, Piece},
    },
};

/// Chatwoot's scheme: hexadecimal after `sha256=`, over the timestamp of another header and the body.
fn chatwoot() -> Result<Generic, BoxError> {
    let scheme = Generic::builder(HeaderName::from_static("x-chatwoot-signature"))
        .name("chatwoot")
        .prefix("sha256=")
        .timestamp_header(HeaderName::from_static("x-chatwoot-timestamp"))
        .content([Piece::Timestamp, ".".into(), Piece::Body])
        .build("the webhook's secret")?;
    Ok(scheme)
}

/// `PagerDuty`'s scheme, of the parts that the schemes of the crate are made of: `v1=<hex>[,v1=<hex>]` over the body, one
/// for each secret of the sender.
#[derive(Debug)]
struct PagerDuty {
    keys: Keyring<Hmac<Sha256>>,
}

const PAGERDUTY: HeaderName = HeaderName::from_static("x-pagerduty-signature");

impl PagerDuty {
    fn new(secrets: impl Into<Secrets>) -> Result<Self, InvalidConfig> {
        let keys = Keyring::new(secrets, |secret, _| {
            Hmac::new_from_slice(secret.as_bytes())
                .map_err(|_| InvalidConfig::new("secrets", "must be a key"))
        })?;
        Ok(Self { keys })
    }
}

impl Scheme for PagerDuty {
    fn name(&self) -> &'static str {
        "pagerduty"
    }

    fn recognizes(&self, headers: &HeaderMap) -> bool {
        headers.contains_key(&PAGERDUTY)
    }

    fn verify(&self, message: &Message<'_>) -> Result<Verified, SignatureError> {
        // Once, not empty, and not longer than 4096 bytes.
        let header = message.header(&PAGERDUTY)?.as_bytes();
        // Each signature is tried, and what is none is passed over.
        let tags = header
            .split(|byte| *byte == b',')
            .filter_map(|item| Encoding::Hex.decode(item.trim_ascii().strip_prefix(b"v1=")?))
            .take(16)
            .collect::<Vec<_>>();
        let label = self.keys.find(|key| {
            let mac = key.clone().chain_update(message.body());
            // In constant time.
            tags.iter().any(|tag| mac.clone().verify_slice(tag).is_ok())
        });
        label
            .map(|label| Verified::new(self.name()).with_secret_label(label))
            .ok_or(SignatureError::Mismatch)
    }
}

const PAGERDUTY_SIGNATURES: &str = "v1=0000000000000000000000000000000000000000000000000000000000000000,\
    v1=74dcade80be43e47c97948ace897148f70e4f76ac3bfe40b6425ae1a4df1a495";

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Strongest first: the first scheme whose header is present decides, and no other one is tried.
    let schemes = AnyOf::first(chatwoot()?).or(PagerDuty::new("the subscription's secret")?);
    let service = SignatureVerifyLayer::new(schemes).layer(service_fn(handle));

    let sent = |name: &'static str, value: &'static str| {
        let req = Request::post("/")
            .header(name, value)
            .body(BufferedBody::from("abc"));
        let service = service.clone();
        async move { Ok::<_, BoxError>(service.oneshot(req?).await?) }
    };
    // `printf abc | openssl dgst -sha256 -hmac "the subscription's secret"`, after one of another secret.
    let passed = sent("x-pagerduty-signature", PAGERDUTY_SIGNATURES).await?;
    println!("pagerduty: {}", passed.status());
    let body = passed.into_body().collect().await?.to_bytes();
    assert_eq!(body, "pagerduty");
    let refused = sent("x-chatwoot-signature", "sha256=00").await?;
    println!("forged: {}", refused.status());
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    Ok(())
}

async fn handle(req: Request<BufferedBody>) -> Result<Response<BufferedBody>, Infallible> {
    let scheme = req.extensions().get::<Verified>().map(Verified::scheme);
    Ok(Response::new(BufferedBody::from(
        scheme.unwrap_or_default(),
    )))
}
