//! Settles the claims of a worker: one call of the engine for all that end at about the same time.

use super::Shared;
use crate::{
    StoreErrorKind,
    lease::Settled,
    queue::{Claim, End},
};
use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{
    sync::{Notify, oneshot},
    time::timeout,
};

type Answer = Result<Settled, StoreErrorKind>;

struct Asked {
    claim: Claim,
    end: End,
    answer: oneshot::Sender<Answer>,
}

/// The ends that wait for the engine.
#[derive(Default)]
pub(super) struct Ends {
    asked: Mutex<Vec<Asked>>,
    more: Notify,
}

impl Ends {
    /// Settles a claim with the next call of the engine. If the future is dropped, it is settled all the same.
    pub(super) async fn settle(&self, claim: Claim, end: End) -> Answer {
        let (answer, answered) = oneshot::channel();
        self.lock().push(Asked { claim, end, answer });
        self.more.notify_one();
        // The settler ends with the worker alone.
        answered.await.unwrap_or(Err(StoreErrorKind::Closed))
    }

    /// Ignores poisoning: nothing that can panic runs while the lock is held.
    fn lock(&self) -> MutexGuard<'_, Vec<Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Settles what is asked for, without end.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        let asked = mem::take(&mut *shared.ends.lock());
        if asked.is_empty() {
            shared.ends.more.notified().await;
            continue;
        }
        let ends = asked.iter().map(|one| (one.claim, one.end.clone()));
        match call(&shared, ends.collect()).await {
            Ok(settled) => {
                for (one, settled) in asked.into_iter().zip(settled) {
                    let _ = one.answer.send(Ok(settled));
                }
            }
            Err(kind) if asked.len() == 1 => {
                for one in asked {
                    let _ = one.answer.send(Err(kind));
                }
            }
            // One of them may be the cause: it must not hold up the others.
            Err(_) => {
                for one in asked {
                    let settled = call(&shared, vec![(one.claim, one.end)]).await;
                    let first = settled.map(|settled| settled.first().copied());
                    let _ = one
                        .answer
                        .send(first.and_then(|one| one.ok_or(StoreErrorKind::Corrupt)));
                }
            }
        }
    }
}

async fn call(shared: &Shared, ends: Vec<(Claim, End)>) -> Result<Vec<Settled>, StoreErrorKind> {
    match timeout(shared.lease / 3, shared.engine.settle(ends)).await {
        Ok(settled) => settled.map_err(|error| error.kind()),
        Err(_) => Err(StoreErrorKind::Timeout),
    }
}
