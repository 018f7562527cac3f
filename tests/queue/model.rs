//! The memory engine beside a model that is too simple to be wrong: a list, searched from end to
//! end at each step.

use crate::history;
use proptest::prelude::*;
use std::{
    collections::BTreeSet,
    future::Future,
    pin::Pin,
    task::{Context, Waker},
    time::Duration,
};
use tokio::time::Instant;
use tower_webhook::{
    StoreError, StoreErrorKind,
    attempt::History,
    dead_letter::{Cause, Reason},
    idempotency::IdempotencyKey,
    lease::{FencingToken, Settled},
    queue::{
        Claims, Engine, Enqueued, Job, MemoryQueue, NewJob, Status, Task, TaskId, Terms, Verdict,
    },
};

const MAX_JOBS: usize = 8;
const MAX_FINISHED: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Enqueue {
        key: Option<u8>,
        target: u8,
        order: Option<u8>,
        delay: Duration,
    },
    Claim(Terms),
    Settle {
        claim: usize,
        verdict: Verdict,
    },
    Renew {
        claims: Vec<usize>,
        lease: Duration,
    },
    Pass(Duration),
}

fn time() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(0),
        Just(5),
        Just(10),
        Just(20),
        Just(50),
        Just(100_000)
    ]
    .prop_map(Duration::from_millis)
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        3 => time().prop_map(|retention| Verdict::Done { result: None, retention }),
        2 => time().prop_map(|after| Verdict::Retry { after, history: history(1) }),
        2 => time().prop_map(|after| Verdict::Release { after, history: history(2) }),
        2 => Just(Verdict::Failed { cause: Cause::new(Reason::Rejected), history: history(3) }),
        3 => time().prop_map(|retention| Verdict::DeadLettered { retention }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let enqueue = (
        proptest::option::of(0_u8..3),
        0_u8..3,
        proptest::option::of(0_u8..2),
        time(),
    );
    let terms = (0_usize..4, 0_usize..3, time(), 0_u32..4, 0_u32..4);
    prop_oneof![
        4 => enqueue.prop_map(|(key, target, order, delay)| Step::Enqueue { key, target, order, delay }),
        4 => terms.prop_map(|(jobs, failed_jobs, lease, per_target, attempts)| {
            let terms = Terms::new(jobs, lease).failed_jobs(failed_jobs);
            Step::Claim(terms.per_target(per_target).attempts(attempts))
        }),
        5 => (0_usize..5, verdict()).prop_map(|(claim, verdict)| Step::Settle { claim, verdict }),
        1 => (proptest::collection::vec(0_usize..5, 0..3), time())
            .prop_map(|(claims, lease)| Step::Renew { claims, lease }),
        3 => time().prop_map(Step::Pass),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Waiting { lost: bool },
    Running { until: Instant },
    ToDeadLetter,
    DeadLettering { until: Instant },
    Over { failed: bool, until: Instant },
}

#[derive(Clone, Debug)]
struct Modelled {
    new: NewJob,
    state: State,
    due: Instant,
    attempts: u32,
    token: Option<FencingToken>,
    history: History,
    lost: bool,
}

impl Modelled {
    fn status(&self) -> Status {
        match self.state {
            State::Waiting { .. } => Status::Queued,
            State::Running { .. } => Status::Running,
            State::Over { failed: false, .. } => Status::Succeeded { result: None },
            _ => Status::Failed,
        }
    }
}

/// In the order in which they came.
#[derive(Debug)]
struct Model {
    jobs: Vec<Modelled>,
    /// The keys, ids and ends of tasks that were removed before their time.
    gone: Vec<(IdempotencyKey, TaskId, Instant)>,
    now: Instant,
}

impl Model {
    fn pass(&mut self, by: Duration) {
        self.now += by;
        for job in &mut self.jobs {
            match job.state {
                State::Running { until } if until <= self.now => {
                    job.state = State::Waiting { lost: true };
                    (job.due, job.token) = (until, None);
                }
                State::DeadLettering { until } if until <= self.now => {
                    job.state = State::ToDeadLetter;
                    (job.due, job.token) = (until, None);
                }
                _ => {}
            }
        }
        let now = self.now;
        self.jobs
            .retain(|job| !matches!(job.state, State::Over { until, .. } if until <= now));
        self.gone.retain(|(_, _, until)| *until > now);
    }

    /// What could be claimed now, of targets in which fewer than so many run; due first first.
    fn claimable(&self, per_target: u32) -> Vec<usize> {
        let running = |target: &str| {
            let all = self.jobs.iter();
            let of_target = all.filter(|job| job.new.target == target);
            of_target
                .filter(|job| matches!(job.state, State::Running { .. }))
                .count()
        };
        let mut found: Vec<_> = (0..self.jobs.len())
            .filter(|&index| {
                let job = &self.jobs[index];
                let mut before = self.jobs[..index].iter();
                matches!(job.state, State::Waiting { .. })
                    && job.due <= self.now
                    && running(&job.new.target) < usize::try_from(per_target).unwrap()
                    && !before.any(|other| {
                        job.new.fifo_group.is_some()
                            && other.new.fifo_group == job.new.fifo_group
                            && matches!(other.state, State::Waiting { .. } | State::Running { .. })
                    })
            })
            .collect();
        found.sort_by_key(|&index| (self.jobs[index].due, index));
        found
    }

    fn failed_jobs(&self) -> Vec<usize> {
        let mut found: Vec<_> = (0..self.jobs.len())
            .filter(|&index| {
                let job = &self.jobs[index];
                job.state == State::ToDeadLetter && job.due <= self.now
            })
            .collect();
        found.sort_by_key(|&index| (self.jobs[index].due, index));
        found
    }

    /// The ids of all that somebody could claim.
    fn available(&self) -> BTreeSet<TaskId> {
        let jobs = self
            .claimable(u32::MAX)
            .into_iter()
            .chain(self.failed_jobs());
        jobs.map(|index| self.jobs[index].new.id).collect()
    }

    /// A claim gave this.
    fn claimed(&mut self, terms: &Terms, got: &Claims) {
        self.dead_letter_lost(terms.attempts);
        let until = self.now + terms.lease;
        let mut jobs = got.jobs.iter();
        for _ in 0..terms.jobs {
            let Some(&index) = self.claimable(terms.per_target).first() else {
                break;
            };
            let expected = &mut self.jobs[index];
            expected.attempts += 1;
            expected.state = State::Running { until };
            let job = jobs.next().expect("a job that is due is given");
            expected.token = Some(job.token);
            let id = expected.new.id;
            let expected = (id, expected.attempts, expected.history.clone());
            assert_eq!(seen(job), expected);
        }
        assert_eq!(jobs.next(), None, "nothing else is given");
        let mut failed_jobs = got.failed_jobs.iter();
        for _ in 0..terms.failed_jobs {
            let Some(&index) = self.failed_jobs().first() else {
                break;
            };
            let expected = &mut self.jobs[index];
            expected.state = State::DeadLettering { until };
            let failed_job = failed_jobs
                .next()
                .expect("a failed_job that is due is given");
            expected.token = Some(failed_job.job.token);
            let reason = [Reason::Rejected, Reason::WorkerLost][usize::from(expected.lost)];
            assert_eq!(failed_job.cause.reason, reason);
            let id = expected.new.id;
            let expected = (id, expected.attempts, expected.history.clone());
            assert_eq!(seen(&failed_job.job), expected);
        }
        assert_eq!(failed_jobs.next(), None, "nothing else is given");
    }

    fn renewed(&mut self, (id, token): (TaskId, FencingToken), lease: Duration) -> Settled {
        let Some(index) = self.holder(id, token) else {
            return Settled::Lost;
        };
        match &mut self.jobs[index].state {
            State::Running { until } | State::DeadLettering { until } => *until = self.now + lease,
            other => panic!("held in state {other:?}"),
        }
        Settled::Done
    }

    fn enqueued(&mut self, new: NewJob, result: Result<Enqueued, StoreError>) {
        let mut jobs = self.jobs.iter();
        let first = jobs.find(|job| new.dedup_key.is_some() && job.new.dedup_key == new.dedup_key);
        let mut gone = self.gone.iter();
        let gone = gone.find(|(key, ..)| Some(key) == new.dedup_key.as_ref());
        let first = first.map(|job| job.new.id).or(gone.map(|(_, id, _)| *id));
        if let Some(first) = first {
            let enqueued = result.unwrap();
            assert_eq!((enqueued.id, enqueued.repeated), (first, true));
        } else if self.fullest() >= u64::try_from(MAX_JOBS).unwrap() {
            assert_eq!(result.unwrap_err().kind(), StoreErrorKind::Full);
        } else {
            let enqueued = result.unwrap();
            assert_eq!((enqueued.id, enqueued.repeated), (new.id, false));
            self.jobs.push(Modelled {
                due: self.now + new.delay,
                new,
                state: State::Waiting { lost: false },
                attempts: 0,
                token: None,
                history: History::new(),
                lost: false,
            });
        }
    }

    fn dead_letter_lost(&mut self, attempts: u32) {
        for job in &mut self.jobs {
            if job.state == (State::Waiting { lost: true }) && job.attempts >= attempts {
                job.state = State::ToDeadLetter;
                job.lost = true;
            }
        }
    }

    fn holder(&mut self, id: TaskId, token: FencingToken) -> Option<usize> {
        self.jobs
            .iter()
            .position(|job| job.new.id == id && job.token == Some(token))
    }

    fn settle(&mut self, index: usize, verdict: Verdict) -> Settled {
        let now = self.now;
        let job = &mut self.jobs[index];
        let is_failed_job = matches!(job.state, State::DeadLettering { .. });
        let back = if is_failed_job {
            State::ToDeadLetter
        } else {
            State::Waiting { lost: false }
        };
        match verdict {
            Verdict::Failed { history, .. } if !is_failed_job => {
                (job.state, job.history, job.due) = (State::ToDeadLetter, history, now);
            }
            Verdict::Done { retention, .. } if !is_failed_job => {
                let until = now + retention;
                let failed = false;
                job.state = State::Over { failed, until };
            }
            Verdict::DeadLettered { retention } if is_failed_job => {
                let until = now + retention;
                let failed = true;
                job.state = State::Over { failed, until };
            }
            Verdict::Retry { after, history } => {
                (job.state, job.history, job.due) = (back, history, now + after);
            }
            Verdict::Release { after, history } => {
                (job.state, job.history, job.due) = (back, history, now + after);
                job.attempts -= u32::from(!is_failed_job);
            }
            _ => return Settled::Lost,
        }
        job.token = None;
        self.evict();
        Settled::Done
    }

    fn evict(&mut self) {
        loop {
            let over = self.jobs.iter().enumerate();
            let over: Vec<_> = over
                .filter_map(|(index, job)| match job.state {
                    State::Over { until, .. } => Some((until, index)),
                    _ => None,
                })
                .collect();
            if over.len() <= MAX_FINISHED {
                return;
            }
            if let Some((until, index)) = over.into_iter().min() {
                let job = self.jobs.remove(index);
                if let Some(key) = job.new.dedup_key
                    && until > self.now
                {
                    self.gone.push((key, job.new.id, until));
                }
            }
        }
    }

    /// Failed jobs have room of their own.
    fn fullest(&self) -> u64 {
        let failed = |state| matches!(state, State::ToDeadLetter | State::DeadLettering { .. });
        let over = |state| matches!(state, State::Over { .. });
        let others = self.count(|state| !failed(state) && !over(state));
        others.max(self.count(failed))
    }

    fn count(&self, is: impl Fn(State) -> bool) -> u64 {
        let jobs = self.jobs.iter().filter(|job| is(job.state));
        jobs.count().try_into().unwrap()
    }
}

/// Polls once.
fn is_ready(wait: &mut Pin<Box<dyn Future<Output = ()> + Send>>) -> bool {
    let context = &mut Context::from_waker(Waker::noop());
    wait.as_mut().poll(context).is_ready()
}

/// What a claim says of a job, for comparisons.
fn seen(job: &Job) -> (TaskId, u32, History) {
    (job.id, job.attempt, job.history.clone())
}

async fn run(steps: Vec<Step>, poll_early: bool) {
    let queue = MemoryQueue::builder()
        .max_jobs(MAX_JOBS)
        .max_finished(MAX_FINISHED);
    let queue = queue.build().unwrap();
    let mut model = Model {
        jobs: Vec::new(),
        gone: Vec::new(),
        now: Instant::now(),
    };
    let mut claims: Vec<(TaskId, FencingToken)> = Vec::new();
    // The last claims are the ones that most likely stand.
    let pick = |claims: &[(TaskId, FencingToken)], back: usize| {
        let index = claims.len().checked_sub(back + 1)?;
        claims.get(index).copied()
    };
    let keys = [0_u8, 1, 2].map(|key| IdempotencyKey::new("model", &key.to_string()).unwrap());

    for step in steps {
        model.pass(Duration::ZERO);
        let before = model.available();
        let mut wait = queue.wait(Duration::from_secs(3_600));
        let returned_early = poll_early && is_ready(&mut wait);
        let is_claim = matches!(step, Step::Claim(_));

        match step {
            Step::Pass(by) => {
                tokio::time::advance(by).await;
                model.pass(by);
            }
            Step::Enqueue {
                key,
                target,
                order,
                delay,
            } => {
                let mut new = NewJob::new("model", "payload")
                    .target(target.to_string())
                    .delay(delay);
                new.dedup_key = key.map(|key| keys[usize::from(key)].clone());
                new.fifo_group = order.map(|order| order.to_string());
                let result = queue.enqueue(new.clone()).await;
                model.enqueued(new, result);
            }
            Step::Claim(terms) => {
                let got = queue.claim(terms.clone()).await.unwrap();
                model.claimed(&terms, &got);
                let failed_jobs = got.failed_jobs.iter().map(|failed_job| &failed_job.job);
                for job in got.jobs.iter().chain(failed_jobs) {
                    let mut earlier = claims.iter().filter(|(id, _)| *id == job.id);
                    assert!(earlier.all(|(_, token)| *token < job.token));
                    claims.push((job.id, job.token));
                }
            }
            Step::Settle { claim, verdict } => {
                let Some((id, token)) = pick(&claims, claim) else {
                    continue;
                };
                let settled = queue.settle(id, token, verdict.clone()).await.unwrap();
                let expected = match model.holder(id, token) {
                    Some(index) => model.settle(index, verdict),
                    None => Settled::Lost,
                };
                assert_eq!(settled, expected);
            }
            Step::Renew {
                claims: backs,
                lease,
            } => {
                let picked: Vec<_> = backs
                    .iter()
                    .filter_map(|back| pick(&claims, *back))
                    .collect();
                let settled = queue.renew(picked.clone(), lease).await.unwrap();
                let renewed = picked.iter().map(|claim| model.renewed(*claim, lease));
                assert_eq!(settled, renewed.collect::<Vec<_>>());
            }
        }
        model.pass(Duration::ZERO);

        let came = model.available().difference(&before).count() > 0;
        if came && !is_claim && !returned_early {
            assert!(
                is_ready(&mut wait),
                "who waits is woken when something comes"
            );
        }
        compare(&queue, &model, &keys, &claims).await;
    }
}

/// All that can be asked of the two is answered alike.
async fn compare(
    queue: &MemoryQueue,
    model: &Model,
    keys: &[IdempotencyKey],
    claims: &[(TaskId, FencingToken)],
) {
    let depth = queue.depth().await.unwrap();
    let is = |state: State| match state {
        State::Waiting { .. } => 0,
        State::Running { .. } => 1,
        State::ToDeadLetter | State::DeadLettering { .. } => 2,
        State::Over { .. } => 3,
    };
    let expected = [0, 1, 2].map(|kind| model.count(|state| is(state) == kind));
    assert_eq!(
        [depth.queued, depth.running, depth.dead_lettering],
        expected
    );
    let same = |task: Option<Task>, job: Option<&Modelled>| {
        let task = task.map(|task| (task.id, task.status, task.attempts));
        let job = job.map(|job| (job.new.id, job.status(), job.attempts));
        assert_eq!(task, job);
    };
    for job in &model.jobs {
        same(queue.task(job.new.id).await.unwrap(), Some(job));
    }
    for key in keys {
        let mut jobs = model.jobs.iter();
        let job = jobs.find(|job| job.new.dedup_key.as_ref() == Some(key));
        same(queue.find(key.clone()).await.unwrap(), job);
    }
    for (id, _) in claims {
        let job = model.jobs.iter().find(|job| job.new.id == *id);
        same(queue.task(*id).await.unwrap(), job);
    }
}

proptest! {
    #[test]
    fn the_engine_does_what_the_model_does(
        steps in proptest::collection::vec(step(), 1..60),
        poll_early: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(run(steps, poll_early));
    }
}
