//! A few futures at once, in the task of whoever polls them.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

/// Polls all of them whenever it is woken, which is cheap for the few that a run has.
pub(super) struct Several<F> {
    futures: Vec<Pin<Box<F>>>,
}

impl<F: Future> Several<F> {
    pub(super) const fn new() -> Self {
        Self {
            futures: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, future: F) {
        self.futures.push(Box::pin(future));
    }

    pub(super) fn len(&self) -> usize {
        self.futures.len()
    }

    /// The next that is done. Pending also where there are none.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<F::Output> {
        for at in 0..self.futures.len() {
            if let Poll::Ready(done) = self.futures[at].as_mut().poll(cx) {
                drop(self.futures.swap_remove(at));
                return Poll::Ready(done);
            }
        }
        Poll::Pending
    }
}
