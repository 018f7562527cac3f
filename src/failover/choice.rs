//! Which target is tried when, and which of their results is returned.

use crate::outcome::{Outcome, OutcomeKind};
use std::time::Duration;

/// The target at a position of a call that begins at `start`: the others follow in their order.
pub(super) const fn target_at(start: usize, position: usize) -> usize {
    if position == 0 {
        start
    } else if position <= start {
        position - 1
    } else {
        position
    }
}

/// Whether the later of two results is to be returned.
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
}
