use super::*;
use crate::retry::{Backoff, Budget, Jitter, RetryConfig, RetryConfigBuilder};
use proptest::prelude::*;

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn plain() -> RetryConfigBuilder {
    let backoff = Backoff::constant(secs(1))
        .jitter(Jitter::None)
        .build()
        .unwrap();
    RetryConfig::builder()
        .backoff(backoff)
        .budget(Budget::unlimited())
        .refusals(Refusals::Wait(10))
}

fn until(deadline: Option<Deadline>) -> CallContext {
    let none = CallContext::default();
    deadline.map_or(none, |deadline| none.with_deadline(deadline))
}

/// The decision on `outcome`, 0 s after the beginning, with this much time until the deadline.
fn first(config: &RetryConfig, deadline: Option<Duration>, outcome: Outcome) -> Decision {
    let now = Instant::now();
    let mut state = RetryState::new(
        config,
        now,
        until(deadline.map(|left| Deadline::at(now + left))),
    );
    state.decide(outcome, now, || true)
}

fn reason(decision: &Decision) -> Option<GaveUp> {
    match decision {
        Decision::GiveUp(history) => history.gave_up(),
        _ => None,
    }
}

fn wait(decision: &Decision) -> Duration {
    match decision {
        Decision::Retry(wait) => *wait,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_cannot_end_in_time_is_given_up_at_once_and_says_why() {
    let config = plain()
        .window(secs(60))
        .min_attempt(secs(2))
        .build()
        .unwrap();
    let busy = |hint| Outcome::throttled(Some(secs(hint)));
    let closed = |hint| Outcome::refused(Some(secs(hint)));
    let cases = [
        // (deadline, outcome, reason)
        (Some(2), Outcome::transient(), Some(GaveUp::Deadline)),
        (Some(1), Outcome::transient(), Some(GaveUp::Deadline)),
        (Some(0), Outcome::transient(), Some(GaveUp::Deadline)),
        (Some(3), Outcome::transient(), None),
        (Some(7), busy(6), Some(GaveUp::HintTooLong)),
        (Some(8), busy(6), None),
        (None, busy(58), None),
        (None, busy(59), Some(GaveUp::HintTooLong)),
        (None, busy(86_400), Some(GaveUp::HintTooLong)),
        (Some(7), closed(6), Some(GaveUp::Refused)),
        (None, closed(30), None),
        (Some(1_000), Outcome::transient(), None),
    ];
    for (deadline, outcome, expected) in cases {
        let decision = first(&config, deadline.map(secs), outcome);
        assert_eq!(reason(&decision), expected, "{deadline:?} {outcome:?}");
    }
}

#[test]
fn the_window_counts_from_the_first_attempt() {
    let config = plain()
        .window(secs(10))
        .attempts(9)
        .min_attempt(secs(1))
        .build()
        .unwrap();
    let start = Instant::now();
    let mut state = RetryState::new(&config, start, CallContext::default());
    let mut at = |s| state.decide(Outcome::transient(), start + secs(s), || true);
    assert_eq!(wait(&at(0)), secs(1));
    assert_eq!(wait(&at(8)), secs(1));
    assert_eq!(reason(&at(9)), Some(GaveUp::Window));
}

#[test]
fn every_other_reason_to_give_up() {
    let config = |attempts, refusals| {
        plain()
            .attempts(attempts)
            .refusals(refusals)
            .build()
            .unwrap()
    };
    let default = config(3, Refusals::Wait(10));
    let (one, strict) = (config(1, Refusals::Wait(10)), config(3, Refusals::GiveUp));
    let refused = Outcome::refused(None);
    let cases = [
        (&default, Outcome::permanent(), GaveUp::NotRetryable),
        (&default, Outcome::unsendable(), GaveUp::NotRetryable),
        (
            &default,
            Outcome::transient().not_repeatable(),
            GaveUp::NotRetryable,
        ),
        (&default, refused.never_retry(), GaveUp::NotRetryable),
        (&one, Outcome::transient(), GaveUp::RetriesExhausted),
        (&one, refused, GaveUp::Refused),
        (&strict, refused, GaveUp::Refused),
    ];
    for (config, outcome, expected) in cases {
        assert_eq!(
            reason(&first(config, None, outcome)),
            Some(expected),
            "{outcome:?}"
        );
    }
    let now = Instant::now();
    let decision = RetryState::new(&default, now, CallContext::default()).decide(
        Outcome::transient(),
        now,
        || false,
    );
    assert_eq!(reason(&decision), Some(GaveUp::BodyNotReplayable));

    let empty = Budget::builder().share(0.1).floor(0).build().unwrap();
    let broke = plain().budget(empty).build().unwrap();
    assert_eq!(
        reason(&first(&broke, None, Outcome::transient())),
        Some(GaveUp::Budget)
    );
}

#[test]
fn a_hint_is_waited_for_cut_or_given_up_on_as_its_limit_says() {
    let config = |limit| plain().hint_limit(limit).build().unwrap();
    let cap = config(HintLimit::CapTo(secs(300)));
    let strict = config(HintLimit::GiveUp(secs(300)));
    let hinted =
        |config: &RetryConfig, hint| first(config, None, Outcome::throttled(Some(secs(hint))));
    for config in [&cap, &strict] {
        let within = wait(&hinted(config, 100));
        assert!((secs(100)..=secs(110)).contains(&within), "{within:?}");
        // Shorter than the backoff's own delay.
        assert_eq!(wait(&hinted(config, 0)), secs(1));
    }
    for hint in [300, 301, 100_000] {
        let cut = wait(&hinted(&cap, hint));
        assert!((secs(290)..=secs(300)).contains(&cut), "{cut:?}");
    }
    assert_eq!(reason(&hinted(&strict, 301)), Some(GaveUp::HintTooLong));
}

#[test]
fn those_who_are_told_the_same_do_not_return_together() {
    let config = RetryConfig::builder()
        .refusals(Refusals::Wait(10))
        .build()
        .unwrap();
    let mut waits: Vec<_> = (0..1_000)
        .map(|_| wait(&first(&config, None, Outcome::throttled(Some(secs(5))))))
        .collect();
    waits.sort_unstable();
    waits.dedup();
    assert!(
        waits.len() > 990
            && waits[0] >= secs(5)
            && waits[waits.len() - 1] <= Duration::from_millis(5_500)
    );
}

/// Deliveries that an open circuit refused are not all retried when it closes: a delivery that has waited
/// a minute may wait another.
#[test]
fn a_refused_delivery_is_spread_over_as_long_as_it_has_waited() {
    let config = RetryConfig::builder()
        .refusals(Refusals::Wait(10))
        .build()
        .unwrap();
    let start = Instant::now();
    let waits: Vec<_> = (0..1_000)
        .map(|_| {
            let mut state = RetryState::new(&config, start, CallContext::default());
            let outcome = Outcome::refused(Some(secs(5)));
            wait(&state.decide(outcome, start + secs(60), || true))
        })
        .collect();
    assert!(waits.iter().all(|wait| (secs(5)..=secs(70)).contains(wait)));
    let within = |from, to| {
        waits
            .iter()
            .filter(|wait| (secs(from)..secs(to)).contains(wait))
            .count()
    };
    assert!((400..600).contains(&within(5, 37)), "{}", within(5, 37));
}

/// A refusal is not an attempt and costs no budget: a permit that was taken for the attempt is used for
/// the next one.
#[test]
fn refusals_cost_nothing() {
    let budget = Budget::builder()
        .share(0.0)
        .floor(1)
        .window(secs(1))
        .build()
        .unwrap();
    let config = plain().attempts(2).budget(budget.clone()).build().unwrap();
    let now = Instant::now();
    let mut state = RetryState::new(&config, now, CallContext::default());
    let refused = Outcome::refused(Some(Duration::from_millis(1)));
    for _ in 0..5 {
        state.begin(now).unwrap();
        wait(&state.decide(refused, now, || true));
    }
    assert_eq!((state.attempt().number(), budget.balance()), (1, 1));
    state.begin(now).unwrap();
    wait(&state.decide(Outcome::transient(), now, || true));
    assert_eq!((state.attempt().number(), budget.balance()), (2, 0));
    for _ in 0..5 {
        state.begin(now).unwrap();
        wait(&state.decide(refused, now, || true));
    }
    assert_eq!((state.attempt().number(), budget.balance()), (2, 0));
    state.begin(now).unwrap();
    let decision = state.decide(refused, now, || true);
    assert_eq!(
        reason(&decision),
        Some(GaveUp::Refused),
        "ten are waited for"
    );
    drop(state);
    assert_eq!(budget.balance(), 1, "the second attempt was never sent");
}

#[test]
fn only_a_call_that_nothing_can_follow_is_the_last() {
    let at = |attempts, refusals: Refusals, failures| {
        let config = plain()
            .attempts(attempts)
            .refusals(refusals)
            .build()
            .unwrap();
        let now = Instant::now();
        let mut state = RetryState::new(&config, now, CallContext::default());
        for _ in 0..failures {
            wait(&state.decide(Outcome::transient(), now, || true));
        }
        state.is_last()
    };
    assert!(at(1, Refusals::Wait(9), 0));
    assert!(!at(3, Refusals::GiveUp, 1) && at(3, Refusals::GiveUp, 2));
    // The last attempt may be refused; a refusal is not an attempt.
    assert!(!at(3, Refusals::Wait(1), 2) && at(3, Refusals::Wait(0), 2));
}

fn any_duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        (1_u64..10_000).prop_map(Duration::from_millis),
        (1_u64..=u64::MAX).prop_map(Duration::from_nanos),
        (1_u64..=u64::MAX).prop_map(Duration::from_secs),
    ]
}

fn any_jitter() -> impl Strategy<Value = Jitter> {
    prop_oneof![
        Just(Jitter::None),
        Just(Jitter::Full),
        Just(Jitter::Equal),
        Just(Jitter::Decorrelated),
        Just(Jitter::Plus10Percent),
        any_duration().prop_map(Jitter::Additive),
    ]
}

fn any_hint() -> impl Strategy<Value = Option<Duration>> {
    prop::option::of(prop_oneof![
        any_duration(),
        Just(Duration::ZERO),
        Just(Duration::MAX)
    ])
}

proptest! {
    #[test]
    fn a_wait_is_never_below_the_hint_nor_above_the_caps_nor_past_the_end(
        (base, cap) in (any_duration(), any_duration()),
        jitter in any_jitter(),
        hint in any_hint(),
        limit in any_duration(),
        cut in any::<bool>(),
        window in 1_u64..31_000_000,
        left in prop::option::of(0_u64..100_000),
        elapsed in 0_u64..100_000,
    ) {
        let backoff = Backoff::exponential(base.min(cap), base.max(cap)).jitter(jitter).build();
        // Decorrelated jitter needs a cap above the base.
        prop_assume!(jitter != Jitter::Decorrelated || backoff.is_ok());
        let backoff = backoff.unwrap();
        let hint_limit = if cut { HintLimit::CapTo(limit) } else { HintLimit::GiveUp(limit) };
        let config = RetryConfig::builder()
            .backoff(backoff.clone()).hint_limit(hint_limit).window(secs(window)).build().unwrap();
        let start = Instant::now();
        let now = start + Duration::from_millis(elapsed);
        let deadline = left.map(|left| Deadline::at(start + Duration::from_millis(left)));
        let mut state = RetryState::new(&config, start, until(deadline));
        let outcome = Outcome::throttled(hint);
        if let Decision::Retry(wait) = state.decide(outcome, now, || true) {
            let hint = hint.unwrap_or_default();
            let least = if hint > limit { limit.saturating_sub(limit / 10) } else { hint };
            let most = if cut { limit } else { limit.saturating_add(limit / 10) };
            prop_assert!(wait >= least && wait <= backoff.cap().max(most));
            prop_assert!(now + wait < start + secs(window));
            prop_assert!(deadline.is_none_or(|deadline| now + wait < deadline.instant()));
        }
    }

    /// Whatever hints the peer sends: as many attempts as are allowed, or fewer; the same for refusals.
    #[test]
    fn the_number_of_attempts_never_depends_on_a_header(
        attempts in 1_u32..20,
        refusals in 0_u32..5,
        answers in prop::collection::vec((any_hint(), any::<bool>()), 200),
    ) {
        let config = plain()
            .attempts(attempts).refusals(Refusals::Wait(refusals)).window(secs(30_000_000)).build().unwrap();
        let mut now = Instant::now();
        let mut state = RetryState::new(&config, now, CallContext::default());
        let (mut sent, mut refused) = (0, 0);
        for (hint, refuse) in answers {
            if state.begin(now).is_err() {
                break;
            }
            let outcome = if refuse { Outcome::refused(hint) } else { Outcome::throttled(hint) };
            *(if refuse { &mut refused } else { &mut sent }) += 1;
            match state.decide(outcome, now, || true) {
                Decision::Retry(wait) => now += wait,
                Decision::GiveUp(history) => {
                    prop_assert_eq!((history.attempts(), history.refusals()), (sent, refused));
                    prop_assert!(history.gave_up() != Some(GaveUp::RetriesExhausted) || sent == attempts);
                    break;
                }
                Decision::Done(_) => prop_assert!(false, "all failed"),
            }
        }
        prop_assert!(sent <= attempts && refused <= refusals + 1);
    }
}

/// Deliveries that are kept in a queue between their attempts.
#[cfg(feature = "queue")]
mod stored {
    use super::*;
    use crate::retry::Schedule;

    const SECOND: Duration = Duration::from_secs(1);

    fn plain() -> RetryConfigBuilder {
        let backoff = Backoff::constant(SECOND).jitter(Jitter::None);
        RetryConfig::builder()
            .backoff(backoff.build().unwrap())
            .budget(Budget::unlimited())
    }

    #[derive(Debug, PartialEq)]
    enum Step {
        Again { wait: Duration, history: History },
        Done,
        GiveUp(History),
    }

    fn decide(mut state: RetryState, outcome: Outcome, now: Instant) -> Step {
        match state.decide(outcome, now, || true) {
            Decision::Done(_) => Step::Done,
            Decision::GiveUp(history) => Step::GiveUp(history),
            Decision::Retry(wait) => Step::Again {
                wait,
                history: state.into_history(),
            },
        }
    }

    /// One attempt at this age, which takes no time.
    fn step(
        config: &RetryConfig,
        attempt: u32,
        history: History,
        age: Duration,
        outcome: Outcome,
    ) -> Step {
        let now = Instant::now();
        let mut state = RetryState::resumed(config, attempt, history, age, now);
        match state.begin_stored(now) {
            Ok(()) => decide(state, outcome, now),
            Err(reason) => Step::GiveUp(state.end(reason)),
        }
    }

    /// One attempt, the first, which failed.
    fn failed_once() -> History {
        let mut history = History::new();
        let failed = Outcome::transient();
        history.push(AttemptRecord::new(1, Duration::ZERO, SECOND, failed));
        history
    }

    fn again(step: Step) -> (Duration, History) {
        match step {
            Step::Again { wait, history } => (wait, history),
            other => panic!("{other:?}"),
        }
    }

    fn gave_up(step: Step) -> GaveUp {
        match step {
            Step::GiveUp(history) => history.gave_up().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn attempts_count_from_the_number_that_is_stored() {
        let config = plain().attempts(3).build().unwrap();
        let fail = |attempt| {
            let failed = Outcome::transient();
            step(&config, attempt, History::new(), SECOND, failed)
        };
        let (wait, history) = again(fail(2));
        assert_eq!(wait, SECOND);
        let last = history.last().unwrap();
        assert_eq!((last.number(), last.started()), (2, SECOND));
        assert_eq!(last.wait(), Some(SECOND));
        assert_eq!(gave_up(fail(3)), GaveUp::RetriesExhausted);
        // More than there should be, as where a lease ended: no overflow, no loop.
        assert_eq!(gave_up(fail(u32::MAX)), GaveUp::RetriesExhausted);
    }

    #[test]
    fn the_window_counts_from_the_first_attempt_and_not_from_the_acceptance() {
        let config = plain().attempts(9).window(SECOND * 10).build().unwrap();
        let accepted_long_ago = SECOND * 86_400;
        let failed = Outcome::transient();
        let (_, history) = again(step(&config, 1, History::new(), accepted_long_ago, failed));
        let later = |secs| accepted_long_ago + SECOND * secs;
        let (_, history) = again(step(&config, 2, history, later(5), failed));
        let over = step(&config, 3, history.clone(), later(9), failed);
        assert_eq!(gave_up(over), GaveUp::Window);
        // No worker claimed it in time, so no attempt begins.
        let late = step(&config, 3, history, later(11), Outcome::success());
        assert_eq!(gave_up(late), GaveUp::Window);
    }

    #[test]
    fn a_refusal_is_put_off_for_the_window_and_has_the_last_word() {
        let config = plain().attempts(1).window(SECOND * 10).build().unwrap();
        let closed = Outcome::refused(Some(SECOND * 4));
        let (wait, history) = again(step(&config, 1, History::new(), SECOND, closed));
        assert_eq!(wait, SECOND * 5);
        assert_eq!((history.attempts(), history.refusals()), (0, 1));
        let (_, history) = again(step(&config, 1, history, SECOND * 6, closed));
        // Four seconds do not fit into what is left.
        let last = step(&config, 1, history.clone(), SECOND * 8, closed);
        assert_eq!(gave_up(last), GaveUp::Refused);
        // However late it is claimed, it is called once more.
        let late = step(&config, 1, history, SECOND * 60, Outcome::success());
        assert_eq!(late, Step::Done);

        let given_up = plain().refusals(Refusals::GiveUp).build().unwrap();
        let refused = step(&given_up, 1, History::new(), SECOND, closed);
        assert_eq!(gave_up(refused), GaveUp::Refused);
        let once = plain().refusals(Refusals::Wait(1)).build().unwrap();
        let (_, history) = again(step(&once, 1, History::new(), SECOND, closed));
        assert_eq!(
            gave_up(step(&once, 1, history, SECOND, closed)),
            GaveUp::Refused
        );
    }

    #[test]
    fn a_refusal_at_the_last_moment_is_not_asked_again_without_end() {
        let config = plain().window(SECOND * 10).build().unwrap();
        let refused = || Outcome::refused(None);
        let (mut age, mut history) = (SECOND, History::new());
        for _ in 0..20 {
            match step(&config, 1, history, age, refused()) {
                Step::Again {
                    wait,
                    history: next,
                } => {
                    assert!(!wait.is_zero());
                    age += wait;
                    history = next;
                }
                end => return assert_eq!(gave_up(end), GaveUp::Refused),
            }
        }
        panic!("it does not end");
    }

    #[test]
    fn a_spent_budget_is_found_before_the_attempt_and_a_refusal_gives_its_permit_back() {
        let budget = Budget::builder().share(0.0).floor(1).window(SECOND);
        let budget = budget.build().unwrap();
        let config = plain().attempts(9).budget(budget.clone()).build().unwrap();
        let now = Instant::now();
        let mut refused = RetryState::resumed(&config, 2, failed_once(), SECOND, now);
        refused.begin_stored(now).unwrap();
        assert_eq!(budget.balance(), 0);
        again(decide(refused, Outcome::refused(None), now));
        assert_eq!(budget.balance(), 1);

        assert_eq!(
            step(&config, 2, failed_once(), SECOND, Outcome::success()),
            Step::Done
        );
        let mut none = RetryState::resumed(&config, 2, failed_once(), SECOND, now);
        assert_eq!(none.begin_stored(now), Err(GaveUp::Budget));
        let (_, history) = again(decide(none, Outcome::refused(None), now));
        assert_eq!(history.attempts(), 1);
    }

    /// It ended with its worker, or was interrupted when the worker stopped: that says nothing about the peer.
    #[test]
    fn an_attempt_after_one_that_did_not_fail_needs_no_permit() {
        let budget = Budget::builder().share(0.0).floor(1).window(SECOND);
        let budget = budget.build().unwrap();
        let config = plain().attempts(9).budget(budget.clone()).build().unwrap();
        let now = Instant::now();
        let mut stopped = RetryState::resumed(&config, 1, History::new(), SECOND, now);
        stopped.begin_stored(now).unwrap();
        let stopped = stopped.interrupted(now);
        let refused = step(&config, 2, History::new(), SECOND, Outcome::refused(None));
        let (_, refused) = again(refused);
        for (attempt, history) in [
            (2, History::new()),
            (3, failed_once()),
            (2, stopped),
            (2, refused),
        ] {
            let done = step(&config, attempt, history, SECOND * 2, Outcome::success());
            assert_eq!((done, budget.balance()), (Step::Done, 1), "{attempt}");
        }
        let failed = step(&config, 2, failed_once(), SECOND * 2, Outcome::success());
        assert_eq!((failed, budget.balance()), (Step::Done, 0));
    }

    #[test]
    fn hints_are_honoured_and_limited() {
        let limit = HintLimit::GiveUp(SECOND * 60);
        let config = plain().hint_limit(limit).build().unwrap();
        let busy = |secs| {
            let busy = Outcome::throttled(Some(SECOND * secs));
            step(&config, 1, History::new(), SECOND, busy)
        };
        assert_eq!(again(busy(30)).0, SECOND * 30);
        assert_eq!(gave_up(busy(61)), GaveUp::HintTooLong);
    }

    #[test]
    fn an_interrupted_attempt_counts_and_is_cancelled() {
        let config = plain().build().unwrap();
        let now = Instant::now();
        let mut state = RetryState::resumed(&config, 2, History::new(), SECOND, now);
        state.begin_stored(now).unwrap();
        let history = state.interrupted(now + SECOND);
        let last = history.last().unwrap();
        assert_eq!(last.outcome().kind(), OutcomeKind::Cancelled);
        assert_eq!((last.number(), last.took()), (2, SECOND));
    }

    proptest! {
        #[test]
        fn every_stored_delivery_ends(seed: u64, outcomes in prop::collection::vec(0_u8..4, 400)) {
            let config = RetryConfig::builder()
                .schedule(Schedule::standard_webhooks())
                .budget(Budget::unlimited())
                .seed(seed)
                .build()
                .unwrap();
            let (mut attempt, mut age, mut history) = (1, SECOND, History::new());
            let window = config.settings.window;
            for outcome in outcomes {
                let outcome = match outcome {
                    0 => Outcome::refused(Some(SECOND * 30)),
                    1 => Outcome::throttled(Some(SECOND)),
                    _ => Outcome::transient(),
                };
                match step(&config, attempt, history, age, outcome) {
                    Step::Again { wait, history: next } => {
                        prop_assert!(age.saturating_add(wait) <= window + SECOND);
                        attempt += u32::from(outcome.was_attempted());
                        age += wait;
                        history = next;
                    }
                    Step::GiveUp(_) => return Ok(()),
                    Step::Done => panic!("nothing succeeded"),
                }
            }
            prop_assert!(attempt <= config.attempts());
        }
    }
}

/// A peer that comes and goes: a wait before the last attempt says nothing of how long it is away.
#[test]
fn an_attempt_ends_the_time_over_which_refusals_are_spread() {
    let config = plain().attempts(3).refusals(Refusals::Wait(10)).build();
    let start = Instant::now();
    let mut state = RetryState::new(&config.unwrap(), start, CallContext::default());
    let at = |seconds| start + secs(seconds);
    state.begin(at(60)).unwrap();
    wait(&state.decide(Outcome::transient(), at(60), || true));
    state.begin(at(61)).unwrap();
    let refused = Outcome::refused(Some(Duration::from_millis(100)));
    let wait = wait(&state.decide(refused, at(61), || true));
    assert!(wait <= secs(2), "{wait:?}");
}
