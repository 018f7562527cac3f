//! A worker in a process of its own, on the same file as whoever accepts.
//!
//! Run: `cargo run -p tower-webhook-sqlite --example worker_process`
//!
//! It starts itself twice more as workers (`worker_process FILE`), puts jobs in, and kills one of
//! them in the middle: what that one had claimed is done by the other when its lease ends.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};
use tower::service_fn;
use tower_webhook::{
    BoxError,
    queue::{Job, NewJob, Queue, Status, Worker},
};
use tower_webhook_sqlite::SqliteQueue;

const JOBS: usize = 40;

/// Short, so that the example is: a worker that died is noticed after this long.
const LEASE: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    match std::env::args_os().nth(1) {
        Some(file) => work(Path::new(&file)).await,
        None => accept().await,
    }
}

async fn accept() -> Result<(), BoxError> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("queue.db");
    let queue = Queue::new(SqliteQueue::open(&file)?);
    let mut workers = [start(&file)?, start(&file)?];
    let mut tasks = Vec::new();
    for n in 0..JOBS {
        let job = NewJob::new("greeting", format!("job {n}"));
        tasks.push(queue.enqueue(job).await?.id);
    }
    println!("{JOBS} jobs are in the queue");

    let done = || async {
        let mut done = 0;
        for task in &tasks {
            let task = queue.task(*task).await?;
            let status = task.map(|task| task.status);
            done += usize::from(matches!(status, Some(Status::Succeeded { .. })));
        }
        Ok::<_, BoxError>(done)
    };
    while done().await? < JOBS / 4 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    workers[0].kill()?;
    println!("one of the two workers was killed");
    while done().await? < JOBS {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("all {JOBS} are done");
    for mut worker in workers {
        // The first is gone already.
        let _ = worker.kill();
        worker.wait()?;
    }
    Ok(())
}

fn start(file: &Path) -> std::io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .arg(file)
        .stdin(Stdio::null())
        .spawn()
}

async fn work(file: &Path) -> Result<(), BoxError> {
    let queue = Queue::new(SqliteQueue::open(file)?);
    let me = std::process::id();
    let worker = Worker::builder(queue)
        .concurrency(2)
        .lease(LEASE)
        .build(service_fn(move |job: Job| async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let what = String::from_utf8_lossy(&job.payload);
            println!("worker {me}: {what}, attempt {}", job.attempt);
            Ok::<_, BoxError>(())
        }))?;
    worker
        .run(async {
            // Ctrl-C releases the jobs that run; an error here is a system without signals.
            let _ = tokio::signal::ctrl_c().await;
        })
        .await;
    Ok(())
}
