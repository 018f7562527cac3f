//! Accept now and process later; what fails for good, and its way back.
//!
//! A sender waits for seconds; work may take minutes, or its peer may be down for a day. A
//! [`Queue`](crate::queue::Queue) keeps the work until a [`Worker`](crate::queue::Worker) has done it. The example keeps it in
//! memory; with `SqliteQueue::open("queue.db")?` of `tower-webhook-sqlite` it is on the disk before the sender has its answer,
//! and what a `kill -9` interrupts is run again.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use std::{sync::Arc, time::Duration};
//! use tower_webhook::{
//!     BoxError,
//!     dead_letter::{DeadLetters, Filter, LetterStore, MemoryDeadLetters, Page, redrive::Redrive},
//!     queue::{JobContext, JobError, JobKind, MemoryQueue, NewJob, Queue, Worker},
//!     retry::RetryConfig,
//! };
//!
//! #[derive(Serialize, Deserialize)]
//! struct SendInvoice {
//!     id: u64,
//! }
//!
//! impl JobKind for SendInvoice {
//!     const KIND: &'static str = "send-invoice";
//! }
//!
//! async fn send_invoice(invoice: SendInvoice, job: JobContext) -> Result<(), JobError> {
//!     match invoice.id {
//!         0 => Err(JobError::permanent("there is no invoice 0")), // no second attempt
//!         id => Ok(println!("invoice {id}, attempt {}", job.attempt)), // any other error is tried again
//!     }
//! }
//!
//! # tokio_test::block_on(async {
//! let queue = Queue::new(MemoryQueue::default());
//! let letters = MemoryDeadLetters::default();
//! let worker = Worker::builder(queue.clone())
//!     .handle(send_invoice)
//!     .concurrency(16)
//!     .retry(RetryConfig::builder().attempts(5).build()?)
//!     .dead_letters(DeadLetters::new(letters.clone()))
//!     .build()?
//!     .spawn();
//!
//! queue.push(SendInvoice { id: 7 }).key("invoice-7").await?; // with this key once, however often it is pushed
//! queue.push(SendInvoice { id: 0 }).await?;
//!
//! // What failed for good is a dead letter, with the reason and the attempts.
//! # while letters.count(&Filter::all()).await? == 0 || queue.depth().await?.queued + queue.depth().await?.running > 0 {
//! #     tokio::time::sleep(Duration::from_millis(5)).await;
//! # }
//! let dead = letters.list(&Filter::all(), &Page::first(100)).await?;
//! assert_eq!((dead.entries.len(), dead.entries[0].cause.reason.as_str()), (1, "rejected"));
//!
//! // Once its cause is mended, it goes back into the queue: one entry, or all that match.
//! let requeue = Redrive::builder(Arc::new(letters)).requeue(queue, NewJob::of_entry)?;
//! assert_eq!(requeue.many(Filter::all(), "anna, ticket 4711").await?.accepted, 1);
//!
//! worker.stop(Duration::from_secs(5)).await; // jobs that have not finished are released
//! # Ok::<_, BoxError>(())
//! # }).unwrap();
//! ```
//!
//! # At the end of a receiver
//!
//! [`EnqueueService`](crate::queue::EnqueueService) stands where the handler would: it answers 202 with the id of the task once
//! the job is safe. [`TaskStatusService`](crate::queue::TaskStatusService) tells whoever knows the id how it went. With a
//! [deduplication key](crate::queue::EnqueueService::dedup_key) a repeat gets the id of the first.
//!
//! # Jobs that are requests
//!
//! [`handle_http`](crate::queue::WorkerBuilder::handle_http) sends a job's request through
//! [`stack::attempt()`](crate::stack::attempt()): one attempt with a breaker, a time limit and a signature. The worker repeats
//! it: put no retry layer inside.
//!
//! # What to rely on
//!
//! - A job runs at least once. It runs again if its worker dies after the work and before it has said so: make the work
//!   recognise [`JobContext::id`](crate::queue::JobContext).
//! - An attempt counts when it begins, so that a job that kills its worker is a dead letter in the end.
//! - The wait before the next attempt is in the queue, and survives a restart.
