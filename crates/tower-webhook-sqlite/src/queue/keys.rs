//! The deduplication keys, which are known until their retention is over, whatever becomes of their tasks.
//!
//! A key is stored as its digest, with the id of its task. While there is a task in the table of jobs, the key
//! has no end of its own: it is known as long as the task is. A task that leaves earlier leaves its key behind,
//! with the end of its retention. So an enqueue writes one row of a table in which rows lie in random order,
//! and finishing a job none.

use super::{ledger::Counts, schema, time, wait};
use crate::{
    database::{Chore, Database, OpenError, Transaction},
    stored::count,
};
use rusqlite::{Connection, OptionalExtension, params};
use std::sync::Arc;
use tower_webhook::{clock::WallClock, queue::TaskId};

/// The digest of a key.
pub(crate) type Digest = [u8; 16];

/// Creates or upgrades the tables of the queue, and has keys removed that are over.
pub(crate) fn open(database: &Database) -> Result<(), OpenError> {
    database.migrate(schema::COMPONENT, schema::STEPS)?;
    database.add_chore(Arc::new(Expiry(database.clock().clone())));
    Ok(())
}

/// The time by which keys end.
pub(crate) fn now(transaction: &Transaction<'_>) -> rusqlite::Result<i64> {
    time::now(transaction)
}

/// The task that was added with this key. Removes what is over.
pub(crate) fn known(
    transaction: &Transaction<'_>,
    key: &Digest,
    now: i64,
) -> rusqlite::Result<Option<TaskId>> {
    let found = transaction
        .connection()
        .prepare_cached(schema::KEY)?
        .query_row([key], |row| {
            let id = TaskId::from_bytes(row.get(0)?);
            let until: Option<i64> = row.get(1)?;
            let seq: Option<i64> = row.get(2)?;
            let is_known = match until {
                Some(until) => until > now,
                // A key whose job somebody removed by hand belongs to nothing.
                None => seq.is_some() && !(row.get(3)? && row.get::<_, i64>(4)? <= now),
            };
            Ok((id, is_known, seq))
        })
        .optional()?;
    let Some((id, is_known, seq)) = found else {
        return Ok(None);
    };
    if is_known {
        return Ok(Some(id));
    }
    if let Some(seq) = seq {
        super::enqueue::forget(transaction, seq, now)?;
    } else {
        remove(transaction, key, now)?;
    }
    Ok(None)
}

/// Adds a key that is counted already. It has the end of its task.
pub(super) fn add(connection: &Connection, key: &Digest, id: TaskId) -> rusqlite::Result<()> {
    connection
        .prepare_cached(schema::ADD_KEY)?
        .execute(params![key, id.as_bytes(), None::<i64>])
        .map(drop)
}

/// A key that outlived its task has one again, and its end.
pub(super) fn own(connection: &Connection, key: &Digest) -> rusqlite::Result<()> {
    connection
        .prepare_cached(schema::OWN_KEY)?
        .execute([key])
        .map(drop)
}

/// Keeps a key until then, unless it is known anyway.
pub(crate) fn keep(
    transaction: &Transaction<'_>,
    key: &Digest,
    id: TaskId,
    until: i64,
) -> rusqlite::Result<()> {
    let added = transaction
        .connection()
        .prepare_cached(schema::ADD_KEY)?
        .execute(params![key, id.as_bytes(), until])?;
    counted(transaction, count(added))
}

/// The task of this key leaves the table at `now`, and would have left it at `end`. `is_done`: it did not fail.
pub(super) fn part(
    transaction: &Transaction<'_>,
    key: &Digest,
    [now, end]: [i64; 2],
    is_done: bool,
) -> rusqlite::Result<()> {
    if end <= now {
        return remove(transaction, key, now);
    }
    transaction
        .connection()
        .prepare_cached(schema::END_KEY)?
        .execute(params![key, end, is_done])
        .map(drop)
}

/// Whether a key has outlived this task, which did not fail.
pub(super) fn is_done(connection: &Connection, key: &Digest, id: TaskId) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(schema::IS_DONE)?
        .exists(params![key, id.as_bytes()])
}

fn remove(transaction: &Transaction<'_>, key: &Digest, now: i64) -> rusqlite::Result<()> {
    let removed = transaction
        .connection()
        .prepare_cached(schema::REMOVE_KEY)?
        .execute(params![key, now])?;
    counted(transaction, -count(removed))
}

/// So many more keys, or fewer, which were not counted yet.
fn counted(transaction: &Transaction<'_>, more: i64) -> rusqlite::Result<()> {
    let mut counts = Counts::of(transaction)?;
    counts.keys += more;
    counts.set(transaction);
    Ok(())
}

/// Removes keys whose tasks have left, and whose retention is over.
struct Expiry(WallClock);

impl Chore for Expiry {
    fn name(&self) -> &'static str {
        "tower-webhook/keys"
    }

    fn due(&self, connection: &Connection) -> rusqlite::Result<bool> {
        let (_, now) = wait::changes(connection, &self.0)?;
        let mut over = connection.prepare_cached(schema::ANY_KEY_OVER)?;
        over.query_row([now], |row| row.get(0))
    }

    fn sweep(&self, transaction: &Transaction<'_>, limit: usize) -> rusqlite::Result<usize> {
        let now = time::now(transaction)?;
        let removed = transaction
            .connection()
            .prepare_cached(schema::REMOVE_KEYS_OVER)?
            .execute(params![now, count(limit)])?;
        counted(transaction, -count(removed))?;
        Ok(removed)
    }
}
