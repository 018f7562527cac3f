use super::{
    Perform, Shared, Worker,
    dead_letter::Describe,
    held::Held,
    perform::{ByResult, CallJob, TakeResult},
    settler::Ends,
};
use crate::{
    BoxError, IntoBoxError, InvalidConfig,
    clock::WallClock,
    dead_letter::{DeadLetters, Entry, Redaction},
    observe::{Observer, Observers},
    outcome::{Classify, MakeClassifier},
    queue::{Job, Kinds, Queue},
    retry::RetryConfig,
};
use bytes::Bytes;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize},
    },
    time::Duration,
};
use tower_service::Service;

/// The longest lease, so that adding it to the time cannot overflow.
const MAX_LEASE: Duration = Duration::from_secs(24 * 60 * 60);

/// The shortest lease. With a shorter one, a slow disk would lose claims.
const MIN_LEASE: Duration = Duration::from_millis(100);

/// Settings of a [`Worker`]. Made by [`Worker::builder`] and [`Worker::http`].
///
/// | Type | Meaning |
/// | --- | --- |
/// | `M` | makes the classifier, which decides the outcome of an attempt |
/// | `T` | takes the result to keep from a response |
/// | `C` | makes the argument of the service; `()` if that is the [`Job`] itself |
#[must_use]
pub struct WorkerBuilder<M = ByResult, T = (), C = ()> {
    pub(in crate::queue) settings: Settings,
    pub(in crate::queue) make: M,
    pub(in crate::queue) take: T,
    pub(in crate::queue) call: C,
}

/// The settings that no type parameter depends on.
pub(in crate::queue) struct Settings {
    queue: Queue,
    concurrency: usize,
    /// `None`: all, or those of the handlers.
    pub(in crate::queue) kinds: Option<Kinds>,
    grace: Duration,
    lease: Duration,
    attempt_timeout: Duration,
    retry: RetryConfig,
    clock: WallClock,
    dead_letters: Option<DeadLetters>,
    describe: Option<Describe>,
    entry_body: usize,
    redaction: Redaction,
    takes_result: bool,
    pub(in crate::queue) observers: Observers,
}

impl Worker {
    /// Makes a builder of a worker that calls its service with each [`Job`].
    pub fn builder(queue: Queue) -> WorkerBuilder {
        WorkerBuilder::new(queue, ByResult, ())
    }
}

impl<M, C> WorkerBuilder<M, (), C> {
    pub(in crate::queue) fn new(queue: Queue, make: M, call: C) -> Self {
        Self {
            settings: Settings {
                queue,
                concurrency: 64,
                kinds: None,
                grace: Duration::from_secs(5),
                lease: Duration::from_secs(30),
                attempt_timeout: Duration::from_secs(600),
                retry: RetryConfig::default(),
                clock: WallClock::system(),
                dead_letters: None,
                describe: None,
                entry_body: 1 << 20,
                redaction: Redaction::new(),
                takes_result: false,
                observers: Observers::none(),
            },
            make,
            take: (),
            call,
        }
    }
}

impl<M, T, C> WorkerBuilder<M, T, C> {
    /// Sets how many jobs run at the same time. Default: 64.
    ///
    /// No more are claimed: a claim counts as an attempt, also if its process is killed before the job begins. A job
    /// that was done and is not settled yet does not run, and up to as many again may wait for that. A worker that has
    /// more to do claims for a quarter of its places at once, or after 2 ms.
    pub const fn concurrency(mut self, jobs: usize) -> Self {
        self.settings.concurrency = jobs;
        self
    }

    /// Sets the kinds of jobs that this worker claims; it leaves others to other workers. Default: all; for
    /// [`Worker::http`], [`NewJob::HTTP`](crate::queue::NewJob::HTTP). A worker with
    /// [handlers](Self::handle) claims the kinds that have one: if kinds are set too, it cannot be built.
    pub fn kinds(mut self, kinds: impl Into<Kinds>) -> Self {
        self.settings.kinds = Some(kinds.into());
        self
    }

    /// Sets the lease of a claim, from 100 ms to a day. Default: 30 s.
    ///
    /// The worker renews it after each third of it while the job runs. It limits how long the jobs of a
    /// dead worker wait for another worker, not how long a job may take.
    pub const fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease;
        self
    }

    /// Sets the time limit of one attempt. Default: 10 minutes.
    ///
    /// An attempt that takes longer is dropped and counts as a
    /// [`transient`](crate::outcome::Outcome::transient) failure. The service can read the end of the limit
    /// as its [`Deadline`](crate::deadline::Deadline).
    pub const fn attempt_timeout(mut self, limit: Duration) -> Self {
        self.settings.attempt_timeout = limit;
        self
    }

    /// Sets when and how often a job is tried again. Default: [`RetryConfig::default`]. It may allow as many
    /// attempts as the [queue](crate::queue::Promises::attempts), and no more; and its backoff and its hint limit may
    /// not be longer than the queue [lets a job wait](crate::queue::Promises::longest_delay).
    ///
    /// Attempts, delays, schedules, hints and the window hold across restarts, because their state is
    /// stored with the job. Differences from a retry layer:
    ///
    /// - The window counts from the first attempt. A job that is claimed after the end of its window,
    ///   because no worker was running, is dead-lettered.
    /// - A call that was refused locally (an open circuit) and a retry that the budget does not allow are
    ///   not attempts: the job is released and claimed again later, by default until the window ends.
    /// - An attempt that follows one that did not fail, but was interrupted or ended with its worker, takes
    ///   nothing from the budget, because it is no retry against the peer.
    pub fn retry(mut self, config: RetryConfig) -> Self {
        self.settings.retry = config;
        self
    }

    /// Sets the sink that gets an entry for each job that failed for good. Default: none; the task then
    /// fails without an entry, and an event reports it.
    ///
    /// The job stays in the queue until the sink has its entry. While the sink fails, the write is repeated
    /// with growing waits, up to about a minute. A copy in the [fallback](DeadLetters::fallback) does not
    /// end the job, because the fallback may be lost with the process. If an entry is too large for the
    /// sink, its body is cut to half, then to nothing. A write that the sink rejects is repeated after as
    /// long as it has waited already, up to an hour; other entries do not wait for it. Each failed write is
    /// [reported](crate::observe::Event::Lost).
    pub fn dead_letters(mut self, dead_letters: DeadLetters) -> Self {
        self.settings.dead_letters = Some(dead_letters);
        self
    }

    /// Sets a function that completes each entry. Default: none.
    ///
    /// The body of the entry is the payload; the entry of an HTTP request has method, URI, headers and
    /// body. A panic of the function is caught.
    pub fn describe(mut self, describe: impl Fn(&Job, &mut Entry) + Send + Sync + 'static) -> Self {
        self.settings.describe = Some(Arc::new(describe));
        self
    }

    /// Sets the largest body of an entry, in bytes. Default: 1 MiB. A larger one is cut, and its entry
    /// cannot be sent again.
    pub const fn entry_body(mut self, bytes: usize) -> Self {
        self.settings.entry_body = bytes;
        self
    }

    /// Sets the redaction of entries, which removes secrets before a write. Default: [`Redaction::new`].
    pub fn redaction(mut self, redaction: Redaction) -> Self {
        self.settings.redaction = redaction;
        self
    }

    /// Adds an observer of the jobs: begin and end of each, its dead-letter entry, its retries, lost
    /// claims, and errors of the queue. A finished task is also reported as one delivery to its target,
    /// which began when the task was accepted. Default: none except `tracing`.
    ///
    /// The client of [`Worker::http`] can have the same observers, and each attempt, retry and delivery is
    /// reported once: a client that reports deliveries, such as a
    /// [`stack::deliver()`](crate::stack::deliver()), does not report those of the worker. Deliveries by the
    /// service of [`Worker::builder`] are reported separately.
    ///
    /// Observers of the [dead letters](Self::dead_letters) are told of entries too: do not add the same
    /// observer to both.
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.settings.observers = self.settings.observers.and(observer);
        self
    }

    /// Sets the grace period: how long [`Worker::run`] lets jobs run when it stops. Default: 5 s.
    pub const fn grace(mut self, grace: Duration) -> Self {
        self.settings.grace = grace;
        self
    }

    /// Sets the wall clock that dates dead-letter entries. Default: the system clock.
    pub fn clock(mut self, clock: WallClock) -> Self {
        self.settings.clock = clock;
        self
    }

    /// Sets the classifier, which decides the outcome of an attempt. Default: `Ok` is a success,
    /// and [`Outcome::of_error`](crate::outcome::Outcome::of_error) judges an error; for [`Worker::http`],
    /// [`HttpClassifier`](crate::outcome::HttpClassifier).
    ///
    /// The classifier gets every error as a [`BoxError`]. Around a [`stack::attempt()`](crate::stack::attempt()), which has a
    /// classifier, set [`JudgedInside`](crate::context::JudgedInside).
    pub fn classifier<M2>(self, make: M2) -> WorkerBuilder<M2, T, C> {
        WorkerBuilder {
            settings: self.settings,
            make,
            take: self.take,
            call: self.call,
        }
    }

    /// Sets the function that takes the result of a task from a successful response. Default: none; no
    /// result is kept. It needs an engine that [keeps results](crate::queue::Promises::max_result).
    ///
    /// The result is part of the [status](crate::queue::Status::Succeeded) of the task. A result of more
    /// than 64 KiB is not kept. With an HTTP client, the function gets the response with its body, if the
    /// body has at most 64 KiB and is read within 5 s.
    pub fn result<Res, F>(self, result: F) -> WorkerBuilder<M, F, C>
    where
        F: Fn(&Res) -> Option<Bytes>,
    {
        WorkerBuilder {
            settings: Settings {
                takes_result: true,
                ..self.settings
            },
            make: self.make,
            take: result,
            call: self.call,
        }
    }
}

impl Settings {
    /// Checks the settings, and makes a worker that processes jobs with `perform`.
    pub(in crate::queue) fn build(
        self,
        perform: Box<dyn Perform>,
    ) -> Result<Worker, InvalidConfig> {
        let zero = |setting| Err(InvalidConfig::new(setting, "must be at least 1"));
        if self.concurrency == 0 {
            return zero("concurrency");
        }
        if matches!(&self.kinds, Some(Kinds::Only(kinds)) if kinds.is_empty()) {
            return Err(InvalidConfig::new("kinds", "must name at least one kind"));
        }
        if self.lease < MIN_LEASE || self.lease > MAX_LEASE {
            return Err(InvalidConfig::new("lease", "must be 100 ms to a day"));
        }
        let zero = |setting| Err(InvalidConfig::new(setting, "must be longer than zero"));
        if self.attempt_timeout.is_zero() {
            return zero("attempt_timeout");
        }
        let promises = self.queue.engine().promises();
        let retry = |problem| Err(InvalidConfig::new("retry", problem));
        if self.retry.attempts() > promises.attempts {
            return retry("must not allow more attempts than the engine of the queue");
        }
        if self.retry.longest_wait() > promises.longest_delay {
            return retry(
                "must not wait longer than the engine of the queue can, by its backoff or its hint limit",
            );
        }
        if self.takes_result && promises.max_result == 0 {
            let problem = "must not be set if the engine of the queue keeps no results";
            return Err(InvalidConfig::new("result", problem));
        }
        let (engine, dead_letters) = (self.queue.engine(), self.dead_letters);
        let letters = dead_letters.as_ref();
        let shared = Shared {
            moves: letters.and_then(|letters| engine.moves(letters.sink())),
            engine: Arc::clone(engine),
            held: Arc::new(Held::default()),
            ends: Ends::default(),
            lease: self.lease,
            attempt_timeout: self.attempt_timeout,
            longest_delay: promises.longest_delay,
            max_result: promises.max_result,
            retry: self.retry,
            clock: self.clock,
            dead_letters: dead_letters.map(|letters| letters.observe(self.observers.clone())),
            describe: self.describe,
            entry_body: self.entry_body,
            redaction: self.redaction,
            observers: self.observers,
            released: AtomicUsize::new(0),
            unwritten: AtomicU32::new(0),
        };
        Ok(Worker {
            shared: Arc::new(shared),
            perform,
            concurrency: self.concurrency,
            kinds: self.kinds.unwrap_or_default(),
            grace: self.grace,
        })
    }
}

impl<M, T> WorkerBuilder<M, T> {
    /// Builds the worker. It calls a clone of `service` for each job, in a separate task. A panic of the
    /// service is caught.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] names the setting: `concurrency`, `kinds`, `lease`, `attempt_timeout`, `retry` or
    /// `result`.
    pub fn build<S>(self, service: S) -> Result<Worker, InvalidConfig>
    where
        S: Service<Job> + Clone + Send + 'static,
        S::Future: Send,
        S::Response: Send,
        S::Error: IntoBoxError,
        M: MakeClassifier<Job> + Send + 'static,
        M::Classifier: Classify<S::Response, BoxError> + Send + 'static,
        T: TakeResult<S::Response> + Clone + Send + 'static,
    {
        let (make, take) = (self.make, self.take);
        let perform = CallJob {
            service,
            make,
            take,
            observers: self.settings.observers.clone(),
        };
        self.settings.build(Box::new(perform))
    }
}

impl<M: fmt::Debug, T, C> fmt::Debug for WorkerBuilder<M, T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.settings;
        f.debug_struct("WorkerBuilder")
            .field("concurrency", &settings.concurrency)
            .field("kinds", &settings.kinds)
            .field("lease", &settings.lease)
            .field("attempt_timeout", &settings.attempt_timeout)
            .field("retry", &settings.retry)
            .field("dead_letters", &settings.dead_letters)
            .field("classifier", &self.make)
            .finish_non_exhaustive()
    }
}
