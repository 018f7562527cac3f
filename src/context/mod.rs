//! The context of a call: what the layers around one call share while it runs.
//!
//! | Part | Set by | Read by |
//! | --- | --- | --- |
//! | [attempt](CallContext::attempt) | the retry layer, the worker of a queue | time limits, metrics, [`AttemptHeaderLayer`](crate::attempt::AttemptHeaderLayer), services |
//! | [deadline](CallContext::deadline) | the layers of [`deadline`](crate::deadline), the worker of a queue | whatever waits |
//! | the instant at which a call or an attempt began | the metrics of a ready-made stack | the layers that they call |
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
    /// The instant that a layer of a stack shares while it calls the next one.
    began: Cell<Option<Instant>>,
    /// What is known of the result that is on its way out.
    verdict: Cell<Option<Told>>,
    /// How many layers are polling a future whose result has a verdict.
    #[allow(dead_code, reason = "which layers judge depends on the features")]
    judging: Cell<u32>,
    #[cfg(feature = "metrics")]
    made: Cell<Option<Made>>,
}

thread_local! {
    static SLOTS: Slots = const {
        Slots {
            call: Cell::new(CallContext::EMPTY),
            began: Cell::new(None),
            verdict: Cell::new(None),
            judging: Cell::new(0),
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

    /// Runs `work` in this context. Of its deadline and that of the present context, the earlier one applies.
    #[inline]
    pub fn enter<T>(self, work: impl FnOnce() -> T) -> T {
        let _entered = match Self::current().deadline {
            Some(deadline) => self.with_deadline(deadline).entered(),
            None => self.entered(),
        };
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

/// Shares an instant with the layers that are called until the guard is dropped: only in a ready-made stack, whose
/// layers call each other at once. In any other order there may be work between them, which takes time.
#[cfg(feature = "metrics")]
#[inline]
pub(crate) fn share(now: Instant) -> Sharing {
    Sharing(SLOTS.with(|slots| slots.began.replace(Some(now))))
}

/// Restores what was shared before when it is dropped, also by a panic.
#[cfg(feature = "metrics")]
#[must_use]
pub(crate) struct Sharing(Option<Instant>);

#[cfg(feature = "metrics")]
impl Drop for Sharing {
    #[inline]
    fn drop(&mut self) {
        SLOTS.with(|slots| slots.began.set(self.0));
    }
}

/// The instant of a call that begins: that which a layer outside shares, or the present one.
#[inline]
pub(crate) fn now() -> Instant {
    shared().unwrap_or_else(Instant::now)
}

/// The instant that a layer outside shares.
#[inline]
pub(crate) fn shared() -> Option<Instant> {
    SLOTS.with(|slots| slots.began.get())
}

/// As [`now`], in the innermost layer: what it calls reads the clock itself.
#[inline]
pub(crate) fn last_now() -> Instant {
    let shared = SLOTS.with(|slots| slots.began.take());
    shared.unwrap_or_else(Instant::now)
}

/// Polls a future whose result has a verdict, until the guard is dropped. Outside of any such poll there is none.
#[inline]
#[allow(dead_code, reason = "which layers judge depends on the features")]
pub(crate) fn judging() -> Judging {
    SLOTS.with(|slots| {
        slots.verdict.set(None);
        slots.judging.set(slots.judging.get() + 1);
    });
    Judging(())
}

/// Ends the poll when it is dropped, also by a panic.
#[must_use]
#[allow(dead_code, reason = "which layers judge depends on the features")]
pub(crate) struct Judging(());

impl Drop for Judging {
    #[inline]
    fn drop(&mut self) {
        SLOTS.with(|slots| {
            let outer = slots.judging.get().saturating_sub(1);
            slots.judging.set(outer);
            if outer == 0 && slots.verdict.take().is_some_and(|told| told.is_late) {
                let _late = LATE.take();
            }
        });
    }
}

/// The verdict on a result. For the layers around the one that judges, it is set [last](Self::tell).
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub(crate) outcome: Outcome,
    /// The outcome to come, if the result has only begun.
    pub(crate) late: Option<LateOutcome>,
    /// When the result was there, if a layer has read the clock.
    pub(crate) ended: Option<Instant>,
}

#[allow(dead_code, reason = "which layers judge depends on the features")]
impl Verdict {
    /// The verdict of a classifier.
    #[inline]
    pub(crate) fn by<C, Res, Err>(classifier: C, result: Result<&Res, &Err>) -> Self
    where
        C: Classify<Res, Err>,
    {
        Self {
            late: classifier.late(result),
            ended: classifier.ended().map(Instant::from_std),
            outcome: classifier.classify(result),
        }
    }

    /// The verdict on a result of which only the outcome is known.
    pub(crate) const fn of(outcome: Outcome) -> Self {
        Self {
            outcome,
            late: None,
            ended: None,
        }
    }

    /// Tells the layers outside, of the result that is about to be returned. Called last: observers and other code of
    /// users may make calls of their own.
    #[inline]
    pub(crate) fn tell(self) {
        let is_late = self.late.is_some();
        if is_late {
            LATE.set(self.late);
        }
        let told = Told {
            outcome: self.outcome,
            ended: self.ended,
            is_late,
        };
        SLOTS.with(|slots| slots.verdict.set(Some(told)));
    }
}

/// A [`Verdict`] in its slot, without what must be dropped.
#[derive(Clone, Copy)]
struct Told {
    outcome: Outcome,
    ended: Option<Instant>,
    /// Whether the outcome to come is in `LATE`.
    is_late: bool,
}

/// Withdraws the verdict, where another result is returned than the one that was judged.
#[inline]
pub(crate) fn withdraw() {
    SLOTS.with(|slots| slots.verdict.set(None));
}

#[inline]
fn told() -> Option<Told> {
    SLOTS.with(|slots| slots.verdict.get())
}

/// The classifier of the layers of a [stack](crate::stack) around the one that judges results: they take its outcome,
/// so that all agree and each result is judged once. Also for the worker of a queue around a stack, and for re-drives.
///
/// In a stack of your own, the innermost layer that has a classifier gets one that judges, and the layers around it get
/// this. **Between them may stand only layers that a ready-made stack has there**: metrics, dead letters, deadline, retry,
/// failover, circuit breaker, attempt timeout; and a fallback. Any other may return another result than the one that was
/// judged, or poll the service in another task, which loses the outcome.
///
/// Where no layer inside has judged the result, `Ok` is a success, and [`Outcome::of_error`] judges an error, as that of a
/// request that must not be repeated: a call that the deadline ends, or that the breaker refuses.
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
        match (told(), result) {
            (Some(told), _) => told.outcome,
            (None, Ok(_)) => Outcome::success(),
            (None, Err(error)) => Outcome::of_error(&**error).not_repeatable(),
        }
    }

    #[inline]
    fn late(&self, _: Result<&Res, &BoxError>) -> Option<LateOutcome> {
        if !told()?.is_late {
            return None;
        }
        let late = LATE.take();
        LATE.set(late.clone());
        late
    }

    #[inline]
    fn ended(&self) -> Option<std::time::Instant> {
        told()?.ended.map(Instant::into_std)
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
            let inner = || Attempt::numbered(3).scope(|| panic!("on purpose"));
            assert!(catch_unwind(AssertUnwindSafe(inner)).is_err());
            assert_eq!(CallContext::current(), context);
        });
        assert_eq!(CallContext::current(), CallContext::default());
    }

    #[cfg(feature = "metrics")]
    #[test]
    fn an_instant_is_shared_until_the_innermost_layer_takes_it() {
        let before = Instant::now();
        {
            let _outer = share(before);
            assert_eq!((now(), now()), (before, before));
            {
                let later = before + std::time::Duration::from_secs(9);
                let _inner = share(later);
                assert_eq!(last_now(), later);
                assert!(now() < later, "what it calls reads the clock");
            }
            assert_eq!(now(), before);
        }
        assert_eq!(SLOTS.with(|slots| slots.began.get()), None);
    }

    #[test]
    fn a_verdict_belongs_to_the_result_of_one_poll() {
        let classify = |result: Result<&(), &BoxError>| JudgedInside.classify(result);
        let outer = judging();
        {
            let _inner = judging();
            Verdict::of(Outcome::permanent().with_code(404)).tell();
        }
        assert_eq!(classify(Ok(&())).code(), Some(404));
        withdraw();
        assert_eq!(classify(Ok(&())), Outcome::success());
        Verdict::of(Outcome::permanent()).tell();
        drop(outer);
        assert_eq!(classify(Ok(&())), Outcome::success());
        let error: BoxError =
            crate::outcome::LocallyRefused::after(std::time::Duration::ZERO).into();
        assert!(!classify(Err(&error)).was_attempted());
    }
}
