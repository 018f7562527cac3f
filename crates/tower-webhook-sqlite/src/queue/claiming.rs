use super::{
    claim::{self, Taken},
    wait::Seen,
};
use crate::database::{Database, Durability, Granting, Release, Transaction};
use std::fmt;
use tower_webhook::{
    BoxFuture, StoreError,
    lease::FencingToken,
    observe::{Event, Id, Observers},
    queue::{Claims, TaskId, Terms},
};

/// [`Engine::claim`](tower_webhook::queue::Engine::claim). Dropped before it gave its jobs away, it gives
/// them back.
pub(super) fn claim(
    database: &Database,
    terms: Terms,
    durability: Durability,
    seen: Seen,
) -> BoxFuture<Result<Claims, StoreError>> {
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

impl Release<Taken> for Jobs {
    fn committed(&self, taken: &Taken) {
        self.seen.looked(taken);
        if !taken.newer.is_empty() {
            let jobs = PutOff(&taken.newer);
            Observers::none().tell(|| Event::Trouble {
                part: "queue",
                what: "jobs wait for a program of the newer release that wrote them",
                detail: Some(Id::new(&jobs)),
            });
        }
    }

    fn release(&self, taken: &Taken) {
        let jobs = taken.claims.jobs.iter();
        let jobs = jobs.chain(
            taken
                .claims
                .failed_jobs
                .iter()
                .map(|failed_job| &failed_job.job),
        );
        let given: Vec<(TaskId, FencingToken, i64)> = jobs
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
                .write_relaxed(move |transaction| claim::release(transaction, &clock, &given)),
        );
    }
}

/// The jobs that were put off, of which there may be many.
struct PutOff<'a>(&'a [TaskId]);

impl fmt::Display for PutOff<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [only] => only.fmt(f),
            [first, others @ ..] => write!(f, "{first} and {} more", others.len()),
            [] => Ok(()),
        }
    }
}
