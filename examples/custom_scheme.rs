//! Two signature schemes that the crate does not contain: one from a template, and one in code.
//!
//! ```sh
//! cargo run --example custom_scheme
//! ```

use http::{HeaderMap, HeaderName, Request, Response, StatusCode};
use http_body_util::BodyExt;
use std::convert::Infallible;
use tower::{Layer, ServiceExt, service_fn};
use tower_webhook::{
    BoxError, SignatureVerifyLayer,
    body::BufferedBody,
    signature::{
        Message, Scheme, SignatureError, Verified,
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

/// Only a checksum: it proves that the body arrived complete, but not who sent it.
#[derive(Debug)]
struct Checksum;

const CHECKSUM: HeaderName = HeaderName::from_static("x-checksum");

impl Scheme for Checksum {
    fn name(&self) -> &'static str {
        "checksum"
    }

    fn recognizes(&self, headers: &HeaderMap) -> bool {
        headers.contains_key(&CHECKSUM)
    }

    fn verify(&self, message: &Message<'_>) -> Result<Verified, SignatureError> {
        let sum = message
            .body()
            .iter()
            .fold(0_u32, |sum, byte| sum.wrapping_add((*byte).into()));
        if message.header(&CHECKSUM)? != sum.to_string().as_str() {
            return Err(SignatureError::Mismatch);
        }
        Ok(Verified::new(self.name()))
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Strongest first: the first scheme whose header is present decides, and no other one is tried.
    let schemes = AnyOf::first(chatwoot()?).or(Checksum);
    let service = SignatureVerifyLayer::new(schemes).layer(service_fn(handle));

    let sent = |name: &'static str, value: &'static str| {
        let req = Request::post("/")
            .header(name, value)
            .body(BufferedBody::from("abc"));
        let service = service.clone();
        async move { Ok::<_, BoxError>(service.oneshot(req?).await?) }
    };
    let passed = sent("x-checksum", "294").await?;
    println!("checksum: {}", passed.status());
    let body = passed.into_body().collect().await?.to_bytes();
    assert_eq!(body, "checksum");
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
