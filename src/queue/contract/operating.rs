use super::{
    LATER, LEASE, LONG, SOON, Settings, Subject, all, claim, done, ending::drop_after, enqueue,
    expect_attempts, expect_depth, expect_status, find, fresh, history, job, key, ok, put, renew,
    retry, said, settle, settle_raw, take, take_none, waiting::returns,
};
use crate::{
    dead_letter::{Cause, Reason},
    lease::Settled,
    queue::{Ask, End, Engine, JobFilter, JobListing, JobSummary, Jobs, NewJob, Status, TaskId},
};
use std::{collections::HashSet, time::Duration};

/// The rules are left out if there are none.
fn jobs(engine: &dyn Engine) -> &dyn Jobs {
    match engine.jobs() {
        Some(jobs) => jobs,
        None => panic!("contract: an engine does not change what it promises"),
    }
}

async fn cancel(engine: &dyn Engine, id: TaskId) -> Option<Status> {
    ok(jobs(engine).cancel(id)).await
}

async fn page(
    engine: &dyn Engine,
    filter: &JobFilter,
    after: Option<u64>,
    limit: usize,
) -> JobListing {
    let listing = ok(jobs(engine).list(filter.clone(), after, limit)).await;
    let most = limit.clamp(1, JobListing::MOST);
    assert!(listing.jobs.len() <= most, "contract: a page has a limit");
    listing
}

/// All pages from here on.
async fn rest(
    engine: &dyn Engine,
    filter: &JobFilter,
    mut after: Option<u64>,
    limit: usize,
) -> Vec<JobSummary> {
    let mut all = Vec::new();
    loop {
        let listing = page(engine, filter, after, limit).await;
        all.extend(listing.jobs);
        assert!(
            listing.next.is_none() || listing.next > after,
            "contract: a list goes on"
        );
        after = listing.next;
        if after.is_none() {
            return all;
        }
    }
}

async fn ids(engine: &dyn Engine, filter: &JobFilter, limit: usize) -> Vec<TaskId> {
    let listed = rest(engine, filter, None, limit).await;
    listed.iter().map(|job| job.id).collect()
}

/// A queued job that is cancelled is not claimed, whether it is due or waits. Cancelling it again says the same.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_cancelled_job_is_not_claimed<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
    let due = put(&*engine, job("due")).await;
    let other = put(&*engine, job("other")).await;
    let retried = put(&*engine, job("retried")).await;
    let claims = claim(&*engine, all()).await;
    for job in &claims.jobs {
        let end = if job.id == retried {
            retry(Duration::ZERO, history(1))
        } else {
            End::Release {
                after: Duration::ZERO,
                history: history(0),
            }
        };
        settle(&*engine, job, end).await;
    }
    for id in [due, retried] {
        for _ in 0..2 {
            let cancelled = cancel(&*engine, id).await;
            assert_eq!(
                cancelled,
                Some(Status::Cancelled),
                "contract: a queued job is cancelled"
            );
        }
        expect_status(&*engine, id, Status::Cancelled).await;
    }
    expect_attempts(&*engine, retried, 1).await;
    expect_depth(&*engine, [1, 0, 0]).await;
    let left = take(&*engine, all()).await;
    assert_eq!(left.id, other, "contract: the others are claimed");
    settle(&*engine, &left, done()).await;
    take_none(&*engine, "what is cancelled is not claimed").await;
}

/// A job that waits for its time can be cancelled, and does not come when it is due.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_cancelled_job_does_not_come_due<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
    let id = put(&*engine, job("later").delay(SOON)).await;
    assert_eq!(cancel(&*engine, id).await, Some(Status::Cancelled));
    subject.advance(LATER).await;
    take_none(&*engine, "what is cancelled does not come due").await;
    expect_depth(&*engine, [0, 0, 0]).await;
}

/// A running job that is cancelled has no holder: its renewal and its end are lost. Neither brings it back.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_cancelled_claim_is_lost<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
    for end in [
        done(),
        retry(Duration::ZERO, history(1)),
        End::Failed {
            cause: Cause::new(Reason::Rejected),
            history: history(1),
        },
    ] {
        let id = put(&*engine, job("runs")).await;
        let held = take(&*engine, all()).await;
        assert_eq!(
            cancel(&*engine, id).await,
            Some(Status::Cancelled),
            "contract: a running job is cancelled"
        );
        let renewed = renew(&*engine, vec![held.claim()], LONG).await;
        assert_eq!(renewed, [Settled::Lost], "contract: the claim has ended");
        assert_eq!(
            settle_raw(&*engine, id, held.token, end).await,
            Settled::Lost,
            "contract: a cancelled job has no holder"
        );
        expect_status(&*engine, id, Status::Cancelled).await;
        expect_attempts(&*engine, id, 1).await;
        take_none(&*engine, "what is cancelled is not claimed").await;
        expect_depth(&*engine, [0, 0, 0]).await;
    }
}

/// A running job that is cancelled keeps its place at its target until its worker has let go, or its lease ends.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_cancelled_claim_keeps_its_place_at_its_target<S: Subject>(subject: &S) {
    let settings = Settings {
        per_target: 1,
        ..Settings::default()
    };
    let engine = subject.engine(settings).await;
    keeps_its_place(subject, &*engine, |payload| job(payload).target("t")).await;
}

/// The next job of a FIFO group waits until the worker of one that was cancelled has let go, or its lease ends.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_cancelled_claim_keeps_its_place_in_order<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
    keeps_its_place(subject, &*engine, |payload| job(payload).fifo_group("g")).await;
}

/// One of these jobs runs at a time, also if they are cancelled.
async fn keeps_its_place<S: Subject>(
    subject: &S,
    engine: &dyn Engine,
    new: impl Fn(&str) -> NewJob,
) {
    for payload in ["settled", "ends", "dropped", "last"] {
        put(engine, new(payload)).await;
    }
    // The worker asks for its claim, drops the work, and settles.
    let held = take(engine, all()).await;
    assert_eq!(said(&held), "settled");
    assert_eq!(cancel(engine, held.id).await, Some(Status::Cancelled));
    assert_eq!(
        cancel(engine, held.id).await,
        Some(Status::Cancelled),
        "contract: it is cancelled once"
    );
    expect_status(engine, held.id, Status::Cancelled).await;
    let listed = ids(engine, &JobFilter::default(), 10).await;
    assert_eq!(listed.len(), 3, "contract: it is over for who lists jobs");
    expect_depth(engine, [3, 1, 0]).await;
    take_none(engine, "the worker has not let go").await;
    let renewed = renew(engine, vec![held.claim()], LONG).await;
    assert_eq!(renewed, [Settled::Lost], "contract: the worker is told");
    let mark = take_none(engine, "it was told, and may still run").await;
    let release = End::Release {
        after: Duration::ZERO,
        history: history(0),
    };
    let settled = settle_raw(engine, held.id, held.token, release).await;
    assert_eq!(settled, Settled::Lost, "contract: its end changes nothing");
    returns(engine, mark, "what waits for a cancelled job may run").await;
    expect_status(engine, held.id, Status::Cancelled).await;

    // The worker ends the job before it asks.
    let held = take(engine, all()).await;
    assert_eq!(said(&held), "ends", "contract: the next one follows");
    assert_eq!(cancel(engine, held.id).await, Some(Status::Cancelled));
    take_none(engine, "the worker has not let go").await;
    for _ in 0..2 {
        let settled = settle_raw(engine, held.id, held.token, done()).await;
        assert_eq!(settled, Settled::Lost, "contract: it was cancelled before");
    }
    expect_status(engine, held.id, Status::Cancelled).await;

    // The worker dies. A renewal on its way does not prolong the lease.
    let held = take(engine, Ask::new(100, LEASE)).await;
    assert_eq!(said(&held), "dropped");
    assert_eq!(cancel(engine, held.id).await, Some(Status::Cancelled));
    renew(engine, vec![held.claim()], LONG).await;
    take_none(engine, "its lease has not ended").await;
    subject.advance(LEASE + LEASE / 4).await;
    expect_depth(engine, [1, 0, 0]).await;
    expect_status(engine, held.id, Status::Cancelled).await;
    let last = take(engine, all()).await;
    assert_eq!(said(&last), "last", "contract: it ended with its lease");
    let settled = settle_raw(engine, held.id, held.token, done()).await;
    assert_eq!(settled, Settled::Lost, "contract: it is late");
    expect_depth(engine, [0, 1, 0]).await;
    settle(engine, &last, done()).await;
    expect_depth(engine, [0, 0, 0]).await;
}

/// What has ended, has failed for good or is unknown cannot be cancelled, and stays as it is.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn what_is_over_is_not_cancelled<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
    assert_eq!(
        cancel(&*engine, TaskId::random()).await,
        None,
        "contract: an unknown job"
    );
    let id = put(&*engine, job("fails")).await;
    let failed = End::Failed {
        cause: Cause::new(Reason::Rejected),
        history: history(1),
    };
    settle(&*engine, &take(&*engine, all()).await, failed).await;
    assert_eq!(
        cancel(&*engine, id).await,
        Some(Status::Failed),
        "contract: a job that has failed for good"
    );
    let mut claims = claim(&*engine, all()).await;
    assert_eq!(
        claims.failed_jobs.len(),
        1,
        "contract: its entry is written"
    );
    assert_eq!(cancel(&*engine, id).await, Some(Status::Failed));
    settle(&*engine, &claims.failed_jobs.remove(0), done()).await;
    assert_eq!(cancel(&*engine, id).await, Some(Status::Failed));
    let id = put(&*engine, job("succeeds")).await;
    settle(&*engine, &take(&*engine, all()).await, done()).await;
    let result = None;
    assert_eq!(
        cancel(&*engine, id).await,
        Some(Status::Succeeded { result }),
        "contract: a job that has ended"
    );
    expect_depth(&*engine, [0, 0, 0]).await;
}

/// The next job of a FIFO group runs when the queued one before it is cancelled, and only if that was the first.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn the_next_in_order_follows_a_cancelled_job<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
    let mut ids = Vec::new();
    for payload in ["a", "b", "c", "d"] {
        ids.push(put(&*engine, job(payload).fifo_group("group")).await);
    }
    // The second waits for the first.
    assert_eq!(cancel(&*engine, ids[1]).await, Some(Status::Cancelled));
    let first = take(&*engine, all()).await;
    assert_eq!(first.id, ids[0]);
    take_none(&*engine, "the first still runs").await;
    // One in the middle is cancelled, and the one after it still waits for the first.
    settle(&*engine, &first, retry(Duration::ZERO, history(1))).await;
    assert_eq!(cancel(&*engine, ids[0]).await, Some(Status::Cancelled));
    let third = take(&*engine, all()).await;
    assert_eq!(third.id, ids[2], "contract: the next one follows");
    settle(&*engine, &third, retry(Duration::ZERO, history(1))).await;
    assert_eq!(cancel(&*engine, ids[2]).await, Some(Status::Cancelled));
    expect_depth(&*engine, [1, 0, 0]).await;
    // The group is empty, and can be used again.
    assert_eq!(cancel(&*engine, ids[3]).await, Some(Status::Cancelled));
    expect_depth(&*engine, [0, 0, 0]).await;
    let next = put(&*engine, job("e").fifo_group("group")).await;
    assert_eq!(take(&*engine, all()).await.id, next);
}

/// The key of a cancelled job is known as that of a finished one: a job with it is a repetition, until the
/// retention is over.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_cancelled_job_keeps_its_key<S: Subject>(subject: &S) {
    let settings = Settings {
        retention: SOON,
        ..Settings::default()
    };
    let engine = subject.engine(settings).await;
    let new = || job("x").dedup_key(key("k"));
    let id = put(&*engine, new()).await;
    assert_eq!(cancel(&*engine, id).await, Some(Status::Cancelled));
    let again = enqueue(&*engine, new()).await;
    assert_eq!(
        (again.id, again.repeated),
        (id, true),
        "contract: the key of a cancelled job is known"
    );
    if engine.tasks().is_some() {
        let status = find(&*engine, key("k")).await.map(|task| task.status);
        assert_eq!(status, Some(Status::Cancelled));
    }
    take_none(&*engine, "a repetition adds nothing").await;
    subject.advance(LATER).await;
    assert_eq!(cancel(&*engine, id).await, None, "contract: it is over");
    assert!(!enqueue(&*engine, new()).await.repeated);
}

/// If the future of a cancellation is dropped, the job is cancelled or not.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_dropped_cancel_is_done_or_not<S: Subject>(subject: &S) {
    for polls in 0..6 {
        let engine = fresh(subject).await;
        let id = put(&*engine, job("x")).await;
        drop_after(polls, jobs(&*engine).cancel(id)).await;
        // An operation that was begun may still be running.
        subject.advance(LEASE / 4).await;
        let claims = claim(&*engine, all()).await;
        match claims.jobs.first() {
            Some(held) => {
                expect_status(&*engine, id, Status::Running).await;
                settle(&*engine, held, done()).await;
            }
            None => expect_status(&*engine, id, Status::Cancelled).await,
        }
        expect_depth(&*engine, [0, 0, 0]).await;
    }
}

/// A list has each job that is queued or running, oldest first, and says what is known of it.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn what_is_queued_and_running_is_listed<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
    let none = JobFilter::default();
    assert_eq!(
        page(&*engine, &none, None, 10).await,
        JobListing::default(),
        "contract: an empty queue"
    );
    let mut expected = Vec::new();
    for number in 0..4 {
        expected.push(put(&*engine, job(&number.to_string()).target("t")).await);
    }
    let claims = claim(&*engine, Ask::new(3, LONG)).await;
    let [first, second, _] = &claims.jobs[..] else {
        panic!("contract: three jobs are claimed");
    };
    settle(&*engine, first, done()).await;
    settle(&*engine, second, retry(LONG, history(1))).await;
    let failed = End::Failed {
        cause: Cause::new(Reason::Rejected),
        history: history(1),
    };
    let fails = put(&*engine, job("fails")).await;
    let mut last = claim(&*engine, all()).await.jobs;
    last.retain(|job| job.id == fails);
    settle(&*engine, &last[0], failed).await;
    expected.retain(|id| *id != first.id);
    let listed = rest(&*engine, &none, None, 10).await;
    let ids: Vec<_> = listed.iter().map(|job| job.id).collect();
    assert_eq!(ids, expected, "contract: what is not over, oldest first");
    for job in &listed {
        assert_eq!((&*job.kind, &*job.target), ("contract", "t"));
        assert_eq!(job.attempts, 1, "contract: attempts are listed");
        if job.id == second.id {
            assert_eq!(job.status, Status::Queued);
            assert!(job.due_in > LONG / 2, "contract: it waits");
        } else {
            assert_eq!(
                (&job.status, job.due_in),
                (&Status::Running, Duration::ZERO)
            );
        }
    }
}

/// A list is filtered by kind, target and age. A filter that matches nothing gives an empty list.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_list_is_filtered<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
    let of = |kind: &str, target: &str| NewJob::new(kind, "x").target(target);
    let old = put(&*engine, of("a", "t")).await;
    let other = put(&*engine, of("a", "u")).await;
    subject.advance(LATER).await;
    let young = put(&*engine, of("b", "t")).await;
    let all = JobFilter::default;
    for (filter, expected) in [
        (all(), vec![old, other, young]),
        (all().kinds(["a"]), vec![old, other]),
        (all().kinds(["b", "nobody's"]), vec![young]),
        (all().target("t"), vec![old, young]),
        (all().kinds(["a"]).target("t"), vec![old]),
        (all().older_than(SOON), vec![old, other]),
        (all().older_than(SOON).target("u"), vec![other]),
        (all().older_than(LONG), vec![]),
        (all().kinds(["nobody's"]), vec![]),
        (all().kinds(["b"]).target("u"), vec![]),
        (all().target(""), vec![]),
    ] {
        for limit in [1, 10] {
            let listed = ids(&*engine, &filter, limit).await;
            assert_eq!(listed, expected, "contract: {filter:?} is listed");
        }
    }
}

/// Whatever changes between two pages, what was there from the first to the last is listed once. A page goes on
/// after a job that has left. The limit is at least 1, and a page has an end.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_list_goes_on_while_jobs_change<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
    let none = JobFilter::default();
    let mut ids = Vec::new();
    for number in 0..30 {
        ids.push(put(&*engine, job(&number.to_string())).await);
    }
    let mut seen = Vec::new();
    let mut after = None;
    let mut left = HashSet::new();
    for round in 0.. {
        assert!(round < 60, "contract: a list has an end");
        let listing = page(&*engine, &none, after, round % 4).await;
        after = listing.next;
        // The last one that was listed leaves, and one that may be listed yet; another one comes.
        if let Some(last) = listing.jobs.last() {
            assert_eq!(cancel(&*engine, last.id).await, Some(Status::Cancelled));
            left.insert(last.id);
        }
        if let Some(id) = ids.get(29 - round).filter(|_| round < 5) {
            assert_eq!(cancel(&*engine, *id).await, Some(Status::Cancelled));
            left.insert(*id);
            put(&*engine, job("comes")).await;
        }
        seen.extend(listing.jobs.into_iter().map(|job| job.id));
        if after.is_none() {
            break;
        }
    }
    let once: HashSet<_> = seen.iter().copied().collect();
    assert_eq!(once.len(), seen.len(), "contract: nothing is listed twice");
    let stayed = ids.iter().filter(|id| !left.contains(*id));
    for id in stayed {
        assert!(once.contains(id), "contract: what stays is listed");
    }
    // Beyond all that there is, and more than a page may have.
    let end = page(&*engine, &none, Some(u64::MAX), 10).await;
    assert_eq!(end, JobListing::default(), "contract: nothing comes after");
    rest(&*engine, &none, None, usize::MAX).await;
}
