use super::{
    LATER, LEASE, LONG, SOON, Settings, Subject, all, all_said, claim, done, expect_attempts,
    expect_depth, expect_status, fresh, history, job, put, renew, retry, said, settle, take,
    take_none,
};
use crate::{
    dead_letter::{Cause, Reason},
    lease::Settled,
    queue::{Ask, End, Job, NewJob, Status},
};
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::task::JoinSet;

/// 50 workers that claim at the same time get each of 200 jobs exactly once.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn each_job_is_claimed_once<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
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
                let claims = claim(&*engine, Ask::new(3, LONG)).await;
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
    let engine = fresh(subject).await;
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
    let first = claim(&*engine, Ask::new(2, LONG)).await;
    let rest = claim(&*engine, all()).await;
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
    let claims = claim(&*engine, all()).await;
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
    let engine = fresh(subject).await;
    for _ in 0..10 {
        put(&*engine, job("many")).await;
    }
    let claims = claim(&*engine, Ask::new(6, LONG)).await;
    assert_eq!(
        claims.jobs.len(),
        6,
        "contract: as many as were asked for are given"
    );
    for job in &claims.jobs {
        let end = End::Failed {
            cause: crate::dead_letter::Cause::new(Reason::Rejected),
            history: history(1),
        };
        settle(&*engine, job, end).await;
    }
    for (jobs, failed_jobs) in [(0, 0), (0, 2), (1, 0), (2, 3), (100, 100)] {
        let claims = claim(&*engine, Ask::new(jobs, LONG).most_failed(failed_jobs)).await;
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
    let engine = fresh(subject).await;
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
    expect_depth(&*engine, [4_000, 0, 0]).await;
    let claims = claim(&*engine, Ask::new(usize::MAX, LONG)).await;
    assert_eq!(
        claims.jobs.len(),
        4_000,
        "contract: a backlog is claimed at once"
    );
    let names: Vec<_> = claims.jobs.iter().map(Job::claim).collect();
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
    let engine = fresh(subject).await;
    let id = put(&*engine, job("counted")).await;
    expect_attempts(&*engine, id, 0).await;
    let mut last = None;
    for attempt in 1..=5 {
        let job = take(&*engine, all()).await;
        assert_eq!(job.attempt, attempt, "contract: a claim counts the attempt");
        expect_attempts(&*engine, id, attempt).await;
        assert!(
            last < Some(job.token),
            "contract: a later token is greater, {last:?} and {:?}",
            job.token
        );
        last = Some(job.token);
        settle(&*engine, &job, retry(Duration::ZERO, history(attempt))).await;
    }
}

/// A job whose lease ended is queued again at once, and given to another.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_claim_that_ends_is_given_to_another<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
    let id = put(&*engine, job("crashed")).await;
    let lost = take(&*engine, Ask::new(1, LEASE)).await;
    expect_status(&*engine, id, Status::Running).await;
    take_none(&*engine, "a claimed job is nobody else's").await;
    subject.advance(LATER).await;
    expect_status(&*engine, id, Status::Queued).await;
    let next = take(&*engine, all()).await;
    assert_eq!((next.id, next.attempt), (id, 2));
    assert!(
        next.token > lost.token,
        "contract: a later token is greater"
    );
    settle(&*engine, &next, done()).await;
}

/// A job is given only to who asks for its kind, whether it is to be done or has failed for good.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_kind_is_left_to_who_asks_for_it<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
    for kind in ["mail", "event", "mail", "http"] {
        put(&*engine, NewJob::new(kind, kind)).await;
    }
    let other = claim(&*engine, all().kinds(["fax", "mai", "mail2"])).await;
    assert!(
        other.is_empty(),
        "contract: a kind that nobody asked for waits"
    );
    let mut mails = claim(&*engine, all().kinds(["mail"])).await;
    assert_eq!(all_said(&mails), ["mail", "mail"]);
    let end = End::Failed {
        cause: Cause::new(Reason::Rejected),
        history: history(1),
    };
    settle(&*engine, &mails.jobs.remove(0), end).await;
    let other = claim(&*engine, all().kinds(["event"]).most_failed(1)).await;
    assert_eq!((all_said(&other).len(), other.failed_jobs.len()), (1, 0));
    let failed = claim(&*engine, all().kinds(["event", "mail"])).await;
    assert_eq!((all_said(&failed).len(), failed.failed_jobs.len()), (0, 1));
    let rest = claim(&*engine, all()).await;
    assert_eq!(
        all_said(&rest),
        ["http"],
        "contract: every kind is asked for"
    );
}

/// Claims that are renewed outlive their first lease, and no other worker gets their jobs. The results
/// are in the order of the claims.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_renewed_claim_holds<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
    for _ in 0..3 {
        put(&*engine, job("renewed")).await;
    }
    let claims = claim(&*engine, Ask::new(3, LEASE)).await;
    let mut names: Vec<_> = claims.jobs.iter().map(Job::claim).collect();
    settle(&*engine, &claims.jobs[1], done()).await;
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
        taken.id, names[0].id,
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
    let engine = fresh(subject).await;
    let id = put(&*engine, job("poison").target("poisoned")).await;
    let ask = Ask::new(10, LEASE);
    let mut token = None;
    for attempt in 1..=3 {
        let job = take(&*engine, ask.clone()).await;
        assert_eq!(job.attempt, attempt, "contract: a lost attempt is counted");
        token = Some(job.token);
        subject.advance(LATER).await;
    }
    put(&*engine, job("healthy")).await;

    let mut workers = JoinSet::new();
    for _ in 0..10 {
        let engine = Arc::clone(&engine);
        workers.spawn(async move { claim(&*engine, Ask::new(10, LONG)).await });
    }
    let claims = workers.join_all().await;
    let jobs = claims.iter().flat_map(|claims| &claims.jobs);
    assert_eq!(
        jobs.map(said).collect::<Vec<_>>(),
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
        failed_job.cause.as_ref().map(|cause| cause.reason),
        Some(Reason::WorkerLost),
        "contract: a job that kills its workers says so"
    );
    assert_eq!(
        (failed_job.id, failed_job.attempt, said(failed_job)),
        (id, 3, "poison".to_owned()),
        "contract: a failed_job has its job"
    );
    assert!(
        Some(failed_job.token) > token,
        "contract: a later token is greater"
    );
    expect_depth(&*engine, [0, 1, 1]).await;
    settle(&*engine, failed_job, done()).await;
    take_none(&*engine, "a job is dead_lettered once").await;
    expect_status(&*engine, id, Status::Failed).await;
    expect_attempts(&*engine, id, 3).await;
}

/// No more jobs of a target run than the queue allows, whichever workers hold them and whatever their kinds,
/// and jobs of other targets do not wait for them. There is room again when a job is done, released or
/// dead-lettered, and when its lease has ended.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_full_target_does_not_hold_up_others<S: Subject>(subject: &S) {
    let settings = Settings {
        per_target: 2,
        ..Settings::default()
    };
    let engine = subject.engine(settings).await;
    for number in 0..10 {
        let kind = if number % 2 == 0 { "even" } else { "odd" };
        put(&*engine, NewJob::new(kind, "slow").target("slow")).await;
    }
    for _ in 0..3 {
        put(&*engine, job("quick").target("quick")).await;
    }
    put(&*engine, job("untargeted")).await;
    let claims = claim(&*engine, all()).await;
    let mut got = all_said(&claims);
    got.sort();
    assert_eq!(
        got,
        ["quick", "quick", "slow", "slow", "untargeted"],
        "contract: of a target no more run than may, and the others go on"
    );
    for ask in [all(), all().kinds(["odd"])] {
        let none = claim(&*engine, ask).await;
        assert!(
            none.is_empty(),
            "contract: another worker finds the targets full, got {none:?}"
        );
    }
    let mut slow = claims.jobs.into_iter().filter(|job| job.target == "slow");
    let (Some(first), Some(second)) = (slow.next(), slow.next()) else {
        panic!("contract: two of a target run");
    };

    let room = async |why: &str, lease: Duration| {
        let claims = claim(&*engine, Ask::new(10, lease).most_failed(0)).await;
        assert_eq!(
            all_said(&claims),
            ["slow"],
            "contract: there is room for one when one {why}"
        );
        claims.jobs[0].clone()
    };
    settle(&*engine, &first, done()).await;
    let third = room("is done", LONG).await;
    settle(&*engine, &second, retry(LONG, history(1))).await;
    let fourth = room("is to be tried again", LONG).await;
    let release = End::Release {
        after: LONG,
        history: history(0),
    };
    settle(&*engine, &third, release).await;
    room("is released", LONG).await;
    let dead_letter = End::Failed {
        cause: Cause::new(Reason::Rejected),
        history: history(1),
    };
    settle(&*engine, &fourth, dead_letter).await;
    room("is dead-lettered", LEASE).await;
    subject.advance(LATER).await;
    room("has lost its worker", LONG).await;
}

/// Jobs of one FIFO group run one after another, oldest first, whatever their targets: the next begins
/// when the one before has succeeded or failed for good, whether its entry is written or not.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn jobs_in_order_run_one_after_another<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
    let mut ids = Vec::new();
    for text in ["a", "b", "c", "d"] {
        ids.push(put(&*engine, job(text).fifo_group("order").target(text)).await);
    }
    for id in &ids {
        expect_status(&*engine, *id, Status::Queued).await;
    }
    let next = async |expected: &str| {
        let job = take(&*engine, all().most_failed(0)).await;
        assert_eq!(
            said(&job),
            expected,
            "contract: the oldest in order is next"
        );
        let none = claim(&*engine, all().most_failed(0)).await;
        assert!(
            none.is_empty(),
            "contract: of a group one runs at a time, got {none:?}"
        );
        job
    };
    let first = next("a").await;
    settle(&*engine, &first, done()).await;
    let second = next("b").await;
    let dead_letter = End::Failed {
        cause: Cause::new(Reason::Rejected),
        history: history(1),
    };
    settle(&*engine, &second, dead_letter).await;
    let third = next("c").await;
    let failed_jobs = claim(&*engine, Ask::new(1, LONG)).await.failed_jobs;
    settle(&*engine, &failed_jobs[0], done()).await;
    take_none(&*engine, "a written entry lets nothing more begin").await;
    put(&*engine, job("e").fifo_group("order")).await;
    settle(&*engine, &third, done()).await;
    for expected in ["d", "e"] {
        let job = next(expected).await;
        settle(&*engine, &job, done()).await;
    }
    take_none(&*engine, "an order has an end").await;
    put(&*engine, job("f").fifo_group("order")).await;
    next("f").await;
    expect_depth(&*engine, [0, 1, 0]).await;
}

/// The next job of a FIFO group waits while the one before waits for a retry, was released, or has lost
/// its worker. It begins when the one before is dead-lettered.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn the_next_in_order_waits_for_a_retry<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
    for text in ["a", "b"] {
        put(&*engine, job(text).fifo_group("order")).await;
    }
    let first = async |lease: Duration| {
        let job = take(&*engine, Ask::new(5, lease)).await;
        assert_eq!(said(&job), "a", "contract: the next in order waits");
        job
    };
    let job = first(LONG).await;
    settle(&*engine, &job, retry(SOON, history(1))).await;
    take_none(&*engine, "the next in order waits for a retry").await;
    subject.advance(LATER).await;
    let job = first(LONG).await;
    let release = End::Release {
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
    let claims = claim(&*engine, Ask::new(5, LONG)).await;
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
    let engine = fresh(subject).await;
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
        settle(&*engine, &job, done()).await;
    }
    take_none(&*engine, "a job in order has its own delay").await;
}

/// Jobs of different FIFO groups, and jobs without one, do not wait for each other.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn orders_are_apart<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
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
    let claims = claim(&*engine, all()).await;
    assert_eq!(
        all_said(&claims),
        ["one-1", "two-1", "\u{2462}-1", "-1", "none-1", "none-2"],
        "contract: groups are apart"
    );
}
