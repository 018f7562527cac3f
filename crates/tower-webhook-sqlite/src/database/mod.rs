//! One SQLite file, written by one thread that commits in groups.
//!
//! SQLite allows one writer at a time, and a commit that is safe from a loss of power waits for the
//! disk. A [`Database`] makes the most of both: operations from any number of tasks queue for one
//! thread, which commits what is waiting as one transaction and answers when it is on the disk.
//! While it waits for the disk the next group gathers, so nothing is delayed to make groups larger.
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
//! # What it promises
//!
//! - An answer to [`execute`](Database::execute) or [`write`](Database::write) means that the
//!   change is on the disk: write-ahead log, `synchronous=FULL`, read back when the file is opened.
//! - Operations are atomic and apart: one that fails or panics is undone, and the others in its
//!   commit are not. Three things cannot be kept apart, and fail the commit for all in it, who are
//!   told so: a disk that is full, SQL that asks for `ROLLBACK` on a conflict, and a *deferred*
//!   foreign key that does not hold.
//! - Nothing grows without a bound: what would wait behind `max_waiting` others is refused at once,
//!   with [`DatabaseErrorKind::Full`].
//! - Trouble passes: after a full disk, a lock held by another process for too long, or a file that
//!   was away, operations succeed again as soon as the file allows it, without a restart.
//! - A file that was removed or replaced under the handle is noticed (on Unix) before an answer is
//!   given, not when the answers are gone.
//! - Any number of processes may open the same file. They take turns, one commit each, and wait for
//!   each other up to the busy timeout. The file system must be local.
//!
//! # Cancel safety
//!
//! An operation is handed over by the call that makes its [`Reply`]. Dropping the reply, before or
//! after it is polled, does not undo the operation, and leaks nothing.

mod bell;
mod builder;
mod error;
mod file;
mod grant;
mod handle;
mod open_error;
mod operation;
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
    operation::Durability,
    upkeep::Chore,
};
pub use self::{
    builder::DatabaseBuilder,
    error::{DatabaseError, DatabaseErrorKind},
    handle::Database,
    open_error::OpenError,
    operation::Reply,
    row::{Column, FromValue, Row},
    statement::Statement,
    transaction::Transaction,
    value::Value,
};
