use super::{Backoff, BackoffBuilder, Jitter};
use crate::InvalidConfig;
use std::time::Duration;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Attempts, delays and window that belong together: published schedules by name.
///
/// # Examples
///
/// ```
/// use tower_webhook::retry::{RetryConfig, Schedule};
///
/// let config = RetryConfig::builder().schedule(Schedule::svix()).build()?;
/// assert_eq!(Schedule::svix().attempts(), 8);
/// # let _ = config;
/// # Ok::<_, tower_webhook::InvalidConfig>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Schedule {
    pub(super) attempts: u32,
    pub(super) backoff: Backoff,
    pub(super) window: Duration,
}

/// 3 attempts, exponential from 200 ms to 20 s with full jitter, inside an hour.
impl Default for Schedule {
    fn default() -> Self {
        let backoff = Backoff::exponential(Duration::from_millis(200), secs(20));
        Self::known(3, backoff, Some(secs(3600)))
    }
}

impl Schedule {
    /// [Svix](https://docs.svix.com/retries): 8 attempts, after 5 s, 5 min, 30 min, 2 h, 5 h, 10 h
    /// and 10 h, which is 27 h 35 min. Each delay is up to a tenth longer here; Svix draws from 20 %
    /// to either side.
    pub fn svix() -> Self {
        Self::published(&[5, 300, 1_800, 7_200, 18_000, 36_000, 36_000])
    }

    /// The example of the [Standard Webhooks](https://www.standardwebhooks.com) specification: 10
    /// attempts, after 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h and 24 h, which is 75 h
    /// 35 min. "With some random jitter", of which it says no more: each delay is up to a tenth
    /// longer here.
    pub fn standard_webhooks() -> Self {
        Self::published(&[5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400])
    }

    /// The retry policy of a Cognigy bot webhook, with its limits: see [`CognigyPolicy`].
    pub const fn cognigy_policy() -> CognigyPolicy {
        CognigyPolicy {
            max_attempts: 3,
            linear: false,
            base_delay: secs(1),
            max_delay: secs(30),
            window: secs(3600),
        }
    }

    /// The retry policy of a Cognigy webhook endpoint: `max_retries` after the first attempt, each
    /// after `interval` and up to 0.5 s more. The documents' own values are 3 and 5 s.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] names `max_retries` beyond 10 and an `interval` that is not from 1 s to
    /// 30 s.
    pub fn cognigy_endpoint(max_retries: u32, interval: Duration) -> Result<Self, InvalidConfig> {
        if max_retries > 10 {
            return Err(InvalidConfig::new("max_retries", "must be at most 10"));
        }
        if !(secs(1)..=secs(30)).contains(&interval) {
            return Err(InvalidConfig::new("interval", "must be from 1 s to 30 s"));
        }
        let spread = Duration::from_millis(500);
        let backoff = Backoff::constant(interval)
            .cap(interval + spread)
            .jitter(Jitter::Additive(spread));
        Ok(Self::known(max_retries + 1, backoff, None))
    }

    /// How the documents' client registers endpoints: 5 attempts, exponential from 1 s with up to
    /// 0.5 s more.
    pub fn cognigy_client() -> Self {
        let jitter = Jitter::Additive(Duration::from_millis(500));
        let backoff = Backoff::exponential(secs(1), secs(30)).jitter(jitter);
        Self::known(5, backoff, None)
    }

    /// How the documents' handler calls its downstream: 3 attempts, exponential from 2 s to 30 s
    /// with up to 1 s more.
    pub fn cognigy_handler() -> Self {
        let jitter = Jitter::Additive(secs(1));
        let backoff = Backoff::exponential(secs(2), secs(30)).jitter(jitter);
        Self::known(3, backoff, None)
    }

    fn published(delays: &[u64]) -> Self {
        let attempts = u32::try_from(delays.len()).unwrap_or(u32::MAX) + 1;
        let table = Backoff::table(delays.iter().copied().map(secs));
        Self::known(attempts, table.jitter(Jitter::Plus10Percent), None)
    }

    /// Without a window, that of the longest waits and an hour: for the attempts themselves, and
    /// for a peer that asks for a little more.
    fn known(attempts: u32, backoff: BackoffBuilder, window: Option<Duration>) -> Self {
        let backoff = backoff.build_known();
        let window = window.unwrap_or_else(|| backoff.longest(attempts - 1) + secs(3600));
        Self {
            attempts,
            backoff,
            window,
        }
    }

    /// How many attempts there are, the first one included.
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// How long to wait before each retry.
    pub const fn backoff(&self) -> &Backoff {
        &self.backoff
    }

    /// How long after the first attempt began there may be others.
    pub const fn window(&self) -> Duration {
        self.window
    }
}

/// The retry policy of a Cognigy bot webhook: attempts, strategy, delays and window, as its
/// documents name and limit them. Up to a tenth is added to each delay.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_webhook::retry::Schedule;
///
/// let policy = Schedule::cognigy_policy()
///     .max_attempts(5)
///     .max_delay(Duration::from_secs(15))
///     .window(Duration::from_secs(300));
/// assert_eq!(policy.build()?.attempts(), 5);
///
/// let eleven = Schedule::cognigy_policy().max_attempts(11).build();
/// assert_eq!(eleven.unwrap_err().setting(), "max_attempts");
/// # Ok::<_, tower_webhook::InvalidConfig>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct CognigyPolicy {
    max_attempts: u32,
    linear: bool,
    base_delay: Duration,
    max_delay: Duration,
    window: Duration,
}

impl CognigyPolicy {
    /// From 1 to 10. Default: 3.
    pub const fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// `base * n` instead of `base * 2^(n - 1)`.
    pub const fn linear(mut self) -> Self {
        self.linear = true;
        self
    }

    /// The first delay. Default: 1 s.
    pub const fn base_delay(mut self, delay: Duration) -> Self {
        self.base_delay = delay;
        self
    }

    /// The longest delay. Default: 30 s.
    pub const fn max_delay(mut self, delay: Duration) -> Self {
        self.max_delay = delay;
        self
    }

    /// How long after the first attempt began there may be others: from 1 s to a day. Default: an
    /// hour.
    pub const fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Builds it.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] names the first setting outside its limits: `max_attempts`, `window`,
    /// `base_delay` or `max_delay`.
    pub fn build(self) -> Result<Schedule, InvalidConfig> {
        if !(1..=10).contains(&self.max_attempts) {
            return Err(InvalidConfig::new("max_attempts", "must be from 1 to 10"));
        }
        if !(secs(1)..=secs(86_400)).contains(&self.window) {
            return Err(InvalidConfig::new("window", "must be from 1 s to 86400 s"));
        }
        if self.base_delay.is_zero() {
            return Err(InvalidConfig::new("base_delay", "must be longer than zero"));
        }
        if self.max_delay < self.base_delay {
            let problem = "must not be shorter than the base delay";
            return Err(InvalidConfig::new("max_delay", problem));
        }
        let backoff = if self.linear {
            Backoff::linear(self.base_delay, self.max_delay)
        } else {
            Backoff::exponential(self.base_delay, self.max_delay)
        };
        let backoff = backoff.jitter(Jitter::Plus10Percent).build()?;
        Ok(Schedule {
            attempts: self.max_attempts,
            backoff,
            window: self.window,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shortest(schedule: &Schedule) -> Vec<u64> {
        let delay = |retry| schedule.backoff.delay(retry, Duration::ZERO, 0).as_secs();
        (1..schedule.attempts).map(delay).collect()
    }

    fn longest(schedule: &Schedule) -> Vec<u128> {
        let delay = |retry| {
            schedule
                .backoff
                .delay(retry, Duration::ZERO, u64::MAX)
                .as_millis()
        };
        (1..schedule.attempts).map(delay).collect()
    }

    #[test]
    fn the_published_schedules_are_as_published() {
        let svix = Schedule::svix();
        assert_eq!(
            shortest(&svix),
            [5, 300, 1_800, 7_200, 18_000, 36_000, 36_000]
        );
        assert_eq!(shortest(&svix).iter().sum::<u64>(), (27 * 60 + 35) * 60 + 5);

        let standard = Schedule::standard_webhooks();
        assert_eq!((standard.attempts(), shortest(&standard).len()), (10, 9));
        assert_eq!(
            shortest(&standard).iter().sum::<u64>(),
            (75 * 60 + 35) * 60 + 5
        );
    }

    #[test]
    fn the_documents_delays_lie_in_their_ranges() {
        let policy = Schedule::cognigy_policy().max_attempts(7).build().unwrap();
        assert_eq!(shortest(&policy)[..5], [1, 2, 4, 8, 16]);
        assert_eq!(
            longest(&policy),
            [1_100, 2_200, 4_400, 8_800, 17_600, 30_000]
        );

        let linear = Schedule::cognigy_policy().linear().build().unwrap();
        assert_eq!(shortest(&linear), [1, 2]);

        let endpoint = Schedule::cognigy_endpoint(3, secs(5)).unwrap();
        assert_eq!(
            (shortest(&endpoint), longest(&endpoint)),
            (vec![5; 3], vec![5_500; 3])
        );

        let client = Schedule::cognigy_client();
        assert_eq!(
            (client.attempts(), shortest(&client)),
            (5, vec![1, 2, 4, 8])
        );

        let handler = Schedule::cognigy_handler();
        assert_eq!(
            (shortest(&handler), longest(&handler)),
            (vec![2, 4], vec![3_000, 5_000])
        );
    }

    #[test]
    fn every_schedule_has_room_for_its_longest_waits() {
        let all = [
            Schedule::default(),
            Schedule::svix(),
            Schedule::standard_webhooks(),
            Schedule::cognigy_client(),
            Schedule::cognigy_handler(),
            Schedule::cognigy_endpoint(10, secs(30)).unwrap(),
        ];
        for schedule in all {
            let longest = schedule.backoff.longest(schedule.attempts - 1);
            assert!(longest < schedule.window, "{schedule:?}");
        }
    }

    #[test]
    fn the_documents_limits_are_kept() {
        let policy = Schedule::cognigy_policy;
        let table = [
            (policy().max_attempts(0), "max_attempts"),
            (policy().max_attempts(11), "max_attempts"),
            (policy().window(Duration::ZERO), "window"),
            (policy().window(secs(86_401)), "window"),
            (policy().base_delay(Duration::ZERO), "base_delay"),
            (policy().base_delay(secs(31)), "max_delay"),
        ];
        for (policy, setting) in table {
            assert_eq!(policy.build().unwrap_err().setting(), setting, "{policy:?}");
        }
        let endpoint = |retries, ms| Schedule::cognigy_endpoint(retries, Duration::from_millis(ms));
        assert_eq!(endpoint(11, 5_000).unwrap_err().setting(), "max_retries");
        assert_eq!(endpoint(3, 999).unwrap_err().setting(), "interval");
        assert_eq!(endpoint(3, 30_001).unwrap_err().setting(), "interval");
        assert!(endpoint(0, 1_000).is_ok() && endpoint(10, 30_000).is_ok());
    }
}
