//! The memory engine: the contract, its bounds, and what waiting costs.

use bytes::Bytes;
use std::{
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::{Duration, UNIX_EPOCH},
};
use tokio_test::{assert_pending, assert_ready, task};
use tower_webhook::{
    BoxFuture, StoreError, StoreErrorKind,
    attempt::History,
    clock::WallClock,
    dead_letter::{Cause, Reason},
    idempotency::IdempotencyKey,
    lease::Settled,
    observe::{Event, observer_fn},
    queue::{
        Ask, End, Engine, Enqueued, MemoryQueue, MemoryQueueBuilder, NewJob, Queue, TaskId, Tasks,
        contract,
    },
};

#[derive(Default)]
struct Subject {
    last: Mutex<Option<MemoryQueue>>,
}

impl contract::Subject for Subject {
    async fn engine(&self, settings: contract::Settings) -> Arc<dyn Engine> {
        let engine = MemoryQueue::builder()
            .max_jobs(settings.max_jobs)
            .attempts(settings.attempts)
            .per_target(settings.per_target)
            .retention(settings.retention);
        let engine = engine.build().unwrap();
        *self.last.lock().unwrap() = Some(engine.clone());
        Arc::new(engine)
    }

    /// Clones share their jobs.
    async fn again(&self) -> Option<Arc<dyn Engine>> {
        let last = self.last.lock().unwrap().clone();
        last.map(|engine| Arc::new(engine) as _)
    }

    /// It reads the monotonic clock.
    async fn leap(&self, _: Duration) -> bool {
        true
    }

    async fn advance(&self, by: Duration) {
        tokio::time::advance(by).await;
    }
}

/// The contract on the clock that tests cannot move.
struct RealTime;

impl contract::Subject for RealTime {
    async fn engine(&self, settings: contract::Settings) -> Arc<dyn Engine> {
        Subject::default().engine(settings).await
    }

    async fn advance(&self, by: Duration) {
        tokio::time::sleep(by).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_contract_holds() {
    let grade = contract::check(&Subject::default()).await;
    let moves = [
        "a_failed_job_moves_with_its_entry",
        "an_entry_moves_back_once",
        "an_entry_moves_back_by_its_newest_claim",
        "a_dropped_move_is_done_or_not",
    ];
    assert_eq!(grade.left_out, moves, "it promises everything else");
    assert!(grade.checked.len() > 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_many_do_at_once_holds_between_threads() {
    contract::one_of_many_with_a_key_is_put_in(&RealTime).await;
    contract::each_job_is_claimed_once(&RealTime).await;
    contract::a_backlog_is_claimed_at_once(&RealTime).await;
    contract::a_job_that_kills_its_workers_is_dead_lettered_once(&RealTime).await;
    contract::waiting_has_an_end(&RealTime).await;
    contract::what_comes_wakes_who_waits(&RealTime).await;
    contract::what_time_brings_wakes_who_waits(&RealTime).await;
    contract::news_between_a_claim_and_a_wait_are_not_missed(&RealTime).await;
    for _ in 0..10 {
        contract::a_burst_is_drained(&RealTime).await;
    }
}

const LONG: Duration = Duration::from_secs(600);

/// Polls a future that is ready at once.
fn now<T>(mut future: BoxFuture<Result<T, StoreError>>) -> Result<T, StoreError> {
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the memory engine waits for nothing"),
    }
}

/// Adds a job.
fn enqueue(queue: &MemoryQueue, job: NewJob) -> Result<Enqueued, StoreError> {
    now(queue.enqueue(vec![job])).unwrap().remove(0)
}

fn put(queue: &MemoryQueue, job: NewJob) -> Result<TaskId, StoreError> {
    enqueue(queue, job).map(|enqueued| enqueued.id)
}

fn finish(queue: &MemoryQueue, result: Option<Bytes>) -> TaskId {
    let claims = now(queue.claim(Ask::new(1, LONG))).unwrap();
    let claim = claims.jobs[0].claim();
    let settled = now(queue.settle(vec![(claim, End::Done { result })]));
    assert_eq!(settled.unwrap(), [Settled::Done]);
    claim.id
}

#[test]
fn settings_that_make_no_sense_are_named() {
    type Set = fn(MemoryQueueBuilder) -> MemoryQueueBuilder;
    let wrong: [(&str, Set); 10] = [
        ("max_jobs", |builder| builder.max_jobs(0)),
        ("max_keys", |builder| builder.max_keys(0)),
        ("max_bytes", |builder| builder.max_bytes(0)),
        ("max_payload", |builder| builder.max_payload(0)),
        ("max_payload", |builder| {
            builder.max_bytes(10).max_payload(11)
        }),
        ("max_finished", |builder| builder.max_finished(0)),
        ("max_results", |builder| builder.max_results(0)),
        ("attempts", |builder| builder.attempts(0)),
        ("per_target", |builder| builder.per_target(0)),
        ("retention", |builder| builder.retention(Duration::ZERO)),
    ];
    for (setting, set) in wrong {
        let error = set(MemoryQueue::builder()).build().unwrap_err();
        assert_eq!(error.setting(), setting);
    }
}

#[test]
fn a_job_that_never_fits_is_too_large_and_one_that_fits_later_is_refused_for_now() {
    let queue = MemoryQueue::builder().max_bytes(1_000).max_payload(600);
    let queue = queue.build().unwrap();
    let put = |bytes: usize, target: usize| {
        let job = NewJob::new("", vec![7; bytes]).target("t".repeat(target));
        put(&queue, job).map_err(|error| error.kind())
    };
    assert_eq!(put(601, 0), Err(StoreErrorKind::TooLarge));
    assert_eq!(put(600, 401), Err(StoreErrorKind::TooLarge));
    assert!(put(600, 399).is_ok());
    assert_eq!(put(2, 0), Err(StoreErrorKind::Full));
    assert!(put(1, 0).is_ok());
    assert_eq!(put(1, 0), Err(StoreErrorKind::Full));
    finish(&queue, None);
    assert!(put(600, 399).is_ok(), "what is done takes no room");
}

#[test]
fn no_more_than_so_many_finished_tasks_are_kept() {
    let queue = MemoryQueue::builder().max_finished(2).build().unwrap();
    let mut ids = Vec::new();
    for _ in 0..3 {
        put(&queue, NewJob::new("test", "")).unwrap();
        ids.push(finish(&queue, None));
    }
    let kept = ids.iter().map(|id| now(queue.task(*id)).unwrap().is_some());
    assert_eq!(kept.collect::<Vec<_>>(), [false, true, true]);
}

fn keyed(id: usize) -> NewJob {
    NewJob::new("test", "").dedup_key(IdempotencyKey::new("test", &id.to_string()).unwrap())
}

/// Hazard: a key that leaves with its task is taken as new long before its retention is over.
#[tokio::test(start_paused = true)]
async fn a_key_is_known_for_its_retention_however_many_tasks_finish_meanwhile() {
    let queue = MemoryQueue::builder().max_finished(10).retention(LONG);
    let queue = queue.build().unwrap();
    let mut ids = Vec::new();
    for number in 0..100 {
        enqueue(&queue, keyed(number)).unwrap();
        ids.push(finish(&queue, None));
    }
    assert_eq!(now(queue.task(ids[0])).unwrap(), None, "its status is gone");
    for (number, id) in ids.iter().enumerate() {
        let repeat = enqueue(&queue, keyed(number)).unwrap();
        assert_eq!((repeat.id, repeat.repeated), (*id, true), "key {number}");
    }
    assert_eq!(now(queue.depth()).unwrap().unfinished(), 0);
    tokio::time::advance(LONG).await;
    let new = enqueue(&queue, keyed(0)).unwrap();
    assert!(!new.repeated, "its retention is over");
}

/// Hazard: a dead letter outlives its requeue, and its job succeeds: a second requeue has it done twice when its status is
/// gone. A task that failed has nothing but its entry then, which is to be queued again.
#[tokio::test(start_paused = true)]
async fn a_key_says_whether_its_task_failed_when_its_status_is_gone() {
    let queue = MemoryQueue::builder().max_finished(1).retention(LONG);
    let queue = queue.build().unwrap();
    let jobs = [0, 1, 2, 3].map(keyed);
    for (number, job) in jobs.iter().enumerate() {
        enqueue(&queue, job.clone()).unwrap();
        match number {
            1 => drop(now(queue.jobs().unwrap().cancel(job.id)).unwrap()),
            2 => {
                let claims = now(queue.claim(Ask::new(1, LONG))).unwrap();
                let failed = End::Failed {
                    cause: Cause::new(Reason::Rejected),
                    history: History::new(),
                };
                let settled = now(queue.settle(vec![(claims.jobs[0].claim(), failed)]));
                assert_eq!(settled.unwrap(), [Settled::Done]);
                let claims = now(queue.claim(Ask::new(0, LONG).most_failed(1))).unwrap();
                let written = (claims.jobs[0].claim(), End::Done { result: None });
                assert_eq!(now(queue.settle(vec![written])).unwrap(), [Settled::Done]);
            }
            _ => drop(finish(&queue, None)),
        }
    }
    let [succeeded, cancelled, failed, _] = jobs;
    for (mut job, is_known) in [(succeeded, true), (cancelled, true), (failed, false)] {
        let id = job.id;
        assert_eq!(now(queue.task(id)).unwrap(), None, "its status is gone");
        let repeat = enqueue(&queue, job.clone()).unwrap();
        assert_eq!((repeat.id, repeat.repeated), (id, true));
        job.requeue = true;
        let again = enqueue(&queue, job).unwrap();
        assert_eq!((again.id, again.repeated), (id, is_known));
    }
    assert_eq!(now(queue.depth()).unwrap().queued, 1);
}

/// Hazard: a bound that is kept by forgetting keys, of which nobody hears.
#[tokio::test(start_paused = true)]
async fn a_job_with_one_key_too_many_is_refused_and_told() {
    let (told, heard) = std::sync::mpsc::channel();
    let queue = MemoryQueue::builder()
        .max_finished(1)
        .max_keys(20)
        .retention(LONG);
    let queue = queue.observe(observer_fn(move |event| {
        if let Event::Trouble { part, what, .. } = event {
            let _ = told.send((*part, *what));
        }
    }));
    let queue = queue.build().unwrap();
    let mut ids = Vec::new();
    for number in 0..17 {
        enqueue(&queue, keyed(number)).unwrap();
        ids.push(finish(&queue, None));
    }
    assert_eq!(heard.try_iter().count(), 0);
    for number in 17..20 {
        ids.push(enqueue(&queue, keyed(number)).unwrap().id);
    }
    let early: Vec<_> = heard.try_iter().collect();
    assert!(
        early.len() == 1 && early[0].1.contains("nine tenths"),
        "{early:?}"
    );
    for number in 20..23 {
        let refused = enqueue(&queue, keyed(number)).unwrap_err();
        assert_eq!(refused.kind(), StoreErrorKind::Full);
    }
    let heard: Vec<_> = heard.try_iter().collect();
    assert_eq!(heard.len(), 3);
    assert!(heard[0].0 == "queue" && heard[0].1.contains("was refused"));
    for (number, id) in ids.iter().enumerate() {
        let repeat = enqueue(&queue, keyed(number)).unwrap();
        assert_eq!((repeat.id, repeat.repeated), (*id, true));
    }
    put(&queue, NewJob::new("test", "")).unwrap();
    tokio::time::advance(LONG).await;
    enqueue(&queue, keyed(20)).expect("there is room again");
}

#[test]
fn results_take_no_more_than_their_bound() {
    let queue = MemoryQueue::builder().max_results(100).build().unwrap();
    let mut ids = Vec::new();
    for length in [60, 40, 1] {
        put(&queue, NewJob::new("test", "")).unwrap();
        ids.push(finish(&queue, Some(vec![7; length].into())));
    }
    let kept = ids.iter().map(|id| now(queue.task(*id)).unwrap().is_some());
    assert_eq!(kept.collect::<Vec<_>>(), [false, true, true]);

    put(&queue, NewJob::new("test", "")).unwrap();
    let claims = now(queue.claim(Ask::new(1, LONG))).unwrap();
    let claim = claims.jobs[0].claim();
    let settle = |result: Option<Bytes>| now(queue.settle(vec![(claim, End::Done { result })]));
    let refused = settle(Some(vec![7; 101].into()));
    assert_eq!(refused.unwrap_err().kind(), StoreErrorKind::TooLarge);
    let settled = settle(None).unwrap();
    assert_eq!(settled, [Settled::Done], "the claim still stands");
}

#[test]
fn a_job_is_accepted_at_the_time_of_the_clock() {
    let time = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let queue = MemoryQueue::builder().clock(WallClock::fixed(time));
    let queue = queue.build().unwrap();
    let id = put(&queue, NewJob::new("test", "")).unwrap();
    let task = now(queue.task(id)).unwrap().unwrap();
    assert_eq!(task.accepted_at, time);
}

#[test]
fn what_is_never_polled_is_never_done() {
    let queue = MemoryQueue::default();
    drop(queue.enqueue(vec![NewJob::new("test", "")]));
    assert_eq!(now(queue.depth()).unwrap().unfinished(), 0);
    put(&queue, NewJob::new("test", "")).unwrap();
    drop(queue.claim(Ask::new(1, LONG)));
    assert_eq!(now(queue.depth()).unwrap().queued, 1);
}

#[test]
fn neither_payload_nor_result_is_shown() {
    let queue = MemoryQueue::default();
    let job = NewJob::new("test", "hush").target("whom");
    put(&queue, job).unwrap();
    let id = finish(&queue, Some("hush".into()));
    let task = now(queue.task(id)).unwrap();
    let shown = format!("{queue:?} {task:?}");
    assert!(!shown.contains("hush"), "{shown}");
}

/// The first of the waiters may be dropped, or do nothing with what it was told: the others are
/// told all the same.
#[tokio::test(start_paused = true)]
async fn each_waiter_is_told() {
    let queue = MemoryQueue::default();
    let seen = queue.claim(Ask::new(1, LONG)).await.unwrap().mark;
    let mut waits: Vec<_> = (0..5)
        .map(|_| task::spawn(queue.wait(seen, LONG)))
        .collect();
    for wait in &mut waits {
        assert_pending!(wait.poll());
    }
    let handle = Queue::new(queue);
    handle.enqueue(NewJob::new("test", "")).await.unwrap();
    drop(waits.remove(0));
    for wait in &mut waits {
        assert!(wait.is_woken());
        assert_ready!(wait.poll());
    }
}

/// A worker that has its hands full and looks nevertheless does not run in circles.
#[tokio::test(start_paused = true)]
async fn a_backlog_that_nobody_wants_wakes_nobody_twice() {
    let queue = MemoryQueue::default();
    let jobs = (0..10).map(|_| NewJob::new("test", "")).collect();
    queue.enqueue(jobs).await.unwrap();
    for _ in 0..10 {
        let seen = queue.claim(Ask::new(0, LONG)).await.unwrap().mark;
        let mut wait = task::spawn(queue.wait(seen, LONG));
        assert_pending!(wait.poll());
    }
}

/// What one worker leaves, because it has no room, another one is told whose claim was before.
#[tokio::test(start_paused = true)]
async fn what_a_worker_leaves_is_told_to_the_next() {
    let queue = MemoryQueue::default();
    let other = queue.claim(Ask::new(1, LONG)).await.unwrap().mark;
    let jobs = (0..2).map(|_| NewJob::new("test", "")).collect();
    queue.enqueue(jobs).await.unwrap();
    queue.claim(Ask::new(1, LONG)).await.unwrap();
    assert_ready!(task::spawn(queue.wait(other, LONG)).poll());
    queue.claim(Ask::new(1, LONG)).await.unwrap();
    let seen = queue.claim(Ask::new(1, LONG)).await.unwrap().mark;
    assert_pending!(task::spawn(queue.wait(seen, LONG)).poll());
}
