//! Background work: rows whose retention is over are removed, a few at a time.

use super::{Transaction, look::Leap};
use rusqlite::Connection;
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// Background work, done in small pieces.
pub(crate) trait Chore: Send + Sync {
    /// Identifies the chore: registering it again changes nothing.
    fn name(&self) -> &'static str;

    /// Whether there is something to do. Only reads.
    fn due(&self, connection: &Connection) -> rusqlite::Result<bool>;

    /// Removes or changes at most `limit` rows, in O(log n) time each. Returns how many.
    fn sweep(&self, transaction: &Transaction<'_>, limit: usize) -> rusqlite::Result<usize>;

    /// The wall clock leapt ahead since the last commit: leases that were not over before are granted again. Runs
    /// before the operations of a transaction, and again in the next one if that is not committed. Every process that
    /// has the file open does so, one after another, and no lease may last longer than it was granted for all that.
    fn leapt(&self, connection: &Connection, leap: Leap) -> rusqlite::Result<()> {
        let _ = (connection, leap);
        Ok(())
    }

    /// The process of this [owner](Transaction::owner) is known to live, and this handle has not seen what the clock
    /// did before: leases of its claims that are over, perhaps because the clock leapt, are granted again.
    fn keep_claims(&self, transaction: &Transaction<'_>, owner: i64) -> rusqlite::Result<()> {
        let _ = (transaction, owner);
        Ok(())
    }

    /// The process of this [owner](Transaction::owner) is gone: ends the leases of its claims. Nothing else of them
    /// changes, so that whoever finds a lease that is over goes on as always.
    fn end_claims(&self, transaction: &Transaction<'_>, owner: i64) -> rusqlite::Result<()> {
        let _ = (transaction, owner);
        Ok(())
    }
}

/// The chores of a database.
#[derive(Clone, Default)]
pub(super) struct Chores {
    list: Arc<Mutex<Vec<Arc<dyn Chore>>>>,
}

impl Chores {
    pub(super) fn add(&self, chore: Arc<dyn Chore>) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        if list.iter().all(|known| known.name() != chore.name()) {
            list.push(chore);
        }
    }

    pub(super) fn count(&self) -> usize {
        self.list
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    pub(super) fn list(&self) -> Vec<Arc<dyn Chore>> {
        self.list
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl fmt::Debug for Chores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.list().iter().map(|chore| chore.name()))
            .finish()
    }
}
