use super::stats::{KINDS, LevelCounts};
use crate::{observe::BreakerState, outcome::OutcomeKind};
use std::{sync::Arc, time::Duration};

/// What [`DeliveryMetrics`](super::DeliveryMetrics) had counted at one time.
///
/// It is taken while calls go on. Each figure was true at some time meanwhile, none is negative and
/// none goes back; two figures may be a call apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    pub(super) uptime: Duration,
    pub(super) total: PeerSnapshot,
    pub(super) by_code: Vec<(Option<u16>, u64)>,
    pub(super) dead_letters: Vec<(&'static str, &'static str, u64)>,
    pub(super) peers: Vec<PeerSnapshot>,
    pub(super) other: Option<PeerSnapshot>,
}

/// What was counted for one peer.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerSnapshot {
    pub(super) peer: Arc<str>,
    pub(super) attempts: LevelSnapshot,
    pub(super) deliveries: LevelSnapshot,
    pub(super) retries: u64,
    pub(super) repeated: u64,
    pub(super) trips: u64,
    pub(super) dead_letters: u64,
    pub(super) breaker: Option<BreakerState>,
}

/// The figures of attempts, or of deliveries.
#[derive(Clone, Debug, PartialEq)]
pub struct LevelSnapshot {
    in_flight: u64,
    kinds: [u64; KINDS],
    latency: Latency,
}

/// How long attempts or deliveries took. Cancelled ones are left out.
///
/// Quantiles are by nearest rank, and read from buckets: they are wrong by 3.2 % or half a
/// microsecond at the most. Beyond 2^36 microseconds (19 hours) they are the longest time. Count,
/// mean, minimum and maximum are exact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latency {
    count: u64,
    mean: Option<Duration>,
    range: Option<(Duration, Duration)>,
    quantiles: [Option<Duration>; 4],
}

impl Snapshot {
    /// The time since the metrics were made.
    pub const fn uptime(&self) -> Duration {
        self.uptime
    }

    /// The attempts of all peers.
    pub const fn attempts(&self) -> &LevelSnapshot {
        &self.total.attempts
    }

    /// The deliveries of all peers.
    pub const fn deliveries(&self) -> &LevelSnapshot {
        &self.total.deliveries
    }

    /// Attempts beyond the first of their delivery.
    pub const fn retries(&self) -> u64 {
        self.total.retries
    }

    /// The same by the code that the attempt before ended with: gRPC codes (0 to 16), then HTTP
    /// statuses (100 to 599), then `None` for no answer and for any other number. Only those that
    /// were seen.
    pub fn retries_by_code(&self) -> &[(Option<u16>, u64)] {
        &self.by_code
    }

    /// Deliveries that have ended and took more than one attempt.
    pub const fn retried_deliveries(&self) -> u64 {
        self.total.repeated
    }

    /// How often a circuit breaker opened.
    pub const fn breaker_trips(&self) -> u64 {
        self.total.trips
    }

    /// How many dead-letter entries were to be written, those included that no sink took.
    pub const fn dead_letters(&self) -> u64 {
        self.total.dead_letters
    }

    /// The same by reason and end (`written`, `fell_back`, `not_written`), in alphabetical order.
    /// Only those that were seen.
    pub fn dead_letters_by_reason(&self) -> &[(&'static str, &'static str, u64)] {
        &self.dead_letters
    }

    /// Each peer that has figures of its own, in alphabetical order.
    pub fn peers(&self) -> &[PeerSnapshot] {
        &self.peers
    }

    /// The figures of one peer.
    pub fn peer(&self, peer: &str) -> Option<&PeerSnapshot> {
        let at = self.peers.binary_search_by(|known| (*known.peer).cmp(peer));
        self.peers.get(at.ok()?)
    }

    /// The peers beyond the bound, and those whose names are longer than 260 bytes or have control
    /// characters, together. `None` where there were none.
    pub const fn other(&self) -> Option<&PeerSnapshot> {
        self.other.as_ref()
    }
}

impl PeerSnapshot {
    /// Its name, as the [`PeerKey`](crate::peer::PeerKey) gave it.
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// Its attempts.
    pub const fn attempts(&self) -> &LevelSnapshot {
        &self.attempts
    }

    /// Its deliveries.
    pub const fn deliveries(&self) -> &LevelSnapshot {
        &self.deliveries
    }

    /// Attempts beyond the first of their delivery.
    pub const fn retries(&self) -> u64 {
        self.retries
    }

    /// Deliveries that have ended and took more than one attempt.
    pub const fn retried_deliveries(&self) -> u64 {
        self.repeated
    }

    /// How often its circuit breaker opened.
    pub const fn breaker_trips(&self) -> u64 {
        self.trips
    }

    /// How many of its deliveries were dead-lettered, or were to be.
    pub const fn dead_letters(&self) -> u64 {
        self.dead_letters
    }

    /// The state of its circuit breaker, where that has changed since the start. States that an
    /// operator set are shown as what they do: `Closed` or `Open`.
    pub const fn breaker(&self) -> Option<BreakerState> {
        self.breaker
    }
}

impl LevelSnapshot {
    pub(super) fn of(counts: &LevelCounts) -> Self {
        let ended: u64 = counts.kinds.iter().sum();
        Self {
            in_flight: counts.started.saturating_sub(ended),
            kinds: counts.kinds,
            latency: Latency::of(counts),
        }
    }

    /// How many have ended, whatever the outcome.
    pub fn total(&self) -> u64 {
        self.kinds.iter().sum()
    }

    /// How many ended with this outcome.
    pub fn count(&self, kind: OutcomeKind) -> u64 {
        self.kinds.get(kind as usize).copied().unwrap_or(0)
    }

    /// The same for every kind, in alphabetical order.
    pub fn counts(&self) -> impl Iterator<Item = (OutcomeKind, u64)> {
        OutcomeKind::ALL.iter().copied().zip(self.kinds)
    }

    /// How many failed: all but the successful and the cancelled ones.
    pub fn failures(&self) -> u64 {
        let left_out = self.count(OutcomeKind::Success) + self.count(OutcomeKind::Cancelled);
        self.total().saturating_sub(left_out)
    }

    /// How many have begun and not ended.
    pub const fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// The share of successes, from 0 to 1. Cancelled ones are left out; what this side refused or
    /// could not send counts as a failure, because nothing was delivered. `None` where nothing has
    /// ended yet.
    #[allow(
        clippy::cast_precision_loss,
        reason = "a fraction of 2^53 calls is exact enough"
    )]
    pub fn success_rate(&self) -> Option<f64> {
        let successes = self.count(OutcomeKind::Success);
        let judged = successes + self.failures();
        (judged > 0).then(|| successes as f64 / judged as f64)
    }

    /// How long they took, cancelled ones left out.
    pub const fn latency(&self) -> &Latency {
        &self.latency
    }
}

impl Latency {
    fn of(counts: &LevelCounts) -> Self {
        let count = counts.times.total();
        let least = Duration::from_nanos(counts.least.min(counts.most));
        let most = Duration::from_nanos(counts.most);
        let mean = counts.sum.checked_div(u128::from(count)).map(|nanos| {
            let mean = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
            // A call may be in the sum and not in the count yet.
            mean.clamp(least, most)
        });
        let quantile = |per_mille| {
            let read = counts.times.quantile(per_mille).unwrap_or(most);
            (count > 0).then(|| read.clamp(least, most))
        };
        Self {
            count,
            mean,
            range: (count > 0).then_some((least, most)),
            quantiles: [500, 900, 990, 999].map(quantile),
        }
    }

    /// How many were measured.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The mean. `None`, as all below, where nothing was measured.
    pub const fn mean(&self) -> Option<Duration> {
        self.mean
    }

    /// The shortest.
    pub fn min(&self) -> Option<Duration> {
        self.range.map(|(least, _)| least)
    }

    /// The longest.
    pub fn max(&self) -> Option<Duration> {
        self.range.map(|(_, most)| most)
    }

    /// The median: half of them took no longer.
    pub const fn p50(&self) -> Option<Duration> {
        self.quantiles[0]
    }

    /// Nine of ten took no longer.
    pub const fn p90(&self) -> Option<Duration> {
        self.quantiles[1]
    }

    /// 99 of 100 took no longer.
    pub const fn p99(&self) -> Option<Duration> {
        self.quantiles[2]
    }

    /// 999 of 1000 took no longer.
    pub const fn p999(&self) -> Option<Duration> {
        self.quantiles[3]
    }
}
