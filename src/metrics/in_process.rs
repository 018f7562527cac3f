use super::{
    Level, LevelSnapshot, PeerSnapshot, Snapshot, dead_lettered,
    peers::Peers,
    stats::{LevelCounts, PeerStats, SharedStats},
};
use crate::{
    InvalidConfig,
    observe::{Event, JobEnd, Observer},
    outcome::OutcomeKind,
};
use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
};
use tokio::time::Instant;

/// A longer list is of no use to a reader.
const MOST_PEERS: usize = 100_000;

/// An observer that counts in this process, and makes [`Snapshot`]s. Clones share their counts.
///
/// Counting takes no lock and, for a known peer, allocates nothing (except once at its first failure).
/// Each peer takes about 4.5 KiB for each level it is measured at, and twice that once it has failed:
/// at most 17 MiB with the default bound.
///
/// # Examples
///
/// ```
/// use tower_webhook::metrics::{DeliveryMetrics, DeliveryMetricsLayer};
///
/// let metrics = DeliveryMetrics::with_max_peers(100)?;
/// let deliveries = DeliveryMetricsLayer::deliveries().observe(metrics.clone());
/// let attempts = DeliveryMetricsLayer::attempts().observe(metrics.clone());
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
    peers: Peers<PeerStats>,
    shared: SharedStats,
}

impl Default for DeliveryMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl DeliveryMetrics {
    /// Makes metrics that count 1,000 peers separately.
    pub fn new() -> Self {
        Self::counting(1000)
    }

    /// Makes metrics that count at most `peers` peers separately, up to 100,000. Further peers are counted
    /// together, as [`other`](Snapshot::other). A peer is kept until the metrics are dropped.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `max_peers` of zero or above 100,000.
    pub fn with_max_peers(peers: usize) -> Result<Self, InvalidConfig> {
        if peers == 0 || peers > MOST_PEERS {
            return Err(InvalidConfig::new("max_peers", "must be from 1 to 100000"));
        }
        Ok(Self::counting(peers))
    }

    fn counting(peers: usize) -> Self {
        Self {
            counted: Arc::new(Counted {
                since: Instant::now(),
                peers: Peers::new(peers, PeerStats::new),
                shared: SharedStats::new(),
            }),
        }
    }

    /// Returns the current counts. Takes about a microsecond for each peer: for health pages and
    /// exporters, not for each request.
    pub fn snapshot(&self) -> Snapshot {
        let Counted {
            since,
            peers,
            shared,
        } = &*self.counted;
        let mut sums = Sums::new();
        let by_peer = peers.sorted();
        let by_peer: Vec<_> = by_peer.iter().map(|stats| sums.take(stats)).collect();
        let other = peers.other();
        let other = other.is_used().then(|| sums.take(other));
        Snapshot {
            total: sums.total(by_peer.iter().chain(&other)),
            peers: by_peer,
            other,
            by_code: shared.retries(),
            dead_letters: shared.dead_letters(),
            uptime: Instant::now().saturating_duration_since(*since),
        }
    }
}

impl DeliveryMetrics {
    fn of(&self, peer: &str) -> &PeerStats {
        self.counted.peers.get(peer, PeerStats::new)
    }

    fn retried(&self, peer: &PeerStats, code: Option<u16>) {
        peer.retries.fetch_add(1, Relaxed);
        self.counted.shared.retried(code);
    }
}

impl Observer for DeliveryMetrics {
    fn on(&self, event: &Event<'_>) {
        match *event {
            Event::AttemptBegan { peer, retry, after } => {
                let peer = self.of(peer);
                peer.began(Level::Attempt);
                if retry {
                    self.retried(peer, after);
                }
            }
            Event::AttemptEnded {
                peer,
                outcome,
                elapsed,
            } => self.of(peer).ended(Level::Attempt, outcome, elapsed),
            Event::DeliveryBegan { peer } => self.of(peer).began(Level::Delivery),
            Event::DeliveryEnded {
                peer,
                outcome,
                elapsed,
                attempts,
                queued,
            } => {
                let peer = self.of(peer);
                if queued {
                    // What is in flight is computed from what has begun and ended.
                    peer.began(Level::Delivery);
                }
                if attempts > 1 {
                    peer.repeated.fetch_add(1, Relaxed);
                }
                peer.ended(Level::Delivery, outcome, elapsed);
            }
            Event::JobEnded {
                peer,
                end: JobEnd::Retrying { outcome, .. },
                ..
                // An attempt that was cancelled because the worker stops has not failed.
            } if outcome.kind() != OutcomeKind::Cancelled => self.retried(self.of(peer), outcome.code()),
            Event::BreakerChanged {
                peer,
                to,
                generation,
                ..
            } => self.of(peer).breaker_changed(to, generation),
            _ => {
                if let Some((peer, reason, end)) = dead_lettered(event) {
                    self.of(peer).dead_letters.fetch_add(1, Relaxed);
                    self.counted.shared.dead_lettered(reason, end);
                }
            }
        }
    }
}

impl fmt::Debug for DeliveryMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeliveryMetrics").finish_non_exhaustive()
    }
}

/// Buffers for the counts of one peer and of all, reused for each peer.
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

    fn take(&mut self, stats: &PeerStats) -> PeerSnapshot {
        PeerSnapshot {
            peer: Arc::clone(&stats.name),
            attempts: self.take_level(stats, Level::Attempt),
            deliveries: self.take_level(stats, Level::Delivery),
            retries: stats.retries.load(Relaxed),
            repeated: stats.repeated.load(Relaxed),
            trips: stats.trips.load(Relaxed),
            dead_letters: stats.dead_letters.load(Relaxed),
            breaker: stats.breaker(),
        }
    }

    fn take_level(&mut self, stats: &PeerStats, level: Level) -> LevelSnapshot {
        self.one.clear();
        stats.add_to(level, &mut self.one);
        let all = match level {
            Level::Attempt => &mut self.attempts,
            Level::Delivery => &mut self.deliveries,
        };
        all.add(&self.one);
        LevelSnapshot::of(&self.one)
    }

    fn total<'a>(&self, peers: impl Iterator<Item = &'a PeerSnapshot>) -> PeerSnapshot {
        let mut total = PeerSnapshot {
            peer: Arc::from(""),
            attempts: LevelSnapshot::of(&self.attempts),
            deliveries: LevelSnapshot::of(&self.deliveries),
            retries: 0,
            repeated: 0,
            trips: 0,
            dead_letters: 0,
            breaker: None,
        };
        for peer in peers {
            total.retries += peer.retries;
            total.repeated += peer.repeated;
            total.trips += peer.trips;
            total.dead_letters += peer.dead_letters;
        }
        total
    }
}
