use super::{
    claim::{self, Taken},
    wait::Seen,
};
use crate::{
    BoxFuture,
    fence::Token,
    queue::{Claims, QueueError, TaskId, Terms},
    sqlite::{Database, Durability, GiveBack, Granting, Transaction},
};

/// [`Engine::claim`](crate::queue::Engine::claim). Dropped before it gave its jobs away, it gives
/// them back.
pub(super) fn claim(
    database: &Database,
    terms: Terms,
    durability: Durability,
    seen: Seen,
) -> BoxFuture<Result<Claims, QueueError>> {
    let jobs = Jobs {
        database: database.clone(),
        seen: seen.clone(),
    };
    let clock = database.clock().clone();
    let work = move |transaction: &Transaction<'_>| {
        let (widest, since) = seen.widen(&terms);
        claim::claim(transaction, &clock, &terms, widest, since)
    };
    let granting = Granting::ask(database, durability, jobs, work);
    Box::pin(async move { Ok(granting.await?.claims) })
}

/// What is needed to give jobs back.
#[derive(Clone)]
struct Jobs {
    database: Database,
    seen: Seen,
}

impl GiveBack<Taken> for Jobs {
    fn committed(&self, taken: &Taken) {
        self.seen.looked(taken);
    }

    fn give_back(&self, taken: &Taken) {
        let jobs = taken.claims.jobs.iter();
        let jobs = jobs.chain(taken.claims.burials.iter().map(|burial| &burial.job));
        let given: Vec<(TaskId, Token, i64)> = jobs
            .zip(&taken.dues)
            .map(|(job, due)| (job.id, job.token, *due))
            .collect();
        if given.is_empty() {
            return;
        }
        let clock = self.database.clock().clone();
        // Should it fail, the leases end as those of any worker who is gone.
        drop(
            self.database
                .write_relaxed(move |transaction| claim::give_back(transaction, &clock, &given)),
        );
    }
}
