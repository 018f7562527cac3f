//! Deduplication keys that outlive their tasks.

use crate::support::{
    Home, ManualClock, TTL, add, claim, done, job, one, rows, settings, settle, take, until,
};
use tower_webhook::{
    StoreErrorKind,
    attempt::History,
    dead_letter::{Cause, Reason},
    idempotency::IdempotencyKey,
    observe::{Event, observer_fn},
    queue::{End, Enqueued, Jobs, NewJob, TaskId, Tasks},
};
use tower_webhook_sqlite::{Database, SqliteQueue, database::Statement};

fn key(id: usize) -> IdempotencyKey {
    IdempotencyKey::new("test", &id.to_string()).unwrap()
}

fn keyed(id: usize) -> NewJob {
    job("x").dedup_key(key(id))
}

/// Enqueues and finishes jobs with these keys.
async fn finish(queue: &SqliteQueue, ids: std::ops::Range<usize>) -> Vec<TaskId> {
    let mut tasks = Vec::new();
    for id in ids {
        tasks.push(add(queue, keyed(id)).await.unwrap().id);
        settle(queue, &take(queue).await, done()).await;
    }
    tasks
}

/// Hazard: a key that leaves with its task is taken as new long before its retention is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_known_for_its_retention_however_many_tasks_finish_meanwhile() {
    let home = Home::new();
    let queue = settings().max_finished(10);
    let queue = queue.open(home.file()).unwrap();
    let tasks = finish(&queue, 0..100).await;
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
        let repeat = add(&queue, keyed(id)).await.unwrap();
        assert_eq!((repeat.id, repeat.repeated), (*task, true), "key {id}");
    }
    assert_eq!(queue.depth().await.unwrap().unfinished(), 0);
    home.check();
}

/// Finishes a task of each kind. Returns one that succeeded, one that was cancelled and one that failed, of which nothing
/// but their keys is left.
async fn leave_keys(queue: &SqliteQueue) -> [NewJob; 3] {
    let jobs = [0, 1, 2].map(keyed);
    for (number, job) in jobs.iter().enumerate() {
        add(queue, job.clone()).await.unwrap();
        match number {
            0 => settle(queue, &take(queue).await, done()).await,
            1 => drop(queue.cancel(job.id).await.unwrap()),
            _ => {
                let failed = End::Failed {
                    cause: Cause::new(Reason::Rejected),
                    history: History::new(),
                };
                settle(queue, &take(queue).await, failed).await;
                let failed = claim(queue, one()).await.unwrap().failed_jobs.remove(0);
                settle(queue, &failed, done()).await;
            }
        }
    }
    finish(queue, 3..4).await;
    until("only the last task is kept", || async {
        rows(queue, "tower_webhook_jobs").await == 1
    })
    .await;
    jobs
}

async fn requeue(queue: &SqliteQueue, mut job: NewJob) -> Enqueued {
    let id = job.id;
    let repeat = add(queue, job.clone()).await.unwrap();
    assert_eq!((repeat.id, repeat.repeated), (id, true), "its key is known");
    job.requeue = true;
    let again = add(queue, job).await.unwrap();
    assert_eq!(again.id, id);
    again
}

/// Hazard: a dead letter outlives its requeue, and its job succeeds: a second requeue has it done twice when its status is
/// gone. A task that failed has nothing but its entry then, which is to be queued again.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_says_whether_its_task_failed_when_its_status_is_gone() {
    let home = Home::new();
    let queue = settings().max_finished(1).open(home.file()).unwrap();
    let [succeeded, cancelled, failed] = leave_keys(&queue).await;
    assert!(requeue(&queue, succeeded).await.repeated);
    assert!(requeue(&queue, cancelled).await.repeated);
    assert!(!requeue(&queue, failed.clone()).await.repeated);
    home.check();

    // It succeeds this time.
    settle(&queue, &take(&queue).await, done()).await;
    until("only one task is kept", || async {
        rows(&queue, "tower_webhook_jobs").await == 1
    })
    .await;
    finish(&queue, 4..5).await;
    until("its status is gone", || async {
        queue.task(failed.id).await.unwrap().is_none()
    })
    .await;
    assert!(requeue(&queue, failed).await.repeated);
    assert_eq!(queue.depth().await.unwrap().unfinished(), 0);
    home.check();
}

/// Of the keys in a file of an older release that is not known: the entry of a failed task is not to be lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_an_older_release_keeps_no_entry_from_its_queue() {
    let home = Home::new();
    let open = || settings().max_finished(1).open(home.file()).unwrap();
    let queue = open();
    let [succeeded, _, failed] = leave_keys(&queue).await;
    queue.database().close().await;
    let older = "ALTER TABLE tower_webhook_keys DROP COLUMN done;
        UPDATE tower_webhook_schema SET version = version - 1
            WHERE component = 'tower-webhook/queue';";
    home.raw().execute_batch(older).unwrap();
    let queue = open();
    for job in [succeeded, failed] {
        assert!(!requeue(&queue, job).await.repeated);
    }
    home.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_without_a_task_ends_with_its_retention_whatever_the_clock_does() {
    let home = Home::new();
    let clock = ManualClock::new();
    let database = Database::builder().clock(clock.wall());
    let database = database.open(home.file()).unwrap();
    let queue = settings().max_finished(1);
    let queue = queue.build(&database).unwrap();
    let tasks = finish(&queue, 0..4).await;
    until("the first tasks have left", || async {
        rows(&queue, "tower_webhook_jobs").await == 1
    })
    .await;
    home.check();

    clock.back(TTL * 100);
    let repeat = add(&queue, keyed(0)).await.unwrap();
    assert_eq!((repeat.id, repeat.repeated), (tasks[0], true));
    assert_eq!(
        queue.find(key(0)).await.unwrap(),
        None,
        "its status is gone"
    );
    let last = queue.find(key(3)).await.unwrap().unwrap();
    assert_eq!(last.id, tasks[3]);
    clock.forward(TTL * 9 / 10);
    assert!(add(&queue, keyed(1)).await.unwrap().repeated);

    clock.forward(TTL / 5);
    // Neither of them has been removed yet, perhaps.
    for id in [0, 3] {
        let new = add(&queue, keyed(id)).await.unwrap();
        assert!(!new.repeated, "the retention of key {id} is over");
        assert_eq!(add(&queue, keyed(id)).await.unwrap().id, new.id);
    }
    until("only those of the two new jobs are left", || async {
        rows(&queue, "tower_webhook_keys").await == 2
    })
    .await;
    home.check();
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
    let queue = settings().max_finished(1).max_keys(20);
    let queue = queue.build(&database).unwrap();
    let tasks = finish(&queue, 0..17).await;
    assert_eq!(told.try_iter().count(), 0);
    let waits = finish(&queue, 17..19).await;
    let early: Vec<_> = told.try_iter().collect();
    assert!(
        early.len() == 1 && early[0].contains("nine tenths"),
        "{early:?}"
    );
    let last = add(&queue, keyed(19)).await.unwrap().id;
    for id in 20..23 {
        let refused = add(&queue, keyed(id)).await.unwrap_err();
        assert_eq!(refused.kind(), StoreErrorKind::Full);
    }
    let refused: Vec<_> = told.try_iter().collect();
    assert_eq!(refused.len(), 3);
    assert!(refused[0].contains("was refused"), "{refused:?}");
    let tasks = tasks.into_iter().chain(waits).chain([last]);
    for (id, task) in tasks.enumerate() {
        let repeat = add(&queue, keyed(id)).await.unwrap();
        assert_eq!((repeat.id, repeat.repeated), (task, true));
    }
    add(&queue, job("without a key")).await.unwrap();
    home.check();

    clock.forward(TTL);
    until("there is room again", || async {
        add(&queue, keyed(20)).await.is_ok()
    })
    .await;
    home.check();
}

#[tokio::test]
async fn a_repetition_changes_nothing_that_wakes_a_worker() {
    let home = Home::new();
    let queue = home.queue();
    let first = add(&queue, keyed(0)).await.unwrap();
    let without_key = job("x");
    add(&queue, without_key.clone()).await.unwrap();
    let changes = async || -> i64 {
        let query = Statement::new("SELECT changes FROM tower_webhook_queue");
        queue.database().query(query).await.unwrap()[0]
            .get(0)
            .unwrap()
    };
    let before = changes().await;
    assert_eq!(add(&queue, keyed(0)).await.unwrap().id, first.id);
    assert!(add(&queue, without_key).await.unwrap().repeated);
    // The same id under another key: the job is there, and the other key is not taken.
    let mut other = keyed(7);
    other.id = first.id;
    assert!(add(&queue, other).await.unwrap().repeated);
    assert_eq!(changes().await, before);
    assert!(!add(&queue, keyed(7)).await.unwrap().repeated);
    home.check();
}

/// Whoever removes a job from the table by hand leaves its key there.
#[tokio::test]
async fn a_key_whose_job_was_removed_by_hand_is_free() {
    let home = Home::new();
    let queue = home.queue();
    add(&queue, keyed(0)).await.unwrap();
    home.raw()
        .execute_batch(
            "DELETE FROM tower_webhook_jobs; DELETE FROM tower_webhook_payloads;
             DELETE FROM tower_webhook_lanes; UPDATE tower_webhook_queue SET queued = 0;",
        )
        .unwrap();
    assert_eq!(queue.find(key(0)).await.unwrap(), None);
    assert!(!add(&queue, keyed(0)).await.unwrap().repeated);
    home.check();
}
