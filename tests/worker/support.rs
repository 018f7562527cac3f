use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};
use tokio::time::{Instant, sleep};
use tower_webhook::{
    BoxFuture, StoreError, StoreErrorKind,
    clock::WallClock,
    dead_letter::{DeadLetters, Entry, Sink},
    lease::Settled,
    observe::{Event, observer_fn},
    queue::{
        Ask, Claim, Claims, End, Engine, Enqueued, Job, Jobs, Mark, MemoryQueue,
        MemoryQueueBuilder, NewJob, Promises, Queue, Status, TaskId, Tasks, Worker, WorkerBuilder,
    },
    retry::{Backoff, Budget, Jitter, RetryConfig, RetryConfigBuilder},
};

pub const SECOND: Duration = Duration::from_secs(1);
pub const LEASE: Duration = Duration::from_secs(30);

/// A wall clock that goes with tokio's, which the tests pause.
pub fn wall_clock() -> WallClock {
    let (began, origin) = (SystemTime::now(), Instant::now());
    WallClock::from_fn(move || began + origin.elapsed())
}

/// What fails of an engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum Mode {
    #[default]
    Well,
    Fails,
    Hangs,
    /// It is done, and said not to be.
    Unanswered,
}

impl Mode {
    fn of(value: u32) -> Self {
        match value {
            0 => Self::Well,
            1 => Self::Fails,
            2 => Self::Hangs,
            _ => Self::Unanswered,
        }
    }
}

/// A memory engine whose operations can be made to fail or hang.
#[derive(Clone, Debug)]
pub struct Fake {
    pub inner: MemoryQueue,
    pub promises: Promises,
    switches: Arc<Switches>,
}

#[derive(Debug, Default)]
struct Switches {
    claim: AtomicU32,
    renew: AtomicU32,
    settle: AtomicU32,
    claims: AtomicU64,
    claiming: AtomicU64,
    renewals: AtomicU64,
}

impl Fake {
    pub fn new(builder: MemoryQueueBuilder) -> Self {
        let inner = builder.build().unwrap();
        Self {
            promises: inner.promises(),
            inner,
            switches: Arc::default(),
        }
    }

    pub fn claim_mode(&self, mode: Mode) {
        self.switches.claim.store(mode as u32, Ordering::SeqCst);
    }

    pub fn renew_mode(&self, mode: Mode) {
        self.switches.renew.store(mode as u32, Ordering::SeqCst);
    }

    pub fn settle_mode(&self, mode: Mode) {
        self.switches.settle.store(mode as u32, Ordering::SeqCst);
    }

    pub fn claims(&self) -> u64 {
        self.switches.claims.load(Ordering::SeqCst)
    }

    /// How many claims are under way.
    pub fn claiming(&self) -> u64 {
        self.switches.claiming.load(Ordering::SeqCst)
    }

    pub fn renewals(&self) -> u64 {
        self.switches.renewals.load(Ordering::SeqCst)
    }
}

/// A claim under way.
struct Claiming(Arc<Switches>);

impl Drop for Claiming {
    fn drop(&mut self) {
        self.0.claiming.fetch_sub(1, Ordering::SeqCst);
    }
}

fn with<T: Send + 'static>(
    mode: &AtomicU32,
    operation: BoxFuture<Result<T, StoreError>>,
) -> BoxFuture<Result<T, StoreError>> {
    match Mode::of(mode.load(Ordering::SeqCst)) {
        Mode::Well => operation,
        Mode::Fails => Box::pin(async { Err(StoreError::new(StoreErrorKind::Unavailable)) }),
        Mode::Hangs => Box::pin(std::future::pending()),
        Mode::Unanswered => Box::pin(async {
            let _ = operation.await;
            Err(StoreError::new(StoreErrorKind::Timeout))
        }),
    }
}

impl Engine for Fake {
    fn promises(&self) -> Promises {
        self.promises.clone()
    }

    fn enqueue(
        &self,
        jobs: Vec<NewJob>,
    ) -> BoxFuture<Result<Vec<Result<Enqueued, StoreError>>, StoreError>> {
        self.inner.enqueue(jobs)
    }

    fn claim(&self, ask: Ask) -> BoxFuture<Result<Claims, StoreError>> {
        self.switches.claims.fetch_add(1, Ordering::SeqCst);
        self.switches.claiming.fetch_add(1, Ordering::SeqCst);
        let claiming = Claiming(Arc::clone(&self.switches));
        let claim = with(&self.switches.claim, self.inner.claim(ask));
        Box::pin(async move {
            let _claiming = claiming;
            claim.await
        })
    }

    fn renew(
        &self,
        claims: Vec<Claim>,
        lease: Duration,
    ) -> BoxFuture<Result<Vec<Settled>, StoreError>> {
        self.switches.renewals.fetch_add(1, Ordering::SeqCst);
        with(&self.switches.renew, self.inner.renew(claims, lease))
    }

    fn settle(&self, ends: Vec<(Claim, End)>) -> BoxFuture<Result<Vec<Settled>, StoreError>> {
        with(&self.switches.settle, self.inner.settle(ends))
    }

    fn wait(&self, seen: Mark, at_most: Duration) -> BoxFuture<()> {
        self.inner.wait(seen, at_most)
    }

    fn tasks(&self) -> Option<&dyn Tasks> {
        self.inner.tasks()
    }

    fn jobs(&self) -> Option<&dyn Jobs> {
        self.inner.jobs()
    }
}

/// Keeps entries, unless it is made to fail or hang.
#[derive(Clone, Debug, Default)]
pub struct FakeSink {
    pub entries: Arc<Mutex<Vec<Arc<Entry>>>>,
    mode: Arc<AtomicU32>,
    /// The longest body that is accepted.
    pub most: Option<usize>,
    /// Entries with this body are rejected.
    pub rejects: Option<&'static str>,
}

impl FakeSink {
    pub fn mode(&self, mode: Mode) {
        self.mode.store(mode as u32, Ordering::SeqCst);
    }

    pub fn all(&self) -> Vec<Arc<Entry>> {
        self.entries.lock().unwrap().clone()
    }

    pub fn only(&self) -> Arc<Entry> {
        let entries = self.all();
        assert_eq!(entries.len(), 1, "{entries:?}");
        Arc::clone(&entries[0])
    }
}

impl Sink for FakeSink {
    fn write(&self, entry: &Arc<Entry>) -> BoxFuture<Result<(), StoreError>> {
        match Mode::of(self.mode.load(Ordering::SeqCst)) {
            Mode::Fails => Box::pin(async { Err(StoreError::new(StoreErrorKind::Unavailable)) }),
            Mode::Hangs => Box::pin(std::future::pending()),
            _ if self
                .most
                .is_some_and(|most| entry.body.bytes().len() > most) =>
            {
                Box::pin(async { Err(StoreError::new(StoreErrorKind::TooLarge)) })
            }
            _ if self.rejects.is_some_and(|body| entry.body.bytes() == body) => {
                Box::pin(async { Err(StoreError::new(StoreErrorKind::Rejected)) })
            }
            Mode::Well | Mode::Unanswered => {
                let (entries, entry) = (Arc::clone(&self.entries), Arc::clone(entry));
                Box::pin(async move {
                    entries.lock().unwrap().push(entry);
                    Ok(())
                })
            }
        }
    }
}

/// What the tests look for.
fn name(event: &Event<'_>) -> Option<&'static str> {
    match event {
        Event::JobBegan { .. } => Some("claimed"),
        Event::JobEnded { end, .. } => Some(end.as_str()),
        Event::Lost { retry_after, .. } => {
            assert!(retry_after.is_some(), "a worker always tries again");
            Some("not_dead_lettered")
        }
        Event::Trouble { .. } => Some("trouble"),
        _ => None,
    }
}

/// A queue, and where its jobs end.
pub struct Bench {
    pub engine: Fake,
    pub queue: Queue,
    pub sink: FakeSink,
    pub clock: WallClock,
    pub events: Arc<Mutex<Vec<String>>>,
}

impl Bench {
    pub fn new() -> Self {
        Self::with_clock(wall_clock())
    }

    pub fn with_clock(clock: WallClock) -> Self {
        Self::with_queue(clock, MemoryQueue::builder())
    }

    pub fn with_queue(clock: WallClock, queue: MemoryQueueBuilder) -> Self {
        let engine = Fake::new(queue.attempts(1_000).clock(clock.clone()));
        Self {
            queue: Queue::new(engine.clone()),
            engine,
            sink: FakeSink::default(),
            clock,
            events: Arc::default(),
        }
    }

    pub fn worker(&self) -> WorkerBuilder {
        self.set_up(Worker::builder(self.queue.clone()))
    }

    pub fn set_up<M, T, C>(&self, builder: WorkerBuilder<M, T, C>) -> WorkerBuilder<M, T, C> {
        let events = Arc::clone(&self.events);
        builder
            .clock(self.clock.clone())
            .lease(LEASE)
            .retry(retry().build().unwrap())
            .dead_letters(DeadLetters::new(self.sink.clone()))
            .observe(observer_fn(move |event| {
                if let Some(name) = name(event) {
                    events.lock().unwrap().push(name.to_owned());
                }
            }))
    }

    pub async fn put(&self, payload: &'static str) -> TaskId {
        self.put_in(NewJob::new("event", payload)).await
    }

    pub async fn put_in(&self, job: NewJob) -> TaskId {
        self.queue.enqueue(job).await.unwrap().id
    }

    pub async fn status(&self, id: TaskId) -> Status {
        self.queue.task(id).await.unwrap().unwrap().status
    }

    pub async fn attempts(&self, id: TaskId) -> u32 {
        self.queue.task(id).await.unwrap().unwrap().attempts
    }

    /// Waits for a task to be over. The clock is paused, so the wait takes no time.
    pub async fn end(&self, id: TaskId) -> Status {
        for _ in 0..1_000_000 {
            let status = self.status(id).await;
            // A task has failed before its entry is written.
            let dead_lettering = self.queue.depth().await.unwrap().dead_lettering;
            if status.is_final() && dead_lettering == 0 {
                return status;
            }
            sleep(Duration::from_millis(50)).await;
        }
        panic!("the task does not end");
    }

    pub fn events(&self) -> Vec<String> {
        self.events.lock().unwrap().clone()
    }

    pub fn count(&self, event: &str) -> usize {
        self.events().iter().filter(|seen| *seen == event).count()
    }
}

/// Three attempts, 10 s apart.
pub fn retry() -> RetryConfigBuilder {
    let backoff = Backoff::constant(10 * SECOND).jitter(Jitter::None);
    RetryConfig::builder()
        .backoff(backoff.build().unwrap())
        .budget(Budget::unlimited())
}

/// When each call was made, in seconds from the first look.
#[derive(Clone, Debug)]
pub struct Calls {
    began: Instant,
    seen: Arc<Mutex<Vec<(u64, u32)>>>,
}

impl Calls {
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            seen: Arc::default(),
        }
    }

    /// Notes a call; says how many there were before.
    pub fn note(&self, job: &Job) -> usize {
        let mut seen = self.seen.lock().unwrap();
        seen.push((self.began.elapsed().as_secs(), job.attempt));
        seen.len() - 1
    }

    /// Seconds and attempt of each.
    pub fn all(&self) -> Vec<(u64, u32)> {
        self.seen.lock().unwrap().clone()
    }

    pub fn len(&self) -> usize {
        self.all().len()
    }
}
