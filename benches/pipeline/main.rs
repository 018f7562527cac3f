//! What the receiving pipeline costs a server: axum with the layers of this crate, with the same
//! work wired by hand, and bare.
//!
//! Ours and the work by hand take the same backend for the MAC and leave the payload of the event alike: as it is
//! in the body, or as an owned `serde_json::Value`.
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
    BufferBodyLayer, CognigyEvent, DeliveryMetricsLayer, IdempotencyLayer, SignatureVerifyLayer,
    cognigy::EventLayer,
    idempotency::{KeySource, MemoryStore},
    metrics::DeliveryMetrics,
    peer::OnePeer,
    signature::{
        Backend, Secrets,
        scheme::{Cognigy, CognigyFormat},
    },
};

const SECRET: &str = "a bench secret of thirty-two byte";
const CONNECTIONS: usize = 32;

/// What becomes of the payload of an event.
#[derive(Clone, Copy)]
enum Payload {
    /// It stays unparsed in the body.
    Deferred,
    /// It becomes an owned `serde_json::Value`.
    Owned,
}

use Backend::{AwsLc, RustCrypto};
use Payload::{Deferred, Owned};

/// A server of this kind, fresh for each measurement.
type Make = fn() -> Router;

fn main() {
    let testing = env::args().any(|arg| arg == "--test");
    let (rounds, events) = if testing { (1, 1_000) } else { (9, 40_000) };
    // A word on the command line runs only what has it in its name.
    let word = env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let mut kinds: Vec<(&str, Make)> = vec![
        ("bare axum, body read", bare),
        ("by hand, RustCrypto, deferred", || {
            by_hand::router(RustCrypto, Deferred)
        }),
        ("this crate, RustCrypto, deferred", || {
            pipeline(RustCrypto, Deferred)
        }),
        ("by hand, aws-lc, deferred", || {
            by_hand::router(AwsLc, Deferred)
        }),
        ("this crate, aws-lc, deferred", || pipeline(AwsLc, Deferred)),
        ("by hand, RustCrypto, owned", || {
            by_hand::router(RustCrypto, Owned)
        }),
        ("this crate, RustCrypto, owned", || {
            pipeline(RustCrypto, Owned)
        }),
        ("by hand, aws-lc, owned", || by_hand::router(AwsLc, Owned)),
        ("this crate, aws-lc, owned", || pipeline(AwsLc, Owned)),
        ("  buffer, verify, event, RustCrypto", verify_only),
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
    // On a shared machine the least disturbed round tells the most.
    let ranked = times.iter_mut().map(|times| {
        times.sort_by(f64::total_cmp);
        [times[0], times[times.len() / 2]]
    });
    let ranked: Vec<[f64; 2]> = ranked.collect();
    println!("server's processor time for a request, us, {rounds} rounds in turns, 1 KiB events\n");
    println!(
        "{:<38} {:>8} {:>8} {:>8} {:>8}",
        "", "least", "of bare", "median", "of bare"
    );
    for ((name, _), [least, median]) in kinds.iter().zip(&ranked) {
        let [bare_least, bare_median] = ranked[0];
        println!(
            "{name:<38} {least:>8.2} {:>8.2} {median:>8.2} {:>8.2}",
            bare_least / least,
            bare_median / median
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

async fn on_event(event: CognigyEvent) -> StatusCode {
    std::hint::black_box(event);
    StatusCode::OK
}

async fn on_payload(event: CognigyEvent) -> StatusCode {
    let payload: serde_json::Value = event.payload_as().expect("an object");
    std::hint::black_box((event, payload));
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

fn pipeline(backend: Backend, payload: Payload) -> Router {
    let once = IdempotencyLayer::webhook(MemoryStore::default(), KeySource::verified_id());
    let route = match payload {
        Deferred => post(on_event),
        Owned => post(on_payload),
    };
    Router::new().route("/webhooks/cognigy", route).layer(
        ServiceBuilder::new()
            .layer(
                DeliveryMetricsLayer::deliveries()
                    .peer(OnePeer)
                    .observe(DeliveryMetrics::new()),
            )
            .layer(BufferBodyLayer::new(1 << 20))
            .layer(SignatureVerifyLayer::new(scheme(backend)))
            .layer(EventLayer::new())
            .layer(once),
    )
}

fn verify_only() -> Router {
    Router::new()
        .route("/webhooks/cognigy", post(on_event))
        .layer(
            ServiceBuilder::new()
                .layer(BufferBodyLayer::new(1 << 20))
                .layer(SignatureVerifyLayer::new(scheme(RustCrypto)))
                .layer(EventLayer::new()),
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
