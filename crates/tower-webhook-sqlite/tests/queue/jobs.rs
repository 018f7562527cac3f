//! Lanes and orders at length, and what operations cost when there is much.

use crate::support::{Home, LEASE, add, again, claim, done, end, job, put, settings, settle};
use proptest::prelude::*;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};
use tower_webhook::{
    attempt::History,
    dead_letter::{Cause, Reason},
    lease::Settled,
    queue::{Ask, End, Engine, Job, NewJob, Tasks},
};
use tower_webhook_sqlite::SqliteQueue;

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
    },
    Claim {
        jobs: usize,
        kind: u8,
    },
    End {
        which: usize,
        how: u8,
    },
    Pass(u16),
    Back(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..3_u8, 0..2_u8, proptest::option::of(0..2_u8), 0..200_u16).prop_map(
            |(target, kind, order, delay)| Step::Put {
                target,
                kind,
                order,
                delay,
            }
        ),
        (0..5_usize, 0..3_u8).prop_map(|(jobs, kind)| Step::Claim { jobs, kind }),
        (any::<usize>(), 0..6_u8).prop_map(|(which, how)| Step::End { which, how }),
        (0..20_000_u16).prop_map(Step::Pass),
        (0..20_000_u16).prop_map(Step::Back),
    ]
}

async fn run(per_target: u32, steps: Vec<Step>) {
    let home = Home::new();
    let (queue, clock) = home.timed_with(settings().per_target(per_target));
    let lease = Duration::from_secs(10);
    let mut held: Vec<Job> = Vec::new();
    let mut tokens = HashMap::new();
    for step in steps {
        match step {
            Step::Put {
                target,
                kind,
                order,
                delay,
            } => {
                let new = NewJob::new(format!("k{kind}"), "x");
                let mut new = new.target(format!("t{target}"));
                new.delay = Duration::from_millis(delay.into());
                new.fifo_group = order.map(|order| order.to_string());
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
            Step::End { which, how } => {
                if held.is_empty() {
                    continue;
                }
                let job = held.swap_remove(which % held.len());
                let _: Settled = end_somehow(&queue, &job, how).await;
            }
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

async fn end_somehow(queue: &SqliteQueue, job: &Job, how: u8) -> Settled {
    let history = History::new();
    let how = match how {
        0 | 1 => done(),
        2 => End::Failed {
            cause: Cause::new(Reason::Rejected),
            history,
        },
        3 => again(Duration::from_millis(50)),
        4 => End::Release {
            after: Duration::ZERO,
            history,
        },
        _ => return queue.renew(vec![job.claim()], LEASE).await.unwrap()[0],
    };
    end(queue, job.claim(), how).await.unwrap()
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
        per_target in 1..4_u32,
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(per_target, steps));
    }
}
