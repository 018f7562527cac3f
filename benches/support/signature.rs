//! What the benches of verification share: a signed request, and variants that take turns. On a shared machine
//! only variants that take turns in one run can be compared.

use criterion::Criterion;
use http::{HeaderMap, HeaderValue, Request};
use std::{hint::black_box, time::Instant};
use tower_webhook::{
    body::BufferedBody,
    clock::WallClock,
    signature::{Message, MessageId, Outgoing, Scheme, SignScheme},
};

/// The size of the body that is signed, in bytes.
pub const BODY: usize = 1024;

/// One thing that is measured. The first of a group is its baseline.
struct Variant {
    group: &'static str,
    name: &'static str,
    run: Box<dyn Fn()>,
}

/// Takes a group, a name and what is measured.
pub type Add<'a> = &'a mut dyn FnMut(&'static str, &'static str, Box<dyn Fn()>);

/// Measures what `add` names; under `cargo bench` all variants in turns after that.
pub fn run(add: fn(Add<'_>)) {
    let mut variants = Vec::new();
    add(&mut |group, name, run| variants.push(Variant { group, name, run }));
    let mut criterion = Criterion::default().configure_from_args();
    for variant in &variants {
        criterion
            .benchmark_group(variant.group)
            .bench_function(variant.name, |bencher| bencher.iter(&*variant.run));
    }
    criterion.final_summary();
    // `cargo bench` says so; `cargo test --benches` and `-- --test` do not want to wait.
    let arguments = std::env::args().collect::<Vec<_>>();
    if arguments.iter().any(|one| one == "--bench") && !arguments.iter().any(|one| one == "--test")
    {
        take_turns(&variants);
    }
}

/// A request that `scheme` signed now, with the headers that a server sees beside the signature.
pub fn signed(scheme: &dyn SignScheme) -> Request<BufferedBody> {
    let body = vec![b'x'; BODY];
    let id = MessageId::new("msg_2KWPBgLlAfxdpx2AI54pPJ85f4W").unwrap();
    let now = WallClock::system().unix_seconds();
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

/// Verifies one request again and again.
pub fn verify<S: Scheme + SignScheme>(scheme: S) -> Box<dyn Fn()> {
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

/// All variants in turns, many times; the least time of each counts, and its difference from the
/// baseline of its group.
fn take_turns(variants: &[Variant]) {
    const ROUNDS: usize = 400;
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
