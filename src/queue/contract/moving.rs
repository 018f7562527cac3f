use super::{
    LEASE, LONG, Settings, Subject, all, claim, done, ending::drop_after, expect_depth,
    expect_status, history, job, ok, promised, put, said, settle, take, take_none,
};
use crate::{
    BoxFuture, StoreError, StoreErrorKind,
    dead_letter::{Cause, Entry, EntryBody, EntryClaim, EntryId, LetterStore, Reason},
    idempotency::IdempotencyKey,
    lease::{FencingToken, Settled},
    queue::{Claim, End, Engine, Enqueued, Job, Moves, NewJob, Status, TaskId},
};
use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

/// An empty engine, and the dead letters in its database. The rules are left out if there are none.
struct Both {
    engine: Arc<dyn Engine>,
    letters: Arc<dyn LetterStore>,
    moves: Box<dyn Moves>,
}

impl Both {
    async fn new<S: Subject>(subject: &S, settings: Settings) -> Self {
        let engine = subject.engine(settings).await;
        let letters = subject.letters().await;
        let moves = letters.as_ref().and_then(|it| engine.moves(&**it));
        let (Some(letters), Some(moves)) = (letters, moves) else {
            panic!("contract: an engine does not change what it promises");
        };
        Self {
            engine,
            letters,
            moves,
        }
    }

    /// Adds a job with everything that the engine promises to look at.
    async fn put(&self, payload: &str) -> TaskId {
        let new = promised(&*self.engine, job(payload).target("peer"), payload);
        put(&*self.engine, new).await
    }

    async fn take(&self) -> Job {
        take(&*self.engine, all()).await
    }

    async fn fail(&self, claim: Claim, entry: &Arc<Entry>) -> Settled {
        ok(self.moves.dead_letter(claim, entry)).await
    }

    /// Fails a job for good, and returns its entry.
    async fn failed(&self, job: &Job) -> Arc<Entry> {
        let entry = entry(job);
        let settled = self.fail(job.claim(), &entry).await;
        assert_eq!(settled, Settled::Done, "contract: the holder moves its job");
        entry
    }

    async fn claim(&self, entry: &Entry, lease: Duration) -> FencingToken {
        match ok(self.letters.claim(entry.id, lease, u32::MAX)).await {
            EntryClaim::Claimed { token, .. } => token,
            other => panic!("contract: the entry is free, got {other:?}"),
        }
    }

    fn back(
        &self,
        entry: &Entry,
        token: FencingToken,
    ) -> BoxFuture<Result<Option<Enqueued>, StoreError>> {
        self.moves.requeue(entry.id, token, again(entry))
    }

    async fn has(&self, entry: &Entry) -> bool {
        ok(self.letters.get(entry.id)).await.is_some()
    }
}

/// The entry of a job, as a worker makes it.
fn entry(job: &Job) -> Arc<Entry> {
    let cause = Cause::new(Reason::Rejected);
    let mut entry = Entry::new(
        EntryId::random(),
        &job.kind,
        &job.target,
        cause,
        UNIX_EPOCH + Duration::from_secs(1_700_000_000),
    );
    entry.task_id = Some(job.id.entry_id());
    entry.dedup_key = job.dedup_key.as_ref().map(IdempotencyKey::to_text);
    entry.fifo_group.clone_from(&job.fifo_group);
    entry.body = EntryBody::new(&job.payload, usize::MAX);
    Arc::new(entry)
}

/// The job that an entry is queued again as.
fn again(entry: &Entry) -> NewJob {
    match NewJob::of_entry(entry) {
        Ok(mut job) => {
            job.requeue = true;
            job
        }
        Err(error) => panic!("contract: {error}"),
    }
}

/// A job that failed for good moves to the dead letters: its task has failed, its entry is there, and the next one of its
/// FIFO group follows. A claim that has ended, and that of a cancelled job, is lost, and writes nothing.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_failed_job_moves_with_its_entry<S: Subject>(subject: &S) {
    let both = Both::new(subject, Settings::default()).await;
    let engine = &*both.engine;
    let moves = async |job: &Job| {
        let entry = entry(job);
        let settled = both.fail(job.claim(), &entry).await;
        assert_eq!(settled, Settled::Done, "contract: the holder moves its job");
        assert!(both.has(&entry).await, "contract: the entry is there");
        expect_status(engine, job.id, Status::Failed).await;
    };
    both.put("first").await;
    let first = both.take().await;
    both.put("second").await;
    moves(&first).await;
    // One that was marked as failed before.
    let second = both.take().await;
    assert_eq!(said(&second), "second", "contract: the next one follows");
    let end = End::Failed {
        cause: Cause::new(Reason::Rejected),
        history: history(1),
    };
    settle(engine, &second, end).await;
    let failed = claim(engine, all()).await.failed_jobs.remove(0);
    moves(&failed).await;
    take_none(engine, "a job that has moved is not claimed").await;
    expect_depth(engine, [0, 0, 0]).await;

    let nobody = Claim {
        id: TaskId::random(),
        token: FencingToken::new(1),
    };
    let mut ended = vec![first.claim(), second.claim(), failed.claim(), nobody];
    if let Some(jobs) = engine.jobs() {
        both.put("cancelled").await;
        let cancelled = both.take().await;
        ok(jobs.cancel(cancelled.id)).await;
        ended.push(cancelled.claim());
        both.put("follows").await;
    }
    for claim in ended {
        let entry = entry(&first);
        let settled = both.fail(claim, &entry).await;
        assert_eq!(settled, Settled::Lost, "contract: the claim has ended");
        assert!(!both.has(&entry).await, "contract: nothing is written");
    }
    if engine.jobs().is_some() {
        let follows = both.take().await;
        assert_eq!(said(&follows), "follows", "contract: the next one follows");
    }
}

/// A claimed entry moves back into the queue once, as the same task with the same job. It stays if the queue is full, or if
/// its key is that of another task by now.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn an_entry_moves_back_once<S: Subject>(subject: &S) {
    let settings = Settings {
        max_jobs: 1,
        ..Settings::default()
    };
    let both = Both::new(subject, settings).await;
    let engine = &*both.engine;
    let id = both.put("payload").await;
    let first = both.take().await;
    let entry_of_first = both.failed(&first).await;
    let token = both.claim(&entry_of_first, LONG).await;

    put(engine, job("fills")).await;
    match both.back(&entry_of_first, token).await {
        Err(error) if error.kind() == StoreErrorKind::Full => {}
        other => panic!("contract: a full engine refuses, got {other:?}"),
    }
    assert!(both.has(&entry_of_first).await, "contract: the entry stays");
    settle(engine, &both.take().await, done()).await;

    let Some(enqueued) = ok(both.back(&entry_of_first, token)).await else {
        panic!("contract: the claim of the entry holds");
    };
    assert_eq!((enqueued.id, enqueued.repeated), (id, false));
    assert!(!both.has(&entry_of_first).await, "contract: it has moved");
    assert_eq!(
        ok(both.back(&entry_of_first, token)).await,
        None,
        "contract: an entry moves once"
    );
    let job = both.take().await;
    assert_eq!(
        (job.id, job.attempt, &job.payload),
        (id, 1, &first.payload),
        "contract: it is the same job, which begins anew"
    );
    assert_eq!((&job.kind, &job.target), (&first.kind, &first.target));
    assert_eq!(job.dedup_key, first.dedup_key, "contract: it has its key");
    assert_eq!(job.fifo_group, first.fifo_group, "contract: and its group");
    settle(engine, &job, done()).await;
    take_none(engine, "nothing else was added").await;

    if engine.promises().dedup.is_some() {
        let mut other = Entry::clone(&entry_of_first);
        other.id = EntryId::random();
        other.task_id = Some(EntryId::random());
        let other = Arc::new(other);
        ok(both.letters.write(&other)).await;
        let token = both.claim(&other, LONG).await;
        match both.back(&other, token).await {
            Err(error) if error.kind() == StoreErrorKind::Rejected => {}
            got => panic!("contract: the key is that of another task, got {got:?}"),
        }
        assert!(both.has(&other).await, "contract: the entry stays");
        take_none(engine, "nothing was added").await;
    }
}

/// An entry moves back by its newest claim alone, though its lease may have ended. Otherwise neither the entry, nor who
/// has claimed it, nor the queue is changed.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn an_entry_moves_back_by_its_newest_claim<S: Subject>(subject: &S) {
    let both = Both::new(subject, Settings::default()).await;
    let engine = &*both.engine;
    let id = both.put("payload").await;
    let entry = both.failed(&both.take().await).await;
    let is_lost = async |token: FencingToken, why: &str| {
        let moved = ok(both.back(&entry, token)).await;
        assert_eq!(moved, None, "contract: {why}");
        assert!(both.has(&entry).await, "contract: the entry stays");
        take_none(engine, "nothing was added").await;
    };
    is_lost(FencingToken::new(1), "nobody has claimed it").await;
    let first = both.claim(&entry, LEASE).await;
    subject.advance(LEASE * 2).await;
    let second = both.claim(&entry, LONG).await;
    is_lost(first, "another has claimed it").await;
    let renewed = ok(both.letters.renew(entry.id, second, LONG)).await;
    assert_eq!(renewed, Settled::Done, "contract: the other claim holds");
    let released = ok(both.letters.release(second, &entry)).await;
    assert_eq!(released, Settled::Done, "contract: the other claim holds");
    is_lost(second, "the claim was released").await;

    let late = both.claim(&entry, LEASE).await;
    subject.advance(LEASE * 2).await;
    match ok(both.back(&entry, late)).await {
        Some(enqueued) => assert_eq!((enqueued.id, enqueued.repeated), (id, false)),
        None => panic!("contract: nobody has claimed it since"),
    }
    assert!(!both.has(&entry).await, "contract: it has moved");
    settle(engine, &both.take().await, done()).await;
    take_none(engine, "it was added once").await;
}

/// If the future of a move is dropped, the job has moved with its entry, or it has not and there is none.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_dropped_move_is_done_or_not<S: Subject>(subject: &S) {
    let both = Both::new(subject, Settings::default()).await;
    let engine = &*both.engine;
    for polls in 0..8 {
        let id = both.put(&polls.to_string()).await;
        let held = both.take().await;
        let entry = entry(&held);
        drop_after(polls, both.moves.dead_letter(held.claim(), &entry)).await;
        // An operation that was begun may still be running.
        subject.advance(LEASE / 4).await;
        if !both.has(&entry).await {
            let settled = both.fail(held.claim(), &entry).await;
            assert_eq!(settled, Settled::Done, "contract: the claim holds");
        }
        expect_status(engine, id, Status::Failed).await;
        let late = both.fail(held.claim(), &entry).await;
        assert_eq!(late, Settled::Lost, "contract: it has moved");

        let token = both.claim(&entry, LONG).await;
        drop_after(polls, both.back(&entry, token)).await;
        subject.advance(LEASE / 4).await;
        if both.has(&entry).await {
            let moved = ok(both.back(&entry, token)).await;
            assert!(moved.is_some(), "contract: the claim of the entry holds");
        }
        settle(engine, &both.take().await, done()).await;
        take_none(engine, "it was added once").await;
    }
    expect_depth(engine, [0, 0, 0]).await;
}
