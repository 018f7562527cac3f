use super::{
    claim::{self, Taken},
    wait::Seen,
};
use crate::{
    fence::Token,
    queue::{Claims, QueueError, TaskId, Terms},
    sqlite::{Database, DatabaseError, DatabaseErrorKind, Durability, Operation, Transaction},
};
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::sync::oneshot;

/// Future of [`Engine::claim`](crate::queue::Engine::claim). Dropped before it gave its jobs away,
/// it gives them back.
pub(super) struct Claiming {
    receiver: oneshot::Receiver<Result<Taken, DatabaseError>>,
    database: Database,
}

impl Claiming {
    pub(super) fn new(
        database: &Database,
        terms: Terms,
        durability: Durability,
        seen: Seen,
    ) -> Self {
        let (sender, receiver) = oneshot::channel();
        database.operate(Box::new(Ask {
            database: database.clone(),
            terms,
            durability,
            taken: None,
            seen,
            sender,
        }));
        Self {
            receiver,
            database: database.clone(),
        }
    }
}

impl Future for Claiming {
    type Output = Result<Claims, QueueError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.receiver).poll(cx));
        let closed = |_| Err(DatabaseError::new(DatabaseErrorKind::Closed));
        let taken = answer.unwrap_or_else(closed);
        Poll::Ready(taken.map(|taken| taken.claims).map_err(QueueError::from))
    }
}

impl Drop for Claiming {
    fn drop(&mut self) {
        // An answer that is under way after this finds nobody, and `Ask` gives the jobs back.
        self.receiver.close();
        if let Ok(Ok(taken)) = self.receiver.try_recv() {
            give_back(&self.database, &taken);
        }
    }
}

fn give_back(database: &Database, taken: &Taken) {
    let jobs = taken.claims.jobs.iter();
    let jobs = jobs.chain(taken.claims.burials.iter().map(|burial| &burial.job));
    let given: Vec<(TaskId, Token, i64)> = jobs
        .zip(&taken.dues)
        .map(|(job, due)| (job.id, job.token, *due))
        .collect();
    if given.is_empty() {
        return;
    }
    let clock = database.clock().clone();
    // Should it fail, the leases end as those of any worker who is gone.
    drop(database.write_relaxed(move |transaction| claim::give_back(transaction, &clock, &given)));
}

/// `claim` as an operation.
struct Ask {
    database: Database,
    terms: Terms,
    durability: Durability,
    taken: Option<Taken>,
    seen: Seen,
    sender: oneshot::Sender<Result<Taken, DatabaseError>>,
}

impl Operation for Ask {
    fn durability(&self) -> Durability {
        self.durability
    }

    fn run(&mut self, transaction: &Transaction<'_>) -> Result<(), DatabaseError> {
        // Nobody is interested any more: everything stays as it is.
        if !self.sender.is_closed() {
            let clock = self.database.clock();
            let (widest, since) = self.seen.widen(&self.terms);
            let taken = claim::claim(transaction, clock, &self.terms, widest, since)?;
            self.taken = Some(taken);
        }
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<(), DatabaseError>) {
        let taken = match (outcome, self.taken) {
            (Ok(()), Some(taken)) => {
                self.seen.looked(&taken);
                Ok(taken)
            }
            (Ok(()), None) => return,
            (Err(error), _) => Err(error),
        };
        if let Err(Ok(taken)) = self.sender.send(taken) {
            give_back(&self.database, &taken);
        }
    }
}
