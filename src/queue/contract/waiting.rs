use super::{
    LATER, LEASE, LONG, SOON, Subject, all, depth, done, history, job, ok, put, retry, settle,
    take, take_none,
};
use crate::{
    BoxFuture,
    dead_letter::{Cause, Reason},
    queue::{Engine, Terms, Verdict},
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

/// Starts this many waiters, and returns when all of them wait.
async fn waiters(engine: &Arc<dyn Engine>, number: usize) -> JoinSet<()> {
    let begun = Arc::new(Semaphore::new(0));
    let mut waiters = JoinSet::new();
    for _ in 0..number {
        let (mut wait, begun) = (engine.wait(LONG), Arc::clone(&begun));
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

/// A wait ends in time if nothing happens.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn waiting_has_an_end<S: Subject>(subject: &S) {
    let engine = subject.engine().await;
    put(&*engine, job("later").delay(LONG)).await;
    for at_most in [Duration::ZERO, Duration::from_millis(50)] {
        assert!(
            timeout(SURELY, engine.wait(at_most)).await.is_ok(),
            "contract: waiting has an end"
        );
    }
}

/// A wait ends when a job is added or released, a target has room again, a job becomes the next of its
/// FIFO group, or an entry must be written.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn what_comes_wakes_who_waits<S: Subject>(subject: &S) {
    let engine = subject.engine().await;
    let waiting = waiters(&engine, 3).await;
    for target in ["a", "b", "c"] {
        put(&*engine, job("new").target(target)).await;
    }
    all_wake(waiting, "jobs are put in").await;
    let claims = ok(engine.claim(all())).await;

    let again: [(&str, Verdict); 3] = [
        (
            "a job is to be tried again",
            retry(Duration::ZERO, history(1)),
        ),
        (
            "a job is released",
            Verdict::Release {
                after: Duration::ZERO,
                history: history(1),
            },
        ),
        (
            "an entry is to be written",
            Verdict::Failed {
                cause: Cause::new(Reason::Rejected),
                history: history(1),
            },
        ),
    ];
    for ((why, verdict), job) in again.into_iter().zip(&claims.jobs) {
        take_none(&*engine, "all is claimed").await;
        let waiting = waiters(&engine, 1).await;
        settle(&*engine, job, verdict).await;
        all_wake(waiting, why).await;
        ok(engine.claim(all())).await;
    }

    let engine = subject.engine().await;
    for order in ["one", "one"] {
        put(
            &*engine,
            job("in order").fifo_group(order).target("ordered"),
        )
        .await;
        put(&*engine, job("crowd").target("crowded")).await;
    }
    let terms = || all().per_target(1);
    let claims = ok(engine.claim(terms())).await;
    assert_eq!(claims.jobs.len(), 2);
    for job in &claims.jobs {
        let none = ok(engine.claim(terms())).await;
        assert!(none.is_empty(), "contract: all may run that runs");
        // An engine may wake once more for an earlier change.
        engine.wait(Duration::from_millis(20)).await;
        let waiting = waiters(&engine, 1).await;
        settle(&*engine, job, done(LONG)).await;
        all_wake(waiting, "there is room, or another's turn").await;
        take(&*engine, terms()).await;
    }
}

/// A wait ends when a job or a failed job becomes due, or a lease ends, including a lease that began
/// after the wait.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn what_time_brings_wakes_who_waits<S: Subject>(subject: &S) {
    let engine = subject.engine().await;
    let waiting = waiters(&engine, 1).await;
    put(&*engine, job("later").delay(SOON)).await;
    subject.advance(LATER).await;
    all_wake(waiting, "a job becomes due").await;
    let claimed = take(&*engine, Terms::new(1, LEASE)).await;
    let waiting = waiters(&engine, 1).await;
    subject.advance(LATER).await;
    all_wake(waiting, "a claim ends").await;
    drop(claimed);

    let claimed = take(&*engine, all()).await;
    let waiting = waiters(&engine, 1).await;
    settle(&*engine, &claimed, retry(SOON, history(1))).await;
    subject.advance(LATER).await;
    all_wake(waiting, "a retry becomes due").await;

    put(&*engine, job("behind").delay(LONG)).await;
    let waiting = waiters(&engine, 1).await;
    let claimed = take(&*engine, Terms::new(1, LEASE)).await;
    subject.advance(LATER).await;
    all_wake(waiting, "a claim ends that began later").await;
    drop(claimed);
}

/// A wait misses neither a change after the claim before it, nor a change before its future is first
/// polled.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn news_between_a_claim_and_a_wait_are_not_missed<S: Subject>(subject: &S) {
    let engine = subject.engine().await;
    let returns = async |wait: BoxFuture<()>, when: &str| {
        assert!(
            timeout(SURELY, wait).await.is_ok(),
            "contract: what came {when} is not missed"
        );
    };
    take_none(&*engine, "an engine is empty at first").await;
    put(&*engine, job("between")).await;
    returns(engine.wait(LONG), "before the wait").await;
    take(&*engine, all()).await;

    let wait = engine.wait(LONG);
    put(&*engine, job("early")).await;
    returns(wait, "before the wait was polled").await;
    let claimed = take(&*engine, Terms::new(1, LEASE)).await;

    take_none(&*engine, "all is claimed").await;
    subject.advance(LATER).await;
    returns(engine.wait(LONG), "with the time before the wait").await;
    let again = take(&*engine, all()).await;
    assert_eq!(again.id, claimed.id);
}

/// If a worker claims and cannot use the remaining work, another worker is woken that claimed before
/// the work arrived and begins to wait only now.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn what_one_cannot_use_is_told_to_another<S: Subject>(subject: &S) {
    let narrower: [(&str, Terms); 3] = [
        ("a target that is full", all().per_target(1)),
        ("jobs", Terms::new(0, LONG)),
        ("failed_jobs", all().failed_jobs(0)),
    ];
    for (what, terms) in narrower {
        let engine = subject.engine().await;
        put(&*engine, job("first").target("a")).await;
        let first = take(&*engine, all()).await;
        take_none(&*engine, "all is claimed").await;
        if what == "failed_jobs" {
            let cause = Cause::new(Reason::Rejected);
            let history = history(1);
            settle(&*engine, &first, Verdict::Failed { cause, history }).await;
        } else {
            put(&*engine, job("second").target("a")).await;
        }
        let claims = ok(engine.claim(terms)).await;
        assert!(claims.is_empty(), "contract: it has no use for {what}");
        let other = waiters(&engine, 1).await;
        assert!(
            timeout(SURELY, engine.wait(LONG)).await.is_ok(),
            "contract: another's look does not take the news of {what}"
        );
        drop(other);
        assert!(!ok(engine.claim(all())).await.is_empty());
    }
}

/// Workers that cannot use the remaining work wait, and do not spin.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn who_can_use_nothing_sleeps<S: Subject>(subject: &S) {
    const MOST: usize = 25;
    let engine = subject.engine().await;
    for number in 0..10 {
        put(&*engine, job("crowd").target(format!("t{}", number % 2))).await;
    }
    // A busy worker could use it.
    ok(engine.claim(Terms::new(2, LONG).per_target(5))).await;
    let rounds = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..2 {
        let (engine, rounds) = (Arc::clone(&engine), Arc::clone(&rounds));
        workers.spawn(async move {
            loop {
                let claims = ok(engine.claim(all().per_target(1))).await;
                assert!(claims.is_empty(), "contract: the targets are full");
                rounds.fetch_add(1, Ordering::SeqCst);
                engine.wait(LONG).await;
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
    let engine = subject.engine().await;
    let finished = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for worker in 0..8 {
        let (engine, finished) = (Arc::clone(&engine), Arc::clone(&finished));
        workers.spawn(async move {
            loop {
                let terms = Terms::new(1 + worker % 3, LONG).per_target(4);
                let claims = ok(engine.claim(terms)).await;
                if claims.is_empty() {
                    engine.wait(LONG).await;
                }
                for job in &claims.jobs {
                    tokio::task::yield_now().await;
                    settle(&*engine, job, done(LONG)).await;
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
        "contract: a burst is drained, {} of {} are done and {:?} are left",
        finished.load(Ordering::SeqCst),
        PRODUCERS * EACH,
        depth(&*engine).await,
    );
    assert_eq!(depth(&*engine).await, [0, 0, 0]);
}
