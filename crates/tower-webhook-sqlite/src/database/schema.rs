//! The owner of the file, and the versions of its tables.

use super::{
    DatabaseError, DatabaseErrorKind, OpenError, Transaction,
    file::{Settings, pragma},
};
use crate::stored;
use rusqlite::{Connection, OptionalExtension, params};
use std::sync::atomic::{AtomicU32, Ordering};

/// `TwWh`, in the header of the file: identifies the databases of this crate.
const APPLICATION_ID: i64 = 0x5477_5768;

const VERSIONS: &str = "CREATE TABLE IF NOT EXISTS tower_webhook_schema (
    component TEXT NOT NULL PRIMARY KEY,
    version INTEGER NOT NULL CHECK (version >= 0)
) STRICT, WITHOUT ROWID";

/// Refuses a file that is not of this crate, before anything is written to it. An empty one is
/// accepted if `may_be_empty`.
pub(super) fn recognise(
    connection: &Connection,
    settings: &Settings,
    may_be_empty: bool,
) -> Result<(), OpenError> {
    let because = |error| settings.because(error);
    // In this order: another process that initialises the file meanwhile writes the table and the
    // id in one commit, so whoever sees its table sees its id.
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(because)?;
    let id = pragma(connection, "application_id").map_err(because)?;
    if id == APPLICATION_ID {
        return Ok(());
    }
    if id == 0 && tables == 0 && may_be_empty {
        return Ok(());
    }
    Err(OpenError::Foreign {
        path: settings.path.clone(),
        application_id: i32::try_from(id).unwrap_or_default(),
    })
}

/// Initialises the file, if it was not before. Takes the write lock in any case, so that a file that
/// cannot be written is an error when it is opened, not at the first operation.
pub(super) fn mark(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let marked = pragma(connection, "application_id").and_then(|id| {
        if id != APPLICATION_ID {
            connection.execute_batch(VERSIONS)?;
            connection.pragma_update(None, "application_id", APPLICATION_ID)?;
        }
        connection.execute_batch("COMMIT")
    });
    if marked.is_err() && !connection.is_autocommit() {
        // The first error is the one to report.
        let _ = connection.execute_batch("ROLLBACK");
    }
    marked
}

/// Runs the steps that were not run on the file yet. `at` is the version of the step that runs. Returns the
/// version in the file if it is newer than the last step.
pub(super) fn migrate(
    transaction: &Transaction<'_>,
    component: &str,
    steps: &[String],
    at: &AtomicU32,
) -> Result<Option<u32>, DatabaseError> {
    let connection = transaction.connection();
    let found: Option<u32> = connection
        .prepare_cached("SELECT version FROM tower_webhook_schema WHERE component = ?1")
        .and_then(|mut query| query.query_row([component], |row| row.get(0)).optional())
        .map_err(DatabaseError::from_driver)?;
    let found = found.unwrap_or(0);
    let known = u32::try_from(steps.len()).unwrap_or(u32::MAX);
    if found > known {
        return Ok(Some(found));
    }
    if found < known {
        stored::add_functions(connection).map_err(DatabaseError::from_driver)?;
    }
    for (version, step) in (1..).zip(steps).filter(|(version, _)| *version > found) {
        at.store(version, Ordering::Relaxed);
        connection
            .execute_batch(step)
            .map_err(DatabaseError::from_driver)?;
        if connection.is_autocommit() {
            return Err(DatabaseError::caused(
                DatabaseErrorKind::Invalid,
                "the step ended the transaction",
            ));
        }
    }
    if found < known {
        connection
            .execute(
                "INSERT INTO tower_webhook_schema (component, version) VALUES (?1, ?2)
                 ON CONFLICT (component) DO UPDATE SET version = excluded.version",
                params![component, known],
            )
            .map_err(DatabaseError::from_driver)?;
    }
    Ok(None)
}
