use super::{rows, sink_error};
use crate::database::{Database, Durability, Granting, Release, Transaction};
use std::time::Duration;
use tower_webhook::{
    BoxFuture, StoreError,
    dead_letter::{EntryClaim, EntryId},
};

/// A claim. Dropped before it gave its entry away, it gives it back.
pub(super) fn claim(
    database: &Database,
    id: EntryId,
    lease: Duration,
    max_replays: u32,
) -> BoxFuture<Result<EntryClaim, StoreError>> {
    let entry = Claimed {
        database: database.clone(),
        id,
    };
    let clock = database.clock().clone();
    let work = move |transaction: &Transaction<'_>| {
        rows::claim(transaction, id, &clock, lease, max_replays)
    };
    let granting = Granting::ask(database, Durability::Relaxed, entry, work);
    Box::pin(async move { granting.await.map_err(sink_error)? })
}

/// What is needed to give an entry back.
#[derive(Clone)]
struct Claimed {
    database: Database,
    id: EntryId,
}

impl Release<Result<EntryClaim, StoreError>> for Claimed {
    fn release(&self, found: &Result<EntryClaim, StoreError>) {
        let Ok(EntryClaim::Claimed { token, .. }) = found else {
            return;
        };
        let (id, token) = (self.id, *token);
        // Should it fail, the claim ends with its lease.
        drop(
            self.database
                .write_relaxed(move |transaction| rows::unclaim(transaction, id, token)),
        );
    }
}
