use super::{Backoff, Budget, Retrying, Schedule, hooks::Hooks};
use crate::{InvalidConfig, attempt::History};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// The longest window: what the clock can surely count.
const MAX_WINDOW: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// What is done about a peer that asks for a long wait.
///
/// A hint that is within the limit is waited for, and a little longer: up to a tenth of it and at
/// most 10 s, so that a thousand clients that were told "5 s" do not return at one instant (with
/// [`Jitter::None`](super::Jitter::None), nothing is added). Never shorter, and never shorter than
/// the own delay.
///
/// A hint, cut or not, that does not fit into what is left of the window or the deadline ends the
/// delivery at once: to ask sooner is not what the peer wants, and to wait is in vain.
///
/// How many attempts there are never depends on a hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HintLimit {
    /// A longer hint is cut to this: the peer is asked sooner than it wants.
    CapTo(Duration),
    /// A longer hint ends the delivery, as [`GaveUp::HintTooLong`](crate::attempt::GaveUp).
    GiveUp(Duration),
}

impl HintLimit {
    pub(super) const fn limit(self) -> Duration {
        match self {
            Self::CapTo(limit) | Self::GiveUp(limit) => limit,
        }
    }
}

/// [`CapTo`](HintLimit::CapTo) 5 minutes, as linkerd does: longer than most maintenance and than
/// the rate limits that are counted by the minute, and short enough that one wrong header does not
/// park a delivery for the rest of its window.
impl Default for HintLimit {
    fn default() -> Self {
        Self::CapTo(Duration::from_secs(300))
    }
}

/// What is done about a call that was refused on our side, such as by an open circuit breaker.
///
/// A refusal is no attempt: the peer has seen nothing. It counts against neither the attempts nor
/// the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusals {
    /// The delivery ends, as [`GaveUp::Refused`](crate::attempt::GaveUp).
    GiveUp,
    /// The refusal's hint and the backoff's delay on top of it are waited for, up to this many times
    /// in a delivery, inside the window and the deadline. A hint that does not fit in there ends
    /// the delivery at once.
    ///
    /// On top, and up to as long again as the delivery will have waited by then (at most the hint
    /// limit), because everything that an open circuit refused would otherwise come back at the
    /// moment when it closes. Ten waits reach over an outage of some minutes.
    Wait(u32),
}

/// [`GiveUp`](Refusals::GiveUp): an open circuit is answered at once, so that a fallback can answer in
/// its place and no caller is parked through an outage. A worker in the background, whose delivery
/// nobody waits for, says [`Wait`](Refusals::Wait).
impl Default for Refusals {
    fn default() -> Self {
        Self::GiveUp
    }
}

/// When and how often a delivery is tried again. See [`builder`](Self::builder) for the settings
/// and their defaults.
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
    /// `None` is the default, which depends on who waits.
    pub(super) refusals: Option<Refusals>,
    pub(super) hooks: Hooks,
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
            hooks: Hooks::default(),
            seeds: None,
        }
    }
}

impl Settings {
    /// Randomness for one decision: never the same sequence for two deliveries.
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
        // A step that is odd visits every u64 (Weyl); `fastrand` mixes what it is seeded with.
        let seed = self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        fastrand::Rng::with_seed(seed)
    }
}

/// Sets up a [`RetryConfig`].
#[derive(Debug, Default)]
#[must_use]
pub struct RetryConfigBuilder {
    settings: Settings,
}

impl RetryConfig {
    /// The defaults, to be changed.
    pub fn builder() -> RetryConfigBuilder {
        RetryConfigBuilder::default()
    }

    /// How many attempts there are.
    #[cfg(feature = "queue")]
    pub(crate) fn attempts(&self) -> u32 {
        self.settings.attempts
    }

    /// One attempt, and nothing kept for another.
    #[cfg(feature = "stack")]
    pub(crate) fn once() -> Self {
        let attempts = 1;
        Self {
            settings: Arc::new(Settings {
                attempts,
                ..Settings::default()
            }),
        }
    }

    /// The budget, to be shared with other services or observed.
    pub fn budget(&self) -> &Budget {
        &self.settings.budget
    }
}

impl RetryConfigBuilder {
    /// How many attempts there are at most, the first one included. Default: 3. With 1 nothing is
    /// kept of a request, and a refused call is not made again either.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.settings.attempts = attempts;
        self
    }

    /// How long to wait before each retry. Default: exponential from 200 ms to 20 s, full jitter.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.settings.backoff = backoff;
        self
    }

    /// Sets [`attempts`](Self::attempts), [`backoff`](Self::backoff) and [`window`](Self::window)
    /// to those of a published schedule.
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        self.settings.attempts = schedule.attempts;
        self.settings.backoff = schedule.backoff;
        self.settings.window = schedule.window;
        self
    }

    /// What is done about a peer that asks for a long wait. Default: [`HintLimit::CapTo`] 5 min.
    pub fn hint_limit(mut self, limit: HintLimit) -> Self {
        self.settings.hint_limit = limit;
        self
    }

    /// How long after the first attempt began there may be others: none is begun that would have
    /// less than [`min_attempt`](Self::min_attempt) left of it. One that is under way is not cut;
    /// that is for a deadline or an attempt timeout. Default: an hour. At most 366 days.
    pub fn window(mut self, window: Duration) -> Self {
        self.settings.window = window;
        self
    }

    /// How much time an attempt needs at least: with less than this left of the window or the
    /// deadline none is begun. Default: 10 ms.
    pub fn min_attempt(mut self, least: Duration) -> Self {
        self.settings.min_attempt = least;
        self
    }

    /// How many retries there may be in proportion to the traffic. Default: a [`Budget::new`] of
    /// its own.
    pub fn budget(mut self, budget: Budget) -> Self {
        self.settings.budget = budget;
        self
    }

    /// What is done about a call that was refused on our side. Default: [`Refusals::GiveUp`]; where
    /// nobody waits, which is in a worker of a queue, it is put off for as long as the window is.
    pub fn refusals(mut self, refusals: Refusals) -> Self {
        self.settings.refusals = Some(refusals);
        self
    }

    /// Called before each wait for another attempt. On the thread that polls, so it is brief; a
    /// panic in it is caught.
    pub fn on_retry(mut self, hook: impl Fn(&Retrying) + Send + Sync + 'static) -> Self {
        self.settings.hooks.on_retry = Some(Arc::new(hook));
        self
    }

    /// Called when a delivery that failed is not tried again, with why in
    /// [`History::gave_up`]. On the thread that polls, so it is brief; a panic in it is caught.
    pub fn on_give_up(mut self, hook: impl Fn(&History) + Send + Sync + 'static) -> Self {
        self.settings.hooks.on_give_up = Some(Arc::new(hook));
        self
    }

    /// Makes the jitter repeatable, for tests. Without it, each decision has randomness of its own.
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seeds = Some(Seeds(AtomicU64::new(seed)));
        self
    }

    /// Builds it.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] names the first setting that makes no sense: `attempts`, `hint_limit`,
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
