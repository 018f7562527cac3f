//! The course of a delivery that is kept in a queue between its attempts.

use super::{
    RetryConfig, Retrying,
    course::{Course, Verdict},
};
use crate::{
    attempt::{Attempt, GaveUp, History},
    outcome::Outcome,
};
use std::time::Duration;
use tokio::time::Instant;

/// One attempt of a stored delivery: whether it is made, and what follows from how it went.
#[derive(Debug)]
pub(crate) struct StoredCourse {
    config: RetryConfig,
    course: Course,
}

/// What follows from an attempt of a stored delivery.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// Another attempt, in so long.
    Again { wait: Duration, history: History },
    /// It is done.
    Done,
    /// There is no other.
    GiveUp(History),
}

impl StoredCourse {
    /// Takes up a delivery of this age, whose next attempt has this number.
    pub(crate) fn resume(
        config: &RetryConfig,
        attempt: u32,
        history: History,
        age: Duration,
        now: Instant,
    ) -> Self {
        let attempt = Attempt::numbered(attempt);
        Self {
            config: config.clone(),
            course: Course::resumed(attempt, history, age, now),
        }
    }

    /// The attempt that is made.
    pub(crate) fn attempt(&self) -> Attempt {
        self.course.attempt()
    }

    /// Begins the attempt. Where the budget does not have it, that is to be
    /// [decided](Self::decide) as a refusal.
    pub(crate) fn begin(&mut self, now: Instant) -> Result<(), GaveUp> {
        self.course.begin_stored(&self.config.settings, now)
    }

    /// Ends the delivery for a reason that is not in an outcome.
    pub(crate) fn end(mut self, reason: GaveUp) -> History {
        let history = self.course.end(reason);
        self.config.settings.hooks.gave_up(&history);
        history
    }

    /// The history so far: the attempt was not made.
    pub(crate) fn into_history(self) -> History {
        self.course.into_history()
    }

    /// The attempt was broken off by no fault of its own. What is to be known of it.
    pub(crate) fn broken_off(mut self, now: Instant) -> History {
        self.course.broken_off(now)
    }

    /// Judges how the attempt went.
    pub(crate) fn decide(mut self, outcome: Outcome, now: Instant) -> Step {
        let settings = &self.config.settings;
        let failed = self.course.attempt();
        match self.course.decide(settings, outcome, now, || true) {
            Verdict::Done(_) => Step::Done,
            Verdict::GiveUp(history) => {
                settings.hooks.gave_up(&history);
                Step::GiveUp(history)
            }
            Verdict::Retry(wait) => {
                settings.hooks.retrying(&Retrying {
                    failed,
                    outcome,
                    wait,
                });
                let history = self.course.into_history();
                Step::Again { wait, history }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        outcome::OutcomeKind,
        retry::{Backoff, Budget, HintLimit, Jitter, Refusals, RetryConfigBuilder, Schedule},
    };
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn plain() -> RetryConfigBuilder {
        let backoff = Backoff::constant(SECOND).jitter(Jitter::None);
        RetryConfig::builder()
            .backoff(backoff.build().unwrap())
            .budget(Budget::unlimited())
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
        let mut course = StoredCourse::resume(config, attempt, history, age, now);
        match course.begin(now) {
            Ok(()) => course.decide(outcome, now),
            Err(reason) => Step::GiveUp(course.end(reason)),
        }
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
        // Nobody came in time: none is begun.
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
        // However late it comes, it is called once more.
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
        let mut refused = StoredCourse::resume(&config, 2, History::new(), SECOND, now);
        refused.begin(now).unwrap();
        assert_eq!(budget.balance(), 0);
        again(refused.decide(Outcome::refused(None), now));
        assert_eq!(budget.balance(), 1);

        assert_eq!(
            step(&config, 2, History::new(), SECOND, Outcome::success()),
            Step::Done
        );
        let mut none = StoredCourse::resume(&config, 2, History::new(), SECOND, now);
        assert_eq!(none.begin(now), Err(GaveUp::Budget));
        let (_, history) = again(none.decide(Outcome::refused(None), now));
        assert_eq!(history.attempts(), 0);
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
    fn what_is_broken_off_counts_as_an_attempt_of_no_verdict() {
        let config = plain().build().unwrap();
        let now = Instant::now();
        let mut course = StoredCourse::resume(&config, 2, History::new(), SECOND, now);
        course.begin(now).unwrap();
        let history = course.broken_off(now + SECOND);
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
