//! Writes calls that failed for good to a sink, with what is needed to find the reason and to send them again.
//!
//! When a call has failed, [`DeadLetterLayer`] writes an [`Entry`] through [`DeadLetters`] to a [`Sink`], waits until
//! it is written, and then returns the response or the error. A call that succeeds, or whose caller dropped it, has
//! no entry.
//!
//! # Examples
//!
//! ```
//! use http::{Request, Response};
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_webhook::{
//!     BoxError, DeadLetterLayer,
//!     body::BufferedBody,
//!     dead_letter::{DeadLettered, DeadLetters, MemoryDeadLetters},
//! };
//!
//! # tokio_test::block_on(async {
//! let store = MemoryDeadLetters::default();
//! // A peer that no longer exists.
//! let peer = service_fn(|_: Request<BufferedBody>| async {
//!     Ok::<_, BoxError>(Response::builder().status(410).body(BufferedBody::from(""))?)
//! });
//! let client = DeadLetterLayer::new(DeadLetters::new(store.clone())).layer(peer);
//!
//! let req = Request::post("https://example.com/hooks").body(BufferedBody::from("{}"))?;
//! let res = client.oneshot(req).await?;
//! assert!(res.extensions().get::<DeadLettered>().is_some());
//! assert_eq!(store.len(), 1);
//! # Ok::<_, BoxError>(())
//! # }).unwrap();
//! ```
//!
//! # Order
//!
//! ```text
//! metrics(delivery) > DEAD LETTER > total deadline > retry > breaker > ... > transport
//! ```
//!
//! - Outside: the metrics of deliveries, and a `FallbackLayer`, which would hide the failure if it were
//!   inside. A time limit outside ends the caller's wait for the sink, but not the write. It also
//!   cancels the call, and a cancelled call has no entry: put the deadline of deliveries inside.
//! - Inside: every layer that can give a delivery up. With a retry layer outside, each attempt would
//!   have an entry; a call that an outer deadline ends has none.
//! - Inbound: inside the idempotency layer, because otherwise a repetition is dead-lettered again;
//!   outside the handler. The body must be in memory: put a
//!   [`BufferBodyLayer`](crate::BufferBodyLayer) outside.
//!
//! # Settings
//!
//! Of the layer:
//!
//! | Setting | Default | Meaning |
//! | --- | --- | --- |
//! | [`classifier`](DeadLetterLayer::classifier) | HTTP; in a stack, that of the stack | decides which results have failed |
//! | [`peer`](DeadLetterLayer::peer) | [`ByHost`](crate::peer::ByHost) | names the target of an entry |
//! | [`describe`](DeadLetterLayer::describe) | [`HttpRequests`] | fills in the entry of a request |
//! | [`redaction`](DeadLetterLayer::redaction) | [`Redaction::new`] | removes secrets from entries |
//! | [`direction`](DeadLetterLayer::direction) | outbound | direction of the requests |
//! | [`body_limit`](DeadLetterLayer::body_limit) | 256 KiB | bytes of a body that an entry keeps; a longer one is cut |
//! | [`clock`](DeadLetterLayer::clock) | the system clock | dates entries |
//! | [`with_copies`](DeadLetterLayer::with_copies) | off | hands the copy of the request to the layer inside, for [`WithCopies`](crate::retry::WithCopies) |
//!
//! Of the writer, [`DeadLetters`]:
//!
//! | Setting | Default | Meaning |
//! | --- | --- | --- |
//! | [`fallback`](DeadLetters::fallback) | none | second sink, for what the first does not take |
//! | [`time_limit`](DeadLetters::time_limit) | 5 s | time limit of each sink for an entry |
//! | [`observe`](DeadLetters::observe) | none except `tracing` | adds an observer of [`Event::DeadLettered`](crate::observe::Event::DeadLettered) and [`Event::Lost`](crate::observe::Event::Lost) |
//!
//! Of the stores, [`MemoryDeadLetters`] and [`JsonlDeadLetters`]:
//!
//! | Setting | Default | Meaning |
//! | --- | --- | --- |
//! | [`max_entries`](MemoryDeadLettersBuilder::max_entries) | 10,000 | entries |
//! | [`max_bytes`](MemoryDeadLettersBuilder::max_bytes) | 64 MiB | bytes of all entries |
//! | [`drop_oldest`](MemoryDeadLettersBuilder::drop_oldest) | off | drops the oldest entries instead of refusing new ones |
//! | [`observe`](MemoryDeadLettersBuilder::observe) | none except `tracing` | adds an observer of entries that were dropped |
//! | [`max_bytes`](JsonlDeadLettersBuilder::max_bytes) of the file | 64 MiB | bytes of all lines |
//! | [`max_entry_bytes`](JsonlDeadLettersBuilder::max_entry_bytes) | 4 MiB | bytes of the longest line |
//! | [`max_waiting`](JsonlDeadLettersBuilder::max_waiting) | 1,024 | operations that wait for the thread of the file |
//! | [`observe`](JsonlDeadLettersBuilder::observe) | none except `tracing` | adds an observer of trouble with the file |
//!
//! # Errors
//!
//! | The entry | A failed response | An error |
//! | --- | --- | --- |
//! | is in the sink, or in the fallback sink | has a [`DeadLettered`] extension | is unchanged |
//! | could not be written | has a `DeadLettered` extension with the [reason](DeadLettered::not_written) | is wrapped in an [`EntryLost`] with the reason |
//!
//! A call that panics has failed: its entry has [`Reason::Panicked`], and the panic continues in the caller's poll once
//! the entry is written. The same holds for a panic of the [peer key](DeadLetterLayer::peer), whose entry has no target.
//!
//! If the inner service fails to become ready (`poll_ready`), there is no request yet: the error goes to
//! the caller, and there is no entry. If a retry layer gives up because its inner service is no longer
//! ready, there is an entry: [`Reason::NotReady`].
//!
//! # Cancel safety
//!
//! A response future that is dropped before its call has failed leaves no entry. Once the call has
//! failed, a separate task writes the entry: dropping the future does not stop it, and observers are
//! told. Only if the entries of dropped calls hold more than 64 MiB, because a sink is slow, does it end there: the
//! entry is lost, and observers are told of that. The task ends with its runtime, so let deliveries end before you shut the runtime down. Outside
//! a tokio runtime there are no tasks, and dropping the future stops the write.
//!
//! # Cost
//!
//! One copy of each request, with one allocation besides those of the copy itself. In the ready-made
//! stack the retry layer takes that [copy](crate::attempt::Copied). All other work is done only
//! when a call has failed.
//!
//! # The reason
//!
//! The [`Reason`] is one of a closed set. It is derived from what the inner layers report: the
//! [`History`](crate::attempt::History) of a retry layer, a
//! [`DeadlineExceeded`](crate::deadline::DeadlineExceeded), the mark of an open circuit
//! ([`LocallyRefused::by_circuit`](crate::outcome::LocallyRefused::by_circuit)). History and times are
//! those of the retry layer. Without a history (no retry layer, or a deadline ended its call) the entry
//! has one attempt, which represents the whole call.
//!
//! A streamed response whose outcome is known at its end (gRPC, behind a
//! [`GrpcPeekLayer`](crate::grpc::GrpcPeekLayer)) is returned at once. If it then fails, its entry is
//! written in the background, without a history.
//!
//! Credentials are kept out of entries: see [`Redaction`].
//!
//! # A sink of your own
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
//! /// Any storage: a table, a queue, a file.
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
//! let dead_letters = DeadLetters::new(table.clone())
//!     .observe(observer_fn(|event| eprintln!("{event:?}")));
//!
//! // A peer that no longer exists.
//! let peer = service_fn(|_: Request<BufferedBody>| async {
//!     Ok::<_, BoxError>(Response::builder().status(410).body(BufferedBody::from(""))?)
//! });
//! let service = DeadLetterLayer::new(dead_letters).layer(peer);
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
pub mod json;
mod jsonl;
mod layer;
mod memory;
mod redaction;
pub mod redrive;
mod state;
mod store;
mod writer;

#[cfg(feature = "queue")]
pub(crate) use self::redaction::MOST_TEXT;
pub use self::{
    describe::{Describe, DescribeFn, DescribeResponse, describe_fn},
    entry::{Cause, Direction, Entry, EntryBody, EntryId, NotAnId, Reason},
    error::{CallError, DeadLettered, EntryLost},
    http::{CallbackSink, HttpRequests},
    jsonl::{JsonlDeadLetters, JsonlDeadLettersBuilder, OpenDeadLettersError},
    layer::{DeadLetter, DeadLetterLayer, ResponseFuture, WithCopy},
    memory::{MemoryDeadLetters, MemoryDeadLettersBuilder},
    redaction::Redaction,
    store::{Cursor, Discarded, EntryClaim, Filter, LetterStore, Listing, Page, Sink, Summary},
    writer::{DeadLetters, NotWritten, WriteOutcome},
};
