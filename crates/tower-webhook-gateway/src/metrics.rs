//! The metrics page: the series of the `metrics` facade, as Prometheus text.

use crate::args::Problem;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::time::Duration;
use tokio::task::JoinHandle;
use tower_webhook::{cognigy::presets, metrics::FacadeExporter};

/// Buckets of durations, in seconds: OpenTelemetry's for HTTP requests, and three for the longest
/// attempts and deliveries.
const SECONDS: [f64; 17] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0,
    300.0,
];

/// Buckets of attempts of a delivery.
const ATTEMPTS: [f64; 6] = [1.0, 2.0, 3.0, 4.0, 6.0, 10.0];

/// The interval of the exporter's upkeep.
const UPKEEP: Duration = Duration::from_secs(5);

pub(crate) struct MetricsPage {
    prometheus: PrometheusHandle,
    upkeep: JoinHandle<()>,
}

impl MetricsPage {
    pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

    /// Installs the exporter. Values that were recorded before are lost.
    pub fn install() -> Result<Self, Problem> {
        let buckets = |builder: PrometheusBuilder, suffix: &str, values: &[f64]| {
            builder.set_buckets_for_metric(Matcher::Suffix(suffix.to_owned()), values)
        };
        let install = || {
            let builder = PrometheusBuilder::new();
            let builder = buckets(builder, "_duration_seconds", &SECONDS)?;
            buckets(builder, "_delivery_attempts", &ATTEMPTS)?.install_recorder()
        };
        let prometheus = install().map_err(|error| Problem::new("the metrics page", error))?;
        let handle = prometheus.clone();
        let upkeep = tokio::spawn(async move {
            loop {
                tokio::time::sleep(UPKEEP).await;
                handle.run_upkeep();
            }
        });
        Ok(Self { prometheus, upkeep })
    }

    /// The observer that writes to the page.
    #[allow(clippy::unused_self, reason = "there is none before the page is")]
    pub fn exporter(&self) -> Result<FacadeExporter, Problem> {
        let exporter = presets::metrics_facade().build();
        exporter.map_err(|error| Problem::new("the metrics page", error))
    }

    pub fn render(&self) -> String {
        self.prometheus.render()
    }
}

impl Drop for MetricsPage {
    fn drop(&mut self) {
        self.upkeep.abort();
    }
}
