//! Retention, and clocks that jump.

use crate::support::{
    Home, LEASE, ManualClock, TTL, add, again, claim, done, end, job, none, one, put, rows,
    settings, settle, take, until,
};
use std::time::Duration;
use tower_webhook::{
    attempt::History,
    dead_letter::{Cause, Reason},
    lease::Settled,
    queue::{Ask, Claim, End, Engine, Status, TaskId, Tasks},
};
use tower_webhook_sqlite::{Database, SqliteQueue};

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_leaves_an_idle_queue_and_nothing_else_does() {
    let home = Home::new();
    let (queue, clock) = home.timed();
    for number in 0..300 {
        put(&queue, &number.to_string()).await;
    }
    let claims = claim(&queue, Ask::new(300, LEASE)).await.unwrap();
    for (number, job) in claims.jobs.iter().enumerate() {
        let how = if number % 3 == 0 {
            End::Failed {
                cause: Cause::new(Reason::Rejected),
                history: History::new(),
            }
        } else {
            done()
        };
        settle(&queue, job, how).await;
    }
    let failed_jobs = claim(&queue, Ask::new(300, LEASE))
        .await
        .unwrap()
        .failed_jobs;
    assert_eq!(failed_jobs.len(), 100);
    for failed_job in &failed_jobs {
        settle(&queue, failed_job, done()).await;
    }
    let waits = put(&queue, "waits").await;
    assert_eq!(rows(&queue, "tower_webhook_payloads").await, 1);
    assert_eq!(rows(&queue, "tower_webhook_jobs").await, 301);
    clock.forward(TTL);
    clock.back(Duration::from_millis(1));
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(rows(&queue, "tower_webhook_jobs").await, 301);
    clock.forward(Duration::from_millis(1));
    until("the finished ones left", || async {
        rows(&queue, "tower_webhook_jobs").await == 1
    })
    .await;
    assert_eq!(take(&queue).await.id, waits);
    home.check();
}

/// By its age a job's retries end. What the clock leaps while this process runs is no part of it; what passed while
/// no process ran is.
#[tokio::test(flavor = "multi_thread")]
async fn the_age_of_a_job_leaves_out_what_the_clock_leapt() {
    const MINUTE: Duration = Duration::from_secs(60);
    let home = Home::new();
    let (queue, clock) = home.timed();
    put(&queue, "x").await;
    let leaps: [fn(&ManualClock); 4] = [
        |clock| clock.leap(120 * MINUTE),
        |clock| clock.back(DAY),
        |clock| clock.leap(DAY),
        |clock| clock.back(120 * MINUTE),
    ];
    for leap in leaps {
        let job = take(&queue).await;
        assert!(job.age() < MINUTE, "{:?}", job.age());
        settle(&queue, &job, again(Duration::ZERO)).await;
        leap(&clock);
    }
    let job = take(&queue).await;
    assert!(job.age() < MINUTE);
    settle(&queue, &job, again(Duration::ZERO)).await;
    drop(queue);

    // Nobody has the file open: it cannot be told from time that passed.
    clock.leap(30 * DAY);
    let database = Database::builder().clock(clock.wall()).open(home.file());
    let queue = settings().build(&database.unwrap()).unwrap();
    let aged = take(&queue).await.age();
    assert!(aged >= 30 * DAY && aged < 30 * DAY + MINUTE, "{aged:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_leaves_a_busy_queue_faster_than_it_comes() {
    let home = Home::new();
    let (queue, clock) = home.timed();
    let finish = async || {
        for _ in 0..500 {
            put(&queue, "x").await;
            settle(&queue, &take(&queue).await, done()).await;
        }
    };
    finish().await;
    clock.forward(TTL);
    finish().await;
    // Never half as many more than one time to live brings.
    let rows = rows(&queue, "tower_webhook_jobs").await;
    assert!(rows < 750, "{rows}");
}

async fn finish(queue: &SqliteQueue, dead_letters: bool) -> TaskId {
    let id = put(queue, "x").await;
    let job = take(queue).await;
    if dead_letters {
        let cause = Cause::new(Reason::Rejected);
        let history = History::new();
        settle(queue, &job, End::Failed { cause, history }).await;
        let failed_job = claim(queue, one()).await.unwrap().failed_jobs.remove(0);
        settle(queue, &failed_job, done()).await;
    } else {
        let result = Some("done".into());
        settle(queue, &job, End::Done { result }).await;
    }
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn of_too_many_finished_tasks_those_leave_whose_time_ends_first() {
    let home = Home::new();
    let (queue, clock) = home.timed_with(settings().max_finished(3));
    let mut ids = Vec::new();
    // How they ended does not decide.
    for dead_letters in [false, true, true, false, false] {
        ids.push(finish(&queue, dead_letters).await);
        clock.forward(Duration::from_millis(1));
    }
    until("as many as may be are kept", || async {
        rows(&queue, "tower_webhook_jobs").await == 3
    })
    .await;
    let mut kept = Vec::new();
    for id in ids {
        kept.push(queue.task(id).await.unwrap().is_some());
    }
    assert_eq!(kept, [false, false, true, true, true]);
    home.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn finished_tasks_keep_to_their_bound_while_the_queue_is_busy() {
    let home = Home::new();
    let queue = settings().max_finished(10);
    let queue = queue.open(home.file()).unwrap();
    let waits = add(&queue, job("x").delay(TTL)).await.unwrap().id;
    let mut most = 0;
    for number in 0..400 {
        finish(&queue, false).await;
        if number % 20 == 0 {
            most = most.max(rows(&queue, "tower_webhook_jobs").await);
        }
    }
    // A turn of the chores comes with every 64 operations.
    assert!(most < 100, "{most}");
    assert!(queue.task(waits).await.unwrap().is_some());
    // The chores have a turn after the answers.
    queue.database().close().await;
    home.check();
}

#[tokio::test]
async fn a_clock_that_goes_back_does_not_hold_up_what_is_due() {
    let home = Home::new();
    let (queue, clock) = home.timed();
    let id = put(&queue, "x").await;
    clock.back(DAY);
    assert_eq!(take(&queue).await.id, id);
}

#[tokio::test]
async fn a_clock_that_goes_back_does_not_lengthen_a_lease() {
    let home = Home::new();
    let (queue, clock) = home.timed();
    put(&queue, "x").await;
    let first = take(&queue).await;
    clock.back(DAY);
    // From the first look on the lease runs by the new clock, however often somebody looks.
    for _ in 0..4 {
        assert!(claim(&queue, one()).await.unwrap().is_empty());
        clock.forward(LEASE / 4);
    }
    let second = take(&queue).await;
    assert_eq!((second.id, second.attempt), (first.id, 2));
    assert!(second.token > first.token);
    let late = end(&queue, first.claim(), done()).await.unwrap();
    assert_eq!(late, Settled::Lost);
}

/// Another handle of the same file, as another process has.
fn another(home: &Home, clock: &ManualClock) -> SqliteQueue {
    let database = Database::builder().clock(clock.wall()).open(home.file());
    settings().build(&database.unwrap()).unwrap()
}

/// A job that is claimed, and one that has failed and is claimed.
async fn two_claims(queue: &SqliteQueue) -> [Claim; 2] {
    put(queue, "fails").await;
    let failed = End::Failed {
        cause: Cause::new(Reason::Rejected),
        history: History::new(),
    };
    settle(queue, &take(queue).await, failed).await;
    let failed = claim(queue, one()).await.unwrap().failed_jobs.remove(0);
    put(queue, "runs").await;
    [failed.claim(), take(queue).await.claim()]
}

/// Who meets the leap first.
#[derive(Clone, Copy, Debug)]
enum First {
    Holder,
    Renewal,
    Other,
    Newcomer,
}

/// A job would run twice: its holder still works, and has not had the time that it was granted.
#[tokio::test]
async fn a_clock_that_leaps_ahead_ends_no_lease() {
    const MOMENT: Duration = Duration::from_millis(1);
    for leap in [Duration::from_secs(20), 30 * DAY] {
        for first in [First::Holder, First::Renewal, First::Other, First::Newcomer] {
            let home = Home::new();
            let (queue, clock) = home.timed();
            let other = another(&home, &clock);
            none(&other).await;
            let claims = two_claims(&queue).await;
            clock.forward(LEASE / 2);
            clock.leap(leap);
            let mut left = LEASE / 2;
            match first {
                First::Holder => drop(none(&queue).await),
                First::Renewal => {
                    let renewed = queue.renew(claims.to_vec(), LEASE).await.unwrap();
                    assert_eq!(renewed, [Settled::Done; 2], "{leap:?}");
                    left = LEASE;
                }
                First::Other => drop(none(&other).await),
                // It cannot tell the leap from time that passed, and the holder is known to live.
                First::Newcomer => drop(none(&another(&home, &clock)).await),
            }
            // Everybody meets it, and nobody has a lease last longer than it was granted.
            let newcomer = another(&home, &clock);
            for queue in [&queue, &other, &newcomer] {
                none(queue).await;
            }
            if matches!(first, First::Newcomer) {
                // Nor shorter: the time that had passed since the queue was last used is given back.
                clock.forward(LEASE / 2);
                none(&other).await;
            }
            clock.forward(left.saturating_sub(MOMENT));
            for queue in [&queue, &other, &newcomer] {
                none(queue).await;
            }
            clock.forward(MOMENT);
            let all = claim(&other, one()).await.unwrap();
            assert_eq!(
                (all.jobs.len(), all.failed_jobs.len()),
                (1, 1),
                "{leap:?} {first:?}"
            );
            assert!(queue.settle(vec![(claims[1], done())]).await.unwrap() == [Settled::Lost]);
            home.check();
        }
    }
}

/// Those who had claimed it are gone, or were closed.
#[tokio::test]
async fn a_lease_whose_holder_is_not_known_to_live_is_over_for_who_opens_the_file_later() {
    let home = Home::new();
    let (queue, clock) = home.timed();
    let claims = two_claims(&queue).await;
    queue.database().close().await;
    drop(queue);
    clock.leap(LEASE);
    let all = claim(&another(&home, &clock), one()).await.unwrap();
    assert_eq!(
        (all.jobs.len(), all.failed_jobs.len()),
        (1, 1),
        "{claims:?}"
    );
}

/// Looks every 10 s until there is something to claim. Gives how long that took.
async fn taken_after(queue: &SqliteQueue, clock: &ManualClock, at_most: Duration) -> Duration {
    const STEP: Duration = Duration::from_secs(10);
    let mut waited = Duration::ZERO;
    while claim(queue, one()).await.unwrap().is_empty() {
        assert!(waited < at_most, "nothing to claim after {waited:?}");
        clock.forward(STEP);
        waited += STEP;
    }
    waited
}

#[tokio::test]
async fn a_clock_that_goes_back_does_not_lengthen_a_lease_that_was_renewed_for_long() {
    let home = Home::new();
    let (queue, clock) = home.timed();
    put(&queue, "x").await;
    let held = take(&queue).await;
    for _ in 0..360 {
        clock.forward(LEASE / 3);
        let renewed = queue.renew(vec![held.claim()], LEASE).await;
        assert_eq!(renewed.unwrap(), [Settled::Done]);
    }
    clock.back(DAY);
    assert!(taken_after(&queue, &clock, LEASE).await <= LEASE);
}

#[tokio::test]
async fn a_clock_that_goes_back_does_not_lengthen_a_renewal_of_a_moment_ago() {
    let home = Home::new();
    let (queue, clock) = home.timed();
    put(&queue, "x").await;
    let held = take(&queue).await;
    let moment = Duration::from_millis(900);
    clock.forward(moment);
    let renewed = queue.renew(vec![held.claim()], LEASE).await;
    assert_eq!(renewed.unwrap(), [Settled::Done]);
    clock.back(moment);
    // To the millisecond, and not only to what a look notices.
    assert!(claim(&queue, one()).await.unwrap().is_empty());
    clock.forward(LEASE);
    take(&queue).await;
}

#[tokio::test]
async fn a_clock_that_goes_back_does_not_lengthen_the_lease_of_a_failed_job() {
    let home = Home::new();
    let (queue, clock) = home.timed();
    put(&queue, "x").await;
    let dead_letter = End::Failed {
        cause: Cause::new(Reason::Rejected),
        history: History::new(),
    };
    settle(&queue, &take(&queue).await, dead_letter).await;
    // Short of what a look writes down by itself, and beyond it.
    for passed in [Duration::from_millis(900), DAY] {
        clock.forward(passed);
        assert_eq!(claim(&queue, one()).await.unwrap().failed_jobs.len(), 1);
        clock.back(passed);
        assert!(claim(&queue, one()).await.unwrap().is_empty());
        clock.forward(LEASE);
        assert_eq!(claim(&queue, one()).await.unwrap().failed_jobs.len(), 1);
        clock.forward(LEASE);
    }
}

/// The looks themselves change nothing, and yet the time that they saw pass has passed.
#[tokio::test]
async fn a_wait_that_was_looked_at_does_not_begin_anew_when_the_clock_goes_back() {
    let home = Home::new();
    let (queue, clock) = home.timed();
    let minute = Duration::from_secs(60);
    add(&queue, job("x").delay(10 * minute)).await.unwrap();
    for _ in 0..9 * 60 {
        clock.forward(Duration::from_secs(1));
        assert!(claim(&queue, one()).await.unwrap().is_empty());
    }
    clock.back(8 * minute);
    assert!(taken_after(&queue, &clock, minute).await <= minute);
}

#[tokio::test]
async fn a_holder_goes_on_when_the_clock_goes_back() {
    let home = Home::new();
    let (queue, clock) = home.timed();
    put(&queue, "x").await;
    let held = take(&queue).await;
    clock.back(DAY);
    let renewed = queue.renew(vec![held.claim()], LEASE).await;
    assert_eq!(renewed.unwrap(), [Settled::Done]);
    clock.forward(LEASE / 2);
    settle(&queue, &held, done()).await;
}

#[tokio::test]
async fn a_clock_that_goes_back_does_not_lengthen_a_wait_or_a_time_to_live() {
    let home = Home::new();
    let (queue, clock) = home.timed();
    let id = put(&queue, "x").await;
    settle(&queue, &take(&queue).await, again(LEASE)).await;
    clock.back(DAY);
    assert!(claim(&queue, one()).await.unwrap().is_empty());
    clock.forward(LEASE);
    settle(&queue, &take(&queue).await, done()).await;
    clock.back(DAY);
    put(&queue, "a look").await;
    assert!(queue.task(id).await.unwrap().is_some());
    clock.forward(TTL);
    assert_eq!(queue.task(id).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_notices_that_the_clock_went_back() {
    let home = Home::new();
    let (queue, clock) = home.timed();
    add(&queue, job("x").delay(LEASE)).await.unwrap();
    let seen = none(&queue).await;
    clock.back(DAY);
    // So that it is written down from when on the wait counts.
    let noticed = tokio::time::timeout(Duration::from_secs(10), queue.wait(seen, DAY));
    noticed.await.unwrap();
    assert!(claim(&queue, one()).await.unwrap().is_empty());
    clock.forward(LEASE);
    take(&queue).await;
}

#[tokio::test]
async fn times_are_told_by_the_wall_clock_however_it_went() {
    let home = Home::new();
    let (queue, clock) = home.timed();
    put(&queue, "before").await;
    clock.back(DAY);
    let id = put(&queue, "after").await;
    let task = queue.task(id).await.unwrap().unwrap();
    assert_eq!(task.accepted_at, clock.wall().now());
    assert_eq!(task.status, Status::Queued);
}

#[tokio::test]
async fn what_was_put_in_is_there_after_reopening() {
    let home = Home::new();
    let queue = home.queue();
    let first = put(&queue, "first").await;
    let second = put(&queue, "second").await;
    let held = take(&queue).await;
    queue.database().close().await;
    drop(queue);
    let queue = home.queue();
    assert_eq!(take(&queue).await.id, second);
    // The holder may be another process, which goes on.
    assert_eq!(held.id, first);
    settle(&queue, &held, done()).await;
    home.check();
}
