//! Re-drive: sends dead-letter entries again.
//!
//! A [`Redrive`] claims entries in any [`LetterStore`] and sends them with any tower service. An entry that was
//! accepted is removed. The entry of a job of a queue can go [back into the queue](RedriveBuilder::requeue) instead.
//!
//! # Examples
//!
//! ```
//! # tokio_test::block_on(async {
//! use http::{Request, Response};
//! use std::{sync::Arc, time::SystemTime};
//! use tower::service_fn;
//! use tower_webhook::{
//!     BoxError,
//!     body::BufferedBody,
//!     dead_letter::{
//!         Cause, Entry, EntryId, Filter, LetterStore, MemoryDeadLetters, Reason, Sink,
//!         redrive::Redrive,
//!     },
//! };
//!
//! let store = Arc::new(MemoryDeadLetters::default());
//! let cause = Cause::new(Reason::RetriesExhausted).with_code(Some(503));
//! let id = EntryId::random();
//! let mut entry = Entry::new(id, "http", "peer.example", cause, SystemTime::now());
//! entry.method = Some("POST".to_owned());
//! entry.uri = Some("https://peer.example/hooks".to_owned());
//! store.write(&Arc::new(entry)).await?;
//!
//! // In practice a client in `stack::deliver()`. Here a peer that has recovered.
//! let client = service_fn(|req: Request<BufferedBody>| async move {
//!     assert_eq!(req.uri().path(), "/hooks");
//!     Ok::<_, BoxError>(Response::new(BufferedBody::default()))
//! });
//! let redrive = Redrive::builder(store.clone()).rate(50.0).build(client)?;
//! let filter = Filter::all().target("peer.example");
//! let report = redrive.many(filter, "anna, ticket 4711").await?;
//!
//! assert_eq!((report.matched, report.accepted), (1, 1));
//! assert_eq!(store.count(&Filter::all()).await?, 0);
//! # Ok::<_, BoxError>(())
//! # }).unwrap();
//! ```
//!
//! # Order
//!
//! The service is a whole delivery, as `stack::deliver()` builds it, with retries and a deadline. The
//! deadline limits how long an entry is claimed. The service must not contain a
//! [`DeadLetterLayer`](super::DeadLetterLayer): an entry that fails again would be written a second time.
//! Entries hold neither credentials nor signatures, so the layers that add them belong inside.
//!
//! # Settings
//!
//! | Setting | Default | Meaning |
//! | --- | --- | --- |
//! | [`rate`](RedriveBuilder::rate) | 10 | entries per second; [no limit](RedriveBuilder::no_rate) |
//! | [`concurrency`](RedriveBuilder::concurrency) | 4 | entries of a run that are sent at the same time |
//! | [`max_replays`](RedriveBuilder::max_replays) | 5 | times that an entry may be sent again |
//! | [`max_refusal_wait`](RedriveBuilder::max_refusal_wait) | 30 s | wait of a run for a target that this side refuses to call |
//! | [`lease`](RedriveBuilder::lease) | 60 s | time for which an entry stays claimed if the process dies |
//! | [`classifier`](RedriveBuilder::classifier) | [`HttpClassifier`] | decides which results accept an entry |
//! | [`to_request`](RedriveBuilder::to_request), [`resend`](RedriveBuilder::resend) | [`HttpRequests`] | makes the request of an entry |
//! | [`redaction`](RedriveBuilder::redaction) | [`Redaction::new`] | removes secrets from the cause of an entry that fails again |
//! | [`clock`](RedriveBuilder::clock) | the system clock | dates entries |
//! | [`observe`](RedriveBuilder::observe) | none except `tracing` | adds an observer of [`Event::Redriven`] |
//!
//! # Errors
//!
//! An error is one of the store: [`one`](Redrive::one) returns it, and a run ends with [`RunFailed`], which holds the
//! report so far. What becomes of an entry is no error but a [`Redriven`].
//!
//! # Cancel safety
//!
//! Dropping the future of [`one`](Redrive::one) or of a run loses nothing. An entry that was not sent yet
//! is released unchanged. An entry that was being sent is released with its replay counted, because the
//! peer may have received it. An accepted entry is removed. A separate task does this; without a
//! runtime, the claim ends with its lease. [`Stop`] ends a run between two entries.
//!
//! # How an entry is sent
//!
//! ```text
//!  list > claim > make the request > wait for the rate > send > judge --success--> remove
//!           |                                                     |
//!           +-- in progress, spent, missing: skipped              +--failure--> release, with the
//!                                                                     newest cause and history
//! ```
//!
//! - If two callers re-drive the same entry, only one sends it: an entry is claimed before it is sent, and
//!   the claim is renewed until the call has ended.
//! - An entry is removed only after it was accepted. If the store fails to remove it, the removal is
//!   repeated, and the claim renewed, for at most five leases. It counts even if the lease has ended, as long
//!   as nobody has claimed the entry since.
//! - If the claim cannot be renewed, the call is dropped before the lease ends. If the process stood still beyond
//!   that (a machine that slept), it goes on with the call unless another has claimed the entry, and begins none
//!   before the claim was renewed.
//! - An entry is sent again at most [`max_replays`](RedriveBuilder::max_replays) times. The claim counts,
//!   so an entry that kills its process is not sent for ever. A call that this side refused (an open
//!   breaker) does not count.
//! - A run handles each entry once, from the newest to the oldest. Entries that are written while it
//!   runs are left to the next run. A run that ended early can be started again; the accepted entries
//!   have been removed by then.
//!
//! # Delivery guarantee
//!
//! At least once: if the process dies between the peer's response and the removal, or the store is
//! unavailable while the lease ends, the entry may be sent again. Its idempotency key is sent with it,
//! so that the peer recognizes the repetition.

mod many;
mod one;
mod report;
mod resend;

pub use self::{
    many::{Run, Stop},
    report::{Redriven, Report, RunFailed},
    resend::{NotSendable, Resend},
};

use self::many::Pace;
use super::{
    Cursor, DescribeResponse, Entry, EntryId, Filter, HttpRequests, LetterStore, Redaction,
};
use crate::{
    IntoBoxError, InvalidConfig, StoreError,
    clock::WallClock,
    observe::{Event, Id, Observer, Observers},
    outcome::{Classify, HttpClassifier, MakeClassifier},
};
use std::{fmt, sync::Arc, time::Duration};
use tower_service::Service;

/// Sends dead-letter entries again. See the [module docs](self). Clones share the rate limit.
#[derive(Clone)]
pub struct Redrive<S, M = HttpClassifier, R = HttpRequests> {
    service: S,
    make: M,
    resend: R,
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn LetterStore>,
    settings: Settings,
    pace: Option<Pace>,
    observers: Observers,
}

#[derive(Clone, Debug)]
struct Settings {
    lease: Duration,
    max_replays: u32,
    concurrency: usize,
    max_refusal_wait: Duration,
    clock: WallClock,
    redaction: Redaction,
}

impl Redrive<()> {
    /// Returns a builder with the default settings, for the entries of `store`.
    pub fn builder(store: Arc<dyn LetterStore>) -> RedriveBuilder {
        RedriveBuilder::new(store)
    }
}

impl<S, M, R> Redrive<S, M, R> {
    /// The store that holds the entries.
    pub fn store(&self) -> &Arc<dyn LetterStore> {
        &self.shared.store
    }

    /// Sends one entry again. `by` names who asked for it; observers get the first 256 characters.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the store failed to claim the entry. Nothing was sent.
    ///
    /// # Cancel safety
    ///
    /// See the [module docs](self).
    pub fn one(
        &self,
        id: EntryId,
        by: &str,
    ) -> impl Future<Output = Result<Redriven, StoreError>> + use<S, M, R>
    where
        Self: Clone,
        S: Service<R::Request>,
        S::Error: IntoBoxError,
        M: MakeClassifier<R::Request>,
        M::Classifier: Classify<S::Response, S::Error>,
        R: Resend + DescribeResponse<S::Response>,
    {
        let (this, by) = (self.clone(), asked_by(by));
        async move {
            let shared = Arc::clone(&this.shared);
            let redriven = one::send(this, id, Stop::new()).await?;
            shared.tell(&by, id, &redriven, [1, 1], None);
            Ok(redriven)
        }
    }

    /// Sends all matching entries again, newest first. `by` names who asked for it.
    ///
    /// # Errors
    ///
    /// [`RunFailed`]: the store failed to list or claim entries. The error holds the report so far.
    ///
    /// # Cancel safety
    ///
    /// See the [module docs](self).
    pub fn many(
        &self,
        filter: Filter,
        by: &str,
    ) -> impl Future<Output = Result<Report, RunFailed>> + use<S, M, R>
    where
        Self: Clone,
        S: Service<R::Request>,
        S::Error: IntoBoxError,
        M: MakeClassifier<R::Request>,
        M::Classifier: Classify<S::Response, S::Error>,
        R: Resend + DescribeResponse<S::Response>,
    {
        self.run(Run::new(filter, by))
    }

    /// Like [`many`](Self::many), with a cursor to start from and a handle to stop the run.
    ///
    /// # Errors
    ///
    /// As [`many`](Self::many).
    ///
    /// # Cancel safety
    ///
    /// See the [module docs](self).
    pub fn run(&self, run: Run) -> impl Future<Output = Result<Report, RunFailed>> + use<S, M, R>
    where
        Self: Clone,
        S: Service<R::Request>,
        S::Error: IntoBoxError,
        M: MakeClassifier<R::Request>,
        M::Classifier: Classify<S::Response, S::Error>,
        R: Resend + DescribeResponse<S::Response>,
    {
        many::drive(self.clone(), run)
    }
}

impl Shared {
    /// The result of an entry whose claim was lost, of which observers are told.
    fn lost(&self) -> Redriven {
        let what = "dead_letter";
        self.observers.tell(|| Event::ClaimLost { what });
        Redriven::Lost
    }

    /// Reports the result of an entry. `far` is the number of done and of matched entries of the run.
    fn tell(
        &self,
        by: &str,
        id: EntryId,
        redriven: &Redriven,
        [done, total]: [u64; 2],
        cursor: Option<&Cursor>,
    ) {
        self.observers.tell(|| Event::Redriven {
            entry: Id::new(&id),
            by,
            result: redriven.as_str(),
            done,
            total,
            cursor: cursor.map(|cursor| Id::new(cursor)),
        });
    }
}

/// Cuts the name, because observers get it with each entry.
fn asked_by(by: &str) -> String {
    by.chars().take(256).collect()
}

impl<S, M, R> fmt::Debug for Redrive<S, M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redrive")
            .field("store", &self.shared.store)
            .field("settings", &self.shared.settings)
            .finish_non_exhaustive()
    }
}

/// Builder of a [`Redrive`]. Made by [`Redrive::builder`].
#[derive(Clone)]
#[must_use]
pub struct RedriveBuilder<M = HttpClassifier, R = HttpRequests> {
    store: Arc<dyn LetterStore>,
    settings: Settings,
    rate: Option<f64>,
    observers: Observers,
    make: M,
    resend: R,
}

impl RedriveBuilder {
    fn new(store: Arc<dyn LetterStore>) -> Self {
        Self {
            store,
            settings: Settings {
                lease: Duration::from_secs(60),
                max_replays: 5,
                concurrency: 4,
                max_refusal_wait: Duration::from_secs(30),
                clock: WallClock::system(),
                redaction: Redaction::new(),
            },
            rate: Some(10.0),
            observers: Observers::none(),
            make: HttpClassifier::new(),
            resend: HttpRequests,
        }
    }
}

impl<M, R> RedriveBuilder<M, R> {
    #[cfg(feature = "queue")]
    pub(crate) const fn store(&self) -> &Arc<dyn LetterStore> {
        &self.store
    }

    /// Sets the lease of a claim, renewed while the entry is sent. Default: 60 s; at most a day. If the
    /// process dies, the entry stays claimed for that time.
    pub const fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease;
        self
    }

    /// Sets how many times an entry may be sent again. Default: 5.
    pub const fn max_replays(mut self, replays: u32) -> Self {
        self.settings.max_replays = replays;
        self
    }

    /// Sets the rate limit, in entries per second. Default: 10; from 0.001 to 1,000,000. Start times are
    /// evenly spaced. This `Redrive` and all its clones share the limit.
    pub const fn rate(mut self, per_second: f64) -> Self {
        self.rate = Some(per_second);
        self
    }

    /// Removes the rate limit. Default: 10 entries per second. Entries are then sent as fast as
    /// [`concurrency`](Self::concurrency) and the service allow, which may overload a peer that has just
    /// recovered.
    pub const fn no_rate(mut self) -> Self {
        self.rate = None;
        self
    }

    /// Sets how many entries a run sends at the same time. Default: 4; at most 1,000.
    pub const fn concurrency(mut self, entries: usize) -> Self {
        self.settings.concurrency = entries;
        self
    }

    /// Sets how long a run waits for a target that this side refuses to call (an open breaker) before it
    /// skips the entries of that target. A run waits once for each target; zero never waits. Default:
    /// 30 s; at most a day.
    pub const fn max_refusal_wait(mut self, wait: Duration) -> Self {
        self.settings.max_refusal_wait = wait;
        self
    }

    /// Sets the clock of the times in entries. Default: the system clock.
    pub fn clock(mut self, clock: WallClock) -> Self {
        self.settings.clock = clock;
        self
    }

    /// Sets the redaction of the [cause](crate::dead_letter::Cause) of an entry that fails again. Default:
    /// [`Redaction::new`]. The redaction gets the whole entry, but only its cause is used: the layer that
    /// wrote the rest may have allowed more.
    pub fn redaction(mut self, redaction: Redaction) -> Self {
        self.settings.redaction = redaction;
        self
    }

    /// Adds an observer of each entry that is sent again or skipped: [`Event::Redriven`] has the entry, the
    /// result, the name of who asked for it, and the progress of the run. If the
    /// claim of an entry is lost, an [`Event::ClaimLost`] precedes it. Default: none except
    /// `tracing`.
    ///
    /// [`Event::ClaimLost`]: crate::observe::Event::ClaimLost
    /// [`Event::Redriven`]: crate::observe::Event::Redriven
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.observers = self.observers.and(observer);
        self
    }

    /// Sets the classifier of results: only [`Success`](crate::outcome::OutcomeKind::Success) removes an
    /// entry. Default: [`HttpClassifier`].
    ///
    /// It classifies the head of a response. If the outcome is known only at the end of the response (a
    /// streamed gRPC call), the service must read the response to its end first.
    pub fn classifier<M2>(self, make: M2) -> RedriveBuilder<M2, R> {
        RedriveBuilder {
            store: self.store,
            settings: self.settings,
            rate: self.rate,
            observers: self.observers,
            make,
            resend: self.resend,
        }
    }

    /// Sets a function that makes the request of an entry, for requests that are not HTTP, or that need
    /// credentials or another URI. Default: [`HttpRequests`]. An entry for which the function panics is
    /// unsendable.
    pub fn to_request<F, Req>(self, make: F) -> RedriveBuilder<M, F>
    where
        F: Fn(&Entry) -> Result<Req, NotSendable>,
    {
        self.resend(make)
    }

    /// Sets a type that makes the requests of entries and reads the attempt history of responses. Default:
    /// [`HttpRequests`].
    pub fn resend<R2>(self, resend: R2) -> RedriveBuilder<M, R2> {
        RedriveBuilder {
            store: self.store,
            settings: self.settings,
            rate: self.rate,
            observers: self.observers,
            make: self.make,
            resend,
        }
    }

    /// Builds a `Redrive` that sends with `service`.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] names the setting: `concurrency`, `lease`, `max_replays`, `max_refusal_wait` or
    /// `rate`.
    pub fn build<S>(self, service: S) -> Result<Redrive<S, M, R>, InvalidConfig> {
        const DAY: Duration = Duration::from_secs(86_400);
        let Settings {
            lease,
            max_replays,
            concurrency,
            max_refusal_wait,
            ..
        } = self.settings;
        if !(1..=1_000).contains(&concurrency) {
            return Err(InvalidConfig::new("concurrency", "must be 1 to 1000"));
        }
        if lease.is_zero() || lease > DAY {
            let problem = "must be longer than zero and at most a day";
            return Err(InvalidConfig::new("lease", problem));
        }
        if max_replays == 0 {
            return Err(InvalidConfig::new("max_replays", "must be at least 1"));
        }
        if max_refusal_wait > DAY {
            return Err(InvalidConfig::new(
                "max_refusal_wait",
                "must be at most a day",
            ));
        }
        let pace = match self.rate {
            None => None,
            Some(rate) if (0.001..=1e6).contains(&rate) => {
                Some(Pace::new(Duration::from_secs_f64(1.0 / rate)))
            }
            Some(_) => {
                return Err(InvalidConfig::new("rate", "must be 0.001 to 1000000"));
            }
        };
        Ok(Redrive {
            service,
            make: self.make,
            resend: self.resend,
            shared: Arc::new(Shared {
                store: self.store,
                settings: self.settings,
                pace,
                observers: self.observers,
            }),
        })
    }
}

impl<M, R> fmt::Debug for RedriveBuilder<M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedriveBuilder")
            .field("store", &self.store)
            .field("settings", &self.settings)
            .field("rate", &self.rate)
            .finish_non_exhaustive()
    }
}
