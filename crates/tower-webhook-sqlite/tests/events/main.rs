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
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tower_webhook::{
    BoxFuture, StoreError, StoreErrorKind,
    idempotency::IdempotencyKey,
    lease::{FencingToken, Settled},
    observe::{Event, observer_fn},
    queue::{
        Claims, Depth, Engine, Enqueued, Job, MemoryQueue, NewJob, Queue, Task, TaskId, Terms,
        Verdict,
    },
};
use tower_webhook_sqlite::{
    AcceptedEvent, AcceptedEvents, Database, SqliteQueue, database::OpenError,
};

const LEASE: Duration = Duration::from_secs(30);

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
        let queue = SqliteQueue::new(&self.database()).unwrap();
        (AcceptedEvents::beside(&queue).unwrap(), queue)
    }

    fn apart(&self) -> (AcceptedEvents, Queue) {
        let queue = Queue::new(MemoryQueue::default());
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
    let mut claims = queue.claim(Terms::new(1, LEASE)).await.unwrap();
    claims.jobs.pop().expect("a job is due")
}

async fn finish(queue: &dyn Engine, job: &Job) {
    let done = Verdict::Done {
        result: None,
        retention: Duration::ZERO,
    };
    let settled = queue.settle(job.id, job.token, done).await.unwrap();
    assert_eq!(settled, Settled::Done);
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
    fn enqueue(&self, _: NewJob) -> BoxFuture<Result<Enqueued, StoreError>> {
        self.no()
    }

    fn claim(&self, _: Terms) -> BoxFuture<Result<Claims, StoreError>> {
        self.no()
    }

    fn renew(
        &self,
        _: Vec<(TaskId, FencingToken)>,
        _: Duration,
    ) -> BoxFuture<Result<Vec<Settled>, StoreError>> {
        self.no()
    }

    fn settle(
        &self,
        _: TaskId,
        _: FencingToken,
        _: Verdict,
    ) -> BoxFuture<Result<Settled, StoreError>> {
        self.no()
    }

    fn task(&self, _: TaskId) -> BoxFuture<Result<Option<Task>, StoreError>> {
        self.no()
    }

    fn find(&self, _: IdempotencyKey) -> BoxFuture<Result<Option<Task>, StoreError>> {
        self.no()
    }

    fn depth(&self) -> BoxFuture<Result<Depth, StoreError>> {
        self.no()
    }

    fn wait(&self, _: Duration) -> BoxFuture<()> {
        Box::pin(std::future::pending())
    }
}
