//! Unary gRPC calls through a tonic channel, here to the health service: retries that honour gRPC's
//! pushback, a circuit breaker, time limits and metrics, in the ready-made order.
//!
//! ```sh
//! cargo run --example outbound_grpc --features grpc,hyper-util -- http://127.0.0.1:8080 3
//! ```

use http::Request;
use std::{env, time::Duration};
use tonic::{body::Body, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::ServiceBuilder;
use tower_webhook::{
    BoxError,
    body::ReplayBody,
    circuit_breaker::BreakerConfig,
    grpc::GrpcPeekLayer,
    outcome::{GrpcClassifier, transport},
    retry::{Backoff, HttpExchange, RetryConfig},
    stack,
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

    // A health check can safely be repeated.
    let classifier = GrpcClassifier::new()
        .errors(transport::tonic)
        .assume_repeatable(true);
    let backoff = Backoff::exponential(Duration::from_millis(100), Duration::from_secs(5));
    let deliver = stack::deliver()
        .retry(RetryConfig::builder().backoff(backoff.build()?).build()?)
        .breaker(BreakerConfig::builder().consecutive_failures(5).build()?)
        .deadline(Duration::from_secs(30))
        .attempt_timeout(Duration::from_secs(2))
        .classifier(classifier)
        .exchange(HttpExchange::new().replaying(64 << 10)) // kept of each message
        .each_attempt(GrpcPeekLayer::new().assume_unary(true)) // a status may come in trailers
        .build()?;
    let metrics = deliver.metrics().clone();
    let channel = ServiceBuilder::new()
        .layer(deliver)
        .map_request(|req: Request<ReplayBody<Body>>| req.map(Body::new))
        .service(channel);
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
