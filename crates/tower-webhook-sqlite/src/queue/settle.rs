//! Ending a claim, and extending it.

use super::{
    ledger::Ledger,
    schema::{self, state},
    time,
};
use crate::database::Transaction;
use rusqlite::{OptionalExtension, params};
use std::time::Duration;
use tower_webhook::{
    attempt::History,
    clock::WallClock,
    codec,
    lease::{FencingToken, Settled},
    queue::{TaskId, Verdict},
};

/// A claim that holds.
pub(super) struct Held {
    pub(super) seq: i64,
    /// Whether it is a failed job.
    pub(super) carried: bool,
    pub(super) target: String,
    pub(super) ordered: Option<String>,
    pub(super) attempts: u32,
}

impl Held {
    pub(super) fn find(
        ledger: &Ledger<'_>,
        id: TaskId,
        token: FencingToken,
    ) -> rusqlite::Result<Option<Self>> {
        ledger
            .connection
            .prepare_cached(schema::HELD_BY)?
            .query_row(params![id.as_bytes(), stored(token), ledger.now], |row| {
                Ok(Self {
                    seq: row.get(0)?,
                    carried: row.get::<_, i64>(1)? == state::CARRIED,
                    target: row.get(2)?,
                    ordered: row.get(3)?,
                    attempts: row.get(4)?,
                })
            })
            .optional()
    }
}

pub(super) fn settle(
    transaction: &Transaction<'_>,
    clock: &WallClock,
    id: TaskId,
    token: FencingToken,
    verdict: &Verdict,
) -> rusqlite::Result<Settled> {
    let mut ledger = Ledger::open(transaction, clock)?;
    let Some(held) = Held::find(&ledger, id, token)? else {
        return Ok(Settled::Lost);
    };
    let now = ledger.now;
    match (verdict, held.carried) {
        (Verdict::Failed { cause, history }, false) => {
            let (history, cause) = (stored_history(history), codec::encode(cause));
            dead_letter(&mut ledger, &held, now, Some(&history), Some(&cause))?;
        }
        (Verdict::DeadLettered { retention }, true) => {
            finish(&mut ledger, &held, state::FAILED, *retention, None)?;
            ledger.dead_lettering -= 1;
        }
        (Verdict::Done { result, retention }, false) => {
            finish(
                &mut ledger,
                &held,
                state::SUCCEEDED,
                *retention,
                result.as_deref(),
            )?;
            ledger.running -= 1;
            ledger.leave_lane(&held.target)?;
            ledger.release_next(held.ordered.as_deref())?;
        }
        (Verdict::Release { after, history }, _) => {
            let due = time::until(now, *after);
            let history = stored_history(history);
            again(&mut ledger, &held, due, true, Some(&history))?;
        }
        (Verdict::Retry { after, history }, _) => {
            let due = time::until(now, *after);
            let history = stored_history(history);
            again(&mut ledger, &held, due, false, Some(&history))?;
        }
        _ => return Ok(Settled::Lost),
    }
    ledger.close(transaction)?;
    Ok(Settled::Done)
}

pub(super) fn renew(
    transaction: &Transaction<'_>,
    clock: &WallClock,
    claims: &[(TaskId, FencingToken)],
    lease: Duration,
) -> rusqlite::Result<Vec<Settled>> {
    let connection = transaction.connection();
    let now = time::now(connection, clock)?;
    let until = time::until(now, lease);
    time::granted(connection, now)?;
    let mut renew = connection.prepare_cached(schema::RENEW)?;
    claims
        .iter()
        .map(|(id, token)| {
            let rows = renew.execute(params![id.as_bytes(), stored(*token), now, until])?;
            Ok(if rows > 0 {
                Settled::Done
            } else {
                Settled::Lost
            })
        })
        .collect()
}

/// The job is to be claimed again, or the failed job.
pub(super) fn again(
    ledger: &mut Ledger<'_>,
    held: &Held,
    due: i64,
    uncounted: bool,
    history: Option<&str>,
) -> rusqlite::Result<()> {
    let attempts = if uncounted && !held.carried {
        held.attempts.saturating_sub(1)
    } else {
        held.attempts
    };
    let state = if held.carried {
        state::BURYING
    } else {
        state::QUEUED
    };
    relocate(ledger, held, state, due, attempts, history, None)?;
    if !held.carried {
        ledger.queued += 1;
        ledger.running -= 1;
        ledger.renew_lane(&held.target, -1)?;
    }
    ledger.changed();
    Ok(())
}

/// The job failed for good: its entry is to be written.
pub(super) fn dead_letter(
    ledger: &mut Ledger<'_>,
    held: &Held,
    due: i64,
    history: Option<&str>,
    cause: Option<&str>,
) -> rusqlite::Result<()> {
    let attempts = held.attempts;
    relocate(ledger, held, state::BURYING, due, attempts, history, cause)?;
    ledger.running -= 1;
    ledger.dead_lettering += 1;
    ledger.leave_lane(&held.target)?;
    ledger.release_next(held.ordered.as_deref())?;
    ledger.changed();
    Ok(())
}

fn relocate(
    ledger: &Ledger<'_>,
    held: &Held,
    state: i64,
    at: i64,
    attempts: u32,
    history: Option<&str>,
    cause: Option<&str>,
) -> rusqlite::Result<()> {
    ledger
        .connection
        .prepare_cached(schema::MOVE)?
        .execute(params![held.seq, state, at, attempts, history, cause])
        .map(drop)
}

/// Nothing more will become of it: its payload leaves.
fn finish(
    ledger: &mut Ledger<'_>,
    held: &Held,
    state: i64,
    retention: Duration,
    result: Option<&[u8]>,
) -> rusqlite::Result<()> {
    let until = time::until(ledger.now, retention);
    ledger.finished += 1;
    ledger
        .connection
        .prepare_cached(schema::FINISH)?
        .execute(params![held.seq, state, until, result])?;
    ledger
        .connection
        .prepare_cached(schema::DELETE_PAYLOAD)?
        .execute([held.seq])
        .map(drop)
}

/// As it is in the table; a made-up token that does not fit is nobody's, and equals nothing.
fn stored(token: FencingToken) -> Option<i64> {
    i64::try_from(token.get()).ok()
}

/// Empty where nothing was tried.
fn stored_history(history: &History) -> String {
    if *history == History::new() {
        return String::new();
    }
    codec::encode(history)
}
