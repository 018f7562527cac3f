//! Deduplication keys that outlive their tasks.

use crate::support::{Home, ManualClock, TTL, job, rows, settle, take, until};
use std::time::Duration;
use tower_webhook::{
    StoreErrorKind,
    idempotency::IdempotencyKey,
    observe::{Event, observer_fn},
    queue::{Engine, NewJob, TaskId, Verdict},
};
use tower_webhook_sqlite::{Database, SqliteQueue, database::Statement};

fn key(id: usize) -> IdempotencyKey {
    IdempotencyKey::new("test", &id.to_string()).unwrap()
}

fn keyed(id: usize) -> NewJob {
    job("x").dedup_key(key(id))
}

/// Enqueues and finishes jobs with these keys.
async fn finish(
    queue: &SqliteQueue,
    ids: std::ops::Range<usize>,
    retention: Duration,
) -> Vec<TaskId> {
    let mut tasks = Vec::new();
    for id in ids {
        tasks.push(queue.enqueue(keyed(id)).await.unwrap().id);
        let result = None;
        settle(
            queue,
            &take(queue).await,
            Verdict::Done { result, retention },
        )
        .await;
    }
    tasks
}

/// Hazard: a key that leaves with its task is taken as new long before its retention is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_known_for_its_retention_however_many_tasks_finish_meanwhile() {
    let home = Home::new();
    let queue = SqliteQueue::builder().max_finished(10);
    let queue = queue.open(home.file()).unwrap();
    let tasks = finish(&queue, 0..100, TTL).await;
    until("as many tasks as may be are kept", || async {
        rows(&queue, "tower_webhook_jobs").await <= 10
    })
    .await;
    assert_eq!(
        queue.task(tasks[0]).await.unwrap(),
        None,
        "its status is gone"
    );
    for (id, task) in tasks.iter().enumerate() {
        let repeat = queue.enqueue(keyed(id)).await.unwrap();
        assert_eq!((repeat.id, repeat.repeated), (*task, true), "key {id}");
    }
    assert_eq!(queue.depth().await.unwrap().unfinished(), 0);
    home.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_without_a_task_ends_with_its_retention_whatever_the_clock_does() {
    let home = Home::new();
    let clock = ManualClock::new();
    let database = Database::builder().clock(clock.wall());
    let database = database.open(home.file()).unwrap();
    let queue = SqliteQueue::builder().max_finished(1);
    let queue = queue.build(&database).unwrap();
    let tasks = finish(&queue, 0..4, TTL).await;
    until("the first tasks have left", || async {
        rows(&queue, "tower_webhook_jobs").await == 1
    })
    .await;
    home.check();

    clock.back(TTL * 100);
    let repeat = queue.enqueue(keyed(0)).await.unwrap();
    assert_eq!((repeat.id, repeat.repeated), (tasks[0], true));
    assert_eq!(
        queue.find(key(0)).await.unwrap(),
        None,
        "its status is gone"
    );
    let last = queue.find(key(3)).await.unwrap().unwrap();
    assert_eq!(last.id, tasks[3]);
    clock.forward(TTL * 9 / 10);
    assert!(queue.enqueue(keyed(1)).await.unwrap().repeated);

    clock.forward(TTL / 5);
    // Neither of them has been removed yet, perhaps.
    for id in [0, 3] {
        let new = queue.enqueue(keyed(id)).await.unwrap();
        assert!(!new.repeated, "the retention of key {id} is over");
        assert_eq!(queue.enqueue(keyed(id)).await.unwrap().id, new.id);
    }
    until("only those of the two new jobs are left", || async {
        rows(&queue, "tower_webhook_keys").await == 2
    })
    .await;
    home.check();
}

#[tokio::test]
async fn a_key_with_no_retention_is_free_at_once() {
    let home = Home::new();
    let queue = home.queue();
    for _ in 0..3 {
        finish(&queue, 0..1, Duration::ZERO).await;
    }
    let new = queue.enqueue(keyed(0)).await.unwrap();
    assert!(!new.repeated);
    let job = take(&queue).await;
    assert_eq!((job.id, job.dedup_key), (new.id, Some(key(0))));
}

/// Hazard: a bound that is kept by forgetting keys, of which nobody hears.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_with_one_key_too_many_is_refused_and_told() {
    let home = Home::new();
    let (tell, told) = std::sync::mpsc::channel();
    let clock = ManualClock::new();
    let database = Database::builder()
        .clock(clock.wall())
        .observe(observer_fn(move |event| {
            if let Event::Trouble {
                part: "queue",
                what,
                ..
            } = event
            {
                let _ = tell.send(*what);
            }
        }));
    let database = database.open(home.file()).unwrap();
    let queue = SqliteQueue::builder().max_finished(1).max_keys(20);
    let queue = queue.build(&database).unwrap();
    let tasks = finish(&queue, 0..17, TTL).await;
    assert_eq!(told.try_iter().count(), 0);
    let waits = finish(&queue, 17..19, TTL).await;
    let early: Vec<_> = told.try_iter().collect();
    assert!(
        early.len() == 1 && early[0].contains("nine tenths"),
        "{early:?}"
    );
    let last = queue.enqueue(keyed(19)).await.unwrap().id;
    for id in 20..23 {
        let refused = queue.enqueue(keyed(id)).await.unwrap_err();
        assert_eq!(refused.kind(), StoreErrorKind::Full);
    }
    let refused: Vec<_> = told.try_iter().collect();
    assert_eq!(refused.len(), 3);
    assert!(refused[0].contains("was refused"), "{refused:?}");
    let tasks = tasks.into_iter().chain(waits).chain([last]);
    for (id, task) in tasks.enumerate() {
        let repeat = queue.enqueue(keyed(id)).await.unwrap();
        assert_eq!((repeat.id, repeat.repeated), (task, true));
    }
    queue.enqueue(job("without a key")).await.unwrap();
    home.check();

    clock.forward(TTL);
    until("there is room again", || async {
        queue.enqueue(keyed(20)).await.is_ok()
    })
    .await;
    home.check();
}

#[tokio::test]
async fn a_repetition_changes_nothing_that_wakes_a_worker() {
    let home = Home::new();
    let queue = home.queue();
    let first = queue.enqueue(keyed(0)).await.unwrap();
    let without_key = job("x");
    queue.enqueue(without_key.clone()).await.unwrap();
    let changes = async || -> i64 {
        let query = Statement::new("SELECT changes FROM tower_webhook_queue");
        queue.database().query(query).await.unwrap()[0]
            .get(0)
            .unwrap()
    };
    let before = changes().await;
    assert_eq!(queue.enqueue(keyed(0)).await.unwrap().id, first.id);
    assert!(queue.enqueue(without_key).await.unwrap().repeated);
    // The same id under another key: the job is there, and the other key is not taken.
    let mut other = keyed(7);
    other.id = first.id;
    assert!(queue.enqueue(other).await.unwrap().repeated);
    assert_eq!(changes().await, before);
    assert!(!queue.enqueue(keyed(7)).await.unwrap().repeated);
    home.check();
}

/// Whoever removes a job from the table by hand leaves its key there.
#[tokio::test]
async fn a_key_whose_job_was_removed_by_hand_is_free() {
    let home = Home::new();
    let queue = home.queue();
    queue.enqueue(keyed(0)).await.unwrap();
    home.raw()
        .execute_batch(
            "DELETE FROM tower_webhook_jobs; DELETE FROM tower_webhook_payloads;
             DELETE FROM tower_webhook_lanes; UPDATE tower_webhook_queue SET queued = 0;",
        )
        .unwrap();
    assert_eq!(queue.find(key(0)).await.unwrap(), None);
    assert!(!queue.enqueue(keyed(0)).await.unwrap().repeated);
    home.check();
}
