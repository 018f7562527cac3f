//! Jobs that are finished and whose time is over leave.

use super::{
    schema::{self, state},
    time,
};
use crate::{clock::WallClock, sqlite::Chore};
use rusqlite::{Connection, params};

pub(super) struct Retention {
    clock: WallClock,
}

impl Retention {
    pub(super) const fn new(clock: WallClock) -> Self {
        Self { clock }
    }
}

impl Chore for Retention {
    fn name(&self) -> &'static str {
        schema::COMPONENT
    }

    fn due(&self, connection: &Connection) -> rusqlite::Result<bool> {
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
        let mut sweep = connection.prepare_cached(schema::SWEEP)?;
        let mut left = 0;
        for state in [state::SUCCEEDED, state::FAILED] {
            let most = i64::try_from(limit - left).unwrap_or(i64::MAX);
            left += sweep.execute(params![state, now, most])?;
        }
        Ok(left)
    }
}
