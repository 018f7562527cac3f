use super::names::{LevelNames, Names};
use crate::{
    InvalidConfig,
    metrics::{
        BreakerState, Level, Measurement, Recorder, Series,
        codes::{self, CODES},
        keys::{Keys, OTHER},
    },
    outcome::OutcomeKind,
};
use ::metrics::{Counter, Gauge, Histogram, Label};
use std::{
    array, fmt, iter,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

/// Each key makes some thirty series in the exporter.
const MOST_KEYS: usize = 10_000;

/// A recorder that writes to the [`metrics`](https://docs.rs/metrics/0.24) facade, from where an
/// exporter takes it: Prometheus and others. Clones write to the same series.
///
/// | Series | Type | Labels |
/// | --- | --- | --- |
/// | `tower_webhook_attempts_total`, `tower_webhook_deliveries_total` | counter | `outcome`: the eight [`OutcomeKind`]s |
/// | `tower_webhook_attempt_duration_seconds`, `tower_webhook_delivery_duration_seconds` | histogram, cancelled ones left out | |
/// | `tower_webhook_attempts_in_flight`, `tower_webhook_deliveries_in_flight` | gauge | |
/// | `tower_webhook_delivery_attempts` | histogram: attempts of a delivery that made any | |
/// | `tower_webhook_breaker_transitions_total` | counter | `state`: `closed`, `half_open`, `open` |
/// | `tower_webhook_breaker_state` | gauge: 1 for the state it is in, 0 for the others | `key`, `state`; only with [`key_label`](FacadeRecorderBuilder::key_label) |
/// | `tower_webhook_dead_letters_total` | counter | `reason`, `end`: the names that a dead letter has for both |
/// | `tower_webhook_retries_total` | counter | `status_code`: 100 to 599, 0 to 16 for gRPC, `none` |
/// | `tower_webhook_breaker_trips_total` | counter | |
///
/// Labels are closed sets; a request cannot add to them. Counters begin at 0 when the recorder is made, save the
/// retries and the dead letters, of which each code or reason appears when it is first seen.
///
/// # Order
///
/// **Install the exporter first.** The series are bound to the facade's recorder that is installed
/// when they are made: most of them in [`new`](Self::new) and [`build`](FacadeRecorderBuilder::build),
/// those of a key or a status code when it is first seen. Made before, what they are told is lost.
/// Made once, recording does not look them up, and allocates nothing of its own.
///
/// # Examples
///
/// ```
/// use http::{Request, Response};
/// use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_webhook::{BoxError, DeliveryMetricsLayer, metrics::exporter::FacadeRecorder};
///
/// # tokio_test::block_on(async {
/// // Without buckets, this exporter gives summaries.
/// let seconds = Matcher::Suffix("_duration_seconds".to_owned());
/// let prometheus = PrometheusBuilder::new()
///     .set_buckets_for_metric(seconds, &[0.01, 0.1, 1.0, 10.0])?
///     .install_recorder()?;
///
/// let layer = DeliveryMetricsLayer::deliveries(FacadeRecorder::new());
/// let client = layer.layer(service_fn(|_: Request<()>| async {
///     Ok::<_, BoxError>(Response::new(()))
/// }));
/// client.oneshot(Request::post("https://crm.example.com/").body(())?).await?;
///
/// let page = prometheus.render();
/// assert!(page.contains(r#"tower_webhook_deliveries_total{outcome="success"} 1"#));
/// # Ok::<_, BoxError>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct FacadeRecorder {
    handles: Arc<Shared>,
}

struct Shared {
    names: Arc<Names>,
    common: Arc<Common>,
    /// All calls where there is no label for keys, otherwise those that share one.
    keys: Keys<Handles>,
    keyed: bool,
}

/// What has no label for keys.
struct Common {
    retries_name: String,
    retries: Box<[OnceLock<Counter>]>,
    trips: Counter,
    transitions: [Counter; BreakerState::ALL.len()],
}

/// The series of one key.
struct Handles {
    /// `None` where it stands for every key.
    key: Option<Arc<str>>,
    names: Arc<Names>,
    common: Arc<Common>,
    attempts: LevelHandles,
    deliveries: LevelHandles,
    attempts_each: Histogram,
    /// Made when the breaker is first heard of. Locked, so that two transitions at once cannot leave
    /// two states set.
    breaker: Mutex<Option<[Gauge; BreakerState::ALL.len()]>>,
}

struct LevelHandles {
    outcomes: [Counter; OutcomeKind::ALL.len()],
    seconds: Histogram,
    in_flight: Gauge,
}

/// Settings of a [`FacadeRecorder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct FacadeRecorderBuilder {
    prefix: String,
    retries: Option<String>,
    trips: Option<String>,
    max_keys: Option<usize>,
}

impl Default for FacadeRecorder {
    fn default() -> Self {
        Self::new()
    }
}

impl FacadeRecorder {
    /// With the default settings. Install the exporter first.
    pub fn new() -> Self {
        Self::with(Names::new("tower_webhook_"), None)
    }

    /// With settings of your own.
    pub fn builder() -> FacadeRecorderBuilder {
        FacadeRecorderBuilder {
            prefix: "tower_webhook_".to_owned(),
            retries: None,
            trips: None,
            max_keys: None,
        }
    }

    fn with(names: Names, max_keys: Option<usize>) -> Self {
        let names = Arc::new(names);
        names.describe();
        let common = Arc::new(Common::new(&names));
        let other = |name| {
            let key = max_keys.is_some().then_some(name);
            Handles::new(key, Arc::clone(&names), Arc::clone(&common))
        };
        let keys = Keys::new(max_keys.unwrap_or(0), other);
        Self {
            handles: Arc::new(Shared {
                keys,
                keyed: max_keys.is_some(),
                names,
                common,
            }),
        }
    }
}

impl FacadeRecorderBuilder {
    /// What the names of the series begin with. `tower_webhook_` by default. Letters, digits, `_`
    /// and `:`, as Prometheus has it.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets the whole name of the counter of retries. Default: `retries_total` after the prefix.
    pub fn retries_name(mut self, name: impl Into<String>) -> Self {
        self.retries = Some(name.into());
        self
    }

    /// Sets the whole name of the counter of breakers that opened. Default: `breaker_trips_total`
    /// after the prefix.
    pub fn trips_name(mut self, name: impl Into<String>) -> Self {
        self.trips = Some(name.into());
        self
    }

    /// Adds the label `key` to the series of attempts and deliveries, and the states of breakers,
    /// for this many keys; the rest shares the key `other`, which has no breaker's state. Off by
    /// default, 10,000 at the most. Each key makes some thirty series in the exporter, and they
    /// stay.
    pub const fn key_label(mut self, max_keys: usize) -> Self {
        self.max_keys = Some(max_keys);
        self
    }

    /// Makes the series that can be known in advance. Install the exporter first.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for a `prefix`, `retries_name` or `trips_name` that Prometheus does not take
    /// as a name, and for a `key_label` of zero or above 10,000.
    pub fn build(self) -> Result<FacadeRecorder, InvalidConfig> {
        let mut names = Names::new(&self.prefix);
        let given = [
            ("prefix", Some(self.prefix), None),
            ("retries_name", self.retries, Some(&mut names.retries)),
            ("trips_name", self.trips, Some(&mut names.trips)),
        ];
        for (setting, name, place) in given {
            let Some(name) = name else { continue };
            if !is_name(&name) {
                return Err(InvalidConfig::new(
                    setting,
                    "must be letters, digits, `_` and `:`, and not begin with a digit",
                ));
            }
            if let Some(place) = place {
                *place = name;
            }
        }
        if self
            .max_keys
            .is_some_and(|most| most == 0 || most > MOST_KEYS)
        {
            return Err(InvalidConfig::new("key_label", "must be from 1 to 10000"));
        }
        Ok(FacadeRecorder::with(names, self.max_keys))
    }
}

fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':';
    let begins = |byte: &u8| !byte.is_ascii_digit();
    name.as_bytes().first().is_some_and(begins) && name.bytes().all(fits)
}

impl Recorder for FacadeRecorder {
    type Series = FacadeSeries;

    fn series(&self, key: &str) -> FacadeSeries {
        let shared = &*self.handles;
        let handles = if shared.keyed {
            shared.keys.get(key, |name| {
                let (names, common) = (Arc::clone(&shared.names), Arc::clone(&shared.common));
                Handles::new(Some(name), names, common)
            })
        } else {
            Arc::clone(shared.keys.other())
        };
        FacadeSeries { handles }
    }
}

/// What [`FacadeRecorder`] keeps for one key.
#[derive(Clone)]
pub struct FacadeSeries {
    handles: Arc<Handles>,
}

impl Series for FacadeSeries {
    fn is_for(&self, key: &str) -> bool {
        let own = self.handles.key.as_deref();
        own.is_none_or(|own| own == key)
    }

    fn started(&self, level: Level) {
        self.handles.level(level).in_flight.increment(1.0);
    }

    fn finished(&self, measurement: &Measurement) {
        let level = self.handles.level(measurement.level());
        let kind = measurement.outcome().kind();
        level.in_flight.decrement(1.0);
        if let Some(count) = level.outcomes.get(kind as usize) {
            count.increment(1);
        }
        // How soon callers go away says nothing about the peer.
        if kind != OutcomeKind::Cancelled {
            level.seconds.record(measurement.elapsed().as_secs_f64());
        }
        if measurement.level() == Level::Delivery && measurement.attempts() > 0 {
            self.handles
                .attempts_each
                .record(f64::from(measurement.attempts()));
        }
    }

    fn retried(&self, code: Option<u16>) {
        self.handles.common.retried(code);
    }

    fn breaker_changed(&self, state: BreakerState) {
        let common = &self.handles.common;
        if state == BreakerState::Open {
            common.trips.increment(1);
        }
        if let Some(count) = common.transitions.get(state as usize) {
            count.increment(1);
        }
        self.handles.set_breaker(state);
    }

    fn dead_lettered(&self, reason: &'static str, end: &'static str) {
        let name = self.handles.names.dead_letters.clone();
        // Seldom, so it is looked up each time.
        ::metrics::counter!(name, "reason" => reason, "end" => end).increment(1);
    }
}

impl Common {
    fn new(names: &Names) -> Self {
        Self {
            retries_name: names.retries.clone(),
            retries: iter::repeat_with(OnceLock::new).take(CODES).collect(),
            trips: ::metrics::counter!(names.trips.clone()),
            transitions: BreakerState::ALL.map(
                |state| ::metrics::counter!(names.transitions.clone(), "state" => state.as_str()),
            ),
        }
    }

    fn retried(&self, code: Option<u16>) {
        let at = codes::index(code);
        if let Some(count) = self.retries.get(at) {
            let count = count.get_or_init(|| {
                let code = codes::code(at);
                let label = code.map_or_else(|| "none".to_owned(), |code| code.to_string());
                ::metrics::counter!(self.retries_name.clone(), "status_code" => label)
            });
            count.increment(1);
        }
    }
}

impl Handles {
    fn new(key: Option<Arc<str>>, names: Arc<Names>, common: Arc<Common>) -> Self {
        let labels = labels(key.as_ref());
        Self {
            attempts: LevelHandles::new(&names.attempts, &labels),
            deliveries: LevelHandles::new(&names.deliveries, &labels),
            attempts_each: ::metrics::histogram!(names.attempts_each.clone(), labels),
            breaker: Mutex::new(None),
            key,
            names,
            common,
        }
    }

    const fn level(&self, level: Level) -> &LevelHandles {
        match level {
            Level::Attempt => &self.attempts,
            Level::Delivery => &self.deliveries,
        }
    }

    fn set_breaker(&self, now: BreakerState) {
        // Several breakers that share a label have no one state.
        let Some(key) = self.key.as_ref().filter(|key| ***key != *OTHER) else {
            return;
        };
        let mut gauges = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        let gauges = gauges.get_or_insert_with(|| {
            BreakerState::ALL.map(|state| {
                let mut labels = labels(Some(key));
                labels.push(Label::new("state", state.as_str()));
                ::metrics::gauge!(self.names.breaker_state.clone(), labels)
            })
        });
        for (gauge, state) in gauges.iter().zip(BreakerState::ALL) {
            gauge.set(if state == now { 1.0 } else { 0.0 });
        }
    }
}

impl LevelHandles {
    fn new(names: &LevelNames, labels: &[Label]) -> Self {
        let labels = || labels.to_vec();
        Self {
            outcomes: array::from_fn(|at| {
                let mut labels = labels();
                if let Some(kind) = OutcomeKind::ALL.get(at) {
                    labels.push(Label::new("outcome", kind.as_str()));
                }
                ::metrics::counter!(names.total.clone(), labels)
            }),
            seconds: ::metrics::histogram!(names.seconds.clone(), labels()),
            in_flight: ::metrics::gauge!(names.in_flight.clone(), labels()),
        }
    }
}

fn labels(key: Option<&Arc<str>>) -> Vec<Label> {
    let label = key.map(|key| Label::new("key", Arc::clone(key)));
    label.into_iter().collect()
}

impl fmt::Debug for FacadeRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FacadeRecorder").finish_non_exhaustive()
    }
}

impl fmt::Debug for FacadeSeries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FacadeSeries")
            .field("key", &self.handles.key)
            .finish_non_exhaustive()
    }
}
