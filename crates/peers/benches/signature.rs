//! Verifying a signed request of 1 KiB: ours, `webhook-verify` and `standardwebhooks`. They use `sha2`
//! or a hash of their own, so ours does too.
//!
//! Run: `cargo bench -p peers --bench signature`. The last table is the one that counts: on a shared
//! machine only variants that take turns in one run can be compared.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use criterion::Criterion;
use http::{HeaderMap, HeaderValue, Request};
use std::{
    hint::black_box,
    time::{Duration, Instant},
};
use tower_webhook::{
    body::BufferedBody,
    clock::WallClock,
    signature::{
        Backend, Message, MessageId, Outgoing, Scheme, Secrets, SignScheme,
        scheme::{GitHub, StandardWebhooks},
    },
};

const WHSEC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const KEY: &str = "a secret of more than thirty-two bytes";
const BODY: usize = 1024;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for variant in variants() {
        criterion
            .benchmark_group(variant.group)
            .bench_function(variant.name, |bencher| bencher.iter(&*variant.run));
    }
    criterion.final_summary();
    // `cargo bench` says so; `cargo test --benches` and `-- --test` do not want to wait.
    let arguments = std::env::args().collect::<Vec<_>>();
    if arguments.iter().any(|one| one == "--bench") && !arguments.iter().any(|one| one == "--test")
    {
        take_turns();
    }
}

/// One thing that is measured. The first of a group is its baseline.
struct Variant {
    group: &'static str,
    name: &'static str,
    run: Box<dyn Fn()>,
}

fn signed(scheme: &dyn SignScheme) -> Request<BufferedBody> {
    let body = vec![b'x'; BODY];
    let id = MessageId::new("msg_2KWPBgLlAfxdpx2AI54pPJ85f4W").unwrap();
    let now = WallClock::system().unix_seconds();
    // What a server sees beside the signature.
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("host", "hooks.example.com"),
        ("user-agent", "webhooks/1.0"),
        ("content-type", "application/json"),
        ("content-length", "1024"),
        ("accept", "*/*"),
        ("x-request-id", "5d2f6f8a-6a4e-4b0f-9a53-8f9a7f5b7f0e"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let message = Outgoing::new(&body, now).with_id(&id);
    scheme.sign(&message, &mut headers).unwrap();
    let mut request = Request::new(BufferedBody::from(body));
    *request.headers_mut() = headers;
    request
}

fn verify<S: Scheme + SignScheme>(scheme: S) -> Box<dyn Fn()> {
    let request = signed(&scheme);
    // A clock that reads the time as the default does, and never finds the message stale, however
    // long the run is.
    let start = WallClock::system().now();
    let clock = WallClock::from_fn(move || {
        black_box(std::time::SystemTime::now());
        start
    });
    Box::new(move || {
        let verified = scheme.verify(black_box(&Message::of(&request, &clock)));
        black_box(verified).unwrap();
    })
}

fn variants() -> Vec<Variant> {
    let mut variants = Vec::new();
    peers(&mut |group, name, run| variants.push(Variant { group, name, run }));
    variants
}

/// Takes a group, a name and what is measured.
type Add<'a> = &'a mut dyn FnMut(&'static str, &'static str, Box<dyn Fn()>);

/// Each in its own words.
fn peers(add: Add<'_>) {
    let group = "peers";
    add(
        group,
        "ours github (rustcrypto)",
        verify(GitHub::new(Secrets::from(KEY).backend(Backend::RustCrypto)).unwrap()),
    );
    let request = signed(&GitHub::new(KEY).unwrap());
    let secret = webhook_verify::Secret::new(KEY);
    add(
        group,
        "webhook-verify github",
        Box::new(move || {
            let provider = webhook_verify::Provider::GitHub;
            let body = request.body().as_bytes();
            let options = webhook_verify::VerifyOptions::default();
            webhook_verify::verify(
                provider,
                black_box(request.headers()),
                body,
                &secret,
                options,
            )
            .unwrap();
        }),
    );
    add(
        group,
        "ours standard webhooks (rustcrypto)",
        verify(StandardWebhooks::new(Secrets::from(WHSEC).backend(Backend::RustCrypto)).unwrap()),
    );
    let request = signed(&StandardWebhooks::new(WHSEC).unwrap());
    let peer = standardwebhooks::Webhook::new(WHSEC).unwrap();
    let fresh = Resigned::new(request);
    add(
        group,
        "standardwebhooks",
        Box::new(move || {
            fresh.with(|request| {
                let body = request.body().as_bytes();
                peer.verify(body, black_box(request.headers())).unwrap();
            });
        }),
    );
    let request = signed(&StandardWebhooks::new(WHSEC).unwrap());
    let secret = webhook_verify::Secret::new(WHSEC);
    let fresh = Resigned::new(request);
    add(
        group,
        "webhook-verify standard webhooks",
        Box::new(move || {
            fresh.with(|request| {
                let provider = webhook_verify::Provider::StandardWebhooks;
                let body = request.body().as_bytes();
                let options = webhook_verify::VerifyOptions::default();
                webhook_verify::verify(
                    provider,
                    black_box(request.headers()),
                    body,
                    &secret,
                    options,
                )
                .unwrap();
            });
        }),
    );
}

/// A request whose signature is renewed before it is stale: the peers read the system's clock.
struct Resigned {
    request: std::cell::RefCell<(Instant, Request<BufferedBody>)>,
}

impl Resigned {
    fn new(request: Request<BufferedBody>) -> Self {
        Self {
            request: std::cell::RefCell::new((Instant::now(), request)),
        }
    }

    fn with(&self, run: impl FnOnce(&Request<BufferedBody>)) {
        let mut state = self.request.borrow_mut();
        if state.0.elapsed() > Duration::from_secs(120) {
            *state = (
                Instant::now(),
                signed(&StandardWebhooks::new(WHSEC).unwrap()),
            );
        }
        run(&state.1);
    }
}

/// All variants in turns, many times; the least time of each counts, and its difference from the
/// baseline of its group.
fn take_turns() {
    const ROUNDS: usize = 400;
    let variants = variants();
    let mut least = vec![f64::MAX; variants.len()];
    let mut every = vec![Vec::with_capacity(ROUNDS); variants.len()];
    for _ in 0..ROUNDS {
        for ((variant, least), every) in variants.iter().zip(&mut least).zip(&mut every) {
            let calls = 200_u32;
            let start = Instant::now();
            for _ in 0..calls {
                (variant.run)();
            }
            let each = start.elapsed().as_secs_f64() * 1e9 / f64::from(calls);
            *least = least.min(each);
            every.push(each);
        }
    }
    eprintln!(
        "\n{:44} {:>9} {:>9} {:>9} {:>9}",
        "in turns (ns)", "least", "over it", "median", "over it"
    );
    let mut base = (0.0, 0.0);
    let mut group = "";
    for ((variant, least), mut every) in variants.iter().zip(least).zip(every) {
        every.sort_by(f64::total_cmp);
        let median = every[every.len() / 2];
        if variant.group != group {
            (group, base) = (variant.group, (least, median));
        }
        let name = format!("{}: {}", variant.group, variant.name);
        let (over_least, over_median) = (least - base.0, median - base.1);
        eprintln!("{name:44} {least:9.1} {over_least:+9.1} {median:9.1} {over_median:+9.1}");
    }
}
