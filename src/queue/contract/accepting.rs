use super::{
    LATER, LEASE, LONG, SOON, Subject, all, depth, done, history, job, key, ok, put, retry, settle,
    status, take, take_none,
};
use crate::{
    StoreErrorKind,
    dead_letter::{Cause, Reason},
    idempotency::IdempotencyKey,
    lease::{FencingToken, Settled},
    queue::{About, Job, NewJob, Status, TaskId, Terms, Verdict},
};
use bytes::Bytes;
use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};
use tokio::task::JoinSet;

/// A job comes out of a claim as it was enqueued: empty, binary, in any language, and large.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_job_comes_out_as_it_went_in<S: Subject>(subject: &S) {
    let engine = subject.engine().await;
    let binary: Vec<u8> = (0..=255).collect();
    let payloads = [
        Vec::new(),
        "\u{fc}n\u{ef}c\u{f6}d\u{e9} \u{1f980}\0".into(),
        binary.clone(),
        binary.repeat(4096),
    ];
    for (index, payload) in payloads.into_iter().map(Bytes::from).enumerate() {
        let about = About {
            event_id: Some(format!("evt_{index}")),
            event_time: Some(UNIX_EPOCH + Duration::from_millis(1_700_000_000_123)),
            idempotency_key: Some("\u{1f511}".to_owned()),
            replay_of: Some("an event".to_owned()),
            replays: 3,
            trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736".to_owned()),
        };
        let new = NewJob::new("k\u{ef}nd", payload)
            .dedup_key(key(&format!("whole-{index}")))
            .target("\u{2603}.example:443")
            .about(about);
        let id = put(&*engine, new.clone()).await;
        let task = ok(engine.task(id)).await;
        let job = take(&*engine, all()).await;
        assert_eq!(
            (job.id, id, job.attempt),
            (new.id, new.id, 1),
            "contract: a job keeps its id"
        );
        assert_eq!(job.kind, new.kind, "contract: a job keeps its kind");
        assert_eq!(job.target, new.target, "contract: a job keeps its target");
        assert_eq!(
            job.dedup_key, new.dedup_key,
            "contract: a job keeps its key"
        );
        assert_eq!(
            job.about, new.about,
            "contract: a job keeps what it is about"
        );
        assert!(
            job.payload == new.payload,
            "contract: a job keeps its payload to the byte"
        );
        assert_eq!(
            task.map(|task| task.accepted_at),
            Some(job.accepted_at),
            "contract: a job knows when it was accepted"
        );
        assert_eq!(
            job.history,
            history(0),
            "contract: a new job has no history"
        );
        settle(&*engine, &job, done(LONG)).await;
    }
}

/// A second job with the same key is not added and gets the id of the first, whatever its state, until
/// the retention of the first is over. The id belongs to an existing task.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_repeated_key_gives_the_first_id<S: Subject>(subject: &S) {
    let engine = subject.engine().await;
    let again = |expected: TaskId, state: &'static str| {
        let engine = Arc::clone(&engine);
        async move {
            let repeat = job("second").dedup_key(key("repeated"));
            let enqueued = ok(engine.enqueue(repeat)).await;
            assert_eq!(
                (enqueued.id, enqueued.repeated),
                (expected, true),
                "contract: a repeated key gives the first id, while that is {state}"
            );
            let by_key = ok(engine.find(key("repeated"))).await;
            let by_id = ok(engine.task(expected)).await;
            assert!(
                by_id.is_some() && by_id == by_key,
                "contract: a task is found by id and key, while it is {state}"
            );
        }
    };

    let first = put(&*engine, job("first").dedup_key(key("repeated"))).await;
    again(first, "queued").await;
    let claimed = take(&*engine, all()).await;
    again(first, "running").await;
    settle(&*engine, &claimed, retry(Duration::ZERO, history(1))).await;
    again(first, "queued again").await;
    let claimed = take(&*engine, all()).await;
    settle(&*engine, &claimed, done(SOON)).await;
    again(first, "succeeded").await;
    subject.advance(LATER).await;

    let second = put(&*engine, job("third").dedup_key(key("repeated"))).await;
    assert_ne!(first, second, "contract: what has left is forgotten");
    let claimed = take(&*engine, all()).await;
    let verdict = Verdict::Failed {
        cause: Cause::new(Reason::Rejected),
        history: history(1),
    };
    settle(&*engine, &claimed, verdict).await;
    again(second, "to be dead_lettered").await;
    let failed_job = ok(engine.claim(all())).await.failed_jobs.remove(0);
    settle(
        &*engine,
        &failed_job.job,
        Verdict::DeadLettered { retention: SOON },
    )
    .await;
    again(second, "failed").await;
    subject.advance(LATER).await;
    assert_eq!(
        ok(engine.find(key("repeated"))).await,
        None,
        "contract: a key leaves with its task"
    );
    put(&*engine, job("fourth").dedup_key(key("repeated"))).await;
}

/// The same id in another scope is another key, even if scope and id give the same text when joined.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn keys_are_apart_by_their_scope<S: Subject>(subject: &S) {
    let engine = subject.engine().await;
    for (scope, id) in [
        ("contract", "shared-id"),
        ("contract-other", "shared-id"),
        ("contractshared", "-id"),
        ("", "contractshared-id"),
        ("contract", "SHARED-ID"),
        ("contract", "shared- id"),
    ] {
        match IdempotencyKey::new(scope, id) {
            Ok(key) => drop(put(&*engine, job("apart").dedup_key(key)).await),
            Err(error) => panic!("contract: {error}"),
        }
    }
    assert_eq!(depth(&*engine).await, [6, 0, 0], "contract: keys are apart");
}

/// A job may be enqueued again with the same id: it is in the queue once.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn an_id_is_put_in_once<S: Subject>(subject: &S) {
    let engine = subject.engine().await;
    let new = job("once");
    let id = put(&*engine, new.clone()).await;
    for _ in 0..3 {
        let again = ok(engine.enqueue(new.clone())).await;
        assert_eq!(
            (again.id, again.repeated),
            (id, true),
            "contract: an id is put in once"
        );
    }
    assert_eq!(
        depth(&*engine).await,
        [1, 0, 0],
        "contract: an id is put in once"
    );
}

/// Of 50 jobs with one key that are enqueued at the same time, one is added and all get its id.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn one_of_many_with_a_key_is_put_in<S: Subject>(subject: &S) {
    let engine = subject.engine().await;
    for round in 0..10 {
        let mut tasks = JoinSet::new();
        for _ in 0..50 {
            let engine = Arc::clone(&engine);
            let new = job("race").dedup_key(key(&format!("race-{round}")));
            tasks.spawn(async move { ok(engine.enqueue(new)).await });
        }
        let enqueued = tasks.join_all().await;
        let fresh = enqueued.iter().filter(|enqueued| !enqueued.repeated);
        assert_eq!(fresh.count(), 1, "contract: one of many is put in");
        assert!(
            enqueued.iter().all(|other| other.id == enqueued[0].id),
            "contract: all get the id of the one that is put in"
        );
        assert_eq!(
            depth(&*engine).await,
            [round + 1, 0, 0],
            "contract: one of many is put in"
        );
    }
}

/// A job with a delay is not due before the end of the delay.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_delayed_job_waits<S: Subject>(subject: &S) {
    let engine = subject.engine().await;
    let id = put(&*engine, job("later").delay(SOON)).await;
    take_none(&*engine, "a delayed job is not due yet").await;
    assert_eq!(status(&*engine, id).await, Some(Status::Queued));
    subject.advance(LATER).await;
    let claimed = take(&*engine, all()).await;
    assert_eq!(claimed.id, id, "contract: a delayed job is due in time");
    // Longer than any clock can count: the job waits, and nothing breaks.
    put(&*engine, job("never").delay(Duration::MAX)).await;
    take_none(&*engine, "a delay has no end too far").await;
}

/// A full engine refuses, and accepts again when there is room. Running jobs count, finished ones do not. A repeated key gets its id even if the engine is full.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_full_engine_refuses_until_there_is_room<S: Subject>(subject: &S) {
    let engine = subject.small(3).await;
    let refused = async |when: &str| match engine.enqueue(job("too many")).await {
        Err(error) if error.kind() == StoreErrorKind::Full => {}
        other => panic!("contract: a full engine refuses {when}, got {other:?}"),
    };
    let first = put(&*engine, job("first").dedup_key(key("first"))).await;
    put(&*engine, job("second")).await;
    put(&*engine, job("third")).await;
    refused("while all wait").await;
    let repeat = ok(engine.enqueue(job("repeat").dedup_key(key("first")))).await;
    assert_eq!(
        (repeat.id, repeat.repeated),
        (first, true),
        "contract: a full engine knows a repetition"
    );

    let claims = ok(engine.claim(all())).await;
    refused("while all run").await;
    let verdict = Verdict::Failed {
        cause: Cause::new(Reason::Rejected),
        history: history(1),
    };
    settle(&*engine, &claims.jobs[0], verdict).await;
    let failed_jobs = ok(engine.claim(all())).await.failed_jobs;
    settle(
        &*engine,
        &failed_jobs[0].job,
        Verdict::DeadLettered { retention: LONG },
    )
    .await;
    put(&*engine, job("fourth")).await;
    refused("when it is full again").await;
    settle(&*engine, &claims.jobs[1], done(LONG)).await;
    put(&*engine, job("fifth")).await;
    refused("when it is full once more").await;
    assert_eq!(
        depth(&*engine).await,
        [2, 1, 0],
        "contract: what was refused is not there"
    );
}

/// Failed jobs take no room of new ones while their dead letters cannot be written. There is room for as many of them
/// as for others: when that is full too, the engine refuses.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn failed_jobs_have_room_of_their_own<S: Subject>(subject: &S) {
    let engine = subject.small(2).await;
    let refused = async |when: &str| match engine.enqueue(job("too many")).await {
        Err(error) if error.kind() == StoreErrorKind::Full => {}
        other => panic!("contract: a full engine refuses {when}, got {other:?}"),
    };
    put(&*engine, job("first")).await;
    put(&*engine, job("second")).await;
    let claims = ok(engine.claim(all())).await;
    let fail = async |job: &Job| {
        let verdict = Verdict::Failed {
            cause: Cause::new(Reason::Rejected),
            history: history(1),
        };
        settle(&*engine, job, verdict).await;
    };
    fail(&claims.jobs[0]).await;
    put(&*engine, job("third")).await;
    refused("beside a failed job").await;
    fail(&claims.jobs[1]).await;
    refused("while as many failed jobs wait").await;
    let failed_jobs = ok(engine.claim(all())).await.failed_jobs;
    let verdict = Verdict::DeadLettered { retention: LONG };
    settle(&*engine, &failed_jobs[0].job, verdict).await;
    put(&*engine, job("fourth")).await;
    assert_eq!(
        depth(&*engine).await,
        [1, 1, 1],
        "contract: what was refused is not there"
    );
}

/// A job that is refused, or that repeats an id, does not take the key that it came with.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_job_that_is_not_added_takes_no_key<S: Subject>(subject: &S) {
    let engine = subject.small(1).await;
    let first = put(&*engine, job("first")).await;
    let mut again = job("again").dedup_key(key("free"));
    again.id = first;
    let repeat = ok(engine.enqueue(again)).await;
    assert_eq!(
        (repeat.id, repeat.repeated),
        (first, true),
        "contract: an id is put in once, whatever its key"
    );
    match engine.enqueue(job("refused").dedup_key(key("free"))).await {
        Err(error) if error.kind() == StoreErrorKind::Full => {}
        other => panic!("contract: a full engine refuses, got {other:?}"),
    }
    let found = ok(engine.find(key("free"))).await;
    assert_eq!(
        found, None,
        "contract: a job that is not added takes no key"
    );
    let claimed = take(&*engine, all()).await;
    settle(&*engine, &claimed, done(LONG)).await;
    put(&*engine, job("taken").dedup_key(key("free"))).await;
}

/// The depth is exact after each step.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn the_depth_is_exact<S: Subject>(subject: &S) {
    let engine = subject.engine().await;
    let expect = async |expected: [u64; 3], when: &str| {
        assert_eq!(
            depth(&*engine).await,
            expected,
            "contract: the depth is exact {when}"
        );
    };
    expect([0, 0, 0], "at first").await;
    put(&*engine, job("a")).await;
    put(&*engine, job("b").delay(LONG)).await;
    for text in ["c", "d"] {
        put(&*engine, job(text).fifo_group("order")).await;
    }
    expect([4, 0, 0], "with jobs that wait for whatever").await;
    let claims = ok(engine.claim(all())).await;
    expect([2, 2, 0], "with claimed jobs").await;
    let [first, second] = &claims.jobs[..] else {
        panic!("contract: two jobs are due, got {claims:?}");
    };
    settle(&*engine, first, retry(LONG, history(1))).await;
    expect([3, 1, 0], "with a job to be tried again").await;
    let verdict = Verdict::Failed {
        cause: Cause::new(Reason::Rejected),
        history: history(1),
    };
    settle(&*engine, second, verdict).await;
    expect([3, 0, 1], "with a job to be dead_lettered").await;
    let claims = ok(engine.claim(Terms::new(10, LEASE))).await;
    expect([2, 1, 1], "with a claimed failed_job").await;
    subject.advance(LATER).await;
    expect([3, 0, 1], "when claims have ended").await;
    assert_eq!(
        claims.failed_jobs.len(),
        1,
        "contract: a failed_job is given"
    );
    let claims = ok(engine.claim(all())).await;
    settle(&*engine, &claims.jobs[0], done(LONG)).await;
    let dead_lettered = Verdict::DeadLettered { retention: LONG };
    settle(&*engine, &claims.failed_jobs[0].job, dead_lettered).await;
    expect([2, 0, 0], "when jobs are over").await;
}

/// An unknown id or key returns `None`; an unknown token returns `Lost`.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn what_is_unknown_is_none_or_lost<S: Subject>(subject: &S) {
    let engine = subject.engine().await;
    let id = put(&*engine, job("known")).await;
    let unknown = TaskId::random();
    assert_eq!(ok(engine.task(unknown)).await, None, "contract: unknown id");
    assert_eq!(
        ok(engine.find(key("unknown"))).await,
        None,
        "contract: unknown key"
    );
    // The known job is queued: nobody holds it.
    for id in [unknown, id] {
        for token in [0, 1, 7, u64::MAX >> 1, u64::MAX].map(FencingToken::new) {
            let renewed = super::renew(&*engine, vec![(id, token)], LONG).await;
            assert_eq!(
                renewed,
                [Settled::Lost],
                "contract: what is unknown is lost"
            );
            let settled = ok(engine.settle(id, token, done(LONG))).await;
            assert_eq!(settled, Settled::Lost, "contract: what is unknown is lost");
        }
    }
    assert!(
        super::renew(&*engine, Vec::new(), LONG).await.is_empty(),
        "contract: of no claims none is renewed"
    );
    assert_eq!(status(&*engine, id).await, Some(Status::Queued));
}
