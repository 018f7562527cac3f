use super::{
    check::{count, invalid, part, span},
    rules::{Rules, WindowRule, nanos},
};
use crate::InvalidConfig;
use std::time::Duration;

/// When a circuit breaker opens, for how long, and how it closes again.
///
/// The [default](Self::default) is made for deliveries to many endpoints:
///
/// | Setting | Default | After |
/// | --- | --- | --- |
/// | failures in a row | 5 | Finagle, Envoy's outlier detection, pybreaker |
/// | failure rate | 50 % of the last 100 calls, from 20 calls on | resilience4j (50 % of 100), opossum (50 %) |
/// | slow calls | not judged | |
/// | open | 5 s, doubled for each failed round of probes up to 60 s, up to 20 % shorter | Polly (5 s), Finagle (5 s to 60 s, jittered) |
/// | half-open | 1 probe at once, 1 success closes | Polly, gobreaker, Linkerd |
/// | probe lease | 30 s | resilience4j's `maxWaitDurationInHalfOpenState`, on by default here |
/// | keys | 10,000 | |
///
/// The minimum of 100 calls that Polly and resilience4j have is more than most webhook endpoints
/// see in an hour.
#[derive(Clone, Debug, PartialEq)]
pub struct BreakerConfig {
    pub(super) rules: Rules,
    pub(super) max_keys: usize,
}

/// Settings of a [`BreakerConfig`].
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct BreakerConfigBuilder {
    consecutive_failures: Option<u32>,
    failure_rate: Option<f64>,
    slow_call: Option<Duration>,
    slow_call_rate: Option<f64>,
    window: Span,
    window_buckets: u32,
    min_calls: u32,
    open_for: Duration,
    max_open_for: Duration,
    open_growth: f64,
    open_jitter: f64,
    probes: u32,
    probe_successes: u32,
    probe_lease: Duration,
    max_keys: usize,
    forget_after: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Span {
    Calls(u32),
    Time(Duration),
}

const MAX_CALLS: u32 = 1 << 16;
const MAX_BUCKETS: u32 = 3_600;
const MAX_PROBES: u32 = 1_000;
impl BreakerConfig {
    /// The defaults above, to be changed.
    pub const fn builder() -> BreakerConfigBuilder {
        BreakerConfigBuilder {
            consecutive_failures: Some(5),
            failure_rate: Some(0.5),
            slow_call: None,
            slow_call_rate: None,
            window: Span::Calls(100),
            window_buckets: 10,
            min_calls: 20,
            open_for: Duration::from_secs(5),
            max_open_for: Duration::from_secs(60),
            open_growth: 2.0,
            open_jitter: 0.2,
            probes: 1,
            probe_successes: 1,
            probe_lease: Duration::from_secs(30),
            max_keys: 10_000,
            forget_after: Duration::from_secs(3_600),
        }
    }

    /// How many keys there is room for.
    pub const fn max_keys(&self) -> usize {
        self.max_keys
    }
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self::builder().known_good()
    }
}

impl BreakerConfigBuilder {
    /// Opens after this many failures in a row. Default: 5.
    ///
    /// A call that the peer limits (429, gRPC 8) is none of them, nor does it end the row: the peer
    /// is there and has had enough of us, as Linkerd has it. It counts in the rate. A 503 is one of
    /// them: see [`Outcome::is_rate_limit`](crate::outcome::Outcome::is_rate_limit).
    pub const fn consecutive_failures(mut self, failures: u32) -> Self {
        self.consecutive_failures = Some(failures);
        self
    }

    /// However many failures in a row, they do not open it by themselves.
    pub const fn without_consecutive_failures(mut self) -> Self {
        self.consecutive_failures = None;
        self
    }

    /// Opens when at least this part of the calls in the window failed: more than 0, at most 1.
    /// Default: 0.5.
    ///
    /// It is evaluated after every call, successes too, once there are
    /// [`min_calls`](Self::min_calls); the rate itself is enough (`>=`), as in resilience4j.
    pub const fn failure_rate(mut self, rate: f64) -> Self {
        self.failure_rate = Some(rate);
        self
    }

    /// However many calls of the window fail, they do not open it.
    pub const fn without_failure_rate(mut self) -> Self {
        self.failure_rate = None;
        self
    }

    /// A call that takes longer than this is slow, whatever comes of it, and the rate of slow calls
    /// is judged too. Default: calls are not timed.
    ///
    /// A slow probe counts as failed. Timing costs two readings of the clock at every call. What is
    /// measured ends with the head of an answer, not with its stream.
    pub const fn slow_call(mut self, longer_than: Duration) -> Self {
        self.slow_call = Some(longer_than);
        self
    }

    /// Opens when at least this part of the calls in the window was slow: more than 0, at most 1.
    /// Default: 1, all of them, as in resilience4j. Needs [`slow_call`](Self::slow_call).
    pub const fn slow_call_rate(mut self, rate: f64) -> Self {
        self.slow_call_rate = Some(rate);
        self
    }

    /// Judges rates over this many of the last calls, however old, exactly. Default: 100; at most
    /// 65,536. Costs a quarter of a byte each, for every key.
    pub const fn window_calls(mut self, calls: u32) -> Self {
        self.window = Span::Calls(calls);
        self
    }

    /// Judges rates over the calls that ended within this time, instead of over a number of calls.
    /// At most a year.
    ///
    /// Time is kept in [buckets](Self::window_buckets), with which the calls leave: a call as old
    /// as the window is gone, as in Polly, and one that is younger by less than one bucket may be.
    /// Costs a reading of the clock at every call.
    pub const fn window_time(mut self, time: Duration) -> Self {
        self.window = Span::Time(time);
        self
    }

    /// Into how many buckets a [`window_time`](Self::window_time) is divided. Default: 10; at most
    /// 3,600. Costs 12 bytes each, for every key.
    pub const fn window_buckets(mut self, buckets: u32) -> Self {
        self.window_buckets = buckets;
        self
    }

    /// No rate is judged while the window holds fewer calls. Default: 20. Not more than
    /// [`window_calls`](Self::window_calls).
    ///
    /// It means what it says: with 5, five calls can open it, however long the window is.
    pub const fn min_calls(mut self, calls: u32) -> Self {
        self.min_calls = calls;
        self
    }

    /// How long it stays open at first. Default: 5 seconds.
    pub const fn open_for(mut self, time: Duration) -> Self {
        self.open_for = time;
        self
    }

    /// How long it stays open at most, however many probes failed and whatever the peer asks for.
    /// Default: 60 seconds. Not less than [`open_for`](Self::open_for); at most a year.
    ///
    /// The `Retry-After` of the answer that opens it lengthens the open time up to this.
    pub const fn max_open_for(mut self, time: Duration) -> Self {
        self.max_open_for = time;
        self
    }

    /// By what the open time is multiplied for each round of probes that failed. Default: 2. With
    /// 1 it does not grow. It starts over when the breaker has closed.
    pub const fn open_growth(mut self, factor: f64) -> Self {
        self.open_growth = factor;
        self
    }

    /// Up to which part of itself the open time is shortened at random, from 0 to 1. Default: 0.2.
    ///
    /// Without, the many instances that saw one outage begin would all probe in the same moment.
    /// Where the peer named the time, it is lengthened instead.
    pub const fn open_jitter(mut self, part: f64) -> Self {
        self.open_jitter = part;
        self
    }

    /// How many probes a half-open breaker lets through at once. Default: 1; at most 1,000.
    pub const fn probes(mut self, probes: u32) -> Self {
        self.probes = probes;
        self
    }

    /// How many probes of a round must succeed to close it. Default: 1. One that fails opens it
    /// again.
    pub const fn probe_successes(mut self, successes: u32) -> Self {
        self.probe_successes = successes;
        self
    }

    /// How long a probe may take. Default: 30 seconds; at most a year.
    ///
    /// After that another takes its place, and its result comes too late: a peer that never answers
    /// cannot hold the breaker half-open for ever. Longer than the timeout of the client below, and
    /// than the streams that are judged at their end.
    pub const fn probe_lease(mut self, lease: Duration) -> Self {
        self.probe_lease = lease;
        self
    }

    /// For how many keys there is a breaker at most. Default: 10,000.
    ///
    /// See [`Breakers`](super::Breakers) for what happens beyond.
    pub const fn max_keys(mut self, keys: usize) -> Self {
        self.max_keys = keys;
        self
    }

    /// When the map is full, a key against which nothing was said for so long may leave it, as one
    /// may against which nothing was said at all. Default: one hour; at most a year.
    pub const fn forget_after(mut self, time: Duration) -> Self {
        self.forget_after = time;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] names the first setting that makes no sense.
    pub fn build(self) -> Result<BreakerConfig, InvalidConfig> {
        if self.consecutive_failures == Some(0) {
            return invalid("consecutive_failures", "must be at least 1");
        }
        part("failure_rate", self.failure_rate)?;
        part("slow_call_rate", self.slow_call_rate)?;
        match self.slow_call {
            Some(limit) => span("slow_call", limit)?,
            None if self.slow_call_rate.is_some() => {
                return invalid("slow_call", "must be set where `slow_call_rate` is");
            }
            None => {}
        }
        if self.consecutive_failures.is_none()
            && self.failure_rate.is_none()
            && self.slow_call.is_none()
        {
            return invalid(
                "failure_rate",
                "must be set, or another condition: nothing could open the breaker",
            );
        }
        count("window_buckets", self.window_buckets, MAX_BUCKETS)?;
        count("min_calls", self.min_calls, u32::MAX)?;
        if let Span::Calls(calls) = self.window {
            count("window_calls", calls, MAX_CALLS)?;
            let judged = self.failure_rate.is_some() || self.slow_call.is_some();
            if judged && self.min_calls > calls {
                return invalid("min_calls", "must not be more than `window_calls`");
            }
        }
        span("open_for", self.open_for)?;
        span("max_open_for", self.max_open_for)?;
        if self.max_open_for < self.open_for {
            return invalid("max_open_for", "must not be less than `open_for`");
        }
        if !(self.open_growth.is_finite() && self.open_growth >= 1.0) {
            return invalid("open_growth", "must be a number from 1");
        }
        if !(0.0..=1.0).contains(&self.open_jitter) {
            return invalid("open_jitter", "must be a number from 0 to 1");
        }
        count("probes", self.probes, MAX_PROBES)?;
        count("probe_successes", self.probe_successes, u32::MAX)?;
        span("probe_lease", self.probe_lease)?;
        if self.max_keys == 0 {
            return invalid("max_keys", "must be at least 1");
        }
        span("forget_after", self.forget_after)?;
        if let Span::Time(time) = self.window {
            span("window_time", time)?;
            if nanos(time) < u64::from(self.window_buckets) {
                return invalid("window_time", "must be longer than its buckets are many");
            }
        }
        Ok(self.known_good())
    }

    /// For settings that were checked, here or by a test.
    fn known_good(self) -> BreakerConfig {
        let window = match self.window {
            Span::Calls(calls) => WindowRule::Calls(calls),
            Span::Time(time) => WindowRule::Time {
                buckets: self.window_buckets,
                width: nanos(time) / u64::from(self.window_buckets.max(1)),
            },
        };
        BreakerConfig {
            rules: Rules {
                window,
                min_calls: self.min_calls,
                failure_rate: self.failure_rate,
                consecutive_failures: self.consecutive_failures,
                slow_call: self.slow_call.map(nanos),
                slow_call_rate: self.slow_call_rate.unwrap_or(1.0),
                open_for: nanos(self.open_for),
                max_open_for: nanos(self.max_open_for),
                open_growth: self.open_growth,
                open_jitter: self.open_jitter,
                probes: self.probes,
                probe_successes: self.probe_successes,
                probe_lease: nanos(self.probe_lease),
                forget_after: nanos(self.forget_after),
            },
            max_keys: self.max_keys,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_passes_its_own_checks() {
        let default = BreakerConfig::builder().build();
        assert_eq!(default.unwrap(), BreakerConfig::default());
    }
}
