//! Cancels a job, and lists those that are not finished.

use super::{
    Rules, SqliteQueue, answered, claim,
    enqueue::{self, Known},
    ledger::Ledger,
    schema::{self, state},
    settle::{self, Held, Hold},
    time, wait,
};
use crate::{
    database::{DatabaseError, Transaction},
    stored::{self, count},
};
use rusqlite::{OptionalExtension, Row, params};
use std::{sync::Arc, time::Duration};
use tower_webhook::{
    BoxFuture, StoreError,
    observe::{Event, Id},
    queue::{JobFilter, JobListing, JobSummary, Jobs, Status, TaskId},
};

/// The largest number of jobs that are looked at for a page.
const MOST_LOOKED_AT: usize = 5 * JobListing::MOST;

impl Jobs for SqliteQueue {
    fn cancel(&self, id: TaskId) -> BoxFuture<Result<Option<Status>, StoreError>> {
        let limits = Arc::clone(&self.limits);
        let rules = limits.rules;
        let cancelled = answered(self.database.write(move |transaction| {
            cancel(transaction, id, rules).map_err(DatabaseError::from_driver)
        }));
        Box::pin(async move {
            Ok(match cancelled.await? {
                Cancelled::Now { running, key } => {
                    limits.observers.tell(|| Event::JobCancelled {
                        task: Id::new(&id),
                        running,
                        dedup_key: key
                            .as_ref()
                            .map(|(scope, id)| (scope.as_str(), id.as_str())),
                    });
                    Some(Status::Cancelled)
                }
                Cancelled::Not(status) => status,
            })
        })
    }

    fn list(
        &self,
        filter: JobFilter,
        after: Option<u64>,
        limit: usize,
    ) -> BoxFuture<Result<JobListing, StoreError>> {
        let clock = self.database.clock().clone();
        answered(self.database.read(move |transaction| {
            let (_, now) = wait::changes(transaction.connection(), &clock)
                .map_err(DatabaseError::from_driver)?;
            list(transaction, now, &filter, after, limit).map_err(DatabaseError::from_driver)
        }))
    }
}

/// The scope and id of a deduplication key.
type Key = (String, String);

enum Cancelled {
    Now {
        running: bool,
        key: Option<Key>,
    },
    /// It had ended with this status, or is not known.
    Not(Option<Status>),
}

fn cancel(transaction: &Transaction<'_>, id: TaskId, rules: Rules) -> rusqlite::Result<Cancelled> {
    let mut ledger = Ledger::open(transaction)?;
    // A job whose last lease is over has failed for good.
    claim::expire(&mut ledger, rules)?;
    let connection = ledger.connection;
    let Some((mut held, key)) = Held::unfinished(connection, id)? else {
        let task = enqueue::get(connection, id)?.and_then(|known| known.into_task(ledger.now));
        ledger.close(transaction)?;
        return Ok(Cancelled::Not(task.map(|task| task.status)));
    };
    let running = held.hold == Hold::Job;
    if running {
        // Its worker may still do it.
        let mut cancel = connection.prepare_cached(schema::CANCEL)?;
        cancel.execute(params![held.seq, Known::CANCELLED])?;
    } else {
        // It leaves its lane as if it had run.
        let now = ledger.now;
        held.renew(&mut ledger, now)?;
        settle::let_go(&mut ledger, &held, rules.retention)?;
    }
    settle::delete_payloads(connection, [held.seq])?;
    ledger.close(transaction)?;
    Ok(Cancelled::Now { running, key })
}

fn list(
    transaction: &Transaction<'_>,
    now: i64,
    filter: &JobFilter,
    after: Option<u64>,
    limit: usize,
) -> rusqlite::Result<JobListing> {
    let limit = limit.clamp(1, JobListing::MOST);
    let after = i64::try_from(after.unwrap_or_default()).unwrap_or(i64::MAX);
    let mut listing = JobListing::default();
    let mut query = transaction.connection().prepare_cached(schema::LIST)?;
    let mut rows = query.query(params![after, count(MOST_LOOKED_AT + 1)])?;
    let (mut looked_at, mut last) = (0, after);
    while let Some(row) = rows.next()? {
        if listing.jobs.len() == limit || looked_at == MOST_LOOKED_AT {
            listing.next = Some(last.unsigned_abs());
            break;
        }
        looked_at += 1;
        last = row.get(0)?;
        listing.jobs.extend(summary(row, transaction, now, filter)?);
    }
    Ok(listing)
}

/// The job of a row of [`schema::LIST`], if it matches and has not failed.
fn summary(
    row: &Row<'_>,
    transaction: &Transaction<'_>,
    now: i64,
    filter: &JobFilter,
) -> rusqlite::Result<Option<JobSummary>> {
    let (state, at, accepted): (i64, i64, i64) = (row.get(5)?, row.get(6)?, row.get(7)?);
    let (kind, target) = (stored::text(row, 2)?, stored::text(row, 3)?);
    let is_listed = matches!(state, state::HELD | state::QUEUED | state::RUNNING);
    // A claim of it leaves out what is damaged, too.
    let Some(id) = row.get(1).ok().filter(|_| is_listed) else {
        return Ok(None);
    };
    if !filter.matches(&kind, &target, transaction.age(accepted)) {
        return Ok(None);
    }
    let accepted = time::system_time(accepted);
    let mut summary = JobSummary::new(TaskId::from_bytes(id), kind, target, accepted);
    summary.fifo_group = stored::text_or_null(row, 4)?;
    summary.attempts = stored::number(row, 8)?;
    if state == state::RUNNING && at > now {
        summary.status = Status::Running;
    } else {
        let due_in = at.saturating_sub(now);
        summary.due_in = Duration::from_millis(u64::try_from(due_in).unwrap_or(0));
    }
    Ok(Some(summary))
}

impl Held {
    /// A job that is held, queued or running, and its key.
    fn unfinished(
        connection: &rusqlite::Connection,
        id: TaskId,
    ) -> rusqlite::Result<Option<(Self, Option<Key>)>> {
        let read = |row: &Row<'_>| {
            let key = stored::text_or_null(row, 7)?.zip(stored::text_or_null(row, 8)?);
            Ok((Self::read(row)?, key))
        };
        connection
            .prepare_cached(schema::UNFINISHED)?
            .query_row([id.as_bytes()], read)
            .optional()
    }
}
