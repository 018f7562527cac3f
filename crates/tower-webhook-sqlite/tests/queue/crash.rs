//! Processes that are killed, or whose disk refuses a write, lose nothing that was accepted.

use crate::support::{
    Ends, Home, TTL, add, child, childs_file, claim, done, end, job, killed_after, put, say,
    settings,
};
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};
use tower_webhook::{
    StoreErrorKind,
    lease::Settled,
    queue::{Ask, End, Engine, Status, Tasks},
};

/// Short, so that what a dead worker had is soon run again.
const LEASE: Duration = Duration::from_millis(400);

/// Accepts and works at once, in several lives on one file, each cut short somewhere else.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_survives_kills_under_load_and_is_done() {
    let home = Home::new();
    let mut accepted = HashSet::new();
    let mut finished: HashMap<String, usize> = HashMap::new();
    for lines in [1, 7, 40, 150, 600, 900] {
        let child = child("crash::child_that_is_killed", &home.file());
        killed_after(lines, child, |line| {
            if let Some(id) = line.strip_prefix("accepted ") {
                accepted.insert(id.to_owned());
            } else if let Some(id) = line.strip_prefix("finished ") {
                *finished.entry(id.to_owned()).or_default() += 1;
            } else {
                return false;
            }
            true
        });
        home.check();
    }
    // Whoever comes after does the rest, when the leases of the dead are over.
    let queue = settings().attempts(1000).open(home.file()).unwrap();
    while queue.depth().await.unwrap().unfinished() > 0 {
        let ask = Ask::new(64, TTL);
        let claims = claim(&queue, ask).await.unwrap();
        if claims.is_empty() {
            queue.wait(claims.mark, Duration::from_secs(5)).await;
        }
        for job in claims.jobs {
            assert_eq!(&job.payload[..], b"payload");
            let done = end(&queue, job.claim(), done()).await.unwrap();
            assert_eq!(done, Settled::Done);
            *finished.entry(job.id.to_string()).or_default() += 1;
        }
    }
    for id in &accepted {
        let task = queue.task(id.parse().unwrap()).await.unwrap().unwrap();
        assert_eq!(task.status, Status::Succeeded { result: None });
    }
    // A job that was acknowledged as done is never given out again.
    assert!(finished.values().all(|times| *times == 1));
    println!("{} accepted, {} finished", accepted.len(), finished.len());
    assert!(accepted.len() > 500);
    home.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn child_that_is_killed() {
    let Some(file) = childs_file() else { return };
    let queue = settings().attempts(1000).open(file).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for producer in 0..4 {
        let queue = queue.clone();
        tasks.spawn(async move {
            for _ in 0..100_000 {
                let new = job("payload").target(format!("t{producer}"));
                let id = add(&queue, new).await.unwrap().id;
                say(&format!("accepted {id}"));
            }
        });
    }
    for _ in 0..4 {
        let queue = queue.clone();
        tasks.spawn(async move {
            loop {
                let ask = Ask::new(3, LEASE);
                let claims = claim(&queue, ask).await.unwrap();
                if claims.is_empty() {
                    queue.wait(claims.mark, Duration::from_secs(5)).await;
                }
                for job in claims.jobs {
                    let settled = end(&queue, job.claim(), done()).await.unwrap();
                    if settled == Settled::Done {
                        say(&format!("finished {}", job.id));
                    }
                }
            }
        });
    }
    tasks.join_all().await;
}

/// Under a limit on the size of files, which is lifted while the child runs: to SQLite an I/O error
/// in the middle of a commit.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_the_system_refuses_is_told_and_passes_without_a_restart() {
    use crate::child::{limited, meets_its_limit};
    let home = Home::new();
    let limited = limited(3000, "crash::child_with_a_limit", &home.file());
    let kept = meets_its_limit(limited, 1, |_| {});
    let queue = home.queue();
    for id in &kept {
        let task = queue.task(id.parse().unwrap()).await.unwrap().unwrap();
        assert_eq!(task.status, Status::Queued);
    }
    home.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn child_with_a_limit() {
    let Some(file) = childs_file() else { return };
    let queue = settings().attempts(1000).open(file).unwrap();
    let (mut tries, mut refused, mut after) = (0, false, 0);
    while after < 20 {
        tries += 1;
        let new = job(&"x".repeat(80_000));
        // Whether it was put in is unknown after some errors: the same job again is no second one.
        match add(&queue, new.clone()).await {
            Ok(enqueued) => {
                say(&format!("kept {}", enqueued.id));
                after += i32::from(refused);
            }
            Err(error) => {
                assert!(matches!(
                    error.kind(),
                    StoreErrorKind::Unavailable | StoreErrorKind::Full
                ));
                refused = true;
                say(&format!("refused {:?}", error.kind()));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        assert!(tries < 5000, "neither refused nor recovered");
    }
}

/// A worker that dies between its claims leaves failed jobs to others as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_job_whose_worker_was_killed_is_given_to_another() {
    let home = Home::new();
    let queue = home.queue();
    let id = put(&queue, "x").await;
    let child = child("crash::child_that_dies_at_a_funeral", &home.file());
    let mut life = Ends::spawn(child);
    assert!(life.lines().any(|line| line == "carrying"));
    life.0.kill().unwrap();
    let failed_job = loop {
        let mut claims = claim(&queue, Ask::new(1, LEASE)).await.unwrap();
        if let Some(failed_job) = claims.failed_jobs.pop() {
            break failed_job;
        }
        queue.wait(claims.mark, Duration::from_secs(5)).await;
    };
    assert_eq!(failed_job.id, id);
    let settled = end(&queue, failed_job.claim(), done()).await.unwrap();
    assert_eq!(settled, Settled::Done);
    home.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn child_that_dies_at_a_funeral() {
    let Some(file) = childs_file() else { return };
    let queue = settings().attempts(1000).open(file).unwrap();
    let job = claim(&queue, Ask::new(1, LEASE))
        .await
        .unwrap()
        .jobs
        .remove(0);
    let failed = End::Failed {
        cause: tower_webhook::dead_letter::Cause::new(tower_webhook::dead_letter::Reason::Rejected),
        history: tower_webhook::attempt::History::new(),
    };
    let settled = end(&queue, job.claim(), failed).await.unwrap();
    assert_eq!(settled, Settled::Done);
    let claims = claim(&queue, Ask::new(1, LEASE)).await.unwrap();
    assert_eq!(claims.failed_jobs.len(), 1);
    say("carrying");
    std::future::pending::<()>().await;
}
