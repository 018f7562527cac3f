//! Limits the lines of a log that say the same again and again, and counts those that it leaves out.

use std::time::{Duration, Instant};

/// After a line, the time until the next one of its kind.
const QUIET: Duration = Duration::from_secs(10);

/// The largest number of kinds. Names come from closed sets, so few programs have as many.
const MAX_KINDS: usize = 64;

/// What a line says: who, and what.
type Kind = [&'static str; 2];

#[derive(Debug)]
pub(super) struct Throttle {
    kinds: Vec<(Kind, Instant, u64)>,
}

impl Throttle {
    pub(super) const fn new() -> Self {
        Self { kinds: Vec::new() }
    }

    /// Whether a line of this kind is to be written `now`: if it is, the number of lines that were left out
    /// since the last one.
    pub(super) fn ask(&mut self, kind: Kind, now: Instant) -> Option<u64> {
        if let Some((_, last, left_out)) = self.kinds.iter_mut().find(|(of, ..)| *of == kind) {
            if now.saturating_duration_since(*last) < QUIET {
                *left_out += 1;
                return None;
            }
            *last = now;
            return Some(std::mem::take(left_out));
        }
        if self.kinds.len() == MAX_KINDS {
            let oldest = (0..MAX_KINDS).min_by_key(|&at| self.kinds[at].1);
            self.kinds.swap_remove(oldest.unwrap_or_default());
        }
        self.kinds.push((kind, now, 0));
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_of_a_kind_in_ten_seconds_and_the_number_of_the_others() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut throttle = Throttle::new();
        assert_eq!(throttle.ask(["github", "mismatch"], start), Some(0));
        for millis in 0..5000 {
            assert_eq!(throttle.ask(["github", "mismatch"], at(millis)), None);
        }
        assert_eq!(throttle.ask(["github", "missing"], at(1)), Some(0));
        assert_eq!(throttle.ask(["slack", "mismatch"], at(1)), Some(0));
        assert_eq!(throttle.ask(["github", "mismatch"], at(9_999)), None);
        assert_eq!(throttle.ask(["github", "mismatch"], at(10_000)), Some(5001));
        assert_eq!(throttle.ask(["github", "mismatch"], at(10_001)), None);
        assert_eq!(throttle.ask(["github", "mismatch"], at(20_001)), Some(1));
    }

    #[test]
    fn the_kinds_are_bounded_and_the_oldest_leaves() {
        let start = Instant::now();
        let mut throttle = Throttle::new();
        let names: Vec<&'static str> = (0..=MAX_KINDS)
            .map(|at| &*Box::leak(at.to_string().into_boxed_str()))
            .collect();
        for (at, name) in names.iter().enumerate() {
            let now = start + Duration::from_millis(at as u64);
            assert_eq!(throttle.ask(["a", name], now), Some(0));
        }
        assert_eq!(throttle.kinds.len(), MAX_KINDS);
        let now = start + Duration::from_secs(1);
        assert_eq!(throttle.ask(["a", names[1]], now), None);
        assert_eq!(throttle.ask(["a", names[0]], now), Some(0));
    }
}
