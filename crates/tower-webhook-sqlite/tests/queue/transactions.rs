//! Jobs and verdicts in the caller's own transaction.

use crate::support::{Home, done, end, job, none, put, take};
use std::{error::Error, time::Duration};
use tower_webhook::{
    StoreError, StoreErrorKind,
    lease::Settled,
    queue::{Claim, End, Engine, NewJob, Status, Tasks},
};
use tower_webhook_sqlite::{
    Database, SqliteQueue,
    database::{DatabaseError, DatabaseErrorKind, Statement},
};

const TABLE: &str = "CREATE TABLE orders (id TEXT NOT NULL PRIMARY KEY) STRICT";

fn insert(id: &str) -> Statement {
    Statement::new("INSERT INTO orders (id) VALUES (?1)").bind(id)
}

fn shop(home: &Home) -> SqliteQueue {
    let queue = home.queue();
    queue.database().migrate("shop", &[TABLE]).unwrap();
    queue
}

async fn orders(database: &Database) -> i64 {
    let count = Statement::new("SELECT count(*) FROM orders");
    database.query(count).await.unwrap()[0].get(0).unwrap()
}

#[tokio::test]
async fn a_job_is_put_in_with_what_it_follows_from_or_not_at_all() {
    let home = Home::new();
    let queue = shop(&home);
    for _ in 0..2 {
        let accept = queue.clone();
        let both = queue.database().write(move |transaction| {
            let accepted = accept.enqueue_in(transaction, &job("order-1"))?;
            transaction.execute(&insert("order-1"))?;
            Ok(accepted)
        });
        // The second time the order is there already.
        drop(both.await);
    }
    assert_eq!(orders(queue.database()).await, 1);
    assert_eq!(queue.depth().await.unwrap().queued, 1);
    home.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_woken_when_the_transaction_is_committed() {
    let home = Home::new();
    let queue = shop(&home);
    let seen = none(&queue).await;
    let waiting = tokio::spawn(queue.wait(seen, Duration::from_secs(600)));
    tokio::task::yield_now().await;
    let accept = queue.clone();
    let accepted = queue
        .database()
        .write(move |transaction| accept.enqueue_in(transaction, &job("x")));
    accepted.await.unwrap();
    let woken = tokio::time::timeout(Duration::from_secs(10), waiting);
    woken.await.unwrap().unwrap();
    take(&queue).await;
}

#[tokio::test]
async fn a_refusal_changes_nothing_and_says_why() {
    let home = Home::new();
    let database = Database::open(home.file()).unwrap();
    database.migrate("shop", &[TABLE]).unwrap();
    let builder = SqliteQueue::builder().max_jobs(1).max_payload(10);
    let queue = builder.build(&database).unwrap();
    put(&queue, "first").await;
    for (new, kind, told) in [
        (job("x"), DatabaseErrorKind::Full, StoreErrorKind::Full),
        (
            job("longer than ten"),
            DatabaseErrorKind::Invalid,
            StoreErrorKind::TooLarge,
        ),
    ] {
        let accept = queue.clone();
        // The application may go on without the job.
        let refused = database.write(move |transaction| {
            transaction.execute(&insert(&format!("{told:?}")))?;
            Ok(accept.enqueue_in(transaction, &new).unwrap_err())
        });
        let refused = refused.await.unwrap();
        assert_eq!(refused.kind(), kind);
        let source = refused.source().unwrap();
        let source = source.downcast_ref::<StoreError>().unwrap();
        assert_eq!(source.kind(), told);
        assert_eq!(StoreError::from(refused).kind(), told);
    }
    assert_eq!(orders(&database).await, 2);
    assert_eq!(queue.depth().await.unwrap().queued, 1);
    home.check();
}

#[tokio::test]
async fn the_effect_of_a_job_is_had_once_though_two_workers_finish_it() {
    let home = Home::new();
    let (queue, clock) = home.timed();
    queue.database().migrate("shop", &[TABLE]).unwrap();
    let id = put(&queue, "order-1").await;
    let slow = take(&queue).await;
    clock.forward(crate::support::LEASE);
    let fast = take(&queue).await;
    let finish = async |claim: Claim, order: &'static str| {
        let settling = queue.clone();
        let both = queue.database().write(move |transaction| {
            transaction.execute(&insert(order))?;
            let result = Some("ok".into());
            match settling.settle_in(transaction, claim, End::Done { result })? {
                Settled::Done => Ok(()),
                Settled::Lost => Err(DatabaseError::aborted("lost")),
            }
        });
        both.await
    };
    let lost = finish(slow.claim(), "slow").await.unwrap_err();
    assert_eq!(lost.kind(), DatabaseErrorKind::Aborted);
    finish(fast.claim(), "fast").await.unwrap();
    finish(fast.claim(), "twice").await.unwrap_err();
    assert_eq!(orders(queue.database()).await, 1);
    let task = queue.task(id).await.unwrap().unwrap();
    let result = Some("ok".into());
    assert_eq!(task.status, Status::Succeeded { result });
    home.check();
}

#[tokio::test]
async fn a_verdict_that_is_undone_leaves_the_claim_as_it_was() {
    let home = Home::new();
    let queue = home.queue();
    put(&queue, "x").await;
    let held = take(&queue).await.claim();
    let settling = queue.clone();
    let undone = queue.database().write(move |transaction| {
        let settled = settling.settle_in(transaction, held, done())?;
        assert_eq!(settled, Settled::Done);
        Err::<(), _>(DatabaseError::aborted("no"))
    });
    undone.await.unwrap_err();
    let settled = end(&queue, held, done()).await.unwrap();
    assert_eq!(settled, Settled::Done);
    home.check();
}

#[tokio::test]
async fn the_same_job_put_in_twice_is_one() {
    let home = Home::new();
    let queue = home.queue();
    let new: NewJob = job("x");
    let accept = queue.clone();
    let twice = queue.database().write(move |transaction| {
        let first = accept.enqueue_in(transaction, &new)?;
        let second = accept.enqueue_in(transaction, &new)?;
        Ok((first, second))
    });
    let (first, second) = twice.await.unwrap();
    assert_eq!((first.repeated, second.repeated), (false, true));
    assert_eq!(first.id, second.id);
    home.check();
}
