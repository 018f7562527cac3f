use super::model::{Rules, WindowRule, nanos};
use crate::InvalidConfig;
use std::time::Duration;

/// When a circuit breaker opens, for how long, and how it closes again.
///
/// The [default](Self::default) suits deliveries to many endpoints:
///
/// | Setting | Default | As in |
/// | --- | --- | --- |
/// | failures in a row | 5 | Finagle, Envoy's outlier detection, pybreaker |
/// | failure rate | 50 % of the last 100 calls, from 20 calls on | resilience4j (50 % of 100), opossum (50 %) |
/// | slow calls | not timed | |
/// | open | 5 s, doubled for each failed round of probes up to 60 s, up to 20 % shorter | Polly (5 s), Finagle (5 s to 60 s, jittered) |
/// | half-open | 1 probe at a time, 1 success closes | Polly, gobreaker, Linkerd |
/// | probe lease | 30 s | resilience4j's `maxWaitDurationInHalfOpenState`, on by default here |
/// | peers | 10,000 | |
///
/// Polly and resilience4j judge from 100 calls on, which is more than most webhook endpoints get in an
/// hour.
#[derive(Clone, Debug, PartialEq)]
pub struct BreakerConfig {
    pub(super) rules: Rules,
    pub(super) max_peers: usize,
}

/// Builder of a [`BreakerConfig`].
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
    max_peers: usize,
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
const MAX_TIME: Duration = Duration::from_secs(366 * 24 * 3_600);

impl BreakerConfig {
    /// Makes a builder with the defaults above.
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
            max_peers: 10_000,
            forget_after: Duration::from_secs(3_600),
        }
    }
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self::builder().known_good()
    }
}

impl BreakerConfigBuilder {
    /// Sets the number of failures in a row that opens the breaker. Default: 5.
    ///
    /// A throttled call (429, gRPC 8) neither counts here nor ends the row, as in Linkerd: the peer answers,
    /// but limits its rate. It counts in the failure rate. A 503 counts here: see
    /// [`Outcome::is_rate_limit`](crate::outcome::Outcome::is_rate_limit).
    pub const fn consecutive_failures(mut self, failures: u32) -> Self {
        self.consecutive_failures = Some(failures);
        self
    }

    /// Turns off the limit of failures in a row. Default: on, with 5.
    pub const fn without_consecutive_failures(mut self) -> Self {
        self.consecutive_failures = None;
        self
    }

    /// Sets the failure rate that opens the breaker: the share of failed calls in the window, above 0 and at
    /// most 1. Default: 0.5.
    ///
    /// The rate is checked after every call, successful ones too, once the window holds
    /// [`min_calls`](Self::min_calls). A rate equal to this one opens the breaker, as in resilience4j.
    pub const fn failure_rate(mut self, rate: f64) -> Self {
        self.failure_rate = Some(rate);
        self
    }

    /// Turns off the limit of the failure rate. Default: on, with 0.5.
    pub const fn without_failure_rate(mut self) -> Self {
        self.failure_rate = None;
        self
    }

    /// Sets the time after which a call counts as slow, with any outcome, and turns on the limit of the
    /// [slow-call rate](Self::slow_call_rate). Default: none; calls are not timed.
    ///
    /// A slow probe counts as failed. Timing reads the clock twice for each call. The time of a call ends
    /// with the head of its answer, not with the end of the body.
    pub const fn slow_call(mut self, longer_than: Duration) -> Self {
        self.slow_call = Some(longer_than);
        self
    }

    /// Sets the slow-call rate that opens the breaker: the share of slow calls in the window, above 0 and at
    /// most 1. Default: 1, as in resilience4j. Needs [`slow_call`](Self::slow_call).
    pub const fn slow_call_rate(mut self, rate: f64) -> Self {
        self.slow_call_rate = Some(rate);
        self
    }

    /// Sets the window of the rates to the last calls, by their number. Default: 100; at most 65,536. Memory:
    /// a quarter of a byte per call, for each peer.
    pub const fn window_calls(mut self, calls: u32) -> Self {
        self.window = Span::Calls(calls);
        self
    }

    /// Sets the window of the rates to the calls that ended within this time. Default: a number of calls. At
    /// most a year.
    ///
    /// The window moves by whole [buckets](Self::window_buckets): a call leaves it when it is as old as the
    /// window, or up to one bucket younger. Reads the clock at every call.
    pub const fn window_time(mut self, time: Duration) -> Self {
        self.window = Span::Time(time);
        self
    }

    /// Sets the number of buckets of a [`window_time`](Self::window_time). Default: 10; at most 3,600.
    /// Memory: 12 bytes per bucket, for each peer.
    pub const fn window_buckets(mut self, buckets: u32) -> Self {
        self.window_buckets = buckets;
        self
    }

    /// Sets how many calls the window must contain before rates are checked. Default: 20. At most
    /// [`window_calls`](Self::window_calls).
    ///
    /// With 5, five calls can open the breaker, however long the window is.
    pub const fn min_calls(mut self, calls: u32) -> Self {
        self.min_calls = calls;
        self
    }

    /// Sets how long the breaker stays open the first time. Default: 5 s.
    pub const fn open_for(mut self, time: Duration) -> Self {
        self.open_for = time;
        self
    }

    /// Sets the longest time that the breaker stays open, for any number of failed probes and any hint of the
    /// peer. Default: 60 s. At least [`open_for`](Self::open_for); at most a year.
    ///
    /// A `Retry-After` on the answer that opens the breaker extends the open time up to this.
    pub const fn max_open_for(mut self, time: Duration) -> Self {
        self.max_open_for = time;
        self
    }

    /// Sets the factor by which the open time grows with each failed round of probes. Default: 2; at least 1,
    /// which keeps it constant. The growth starts over when the breaker closes.
    pub const fn open_growth(mut self, factor: f64) -> Self {
        self.open_growth = factor;
        self
    }

    /// Sets the share of the open time by which it is shortened at random, from 0 to 1. Default: 0.2.
    ///
    /// Without jitter, all instances that saw an outage begin would probe at the same moment. An open time
    /// that the peer asked for is extended instead.
    pub const fn open_jitter(mut self, part: f64) -> Self {
        self.open_jitter = part;
        self
    }

    /// Sets how many probes a half-open breaker lets through at a time. Default: 1; at most 1,000.
    pub const fn probes(mut self, probes: u32) -> Self {
        self.probes = probes;
        self
    }

    /// Sets how many probes must succeed to close the breaker. Default: 1. The first failed probe opens it
    /// again.
    pub const fn probe_successes(mut self, successes: u32) -> Self {
        self.probe_successes = successes;
        self
    }

    /// Sets the time limit of a probe. Default: 30 s; at most a year.
    ///
    /// After it, another probe may replace the first, whose result is then stale: a peer that never answers
    /// does not keep the breaker half-open for ever. Set it longer than the timeout of the client, and than
    /// the streams that are judged at their end.
    pub const fn probe_lease(mut self, lease: Duration) -> Self {
        self.probe_lease = lease;
        self
    }

    /// Sets the largest number of peers that have a breaker. Default: 10,000.
    ///
    /// See [`Breakers`](super::Breakers) for further peers.
    pub const fn max_peers(mut self, keys: usize) -> Self {
        self.max_peers = keys;
        self
    }

    /// Sets how long after its last failure a peer may be removed from a full map. Default: 1 h; at most
    /// a year. A peer without evidence against it may be removed at any time.
    pub const fn forget_after(mut self, time: Duration) -> Self {
        self.forget_after = time;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] names the first invalid setting.
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
        if self.max_peers == 0 {
            return invalid("max_peers", "must be at least 1");
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

    /// For settings that were checked, by `build` or by a test.
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
            max_peers: self.max_peers,
        }
    }
}

fn invalid<T>(setting: &'static str, problem: &'static str) -> Result<T, InvalidConfig> {
    Err(InvalidConfig::new(setting, problem))
}

fn part(setting: &'static str, rate: Option<f64>) -> Result<(), InvalidConfig> {
    match rate {
        Some(rate) if !(rate > 0.0 && rate <= 1.0) => {
            invalid(setting, "must be a number above 0, and at most 1")
        }
        _ => Ok(()),
    }
}

fn span(setting: &'static str, time: Duration) -> Result<(), InvalidConfig> {
    if time.is_zero() {
        return invalid(setting, "must be longer than zero");
    }
    if time > MAX_TIME {
        return invalid(setting, "must not be longer than a year");
    }
    Ok(())
}

fn count(setting: &'static str, count: u32, max: u32) -> Result<(), InvalidConfig> {
    if count == 0 {
        return invalid(setting, "must be at least 1");
    }
    if count > max {
        let problem = format!("must not be more than {max}");
        return Err(InvalidConfig::new(setting, problem));
    }
    Ok(())
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
