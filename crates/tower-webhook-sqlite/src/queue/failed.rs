//! Tasks that fail for good with their dead-letter entry, and what becomes of them when it is delivered or queued again.

use super::{
    enqueue::{self, Known},
    keys::{self, Digest},
    ledger::{Counts, Ledger},
    schema::{self, state},
    settle::{self, Held, Hold},
};
use crate::database::Transaction;
use rusqlite::Connection;
use std::time::Duration;
use tower_webhook::{
    lease::Settled,
    queue::{Claim, TaskId},
};

/// Ends a claim: the task has failed for good, and its entry is written in the same transaction.
pub(super) fn fail(
    transaction: &Transaction<'_>,
    claim: Claim,
    retention: Duration,
) -> rusqlite::Result<Settled> {
    let mut ledger = Ledger::open(transaction)?;
    let Some(mut held) = Held::find(&ledger, claim)? else {
        return Ok(Settled::Lost);
    };
    match held.hold {
        Hold::Cancelled => {
            settle::let_go(&mut ledger, &held, retention)?;
            ledger.close(transaction)?;
            return Ok(Settled::Lost);
        }
        Hold::Lapsed => {
            let now = ledger.now;
            held.renew(&mut ledger, now)?;
        }
        _ => {}
    }
    settle::finish(&mut ledger, held.seq, state::FAILED, retention, None)?;
    settle::delete_payloads(ledger.connection, [held.seq])?;
    if held.hold == Hold::Job {
        ledger.running -= 1;
        ledger.leave_lane(&held.target, &held.kind, 1)?;
        ledger.release_next(held.ordered.as_deref())?;
    } else {
        ledger.dead_lettering -= 1;
    }
    ledger.close(transaction)?;
    Ok(Settled::Done)
}

/// Removes a failed task that is queued again. Its key stays: if it is not this one, until `end`. Returns a token that is
/// greater than that of its last claim.
pub(super) fn take_out(
    transaction: &Transaction<'_>,
    task: &Known,
    digest: Option<&Digest>,
    [now, end]: [i64; 2],
) -> rusqlite::Result<i64> {
    let connection = transaction.connection();
    let (key, token): (Option<Digest>, i64) = connection
        .prepare_cached(schema::DELETE)?
        .query_row([task.seq], |row| Ok((row.get(0)?, row.get(2)?)))?;
    settle::delete_payloads(connection, [task.seq])?;
    let mut counts = Counts::of(transaction)?;
    let finished = i64::from(task.state == state::FAILED);
    counts.finished -= finished;
    counts.dead_lettering -= 1 - finished;
    counts.set(transaction);
    if let Some(key) = key.filter(|key| digest != Some(key)) {
        keys::part(transaction, &key, [now, end], false)?;
    }
    Ok(token + 1)
}

/// Sets the token of a job that is queued again, unless it is zero.
pub(super) fn set_token(connection: &Connection, seq: i64, token: i64) -> rusqlite::Result<()> {
    if token == 0 {
        return Ok(());
    }
    let mut set = connection.prepare_cached(schema::SET_TOKEN)?;
    set.execute([seq, token]).map(drop)
}

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
    if !task.has_failed() || task.is_over(ledger.now) {
        return Ok(false);
    }
    if task.state == state::FAILED {
        // It is counted already.
        ledger.finished -= 1;
    } else {
        ledger.dead_lettering -= 1;
        settle::delete_payloads(connection, [task.seq])?;
    }
    settle::finish(&mut ledger, task.seq, state::SUCCEEDED, retention, result)?;
    ledger.close(transaction)?;
    Ok(true)
}
