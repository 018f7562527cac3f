use super::{rows, sink_error};
use crate::{
    BoxFuture,
    dead_letter::{LetterClaim, LetterId, SinkError},
    sqlite::{Database, Durability, GiveBack, Granting, Transaction},
};
use std::time::Duration;

/// A claim. Dropped before it gave its letter away, it gives it back.
pub(super) fn claim(
    database: &Database,
    id: LetterId,
    lease: Duration,
    max_replays: u32,
) -> BoxFuture<Result<LetterClaim, SinkError>> {
    let letter = Claimed {
        database: database.clone(),
        id,
    };
    let clock = database.clock().clone();
    let work = move |transaction: &Transaction<'_>| {
        rows::claim(transaction, id, &clock, lease, max_replays)
    };
    let granting = Granting::ask(database, Durability::Relaxed, letter, work);
    Box::pin(async move { granting.await.map_err(sink_error)? })
}

/// What is needed to give a letter back.
#[derive(Clone)]
struct Claimed {
    database: Database,
    id: LetterId,
}

impl GiveBack<Result<LetterClaim, SinkError>> for Claimed {
    fn give_back(&self, found: &Result<LetterClaim, SinkError>) {
        let Ok(LetterClaim::Claimed { token, .. }) = found else {
            return;
        };
        let (id, token) = (self.id, *token);
        // Should it fail, the claim ends with its lease.
        drop(
            self.database
                .write_relaxed(move |transaction| rows::give_back(transaction, id, token)),
        );
    }
}
