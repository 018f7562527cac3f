//! Operations that wait for a thread, and the future of their results.

use super::{DatabaseError, DatabaseErrorKind, Transaction};
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::sync::oneshot;

/// Whether an operation's commit must be on the disk before it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// It survives a loss of power.
    Durable,
    /// It survives the death of this process, and may be lost with the machine's power. Costs no
    /// flush, unless it shares a commit with one that needs it.
    Relaxed,
}

/// Work for one of the threads. It runs once, and is finished when its commit succeeded or failed.
pub(crate) trait Operation: Send {
    fn durability(&self) -> Durability;

    /// Does the work. If it returns an error or panics, its changes are undone.
    fn run(&mut self, transaction: &Transaction<'_>) -> Result<(), DatabaseError>;

    /// Answers after the commit, or with the error that prevented it.
    fn finish(self: Box<Self>, outcome: Result<(), DatabaseError>);
}

/// A closure as an operation. `reply` gets its result.
pub(super) struct Job<T, F, R> {
    durability: Durability,
    work: Option<F>,
    result: Option<T>,
    reply: R,
}

impl<T, F, R> Job<T, F, R> {
    pub(super) const fn new(durability: Durability, work: F, reply: R) -> Self {
        Self {
            durability,
            work: Some(work),
            result: None,
            reply,
        }
    }
}

impl<T, F, R> Operation for Job<T, F, R>
where
    T: Send,
    F: FnOnce(&Transaction<'_>) -> Result<T, DatabaseError> + Send,
    R: FnOnce(Result<T, DatabaseError>) + Send,
{
    fn durability(&self) -> Durability {
        self.durability
    }

    fn run(&mut self, transaction: &Transaction<'_>) -> Result<(), DatabaseError> {
        if let Some(work) = self.work.take() {
            self.result = Some(work(transaction)?);
        }
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<(), DatabaseError>) {
        let Self { result, reply, .. } = *self;
        reply(
            outcome.and_then(|()| {
                result.ok_or_else(|| DatabaseError::new(DatabaseErrorKind::Aborted))
            }),
        );
    }
}

/// Future of an operation: its result, once it is committed.
///
/// # Cancel safety
///
/// The operation was queued when this future was made: dropping the future does not undo it.
#[must_use = "the operation runs, but its error is lost"]
pub struct Reply<T> {
    receiver: oneshot::Receiver<Result<T, DatabaseError>>,
}

impl<T> Reply<T> {
    pub(super) const fn new(receiver: oneshot::Receiver<Result<T, DatabaseError>>) -> Self {
        Self { receiver }
    }
}

impl<T> Future for Reply<T> {
    type Output = Result<T, DatabaseError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.receiver).poll(cx));
        // No answer: the thread ended before it came to the operation.
        Poll::Ready(answer.unwrap_or_else(|_| Err(DatabaseError::new(DatabaseErrorKind::Closed))))
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").finish_non_exhaustive()
    }
}
