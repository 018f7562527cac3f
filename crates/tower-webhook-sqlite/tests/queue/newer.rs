//! Jobs of which a newer release wrote a part, or of which a part is damaged.

use crate::support::{Home, LEASE, ManualClock, add, claim, done, job, one, put, settle, take};
use rusqlite::types::Value;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tower_webhook::{
    dead_letter::{Cause, Reason},
    observe::{Event, Observer},
    queue::{Ask, End, Engine, TaskId, Tasks},
};
use tower_webhook_sqlite::SqliteQueue;

const MINUTE: Duration = Duration::from_secs(60);
const NEWER: &str = r#"'{"schemaVersion":2,"whatever":{"it":"is"}}'"#;

/// What an observer was told of jobs that wait.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    /// How often this job was told of.
    fn warnings(&self, id: TaskId) -> usize {
        let id = id.to_string();
        let lines = self.0.lock().unwrap();
        lines.iter().filter(|line| line.contains(&id)).count()
    }
}

impl Observer for Told {
    fn on(&self, event: &Event<'_>) {
        let Event::Trouble {
            part: "queue",
            detail: Some(jobs),
            ..
        } = event
        else {
            panic!("unexpected: {event:?}");
        };
        self.0.lock().unwrap().push(jobs.to_string());
    }
}

/// All that is stored of a job but when it is due, and that.
fn row(home: &Home, seq: i64) -> (Vec<Value>, i64) {
    let raw = home.raw();
    let mut query = raw
        .prepare(
            "SELECT j.id, scope, key, state, token, attempts, accepted, target, ordered, history,
                 cause, result, kind, about, payload, at
             FROM tower_webhook_jobs AS j JOIN tower_webhook_payloads USING (seq) WHERE seq = ?1",
        )
        .unwrap();
    query
        .query_row([seq], |row| {
            let values = (0..15)
                .map(|column| row.get(column))
                .collect::<Result<_, _>>()?;
            Ok((values, row.get(15)?))
        })
        .unwrap()
}

fn set(home: &Home, sql: &str) {
    home.raw().execute_batch(sql).unwrap();
}

fn now(clock: &ManualClock) -> i64 {
    i64::try_from(clock.wall().unix_millis()).unwrap()
}

async fn nothing(queue: &SqliteQueue) -> bool {
    let all = Ask::new(10, LEASE).most_failed(10);
    claim(queue, all).await.unwrap().is_empty()
}

#[tokio::test]
async fn a_job_of_which_a_newer_release_wrote_a_part_is_left_to_it() {
    for part in [
        format!("UPDATE tower_webhook_payloads SET about = {NEWER} WHERE seq = 1"),
        format!("UPDATE tower_webhook_jobs SET history = {NEWER} WHERE seq = 1"),
    ] {
        let home = Home::new();
        let told = Told::default();
        let (queue, clock) = home.observed(told.clone());
        let newer = put(&queue, "newer").await;
        let good = put(&queue, "good").await;
        let second = add(&queue, job("second").fifo_group("a")).await.unwrap().id;
        set(&home, &part);
        let (before, _) = row(&home, 1);

        // One job is asked for, and the one that is due first is not it.
        for id in [good, second] {
            let taken = take(&queue).await;
            assert_eq!((taken.id, taken.attempt), (id, 1));
            settle(&queue, &taken, done()).await;
        }
        assert_eq!(row(&home, 1), (before.clone(), now(&clock) + 60_000));
        assert_eq!(told.warnings(newer), 1);
        assert_eq!(queue.depth().await.unwrap().queued, 1);
        home.check();

        // For a minute nobody looks at it.
        clock.forward(Duration::from_millis(59_999));
        assert!(nothing(&queue).await);
        assert_eq!(told.warnings(newer), 1);
        clock.forward(Duration::from_millis(1));
        assert!(nothing(&queue).await);
        assert_eq!(told.warnings(newer), 2);
        assert_eq!(row(&home, 1), (before, now(&clock) + 60_000));
        assert!(nothing(&queue).await);
        home.check();

        // What can be read again runs, and is at its first attempt.
        set(
            &home,
            "UPDATE tower_webhook_payloads SET about = NULL;
             UPDATE tower_webhook_jobs SET history = NULL;",
        );
        clock.forward(MINUTE);
        let taken = take(&queue).await;
        assert_eq!((taken.id, taken.attempt), (newer, 1));
        assert_eq!(&taken.payload[..], b"newer");
        home.check();
    }
}

#[tokio::test]
async fn a_failed_job_of_which_a_newer_release_wrote_a_part_is_left_to_it() {
    for part in [
        format!("UPDATE tower_webhook_payloads SET about = {NEWER} WHERE seq = 1"),
        format!("UPDATE tower_webhook_jobs SET history = {NEWER} WHERE seq = 1"),
        format!("UPDATE tower_webhook_jobs SET cause = {NEWER} WHERE seq = 1"),
    ] {
        let home = Home::new();
        let told = Told::default();
        let (queue, clock) = home.observed(told.clone());
        let newer = put(&queue, "newer").await;
        put(&queue, "good").await;
        for taken in claim(&queue, Ask::new(2, LEASE)).await.unwrap().jobs {
            let failed = End::Failed {
                cause: Cause::new(Reason::Rejected),
                history: taken.history.clone(),
            };
            settle(&queue, &taken, failed).await;
        }
        set(&home, &part);
        let (before, _) = row(&home, 1);
        let failed_jobs = || Ask::new(0, LEASE).most_failed(1);
        let mut claims = claim(&queue, failed_jobs()).await.unwrap();
        if claims.is_empty() {
            // The one that was asked for was another's; whoever waits is told to ask again.
            queue.wait(claims.mark, Duration::from_secs(20)).await;
            claims = claim(&queue, failed_jobs()).await.unwrap();
        }
        assert_eq!(&claims.failed_jobs[0].payload[..], b"good");
        assert_eq!(row(&home, 1), (before, now(&clock) + 60_000));
        assert_eq!(told.warnings(newer), 1);
        assert_eq!(queue.depth().await.unwrap().dead_lettering, 2);
        home.check();
        settle(&queue, &claims.failed_jobs[0], done()).await;
        clock.forward(MINUTE);
        assert!(claim(&queue, failed_jobs()).await.unwrap().is_empty());
        assert_eq!(told.warnings(newer), 2);
    }
}

#[tokio::test]
async fn many_jobs_of_a_newer_release_do_not_hold_up_the_others() {
    let home = Home::new();
    let (queue, _) = home.timed();
    for _ in 0..1100 {
        put(&queue, "newer").await;
    }
    let good = put(&queue, "good").await;
    set(
        &home,
        &format!("UPDATE tower_webhook_payloads SET about = {NEWER} WHERE payload = x'6e65776572'"),
    );
    let mut asked = 0;
    let taken = loop {
        asked += 1;
        let mut claims = claim(&queue, one()).await.unwrap();
        if let Some(taken) = claims.jobs.pop() {
            break taken;
        }
        // There is more: nobody is kept waiting for it.
        queue.wait(claims.mark, Duration::from_secs(600)).await;
    };
    assert_eq!((taken.id, asked), (good, 2));
    assert!(nothing(&queue).await);
    assert_eq!(queue.depth().await.unwrap().queued, 1100);
    home.check();
}

#[tokio::test]
async fn targets_whose_jobs_are_of_a_newer_release_do_not_hold_up_others() {
    let home = Home::new();
    let (queue, _) = home.timed();
    for target in ["a", "b", "c"] {
        add(&queue, job(target).target(target)).await.unwrap();
    }
    let part = format!("UPDATE tower_webhook_payloads SET about = {NEWER} WHERE seq < 3");
    set(&home, &part);
    let mut claims = claim(&queue, one()).await.unwrap();
    while claims.is_empty() {
        queue.wait(claims.mark, Duration::from_secs(600)).await;
        claims = claim(&queue, one()).await.unwrap();
    }
    assert_eq!(&claims.jobs[0].payload[..], b"c");
    assert!(nothing(&queue).await);
    home.check();
}

#[tokio::test]
async fn the_next_in_a_group_waits_for_a_job_that_is_left_to_a_newer_release() {
    let home = Home::new();
    let (queue, _) = home.timed();
    for payload in ["newer", "next"] {
        add(&queue, job(payload).fifo_group("a")).await.unwrap();
    }
    let part = format!("UPDATE tower_webhook_payloads SET about = {NEWER} WHERE seq = 1");
    set(&home, &part);
    assert!(nothing(&queue).await);
    assert_eq!(queue.depth().await.unwrap().queued, 2);
    home.check();
}

#[tokio::test]
async fn a_failed_job_whose_cause_is_damaged_is_dead_lettered_with_what_can_be_read() {
    let home = Home::new();
    let (queue, _) = home.timed();
    let id = put(&queue, "x").await;
    let taken = take(&queue).await;
    let failed = End::Failed {
        cause: Cause::new(Reason::Rejected),
        history: taken.history.clone(),
    };
    settle(&queue, &taken, failed).await;
    set(&home, "UPDATE tower_webhook_jobs SET cause = '{\"odd\":1}'");
    let failed_jobs = Ask::new(0, LEASE).most_failed(1);
    let claims = claim(&queue, failed_jobs).await.unwrap();
    let failed = &claims.failed_jobs[0];
    assert_eq!((failed.id, &failed.payload[..]), (id, &b"x"[..]));
    assert_eq!(failed.cause, Some(Cause::new(Reason::NotRetryable)));
    home.check();
}
