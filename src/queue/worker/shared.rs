//! What the tasks of a worker share.

use super::{WorkerEvent, entry::Describe, held::Held};
use crate::{
    StoreErrorKind,
    catch_panic::catch_panic,
    clock::WallClock,
    dead_letter::{DeadLetters, Redaction},
    lease::{FencingToken, Settled},
    metrics::{Level, Measurement, Recorder, Series, SharedRecorder},
    outcome::Outcome,
    queue::{Engine, Job, Status, TaskId, Verdict},
    retry::RetryConfig,
    trace::trouble,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};
use tokio::time::{sleep, timeout};

pub(super) type Hook = Arc<dyn Fn(&WorkerEvent<'_>) + Send + Sync>;

pub(super) struct Shared {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) held: Arc<Held>,
    pub(super) lease: Duration,
    pub(super) attempt_timeout: Duration,
    pub(super) retention: Duration,
    pub(super) retry: RetryConfig,
    pub(super) clock: WallClock,
    pub(super) dead_letters: Option<DeadLetters>,
    pub(super) describe: Option<Describe>,
    pub(super) entry_body: usize,
    pub(super) redaction: Redaction,
    pub(super) recorder: Option<SharedRecorder>,
    pub(super) hook: Option<Hook>,
    /// Jobs that were given back because the worker stops.
    pub(super) released: AtomicUsize,
    /// DeadLetterDesk that could not be written, since one could.
    pub(super) unwritten: AtomicU32,
}

impl Shared {
    pub(super) fn tell(&self, event: &WorkerEvent<'_>) {
        if let Some(hook) = &self.hook {
            let _ = catch_panic(|| hook(event));
        }
    }

    pub(super) fn trouble(&self, asked: &'static str, kind: StoreErrorKind) {
        trouble!(
            "worker",
            "the queue failed",
            asked = asked,
            kind = kind.as_str()
        );
        self.tell(&WorkerEvent::Trouble { asked, kind });
    }

    /// How old the job is: its times count from when it was accepted.
    pub(super) fn age(&self, accepted_at: SystemTime) -> Duration {
        let since = self.clock.now().duration_since(accepted_at);
        since.unwrap_or_default()
    }

    pub(super) fn retried(&self, job: &Job, outcome: Outcome) {
        if let Some(recorder) = &self.recorder {
            let _ = catch_panic(|| recorder.retried(&job.target, outcome.code()));
        }
    }

    /// Measures a task that is over.
    pub(super) fn finished(&self, job: &Job, outcome: Outcome, attempts: u32) {
        let Some(recorder) = &self.recorder else {
            return;
        };
        let elapsed = self.age(job.accepted_at);
        let _ = catch_panic(|| {
            let series = recorder.series(&job.target);
            series.started(Level::Delivery);
            let measurement = Measurement::new(Level::Delivery, outcome, elapsed);
            series.finished(&measurement.with_attempts(attempts));
        });
    }

    /// Ends a claim, for as long as it takes. The claim is renewed meanwhile, so whoever calls this
    /// is told when that fails.
    ///
    /// One that was asked for and not answered may have been done, and is then lost when it is
    /// asked for again: as is one whose lease was over. The second is what is said, so that nothing
    /// is told as done that was not.
    pub(super) async fn settle(
        &self,
        id: TaskId,
        token: FencingToken,
        mut verdict: Verdict,
    ) -> Settled {
        let mut wait = Duration::from_millis(50);
        loop {
            let asked = self.engine.settle(id, token, verdict.clone());
            let kind = match timeout(self.lease / 3, asked).await {
                Ok(Ok(settled)) => return settled,
                Ok(Err(error)) => error.kind(),
                Err(_) => StoreErrorKind::Timeout,
            };
            if kind == StoreErrorKind::TooLarge && drop_result(&mut verdict) {
                trouble!("worker", "a result is too long for the queue", id = id);
                continue;
            }
            self.trouble("settle", kind);
            sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(2));
        }
    }

    /// Whether a job whose claim has ended was done in this attempt: the handler has ended it, in a
    /// transaction of its own, or what ended it was not answered. Gives up, and says no, after so
    /// long.
    pub(super) async fn is_done(&self, job: &Job, patience: Duration) -> bool {
        let asking = async {
            loop {
                match self.engine.task(job.id).await {
                    // Another's success has another number.
                    Ok(task) => {
                        return task.is_some_and(|task| {
                            matches!(task.status, Status::Succeeded { .. })
                                && task.attempts == job.attempt
                        });
                    }
                    Err(error) => self.trouble("task", error.kind()),
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(patience, asking).await.unwrap_or(false)
    }

    /// How long to wait before an entry is tried again.
    pub(super) fn not_written(&self, job: &Job, kind: StoreErrorKind) -> Duration {
        if matches!(kind, StoreErrorKind::Rejected | StoreErrorKind::TooLarge) {
            // It is the entry, and no reason to keep others waiting.
            let last = job.history.last();
            let ended = last.map(|last| last.started().saturating_add(last.took()));
            let ended = job.accepted_at.checked_add(ended.unwrap_or_default());
            let ended = ended.unwrap_or(job.accepted_at);
            return self.as_long_again(ended, Duration::from_secs(60 * 60));
        }
        // It is the sink: by how often none could be written.
        let before = self.unwritten.fetch_add(1, Ordering::Relaxed);
        let longest = Duration::from_secs(1 << before.min(6));
        longest.mul_f64(fastrand::f64().mul_add(0.5, 0.5))
    }

    /// A wait that grows without a count: as long as it has been already, and no more than `most`.
    pub(super) fn as_long_again(&self, since: SystemTime, most: Duration) -> Duration {
        let longest = self.age(since).clamp(Duration::from_secs(1), most);
        longest.mul_f64(fastrand::f64().mul_add(0.5, 0.5))
    }
}

fn drop_result(verdict: &mut Verdict) -> bool {
    match verdict {
        Verdict::Done { result, .. } => result.take().is_some(),
        _ => false,
    }
}
