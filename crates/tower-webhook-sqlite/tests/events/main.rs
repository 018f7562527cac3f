//! Accepted events: each once, beside its job and apart from it, after crashes, and until their
//! retention is over.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/home.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod home;

mod accepting;
mod bounds;
mod older;
mod starting;
mod time;

use home::{Home, until};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tower_webhook::{
    BoxFuture, StoreError, StoreErrorKind,
    idempotency::IdempotencyKey,
    lease::Settled,
    observe::{Event, observer_fn},
    queue::{
        Ask, Claim, Claims, End, Engine, Enqueued, Job, Mark, MemoryQueue, NewJob, Promises, Queue,
        Status, TaskId, Tasks,
    },
};
use tower_webhook_sqlite::{
    AcceptedEvent, AcceptedEvents, Database, SqliteQueue, database::OpenError,
};

const LEASE: Duration = Duration::from_secs(30);
/// A queue forgets a finished task so soon.
const AT_ONCE: Duration = Duration::from_millis(1);

impl Home {
    /// A database, and what its observer is told.
    fn observed(&self) -> (Database, UnboundedReceiver<&'static str>) {
        let (tell, told) = unbounded_channel();
        let builder = Database::builder().observe(observer_fn(move |event| {
            if let Event::Trouble {
                part: "accepted_events",
                what,
                ..
            } = event
            {
                let _ = tell.send(*what);
            }
        }));
        (builder.open(self.file()).unwrap(), told)
    }

    fn beside(&self) -> (AcceptedEvents, SqliteQueue) {
        let queue = SqliteQueue::builder().retention(AT_ONCE);
        let queue = queue.build(&self.database()).unwrap();
        (AcceptedEvents::beside(&queue).unwrap(), queue)
    }

    fn apart(&self) -> (AcceptedEvents, Queue) {
        let queue = MemoryQueue::builder()
            .per_target(u32::MAX)
            .retention(AT_ONCE);
        let queue = Queue::new(queue.build().unwrap());
        let events = AcceptedEvents::apart(&self.database(), queue.clone()).unwrap();
        (events, queue)
    }

    fn count(&self, what: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM {what}");
        self.raw().query_row(&sql, [], |row| row.get(0)).unwrap()
    }
}

fn key(id: &str) -> IdempotencyKey {
    IdempotencyKey::new("/webhooks", id).unwrap()
}

fn event(id: &str) -> AcceptedEvent {
    AcceptedEvent::new(key(id), format!("{{\"id\":\"{id}\"}}"))
}

async fn accept(events: &AcceptedEvents, id: &str) -> Enqueued {
    events.accept(event(id).job("event")).await.unwrap()
}

async fn take(queue: &dyn Engine) -> Job {
    let mut claims = queue.claim(Ask::new(1, LEASE)).await.unwrap();
    claims.jobs.pop().expect("a job is due")
}

async fn finish(queue: &dyn Engine, job: &Job) {
    let done = (job.claim(), End::Done { result: None });
    assert_eq!(queue.settle(vec![done]).await.unwrap(), [Settled::Done]);
}

/// An engine that takes no job.
#[derive(Clone, Copy, Debug)]
enum Troubled {
    Refuses(StoreErrorKind),
    /// After a while.
    RefusesLate(StoreErrorKind),
    Hangs,
}

impl Troubled {
    fn no<T: Send + 'static>(self) -> BoxFuture<Result<T, StoreError>> {
        Box::pin(async move {
            match self {
                Self::Refuses(kind) => Err(StoreError::new(kind)),
                Self::RefusesLate(kind) => {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    Err(StoreError::new(kind))
                }
                Self::Hangs => std::future::pending().await,
            }
        })
    }
}

impl Engine for Troubled {
    fn promises(&self) -> Promises {
        Promises::default()
    }

    fn enqueue(
        &self,
        _: Vec<NewJob>,
    ) -> BoxFuture<Result<Vec<Result<Enqueued, StoreError>>, StoreError>> {
        self.no()
    }

    fn claim(&self, _: Ask) -> BoxFuture<Result<Claims, StoreError>> {
        self.no()
    }

    fn renew(&self, _: Vec<Claim>, _: Duration) -> BoxFuture<Result<Vec<Settled>, StoreError>> {
        self.no()
    }

    fn settle(&self, _: Vec<(Claim, End)>) -> BoxFuture<Result<Vec<Settled>, StoreError>> {
        self.no()
    }

    fn wait(&self, _: Mark, _: Duration) -> BoxFuture<()> {
        Box::pin(std::future::pending())
    }
}
