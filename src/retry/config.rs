use super::{Backoff, Budget, Schedule};
use crate::InvalidConfig;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// The longest window, well inside the range of the clock.
const MAX_WINDOW: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// The limit for the waits that a peer asks for (`Retry-After` and similar hints).
///
/// For a hint within the limit the wait is the hint, or the delay of the backoff if that is longer.
/// Up to a tenth of the hint and at most 10 s is added, so that a thousand clients that were told
/// "5 s" do not return at the same instant; [`Jitter::None`](super::Jitter::None) adds nothing.
///
/// If a hint, capped or not, is longer than the time left of the window or the deadline, the delivery
/// ends at once.
///
/// Hints never change the number of attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HintLimit {
    /// Shortens a longer hint to this time, minus a random part of up to a tenth: the peer is called sooner
    /// than it asked for.
    CapTo(Duration),
    /// Ends the delivery if the hint is longer, as [`GaveUp::HintTooLong`](crate::attempt::GaveUp).
    GiveUp(Duration),
}

impl HintLimit {
    pub(super) const fn limit(self) -> Duration {
        match self {
            Self::CapTo(limit) | Self::GiveUp(limit) => limit,
        }
    }
}

/// [`CapTo`](HintLimit::CapTo) 5 minutes, as in linkerd: longer than most maintenance and than rate
/// limits per minute, and short enough that one wrong header does not stop a delivery for the rest
/// of its window.
impl Default for HintLimit {
    fn default() -> Self {
        Self::CapTo(Duration::from_secs(300))
    }
}

/// What to do if a call is refused on this side, for example by an open circuit breaker.
///
/// A refusal is not an attempt, because the peer has seen nothing. It counts neither against the
/// attempts nor against the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusals {
    /// Ends the delivery, as [`GaveUp::Refused`](crate::attempt::GaveUp).
    GiveUp,
    /// Waits for the refusal's hint plus a delay, up to this many times in a delivery, inside the
    /// window and the deadline. A hint that is longer than the time left ends the delivery at once.
    ///
    /// The delay is that of the backoff, or a random time if that is longer. The random time is at most
    /// the time that the delivery will have waited by then, and at most the hint limit. Without it, all
    /// deliveries that an open circuit refused would be retried at the moment when it closes. Ten waits
    /// cover an outage of some minutes.
    Wait(u32),
}

/// [`GiveUp`](Refusals::GiveUp): the caller gets the error of an open circuit at once, and a fallback
/// can answer. Use [`Wait`](Refusals::Wait) for background deliveries, for which no caller waits.
impl Default for Refusals {
    fn default() -> Self {
        Self::GiveUp
    }
}

/// When and how often a delivery is retried. See [`builder`](Self::builder) for the settings and
/// their defaults.
///
/// Clones share one budget.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct RetryConfig {
    pub(super) settings: Arc<Settings>,
}

#[derive(Debug)]
pub(super) struct Settings {
    pub(super) attempts: u32,
    pub(super) backoff: Backoff,
    pub(super) hint_limit: HintLimit,
    pub(super) window: Duration,
    pub(super) min_attempt: Duration,
    pub(super) budget: Budget,
    /// `None`: the default, which differs for stored deliveries.
    pub(super) refusals: Option<Refusals>,
    pub(super) seeds: Option<Seeds>,
}

impl Default for Settings {
    fn default() -> Self {
        let schedule = Schedule::default();
        Self {
            attempts: schedule.attempts,
            backoff: schedule.backoff,
            hint_limit: HintLimit::default(),
            window: schedule.window,
            min_attempt: Duration::from_millis(10),
            budget: Budget::default(),
            refusals: None,
            seeds: None,
        }
    }
}

impl Settings {
    /// A random number generator for one decision.
    pub(super) fn rng(&self) -> fastrand::Rng {
        self.seeds
            .as_ref()
            .map_or_else(fastrand::Rng::new, Seeds::next)
    }
}

/// Seeds for tests, one after another.
#[derive(Debug)]
pub(super) struct Seeds(AtomicU64);

impl Seeds {
    fn next(&self) -> fastrand::Rng {
        // An odd step visits every u64 (Weyl sequence); `fastrand` mixes its seed.
        let seed = self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        fastrand::Rng::with_seed(seed)
    }
}

/// Builder of a [`RetryConfig`].
#[derive(Debug, Default)]
#[must_use]
pub struct RetryConfigBuilder {
    settings: Settings,
}

impl RetryConfig {
    /// Returns a builder with the default settings.
    pub fn builder() -> RetryConfigBuilder {
        RetryConfigBuilder::default()
    }

    /// The largest number of attempts.
    #[cfg(feature = "queue")]
    pub(crate) fn attempts(&self) -> u32 {
        self.settings.attempts
    }

    /// The longest wait before a retry, by the backoff or a hint. Zero if there is no retry.
    #[cfg(feature = "queue")]
    pub(crate) fn longest_wait(&self) -> Duration {
        let settings = &self.settings;
        match settings.attempts.saturating_sub(1) {
            0 => Duration::ZERO,
            retries => {
                let longest = settings.backoff.longest_of(retries);
                longest.max(settings.hint_limit.limit())
            }
        }
    }

    /// The budget. Use it to share it with other services, or to read its balance.
    pub fn budget(&self) -> &Budget {
        &self.settings.budget
    }
}

impl RetryConfigBuilder {
    /// Sets the largest number of attempts, including the first. Default: 3. With 1, the request is not
    /// kept, and a refused call is not repeated either.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.settings.attempts = attempts;
        self
    }

    /// Sets the delay before each retry. Default: exponential from 200 ms to 20 s, full jitter.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.settings.backoff = backoff;
        self
    }

    /// Sets [`attempts`](Self::attempts), [`backoff`](Self::backoff) and [`window`](Self::window)
    /// to those of a published schedule. Default: none.
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        self.settings.attempts = schedule.attempts;
        self.settings.backoff = schedule.backoff;
        self.settings.window = schedule.window;
        self
    }

    /// Sets the limit for the waits that a peer asks for. Default: [`HintLimit::CapTo`] 5 min.
    pub fn hint_limit(mut self, limit: HintLimit) -> Self {
        self.settings.hint_limit = limit;
        self
    }

    /// Sets the window: the time after the start of the first attempt in which retries may begin. Default:
    /// 1 h; at most 366 days. No retry begins with less than [`min_attempt`](Self::min_attempt) left. The
    /// window does not end a running attempt: use a deadline or an attempt timeout for that.
    pub fn window(mut self, window: Duration) -> Self {
        self.settings.window = window;
        self
    }

    /// Sets the shortest time for an attempt. Default: 10 ms. No attempt begins if less time is left of the
    /// window or the deadline.
    pub fn min_attempt(mut self, least: Duration) -> Self {
        self.settings.min_attempt = least;
        self
    }

    /// Sets the budget, which limits retries in proportion to the traffic. Default: a new [`Budget::new`].
    pub fn budget(mut self, budget: Budget) -> Self {
        self.settings.budget = budget;
        self
    }

    /// Sets what to do if a call is refused on this side. Default: [`Refusals::GiveUp`]; in a worker of a
    /// queue, the delivery is tried again later, until the window ends.
    pub fn refusals(mut self, refusals: Refusals) -> Self {
        self.settings.refusals = Some(refusals);
        self
    }

    /// Sets the seed of the jitter, so that tests can repeat it. Default: random.
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seeds = Some(Seeds(AtomicU64::new(seed)));
        self
    }

    /// Builds the settings.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] names the first invalid setting: `attempts`, `hint_limit`,
    /// `window` or `min_attempt`.
    pub fn build(self) -> Result<RetryConfig, InvalidConfig> {
        let settings = self.settings;
        if settings.attempts == 0 {
            return Err(InvalidConfig::new("attempts", "must be at least 1"));
        }
        if settings.hint_limit.limit().is_zero() {
            return Err(InvalidConfig::new("hint_limit", "must be longer than zero"));
        }
        if settings.window.is_zero() || settings.window > MAX_WINDOW {
            let problem = "must be longer than zero and at most 366 days";
            return Err(InvalidConfig::new("window", problem));
        }
        if settings.min_attempt >= settings.window {
            return Err(InvalidConfig::new(
                "min_attempt",
                "must be shorter than the window",
            ));
        }
        Ok(RetryConfig {
            settings: Arc::new(settings),
        })
    }
}
