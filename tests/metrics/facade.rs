//! What an exporter behind the `metrics` facade is told.

use super::*;
use ::metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString,
    Unit, set_default_local_recorder, with_local_recorder,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{OnceLock, mpsc},
    thread,
};
use tower::{Layer, ServiceExt};
use tower_webhook::{
    DeliveryMetricsLayer,
    metrics::{FacadeExporter, FacadeExporterBuilder},
    peer::peer_fn,
};

/// Reads each value as text, by `name{label="value"}`.
fn values(snapshotter: &Snapshotter) -> BTreeMap<String, String> {
    let entries = snapshotter.snapshot().into_vec().into_iter();
    let values = entries.map(|(key, _, _, value)| {
        let key = key.key();
        let labels: Vec<_> = key
            .labels()
            .map(|label| format!("{}={}", label.key(), label.value()))
            .collect();
        let value = match value {
            DebugValue::Counter(count) => count.to_string(),
            DebugValue::Gauge(value) => value.to_string(),
            DebugValue::Histogram(values) => {
                let values: Vec<_> = values.iter().map(ToString::to_string).collect();
                values.join(" ")
            }
        };
        (format!("{}{{{}}}", key.name(), labels.join(",")), value)
    });
    values.collect()
}

fn prometheus() -> PrometheusRecorder {
    let seconds = Matcher::Suffix("_duration_seconds".to_owned());
    PrometheusBuilder::new()
        .set_buckets_for_metric(seconds, &[0.1, 1.0, 10.0])
        .unwrap()
        .build_recorder()
}

/// The states that are shown.
const STATES: [BreakerState; 3] = [
    BreakerState::Closed,
    BreakerState::HalfOpen,
    BreakerState::Open,
];

/// Two deliveries: one with a retry, and one that fails at once.
async fn deliver<O: Observer + Clone>(observer: O) {
    let inner = DeliveryMetricsLayer::attempts()
        .observe(observer.clone())
        .layer(Peer::new([503, 200, 0]));
    let again = Again { inner, most: 2 };
    let client = DeliveryMetricsLayer::deliveries()
        .observe(observer)
        .layer(again);
    client
        .clone()
        .oneshot(to("http://peer.test/"))
        .await
        .unwrap();
    drop(client.clone().call(to("http://peer.test/")));
}

#[tokio::test(start_paused = true)]
async fn every_series_has_its_value() {
    let debugging = DebuggingRecorder::new();
    let snapshotter = debugging.snapshotter();
    let _guard = set_default_local_recorder(&debugging);
    let exporter = FacadeExporter::new();
    deliver(exporter.clone()).await;
    breaker_changed(&exporter, "peer.test", BreakerState::Open);
    for reason in ["mismatch", "missing", "mismatch"] {
        exporter.on(&Event::Refused {
            by: "github",
            reason,
            detail: Id::new(&"a text of the sender's"),
        });
    }
    exporter.on(&Event::Trouble {
        part: "dead_letter",
        what: "a line cannot be read",
        detail: Some(Id::new(&"line 3")),
    });

    let mut values = values(&snapshotter);
    values.retain(|_, value| value != "0" && !value.is_empty());
    let values: Vec<_> = values
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        values,
        [
            ("tower_webhook_attempt_duration_seconds{}", "0.01 0.01"),
            ("tower_webhook_attempts_total{outcome=success}", "1"),
            ("tower_webhook_attempts_total{outcome=throttled}", "1"),
            ("tower_webhook_breaker_transitions_total{state=open}", "1"),
            ("tower_webhook_breaker_trips_total{}", "1"),
            ("tower_webhook_deliveries_total{outcome=cancelled}", "1"),
            ("tower_webhook_deliveries_total{outcome=success}", "1"),
            ("tower_webhook_delivery_attempts{}", "2"),
            ("tower_webhook_delivery_duration_seconds{}", "1.02"),
            (
                "tower_webhook_refusals_total{by=github,reason=mismatch}",
                "2"
            ),
            (
                "tower_webhook_refusals_total{by=github,reason=missing}",
                "1"
            ),
            ("tower_webhook_retries_total{status_code=503}", "1"),
            ("tower_webhook_troubles_total{part=dead_letter}", "1"),
        ]
    );
}

#[test]
fn the_gauge_knows_nothing_of_the_tasks_of_a_queue() {
    let debugging = DebuggingRecorder::new();
    with_local_recorder(&debugging, || {
        let exporter = FacadeExporter::new();
        exporter.on(&Event::DeliveryBegan { peer: "peer.test" });
        exporter.on(&queued("peer.test"));
    });
    let values = values(&debugging.snapshotter());
    assert_eq!(
        values["tower_webhook_deliveries_total{outcome=success}"],
        "1"
    );
    assert_eq!(values["tower_webhook_deliveries_in_flight{}"], "1");
}

#[test]
fn a_dead_letter_is_counted_once_however_often_its_write_failed() {
    let debugging = DebuggingRecorder::new();
    with_local_recorder(&debugging, || {
        dead_lettered(&FacadeExporter::new(), "peer.test");
    });
    let values = values(&debugging.snapshotter());
    let of = |end| {
        let labels = format!("{{reason=retries_exhausted,end={end}}}");
        &*values[&format!("tower_webhook_dead_letters_total{labels}")]
    };
    assert_eq!([of("written"), of("not_written")], ["1"; 2]);
}

#[test]
fn every_series_is_there_from_the_start_and_described_with_its_unit() {
    let debugging = DebuggingRecorder::new();
    let snapshotter = debugging.snapshotter();
    with_local_recorder(&debugging, FacadeExporter::new);
    let all = snapshotter.snapshot().into_vec();
    let names: BTreeSet<_> = all
        .iter()
        .map(|(key, unit, text, _)| {
            assert!(text.as_ref().is_some_and(|text| !text.is_empty()));
            (key.key().name().to_owned(), unit.unwrap().as_str())
        })
        .collect();
    let (count, seconds) = (Unit::Count.as_str(), Unit::Seconds.as_str());
    let expected = [
        ("tower_webhook_attempt_duration_seconds", seconds),
        ("tower_webhook_attempts_in_flight", count),
        ("tower_webhook_attempts_total", count),
        ("tower_webhook_breaker_transitions_total", count),
        ("tower_webhook_breaker_trips_total", count),
        ("tower_webhook_deliveries_in_flight", count),
        ("tower_webhook_deliveries_total", count),
        ("tower_webhook_delivery_attempts", count),
        ("tower_webhook_delivery_duration_seconds", seconds),
    ];
    let expected = expected.map(|(name, unit)| (name.to_owned(), unit));
    assert_eq!(names, BTreeSet::from(expected));
    // Eight outcomes on each level, three states, and six without labels.
    assert_eq!(all.len(), 16 + 3 + 6);
}

#[tokio::test(start_paused = true)]
async fn prometheus_shows_them() {
    let prometheus = prometheus();
    let _guard = set_default_local_recorder(&prometheus);
    deliver(FacadeExporter::new()).await;
    let page = prometheus.handle().render();
    for line in [
        "# TYPE tower_webhook_attempts_total counter",
        r#"tower_webhook_attempts_total{outcome="throttled"} 1"#,
        r#"tower_webhook_attempts_total{outcome="refused"} 0"#,
        r#"tower_webhook_deliveries_total{outcome="success"} 1"#,
        "# TYPE tower_webhook_attempts_in_flight gauge",
        "tower_webhook_attempts_in_flight 0",
        "# TYPE tower_webhook_delivery_duration_seconds histogram",
        r#"tower_webhook_delivery_duration_seconds_bucket{le="1"} 0"#,
        r#"tower_webhook_delivery_duration_seconds_bucket{le="10"} 1"#,
        "tower_webhook_attempt_duration_seconds_count 2",
        "# TYPE tower_webhook_retries_total counter",
        r#"tower_webhook_retries_total{status_code="503"} 1"#,
        "tower_webhook_breaker_trips_total 0",
    ] {
        assert!(
            page.lines().any(|shown| shown == line),
            "{line}\nin\n{page}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn hostile_keys_stay_inside_their_label() {
    let prometheus = prometheus();
    let _guard = set_default_local_recorder(&prometheus);
    let exporter = FacadeExporter::builder().peer_label(3).build().unwrap();
    let mut client = DeliveryMetricsLayer::attempts()
        .observe(exporter)
        .peer(peer_fn(|req: &Req| {
            req.extensions().get::<String>().unwrap().into()
        }))
        .layer(Peer::default());
    let long = "x".repeat(8192);
    let line = "\"} 1\ntower_webhook_attempts_total{peer=\"evil";
    for key in [
        r#"quo"te\"#,
        line,
        "a\rb",
        &long,
        "a",
        "b",
        "one more",
        "yet one more",
    ] {
        let mut req = to("http://peer.test/");
        req.extensions_mut().insert(key.to_owned());
        client.ready().await.unwrap().call(req).await.unwrap();
    }
    let page = prometheus.handle().render();
    let counted: BTreeSet<_> = page
        .lines()
        .filter(|line| line.starts_with("tower_webhook_attempts_total{") && !line.ends_with(" 0"))
        .collect();
    assert_eq!(
        counted,
        BTreeSet::from([
            r#"tower_webhook_attempts_total{peer="a",outcome="success"} 1"#,
            r#"tower_webhook_attempts_total{peer="b",outcome="success"} 1"#,
            r#"tower_webhook_attempts_total{peer="other",outcome="success"} 5"#,
            r#"tower_webhook_attempts_total{peer="quo\"te\\",outcome="success"} 1"#,
        ])
    );
}

#[test]
fn a_request_cannot_add_a_label_without_the_setting() {
    let debugging = DebuggingRecorder::new();
    with_local_recorder(&debugging, || {
        let exporter = FacadeExporter::new();
        let series = debugging.snapshotter().snapshot().into_vec().len();
        for n in 0..10_000 {
            let peer = format!("host-{n}.test");
            attempt(&exporter, &peer, Outcome::success(), millis(n));
        }
        assert_eq!(debugging.snapshotter().snapshot().into_vec().len(), series);
    });
}

#[test]
fn ten_thousand_numbers_are_no_ten_thousand_status_codes() {
    let debugging = DebuggingRecorder::new();
    with_local_recorder(&debugging, || {
        let exporter = FacadeExporter::new();
        (0..=u16::MAX).for_each(|code| retried(&exporter, "", Some(code)));
        retried(&exporter, "", None);
    });
    let values = values(&debugging.snapshotter());
    let codes: Vec<_> = values
        .keys()
        .filter(|key| key.contains("status_code"))
        .collect();
    assert_eq!(codes.len(), 500 + 17 + 1);
    assert_eq!(values["tower_webhook_retries_total{status_code=429}"], "1");
    assert_eq!(values["tower_webhook_retries_total{status_code=14}"], "1");
    assert_eq!(
        values["tower_webhook_retries_total{status_code=none}"],
        (65_537 - 517).to_string()
    );
}

/// tower-resilience 0.14 sets the gauge of the new state and never clears the old one.
#[test]
fn a_breaker_is_in_one_state_at_a_time() {
    let debugging = DebuggingRecorder::new();
    with_local_recorder(&debugging, || {
        let exporter = FacadeExporter::builder().peer_label(2).build().unwrap();
        for state in [
            BreakerState::Open,
            BreakerState::HalfOpen,
            BreakerState::Open,
            BreakerState::Closed,
            BreakerState::Open,
        ] {
            breaker_changed(&exporter, "a.test", state);
            let values = values(&debugging.snapshotter());
            for each in STATES {
                let key = format!(
                    "tower_webhook_breaker_state{{peer=a.test,state={}}}",
                    each.as_str()
                );
                assert_eq!(values[&key], if each == state { "1" } else { "0" }, "{key}");
            }
        }
        // Beyond the bound, several breakers share a label and have no one state.
        for peer in ["b.test", "c.test", "d.test"] {
            breaker_changed(&exporter, peer, BreakerState::Open);
        }
    });
    let values = values(&debugging.snapshotter());
    assert!(values.contains_key("tower_webhook_breaker_state{peer=b.test,state=open}"));
    assert!(
        !values
            .keys()
            .any(|key| key.contains("breaker_state{peer=other"))
    );
}

#[test]
fn the_prefix_is_a_choice() {
    let debugging = DebuggingRecorder::new();
    with_local_recorder(&debugging, || {
        FacadeExporter::builder()
            .prefix("acme:hooks_")
            .build()
            .unwrap()
    });
    let values = values(&debugging.snapshotter());
    assert!(values.contains_key("acme:hooks_attempts_total{outcome=success}"));
    assert!(values.contains_key("acme:hooks_breaker_trips_total{}"));
    assert!(!values.keys().any(|key| key.starts_with("tower_webhook")));
}

#[cfg(feature = "cognigy")]
#[tokio::test(start_paused = true)]
async fn the_names_of_the_documents_are_a_choice() {
    let debugging = DebuggingRecorder::new();
    let snapshotter = debugging.snapshotter();
    let _guard = set_default_local_recorder(&debugging);
    let exporter = tower_webhook::cognigy::presets::metrics_facade()
        .build()
        .unwrap();
    deliver(exporter.clone()).await;
    breaker_changed(&exporter, "peer.test", BreakerState::Open);
    let values = values(&snapshotter);
    assert_eq!(values["cognigy_circuit_breaker_trips{}"], "1");
    assert_eq!(values["cognigy_webhook_retries{status_code=503}"], "1");
    assert!(!values.keys().any(|key| key.contains("retries_total")));
    assert!(!values.keys().any(|key| key.contains("trips_total")));
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    let refused = |builder: FacadeExporterBuilder| builder.build().unwrap_err().setting();
    for prefix in ["", "9lives_", "with space", "quo\"te", "größe", "line\n"] {
        let builder = FacadeExporter::builder;
        assert_eq!(refused(builder().prefix(prefix)), "prefix");
        assert_eq!(refused(builder().retries_name(prefix)), "retries_name");
        assert_eq!(refused(builder().trips_name(prefix)), "trips_name");
    }
    for peers in [0, 10_001] {
        let builder = FacadeExporter::builder().peer_label(peers);
        assert_eq!(refused(builder), "peer_label");
    }
}

#[test]
fn without_an_exporter_it_is_silent_and_stays_so() {
    let exporter = FacadeExporter::new();
    let debugging = DebuggingRecorder::new();
    with_local_recorder(&debugging, || {
        attempt(&exporter, "peer.test", Outcome::success(), Duration::MAX);
    });
    // Bound when it was made, as its documentation says.
    assert!(values(&debugging.snapshotter()).is_empty());
}

/// The state of `a.test` that is shown.
fn shown(values: &BTreeMap<String, String>) -> Vec<BreakerState> {
    let of = |state: &BreakerState| {
        let state = state.as_str();
        format!("tower_webhook_breaker_state{{peer=a.test,state={state}}}")
    };
    let is_set = |state: &BreakerState| values[&of(state)] == "1";
    STATES.into_iter().filter(is_set).collect()
}

#[test]
fn of_two_changes_of_a_breaker_the_newer_one_is_shown() {
    let debugging = DebuggingRecorder::new();
    with_local_recorder(&debugging, || {
        let exporter = FacadeExporter::builder().peer_label(2).build().unwrap();
        breaker_changed_as(&exporter, "a.test", BreakerState::Closed, 8);
        breaker_changed_as(&exporter, "a.test", BreakerState::Open, 7);
        // Nor is one shown that is newer only than the last that was told.
        breaker_changed_as(&exporter, "a.test", BreakerState::Open, 5);
        breaker_changed_as(&exporter, "a.test", BreakerState::HalfOpen, 6);
        assert_eq!(
            shown(&values(&debugging.snapshotter())),
            [BreakerState::Closed]
        );
        // Told by four threads, in any order.
        for round in 0..100 {
            thread::scope(|scope| {
                for n in 0..4 {
                    let (exporter, state) = (&exporter, STATES[(round + n) % 3]);
                    let generation = (10 + 4 * round + n) as u64;
                    scope.spawn(move || {
                        breaker_changed_as(exporter, "a.test", state, generation);
                    });
                }
            });
            let values = values(&debugging.snapshotter());
            assert_eq!(shown(&values), [STATES[(round + 3) % 3]], "{round}");
        }
    });
}

/// A recorder that tells the exporter of a newer change whenever a gauge was set.
struct Overtakes {
    recorder: DebuggingRecorder,
    exporter: Arc<OnceLock<FacadeExporter>>,
}

struct Overtaken(Gauge, Arc<OnceLock<FacadeExporter>>);

impl GaugeFn for Overtaken {
    fn increment(&self, by: f64) {
        self.0.increment(by);
    }

    fn decrement(&self, by: f64) {
        self.0.decrement(by);
    }

    fn set(&self, to: f64) {
        self.0.set(to);
        if let Some(exporter) = self.1.get() {
            breaker_changed_as(exporter, "a.test", BreakerState::Closed, 9);
        }
    }
}

impl Recorder for Overtakes {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.recorder.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        let gauge = self.recorder.register_gauge(key, metadata);
        Gauge::from_arc(Arc::new(Overtaken(gauge, Arc::clone(&self.exporter))))
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        self.recorder.register_histogram(key, metadata)
    }
}

/// Of its gauges one is written before the newer change is, and the others after it.
#[test]
fn a_change_that_is_overtaken_while_it_is_written_leaves_one_state_set() {
    for state in [BreakerState::Open, BreakerState::HalfOpen] {
        let recorder = Overtakes {
            recorder: DebuggingRecorder::new(),
            exporter: Arc::default(),
        };
        with_local_recorder(&recorder, || {
            let exporter = FacadeExporter::builder().peer_label(2).build().unwrap();
            let _ = recorder.exporter.set(exporter.clone());
            breaker_changed_as(&exporter, "a.test", state, 8);
        });
        let values = values(&recorder.recorder.snapshotter());
        assert_eq!(shown(&values), [BreakerState::Closed]);
    }
}

/// A recorder that tells the exporter events of its own, whenever a series is made or a gauge is set.
#[derive(Default)]
struct CallsBack {
    exporter: OnceLock<FacadeExporter>,
    calls: AtomicU64,
}

impl CallsBack {
    fn call(&self) {
        // Each event would call again, so there is an end.
        if let Some(exporter) = self.exporter.get()
            && self.calls.fetch_add(1, Ordering::Relaxed) < 100
        {
            breaker_changed(exporter, "a.test", BreakerState::Open);
            exporter.on(&Event::AttemptBegan {
                peer: "a.test",
                retry: true,
                after: Some(500),
            });
        }
    }
}

struct Handle(Arc<CallsBack>);

impl CounterFn for Handle {
    fn increment(&self, _: u64) {}

    fn absolute(&self, _: u64) {}
}

impl GaugeFn for Handle {
    fn increment(&self, _: f64) {}

    fn decrement(&self, _: f64) {}

    fn set(&self, _: f64) {
        self.0.call();
    }
}

struct CallingBack(Arc<CallsBack>);

impl Recorder for CallingBack {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        self.0.call();
        Counter::from_arc(Arc::new(Handle(Arc::clone(&self.0))))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        self.0.call();
        Gauge::from_arc(Arc::new(Handle(Arc::clone(&self.0))))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        self.0.call();
        Histogram::noop()
    }
}

/// The facade is foreign code, which may log, and so come back: it is called under no lock.
#[test]
fn a_recorder_may_tell_the_exporter_something() {
    let (ended, end) = mpsc::channel();
    thread::spawn(move || {
        let calls = Arc::new(CallsBack::default());
        let recorder = CallingBack(Arc::clone(&calls));
        with_local_recorder(&recorder, || {
            let exporter = FacadeExporter::builder().peer_label(2).build().unwrap();
            // Its series of all events are there, so the next ones are those of what is told.
            exporter.on(&Event::DeliveryBegan { peer: "a.test" });
            let _ = calls.exporter.set(exporter.clone());
            breaker_changed(&exporter, "a.test", BreakerState::Open);
        });
        let _ = ended.send(calls.calls.load(Ordering::Relaxed));
    });
    let calls = end.recv_timeout(Duration::from_secs(60));
    assert!(calls.expect("it waits for itself") >= 100);
}
