//! What measuring adds to a call that succeeds, for one peer and for many, at both levels and through the
//! facade. One host, beside the same by hand, is in the table of `crates/peers`.
//!
//! Run: `cargo bench -p tower-webhook-benches --bench metrics`

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "support/bare.rs"]
mod bare;

use bare::{BATCH, Bare, now};
use criterion::{BenchmarkGroup, Criterion, measurement::WallTime};
use http::{Request, Response};
use std::{
    hint::black_box,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};
use tower::{Layer, Service};
use tower_webhook::{
    BoxError, DeliveryMetricsLayer,
    body::BufferedBody,
    metrics::DeliveryMetrics,
    observe::{Event, Observer},
    outcome::{Outcome, classify_fn},
    peer::OnePeer,
};

fn bench<S>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    mut service: S,
    mut uri: impl FnMut() -> String,
) where
    S: Service<Request<BufferedBody>>,
    S::Error: std::fmt::Debug,
{
    group.bench_function(name, |bencher| {
        let request = || Request::get(uri()).body(BufferedBody::default()).unwrap();
        bencher.iter_batched(request, |req| now(service.call(req)).unwrap(), BATCH);
    });
}

fn one_host() -> String {
    "http://crm.example.com/hooks".to_owned()
}

/// Another one each time, of so many.
fn hosts(count: u32) -> impl FnMut() -> String {
    let mut next = 0;
    move || {
        next = (next + 1) % count;
        format!("http://host-{next}.example.com/hooks")
    }
}

fn one_layer(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("metrics");
    let layer = || DeliveryMetricsLayer::attempts().observe(DeliveryMetrics::new());

    bench(&mut group, "bare", Bare, one_host);
    let judge = classify_fn(
        |result: Result<&Response<BufferedBody>, &BoxError>| match result {
            Ok(_) => Outcome::success(),
            Err(error) => Outcome::of_error(&**error),
        },
    );
    let least = layer().peer(OnePeer).classifier(judge);
    bench(&mut group, "one_peer_no_http", least.layer(Bare), one_host);
    bench(
        &mut group,
        "one_peer",
        layer().peer(OnePeer).layer(Bare),
        one_host,
    );
    bench(&mut group, "1000_hosts", layer().layer(Bare), hosts(1000));
    bench(
        &mut group,
        "2000_hosts_of_which_1000_have_room",
        layer().layer(Bare),
        hosts(2000),
    );

    let unheard = DeliveryMetricsLayer::attempts().layer(Bare);
    bench(&mut group, "nobody_listens", unheard, one_host);

    let metrics = DeliveryMetrics::new();
    let attempts = DeliveryMetricsLayer::attempts()
        .observe(metrics.clone())
        .layer(Bare);
    let both = DeliveryMetricsLayer::deliveries()
        .observe(metrics)
        .layer(attempts);
    bench(&mut group, "both_levels", both, one_host);
    group.finish();
}

fn facade(criterion: &mut Criterion) {
    use metrics_exporter_prometheus::PrometheusBuilder;
    use tower_webhook::metrics::FacadeExporter;

    let mut group = criterion.benchmark_group("metrics_facade");
    let silent = DeliveryMetricsLayer::attempts().observe(FacadeExporter::new());
    bench(&mut group, "no_exporter", silent.layer(Bare), one_host);

    let prometheus = PrometheusBuilder::new()
        .set_buckets(&[0.01, 0.1, 1.0, 10.0])
        .unwrap()
        .build_recorder();
    let exporter = ::metrics::with_local_recorder(&prometheus, FacadeExporter::new);
    let layer = DeliveryMetricsLayer::attempts().observe(exporter.clone());
    bench(&mut group, "prometheus", layer.layer(Bare), one_host);
    let both = DeliveryMetricsLayer::attempts()
        .observe(DeliveryMetrics::new())
        .observe(exporter);
    bench(
        &mut group,
        "prometheus_and_in_process",
        both.layer(Bare),
        one_host,
    );
    // What is kept for the page until it is asked for.
    prometheus.handle().run_upkeep();
    group.finish();
}

fn tell_attempt(metrics: &DeliveryMetrics, peer: &str, elapsed: Duration) {
    metrics.on(&Event::AttemptBegan {
        peer,
        retry: false,
        after: None,
    });
    metrics.on(&Event::AttemptEnded {
        peer,
        outcome: Outcome::success(),
        elapsed,
    });
}

/// Two threads that count for the same peer, and one page.
fn reading(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("metrics_reading");
    group.bench_function("two_threads_one_peer", |bencher| {
        bencher.iter_custom(|iters| {
            let metrics = DeliveryMetrics::new();
            let barrier = Barrier::new(2);
            thread::scope(|scope| {
                let time = || {
                    barrier.wait();
                    let started = Instant::now();
                    for n in 0..iters {
                        tell_attempt(
                            &metrics,
                            "crm.example.com",
                            Duration::from_nanos(black_box(n)),
                        );
                    }
                    started.elapsed()
                };
                let other = scope.spawn(time);
                time().max(other.join().unwrap())
            })
        });
    });
    let metrics = DeliveryMetrics::new();
    for n in 0..1000 {
        let (peer, elapsed) = (&*format!("host-{n}.example.com"), Duration::from_millis(n));
        tell_attempt(&metrics, peer, elapsed);
        metrics.on(&Event::DeliveryBegan { peer });
        metrics.on(&Event::DeliveryEnded {
            peer,
            outcome: Outcome::success(),
            elapsed,
            attempts: 1,
            queued: false,
        });
    }
    group.bench_function("snapshot_1000_peers", |bencher| {
        bencher.iter(|| metrics.snapshot());
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    one_layer(&mut criterion);
    facade(&mut criterion);
    reading(&mut criterion);
    criterion.final_summary();
}
