//! Ends claims, extends them, and removes finished tasks.

use super::{
    enqueue::{self, Known},
    ledger::{Counts, Ledger},
    schema::{self, state},
    time, wait,
};
use crate::{
    database::{Chore, Leap, Transaction},
    stored,
};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tower_webhook::{
    attempt::History,
    clock::WallClock,
    codec,
    lease::Settled,
    queue::{Claim, End},
};

/// A claimed job.
pub(super) struct Held {
    pub(super) seq: i64,
    pub(super) hold: Hold,
    pub(super) target: String,
    pub(super) kind: String,
    pub(super) ordered: Option<String>,
    pub(super) attempts: u32,
}

/// What a claim holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// A job to do.
    Job,
    /// A job that has failed for good.
    Failed,
    /// A queued job; as a claim, one whose lease has ended, and that nobody has claimed since.
    Lapsed,
    /// A job that was cancelled, and that its worker may still do.
    Cancelled,
    /// A job that was given up when its last lease ended, and whose entry nobody writes yet.
    GivenUp,
}

impl Held {
    pub(super) fn find(ledger: &Ledger<'_>, claim: Claim) -> rusqlite::Result<Option<Self>> {
        ledger
            .connection
            .prepare_cached(schema::HELD_BY)?
            .query_row(
                params![claim.id.as_bytes(), stored::token(claim.token)],
                Self::read,
            )
            .optional()
    }

    /// A job in these columns of a row: its number, state, target, FIFO group, attempts and kind, and whether it was
    /// cancelled. What is damaged is read as far as it can be.
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get(0)?,
            hold: match row.get(1)? {
                state::RUNNING if row.get(6)? => Hold::Cancelled,
                state::RUNNING => Hold::Job,
                state::DEAD_LETTERING_CLAIMED => Hold::Failed,
                state::HELD | state::QUEUED => Hold::Lapsed,
                _ => Hold::GivenUp,
            },
            target: stored::text(row, 2)?,
            ordered: stored::text_or_null(row, 3)?,
            attempts: stored::number(row, 4)?,
            kind: stored::text(row, 5)?,
        })
    }

    /// Renews the claim, until then.
    pub(super) fn renew(&mut self, ledger: &mut Ledger<'_>, until: i64) -> rusqlite::Result<()> {
        let state = match self.hold {
            Hold::Failed => state::DEAD_LETTERING_CLAIMED,
            _ => state::RUNNING,
        };
        ledger
            .connection
            .prepare_cached(schema::RENEW)?
            .execute([self.seq, state, until])?;
        if self.hold == Hold::Lapsed {
            ledger.queued -= 1;
            ledger.running += 1;
            ledger.run_in_lane(&self.target, 1)?;
            ledger.renew_lane(&self.target, &self.kind)?;
            self.hold = Hold::Job;
        }
        Ok(())
    }
}

/// Ends claims, in one operation.
pub(super) fn settle(
    transaction: &Transaction<'_>,
    ends: &[(Claim, End)],
    retention: Duration,
) -> rusqlite::Result<Vec<Settled>> {
    let mut ledger = Ledger::open(transaction)?;
    let mut settled = Vec::with_capacity(ends.len());
    let mut group = Group::default();
    for (claim, end) in ends {
        settled.push(settle_one(&mut ledger, *claim, end, retention, &mut group)?);
    }
    group.finish(&mut ledger, retention)?;
    ledger.close(transaction)?;
    Ok(settled)
}

/// The jobs that an operation finishes. Most have succeeded without a result: their rows change with one statement.
#[derive(Default)]
struct Group {
    /// Those without a result.
    done: BTreeSet<i64>,
    /// Those whose rows have changed already.
    others: Vec<i64>,
    /// How many leave each lane.
    leave: BTreeMap<(String, String), i64>,
}

impl Group {
    fn finish(self, ledger: &mut Ledger<'_>, retention: Duration) -> rusqlite::Result<()> {
        if !self.done.is_empty() {
            let until = stored::until(ledger.now, retention);
            let rows = stored::list(self.done.iter().copied());
            let mut finish = ledger.connection.prepare_cached(schema::FINISH_ALL)?;
            finish.execute(params![rows, until])?;
        }
        let all = || self.done.iter().chain(&self.others).copied();
        if all().next().is_some() {
            delete_payloads(ledger.connection, all())?;
        }
        for ((target, kind), jobs) in &self.leave {
            ledger.leave_lane(target, kind, *jobs)?;
        }
        Ok(())
    }
}

fn settle_one(
    ledger: &mut Ledger<'_>,
    claim: Claim,
    end: &End,
    retention: Duration,
    group: &mut Group,
) -> rusqlite::Result<Settled> {
    let held = Held::find(ledger, claim)?;
    // One of the group has ended, though its row does not say so yet.
    let Some(mut held) = held.filter(|held| !group.done.contains(&held.seq)) else {
        return Ok(Settled::Lost);
    };
    let now = ledger.now;
    match held.hold {
        Hold::Cancelled => {
            let_go(ledger, &held, retention)?;
            return Ok(Settled::Lost);
        }
        Hold::Lapsed => held.renew(ledger, now)?,
        _ => {}
    }
    match (end, held.hold) {
        (End::Failed { cause, history }, hold) => {
            let (history, cause) = (stored_history(history), codec::encode(cause));
            let (history, cause) = (Some(&*history), Some(&*cause));
            if hold == Hold::Job {
                dead_letter(ledger, &held, now, history, cause, true)?;
            } else {
                let waits = state::DEAD_LETTERING_DUE;
                relocate(
                    ledger,
                    &held,
                    waits,
                    now,
                    held.attempts,
                    history,
                    cause,
                    true,
                )?;
                ledger.changed();
            }
        }
        (End::Done { .. }, Hold::Failed) => {
            finish(ledger, held.seq, state::FAILED, retention, None)?;
            group.others.push(held.seq);
            ledger.dead_lettering -= 1;
        }
        (End::Done { result }, hold) => {
            // The next of a FIFO group is found by the state of this one.
            if result.is_none() && held.ordered.is_none() {
                ledger.finished += 1;
                group.done.insert(held.seq);
            } else {
                let result = result.as_deref();
                finish(ledger, held.seq, state::SUCCEEDED, retention, result)?;
                group.others.push(held.seq);
            }
            if hold == Hold::GivenUp {
                ledger.dead_lettering -= 1;
            } else {
                ledger.running -= 1;
                ledger.release_next(held.ordered.as_deref())?;
                if ledger.has_lanes() {
                    *group.leave.entry((held.target, held.kind)).or_default() += 1;
                }
            }
        }
        (End::Release { .. } | End::Retry { .. }, Hold::GivenUp) => return Ok(Settled::Lost),
        (End::Release { after, history }, _) => {
            let due = stored::until(now, *after);
            let history = stored_history(history);
            again(ledger, &held, due, true, Some(&history), true)?;
        }
        (End::Retry { after, history }, _) => {
            let due = stored::until(now, *after);
            let history = stored_history(history);
            again(ledger, &held, due, false, Some(&history), true)?;
        }
        _ => return Ok(Settled::Lost),
    }
    Ok(Settled::Done)
}

pub(super) fn renew(
    transaction: &Transaction<'_>,
    claims: &[Claim],
    lease: Duration,
) -> rusqlite::Result<Vec<Settled>> {
    let mut ledger = Ledger::open(transaction)?;
    let until = stored::until(ledger.now, lease);
    ledger.granted();
    let mut settled = Vec::with_capacity(claims.len());
    for claim in claims {
        settled.push(match Held::find(&ledger, *claim)? {
            Some(mut held) if !matches!(held.hold, Hold::Cancelled | Hold::GivenUp) => {
                held.renew(&mut ledger, until)?;
                Settled::Done
            }
            _ => Settled::Lost,
        });
    }
    ledger.close(transaction)?;
    Ok(settled)
}

/// The job is to be claimed again, or the failed job. `is_settled`: its holder has ended the claim, and can do
/// so no more.
pub(super) fn again(
    ledger: &mut Ledger<'_>,
    held: &Held,
    due: i64,
    uncounted: bool,
    history: Option<&str>,
    is_settled: bool,
) -> rusqlite::Result<()> {
    let failed = held.hold == Hold::Failed;
    let attempts = held.attempts.saturating_sub((uncounted && !failed).into());
    let state = if failed {
        state::DEAD_LETTERING_DUE
    } else {
        state::QUEUED
    };
    relocate(
        ledger, held, state, due, attempts, history, None, is_settled,
    )?;
    if !failed {
        ledger.queued += 1;
        ledger.running -= 1;
        ledger.run_in_lane(&held.target, -1)?;
        ledger.renew_lane(&held.target, &held.kind)?;
    }
    ledger.changed();
    Ok(())
}

/// The job failed for good: its entry is to be written. `is_settled`: its holder has said so.
pub(super) fn dead_letter(
    ledger: &mut Ledger<'_>,
    held: &Held,
    due: i64,
    history: Option<&str>,
    cause: Option<&str>,
    is_settled: bool,
) -> rusqlite::Result<()> {
    let (waits, attempts) = (state::DEAD_LETTERING_DUE, held.attempts);
    relocate(
        ledger, held, waits, due, attempts, history, cause, is_settled,
    )?;
    ledger.running -= 1;
    ledger.dead_lettering += 1;
    ledger.leave_lane(&held.target, &held.kind, 1)?;
    ledger.release_next(held.ordered.as_deref())?;
    ledger.changed();
    Ok(())
}

#[allow(clippy::too_many_arguments, reason = "they are the columns")]
fn relocate(
    ledger: &Ledger<'_>,
    held: &Held,
    state: i64,
    at: i64,
    attempts: u32,
    history: Option<&str>,
    cause: Option<&str>,
    is_settled: bool,
) -> rusqlite::Result<()> {
    let moved = params![held.seq, state, at, attempts, history, cause, is_settled];
    ledger
        .connection
        .prepare_cached(schema::MOVE)?
        .execute(moved)
        .map(drop)
}

/// The job is finished. Its payload is to be removed.
pub(super) fn finish(
    ledger: &mut Ledger<'_>,
    seq: i64,
    state: i64,
    retention: Duration,
    result: Option<&[u8]>,
) -> rusqlite::Result<()> {
    let until = stored::until(ledger.now, retention);
    ledger.finished += 1;
    ledger
        .connection
        .prepare_cached(schema::FINISH)?
        .execute(params![seq, state, until, result])
        .map(drop)
}

/// The worker of a cancelled job has stopped, or its lease has ended: what waits for it may run.
pub(super) fn let_go(
    ledger: &mut Ledger<'_>,
    held: &Held,
    retention: Duration,
) -> rusqlite::Result<()> {
    let result = Some(Known::CANCELLED);
    finish(ledger, held.seq, state::FAILED, retention, result)?;
    ledger.running -= 1;
    ledger.leave_lane(&held.target, &held.kind, 1)?;
    ledger.release_next(held.ordered.as_deref())
}

pub(super) fn delete_payloads(
    connection: &Connection,
    jobs: impl IntoIterator<Item = i64>,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(schema::DELETE_PAYLOADS)?
        .execute([stored::list(jobs.into_iter())])
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
    fn beyond(&self, counts: Counts) -> usize {
        let beyond = counts.finished.saturating_sub(self.max_finished);
        usize::try_from(beyond).unwrap_or(0)
    }
}

impl Chore for Retention {
    fn name(&self) -> &'static str {
        schema::COMPONENT
    }

    fn due(&self, connection: &Connection) -> rusqlite::Result<bool> {
        let counts = Counts::read(connection)?;
        if self.beyond(counts) > 0 {
            return Ok(true);
        }
        let (_, now) = wait::changes_of(counts, &self.clock);
        let mut over = connection.prepare_cached(schema::OVER)?;
        for state in [state::SUCCEEDED, state::FAILED] {
            if over.query_row(params![state, now], |row| row.get(0))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn end_claims(&self, transaction: &Transaction<'_>, owner: i64) -> rusqlite::Result<()> {
        let mut ledger = Ledger::open(transaction)?;
        let mut end = ledger.connection.prepare_cached(schema::END_CLAIMS)?;
        if end.execute([owner, ledger.now])? > 0 {
            ledger.changed();
        }
        ledger.close(transaction).map(drop)
    }

    fn leapt(&self, connection: &Connection, leap: Leap) -> rusqlite::Result<()> {
        time::leapt(connection, leap)
    }

    fn keep_claims(&self, transaction: &Transaction<'_>, owner: i64) -> rusqlite::Result<()> {
        time::keep_claims(transaction, owner)
    }

    fn sweep(&self, transaction: &Transaction<'_>, limit: usize) -> rusqlite::Result<usize> {
        let connection = transaction.connection();
        let now = time::now(transaction)?;
        let beyond = self.beyond(Counts::of(transaction)?);
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
            enqueue::remove(transaction, seq, now)?;
            left += 1;
        }
        let mut counts = Counts::of(transaction)?;
        counts.finished -= stored::count(left);
        counts.set(transaction);
        Ok(left)
    }
}
