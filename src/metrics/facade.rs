use super::{
    STATES, change_word,
    codes::{self, CODES},
    dead_lettered,
    names::{LevelNames, Names},
    peers::Peers,
    shown_state, state_of,
};
use crate::{
    InvalidConfig,
    observe::{BreakerState, Event, JobEnd, Observer},
    outcome::{Outcome, OutcomeKind},
};
use ::metrics::{Counter, Gauge, Histogram, Label};
use std::{
    array, fmt, iter,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::AcqRel},
    },
    time::Duration,
};

/// Each peer makes about thirty series in the exporter.
const MOST_PEERS: usize = 10_000;

/// An observer that writes to the [`metrics`](https://docs.rs/metrics/0.24) facade, which has
/// exporters for Prometheus and others. Clones write to the same series.
///
/// | Series | Type | Labels |
/// | --- | --- | --- |
/// | `tower_webhook_attempts_total`, `tower_webhook_deliveries_total` | counter | `outcome`: the eight [`OutcomeKind`]s |
/// | `tower_webhook_attempt_duration_seconds`, `tower_webhook_delivery_duration_seconds` | histogram, without cancelled ones | |
/// | `tower_webhook_attempts_in_flight`, `tower_webhook_deliveries_in_flight` | gauge | |
/// | `tower_webhook_delivery_attempts` | histogram: attempts of each delivery that made any | |
/// | `tower_webhook_retries_total` | counter | `status_code`: 100 to 599, 0 to 16 for gRPC, `none` |
/// | `tower_webhook_breaker_trips_total` | counter | |
/// | `tower_webhook_breaker_transitions_total` | counter | `state`: `closed`, `half_open`, `open` |
/// | `tower_webhook_breaker_state` | gauge: 1 for the current state, 0 for the others | `peer`, `state`; only with [`peer_label`](FacadeExporterBuilder::peer_label) |
/// | `tower_webhook_dead_letters_total` | counter | `reason`, `end`: `written`, `fell_back` or `not_written` |
/// | `tower_webhook_refusals_total` | counter | `by`: the layer, or the signature scheme; `reason` |
/// | `tower_webhook_troubles_total` | counter: what an operator should know of | `part` of the library |
///
/// Labels are closed sets; a request cannot add values. A state that an operator set is shown by its
/// effect: `closed` or `open`. Counters begin at 0 when the exporter is made, except those of retries,
/// dead letters, refusals and troubles, which are made when their code, reason or part is first seen.
///
/// # Order
///
/// **Install the recorder of the facade first.** A series is bound to the recorder that is installed
/// when the series is made: most of them in [`new`](Self::new) and
/// [`build`](FacadeExporterBuilder::build), those of a peer or a status code when it is first seen.
/// Values of a series that was made before the recorder was installed are lost. Writing to an existing
/// series needs no lookup in the facade and no allocation by this exporter.
///
/// # Examples
///
/// ```
/// use http::{Request, Response};
/// use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_webhook::{BoxError, DeliveryMetricsLayer, metrics::FacadeExporter};
///
/// # tokio_test::block_on(async {
/// // Without buckets, this exporter gives summaries.
/// let seconds = Matcher::Suffix("_duration_seconds".to_owned());
/// let prometheus = PrometheusBuilder::new()
///     .set_buckets_for_metric(seconds, &[0.01, 0.1, 1.0, 10.0])?
///     .install_recorder()?;
///
/// let layer = DeliveryMetricsLayer::deliveries().observe(FacadeExporter::new());
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
pub struct FacadeExporter {
    shared: Arc<Shared>,
}

struct Shared {
    names: Names,
    retries: Box<[OnceLock<Counter>]>,
    trips: Counter,
    transitions: [Counter; STATES.len()],
    /// Without a label for peers: all calls. With it: one entry for each peer, and one that further peers
    /// share.
    peers: Peers<PeerSeries>,
    labelled: bool,
}

/// The series of one peer, or of all peers if there is no label for them.
struct PeerSeries {
    attempts: LevelSeries,
    deliveries: LevelSeries,
    attempts_each: Histogram,
    /// Made at the first event of the breaker.
    breaker: OnceLock<[Gauge; STATES.len()]>,
    /// The newest change of the breaker that was told.
    changed: AtomicU64,
}

struct LevelSeries {
    outcomes: [Counter; OutcomeKind::ALL.len()],
    seconds: Histogram,
    in_flight: Gauge,
}

/// Settings of a [`FacadeExporter`].
#[derive(Clone, Debug)]
#[must_use]
pub struct FacadeExporterBuilder {
    prefix: String,
    retries: Option<String>,
    trips: Option<String>,
    max_peers: Option<usize>,
}

impl Default for FacadeExporter {
    fn default() -> Self {
        Self::new()
    }
}

impl FacadeExporter {
    /// Makes an exporter with the default settings. Install the facade's recorder first.
    pub fn new() -> Self {
        Self::with(Self::builder())
    }

    /// Returns a builder with the default settings.
    pub fn builder() -> FacadeExporterBuilder {
        FacadeExporterBuilder {
            prefix: "tower_webhook_".to_owned(),
            retries: None,
            trips: None,
            max_peers: None,
        }
    }

    fn with(settings: FacadeExporterBuilder) -> Self {
        let names = Names::new(&settings.prefix, settings.retries, settings.trips);
        names.describe();
        let labelled = settings.max_peers.is_some();
        let other = |name| PeerSeries::new(labelled.then_some(name).as_ref(), &names);
        let peers = Peers::new(settings.max_peers.unwrap_or(0), other);
        Self {
            shared: Arc::new(Shared {
                retries: iter::repeat_with(OnceLock::new).take(CODES).collect(),
                trips: ::metrics::counter!(names.trips.clone()),
                transitions: STATES.map(|state| {
                    ::metrics::counter!(names.transitions.clone(), "state" => state.as_str())
                }),
                peers,
                labelled,
                names,
            }),
        }
    }
}

impl FacadeExporterBuilder {
    /// Sets the prefix of the names of the series: letters, digits, `_` and `:`, as Prometheus requires.
    /// Default: `tower_webhook_`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets the whole name of the counter of retries. Default: the prefix and `retries_total`.
    pub fn retries_name(mut self, name: impl Into<String>) -> Self {
        self.retries = Some(name.into());
        self
    }

    /// Sets the whole name of the counter of breaker trips (a breaker opened). Default: the prefix and
    /// `breaker_trips_total`.
    pub fn trips_name(mut self, name: impl Into<String>) -> Self {
        self.trips = Some(name.into());
        self
    }

    /// Adds the label `peer` to the series of attempts and deliveries, and adds the breaker states, for up
    /// to this many peers. Default: no label. Maximum: 10,000. Further peers share the label `other`,
    /// which has no breaker state. Each peer makes about thirty series in the exporter, which are never
    /// removed.
    pub const fn peer_label(mut self, max_peers: usize) -> Self {
        self.max_peers = Some(max_peers);
        self
    }

    /// Makes the exporter and all series that are known in advance. Install the facade's recorder first.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for an invalid `prefix`, `retries_name` or `trips_name`, and for a `peer_label`
    /// of zero or above 10,000.
    pub fn build(self) -> Result<FacadeExporter, InvalidConfig> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':';
        let begins = |byte: &u8| !byte.is_ascii_digit();
        for (setting, name) in [
            ("prefix", Some(&self.prefix)),
            ("retries_name", self.retries.as_ref()),
            ("trips_name", self.trips.as_ref()),
        ] {
            let Some(name) = name.map(String::as_bytes) else {
                continue;
            };
            if !(name.first().is_some_and(begins) && name.iter().copied().all(fits)) {
                return Err(InvalidConfig::new(
                    setting,
                    "must be letters, digits, `_` and `:`, and not begin with a digit",
                ));
            }
        }
        if self
            .max_peers
            .is_some_and(|most| most == 0 || most > MOST_PEERS)
        {
            return Err(InvalidConfig::new("peer_label", "must be from 1 to 10000"));
        }
        Ok(FacadeExporter::with(self))
    }
}

impl Observer for FacadeExporter {
    fn on(&self, event: &Event<'_>) {
        let shared = &*self.shared;
        match *event {
            Event::AttemptBegan { peer, retry, after } => {
                shared.of(peer).attempts.in_flight.increment(1.0);
                if retry {
                    shared.retried(after);
                }
            }
            Event::AttemptEnded {
                peer,
                outcome,
                elapsed,
            } => {
                let attempts = &shared.of(peer).attempts;
                attempts.in_flight.decrement(1.0);
                attempts.ended(outcome, elapsed);
            }
            Event::DeliveryBegan { peer } => shared.of(peer).deliveries.in_flight.increment(1.0),
            Event::DeliveryEnded {
                peer,
                outcome,
                elapsed,
                attempts,
                queued,
            } => {
                let peer = shared.of(peer);
                if !queued {
                    peer.deliveries.in_flight.decrement(1.0);
                }
                peer.deliveries.ended(outcome, elapsed);
                if attempts > 0 {
                    peer.attempts_each.record(f64::from(attempts));
                }
            }
            Event::JobEnded {
                end: JobEnd::Retrying { outcome, .. },
                ..
                // An attempt that was cancelled because the worker stops has not failed.
            } if outcome.kind() != OutcomeKind::Cancelled => shared.retried(outcome.code()),
            Event::BreakerChanged {
                peer,
                to,
                generation,
                ..
            } => shared.breaker_changed(peer, to, generation),
            // These are looked up each time: they are rare, or cost their sender more than this.
            Event::Refused { by, reason, .. } => {
                let name = shared.names.refusals.clone();
                ::metrics::counter!(name, "by" => by, "reason" => reason).increment(1);
            }
            Event::MissingLayer { part, .. } | Event::Trouble { part, .. } => {
                let name = shared.names.troubles.clone();
                ::metrics::counter!(name, "part" => part).increment(1);
            }
            _ => {
                if let Some((_, reason, end)) = dead_lettered(event) {
                    let name = shared.names.dead_letters.clone();
                    ::metrics::counter!(name, "reason" => reason, "end" => end).increment(1);
                }
            }
        }
    }
}

impl Shared {
    fn of(&self, peer: &str) -> &PeerSeries {
        if self.labelled {
            let make = |name| PeerSeries::new(Some(&name), &self.names);
            self.peers.get(peer, make)
        } else {
            self.peers.other()
        }
    }

    fn retried(&self, code: Option<u16>) {
        let at = codes::index(code);
        if let Some(count) = self.retries.get(at) {
            let count = made(count, || {
                let code = codes::code(at);
                let label = code.map_or_else(|| "none".to_owned(), |code| code.to_string());
                ::metrics::counter!(self.names.retries.clone(), "status_code" => label)
            });
            count.increment(1);
        }
    }

    fn breaker_changed(&self, peer: &str, now: BreakerState, generation: u64) {
        let now = shown_state(now);
        if now == BreakerState::Open {
            self.trips.increment(1);
        }
        for (count, state) in self.transitions.iter().zip(STATES) {
            if state == now {
                count.increment(1);
            }
        }
        let series = self.of(peer);
        // Breakers that share a label have no common state.
        if self.labelled && !std::ptr::eq(series, self.peers.other()) {
            series.set_breaker(peer, change_word(now, generation), &self.names);
        }
    }
}

impl PeerSeries {
    fn new(label: Option<&Arc<str>>, names: &Names) -> Self {
        let labels: Vec<_> = label
            .map(|peer| Label::new("peer", Arc::clone(peer)))
            .into_iter()
            .collect();
        Self {
            attempts: LevelSeries::new(&names.attempts, &labels),
            deliveries: LevelSeries::new(&names.deliveries, &labels),
            attempts_each: ::metrics::histogram!(names.attempts_each.clone(), labels),
            breaker: OnceLock::new(),
            changed: AtomicU64::new(0),
        }
    }

    /// Shows the newest change. Two at once cannot leave two states set: whoever has written an older one sees
    /// the newer one, and writes that too.
    fn set_breaker(&self, peer: &str, mut change: u64, names: &Names) {
        if self.changed.fetch_max(change, AcqRel) >= change {
            return;
        }
        let gauges = made(&self.breaker, || {
            STATES.map(|state| {
                let name = names.breaker_state.clone();
                let peer = peer.to_owned();
                ::metrics::gauge!(name, "peer" => peer, "state" => state.as_str())
            })
        });
        loop {
            let now = state_of(change);
            for (gauge, state) in gauges.iter().zip(STATES) {
                gauge.set(if now == Some(state) { 1.0 } else { 0.0 });
            }
            // Written, though nothing changes: a newer change that this does not see is then told, and
            // written, after what is written here.
            let newest = self.changed.fetch_max(change, AcqRel);
            if newest == change {
                return;
            }
            change = newest;
        }
    }
}

/// The value of `place`, made if there is none, with no lock held: a recorder is foreign code, which may report
/// to this exporter. Two threads may make it, of which one is kept; both are handles on the same series.
fn made<T>(place: &OnceLock<T>, make: impl FnOnce() -> T) -> &T {
    if let Some(made) = place.get() {
        return made;
    }
    let new = make();
    place.get_or_init(|| new)
}

impl LevelSeries {
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

    fn ended(&self, outcome: Outcome, elapsed: Duration) {
        let kind = outcome.kind();
        if let Some(count) = self.outcomes.get(kind as usize) {
            count.increment(1);
        }
        // The time until a caller cancels says nothing about the peer.
        if kind != OutcomeKind::Cancelled {
            self.seconds.record(elapsed.as_secs_f64());
        }
    }
}

impl fmt::Debug for FacadeExporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FacadeExporter").finish_non_exhaustive()
    }
}
