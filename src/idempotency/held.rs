//! A claim: begun, renewed while the work runs, settled once, and settled on drop.

use super::{Fingerprint, IdempotencyKey, Store};
use crate::{
    StoreError, StoreErrorKind,
    lease::{FencingToken, Schedule, Settled},
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

/// A key, and its claim once this process holds it.
///
/// Dropping it settles it. If the work has not ended, the claim is released, so that a repeat runs; if
/// it has ended, the claim is completed, so that a repeat gets the answer. `drop` does not wait: a
/// store that answers at once is done within it, and a task of the runtime finishes any other. Without
/// a runtime, the lease ends by itself.
pub(super) struct Held<St: Store> {
    store: St,
    key: IdempotencyKey,
    observers: Observers,
    owed: Owed,
}

enum Owed {
    Nothing,
    Release(FencingToken),
    Complete {
        token: FencingToken,
        answer: Bytes,
        ttl: Duration,
    },
}

impl<St: Store> Held<St> {
    /// The claim is not held yet.
    pub(super) const fn new(store: St, key: IdempotencyKey, observers: Observers) -> Self {
        Self {
            store,
            key,
            observers,
            owed: Owed::Nothing,
        }
    }

    pub(super) const fn key(&self) -> &IdempotencyKey {
        &self.key
    }

    pub(super) fn begin(&self, fingerprint: Option<&Fingerprint>, lease: Duration) -> St::Begin {
        self.store.begin(&self.key, fingerprint, lease)
    }

    /// From now on, dropping the claim releases it.
    pub(super) fn acquired(&mut self, token: FencingToken) {
        self.owed = Owed::Release(token);
    }

    /// The token, until the claim is lost or settled.
    const fn token(&self) -> Option<FencingToken> {
        match self.owed {
            Owed::Release(token) | Owed::Complete { token, .. } => Some(token),
            Owed::Nothing => None,
        }
    }

    /// Whether the claim is still this process's to settle.
    pub(super) const fn is_held(&self) -> bool {
        self.token().is_some()
    }

    /// `None` if another holder has the claim: that one settles it.
    pub(super) fn release(&self) -> Option<St::Settle> {
        let token = self.token()?;
        Some(self.store.release(&self.key, token))
    }

    /// Call this when the work has ended: from then on, dropping the claim completes it. `None` as for
    /// [`release`](Self::release).
    pub(super) fn complete(&mut self, answer: Bytes, ttl: Duration) -> Option<St::Settle> {
        let token = self.token()?;
        let kept = answer.clone();
        let settle = self.store.complete(&self.key, token, answer, ttl);
        self.owed = Owed::Complete {
            token,
            answer: kept,
            ttl,
        };
        Some(settle)
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
    fn lost(&mut self) {
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
            Owed::Release(token) => finish(self.store.release(&self.key, token)),
            // The first try may have been carried out. This one then finds the claim settled.
            Owed::Complete { token, answer, ttl } => {
                finish(self.store.complete(&self.key, token, answer, ttl));
            }
            Owed::Nothing => {}
        }
    }
}

/// Runs a future to its end in the background.
fn finish<F>(mut future: F)
where
    F: Future<Output = Result<Settled, StoreError>> + Send + Unpin + 'static,
{
    let mut cx = Context::from_waker(Waker::noop());
    if Pin::new(&mut future).poll(&mut cx).is_pending()
        && let Ok(runtime) = tokio::runtime::Handle::try_current()
    {
        runtime.spawn(future);
    }
}

/// Renews a claim while something else is polled beside it.
#[pin_project]
pub(super) struct Renewal<St: Store> {
    /// Set when the work is pending, so that work that is done at once needs no timer.
    schedule: Option<Schedule>,
    #[pin]
    timer: Option<Sleep>,
    /// When it was asked for, and the answer to come.
    renewing: Option<(std::time::Instant, Timed<St::Settle>)>,
}

impl<St: Store> Renewal<St> {
    pub(super) const fn new() -> Self {
        Self {
            schedule: None,
            timer: None,
            renewing: None,
        }
    }

    /// Call this when the work has ended. A renewal that goes on would only be in the way of settling.
    pub(super) fn stop(self: Pin<&mut Self>) {
        *self.project().renewing = None;
    }

    /// Renews the claim when it is due, within the time limit of the store. Call it whenever the work is pending: it
    /// registers the task for the next renewal. Renewals go on after the claim counts as lost: the work is not dropped
    /// then, and its answer is kept if nobody else has claimed the key.
    pub(super) fn poll_keep(
        self: Pin<&mut Self>,
        held: &mut Held<St>,
        lease: Duration,
        limit: Duration,
        cx: &mut Context<'_>,
    ) {
        let mut this = self.project();
        loop {
            let schedule = (this.schedule)
                .get_or_insert_with(|| Schedule::new(lease, Instant::now().into_std()));
            if let Some((asked, renewing)) = this.renewing {
                let Poll::Ready(renewed) = Pin::new(renewing).poll(cx) else {
                    return;
                };
                match renewed {
                    Ok(Settled::Done) => schedule.renewed(*asked),
                    Ok(Settled::Lost) => held.lost(),
                    Err(error) => {
                        schedule.failed(Instant::now().into_std());
                        held.tell_trouble("claim not renewed", &error);
                    }
                }
                *this.renewing = None;
                if let Some(timer) = this.timer.as_mut().as_pin_mut() {
                    timer.reset(schedule.due().into());
                }
            }
            let Some(token) = held.token() else { return };
            if this.timer.is_none() {
                this.timer.set(Some(sleep_until(schedule.due().into())));
            }
            let timer = this.timer.as_mut().as_pin_mut();
            if timer.is_none_or(|timer| timer.poll(cx).is_pending()) {
                return;
            }
            let now = Instant::now().into_std();
            let renewing = held.store.renew(&held.key, token, lease);
            let limit = schedule.limit(now).map_or(limit, |most| most.min(limit));
            *this.renewing = Some((now, Timed::new(renewing, limit)));
        }
    }
}

/// An operation of a store, with a time limit.
#[derive(Debug)]
pub(super) struct Timed<F> {
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
    F: Future<Output = Result<T, StoreError>> + Unpin,
{
    type Output = Result<T, StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Poll::Ready(result) = Pin::new(&mut this.operation).poll(cx) {
            return Poll::Ready(result);
        }
        let limit = this.limit;
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(StoreError::new(StoreErrorKind::Timeout)))
    }
}
