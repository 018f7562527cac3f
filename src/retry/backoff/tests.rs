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
