//! Several handles and several processes on one file.

use crate::support::{
    Ends, Home, TTL, add, child, childs_file, claim, done, end, job, say, settings, told_by,
};
use std::{
    collections::HashMap,
    io::Write,
    time::{Duration, Instant},
};
use tower_webhook::queue::{Ask, Engine, Tasks};
use tower_webhook_sqlite::SqliteQueue;

const JOBS: usize = 20_000;

/// Claims and settles until nothing is left, and says what.
async fn drain(queue: &SqliteQueue) -> Vec<String> {
    let mut mine = Vec::new();
    loop {
        let ask = Ask::new(32, Duration::from_secs(60));
        let claims = claim(queue, ask).await.unwrap();
        if claims.is_empty() && queue.depth().await.unwrap().unfinished() == 0 {
            return mine;
        }
        if claims.is_empty() {
            queue.wait(claims.mark, Duration::from_secs(1)).await;
        }
        let mut ends = Vec::new();
        for job in &claims.jobs {
            mine.push(String::from_utf8(job.payload.to_vec()).unwrap());
            ends.push((job.claim(), done()));
        }
        let settled = queue.settle(ends).await.unwrap();
        let ours = |settled| settled == tower_webhook::lease::Settled::Done;
        assert!(settled.into_iter().all(ours));
    }
}

/// Hazard: writers that race get "database is locked" after the busy time, and a burst of many
/// producers never drains.
#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_jobs_of_sixteen_producers_are_each_claimed_once_by_three_processes() {
    let home = Home::new();
    let queue = home.queue();
    let others: Vec<_> = (0..2)
        .map(|_| Ends::spawn(child("processes::child_that_drains", &home.file())))
        .collect();
    let began = Instant::now();
    let mut producers = tokio::task::JoinSet::new();
    for producer in 0..16 {
        let queue = queue.clone();
        producers.spawn(async move {
            for number in 0..JOBS / 16 {
                let new = job(&format!("{producer}-{number}")).target(format!("t{}", number % 5));
                add(&queue, new).await.unwrap();
            }
        });
    }
    producers.join_all().await;
    let put_in = began.elapsed();
    let mut times: HashMap<String, usize> = HashMap::new();
    let mut count = |said: String| *times.entry(said).or_default() += 1;
    let mut mine = 0;
    for said in drain(&queue).await {
        mine += 1;
        count(said);
    }
    // The children end when they have seen what was put in done.
    for said in told_by(others, "did ") {
        count(said);
    }
    println!("in {put_in:?}, out {:?}, {mine} here", began.elapsed());
    assert_eq!(times.len(), JOBS);
    assert!(times.values().all(|times| *times == 1));
    assert_eq!(queue.depth().await.unwrap().unfinished(), 0);
    home.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn child_that_drains() {
    let Some(file) = childs_file() else { return };
    let queue = settings().open(file).unwrap();
    // Not before there was something.
    let began = Instant::now();
    while queue.depth().await.unwrap().unfinished() == 0
        && began.elapsed() < Duration::from_secs(20)
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut out = std::io::stdout().lock();
    for said in drain(&queue).await {
        writeln!(out, "\ndid {said}").unwrap();
    }
}

/// Jobs that each process does in turn, as they come.
const SHARED: usize = 1500;

/// No process has much more to do than another.
#[tokio::test(flavor = "multi_thread")]
async fn three_processes_share_the_jobs_of_one_queue() {
    let home = Home::new();
    let queue = home.queue();
    let mut children: Vec<_> = (0..3)
        .map(|_| Ends::spawn(child("processes::child_that_shares", &home.file())))
        .collect();
    let mut lines: Vec<_> = children.iter_mut().map(Ends::lines).collect();
    for lines in &mut lines {
        assert!(lines.any(|line| line == "ready"));
    }
    // All at once, so that all find some.
    let jobs = (0..SHARED).map(|number| job(&number.to_string())).collect();
    assert_eq!(queue.enqueue(jobs).await.unwrap().len(), SHARED);
    let shares: Vec<usize> = lines
        .iter_mut()
        .map(|lines| {
            let share = lines.find_map(|line| line.strip_prefix("did ").map(str::to_owned));
            share.expect("its share").parse().unwrap()
        })
        .collect();
    println!("{shares:?}");
    assert_eq!(shares.iter().sum::<usize>(), SHARED);
    let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
    assert!(*most <= 2 * least, "{shares:?}");
    assert_eq!(queue.depth().await.unwrap().unfinished(), 0);
    home.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn child_that_shares() {
    let Some(file) = childs_file() else { return };
    let queue = settings().open(file).unwrap();
    let (mut share, mut began) = (0, false);
    say("ready");
    loop {
        let claims = claim(&queue, Ask::new(8, TTL)).await.unwrap();
        if began && claims.is_empty() && queue.depth().await.unwrap().queued == 0 {
            break;
        }
        if claims.is_empty() {
            queue.wait(claims.mark, Duration::from_secs(1)).await;
            began |= queue.depth().await.unwrap().unfinished() > 0;
        }
        let mut ends = Vec::new();
        for job in &claims.jobs {
            tokio::time::sleep(Duration::from_millis(1)).await;
            ends.push((job.claim(), done()));
        }
        (share, began) = (share + ends.len(), began || !ends.is_empty());
        queue.settle(ends).await.unwrap();
    }
    say(&format!("did {share}"));
}

/// A payload that kills its process runs as often as is allowed, and is dead-lettered once.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_aborts_its_process_runs_so_often_and_is_dead_lettered_once() {
    let home = Home::new();
    let queue = home.queue();
    let id = add(&queue, job("abort")).await.unwrap().id;
    let mut runs = 0;
    for _ in 0..10 {
        let child = child("processes::child_that_aborts", &home.file())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout).into_owned();
        assert!(!said.contains("waited in vain"), "{said}");
        runs += said.matches("running abort").count();
        if said.contains("dead_lettered") {
            break;
        }
    }
    assert_eq!(runs, 3);
    let task = queue.task(id).await.unwrap().unwrap();
    assert_eq!((task.status.as_str(), task.attempts), ("failed", 3));
    assert!(claim(&queue, ask()).await.unwrap().is_empty());
    home.check();
}

/// A lease that does not end in the test: the one after takes over from a process that is gone.
fn ask() -> Ask {
    Ask::new(1, TTL)
}

#[tokio::test(flavor = "multi_thread")]
async fn child_that_aborts() {
    let Some(file) = childs_file() else { return };
    let queue = settings().open(file).unwrap();
    let began = Instant::now();
    loop {
        let claims = claim(&queue, ask()).await.unwrap();
        if let Some(job) = claims.jobs.first() {
            assert_eq!(&job.payload[..], b"abort");
            println!("\nrunning abort");
            std::io::stdout().flush().unwrap();
            std::process::abort();
        }
        if let Some(failed_job) = claims.failed_jobs.first() {
            let cause = failed_job.cause.as_ref().unwrap();
            assert_eq!(cause.reason.as_str(), "worker_lost");
            assert_eq!(&failed_job.payload[..], b"abort");
            let dead_lettered = end(&queue, failed_job.claim(), done());
            assert_eq!(
                dead_lettered.await.unwrap(),
                tower_webhook::lease::Settled::Done
            );
            println!("\ndead_lettered");
            return;
        }
        queue.wait(claims.mark, Duration::from_secs(5)).await;
        if began.elapsed() > Duration::from_secs(20) {
            println!("\nwaited in vain");
            return;
        }
    }
}
