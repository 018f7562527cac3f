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
    #[cfg(feature = "client")]
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Tokens = Cache<u32, &'static str>;

    const HOUR: Duration = Duration::from_secs(3600);

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    /// A cache with the token 1 of this lifetime.
    fn with_token(lifetime: Duration, now: Instant) -> Tokens {
        let mut cache = Tokens::default();
        assert_eq!(cache.next(now), Next::Wait { refresh: true });
        assert_eq!(cache.succeeded(1, lifetime, now, now), Some(1));
        cache
    }

    fn uses(token: u32, refresh: bool) -> Next<u32, &'static str> {
        Next::Use {
            token,
            number: token.into(),
            refresh,
        }
    }

    #[test]
    fn a_token_is_refreshed_a_minute_before_its_end_and_used_until_then() {
        let now = Instant::now();
        for (lifetime, refreshed) in [
            (HOUR, seconds(3540)),
            (seconds(121), seconds(61)),
            (seconds(120), seconds(60)),
            (seconds(60), seconds(30)),
            (seconds(1), seconds(1) / 2),
            (Duration::MAX, seconds(86_340)),
        ] {
            let before = |time: Duration| time.saturating_sub(Duration::from_nanos(1));
            let at = |after: Duration| with_token(lifetime, now).next(now + after);
            assert_eq!(at(before(refreshed)), uses(1, false));
            assert_eq!(at(refreshed), uses(1, true));
            let lifetime = lifetime.min(LONGEST);
            assert_eq!(at(before(lifetime)), uses(1, true));
            assert_eq!(at(lifetime), Next::Wait { refresh: true });
        }
    }

    #[test]
    fn the_lifetime_counts_from_the_question() {
        let now = Instant::now();
        let mut cache = Tokens::default();
        cache.next(now);
        assert_eq!(cache.succeeded(1, seconds(5), now, now + seconds(5)), None);
        cache.failed("late", None, now + seconds(5), 1.0);
        let fails = Next::Fail {
            error: "late",
            retry_after: seconds(1),
        };
        assert_eq!(cache.next(now + seconds(5)), fails);
    }

    #[test]
    fn a_wait_doubles_up_to_a_minute_and_is_at_least_what_the_endpoint_asks_for() {
        let now = Instant::now();
        let wait = |failures, hint, random| {
            let mut cache = Tokens {
                failures,
                ..Tokens::default()
            };
            cache.failed("no", hint, now, random)
        };
        for (failures, expected) in [(0, 1), (1, 2), (2, 4), (5, 32), (6, 60), (u32::MAX, 60)] {
            assert_eq!(wait(failures, None, 1.0), seconds(expected));
            assert_eq!(wait(failures, None, 0.0), seconds(expected) / 2);
        }
        assert_eq!(wait(0, Some(seconds(300)), 0.5), seconds(300));
        assert_eq!(wait(6, Some(seconds(5)), 1.0), seconds(60));
    }

    #[test]
    fn a_refusal_of_the_current_token_replaces_it_and_a_late_one_does_not() {
        let now = Instant::now();
        let mut cache = with_token(HOUR, now);
        assert!(cache.rejected(1, now));
        assert_eq!(cache.next(now), Next::Wait { refresh: true });
        assert!(cache.rejected(1, now), "another call with the same token");
        assert_eq!(cache.next(now), Next::Wait { refresh: false });
        cache.succeeded(2, HOUR, now, now);
        assert!(cache.rejected(1, now), "late");
        assert_eq!(cache.next(now), uses(2, false));
    }

    #[test]
    fn refreshes_are_forced_five_times_and_once_more_every_ten_seconds() {
        let mut now = Instant::now();
        let mut cache = with_token(HOUR, now);
        let mut force = |now| {
            let Next::Use { number, .. } = cache.next(now) else {
                panic!("no token");
            };
            let forced = cache.rejected(number, now);
            if forced {
                assert_eq!(cache.next(now), Next::Wait { refresh: true });
                cache.succeeded(u32::try_from(number).unwrap() + 1, HOUR, now, now);
            }
            forced
        };
        assert_eq!(
            [(); 7].map(|()| force(now)),
            [true, true, true, true, true, false, false]
        );
        now += seconds(10);
        assert_eq!([(); 2].map(|()| force(now)), [true, false]);
        now += seconds(1000);
        assert_eq!(
            [(); 6].map(|()| force(now)),
            [true, true, true, true, true, false]
        );
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Ask,
        Fail(Option<u64>, f64),
        Pass(u64),
        Reject(u64),
        Succeed(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Ask),
            1 => (proptest::option::of(0_u64..400), 0.0..=1.0).prop_map(|(hint, random)| Step::Fail(hint, random)),
            3 => (0_u64..4000).prop_map(Step::Pass),
            1 => (0_u64..4).prop_map(Step::Reject),
            2 => (1_u64..8000).prop_map(Step::Succeed),
        ]
    }

    proptest! {
        #[test]
        fn no_more_than_one_refresh_runs_and_no_token_is_used_beyond_its_end(
            steps in proptest::collection::vec(step(), 1..60),
        ) {
            let mut cache = Tokens::default();
            let mut now = Instant::now();
            // The refresh that runs, the valid tokens by number, and the end of the pause.
            let mut asked = None;
            let mut valid = std::collections::BTreeMap::new();
            let (mut issued, mut paused) = (0, now);
            for step in steps {
                match step {
                    Step::Ask => {
                        let next = cache.next(now);
                        let starts = matches!(next, Next::Use { refresh: true, .. } | Next::Wait { refresh: true });
                        prop_assert!(!starts || (asked.is_none() && now >= paused), "{next:?}");
                        if starts {
                            asked = Some(now);
                        }
                        match next {
                            Next::Use { number, .. } => {
                                prop_assert_eq!(number, issued);
                                prop_assert!(valid.get(&number).is_some_and(|end| now < *end));
                            }
                            Next::Wait { .. } => prop_assert!(asked.is_some()),
                            Next::Fail { retry_after, .. } => {
                                prop_assert_eq!(now + retry_after, paused);
                                prop_assert!(asked.is_none() && valid.get(&issued).is_none_or(|end| now >= *end));
                            }
                        }
                    }
                    Step::Fail(hint, random) => {
                        if asked.take().is_some() {
                            paused = now + cache.failed("no", hint.map(seconds), now, random);
                        }
                    }
                    Step::Pass(time) => now += seconds(time),
                    Step::Reject(back) => {
                        let number = issued.saturating_sub(back);
                        if number > 0 && cache.rejected(number, now) && number == issued {
                            valid.remove(&number);
                        }
                    }
                    Step::Succeed(lifetime) => {
                        let Some(from) = asked else { continue };
                        if let Some(number) = cache.succeeded(0, seconds(lifetime), from, now) {
                            issued += 1;
                            prop_assert_eq!(number, issued);
                            valid.insert(number, from + seconds(lifetime));
                            asked = None;
                            paused = now;
                        }
                    }
                }
            }
        }
    }
}
