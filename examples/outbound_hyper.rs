//! Signed deliveries through hyper-util's client, with rustls.
//!
//! ```sh
//! cargo run --example outbound_hyper --features hyper-util -- http://127.0.0.1:8080/hooks 3
//! ```

use http::Request;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use std::{env, time::Duration};
use tokio::time;
use tower::{ServiceBuilder, ServiceExt};
use tower_webhook::{
    BoxError, SignLayer,
    body::BufferedBody,
    outcome::{Classify, HttpClassifier, MakeClassifier, transport},
    signature::{MessageIdLayer, scheme::StandardWebhooks},
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let target = env::args()
        .nth(1)
        .ok_or("the URL of the receiver is missing")?;
    let deliveries: u32 = env::args().nth(2).map_or(Ok(1), |count| count.parse())?;

    let https = hyper_rustls::HttpsConnectorBuilder::new()
        .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())?
        .https_or_http()
        .enable_all_versions()
        .build();
    let transport = Client::builder(TokioExecutor::new()).build(https);

    let classifier = HttpClassifier::new().errors(transport::hyper_util);
    let client = ServiceBuilder::new()
        .layer(MessageIdLayer::new()) // one id for all attempts of a delivery
        // The ready-made order goes here: retry, breaker, metrics around what is below.
        .layer(SignLayer::new(StandardWebhooks::new(SECRET)?)) // afresh for each attempt
        .map_err(BoxError::from)
        .service(transport);

    for number in 1..=deliveries {
        let req = Request::post(&target)
            .header("content-type", "application/json")
            .header("idempotency-key", format!("delivery-{number}"))
            .body(BufferedBody::from(format!(r#"{{"number":{number}}}"#)))?;
        let classify = classifier.make_classifier(&req);
        let result = time::timeout(Duration::from_secs(5), client.clone().oneshot(req)).await;
        let result = result.map_err(BoxError::from).flatten();
        let outcome = classify.classify(result.as_ref());
        println!("{number}: {} {:?}", outcome.kind(), outcome.code());
    }
    Ok(())
}
