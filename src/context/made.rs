//! Counts the attempts of a delivery.
//!
//! The attempt-level layer is inside the delivery-level one, with layers between them that do not know either
//! of them: the delivery-level layer puts the count into the context while it polls the inner future. The worker of a
//! queue does the same: it reports a task as one delivery.

use super::{CallContext, SLOTS};

#[inline]
fn current() -> Option<Made> {
    SLOTS.with(|slots| slots.made.get())
}

#[inline]
fn replace(made: Option<Made>) -> Option<Made> {
    SLOTS.with(|slots| slots.made.replace(made))
}

/// The attempts of one delivery so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) attempts: u32,
    /// The code that ended the last one. `None` while it runs, and if it was dropped.
    code: Option<u16>,
    within: Within,
}

/// The owner of the counted attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "queue"),
    expect(dead_code, reason = "without queues there are no jobs")
)]
enum Within {
    /// A delivery-level layer.
    #[default]
    Delivery,
    /// A worker's job that is one request: the worker reports its delivery.
    Request,
    /// A worker's job that may make several deliveries, which are counted separately. Their first attempts
    /// have the number of this attempt at the job.
    Job(u32),
}

/// The position of a new attempt in its delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is the first attempt.
    First,
    /// It follows another attempt, which was answered with this code.
    Retry(Option<u16>),
}

impl Place {
    /// Without a delivery-level layer, the number that the retry layer gave the attempt tells whether it
    /// is a retry, and the retry layer how the attempt before ended.
    fn by_number(first: u32) -> Self {
        let context = CallContext::current();
        match context.attempt() {
            Some(attempt) if attempt.number() > first => Self::Retry(context.after()),
            _ => Self::First,
        }
    }
}

impl Made {
    /// For one attempt at a job that is one request.
    #[cfg(feature = "queue")]
    pub(crate) fn of_request() -> Self {
        Self {
            within: Within::Request,
            ..Self::default()
        }
    }

    /// For one attempt at a job that may make several deliveries.
    #[cfg(feature = "queue")]
    pub(crate) fn of_job(attempt: crate::attempt::Attempt) -> Self {
        Self {
            within: Within::Job(attempt.number()),
            ..Self::default()
        }
    }

    /// Whether the worker of a queue reports a delivery that begins here.
    #[inline]
    pub(crate) fn is_reported() -> bool {
        let counter = current();
        counter.is_some_and(|counter| counter.within == Within::Request)
    }

    /// Counts the attempts that are made until the guard is dropped.
    #[inline]
    pub(crate) fn count(&mut self) -> Counting<'_> {
        let outer = replace(Some(*self));
        Counting { made: self, outer }
    }

    /// Counts an attempt that begins.
    #[inline]
    pub(crate) fn begin_attempt() -> Place {
        let Some(mut counter) = current() else {
            return Place::by_number(1);
        };
        if let Within::Job(first) = counter.within {
            return Place::by_number(first);
        }
        let place = match counter.attempts {
            0 => Place::First,
            _ => Place::Retry(counter.code),
        };
        counter.attempts = counter.attempts.saturating_add(1);
        counter.code = None;
        replace(Some(counter));
        place
    }

    /// Records the code that ended the attempt.
    #[inline]
    pub(crate) fn end_attempt(code: Option<u16>) {
        if let Some(mut counter) = current() {
            counter.code = code;
            replace(Some(counter));
        }
    }
}

/// Writes the count back when it is dropped, also by a panic.
#[must_use]
pub(crate) struct Counting<'a> {
    made: &'a mut Made,
    outer: Option<Made>,
}

impl Drop for Counting<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(made) = replace(self.outer) {
            *self.made = made;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn attempts_are_counted_by_the_delivery_next_to_them() {
        let (mut outer, mut inner) = (Made::default(), Made::default());
        assert_eq!(current(), None);
        {
            let _counting = outer.count();
            assert_eq!(Made::begin_attempt(), Place::First);
            Made::end_attempt(Some(503));
            let _inner = inner.count();
            assert_eq!(Made::begin_attempt(), Place::First);
        }
        {
            // A later poll of the same future.
            let _counting = outer.count();
            assert_eq!(Made::begin_attempt(), Place::Retry(Some(503)));
            // The second attempt is dropped, so nothing records its end.
            assert_eq!(Made::begin_attempt(), Place::Retry(None));
        }
        assert_eq!((outer.attempts, inner.attempts), (3, 1));
        assert_eq!(current(), None);
    }

    #[test]
    fn the_count_is_taken_back_after_a_panic() {
        let mut counter = Made::default();
        let work = AssertUnwindSafe(|| {
            let _counting = counter.count();
            Made::begin_attempt();
            panic!("on purpose")
        });
        assert!(catch_unwind(work).is_err());
        assert_eq!(counter.attempts, 1);
        assert_eq!(current(), None);
    }
}
