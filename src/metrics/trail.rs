//! What a delivery knows of its attempts.
//!
//! An attempt-level layer is somewhere inside a delivery-level one, behind layers that know nothing
//! of either. Like [`Attempt`](crate::attempt::Attempt), what passes between them is no part of the
//! request: the delivery lays its trail out while it polls what is inside, on that thread.

use std::cell::Cell;

thread_local! {
    static CURRENT: Cell<Option<Trail>> = const { Cell::new(None) };
}

/// The attempts of one delivery so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Trail {
    pub(super) attempts: u32,
    /// What the last one was answered with. `None` while it runs, and when it was dropped.
    code: Option<u16>,
}

/// What a new attempt finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// No delivery around it, or the first attempt of it.
    First,
    /// There was one before, which ended with this code.
    Retry(Option<u16>),
}

impl Trail {
    /// Lays this trail out while `work` runs.
    pub(super) fn scope<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let outer = CURRENT.replace(Some(*self));
        let _restore = Restore { trail: self, outer };
        work()
    }

    /// Another attempt begins here.
    pub(super) fn begin_attempt() -> Option<Place> {
        let mut trail = CURRENT.get()?;
        let place = match trail.attempts {
            0 => Place::First,
            _ => Place::Retry(trail.code),
        };
        trail.attempts = trail.attempts.saturating_add(1);
        trail.code = None;
        CURRENT.set(Some(trail));
        Some(place)
    }

    /// The attempt that was made here has been answered.
    pub(super) fn end_attempt(code: Option<u16>) {
        if let Some(mut trail) = CURRENT.get() {
            trail.code = code;
            CURRENT.set(Some(trail));
        }
    }
}

/// Takes the trail back, also where the work panics.
struct Restore<'a> {
    trail: &'a mut Trail,
    outer: Option<Trail>,
}

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        if let Some(trail) = CURRENT.replace(self.outer) {
            *self.trail = trail;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn attempts_are_counted_by_the_delivery_next_to_them() {
        let (mut outer, mut inner) = (Trail::default(), Trail::default());
        assert_eq!(Trail::begin_attempt(), None);
        outer.scope(|| {
            assert_eq!(Trail::begin_attempt(), Some(Place::First));
            Trail::end_attempt(Some(503));
            inner.scope(|| assert_eq!(Trail::begin_attempt(), Some(Place::First)));
        });
        // Polled again later, as a future is.
        outer.scope(|| {
            assert_eq!(Trail::begin_attempt(), Some(Place::Retry(Some(503))));
            // This one is dropped: nobody says how it ended.
            assert_eq!(Trail::begin_attempt(), Some(Place::Retry(None)));
        });
        assert_eq!((outer.attempts, inner.attempts), (3, 1));
        assert_eq!(Trail::begin_attempt(), None);
    }

    #[test]
    fn the_trail_is_taken_back_after_a_panic() {
        let mut trail = Trail::default();
        let work = AssertUnwindSafe(|| {
            trail.scope(|| {
                Trail::begin_attempt();
                panic!("on purpose")
            })
        });
        assert!(catch_unwind(work).is_err());
        assert_eq!(trail.attempts, 1);
        assert_eq!(Trail::begin_attempt(), None);
    }
}
