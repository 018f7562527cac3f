//! Claims of processes that are gone, that stall, and of which nothing can be told.

use crate::support::{Ends, Home, TTL, add, child, childs_file, job, put, say, take};
use std::{
    ffi::OsString,
    fs,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::timeout;
use tower_webhook::{
    clock::WallClock,
    idempotency::{Begin, IdempotencyKey, Store},
    observe::{Event, observer_fn},
    queue::{Ask, Engine, Job, Jobs, Mark, Status, Tasks},
};
use tower_webhook_sqlite::{Database, SqliteDeadLetters, SqliteQueue, SqliteStore};

/// Long enough for a look at the locks by any of the others.
const STALLS: Duration = Duration::from_secs(3);

/// A process that claims a job and does not end.
struct Claimer(Ends);

impl Claimer {
    fn spawn(file: &Path, lease: Duration) -> Self {
        let mut child = child("owners::child_that_claims", file);
        child.env("LEASE", lease.as_millis().to_string());
        let mut life = Ends::spawn(child);
        assert!(life.lines().any(|line| line == "claimed"));
        Self(life)
    }

    fn kill(mut self) {
        self.0.0.kill().unwrap();
        self.0.0.wait().unwrap();
    }

    fn stall(&self) {
        let pid = self.0.0.id().to_string();
        let stopped = Command::new("kill").args(["-STOP", &pid]).status();
        assert!(stopped.unwrap().success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn child_that_claims() {
    let Some(file) = childs_file() else { return };
    let lease = std::env::var("LEASE").unwrap().parse().unwrap();
    let queue = SqliteQueue::open(file).unwrap();
    let ask = Ask::new(1, Duration::from_millis(lease));
    assert_eq!(queue.claim(ask).await.unwrap().jobs.len(), 1);
    say("claimed");
    std::future::pending::<()>().await;
}

async fn claim(queue: &SqliteQueue) -> Option<Job> {
    look(queue).await.0
}

/// A job, or what the claim has seen.
async fn look(queue: &SqliteQueue) -> (Option<Job>, Mark) {
    let ask = Ask::new(1, Duration::from_secs(600));
    let mut claims = queue.claim(ask).await.unwrap();
    (claims.jobs.pop(), claims.mark)
}

/// Waits for a job as a worker does.
async fn next(queue: &SqliteQueue) -> Job {
    let claiming = async {
        loop {
            match look(queue).await {
                (Some(job), _) => return job,
                (None, seen) => queue.wait(seen, TTL).await,
            }
        }
    };
    timeout(Duration::from_secs(20), claiming).await.unwrap()
}

/// The files that hold the locks, by name.
fn locks(home: &Home) -> Vec<OsString> {
    let entries = fs::read_dir(home.folder()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name());
    names
        .filter(|name| name.to_string_lossy().contains("-owner-"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_had_is_claimed_at_once() {
    let home = Home::new();
    let queue = home.queue();
    let id = put(&queue, "x").await;
    Claimer::spawn(&home.file(), TTL).kill();
    // The first claim of whoever opens the file.
    let heir = home.queue();
    let job = claim(&heir).await.expect("its owner is gone");
    assert_eq!((job.id, job.attempt), (id, 2));
    // Also by one that has it open and waits.
    let other = put(&queue, "y").await;
    Claimer::spawn(&home.file(), TTL).kill();
    assert_eq!(next(&queue).await.id, other);
    home.check();
    // Nothing is left of those that died, nor of those that were closed.
    assert_eq!(locks(&home).len(), 2);
    heir.database().close().await;
    queue.database().close().await;
    assert!(locks(&home).is_empty());
}

/// What was cancelled while it ran there does not come back, and what waits for it does not wait for the lease.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_of_a_group_follows_a_cancelled_job_of_a_killed_process_at_once() {
    let home = Home::new();
    let queue = home.queue();
    let first = add(&queue, job("x").fifo_group("o")).await.unwrap().id;
    let second = add(&queue, job("y").fifo_group("o")).await.unwrap().id;
    let claimer = Claimer::spawn(&home.file(), TTL);
    let cancelled = queue.cancel(first).await.unwrap();
    assert_eq!(cancelled, Some(Status::Cancelled));
    assert!(claim(&queue).await.is_none(), "the process may still do it");
    home.check();
    // It is cancelled in the file, too.
    let other = home.queue();
    assert!(claim(&other).await.is_none());
    claimer.kill();
    assert_eq!(next(&other).await.id, second);
    let task = other.task(first).await.unwrap().unwrap();
    assert_eq!(task.status, Status::Cancelled);
    home.check();
}

/// Whoever finds it gone may keep no jobs.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_handle_found_gone_is_claimed_too() {
    let home = Home::new();
    let queue = home.queue();
    let id = put(&queue, "x").await;
    queue.database().close().await;
    Claimer::spawn(&home.file(), TTL).kill();
    let store = SqliteStore::open(home.file()).unwrap();
    let key = IdempotencyKey::new("test", "key").unwrap();
    let begun = store.begin(&key, None, TTL).await.unwrap();
    assert!(matches!(begun, Begin::Acquired(_)), "{begun:?}");
    assert_eq!(locks(&home).len(), 1, "of the store");
    let job = claim(&home.queue()).await.expect("its owner is gone");
    assert_eq!(job.id, id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_stalls_keeps_its_claim_until_the_lease_ends() {
    let home = Home::new();
    let queue = home.queue();
    let dead = put(&queue, "dead").await;
    let killed = Claimer::spawn(&home.file(), TTL);
    let stalled = put(&queue, "stalled").await;
    let before = WallClock::system().now();
    let claimer = Claimer::spawn(&home.file(), STALLS);
    claimer.stall();
    killed.kill();
    assert_eq!(next(&queue).await.id, dead);
    assert_eq!(next(&queue).await.id, stalled);
    let after = WallClock::system().now();
    assert!(after.duration_since(before).unwrap() >= STALLS);
}

#[tokio::test(flavor = "multi_thread")]
async fn handles_of_one_process_do_not_take_each_others_claims() {
    let home = Home::new();
    let queue = home.queue();
    put(&queue, "x").await;
    take(&queue).await;
    assert_eq!(claim(&home.queue()).await, None);
    // Whoever closes it in order may still work.
    queue.database().close().await;
    assert_eq!(claim(&home.queue()).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_lock_a_claim_lasts_as_long_as_its_lease() {
    let home = Home::new();
    let queue = home.queue();
    put(&queue, "x").await;
    queue.database().close().await;
    let claimer = Claimer::spawn(&home.file(), TTL);
    let [lock] = &locks(&home)[..] else {
        panic!("{:?}", locks(&home))
    };
    // A copy of the file, made while it is in use.
    let copy = Home::new();
    let into = copy.file().to_str().unwrap().to_owned();
    home.raw().execute("VACUUM INTO ?1", [into]).unwrap();
    assert_eq!(claim(&copy.queue()).await, None);
    // Somebody tidies up.
    fs::remove_file(home.folder().join(lock)).unwrap();
    assert_eq!(claim(&home.queue()).await, None);
    claimer.kill();
    assert_eq!(claim(&home.queue()).await, None);
}

/// Names end at 255 bytes.
#[tokio::test(flavor = "multi_thread")]
async fn where_no_lock_can_be_made_the_queue_works_and_it_is_told_once() {
    let home = Home::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    let seen = told.clone();
    let observer = observer_fn(move |event| {
        if let Event::Trouble { what, .. } = event {
            seen.lock().unwrap().push((*what).to_owned());
        }
    });
    let file = home.folder().join("x".repeat(240));
    let database = Database::builder().observe(observer).open(&file).unwrap();
    let queue = SqliteQueue::new(&database).unwrap();
    let id = put(&queue, "x").await;
    assert_eq!(take(&queue).await.id, id);
    // Another look.
    let _entries = SqliteDeadLetters::new(&database).unwrap();
    put(&queue, "y").await;
    let told = told.lock().unwrap();
    assert!(told[0].starts_with("no lock can be held"), "{told:?}");
    assert_eq!(told.len(), 1, "{told:?}");
}
