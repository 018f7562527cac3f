//! The memory engine beside a model that is too simple to be wrong: a list, searched from end to
//! end at each step.

use crate::history;
use proptest::prelude::*;
use std::{
    collections::BTreeSet,
    future::Future,
    pin::Pin,
    task::{Context, Waker},
    time::{Duration, SystemTime},
};
use tokio::time::Instant;
use tower_webhook::{
    StoreError, StoreErrorKind,
    attempt::History,
    dead_letter::{Cause, Reason},
    idempotency::IdempotencyKey,
    lease::{FencingToken, Settled},
    queue::{
        Ask, Claim, End, Engine, Enqueued, Job, Jobs, Kinds, MemoryQueue, NewJob, Promises, Status,
        Task, TaskId, Tasks,
    },
};

const MAX_JOBS: usize = 8;
const MAX_FINISHED: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Enqueue {
        key: Option<u8>,
        kind: u8,
        target: u8,
        order: Option<u8>,
        delay: Duration,
    },
    Claim(Ask),
    Settle {
        claim: usize,
        end: End,
    },
    Renew {
        claims: Vec<usize>,
        lease: Duration,
    },
    /// On a job that was put in before.
    Operate(usize, Operation),
    Pass(Duration),
}

#[derive(Clone, Debug)]
enum Operation {
    Cancel,
    Resolve,
    Requeue { with_key: bool },
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

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        6 => Just(End::Done { result: None }),
        2 => time().prop_map(|after| End::Retry { after, history: history(1) }),
        2 => time().prop_map(|after| End::Release { after, history: history(2) }),
        2 => Just(End::Failed { cause: Cause::new(Reason::Rejected), history: history(3) }),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        2 => Just(Operation::Cancel),
        1 => Just(Operation::Resolve),
        2 => any::<bool>().prop_map(|with_key| Operation::Requeue { with_key }),
    ]
}

const KINDS: [&str; 2] = ["one", "two"];

fn step() -> impl Strategy<Value = Step> {
    let enqueue = (
        proptest::option::of(0_u8..3),
        0_u8..2,
        0_u8..3,
        proptest::option::of(0_u8..2),
        time(),
    );
    let ask = (0_usize..4, 0_usize..3, time(), 0_usize..4);
    prop_oneof![
        4 => enqueue.prop_map(|(key, kind, target, order, delay)| {
            Step::Enqueue { key, kind, target, order, delay }
        }),
        4 => ask.prop_map(|(jobs, failed, lease, kinds)| {
            let ask = Ask::new(jobs, lease).most_failed(failed);
            Step::Claim(match kinds {
                0 | 1 => ask.kinds([KINDS[kinds]]),
                2 => ask.kinds(KINDS),
                _ => ask,
            })
        }),
        5 => (0_usize..5, end()).prop_map(|(claim, end)| Step::Settle { claim, end }),
        1 => (proptest::collection::vec(0_usize..5, 0..3), time())
            .prop_map(|(claims, lease)| Step::Renew { claims, lease }),
        5 => (0_usize..5, operation()).prop_map(|(job, how)| Step::Operate(job, how)),
        3 => time().prop_map(Step::Pass),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Waiting,
    Running {
        until: Instant,
    },
    /// While it ran.
    Cancelled {
        until: Instant,
    },
    ToDeadLetter,
    DeadLettering {
        until: Instant,
    },
    Over {
        end: Ended,
        until: Instant,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ended {
    Succeeded,
    Failed,
    Cancelled,
}

#[derive(Clone, Debug)]
struct Modelled {
    new: NewJob,
    state: State,
    due: Instant,
    attempts: u32,
    token: Option<FencingToken>,
    /// The token of a claim to do the job whose lease has ended.
    lapsed: Option<FencingToken>,
    history: History,
    lost: bool,
}

impl Modelled {
    fn status(&self) -> Status {
        match self.state {
            State::Waiting => Status::Queued,
            State::Running { .. } => Status::Running,
            State::Cancelled { .. } => Status::Cancelled,
            State::ToDeadLetter | State::DeadLettering { .. } => Status::Failed,
            State::Over { end, .. } => match end {
                Ended::Succeeded => Status::Succeeded { result: None },
                Ended::Failed => Status::Failed,
                Ended::Cancelled => Status::Cancelled,
            },
        }
    }
}

/// The settings of a queue.
#[derive(Clone, Copy, Debug)]
struct Rules {
    attempts: u32,
    per_target: u32,
    retention: Duration,
}

/// In the order in which they came.
#[derive(Debug)]
struct Model {
    rules: Rules,
    promises: Promises,
    jobs: Vec<Modelled>,
    /// The keys, ids and ends of tasks that were removed before their time, and whether they failed.
    gone: Vec<(IdempotencyKey, TaskId, Instant, bool)>,
    now: Instant,
}

impl Model {
    fn pass(&mut self, by: Duration) {
        self.now += by;
        for index in 0..self.jobs.len() {
            if matches!(self.jobs[index].state, State::Cancelled { until } if until <= self.now) {
                self.finish(index, Ended::Cancelled);
            }
        }
        for job in &mut self.jobs {
            match job.state {
                State::Running { until } if until <= self.now => {
                    let is_last = job.attempts >= self.rules.attempts;
                    job.state = [State::Waiting, State::ToDeadLetter][usize::from(is_last)];
                    job.lost = is_last;
                    job.due = until;
                    job.lapsed = job.token.take();
                }
                State::DeadLettering { until } if until <= self.now => {
                    job.state = State::ToDeadLetter;
                    job.due = until;
                    job.token = None;
                }
                _ => {}
            }
        }
        let now = self.now;
        self.jobs
            .retain(|job| !matches!(job.state, State::Over { until, .. } if until <= now));
        self.gone.retain(|(_, _, until, _)| *until > now);
        self.evict();
    }

    /// What could be claimed now, due first first.
    fn claimable(&self, kinds: &Kinds) -> Vec<usize> {
        let per_target = self.rules.per_target;
        let running = |target: &str| {
            let all = self.jobs.iter();
            let of_target = all.filter(|job| job.new.target == target);
            of_target
                .filter(|job| matches!(job.state, State::Running { .. } | State::Cancelled { .. }))
                .count()
        };
        let mut found: Vec<_> = (0..self.jobs.len())
            .filter(|&index| {
                let job = &self.jobs[index];
                let mut before = self.jobs[..index].iter();
                matches!(job.state, State::Waiting)
                    && kinds.has(&job.new.kind)
                    && job.due <= self.now
                    && running(&job.new.target) < usize::try_from(per_target).unwrap()
                    && !before.any(|other| {
                        job.new.fifo_group.is_some()
                            && other.new.fifo_group == job.new.fifo_group
                            && matches!(
                                other.state,
                                State::Waiting | State::Running { .. } | State::Cancelled { .. }
                            )
                    })
            })
            .collect();
        found.sort_by_key(|&index| (self.jobs[index].due, index));
        found
    }

    fn failed_jobs(&self, kinds: &Kinds) -> Vec<usize> {
        let mut found: Vec<_> = (0..self.jobs.len())
            .filter(|&index| {
                let job = &self.jobs[index];
                job.state == State::ToDeadLetter && kinds.has(&job.new.kind) && job.due <= self.now
            })
            .collect();
        found.sort_by_key(|&index| (self.jobs[index].due, index));
        found
    }

    /// The ids of all that somebody could claim.
    fn available(&self) -> BTreeSet<TaskId> {
        let jobs = self
            .claimable(&Kinds::All)
            .into_iter()
            .chain(self.failed_jobs(&Kinds::All));
        jobs.map(|index| self.jobs[index].new.id).collect()
    }

    /// A claim gave this.
    fn claimed(&mut self, ask: &Ask, got: &[Job]) {
        let until = self.now + ask.lease;
        let mut jobs = got.iter().filter(|job| job.cause.is_none());
        for _ in 0..ask.most {
            let Some(&index) = self.claimable(&ask.kinds).first() else {
                break;
            };
            let expected = &mut self.jobs[index];
            expected.attempts += 1;
            expected.state = State::Running { until };
            let job = jobs.next().expect("a job that is due is given");
            (expected.token, expected.lapsed) = (Some(job.token), None);
            let id = expected.new.id;
            let expected = (id, expected.attempts, expected.history.clone());
            assert_eq!(seen(job), expected);
        }
        assert_eq!(jobs.next(), None, "nothing else is given");
        let mut failed_jobs = got.iter().filter(|job| job.cause.is_some());
        for _ in 0..ask.most_failed {
            let Some(&index) = self.failed_jobs(&ask.kinds).first() else {
                break;
            };
            let expected = &mut self.jobs[index];
            expected.state = State::DeadLettering { until };
            let job = failed_jobs
                .next()
                .expect("a failed job that is due is given");
            (expected.token, expected.lapsed) = (Some(job.token), None);
            let reason = [Reason::Rejected, Reason::WorkerLost][usize::from(expected.lost)];
            assert_eq!(job.cause.as_ref().unwrap().reason, reason);
            let id = expected.new.id;
            let expected = (id, expected.attempts, expected.history.clone());
            assert_eq!(seen(job), expected);
        }
        assert_eq!(failed_jobs.next(), None, "nothing else is given");
    }

    fn renewed(&mut self, claim: Claim, lease: Duration) -> Settled {
        let until = self.now + lease;
        let Some(index) = self.holder(claim, false) else {
            return Settled::Lost;
        };
        let job = &mut self.jobs[index];
        job.state = match job.state {
            State::Cancelled { .. } => return Settled::Lost,
            State::Running { .. } => State::Running { until },
            State::DeadLettering { .. } => State::DeadLettering { until },
            other => panic!("held in state {other:?}"),
        };
        Settled::Done
    }

    fn enqueued(&mut self, new: NewJob, result: Result<Enqueued, StoreError>) {
        let mut jobs = self.jobs.iter();
        let first = jobs.find(|job| new.dedup_key.is_some() && job.new.dedup_key == new.dedup_key);
        let mut gone = self.gone.iter();
        let gone = gone.find(|(key, ..)| Some(key) == new.dedup_key.as_ref());
        let first = first.map(|job| job.new.id).or(gone.map(|(_, id, ..)| *id));
        let same = self.position(new.id);
        let has_failed = |index: usize| self.jobs[index].status() == Status::Failed;
        let gone_failed = gone.is_none_or(|(_, id, _, failed)| *id != new.id || *failed);
        let again = new.requeue && same.map_or(gone_failed, has_failed);
        let first = first.or(same.map(|_| new.id));
        if let Some(first) = first.filter(|first| !(again && *first == new.id)) {
            let enqueued = result.unwrap();
            assert_eq!((enqueued.id, enqueued.repeated), (first, true));
        } else if self.fullest() >= u64::try_from(MAX_JOBS).unwrap() {
            assert_eq!(result.unwrap_err().kind(), StoreErrorKind::Full);
        } else {
            let enqueued = result.unwrap();
            assert_eq!((enqueued.id, enqueued.repeated), (new.id, false));
            if let Some(index) = same
                && let Some(key) = self.jobs.remove(index).new.dedup_key
            {
                let until = self.now + self.rules.retention;
                self.gone.push((key, new.id, until, true));
            }
            self.gone
                .retain(|(key, ..)| Some(key) != new.dedup_key.as_ref());
            self.jobs.push(Modelled {
                due: self.now + new.admit(&self.promises, SystemTime::now()).unwrap(),
                new,
                state: State::Waiting,
                attempts: 0,
                token: None,
                lapsed: None,
                history: History::new(),
                lost: false,
            });
        }
    }

    fn position(&self, id: TaskId) -> Option<usize> {
        self.jobs.iter().position(|job| job.new.id == id)
    }

    fn finish(&mut self, index: usize, end: Ended) {
        let until = self.now + self.rules.retention;
        let job = &mut self.jobs[index];
        job.state = State::Over { end, until };
        (job.token, job.lapsed) = (None, None);
    }

    fn cancel(&mut self, id: TaskId) -> Option<Status> {
        let index = self.position(id)?;
        match self.jobs[index].state {
            State::Waiting => self.finish(index, Ended::Cancelled),
            State::Running { until } => self.jobs[index].state = State::Cancelled { until },
            _ => return Some(self.jobs[index].status()),
        }
        self.evict();
        Some(Status::Cancelled)
    }

    fn resolve(&mut self, id: TaskId) -> bool {
        let index = self.position(id);
        let Some(index) = index.filter(|index| self.jobs[*index].status() == Status::Failed) else {
            return false;
        };
        self.finish(index, Ended::Succeeded);
        self.evict();
        true
    }

    /// The job of this claim, held again if its lease had ended and nobody has claimed it since.
    fn holder(&mut self, claim: Claim, is_final: bool) -> Option<usize> {
        let now = self.now;
        let index = self.position(claim.id)?;
        let job = &mut self.jobs[index];
        if job.token == Some(claim.token) {
            return Some(index);
        }
        let token = job.lapsed?;
        let given_up = job.state == State::ToDeadLetter;
        if token != claim.token || given_up && !is_final {
            return None;
        }
        job.state = State::Running { until: now };
        job.lost = false;
        (job.token, job.lapsed) = (Some(token), None);
        Some(index)
    }

    fn settle(&mut self, index: usize, end: End) -> Settled {
        let now = self.now;
        let job = &mut self.jobs[index];
        if matches!(job.state, State::Cancelled { .. }) {
            self.finish(index, Ended::Cancelled);
            self.evict();
            return Settled::Lost;
        }
        let is_failed = matches!(job.state, State::DeadLettering { .. });
        let back = if is_failed {
            State::ToDeadLetter
        } else {
            State::Waiting
        };
        match end {
            End::Failed { history, .. } => {
                (job.state, job.history, job.due) = (State::ToDeadLetter, history, now);
                job.lost = false;
            }
            End::Done { .. } => {
                let end = [Ended::Succeeded, Ended::Failed][usize::from(is_failed)];
                self.finish(index, end);
                self.evict();
                return Settled::Done;
            }
            End::Retry { after, history } => {
                (job.state, job.history, job.due) = (back, history, now + after);
            }
            End::Release { after, history } => {
                (job.state, job.history, job.due) = (back, history, now + after);
                job.attempts -= u32::from(!is_failed);
            }
            other => panic!("{other:?}"),
        }
        job.token = None;
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
                let failed = job.status() == Status::Failed;
                if let Some(key) = job.new.dedup_key
                    && until > self.now
                {
                    self.gone.push((key, job.new.id, until, failed));
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

async fn run(rules: Rules, steps: Vec<Step>, poll_early: bool) {
    let queue = MemoryQueue::builder()
        .max_jobs(MAX_JOBS)
        .max_finished(MAX_FINISHED)
        .attempts(rules.attempts)
        .per_target(rules.per_target)
        .retention(rules.retention);
    let queue = queue.build().unwrap();
    let mut model = Model {
        rules,
        promises: queue.promises(),
        jobs: Vec::new(),
        gone: Vec::new(),
        now: Instant::now(),
    };
    let mut claims: Vec<Claim> = Vec::new();
    let mut known: Vec<NewJob> = Vec::new();
    // The last claims are the ones that most likely stand.
    let pick = |claims: &[Claim], back: usize| claims.iter().rev().nth(back).copied();
    let keys = [0_u8, 1, 2].map(|key| IdempotencyKey::new("model", &key.to_string()).unwrap());

    for step in steps {
        model.pass(Duration::ZERO);
        let before = model.available();
        let mark = queue.claim(Ask::new(0, Duration::ZERO)).await.unwrap().mark;
        let mut wait = queue.wait(mark, Duration::from_secs(3_600));
        if poll_early {
            assert!(!is_ready(&mut wait), "nothing has come since the claim");
        }
        let is_claim = matches!(step, Step::Claim(_));

        match step {
            Step::Pass(by) => {
                tokio::time::advance(by).await;
                model.pass(by);
            }
            Step::Enqueue {
                key,
                kind,
                target,
                order,
                delay,
            } => {
                let mut new = NewJob::new(KINDS[usize::from(kind)], "payload")
                    .target(target.to_string())
                    .delay(delay);
                new.dedup_key = key.map(|key| keys[usize::from(key)].clone());
                new.fifo_group = order.map(|order| order.to_string());
                known.push(new.clone());
                let mut results = queue.enqueue(vec![new.clone()]).await.unwrap();
                model.enqueued(new, results.remove(0));
            }
            Step::Operate(job, how) => {
                if let Some(new) = known.iter().rev().nth(job) {
                    operate(&queue, &mut model, new.clone(), how).await;
                }
            }
            Step::Claim(ask) => {
                let got = queue.claim(ask.clone()).await.unwrap().jobs;
                model.claimed(&ask, &got);
                for job in &got {
                    let mut earlier = claims.iter().filter(|claim| claim.id == job.id);
                    assert!(earlier.all(|claim| claim.token < job.token));
                    claims.push(job.claim());
                }
            }
            Step::Settle { claim, end } => {
                let Some(claim) = pick(&claims, claim) else {
                    continue;
                };
                let settled = queue.settle(vec![(claim, end.clone())]).await.unwrap();
                let is_final = matches!(end, End::Done { .. } | End::Failed { .. });
                let expected = match model.holder(claim, is_final) {
                    Some(index) => model.settle(index, end),
                    None => Settled::Lost,
                };
                assert_eq!(settled, [expected]);
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
        if came && !is_claim {
            assert!(
                is_ready(&mut wait),
                "who waits is woken when something comes"
            );
        }
        compare(&queue, &model, &keys, &claims).await;
    }
}

async fn operate(queue: &MemoryQueue, model: &mut Model, mut new: NewJob, how: Operation) {
    let id = new.id;
    match how {
        Operation::Cancel => assert_eq!(queue.cancel(id).await.unwrap(), model.cancel(id)),
        Operation::Resolve => {
            assert_eq!(queue.resolve(id, None).await.unwrap(), model.resolve(id));
        }
        Operation::Requeue { with_key } => {
            new.requeue = true;
            new.dedup_key = new.dedup_key.filter(|_| with_key);
            let mut results = queue.enqueue(vec![new.clone()]).await.unwrap();
            model.enqueued(new, results.remove(0));
        }
    }
}

/// All that can be asked of the two is answered alike.
async fn compare(queue: &MemoryQueue, model: &Model, keys: &[IdempotencyKey], claims: &[Claim]) {
    let depth = queue.depth().await.unwrap();
    let is = |state: State| match state {
        State::Waiting => 0,
        State::Running { .. } | State::Cancelled { .. } => 1,
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
    for Claim { id, .. } in claims {
        let job = model.jobs.iter().find(|job| job.new.id == *id);
        same(queue.task(*id).await.unwrap(), job);
    }
}

proptest! {
    #[test]
    fn the_engine_does_what_the_model_does(
        (attempts, per_target, retention) in (1_u32..4, 1_u32..4, 1_u64..100),
        steps in proptest::collection::vec(step(), 1..60),
        poll_early: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let retention = Duration::from_millis(retention);
        let rules = Rules { attempts, per_target, retention };
        runtime.block_on(run(rules, steps, poll_early));
    }
}
