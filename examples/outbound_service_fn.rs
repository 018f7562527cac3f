//! Deliveries through a function: any client that has no tower service of its own. Here a line of
//! text over TCP, which is no HTTP at all.
//!
//! ```sh
//! cargo run --example outbound_service_fn -- 127.0.0.1:8080 3
//! ```

use std::{env, io, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time,
};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_webhook::{
    BoxError,
    outcome::{Classify, MakeClassifier, Outcome, classify_fn},
};

/// One line there, one line back.
async fn send(target: String, line: String) -> Result<String, BoxError> {
    let exchange = async move {
        let mut stream = BufReader::new(TcpStream::connect(target).await?);
        stream
            .write_all(format!("{line}\r\n\r\n").as_bytes())
            .await?;
        let mut answer = String::new();
        if stream.read_line(&mut answer).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(answer)
    };
    time::timeout(Duration::from_secs(5), exchange).await?
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let target = env::args()
        .nth(1)
        .ok_or("the address of the receiver is missing")?;
    let target = target
        .trim_start_matches("http://")
        .trim_end_matches('/')
        .to_owned();
    let deliveries: u32 = env::args().nth(2).map_or(Ok(1), |count| count.parse())?;

    let classifier = classify_fn(|result: Result<&String, &BoxError>| match result {
        Ok(answer) if answer.contains(" 200 ") => Outcome::success(),
        Ok(answer) if answer.contains(" 503 ") => Outcome::throttled(None),
        Ok(_) => Outcome::permanent(),
        Err(error) => Outcome::of_error(&**error),
    });
    let client = ServiceBuilder::new()
        // The ready-made order goes here: retry, breaker, metrics around what is below.
        .service(service_fn(|line| send(target.clone(), line)));

    for number in 1..=deliveries {
        let line = format!("GET /{number} HTTP/1.0");
        let classify = classifier.make_classifier(&line);
        let result = client.oneshot(line).await;
        println!("{number}: {}", classify.classify(result.as_ref()).kind());
    }
    Ok(())
}
