use super::{
    LATER, LEASE, LONG, Subject, all, depth, done, history, job, ok, put, retry, settle, status,
    take,
};
use crate::queue::{Status, Terms};
use std::{
    collections::HashSet,
    future::Future,
    pin::pin,
    task::{Context, Waker},
    time::Duration,
};

/// Polls so often, with time for others in between, and drops the future.
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

/// A job whose `enqueue` was dropped is in or not in, once and whole; putting it in again settles
/// which.
///
/// # Panics
///
/// When the rule does not hold.
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

/// Jobs whose claim was dropped are given to another, at once or when their lease ends.
///
/// # Panics
///
/// When the rule does not hold.
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

/// A verdict whose future was dropped holds or does not.
///
/// # Panics
///
/// When the rule does not hold.
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
        // What was begun may still be under way.
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
