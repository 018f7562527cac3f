//! What becomes of a failed task whose dead-letter entry is delivered.

use super::{
    enqueue,
    ledger::Ledger,
    schema::{self, state},
};
use crate::{database::Transaction, stored};
use rusqlite::params;
use std::time::Duration;
use tower_webhook::queue::TaskId;

/// The failed task succeeds: its entry was delivered in another way.
pub(super) fn resolve(
    transaction: &Transaction<'_>,
    id: TaskId,
    result: Option<&[u8]>,
    retention: Duration,
) -> rusqlite::Result<bool> {
    let mut ledger = Ledger::open(transaction)?;
    let connection = ledger.connection;
    let Some(task) = enqueue::get(connection, id)? else {
        return Ok(false);
    };
    match task.state {
        state::FAILED if task.at > ledger.now => {}
        state::DEAD_LETTERING_DUE | state::DEAD_LETTERING_CLAIMED => {
            ledger.dead_lettering -= 1;
            ledger.finished += 1;
            connection
                .prepare_cached(schema::DELETE_PAYLOAD)?
                .execute([task.seq])?;
        }
        _ => return Ok(false),
    }
    let until = stored::until(ledger.now, retention);
    connection.prepare_cached(schema::FINISH)?.execute(params![
        task.seq,
        state::SUCCEEDED,
        until,
        result
    ])?;
    ledger.close(transaction)?;
    Ok(true)
}
