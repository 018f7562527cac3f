use super::{Backoff, Jitter};
use std::time::Duration;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Attempts, delays and window together: published schedules by name, or your own.
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
        Self::new(3, backoff.build_known()).with_window(secs(3600))
    }
}

impl Schedule {
    /// Makes a schedule of this many attempts, including the first. Its window is the sum of the longest
    /// waits, plus an hour.
    pub fn new(attempts: u32, backoff: Backoff) -> Self {
        let longest = backoff.longest(attempts.saturating_sub(1));
        Self {
            attempts,
            backoff,
            window: longest.saturating_add(secs(3600)),
        }
    }

    /// Sets the window: the time after the start of the first attempt in which retries may begin. Default: the
    /// sum of the longest delays, plus an hour.
    pub const fn with_window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Makes the schedule of [Svix](https://docs.svix.com/retries): 8 attempts, after 5 s, 5 min, 30 min,
    /// 2 h, 5 h, 10 h and 10 h, in total 27 h 35 min. Each delay is up to a tenth longer here; Svix varies it
    /// by up to 20 % in both directions.
    pub fn svix() -> Self {
        Self::published(&[5, 300, 1_800, 7_200, 18_000, 36_000, 36_000])
    }

    /// Makes the example schedule of the [Standard Webhooks](https://www.standardwebhooks.com)
    /// specification: 10 attempts, after 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h and 24 h, in total
    /// 75 h 35 min. The specification adds "some random jitter" without a number; here each delay is up to a
    /// tenth longer.
    pub fn standard_webhooks() -> Self {
        Self::published(&[5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400])
    }

    fn published(delays: &[u64]) -> Self {
        let attempts = u32::try_from(delays.len()).unwrap_or(u32::MAX) + 1;
        let table = Backoff::table(delays.iter().copied().map(secs));
        Self::new(attempts, table.jitter(Jitter::Plus10Percent).build_known())
    }

    /// The largest number of attempts, including the first.
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The delay before each retry.
    pub const fn backoff(&self) -> &Backoff {
        &self.backoff
    }

    /// The window: the time after the start of the first attempt in which retries may begin.
    pub const fn window(&self) -> Duration {
        self.window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shortest(schedule: &Schedule) -> Vec<u64> {
        let delay = |retry| schedule.backoff.delay(retry, Duration::ZERO, 0).as_secs();
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
    fn every_schedule_has_room_for_its_longest_waits() {
        let all = [
            Schedule::default(),
            Schedule::svix(),
            Schedule::standard_webhooks(),
        ];
        for schedule in all {
            let longest = schedule.backoff.longest(schedule.attempts - 1);
            assert!(longest < schedule.window, "{schedule:?}");
        }
    }

    #[test]
    fn a_schedule_of_ones_own_has_room_for_its_waits_and_any_number_of_attempts() {
        let backoff = Backoff::constant(secs(5)).jitter(Jitter::None);
        let backoff = backoff.build().unwrap();
        let own = |attempts| Schedule::new(attempts, backoff.clone());
        assert_eq!(own(4).window(), secs(15 + 3600));
        assert_eq!(own(2_001).window(), secs(10_000 + 3600));
        assert_eq!(
            (own(0).window(), own(u32::MAX).attempts()),
            (secs(3600), u32::MAX)
        );
        assert_eq!(own(4).with_window(secs(60)).window(), secs(60));
    }
}
