//! Rows that a foreign program has written, or that are damaged: the others are claimed all the same.

use crate::support::{Home, LEASE, add, claim, job, settle};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tower_webhook::{
    attempt::History,
    dead_letter::{Cause, Reason},
    observe::{Event, observer_fn},
    queue::{Ask, End, Engine, JobFilter, Jobs, Kinds},
};
use tower_webhook_sqlite::SqliteQueue;

/// Text that is none.
const ODD: &str = "cast(x'61ff' as text)";

/// The state that the damaged job is in when it is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Queued,
    /// The lease has ended.
    Running,
    Failed,
    /// The lease has ended.
    FailedAndClaimed,
}

const STATES: [State; 4] = [
    State::Queued,
    State::Running,
    State::Failed,
    State::FailedAndClaimed,
];

/// What is claimed: the payloads of jobs, and of those that have failed.
async fn claimed(queue: &SqliteQueue) -> Vec<String> {
    let claims = claim(queue, Ask::new(100, LEASE)).await.unwrap();
    let all = claims.jobs.iter().chain(&claims.failed_jobs);
    all.map(|job| String::from_utf8_lossy(&job.payload).into_owned())
        .collect()
}

/// Damages jobs in this state: the one with the number `N` and the target `tN` by each of these. Gives what is claimed
/// then, and what the observers were told.
async fn after(damages: &[&str], state: State) -> (Vec<String>, Vec<String>) {
    let home = Home::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    let seen = told.clone();
    let (queue, clock) = home.observed(observer_fn(move |event| {
        if let Event::Trouble { what, detail, .. } = event {
            let detail = detail.map(|detail| detail.to_string());
            seen.lock().unwrap().push(format!("{what}: {detail:?}"));
        }
    }));
    for number in 1..=damages.len() {
        let bad = job("bad").target(format!("t{number}"));
        add(&queue, bad).await.unwrap();
    }
    let all = || Ask::new(100, LEASE);
    if state != State::Queued {
        let held = claim(&queue, all()).await.unwrap().jobs;
        if state != State::Running {
            for held in &held {
                let (cause, history) = (Cause::new(Reason::Rejected), History::new());
                settle(&queue, held, End::Failed { cause, history }).await;
            }
        }
        if state == State::FailedAndClaimed {
            assert_eq!(claimed(&queue).await.len(), damages.len());
        }
    }
    add(&queue, job("good").target("u")).await.unwrap();
    let raw = home.raw();
    let odd = "PRAGMA ignore_check_constraints = ON";
    raw.execute_batch(odd).unwrap();
    for (number, damage) in (1..).zip(damages) {
        let damage = damage.replace("ODD", ODD);
        let damage = damage.replace('N', &i32::to_string(&number));
        raw.execute_batch(&damage).unwrap();
    }
    drop(raw);
    clock.forward(LEASE);
    let mut first = claimed(&queue).await;
    first.sort();
    // Nor does it fail a list, or whoever waits.
    let listed = queue.list(JobFilter::default(), None, 100).await;
    assert!(listed.unwrap().jobs.iter().any(|job| job.target == "u"));
    let claims = queue.claim(all()).await.unwrap();
    queue.wait(claims.mark, Duration::from_millis(1)).await;
    let only = Kinds::from(["test"]);
    queue.claim(all().kinds(only)).await.unwrap();
    let told = told.lock().unwrap().clone();
    (first, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_with_what_can_be_read_of_it() {
    let damages = [
        "update tower_webhook_jobs set history = ODD where seq = N",
        "update tower_webhook_jobs set cause = ODD where seq = N",
        "update tower_webhook_jobs set ordered = ODD where seq = N",
        "update tower_webhook_jobs set attempts = -1 where seq = N",
        "update tower_webhook_jobs set token = -1 where seq = N",
        "update tower_webhook_jobs set accepted = -1 where seq = N",
        "update tower_webhook_jobs set digest = x'00' where seq = N",
        "update tower_webhook_jobs set owner = -1 where seq = N",
        "update tower_webhook_payloads set scope = ODD, key = 'k' where seq = N",
        "update tower_webhook_payloads set scope = 's', key = ODD where seq = N",
        "update tower_webhook_payloads set about = ODD where seq = N",
    ];
    for state in STATES {
        let (claimed, told) = after(&damages, state).await;
        let bad = claimed.iter().filter(|said| *said == "bad").count();
        assert_eq!(bad, damages.len(), "{state:?} {claimed:?}");
        assert!(claimed.contains(&"good".to_owned()), "{state:?}");
        assert!(told.is_empty(), "{told:?}");
    }
}

/// It runs, and fails where an operator sees it.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_without_its_payload_runs() {
    for state in STATES {
        let gone = ["delete from tower_webhook_payloads where seq = N"];
        assert_eq!(after(&gone, state).await.0, ["", "good"], "{state:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_has_no_place_does_not_hold_up_the_others() {
    let damages = [
        "update tower_webhook_jobs set kind = ODD where seq = N",
        "update tower_webhook_jobs set target = ODD where seq = N",
        "update tower_webhook_jobs set at = -9223372036854775808 where seq = N",
        "update tower_webhook_jobs set at = 9223372036854775807 where seq = N",
        "update tower_webhook_jobs set attempts = 99999999999 where seq = N",
        "update tower_webhook_jobs set state = 7 where seq = N",
        "update tower_webhook_lanes set kind = ODD where target = 'tN'",
        "update tower_webhook_lanes set target = ODD where target = 'tN'",
        "delete from tower_webhook_lanes where target = 'tN'",
    ];
    for state in STATES {
        let (claimed, _) = after(&damages, state).await;
        assert!(claimed.contains(&"good".to_owned()), "{state:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_id_cannot_be_read_is_set_aside_and_told_of() {
    for state in STATES {
        let damage = ["update tower_webhook_jobs set id = x'00' where seq = N"];
        let (claimed, told) = after(&damage, state).await;
        assert_eq!(claimed, ["good"], "{state:?}");
        // Once, and not with each claim.
        let [told] = &told[..] else {
            panic!("{told:?}");
        };
        assert!(told.starts_with("jobs cannot be read"), "{told}");
        assert!(told.ends_with("Some(\"1\")"), "{told}");
    }
}
