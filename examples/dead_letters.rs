//! Writes deliveries that failed to a file, and sends them again when the peer has recovered.
//!
//! ```sh
//! cargo run --example dead_letters --features hyper-util
//! ```

use axum::{Router, http::StatusCode, routing::post};
use http::Request;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    collections::BTreeMap,
    io::{IsTerminal, stderr},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tower::{Service, ServiceExt};
use tower_webhook::{
    BoxError,
    body::BufferedBody,
    dead_letter::{DeadLetters, Filter, JsonlDeadLetters, LetterStore, Reason, redrive::Redrive},
    observe::{Event, observer_fn},
    retry::{Backoff, RetryConfig},
    stack, transport,
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let folder = tempfile::tempdir()?;
    let store = Arc::new(JsonlDeadLetters::open(folder.path().join("entries.jsonl"))?);

    let backoff = Backoff::exponential(Duration::from_millis(5), Duration::from_millis(20));
    let deliver = stack::deliver().retry(RetryConfig::builder().backoff(backoff.build()?).build()?);
    let client = transport::hyper(Client::builder(TokioExecutor::new()).build_http());

    // The peer is down: nothing listens on its port.
    let address = free_port()?;
    let kept = deliver
        .clone()
        .dead_letters(DeadLetters::shared(store.clone()));
    let mut deliver_or_keep = kept.build()?.layer(client.clone());
    for number in 1..=20 {
        let req = Request::post(format!("http://{address}/hooks"))
            .header("content-type", "application/json")
            .header("idempotency-key", format!("event-{number}"))
            .body(BufferedBody::from(format!(r#"{{"number":{number}}}"#)))?;
        // The caller gets the error; the entry is in the file.
        let _ = deliver_or_keep.ready().await?.call(req).await;
    }
    println!("kept: {}", store.count(&Filter::all()).await?);

    // The peer has recovered, but rejects the numbers that end in 0.
    let listener = tokio::net::TcpListener::bind(address).await?;
    tokio::spawn(axum::serve(listener, Router::new().route("/hooks", post(take))).into_future());

    let bar = progress_bar(store.count(&Filter::all()).await?);
    let ends = Arc::new(Mutex::new(BTreeMap::<&str, u32>::new()));
    let (shown, counted) = (bar.clone(), ends.clone());
    let redrive = Redrive::builder(store.clone())
        .rate(200.0)
        .observe(observer_fn(move |event| {
            if let Event::Redriven { result, done, .. } = event {
                shown.set_position(*done);
                let mut ends = counted.lock().expect("nobody panics here");
                *ends.entry(*result).or_default() += 1;
            }
        }))
        // The same stack without dead letters, because these entries exist already.
        .build(deliver.build()?.layer(client))?;
    let report = redrive.many(Filter::all(), "the example").await?;
    bar.finish_and_clear();

    for (end, entries) in &*ends.lock().expect("nobody panics here") {
        println!("{end}: {entries}");
    }
    assert_eq!(report.done(), report.matched);
    let rejected = Filter::all().reason(Reason::Rejected);
    println!("still kept: {}", store.count(&rejected).await?);
    Ok(())
}

async fn take(body: String) -> StatusCode {
    if body.ends_with("0}") {
        StatusCode::GONE
    } else {
        StatusCode::ACCEPTED
    }
}

/// Makes a progress bar, which is shown only on a terminal.
fn progress_bar(entries: u64) -> ProgressBar {
    let bar = ProgressBar::new(entries);
    if !stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} entries, {per_sec}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn free_port() -> std::io::Result<SocketAddr> {
    std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()
}
