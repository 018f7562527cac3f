//! The changes of one operation: the counts, and the lanes of the targets.

use super::{schema, time};
use crate::database::Transaction;
use rusqlite::{Connection, OptionalExtension, params};

/// An operation in progress. Its counts are written once, at its [end](Self::close).
pub(super) struct Ledger<'a> {
    pub(super) connection: &'a Connection,
    /// The time of the queue.
    pub(super) now: i64,
    pub(super) queued: i64,
    pub(super) running: i64,
    pub(super) dead_lettering: i64,
    pub(super) finished: i64,
    changes: i64,
    granted: bool,
}

impl<'a> Ledger<'a> {
    pub(super) fn open(transaction: &Transaction<'a>) -> rusqlite::Result<Self> {
        let connection = transaction.connection();
        Ok(Self {
            connection,
            now: time::now(transaction)?,
            queued: 0,
            running: 0,
            dead_lettering: 0,
            finished: 0,
            changes: 0,
            granted: false,
        })
    }

    /// Records that something can be claimed, perhaps earlier than the waiters expect.
    pub(super) const fn changed(&mut self) {
        self.changes = 1;
    }

    /// A claim was granted from now on.
    pub(super) const fn granted(&mut self) {
        self.granted = true;
    }

    pub(super) fn close(self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        if self.changes > 0 {
            transaction.ring();
        }
        let counts = [
            self.queued,
            self.running,
            self.dead_lettering,
            self.finished,
            self.changes,
        ];
        if counts == [0; 5] && !self.granted {
            return Ok(());
        }
        let [queued, running, dead_lettering, finished, changes] = counts;
        self.connection
            .prepare_cached(schema::COUNT)?
            .execute(params![
                queued,
                running,
                dead_lettering,
                changes,
                self.now,
                finished
            ])
            .map(drop)
    }

    /// A job of this lane ran, and leaves the lane.
    pub(super) fn leave_lane(&mut self, target: &str, kind: &str) -> rusqlite::Result<()> {
        let (mut is_empty, mut has_work) = (false, false);
        let mut leave = self.connection.prepare_cached(schema::LEAVE_LANE)?;
        let mut lanes = leave.query([target, kind])?;
        while let Some(lane) = lanes.next()? {
            is_empty |= lane.get::<_, i64>(0)? <= 0;
            has_work |= lane
                .get::<_, Option<i64>>(1)?
                .is_some_and(|due| due <= self.now);
        }
        drop(lanes);
        drop(leave);
        if is_empty {
            self.connection
                .prepare_cached(schema::DELETE_LANE)?
                .execute([target])?;
        }
        if has_work {
            // The target has room again, and something that waits for it.
            self.changed();
        }
        Ok(())
    }

    /// `running` more jobs of a target run.
    pub(super) fn run_in_lane(&self, target: &str, running: i64) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached(schema::RUN_IN_LANE)?
            .execute(params![target, running])
            .map(drop)
    }

    /// Finds the next job of the lane.
    pub(super) fn renew_lane(&self, target: &str, kind: &str) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached(schema::RENEW_LANE)?
            .execute([target, kind])
            .map(drop)
    }

    /// A job of this FIFO group has ended: the next one may run.
    pub(super) fn release_next(&mut self, ordered: Option<&str>) -> rusqlite::Result<()> {
        let Some(ordered) = ordered else {
            return Ok(());
        };
        let next: Option<(i64, String, i64, String)> = self
            .connection
            .prepare_cached(schema::FIRST_IN_ORDER)?
            .query_row([ordered], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })
            .optional()?;
        if let Some((seq, target, schema::state::HELD, kind)) = next {
            self.connection
                .prepare_cached(schema::RELEASE)?
                .execute([seq])?;
            self.renew_lane(&target, &kind)?;
            self.changed();
        }
        Ok(())
    }
}
