//! Opens the stores that the flags name. Those in one file share one handle.

use crate::{
    args::{Args, Place, Problem},
    deliver,
    events::{Events, RETENTION},
};
use std::path::{Path, PathBuf};
use tower_webhook::{
    BoxError,
    observe::Observers,
    queue::{MemoryQueue, Queue, Tasks},
};
use tower_webhook_sqlite::{AcceptedEvents, Database, SqliteQueue, database::OpenError};

/// The files that are open.
pub(crate) struct Databases {
    open: Vec<(PathBuf, Database)>,
    observers: Observers,
}

impl Databases {
    /// No file yet. These hear of trouble with those that are opened.
    pub const fn new(observers: Observers) -> Self {
        Self {
            open: Vec::new(),
            observers,
        }
    }

    pub fn open(&mut self, flag: &'static str, path: &Path) -> Result<Database, Problem> {
        if let Some((_, database)) = self.open.iter().find(|(known, _)| known == path) {
            return Ok(database.clone());
        }
        let builder = Database::builder().observe(self.observers.clone());
        let database = builder
            .open(path)
            .map_err(|error| Problem::new(flag, error))?;
        self.open.push((path.to_owned(), database.clone()));
        Ok(database)
    }

    pub async fn close(self) {
        for (_, database) in self.open {
            database.close().await;
        }
    }
}

/// Refuses to start while jobs wait in the store's file, where this queue would not find them.
async fn nothing_waits(database: &Database) -> Result<(), Problem> {
    let problem = |error: BoxError| Problem::new("--queue", error);
    let jobs = SqliteQueue::new(database).map_err(|error| problem(error.into()))?;
    let depth = jobs.depth().await.map_err(|error| problem(error.into()))?;
    match depth.unfinished() {
        0 => Ok(()),
        jobs => Err(problem(
            format!(
                "the file of --store holds {jobs} unfinished jobs, which a queue elsewhere would not run: start without --queue until they are done"
            )
            .into(),
        )),
    }
}

/// Names the flag of a place that cannot be opened, or of its bound.
fn unfit(place: &'static str, bound: &'static str) -> impl Fn(OpenError) -> Problem {
    move |error| match error {
        OpenError::Config(error) => Problem::new(bound, error),
        error => Problem::new(place, error),
    }
}

/// Opens the queue, and the events beside it or in a file of their own.
pub async fn open(
    args: &Args,
    databases: &mut Databases,
    target: &str,
) -> Result<(Queue, Events), Problem> {
    // First, so that an error names `--store` where no `--queue` is given.
    let store = match &args.store {
        Place::Sqlite(path) => Some((path, databases.open("--store", path)?)),
        _ => None,
    };
    // No limit per target where there is one downstream, which its breaker protects. Of many, one that hangs must not
    // take the places of all.
    let per_target = if args.routes.is_some() {
        deliver::MOST_OF_A_TARGET
    } else {
        u32::MAX
    };
    let (queue, jobs) = if let Place::Sqlite(path) = &args.queue {
        let database = databases.open("--queue", path)?;
        let mut jobs = SqliteQueue::builder()
            .per_target(per_target)
            .retention(RETENTION);
        if let Some(keys) = args.max_keys {
            jobs = jobs.max_keys(keys);
        }
        let jobs = jobs.build(&database);
        let jobs = jobs.map_err(unfit("--queue", "--max-keys"))?;
        (Queue::new(jobs.clone()), Some((path, jobs)))
    } else {
        let mut jobs = MemoryQueue::builder()
            .per_target(per_target)
            .retention(RETENTION)
            .observe(databases.observers.clone());
        if let Some(keys) = args.max_keys {
            jobs = jobs.max_keys(usize::try_from(keys).unwrap_or(usize::MAX));
        }
        let jobs = jobs.build();
        let jobs = jobs.map_err(|error| Problem::new("--max-keys", error))?;
        (Queue::new(jobs), None)
    };
    let mut kept = AcceptedEvents::builder().retention(RETENTION);
    if let Some(bytes) = args.max_event_bytes {
        kept = kept.max_bytes(bytes);
    }
    let events = match (store, jobs) {
        (None, _) => {
            let observers = databases.observers.clone();
            let events = Events::memory(queue.clone(), target, args.max_event_bytes, observers);
            return Ok((queue, events));
        }
        (Some((path, _)), Some((beside, jobs))) if beside == path => kept.beside(&jobs),
        (Some((_, database)), _) => {
            nothing_waits(&database).await?;
            kept.apart(&database, queue.clone())
        }
    };
    let events = events.map_err(unfit("--store", "--max-event-bytes"))?;
    let events = Events::stored(events, queue.clone(), target);
    Ok((queue, events))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tower_webhook::observe::{Event, observer_fn};
    use tower_webhook_sqlite::database::Statement;

    #[tokio::test]
    async fn the_observers_hear_of_trouble_with_a_file() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&told);
        let observers = Observers::new(observer_fn(move |event| {
            if let Event::Trouble { part, what, .. } = event {
                seen.lock().expect("no panic").push((*part, *what));
            }
        }));
        let home = tempfile::tempdir().expect("a folder");
        let path = home.path().join("gateway.db");
        let mut databases = Databases::new(observers);
        let database = databases.open("--store", &path).ok().expect("it opens");
        database
            .migrate("test", &["CREATE TABLE t (id INTEGER PRIMARY KEY) STRICT"])
            .expect("a table");
        // Its conflict ends the whole transaction.
        let insert = || Statement::new("INSERT OR ROLLBACK INTO t VALUES (1)");
        database.execute(insert()).await.expect("new");
        database.execute(insert()).await.expect_err("a repeat");
        assert_eq!(
            *told.lock().expect("no panic"),
            [("sqlite", "a commit failed")]
        );
    }
}
