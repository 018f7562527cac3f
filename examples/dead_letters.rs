//! What could not be delivered is kept in a file, and sent again when the peer is back.
//!
//! ```sh
//! cargo run --example dead_letters --features hyper-util,sqlite
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
    time::{Duration, SystemTime},
};
use tower::{Layer, Service, ServiceExt};
use tower_webhook::{
    BoxError,
    attempt::{Failed, History},
    body::BufferedBody,
    dead_letter::{
        Cause, DeadLetters, Filter, Letter, LetterBody, LetterId, LetterStore, Reason,
        SqliteLetters, redrive::Redrive,
    },
    outcome::{HttpClassifier, Outcome, transport},
    retry::{Backoff, RetryConfig},
    stack,
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let folder = tempfile::tempdir()?;
    let store = Arc::new(SqliteLetters::open(folder.path().join("letters.db"))?);
    let letters = DeadLetters::shared(store.clone());

    // The peer is down: a port where nobody listens.
    let address = free_port()?;
    let backoff = Backoff::exponential(Duration::from_millis(5), Duration::from_millis(20));
    let deliver = stack::deliver()
        .retry(RetryConfig::builder().backoff(backoff.build()?).build()?)
        .classifier(HttpClassifier::new().errors(transport::hyper_util));
    let client = || Client::builder(TokioExecutor::new()).build_http::<BufferedBody>();
    let mut down = deliver.clone().build()?.layer(client());
    for number in 1..=20 {
        let body = format!(r#"{{"number":{number}}}"#);
        let uri = format!("http://{address}/hooks");
        let req = Request::post(&uri)
            .header("content-type", "application/json")
            .header("idempotency-key", format!("event-{number}"))
            .body(BufferedBody::from(body.clone()))?;
        if let Err(error) = down.ready().await?.call(req).await {
            let letter = describe(number, &uri, body, &error);
            letters.write(Arc::new(letter)).await?;
        }
    }
    println!("kept: {}", store.count(&Filter::all()).await?);

    // It is back, and does not want the numbers that end in 0.
    let listener = tokio::net::TcpListener::bind(address).await?;
    tokio::spawn(axum::serve(listener, Router::new().route("/hooks", post(take))).into_future());

    let bar = progress_bar(store.count(&Filter::all()).await?);
    let ends = Arc::new(Mutex::new(BTreeMap::<_, u32>::new()));
    let (shown, counted) = (bar.clone(), ends.clone());
    let redrive = Redrive::builder(store.clone())
        .rate(200.0)
        .on_progress(move |progress| shown.set_position(progress.counts.done()))
        .audit(move |audit| {
            let mut ends = counted.lock().expect("nobody panics here");
            *ends.entry(audit.redriven.as_str()).or_default() += 1;
        })
        .classifier(HttpClassifier::new().errors(transport::hyper_util))
        .build(deliver.build()?.layer(client()))?;
    let report = redrive.many(Filter::all(), "the example").await?;
    bar.finish_and_clear();

    for (end, letters) in &*ends.lock().expect("nobody panics here") {
        println!("{end}: {letters}");
    }
    assert_eq!(report.counts.done(), report.counts.matched);
    let rejected = Filter::all().reason(Reason::Rejected);
    println!("still kept: {}", store.count(&rejected).await?);
    Ok(())
}

/// What a `DeadLetterLayer` in the stack would write down.
fn describe(number: u32, uri: &str, body: String, error: &BoxError) -> Letter {
    let outcome = Outcome::of_error(&**error);
    let history = error.downcast_ref::<Failed>().map(Failed::history);
    let reason = Reason::of(outcome, history.and_then(History::gave_up));
    let cause = Cause::new(reason)
        .with_class(outcome.kind().as_str())
        .with_message(&error.to_string());
    let mut letter = Letter::new(LetterId::random(), "http", "peer", cause, SystemTime::now());
    letter.method = Some("POST".to_owned());
    letter.uri = Some(uri.to_owned());
    letter.headers = vec![("content-type".to_owned(), "application/json".into())];
    letter.idempotency_key = Some(format!("event-{number}"));
    letter.body = LetterBody::new(&body.into(), 256 << 10);
    letter.history = history.cloned().unwrap_or_default();
    letter
}

async fn take(body: String) -> StatusCode {
    if body.ends_with("0}") {
        StatusCode::GONE
    } else {
        StatusCode::ACCEPTED
    }
}

/// Only for those who look on.
fn progress_bar(letters: u64) -> ProgressBar {
    let bar = ProgressBar::new(letters);
    if !stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} letters, {per_sec}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn free_port() -> std::io::Result<SocketAddr> {
    std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()
}
