use super::{
    LATER, LEASE, LONG, Subject, all, claim, done, enqueue, expect_depth, expect_status, fresh,
    history, job, key, put, renew, retry, settle, settle_raw, take, take_none,
};
use crate::{
    lease::Settled,
    queue::{Ask, Engine, Status},
};
use std::{
    collections::HashSet,
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};
use tokio::time::timeout;

/// The time within which another process notices a change, on any machine.
const SURELY: Duration = Duration::from_secs(20);

/// Carries out two operations at the same time.
async fn both<A, B>(one: impl Future<Output = A>, other: impl Future<Output = B>) -> (A, B) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    let (mut first, mut second) = (None, None);
    poll_fn(|context| {
        if first.is_none()
            && let Poll::Ready(value) = one.as_mut().poll(context)
        {
            first = Some(value);
        }
        if second.is_none()
            && let Poll::Ready(value) = other.as_mut().poll(context)
        {
            second = Some(value);
        }
        match (first.take(), second.take()) {
            (Some(first), Some(second)) => Poll::Ready((first, second)),
            (one, other) => {
                (first, second) = (one, other);
                Poll::Pending
            }
        }
    })
    .await
}

/// The queue as two processes have it.
async fn two<S: Subject>(subject: &S) -> [Arc<dyn Engine>; 2] {
    let first = fresh(subject).await;
    match subject.again().await {
        Some(second) => [first, second],
        None => panic!("contract: a subject does not change what it can do"),
    }
}

/// What one process does is so for another: a job that it adds is claimed, waited for and settled there.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn what_one_process_adds_another_does<S: Subject>(subject: &S) {
    let [here, there] = two(subject).await;
    let seen = take_none(&*there, "an engine is empty at first").await;
    let id = put(&*here, job("x")).await;
    assert!(
        timeout(SURELY, there.wait(seen, LONG)).await.is_ok(),
        "contract: another process notices that a job was added"
    );
    let held = take(&*there, all()).await;
    assert_eq!((held.id, held.attempt), (id, 1));
    expect_status(&*here, id, Status::Running).await;
    let seen = take_none(&*here, "the job is claimed by another process").await;
    settle(&*there, &held, retry(Duration::ZERO, history(1))).await;
    assert!(
        timeout(SURELY, here.wait(seen, LONG)).await.is_ok(),
        "contract: another process notices that a job was released"
    );
    let again = take(&*here, all()).await;
    assert_eq!((again.attempt, &again.history), (2, &history(1)));
    assert!(
        again.token > held.token,
        "contract: a later token is greater"
    );
    settle(&*here, &again, done()).await;
    for engine in [&here, &there] {
        expect_depth(&**engine, [0, 0, 0]).await;
    }
}

/// Two processes that claim at the same time get different jobs, and all of them.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn each_job_is_claimed_by_one_process<S: Subject>(subject: &S) {
    let [here, there] = two(subject).await;
    let mut ids = HashSet::new();
    for number in 0..100 {
        ids.insert(put(&*here, job(&number.to_string())).await);
    }
    let mut claimed = 0;
    loop {
        let ask = || Ask::new(7, LONG);
        let (one, other) = both(claim(&*here, ask()), claim(&*there, ask())).await;
        if one.is_empty() && other.is_empty() {
            break;
        }
        for job in one.jobs.iter().chain(&other.jobs) {
            claimed += 1;
            ids.remove(&job.id);
        }
    }
    assert_eq!(
        (claimed, ids.len()),
        (100, 0),
        "contract: each job is claimed once"
    );
}

/// Of jobs with one key that two processes add at the same time, one goes in.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_key_is_one_for_all_processes<S: Subject>(subject: &S) {
    let [here, there] = two(subject).await;
    for number in 0..20 {
        let new = || job("x").dedup_key(key(&number.to_string()));
        let (one, other) = both(enqueue(&*here, new()), enqueue(&*there, new())).await;
        assert_eq!(one.id, other.id, "contract: both get the id of the first");
        assert!(one.repeated != other.repeated, "contract: one is added");
    }
    assert_eq!(claim(&*there, all()).await.jobs.len(), 20);
}

/// A claim of one process holds for all while it is renewed. When it has ended, another process has the job, and what
/// the first one says of it is not heard.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_claim_holds_for_all_processes<S: Subject>(subject: &S) {
    let [here, there] = two(subject).await;
    let id = put(&*here, job("x")).await;
    let held = take(&*here, Ask::new(1, LEASE)).await;
    for _ in 0..6 {
        subject.advance(LEASE / 3).await;
        let renewed = renew(&*here, vec![held.claim()], LEASE).await;
        assert_eq!(renewed, [Settled::Done]);
        take_none(&*there, "a claim that is renewed holds").await;
    }
    subject.advance(LATER).await;
    let taken = take(&*there, all()).await;
    assert_eq!((taken.id, taken.attempt), (id, 2));
    for engine in [&here, &there] {
        let late = settle_raw(&**engine, id, held.token, done()).await;
        assert_eq!(late, Settled::Lost, "contract: a stale holder");
    }
    settle(&*there, &taken, done()).await;
}

/// If the clock is set ahead, no claim ends, whoever looks first.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_clock_that_leaps_ends_no_claim<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
    for leap in [LEASE * 50, LONG] {
        let id = put(&*engine, job("x")).await;
        let held = take(&*engine, Ask::new(1, LEASE)).await;
        assert!(subject.leap(leap).await);
        take_none(&*engine, "a clock that leaps ends no claim").await;
        expect_status(&*engine, id, Status::Running).await;
        assert!(subject.leap(leap).await);
        let renewed = renew(&*engine, vec![held.claim()], LEASE).await;
        assert_eq!(renewed, [Settled::Done]);
        assert!(subject.leap(leap).await);
        settle(&*engine, &held, done()).await;
        // Time that passes ends it.
        put(&*engine, job("y")).await;
        let lost = take(&*engine, Ask::new(1, LEASE)).await;
        assert!(subject.leap(leap).await);
        take_none(&*engine, "a clock that leaps ends no claim").await;
        subject.advance(LATER).await;
        let again = take(&*engine, all()).await;
        assert_eq!((again.id, again.attempt), (lost.id, 2));
        settle(&*engine, &again, done()).await;
    }
}

/// If the clock is set ahead, no claim ends for another process either.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_clock_that_leaps_ends_no_claim_of_another_process<S: Subject>(subject: &S) {
    let [here, there] = two(subject).await;
    put(&*here, job("x")).await;
    // It has used the queue before.
    settle(
        &*there,
        &take(&*there, all()).await,
        retry(Duration::ZERO, history(1)),
    )
    .await;
    let held = take(&*here, Ask::new(1, LEASE)).await;
    assert!(subject.leap(LONG).await);
    take_none(&*there, "a clock that leaps ends no claim of another").await;
    take_none(&*here, "a clock that leaps ends no claim").await;
    settle(&*here, &held, done()).await;
}
