//! Unary gRPC calls through a tonic channel, here to the health service: retries that honour gRPC's
//! pushback, a circuit breaker, time limits and metrics, in the ready-made order.
//!
//! ```sh
//! cargo run --example outbound_grpc --features tonic -- http://127.0.0.1:8080 3
//! ```

use std::{env, time::Duration};
use tonic::transport::Endpoint;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower_webhook::{
    BoxError,
    circuit_breaker::BreakerConfig,
    grpc::GrpcPeekLayer,
    outcome::GrpcClassifier,
    retry::{Backoff, RetryConfig},
    stack, transport,
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let target = env::args()
        .nth(1)
        .ok_or("the URL of the server is missing")?;
    let calls: u32 = env::args().nth(2).map_or(Ok(1), |count| count.parse())?;

    let channel = Endpoint::from_shared(target.clone())?
        .connect_timeout(Duration::from_secs(1))
        .connect_lazy();

    let backoff = Backoff::exponential(Duration::from_millis(100), Duration::from_secs(5));
    let deliver = stack::deliver()
        .grpc()
        .classifier(GrpcClassifier::new().assume_repeatable(true)) // a health check is
        .retry(RetryConfig::builder().backoff(backoff.build()?).build()?)
        .breaker(BreakerConfig::builder().consecutive_failures(5).build()?)
        .deadline(Duration::from_secs(30))
        .attempt_timeout(Duration::from_secs(2))
        .build()?;
    let metrics = deliver.metrics().clone();
    let unary = GrpcPeekLayer::new().assume_unary(true); // each status is awaited, in trailers too
    let channel = deliver.layer(transport::tonic(channel).peek(unary));
    // Breakers and metrics use the origin as the host of the server.
    let mut client = HealthClient::with_origin(channel, target.parse()?);

    for number in 1..=calls {
        let request = HealthCheckRequest {
            service: String::new(),
        };
        match client.check(request).await {
            Ok(answer) => println!("{number}: {:?}", answer.into_inner().status()),
            Err(status) => println!("{number}: {:?}", status.code()),
        }
    }

    let seen = metrics.snapshot();
    let (sent, failed) = (seen.attempts().total(), seen.deliveries().failures());
    println!("attempts: {sent}, failed deliveries: {failed}");
    Ok(())
}
