use super::{
    LATER, LEASE, LONG, SOON, Subject, all, all_said, attempts, depth, done, history, job, ok, put,
    renew, retry, said, settle, status, take, take_none,
};
use crate::{
    dead_letter::{Cause, Reason},
    lease::Settled,
    queue::{Status, Terms, Verdict},
};
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::task::JoinSet;

/// 50 workers that claim at the same time get each of 200 jobs exactly once.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn each_job_is_claimed_once<S: Subject>(subject: &S) {
    let engine = subject.engine().await;
    let mut expected = HashSet::new();
    for _ in 0..200 {
        expected.insert(put(&*engine, job("once")).await);
    }
    let mut workers = JoinSet::new();
    for _ in 0..50 {
        let engine = Arc::clone(&engine);
        workers.spawn(async move {
            let mut mine = Vec::new();
            loop {
                let claims = ok(engine.claim(Terms::new(3, LONG))).await;
                if claims.is_empty() {
                    return mine;
                }
                mine.extend(claims.jobs.into_iter().map(|job| job.id));
                tokio::task::yield_now().await;
            }
        });
    }
    let claimed: Vec<_> = workers.join_all().await.into_iter().flatten().collect();
    assert_eq!(claimed.len(), 200, "contract: each job is claimed once");
    let claimed: HashSet<_> = claimed.into_iter().collect();
    assert_eq!(claimed, expected, "contract: each job is claimed");
}

/// Jobs are claimed in the order in which they are due; jobs that are due at the same time, in the
/// order in which they were added, across all targets.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn what_is_due_first_is_given_first<S: Subject>(subject: &S) {
    let engine = subject.engine().await;
    for (text, target, delay) in [
        ("fifth", "a", 700),
        ("third", "b", 300),
        ("first", "a", 0),
        ("fourth", "a", 500),
        ("second", "c", 100),
    ] {
        let delay = Duration::from_millis(delay);
        put(&*engine, job(text).target(target).delay(delay)).await;
    }
    subject.advance(LATER).await;
    let first = ok(engine.claim(Terms::new(2, LONG))).await;
    let rest = ok(engine.claim(all())).await;
    let order = [all_said(&first), all_said(&rest)].concat();
    assert_eq!(
        order,
        ["first", "second", "third", "fourth", "fifth"],
        "contract: what is due first is given first"
    );

    let names: Vec<_> = (0..20).map(|number| number.to_string()).collect();
    for name in &names {
        put(&*engine, job(name)).await;
    }
    let claims = ok(engine.claim(all())).await;
    assert_eq!(
        all_said(&claims),
        names,
        "contract: what came first is given first"
    );
}

/// A claim returns no more jobs and no more failed jobs than it asks for.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_claim_gives_no_more_than_was_asked_for<S: Subject>(subject: &S) {
    let engine = subject.engine().await;
    for _ in 0..10 {
        put(&*engine, job("many")).await;
    }
    let claims = ok(engine.claim(Terms::new(6, LONG))).await;
    assert_eq!(
        claims.jobs.len(),
        6,
        "contract: as many as were asked for are given"
    );
    for job in &claims.jobs {
        let verdict = Verdict::Failed {
            cause: crate::dead_letter::Cause::new(Reason::Rejected),
            history: history(1),
        };
        settle(&*engine, job, verdict).await;
    }
    for (jobs, failed_jobs) in [(0, 0), (0, 2), (1, 0), (2, 3), (100, 100)] {
        let claims = ok(engine.claim(Terms::new(jobs, LONG).failed_jobs(failed_jobs))).await;
        let (left_jobs, left_failed_jobs) = (if jobs == 100 { 1 } else { jobs }, {
            if failed_jobs == 100 { 1 } else { failed_jobs }
        });
        assert_eq!(
            (claims.jobs.len(), claims.failed_jobs.len()),
            (left_jobs, left_failed_jobs),
            "contract: a claim gives what was asked for, and no more"
        );
    }
}

/// One claim can return a backlog of thousands, and all can be settled.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_backlog_is_claimed_at_once<S: Subject>(subject: &S) {
    let engine = subject.engine().await;
    let mut producers = JoinSet::new();
    for producer in 0..16 {
        let engine = Arc::clone(&engine);
        producers.spawn(async move {
            for number in 0..250 {
                let target = format!("target-{}", (producer + number) % 7);
                put(&*engine, job("backlog").target(target)).await;
            }
        });
    }
    producers.join_all().await;
    assert_eq!(depth(&*engine).await, [4_000, 0, 0]);
    let claims = ok(engine.claim(Terms::new(usize::MAX, LONG))).await;
    assert_eq!(
        claims.jobs.len(),
        4_000,
        "contract: a backlog is claimed at once"
    );
    let names: Vec<_> = claims.jobs.iter().map(|job| (job.id, job.token)).collect();
    let renewed = renew(&*engine, names, LONG).await;
    assert_eq!(renewed.len(), 4_000);
    assert!(
        renewed.iter().all(|settled| *settled == Settled::Done),
        "contract: claims are renewed, however many"
    );
}

/// Each claim has the number of its attempt and a token that is greater than the one before.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_claim_counts_the_attempt<S: Subject>(subject: &S) {
    let engine = subject.engine().await;
    let id = put(&*engine, job("counted")).await;
    assert_eq!(attempts(&*engine, id).await, Some(0));
    let mut last = None;
    for attempt in 1..=5 {
        let job = take(&*engine, all()).await;
        assert_eq!(job.attempt, attempt, "contract: a claim counts the attempt");
        assert_eq!(
            attempts(&*engine, id).await,
            Some(attempt),
            "contract: an attempt is counted when it begins"
        );
        assert!(
            last < Some(job.token),
            "contract: a later token is greater, {last:?} and {:?}",
            job.token
        );
        last = Some(job.token);
        settle(&*engine, &job, retry(Duration::ZERO, history(attempt))).await;
    }
}

/// A job whose lease ended is queued again at once, and its former holder has lost it.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_claim_that_ends_is_given_to_another<S: Subject>(subject: &S) {
    let engine = subject.engine().await;
    let id = put(&*engine, job("crashed")).await;
    let lost = take(&*engine, Terms::new(1, LEASE)).await;
    assert_eq!(status(&*engine, id).await, Some(Status::Running));
    take_none(&*engine, "a claimed job is nobody else's").await;
    subject.advance(LATER).await;
    assert_eq!(
        status(&*engine, id).await,
        Some(Status::Queued),
        "contract: a job whose claim ended is queued"
    );
    assert_eq!(
        renew(&*engine, vec![(id, lost.token)], LONG).await,
        [Settled::Lost],
        "contract: a claim that ended is not renewed"
    );
    assert_eq!(
        ok(engine.settle(id, lost.token, done(LONG))).await,
        Settled::Lost,
        "contract: a claim that ended is not settled"
    );
    let next = take(&*engine, all()).await;
    assert_eq!((next.id, next.attempt), (id, 2));
    assert!(
        next.token > lost.token,
        "contract: a later token is greater"
    );
    let none = ok(engine.claim(all().attempts(1))).await;
    assert!(
        none.is_empty(),
        "contract: a job that runs again is not dead_lettered for the claim that ended, got {none:?}"
    );
    settle(&*engine, &next, done(LONG)).await;
}

/// Claims that are renewed outlive their first lease, and no other worker gets their jobs. The results
/// are in the order of the claims.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_renewed_claim_holds<S: Subject>(subject: &S) {
    let engine = subject.engine().await;
    for _ in 0..3 {
        put(&*engine, job("renewed")).await;
    }
    let claims = ok(engine.claim(Terms::new(3, LEASE))).await;
    let mut names: Vec<_> = claims.jobs.iter().map(|job| (job.id, job.token)).collect();
    settle(&*engine, &claims.jobs[1], done(LONG)).await;
    for _ in 0..5 {
        subject.advance(LEASE / 2).await;
        assert_eq!(
            renew(&*engine, names.clone(), LEASE).await,
            [Settled::Done, Settled::Lost, Settled::Done],
            "contract: the holder renews what it holds"
        );
        take_none(&*engine, "a renewed claim holds").await;
    }
    // From here on, only one of them is renewed.
    let last = names.remove(2);
    assert_eq!(renew(&*engine, vec![last], LONG).await, [Settled::Done]);
    subject.advance(LATER).await;
    let taken = take(&*engine, all()).await;
    assert_eq!(
        taken.id, names[0].0,
        "contract: what is not renewed any more is given to another"
    );
}

/// A job whose workers die gets all its attempts and is then dead-lettered: once, whichever worker
/// finds it, with everything that is known of it.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_job_that_kills_its_workers_is_dead_lettered_once<S: Subject>(subject: &S) {
    let engine = subject.engine().await;
    let id = put(&*engine, job("poison").target("poisoned")).await;
    let terms = Terms::new(10, LEASE).attempts(3);
    let mut token = None;
    for attempt in 1..=3 {
        let job = take(&*engine, terms.clone()).await;
        assert_eq!(job.attempt, attempt, "contract: a lost attempt is counted");
        token = Some(job.token);
        subject.advance(LATER).await;
    }
    put(&*engine, job("healthy")).await;

    let mut workers = JoinSet::new();
    for _ in 0..10 {
        let (engine, terms) = (Arc::clone(&engine), Terms::new(10, LONG).attempts(3));
        workers.spawn(async move { ok(engine.claim(terms)).await });
    }
    let claims = workers.join_all().await;
    let jobs = claims.iter().flat_map(|claims| &claims.jobs);
    assert_eq!(
        jobs.map(super::said).collect::<Vec<_>>(),
        ["healthy"],
        "contract: a job that has had its attempts is not run again"
    );
    let failed_jobs: Vec<_> = claims
        .iter()
        .flat_map(|claims| &claims.failed_jobs)
        .collect();
    let [failed_job] = &failed_jobs[..] else {
        panic!("contract: a job is dead_lettered once, got {failed_jobs:?}");
    };
    assert_eq!(
        failed_job.cause.reason,
        Reason::WorkerLost,
        "contract: a job that kills its workers says so"
    );
    assert_eq!(
        (
            failed_job.job.id,
            failed_job.job.attempt,
            super::said(&failed_job.job)
        ),
        (id, 3, "poison".to_owned()),
        "contract: a failed_job has its job"
    );
    assert!(
        Some(failed_job.job.token) > token,
        "contract: a later token is greater"
    );
    assert_eq!(depth(&*engine).await, [0, 1, 1]);
    settle(
        &*engine,
        &failed_job.job,
        Verdict::DeadLettered { retention: LONG },
    )
    .await;
    take_none(&*engine, "a job is dead_lettered once").await;
    assert_eq!(status(&*engine, id).await, Some(Status::Failed));
    assert_eq!(attempts(&*engine, id).await, Some(3));
}

/// At most `per_target` jobs of a target run, whichever workers hold them, and jobs of other targets do
/// not wait for them. There is room again when a job is done, released or dead-lettered, and when its
/// lease has ended.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_full_target_does_not_hold_up_others<S: Subject>(subject: &S) {
    let engine = subject.engine().await;
    for _ in 0..10 {
        put(&*engine, job("slow").target("slow")).await;
    }
    for _ in 0..3 {
        put(&*engine, job("quick").target("quick")).await;
    }
    put(&*engine, job("untargeted")).await;
    let terms = || Terms::new(10, LONG).per_target(2);
    let claims = ok(engine.claim(terms())).await;
    let mut got = all_said(&claims);
    got.sort();
    assert_eq!(
        got,
        ["quick", "quick", "slow", "slow", "untargeted"],
        "contract: of a target no more run than may, and the others go on"
    );
    let none = ok(engine.claim(terms())).await;
    assert!(
        none.is_empty(),
        "contract: another worker finds the targets full, got {none:?}"
    );
    let mut slow = claims.jobs.into_iter().filter(|job| job.target == "slow");
    let (Some(first), Some(second)) = (slow.next(), slow.next()) else {
        panic!("contract: two of a target run");
    };

    let room = async |why: &str, lease: Duration| {
        let claims = ok(engine.claim(Terms::new(10, lease).per_target(2))).await;
        assert_eq!(
            all_said(&claims),
            ["slow"],
            "contract: there is room for one when one {why}"
        );
        claims.jobs[0].clone()
    };
    settle(&*engine, &first, done(LONG)).await;
    let third = room("is done", LONG).await;
    settle(&*engine, &second, retry(LONG, history(1))).await;
    let fourth = room("is to be tried again", LONG).await;
    let release = Verdict::Release {
        after: LONG,
        history: history(0),
    };
    settle(&*engine, &third, release).await;
    let fifth = room("is released", LONG).await;
    let dead_letter = Verdict::Failed {
        cause: crate::dead_letter::Cause::new(Reason::Rejected),
        history: history(1),
    };
    settle(&*engine, &fourth, dead_letter).await;
    let terms = Terms::new(10, LEASE).failed_jobs(0).per_target(2);
    let sixth = take(&*engine, terms).await;
    subject.advance(SOON.max(LATER)).await;
    let terms = Terms::new(10, LONG).failed_jobs(0).per_target(2);
    let seventh = take(&*engine, terms).await;
    assert!(
        [&fifth, &sixth].iter().all(|job| job.target == "slow") && seventh.target == "slow",
        "contract: there is room for one when a claim has ended"
    );

    // Another worker may have another limit.
    let more = ok(engine.claim(Terms::new(10, LONG).failed_jobs(0).per_target(3))).await;
    assert_eq!(
        all_said(&more)
            .iter()
            .filter(|said| *said == "slow")
            .count(),
        1,
        "contract: each claim has its own bound"
    );
}

/// Jobs of one FIFO group run one after another, oldest first, whatever their targets: the next begins
/// when the one before has succeeded or failed for good, whether its entry is written or not.
///
/// # Panics
///
/// If the rule does not hold.
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
            "contract: of a group one runs at a time, got {none:?}"
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

/// The next job of a FIFO group waits while the one before waits for a retry, was released, or has lost
/// its worker. It begins when the one before is dead-lettered.
///
/// # Panics
///
/// If the rule does not hold.
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
    take_none(&*engine, "the next in order waits for what is released").await;
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

/// A job that is not due yet holds back those after it in its FIFO group.
///
/// # Panics
///
/// If the rule does not hold.
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

/// Jobs of different FIFO groups, and jobs without one, do not wait for each other.
///
/// # Panics
///
/// If the rule does not hold.
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
        "contract: groups are apart"
    );
}
