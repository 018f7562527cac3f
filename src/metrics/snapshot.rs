use super::stats::{KINDS, LevelCounts};
use crate::{observe::BreakerState, outcome::OutcomeKind};
use std::{sync::Arc, time::Duration};

/// The counts of [`DeliveryMetrics`](super::DeliveryMetrics) at one time.
///
/// Calls go on while it is taken. Each figure was true at some moment in that time, none is negative,
/// and none decreases; two figures may differ by a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    pub(super) uptime: Duration,
    pub(super) total: PeerSnapshot,
    pub(super) by_code: Vec<(Option<u16>, u64)>,
    pub(super) dead_letters: Vec<(&'static str, &'static str, u64)>,
    pub(super) peers: Vec<PeerSnapshot>,
    pub(super) other: Option<PeerSnapshot>,
}

/// The metrics of one peer.
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

/// The metrics of attempts, or of deliveries.
#[derive(Clone, Debug, PartialEq)]
pub struct LevelSnapshot {
    in_flight: u64,
    kinds: [u64; KINDS],
    latency: Latency,
}

/// The durations of attempts or of deliveries, without cancelled ones.
///
/// Quantiles are by nearest rank, and read from buckets: their error is at most 3.2 %, or half a
/// microsecond. Above 2^36 microseconds (19 hours) they are the longest duration. Count, mean, minimum
/// and maximum are exact.
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

    /// The number of retries: attempts after the first of their delivery.
    pub const fn retries(&self) -> u64 {
        self.total.retries
    }

    /// The retries by the code that ended the attempt before: gRPC codes (0 to 16), then HTTP statuses
    /// (100 to 599), then `None` for no answer and for any other number. Contains only codes that were
    /// seen.
    pub fn retries_by_code(&self) -> &[(Option<u16>, u64)] {
        &self.by_code
    }

    /// The number of ended deliveries that took more than one attempt.
    pub const fn retried_deliveries(&self) -> u64 {
        self.total.repeated
    }

    /// The number of times that a circuit breaker opened.
    pub const fn breaker_trips(&self) -> u64 {
        self.total.trips
    }

    /// The number of dead-letter entries, including those that no sink took.
    pub const fn dead_letters(&self) -> u64 {
        self.total.dead_letters
    }

    /// The dead-letter entries by reason and result (`written`, `fell_back`, `not_written`), in
    /// alphabetical order. Contains only combinations that were seen.
    pub fn dead_letters_by_reason(&self) -> &[(&'static str, &'static str, u64)] {
        &self.dead_letters
    }

    /// All peers that are counted separately, in alphabetical order.
    pub fn peers(&self) -> &[PeerSnapshot] {
        &self.peers
    }

    /// The metrics of one peer.
    pub fn peer(&self, peer: &str) -> Option<&PeerSnapshot> {
        let at = self.peers.binary_search_by(|known| (*known.peer).cmp(peer));
        self.peers.get(at.ok()?)
    }

    /// The peers beyond the bound, and those whose names are longer than 260 bytes or have control
    /// characters, counted together. `None` if there are none.
    pub const fn other(&self) -> Option<&PeerSnapshot> {
        self.other.as_ref()
    }
}

impl PeerSnapshot {
    /// The name, as the [`PeerKey`](crate::peer::PeerKey) returned it.
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

    /// The number of retries: attempts after the first of their delivery.
    pub const fn retries(&self) -> u64 {
        self.retries
    }

    /// The number of ended deliveries that took more than one attempt.
    pub const fn retried_deliveries(&self) -> u64 {
        self.repeated
    }

    /// The number of times that its circuit breaker opened.
    pub const fn breaker_trips(&self) -> u64 {
        self.trips
    }

    /// The number of its dead-letter entries, including those that no sink took.
    pub const fn dead_letters(&self) -> u64 {
        self.dead_letters
    }

    /// The state of its circuit breaker, if it has changed since the start. A state that an operator set is
    /// shown by its effect: `Closed` or `Open`.
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

    /// The number of ended ones, with any outcome.
    pub fn total(&self) -> u64 {
        self.kinds.iter().sum()
    }

    /// The number of ended ones with this outcome.
    pub fn count(&self, kind: OutcomeKind) -> u64 {
        self.kinds.get(kind as usize).copied().unwrap_or(0)
    }

    /// The number for every outcome, in alphabetical order.
    pub fn counts(&self) -> impl Iterator<Item = (OutcomeKind, u64)> {
        OutcomeKind::ALL.iter().copied().zip(self.kinds)
    }

    /// The number of failures: all outcomes except success and cancelled.
    pub fn failures(&self) -> u64 {
        let left_out = self.count(OutcomeKind::Success) + self.count(OutcomeKind::Cancelled);
        self.total().saturating_sub(left_out)
    }

    /// The number of those that have begun and not ended. The deliveries of a queue's worker are left out:
    /// they wait in the queue between their attempts. Their attempts are counted.
    pub const fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// The share of successes, from 0 to 1, without cancelled ones. A call that this side refused or could
    /// not send counts as a failure, because nothing was delivered. `None` if nothing has ended yet.
    #[allow(
        clippy::cast_precision_loss,
        reason = "a fraction of 2^53 calls is exact enough"
    )]
    pub fn success_rate(&self) -> Option<f64> {
        let successes = self.count(OutcomeKind::Success);
        let judged = successes + self.failures();
        (judged > 0).then(|| successes as f64 / judged as f64)
    }

    /// The durations, without cancelled ones.
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
            // A call may be in the sum and not yet in the count.
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

    /// The number of measured durations.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The mean. `None` if nothing was measured, as for all methods below.
    pub const fn mean(&self) -> Option<Duration> {
        self.mean
    }

    /// The shortest duration.
    pub fn min(&self) -> Option<Duration> {
        self.range.map(|(least, _)| least)
    }

    /// The longest duration.
    pub fn max(&self) -> Option<Duration> {
        self.range.map(|(_, most)| most)
    }

    /// The median: half of the durations are not longer.
    pub const fn p50(&self) -> Option<Duration> {
        self.quantiles[0]
    }

    /// The 90th percentile: nine of ten durations are not longer.
    pub const fn p90(&self) -> Option<Duration> {
        self.quantiles[1]
    }

    /// The 99th percentile: 99 of 100 durations are not longer.
    pub const fn p99(&self) -> Option<Duration> {
        self.quantiles[2]
    }

    /// The 99.9th percentile: 999 of 1000 durations are not longer.
    pub const fn p999(&self) -> Option<Duration> {
        self.quantiles[3]
    }
}
