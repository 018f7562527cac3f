use super::{
    BreakerState, Level, LevelSnapshot, Measurement, PeerSnapshot, Recorder, Series, Snapshot,
    keys::Keys,
    stats::{KeyStats, LevelCounts, SharedStats},
};
use crate::InvalidConfig;
use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
};
use tokio::time::Instant;

/// More than that is no list that anybody reads.
const MOST_KEYS: usize = 100_000;

/// The recorder in this process: counts, and says what it has counted. Clones share their counts.
///
/// Nothing waits for a lock to count, and a key that was seen costs no allocation (its first failure
/// one). Each key takes about 4.5 KiB for each level that it has, and twice that once it has
/// failed: 17 MiB at the most with the default bound.
///
/// # Examples
///
/// ```
/// use tower_webhook::metrics::{DeliveryMetrics, DeliveryMetricsLayer};
///
/// let metrics = DeliveryMetrics::builder().max_keys(100).build()?;
/// let deliveries = DeliveryMetricsLayer::deliveries(metrics.clone());
/// let attempts = DeliveryMetricsLayer::attempts(metrics.clone());
/// // ... and once they are in use:
/// let snapshot = metrics.snapshot();
/// assert_eq!(snapshot.deliveries().success_rate(), None); // nothing was delivered yet
/// # let _ = (deliveries, attempts);
/// # Ok::<_, tower_webhook::InvalidConfig>(())
/// ```
#[derive(Clone)]
pub struct DeliveryMetrics {
    counted: Arc<Counted>,
}

struct Counted {
    since: Instant,
    keys: Keys<KeyStats>,
    shared: Arc<SharedStats>,
}

/// Settings of [`DeliveryMetrics`].
#[derive(Clone, Debug)]
#[must_use]
pub struct DeliveryMetricsBuilder {
    max_keys: usize,
}

impl Default for DeliveryMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl DeliveryMetrics {
    /// With the default settings.
    pub fn new() -> Self {
        Self::with(&Self::builder())
    }

    /// With settings of your own.
    pub const fn builder() -> DeliveryMetricsBuilder {
        DeliveryMetricsBuilder { max_keys: 1000 }
    }

    fn with(settings: &DeliveryMetricsBuilder) -> Self {
        let shared = Arc::new(SharedStats::new());
        let other = |name| KeyStats::new(name, Arc::clone(&shared));
        Self {
            counted: Arc::new(Counted {
                since: Instant::now(),
                keys: Keys::new(settings.max_keys, other),
                shared,
            }),
        }
    }

    /// What was counted so far. It takes about a microsecond for each key: for health pages and
    /// exporters, not for each request.
    pub fn snapshot(&self) -> Snapshot {
        let Counted {
            since,
            keys,
            shared,
        } = &*self.counted;
        let mut sums = Sums::new();
        let by_key = keys.sorted();
        let by_key: Vec<_> = by_key.iter().map(|stats| sums.take(stats)).collect();
        let other = keys.other();
        let other = other.is_used().then(|| sums.take(other));
        Snapshot {
            total: sums.total(by_key.iter().chain(&other)),
            keys: by_key,
            other,
            by_code: shared.retries(),
            dead_letters: shared.dead_letters(),
            uptime: Instant::now().saturating_duration_since(*since),
        }
    }
}

impl Recorder for DeliveryMetrics {
    type Series = DeliverySeries;

    fn series(&self, key: &str) -> Self::Series {
        let Counted { keys, shared, .. } = &*self.counted;
        DeliverySeries {
            stats: keys.get(key, |name| KeyStats::new(name, Arc::clone(shared))),
        }
    }
}

/// What [`DeliveryMetrics`] keeps for one key.
#[derive(Clone)]
pub struct DeliverySeries {
    stats: Arc<KeyStats>,
}

impl Series for DeliverySeries {
    fn is_for(&self, key: &str) -> bool {
        self.stats.is_for(key)
    }

    fn started(&self, level: Level) {
        self.stats.started(level);
    }

    fn finished(&self, measurement: &Measurement) {
        self.stats.finished(measurement);
    }

    fn retried(&self, code: Option<u16>) {
        self.stats.retried(code);
    }

    fn breaker_changed(&self, state: BreakerState) {
        self.stats.breaker_changed(state);
    }

    fn dead_lettered(&self, reason: &'static str, end: &'static str) {
        self.stats.dead_lettered(reason, end);
    }
}

impl fmt::Debug for DeliverySeries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeliverySeries")
            .field("key", &self.stats.name)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for DeliveryMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeliveryMetrics").finish_non_exhaustive()
    }
}

impl DeliveryMetricsBuilder {
    /// The most keys that have figures of their own; the rest is counted together, as
    /// [`other`](Snapshot::other). 1,000 by default, 100,000 at the most. A key stays until the
    /// recorder is dropped.
    pub const fn max_keys(mut self, keys: usize) -> Self {
        self.max_keys = keys;
        self
    }

    /// The recorder.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `max_keys` of zero or above 100,000.
    pub fn build(self) -> Result<DeliveryMetrics, InvalidConfig> {
        if self.max_keys == 0 || self.max_keys > MOST_KEYS {
            return Err(InvalidConfig::new("max_keys", "must be from 1 to 100000"));
        }
        Ok(DeliveryMetrics::with(&self))
    }
}

/// Room for the counts of one key and of all, used for each key anew.
struct Sums {
    one: LevelCounts,
    attempts: LevelCounts,
    deliveries: LevelCounts,
}

impl Sums {
    fn new() -> Self {
        Self {
            one: LevelCounts::new(),
            attempts: LevelCounts::new(),
            deliveries: LevelCounts::new(),
        }
    }

    fn take(&mut self, stats: &KeyStats) -> PeerSnapshot {
        PeerSnapshot {
            key: Arc::clone(&stats.name),
            attempts: self.take_level(stats, Level::Attempt),
            deliveries: self.take_level(stats, Level::Delivery),
            retries: stats.retries.load(Relaxed),
            repeated: stats.repeated.load(Relaxed),
            trips: stats.trips.load(Relaxed),
            dead_letters: stats.dead_letters.load(Relaxed),
            breaker: stats.breaker(),
        }
    }

    fn take_level(&mut self, stats: &KeyStats, level: Level) -> LevelSnapshot {
        self.one.clear();
        stats.add_to(level, &mut self.one);
        let all = match level {
            Level::Attempt => &mut self.attempts,
            Level::Delivery => &mut self.deliveries,
        };
        all.add(&self.one);
        LevelSnapshot::of(&self.one)
    }

    fn total<'a>(&self, keys: impl Iterator<Item = &'a PeerSnapshot>) -> PeerSnapshot {
        let mut total = PeerSnapshot {
            key: Arc::from(""),
            attempts: LevelSnapshot::of(&self.attempts),
            deliveries: LevelSnapshot::of(&self.deliveries),
            retries: 0,
            repeated: 0,
            trips: 0,
            dead_letters: 0,
            breaker: None,
        };
        for key in keys {
            total.retries += key.retries;
            total.repeated += key.repeated;
            total.trips += key.trips;
            total.dead_letters += key.dead_letters;
        }
        total
    }
}
