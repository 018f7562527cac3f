use super::{
    LATER, LEASE, LONG, SOON, Settings, Subject, all, claim, done, expect_depth, fresh, history,
    job, put, retry, settle, take, take_none,
};
use crate::{
    dead_letter::{Cause, Reason},
    queue::{Ask, End, Engine, Mark},
};
use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};

/// The time within which a waiter is woken, on any machine.
const SURELY: Duration = Duration::from_secs(20);

/// Starts this many waiters that have seen `seen`, and returns when all of them wait.
async fn waiters(engine: &Arc<dyn Engine>, seen: Mark, number: usize) -> JoinSet<()> {
    let begun = Arc::new(Semaphore::new(0));
    let mut waiters = JoinSet::new();
    for _ in 0..number {
        let (mut wait, begun) = (engine.wait(seen, LONG), Arc::clone(&begun));
        waiters.spawn(async move {
            let first_look = poll_fn(|context| Poll::Ready(wait.as_mut().poll(context)));
            let looked = first_look.await;
            begun.add_permits(1);
            if looked.is_pending() {
                wait.await;
            }
        });
    }
    let all = u32::try_from(number).unwrap_or(u32::MAX);
    drop(begun.acquire_many(all).await);
    waiters
}

async fn all_wake(mut waiters: JoinSet<()>, why: &str) {
    let woken = async { while waiters.join_next().await.is_some() {} };
    assert!(
        timeout(SURELY, woken).await.is_ok(),
        "contract: who waits is woken when {why}"
    );
}

pub(super) async fn returns(engine: &dyn Engine, seen: Mark, why: &str) {
    let wait = timeout(SURELY, engine.wait(seen, LONG));
    assert!(wait.await.is_ok(), "contract: {why}");
}

/// A wait ends in time if nothing happens, and at once for who has seen nothing.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn waiting_has_an_end<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
    put(&*engine, job("claimed")).await;
    let seen = claim(&*engine, all()).await.mark;
    for at_most in [Duration::ZERO, Duration::from_millis(50)] {
        assert!(
            timeout(SURELY, engine.wait(seen, at_most)).await.is_ok(),
            "contract: waiting has an end"
        );
    }
    returns(
        &*engine,
        Mark::default(),
        "who has seen nothing looks first",
    )
    .await;
}

/// A wait ends when a job is added or released, or an entry must be written; and if the engine promises limits per
/// target and FIFO groups, when a target has room again or a job becomes the next of its group.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn what_comes_wakes_who_waits<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
    let seen = take_none(&*engine, "an engine is empty at first").await;
    let waiting = waiters(&engine, seen, 3).await;
    for target in ["a", "b", "c"] {
        put(&*engine, job("new").target(target)).await;
    }
    all_wake(waiting, "jobs are put in").await;
    let claims = claim(&*engine, all()).await;

    let again: [(&str, End); 3] = [
        (
            "a job is to be tried again",
            retry(Duration::ZERO, history(1)),
        ),
        (
            "a job is released",
            End::Release {
                after: Duration::ZERO,
                history: history(1),
            },
        ),
        (
            "an entry is to be written",
            End::Failed {
                cause: Cause::new(Reason::Rejected),
                history: history(1),
            },
        ),
    ];
    for ((why, end), job) in again.into_iter().zip(&claims.jobs) {
        let seen = take_none(&*engine, "all is claimed").await;
        let waiting = waiters(&engine, seen, 1).await;
        settle(&*engine, job, end).await;
        all_wake(waiting, why).await;
        claim(&*engine, all()).await;
    }

    let settings = Settings {
        per_target: 1,
        ..Settings::default()
    };
    let engine = subject.engine(settings).await;
    let promises = engine.promises();
    if !promises.fifo_groups || promises.per_target.is_none() {
        return;
    }
    for order in ["one", "one"] {
        put(
            &*engine,
            job("in order").fifo_group(order).target("ordered"),
        )
        .await;
        put(&*engine, job("crowd").target("crowded")).await;
    }
    let claims = claim(&*engine, all()).await;
    assert_eq!(claims.jobs.len(), 2);
    for job in &claims.jobs {
        let seen = take_none(&*engine, "all may run that runs").await;
        let waiting = waiters(&engine, seen, 1).await;
        settle(&*engine, job, done()).await;
        all_wake(waiting, "there is room, or another's turn").await;
        take(&*engine, all()).await;
    }
}

/// A wait ends when a job or a failed job becomes due, or a lease ends, including a lease that began
/// after the wait.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn what_time_brings_wakes_who_waits<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
    let none = async || take_none(&*engine, "there is nothing to claim yet").await;
    put(&*engine, job("later").delay(SOON)).await;
    let waiting = waiters(&engine, none().await, 1).await;
    subject.advance(LATER).await;
    all_wake(waiting, "a job becomes due").await;
    let claimed = take(&*engine, Ask::new(1, LEASE)).await;
    let waiting = waiters(&engine, none().await, 1).await;
    subject.advance(LATER).await;
    all_wake(waiting, "a claim ends").await;
    drop(claimed);

    let claimed = take(&*engine, all()).await;
    let waiting = waiters(&engine, none().await, 1).await;
    settle(&*engine, &claimed, retry(SOON, history(1))).await;
    subject.advance(LATER).await;
    all_wake(waiting, "a retry becomes due").await;

    put(&*engine, job("behind").delay(LONG)).await;
    let waiting = waiters(&engine, none_but_due(&*engine).await, 1).await;
    subject.advance(LATER).await;
    all_wake(waiting, "a claim ends that was made for a moment").await;
}

/// Claims the job that is due, for a short lease. Returns what the claim has seen.
async fn none_but_due(engine: &dyn Engine) -> Mark {
    let claims = claim(engine, Ask::new(2, LEASE)).await;
    assert_eq!(claims.jobs.len(), 1, "contract: one job is due");
    claims.mark
}

/// A wait misses neither a change after the claim before it, nor the time that has passed since.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn news_between_a_claim_and_a_wait_are_not_missed<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
    let seen = take_none(&*engine, "an engine is empty at first").await;
    put(&*engine, job("between")).await;
    returns(&*engine, seen, "what came before the wait is not missed").await;
    // Another worker takes it, and its claim tells nothing to the first.
    take(&*engine, all()).await;
    returns(&*engine, seen, "each claim has seen what it has seen").await;

    put(&*engine, job("short")).await;
    let claimed = take(&*engine, Ask::new(1, LEASE)).await;
    let seen = take_none(&*engine, "all is claimed").await;
    subject.advance(LATER).await;
    returns(
        &*engine,
        seen,
        "a lease that ended before the wait is not missed",
    )
    .await;
    let again = take(&*engine, all()).await;
    assert_eq!(again.id, claimed.id);
}

/// A worker that cannot use the remaining work waits: work of another kind, or of a target that has no room.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn who_can_use_nothing_sleeps<S: Subject>(subject: &S) {
    const MOST: usize = 10;
    let settings = Settings {
        per_target: 1,
        ..Settings::default()
    };
    let engine = subject.engine(settings).await;
    for number in 0..10 {
        put(&*engine, job("crowd").target(format!("t{}", number % 2))).await;
    }
    let limited = engine.promises().per_target.is_some();
    let kinds = if limited { "contract" } else { "other" };
    claim(&*engine, Ask::new(2, LONG)).await;
    let rounds = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..2 {
        let (engine, rounds) = (Arc::clone(&engine), Arc::clone(&rounds));
        workers.spawn(async move {
            loop {
                let claims = claim(&*engine, all().kinds([kinds])).await;
                assert!(claims.is_empty(), "contract: there is nothing to use");
                rounds.fetch_add(1, Ordering::SeqCst);
                engine.wait(claims.mark, LONG).await;
            }
        });
    }
    tokio::time::sleep(SOON * 2).await;
    let rounds = rounds.load(Ordering::SeqCst);
    assert!(
        (2..=MOST).contains(&rounds),
        "contract: two looked {rounds} times for nothing"
    );
}

/// Many producers, and many workers that wait while there is no work: every job is done, and no worker
/// waits while there is a job to do.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_burst_is_drained<S: Subject>(subject: &S) {
    const PRODUCERS: usize = 16;
    const EACH: usize = 50;
    let settings = Settings {
        per_target: 4,
        ..Settings::default()
    };
    let engine = subject.engine(settings).await;
    let finished = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for worker in 0..8 {
        let (engine, finished) = (Arc::clone(&engine), Arc::clone(&finished));
        workers.spawn(async move {
            loop {
                let claims = claim(&*engine, Ask::new(1 + worker % 3, LONG)).await;
                if claims.is_empty() {
                    engine.wait(claims.mark, LONG).await;
                }
                for job in &claims.jobs {
                    tokio::task::yield_now().await;
                    settle(&*engine, job, done()).await;
                    finished.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
    }
    let mut producers = JoinSet::new();
    for producer in 0..PRODUCERS {
        let engine = Arc::clone(&engine);
        producers.spawn(async move {
            for number in 0..EACH {
                let target = format!("target-{}", (producer + number) % 3);
                put(&*engine, job("burst").target(target)).await;
            }
        });
    }
    let drained = async {
        while finished.load(Ordering::SeqCst) < PRODUCERS * EACH {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(
        timeout(SURELY, drained).await.is_ok(),
        "contract: a burst is drained, {} of {} are done",
        finished.load(Ordering::SeqCst),
        PRODUCERS * EACH,
    );
    expect_depth(&*engine, [0, 0, 0]).await;
}
