//! Moves of jobs between the queue and the dead letters in its database.

use super::{SqliteQueue, failed};
use crate::{
    SqliteDeadLetters,
    database::{DatabaseError, DatabaseErrorKind},
};
use std::{any::Any, sync::Arc};
use tower_webhook::{
    BoxFuture, StoreError,
    dead_letter::{Entry, EntryId, Sink},
    lease::{FencingToken, Settled},
    queue::{Claim, Enqueued, Moves, NewJob},
};

struct Both {
    queue: SqliteQueue,
    entries: SqliteDeadLetters,
}

/// If both are in one open database.
pub(super) fn between(queue: &SqliteQueue, sink: &dyn Sink) -> Option<Box<dyn Moves>> {
    let entries: &SqliteDeadLetters = (sink as &dyn Any).downcast_ref()?;
    let both = Both {
        queue: queue.clone(),
        entries: entries.clone(),
    };
    let is_one = entries.database().is_same(queue.database());
    is_one.then(|| Box::new(both) as Box<dyn Moves>)
}

impl Moves for Both {
    fn dead_letter(
        &self,
        claim: Claim,
        entry: &Arc<Entry>,
    ) -> BoxFuture<Result<Settled, StoreError>> {
        let (queue, entries, entry) = (self.queue.clone(), self.entries.clone(), Arc::clone(entry));
        let moving = self.queue.database().write(move |transaction| {
            let settled = failed::fail(transaction, claim, queue.limits.rules.retention)
                .map_err(DatabaseError::from_driver)?;
            if settled == Settled::Done {
                entries.write_in(transaction, &entry)?;
            }
            Ok(settled)
        });
        super::answered(moving)
    }

    fn requeue(
        &self,
        entry: EntryId,
        token: FencingToken,
        job: NewJob,
    ) -> BoxFuture<Result<Option<Enqueued>, StoreError>> {
        let queue = self.queue.clone();
        super::answered(self.queue.database().write(move |transaction| {
            if SqliteDeadLetters::remove_in(transaction, entry, token)? == Settled::Lost {
                return Ok(None);
            }
            let enqueued = queue.enqueue_in(transaction, &job)?.as_task(job.id);
            // What it changed is undone.
            enqueued
                .map(Some)
                .map_err(|other| DatabaseError::caused(DatabaseErrorKind::Invalid, other))
        }))
    }
}
