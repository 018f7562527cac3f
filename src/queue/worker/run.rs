use super::{
    held::{self, Kind},
    perform::Perform,
    race::{Race, race},
    shared::Shared,
    task::Task,
};
use crate::{
    StoreErrorKind,
    lease::Settled,
    queue::{Claims, Terms, Verdict},
};
use std::{
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{
    sync::oneshot,
    task::{JoinHandle, JoinSet, yield_now},
    time::{Instant, sleep, timeout},
};

/// DeadLetterDesk that are written at once: few, so that a sink that hangs keeps no job from its work.
const BURIALS: usize = 4;

/// The longest idle wait: only against an engine that forgets to wake.
const IDLE: Duration = Duration::from_secs(10);

/// How long what is told to stop has to give its jobs back.
const HAND_BACK: Duration = Duration::from_millis(1900);

/// How long what is dropped after that may take to end.
const DROP: Duration = Duration::from_millis(100);

/// Takes jobs out of a queue and has them done by a service. See the
/// [module docs](crate::queue).
#[must_use = "it does nothing unless it runs"]
pub struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) perform: Box<dyn Perform>,
    pub(super) concurrency: usize,
    pub(super) per_target: u32,
    pub(super) grace: Duration,
}

impl Worker {
    /// Works until `until` is ready: then it claims nothing more, waits for what runs as long as
    /// its [grace](super::WorkerBuilder::grace) is, drops what still runs, and gives those jobs
    /// back. Gives how many they were. It ends within two seconds after the grace, whatever hangs;
    /// only a drop that blocks the thread can hold it up.
    ///
    /// # Cancel safety
    ///
    /// Dropped, everything that runs is dropped too; its jobs are others' when their leases end.
    pub async fn run(self, until: impl Future<Output = ()>) -> usize {
        let grace = self.grace;
        self.drive(async move {
            until.await;
            grace
        })
        .await
    }

    /// Works in a task of its own.
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

    /// Works until there is a grace.
    async fn drive(self, until: impl Future<Output = Duration>) -> usize {
        let mut until = pin!(until);
        let mut tasks = JoinSet::new();
        // Apart, so that nothing that is claimed or settled keeps a claim from being renewed.
        let mut renewal = JoinSet::new();
        renewal.spawn(held::renew(Arc::clone(&self.shared)));

        let mut pause = Pause::default();
        let mut in_vain = 0_u32;
        let grace = loop {
            // What ends together is claimed for together.
            yield_now().await;
            while tasks.try_join_next().is_some() {}
            let room = |most: usize, kind| most.saturating_sub(self.shared.held.count(kind));
            let jobs = room(self.concurrency, Kind::Job);
            let failed_jobs = room(BURIALS, Kind::FailedJob);
            if jobs == 0 {
                let freed = timeout(Duration::from_secs(1), self.shared.held.freed());
                if let Some(grace) = first(&mut until, freed).await {
                    break grace;
                }
                if room(self.concurrency, Kind::Job) > 0 || failed_jobs == 0 {
                    continue;
                }
            }
            let terms = Terms::new(jobs, self.shared.lease)
                .failed_jobs(failed_jobs)
                .per_target(self.per_target)
                .attempts(self.shared.retry.attempts());
            let asked = Instant::now();
            let mut claim = self.shared.engine.claim(terms);
            let claiming = timeout(self.shared.lease / 3, &mut claim);
            let claimed = match race(claiming, &mut until).await {
                Race::First(claimed) => claimed,
                Race::Second(grace) => {
                    // What it gets must be given back: beside what else ends, in the same time.
                    let shared = Arc::clone(&self.shared);
                    tasks.spawn(async move {
                        let giving = async {
                            if let Ok(claims) = claim.await {
                                shared.release(claims).await;
                            }
                        };
                        let _ = timeout(HAND_BACK, giving).await;
                    });
                    break grace;
                }
            };
            let kind = match claimed {
                Ok(Ok(claims)) => {
                    pause = Pause::default();
                    let is_all = claims.jobs.len() < jobs.max(1)
                        && claims.failed_jobs.len() < failed_jobs.max(1);
                    in_vain = if claims.is_empty() {
                        in_vain.saturating_add(1)
                    } else {
                        0
                    };
                    self.start(&mut tasks, claims, asked);
                    if !is_all {
                        continue;
                    }
                    // An engine may wake without a reason, but not make this spin.
                    let spared = sleep(Duration::from_millis(if in_vain > 3 { 5 } else { 0 }));
                    let idle = async {
                        if in_vain > 3 {
                            spared.await;
                        }
                        let waiting = timeout(2 * IDLE, self.shared.engine.wait(IDLE));
                        if jobs > 0 && failed_jobs > 0 {
                            let _ = waiting.await;
                        } else {
                            // The engine has told of what there was no place for, and would not
                            // again.
                            race(waiting, self.shared.held.freed()).await;
                        }
                    };
                    if let Some(grace) = first(&mut until, idle).await {
                        break grace;
                    }
                    continue;
                }
                Ok(Err(error)) => error.kind(),
                Err(_) => StoreErrorKind::Timeout,
            };
            self.shared.trouble("claim", kind);
            if let Some(grace) = first(&mut until, sleep(pause.next())).await {
                break grace;
            }
        };
        self.stop(tasks, grace).await
    }

    fn start(&self, tasks: &mut JoinSet<()>, claims: Claims, asked: Instant) {
        let until = asked + self.shared.lease;
        // All are held before the first is started: none waits for another to be renewed.
        let hold = |kind, claim| self.shared.held.hold(kind, claim, until);
        let jobs: Vec<_> = claims
            .jobs
            .into_iter()
            .map(|job| {
                let held = hold(Kind::Job, (job.id, job.token));
                Task::new(&self.shared, job, held)
            })
            .collect();
        for failed_job in claims.failed_jobs {
            let held = hold(Kind::FailedJob, (failed_job.job.id, failed_job.job.token));
            tasks.spawn(Arc::clone(&self.shared).dead_letter(failed_job, held));
        }
        for job in jobs {
            tasks.spawn(job.start(&*self.perform));
        }
    }

    async fn stop(self, mut tasks: JoinSet<()>, grace: Duration) -> usize {
        let _ = timeout(grace, async { while tasks.join_next().await.is_some() {} }).await;
        if !tasks.is_empty() {
            self.shared.held.stop();
            let _ = timeout(HAND_BACK, async {
                while tasks.join_next().await.is_some() {}
            })
            .await;
            // Only what blocks its thread is not dropped by then.
            let _ = timeout(DROP, tasks.shutdown()).await;
        }
        self.shared.released.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// Gives back what was claimed and not begun.
    async fn release(&self, claims: Claims) {
        let failed_jobs = claims
            .failed_jobs
            .into_iter()
            .map(|failed_job| (failed_job.job, false));
        let jobs = claims.jobs.into_iter().map(|job| (job, true));
        for (job, counts) in jobs.chain(failed_jobs) {
            let verdict = Verdict::Release {
                after: Duration::ZERO,
                history: job.history,
            };
            let asked = self.engine.settle(job.id, job.token, verdict);
            if matches!(asked.await, Ok(Settled::Done)) && counts {
                self.released.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Waits for `other`, or for the end: which it gives.
async fn first<F: Future<Output = Duration>>(
    until: &mut Pin<&mut F>,
    other: impl Future,
) -> Option<Duration> {
    match race(until, other).await {
        Race::First(grace) => Some(grace),
        Race::Second(_) => None,
    }
}

/// The waits between claims that failed.
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

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("engine", &self.shared.engine)
            .field("concurrency", &self.concurrency)
            .field("per_target", &self.per_target)
            .finish_non_exhaustive()
    }
}

/// A worker that runs. Dropped, it is told to stop, and does so by itself, with the grace that it
/// was built with.
#[derive(Debug)]
#[must_use = "dropped, the worker stops"]
pub struct WorkerHandle {
    stop: oneshot::Sender<Duration>,
    task: JoinHandle<usize>,
}

impl WorkerHandle {
    /// Has it claim nothing more, waits for what runs as long as `grace` is, drops what still runs,
    /// and gives those jobs back. Gives how many they were.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the worker goes on stopping.
    pub async fn stop(self, grace: Duration) -> usize {
        let _ = self.stop.send(grace);
        self.task.await.unwrap_or(0)
    }

    /// Whether it has ended by itself, which it does only where a user's code panics that is not
    /// catch_panic.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }
}
