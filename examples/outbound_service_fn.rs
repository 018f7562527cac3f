//! Deliveries through a function, for any client without a tower service. Here the client sends a line of
//! text over TCP, without HTTP. Retries, a circuit breaker, time limits and metrics are in the ready-made
//! order.
//!
//! ```sh
//! cargo run --example outbound_service_fn -- 127.0.0.1:8080 3
//! ```

use std::{env, io, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};
use tower::{Service, ServiceExt, service_fn};
use tower_webhook::{
    BoxError,
    circuit_breaker::BreakerConfig,
    outcome::{Outcome, classify_fn},
    peer::OnePeer,
    retry::{Backoff, CloneExchange, RetryConfig},
    stack,
};

/// Sends one line and reads one line.
async fn send(target: String, line: String) -> Result<String, BoxError> {
    let mut stream = BufReader::new(TcpStream::connect(target).await?);
    stream
        .write_all(format!("{line}\r\n\r\n").as_bytes())
        .await?;
    let mut answer = String::new();
    match stream.read_line(&mut answer).await? {
        0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        _ => Ok(answer),
    }
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
    let backoff = Backoff::exponential(Duration::from_millis(100), Duration::from_secs(5));
    let deliver = stack::deliver()
        .retry(RetryConfig::builder().backoff(backoff.build()?).build()?)
        .breaker(BreakerConfig::builder().consecutive_failures(5).build()?)
        .deadline(Duration::from_secs(30))
        .attempt_timeout(Duration::from_secs(2))
        .classifier(classifier)
        .peer(OnePeer) // there is one receiver
        .exchange(CloneExchange)
        .build()?;
    let metrics = deliver.metrics().clone();
    let mut client = deliver.layer(service_fn(|line| send(target.clone(), line)));

    for number in 1..=deliveries {
        let line = format!("GET /{number} HTTP/1.0");
        match client.ready().await?.call(line).await {
            Ok(answer) => println!("{number}: {}", answer.trim_end()),
            Err(error) => println!("{number}: {error}"),
        }
    }

    let seen = metrics.snapshot();
    let (sent, failed) = (seen.attempts().total(), seen.deliveries().failures());
    println!("attempts: {sent}, failed deliveries: {failed}");
    Ok(())
}
