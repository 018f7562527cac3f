//! Tests the machine under any order of events, and compares the windows with a log of every call.

use super::{
    BreakerConfig, BreakerConfigBuilder, BreakerMode, BreakerState,
    gate::Gate,
    model::{Rules, Tick, WindowRule, World},
    state::{Admission, Evidence, Machine},
    window::{Counts, Window},
};
use proptest::{collection::vec, prelude::*};
use std::{cell::Cell, time::Duration};

const SECOND: u64 = 1_000_000_000;

/// The generations of a world count the changes of its one machine.
#[derive(Default)]
struct Test {
    now: Cell<u64>,
    random: Cell<f64>,
    generation: Cell<u64>,
}

impl World for Test {
    fn now(&self) -> Tick {
        Tick(self.now.get())
    }

    fn generation(&self) -> u64 {
        self.generation.set(self.generation.get() + 1);
        self.generation.get()
    }

    fn random(&self) -> f64 {
        self.random.get()
    }
}

#[derive(Clone, Debug)]
enum Event {
    Begin,
    /// Ends one of the calls in flight.
    End(prop::sample::Index, Verdict),
    /// The clock moves forward or back.
    Clock(i64),
    Mode(BreakerMode),
    Reset,
}

#[derive(Clone, Copy, Debug)]
enum Verdict {
    Cancelled,
    Failed(Option<u64>),
    Healthy,
    Neutral,
    Throttled(Option<u64>),
}

impl From<Verdict> for Evidence {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Cancelled => Self::Cancelled,
            Verdict::Failed(hint) => Self::Failed { hint },
            Verdict::Healthy => Self::Healthy,
            Verdict::Neutral => Self::Neutral,
            Verdict::Throttled(hint) => Self::Throttled { hint },
        }
    }
}

fn verdict() -> impl Strategy<Value = Verdict> {
    let hint = || prop::option::weighted(0.3, prop_oneof![0..300 * SECOND, Just(u64::MAX)]);
    prop_oneof![
        1 => Just(Verdict::Cancelled),
        4 => hint().prop_map(Verdict::Failed),
        3 => Just(Verdict::Healthy),
        1 => Just(Verdict::Neutral),
        1 => hint().prop_map(Verdict::Throttled),
    ]
}

fn event(modes: u32) -> impl Strategy<Value = Event> {
    let seconds = SECOND.cast_signed();
    let mode = prop::sample::select(vec![
        BreakerMode::Auto,
        BreakerMode::Disabled,
        BreakerMode::ForcedClosed,
        BreakerMode::ForcedOpen,
        BreakerMode::MetricsOnly,
    ]);
    prop_oneof![
        8 => Just(Event::Begin),
        8 => (any::<prop::sample::Index>(), verdict()).prop_map(|(at, how)| Event::End(at, how)),
        4 => (-3 * seconds..40 * seconds).prop_map(Event::Clock),
        modes => mode.prop_map(Event::Mode),
        modes => Just(Event::Reset),
    ]
}

fn rules() -> impl Strategy<Value = Rules> {
    let window = prop_oneof![
        (1_u32..40).prop_map(WindowRule::Calls),
        (1_u32..12, 1..4 * SECOND).prop_map(|(buckets, width)| WindowRule::Time { buckets, width }),
    ];
    let conditions = (
        prop::option::of(1_u32..6),
        prop::option::of(0.01..=1.0),
        prop::option::of(0..5 * SECOND),
        1_u32..20,
    );
    let opening = (
        1..20 * SECOND,
        1..200 * SECOND,
        1.0..4.0,
        0.0..=1.0,
        1_u32..4,
        1_u32..4,
        1..20 * SECOND,
    );
    (window, conditions, opening).prop_map(|(window, conditions, opening)| {
        let (consecutive_failures, failure_rate, slow_call, min_calls) = conditions;
        let (open_for, more, open_growth, open_jitter, probes, probe_successes, probe_lease) =
            opening;
        Rules {
            window,
            min_calls,
            failure_rate,
            consecutive_failures,
            slow_call,
            slow_call_rate: 0.5,
            open_for,
            max_open_for: open_for + more,
            open_growth,
            open_jitter,
            probes,
            probe_successes,
            probe_lease,
            ..BreakerConfig::default().rules
        }
    })
}

/// What a call that is in flight was admitted as.
///
/// A clock that goes back may have shown times that the machine has not seen, so its own time is known only
/// within bounds: not before the clock's, and not after the latest that the clock has shown.
struct Call {
    admission: Admission,
    lease_ends_not_before: u64,
    lease_ends_not_after: u64,
}

proptest! {
    #[test]
    fn it_never_wedges_and_never_admits_too_many(
        rules in rules(),
        events in vec((event(1), 0.0..=1.0), 0..160),
    ) {
        let world = Test::default();
        let mut machine = Machine::new(&rules, BreakerMode::Auto, &world);
        let mut calls: Vec<Call> = Vec::new();
        let mut latest = 0;
        for (event, random) in events {
            world.random.set(random);
            latest = latest.max(world.now.get());
            match event {
                Event::Begin => {
                    let (admitted, _) = machine.admit(&rules, &world);
                    if let Ok(admission) = admitted {
                        calls.push(Call {
                            admission,
                            lease_ends_not_before: world.now.get() + rules.probe_lease,
                            lease_ends_not_after: latest + rules.probe_lease,
                        });
                    }
                    if machine.state() == BreakerState::HalfOpen {
                        let probes = calls.iter().filter(|call| {
                            call.admission.ticket != 0
                                && call.admission.generation == machine.generation()
                                && call.lease_ends_not_before > latest
                        });
                        prop_assert!(probes.count() <= rules.probes as usize);
                    }
                }
                Event::End(at, how) => {
                    if calls.is_empty() {
                        continue;
                    }
                    let call = calls.swap_remove(at.index(calls.len()));
                    let before = machine.view(Tick(latest));
                    let late = call.admission.generation != before.generation
                        || call.admission.ticket != 0 && call.lease_ends_not_after <= world.now.get();
                    let change = machine.settle(&rules, call.admission, how.into(), &world);
                    let after = machine.view(Tick(latest));
                    if late {
                        prop_assert_eq!(change, None);
                        prop_assert_eq!(before.counts, after.counts);
                        prop_assert_eq!(before.consecutive, after.consecutive);
                        prop_assert_eq!(before.probe_successes, after.probe_successes);
                        prop_assert_eq!(before.totals.failures, after.totals.failures);
                        prop_assert_eq!(before.totals.successes, after.totals.successes);
                    }
                    if matches!(how, Verdict::Cancelled | Verdict::Neutral) {
                        prop_assert_eq!(before.state, after.state);
                    }
                    if let Some(open_for) = change.and_then(|change| change.open_for) {
                        prop_assert!(open_for <= rules.max_open_for);
                    }
                }
                Event::Clock(step) => {
                    world.now.set(world.now.get().saturating_add_signed(step));
                }
                Event::Mode(mode) => {
                    machine.set_mode(mode, &world);
                }
                Event::Reset => {
                    machine.reset(&world);
                }
            }
        }
        if machine.state() == BreakerState::ForcedOpen {
            machine.set_mode(BreakerMode::Auto, &world);
        }
        // Nobody ends a call that is in flight: time alone must be enough.
        let enough = rules.max_open_for.max(rules.probe_lease);
        world.now.set(latest.max(world.now.get()) + enough);
        prop_assert!(machine.admit(&rules, &world).0.is_ok());
        // And from there, a peer that is well gets it closed.
        for _ in 0..=rules.probe_successes {
            let now = world.now.get() + rules.probe_lease;
            world.now.set(now);
            let (admitted, _) = machine.admit(&rules, &world);
            prop_assert!(admitted.is_ok());
            if machine.state() != BreakerState::HalfOpen {
                break;
            }
            machine.settle(&rules, admitted.unwrap(), Evidence::Healthy, &world);
        }
        prop_assert_ne!(machine.state(), BreakerState::HalfOpen);
    }

    /// Successes are counted beside the machine, which must not be seen.
    #[test]
    fn a_gate_does_what_its_machine_does(
        rules in rules(),
        events in vec((prop_oneof![2 => Just(None), 1 => event(1).prop_map(Some)], any::<bool>()), 0..400),
    ) {
        // One for each, alike but for the generations that they have given out.
        let [world, other] = [(); 2].map(|()| Test { random: Cell::new(0.5), ..Test::default() });
        let mut machine = Machine::new(&rules, BreakerMode::Auto, &world);
        let gate = Gate::new(Machine::new(&rules, BreakerMode::Auto, &other));
        let mut calls = Vec::new();
        for (event, look) in events {
            match event {
                // The usual call.
                None => {
                    let (alone, gated) = (machine.admit(&rules, &world), gate.admit(&rules, &other));
                    prop_assert_eq!(alone, gated);
                    if let Ok(admission) = alone.0 {
                        let alone = machine.settle(&rules, admission, Evidence::Healthy, &world);
                        let gated = gate.settle(&rules, admission, Evidence::Healthy, &other);
                        prop_assert_eq!(alone, gated);
                    }
                }
                Some(Event::Begin) => {
                    let (alone, gated) = (machine.admit(&rules, &world), gate.admit(&rules, &other));
                    prop_assert_eq!(alone, gated);
                    calls.extend(alone.0);
                }
                Some(Event::End(at, how)) if !calls.is_empty() => {
                    let admission = calls.swap_remove(at.index(calls.len()));
                    let alone = machine.settle(&rules, admission, how.into(), &world);
                    let gated = gate.settle(&rules, admission, how.into(), &other);
                    prop_assert_eq!(alone, gated);
                }
                Some(Event::End(..)) => {}
                Some(Event::Clock(step)) => {
                    world.now.set(world.now.get() + step.unsigned_abs());
                    other.now.set(world.now.get());
                }
                Some(Event::Mode(mode)) => {
                    prop_assert_eq!(machine.set_mode(mode, &world), gate.set_mode(mode, &other));
                }
                Some(Event::Reset) => {
                    prop_assert_eq!(machine.reset(&world), gate.reset(&other));
                }
            }
            if look {
                let seen = |machine: &Machine| format!("{:?}", machine.view(world.now()));
                prop_assert_eq!(seen(&machine), gate.look(seen));
            }
        }
    }

    #[test]
    fn a_window_of_calls_holds_the_last_ones_and_no_others(
        size in 1_u32..200,
        calls in vec((any::<bool>(), any::<bool>()), 0..600),
    ) {
        let mut window = Window::new(WindowRule::Calls(size));
        for (done, (failed, slow)) in calls.iter().enumerate() {
            window.record(Tick(0), *failed, *slow);
            let last = &calls[..=done];
            let last = &last[last.len().saturating_sub(size as usize)..];
            let count = |which: fn(&(bool, bool)) -> bool| last.iter().filter(|c| which(c)).count();
            prop_assert_eq!(window.counts(), Counts {
                calls: last.len() as u64,
                failures: count(|call| call.0) as u64,
                slow: count(|call| call.1) as u64,
            });
        }
    }

    #[test]
    fn a_window_of_time_holds_what_is_young_enough_by_buckets(
        buckets in 1_u32..12,
        width in 1_u64..50,
        calls in vec((-20_i64..200, any::<bool>()), 0..200),
        later in 0_u64..1_000,
    ) {
        let mut window = Window::new(WindowRule::Time { buckets, width });
        let (mut now, mut latest) = (0_u64, 0_u64);
        let mut log = Vec::new();
        let holds = |log: &[(u64, bool)], now: u64| {
            let young = |at: &u64| at / width + u64::from(buckets) > now / width;
            let held: Vec<_> = log.iter().filter(|(at, _)| young(at)).collect();
            (held.len() as u64, held.iter().filter(|(_, failed)| *failed).count() as u64)
        };
        for (step, failed) in calls {
            now = now.saturating_add_signed(step);
            latest = latest.max(now);
            window.record(Tick(now), failed, false);
            // A call that the clock says was before the last one is as young as that.
            log.push((latest / width * width, failed));
            let counts = window.counts();
            prop_assert_eq!((counts.calls, counts.failures), holds(&log, latest));
        }
        let counts = window.counts_at(Tick(latest + later));
        prop_assert_eq!((counts.calls, counts.failures), holds(&log, latest + later));
    }

    #[test]
    fn the_open_time_is_never_over_its_cap_nor_under_a_hint(
        rules in rules(),
        rounds: u32,
        hint in prop::option::of(any::<u64>()),
        random in 0.0..=1.0,
    ) {
        let time = rules.open_time(rounds, hint, random);
        prop_assert!(time <= rules.max_open_for);
        if let Some(hint) = hint.filter(|hint| *hint < rules.max_open_for) {
            prop_assert!(time + 1_000 >= hint);
        }
        // Less what a float rounds.
        let least = Duration::from_nanos(rules.open_for).mul_f64(1.0 - rules.open_jitter);
        prop_assert!(Duration::from_nanos(time + 1_000) >= least);
    }
}

#[test]
fn sixty_days_of_silence_are_cleared_in_one_step() {
    const DAY: u64 = 24 * 3_600 * SECOND;
    let rule = WindowRule::Time {
        buckets: 10,
        width: 1_000_000,
    };
    let mut window = Window::new(rule);
    for _ in 0..7 {
        window.record(Tick(5), true, false);
    }
    window.record(Tick(60 * DAY), false, false);
    let counts = window.counts();
    assert_eq!((counts.calls, counts.failures), (1, 0));
    window.record(Tick(u64::MAX), true, true);
    window.record(Tick(0), true, true);
    assert_eq!(window.counts().calls, 2, "the clock went back");
    assert_eq!(window.counts_at(Tick(u64::MAX)).calls, 2);
}

#[test]
fn the_jitter_is_there_at_the_cap_and_for_every_instance() {
    let rules = BreakerConfig::default().rules;
    let times = [0.0, 0.5, 1.0].map(|random| rules.open_time(40, None, random) / SECOND);
    assert_eq!(times, [60, 54, 48]);
    let hinted =
        |hint: u64| [0.0, 1.0].map(|r| rules.open_time(0, Some(hint * SECOND), r) / SECOND);
    assert_eq!(hinted(2), [5, 4], "shorter than its own");
    assert_eq!(hinted(30), [30, 36], "a hint is a floor");
    assert_eq!(
        hinted(86_400),
        [60, 48],
        "beyond the cap there is nothing to wait for"
    );
}

/// More successes than the word of a gate has room for.
#[test]
fn successes_beyond_the_room_of_the_word_are_counted_too() {
    let rules = BreakerConfig::default().rules;
    let world = Test::default();
    let gate = Gate::new(Machine::new(&rules, BreakerMode::Auto, &world));
    for _ in 0..200_000 {
        let admission = gate.admit(&rules, &world).0.unwrap();
        gate.settle(&rules, admission, Evidence::Healthy, &world);
    }
    let view = gate.look(|machine| machine.view(Tick(0)));
    assert_eq!((view.totals.successes, view.counts.calls), (200_000, 100));
    assert_eq!(view.generation, 1);
}

/// Three failures in a row open it for exactly 15 seconds; no rate is judged.
fn three_in_a_row() -> BreakerConfigBuilder {
    BreakerConfig::builder()
        .consecutive_failures(3)
        .without_failure_rate()
        .open_for(Duration::from_secs(15))
        .max_open_for(Duration::from_secs(15))
        .open_jitter(0.0)
}

#[test]
fn a_clock_that_goes_back_stands_still() {
    let rules = three_in_a_row().build().unwrap().rules;
    let world = Test {
        now: Cell::new(100 * SECOND),
        ..Test::default()
    };
    let mut machine = Machine::new(&rules, BreakerMode::Auto, &world);
    for _ in 0..3 {
        let (admitted, _) = machine.admit(&rules, &world);
        let failed = Evidence::Failed { hint: None };
        machine.settle(&rules, admitted.unwrap(), failed, &world);
    }
    let mut wait = |seconds: u64| {
        world.now.set(seconds * SECOND);
        let refused = machine.admit(&rules, &world).0.unwrap_err();
        refused.retry_after / SECOND
    };
    assert_eq!([wait(110), wait(50), wait(0), wait(111)], [5, 5, 5, 4]);
    assert_eq!(machine.view(Tick(0)).left, Some(4 * SECOND));
}

#[test]
fn the_clock_is_read_at_most_twice_a_call_and_not_where_it_says_nothing() {
    struct Counting(Cell<u32>);
    impl World for Counting {
        fn now(&self) -> Tick {
            self.0.set(self.0.get() + 1);
            Tick(0)
        }

        fn generation(&self) -> u64 {
            1
        }

        fn random(&self) -> f64 {
            unreachable!("nothing opens")
        }
    }
    let reads = |config: BreakerConfigBuilder, evidence| {
        let rules = config.build().unwrap().rules;
        let world = Counting(Cell::new(0));
        let gate = Gate::new(Machine::new(&rules, BreakerMode::Auto, &world));
        world.0.set(0);
        let (admitted, _) = gate.admit(&rules, &world);
        gate.settle(&rules, admitted.unwrap(), evidence, &world);
        world.0.get()
    };
    let base = BreakerConfig::builder;
    let second = Duration::from_secs(1);
    let failed = Evidence::Failed { hint: None };
    assert_eq!(reads(base(), Evidence::Healthy), 0);
    assert_eq!(reads(three_in_a_row(), Evidence::Healthy), 0);
    assert_eq!(reads(base(), failed), 1);
    assert_eq!(reads(base().window_time(second), Evidence::Healthy), 1);
    let everything = base().window_time(second).slow_call(second);
    assert_eq!(reads(everything.clone(), Evidence::Healthy), 2);
    assert_eq!(reads(everything, failed), 2);
}
