use super::{
    LATER, LEASE, LONG, SOON, Settings, Subject, all, claim, done, enqueue, expect_attempts,
    expect_depth, expect_status, fresh, history, job, key, ok, promised, put, renew, retry, settle,
    settle_raw, take, take_none, task,
};
use crate::{
    attempt::History,
    dead_letter::{Cause, Reason},
    lease::Settled,
    queue::{Ask, Claim, End, Engine, Enqueued, Job, Status, TaskId},
};
use bytes::Bytes;
use std::{
    collections::HashSet,
    future::Future,
    pin::pin,
    task::{Context, Waker},
    time::Duration,
};

fn cause() -> Cause {
    Cause::new(Reason::RetriesExhausted)
        .with_code(Some(503))
        .with_class("transient")
        .with_message("no \u{1f40c} answer")
}

fn dead_letter(attempts: u32) -> End {
    End::Failed {
        cause: cause(),
        history: history(attempts),
    }
}

/// Claims the one failed job that can be claimed.
async fn take_failed_job(engine: &dyn Engine, ask: Ask) -> Job {
    let mut claims = claim(engine, ask).await;
    assert_eq!(
        (claims.jobs.len(), claims.failed_jobs.len()),
        (0, 1),
        "contract: one failed job can be claimed, and nothing else"
    );
    claims.failed_jobs.remove(0)
}

/// A job to be retried is queued, is not due before the end of its wait, and keeps its history.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_retry_waits_its_time<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
    let id = put(&*engine, job("again")).await;
    for attempt in 1..=2 {
        let job = take(&*engine, all()).await;
        assert_eq!(
            job.history,
            history(attempt - 1),
            "contract: a job knows how its attempts went"
        );
        settle(&*engine, &job, retry(SOON, history(attempt))).await;
        expect_status(&*engine, id, Status::Queued).await;
        take_none(&*engine, "a retry waits its time").await;
        subject.advance(SOON / 4).await;
        take_none(&*engine, "a retry waits all of its time").await;
        subject.advance(LATER).await;
    }
    let job = take(&*engine, all()).await;
    assert_eq!((job.id, job.attempt), (id, 3));
    // Longer than any clock can count: the job waits, and nothing breaks.
    settle(&*engine, &job, retry(Duration::MAX, history(3))).await;
    take_none(&*engine, "a wait has no end too far").await;
}

/// The limit on attempts applies only to leases that end: a job that a worker settles as `Retry` can be
/// claimed again, whatever its number of attempts.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_retry_is_for_the_worker_to_decide<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
    put(&*engine, job("again")).await;
    for attempt in 1..=5 {
        let job = take(&*engine, all()).await;
        assert_eq!(job.attempt, attempt, "contract: a retry is given again");
        settle(&*engine, &job, retry(Duration::ZERO, history(attempt))).await;
    }
}

/// A released job is due after its wait; its attempt is not counted, and its token grows.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn what_is_released_has_lost_no_attempt<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
    let id = put(&*engine, job("released")).await;
    let release = |after: Duration| End::Release {
        after,
        history: history(2),
    };
    let mut last = None;
    for _ in 0..5 {
        // More times than a job may be attempted.
        let job = take(&*engine, all()).await;
        assert_eq!(
            job.attempt, 1,
            "contract: a released attempt is not counted"
        );
        assert!(last < Some(job.token), "contract: a later token is greater");
        last = Some(job.token);
        settle(&*engine, &job, release(Duration::ZERO)).await;
        expect_attempts(&*engine, id, 0).await;
    }
    let job = take(&*engine, all()).await;
    assert_eq!(
        job.history,
        history(2),
        "contract: a job knows how its attempts went"
    );
    settle(&*engine, &job, release(SOON)).await;
    take_none(&*engine, "what is released waits its time").await;
    assert_eq!(
        settle_raw(&*engine, id, job.token, done()).await,
        Settled::Lost,
        "contract: a released job has no holder"
    );
    subject.advance(LATER).await;
    take(&*engine, all()).await;
}

/// A result is kept with the status, byte for byte.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_result_is_kept_to_the_byte<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
    let binary: Bytes = (0..=255).collect();
    for result in [None, Some(Bytes::new()), Some(binary)] {
        let id = put(&*engine, job("result")).await;
        let job = take(&*engine, all()).await;
        let end = End::Done {
            result: result.clone(),
        };
        settle(&*engine, &job, end).await;
        for _ in 0..2 {
            let kept = Status::Succeeded {
                result: result.clone(),
            };
            expect_status(&*engine, id, kept).await;
        }
        expect_attempts(&*engine, id, 1).await;
        take_none(&*engine, "what is done is not given again").await;
    }
}

/// A job that failed for good becomes a failed job with its cause and history, and is never claimed as a
/// job again. The failed job can be claimed until its entry is written: after a failed write, a lease
/// that ended, a release. Claims of it do not count as attempts. Afterwards its status is kept.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_failed_job_is_given_until_its_entry_is_written<S: Subject>(subject: &S) {
    let settings = Settings {
        retention: SOON,
        attempts: 1,
        ..Settings::default()
    };
    let engine = subject.engine(settings).await;
    let new = job("dead_lettered").target("grave");
    let new = promised(&*engine, new, "dead_lettered");
    let id = put(&*engine, new.clone()).await;
    let claimed = take(&*engine, all()).await;
    settle(&*engine, &claimed, dead_letter(1)).await;
    expect_status(&*engine, id, Status::Failed).await;
    let none = claim(&*engine, all().most_failed(0)).await;
    assert!(
        none.is_empty(),
        "contract: a failed_job is no job, got {none:?}"
    );

    let mut last = claimed.token;
    let mut next = async |ask: Ask, attempts: u32| {
        let failed_job = take_failed_job(&*engine, ask).await;
        assert_eq!(
            failed_job.cause,
            Some(cause()),
            "contract: a failed_job keeps its cause"
        );
        assert_eq!(
            failed_job.history,
            history(attempts),
            "contract: a failed_job keeps its history"
        );
        assert_eq!(
            (failed_job.id, failed_job.attempt, &failed_job.payload),
            (id, 1, &new.payload),
            "contract: a failed_job keeps its job"
        );
        assert_eq!(
            failed_job.dedup_key, new.dedup_key,
            "contract: a failed_job keeps its key"
        );
        assert!(
            failed_job.token > last,
            "contract: a later token is greater"
        );
        last = failed_job.token;
        take_none(&*engine, "a claimed failed_job is nobody else's").await;
        failed_job
    };
    let failed_job = next(all(), 1).await;
    settle(&*engine, &failed_job, retry(SOON, history(1))).await;
    take_none(&*engine, "a failed_job waits its time").await;
    subject.advance(LATER).await;
    for _ in 0..4 {
        // The limit on attempts does not apply to it.
        next(Ask::new(1, LEASE), 1).await;
        subject.advance(LATER).await;
    }
    let failed_job = next(all(), 1).await;
    let release = End::Release {
        after: Duration::ZERO,
        history: history(2),
    };
    settle(&*engine, &failed_job, release).await;
    let failed_job = next(Ask::new(1, LEASE), 2).await;
    subject.advance(LEASE / 2).await;
    assert_eq!(
        renew(
            &*engine,
            vec![Claim {
                id,
                token: failed_job.token
            }],
            LONG
        )
        .await,
        [Settled::Done],
        "contract: the claim of a failed_job is renewed"
    );
    subject.advance(LATER).await;
    settle(&*engine, &failed_job, done()).await;
    take_none(&*engine, "what is dead_lettered is not given again").await;
    expect_status(&*engine, id, Status::Failed).await;
    expect_attempts(&*engine, id, 1).await;
    subject.advance(LATER).await;
    assert_eq!(
        task(&*engine, id).await,
        None,
        "contract: what is over leaves after its time"
    );
}

/// Each claim of a batch is ended by itself: one that is lost does not keep the others.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_batch_of_ends_is_settled_each_by_itself<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
    let mut ids = Vec::new();
    for text in ["a", "b", "c", "d"] {
        ids.push(put(&*engine, job(text)).await);
    }
    let jobs = claim(&*engine, all()).await.jobs;
    let of = |id: TaskId| match jobs.iter().find(|job| job.id == id) {
        Some(job) => job.claim(),
        None => panic!("contract: all are claimed"),
    };
    let unknown = Claim {
        id: TaskId::random(),
        token: of(ids[0]).token,
    };
    let release = End::Release {
        after: Duration::ZERO,
        history: history(0),
    };
    let batch = vec![
        (of(ids[0]), done()),
        (unknown, done()),
        (of(ids[1]), retry(Duration::ZERO, history(1))),
        (of(ids[0]), dead_letter(1)),
        (of(ids[2]), dead_letter(1)),
        (of(ids[3]), release),
    ];
    let (kept, lost) = (Settled::Done, Settled::Lost);
    assert_eq!(
        ok(engine.settle(batch)).await,
        [kept, lost, kept, lost, kept, kept],
        "contract: results are in the order of the claims"
    );
    let claims = claim(&*engine, all()).await;
    let mut again: Vec<_> = claims
        .jobs
        .iter()
        .map(|job| (job.id, job.attempt))
        .collect();
    again.sort_by_key(|(_, attempt)| *attempt);
    assert_eq!(again, [(ids[3], 1), (ids[1], 2)]);
    let failed: Vec<_> = claims.failed_jobs.iter().map(|job| job.id).collect();
    assert_eq!(failed, [ids[2]]);
    assert!(ok(engine.settle(Vec::new())).await.is_empty());
}

/// A holder whose lease has ended can still settle or renew its claim, as long as nobody has claimed the job
/// since: what was done is not done again for a moment's delay. A job that was given up when its last lease
/// ended, and whose entry nobody writes yet, is done all the same.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_late_holder_is_heard_until_another_claims<S: Subject>(subject: &S) {
    let settings = Settings {
        attempts: 2,
        ..Settings::default()
    };
    let engine = subject.engine(settings).await;
    let lapsed = async || {
        let job = take(&*engine, Ask::new(1, LEASE)).await;
        subject.advance(LATER).await;
        job
    };
    for end in [done(), dead_letter(1), retry(Duration::ZERO, history(1))] {
        let id = put(&*engine, job("late")).await;
        let job = lapsed().await;
        expect_status(&*engine, id, Status::Queued).await;
        settle(&*engine, &job, end.clone()).await;
        for again in [end.clone(), done()] {
            assert_eq!(
                settle_raw(&*engine, id, job.token, again).await,
                Settled::Lost,
                "contract: a claim is settled once"
            );
        }
        match end {
            End::Done { .. } => {}
            End::Failed { .. } => {
                let failed = take_failed_job(&*engine, all()).await;
                assert_eq!(failed.cause, Some(cause()));
                settle(&*engine, &failed, done()).await;
            }
            _ => {
                let again = take(&*engine, all()).await;
                assert_eq!((again.id, again.attempt), (id, 2));
                settle(&*engine, &again, done()).await;
            }
        }
        take_none(&*engine, "what has ended is not given again").await;
    }

    let id = put(&*engine, job("renewed")).await;
    let job = lapsed().await;
    assert_eq!(
        renew(&*engine, vec![job.claim()], LONG).await,
        [Settled::Done],
        "contract: a claim that ended can be renewed while nobody else has the job"
    );
    take_none(&*engine, "a renewed claim holds").await;
    expect_status(&*engine, id, Status::Running).await;
    settle(&*engine, &job, retry(Duration::ZERO, history(1))).await;

    // The last attempt.
    let job = lapsed().await;
    let none = claim(&*engine, all().most_failed(0)).await;
    assert!(none.is_empty(), "contract: it has had its attempts");
    expect_status(&*engine, id, Status::Failed).await;
    settle(&*engine, &job, done()).await;
    take_none(&*engine, "what is done is not dead-lettered").await;
    let is_done = |task: crate::queue::Task| matches!(task.status, Status::Succeeded { .. });
    assert!(
        engine.tasks().is_none() || task(&*engine, id).await.is_some_and(is_done),
        "contract: what is done has succeeded"
    );
    expect_depth(&*engine, [0, 0, 0]).await;
}

/// A holder whose claim has passed to another can neither renew nor settle it.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_stale_holder_changes_nothing<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
    let id = put(&*engine, job("stale")).await;
    let stale = take(&*engine, Ask::new(1, LEASE)).await;
    subject.advance(LATER).await;
    let current = take(&*engine, all()).await;
    let ends = || {
        [
            dead_letter(1),
            done(),
            End::Release {
                after: Duration::ZERO,
                history: history(1),
            },
            retry(Duration::ZERO, history(1)),
        ]
    };
    let expect_lost = async |token, when: &str| {
        for end in ends() {
            let name = format!("{end:?}");
            assert_eq!(
                settle_raw(&*engine, id, token, end).await,
                Settled::Lost,
                "contract: a stale holder changes nothing {when}: {name}"
            );
        }
        assert_eq!(
            renew(&*engine, vec![Claim { id, token }], LONG).await,
            [Settled::Lost],
            "contract: a stale holder renews nothing {when}"
        );
    };
    expect_lost(stale.token, "of a job that runs").await;
    expect_status(&*engine, id, Status::Running).await;
    expect_attempts(&*engine, id, 2).await;
    settle(&*engine, &current, dead_letter(2)).await;
    for token in [stale.token, current.token] {
        expect_lost(token, "of a job to be dead_lettered").await;
    }
    let failed_job = take_failed_job(&*engine, all()).await;
    for token in [stale.token, current.token] {
        expect_lost(token, "of a failed_job").await;
    }
    settle(&*engine, &failed_job, done()).await;
    for token in [stale.token, current.token, failed_job.token] {
        expect_lost(token, "of a job that is over").await;
    }
    expect_status(&*engine, id, Status::Failed).await;
}

/// A claim is settled once, however it ends.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_claim_is_settled_once<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
    let release = End::Release {
        after: LONG,
        history: history(0),
    };
    for first in [dead_letter(1), done(), retry(LONG, history(1)), release] {
        let id = put(&*engine, job("settled")).await;
        let job = take(&*engine, all().most_failed(0)).await;
        settle(&*engine, &job, first.clone()).await;
        let before = task(&*engine, id).await;
        for second in [first, done(), dead_letter(1), retry(LONG, history(1))] {
            assert_eq!(
                settle_raw(&*engine, id, job.token, second).await,
                Settled::Lost,
                "contract: a claim is settled once"
            );
        }
        assert_eq!(
            task(&*engine, id).await,
            before,
            "contract: a claim is settled once"
        );
    }
}

/// A finished task is removed after its retention and not before; an unfinished one is never removed.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn what_is_over_leaves_after_its_time<S: Subject>(subject: &S) {
    for retention in [SOON, LONG] {
        let settings = Settings {
            retention,
            ..Settings::default()
        };
        let engine = subject.engine(settings).await;
        let mut ids = Vec::new();
        for text in ["succeeds", "fails"] {
            let id = put(&*engine, job(text)).await;
            let job = take(&*engine, all()).await;
            if text == "succeeds" {
                settle(&*engine, &job, done()).await;
            } else {
                settle(&*engine, &job, dead_letter(1)).await;
                let failed_job = take_failed_job(&*engine, all()).await;
                settle(&*engine, &failed_job, done()).await;
            }
            ids.push(id);
        }
        let unfinished = put(&*engine, job("unfinished").dedup_key(key("unfinished"))).await;
        subject.advance(LATER).await;
        // Gives every background removal its chance.
        for _ in 0..3 {
            let repeat = enqueue(&*engine, job("again").dedup_key(key("unfinished"))).await;
            assert_eq!(repeat.id, unfinished);
        }
        for id in ids {
            assert_eq!(
                task(&*engine, id).await.is_some(),
                retention == LONG,
                "contract: what is over leaves after its time, and not before"
            );
        }
        expect_status(&*engine, unfinished, Status::Queued).await;
        expect_depth(&*engine, [1, 0, 0]).await;
    }
}

/// Polls a future this many times, lets other tasks run in between, and drops it.
pub(super) async fn drop_after<F: Future>(polls: usize, future: F) {
    let mut future = pin!(future);
    for _ in 0..polls {
        let context = &mut Context::from_waker(Waker::noop());
        if future.as_mut().poll(context).is_ready() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// If an `enqueue` is dropped, the job is in the queue once and complete, or not at all. Enqueuing it
/// again is safe.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_dropped_enqueue_is_done_or_not<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
    let mut expected = HashSet::new();
    for polls in 0..12 {
        let new = job("dropped");
        expected.insert(new.id);
        drop_after(polls, engine.enqueue(vec![new.clone()])).await;
        enqueue(&*engine, new).await;
    }
    let claims = claim(&*engine, all()).await;
    assert_eq!(claims.jobs.len(), 12, "contract: a job is put in once");
    let claimed: HashSet<_> = claims.jobs.iter().map(|job| job.id).collect();
    assert_eq!(claimed, expected, "contract: a job is put in");
}

/// The jobs of a claim that was dropped can be claimed again, at once or when their leases end.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_dropped_claim_loses_nothing<S: Subject>(subject: &S) {
    let settings = Settings {
        attempts: 100,
        ..Settings::default()
    };
    let engine = subject.engine(settings).await;
    let mut expected = HashSet::new();
    for _ in 0..24 {
        expected.insert(put(&*engine, job("claimed")).await);
    }
    let ask = Ask::new(2, LEASE);
    for polls in 0..12 {
        drop_after(polls, engine.claim(ask.clone())).await;
    }
    subject.advance(LATER).await;
    let claims = claim(&*engine, all()).await;
    let claimed: HashSet<_> = claims.jobs.iter().map(|job| job.id).collect();
    assert_eq!(claimed, expected, "contract: a dropped claim loses nothing");
    expect_depth(&*engine, [0, 24, 0]).await;
}

/// If a `settle` is dropped, it is done or not.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_dropped_settle_is_done_or_not<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
    for polls in 0..12 {
        let id = put(&*engine, job("settled")).await;
        let claimed = take(&*engine, all()).await;
        let end = if polls % 2 == 0 {
            done()
        } else {
            retry(Duration::ZERO, history(1))
        };
        drop_after(polls, engine.settle(vec![(claimed.claim(), end)])).await;
        // An operation that was begun may still be running.
        subject.advance(LEASE / 4).await;
        match task(&*engine, id).await.map(|task| task.status) {
            Some(Status::Succeeded { .. }) if polls % 2 == 0 => {}
            Some(Status::Queued) if polls % 2 == 1 => {
                let again = take(&*engine, all()).await;
                assert_eq!((again.id, again.attempt), (id, 2));
                settle(&*engine, &again, done()).await;
            }
            Some(Status::Running) => settle(&*engine, &claimed, done()).await,
            other => panic!("contract: a dropped settle is done or not, got {other:?}"),
        }
    }
    expect_depth(&*engine, [0, 0, 0]).await;
}

/// If a `renew` is dropped, it is done or not, and the claim holds.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_dropped_renewal_is_done_or_not<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
    for polls in 0..6 {
        put(&*engine, job("renewed")).await;
        let held = take(&*engine, all()).await;
        drop_after(polls, engine.renew(vec![held.claim()], LONG)).await;
        take_none(&*engine, "a claim holds whether it was renewed or not").await;
        settle(&*engine, &held, done()).await;
    }
}

/// A task that failed for good can become a success, with a result: its entry was delivered in another way. No other
/// task can.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_failed_task_is_resolved_once<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
    let Some(tasks) = engine.tasks() else { return };
    let answer = Some(Bytes::from_static(b"{\"late\":true}"));
    let resolve = |id: TaskId| ok(tasks.resolve(id, answer.clone()));
    let nobody = TaskId::random();
    assert!(!resolve(nobody).await, "contract: an unknown task");
    let settled = put(&*engine, job("settled")).await;
    let pending = put(&*engine, job("pending")).await;
    assert!(!resolve(settled).await, "contract: a queued task");
    for _ in 0..2 {
        let job = take(&*engine, Ask::new(1, LONG)).await;
        assert!(!resolve(job.id).await, "contract: a running task");
        settle(&*engine, &job, dead_letter(1)).await;
        if job.id == settled {
            let ask = Ask::new(0, LONG).most_failed(1);
            let failed = take_failed_job(&*engine, ask).await;
            settle(&*engine, &failed, done()).await;
        }
    }
    // Its entry may be written, and the answer of the write lost: whoever writes it again holds nothing any more.
    let failed = take_failed_job(&*engine, all()).await;
    assert_eq!(failed.id, pending);
    for id in [settled, pending] {
        expect_status(&*engine, id, Status::Failed).await;
        assert!(resolve(id).await, "contract: a failed task is resolved");
        let result = answer.clone();
        expect_status(&*engine, id, Status::Succeeded { result }).await;
        assert!(!resolve(id).await, "contract: it is resolved once");
    }
    let late = settle_raw(&*engine, pending, failed.token, done()).await;
    assert_eq!(late, Settled::Lost, "contract: the task is over");
    expect_depth(&*engine, [0, 0, 0]).await;
    take_none(&*engine, "nothing is left to do").await;
}

/// A job is queued again if its task has failed for good, whether or not its entry is known to be written, and no
/// other: with a new attempt, a greater token, the same id and the same key.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_failed_job_is_queued_again_once<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
    for is_settled in [true, false] {
        let new = job("again").target("peer");
        let mut new = promised(&*engine, new, &format!("again-{is_settled}"));
        let id = put(&*engine, new.clone()).await;
        new.requeue = true;
        let repeats = |what: &'static str| {
            let (engine, new) = (&*engine, new.clone());
            async move {
                let enqueued = enqueue(engine, new).await;
                let expected = Enqueued { id, repeated: true };
                assert_eq!(enqueued, expected, "contract: {what} is not queued again");
            }
        };
        repeats("a queued job").await;
        let first = take(&*engine, all()).await;
        repeats("a running job").await;
        settle(&*engine, &first, dead_letter(1)).await;
        let failed = take_failed_job(&*engine, all()).await;
        if is_settled {
            settle(&*engine, &failed, done()).await;
        }
        let again = enqueue(&*engine, new.clone()).await;
        assert!(
            again.id == id && !again.repeated,
            "contract: a failed job is queued again"
        );
        expect_depth(&*engine, [1, 0, 0]).await;
        expect_status(&*engine, id, Status::Queued).await;
        expect_attempts(&*engine, id, 0).await;
        repeats("a job that is queued again already").await;
        let late = settle_raw(&*engine, id, failed.token, done()).await;
        assert_eq!(late, Settled::Lost, "contract: who failed it has no claim");
        let job = take(&*engine, all()).await;
        assert_eq!(
            (job.id, job.attempt, &job.history, &job.cause),
            (id, 1, &History::new(), &None),
            "contract: it begins anew"
        );
        assert_eq!((&job.payload, &job.target), (&new.payload, &new.target));
        assert_eq!(job.dedup_key, new.dedup_key);
        assert_eq!(job.fifo_group, new.fifo_group);
        assert!(
            job.token > failed.token,
            "contract: the token of a job grows with each claim"
        );
        settle(&*engine, &job, done()).await;
        expect_status(&*engine, id, Status::Succeeded { result: None }).await;
        if engine.tasks().is_some() {
            repeats("a job that has succeeded").await;
        }
        take_none(&*engine, "it is done").await;
    }
}
