//! One SQLite file, written by one thread that commits in groups.
//!
//! SQLite allows one writer at a time, and a commit that survives a loss of power waits for the disk.
//! So the operations of all tasks queue for one thread, which commits everything that waits as one
//! transaction and answers when it is on the disk. While it waits for the disk, the next group
//! gathers: no operation is delayed to make groups larger.
//!
//! ```
//! use tower_webhook_sqlite::database::{Database, Statement};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_webhook::BoxError> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("events.db");
//! let database = Database::open(path)?;
//! database.migrate("events", &["CREATE TABLE events (id TEXT NOT NULL PRIMARY KEY, body BLOB) STRICT"])?;
//!
//! let insert = Statement::new("INSERT INTO events (id, body) VALUES (?1, ?2)");
//! database.execute(insert.bind("evt_1").bind(&b"{}"[..])).await?;
//!
//! let rows = database.query(Statement::new("SELECT body FROM events WHERE id = ?1").bind("evt_1")).await?;
//! assert_eq!(rows[0].get::<Vec<u8>>("body")?, b"{}");
//!
//! database.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Guarantees
//!
//! - When [`execute`](Database::execute) or [`write`](Database::write) answers, the change is on the
//!   disk: write-ahead log, `synchronous=FULL`, which is verified when the file is opened.
//! - Operations are atomic and independent: one that fails or panics is undone, and the others in its
//!   commit are not. Three errors fail the whole commit, and each operation in it gets the error: a
//!   full disk, SQL with `ROLLBACK` on a conflict, and a violated *deferred* foreign key.
//! - A panic of foreign code (an operation, a clock, the `Drop` of a result) fails the operations that
//!   need it, as [`DatabaseErrorKind::Panicked`], and no other.
//! - Memory is bounded: with `max_waiting` operations waiting, the next one is refused at once as
//!   [`DatabaseErrorKind::Full`].
//! - Errors are not final: after a full disk, a lock that another process held for too long, or a
//!   file that was gone, operations succeed again as soon as the file allows it, without a restart.
//! - If the file was removed or replaced while it was open, operations fail instead of being written to a
//!   file that is no longer at its path (on Unix). If it became shorter, operations fail until it was checked
//!   and found whole. Bytes that something else overwrites in it are not noticed before SQLite reads them.
//! - A new file is readable and writable for its owner alone. An older one, its `-wal` or its `-shm` that every user
//!   of the machine can read or write is told to the [observers](DatabaseBuilder::observe) when it is opened.
//! - What is deleted is overwritten in the file (`secure_delete`). It stays in the log until that is emptied: after a
//!   dead letter was removed or discarded within a second or two, or within 64 operations, and later while somebody
//!   reads; after any other deletion when SQLite writes the log anew, at the latest when the file is closed. The drive
//!   and its backups may keep older copies.
//! - Any number of processes may open the same file, on a local file system. They take turns, one
//!   commit each, and wait for each other up to the busy timeout.
//! - A process in which something is claimed holds a lock on a small file beside the database
//!   (`webhooks.db-owner-...`), which the system releases when the process dies. The others look once a second:
//!   claims of a process that is gone end at once, before their leases do. Where that cannot be told (the lock
//!   cannot be made or was removed), and for a process that is only stopped, leases decide.
//!
//! # Cancel safety
//!
//! An operation is queued by the call that makes its [`Reply`]. Dropping the reply, before or after it
//! is polled, does not undo the operation, and leaks nothing.

mod bell;
mod builder;
mod error;
mod file;
mod grant;
mod handle;
mod look;
mod open_error;
mod operation;
mod owners;
mod reader;
mod row;
mod schema;
mod statement;
mod transaction;
mod upkeep;
mod value;
mod writer;

pub(crate) use self::{
    bell::Bell,
    grant::{Granting, Release},
    look::Leap,
    operation::Durability,
    upkeep::Chore,
};
pub use self::{
    builder::DatabaseBuilder,
    error::{DatabaseError, DatabaseErrorKind},
    handle::Database,
    open_error::OpenError,
    operation::Reply,
    row::{FromValue, Row},
    statement::Statement,
    transaction::Transaction,
    value::Value,
};
