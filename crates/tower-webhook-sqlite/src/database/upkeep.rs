//! Work that nobody waits for: rows whose time is over leave, a few at a time.

use rusqlite::Connection;
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// Something to be done now and then, in small pieces.
pub(crate) trait Chore: Send + Sync {
    /// Tells one chore from another: registering it again changes nothing.
    fn name(&self) -> &'static str;

    /// Whether there is something to do: a look, without the right to write.
    fn due(&self, connection: &Connection) -> rusqlite::Result<bool>;

    /// Does at most `limit` rows of it, in O(log n) each. Returns how many.
    fn sweep(&self, connection: &Connection, limit: usize) -> rusqlite::Result<usize>;
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
