//! What goes wrong while the queue is open, and passes.

use crate::support::{
    Home, LEASE, add, again, claim, done, end, hold_up, job, none, one, put, settle, take, until,
};
use std::{fs, time::Duration};
use tower_webhook::{
    StoreError, StoreErrorKind,
    lease::Settled,
    queue::{Ask, End, Engine, Mark, NewJob, Tasks},
};
use tower_webhook_sqlite::{Database, SqliteQueue, database::OpenError};

fn kind<T: std::fmt::Debug>(result: Result<T, StoreError>) -> StoreErrorKind {
    result.unwrap_err().kind()
}

#[tokio::test]
async fn a_lock_that_another_process_keeps_is_a_timeout_and_passes() {
    let home = Home::new();
    let builder = Database::builder().busy_timeout(Duration::from_millis(50));
    let queue = SqliteQueue::new(&builder.open(home.file()).unwrap()).unwrap();
    put(&queue, "before").await;
    let held = take(&queue).await;

    let other = home.raw();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let new = job("during");
    let timeout = StoreErrorKind::Timeout;
    assert_eq!(kind(add(&queue, new.clone()).await), timeout);
    assert_eq!(kind(claim(&queue, one()).await), timeout);
    let claims = vec![held.claim()];
    assert_eq!(kind(queue.renew(claims, LEASE).await), timeout);
    let settled = end(&queue, held.claim(), done()).await;
    assert_eq!(kind(settled), timeout);
    // Who only looks is not held up.
    assert_eq!(queue.depth().await.unwrap().running, 1);
    other.execute_batch("COMMIT").unwrap();

    assert!(!add(&queue, new).await.unwrap().repeated);
    settle(&queue, &held, done()).await;
    take(&queue).await;
    home.check();
}

#[tokio::test]
async fn too_many_waiting_operations_are_told_as_full() {
    let home = Home::new();
    let builder = Database::builder().max_waiting(1);
    let database = builder.open(home.file()).unwrap();
    let queue = SqliteQueue::new(&database).unwrap();
    let held = hold_up(&database);
    let waiting = queue.enqueue(vec![job("a")]);
    assert_eq!(kind(add(&queue, job("b")).await), StoreErrorKind::Full);
    drop(held);
    waiting.await.unwrap().remove(0).unwrap();
    home.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_jobs_until_there_is_room() {
    let home = Home::new();
    let builder = Database::builder().max_size(768 * 1024);
    let queue = SqliteQueue::new(&builder.open(home.file()).unwrap()).unwrap();
    let large = || job(&"x".repeat(32 * 1024));
    let mut kept = Vec::new();
    let refused = loop {
        match add(&queue, large()).await {
            Ok(enqueued) => kept.push(enqueued.id),
            Err(error) => break error,
        }
        assert!(kept.len() < 100, "the limit was never reached");
    };
    assert_eq!(refused.kind(), StoreErrorKind::Full);
    // What was accepted is there, can be worked on, and that makes room. Nothing is restarted.
    assert_eq!(queue.depth().await.unwrap().queued, kept.len() as u64);
    for id in kept.drain(..5) {
        let claimed = take(&queue).await;
        assert_eq!(claimed.id, id);
        settle(&queue, &claimed, done()).await;
    }
    for _ in 0..3 {
        kept.push(add(&queue, large()).await.unwrap().id);
    }
    for id in kept {
        let claimed = take(&queue).await;
        assert_eq!((claimed.id, claimed.payload.len()), (id, 32 * 1024));
        settle(&queue, &claimed, done()).await;
    }
    home.check();
}

/// The disk is full in the middle of a batch: nothing of it goes in, and all of it can be tried again.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_in_the_middle_of_a_batch_takes_none_of_it() {
    let home = Home::new();
    let builder = Database::builder().max_size(768 * 1024);
    let queue = SqliteQueue::new(&builder.open(home.file()).unwrap()).unwrap();
    let batch = || -> Vec<_> { (0..10).map(|_| job(&"x".repeat(16 * 1024))).collect() };
    let (mut kept, mut refused) = (0, batch());
    let error = loop {
        match queue.enqueue(refused.clone()).await {
            Ok(results) => kept += results.into_iter().flatten().count(),
            Err(error) => break error,
        }
        assert!(kept < 100, "the limit was never reached");
        refused = batch();
    };
    assert_eq!(error.kind(), StoreErrorKind::Full);
    assert!(kept > 0 && kept % 10 == 0, "{kept}");
    assert_eq!(queue.depth().await.unwrap().queued, kept as u64);
    home.check();
    for _ in 0..kept {
        settle(&queue, &take(&queue).await, done()).await;
    }
    for result in queue.enqueue(refused).await.unwrap() {
        assert!(!result.unwrap().repeated);
    }
    assert_eq!(queue.depth().await.unwrap().queued, 10);
    home.check();
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_went_away_is_noticed_and_welcomed_back() {
    let home = Home::new();
    let queue = home.queue();
    put(&queue, "before").await;
    let held = take(&queue).await;
    let seen = none(&queue).await;
    let away = home.folder().join("away.db");
    fs::rename(home.file(), &away).unwrap();
    let new = job("during");
    for _ in 0..3 {
        let unavailable = StoreErrorKind::Unavailable;
        assert_eq!(kind(add(&queue, new.clone()).await), unavailable);
        assert_eq!(kind(claim(&queue, one()).await), unavailable);
        // Whoever waits is not kept for ever by a file that is not there.
        queue.wait(seen, Duration::from_millis(300)).await;
    }
    fs::rename(&away, home.file()).unwrap();
    settle(&queue, &held, done()).await;
    // Whether it was put in was unknown; now it is in, once.
    add(&queue, new.clone()).await.unwrap();
    assert_eq!(take(&queue).await.id, new.id);
    assert!(claim(&queue, one()).await.unwrap().is_empty());
    until("reads are back", || async { queue.depth().await.is_ok() }).await;
    home.check();
}

#[tokio::test]
async fn a_closed_queue_says_so() {
    let home = Home::new();
    let queue = home.queue();
    queue.database().close().await;
    let closed = StoreErrorKind::Closed;
    assert_eq!(kind(add(&queue, job("x")).await), closed);
    assert_eq!(kind(claim(&queue, one()).await), closed);
    assert_eq!(kind(queue.depth().await), closed);
    queue.wait(Mark::new(1, 1), Duration::from_millis(10)).await;
}

#[tokio::test]
async fn tables_of_a_newer_release_are_not_touched() {
    let home = Home::new();
    home.queue().database().close().await;
    let newer = "UPDATE tower_webhook_schema SET version = 99
                 WHERE component = 'tower-webhook/queue'";
    assert_eq!(home.raw().execute(newer, []).unwrap(), 1);
    let refused = SqliteQueue::open(home.file()).unwrap_err();
    assert!(matches!(
        refused,
        OpenError::NewerSchema { found: 99, known, .. } if known < 99
    ));
}

/// Hazard: set-up that turns `synchronous` off on the connection that writes, so that an accepted
/// job may not be durable.
#[tokio::test]
async fn what_is_accepted_is_written_with_full_synchronisation() {
    let home = Home::new();
    let queue = home.queue();
    let seen = move || {
        queue.database().write(|transaction| {
            let mode = "SELECT journal_mode, synchronous
                        FROM pragma_journal_mode, pragma_synchronous";
            let row =
                transaction.query_one(&tower_webhook_sqlite::database::Statement::new(mode))?;
            let row = row.unwrap();
            Ok((row.get::<String>(0)?, row.get::<i64>(1)?))
        })
    };
    assert_eq!(seen().await.unwrap(), ("wal".to_owned(), 2));
    // And after commits that need no flush.
    let queue = home.queue();
    assert!(claim(&queue, one()).await.unwrap().is_empty());
    assert_eq!(seen().await.unwrap(), ("wal".to_owned(), 2));
}

#[tokio::test]
async fn a_setting_that_makes_no_sense_is_named_before_a_file_is_made() {
    let home = Home::new();
    for (builder, setting) in [
        (SqliteQueue::builder().max_jobs(0), "max_jobs"),
        (SqliteQueue::builder().attempts(0), "attempts"),
        (SqliteQueue::builder().per_target(0), "per_target"),
        (
            SqliteQueue::builder().retention(Duration::ZERO),
            "retention",
        ),
        (SqliteQueue::builder().max_jobs(u64::MAX), "max_jobs"),
        (SqliteQueue::builder().max_finished(0), "max_finished"),
        (SqliteQueue::builder().max_keys(0), "max_keys"),
        (SqliteQueue::builder().max_keys(u64::MAX), "max_keys"),
        (
            SqliteQueue::builder().max_finished(u64::MAX),
            "max_finished",
        ),
        (SqliteQueue::builder().max_result(0), "max_result"),
        (SqliteQueue::builder().max_result(usize::MAX), "max_result"),
        (SqliteQueue::builder().max_payload(0), "max_payload"),
        (
            SqliteQueue::builder().max_payload(usize::MAX),
            "max_payload",
        ),
    ] {
        match builder.open(home.file()) {
            Err(OpenError::Config(invalid)) => assert_eq!(invalid.setting(), setting),
            other => panic!("{setting}: {other:?}"),
        }
    }
    assert!(!home.file().exists());
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_what_just_fits_is_not() {
    let home = Home::new();
    let queue = SqliteQueue::builder().max_payload(1000).max_result(500);
    let queue = queue.open(home.file()).unwrap();
    let long = "x".repeat(5000);
    let about = tower_webhook::queue::About::default();
    let mut wordy = about.clone();
    wordy.event_id = Some("x".repeat(70_000));
    for new in [
        NewJob::new("test", vec![0; 1001]),
        NewJob::new(long.clone(), "x"),
        job("x").target(long.clone()),
        job("x").fifo_group(long),
        job("x").about(wordy),
    ] {
        assert_eq!(kind(add(&queue, new).await), StoreErrorKind::TooLarge);
    }
    add(&queue, NewJob::new("test", vec![0; 1000]))
        .await
        .unwrap();
    assert_eq!(queue.depth().await.unwrap().unfinished(), 1);

    let held = take(&queue).await;
    let done = |length| End::Done {
        result: Some(vec![0; length].into()),
    };
    let refused = end(&queue, held.claim(), done(501)).await;
    assert_eq!(kind(refused), StoreErrorKind::TooLarge);
    settle(&queue, &held, done(500)).await;
    home.check();
}

#[tokio::test]
async fn what_cannot_be_read_of_a_job_does_not_hold_up_the_queue() {
    let home = Home::new();
    let queue = home.queue();
    for payload in ["a", "b", "c", "d", "good"] {
        put(&queue, payload).await;
    }
    home.raw()
        .execute_batch(
            "UPDATE tower_webhook_jobs SET history = '{\"odd\":1}' WHERE seq = 1;
             UPDATE tower_webhook_payloads SET about = 'not json' WHERE seq = 2;
             DELETE FROM tower_webhook_payloads WHERE seq = 3;
             -- An older release took it for a key.
             UPDATE tower_webhook_payloads SET scope = '/hooks', key = ' ' WHERE seq = 4;",
        )
        .unwrap();
    let claims = claim(&queue, Ask::new(10, LEASE)).await.unwrap();
    let payloads: Vec<_> = claims.jobs.iter().map(|job| &job.payload[..]).collect();
    assert_eq!(payloads, [&b"a"[..], b"b", b"", b"d", b"good"]);
    for job in &claims.jobs {
        settle(&queue, job, done()).await;
    }
    home.check();
}

#[tokio::test]
async fn jobs_whose_claimer_left_are_given_back_uncounted_and_in_their_order() {
    let home = Home::new();
    let queue = home.queue();
    let ids = [put(&queue, "a").await, put(&queue, "b").await];

    // Left before the thread came to it.
    let held = hold_up(queue.database());
    drop(queue.claim(Ask::new(2, LEASE)));
    drop(held);
    // Left when the answer was there and nobody had read it: writes are done in their order.
    let unread = queue.claim(Ask::new(2, LEASE));
    put(&queue, "c").await;
    drop(unread);
    let claims = claim(&queue, Ask::new(2, LEASE)).await.unwrap();
    let given: Vec<_> = claims
        .jobs
        .iter()
        .map(|job| (job.id, job.attempt))
        .collect();
    assert_eq!(given, ids.map(|id| (id, 1)));
    for job in &claims.jobs {
        settle(&queue, job, again(Duration::ZERO)).await;
    }

    // Left at any moment.
    for round in 0..200 {
        let asked = queue.claim(Ask::new(3, LEASE));
        if round % 2 == 0 {
            tokio::task::yield_now().await;
        }
        drop(asked);
    }
    until("all are free", || async {
        queue.depth().await.unwrap().queued == 3
    })
    .await;
    let claims = claim(&queue, Ask::new(3, LEASE)).await.unwrap();
    let mut attempts: Vec<_> = claims.jobs.iter().map(|job| job.attempt).collect();
    attempts.sort_unstable();
    assert_eq!(attempts, [1, 2, 2]);
    home.check();
}

#[tokio::test]
async fn a_verdict_whose_caller_left_holds() {
    let home = Home::new();
    let queue = home.queue();
    put(&queue, "x").await;
    let held = take(&queue).await;
    drop(queue.settle(vec![(held.claim(), done())]));
    let late = end(&queue, held.claim(), done()).await.unwrap();
    assert_eq!(late, Settled::Lost);
    home.check();
}
