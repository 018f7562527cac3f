//! Measuring a call: ours, and what tower-http's `TraceLayer` costs where nobody listens.
//!
//! Run: `cargo bench -p peers --bench metrics`

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "../../../benches/support/bare.rs"]
mod bare;

use bare::{BATCH, Bare, now, request};
use criterion::{BenchmarkGroup, Criterion, measurement::WallTime};
use http::Request;
use tower::{Layer, Service};
use tower_http::trace::TraceLayer;
use tower_webhook::{BoxError, DeliveryMetricsLayer, body::BufferedBody, metrics::DeliveryMetrics};

fn measure<S>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, mut service: S)
where
    S: Service<Request<BufferedBody>, Error = BoxError>,
{
    let req = request(0);
    group.bench_function(name, |bencher| {
        let call = |req| assert!(now(service.call(req)).is_ok());
        bencher.iter_batched(|| req.clone(), call, BATCH);
    });
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("metrics");
    let ours = DeliveryMetricsLayer::attempts().observe(DeliveryMetrics::new());
    measure(&mut group, "bare", Bare);
    measure(&mut group, "ours", ours.layer(Bare));
    let trace = TraceLayer::new_for_http();
    measure(&mut group, "tower_http_trace", trace.layer(Bare));
    group.finish();
    criterion.final_summary();
}
