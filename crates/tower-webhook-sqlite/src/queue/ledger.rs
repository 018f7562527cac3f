//! The changes of one operation: the counts, and the lanes of the targets.

use super::{
    schema,
    time::{self, Clock},
};
use crate::{database::Transaction, stored};
use rusqlite::{Connection, OptionalExtension, Row, params};

/// The numbers of the queue: read once in a transaction, changed in memory by its operations, and written once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    pub(super) queued: i64,
    pub(super) running: i64,
    pub(super) dead_lettering: i64,
    pub(super) finished: i64,
    /// Tells those who wait whether they have seen all.
    pub(super) changes: i64,
    pub(super) keys: i64,
    pub(super) clock: Clock,
    /// Whether the queued jobs are found by their lanes, or by their kinds.
    pub(super) lanes: bool,
}

impl Counts {
    /// As they are within this transaction.
    pub(super) fn of(transaction: &Transaction<'_>) -> rusqlite::Result<Self> {
        if let Some(numbers) = transaction.numbers() {
            return Ok(Self::from(numbers));
        }
        let counts = Self::read(transaction.connection())?;
        transaction.read_numbers(counts.into(), |connection, numbers| {
            Self::from(*numbers).write(connection)
        });
        Ok(counts)
    }

    /// As they are in the file.
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let numbers = |row: &Row<'_>| {
            let mut numbers = [0; 9];
            for (column, number) in numbers.iter_mut().enumerate() {
                *number = row.get(column)?;
            }
            Ok(Self::from(numbers))
        };
        connection
            .prepare_cached(schema::COUNTS)?
            .query_row([], numbers)
    }

    pub(super) fn write(self, connection: &Connection) -> rusqlite::Result<()> {
        connection
            .prepare_cached(schema::SET_COUNTS)?
            .execute(params![
                self.queued,
                self.running,
                self.dead_lettering,
                self.finished,
                self.changes,
                self.keys,
                self.clock.ahead,
                self.clock.last
            ])
            .map(drop)
    }

    /// Changes them for the rest of the transaction.
    pub(super) fn set(mut self, transaction: &Transaction<'_>) {
        // Less than none is left only where somebody changed the file by hand. That must not stop the queue.
        for count in [
            &mut self.queued,
            &mut self.running,
            &mut self.dead_lettering,
            &mut self.finished,
            &mut self.keys,
        ] {
            *count = (*count).max(0);
        }
        transaction.set_numbers(self.into());
    }

    fn from(numbers: [i64; 9]) -> Self {
        let [
            queued,
            running,
            dead_lettering,
            finished,
            changes,
            keys,
            ahead,
            last,
            lanes,
        ] = numbers;
        Self {
            queued,
            running,
            dead_lettering,
            finished,
            changes,
            keys,
            clock: Clock { ahead, last },
            lanes: lanes != 0,
        }
    }
}

impl From<Counts> for [i64; 9] {
    fn from(counts: Counts) -> Self {
        [
            counts.queued,
            counts.running,
            counts.dead_lettering,
            counts.finished,
            counts.changes,
            counts.keys,
            counts.clock.ahead,
            counts.clock.last,
            counts.lanes.into(),
        ]
    }
}

/// Has the queued jobs of the file found by their lanes, which a limit per target needs, or by their kinds, which is
/// less work. Reads the whole table of jobs if that changes.
pub(super) fn use_lanes(transaction: &Transaction<'_>, lanes: bool) -> rusqlite::Result<()> {
    let counts = Counts::of(transaction)?;
    if counts.lanes == lanes {
        return Ok(());
    }
    let change = if lanes {
        schema::ADD_LANES
    } else {
        schema::REMOVE_LANES
    };
    transaction.connection().execute_batch(change)?;
    Counts { lanes, ..counts }.set(transaction);
    Ok(())
}

/// An operation in progress. Its changes of the counts are added at its [end](Self::close).
pub(super) struct Ledger<'a> {
    pub(super) connection: &'a Connection,
    /// The time of the queue.
    pub(super) now: i64,
    /// The counts when the operation began.
    began: Counts,
    pub(super) queued: i64,
    pub(super) running: i64,
    pub(super) dead_lettering: i64,
    pub(super) finished: i64,
    changes: i64,
    granted: bool,
}

impl<'a> Ledger<'a> {
    pub(super) fn open(transaction: &Transaction<'a>) -> rusqlite::Result<Self> {
        let now = time::now(transaction)?;
        Ok(Self {
            connection: transaction.connection(),
            now,
            began: Counts::of(transaction)?,
            queued: 0,
            running: 0,
            dead_lettering: 0,
            finished: 0,
            changes: 0,
            granted: false,
        })
    }

    pub(super) const fn has_lanes(&self) -> bool {
        self.began.lanes
    }

    pub(super) const fn has_queued(&self) -> bool {
        self.began.queued + self.queued > 0
    }

    pub(super) const fn has_running(&self) -> bool {
        self.began.running + self.running > 0
    }

    pub(super) const fn has_failed(&self) -> bool {
        self.began.dead_lettering + self.dead_lettering > 0
    }

    /// Records that something can be claimed, perhaps earlier than the waiters expect.
    pub(super) const fn changed(&mut self) {
        self.changes = 1;
    }

    /// A claim was granted from now on.
    pub(super) const fn granted(&mut self) {
        self.granted = true;
    }

    /// Returns the counts as they are then.
    pub(super) fn close(self, transaction: &Transaction<'_>) -> rusqlite::Result<Counts> {
        if self.changes > 0 {
            transaction.ring();
        }
        let mut counts = Counts::of(transaction)?;
        let more = [
            (&mut counts.queued, self.queued),
            (&mut counts.running, self.running),
            (&mut counts.dead_lettering, self.dead_lettering),
            (&mut counts.finished, self.finished),
            (&mut counts.changes, self.changes),
        ];
        let mut is_changed = self.granted;
        for (count, more) in more {
            *count += more;
            is_changed |= more != 0;
        }
        if is_changed {
            counts.clock.last = self.now;
            counts.set(transaction);
        }
        Ok(counts)
    }

    /// So many jobs of this lane ran, and leave the lane.
    pub(super) fn leave_lane(
        &mut self,
        target: &str,
        kind: &str,
        jobs: i64,
    ) -> rusqlite::Result<()> {
        if !self.has_lanes() {
            return Ok(());
        }
        let (mut is_empty, mut has_work) = (false, false);
        let mut leave = self.connection.prepare_cached(schema::LEAVE_LANE)?;
        let mut lanes = leave.query(params![target, kind, jobs])?;
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
        if !self.has_lanes() {
            return Ok(());
        }
        self.connection
            .prepare_cached(schema::RUN_IN_LANE)?
            .execute(params![target, running])
            .map(drop)
    }

    /// Finds the next job of the lane.
    pub(super) fn renew_lane(&self, target: &str, kind: &str) -> rusqlite::Result<()> {
        if !self.has_lanes() {
            return Ok(());
        }
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
                let (target, kind) = (stored::text(row, 1)?, stored::text(row, 3)?);
                Ok((row.get(0)?, target, row.get(2)?, kind))
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
