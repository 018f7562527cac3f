use super::{rows, store_error};
use crate::database::{Database, Durability, Granting, Release, Transaction};
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tower_webhook::{
    StoreError,
    idempotency::{Begin, Fingerprint, IdempotencyKey},
};

/// Future of [`Store::begin`](tower_webhook::idempotency::Store::begin) of a
/// [`SqliteStore`](super::SqliteStore).
///
/// # Cancel safety
///
/// Dropped before it gave its claim away, it gives the key back: a caller that went away does not
/// hold the key until the lease ends.
#[must_use = "a claim that nobody takes is given back"]
pub struct SqliteBegin {
    granting: Granting<Begin, Claim>,
}

impl SqliteBegin {
    pub(super) fn new(
        database: &Database,
        key: IdempotencyKey,
        fingerprint: Option<Fingerprint>,
        lease: Duration,
    ) -> Self {
        let claim = Claim {
            database: database.clone(),
            key: key.clone(),
        };
        let clock = database.clock().clone();
        let work = move |transaction: &Transaction<'_>| {
            rows::begin(transaction, &key, fingerprint.as_ref(), &clock, lease)
        };
        Self {
            granting: Granting::ask(database, Durability::Relaxed, claim, work),
        }
    }
}

impl Future for SqliteBegin {
    type Output = Result<Begin, StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let begun = Pin::new(&mut self.granting).poll(cx);
        begun.map(|begun| begun.map_err(store_error))
    }
}

impl fmt::Debug for SqliteBegin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteBegin")
            .field("key", &self.granting.back().key)
            .finish_non_exhaustive()
    }
}

/// What is needed to give a claim back.
#[derive(Clone)]
struct Claim {
    database: Database,
    key: IdempotencyKey,
}

impl Release<Begin> for Claim {
    fn release(&self, found: &Begin) {
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
