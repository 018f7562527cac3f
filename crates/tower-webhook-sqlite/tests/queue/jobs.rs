//! Lanes and orders at length, and what operations cost when there is much.

use crate::{
    moves::entry,
    support::{Home, LEASE, add, again, claim, done, hold_up, job, put, settings, settle},
};
use proptest::prelude::*;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};
use tower_webhook::{
    attempt::History,
    dead_letter::{Cause, EntryId, LetterStore, Reason},
    idempotency::IdempotencyKey,
    lease::Settled,
    queue::{Ask, Claim, End, Engine, Job, Jobs, NewJob, Status, TaskId, Tasks},
};
use tower_webhook_sqlite::{SqliteDeadLetters, SqliteQueue, database::DatabaseError};

#[tokio::test]
async fn the_next_in_order_may_be_another_targets() {
    let home = Home::new();
    let queue = home.queue();
    for target in ["a", "b", "a"] {
        let new = job(target).target(target).fifo_group("o");
        add(&queue, new).await.unwrap();
    }
    for target in ["a", "b", "a"] {
        let claims = claim(&queue, Ask::new(10, LEASE)).await.unwrap();
        assert_eq!(claims.jobs.len(), 1);
        assert_eq!(claims.jobs[0].target, target);
        settle(&queue, &claims.jobs[0], done()).await;
        home.check();
    }
}

#[tokio::test]
async fn jobs_of_many_lanes_come_in_the_order_in_which_they_are_due() {
    let home = Home::new();
    let (queue, clock) = home.timed();
    let mut expected = Vec::new();
    for number in 0..300_u64 {
        let delay = number * 7919 % 101;
        let new = job(&number.to_string())
            .target(format!("t{}", number % 13))
            .delay(Duration::from_millis(delay));
        add(&queue, new).await.unwrap();
        expected.push((delay, number));
    }
    expected.sort_unstable();
    clock.forward(Duration::from_secs(1));
    let mut got: Vec<u64> = Vec::new();
    loop {
        let claims = claim(&queue, Ask::new(17, LEASE)).await.unwrap();
        if claims.jobs.is_empty() {
            break;
        }
        for job in claims.jobs {
            got.push(std::str::from_utf8(&job.payload).unwrap().parse().unwrap());
        }
    }
    let expected: Vec<u64> = expected.into_iter().map(|(_, number)| number).collect();
    assert_eq!(got, expected);
    home.check();
}

/// Hazard: claim and acknowledgement that look at the whole backlog, or the whole history, unless
/// statistics happen to exist.
#[tokio::test(flavor = "multi_thread")]
async fn much_that_waits_and_much_that_is_done_slow_nothing_down() {
    let home = Home::new();
    let queue = home.queue();
    let cycle = async || {
        let mut took = Vec::new();
        for _ in 0..50 {
            put(&queue, "probe").await;
            let began = Instant::now();
            let claims = claim(&queue, Ask::new(1, LEASE)).await.unwrap();
            settle(&queue, &claims.jobs[0], done()).await;
            took.push(began.elapsed());
        }
        took.sort_unstable();
        took[25]
    };
    let empty = cycle().await;
    let filling = queue.clone();
    let filled = queue.database().write(move |transaction| {
        for number in 0..20_000 {
            let mut new = job("backlog").target(format!("t{}", number % 100));
            if number % 2 == 0 {
                new = new.delay(Duration::from_secs(3600));
            }
            filling.enqueue_in(transaction, &new)?;
        }
        Ok(())
    });
    filled.await.unwrap();
    home.raw()
        .execute_batch(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000)
             INSERT INTO tower_webhook_jobs (id, state, at, token, attempts, accepted, target)
             SELECT randomblob(16), 5, 1e15, 1, 1, 0, 't' || i % 100 FROM n",
        )
        .unwrap();
    let full = cycle().await;
    println!("{empty:?} with nothing, {full:?} with 70,000 rows");
    // A look at all of them would take several milliseconds more.
    assert!(full < empty * 4 + Duration::from_millis(2), "{full:?}");
}

#[derive(Clone, Debug)]
enum Step {
    Put {
        target: u8,
        kind: u8,
        order: Option<u8>,
        delay: u16,
        key: Option<u8>,
    },
    Claim {
        jobs: usize,
        kind: u8,
    },
    /// Several claims with one call, some of them twice.
    End(Vec<(usize, u8)>),
    /// Another handle with this limit per target.
    Reopen(u32),
    Cancel(usize),
    Resolve(usize),
    /// With its key, or without.
    Requeue(usize, bool),
    /// To the dead letters.
    Move(usize),
    Pass(u16),
    Back(u16),
}

/// Or none.
fn limit() -> impl Strategy<Value = u32> {
    prop_oneof![1..4_u32, Just(u32::MAX)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (
            0..3_u8,
            0..2_u8,
            proptest::option::of(0..2_u8),
            0..200_u16,
            proptest::option::of(0..6_u8)
        )
            .prop_map(|(target, kind, order, delay, key)| Step::Put {
                target,
                kind,
                order,
                delay,
                key,
            }),
        (0..5_usize, 0..3_u8).prop_map(|(jobs, kind)| Step::Claim { jobs, kind }),
        proptest::collection::vec((any::<usize>(), 0..7_u8), 1..4).prop_map(Step::End),
        proptest::collection::vec((0..4_usize, 0..7_u8), 1..6).prop_map(Step::End),
        limit().prop_map(Step::Reopen),
        any::<usize>().prop_map(Step::Cancel),
        any::<usize>().prop_map(Step::Resolve),
        (any::<usize>(), any::<bool>()).prop_map(|(which, key)| Step::Requeue(which, key)),
        any::<usize>().prop_map(Step::Move),
        (0..20_000_u16).prop_map(Step::Pass),
        (0..20_000_u16).prop_map(Step::Back),
    ]
}

async fn run(per_target: u32, steps: Vec<Step>) {
    let home = Home::new();
    let (mut queue, clock) = home.timed_with(settings().per_target(per_target));
    let lease = Duration::from_secs(10);
    let mut held: Vec<Job> = Vec::new();
    let mut tokens = HashMap::new();
    let mut known: Vec<NewJob> = Vec::new();
    let entries = SqliteDeadLetters::new(queue.database()).unwrap();
    for step in steps {
        match step {
            Step::Put {
                target,
                kind,
                order,
                delay,
                key,
            } => {
                let new = NewJob::new(format!("k{kind}"), "x");
                let mut new = new.target(format!("t{target}"));
                new = new.delay(Duration::from_millis(delay.into()));
                new.fifo_group = order.map(|order| order.to_string());
                new.dedup_key =
                    key.map(|key| IdempotencyKey::new("test", &key.to_string()).unwrap());
                known.push(new.clone());
                add(&queue, new).await.unwrap();
            }
            Step::Claim { jobs, kind } => {
                let ask = Ask::new(jobs, lease);
                let claims = queue.claim(match kind {
                    2 => ask,
                    kind => ask.kinds([format!("k{kind}")]),
                });
                for job in claims.await.unwrap().jobs {
                    let before = tokens.insert(job.id, job.token);
                    assert!(before.is_none_or(|before| before < job.token));
                    held.push(job);
                }
            }
            Step::End(ends) => {
                if held.is_empty() {
                    continue;
                }
                end_somehow(&queue, &mut held, ends).await;
            }
            Step::Reopen(per_target) => {
                let reopened = settings().per_target(per_target).build(queue.database());
                queue = reopened.unwrap();
            }
            Step::Move(which) if !held.is_empty() => {
                let job = held.swap_remove(which % held.len());
                let entry = entry(EntryId::random());
                let moves = queue.moves(&entries).unwrap();
                let moved = moves.dead_letter(job.claim(), &entry).await.unwrap();
                let there = entries.get(entry.id).await.unwrap().is_some();
                assert_eq!(there, moved == Settled::Done);
            }
            Step::Cancel(which) if !known.is_empty() => {
                let id = known[which % known.len()].id;
                queue.cancel(id).await.unwrap();
            }
            Step::Resolve(which) if !known.is_empty() => {
                let id = known[which % known.len()].id;
                queue.resolve(id, Some("it".into())).await.unwrap();
            }
            Step::Requeue(which, with_key) if !known.is_empty() => {
                let mut new = known[which % known.len()].clone();
                new.requeue = true;
                new.dedup_key = new.dedup_key.filter(|_| with_key);
                add(&queue, new).await.unwrap();
            }
            Step::Move(_) | Step::Cancel(_) | Step::Resolve(_) | Step::Requeue(..) => {}
            Step::Pass(by) => clock.forward(Duration::from_millis(by.into())),
            Step::Back(by) => clock.back(Duration::from_millis(by.into())),
        }
        home.check();
    }
    // Whatever happened, all of it comes to an end.
    for _ in 0..1000 {
        if queue.depth().await.unwrap().unfinished() == 0 {
            home.check();
            return;
        }
        clock.forward(lease);
        for job in queue.claim(Ask::new(10, lease)).await.unwrap().jobs {
            settle(&queue, &job, done()).await;
        }
    }
    panic!("{:?} are left", queue.depth().await.unwrap());
}

async fn end_somehow(queue: &SqliteQueue, held: &mut Vec<Job>, ends: Vec<(usize, u8)>) {
    let (mut claims, mut renewed) = (Vec::new(), Vec::new());
    for (which, how) in ends {
        let (history, claim) = (History::new(), held[which % held.len()].claim());
        let how = match how {
            0 | 1 => done(),
            2 => End::Done {
                result: Some("it".into()),
            },
            3 => End::Failed {
                cause: Cause::new(Reason::Rejected),
                history,
            },
            4 => again(Duration::from_millis(50)),
            5 => End::Release {
                after: Duration::ZERO,
                history,
            },
            _ => {
                renewed.push(claim);
                continue;
            }
        };
        claims.push((claim, how));
    }
    queue.renew(renewed, LEASE).await.unwrap();
    let ended: Vec<_> = claims.iter().map(|(claim, _)| *claim).collect();
    let settled = queue.settle(claims).await.unwrap();
    for (number, claim) in ended.iter().enumerate() {
        if settled[number] == Settled::Done {
            let again = ended.iter().zip(&settled).skip(number + 1);
            let again = again.filter(|(later, _)| *later == claim);
            assert!(
                again
                    .into_iter()
                    .all(|(_, settled)| *settled == Settled::Lost)
            );
        }
    }
    held.retain(|job| !ended.contains(&job.claim()));
}

#[tokio::test]
async fn each_end_of_a_batch_has_its_own_result() {
    for per_target in [2, u32::MAX] {
        let home = Home::new();
        let (queue, clock) = home.timed_with(settings().per_target(per_target));
        for number in 0..12 {
            let mut new = job(&number.to_string()).target(format!("t{}", number % 6));
            new.fifo_group = (number == 3 || number == 10).then(|| "o".to_owned());
            add(&queue, new).await.unwrap();
        }
        let lost = claim(&queue, Ask::new(1, Duration::from_millis(1)))
            .await
            .unwrap();
        let lost = &lost.jobs[0];
        clock.forward(Duration::from_millis(1));
        let claims = claim(&queue, Ask::new(20, LEASE)).await.unwrap().jobs;
        // All but the second of the FIFO group.
        assert_eq!(claims.len(), 11);
        let job = |payload: &str| {
            let job = claims.iter().find(|job| job.payload == payload).unwrap();
            (job.claim(), job.id)
        };
        let history = History::new;
        let result = Some(bytes::Bytes::from_static(b"a result"));
        let failed = End::Failed {
            cause: Cause::new(Reason::Rejected),
            history: history(),
        };
        let release = End::Release {
            after: Duration::ZERO,
            history: history(),
        };
        let never = Claim {
            id: TaskId::random(),
            token: job("1").0.token,
        };
        let ends = [
            (lost.claim(), done(), Settled::Lost),
            (job("0").0, done(), Settled::Done),
            (
                job("1").0,
                End::Done {
                    result: result.clone(),
                },
                Settled::Done,
            ),
            (job("0").0, done(), Settled::Lost),
            (job("2").0, failed, Settled::Done),
            (never, done(), Settled::Lost),
            (job("3").0, done(), Settled::Done),
            (job("4").0, again(Duration::from_secs(1)), Settled::Done),
            (job("5").0, release, Settled::Done),
            (job("4").0, done(), Settled::Lost),
            (job("1").0, again(Duration::ZERO), Settled::Lost),
            (job("6").0, done(), Settled::Done),
            (job("6").0, again(Duration::ZERO), Settled::Lost),
        ];
        let (ends, expected): (Vec<_>, Vec<_>) = ends
            .into_iter()
            .map(|(claim, end, settled)| ((claim, end), settled))
            .unzip();
        assert_eq!(queue.settle(ends).await.unwrap(), expected);
        home.check();
        for (payload, status) in [
            ("0", Status::Succeeded { result: None }),
            ("1", Status::Succeeded { result }),
            ("2", Status::Failed),
            ("3", Status::Succeeded { result: None }),
            ("4", Status::Queued),
            ("5", Status::Queued),
            ("6", Status::Succeeded { result: None }),
            ("7", Status::Running),
        ] {
            let task = queue.task(job(payload).1).await.unwrap().unwrap();
            assert_eq!(task.status, status, "{payload}");
        }
        // The released one, and the second of the FIFO group.
        let claims = claim(&queue, Ask::new(20, LEASE)).await.unwrap();
        let mut payloads: Vec<_> = claims.jobs.iter().map(|job| &job.payload[..]).collect();
        payloads.sort_unstable();
        assert_eq!(payloads, [&b"10"[..], b"5"]);
        assert_eq!(claims.failed_jobs.len(), 1);
        home.check();
    }
}

/// The file goes by what it was made for last. A process with a limit that finds none adds it.
#[tokio::test]
async fn a_limit_may_come_and_go_with_jobs_in_the_file() {
    let home = Home::new();
    let (free, _clock) = home.timed_with(settings());
    for number in 0..20 {
        let new = job("x").target(format!("t{}", number % 2));
        add(&free, new).await.unwrap();
    }
    assert_eq!(
        claim(&free, Ask::new(6, LEASE)).await.unwrap().jobs.len(),
        6
    );
    home.check();
    let limited = settings().per_target(4).build(free.database()).unwrap();
    // Three of each run already.
    assert_eq!(
        claim(&limited, Ask::new(20, LEASE))
            .await
            .unwrap()
            .jobs
            .len(),
        2
    );
    home.check();
    // The other handle works on, without a limit of its own.
    assert_eq!(
        claim(&free, Ask::new(2, LEASE)).await.unwrap().jobs.len(),
        2
    );
    assert!(
        claim(&limited, Ask::new(20, LEASE))
            .await
            .unwrap()
            .is_empty()
    );
    home.check();
    let again = settings().build(free.database()).unwrap();
    assert_eq!(
        claim(&again, Ask::new(2, LEASE)).await.unwrap().jobs.len(),
        2
    );
    home.check();
    assert!(
        claim(&limited, Ask::new(20, LEASE))
            .await
            .unwrap()
            .is_empty()
    );
    home.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_undone_in_a_shared_transaction_is_not_counted() {
    let home = Home::new();
    let queue = home.queue();
    let held = hold_up(queue.database());
    let put = |payload: &'static str, fails: bool| {
        let adding = queue.clone();
        queue.database().write(move |transaction| {
            adding.enqueue_in(transaction, &job(payload))?;
            if fails {
                return Err(DatabaseError::aborted("no"));
            }
            Ok(())
        })
    };
    // In this order, one transaction.
    let first = put("first undone", true);
    let second = put("kept", false);
    let third = put("undone", true);
    drop(held);
    first.await.unwrap_err();
    second.await.unwrap();
    third.await.unwrap_err();
    assert_eq!(queue.depth().await.unwrap().queued, 1);
    home.check();
}

proptest! {
    // An eighth of the usual number: each case makes a database file, and waits for its disk.
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases / 8,
        ..ProptestConfig::default()
    })]

    /// Counts, lanes and payloads agree with the jobs after each step, tokens grow, and all ends.
    #[test]
    fn whatever_happens_the_tables_agree(
        per_target in limit(),
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(per_target, steps));
    }
}

#[tokio::test]
async fn a_job_whose_last_lease_is_over_has_failed_and_is_not_cancelled() {
    let short = Duration::from_millis(100);
    let over = short * 3;
    let home = Home::new();
    let queue = settings().attempts(1).open(home.file()).unwrap();
    let id = put(&queue, "x").await;
    assert_eq!(queue.claim(Ask::new(1, short)).await.unwrap().jobs.len(), 1);
    tokio::time::sleep(over).await;
    assert_eq!(queue.cancel(id).await.unwrap(), Some(Status::Failed));
    let claims = queue.claim(Ask::new(1, short).most_failed(1)).await;
    assert_eq!(claims.unwrap().jobs.len(), 1, "its entry is to be written");
    let unknown = queue.cancel(TaskId::random()).await;
    assert_eq!(unknown.unwrap(), None);
}
