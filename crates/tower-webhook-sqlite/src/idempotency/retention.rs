//! Rows whose time is over leave.

use super::rows;
use crate::database::Chore;
use rusqlite::Connection;
use tower_webhook::clock::WallClock;

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
        rows::COMPONENT
    }

    fn due(&self, connection: &Connection) -> rusqlite::Result<bool> {
        connection
            .prepare_cached(rows::DUE)?
            .query_row([rows::now(&self.clock)], |row| row.get(0))
    }

    fn sweep(&self, connection: &Connection, limit: usize) -> rusqlite::Result<usize> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut left = 0;
        let mut greatest = 0;
        {
            let mut delete = connection.prepare_cached(rows::SWEEP)?;
            let mut tokens = delete.query([rows::now(&self.clock), limit])?;
            while let Some(row) = tokens.next()? {
                left += 1;
                greatest = greatest.max(row.get::<_, i64>(0)?);
            }
        }
        rows::raise_floor(connection, greatest)?;
        Ok(left)
    }
}
