//! Deliveries from a command line, with jobs and dead letters in one file. Any number of these processes may share it.
//!
//! ```sh
//! jobs() { cargo run -q -p tower-webhook-sqlite --example worker_cli -- jobs.db "$@"; }
//! jobs push http://127.0.0.1:8080/hooks '{"id": 7}'
//! jobs work          # until Ctrl-C; `work --idle` ends when nothing is left
//! jobs list          # what waits and runs
//! jobs cancel TASK
//! jobs dead          # what failed for good, and why
//! jobs requeue ENTRY # or `all`
//! ```

use http::Request;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{env, sync::Arc, time::Duration};
use tower_webhook::{
    BoxError,
    body::BufferedBody,
    dead_letter::{DeadLetters, Filter, LetterStore, Page, redrive::Redrive},
    queue::{HttpJob, JobFilter, JobKind, NewJob, Queue, Worker},
    retry::RetryConfig,
    stack, transport,
};
use tower_webhook_sqlite::{Database, SqliteDeadLetters, SqliteQueue};

const USAGE: &str = "usage: worker_cli FILE push URL JSON | work [--idle] | list | cancel TASK | dead | requeue ENTRY | requeue all";

#[derive(Serialize, Deserialize)]
struct Delivery {
    url: String,
    event: Value,
}

impl JobKind for Delivery {
    const KIND: &'static str = "delivery";
}

impl HttpJob for Delivery {
    fn request(&self) -> Result<Request<BufferedBody>, BoxError> {
        Ok(transport::post_json(&self.url, &self.event)?)
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let [file, command @ ..] = args.as_slice() else {
        return Err(USAGE.into());
    };
    let database = Database::open(file)?;
    let queue = Queue::new(SqliteQueue::new(&database)?);
    let dead = SqliteDeadLetters::new(&database)?;

    match *command {
        ["push", url, event] => {
            let (url, event) = (url.to_owned(), serde_json::from_str(event)?);
            println!("{}", queue.push(Delivery { url, event }).await?.id);
        }
        ["work"] => {
            let until_told = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
            worker(&queue, &dead)?.run(until_told).await;
        }
        ["work", "--idle"] => {
            worker(&queue, &dead)?.run(until_idle(&queue)).await;
        }
        ["list"] => {
            for job in queue.list(JobFilter::default(), None, 100).await?.jobs {
                let (status, wait) = (job.status.as_str(), job.due_in);
                println!(
                    "{}: {status}, {} attempts, due in {wait:?}",
                    job.id, job.attempts
                );
            }
        }
        ["cancel", task] => match queue.cancel(task.parse()?).await? {
            Some(status) => println!("{}", status.as_str()),
            None => return Err(format!("there is no task {task}").into()),
        },
        ["dead"] => {
            for entry in dead.list(&Filter::all(), &Page::first(100)).await?.entries {
                println!(
                    "{}: {} after {} attempts",
                    entry.id, entry.cause.reason, entry.attempts
                );
            }
        }
        ["requeue", which] => {
            let requeue = Redrive::builder(Arc::new(dead)).requeue(queue, NewJob::of_entry)?;
            if which == "all" {
                println!(
                    "{} are queued again",
                    requeue.many(Filter::all(), "cli").await?.accepted
                );
            } else {
                println!("{}", requeue.one(which.parse()?, "cli").await?.as_str());
            }
        }
        _ => return Err(USAGE.into()),
    }
    database.close().await;
    Ok(())
}

fn worker(queue: &Queue, dead: &SqliteDeadLetters) -> Result<Worker, BoxError> {
    let client = transport::reqwest(reqwest::Client::new());
    let attempt = stack::attempt()
        .attempt_timeout(Duration::from_secs(10))
        .build()?;
    let worker = Worker::builder(queue.clone())
        .handle_http::<Delivery>(attempt.layer(client))
        .retry(RetryConfig::builder().attempts(3).build()?)
        .dead_letters(DeadLetters::new(dead.clone()))
        .build()?;
    Ok(worker)
}

async fn until_idle(queue: &Queue) {
    while !queue
        .depth()
        .await
        .is_ok_and(|depth| depth.queued + depth.running == 0)
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
