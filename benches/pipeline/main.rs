//! What the receiving pipeline costs a server: axum with the layers of this crate, with the same
//! work wired by hand, and bare.
//!
//! Over sockets, 32 connections, every event new. The server has a thread of its own, and what is
//! reported is the processor time of that thread for each request: the sender's does not count,
//! nor who has the other core. `--test` runs it for a moment.

mod by_hand;
#[path = "../support/load.rs"]
#[allow(dead_code, reason = "each bench uses some of it")]
mod load;

use axum::{Router, body::Bytes, http::StatusCode, routing::post};
use load::Load;
use rustix::time::{ClockId, clock_gettime};
use std::{env, net::SocketAddr, sync::mpsc, thread, time::Duration};
use tokio::{net::TcpListener, sync::oneshot};
use tower::ServiceBuilder;
use tower_webhook::{
    BufferBodyLayer, CognigyEvent, IdempotencyLayer, SignatureVerifyLayer,
    idempotency::{KeySource, MemoryStore},
    signature::{
        Backend, Secrets,
        scheme::{Cognigy, CognigyFormat},
    },
};

const SECRET: &str = "a bench secret of thirty-two byte";
const CONNECTIONS: usize = 32;

/// A server of this kind, fresh for each measurement.
type Make = fn() -> Router;

fn main() {
    let testing = env::args().any(|arg| arg == "--test");
    let (rounds, events) = if testing { (1, 1_000) } else { (9, 40_000) };
    // A word on the command line runs only what has it in its name.
    let word = env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let mut kinds: Vec<(&str, Make)> = vec![
        ("bare axum, body read", bare),
        ("by hand: verify, parse, claim", by_hand::router),
        ("this crate, RustCrypto", || pipeline(Backend::RustCrypto)),
        ("this crate, aws-lc", || pipeline(Backend::AwsLc)),
        ("  buffer and verify, RustCrypto", verify_only),
        ("  buffer alone", buffer_only),
    ];
    kinds.retain(|(name, _)| {
        word.as_ref()
            .is_none_or(|word| name.contains(word.as_str()))
    });
    let load = Load::signed(SECRET, 0, events);
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); kinds.len()];
    // Taking turns, so that a slow spell of the machine meets them all.
    for _ in 0..rounds {
        for (times, (_, make)) in times.iter_mut().zip(&kinds) {
            times.push(measure(*make, &load, events));
        }
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let medians: Vec<f64> = times.iter_mut().map(median).collect();
    println!("server's processor time for a request, median of {rounds}, 1 KiB events\n");
    println!(
        "{:<36} {:>8} {:>10} {:>9}",
        "", "us", "requests/s", "of bare"
    );
    for ((name, _), median) in kinds.iter().zip(&medians) {
        let rate = 1e6 / median;
        println!(
            "{name:<36} {median:>8.2} {rate:>10.0} {:>9.2}",
            medians[0] / median
        );
    }
}

/// Microseconds of the server's thread for each request.
#[allow(clippy::cast_precision_loss)]
fn measure(make: Make, load: &Load, events: usize) -> f64 {
    let (ready, address) = mpsc::channel::<SocketAddr>();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            ready
                .send(listener.local_addr().expect("an address"))
                .expect("awaited");
            let mut server = std::pin::pin!(axum::serve(listener, make()).into_future());
            let before = processor_time();
            tokio::select! {
                _ = &mut server => {}
                _ = stopped => {}
            }
            // Before the server is dropped, with all that its store has kept.
            processor_time().saturating_sub(before)
        })
    });
    let address = address.recv().expect("it starts");
    let report = load.run(address, CONNECTIONS, Duration::from_secs(120));
    assert_eq!(report.refused, 0, "every event is accepted");
    stop.send(()).expect("it runs");
    let used = server.join().expect("it ends");
    used.as_secs_f64() * 1e6 / events as f64
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("not negative")
}

fn route() -> Router {
    Router::new().route("/webhooks/cognigy", post(on_event))
}

async fn on_event(event: CognigyEvent) -> StatusCode {
    std::hint::black_box(event);
    StatusCode::OK
}

fn bare() -> Router {
    async fn read(body: Bytes) -> StatusCode {
        std::hint::black_box(body);
        StatusCode::OK
    }
    Router::new().route("/webhooks/cognigy", post(read))
}

fn scheme(backend: Backend) -> Cognigy {
    Cognigy::new(
        Secrets::from(SECRET).backend(backend),
        [CognigyFormat::Base64],
    )
    .expect("a secret")
}

fn pipeline(backend: Backend) -> Router {
    let once =
        IdempotencyLayer::webhook(MemoryStore::default(), KeySource::json_pointer("/eventId"));
    route().layer(
        ServiceBuilder::new()
            .layer(BufferBodyLayer::new(1 << 20))
            .layer(SignatureVerifyLayer::new(scheme(backend)))
            .layer(once.build().expect("defaults")),
    )
}

fn verify_only() -> Router {
    route().layer(
        ServiceBuilder::new()
            .layer(BufferBodyLayer::new(1 << 20))
            .layer(SignatureVerifyLayer::new(scheme(Backend::RustCrypto))),
    )
}

fn buffer_only() -> Router {
    async fn read(body: Bytes) -> StatusCode {
        std::hint::black_box(body);
        StatusCode::OK
    }
    Router::new()
        .route("/webhooks/cognigy", post(read))
        .layer(BufferBodyLayer::new(1 << 20))
}
