//! Limits the lines of a log that a stranger can cause at will, and counts those that it leaves out.

use std::time::{Duration, Instant};

/// From the first line of a kind to the end of its window.
const WINDOW: Duration = Duration::from_secs(10);

/// The largest number of kinds. Names come from closed sets, so few programs have as many.
const MAX_KINDS: usize = 64;

/// What a line says: who, and what.
type Kind = [&'static str; 2];

#[derive(Debug)]
struct Window {
    of: Kind,
    began: Instant,
    lines: u32,
    left_out: u64,
}

#[derive(Debug)]
pub(super) struct Throttle {
    kinds: Vec<Window>,
}

impl Throttle {
    pub(super) const fn new() -> Self {
        Self { kinds: Vec::new() }
    }

    /// Whether a line of this kind, of which a window may have so many, is to be written `now`: if it is, the number
    /// of lines that were left out since the last one that was written.
    pub(super) fn ask(&mut self, kind: Kind, most: u32, now: Instant) -> Option<u64> {
        if let Some(window) = self.kinds.iter_mut().find(|window| window.of == kind) {
            if now.saturating_duration_since(window.began) >= WINDOW {
                (window.began, window.lines) = (now, 0);
            } else if window.lines >= most {
                window.left_out += 1;
                return None;
            }
            window.lines += 1;
            return Some(std::mem::take(&mut window.left_out));
        }
        if self.kinds.len() == MAX_KINDS {
            let oldest = (0..MAX_KINDS).min_by_key(|&at| self.kinds[at].began);
            self.kinds.swap_remove(oldest.unwrap_or_default());
        }
        self.kinds.push(Window {
            of: kind,
            began: now,
            lines: 1,
            left_out: 0,
        });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_lines_of_a_kind_in_ten_seconds_and_the_number_of_the_others() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut throttle = Throttle::new();
        for millis in 0..10 {
            assert_eq!(
                throttle.ask(["github", "mismatch"], 10, at(millis)),
                Some(0)
            );
        }
        for millis in 10..5010 {
            assert_eq!(throttle.ask(["github", "mismatch"], 10, at(millis)), None);
        }
        assert_eq!(throttle.ask(["github", "missing"], 10, at(10)), Some(0));
        assert_eq!(throttle.ask(["slack", "mismatch"], 10, at(10)), Some(0));
        assert_eq!(throttle.ask(["github", "mismatch"], 10, at(9_999)), None);
        assert_eq!(
            throttle.ask(["github", "mismatch"], 10, at(10_000)),
            Some(5001)
        );
        for _ in 1..10 {
            assert_eq!(
                throttle.ask(["github", "mismatch"], 10, at(10_001)),
                Some(0)
            );
        }
        assert_eq!(throttle.ask(["github", "mismatch"], 10, at(19_999)), None);
        assert_eq!(
            throttle.ask(["github", "mismatch"], 10, at(30_000)),
            Some(1)
        );
    }

    #[test]
    fn a_kind_may_have_one_line() {
        let start = Instant::now();
        let mut throttle = Throttle::new();
        assert_eq!(throttle.ask(["queue", "down"], 1, start), Some(0));
        assert_eq!(throttle.ask(["queue", "down"], 1, start), None);
        assert_eq!(throttle.ask(["queue", "down"], 1, start + WINDOW), Some(1));
    }

    /// One forgery a second leaves every refusal of the honest sender a line.
    #[test]
    fn what_comes_now_and_then_hides_nothing() {
        let start = Instant::now();
        let mut throttle = Throttle::new();
        for second in 0..100 {
            let now = start + Duration::from_millis(1001 * second);
            assert_eq!(throttle.ask(["github", "mismatch"], 10, now), Some(0));
        }
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
            assert_eq!(throttle.ask(["a", name], 10, now), Some(0));
        }
        assert_eq!(throttle.kinds.len(), MAX_KINDS);
        let now = start + Duration::from_secs(1);
        for _ in 1..10 {
            assert_eq!(throttle.ask(["a", names[1]], 10, now), Some(0));
        }
        assert_eq!(throttle.ask(["a", names[1]], 10, now), None);
        // It was forgotten, and begins anew.
        assert_eq!(throttle.ask(["a", names[0]], 10, now), Some(0));
        assert_eq!(throttle.kinds.len(), MAX_KINDS);
    }
}
