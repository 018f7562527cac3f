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

mod many;
mod one;
mod report;
mod resend;

pub use self::{
    many::{Run, Stop},
    report::{Counts, Redriven, Report, RunFailed},
    resend::{NotSendable, ReadHistory, Resend, ResendFn},
};
pub use super::http::ResendHttp;

use self::many::Pace;
use super::{Cursor, Entry, EntryId, Filter, LetterStore, Redaction};
use crate::{
    BoxError, InvalidConfig, StoreError,
    clock::WallClock,
    observe::{Event, Id, Observer, Observers},
    outcome::{Classify, HttpClassifier, MakeClassifier},
};
use std::{fmt, sync::Arc, time::Duration};
use tower_service::Service;

/// Sends dead letters again. See the [module docs](self). Clones share the rate.
#[derive(Clone)]
pub struct Redrive<S, M = HttpClassifier, R = ResendHttp> {
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
    at_once: usize,
    patience: Duration,
    clock: WallClock,
    redaction: Redaction,
}

impl Redrive<()> {
    /// Settings, all with defaults. The entries are those of `store`.
    pub fn builder(store: Arc<dyn LetterStore>) -> RedriveBuilder {
        RedriveBuilder::new(store)
    }
}

impl<S, M, R> Redrive<S, M, R> {
    /// Where the entries are.
    pub fn store(&self) -> &Arc<dyn LetterStore> {
        &self.shared.store
    }

    /// Sends one entry again, because `by` asks for it.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the store did not say whether the entry is ours. Nothing was sent.
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
        S::Error: Into<BoxError>,
        M: MakeClassifier<R::Request>,
        M::Classifier: Classify<S::Response, S::Error>,
        R: Resend + ReadHistory<S::Response>,
    {
        let (this, by) = (self.clone(), asked_by(by));
        async move {
            let shared = Arc::clone(&this.shared);
            let redriven = one::send(this, id, Stop::new()).await?;
            shared.tell(&by, id, &redriven, [1, 1], None);
            Ok(redriven)
        }
    }

    /// Sends all entries again that match, newest first, because `by` asks for it.
    ///
    /// # Errors
    ///
    /// [`RunFailed`]: the store gives no more entries. It tells what was done until then.
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
        S::Error: Into<BoxError>,
        M: MakeClassifier<R::Request>,
        M::Classifier: Classify<S::Response, S::Error>,
        R: Resend + ReadHistory<S::Response>,
    {
        self.run(Run::new(filter, by))
    }

    /// [`many`](Self::many) with more to say: where to go on, what stops it.
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
        S::Error: Into<BoxError>,
        M: MakeClassifier<R::Request>,
        M::Classifier: Classify<S::Response, S::Error>,
        R: Resend + ReadHistory<S::Response>,
    {
        many::drive(self.clone(), run)
    }
}

impl Shared {
    /// Tells what came of an entry. `far` is how many of the run are done, and how many matched.
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

/// Bounded: it goes into logs once for each entry.
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

/// Settings of a [`Redrive`], all with defaults. Made by [`Redrive::builder`].
#[derive(Clone)]
#[must_use]
pub struct RedriveBuilder<M = HttpClassifier, R = ResendHttp> {
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
                at_once: 4,
                patience: Duration::from_secs(30),
                clock: WallClock::system(),
                redaction: Redaction::new(),
            },
            rate: Some(10.0),
            observers: Observers::none(),
            make: HttpClassifier::new(),
            resend: ResendHttp::new(),
        }
    }
}

impl<M, R> RedriveBuilder<M, R> {
    /// How long an entry is claimed for; renewed while it is sent, so this is how long it is held
    /// up when its sender dies. Default: 60 s; at most a day.
    pub const fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease;
        self
    }

    /// How often an entry may be sent again. Default: 5.
    pub const fn max_replays(mut self, replays: u32) -> Self {
        self.settings.max_replays = replays;
        self
    }

    /// How many entries are sent per second at the most, evenly spaced, by this `Redrive` and all
    /// its clones together. Default: 10; 0.001 to 1,000,000.
    pub const fn rate(mut self, per_second: f64) -> Self {
        self.rate = Some(per_second);
        self
    }

    /// Sends as fast as [`at_once`](Self::at_once) and the service allow. A peer that has just come
    /// back may not thank you.
    pub const fn no_rate(mut self) -> Self {
        self.rate = None;
        self
    }

    /// How many entries a run sends at the same time. Default: 4; at most 1,000.
    pub const fn at_once(mut self, entries: usize) -> Self {
        self.settings.at_once = entries;
        self
    }

    /// How long a run waits for a target that our own side refuses to send to (an open breaker)
    /// before it passes over its entries. Each run waits once for each target; zero never waits.
    /// Default: 30 s; at most a day.
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.settings.patience = patience;
        self
    }

    /// Where the times in the entries come from. Default: the system's clock.
    pub fn clock(mut self, clock: WallClock) -> Self {
        self.settings.clock = clock;
        self
    }

    /// What does not get into an entry that fails again. It sees the entry as it would be left, and
    /// what it makes of its [cause](crate::dead_letter::Cause) is kept: the rest of it was written by
    /// somebody else, who may have allowed more. Default: [`Redaction::new`].
    pub fn redaction(mut self, redaction: Redaction) -> Self {
        self.settings.redaction = redaction;
        self
    }

    /// Adds an observer of each entry that is sent again or passed over: [`Event::Redriven`] says who
    /// asked for it, which entry, what came of it, and how far the run is. Default: none.
    ///
    /// [`Event::Redriven`]: crate::observe::Event::Redriven
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.observers = self.observers.and(observer);
        self
    }

    /// What judges the results: an entry is removed after
    /// [`Success`](crate::outcome::OutcomeKind::Success) alone. Default: [`HttpClassifier`].
    ///
    /// It judges the beginning of an answer. Where the verdict comes later (a streamed gRPC call),
    /// the service inside has to read the answer to its end first.
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

    /// How entries become requests, where they are not HTTP or need more than [`ResendHttp`] gives
    /// back: credentials, another URI. A panic in it makes the entry unsendable.
    pub fn to_request<F, Req>(self, make: F) -> RedriveBuilder<M, ResendFn<F, Req>>
    where
        F: Fn(&Entry) -> Result<Req, NotSendable>,
    {
        self.resend(ResendFn::new(make))
    }

    /// [`to_request`](Self::to_request) by a type of your own, which reads the history of answers
    /// too. Default: [`ResendHttp`].
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

    /// Sends with `service`.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] names the setting: `at_once`, `lease`, `max_replays`, `patience` or
    /// `rate`.
    pub fn build<S>(self, service: S) -> Result<Redrive<S, M, R>, InvalidConfig> {
        const DAY: Duration = Duration::from_secs(86_400);
        let Settings {
            lease,
            max_replays,
            at_once,
            patience,
            ..
        } = self.settings;
        if !(1..=1_000).contains(&at_once) {
            return Err(InvalidConfig::new("at_once", "must be 1 to 1000"));
        }
        if lease.is_zero() || lease > DAY {
            let problem = "must be longer than zero and at most a day";
            return Err(InvalidConfig::new("lease", problem));
        }
        if max_replays == 0 {
            return Err(InvalidConfig::new("max_replays", "must be at least 1"));
        }
        if patience > DAY {
            return Err(InvalidConfig::new("patience", "must be at most a day"));
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
