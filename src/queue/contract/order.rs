use super::{
    LATER, LEASE, LONG, SOON, Subject, all, all_said, depth, done, history, job, ok, put, retry,
    said, settle, status, take, take_none,
};
use crate::{
    dead_letter::{Cause, Reason},
    queue::{Status, Terms, Verdict},
};
use std::time::Duration;

/// Jobs with the same order key run one after another, oldest first, whatever their targets: the
/// next when the one before has succeeded, or failed for good, its entry written or not.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn jobs_in_order_run_one_after_another<S: Subject>(subject: &S) {
    let engine = subject.engine().await;
    let mut ids = Vec::new();
    for text in ["a", "b", "c", "d"] {
        ids.push(put(&*engine, job(text).fifo_group("order").target(text)).await);
    }
    for id in &ids {
        assert_eq!(
            status(&*engine, *id).await,
            Some(Status::Queued),
            "contract: what is held back is queued"
        );
    }
    let next = async |expected: &str| {
        let job = take(&*engine, all().failed_jobs(0)).await;
        assert_eq!(
            said(&job),
            expected,
            "contract: the oldest in order is next"
        );
        let none = ok(engine.claim(all().failed_jobs(0))).await;
        assert!(
            none.is_empty(),
            "contract: of an order one runs at a time, got {none:?}"
        );
        job
    };
    let first = next("a").await;
    settle(&*engine, &first, done(LONG)).await;
    let second = next("b").await;
    let dead_letter = Verdict::Failed {
        cause: Cause::new(Reason::Rejected),
        history: history(1),
    };
    settle(&*engine, &second, dead_letter).await;
    let third = next("c").await;
    let failed_jobs = ok(engine.claim(Terms::new(1, LONG))).await.failed_jobs;
    settle(
        &*engine,
        &failed_jobs[0].job,
        Verdict::DeadLettered { retention: LONG },
    )
    .await;
    take_none(&*engine, "a written entry lets nothing more begin").await;
    put(&*engine, job("e").fifo_group("order")).await;
    settle(&*engine, &third, done(LONG)).await;
    for expected in ["d", "e"] {
        let job = next(expected).await;
        settle(&*engine, &job, done(LONG)).await;
    }
    take_none(&*engine, "an order has an end").await;
    put(&*engine, job("f").fifo_group("order")).await;
    next("f").await;
    assert_eq!(depth(&*engine).await, [0, 1, 0]);
}

/// While a job in order waits to be tried again, was handed back, or has lost its worker, the next
/// one waits with it; when it is dead-lettered for that, the next begins.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn the_next_in_order_waits_for_a_retry<S: Subject>(subject: &S) {
    let engine = subject.engine().await;
    for text in ["a", "b"] {
        put(&*engine, job(text).fifo_group("order")).await;
    }
    let first = async |lease: Duration| {
        let job = take(&*engine, Terms::new(5, lease)).await;
        assert_eq!(said(&job), "a", "contract: the next in order waits");
        job
    };
    let job = first(LONG).await;
    settle(&*engine, &job, retry(SOON, history(1))).await;
    take_none(&*engine, "the next in order waits for a retry").await;
    subject.advance(LATER).await;
    let job = first(LONG).await;
    let release = Verdict::Release {
        after: SOON,
        history: history(1),
    };
    settle(&*engine, &job, release).await;
    take_none(&*engine, "the next in order waits for what is handed back").await;
    subject.advance(LATER).await;
    first(LEASE).await;
    subject.advance(LATER).await;
    first(LEASE).await;
    subject.advance(LATER).await;
    let claims = ok(engine.claim(Terms::new(5, LONG).attempts(3))).await;
    assert_eq!(
        (all_said(&claims), claims.failed_jobs.len()),
        (vec!["b".to_owned()], 1),
        "contract: the next in order begins when the one before is dead_lettered"
    );
}

/// A job that is not due yet holds back those after it in its order.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn a_delayed_job_is_not_overtaken<S: Subject>(subject: &S) {
    let engine = subject.engine().await;
    put(&*engine, job("a").fifo_group("order").delay(SOON)).await;
    put(&*engine, job("b").fifo_group("order")).await;
    put(&*engine, job("c").fifo_group("order").delay(LONG)).await;
    take_none(&*engine, "a delayed job is not overtaken").await;
    subject.advance(LATER).await;
    for expected in ["a", "b"] {
        let job = take(&*engine, all()).await;
        assert_eq!(
            said(&job),
            expected,
            "contract: the oldest in order is next"
        );
        settle(&*engine, &job, done(LONG)).await;
    }
    take_none(&*engine, "a job in order has its own delay").await;
}

/// Jobs with different order keys, and those without one, do not wait for each other.
///
/// # Panics
///
/// When the rule does not hold.
pub async fn orders_are_apart<S: Subject>(subject: &S) {
    let engine = subject.engine().await;
    for order in ["one", "two", "\u{2462}", ""] {
        for number in 1..=2 {
            put(
                &*engine,
                job(&format!("{order}-{number}")).fifo_group(order),
            )
            .await;
        }
    }
    put(&*engine, job("none-1")).await;
    put(&*engine, job("none-2")).await;
    let claims = ok(engine.claim(all())).await;
    assert_eq!(
        all_said(&claims),
        ["one-1", "two-1", "\u{2462}-1", "-1", "none-1", "none-2"],
        "contract: orders are apart"
    );
}
