//! Signed deliveries through reqwest: its types are met at the bottom of the stack alone.
//!
//! ```sh
//! cargo run --example outbound_reqwest --features reqwest -- http://127.0.0.1:8080/hooks 3
//! ```

use http::Request;
use std::{env, time::Duration};
use tower::{ServiceBuilder, ServiceExt};
use tower_webhook::{
    BoxError, SignLayer,
    body::BufferedBody,
    outcome::{Classify, HttpClassifier, MakeClassifier, Unsendable, transport},
    signature::{MessageIdLayer, scheme::StandardWebhooks},
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let target = env::args()
        .nth(1)
        .ok_or("the URL of the receiver is missing")?;
    let deliveries: u32 = env::args().nth(2).map_or(Ok(1), |count| count.parse())?;

    let transport = reqwest::Client::builder()
        .timeout(Duration::from_secs(5))
        // A redirected webhook is a mistake, and a repetition is the business of the layers.
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .build()?;

    let classifier = HttpClassifier::new().errors(transport::reqwest);
    let client = ServiceBuilder::new()
        .layer(MessageIdLayer::new()) // one id for all attempts of a delivery
        // The ready-made order goes here: retry, breaker, metrics around what is below.
        .layer(SignLayer::new(StandardWebhooks::new(SECRET)?)) // afresh for each attempt
        .filter(|req: Request<BufferedBody>| {
            let req = reqwest::Request::try_from(req.map(BufferedBody::into_bytes));
            req.map_err(Unsendable::because)
        })
        .map_response(http::Response::<reqwest::Body>::from)
        .service(transport);

    for number in 1..=deliveries {
        let req = Request::post(&target)
            .header("content-type", "application/json")
            .header("idempotency-key", format!("delivery-{number}"))
            .body(BufferedBody::from(format!(r#"{{"number":{number}}}"#)))?;
        let classify = classifier.make_classifier(&req);
        let result = client.clone().oneshot(req).await;
        let outcome = classify.classify(result.as_ref());
        println!("{number}: {} {:?}", outcome.kind(), outcome.code());
    }
    Ok(())
}
