//! Dead letters are sent again.
//!
//! A [`Redrive`] takes entries out of any [`LetterStore`](super::LetterStore) and sends them with
//! any tower service:
//!
//! ```text
//!  list > claim > make the request > wait for the rate > send > judge --success--> remove
//!           |                                                     |
//!           +-- in progress, spent, missing: passed over          +--failure--> release, with the
//!                                                                     newest cause and history
//! ```
//!
//! - Two who want the same do it once: an entry is claimed before it is sent, and the claim is
//!   renewed while it is.
//! - An entry is removed after it was accepted, and never before. A store that does not remove it is
//!   asked again for as long as the claim lasts, which is renewed meanwhile, up to five leases.
//! - An entry is sent again no more than [`max_replays`](RedriveBuilder::max_replays) times. The
//!   claim counts, so that an entry that kills its sender does not do so for ever. What our own
//!   side refused (an open breaker) does not count.
//! - A run sees each entry once. It goes from the newest to the oldest, so what is written while it
//!   runs is for the next one. A run that ended early is started again; what was accepted is gone.
//!
//! # Order
//!
//! The service is a whole delivery, as `stack::deliver()` makes it: what is
//! in an entry was sent with retries, and is sent again with them. Its time limits bound how long a
//! entry is held. No [`DeadLetterLayer`](super::DeadLetterLayer) stands in it: an entry that fails
//! again would be written once more, beside the one that stays. Credentials and signatures are not
//! in entries, so what puts them onto requests stands inside.
//!
//! # What the peer sees
//!
//! At least once: where the process dies between the peer's answer and the removal, or the store is
//! away for longer than the lease, the entry is sent another time. Its idempotency key is sent with
//! it, so that the peer can tell.
//!
//! # Cancel safety
//!
//! Nothing is lost when [`one`](Redrive::one) or a run is dropped. An entry that was not sent yet is
//! given back as it was; one that was being sent is given back with its replay counted, because
//! the peer may have had it; one that was accepted is removed. That is done by a task of its own on
//! the runtime; where there is none any more, the claim ends with its lease. To end a run between
//! two entries there is [`Stop`].
//!
//! # Examples
//!
//! ```
//! # #[cfg(feature = "sqlite")]
//! # tokio_test::block_on(async {
//! use http::{Request, Response};
//! use std::{sync::Arc, time::SystemTime};
//! use tower::service_fn;
//! use tower_webhook::{
//!     BoxError,
//!     body::BufferedBody,
//!     dead_letter::{
//!         Cause, Filter, Entry, EntryId, LetterStore, Reason, Sink, SqliteDeadLetters,
//!         redrive::Redrive,
//!     },
//! };
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("entries.db");
//! let store = Arc::new(SqliteDeadLetters::open(path)?);
//! let cause = Cause::new(Reason::RetriesExhausted).with_code(Some(503));
//! let id = EntryId::random();
//! let mut entry = Entry::new(id, "http", "peer.example", cause, SystemTime::now());
//! entry.method = Some("POST".to_owned());
//! entry.uri = Some("https://peer.example/hooks".to_owned());
//! store.write(&Arc::new(entry)).await?;
//!
//! // A client in `stack::deliver()`. Here a peer that has come back.
//! let client = service_fn(|req: Request<BufferedBody>| async move {
//!     assert_eq!(req.uri().path(), "/hooks");
//!     Ok::<_, BoxError>(Response::new(BufferedBody::default()))
//! });
//! let redrive = Redrive::builder(store.clone()).rate(50.0).build(client)?;
//! let of_it = Filter::all().target("peer.example");
//! let report = redrive.many(of_it, "anna, ticket 4711").await?;
//!
//! assert_eq!((report.counts.matched, report.counts.accepted), (1, 1));
//! assert_eq!(store.count(&Filter::all()).await?, 0);
//! # Ok::<_, BoxError>(())
//! # }).unwrap();
//! ```

mod builder;
mod call;
mod claim;
mod driver;
mod http;
mod many;
mod pace;
mod report;
mod resend;
mod send;
mod several;
mod stop;

pub use self::{
    builder::RedriveBuilder,
    driver::Redrive,
    http::ResendHttp,
    many::Run,
    report::{Counts, Redriven, Report, RunFailed},
    resend::{NotSendable, ReadHistory, Resend, ResendFn},
    stop::Stop,
};
