//! Dead-letter entries in an SQLite file: for several processes, beside the queue and other tables.
//!
//! ```
//! use std::{sync::Arc, time::SystemTime};
//! use tower_webhook::dead_letter::{
//!     Cause, Entry, EntryId, Filter, LetterStore, Page, Reason, Sink,
//! };
//! use tower_webhook_sqlite::SqliteDeadLetters;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_webhook::BoxError> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("entries.db");
//! let entries = SqliteDeadLetters::open(path)?;
//! let cause = Cause::new(Reason::Rejected).with_code(Some(410));
//! let entry = Entry::new(EntryId::random(), "http", "peer.example", cause, SystemTime::now());
//! entries.write(&Arc::new(entry)).await?;
//!
//! let gone = Filter::all().reason(Reason::Rejected);
//! let listing = entries.list(&gone, &Page::first(50)).await?;
//! assert_eq!(listing.entries[0].target, "peer.example");
//! # Ok(())
//! # }
//! ```
//!
//! # Durability
//!
//! Writing, releasing, discarding and removing an entry are on the disk before the answer: no crash
//! and no loss of power undoes them. Claims and renewals survive the death of the process, but the last
//! ones may be lost when the machine loses its power; then the entry is free again.
//!
//! # The record
//!
//! Each entry is a row of `tower_webhook_dead_letters`: the [JSON form](tower_webhook::dead_letter::json)
//! in `record`, and columns for the filters. How often the entry was sent again is in the column
//! `replays`, not in the record.
//!
//! The id of an entry that was removed or discarded is kept for seven days, and an entry with the same
//! id is not written again.
//!
//! # Time
//!
//! Claims end by the wall clock, because processes share the file and restarts do not end them.
//! If the clock goes back, no claim lasts longer than it was granted, from the next access on. If it leaps ahead by
//! more than a second, claims do not end, as those of a [queue](crate::queue#time). The claims of a
//! process that is gone end before their leases do, as those of a [queue](crate::queue#several-processes).
//!
//! # Bounds
//!
//! [`max_entries`](SqliteDeadLetters::max_entries), and the
//! [size](crate::database::DatabaseBuilder::max_size) of the database. No entry is removed by itself:
//! without room, writing fails as `Full`. A record has at most 16 MiB. A page of a list ends early
//! after 8 MiB of records.
//!
//! # Errors
//!
//! | What | [`StoreErrorKind`] |
//! | --- | --- |
//! | no room: `max_entries`, the disk, or too many operations waiting | `Full` |
//! | another process held the file for longer than the busy timeout | `Timeout` |
//! | a record that is damaged, or of a newer release; it stays as it is | `Corrupt`, `NewerSchema` |
//! | an entry larger than a record may be | `TooLarge` |
//! | the database was closed | `Closed` |
//! | everything else: file gone or damaged, read-only | `Unavailable` |
//!
//! # Cancel safety
//!
//! Every operation is queued by the call that makes its future, and done even if the future is
//! dropped. Only a claim whose future is dropped before it returned the entry is released, and does not
//! count; if that fails, it ends with its lease.

mod rows;
mod select;

use self::rows::Retention;
use crate::database::{
    Database, DatabaseError, DatabaseErrorKind, Durability, Granting, OpenError, Release, Reply,
    Transaction,
};
use std::{path::Path, sync::Arc, time::Duration};
use tower_webhook::{
    BoxFuture, InvalidConfig, StoreError, StoreErrorKind,
    dead_letter::{
        Discarded, Entry, EntryClaim, EntryId, Filter, LetterStore, Listing, Page, Sink, json,
    },
    lease::{FencingToken, Settled},
};

/// Keeps entries in an SQLite file. Clones share it, and so do processes.
///
/// See the [module docs](self).
#[derive(Clone, Debug)]
#[must_use]
pub struct SqliteDeadLetters {
    database: Database,
    max_entries: u64,
}

/// The longest record. The largest entry that a layer writes has less than 1 MiB.
const MAX_RECORD: usize = 16 << 20;

impl SqliteDeadLetters {
    /// Makes a store in an open database, which may hold other tables too. Creates or upgrades the store's
    /// tables, which blocks the thread: call it at start.
    ///
    /// # Errors
    ///
    /// [`OpenError::NewerSchema`] if a newer release made the tables, and the errors of a
    /// [migration](Database::migrate).
    pub fn new(database: &Database) -> Result<Self, OpenError> {
        database.migrate(rows::COMPONENT, rows::STEPS)?;
        database.add_chore(Arc::new(Retention::new(database.clock().clone())));
        Ok(Self {
            database: database.clone(),
            max_entries: 1_000_000,
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

    /// Sets the largest number of entries. Default: 1,000,000. It limits the writes of this handle and its
    /// clones.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] if it is zero.
    pub fn max_entries(mut self, entries: u64) -> Result<Self, InvalidConfig> {
        if entries == 0 {
            return Err(InvalidConfig::new("max_entries", "must be at least 1"));
        }
        self.max_entries = entries;
        Ok(self)
    }

    /// The database that the entries are in.
    pub const fn database(&self) -> &Database {
        &self.database
    }

    /// Writes an entry within a transaction of the store's [database](Self::database).
    ///
    /// # Errors
    ///
    /// [`DatabaseErrorKind::Aborted`], with a [`StoreError`] as its source, if there is no room or the
    /// entry is too large, and the errors of the file.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::SystemTime;
    /// # use tower_webhook::dead_letter::*;
    /// # use tower_webhook_sqlite::{SqliteDeadLetters, database::{Database, Statement}};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tower_webhook::BoxError> {
    /// # let dir = tempfile::tempdir()?;
    /// # let database = Database::open(dir.path().join("orders.db"))?;
    /// # database.migrate("orders", &["CREATE TABLE orders (id TEXT PRIMARY KEY, state TEXT) STRICT"])?;
    /// let entries = SqliteDeadLetters::new(&database)?;
    /// let cause = Cause::new(Reason::Rejected);
    /// let entry = Entry::new(EntryId::random(), "order", "shop", cause, SystemTime::now());
    ///
    /// database.write(move |transaction| {
    ///     let failed = Statement::new("UPDATE orders SET state = 'failed' WHERE id = ?1");
    ///     transaction.execute(&failed.bind("order-1"))?;
    ///     entries.write_in(transaction, &entry)
    /// }).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn write_in(
        &self,
        transaction: &Transaction<'_>,
        entry: &Entry,
    ) -> Result<(), DatabaseError> {
        let aborted = |error| DatabaseError::caused(DatabaseErrorKind::Aborted, error);
        let record = record(entry).map_err(aborted)?;
        if rows::write(transaction, entry, &record, self.max_entries)? {
            return Ok(());
        }
        Err(aborted(StoreError::new(StoreErrorKind::Full)))
    }

    /// Removes a claimed entry.
    pub(crate) fn remove_in(
        transaction: &Transaction<'_>,
        id: EntryId,
        token: FencingToken,
    ) -> Result<Settled, DatabaseError> {
        transaction.erase();
        rows::remove(transaction, id, token, transaction.now()).map(settled)
    }
}

impl Sink for SqliteDeadLetters {
    fn write(&self, entry: &Arc<Entry>) -> BoxFuture<Result<(), StoreError>> {
        let (entry, most) = (Arc::clone(entry), self.max_entries);
        let record = match record(&entry) {
            Ok(record) => record,
            Err(error) => return Box::pin(async { Err(error) }),
        };
        let reply = self
            .database
            .write(move |transaction| rows::write(transaction, &entry, &record, most));
        Box::pin(async move {
            let written = reply.await.map_err(sink_error)?;
            written
                .then_some(())
                .ok_or(StoreError::new(StoreErrorKind::Full))
        })
    }
}

impl LetterStore for SqliteDeadLetters {
    fn list(&self, filter: &Filter, page: &Page) -> BoxFuture<Result<Listing, StoreError>> {
        let (filter, page) = (filter.clone(), page.clone());
        answer(
            self.database.read(move |transaction| {
                rows::list(transaction, &filter, &page, transaction.now())
            }),
        )
    }

    fn get(&self, id: EntryId) -> BoxFuture<Result<Option<Entry>, StoreError>> {
        let found = (self.database).read(move |transaction| rows::get(transaction, id));
        Box::pin(async move { found.await.map_err(sink_error)?.transpose() })
    }

    fn claim(
        &self,
        id: EntryId,
        lease: Duration,
        max_replays: u32,
    ) -> BoxFuture<Result<EntryClaim, StoreError>> {
        claim(&self.database, id, lease, max_replays)
    }

    fn renew(
        &self,
        id: EntryId,
        token: FencingToken,
        lease: Duration,
    ) -> BoxFuture<Result<Settled, StoreError>> {
        answer(self.database.write_relaxed(move |transaction| {
            rows::renew(transaction, id, token, transaction.now(), lease).map(settled)
        }))
    }

    fn release(
        &self,
        token: FencingToken,
        entry: &Arc<Entry>,
    ) -> BoxFuture<Result<Settled, StoreError>> {
        let entry = Arc::clone(entry);
        let record = match record(&entry) {
            Ok(record) => record,
            Err(error) => return Box::pin(async { Err(error) }),
        };
        answer(self.database.write(move |transaction| {
            rows::release(transaction, token, &entry, &record).map(settled)
        }))
    }

    fn remove(&self, id: EntryId, token: FencingToken) -> BoxFuture<Result<Settled, StoreError>> {
        answer(
            self.database
                .write(move |transaction| Self::remove_in(transaction, id, token)),
        )
    }

    fn discard(&self, id: EntryId) -> BoxFuture<Result<Discarded, StoreError>> {
        answer(self.database.write(move |transaction| {
            transaction.erase();
            rows::discard(transaction, id, transaction.now())
        }))
    }

    fn count(&self, filter: &Filter) -> BoxFuture<Result<u64, StoreError>> {
        let filter = filter.clone();
        answer(
            self.database
                .read(move |transaction| rows::count(transaction, &filter)),
        )
    }
}

/// A claim. If its future is dropped before it returned the entry, the entry is released.
fn claim(
    database: &Database,
    id: EntryId,
    lease: Duration,
    max_replays: u32,
) -> BoxFuture<Result<EntryClaim, StoreError>> {
    let entry = Claimed {
        database: database.clone(),
        id,
    };
    let clock = database.clock().clone();
    let work = move |transaction: &Transaction<'_>| {
        rows::claim(transaction, id, &clock, lease, max_replays)
    };
    let granting = Granting::ask(database, Durability::Relaxed, entry, work);
    Box::pin(async move { granting.await.map_err(sink_error)? })
}

/// What is needed to release an entry.
#[derive(Clone)]
struct Claimed {
    database: Database,
    id: EntryId,
}

impl Release<Result<EntryClaim, StoreError>> for Claimed {
    fn release(&self, found: &Result<EntryClaim, StoreError>) {
        let Ok(EntryClaim::Claimed { token, .. }) = found else {
            return;
        };
        let (id, token) = (self.id, *token);
        // If it fails, the claim ends with its lease.
        drop(
            self.database
                .write_relaxed(move |transaction| rows::unclaim(transaction, id, token)),
        );
    }
}

fn answer<T: Send + 'static>(reply: Reply<T>) -> BoxFuture<Result<T, StoreError>> {
    Box::pin(async move { reply.await.map_err(sink_error) })
}

const fn settled(done: bool) -> Settled {
    if done { Settled::Done } else { Settled::Lost }
}

fn record(entry: &Entry) -> Result<String, StoreError> {
    let record = json::to_json(entry);
    if record.len() > MAX_RECORD {
        return Err(StoreError::new(StoreErrorKind::TooLarge));
    }
    Ok(record)
}

fn sink_error(error: DatabaseError) -> StoreError {
    let kind = match error.kind() {
        DatabaseErrorKind::Full | DatabaseErrorKind::DiskFull => StoreErrorKind::Full,
        DatabaseErrorKind::Busy => StoreErrorKind::Timeout,
        DatabaseErrorKind::Closed => StoreErrorKind::Closed,
        // The tables are strict: a value of another type, or out of its range, was put there by
        // somebody else.
        DatabaseErrorKind::Mistyped => StoreErrorKind::Corrupt,
        _ => StoreErrorKind::Unavailable,
    };
    StoreError::new(kind).caused_by(error)
}
