use super::{
    WorkerEvent,
    entry::Describe,
    held::Held,
    perform::{ByResult, CallHttp, CallJob, MakeRequest, NoResult, Perform, ResultFn, TakeResult},
    run::Worker,
    shared::{Hook, Shared},
};
use crate::{
    BoxError, InvalidConfig,
    body::BufferedBody,
    clock::WallClock,
    dead_letter::{DeadLetters, Entry, Redaction},
    metrics::{Recorder, SharedRecorder},
    outcome::{Classify, HttpClassifier, MakeClassifier},
    queue::{Job, Queue},
    retry::RetryConfig,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize},
    },
    time::Duration,
};
use tower_service::Service;

/// The longest lease: what the clock can surely count.
const MAX_LEASE: Duration = Duration::from_secs(24 * 60 * 60);

/// The shortest lease: below it, a slow disk would lose claims.
const MIN_LEASE: Duration = Duration::from_millis(100);

/// The service is called with the [`Job`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByJob;

/// The service is called with the HTTP request that the job is.
#[derive(Clone)]
pub struct ByRequest {
    request: MakeRequest,
}

impl fmt::Debug for ByRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByRequest").finish_non_exhaustive()
    }
}

/// Sets up a [`Worker`]. Made by [`Worker::builder`] and [`Worker::http`].
///
/// | Type | What it is |
/// | --- | --- |
/// | `M` | what judges how a job went |
/// | `T` | what is kept as its result |
/// | `C` | what the service is called with: [`ByJob`] or [`ByRequest`] |
#[must_use]
pub struct WorkerBuilder<M, T, C> {
    settings: Settings,
    make: M,
    take: T,
    call: C,
}

/// What stays as it is when a type is changed.
pub(super) struct Settings {
    queue: Queue,
    pub(super) concurrency: usize,
    pub(super) per_target: u32,
    pub(super) grace: Duration,
    lease: Duration,
    attempt_timeout: Duration,
    retention: Duration,
    retry: RetryConfig,
    clock: WallClock,
    dead_letters: Option<DeadLetters>,
    describe: Option<Describe>,
    entry_body: usize,
    redaction: Redaction,
    recorder: Option<SharedRecorder>,
    hook: Option<Hook>,
}

impl Settings {
    fn new(queue: Queue) -> Self {
        Self {
            queue,
            concurrency: 64,
            per_target: 8,
            grace: Duration::from_secs(5),
            lease: Duration::from_secs(30),
            attempt_timeout: Duration::from_secs(600),
            retention: Duration::from_secs(7 * 24 * 60 * 60),
            retry: RetryConfig::default(),
            clock: WallClock::system(),
            dead_letters: None,
            describe: None,
            entry_body: 1 << 20,
            redaction: Redaction::new(),
            recorder: None,
            hook: None,
        }
    }
}

impl Worker {
    /// A worker whose service is called with each [`Job`].
    pub fn builder(queue: Queue) -> WorkerBuilder<ByResult, NoResult, ByJob> {
        WorkerBuilder {
            settings: Settings::new(queue),
            make: ByResult,
            take: NoResult,
            call: ByJob,
        }
    }

    /// A worker whose service is an HTTP client, called with the request that each job
    /// [is](Job::http_request), and judged by [`HttpClassifier`].
    ///
    /// Of an answer no more than 64 KiB are read, so that its connection can be used again.
    pub fn http(queue: Queue) -> WorkerBuilder<HttpClassifier, NoResult, ByRequest> {
        WorkerBuilder {
            settings: Settings::new(queue),
            make: HttpClassifier::new(),
            take: NoResult,
            call: ByRequest {
                request: Arc::new(|job| job.http_request().map_err(Into::into)),
            },
        }
    }
}

impl<M, T, C> WorkerBuilder<M, T, C> {
    /// How many jobs run at once. Default: 64.
    pub const fn concurrency(mut self, jobs: usize) -> Self {
        self.settings.concurrency = jobs;
        self
    }

    /// How many jobs of one [target](crate::queue::NewJob::target) run at once, those of other
    /// workers among them: so that a slow one does not take all places. Default: 8.
    pub const fn per_target(mut self, jobs: u32) -> Self {
        self.settings.per_target = jobs;
        self
    }

    /// After how long a job is taken to be abandoned, and given to another worker. Renewed at a
    /// third of it while the job runs, so it bounds how long a dead worker's jobs wait and not how
    /// long a job may take. Default: 30 s. From 100 ms to a day.
    pub const fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease;
        self
    }

    /// How long one attempt may take. One that takes longer is dropped, and counts as a
    /// [`transient`](crate::outcome::Outcome::transient) failure. Default: 10 minutes. It is the
    /// [`Deadline`](crate::deadline::Deadline) of what runs inside.
    pub const fn attempt_timeout(mut self, limit: Duration) -> Self {
        self.settings.attempt_timeout = limit;
        self
    }

    /// When and how often a job is tried again. Default: [`RetryConfig::default`].
    ///
    /// All of it holds over restarts, because it goes by what is stored with the job: attempts,
    /// delays and schedules, hints, the window. What is special here:
    ///
    /// - The window counts from the first attempt. A job that comes back after it (no worker was
    ///   there) is dead-lettered.
    /// - A call that was refused on our side (an open circuit), and a retry for which the budget
    ///   has nothing left, is no attempt: the job is given back until later, by default
    ///   for as long as the window is.
    pub fn retry(mut self, config: RetryConfig) -> Self {
        self.settings.retry = config;
        self
    }

    /// Where the entries of jobs go that have failed for good. Default: nowhere; the task is then
    /// failed, and a warning says so.
    ///
    /// The job stays in the queue until the sink has its entry. While the sink fails the entry is
    /// written again, ever more rarely; a copy may be in the
    /// [fallback](DeadLetters::fallback), which does not end the job, for it may be gone with the
    /// process. An entry that is too large for the sink is cut: to half of its body, and then to
    /// none. One that the sink rejects is tried again after as long as it has waited already, up to
    /// an hour, and holds up no other. Both are [told](WorkerEvent::NotDeadLettered).
    pub fn dead_letters(mut self, dead_letters: DeadLetters) -> Self {
        self.settings.dead_letters = Some(dead_letters);
        self
    }

    /// Completes an entry. It has the payload as its body already; of an HTTP request method, URI,
    /// headers and body. A panic in it is caught.
    pub fn describe(mut self, describe: impl Fn(&Job, &mut Entry) + Send + Sync + 'static) -> Self {
        self.settings.describe = Some(Arc::new(describe));
        self
    }

    /// How many bytes of a body are kept in its entry. Default: 1 MiB. An entry that is cut cannot
    /// be sent again.
    pub const fn entry_body(mut self, bytes: usize) -> Self {
        self.settings.entry_body = bytes;
        self
    }

    /// What must not get into an entry: applied last. Default: [`Redaction::new`].
    pub fn redaction(mut self, redaction: Redaction) -> Self {
        self.settings.redaction = redaction;
        self
    }

    /// How long status and result of a finished task are kept, and its key known. Default: 7 days.
    pub const fn retention(mut self, retention: Duration) -> Self {
        self.settings.retention = retention;
        self
    }

    /// Where finished tasks are measured: each is one delivery, from when it was accepted, by its
    /// target. Retries are counted too. Default: nowhere.
    ///
    /// A delivery stack inside measures each attempt as a delivery of its own, unless it is told to
    /// deliver `once`: then both may have the same recorder.
    pub fn metrics(mut self, recorder: impl Recorder) -> Self {
        self.settings.recorder = Some(SharedRecorder::new(recorder));
        self
    }

    /// Told what happens. Brief; a panic in it is caught. What was set before is told too.
    pub fn on_event(mut self, hook: impl Fn(&WorkerEvent<'_>) + Send + Sync + 'static) -> Self {
        let before = self.settings.hook.take();
        self.settings.hook = Some(Arc::new(move |event: &WorkerEvent<'_>| {
            if let Some(before) = &before {
                before(event);
            }
            hook(event);
        }));
        self
    }

    /// How long [`Worker::run`] waits for what runs when it is to end. Default: 5 s.
    pub const fn grace(mut self, grace: Duration) -> Self {
        self.settings.grace = grace;
        self
    }

    /// The wall clock, by which the age of a job is measured. It is to be that of the engine.
    /// Default: the system's.
    pub fn clock(mut self, clock: WallClock) -> Self {
        self.settings.clock = clock;
        self
    }

    /// What judges how a job went. It is asked about the error as a [`BoxError`], so that what
    /// that says can be read whatever its type is. Default: [`ByResult`], or [`HttpClassifier`].
    pub fn classifier<M2>(self, make: M2) -> WorkerBuilder<M2, T, C> {
        WorkerBuilder {
            settings: self.settings,
            make,
            take: self.take,
            call: self.call,
        }
    }

    /// What is kept of a success, for whoever asks for the status of the task. At most 64 KiB; a
    /// longer one is not kept. Default: nothing.
    ///
    /// Of an HTTP client, the function is given the answer with its body, where that has no more
    /// than 64 KiB and comes within 5 s.
    pub fn result<Res, F>(self, result: F) -> WorkerBuilder<M, ResultFn<F>, C>
    where
        F: Fn(&Res) -> Option<Bytes>,
    {
        WorkerBuilder {
            settings: self.settings,
            make: self.make,
            take: ResultFn(result),
            call: self.call,
        }
    }

    fn worker(settings: Settings, perform: Box<dyn Perform>) -> Result<Worker, InvalidConfig> {
        let zero = |setting| Err(InvalidConfig::new(setting, "must be at least 1"));
        if settings.concurrency == 0 {
            return zero("concurrency");
        }
        if settings.per_target == 0 {
            return zero("per_target");
        }
        if settings.lease < MIN_LEASE || settings.lease > MAX_LEASE {
            return Err(InvalidConfig::new("lease", "must be 100 ms to a day"));
        }
        let zero = |setting| Err(InvalidConfig::new(setting, "must be longer than zero"));
        if settings.attempt_timeout.is_zero() {
            return zero("attempt_timeout");
        }
        if settings.retention.is_zero() {
            return zero("retention");
        }
        let shared = Shared {
            engine: Arc::clone(settings.queue.engine()),
            held: Arc::new(Held::default()),
            lease: settings.lease,
            attempt_timeout: settings.attempt_timeout,
            retention: settings.retention,
            retry: settings.retry,
            clock: settings.clock,
            dead_letters: settings.dead_letters,
            describe: settings.describe,
            entry_body: settings.entry_body,
            redaction: settings.redaction,
            recorder: settings.recorder,
            hook: settings.hook,
            released: AtomicUsize::new(0),
            unwritten: AtomicU32::new(0),
        };
        Ok(Worker {
            shared: Arc::new(shared),
            perform,
            concurrency: settings.concurrency,
            per_target: settings.per_target,
            grace: settings.grace,
        })
    }
}

impl<M, T> WorkerBuilder<M, T, ByJob> {
    /// The worker that calls a clone of `service` with each job. Each call runs in a task of its
    /// own, and may panic.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] names the setting: `concurrency`, `per_target`, `lease`, `attempt_timeout` or
    /// `retention`.
    pub fn build<S>(self, service: S) -> Result<Worker, InvalidConfig>
    where
        S: Service<Job> + Clone + Send + 'static,
        S::Future: Send,
        S::Response: Send,
        S::Error: Into<BoxError>,
        M: MakeClassifier<Job> + Send + 'static,
        M::Classifier: Classify<S::Response, BoxError> + Send + 'static,
        T: TakeResult<S::Response> + Clone + Send + 'static,
    {
        let (make, take) = (self.make, self.take);
        let perform = CallJob {
            service,
            make,
            take,
        };
        Self::worker(self.settings, Box::new(perform))
    }
}

impl<M, T> WorkerBuilder<M, T, ByRequest> {
    /// The request that a job makes. Default: the one that it [is](Job::http_request). A job that
    /// makes none is dead-lettered as
    /// [`Unsendable`](crate::dead_letter::Reason::Unsendable).
    pub fn request<E>(
        mut self,
        request: impl Fn(&Job) -> Result<Request<BufferedBody>, E> + Send + Sync + 'static,
    ) -> Self
    where
        E: Into<BoxError>,
    {
        self.call.request = Arc::new(move |job| request(job).map_err(Into::into));
        self
    }

    /// The worker that calls a clone of `client` with the request of each job: a delivery stack of
    /// one attempt, or a bare client. Each call runs in a task of its own, and may panic.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] names the setting: `concurrency`, `per_target`, `lease`, `attempt_timeout` or
    /// `retention`.
    pub fn build<S, B>(self, client: S) -> Result<Worker, InvalidConfig>
    where
        S: Service<Request<BufferedBody>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: Body + Send + 'static,
        B::Data: Send,
        M: MakeClassifier<Request<BufferedBody>> + Send + 'static,
        M::Classifier: Classify<Response<B>, BoxError> + Send + 'static,
        T: TakeResult<Response<BufferedBody>> + Clone + Send + 'static,
    {
        let perform = CallHttp {
            service: client,
            make: self.make,
            take: self.take,
            request: self.call.request,
        };
        Self::worker(self.settings, Box::new(perform))
    }
}

impl<M: fmt::Debug, T: fmt::Debug, C: fmt::Debug> fmt::Debug for WorkerBuilder<M, T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.settings;
        f.debug_struct("WorkerBuilder")
            .field("concurrency", &settings.concurrency)
            .field("per_target", &settings.per_target)
            .field("lease", &settings.lease)
            .field("attempt_timeout", &settings.attempt_timeout)
            .field("retry", &settings.retry)
            .field("dead_letters", &settings.dead_letters)
            .field("retention", &settings.retention)
            .field("classifier", &self.make)
            .field("result", &self.take)
            .field("call", &self.call)
            .finish_non_exhaustive()
    }
}
