use super::{rows, sink_error};
use crate::{
    dead_letter::{LetterClaim, LetterId, SinkError},
    fence::Token,
    sqlite::{Database, DatabaseError, DatabaseErrorKind, Durability, Operation, Transaction},
};
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::sync::oneshot;

type Found = Result<LetterClaim, SinkError>;

/// Future of a claim. Dropped before it gave its letter away, it gives it back.
pub(super) struct Claiming {
    id: LetterId,
    receiver: oneshot::Receiver<Result<Found, DatabaseError>>,
    database: Database,
}

impl Claiming {
    pub(super) fn new(
        database: &Database,
        id: LetterId,
        lease: Duration,
        max_replays: u32,
    ) -> Self {
        let (sender, receiver) = oneshot::channel();
        database.operate(Box::new(Ask {
            database: database.clone(),
            id,
            lease,
            max_replays,
            found: None,
            sender,
        }));
        Self {
            id,
            receiver,
            database: database.clone(),
        }
    }
}

impl Future for Claiming {
    type Output = Found;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Found> {
        let answer = ready!(Pin::new(&mut self.receiver).poll(cx));
        let closed = |_| Err(DatabaseError::new(DatabaseErrorKind::Closed));
        Poll::Ready(answer.unwrap_or_else(closed).map_err(sink_error)?)
    }
}

impl Drop for Claiming {
    fn drop(&mut self) {
        // An answer that is under way after this finds nobody, and `Ask` gives the letter back.
        self.receiver.close();
        if let Ok(Ok(Ok(LetterClaim::Claimed { token, .. }))) = self.receiver.try_recv() {
            give_back(&self.database, self.id, token);
        }
    }
}

fn give_back(database: &Database, id: LetterId, token: Token) {
    // Should it fail, the claim ends with its lease.
    drop(database.write_relaxed(move |transaction| rows::give_back(transaction, id, token)));
}

/// A claim as an operation.
struct Ask {
    database: Database,
    id: LetterId,
    lease: Duration,
    max_replays: u32,
    found: Option<Found>,
    sender: oneshot::Sender<Result<Found, DatabaseError>>,
}

impl Operation for Ask {
    fn durability(&self) -> Durability {
        Durability::Relaxed
    }

    fn run(&mut self, transaction: &Transaction<'_>) -> Result<(), DatabaseError> {
        // Nobody is interested any more: everything stays as it is.
        if !self.sender.is_closed() {
            let clock = self.database.clock();
            let found = rows::claim(transaction, self.id, clock, self.lease, self.max_replays)?;
            self.found = Some(found);
        }
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<(), DatabaseError>) {
        let found = match (outcome, self.found) {
            (Ok(()), Some(found)) => Ok(found),
            (Ok(()), None) => return,
            (Err(error), _) => Err(error),
        };
        if let Err(Ok(Ok(LetterClaim::Claimed { token, .. }))) = self.sender.send(found) {
            give_back(&self.database, self.id, token);
        }
    }
}
