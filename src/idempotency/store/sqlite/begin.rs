use super::{rows, store_error};
use crate::{
    idempotency::{Begin, Fingerprint, Key, StoreError},
    sqlite::{Database, DatabaseError, DatabaseErrorKind, Durability, Operation, Transaction},
};
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::sync::oneshot;

/// Future of [`Store::begin`](crate::idempotency::Store::begin) of a
/// [`SqliteStore`](super::SqliteStore).
///
/// # Cancel safety
///
/// Dropped before it gave its claim away, it gives the key back: a caller that went away does not
/// hold the key until the lease ends.
#[must_use = "a claim that nobody takes is given back"]
pub struct SqliteBegin {
    receiver: oneshot::Receiver<Result<Begin, DatabaseError>>,
    claim: Claim,
}

impl SqliteBegin {
    pub(super) fn new(
        database: &Database,
        key: Key,
        fingerprint: Option<Fingerprint>,
        lease: Duration,
    ) -> Self {
        let (sender, receiver) = oneshot::channel();
        let claim = Claim {
            database: database.clone(),
            key,
        };
        database.operate(Box::new(Ask {
            claim: claim.clone(),
            fingerprint,
            lease,
            found: None,
            sender,
        }));
        Self { receiver, claim }
    }
}

impl Future for SqliteBegin {
    type Output = Result<Begin, StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.receiver).poll(cx));
        let closed = |_| Err(DatabaseError::new(DatabaseErrorKind::Closed));
        Poll::Ready(answer.unwrap_or_else(closed).map_err(store_error))
    }
}

impl Drop for SqliteBegin {
    fn drop(&mut self) {
        // An answer that is under way after this finds nobody, and `Ask` gives the claim back.
        self.receiver.close();
        if let Ok(Ok(found)) = self.receiver.try_recv() {
            self.claim.give_back(&found);
        }
    }
}

impl fmt::Debug for SqliteBegin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteBegin")
            .field("key", &self.claim.key)
            .finish_non_exhaustive()
    }
}

/// What is needed to give a claim back.
#[derive(Clone)]
struct Claim {
    database: Database,
    key: Key,
}

impl Claim {
    fn give_back(&self, found: &Begin) {
        let Begin::Acquired(token) = *found else {
            return;
        };
        let key = self.key.clone();
        let clock = self.database.clock().clone();
        // Should it fail, the lease ends as that of any holder who is gone.
        drop(self.database.write_relaxed(move |transaction| {
            rows::release(transaction, &key, token, rows::now(&clock))
        }));
    }
}

/// `begin` as an operation.
struct Ask {
    claim: Claim,
    fingerprint: Option<Fingerprint>,
    lease: Duration,
    found: Option<Begin>,
    sender: oneshot::Sender<Result<Begin, DatabaseError>>,
}

impl Operation for Ask {
    fn durability(&self) -> Durability {
        Durability::Relaxed
    }

    fn run(&mut self, transaction: &Transaction<'_>) -> Result<(), DatabaseError> {
        // Nobody is interested any more: the key stays as it is.
        if !self.sender.is_closed() {
            self.found = Some(rows::begin(
                transaction,
                &self.claim.key,
                self.fingerprint.as_ref(),
                self.claim.database.clock(),
                self.lease,
            )?);
        }
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<(), DatabaseError>) {
        let found = match (outcome, self.found) {
            (Ok(()), Some(found)) => Ok(found),
            (Ok(()), None) => return,
            (Err(error), _) => Err(error),
        };
        if let Err(Ok(found)) = self.sender.send(found) {
            self.claim.give_back(&found);
        }
    }
}
