//! A job's own write and the end of the job in one transaction: what the job does to this database
//! is had exactly once, although it may run twice.
//!
//! Run: `cargo run -p tower-webhook-sqlite --example transactional_handler`

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tower::service_fn;
use tower_webhook::{
    BoxError,
    lease::Settled,
    observe::{Event, observer_fn},
    queue::{End, Job, NewJob, Queue, Worker},
    retry::{Backoff, RetryConfig},
};
use tower_webhook_sqlite::{
    Database, SqliteQueue,
    database::{DatabaseError, Statement},
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let folder = tempfile::tempdir()?;
    let database = Database::open(folder.path().join("shop.db"))?;
    database.migrate(
        "shop",
        &["CREATE TABLE payments (order_id TEXT NOT NULL, cents INTEGER NOT NULL) STRICT"],
    )?;
    let jobs = SqliteQueue::new(&database)?;
    let queue = Queue::new(jobs.clone());
    let mut tasks = Vec::new();
    for order in ["order-1", "order-2", "order-3"] {
        tasks.push(queue.enqueue(NewJob::new("payment", order)).await?.id);
    }

    // The first attempt at the second order breaks off after it has written.
    let breaks = Arc::new(AtomicBool::new(true));
    let handler = {
        let (database, jobs) = (database.clone(), jobs.clone());
        service_fn(move |job: Job| {
            let (database, jobs, breaks) = (database.clone(), jobs.clone(), Arc::clone(&breaks));
            async move { pay(&database, jobs, job, &breaks).await }
        })
    };
    let soon = Backoff::constant(Duration::from_millis(50)).build()?;
    let worker = Worker::builder(queue.clone())
        .retry(RetryConfig::builder().backoff(soon).build()?)
        .observe(observer_fn(|event| match event {
            Event::JobBegan { .. } => println!("claimed"),
            Event::JobEnded { end, .. } => println!("{}", end.as_str()),
            _ => {}
        }))
        .build(handler)?
        .spawn();
    for task in tasks {
        while !queue
            .task(task)
            .await?
            .is_some_and(|task| task.status.is_final())
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    worker.stop(Duration::from_secs(1)).await;

    let paid = Statement::new("SELECT order_id, count(*) AS times FROM payments GROUP BY order_id");
    for row in database.query(paid).await? {
        let (order, times): (String, i64) = (row.get("order_id")?, row.get("times")?);
        println!("{order} was paid {times} time(s)");
    }
    database.close().await;
    Ok(())
}

async fn pay(
    database: &Database,
    jobs: SqliteQueue,
    job: Job,
    breaks: &Arc<AtomicBool>,
) -> Result<(), BoxError> {
    let order = String::from_utf8(job.payload.to_vec())?;
    let broken = order == "order-2" && breaks.swap(false, Ordering::SeqCst);
    let paid = database.write(move |transaction| {
        let insert = Statement::new("INSERT INTO payments (order_id, cents) VALUES (?1, 4200)");
        transaction.execute(&insert.bind(order))?;
        if broken {
            // What was written above is undone with it.
            return Err(DatabaseError::aborted("the power went"));
        }
        match jobs.settle_in(transaction, job.claim(), End::Done { result: None })? {
            Settled::Done => Ok(()),
            // Another worker has the job by now: its write counts, and this one does not.
            Settled::Lost => Err(DatabaseError::aborted("the claim is lost")),
        }
    });
    Ok(paid.await?)
}
