//! The order in which targets are tried, and the choice of the result that is returned.

use crate::outcome::{Outcome, OutcomeKind};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::time::Instant;

/// The target at a position of a call that begins at `start`; the others follow in list order.
pub(super) const fn target_at(start: usize, position: usize) -> usize {
    if position == 0 {
        start
    } else if position <= start {
        position - 1
    } else {
        position
    }
}

/// Whether the later of two results is the more informative one, which is returned.
pub(super) fn says_more(later: Outcome, earlier: Outcome) -> bool {
    let (rank, before) = (rank(later.kind()), rank(earlier.kind()));
    if (rank, before) == (0, 0) {
        let over = |refused: Outcome| refused.retry_after().unwrap_or(Duration::MAX);
        return over(later) < over(earlier);
    }
    rank >= before
}

const fn rank(kind: OutcomeKind) -> u8 {
    match kind {
        OutcomeKind::Refused => 0,
        OutcomeKind::Unreached => 1,
        _ => 2,
    }
}

/// The target that calls try first, while it is preferred.
#[derive(Debug)]
pub(super) struct Preference {
    /// The target in the lowest byte; above it the end of the preference, in milliseconds since `since`.
    /// One word, so that no call reads half of a change. 0: the first target.
    state: AtomicU64,
    since: Instant,
    hold: u64,
}

/// As many as one byte can number.
pub(super) const MAX_TARGETS: usize = 255;

const LAST: u64 = u64::MAX >> 8;

impl Preference {
    pub(super) fn new(hold: Duration, now: Instant) -> Self {
        Self {
            state: AtomicU64::new(0),
            since: now,
            hold: millis(hold).max(1),
        }
    }

    /// The target to begin at. Reads the clock only if a target is preferred.
    pub(super) fn current(&self, now: impl FnOnce() -> Instant) -> usize {
        // Relaxed: no other memory depends on this word.
        let state = self.state.load(Ordering::Relaxed);
        if state == 0 || self.at(now()) >= state >> 8 {
            return 0;
        }
        usize::from(state.to_le_bytes()[0])
    }

    /// Prefers a target that succeeded after another one failed.
    pub(super) fn prefer(&self, target: usize, now: Instant) {
        let state = match u8::try_from(target) {
            Ok(0) | Err(_) => 0,
            Ok(target) => {
                let until = self.at(now).saturating_add(self.hold).min(LAST);
                until << 8 | u64::from(target)
            }
        };
        self.state.store(state, Ordering::Relaxed);
    }

    fn at(&self, now: Instant) -> u64 {
        millis(now.saturating_duration_since(self.since))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).map_or(LAST, |millis| millis.min(LAST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_its_turn_once() {
        for count in 1..8 {
            for start in 0..count {
                let mut order: Vec<_> = (0..count).map(|at| target_at(start, at)).collect();
                assert_eq!(order[0], start);
                assert!(order[1..].is_sorted());
                order.sort_unstable();
                assert_eq!(order, (0..count).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn an_attempt_says_more_than_a_refusal() {
        let soon = Outcome::refused(Some(Duration::from_secs(1)));
        let late = Outcome::refused(Some(Duration::from_secs(9)));
        let unknown = Outcome::refused(None);
        let (unreached, transient) = (Outcome::unreached(), Outcome::transient());
        let throttled = Outcome::throttled(None);
        for (later, earlier, expected) in [
            (soon, late, true),
            (late, soon, false),
            (soon, soon, false),
            (soon, unknown, true),
            (unknown, late, false),
            (unreached, soon, true),
            (soon, unreached, false),
            (unreached, unreached, true),
            (transient, unreached, true),
            (unreached, throttled, false),
            (transient, throttled, true),
            (throttled, transient, true),
        ] {
            assert_eq!(says_more(later, earlier), expected, "{later:?} {earlier:?}");
        }
    }

    #[test]
    fn a_preference_ends_and_is_replaced() {
        let start = Instant::now();
        let after = |seconds| move || start + Duration::from_secs(seconds);
        let preference = Preference::new(Duration::from_secs(10), start);
        assert_eq!(preference.current(after(0)), 0);
        preference.prefer(2, start + Duration::from_secs(5));
        assert_eq!(preference.current(after(5)), 2);
        assert_eq!(preference.current(after(14)), 2);
        assert_eq!(preference.current(after(15)), 0);
        preference.prefer(254, start + Duration::from_secs(20));
        assert_eq!(preference.current(after(29)), 254);
        preference.prefer(0, start + Duration::from_secs(21));
        assert_eq!(preference.current(after(21)), 0);
    }

    #[test]
    fn the_longest_holds_for_ever() {
        let start = Instant::now();
        let preference = Preference::new(Duration::MAX, start);
        preference.prefer(1, start + Duration::from_secs(1));
        let much_later = start + Duration::from_secs(3600 * 24 * 36500);
        assert_eq!(preference.current(|| much_later), 1);
    }
}
