//! Changes secrets while the server runs: adds the new one, waits until the sender uses it, and removes
//! the old one. No request is refused meanwhile, and nothing is rebuilt.
//!
//! ```sh
//! cargo run --example key_rotation
//! ```

use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use std::convert::Infallible;
use tower::{Layer, ServiceExt, service_fn};
use tower_webhook::{
    BoxError, SignatureVerifyLayer,
    body::BufferedBody,
    clock::WallClock,
    signature::{Outgoing, Secret, SignScheme, Verified, scheme::Slack},
};

const BODY: &str = "payload=hello";

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let old = || Secret::new("the old secret").label("2025-11");
    let new = || Secret::new("the new secret").label("2026-11");

    let scheme = Slack::new(old())?;
    // The handle remains after the layer has taken the scheme.
    let keys = scheme.signing_keys();
    let service = SignatureVerifyLayer::new(scheme).layer(service_fn(handle));
    let send = |secret: Secret| {
        let service = service.clone();
        async move {
            let answer = service.oneshot(signed(secret)?).await?;
            let status = answer.status();
            let body = answer.into_body().collect().await?.to_bytes();
            Ok::<_, BoxError>((status, body))
        }
    };
    let refused = StatusCode::UNAUTHORIZED;

    assert_eq!(send(old()).await?.1, "2025-11");
    assert_eq!(send(new()).await?.0, refused);

    keys.replace([new(), old()])?;
    assert_eq!(send(old()).await?.1, "2025-11");
    assert_eq!(send(new()).await?.1, "2026-11");

    // When the count of the old key no longer grows, no sender uses it any more.
    for (label, matched) in keys.usage() {
        println!("{label}: {matched} matched");
    }
    keys.replace(new())?;
    assert_eq!(send(old()).await?.0, refused);
    println!("the old secret is gone");
    Ok(())
}

async fn handle(req: Request<BufferedBody>) -> Result<Response<BufferedBody>, Infallible> {
    let verified = req.extensions().get::<Verified>();
    let label = verified
        .and_then(Verified::secret_label)
        .unwrap_or_default();
    Ok(Response::new(BufferedBody::new(label.to_owned())))
}

/// The request of a sender with this secret.
fn signed(secret: Secret) -> Result<Request<BufferedBody>, BoxError> {
    let mut headers = HeaderMap::new();
    let message = Outgoing::new(BODY.as_bytes(), WallClock::system().unix_seconds());
    Slack::new(secret)?.sign(&message, &mut headers)?;
    let mut req = Request::post("/slack").body(BufferedBody::from(BODY))?;
    *req.headers_mut() = headers;
    Ok(req)
}
