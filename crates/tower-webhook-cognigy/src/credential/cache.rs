//! When a token is used, refreshed, awaited or refused. Pure: time and randomness are arguments.

use std::time::Duration;
use tokio::time::Instant;

/// How long before its end a token is refreshed, unless it is short-lived.
const MARGIN: Duration = Duration::from_secs(60);

/// The longest time that a token is used. A longer `expires_in` counts as this.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The wait after the first failure. It doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest wait of one's own after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Refreshes because of a 401: this many at once, and one more per interval. Without a bound, a route that answers 401
/// whatever the token is would cost a token request per call.
const FORCED_AT_ONCE: u32 = 5;
const FORCED_INTERVAL: Duration = Duration::from_secs(10);

/// A token of type `T`, refreshes that fail with `E`.
#[derive(Debug)]
pub(super) struct Cache<T, E> {
    current: Option<Held<T>>,
    is_refreshing: bool,
    failures: u32,
    /// Until when no refresh begins, and why.
    pause: Option<(Instant, E)>,
    /// The time at which all forced refreshes are paid for.
    forced: Option<Instant>,
    issued: u64,
}

#[derive(Debug)]
struct Held<T> {
    token: T,
    number: u64,
    refresh_at: Instant,
    expires_at: Instant,
    /// A 401 says that it is not valid, whatever its time.
    is_rejected: bool,
}

/// What a caller does.
#[derive(Debug, PartialEq)]
pub(super) enum Next<T, E> {
    /// Uses this token, and starts a refresh if `refresh`.
    Use {
        token: T,
        number: u64,
        refresh: bool,
    },
    /// Waits for the refresh, and starts it if `refresh`.
    Wait { refresh: bool },
    /// Fails as the last refresh did; another one begins after this time.
    Fail { error: E, retry_after: Duration },
}

impl<T, E> Default for Cache<T, E> {
    fn default() -> Self {
        Self {
            current: None,
            is_refreshing: false,
            failures: 0,
            pause: None,
            forced: None,
            issued: 0,
        }
    }
}

impl<T: Clone, E: Clone> Cache<T, E> {
    /// What a caller does now. If it is told to start a refresh, it must, and the end is told to
    /// [`succeeded`](Self::succeeded) or [`failed`](Self::failed).
    pub(super) fn next(&mut self, now: Instant) -> Next<T, E> {
        let pause = self.pause.as_ref().filter(|(until, _)| now < *until);
        let may_refresh = !self.is_refreshing && pause.is_none();
        if let Some(held) = self.current.as_ref().filter(|held| held.is_valid(now)) {
            let refresh = may_refresh && now >= held.refresh_at;
            self.is_refreshing |= refresh;
            return Next::Use {
                token: held.token.clone(),
                number: held.number,
                refresh,
            };
        }
        match pause {
            Some((until, error)) if !self.is_refreshing => Next::Fail {
                error: error.clone(),
                retry_after: *until - now,
            },
            _ => {
                self.is_refreshing = true;
                Next::Wait {
                    refresh: may_refresh,
                }
            }
        }
    }

    /// The token that calls get, valid or not.
    pub(super) fn current(&self) -> Option<&T> {
        self.current.as_ref().map(|held| &held.token)
    }

    /// Whether the call whose token was answered with 401 is made once more. It is not if too many refreshes were forced.
    pub(super) fn rejected(&mut self, number: u64, now: Instant) -> bool {
        let Some(held) = &mut self.current else {
            return true;
        };
        if held.number != number || held.is_rejected {
            return true;
        }
        let paid = self.forced.map_or(now, |paid| paid.max(now));
        if paid > now + FORCED_INTERVAL * (FORCED_AT_ONCE - 1) {
            return false;
        }
        self.forced = Some(paid + FORCED_INTERVAL);
        held.is_rejected = true;
        true
    }

    /// Ends a refresh with a token that lives this long from `asked`, the time at which it was asked for. The number of
    /// the token; `None` if it is over already, and then [`failed`](Self::failed) ends the refresh.
    pub(super) fn succeeded(
        &mut self,
        token: T,
        lifetime: Duration,
        asked: Instant,
        now: Instant,
    ) -> Option<u64> {
        let lifetime = lifetime.min(LONGEST);
        let expires_at = asked + lifetime;
        if expires_at <= now {
            return None;
        }
        self.is_refreshing = false;
        self.failures = 0;
        self.pause = None;
        self.issued += 1;
        self.current = Some(Held {
            token,
            number: self.issued,
            refresh_at: expires_at - margin(lifetime),
            expires_at,
            is_rejected: false,
        });
        Some(self.issued)
    }

    /// Ends a refresh without a token. Returns the wait before the next one: at least as long as the endpoint asks for
    /// (`hint`), and otherwise 1 s, doubled by each failure in a row up to 60 s, of which a random half is left out.
    /// `random` is from 0 to 1.
    pub(super) fn failed(
        &mut self,
        error: E,
        hint: Option<Duration>,
        now: Instant,
        random: f64,
    ) -> Duration {
        let doubled = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16));
        let own = doubled
            .min(LONGEST_PAUSE)
            .mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0);
        let wait = hint.map_or(own, |hint| hint.max(own));
        self.is_refreshing = false;
        self.failures = self.failures.saturating_add(1);
        self.pause = Some((now + wait, error));
        wait
    }
}

impl<T> Held<T> {
    fn is_valid(&self, now: Instant) -> bool {
        !self.is_rejected && now < self.expires_at
    }
}

/// A minute, and of tokens that live less than two minutes half of their life.
fn margin(lifetime: Duration) -> Duration {
    MARGIN.min(lifetime / 2)
}
