//! Ends claims, extends them, and removes finished tasks.

use super::{
    enqueue,
    ledger::Ledger,
    schema::{self, state},
    time, wait,
};
use crate::{
    database::{Chore, Transaction},
    stored,
};
use rusqlite::{Connection, OptionalExtension, params};
use std::time::Duration;
use tower_webhook::{
    attempt::History,
    clock::WallClock,
    codec,
    lease::{FencingToken, Settled},
    queue::{TaskId, Verdict},
};

/// A current claim.
pub(super) struct Held {
    pub(super) seq: i64,
    /// Whether it is a failed job.
    pub(super) failed: bool,
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
            .query_row(
                params![id.as_bytes(), stored::token(token), ledger.now],
                |row| {
                    Ok(Self {
                        seq: row.get(0)?,
                        failed: row.get::<_, i64>(1)? == state::DEAD_LETTERING_CLAIMED,
                        target: row.get(2)?,
                        ordered: row.get(3)?,
                        attempts: row.get(4)?,
                    })
                },
            )
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
    match (verdict, held.failed) {
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
            let due = stored::until(now, *after);
            let history = stored_history(history);
            again(&mut ledger, &held, due, true, Some(&history))?;
        }
        (Verdict::Retry { after, history }, _) => {
            let due = stored::until(now, *after);
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
    let until = stored::until(now, lease);
    time::granted(connection, now)?;
    let mut renew = connection.prepare_cached(schema::RENEW)?;
    claims
        .iter()
        .map(|(id, token)| {
            let rows = renew.execute(params![id.as_bytes(), stored::token(*token), now, until])?;
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
    let attempts = if uncounted && !held.failed {
        held.attempts.saturating_sub(1)
    } else {
        held.attempts
    };
    let state = if held.failed {
        state::DEAD_LETTERING_DUE
    } else {
        state::QUEUED
    };
    relocate(ledger, held, state, due, attempts, history, None)?;
    if !held.failed {
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
    relocate(
        ledger,
        held,
        state::DEAD_LETTERING_DUE,
        due,
        attempts,
        history,
        cause,
    )?;
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

/// The job is finished: its payload is removed.
fn finish(
    ledger: &mut Ledger<'_>,
    held: &Held,
    state: i64,
    retention: Duration,
    result: Option<&[u8]>,
) -> rusqlite::Result<()> {
    let until = stored::until(ledger.now, retention);
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

/// Empty if there was no attempt.
fn stored_history(history: &History) -> String {
    if *history == History::new() {
        return String::new();
    }
    codec::encode(history)
}

/// Removes finished tasks whose retention is over, and those beyond the bound earlier: without their keys.
pub(super) struct Retention {
    clock: WallClock,
    max_finished: i64,
}

impl Retention {
    pub(super) const fn new(clock: WallClock, max_finished: i64) -> Self {
        Self {
            clock,
            max_finished,
        }
    }

    /// The number of tasks beyond the bound.
    fn beyond(&self, connection: &Connection) -> rusqlite::Result<usize> {
        let finished: i64 = connection
            .prepare_cached(schema::FINISHED)?
            .query_row([], |row| row.get(0))?;
        Ok(usize::try_from(finished.saturating_sub(self.max_finished)).unwrap_or(0))
    }
}

impl Chore for Retention {
    fn name(&self) -> &'static str {
        schema::COMPONENT
    }

    fn due(&self, connection: &Connection) -> rusqlite::Result<bool> {
        if self.beyond(connection)? > 0 {
            return Ok(true);
        }
        let (_, now) = wait::changes(connection, &self.clock)?;
        let mut over = connection.prepare_cached(schema::OVER)?;
        for state in [state::SUCCEEDED, state::FAILED] {
            if over.query_row(params![state, now], |row| row.get(0))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn end_claims(&self, transaction: &Transaction<'_>, owner: i64) -> rusqlite::Result<()> {
        let mut ledger = Ledger::open(transaction, &self.clock)?;
        let mut end = ledger.connection.prepare_cached(schema::END_CLAIMS)?;
        if end.execute([owner, ledger.now])? > 0 {
            ledger.changed();
        }
        ledger.close(transaction)
    }

    fn sweep(&self, transaction: &Transaction<'_>, limit: usize) -> rusqlite::Result<usize> {
        let connection = transaction.connection();
        let now = time::now(connection, &self.clock)?;
        let beyond = self.beyond(connection)?;
        let most = stored::count(limit);
        let mut ends: Vec<(i64, i64)> = Vec::new();
        for state in [state::SUCCEEDED, state::FAILED] {
            let mut first = connection.prepare_cached(schema::ENDS)?;
            for end in
                first.query_map(params![state, most], |row| Ok((row.get(0)?, row.get(1)?)))?
            {
                ends.push(end?);
            }
        }
        ends.sort_unstable();
        ends.truncate(limit);
        let mut left = 0;
        for (number, (at, seq)) in ends.into_iter().enumerate() {
            if at > now && number >= beyond {
                break;
            }
            enqueue::remove(connection, seq, now)?;
            left += 1;
        }
        let fewer = -stored::count(left);
        connection
            .prepare_cached(schema::COUNT)?
            .execute(params![0, 0, 0, 0, now, fewer])?;
        Ok(left)
    }
}
