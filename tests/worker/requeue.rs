//! Dead letters of jobs go back into their queue.

use crate::support::{Bench, SECOND};
use http::Request;
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tower::service_fn;
use tower_webhook::{
    BoxError, BoxFuture, StoreError, StoreErrorKind,
    body::BufferedBody,
    dead_letter::{
        DeadLetters, Discarded, Entry, EntryBody, EntryClaim, EntryId, Filter, LetterStore,
        Listing, MemoryDeadLetters, Page, Reason, Sink, redrive::Redrive, redrive::Redriven,
    },
    idempotency::IdempotencyKey,
    lease::{FencingToken, Settled},
    queue::{Job, JobFilter, MemoryQueue, NewJob, Requeue, Status, TaskId, WorkerHandle},
};

/// A store whose removals can be made to fail.
#[derive(Clone, Debug, Default)]
struct Letters {
    inner: MemoryDeadLetters,
    keeps: Arc<AtomicBool>,
}

impl Sink for Letters {
    fn write(&self, entry: &Arc<Entry>) -> BoxFuture<Result<(), StoreError>> {
        self.inner.write(entry)
    }
}

impl LetterStore for Letters {
    fn list(&self, filter: &Filter, page: &Page) -> BoxFuture<Result<Listing, StoreError>> {
        self.inner.list(filter, page)
    }

    fn get(&self, id: EntryId) -> BoxFuture<Result<Option<Entry>, StoreError>> {
        self.inner.get(id)
    }

    fn claim(
        &self,
        id: EntryId,
        lease: std::time::Duration,
        max_replays: u32,
    ) -> BoxFuture<Result<EntryClaim, StoreError>> {
        self.inner.claim(id, lease, max_replays)
    }

    fn renew(
        &self,
        id: EntryId,
        token: FencingToken,
        lease: std::time::Duration,
    ) -> BoxFuture<Result<Settled, StoreError>> {
        self.inner.renew(id, token, lease)
    }

    fn release(
        &self,
        token: FencingToken,
        entry: &Arc<Entry>,
    ) -> BoxFuture<Result<Settled, StoreError>> {
        self.inner.release(token, entry)
    }

    fn remove(&self, id: EntryId, token: FencingToken) -> BoxFuture<Result<Settled, StoreError>> {
        if self.keeps.load(Ordering::SeqCst) {
            return Box::pin(async { Err(StoreError::new(StoreErrorKind::Unavailable)) });
        }
        self.inner.remove(id, token)
    }

    fn discard(&self, id: EntryId) -> BoxFuture<Result<Discarded, StoreError>> {
        self.inner.discard(id)
    }

    fn count(&self, filter: &Filter) -> BoxFuture<Result<u64, StoreError>> {
        self.inner.count(filter)
    }
}

/// A queue whose worker fails every job until it is told to succeed.
struct Failing {
    bench: Bench,
    letters: Letters,
    succeeds: Arc<AtomicBool>,
    _worker: WorkerHandle,
}

impl Failing {
    fn new() -> Self {
        let (bench, letters) = (Bench::new(), Letters::default());
        let succeeds = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&succeeds);
        let service = service_fn(move |_: Job| {
            let succeeds = told.load(Ordering::SeqCst);
            async move {
                let broke = || io::Error::other("broke");
                succeeds.then_some(()).ok_or_else(broke)
            }
        });
        let worker = bench.worker();
        let worker = worker.dead_letters(DeadLetters::new(letters.clone()));
        let worker = worker.build(service).unwrap().spawn();
        Self {
            bench,
            letters,
            succeeds,
            _worker: worker,
        }
    }

    fn requeue(&self) -> Requeue {
        let store = Arc::new(self.letters.clone());
        let builder = Redrive::builder(store).no_rate();
        let requeue = builder.requeue(self.bench.queue.clone(), NewJob::of_entry);
        requeue.unwrap()
    }

    async fn entries(&self) -> Vec<Entry> {
        let listing = self.letters.list(&Filter::all(), &Page::first(10)).await;
        let mut entries = Vec::new();
        for summary in listing.unwrap().entries {
            entries.extend(self.letters.get(summary.id).await.unwrap());
        }
        entries
    }

    async fn failed(&self, id: TaskId) -> Entry {
        assert_eq!(self.bench.end(id).await, Status::Failed);
        let mut entries = self.entries().await;
        assert_eq!(entries.len(), 1);
        entries.remove(0)
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_failed_is_tried_anew_and_keeps_its_id() {
    let failing = Failing::new();
    let key = IdempotencyKey::new("tenant", "evt 1").unwrap();
    let job = NewJob::new("event", "payload")
        .dedup_key(key.clone())
        .target("peer")
        .fifo_group("order");
    let id = failing.bench.put_in(job).await;
    let first = failing.failed(id).await;
    assert_eq!((first.task_id, first.replays), (Some(id.entry_id()), 0));
    assert_eq!(first.dedup_key.as_deref(), Some("key:tenant:evt%201"));
    assert_eq!(first.fifo_group.as_deref(), Some("order"));

    let redriven = failing.requeue().one(first.id, "anna").await.unwrap();
    assert_eq!(redriven, Redriven::Accepted);
    assert!(failing.entries().await.is_empty());
    assert_eq!(failing.bench.status(id).await, Status::Queued);
    let second = failing.failed(id).await;
    assert_eq!(second.history.attempts(), 3, "attempts begin anew");
    assert_eq!((second.task_id, second.replays), (first.task_id, 1));
    assert_ne!(second.id, first.id, "an id of an entry is used once");
    assert_eq!(
        (&second.target, &second.fifo_group, &second.dedup_key),
        (&first.target, &first.fifo_group, &first.dedup_key)
    );

    failing.succeeds.store(true, Ordering::SeqCst);
    let report = failing.requeue().many(Filter::all(), "anna").await.unwrap();
    assert_eq!((report.matched, report.accepted), (1, 1));
    let status = failing.bench.end(id).await;
    assert_eq!(status, Status::Succeeded { result: None });
    assert_eq!(failing.bench.attempts(id).await, 1);
    let found = failing.bench.queue.find(key).await.unwrap().unwrap();
    assert_eq!(found.id, id);
    assert!(failing.entries().await.is_empty());
    let report = failing.requeue().many(Filter::all(), "anna").await.unwrap();
    assert_eq!((report.matched, report.done()), (0, 0), "nothing matches");
}

/// As after a death between the two steps.
#[tokio::test(start_paused = true)]
async fn an_entry_that_outlives_its_requeue_adds_no_second_job() {
    let failing = Failing::new();
    let id = failing.bench.put("payload").await;
    let entry = failing.failed(id).await;
    failing.succeeds.store(true, Ordering::SeqCst);
    failing.letters.keeps.store(true, Ordering::SeqCst);
    let redriven = failing.requeue().one(entry.id, "anna").await.unwrap();
    assert!(
        matches!(redriven, Redriven::NotRemoved { .. }),
        "{redriven:?}"
    );
    let done = Status::Succeeded { result: None };
    assert_eq!(failing.bench.end(id).await, done);

    failing.letters.keeps.store(false, Ordering::SeqCst);
    tokio::time::sleep(600 * SECOND).await;
    let redriven = failing.requeue().one(entry.id, "anna").await.unwrap();
    assert_eq!(redriven, Redriven::Accepted);
    assert_eq!(failing.bench.status(id).await, done);
    assert_eq!(failing.bench.count("succeeded"), 1, "it ran once");
    assert!(failing.entries().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn many_callers_queue_each_entry_once() {
    let failing = Failing::new();
    for number in 0..40 {
        let mut entry = Entry::new(
            EntryId::random(),
            "event",
            "peer",
            tower_webhook::dead_letter::Cause::new(Reason::Rejected),
            std::time::SystemTime::now(),
        );
        entry.task_id = Some(entry.id);
        entry.body = EntryBody::new(&format!("{number}").into(), 100);
        failing.letters.write(&Arc::new(entry)).await.unwrap();
    }
    failing.succeeds.store(true, Ordering::SeqCst);
    let requeue = failing.requeue();
    let mut runs = tokio::task::JoinSet::new();
    for _ in 0..8 {
        runs.spawn(requeue.many(Filter::all(), "anna"));
    }
    let reports = runs.join_all().await.into_iter();
    let accepted: u64 = reports.map(|report| report.unwrap().accepted).sum();
    assert_eq!(accepted, 40);
    while failing.bench.count("succeeded") < 40 {
        tokio::time::sleep(SECOND).await;
    }
    assert_eq!(failing.bench.count("claimed"), 40);
}

#[tokio::test(start_paused = true)]
async fn what_an_entry_lacks_is_said_and_it_stays() {
    let (bench, letters) = (Bench::new(), Letters::default());
    let worker = bench.set_up(tower_webhook::queue::Worker::builder(bench.queue.clone()));
    let worker = worker
        .entry_body(10)
        .dead_letters(DeadLetters::new(letters.clone()));
    let fails = service_fn(|_: Job| async { Err::<(), BoxError>("broke".into()) });
    let _worker = worker.build(fails).unwrap().spawn();
    let request = |name: &str| {
        let req = Request::post("https://peer.test/hooks").header(name, "SECRET");
        NewJob::http(req.body(BufferedBody::from("{}")).unwrap())
    };
    let requeue = Redrive::builder(Arc::new(letters.clone()));
    let requeue = requeue.requeue(bench.queue.clone(), NewJob::of_entry);
    let requeue = requeue.unwrap();
    for (job, why) in [
        (
            request("authorization"),
            Some("1 of its credentials were not kept"),
        ),
        (
            request("x-api-key"),
            Some("1 of its credentials were not kept"),
        ),
        (
            NewJob::new("event", "longer than ten"),
            Some("only 10 of the 15 bytes of its body were kept"),
        ),
        (request("x-request-id"), None),
    ] {
        let payload = job.payload.clone();
        let id = bench.put_in(job).await;
        assert_eq!(bench.end(id).await, Status::Failed);
        let redriven = requeue.one(id.entry_id(), "anna").await.unwrap();
        let Some(why) = why else {
            assert_eq!(redriven, Redriven::Accepted);
            let job = bench.queue.task(id).await.unwrap().unwrap();
            assert_eq!(
                (job.status, job.attempts),
                (Status::Queued, 0),
                "{payload:?}"
            );
            break;
        };
        let Redriven::Unsendable(not_sendable) = redriven else {
            panic!("{redriven:?}");
        };
        assert_eq!(not_sendable.to_string(), why);
        assert_eq!(bench.status(id).await, Status::Failed);
        let entry = letters.get(id.entry_id()).await.unwrap().unwrap();
        assert_eq!(entry.replays, 0, "it stays as it was");
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_leaves_the_entries_as_they_are() {
    let queue = MemoryQueue::builder().max_jobs(1);
    let bench = Bench::with_queue(crate::support::wall_clock(), queue);
    let letters = MemoryDeadLetters::default();
    bench.put("in the way").await;
    let id = EntryId::random();
    let cause = tower_webhook::dead_letter::Cause::new(Reason::Rejected);
    let mut entry = Entry::new(id, "event", "peer", cause, std::time::SystemTime::now());
    entry.task_id = Some(id);
    letters.write(&Arc::new(entry.clone())).await.unwrap();
    let requeue = Redrive::builder(Arc::new(letters.clone()))
        .max_refusal_wait(std::time::Duration::ZERO)
        .requeue(bench.queue.clone(), NewJob::of_entry)
        .unwrap();
    let report = requeue.many(Filter::all(), "anna").await.unwrap();
    assert_eq!((report.refused, report.accepted), (1, 0));
    assert_eq!(letters.get(id).await.unwrap(), Some(entry));
}

#[tokio::test(start_paused = true)]
async fn an_entry_whose_key_is_another_tasks_by_now_stays() {
    let queue = MemoryQueue::builder().retention(3600 * SECOND);
    let bench = Bench::with_queue(crate::support::wall_clock(), queue);
    let letters = MemoryDeadLetters::default();
    let fails = service_fn(|_: Job| async { Err::<(), BoxError>("broke".into()) });
    let worker = bench
        .worker()
        .dead_letters(DeadLetters::new(letters.clone()));
    let worker = worker.build(fails).unwrap().spawn();
    let key = || IdempotencyKey::new("send-invoice", "invoice-7").unwrap();
    let first = NewJob::new("event", "first").dedup_key(key());
    let first = bench.put_in(first).await;
    assert_eq!(bench.end(first).await, Status::Failed);
    let entry = letters.get(first.entry_id()).await.unwrap().unwrap();
    // Its task is over, and its key is free again.
    tokio::time::sleep(2 * 3600 * SECOND).await;
    worker.stop(SECOND).await;
    let other = NewJob::new("event", "other").dedup_key(key());
    let other = bench.put_in(other).await;
    assert_ne!(other, first);
    let cancelled = bench.queue.cancel(other).await.unwrap();
    assert_eq!(cancelled, Some(Status::Cancelled));

    let requeue = Redrive::builder(Arc::new(letters.clone()))
        .requeue(bench.queue.clone(), NewJob::of_entry)
        .unwrap();
    let redriven = requeue.one(entry.id, "anna").await.unwrap();
    assert!(matches!(redriven, Redriven::Failed { .. }), "{redriven:?}");
    assert_eq!(bench.queue.depth().await.unwrap().queued, 0);
    assert!(letters.get(entry.id).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_queued_again_by_hand_has_an_entry_when_it_fails_again() {
    let failing = Failing::new();
    let id = failing.bench.put("payload").await;
    let entry = failing.failed(id).await;
    let mut job = NewJob::of_entry(&entry).unwrap();
    job.requeue = true;
    assert!(!failing.bench.queue.enqueue(job).await.unwrap().repeated);
    let discarded = failing.letters.discard(entry.id).await.unwrap();
    assert_eq!(discarded, Discarded::Done);
    assert_eq!(failing.bench.end(id).await, Status::Failed);
    assert_eq!(failing.entries().await.len(), 1);
}

/// A dead-letter entry keeps as much of a name as a queue takes.
#[tokio::test(start_paused = true)]
async fn a_job_that_is_queued_again_keeps_its_names() {
    let failing = Failing::new();
    let [kind, target, group] = ["k", "t", "g"].map(|name| name.repeat(NewJob::LONGEST_NAME));
    let new = NewJob::new(&kind, "payload").target(&target);
    let id = failing.bench.put_in(new.fifo_group(&group)).await;
    let entry = failing.failed(id).await;
    let redriven = failing.requeue().one(entry.id, "anna").await.unwrap();
    assert_eq!(redriven, Redriven::Accepted);
    let jobs = failing.bench.queue.list(JobFilter::default(), None, 10);
    let job = jobs.await.unwrap().jobs.remove(0);
    assert_eq!((job.id, job.kind, job.target), (id, kind, target));
    assert_eq!(job.fifo_group, Some(group));
}
