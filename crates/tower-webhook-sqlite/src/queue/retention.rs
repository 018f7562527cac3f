//! Jobs that are finished leave when their time is over, and before that when there are too many.

use super::{
    schema::{self, state},
    time,
};
use crate::database::Chore;
use rusqlite::{Connection, params};
use tower_webhook::clock::WallClock;

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

    /// How many there are beyond the bound.
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
        let (_, now) = super::wait::changes(connection, &self.clock)?;
        let mut over = connection.prepare_cached(schema::OVER)?;
        for state in [state::SUCCEEDED, state::FAILED] {
            if over.query_row(params![state, now], |row| row.get(0))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn sweep(&self, connection: &Connection, limit: usize) -> rusqlite::Result<usize> {
        let now = time::now(connection, &self.clock)?;
        let beyond = self.beyond(connection)?;
        let most = i64::try_from(limit).unwrap_or(i64::MAX);
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
        let mut delete = connection.prepare_cached(schema::DELETE)?;
        let mut left = 0;
        for (number, (at, seq)) in ends.into_iter().enumerate() {
            if at > now && number >= beyond {
                break;
            }
            left += delete.execute([seq])?;
        }
        let fewer = i64::try_from(left).map_or(i64::MIN, |left| -left);
        connection
            .prepare_cached(schema::COUNT)?
            .execute(params![0, 0, 0, 0, now, fewer])?;
        Ok(left)
    }
}
