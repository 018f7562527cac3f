use super::{
    LATER, LEASE, LONG, SOON, Settings, Subject, all, claim, depth, done, enqueue, enqueue_raw,
    expect_depth, expect_status, find, fresh, history, job, key, ok, promised, put, retry, settle,
    settle_raw, take, take_none, task,
};
use crate::{
    StoreErrorKind,
    dead_letter::{Cause, EntryId, Reason},
    idempotency::IdempotencyKey,
    lease::{FencingToken, Settled},
    queue::{About, Ask, Claim, End, Engine, Job, NewJob, Promises, Status, TaskId},
};
use bytes::Bytes;
use std::{
    error::Error,
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
    let engine = fresh(subject).await;
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
            hops: Some("orders, billing".to_owned()),
            replay_of: Some("an event".to_owned()),
            replays: 3,
            trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736".to_owned()),
            entry_id: Some(EntryId::from_bytes([7; 16])),
        };
        let new = NewJob::new("k\u{ef}nd", payload)
            .target("\u{2603}.example:443")
            .about(about);
        let new = promised(&*engine, new, &format!("whole-{index}"));
        let id = put(&*engine, new.clone()).await;
        let known = task(&*engine, id).await;
        let job = take(&*engine, all()).await;
        assert_eq!(
            (job.id, id, job.attempt),
            (new.id, new.id, 1),
            "contract: a job keeps its id"
        );
        assert_eq!(job.kind, new.kind, "contract: a job keeps its kind");
        assert_eq!(job.target, new.target, "contract: a job keeps its target");
        assert_eq!(
            job.fifo_group, new.fifo_group,
            "contract: a job keeps its FIFO group"
        );
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
        assert!(
            known.is_none_or(|task| task.accepted_at == job.accepted_at),
            "contract: a job knows when it was accepted"
        );
        assert_eq!(
            job.history,
            history(0),
            "contract: a new job has no history"
        );
        settle(&*engine, &job, done()).await;
    }
}

/// A kind, target or FIFO group of [`NewJob::LONGEST_NAME`] bytes is kept. A longer one is refused, with its field in the
/// source of the error.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_name_has_a_longest_length<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
    let named = |length: usize| {
        let (kind, target) = ("k".repeat(length), "t".repeat(length));
        let mut job = NewJob::new(kind, "named").target(target);
        job.fifo_group = engine.promises().fifo_groups.then(|| "g".repeat(length));
        job
    };
    let longest = named(NewJob::LONGEST_NAME);
    put(&*engine, longest.clone()).await;
    let taken = take(&*engine, all()).await;
    assert_eq!(
        (taken.kind, taken.target, taken.fifo_group),
        (longest.kind, longest.target, longest.fifo_group),
        "contract: a name is kept"
    );
    let long = named(NewJob::LONGEST_NAME + 1);
    let group = long.fifo_group;
    let group = group.map(|group| ("fifo_group", job("x").fifo_group(group)));
    let others = [
        ("kind", NewJob::new(long.kind, "x")),
        ("target", job("x").target(long.target)),
    ];
    for (field, job) in others.into_iter().chain(group) {
        refused_for(&*engine, job, StoreErrorKind::TooLarge, field).await;
    }
    take_none(&*engine, "what is refused is not there").await;
}

/// A job that asks for what the engine does not promise is refused: a deduplication key, a FIFO group. The source of the
/// error has the name of the field.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn what_is_not_promised_is_refused_by_its_name<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
    let Promises {
        dedup, fifo_groups, ..
    } = engine.promises();
    let key = dedup.is_none().then(|| job("x").dedup_key(key("x")));
    let group = (!fifo_groups).then(|| job("x").fifo_group("x"));
    for (field, job) in [("dedup_key", key), ("fifo_group", group)] {
        if let Some(job) = job {
            refused_for(&*engine, job, StoreErrorKind::Rejected, field).await;
        }
    }
    take_none(&*engine, "what is refused is not there").await;
}

async fn refused_for(engine: &dyn Engine, job: NewJob, kind: StoreErrorKind, field: &str) {
    let Err(error) = enqueue_raw(engine, job).await else {
        panic!("contract: `{field}` is refused");
    };
    let why = error.source().map(ToString::to_string).unwrap_or_default();
    assert_eq!(error.kind(), kind, "contract: why `{field}` is refused");
    assert!(
        why.contains(&format!("`{field}`")),
        "contract: the error names `{field}`, got {why:?}"
    );
}

/// A second job with the same key is not added and gets the id of the first, whatever its state, until
/// the retention of the first is over. The id belongs to an existing task.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_repeated_key_gives_the_first_id<S: Subject>(subject: &S) {
    let settings = Settings {
        retention: SOON,
        ..Settings::default()
    };
    let engine = subject.engine(settings).await;
    let again = |expected: TaskId, state: &'static str| {
        let engine = Arc::clone(&engine);
        async move {
            let repeat = job("second").dedup_key(key("repeated"));
            let enqueued = enqueue(&*engine, repeat).await;
            assert_eq!(
                (enqueued.id, enqueued.repeated),
                (expected, true),
                "contract: a repeated key gives the first id, while that is {state}"
            );
            let by_key = find(&*engine, key("repeated")).await;
            let by_id = task(&*engine, expected).await;
            assert!(
                engine.tasks().is_none() || by_id.is_some() && by_id == by_key,
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
    settle(&*engine, &claimed, done()).await;
    again(first, "succeeded").await;
    subject.advance(LATER).await;

    let second = put(&*engine, job("third").dedup_key(key("repeated"))).await;
    assert_ne!(first, second, "contract: what has left is forgotten");
    let claimed = take(&*engine, all()).await;
    let end = End::Failed {
        cause: Cause::new(Reason::Rejected),
        history: history(1),
    };
    settle(&*engine, &claimed, end).await;
    again(second, "to be dead_lettered").await;
    let failed_job = claim(&*engine, all()).await.failed_jobs.remove(0);
    settle(&*engine, &failed_job, done()).await;
    again(second, "failed").await;
    subject.advance(LATER).await;
    assert_eq!(
        find(&*engine, key("repeated")).await,
        None,
        "contract: a key leaves with its task"
    );
    put(&*engine, job("fourth").dedup_key(key("repeated"))).await;
}

/// A job of a batch that is refused does not keep out the others. An empty batch has no results.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_batch_goes_in_but_for_what_is_refused<S: Subject>(subject: &S) {
    let settings = Settings {
        max_jobs: 2,
        ..Settings::default()
    };
    let engine = subject.engine(settings).await;
    assert!(ok(engine.enqueue(Vec::new())).await.is_empty());
    let batch: Vec<_> = ["a", "b", "c"].map(job).into();
    let ids: Vec<_> = batch.iter().map(|job| job.id).collect();
    let results = ok(engine.enqueue(batch)).await;
    let [Ok(first), Ok(second), Err(refused)] = &results[..] else {
        panic!("contract: two of a batch find room, and one is refused, got {results:?}");
    };
    assert_eq!(
        ([first.id, second.id], refused.kind()),
        ([ids[0], ids[1]], StoreErrorKind::Full),
        "contract: results are in the order of the jobs"
    );
    let mut claimed: Vec<_> = claim(&*engine, all()).await.jobs;
    claimed.sort_by_key(|job| job.payload.clone());
    let claimed: Vec<_> = claimed.iter().map(|job| job.id).collect();
    assert_eq!(claimed, ids[..2], "contract: what was accepted is there");
}

/// The same id in another scope is another key, even if scope and id give the same text when joined.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn keys_are_apart_by_their_scope<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
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
    expect_depth(&*engine, [6, 0, 0]).await;
}

/// A job may be enqueued again with the same id: it is in the queue once.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn an_id_is_put_in_once<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
    let new = job("once");
    let id = put(&*engine, new.clone()).await;
    for _ in 0..3 {
        let again = enqueue(&*engine, new.clone()).await;
        assert_eq!(
            (again.id, again.repeated),
            (id, true),
            "contract: an id is put in once"
        );
    }
    expect_depth(&*engine, [1, 0, 0]).await;
}

/// Of 50 jobs with one key that are enqueued at the same time, one is added and all get its id.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn one_of_many_with_a_key_is_put_in<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
    for round in 0..10 {
        let mut tasks = JoinSet::new();
        for _ in 0..50 {
            let engine = Arc::clone(&engine);
            let new = job("race").dedup_key(key(&format!("race-{round}")));
            tasks.spawn(async move { enqueue(&*engine, new).await });
        }
        let enqueued = tasks.join_all().await;
        let fresh = enqueued.iter().filter(|enqueued| !enqueued.repeated);
        assert_eq!(fresh.count(), 1, "contract: one of many is put in");
        assert!(
            enqueued.iter().all(|other| other.id == enqueued[0].id),
            "contract: all get the id of the one that is put in"
        );
        expect_depth(&*engine, [round + 1, 0, 0]).await;
    }
}

/// A job with a delay, or a time, is not due before it. One that is to wait for longer than the engine promises is refused.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_delayed_job_waits<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
    let id = put(&*engine, job("later").delay(SOON)).await;
    take_none(&*engine, "a delayed job is not due yet").await;
    expect_status(&*engine, id, Status::Queued).await;
    subject.advance(LATER).await;
    let claimed = take(&*engine, all()).await;
    assert_eq!(claimed.id, id, "contract: a delayed job is due in time");

    let past = put(&*engine, job("past").run_at(UNIX_EPOCH)).await;
    let claimed = take(&*engine, all()).await;
    assert_eq!(claimed.id, past, "contract: a time that has passed is now");
    // By the clock of the engine, which is not that of the system.
    let soon = claimed.accepted_at + SOON;
    let id = put(&*engine, job("at").run_at(soon)).await;
    take_none(&*engine, "a job with a time is not due yet").await;
    subject.advance(LATER).await;
    let claimed = take(&*engine, all()).await;
    assert_eq!(claimed.id, id, "contract: a job with a time is due then");

    let longest = engine.promises().longest_delay;
    put(&*engine, job("far").delay(longest)).await;
    take_none(&*engine, "the longest delay has not ended").await;
    let never = longest.saturating_add(Duration::from_millis(1));
    let forever = claimed.accepted_at.checked_add(never + LONG);
    let too_long = [
        Some(job("never").delay(never)),
        forever.map(|forever| job("never").run_at(forever)),
    ];
    for job in too_long.into_iter().flatten() {
        match enqueue_raw(&*engine, job).await {
            Err(error) if error.kind() == StoreErrorKind::Rejected => {}
            other => panic!("contract: a longer delay is refused, got {other:?}"),
        }
    }
}

/// A full engine refuses, and accepts again when there is room. Running jobs count, finished ones do not. A repeated key gets its id even if the engine is full.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_full_engine_refuses_until_there_is_room<S: Subject>(subject: &S) {
    let settings = Settings {
        max_jobs: 3,
        ..Settings::default()
    };
    let engine = subject.engine(settings).await;
    let refused = async |when: &str| match enqueue_raw(&*engine, job("too many")).await {
        Err(error) if error.kind() == StoreErrorKind::Full => {}
        other => panic!("contract: a full engine refuses {when}, got {other:?}"),
    };
    let first = put(&*engine, job("first").dedup_key(key("first"))).await;
    put(&*engine, job("second")).await;
    put(&*engine, job("third")).await;
    refused("while all wait").await;
    let repeat = enqueue(&*engine, job("repeat").dedup_key(key("first"))).await;
    assert_eq!(
        (repeat.id, repeat.repeated),
        (first, true),
        "contract: a full engine knows a repetition"
    );

    let claims = claim(&*engine, all()).await;
    refused("while all run").await;
    let end = End::Failed {
        cause: Cause::new(Reason::Rejected),
        history: history(1),
    };
    settle(&*engine, &claims.jobs[0], end).await;
    let failed_jobs = claim(&*engine, all()).await.failed_jobs;
    settle(&*engine, &failed_jobs[0], done()).await;
    put(&*engine, job("fourth")).await;
    refused("when it is full again").await;
    settle(&*engine, &claims.jobs[1], done()).await;
    put(&*engine, job("fifth")).await;
    refused("when it is full once more").await;
    expect_depth(&*engine, [2, 1, 0]).await;
}

/// Failed jobs take no room of new ones while their dead letters cannot be written. There is room for as many of them
/// as for others: when that is full too, the engine refuses.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn failed_jobs_have_room_of_their_own<S: Subject>(subject: &S) {
    let settings = Settings {
        max_jobs: 2,
        ..Settings::default()
    };
    let engine = subject.engine(settings).await;
    let refused = async |when: &str| match enqueue_raw(&*engine, job("too many")).await {
        Err(error) if error.kind() == StoreErrorKind::Full => {}
        other => panic!("contract: a full engine refuses {when}, got {other:?}"),
    };
    put(&*engine, job("first")).await;
    put(&*engine, job("second")).await;
    let claims = claim(&*engine, all()).await;
    let fail = async |job: &Job| {
        let end = End::Failed {
            cause: Cause::new(Reason::Rejected),
            history: history(1),
        };
        settle(&*engine, job, end).await;
    };
    fail(&claims.jobs[0]).await;
    put(&*engine, job("third")).await;
    refused("beside a failed job").await;
    fail(&claims.jobs[1]).await;
    refused("while as many failed jobs wait").await;
    let failed_jobs = claim(&*engine, all()).await.failed_jobs;
    settle(&*engine, &failed_jobs[0], done()).await;
    put(&*engine, job("fourth")).await;
    expect_depth(&*engine, [1, 1, 1]).await;
}

/// A job that is refused, or that repeats an id, does not take the key that it came with.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn a_job_that_is_not_added_takes_no_key<S: Subject>(subject: &S) {
    let settings = Settings {
        max_jobs: 1,
        ..Settings::default()
    };
    let engine = subject.engine(settings).await;
    let first = put(&*engine, job("first")).await;
    let mut again = job("again").dedup_key(key("free"));
    again.id = first;
    let repeat = enqueue(&*engine, again).await;
    assert_eq!(
        (repeat.id, repeat.repeated),
        (first, true),
        "contract: an id is put in once, whatever its key"
    );
    match enqueue_raw(&*engine, job("refused").dedup_key(key("free"))).await {
        Err(error) if error.kind() == StoreErrorKind::Full => {}
        other => panic!("contract: a full engine refuses, got {other:?}"),
    }
    let found = find(&*engine, key("free")).await;
    assert_eq!(
        found, None,
        "contract: a job that is not added takes no key"
    );
    let claimed = take(&*engine, all()).await;
    settle(&*engine, &claimed, done()).await;
    put(&*engine, job("taken").dedup_key(key("free"))).await;
}

/// The depth is exact after each step.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn the_depth_is_exact<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
    let expect = async |expected: [u64; 3], when: &str| {
        assert_eq!(
            depth(&*engine).await,
            Some(expected),
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
    let claims = claim(&*engine, all()).await;
    expect([2, 2, 0], "with claimed jobs").await;
    let [first, second] = &claims.jobs[..] else {
        panic!("contract: two jobs are due, got {claims:?}");
    };
    settle(&*engine, first, retry(LONG, history(1))).await;
    expect([3, 1, 0], "with a job to be tried again").await;
    let end = End::Failed {
        cause: Cause::new(Reason::Rejected),
        history: history(1),
    };
    settle(&*engine, second, end).await;
    expect([3, 0, 1], "with a job to be dead_lettered").await;
    let claims = claim(&*engine, Ask::new(10, LEASE)).await;
    expect([2, 1, 1], "with a claimed failed_job").await;
    subject.advance(LATER).await;
    expect([3, 0, 1], "when claims have ended").await;
    assert_eq!(
        claims.failed_jobs.len(),
        1,
        "contract: a failed_job is given"
    );
    let claims = claim(&*engine, all()).await;
    settle(&*engine, &claims.jobs[0], done()).await;
    settle(&*engine, &claims.failed_jobs[0], done()).await;
    expect([2, 0, 0], "when jobs are over").await;
}

/// An unknown id or key returns `None`; an unknown token returns `Lost`.
///
/// # Panics
///
/// If the rule does not hold.
pub async fn what_is_unknown_is_none_or_lost<S: Subject>(subject: &S) {
    let engine = fresh(subject).await;
    let id = put(&*engine, job("known")).await;
    let unknown = TaskId::random();
    assert_eq!(task(&*engine, unknown).await, None, "contract: unknown id");
    assert_eq!(
        find(&*engine, key("unknown")).await,
        None,
        "contract: unknown key"
    );
    // The known job is queued: nobody holds it.
    for id in [unknown, id] {
        for token in [0, 1, 7, u64::MAX >> 1, u64::MAX].map(FencingToken::new) {
            let renewed = super::renew(&*engine, vec![Claim { id, token }], LONG).await;
            assert_eq!(
                renewed,
                [Settled::Lost],
                "contract: what is unknown is lost"
            );
            let settled = settle_raw(&*engine, id, token, done()).await;
            assert_eq!(settled, Settled::Lost, "contract: what is unknown is lost");
        }
    }
    assert!(
        super::renew(&*engine, Vec::new(), LONG).await.is_empty(),
        "contract: of no claims none is renewed"
    );
    expect_status(&*engine, id, Status::Queued).await;
}
