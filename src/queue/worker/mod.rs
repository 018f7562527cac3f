//! The worker: claims jobs, calls a service for each, and settles the claims.

mod attempt;
mod builder;
mod dead_letter;
mod handlers;
mod held;
mod perform;
mod settler;

pub(super) use self::perform::{Called, Done, MAX_RESULT, Perform, TakeResult, bounded};
pub use self::{builder::WorkerBuilder, handlers::Handlers};

use self::{
    attempt::Attempting,
    dead_letter::Describe,
    held::{Held, Work},
    settler::Ends,
};
use crate::{
    StoreError, StoreErrorKind,
    clock::WallClock,
    dead_letter::{DeadLetters, Redaction},
    lease::{Schedule, Settled},
    observe::{Event, Id, JobEnd, Observers},
    outcome::Outcome,
    queue::{Ask, Claim, Claims, End, Engine, Job, Kinds, Moves, Status},
    race::{Race, race},
    retry::RetryConfig,
};
use bytes::Bytes;
use std::{
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::oneshot,
    task::{JoinHandle, JoinSet, yield_now},
    time::{Instant, error::Elapsed, sleep, timeout},
};

/// How many entries are written at the same time. Few, because a sink that hangs blocks them all.
const ENTRY_WRITES: usize = 4;

/// How long a worker that finds more jobs than it has places for waits until a quarter of them is free, so that one
/// claim fills many.
const GATHER: Duration = Duration::from_millis(2);

/// The longest idle wait. It matters only for an engine that fails to wake its waiters.
const IDLE: Duration = Duration::from_secs(10);

/// The time to release jobs when a worker stops, after the grace period.
const RELEASE: Duration = Duration::from_millis(1900);

/// The time for aborted tasks to end, after that.
const ABORT: Duration = Duration::from_millis(100);

/// Claims jobs from a queue and calls a service with each. See the [module docs](crate::queue).
#[must_use = "it does nothing unless it runs"]
pub struct Worker {
    shared: Arc<Shared>,
    perform: Box<dyn Perform>,
    concurrency: usize,
    kinds: Kinds,
    grace: Duration,
}

impl Worker {
    /// Runs until `until` is ready, then stops. Returns how many jobs it released while stopping.
    ///
    /// A worker that stops makes no more claims. It lets jobs run for the
    /// [grace period](WorkerBuilder::grace), then drops and releases those that still run. It ends within
    /// two seconds after the grace period, even if the queue or the sink hangs; only a `Drop` that blocks
    /// the thread delays it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the running jobs. Other workers get them when their leases end.
    pub async fn run(self, until: impl Future<Output = ()>) -> usize {
        let grace = self.grace;
        self.drive(async move {
            until.await;
            grace
        })
        .await
    }

    /// Runs in a separate task, until the handle stops it or is dropped.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn spawn(self) -> WorkerHandle {
        let (stop, told) = oneshot::channel();
        let grace = self.grace;
        let task = tokio::spawn(self.drive(async move { told.await.unwrap_or(grace) }));
        WorkerHandle { stop, task }
    }

    /// Runs until `until` returns a grace period.
    async fn drive(self, until: impl Future<Output = Duration>) -> usize {
        let mut until = pin!(until);
        let mut tasks = JoinSet::new();
        // Separate tasks, so that a slow claim or settle does not delay renewals. Both end with this future.
        let mut beside = JoinSet::new();
        beside.spawn(held::renew(Arc::clone(&self.shared)));
        beside.spawn(settler::run(Arc::clone(&self.shared)));

        let mut pause = Pause::default();
        let mut in_vain = 0_u32;
        // Whether there may be more jobs than the last claim had places for.
        let mut is_behind = false;
        let grace = loop {
            // Lets jobs that end together be replaced by one claim.
            yield_now().await;
            while tasks.try_join_next().is_some() {}
            let failed = ENTRY_WRITES.saturating_sub(self.shared.held.count(Work::Bury));
            let (held, places) = (&*self.shared.held, self.concurrency);
            let mut jobs = held.room(places);
            let many = places / 4;
            if is_behind && jobs > 0 && jobs < many {
                let gathered = timeout(GATHER, held.has_room(places, many));
                if let Some(grace) = first(&mut until, gathered).await {
                    break grace;
                }
                jobs = held.room(places);
            }
            if jobs == 0 {
                let freed = timeout(Duration::from_secs(1), held.has_room(places, 1));
                if let Some(grace) = first(&mut until, freed).await {
                    break grace;
                }
                if held.room(places) > 0 || failed == 0 {
                    continue;
                }
            }
            let ask = Ask::new(jobs, self.shared.lease)
                .most_failed(failed)
                .kinds(self.kinds.clone());
            let schedule = Schedule::new(self.shared.lease, Instant::now().into_std());
            let mut claim = self.shared.engine.claim(ask);
            let claiming = timeout(self.shared.lease / 3, &mut claim);
            let claimed = match race(claiming, &mut until).await {
                Race::First(claimed) => claimed,
                Race::Second(grace) => {
                    // The jobs of the claim in progress are released, while the other jobs end.
                    let shared = Arc::clone(&self.shared);
                    tasks.spawn(async move {
                        let releasing = async {
                            if let Ok(claims) = claim.await {
                                shared.release(claims).await;
                            }
                        };
                        let _ = timeout(RELEASE, releasing).await;
                    });
                    break grace;
                }
            };
            let kind = match self.shared.in_time(claimed, schedule).await {
                Ok(claims) => {
                    pause = Pause::default();
                    let to_do = claims.jobs.iter().filter(|job| job.cause.is_none());
                    let to_do = to_do.count();
                    let to_bury = claims.jobs.len() - to_do;
                    let is_all = to_do < jobs.max(1) && to_bury < failed.max(1);
                    in_vain = if claims.jobs.is_empty() {
                        in_vain.saturating_add(1)
                    } else {
                        0
                    };
                    let mark = claims.mark;
                    self.start(&mut tasks, claims, schedule);
                    is_behind = to_do == jobs && (is_behind || jobs > 0);
                    if !is_all {
                        continue;
                    }
                    // An engine that wakes without a reason must not cause a busy loop.
                    let spared = sleep(Duration::from_millis(if in_vain > 3 { 5 } else { 0 }));
                    let idle = async {
                        if in_vain > 3 {
                            spared.await;
                        }
                        let waiting = timeout(2 * IDLE, self.shared.engine.wait(mark, IDLE));
                        if jobs > 0 && failed > 0 {
                            let _ = waiting.await;
                        } else {
                            // There may be work that this claim had no room for.
                            race(waiting, self.shared.held.freed()).await;
                        }
                    };
                    if let Some(grace) = first(&mut until, idle).await {
                        break grace;
                    }
                    continue;
                }
                Err(kind) => kind,
            };
            // Before the pause, so that an engine that has granted it meanwhile gives the jobs to others.
            drop(claim);
            self.shared.engine_failed("a claim failed", kind);
            if let Some(grace) = first(&mut until, sleep(pause.next())).await {
                break grace;
            }
        };
        self.stop(tasks, grace).await
    }

    fn start(&self, tasks: &mut JoinSet<()>, claims: Claims, schedule: Schedule) {
        // All claims are held before the first job starts, so that all are renewed from the beginning.
        let jobs: Vec<_> = claims
            .jobs
            .into_iter()
            .map(|job| {
                let work = if job.cause.is_some() {
                    Work::Bury
                } else {
                    Work::Do
                };
                let held = self.shared.held.hold(work, job.claim(), schedule);
                (job, held)
            })
            .collect();
        for (job, held) in jobs {
            match job.cause.clone() {
                Some(cause) => {
                    tasks.spawn(Arc::clone(&self.shared).dead_letter(job, cause, held));
                }
                None if self.shared.has_lost_its_attempts(&job) => {
                    tasks.spawn(Arc::clone(&self.shared).give_up(job, held));
                }
                None => {
                    let attempting = Attempting::new(&self.shared, job, held);
                    tasks.spawn(attempting.start(&*self.perform));
                }
            }
        }
    }

    async fn stop(self, mut tasks: JoinSet<()>, grace: Duration) -> usize {
        let _ = timeout(grace, async { while tasks.join_next().await.is_some() {} }).await;
        if !tasks.is_empty() {
            self.shared.held.stop();
            let _ = timeout(RELEASE, async {
                while tasks.join_next().await.is_some() {}
            })
            .await;
            // Only a task that blocks its thread is left by then.
            let _ = timeout(ABORT, tasks.shutdown()).await;
        }
        self.shared.released.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("engine", &self.shared.engine)
            .field("concurrency", &self.concurrency)
            .field("kinds", &self.kinds)
            .finish_non_exhaustive()
    }
}

/// A worker that runs in a separate task. Dropping the handle stops the worker, with the grace period
/// that it was built with.
#[derive(Debug)]
#[must_use = "the worker stops when this is dropped"]
pub struct WorkerHandle {
    stop: oneshot::Sender<Duration>,
    task: JoinHandle<usize>,
}

impl WorkerHandle {
    /// Stops the worker as [`Worker::run`] does, with this grace period. Returns the number of released
    /// jobs.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the worker stops all the same.
    pub async fn stop(self, grace: Duration) -> usize {
        let _ = self.stop.send(grace);
        self.task.await.unwrap_or(0)
    }

    /// Whether the worker has ended without being stopped. This happens only if user code panics outside
    /// a job, such as in an engine.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }
}

/// The state that the tasks of a worker share.
struct Shared {
    engine: Arc<dyn Engine>,
    held: Arc<Held>,
    ends: Ends,
    lease: Duration,
    attempt_timeout: Duration,
    longest_delay: Duration,
    max_result: usize,
    retry: RetryConfig,
    clock: WallClock,
    dead_letters: Option<DeadLetters>,
    /// If the dead letters are in the database of the queue.
    moves: Option<Box<dyn Moves>>,
    describe: Option<Describe>,
    entry_body: usize,
    redaction: Redaction,
    observers: Observers,
    /// Jobs that were released because the worker stops.
    released: AtomicUsize,
    /// The number of failed entry writes since the last success.
    unwritten: AtomicU32,
}

impl Shared {
    fn engine_failed(&self, what: &'static str, kind: StoreErrorKind) {
        self.trouble(what, &kind);
    }

    fn trouble(&self, what: &'static str, detail: &dyn fmt::Display) {
        self.observers.tell(|| Event::Trouble {
            part: "queue",
            what,
            detail: Some(Id::new(detail)),
        });
    }

    fn job_began(&self, job: &Job) {
        self.observers.tell(|| Event::JobBegan {
            task: Id::new(&job.id),
            kind: &job.kind,
            peer: &job.target,
            attempt: job.attempt,
        });
    }

    fn job_ended(&self, job: &Job, end: JobEnd, elapsed: Duration) {
        let key = job.dedup_key.as_ref();
        self.observers.tell(|| Event::JobEnded {
            task: Id::new(&job.id),
            kind: &job.kind,
            peer: &job.target,
            attempt: job.attempt,
            end,
            elapsed,
            dedup_key: key.map(|key| (key.scope(), key.id())),
            event_id: job.about.event_id.as_deref(),
        });
    }

    fn claim_lost(&self) {
        self.observers.tell(|| Event::ClaimLost { what: "job" });
    }

    /// Reports a finished task as one delivery, which began when the task was accepted.
    fn delivery_ended(&self, job: &Job, outcome: Outcome, attempts: u32) {
        let elapsed = job.age();
        let peer = job.target.as_str();
        self.observers.tell(|| Event::DeliveryEnded {
            peer,
            outcome,
            elapsed,
            attempts,
            queued: true,
        });
    }

    /// Gives back what was claimed if the process stood still before it had the answer: others may have the jobs by now.
    async fn in_time(
        &self,
        claimed: Result<Result<Claims, StoreError>, Elapsed>,
        schedule: Schedule,
    ) -> Result<Claims, StoreErrorKind> {
        let claims = claimed
            .map_err(|_| StoreErrorKind::Timeout)?
            .map_err(|error| error.kind())?;
        if !schedule.may_be_over(Instant::now().into_std()) {
            return Ok(claims);
        }
        let _ = timeout(RELEASE, self.release(claims)).await;
        Err(StoreErrorKind::Timeout)
    }

    /// Releases claims whose jobs were not begun.
    async fn release(&self, claims: Claims) {
        let counts: Vec<bool> = claims.jobs.iter().map(|job| job.cause.is_none()).collect();
        let ends = claims.jobs.into_iter().map(|job| {
            let (after, history) = (Duration::ZERO, job.history.clone());
            (job.claim(), End::Release { after, history })
        });
        let Ok(settled) = self.engine.settle(ends.collect()).await else {
            return;
        };
        let released = settled.iter().zip(counts);
        let released = released.filter(|(settled, counts)| **settled == Settled::Done && *counts);
        self.released.fetch_add(released.count(), Ordering::Relaxed);
    }

    /// Settles a claim. Repeats the call until the engine answers; the claim is renewed meanwhile, and the
    /// caller watches for the signal that it is lost.
    ///
    /// If the engine has settled the claim but its answer was lost, the repeated call returns `Lost`, as it
    /// does if another worker has the job. Both are reported as lost, so that no job is reported as done that
    /// was not.
    async fn settle(&self, claim: Claim, mut end: End) -> Settled {
        if let End::Done { result } = &mut end
            && result.as_ref().map_or(0, Bytes::len) > self.max_result
        {
            let what = "a result is too long for the queue, and is not kept";
            self.trouble(what, &claim.id);
            *result = None;
        }
        if let End::Retry { after, .. } | End::Release { after, .. } = &mut end {
            *after = (*after).min(self.longest_delay);
        }
        let mut wait = Duration::from_millis(50);
        loop {
            match self.ends.settle(claim, end.clone()).await {
                Ok(settled) => return settled,
                Err(kind) => self.engine_failed("a claim could not be settled", kind),
            }
            sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(2));
        }
    }

    /// Whether a job whose claim has ended succeeded in this attempt: its handler settled the claim in its
    /// own transaction, or the engine did not answer the settle. Returns `false` after `patience`.
    async fn is_done(&self, job: &Job, patience: Duration) -> bool {
        let Some(tasks) = self.engine.tasks() else {
            return false;
        };
        let asking = async {
            loop {
                match tasks.task(job.id).await {
                    // A success of another worker has another attempt number.
                    Ok(task) => {
                        return task.is_some_and(|task| {
                            matches!(task.status, Status::Succeeded { .. })
                                && task.attempts == job.attempt
                        });
                    }
                    Err(error) => self.engine_failed("a task could not be read", error.kind()),
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(patience, asking).await.unwrap_or(false)
    }
}

/// Waits for `other`, or for `until`, and returns the output of `until`.
async fn first<F: Future<Output = Duration>>(
    until: &mut Pin<&mut F>,
    other: impl Future,
) -> Option<Duration> {
    match race(until, other).await {
        Race::First(grace) => Some(grace),
        Race::Second(_) => None,
    }
}

/// The wait after a claim that failed: it doubles up to 6.4 s, with jitter.
#[derive(Default)]
struct Pause {
    failures: u32,
}

impl Pause {
    fn next(&mut self) -> Duration {
        let longest = Duration::from_millis(100 << self.failures.min(6));
        self.failures = self.failures.saturating_add(1);
        longest.mul_f64(fastrand::f64().mul_add(0.5, 0.5))
    }
}
