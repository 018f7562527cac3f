use crate::InvalidConfig;
use std::{sync::Arc, time::Duration};

/// The delay before each retry.
///
/// A pure function of the number of the retry and of a random number. Delays are computed in whole
/// nanoseconds, without overflow for any setting, and none is longer than the cap.
///
/// # Jitter at the cap
///
/// If jitter were added before the cap is applied, every client of a long outage would end up with
/// the same delay; if it were added after, delays would exceed the cap. Here the whole range of the
/// jitter is moved below the cap: with a cap of 30 s and additive jitter of 1 s, late retries wait
/// from 29 s to 30 s.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_webhook::retry::{Backoff, Jitter};
///
/// let backoff = Backoff::exponential(Duration::from_secs(1), Duration::from_secs(30))
///     .jitter(Jitter::None)
///     .build()?;
/// let delays: Vec<_> = (1..=7).map(|retry| backoff.delay(retry, Duration::ZERO, 0).as_secs()).collect();
/// assert_eq!(delays, [1, 2, 4, 8, 16, 30, 30]);
///
/// assert_eq!(
///     Backoff::exponential(Duration::from_secs(60), Duration::from_secs(30)).build().unwrap_err().setting(),
///     "cap",
/// );
/// # Ok::<_, tower_webhook::InvalidConfig>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Backoff {
    strategy: Strategy,
    /// In nanoseconds, as every duration here.
    cap: u64,
    jitter: Jitter,
}

#[derive(Clone, Debug, PartialEq)]
enum Strategy {
    Exponential { base: u64, factor: f64 },
    Linear { base: u64 },
    Constant { delay: u64 },
    Table(Arc<[u64]>),
}

/// How delays are randomized, so that clients that failed together do not retry together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Jitter {
    /// Adds up to this time to the delay: `d + U(0, range)`.
    Additive(Duration),
    /// Each delay is drawn from the base to three times the delay before it: `U(base, 3 * previous)`.
    /// A little faster than [`Full`](Self::Full), for about a quarter more calls. The base of a table
    /// is its first entry.
    Decorrelated,
    /// Keeps half of the delay and draws the other half: `d / 2 + U(0, d / 2)`.
    Equal,
    /// Draws the whole delay: `U(0, d)`. The default: it needs the fewest calls if clients contend.
    #[default]
    Full,
    /// No jitter, and none added to hints of the peer: for tests, and for callers that do not start together.
    None,
    /// Adds up to a tenth: `d + U(0, d / 10)`.
    Plus10Percent,
}

/// Builder of a [`Backoff`].
#[derive(Clone, Debug)]
#[must_use]
pub struct BackoffBuilder {
    strategy: Settings,
    cap: Option<Duration>,
    jitter: Jitter,
}

#[derive(Clone, Debug)]
enum Settings {
    Exponential { base: Duration, factor: f64 },
    Linear { base: Duration },
    Constant { delay: Duration },
    Table(Vec<Duration>),
}

impl Backoff {
    /// Waits `base * factor^(n - 1)` before the n-th retry, at most `cap`. Default factor: 2.
    pub const fn exponential(base: Duration, cap: Duration) -> BackoffBuilder {
        let strategy = Settings::Exponential { base, factor: 2.0 };
        BackoffBuilder::new(strategy, Some(cap))
    }

    /// Waits `base * n` before the n-th retry, at most `cap`.
    pub const fn linear(base: Duration, cap: Duration) -> BackoffBuilder {
        BackoffBuilder::new(Settings::Linear { base }, Some(cap))
    }

    /// Waits the same time before each retry. This time is also the cap, unless
    /// [`cap`](BackoffBuilder::cap) is set higher to make room for jitter.
    pub const fn constant(delay: Duration) -> BackoffBuilder {
        BackoffBuilder::new(Settings::Constant { delay }, None)
    }

    /// Waits the listed time before each retry; the last entry is used for all further ones. The cap
    /// is 1.1 times the longest entry, unless [`cap`](BackoffBuilder::cap) is set.
    pub fn table(delays: impl IntoIterator<Item = Duration>) -> BackoffBuilder {
        BackoffBuilder::new(Settings::Table(delays.into_iter().collect()), None)
    }

    /// The delay before the retry of this number, from 1.
    ///
    /// `previous` is the delay before the previous retry, zero for the first: only
    /// [`Jitter::Decorrelated`] uses it. `random` selects the point in the range of the jitter: a new
    /// uniform `u64` for each call.
    pub fn delay(&self, retry: u32, previous: Duration, random: u64) -> Duration {
        let full = self.strategy.delay(retry).min(self.cap);
        let (low, spread) = match self.jitter {
            Jitter::None => (full, 0),
            Jitter::Full => (0, full),
            Jitter::Equal => (full - full / 2, full / 2),
            Jitter::Plus10Percent => self.below_cap(full, full / 10),
            Jitter::Additive(range) => self.below_cap(full, nanos(range)),
            Jitter::Decorrelated => {
                let base = self.strategy.base().min(self.cap);
                let high = nanos(previous).max(base).saturating_mul(3).min(self.cap);
                (base, high - base)
            }
        };
        Duration::from_nanos(low + part_of(spread, random))
    }

    /// The longest delay.
    pub const fn cap(&self) -> Duration {
        Duration::from_nanos(self.cap)
    }

    /// The jitter.
    pub const fn jitter(&self) -> Jitter {
        self.jitter
    }

    /// The sum of the longest delays of this many retries; those after the 1000th count as the cap.
    pub(super) fn longest(&self, retries: u32) -> Duration {
        let counted = retries.min(1_000);
        (1..=counted)
            .map(|retry| self.delay(retry, self.cap(), u64::MAX))
            .fold(Duration::ZERO, Duration::saturating_add)
            .saturating_add(self.cap().saturating_mul(retries - counted))
    }

    /// The longest delay of this many retries.
    #[cfg(feature = "queue")]
    pub(super) fn longest_of(&self, retries: u32) -> Duration {
        let delays = (1..=retries.min(1_000)).map(|retry| self.delay(retry, self.cap(), u64::MAX));
        delays.max().unwrap_or_default()
    }

    /// The start and length of the range that begins at `delay`, moved below the cap.
    fn below_cap(&self, delay: u64, spread: u64) -> (u64, u64) {
        let spread = spread.min(self.cap);
        (delay.min(self.cap - spread), spread)
    }
}

impl Strategy {
    fn delay(&self, retry: u32) -> u64 {
        let steps = retry.saturating_sub(1);
        match self {
            Self::Exponential { base, factor } => power(*base, *factor, steps),
            Self::Linear { base } => base.saturating_mul(u64::from(retry.max(1))),
            Self::Constant { delay } => *delay,
            Self::Table(delays) => {
                let at = usize::try_from(steps).unwrap_or(usize::MAX);
                let last = delays.len().saturating_sub(1);
                delays.get(at.min(last)).copied().unwrap_or_default()
            }
        }
    }

    fn base(&self) -> u64 {
        self.delay(1)
    }
}

/// `base * factor^steps`, at most `u64::MAX`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::float_cmp,
    reason = "a cast from a float saturates, which is what is wanted"
)]
fn power(base: u64, factor: f64, steps: u32) -> u64 {
    if factor == 2.0 {
        // The common case, computed exactly.
        return if base.leading_zeros() >= steps {
            base << steps.min(63)
        } else {
            u64::MAX
        };
    }
    let steps = i32::try_from(steps).unwrap_or(i32::MAX);
    (base as f64 * factor.powi(steps)) as u64
}

/// Scales `random` to the range from 0 to `whole`, both included.
pub(super) const fn part_of(whole: u64, random: u64) -> u64 {
    (((whole as u128 + 1) * random as u128) >> 64) as u64
}

/// Saturates after 584 years. 64-bit arithmetic only, because the budget calls it for every
/// delivery.
pub(super) const fn nanos(duration: Duration) -> u64 {
    let secs = duration.as_secs().saturating_mul(1_000_000_000);
    secs.saturating_add(duration.subsec_nanos() as u64)
}

impl BackoffBuilder {
    const fn new(strategy: Settings, cap: Option<Duration>) -> Self {
        Self {
            strategy,
            cap,
            jitter: Jitter::Full,
        }
    }

    /// Sets the ratio of each delay of an exponential backoff to the one before. Default: 2. It must be
    /// finite and at least 1, and has no effect on other strategies.
    pub const fn factor(mut self, by: f64) -> Self {
        if let Settings::Exponential { factor, .. } = &mut self.strategy {
            *factor = by;
        }
        self
    }

    /// Sets the longest delay, including jitter. Default: the `cap` of an exponential or linear backoff; the
    /// delay of a constant one; 1.1 times the longest entry of a table.
    pub const fn cap(mut self, cap: Duration) -> Self {
        self.cap = Some(cap);
        self
    }

    /// Sets the jitter. Default: [`Jitter::Full`].
    pub const fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// Builds the backoff.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] names the first invalid setting: `base`, `factor`, `constant`,
    /// `table`, `cap` or `jitter`.
    pub fn build(self) -> Result<Backoff, InvalidConfig> {
        match &self.strategy {
            Settings::Exponential { factor, .. } if !factor.is_finite() || *factor < 1.0 => {
                return Err(InvalidConfig::new(
                    "factor",
                    "must be finite and at least 1",
                ));
            }
            Settings::Exponential { base, .. } | Settings::Linear { base } if base.is_zero() => {
                return Err(InvalidConfig::new("base", "must be longer than zero"));
            }
            Settings::Constant { delay } if delay.is_zero() => {
                return Err(InvalidConfig::new("constant", "must be longer than zero"));
            }
            Settings::Table(delays) if delays.is_empty() => {
                return Err(InvalidConfig::new("table", "must have at least one delay"));
            }
            _ => {}
        }
        if self.cap.is_some_and(|cap| cap < self.strategy.bound()) {
            let problem = "must not be shorter than the delays that it bounds";
            return Err(InvalidConfig::new("cap", problem));
        }
        if matches!(self.jitter, Jitter::Additive(range) if range.is_zero()) {
            let problem = "must add more than zero; `Jitter::None` adds nothing";
            return Err(InvalidConfig::new("jitter", problem));
        }
        let backoff = self.build_known();
        if backoff.jitter == Jitter::Decorrelated && backoff.cap <= backoff.strategy.base() {
            let problem =
                "must be longer than the first delay, from which `Jitter::Decorrelated` draws";
            return Err(InvalidConfig::new("cap", problem));
        }
        Ok(backoff)
    }

    /// Builds a backoff from settings that are known to be valid.
    pub(crate) fn build_known(self) -> Backoff {
        let bound = nanos(self.strategy.bound());
        let (strategy, cap) = match self.strategy {
            Settings::Exponential { base, factor } => {
                let base = nanos(base);
                (Strategy::Exponential { base, factor }, bound)
            }
            Settings::Linear { base } => (Strategy::Linear { base: nanos(base) }, bound),
            Settings::Constant { delay } => {
                let delay = nanos(delay);
                (Strategy::Constant { delay }, bound)
            }
            Settings::Table(delays) => {
                let delays = delays.into_iter().map(nanos).collect();
                (Strategy::Table(delays), bound.saturating_add(bound / 10))
            }
        };
        Backoff {
            strategy,
            cap: self.cap.map_or(cap, nanos),
            jitter: self.jitter,
        }
    }
}

impl Settings {
    /// The lower bound of the cap.
    fn bound(&self) -> Duration {
        match self {
            Self::Exponential { base, .. } | Self::Linear { base } => *base,
            Self::Constant { delay } => *delay,
            Self::Table(delays) => delays.iter().copied().max().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{prelude::*, strategy::Strategy as AnyStrategy};

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn ends(backoff: &Backoff, retry: u32) -> (Duration, Duration) {
        let delay = |random| backoff.delay(retry, Duration::ZERO, random);
        (delay(0), delay(u64::MAX))
    }

    #[test]
    fn the_strategies_without_jitter() {
        let plain = |builder: BackoffBuilder| builder.jitter(Jitter::None).build().unwrap();
        let table: [(Backoff, [u64; 6]); 5] = [
            (
                plain(Backoff::exponential(secs(1), secs(30))),
                [1, 2, 4, 8, 16, 30],
            ),
            (
                plain(Backoff::exponential(secs(1), secs(500)).factor(3.0)),
                [1, 3, 9, 27, 81, 243],
            ),
            (
                plain(Backoff::linear(secs(5), secs(22))),
                [5, 10, 15, 20, 22, 22],
            ),
            (plain(Backoff::constant(secs(5))), [5; 6]),
            (
                plain(Backoff::table([5, 300, 1800].map(secs))),
                [5, 300, 1800, 1800, 1800, 1800],
            ),
        ];
        for (backoff, expected) in table {
            let delays: Vec<_> = (1..=6)
                .map(|n| backoff.delay(n, Duration::ZERO, 7).as_secs())
                .collect();
            assert_eq!(delays, expected, "{backoff:?}");
        }
    }

    #[test]
    fn the_ranges_of_each_jitter_below_and_at_the_cap() {
        let with = |jitter| {
            Backoff::exponential(secs(2), secs(30))
                .jitter(jitter)
                .build()
                .unwrap()
        };
        // (jitter, range before the second retry (4 s), range at the cap (30 s))
        let table = [
            (Jitter::None, (4_000, 4_000), (30_000, 30_000)),
            (Jitter::Plus10Percent, (4_000, 4_400), (27_000, 30_000)),
            (Jitter::Additive(ms(500)), (4_000, 4_500), (29_500, 30_000)),
            (Jitter::Additive(secs(1)), (4_000, 5_000), (29_000, 30_000)),
            (Jitter::Equal, (2_000, 4_000), (15_000, 30_000)),
            (Jitter::Full, (0, 4_000), (0, 30_000)),
        ];
        for (jitter, second, at_cap) in table {
            let backoff = with(jitter);
            assert_eq!(
                ends(&backoff, 2),
                (ms(second.0), ms(second.1)),
                "{jitter:?}"
            );
            assert_eq!(
                ends(&backoff, 40),
                (ms(at_cap.0), ms(at_cap.1)),
                "{jitter:?}"
            );
        }
    }

    #[test]
    fn a_decorrelated_delay_grows_from_the_one_before_it_and_keeps_its_spread_at_the_cap() {
        let backoff = Backoff::exponential(secs(1), secs(30))
            .jitter(Jitter::Decorrelated)
            .build()
            .unwrap();
        let range = |previous| {
            (
                backoff.delay(9, previous, 0),
                backoff.delay(9, previous, u64::MAX),
            )
        };
        assert_eq!(range(Duration::ZERO), (secs(1), secs(3)));
        assert_eq!(range(secs(5)), (secs(1), secs(15)));
        // Not cut to 30 s by two draws of three, as `min(cap, U(base, 3 * previous))` would be.
        assert_eq!(range(secs(30)), (secs(1), secs(30)));
    }

    #[test]
    fn decorrelated_jitter_needs_room_between_its_base_and_the_cap() {
        for builder in [
            Backoff::exponential(secs(1), secs(1)),
            Backoff::constant(secs(1)),
        ] {
            let refused = builder.jitter(Jitter::Decorrelated).build().unwrap_err();
            assert_eq!(refused.setting(), "cap");
        }
        let roomy = Backoff::constant(secs(1)).cap(secs(2));
        assert!(roomy.jitter(Jitter::Decorrelated).build().is_ok());
    }

    /// tower's backoff truncates jitter to whole seconds; a second is split into a billion parts here.
    #[test]
    fn jitter_is_finer_than_a_second() {
        let backoff = Backoff::exponential(secs(1), secs(30)).build().unwrap();
        let delay = |random| backoff.delay(1, Duration::ZERO, random);
        assert_eq!(delay(u64::MAX / 2), ms(500));
        assert_eq!(delay(1 << 35), Duration::from_nanos(1));
    }

    /// Envoy's documented defaults: base 25 ms, cap 250 ms, the n-th delay drawn from
    /// `[0, (2^n - 1) * 25 ms)`. Ours doubles the range instead, under the same cap.
    #[test]
    fn envoys_cap_is_never_exceeded() {
        let backoff = Backoff::exponential(ms(25), ms(250)).build().unwrap();
        let highest: Vec<_> = (1..=6)
            .map(|retry| ends(&backoff, retry).1.as_millis())
            .collect();
        assert_eq!(highest, [25, 50, 100, 200, 250, 250]);
    }

    /// AWS SDKs, full jitter: 2020 base 1 s, 2026 base 50 ms and 1 s where throttled; cap 20 s.
    #[test]
    fn the_aws_delays_of_2020_and_2026() {
        let highest = |base| {
            let backoff = Backoff::exponential(base, secs(20)).build().unwrap();
            [1, 2, 3, 6, 12].map(|retry| ends(&backoff, retry))
        };
        let full = |delays: [u64; 5]| delays.map(|delay| (Duration::ZERO, ms(delay)));
        assert_eq!(
            highest(secs(1)),
            full([1_000, 2_000, 4_000, 20_000, 20_000])
        );
        assert_eq!(highest(ms(50)), full([50, 100, 200, 1_600, 20_000]));
    }

    #[test]
    fn settings_that_make_no_sense_are_named() {
        let exponential = || Backoff::exponential(secs(1), secs(30));
        let table = [
            (Backoff::exponential(Duration::ZERO, secs(1)), "base"),
            (Backoff::linear(Duration::ZERO, secs(1)), "base"),
            (Backoff::constant(Duration::ZERO), "constant"),
            (Backoff::table([]), "table"),
            (exponential().factor(f64::NAN), "factor"),
            (exponential().factor(f64::INFINITY), "factor"),
            (exponential().factor(0.99), "factor"),
            (exponential().factor(-2.0), "factor"),
            (exponential().cap(ms(999)), "cap"),
            (exponential().cap(Duration::ZERO), "cap"),
            (Backoff::table([5, 1].map(secs)).cap(secs(4)), "cap"),
            (
                exponential().jitter(Jitter::Additive(Duration::ZERO)),
                "jitter",
            ),
        ];
        for (builder, setting) in table {
            assert_eq!(
                builder.clone().build().unwrap_err().setting(),
                setting,
                "{builder:?}"
            );
        }
    }

    fn any_duration() -> impl AnyStrategy<Value = Duration> {
        prop_oneof![
            (1_u64..100_000).prop_map(Duration::from_millis),
            (1_u64..=u64::MAX).prop_map(Duration::from_nanos),
            (1_u64..=u64::MAX).prop_map(Duration::from_secs),
            Just(Duration::MAX),
        ]
    }

    fn any_jitter() -> impl AnyStrategy<Value = Jitter> {
        prop_oneof![
            Just(Jitter::None),
            Just(Jitter::Plus10Percent),
            any_duration().prop_map(Jitter::Additive),
            Just(Jitter::Equal),
            Just(Jitter::Full),
            Just(Jitter::Decorrelated),
        ]
    }

    fn any_backoff() -> impl AnyStrategy<Value = Backoff> {
        let builder = prop_oneof![
            (any_duration(), any_duration(), 1.0_f64..1e300).prop_map(|(one, other, factor)| {
                Backoff::exponential(one.min(other), one.max(other)).factor(factor)
            }),
            (any_duration(), any_duration())
                .prop_map(|(one, other)| Backoff::linear(one.min(other), one.max(other))),
            any_duration().prop_map(Backoff::constant),
            prop::collection::vec(any_duration(), 1..9).prop_map(Backoff::table),
        ];
        // Decorrelated jitter needs a cap above the base.
        (builder, any_jitter()).prop_filter_map("no spread", |(builder, jitter)| {
            let built = builder.jitter(jitter).build();
            assert!(built.is_ok() || jitter == Jitter::Decorrelated, "{built:?}");
            built.ok()
        })
    }

    proptest! {
        #[test]
        fn no_configuration_overflows_or_exceeds_its_cap(
            backoff in any_backoff(),
            retry in prop_oneof![0_u32..70, Just(u32::MAX), any::<u32>()],
            previous in any_duration(),
            random in prop_oneof![Just(0), Just(u64::MAX), any::<u64>()],
        ) {
            prop_assert!(backoff.delay(retry, previous, random) <= backoff.cap());
        }

        #[test]
        fn every_jitter_has_a_spread_wherever_it_is(
            jitter in any_jitter().prop_filter("none", |jitter| *jitter != Jitter::None),
            retry in 1_u32..100,
        ) {
            let backoff = Backoff::exponential(ms(1), secs(30)).jitter(jitter).build().unwrap();
            let (low, high) = ends(&backoff, retry);
            prop_assert!(high > low);
        }

        #[test]
        fn without_jitter_a_delay_is_never_shorter_than_the_one_before(
            base in 1_u64..100_000, factor in 1.0_f64..10.0, retry in 1_u32..1_000,
        ) {
            let backoff = Backoff::exponential(ms(base), Duration::MAX).factor(factor).jitter(Jitter::None).build().unwrap();
            let delay = |retry| backoff.delay(retry, Duration::ZERO, 0);
            prop_assert!(delay(retry) <= delay(retry + 1));
        }
    }
}
