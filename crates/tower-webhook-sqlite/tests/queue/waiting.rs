//! From push to start: in one process, and across processes.

use crate::support::{
    Ends, Home, add, again, child, childs_file, claim, done, job, none, one, put, settings, settle,
    take,
};
use std::{
    pin::pin,
    sync::mpsc,
    task::{Context, Waker},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tower_webhook::{
    idempotency::IdempotencyKey,
    queue::{Ask, Engine},
};
use tower_webhook_sqlite::{SqliteQueue, database::DatabaseError};

const LONG: Duration = Duration::from_secs(600);

/// As a worker does when it has nothing to do.
async fn next(queue: &SqliteQueue) -> tower_webhook::queue::Job {
    loop {
        let mut claims = claim(queue, one()).await.unwrap();
        match claims.jobs.pop() {
            Some(job) => return job,
            None => queue.wait(claims.mark, LONG).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_in_the_same_process_is_woken_at_once() {
    let home = Home::new();
    let queue = home.queue();
    let worker = queue.clone();
    let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
    let working = tokio::spawn(async move {
        loop {
            let job = next(&worker).await;
            begun.send((job.id, Instant::now())).unwrap();
            settle(&worker, &job, done()).await;
        }
    });
    let mut took = Vec::new();
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_millis(3)).await;
        let pushed = Instant::now();
        let id = put(&queue, "x").await;
        let (started, at) = begins.recv().await.unwrap();
        assert_eq!(started, id);
        took.push(at.duration_since(pushed));
    }
    working.abort();
    took.sort_unstable();
    // Loosely, for busy machines; the bench has the figure. A poll would take 10 ms at the least.
    assert!(took[100] < Duration::from_millis(10), "{:?}", took[100]);
}

/// A wall clock, because it is compared across processes.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_in_another_process_is_woken_soon() {
    let home = Home::new();
    let queue = home.queue();
    let mut other = Ends::spawn(child("waiting::child_that_waits", &home.file()));
    let mut told = other.lines();
    assert!(told.any(|line| line == "ready"));
    let mut took = Vec::new();
    for _ in 0..40 {
        tokio::time::sleep(Duration::from_millis(31)).await;
        let pushed = now();
        put(&queue, "x").await;
        let line = told.find(|line| line.starts_with("began ")).unwrap();
        let at: u64 = line["began ".len()..].parse().unwrap();
        took.push(Duration::from_micros(at).saturating_sub(pushed));
    }
    took.sort_unstable();
    println!("median {:?}, longest {:?}", took[20], took[39]);
    assert!(took[20] < Duration::from_millis(50), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn child_that_waits() {
    let Some(file) = childs_file() else { return };
    let queue = settings().open(file).unwrap();
    println!("\nready");
    for _ in 0..40 {
        let job = next(&queue).await;
        println!("\nbegan {}", now().as_micros());
        settle(&queue, &job, done()).await;
    }
}

/// What waiting costs while nothing happens, by the processor time of a process that only waits.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_other_processes_costs_next_to_nothing() {
    let home = Home::new();
    let _queue = home.queue();
    let mut other = Ends::spawn(child("waiting::child_that_only_waits", &home.file()));
    let mut told = other.lines();
    let line = told.find(|line| line.starts_with("used ")).unwrap();
    let micros: u32 = line["used ".len()..].parse().unwrap();
    let share = f64::from(micros) / 2_000_000.0;
    println!("{:.2} % of a core", share * 100.0);
    assert!(share < 0.02, "{share}");
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn child_that_only_waits() {
    let Some(file) = childs_file() else { return };
    let queue = settings().open(file).unwrap();
    let seen = none(&queue).await;
    queue.wait(seen, Duration::from_millis(100)).await;
    let used = || {
        let spec = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Duration::new(
            spec.tv_sec.try_into().unwrap(),
            spec.tv_nsec.try_into().unwrap(),
        )
    };
    let before = used();
    let waiting = tokio::time::timeout(Duration::from_secs(2), queue.wait(seen, LONG)).await;
    assert!(waiting.is_err(), "nothing happened");
    println!("\nused {}", used().saturating_sub(before).as_micros());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_of_another_handle_that_ends_wakes_who_waits() {
    let home = Home::new();
    let (queue, other) = (home.queue(), home.queue());
    put(&other, "x").await;
    let lease = Duration::from_millis(300);
    let ask = Ask::new(1, lease);
    let first = claim(&other, ask).await.unwrap().jobs.remove(0);
    let second = tokio::time::timeout(Duration::from_secs(20), next(&queue)).await;
    let second = second.unwrap();
    assert_eq!((second.id, second.attempt), (first.id, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_is_dropped_at_any_point_leaves_nothing_behind() {
    let home = Home::new();
    let queue = home.queue();
    for round in 0..50 {
        let wait = queue.wait(none(&queue).await, LONG);
        let _ = tokio::time::timeout(Duration::from_micros(round * 40), wait).await;
    }
    add(&queue, job("x")).await.unwrap();
    take(&queue).await;
    queue.database().close().await;
}

/// A read of the file that has begun, and ends when the sender is dropped.
fn long_read(
    queue: &SqliteQueue,
) -> (
    mpsc::Sender<()>,
    impl Future<Output = Result<(), DatabaseError>>,
) {
    let (release, held) = mpsc::channel::<()>();
    let (running, started) = mpsc::channel();
    let long = queue.database().read(move |_| {
        running.send(()).unwrap();
        let _ = held.recv();
        Ok(())
    });
    started.recv().unwrap();
    (release, long)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_takes_long_delays_no_job() {
    let home = Home::new();
    let queue = home.queue();
    let soon = Duration::from_secs(10);
    put(&queue, "later").await;
    let job = take(&queue).await;
    let (release, long) = long_read(&queue);

    // One that is enqueued while a worker waits.
    let mut waiting = pin!(queue.wait(none(&queue).await, LONG));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(waiting.as_mut().poll(&mut cx).is_pending());
    let id = put(&queue, "now").await;
    tokio::time::timeout(soon, waiting).await.unwrap();
    assert_eq!(take(&queue).await.id, id);

    // One that becomes due.
    settle(&queue, &job, again(Duration::from_millis(100))).await;
    let due = tokio::time::timeout(soon, next(&queue)).await.unwrap();
    assert_eq!(due.id, job.id);
    drop(release);
    long.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_key_wakes_nobody() {
    let home = Home::new();
    let queue = home.queue();
    let keyed = || job("x").dedup_key(IdempotencyKey::new("test", "1").unwrap());
    assert!(!add(&queue, keyed()).await.unwrap().repeated);
    take(&queue).await;
    let seen = none(&queue).await;
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { tokio::time::timeout(Duration::from_millis(500), queue.wait(seen, LONG)).await }
    });
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(add(&queue, keyed()).await.unwrap().repeated);
    }
    assert!(waiting.await.unwrap().is_err(), "there is nothing to claim");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_read_hides_nothing_that_another_process_adds() {
    let home = Home::new();
    let (queue, other) = (home.queue(), home.queue());
    let mut waiting = pin!(queue.wait(none(&queue).await, LONG));
    let asleep = tokio::time::timeout(Duration::from_millis(300), waiting.as_mut()).await;
    assert!(asleep.is_err(), "there is nothing to claim");

    let (release, long) = long_read(&queue);
    add(&other, job("x")).await.unwrap();
    let woken = tokio::time::timeout(Duration::from_secs(5), waiting).await;
    drop(release);
    long.await.unwrap();
    assert!(woken.is_ok(), "it sleeps as long as the other reads");
}
