//! The ids of entries that were removed or discarded leave after a while.

use super::rows;
use crate::database::Chore;
use rusqlite::{Connection, params};
use tower_webhook::clock::WallClock;

/// Seven days, in milliseconds: longer than anybody repeats a write that got no answer.
const KEPT: i64 = 7 * 86_400_000;

pub(super) struct Gone {
    clock: WallClock,
}

impl Gone {
    pub(super) const fn new(clock: WallClock) -> Self {
        Self { clock }
    }

    fn before(&self) -> i64 {
        rows::now(&self.clock).saturating_sub(KEPT)
    }
}

impl Chore for Gone {
    fn name(&self) -> &'static str {
        rows::COMPONENT
    }

    fn due(&self, connection: &Connection) -> rusqlite::Result<bool> {
        let mut over = connection.prepare_cached(rows::OVER)?;
        over.query_row([self.before()], |row| row.get(0))
    }

    fn sweep(&self, connection: &Connection, limit: usize) -> rusqlite::Result<usize> {
        let most = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut sweep = connection.prepare_cached(rows::SWEEP)?;
        sweep.execute(params![self.before(), most])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn ids_leave_after_a_week_and_some_at_a_time() {
        let connection = Connection::open_in_memory().unwrap();
        for step in rows::STEPS {
            connection.execute_batch(step).unwrap();
        }
        let day = 86_400_000;
        for number in 1..=5_u8 {
            let values = params![[number; 16], i64::from(number) * day];
            connection.execute(rows::GONE, values).unwrap();
        }
        let at = |days: u64| {
            let now = UNIX_EPOCH + Duration::from_secs(days * 86_400 + 1);
            Gone::new(WallClock::fixed(now))
        };
        assert!(!at(7).due(&connection).unwrap());
        assert_eq!(at(7).sweep(&connection, 10).unwrap(), 0);
        assert!(at(10).due(&connection).unwrap());
        assert_eq!(at(10).sweep(&connection, 2).unwrap(), 2);
        assert_eq!(at(10).sweep(&connection, 2).unwrap(), 1);
        assert!(!at(10).due(&connection).unwrap());
        let is_gone = |number: u8| -> bool {
            let mut query = connection.prepare(rows::IS_GONE).unwrap();
            query.query_row([[number; 16]], |row| row.get(0)).unwrap()
        };
        assert_eq!([3, 4].map(is_gone), [false, true]);
    }
}
