use super::{
    NotSendable, Redrive, ResendFn, ResendHttp,
    driver::{Settings, Shared},
    pace::Pace,
};
use crate::{
    InvalidConfig,
    clock::WallClock,
    dead_letter::{Entry, LetterStore, Redaction},
    observe::{Observer, Observers},
    outcome::HttpClassifier,
};
use std::{fmt, sync::Arc, time::Duration};

/// Settings of a [`Redrive`], all with defaults. Made by [`Redrive::builder`].
#[derive(Clone)]
#[must_use]
pub struct RedriveBuilder<M = HttpClassifier, R = ResendHttp> {
    store: Arc<dyn LetterStore>,
    settings: Settings,
    rate: Option<f64>,
    observers: Observers,
    make: M,
    resend: R,
}

impl RedriveBuilder {
    pub(super) fn new(store: Arc<dyn LetterStore>) -> Self {
        Self {
            store,
            settings: Settings {
                lease: Duration::from_secs(60),
                max_replays: 5,
                at_once: 4,
                patience: Duration::from_secs(30),
                clock: WallClock::system(),
                redaction: Redaction::new(),
            },
            rate: Some(10.0),
            observers: Observers::none(),
            make: HttpClassifier::new(),
            resend: ResendHttp::new(),
        }
    }
}

impl<M, R> RedriveBuilder<M, R> {
    /// How long an entry is claimed for; renewed while it is sent, so this is how long it is held
    /// up when its sender dies. Default: 60 s; at most a day.
    pub const fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease;
        self
    }

    /// How often an entry may be sent again. Default: 5.
    pub const fn max_replays(mut self, replays: u32) -> Self {
        self.settings.max_replays = replays;
        self
    }

    /// How many entries are sent per second at the most, evenly spaced, by this `Redrive` and all
    /// its clones together. Default: 10; 0.001 to 1,000,000.
    pub const fn rate(mut self, per_second: f64) -> Self {
        self.rate = Some(per_second);
        self
    }

    /// Sends as fast as [`at_once`](Self::at_once) and the service allow. A peer that has just come
    /// back may not thank you.
    pub const fn no_rate(mut self) -> Self {
        self.rate = None;
        self
    }

    /// How many entries a run sends at the same time. Default: 4; at most 1,000.
    pub const fn at_once(mut self, entries: usize) -> Self {
        self.settings.at_once = entries;
        self
    }

    /// How long a run waits for a target that our own side refuses to send to (an open breaker)
    /// before it passes over its entries. Each run waits once for each target; zero never waits.
    /// Default: 30 s; at most a day.
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.settings.patience = patience;
        self
    }

    /// Where the times in the entries come from. Default: the system's clock.
    pub fn clock(mut self, clock: WallClock) -> Self {
        self.settings.clock = clock;
        self
    }

    /// What does not get into an entry that fails again. It sees the entry as it would be left, and
    /// what it makes of its [cause](crate::dead_letter::Cause) is kept: the rest of it was written by
    /// somebody else, who may have allowed more. Default: [`Redaction::new`].
    pub fn redaction(mut self, redaction: Redaction) -> Self {
        self.settings.redaction = redaction;
        self
    }

    /// Adds an observer of each entry that is sent again or passed over: [`Event::Redriven`] says who
    /// asked for it, which entry, what came of it, and how far the run is. Default: none.
    ///
    /// [`Event::Redriven`]: crate::observe::Event::Redriven
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.observers = self.observers.and(observer);
        self
    }

    /// What judges the results: an entry is removed after
    /// [`Success`](crate::outcome::OutcomeKind::Success) alone. Default: [`HttpClassifier`].
    ///
    /// It judges the beginning of an answer. Where the verdict comes later (a streamed gRPC call),
    /// the service inside has to read the answer to its end first.
    pub fn classifier<M2>(self, make: M2) -> RedriveBuilder<M2, R> {
        RedriveBuilder {
            store: self.store,
            settings: self.settings,
            rate: self.rate,
            observers: self.observers,
            make,
            resend: self.resend,
        }
    }

    /// How entries become requests, where they are not HTTP or need more than [`ResendHttp`] gives
    /// back: credentials, another URI. A panic in it makes the entry unsendable.
    pub fn to_request<F, Req>(self, make: F) -> RedriveBuilder<M, ResendFn<F, Req>>
    where
        F: Fn(&Entry) -> Result<Req, NotSendable>,
    {
        self.resend(ResendFn::new(make))
    }

    /// [`to_request`](Self::to_request) by a type of your own, which reads the history of answers
    /// too. Default: [`ResendHttp`].
    pub fn resend<R2>(self, resend: R2) -> RedriveBuilder<M, R2> {
        RedriveBuilder {
            store: self.store,
            settings: self.settings,
            rate: self.rate,
            observers: self.observers,
            make: self.make,
            resend,
        }
    }

    /// Sends with `service`.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] names the setting: `at_once`, `lease`, `max_replays`, `patience` or
    /// `rate`.
    pub fn build<S>(self, service: S) -> Result<Redrive<S, M, R>, InvalidConfig> {
        const DAY: Duration = Duration::from_secs(86_400);
        let Settings {
            lease,
            max_replays,
            at_once,
            patience,
            ..
        } = self.settings;
        if !(1..=1_000).contains(&at_once) {
            return Err(InvalidConfig::new("at_once", "must be 1 to 1000"));
        }
        if lease.is_zero() || lease > DAY {
            let problem = "must be longer than zero and at most a day";
            return Err(InvalidConfig::new("lease", problem));
        }
        if max_replays == 0 {
            return Err(InvalidConfig::new("max_replays", "must be at least 1"));
        }
        if patience > DAY {
            return Err(InvalidConfig::new("patience", "must be at most a day"));
        }
        let pace = match self.rate {
            None => None,
            Some(rate) if (0.001..=1e6).contains(&rate) => {
                Some(Pace::new(Duration::from_secs_f64(1.0 / rate)))
            }
            Some(_) => {
                return Err(InvalidConfig::new("rate", "must be 0.001 to 1000000"));
            }
        };
        Ok(Redrive {
            service,
            make: self.make,
            resend: self.resend,
            shared: Arc::new(Shared {
                store: self.store,
                settings: self.settings,
                pace,
                observers: self.observers,
            }),
        })
    }
}

impl<M, R> fmt::Debug for RedriveBuilder<M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedriveBuilder")
            .field("store", &self.store)
            .field("settings", &self.settings)
            .field("rate", &self.rate)
            .finish_non_exhaustive()
    }
}
