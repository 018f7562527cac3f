//! What could not be delivered is kept, with everything that is needed to see why and to try again.
//!
//! [`DeadLetterLayer`] asks the [`Outcome`](crate::outcome::Outcome) of each call whether work is
//! left undone. Where it is, it writes a [`Entry`] by way of [`DeadLetters`] to a [`Sink`], waits
//! until it is there, and then returns the answer or the error as it was. A call that goes well, and
//! one whose caller went away, leave no entry. A call that panics has failed: its entry says
//! [`Reason::Panicked`], and when it is written the panic goes on where the call is polled. So does
//! a panic of the [key](DeadLetterLayer::key), whose entry has no target.
//!
//! | What became of the entry | A failed answer | An error |
//! | --- | --- | --- |
//! | it is in the sink, or in the fallback sink | has a [`DeadLettered`] among its extensions | is the same |
//! | no sink took it | has a `DeadLettered` that [says why](DeadLettered::not_written) | is inside a [`EntryLost`], which says why |
//!
//! The [observers](DeadLetters::observe) of the writer are told of all of them
//! ([`Event::DeadLettered`](crate::observe::Event::DeadLettered),
//! [`Event::Lost`](crate::observe::Event::Lost)), and so are the metrics of a `stack`.
//!
//! Why it was given up is one of a closed set of [`Reason`]s, found in what the layers inside have
//! said: the [`History`](crate::attempt::History) of a retry layer, a
//! [`DeadlineExceeded`](crate::deadline::DeadlineExceeded), the mark of an open circuit
//! ([`LocallyRefused::by_circuit`](crate::outcome::LocallyRefused::by_circuit)). The history and
//! the times of the attempts are those of the retry layer; where none tells them (there is none, or
//! the deadline has cut its call) one attempt stands for all.
//!
//! A service inside that fails to become ready (`poll_ready`) has no request yet: the error is the
//! caller's, who still has it, and there is no entry. Where a service inside that is no longer ready
//! stops the attempts on a request, as a retry layer tells it, there is one: [`Reason::NotReady`].
//!
//! Credentials do not get into an entry: see [`Redaction`].
//!
//! A streamed answer that is judged at its end (gRPC, behind a
//! [`GrpcPeekLayer`](crate::grpc::GrpcPeekLayer)) is returned at once, and where it then ends badly
//! its entry is written in the background, without a history.
//!
//! # Order
//!
//! ```text
//! metrics(delivery) > DEAD LETTER > total deadline > retry > breaker > ... > transport
//! ```
//!
//! - Outside: the metrics of deliveries. A `FallbackLayer`, too: inside, it
//!   would hide the failure. A time limit outside cuts the caller's wait for the sink, and not the
//!   entry; it is a cancellation to everything inside, though, so the one that ends deliveries
//!   stands inside.
//! - Inside: everything that gives a delivery up. A retry layer outside writes an entry for each
//!   attempt; a deadline outside is not seen, and what it cuts is lost.
//! - Inbound, inside the idempotency layer, or a repetition is dead-lettered once more; outside the
//!   handler. The body must be in memory: a [`BufferBodyLayer`](crate::BufferBodyLayer) outside.
//!
//! # What it costs
//!
//! One copy of each request, in one allocation beside those of the copy itself; in the ready-made
//! stack the retry layer [shares](DeadLetterLayer::share_copy) it and makes none of its own. All
//! else happens where a call has failed.
//!
//! # Cancel safety
//!
//! A response future that is dropped before its call has failed leaves no entry. From the moment
//! of the failure the entry is written by a task of its own: dropping the future then stops
//! nothing, and observers are told as ever. The task ends with its runtime, so let deliveries end
//! before you shut that down. Outside a tokio runtime there are no tasks, and dropping the future
//! stops the write.
//!
//! # Examples
//!
//! ```
//! use http::{Request, Response};
//! use std::sync::{Arc, Mutex};
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_webhook::{
//!     BoxError, BoxFuture, DeadLetterLayer,
//!     body::BufferedBody,
//!     StoreError,
//!     dead_letter::{DeadLettered, DeadLetters, Entry, Reason, Sink},
//!     observe::observer_fn,
//! };
//!
//! /// Any place: a table, a queue, a file.
//! #[derive(Clone, Debug, Default)]
//! struct Table(Arc<Mutex<Vec<Arc<Entry>>>>);
//!
//! impl Sink for Table {
//!     fn write(&self, entry: &Arc<Entry>) -> BoxFuture<Result<(), StoreError>> {
//!         self.0.lock().unwrap().push(Arc::clone(entry));
//!         Box::pin(async { Ok(()) })
//!     }
//! }
//!
//! # tokio_test::block_on(async {
//! let table = Table::default();
//! let entries = DeadLetters::new(table.clone())
//!     .observe(observer_fn(|event| eprintln!("{event:?}")));
//!
//! // A peer that is no more.
//! let peer = service_fn(|_: Request<BufferedBody>| async {
//!     Ok::<_, BoxError>(Response::builder().status(410).body(BufferedBody::from(""))?)
//! });
//! let service = DeadLetterLayer::new(entries).layer(peer);
//!
//! let req = Request::post("https://example.com/hooks?token=abc")
//!     .header("webhook-id", "msg_1")
//!     .header("authorization", "Bearer abc")
//!     .body(BufferedBody::from("{}"))?;
//! let res = service.oneshot(req).await?;
//!
//! assert_eq!(res.status(), 410);
//! let dead_lettered: &DeadLettered = res.extensions().get().ok_or("it was dead-lettered")?;
//! let entry = table.0.lock().unwrap()[0].clone();
//! assert_eq!((entry.id, entry.cause.reason), (dead_lettered.id(), Reason::Rejected));
//! assert_eq!(entry.uri.as_deref(), Some("https://example.com/hooks?token=redacted"));
//! assert_eq!(entry.headers.len(), 1, "the credential is left out");
//! # Ok::<_, BoxError>(())
//! # }).unwrap();
//! ```

pub(crate) mod cause;
pub mod contract;
mod describe;
mod entry;
mod error;
mod http;
mod index;
pub mod json;
mod jsonl;
mod layer;
mod memory;
mod redaction;
pub mod redrive;
pub mod sink;
mod store;
mod writer;

#[cfg(feature = "sqlite")]
#[cfg_attr(docsrs, doc(cfg(feature = "sqlite")))]
pub use self::sink::sqlite::SqliteDeadLetters;
pub use self::{
    describe::{Describe, DescribeAnswer, DescribeFn, describe_fn},
    entry::{Cause, Direction, Entry, EntryBody, EntryId, NotAnId, Reason},
    error::{CallError, DeadLettered, EntryLost},
    http::{CallbackSink, HttpRequests},
    jsonl::{JsonlDeadLetters, JsonlDeadLettersBuilder, OpenDeadLettersError},
    layer::{DeadLetter, DeadLetterLayer, ResponseFuture},
    memory::{MemoryDeadLetters, MemoryDeadLettersBuilder},
    redaction::Redaction,
    store::{
        Cursor, Discarded, EntryClaim, Filter, LetterStore, Listing, NotACursor, Page, Sink,
        Summary,
    },
    writer::{DeadLetters, NotWritten, WriteOutcome},
};
