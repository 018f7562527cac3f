//! Claims of a key, of jobs, of an entry: released if the caller's future was dropped meanwhile.

use super::{
    Database, DatabaseError, DatabaseErrorKind, Transaction,
    operation::{Durability, Operation},
};
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::sync::oneshot;

/// How a claim is released.
pub(crate) trait Release<T>: Clone + Send + Unpin + 'static {
    /// The claim is committed. Runs in the writing thread, before the caller gets the claim.
    fn committed(&self, granted: &T) {
        let _ = granted;
    }

    /// The caller is gone.
    fn release(&self, granted: &T);
}

/// Future of a claim. If it is dropped before it gave the claim to the caller, the claim is released.
pub(crate) struct Granting<T, B: Release<T>> {
    receiver: oneshot::Receiver<Result<T, DatabaseError>>,
    back: B,
}

impl<T: Send + 'static, B: Release<T>> Granting<T, B> {
    /// Queues `work`, which claims. It does not run if the future is dropped by then.
    pub(crate) fn ask<F>(database: &Database, durability: Durability, back: B, work: F) -> Self
    where
        F: FnOnce(&Transaction<'_>) -> Result<T, DatabaseError> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        database.operate(Box::new(Ask {
            durability,
            work: Some(work),
            granted: None,
            back: back.clone(),
            sender,
        }));
        Self { receiver, back }
    }
}

impl<T, B: Release<T>> Future for Granting<T, B> {
    type Output = Result<T, DatabaseError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.receiver).poll(cx));
        let closed = |_| Err(DatabaseError::new(DatabaseErrorKind::Closed));
        Poll::Ready(answer.unwrap_or_else(closed))
    }
}

impl<T, B: Release<T>> Drop for Granting<T, B> {
    fn drop(&mut self) {
        // A result that is sent after this comes back as an error of `send`, and `Ask` releases it.
        self.receiver.close();
        if let Ok(Ok(granted)) = self.receiver.try_recv() {
            self.back.release(&granted);
        }
    }
}

/// The claim as an operation.
struct Ask<T, B, F> {
    durability: Durability,
    work: Option<F>,
    granted: Option<T>,
    back: B,
    sender: oneshot::Sender<Result<T, DatabaseError>>,
}

impl<T, B, F> Operation for Ask<T, B, F>
where
    T: Send,
    B: Release<T>,
    F: FnOnce(&Transaction<'_>) -> Result<T, DatabaseError> + Send,
{
    fn durability(&self) -> Durability {
        self.durability
    }

    fn run(&mut self, transaction: &Transaction<'_>) -> Result<(), DatabaseError> {
        // The caller is gone: nothing is claimed.
        if !self.sender.is_closed()
            && let Some(work) = self.work.take()
        {
            self.granted = Some(work(transaction)?);
        }
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<(), DatabaseError>) {
        let granted = match (outcome, self.granted) {
            (Ok(()), Some(granted)) => {
                self.back.committed(&granted);
                Ok(granted)
            }
            (Ok(()), None) => return,
            (Err(error), _) => Err(error),
        };
        if let Err(Ok(granted)) = self.sender.send(granted) {
            self.back.release(&granted);
        }
    }
}
