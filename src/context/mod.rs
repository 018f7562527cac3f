//! The context of a call: what the layers around one call share while it runs.
//!
//! | Part | Set by | Read by |
//! | --- | --- | --- |
//! | [attempt](CallContext::attempt) | the retry layer, the worker of a queue | time limits, metrics, [`AttemptHeaderLayer`](crate::attempt::AttemptHeaderLayer), services |
//! | [deadline](CallContext::deadline) | the layers of [`deadline`](crate::deadline), the worker of a queue | whatever waits |
//! | the instant at which the call began | the outermost layer that needs it | the layers that it calls |
//! | the outcome of a result, and the instant at which it was there | the innermost layer that judges it | the layers around it in a stack: [`JudgedInside`] |
//! | the number of attempts made | the attempt-level metrics | the delivery-level metrics |
//!
//! So in a ready-made stack each instant is read once and each result is judged once. The last three parts are private
//! to this crate.
//!
//! The context is thread-local, not a part of the request, so that it works for requests of any type and costs no
//! allocation. It is set while the inner service is called and while its future is polled. Outside of any call it is
//! [empty](CallContext::default).
//!
//! # Spawned tasks
//!
//! A task that a service spawns has a context of its own, which is empty. [`CallContext::carry`] gives it that of the
//! call:
//!
//! ```
//! use tower_webhook::{attempt::Attempt, context::CallContext};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tokio::task::JoinError> {
//! let task = Attempt::numbered(2).scope(|| {
//!     // Inside a service that retry calls for the second time:
//!     tokio::spawn(CallContext::current().carry(async { CallContext::current().attempt() }))
//! });
//! assert_eq!(task.await?, Some(Attempt::numbered(2)));
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "metrics")]
mod made;

#[cfg(feature = "metrics")]
pub(crate) use self::made::{Counting, Made, Place};

use crate::{
    BoxError,
    attempt::Attempt,
    deadline::Deadline,
    outcome::{Classify, LateOutcome, MakeClassifier, Outcome},
};
use pin_project::pin_project;
use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::time::Instant;

/// One for each thread. Nothing in it is dropped, so that reading it is one load.
struct Slots {
    /// The attempt and the deadline, which a spawned task may take along.
    call: Cell<CallContext>,
    /// When the outermost layer that needed to know was called.
    began: Cell<Option<Instant>>,
    /// What is known of the result that is on its way out.
    verdict: Cell<Option<Verdict>>,
    #[cfg(feature = "metrics")]
    made: Cell<Option<Made>>,
}

thread_local! {
    static SLOTS: Slots = const {
        Slots {
            call: Cell::new(CallContext::EMPTY),
            began: Cell::new(None),
            verdict: Cell::new(None),
            #[cfg(feature = "metrics")]
            made: Cell::new(None),
        }
    };
    /// Beside the others, because it must be dropped. Few results have one.
    static LATE: Cell<Option<LateOutcome>> = const { Cell::new(None) };
}

/// The attempt and the deadline of a call. See the [module docs](self).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallContext {
    attempt: Option<Attempt>,
    /// The status or code that ended the attempt before.
    after: Option<u16>,
    deadline: Option<Deadline>,
}

impl CallContext {
    const EMPTY: Self = Self {
        attempt: None,
        after: None,
        deadline: None,
    };

    /// The context of the current call; empty outside of any call.
    #[inline]
    pub fn current() -> Self {
        SLOTS.with(|slots| slots.call.get())
    }

    /// The attempt, if a layer outside counts attempts.
    pub const fn attempt(&self) -> Option<Attempt> {
        self.attempt
    }

    /// The deadline, if a layer outside sets one.
    pub const fn deadline(&self) -> Option<Deadline> {
        self.deadline
    }

    /// The code that ended the attempt before this one, if a layer outside knows it.
    #[cfg(any(feature = "metrics", feature = "retry"))]
    pub(crate) const fn after(&self) -> Option<u16> {
        self.after
    }

    pub(crate) const fn with_attempt(mut self, attempt: Attempt, after: Option<u16>) -> Self {
        self.attempt = Some(attempt);
        self.after = after;
        self
    }

    /// The earlier deadline applies.
    #[inline]
    pub(crate) fn with_deadline(mut self, deadline: Deadline) -> Self {
        let before = self.deadline;
        self.deadline = Some(before.map_or(deadline, |before| before.min(deadline)));
        self
    }

    /// Runs `work` in this context.
    #[inline]
    pub fn enter<T>(self, work: impl FnOnce() -> T) -> T {
        let _entered = self.entered();
        work()
    }

    /// Enters this context until the guard is dropped. For layers: a closure would be one more place through which
    /// requests and futures are moved.
    #[inline]
    pub(crate) fn entered(self) -> Entered {
        Entered(SLOTS.with(|slots| slots.call.replace(self)))
    }

    /// Runs a future in this context: for work that a service spawns.
    ///
    /// Attempts that are made in a spawned task are not counted with the delivery that spawned it.
    pub const fn carry<F>(self, future: F) -> Carried<F> {
        Carried {
            context: self,
            future,
        }
    }
}

/// A future that runs in the context of a call. Made by [`CallContext::carry`]. Dropping it drops the future
/// inside.
#[derive(Clone, Debug)]
#[must_use = "futures do nothing unless polled"]
#[pin_project]
pub struct Carried<F> {
    context: CallContext,
    #[pin]
    future: F,
}

impl<F: Future> Future for Carried<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        this.context.enter(|| this.future.poll(cx))
    }
}

/// Restores the former context when it is dropped, also by a panic.
#[must_use]
pub(crate) struct Entered(CallContext);

impl Drop for Entered {
    #[inline]
    fn drop(&mut self) {
        SLOTS.with(|slots| slots.call.set(self.0));
    }
}

/// The beginning of a call: services that are called before it is dropped begin at the same instant.
#[must_use]
pub(crate) struct Began {
    pub(crate) now: Instant,
    is_outermost: bool,
}

/// Begins a call: at the instant at which a layer outside was called, if it is calling now, or at the present one.
#[inline]
pub(crate) fn begin() -> Began {
    SLOTS.with(|slots| {
        let outer = slots.began.get();
        let now = outer.unwrap_or_else(Instant::now);
        slots.began.set(Some(now));
        Began {
            now,
            is_outermost: outer.is_none(),
        }
    })
}

impl Drop for Began {
    #[inline]
    fn drop(&mut self) {
        if self.is_outermost {
            SLOTS.with(|slots| slots.began.set(None));
        }
    }
}

/// The instant at which a layer outside was called, if it is calling now and has read the clock.
#[cfg(feature = "circuit-breaker")]
#[inline]
pub(crate) fn began() -> Option<Instant> {
    SLOTS.with(|slots| slots.began.get())
}

/// What the layer that judged a result tells the layers around it.
#[derive(Clone, Copy)]
struct Verdict {
    outcome: Outcome,
    /// When the result was there, if that layer read the clock.
    ended: Option<Instant>,
    /// Whether the outcome to come is in `LATE`.
    is_late: bool,
}

/// Withdraws the verdict: before a service is polled whose result brings its own, and where another result is returned
/// than the one that was judged.
#[inline]
pub(crate) fn withdraw() {
    SLOTS.with(|slots| slots.verdict.set(None));
}

/// Sets the verdict of the result that is about to be returned. Called last: observers and other code of users may
/// make calls of their own.
#[inline]
#[allow(dead_code, reason = "which layers judge depends on the features")]
pub(crate) fn judge(outcome: Outcome, late: Option<LateOutcome>, ended: Option<Instant>) {
    let is_late = late.is_some();
    if is_late {
        LATE.set(late);
    }
    let verdict = Verdict {
        outcome,
        ended,
        is_late,
    };
    SLOTS.with(|slots| slots.verdict.set(Some(verdict)));
}

#[inline]
fn verdict() -> Option<Verdict> {
    SLOTS.with(|slots| slots.verdict.get())
}

/// The classifier of the layers of a [stack](crate::stack) around the one that judges results: they take its outcome,
/// so that all agree and each result is judged once.
///
/// In a stack of your own, the innermost layer that has a classifier gets one that judges, and the layers around it
/// get this. **Between them there may be no layer that changes a result or makes another one**, except those of this
/// crate: an outcome that belongs to another result would be taken. Where no layer inside has judged the result, `Ok`
/// is a success, and [`Outcome::of_error`] judges an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JudgedInside;

impl<Req> MakeClassifier<Req> for JudgedInside {
    type Classifier = Self;

    #[inline]
    fn make_classifier(&self, _: &Req) -> Self {
        *self
    }
}

impl<Res> Classify<Res, BoxError> for JudgedInside {
    #[inline]
    fn classify(self, result: Result<&Res, &BoxError>) -> Outcome {
        match (verdict(), result) {
            (Some(verdict), _) => verdict.outcome,
            (None, Ok(_)) => Outcome::success(),
            (None, Err(error)) => Outcome::of_error(&**error),
        }
    }

    #[inline]
    fn late(&self, _: Result<&Res, &BoxError>) -> Option<LateOutcome> {
        if !verdict()?.is_late {
            return None;
        }
        let late = LATE.take();
        LATE.set(late.clone());
        late
    }

    #[inline]
    fn ended(&self) -> Option<std::time::Instant> {
        verdict()?.ended.map(Instant::into_std)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn the_former_context_is_back_after_a_panic() {
        let context = CallContext::default().with_attempt(Attempt::numbered(2), Some(503));
        context.enter(|| {
            let inner = || {
                Attempt::numbered(3).scope(|| {
                    let _began = begin();
                    panic!("on purpose")
                })
            };
            assert!(catch_unwind(AssertUnwindSafe(inner)).is_err());
            assert_eq!(CallContext::current(), context);
            assert_eq!(began(), None);
        });
        assert_eq!(CallContext::current(), CallContext::default());
    }

    #[test]
    fn layers_that_are_called_get_the_instant_of_the_layer_that_calls() {
        let outer = begin();
        for _ in 0..2 {
            assert_eq!(begin().now, outer.now);
        }
        assert_eq!(began(), Some(outer.now), "the inner ones did not end it");
        drop(outer);
        assert_eq!(began(), None);
    }

    #[test]
    fn a_verdict_belongs_to_the_result_of_one_poll() {
        let classify = |result: Result<&(), &BoxError>| JudgedInside.classify(result);
        judge(Outcome::permanent().with_code(404), None, None);
        assert_eq!(classify(Ok(&())).code(), Some(404));

        withdraw();
        assert_eq!(classify(Ok(&())), Outcome::success());
        let error: BoxError =
            crate::outcome::LocallyRefused::after(std::time::Duration::ZERO).into();
        assert!(!classify(Err(&error)).was_attempted());
    }
}
