//! A held claim: it is renewed while the work runs, settled once, and settled on drop.

use super::{IdempotencyKey, Store};
use crate::{
    StoreError, StoreErrorKind,
    lease::{FencingToken, Settled},
    observe::{Event, Id, Observers},
};
use bytes::Bytes;
use pin_project::pin_project;
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// A claim that this process holds.
///
/// Dropping it settles it. If the work has not ended, the claim is released, so that a repeat runs; if
/// it has ended, the claim is completed, so that a repeat gets the answer. `drop` does not wait: a
/// store that answers at once is done within it, and a task of the runtime finishes any other. Without
/// a runtime, the lease ends by itself.
pub(super) struct Held<St: Store> {
    store: St,
    key: IdempotencyKey,
    token: FencingToken,
    observers: Observers,
    owed: Owed,
    /// When it is renewed next. Set when the work is first pending.
    due: Option<Instant>,
}

enum Owed {
    Release,
    Complete { answer: Bytes, ttl: Duration },
    Nothing,
}

impl<St: Store> Held<St> {
    pub(super) const fn new(
        store: St,
        key: IdempotencyKey,
        token: FencingToken,
        observers: Observers,
    ) -> Self {
        Self {
            store,
            key,
            token,
            observers,
            owed: Owed::Release,
            due: None,
        }
    }

    pub(super) fn release(&mut self) -> St::Settle {
        self.store.release(&self.key, self.token)
    }

    /// Call this when the work has ended: from then on, dropping the claim completes it.
    pub(super) fn complete(&mut self, answer: Bytes, ttl: Duration) -> St::Settle {
        let settle = self
            .store
            .complete(&self.key, self.token, answer.clone(), ttl);
        self.owed = Owed::Complete { answer, ttl };
        settle
    }

    /// Records the result of settling the claim, and tells the observers. Returns `false` if the claim is
    /// not settled: its lease then ends by itself.
    pub(super) fn settled(&mut self, settled: Result<Settled, StoreError>) -> bool {
        self.owed = Owed::Nothing;
        match settled {
            Ok(Settled::Done) => return true,
            Ok(Settled::Lost) => self.tell_lost(),
            Err(error) => self.tell_trouble("claim not settled", &error),
        }
        false
    }

    /// Another holder has the claim: this one does not settle it.
    fn lost(mut self) {
        self.owed = Owed::Nothing;
        self.tell_lost();
    }

    fn tell_lost(&self) {
        let what = "idempotency_key";
        self.observers.tell(|| Event::ClaimLost { what });
    }

    fn tell_trouble(&self, what: &'static str, error: &StoreError) {
        self.observers.tell(|| Event::Trouble {
            part: "idempotency",
            what,
            detail: Some(Id::new(error)),
        });
    }
}

impl<St: Store> Drop for Held<St> {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.owed, Owed::Nothing) {
            Owed::Release => finish(self.release()),
            Owed::Complete { answer, ttl } => {
                // The first try may have been carried out. This one then finds the claim settled.
                finish(self.store.complete(&self.key, self.token, answer, ttl));
            }
            Owed::Nothing => {}
        }
    }
}

/// Runs a future to its end in the background.
fn finish<F>(future: F)
where
    F: Future<Output = Result<Settled, StoreError>> + Send + 'static,
{
    // Allocates only here, where the request was dropped.
    let mut future = Box::pin(future);
    let mut cx = Context::from_waker(Waker::noop());
    if future.as_mut().poll(&mut cx).is_pending()
        && let Ok(runtime) = tokio::runtime::Handle::try_current()
    {
        runtime.spawn(future);
    }
}

/// Renews a claim while something else is polled beside it.
#[pin_project]
pub(super) struct Renewal<St: Store> {
    held: Option<Held<St>>,
    lease: Duration,
    /// The time between renewals.
    every: Duration,
    /// The time limit of one renewal: a store that hangs must leave time for the other tries.
    limit: Duration,
    /// Set when the work is pending, so that work that is done at once needs no timer.
    #[pin]
    timer: Option<Sleep>,
    #[pin]
    renewing: Option<Timed<St::Settle>>,
}

impl<St: Store> Renewal<St> {
    pub(super) fn new(held: Held<St>, lease: Duration, store_timeout: Duration) -> Self {
        // With a third, two more tries fit before the lease ends. Never zero, which would loop.
        let every = (lease / 3).max(Duration::from_millis(1));
        Self {
            held: Some(held),
            lease,
            every,
            limit: store_timeout.min(every),
            timer: None,
            renewing: None,
        }
    }

    /// Takes the claim out, to settle it. It is not renewed any more.
    pub(super) fn take(self: Pin<&mut Self>) -> Option<Held<St>> {
        self.project().held.take()
    }

    /// Renews the claim when a third of its lease has passed. Call it whenever the work is pending: it
    /// registers the task for the next renewal.
    pub(super) fn poll_keep(self: Pin<&mut Self>, cx: &mut Context<'_>) {
        let mut this = self.project();
        loop {
            if let Some(renewing) = this.renewing.as_mut().as_pin_mut() {
                let Poll::Ready(renewed) = renewing.poll(cx) else {
                    return;
                };
                this.renewing.set(None);
                match renewed {
                    Ok(Settled::Done) => {}
                    Ok(Settled::Lost) => {
                        if let Some(held) = this.held.take() {
                            held.lost();
                        }
                    }
                    Err(error) => {
                        if let Some(held) = this.held {
                            held.tell_trouble("claim not renewed", &error);
                        }
                    }
                }
            }
            let Some(held) = this.held.as_mut() else {
                return;
            };
            if this.timer.is_none() {
                // The due time belongs to the claim, so that it survives a change of state.
                let due = *held.due.get_or_insert_with(|| Instant::now() + *this.every);
                this.timer.set(Some(sleep_until(due)));
            }
            let Some(mut timer) = this.timer.as_mut().as_pin_mut() else {
                return;
            };
            if timer.as_mut().poll(cx).is_pending() {
                return;
            }
            // Counted from the start of this renewal, so that the store's delay does not add up.
            let due = Instant::now() + *this.every;
            held.due = Some(due);
            timer.reset(due);
            let renewing = held.store.renew(&held.key, held.token, *this.lease);
            this.renewing.set(Some(Timed::new(renewing, *this.limit)));
        }
    }
}

/// An operation of a store, with a time limit.
#[derive(Debug)]
#[pin_project]
pub(super) struct Timed<F> {
    #[pin]
    operation: F,
    limit: Duration,
    /// Set, and allocated, when the store is pending: a network round trip costs more than a timer.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<F> Timed<F> {
    pub(super) const fn new(operation: F, limit: Duration) -> Self {
        Self {
            operation,
            limit,
            timer: None,
        }
    }
}

impl<F, T> Future for Timed<F>
where
    F: Future<Output = Result<T, StoreError>>,
{
    type Output = Result<T, StoreError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(result) = this.operation.poll(cx) {
            return Poll::Ready(result);
        }
        if this.timer.is_none() {
            *this.timer = Some(Box::pin(sleep(*this.limit)));
        }
        if let Some(timer) = this.timer {
            ready!(timer.as_mut().poll(cx));
        }
        Poll::Ready(Err(StoreError::new(StoreErrorKind::Timeout)))
    }
}
