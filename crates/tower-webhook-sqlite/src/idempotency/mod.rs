//! A store that keeps claims and responses in an SQLite file, where they survive restarts.
//!
//! ```
//! use std::time::Duration;
//! use tower_webhook::idempotency::{Begin, IdempotencyKey, Store};
//! use tower_webhook_sqlite::SqliteStore;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_webhook::BoxError> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("idempotency.db");
//! let store = SqliteStore::open(path)?;
//! let key = IdempotencyKey::new("/webhooks", "evt_1")?;
//!
//! let Begin::Acquired(token) = store.begin(&key, None, Duration::from_secs(30)).await? else {
//!     unreachable!("the key is new");
//! };
//! store.complete(&key, token, "done".into(), Duration::from_secs(7 * 86_400)).await?;
//!
//! let again = store.begin(&key, None, Duration::from_secs(30)).await?;
//! assert_eq!(again, Begin::Completed("done".into()));
//! # Ok(())
//! # }
//! ```
//!
//! # Durability
//!
//! A response is on the disk before [`complete`](Store::complete) answers: no crash and no loss of
//! power undoes it. A claim, a renewal and a release do not wait for the disk: they survive the death
//! of the process, but the last ones may be lost when the machine loses its power. Then the key is free.
//!
//! When its holder is gone, a claim that lasts an hour more at most ends before its lease does: for a process that
//! opens the file at once, and for those that have it open within about a second. This rests on a
//! [lock](crate::database#guarantees) that the system releases; where there is none, the key is held until the lease
//! ends.
//!
//! # Time
//!
//! Leases and retention end by the wall clock, because processes share the file and restarts do not
//! end them. If the clock goes back, no claim and no response holds its key longer than it was granted,
//! from the next `begin` on.
//!
//! If it leaps ahead by more than a second, claims do not end: the store sees by the monotonic clock that the time
//! has not passed, and grants every claim again, so that no repeat runs beside the first. A claim whose holder had
//! died is held for one lease longer. A process that opens the file sees no leap before; it grants again the claims of
//! the processes whose lock is held, once. The retention of responses does end early.
//!
//! A claim whose lease has ended leaves its key free. Until somebody claims it, its holder [can still
//! complete](tower_webhook::lease) the claim, for a day.
//!
//! # Bounds
//!
//! The number of keys is bounded by the disk, or by
//! [`max_size`](crate::database::DatabaseBuilder::max_size); no key is removed before its time. Rows
//! whose time is over (a response after its time to live, a claim a day after its lease) are removed a few at a
//! time, while the store works and while it is idle. The
//! operations that wait are bounded by [`max_waiting`](crate::database::DatabaseBuilder::max_waiting).
//!
//! # Errors
//!
//! | What | [`StoreErrorKind`] |
//! | --- | --- |
//! | too many operations are waiting | `Full` |
//! | another process held the file for longer than the busy timeout | `Timeout` |
//! | an invalid row | `Corrupt` |
//! | everything else: disk full, file gone or damaged, database closed | `Unavailable` |
//!
//! # Cancel safety
//!
//! If a [`begin`](Store::begin) future is dropped before it returned its claim, the key is released.
//! Every other operation is done even if its future is dropped.

mod rows;

use crate::database::{
    Database, DatabaseError, DatabaseErrorKind, Durability, Granting, OpenError, Release,
    Transaction,
};
use bytes::Bytes;
use std::{path::Path, sync::Arc, time::Duration};
use tower_webhook::{
    BoxFuture, StoreError, StoreErrorKind,
    idempotency::{Begin, Fingerprint, IdempotencyKey, Store},
    lease::{FencingToken, Settled},
};

/// Keeps claims and responses in an SQLite file. Clones share it, and so do processes.
///
/// See the [module docs](self).
#[derive(Clone, Debug)]
pub struct SqliteStore {
    database: Database,
}

impl SqliteStore {
    /// A store in an open database, which may hold other tables too. Creates or upgrades the store's
    /// tables, which blocks the thread: open at start.
    ///
    /// # Errors
    ///
    /// [`OpenError::NewerSchema`] if a newer release made the tables, and the errors of a
    /// [migration](Database::migrate).
    pub fn new(database: &Database) -> Result<Self, OpenError> {
        database.migrate(rows::COMPONENT, rows::STEPS)?;
        database.add_chore(Arc::new(rows::Retention::new(database.clock().clone())));
        Ok(Self {
            database: database.clone(),
        })
    }

    /// Opens the file at `path` with the default settings of a [`Database`], and a store in it.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says why and what to do.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::new(&Database::open(path)?)
    }

    /// The database that the store is in.
    pub const fn database(&self) -> &Database {
        &self.database
    }

    fn settle<F>(&self, durable: bool, change: F) -> BoxFuture<Result<Settled, StoreError>>
    where
        F: FnOnce(&Transaction<'_>) -> Result<bool, DatabaseError> + Send + 'static,
    {
        let work = move |transaction: &Transaction<'_>| {
            let done = change(transaction)?;
            Ok(if done { Settled::Done } else { Settled::Lost })
        };
        let reply = if durable {
            self.database.write(work)
        } else {
            self.database.write_relaxed(work)
        };
        Box::pin(async { reply.await.map_err(store_error) })
    }
}

impl Store for SqliteStore {
    type Begin = BoxFuture<Result<Begin, StoreError>>;
    type Settle = BoxFuture<Result<Settled, StoreError>>;

    fn begin(
        &self,
        key: &IdempotencyKey,
        fingerprint: Option<&Fingerprint>,
        lease: Duration,
    ) -> Self::Begin {
        let (key, fingerprint) = (key.clone(), fingerprint.copied());
        let claim = Claim {
            database: self.database.clone(),
            key: key.clone(),
        };
        let work = move |transaction: &Transaction<'_>| {
            rows::begin(transaction, &key, fingerprint.as_ref(), lease)
        };
        // Dropped before it returned the claim, it releases the key at once.
        let granting = Granting::ask(&self.database, Durability::Relaxed, claim, work);
        Box::pin(async { granting.await.map_err(store_error) })
    }

    fn renew(
        &self,
        key: &IdempotencyKey,
        token: FencingToken,
        lease: Duration,
    ) -> BoxFuture<Result<Settled, StoreError>> {
        let key = key.clone();
        self.settle(false, move |transaction| {
            rows::renew(transaction, &key, token, lease)
        })
    }

    fn complete(
        &self,
        key: &IdempotencyKey,
        token: FencingToken,
        answer: Bytes,
        ttl: Duration,
    ) -> BoxFuture<Result<Settled, StoreError>> {
        let key = key.clone();
        self.settle(true, move |transaction| {
            rows::complete(transaction, &key, token, &answer, ttl)
        })
    }

    fn release(
        &self,
        key: &IdempotencyKey,
        token: FencingToken,
    ) -> BoxFuture<Result<Settled, StoreError>> {
        let key = key.clone();
        self.settle(false, move |transaction| {
            rows::release(transaction, &key, token)
        })
    }
}

/// What is needed to release a claim.
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
        // If it fails, the claim ends with its lease.
        drop(
            self.database
                .write_relaxed(move |transaction| rows::release(transaction, &key, token)),
        );
    }
}

fn store_error(error: DatabaseError) -> StoreError {
    let kind = match error.kind() {
        DatabaseErrorKind::Full => StoreErrorKind::Full,
        DatabaseErrorKind::Busy => StoreErrorKind::Timeout,
        // The tables are strict: a value of another type, or out of its range, was put there by
        // somebody else.
        DatabaseErrorKind::Mistyped => StoreErrorKind::Corrupt,
        _ => StoreErrorKind::Unavailable,
    };
    StoreError::new(kind).caused_by(error)
}
