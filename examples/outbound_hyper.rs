//! Signed deliveries through hyper-util's client, with rustls: retries, a circuit breaker for each
//! host, time limits and metrics, in the ready-made order.
//!
//! ```sh
//! cargo run --example outbound_hyper --features hyper-util -- http://127.0.0.1:8080/hooks 3
//! ```

use http::Request;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use std::{env, time::Duration};
use tower::{Service, ServiceExt};
use tower_webhook::{
    BoxError,
    body::BufferedBody,
    circuit_breaker::BreakerConfig,
    retry::{Backoff, RetryConfig},
    signature::scheme::StandardWebhooks,
    stack, transport,
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
    let client = Client::builder(TokioExecutor::new())
        .retry_canceled_requests(false) // what is sent again is counted
        .build(https);

    let backoff = Backoff::exponential(Duration::from_millis(100), Duration::from_secs(5));
    let deliver = stack::deliver()
        .retry(RetryConfig::builder().backoff(backoff.build()?).build()?)
        .breaker(BreakerConfig::builder().consecutive_failures(5).build()?)
        .deadline(Duration::from_secs(30))
        .attempt_timeout(Duration::from_secs(2))
        .sign(StandardWebhooks::new(SECRET)?)
        .build()?;
    let metrics = deliver.metrics().clone();
    let mut client = deliver.layer(transport::hyper(client));

    for number in 1..=deliveries {
        let req = Request::post(&target)
            .header("content-type", "application/json")
            .header("webhook-id", format!("msg_{number}")) // so it may be sent again
            .body(BufferedBody::from(format!(r#"{{"number":{number}}}"#)))?;
        match client.ready().await?.call(req).await {
            Ok(res) => println!("{number}: {}", res.status()),
            Err(error) => println!("{number}: {error}"),
        }
    }

    let seen = metrics.snapshot();
    let (sent, failed) = (seen.attempts().total(), seen.deliveries().failures());
    println!("attempts: {sent}, failed deliveries: {failed}");
    Ok(())
}
