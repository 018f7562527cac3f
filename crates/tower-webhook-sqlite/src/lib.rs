//! SQLite for [`tower_webhook`]: the idempotency store, the queue, the dead letters and the accepted
//! events in one file.
//!
//! For services that run on one machine and have no database server. State survives restarts and loss
//! of power; any number of processes may share the file, on a local file system. SQLite is compiled in.
//!
//! | Type | Implements | Keeps |
//! | --- | --- | --- |
//! | [`SqliteStore`] | [`idempotency::Store`](tower_webhook::idempotency::Store) | the claims of keys, and the stored responses |
//! | [`SqliteQueue`] | [`queue::Engine`](tower_webhook::queue::Engine) | jobs, their status and their results |
//! | [`SqliteDeadLetters`] | [`dead_letter::Sink`](tower_webhook::dead_letter::Sink), [`LetterStore`](tower_webhook::dead_letter::LetterStore) | dead-letter entries, to be listed and sent again |
//! | [`AcceptedEvents`] | | accepted events, each once, with its job; the audit log of operators |
//! | [`Database`] | | the file, shared by all of these and by tables of your own |
//!
//! The first three open a file of their own with `open`, or share a [`Database`] with `new`. In a
//! shared one, several of them can be changed in one transaction, together with your own tables:
//! [`SqliteQueue::enqueue_in`], [`SqliteQueue::settle_in`], [`SqliteDeadLetters::write_in`].
//!
//! # Examples
//!
//! Each event becomes one job, and a job that fails for good becomes an entry:
//!
//! ```
//! use http::{HeaderName, Request, Response};
//! use std::time::Duration;
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_webhook::{
//!     BoxError, IdempotencyLayer,
//!     body::BufferedBody,
//!     dead_letter::{DeadLetters, Filter, LetterStore},
//!     idempotency::KeySource,
//!     queue::{Job, NewJob, Queue, Worker},
//!     retry::RetryConfig,
//! };
//! use tower_webhook_sqlite::{Database, SqliteDeadLetters, SqliteQueue, SqliteStore};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("webhooks.db");
//! let database = Database::open(path)?;
//! let store = SqliteStore::new(&database)?;
//! let queue = Queue::new(SqliteQueue::new(&database)?);
//! let entries = SqliteDeadLetters::new(&database)?;
//!
//! // Receive: a repeated event is answered from the store. (Verify its signature before this layer.)
//! let key = KeySource::header(HeaderName::from_static("webhook-id"));
//! let jobs = queue.clone();
//! let endpoint = IdempotencyLayer::webhook(store, key).layer(service_fn(
//!     move |req: Request<BufferedBody>| {
//!         let jobs = jobs.clone();
//!         async move {
//!             jobs.enqueue(NewJob::new("event", req.into_body().into_bytes())).await?;
//!             Ok::<_, BoxError>(Response::new(BufferedBody::default()))
//!         }
//!     },
//! ));
//! for _ in 0..2 {
//!     let event = Request::post("/hooks").header("webhook-id", "evt_1").body("{}".into())?;
//!     assert_eq!(endpoint.clone().oneshot(event).await?.status(), 200);
//! }
//! assert_eq!(queue.depth().await?.queued, 1);
//!
//! // Work: this handler always fails, and has one attempt.
//! let worker = Worker::builder(queue.clone())
//!     .retry(RetryConfig::builder().attempts(1).build()?)
//!     .dead_letters(DeadLetters::new(entries.clone()))
//!     .build(service_fn(|_: Job| async { Err::<(), BoxError>("no such order".into()) }))?
//!     .spawn();
//! while queue.depth().await?.unfinished() > 0 {
//!     tokio::time::sleep(Duration::from_millis(5)).await;
//! }
//! worker.stop(Duration::from_secs(1)).await;
//! assert_eq!(entries.count(&Filter::all()).await?, 1);
//!
//! database.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Errors
//!
//! What the [`Database`] fails with is a [`DatabaseError`](database::DatabaseError), whose
//! [`DatabaseErrorKind`](database::DatabaseErrorKind) has more detail than the
//! [`StoreErrorKind`](tower_webhook::StoreErrorKind) that the layers and workers see. Each type
//! answers with a [`StoreError`](tower_webhook::StoreError) whose source is the `DatabaseError`:
//!
//! | `DatabaseErrorKind` | `SqliteStore` | `SqliteQueue`, `AcceptedEvents` | `SqliteDeadLetters` |
//! | --- | --- | --- | --- |
//! | `Busy` | `Timeout` | `Timeout` | `Timeout` |
//! | `Closed` | `Unavailable` | `Closed` | `Closed` |
//! | `Corrupt` | `Unavailable` | `Corrupt` | `Unavailable` |
//! | `DiskFull` | `Unavailable` | `Full` | `Full` |
//! | `Full` | `Full` | `Full` | `Full` |
//! | `Mistyped` | `Corrupt` | `Corrupt` | `Corrupt` |
//! | any other | `Unavailable` | `Unavailable` | `Unavailable` |
//!
//! Errors that do not come from the file:
//!
//! | Kind | When |
//! | --- | --- |
//! | `Full` | the queue has [`max_jobs`](queue::SqliteQueueBuilder::max_jobs) jobs in hand, or the store [`max_entries`](SqliteDeadLetters::max_entries) entries |
//! | `TooLarge` | a payload, a result, a name or an entry is longer than its bound |
//! | `Corrupt` | the record of an entry is damaged |
//! | `NewerSchema` | a newer release wrote the record of an entry |
//!
//! # Releases
//!
//! A file that an older release made is brought up to date when it is opened. A file whose tables a
//! newer release made is refused as [`OpenError::NewerSchema`](database::OpenError::NewerSchema), and
//! nothing in it is changed. Stop the processes of the older release before you open a file with the
//! newer one: the tables may get other names.
#![forbid(unsafe_code)]
#![warn(missing_docs, missing_debug_implementations, unreachable_pub)]
#![warn(
    clippy::expect_used,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used
)]
#![cfg_attr(test, allow(clippy::expect_used, clippy::unwrap_used))]

pub mod database;
pub mod dead_letter;
pub mod events;
pub mod idempotency;
pub mod queue;
mod stored;

#[doc(inline)]
pub use self::{
    database::Database,
    dead_letter::SqliteDeadLetters,
    events::{AcceptedEvent, AcceptedEvents},
    idempotency::SqliteStore,
    queue::SqliteQueue,
};

/// The code of this crate's README, as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
