//! Unary gRPC calls through a tonic channel with layers around it: the health service, asked.
//!
//! ```sh
//! cargo run --example outbound_grpc --features hyper-util -- http://127.0.0.1:8080 3
//! ```

use http::Request;
use std::{env, time::Duration};
use tonic::{body::Body, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::ServiceBuilder;
use tower_webhook::{
    BoxError, BufferBodyLayer, SignLayer,
    body::BufferedBody,
    outcome::{Classify, GrpcClassifier, MakeClassifier, transport},
    signature::scheme::GitHub,
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let target = env::args()
        .nth(1)
        .ok_or("the URL of the server is missing")?;
    let calls: u32 = env::args().nth(2).map_or(Ok(1), |count| count.parse())?;
    let secret = env::var("WEBHOOK_SECRET").unwrap_or("anything".to_owned());

    let channel = Endpoint::from_shared(target)?
        .connect_timeout(Duration::from_secs(5))
        .timeout(Duration::from_secs(5))
        .connect_lazy();

    // To ask about a service's health twice does no harm.
    let classifier = GrpcClassifier::new()
        .errors(transport::tonic)
        .assume_repeatable(true);
    let channel = ServiceBuilder::new()
        .layer(BufferBodyLayer::new(4 << 20)) // unary calls alone: a stream has no whole body
        .map_result(move |result: Result<http::Response<Body>, BoxError>| {
            let classify = classifier.make_classifier(&Request::new(()));
            let outcome = classify.classify(result.as_ref());
            println!("  {} {:?}", outcome.kind(), outcome.code());
            result
        })
        // The ready-made order goes here: retry, breaker, metrics around what is below.
        .layer(SignLayer::new(GitHub::new(secret)?)) // afresh for each attempt
        .map_request(|req: Request<BufferedBody>| req.map(Body::new))
        .map_err(BoxError::from)
        .service(channel);
    let mut client = HealthClient::new(channel);

    for number in 1..=calls {
        let request = HealthCheckRequest {
            service: String::new(),
        };
        match client.check(request).await {
            Ok(answer) => println!("{number}: {:?}", answer.into_inner().status()),
            Err(status) => println!("{number}: {:?}", status.code()),
        }
    }
    Ok(())
}
