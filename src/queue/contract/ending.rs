use super::{
    LATER, LEASE, LONG, SOON, Subject, all, attempts, depth, done, history, job, key, ok, put,
    renew, retry, settle, status, take, take_none,
};
use crate::{
    dead_letter::{Cause, Reason},
    lease::Settled,
    queue::{Engine, FailedJob, Status, Terms, Verdict},
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

fn dead_letter(attempts: u32) -> Verdict {
    Verdict::Failed {
        cause: cause(),
        history: history(attempts),
    }
}

/// Claims the one failed job that can be claimed.
async fn take_failed_job(engine: &dyn Engine, terms: Terms) -> FailedJob {
    let mut claims = ok(engine.claim(terms)).await;
    assert_eq!(
        (claims.jobs.len(), claims.failed_jobs.len()),
        (0, 1),
        "contract: one failed_job can be claimed, and nothing else"
    );
    claims.failed_jobs.remove(0)
}

/// A job to be retried is queued, is not due before the end of its wait, and keeps its history.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_retry_waits_its_time<S: Subject>(subject: &S) {
    let engine = subject.engine().await;
    let id = put(&*engine, job("again")).await;
    for attempt in 1..=2 {
        let job = take(&*engine, all()).await;
        assert_eq!(
            job.history,
            history(attempt - 1),
            "contract: a job knows how its attempts went"
        );
        settle(&*engine, &job, retry(SOON, history(attempt))).await;
        assert_eq!(status(&*engine, id).await, Some(Status::Queued));
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
    let engine = subject.engine().await;
    put(&*engine, job("again")).await;
    for attempt in 1..=5 {
        let job = take(&*engine, all().attempts(2)).await;
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
    let engine = subject.engine().await;
    let id = put(&*engine, job("released")).await;
    let release = |after: Duration| Verdict::Release {
        after,
        history: history(2),
    };
    let mut last = None;
    for _ in 0..5 {
        // More times than a job may be attempted.
        let job = take(&*engine, all().attempts(2)).await;
        assert_eq!(
            job.attempt, 1,
            "contract: a released attempt is not counted"
        );
        assert!(last < Some(job.token), "contract: a later token is greater");
        last = Some(job.token);
        settle(&*engine, &job, release(Duration::ZERO)).await;
        assert_eq!(attempts(&*engine, id).await, Some(0));
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
        ok(engine.settle(id, job.token, done(LONG))).await,
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
    let engine = subject.engine().await;
    let binary: Bytes = (0..=255).collect();
    for result in [None, Some(Bytes::new()), Some(binary)] {
        let id = put(&*engine, job("result")).await;
        let job = take(&*engine, all()).await;
        let verdict = Verdict::Done {
            result: result.clone(),
            // Longer than any clock can count.
            retention: Duration::MAX,
        };
        settle(&*engine, &job, verdict).await;
        for _ in 0..2 {
            assert_eq!(
                status(&*engine, id).await,
                Some(Status::Succeeded {
                    result: result.clone()
                }),
                "contract: a result is kept to the byte"
            );
        }
        assert_eq!(attempts(&*engine, id).await, Some(1));
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
    let engine = subject.engine().await;
    let new = job("dead_lettered")
        .dedup_key(key("dead_lettered"))
        .target("grave");
    let id = put(&*engine, new.clone()).await;
    let claimed = take(&*engine, all()).await;
    settle(&*engine, &claimed, dead_letter(1)).await;
    assert_eq!(
        status(&*engine, id).await,
        Some(Status::Failed),
        "contract: a job to be dead_lettered has failed"
    );
    let none = ok(engine.claim(all().failed_jobs(0))).await;
    assert!(
        none.is_empty(),
        "contract: a failed_job is no job, got {none:?}"
    );

    let mut last = claimed.token;
    let mut next = async |terms: Terms, attempts: u32| {
        let failed_job = take_failed_job(&*engine, terms).await;
        assert_eq!(
            failed_job.cause,
            cause(),
            "contract: a failed_job keeps its cause"
        );
        assert_eq!(
            failed_job.job.history,
            history(attempts),
            "contract: a failed_job keeps its history"
        );
        assert_eq!(
            (
                failed_job.job.id,
                failed_job.job.attempt,
                &failed_job.job.payload
            ),
            (id, 1, &new.payload),
            "contract: a failed_job keeps its job"
        );
        assert_eq!(
            failed_job.job.dedup_key, new.dedup_key,
            "contract: a failed_job keeps its key"
        );
        assert!(
            failed_job.job.token > last,
            "contract: a later token is greater"
        );
        last = failed_job.job.token;
        take_none(&*engine, "a claimed failed_job is nobody else's").await;
        failed_job.job
    };
    let failed_job = next(all(), 1).await;
    settle(&*engine, &failed_job, retry(SOON, history(1))).await;
    take_none(&*engine, "a failed_job waits its time").await;
    subject.advance(LATER).await;
    for _ in 0..4 {
        // The limit on attempts does not apply to it.
        next(Terms::new(1, LEASE).attempts(1), 1).await;
        subject.advance(LATER).await;
    }
    let failed_job = next(all(), 1).await;
    let release = Verdict::Release {
        after: Duration::ZERO,
        history: history(2),
    };
    settle(&*engine, &failed_job, release).await;
    let failed_job = next(Terms::new(1, LEASE), 2).await;
    subject.advance(LEASE / 2).await;
    assert_eq!(
        renew(&*engine, vec![(id, failed_job.token)], LONG).await,
        [Settled::Done],
        "contract: the claim of a failed_job is renewed"
    );
    subject.advance(LATER).await;
    settle(
        &*engine,
        &failed_job,
        Verdict::DeadLettered { retention: SOON },
    )
    .await;
    take_none(&*engine, "what is dead_lettered is not given again").await;
    assert_eq!(status(&*engine, id).await, Some(Status::Failed));
    assert_eq!(attempts(&*engine, id).await, Some(1));
    subject.advance(LATER).await;
    assert_eq!(
        status(&*engine, id).await,
        None,
        "contract: what is over leaves after its time"
    );
}

/// `DeadLettered` for a job, and `Failed` or `Done` for a failed job, return `Lost` and change nothing:
/// the claim remains.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_verdict_of_another_state_changes_nothing<S: Subject>(subject: &S) {
    let engine = subject.engine().await;
    let id = put(&*engine, job("running")).await;
    let claimed = take(&*engine, all()).await;
    let dead_lettered = Verdict::DeadLettered { retention: LONG };
    assert_eq!(
        ok(engine.settle(id, claimed.token, dead_lettered)).await,
        Settled::Lost,
        "contract: a running job is not dead_lettered yet"
    );
    assert_eq!(status(&*engine, id).await, Some(Status::Running));
    settle(&*engine, &claimed, dead_letter(1)).await;
    let failed_job = take_failed_job(&*engine, all()).await;
    for verdict in [dead_letter(1), done(LONG)] {
        assert_eq!(
            ok(engine.settle(id, failed_job.job.token, verdict)).await,
            Settled::Lost,
            "contract: a failed_job is no job"
        );
    }
    assert_eq!(depth(&*engine).await, [0, 0, 1]);
    settle(
        &*engine,
        &failed_job.job,
        Verdict::DeadLettered { retention: LONG },
    )
    .await;
}

/// A holder whose claim has passed to another can neither renew nor settle it.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_stale_holder_changes_nothing<S: Subject>(subject: &S) {
    let engine = subject.engine().await;
    let id = put(&*engine, job("stale")).await;
    let stale = take(&*engine, Terms::new(1, LEASE)).await;
    subject.advance(LATER).await;
    let current = take(&*engine, all()).await;
    let verdicts = || {
        [
            dead_letter(1),
            Verdict::DeadLettered { retention: LONG },
            done(LONG),
            Verdict::Release {
                after: Duration::ZERO,
                history: history(1),
            },
            retry(Duration::ZERO, history(1)),
        ]
    };
    let expect_lost = async |token, when: &str| {
        for verdict in verdicts() {
            let name = format!("{verdict:?}");
            assert_eq!(
                ok(engine.settle(id, token, verdict)).await,
                Settled::Lost,
                "contract: a stale holder changes nothing {when}: {name}"
            );
        }
        assert_eq!(
            renew(&*engine, vec![(id, token)], LONG).await,
            [Settled::Lost],
            "contract: a stale holder renews nothing {when}"
        );
    };
    expect_lost(stale.token, "of a job that runs").await;
    assert_eq!(status(&*engine, id).await, Some(Status::Running));
    assert_eq!(attempts(&*engine, id).await, Some(2));
    settle(&*engine, &current, dead_letter(2)).await;
    for token in [stale.token, current.token] {
        expect_lost(token, "of a job to be dead_lettered").await;
    }
    let failed_job = take_failed_job(&*engine, all()).await;
    for token in [stale.token, current.token] {
        expect_lost(token, "of a failed_job").await;
    }
    settle(
        &*engine,
        &failed_job.job,
        Verdict::DeadLettered { retention: LONG },
    )
    .await;
    for token in [stale.token, current.token, failed_job.job.token] {
        expect_lost(token, "of a job that is over").await;
    }
    assert_eq!(status(&*engine, id).await, Some(Status::Failed));
}

/// A claim is settled once, whatever the verdict.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_claim_is_settled_once<S: Subject>(subject: &S) {
    let engine = subject.engine().await;
    let release = Verdict::Release {
        after: LONG,
        history: history(0),
    };
    for first in [dead_letter(1), done(LONG), retry(LONG, history(1)), release] {
        let id = put(&*engine, job("settled")).await;
        let job = take(&*engine, all().failed_jobs(0)).await;
        settle(&*engine, &job, first.clone()).await;
        let before = ok(engine.task(id)).await;
        for second in [first, done(LONG), dead_letter(1), retry(LONG, history(1))] {
            assert_eq!(
                ok(engine.settle(id, job.token, second)).await,
                Settled::Lost,
                "contract: a claim is settled once"
            );
        }
        assert_eq!(
            ok(engine.task(id)).await,
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
    let engine = subject.engine().await;
    let mut ids = Vec::new();
    for retention in [SOON, LONG] {
        for text in ["succeeds", "fails"] {
            let id = put(&*engine, job(text)).await;
            let job = take(&*engine, all()).await;
            if text == "succeeds" {
                settle(&*engine, &job, done(retention)).await;
            } else {
                settle(&*engine, &job, dead_letter(1)).await;
                let failed_job = take_failed_job(&*engine, all()).await.job;
                settle(&*engine, &failed_job, Verdict::DeadLettered { retention }).await;
            }
            ids.push(id);
        }
    }
    let unfinished = put(&*engine, job("unfinished").dedup_key(key("unfinished"))).await;
    let present = async || {
        let mut present = Vec::new();
        for id in &ids {
            present.push(ok(engine.task(*id)).await.is_some());
        }
        present
    };
    subject.advance(SOON / 4).await;
    assert_eq!(
        present().await[2..],
        [true, true],
        "contract: what is over is kept for its time"
    );
    subject.advance(LATER).await;
    // Gives every background removal its chance.
    for _ in 0..3 {
        let repeat = ok(engine.enqueue(job("again").dedup_key(key("unfinished")))).await;
        assert_eq!(repeat.id, unfinished);
    }
    assert_eq!(
        present().await,
        [false, false, true, true],
        "contract: what is over leaves after its time, and nothing else does"
    );
    assert_eq!(status(&*engine, unfinished).await, Some(Status::Queued));
    assert_eq!(depth(&*engine).await, [1, 0, 0]);
}

/// Polls a future this many times, lets other tasks run in between, and drops it.
async fn drop_after<F: Future>(polls: usize, future: F) {
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
    let engine = subject.engine().await;
    let mut expected = HashSet::new();
    for polls in 0..12 {
        let new = job("dropped");
        expected.insert(new.id);
        drop_after(polls, engine.enqueue(new.clone())).await;
        ok(engine.enqueue(new)).await;
    }
    let claims = ok(engine.claim(all())).await;
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
    let engine = subject.engine().await;
    let mut expected = HashSet::new();
    for _ in 0..24 {
        expected.insert(put(&*engine, job("claimed")).await);
    }
    let terms = Terms::new(2, LEASE).attempts(100);
    for polls in 0..12 {
        drop_after(polls, engine.claim(terms.clone())).await;
    }
    subject.advance(LATER).await;
    let claims = ok(engine.claim(all().attempts(100))).await;
    let claimed: HashSet<_> = claims.jobs.iter().map(|job| job.id).collect();
    assert_eq!(claimed, expected, "contract: a dropped claim loses nothing");
    assert_eq!(depth(&*engine).await, [0, 24, 0]);
}

/// If a `settle` is dropped, it is done or not.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_dropped_settle_is_done_or_not<S: Subject>(subject: &S) {
    let engine = subject.engine().await;
    for polls in 0..12 {
        let id = put(&*engine, job("settled")).await;
        let claimed = take(&*engine, all()).await;
        let verdict = if polls % 2 == 0 {
            done(LONG)
        } else {
            retry(Duration::ZERO, history(1))
        };
        drop_after(polls, engine.settle(id, claimed.token, verdict)).await;
        // An operation that was begun may still be running.
        subject.advance(LEASE / 4).await;
        match status(&*engine, id).await {
            Some(Status::Succeeded { .. }) if polls % 2 == 0 => {}
            Some(Status::Queued) if polls % 2 == 1 => {
                let again = take(&*engine, all()).await;
                assert_eq!((again.id, again.attempt), (id, 2));
                settle(&*engine, &again, done(LONG)).await;
            }
            Some(Status::Running) => settle(&*engine, &claimed, done(LONG)).await,
            other => panic!("contract: a dropped verdict holds or does not, got {other:?}"),
        }
    }
    assert_eq!(depth(&*engine).await, [0, 0, 0]);
}
