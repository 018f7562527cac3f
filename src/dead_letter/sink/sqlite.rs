//! Letters in an SQLite file: for several processes, beside the queue or what else is in it.
//!
//! ```
//! use std::{sync::Arc, time::SystemTime};
//! use tower_webhook::dead_letter::{
//!     Cause, Filter, Letter, LetterId, LetterStore, Page, Reason, Sink, SqliteLetters,
//! };
//!
//! # tokio_test::block_on(async {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("letters.db");
//! let letters = SqliteLetters::open(path)?;
//! let cause = Cause::new(Reason::Rejected).with_code(Some(410));
//! let letter = Letter::new(LetterId::random(), "http", "peer.example", cause, SystemTime::now());
//! letters.write(&Arc::new(letter)).await?;
//!
//! let gone = Filter::all().reason(Reason::Rejected);
//! let listing = letters.list(&gone, &Page::first(50)).await?;
//! assert_eq!(listing.letters[0].target, "peer.example");
//! # Ok::<_, tower_webhook::BoxError>(())
//! # }).unwrap();
//! ```
//!
//! # Durability
//!
//! A letter that is written, released, discarded or removed is so on the disk: no crash and no loss
//! of power undoes it. Claims and their renewals survive the death of the process; when the machine
//! loses its power the last of them may be gone, and the letter is free again.
//!
//! # The record
//!
//! Each letter is one row: the [JSON form](crate::dead_letter::json) in `record`, and beside it what
//! it is found by. How often it was sent again is in the column `replays`, which counts.
//!
//! The id of a letter that was removed or discarded is remembered for seven days in a table of its
//! own, and a letter with it is not written again.
//!
//! # Time
//!
//! Claims end by the wall clock, because processes share the file and restarts do not end them.
//! When the clock goes back, no claim lasts for longer, from the next look on, than it was granted.
//!
//! # Bounds
//!
//! [`max_letters`](SqliteLetters::max_letters), and the
//! [size](crate::sqlite::DatabaseBuilder::max_size) of the database. No letter leaves by itself: when
//! there is no more room, writing fails with `Full`. A record has 16 MiB at the most. A page of a
//! list ends early after 8 MiB of records.
//!
//! # Errors
//!
//! | What | [`SinkErrorKind`] |
//! | --- | --- |
//! | no room: `max_letters`, the disk, or too many operations waiting | `Full` |
//! | another process held the file for longer than the busy timeout | `Timeout` |
//! | a record that cannot be read | `Corrupt`, `NewerSchema` |
//! | a letter larger than a record may be | `TooLarge` |
//! | the database was closed | `Closed` |
//! | everything else: file gone or damaged, read-only | `Unavailable` |
//!
//! # Cancel safety
//!
//! Every operation is handed over by the call that makes its future, and done whether or not
//! somebody waits for it. Only a claim whose future is dropped before it gave the letter away is
//! given back, and does not count; where that fails, it ends with its lease.

mod claiming;
mod gone;
mod rows;
mod select;

use self::gone::Gone;
use crate::{
    BoxFuture, InvalidConfig,
    clock::WallClock,
    dead_letter::{
        Discarded, Filter, Letter, LetterClaim, LetterId, LetterStore, Listing, Page, Sink,
        SinkError, SinkErrorKind, json,
    },
    fence::{Settled, Token},
    sqlite::{Database, DatabaseError, DatabaseErrorKind, OpenError, Reply, Transaction},
};
use std::{path::Path, sync::Arc, time::Duration};

/// Keeps letters in an SQLite file. Clones share it, and so do processes.
///
/// See the [module docs](self).
#[derive(Clone, Debug)]
#[must_use]
pub struct SqliteLetters {
    database: Database,
    max_letters: u64,
}

/// The longest record: a letter of the greatest size that layers write has less than 1 MiB.
const MAX_RECORD: usize = 16 << 20;

impl SqliteLetters {
    /// Letters in a database that is already open, beside what else is in it. Makes the tables
    /// where they are not there, which blocks the thread: open at start.
    ///
    /// # Errors
    ///
    /// [`OpenError::NewerSchema`] when the tables are those of a newer release, and what can befall
    /// a [migration](Database::migrate).
    pub fn new(database: &Database) -> Result<Self, OpenError> {
        database.migrate(rows::COMPONENT, rows::STEPS)?;
        database.add_chore(Arc::new(Gone::new(database.clock().clone())));
        Ok(Self {
            database: database.clone(),
            max_letters: 1_000_000,
        })
    }

    /// Opens the file at `path`, with the default settings of a [`Database`], and the letters in
    /// it.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says why and what to do.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::new(&Database::open(path)?)
    }

    /// How many letters there may be. Default: 1,000,000. Each handle goes by its own number.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] where it is zero.
    pub fn max_letters(mut self, letters: u64) -> Result<Self, InvalidConfig> {
        if letters == 0 {
            return Err(InvalidConfig::new("max_letters", "must be at least 1"));
        }
        self.max_letters = letters;
        Ok(self)
    }

    /// The database that the letters are in.
    pub const fn database(&self) -> &Database {
        &self.database
    }

    /// Writes a letter as part of a transaction of the caller's: it is there when the transaction
    /// is, and so is what else it did.
    ///
    /// # Errors
    ///
    /// [`DatabaseErrorKind::Aborted`] whose source is a [`SinkError`] where there is no room or the
    /// letter is too large, and what can befall a file.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::SystemTime;
    /// # use tower_webhook::{dead_letter::*, sqlite::{Database, Statement}};
    /// # tokio_test::block_on(async {
    /// # let dir = tempfile::tempdir()?;
    /// # let database = Database::open(dir.path().join("orders.db"))?;
    /// # database.migrate("orders", &["CREATE TABLE orders (id TEXT PRIMARY KEY, state TEXT) STRICT"])?;
    /// let letters = SqliteLetters::new(&database)?;
    /// let cause = Cause::new(Reason::Rejected);
    /// let letter = Letter::new(LetterId::random(), "order", "shop", cause, SystemTime::now());
    ///
    /// database.write(move |transaction| {
    ///     let failed = Statement::new("UPDATE orders SET state = 'failed' WHERE id = ?1");
    ///     transaction.execute(&failed.bind("order-1"))?;
    ///     letters.write_in(transaction, &letter)
    /// }).await?;
    /// # Ok::<_, tower_webhook::BoxError>(())
    /// # }).unwrap();
    /// ```
    pub fn write_in(
        &self,
        transaction: &Transaction<'_>,
        letter: &Letter,
    ) -> Result<(), DatabaseError> {
        let aborted = |error| DatabaseError::caused(DatabaseErrorKind::Aborted, error);
        let record = record(letter).map_err(aborted)?;
        if rows::write(transaction, letter, &record, self.max_letters)? {
            return Ok(());
        }
        Err(aborted(SinkError::new(SinkErrorKind::Full)))
    }

    fn clock(&self) -> WallClock {
        self.database.clock().clone()
    }
}

impl Sink for SqliteLetters {
    fn write(&self, letter: &Arc<Letter>) -> BoxFuture<Result<(), SinkError>> {
        let (letter, most) = (Arc::clone(letter), self.max_letters);
        let record = match record(&letter) {
            Ok(record) => record,
            Err(error) => return Box::pin(async { Err(error) }),
        };
        let reply = self
            .database
            .write(move |transaction| rows::write(transaction, &letter, &record, most));
        Box::pin(async move {
            let written = reply.await.map_err(sink_error)?;
            written
                .then_some(())
                .ok_or(SinkError::new(SinkErrorKind::Full))
        })
    }
}

impl LetterStore for SqliteLetters {
    fn list(&self, filter: &Filter, page: &Page) -> BoxFuture<Result<Listing, SinkError>> {
        let (filter, page, clock) = (filter.clone(), page.clone(), self.clock());
        answer(
            self.database.read(move |transaction| {
                rows::list(transaction, &filter, &page, rows::now(&clock))
            }),
        )
    }

    fn get(&self, id: LetterId) -> BoxFuture<Result<Option<Letter>, SinkError>> {
        let found = (self.database).read(move |transaction| rows::get(transaction, id));
        Box::pin(async move { found.await.map_err(sink_error)?.transpose() })
    }

    fn claim(
        &self,
        id: LetterId,
        lease: Duration,
        max_replays: u32,
    ) -> BoxFuture<Result<LetterClaim, SinkError>> {
        claiming::claim(&self.database, id, lease, max_replays)
    }

    fn renew(
        &self,
        id: LetterId,
        token: Token,
        lease: Duration,
    ) -> BoxFuture<Result<Settled, SinkError>> {
        let clock = self.clock();
        answer(self.database.write_relaxed(move |transaction| {
            rows::renew(transaction, id, token, rows::now(&clock), lease).map(settled)
        }))
    }

    fn release(&self, token: Token, letter: &Arc<Letter>) -> BoxFuture<Result<Settled, SinkError>> {
        let (letter, clock) = (Arc::clone(letter), self.clock());
        let record = match record(&letter) {
            Ok(record) => record,
            Err(error) => return Box::pin(async { Err(error) }),
        };
        answer(self.database.write(move |transaction| {
            rows::release(transaction, token, &letter, &record, rows::now(&clock)).map(settled)
        }))
    }

    fn remove(&self, id: LetterId, token: Token) -> BoxFuture<Result<Settled, SinkError>> {
        let clock = self.clock();
        answer(self.database.write(move |transaction| {
            rows::remove(transaction, id, token, rows::now(&clock)).map(settled)
        }))
    }

    fn discard(&self, id: LetterId) -> BoxFuture<Result<Discarded, SinkError>> {
        let clock = self.clock();
        answer(
            self.database
                .write(move |transaction| rows::discard(transaction, id, rows::now(&clock))),
        )
    }

    fn count(&self, filter: &Filter) -> BoxFuture<Result<u64, SinkError>> {
        let filter = filter.clone();
        answer(
            self.database
                .read(move |transaction| rows::count(transaction, &filter)),
        )
    }
}

fn answer<T: Send + 'static>(reply: Reply<T>) -> BoxFuture<Result<T, SinkError>> {
    Box::pin(async move { reply.await.map_err(sink_error) })
}

const fn settled(done: bool) -> Settled {
    if done { Settled::Done } else { Settled::Lost }
}

fn record(letter: &Letter) -> Result<String, SinkError> {
    let record = json::to_json(letter);
    if record.len() > MAX_RECORD {
        return Err(SinkError::new(SinkErrorKind::TooLarge));
    }
    Ok(record)
}

fn sink_error(error: DatabaseError) -> SinkError {
    let kind = match error.kind() {
        DatabaseErrorKind::Full | DatabaseErrorKind::DiskFull => SinkErrorKind::Full,
        DatabaseErrorKind::Busy => SinkErrorKind::Timeout,
        DatabaseErrorKind::Closed => SinkErrorKind::Closed,
        // The tables are strict: a value of another type, or out of its range, was put there by
        // somebody else.
        DatabaseErrorKind::Mistyped => SinkErrorKind::Corrupt,
        _ => SinkErrorKind::Unavailable,
    };
    SinkError::new(kind).caused_by(error)
}
