//! Wakes tasks that wait for the database to change.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::{Notify, futures::Notified};

/// One per database. Costs nothing while no task waits.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: Notify,
    stirred: Notify,
    listeners: AtomicUsize,
}

impl Bell {
    /// Listens until the guard is dropped. Meanwhile the reading thread checks every few milliseconds
    /// whether another process has written.
    pub(crate) fn listen(self: &Arc<Self>) -> Listener {
        self.listeners.fetch_add(1, Ordering::Relaxed);
        Listener { bell: self.clone() }
    }

    pub(super) fn is_heard(&self) -> bool {
        self.listeners.load(Ordering::Relaxed) > 0
    }

    /// An operation of this handle that [asked for it](super::Transaction::ring) is committed.
    pub(super) fn ring(&self) {
        self.rung.notify_waiters();
    }

    /// A process has written, perhaps this one.
    pub(super) fn stir(&self) {
        self.stirred.notify_waiters();
    }
}

/// Registered while a task waits.
#[derive(Debug)]
pub(crate) struct Listener {
    bell: Arc<Bell>,
}

impl Listener {
    /// Ends with the next ring after this call, polled by then or not.
    pub(crate) fn rung(&self) -> Notified<'_> {
        self.bell.rung.notified()
    }

    /// Ends when the file may have been changed, after this call, by any process.
    pub(crate) fn stirred(&self) -> Notified<'_> {
        self.bell.stirred.notified()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.bell.listeners.fetch_sub(1, Ordering::Relaxed);
    }
}
