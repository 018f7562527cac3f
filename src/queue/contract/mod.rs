//! The tests that every [`Engine`] must pass, for those who write one.
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use tower_webhook::queue::{Engine, MemoryQueue, contract};
//!
//! struct Subject;
//!
//! impl contract::Subject for Subject {
//!     async fn engine(&self) -> Arc<dyn Engine> {
//!         Arc::new(MemoryQueue::default())
//!     }
//!
//!     async fn small(&self, jobs: usize) -> Arc<dyn Engine> {
//!         Arc::new(MemoryQueue::builder().max_jobs(jobs).build().unwrap())
//!     }
//!
//!     // The memory engine reads tokio's clock, which a test can move.
//!     async fn advance(&self, by: Duration) {
//!         tokio::time::advance(by).await;
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! contract::check(&Subject).await;
//! # });
//! ```
//!
//! # Hazards in other engines
//!
//! Other job engines lose, repeat and loop jobs in ways that these rules exclude:
//!
//! | Hazard | Rule |
//! | --- | --- |
//! | a payload that kills its worker runs for ever | [`a_job_that_kills_its_workers_is_dead_lettered_once`] |
//! | a job that still runs is claimed by another worker | [`a_renewed_claim_holds`] |
//! | a job whose worker died stays `running` | [`a_claim_that_ends_is_given_to_another`] |
//! | a job to be retried later is retried at once, or never | [`a_retry_waits_its_time`] |
//! | a released job has lost an attempt | [`what_is_released_has_lost_no_attempt`] |
//! | a repeated key gives an id that does not exist | [`a_repeated_key_gives_the_first_id`] |
//! | the removal of finished tasks removes all of them | [`what_is_over_leaves_after_its_time`] |
//! | a backlog of some size can never be claimed | [`a_backlog_is_claimed_at_once`] |
//! | a burst from many producers never drains | [`a_burst_is_drained`] |

mod accepting;
mod claiming;
mod ending;
mod waiting;

pub use self::{
    accepting::{
        a_delayed_job_waits, a_full_engine_refuses_until_there_is_room,
        a_job_comes_out_as_it_went_in, a_job_that_is_not_added_takes_no_key,
        a_repeated_key_gives_the_first_id, an_id_is_put_in_once,
        failed_jobs_have_room_of_their_own, keys_are_apart_by_their_scope,
        one_of_many_with_a_key_is_put_in, the_depth_is_exact, what_is_unknown_is_none_or_lost,
    },
    claiming::{
        a_backlog_is_claimed_at_once, a_claim_counts_the_attempt,
        a_claim_gives_no_more_than_was_asked_for, a_claim_that_ends_is_given_to_another,
        a_delayed_job_is_not_overtaken, a_full_target_does_not_hold_up_others,
        a_job_that_kills_its_workers_is_dead_lettered_once, a_renewed_claim_holds,
        each_job_is_claimed_once, jobs_in_order_run_one_after_another, orders_are_apart,
        the_next_in_order_waits_for_a_retry, what_is_due_first_is_given_first,
    },
    ending::{
        a_claim_is_settled_once, a_dropped_claim_loses_nothing, a_dropped_enqueue_is_done_or_not,
        a_dropped_settle_is_done_or_not, a_failed_job_is_given_until_its_entry_is_written,
        a_result_is_kept_to_the_byte, a_retry_is_for_the_worker_to_decide, a_retry_waits_its_time,
        a_stale_holder_changes_nothing, a_verdict_of_another_state_changes_nothing,
        what_is_over_leaves_after_its_time, what_is_released_has_lost_no_attempt,
    },
    waiting::{
        a_burst_is_drained, news_between_a_claim_and_a_wait_are_not_missed, waiting_has_an_end,
        what_comes_wakes_who_waits, what_one_cannot_use_is_told_to_another,
        what_time_brings_wakes_who_waits, who_can_use_nothing_sleeps,
    },
};
use super::{Claims, Depth, Engine, Job, NewJob, Status, TaskId, Terms, Verdict};
use crate::{
    StoreError,
    attempt::{AttemptRecord, History},
    idempotency::IdempotencyKey,
    lease::{FencingToken, Settled},
    outcome::Outcome,
};
use std::{future::Future, sync::Arc, time::Duration};

/// An engine under test, and its clock.
pub trait Subject {
    /// Makes an empty engine that takes payloads of at least 1 MiB, and thousands of jobs.
    fn engine(&self) -> impl Future<Output = Arc<dyn Engine>>;

    /// Makes an empty engine that takes at most this many unfinished jobs.
    fn small(&self, jobs: usize) -> impl Future<Output = Arc<dyn Engine>>;

    /// Lets time pass for the engine: moves a paused clock, or waits.
    fn advance(&self, by: Duration) -> impl Future<Output = ()>;
}

/// A lease that ends within a test. Short, for engines whose clock cannot be moved.
const LEASE: Duration = Duration::from_millis(400);
/// A retention or a wait that ends within a test.
const SOON: Duration = Duration::from_millis(600);
/// Longer than both.
const LATER: Duration = Duration::from_secs(1);
/// A lease, a wait or a retention that does not end within a test.
const LONG: Duration = Duration::from_secs(600);

/// Checks every rule, one after another, each on its own engine.
///
/// # Panics
///
/// If a rule does not hold. The message names the rule.
pub async fn check<S: Subject>(subject: &S) {
    a_job_comes_out_as_it_went_in(subject).await;
    a_repeated_key_gives_the_first_id(subject).await;
    keys_are_apart_by_their_scope(subject).await;
    an_id_is_put_in_once(subject).await;
    one_of_many_with_a_key_is_put_in(subject).await;
    a_delayed_job_waits(subject).await;
    a_full_engine_refuses_until_there_is_room(subject).await;
    failed_jobs_have_room_of_their_own(subject).await;
    a_job_that_is_not_added_takes_no_key(subject).await;
    the_depth_is_exact(subject).await;
    what_is_unknown_is_none_or_lost(subject).await;

    each_job_is_claimed_once(subject).await;
    what_is_due_first_is_given_first(subject).await;
    a_claim_gives_no_more_than_was_asked_for(subject).await;
    a_backlog_is_claimed_at_once(subject).await;
    a_claim_counts_the_attempt(subject).await;
    a_claim_that_ends_is_given_to_another(subject).await;
    a_renewed_claim_holds(subject).await;
    a_job_that_kills_its_workers_is_dead_lettered_once(subject).await;
    a_full_target_does_not_hold_up_others(subject).await;

    a_retry_waits_its_time(subject).await;
    a_retry_is_for_the_worker_to_decide(subject).await;
    what_is_released_has_lost_no_attempt(subject).await;
    a_result_is_kept_to_the_byte(subject).await;
    a_failed_job_is_given_until_its_entry_is_written(subject).await;
    a_verdict_of_another_state_changes_nothing(subject).await;
    a_stale_holder_changes_nothing(subject).await;
    a_claim_is_settled_once(subject).await;
    what_is_over_leaves_after_its_time(subject).await;

    jobs_in_order_run_one_after_another(subject).await;
    the_next_in_order_waits_for_a_retry(subject).await;
    a_delayed_job_is_not_overtaken(subject).await;
    orders_are_apart(subject).await;

    waiting_has_an_end(subject).await;
    what_comes_wakes_who_waits(subject).await;
    what_time_brings_wakes_who_waits(subject).await;
    news_between_a_claim_and_a_wait_are_not_missed(subject).await;
    what_one_cannot_use_is_told_to_another(subject).await;
    who_can_use_nothing_sleeps(subject).await;
    a_burst_is_drained(subject).await;

    a_dropped_enqueue_is_done_or_not(subject).await;
    a_dropped_claim_loses_nothing(subject).await;
    a_dropped_settle_is_done_or_not(subject).await;
}

async fn ok<T>(operation: impl Future<Output = Result<T, StoreError>>) -> T {
    match operation.await {
        Ok(value) => value,
        Err(error) => panic!("contract: the engine failed: {error:?}"),
    }
}

fn key(id: &str) -> IdempotencyKey {
    match IdempotencyKey::new("contract", id) {
        Ok(key) => key,
        Err(error) => panic!("contract: {error}"),
    }
}

fn job(payload: &str) -> NewJob {
    NewJob::new("contract", payload.to_owned())
}

/// The payload of a job as text.
fn said(job: &Job) -> String {
    String::from_utf8_lossy(&job.payload).into_owned()
}

fn all_said(claims: &Claims) -> Vec<String> {
    claims.jobs.iter().map(said).collect()
}

/// Terms for everything there is, with a lease longer than any test.
const fn all() -> Terms {
    Terms::new(100, LONG)
}

/// A history of this many attempts.
fn history(attempts: u32) -> History {
    let mut history = History::new();
    for number in 1..=attempts {
        let started = Duration::from_millis(u64::from(number) * 10);
        let took = Duration::from_millis(7);
        let failed = Outcome::transient().with_code(503);
        history.push(AttemptRecord::new(number, started, took, failed));
    }
    history
}

const fn done(retention: Duration) -> Verdict {
    Verdict::Done {
        result: None,
        retention,
    }
}

fn retry(after: Duration, history: History) -> Verdict {
    Verdict::Retry { after, history }
}

async fn put(engine: &dyn Engine, job: NewJob) -> TaskId {
    let enqueued = ok(engine.enqueue(job)).await;
    assert!(
        !enqueued.repeated,
        "contract: a job whose key and id are new is no repetition"
    );
    enqueued.id
}

/// Claims the one job that can be claimed.
async fn take(engine: &dyn Engine, terms: Terms) -> Job {
    let mut claims = ok(engine.claim(terms)).await;
    assert_eq!(
        (claims.jobs.len(), claims.failed_jobs.len()),
        (1, 0),
        "contract: one job can be claimed, and nothing else"
    );
    claims.jobs.remove(0)
}

/// Checks that nothing can be claimed.
async fn take_none(engine: &dyn Engine, why: &str) {
    let claims = ok(engine.claim(all())).await;
    assert!(claims.is_empty(), "contract: {why}, got {claims:?}");
}

async fn settle(engine: &dyn Engine, job: &Job, verdict: Verdict) {
    let settled = ok(engine.settle(job.id, job.token, verdict)).await;
    assert_eq!(
        settled,
        Settled::Done,
        "contract: the holder settles its claim"
    );
}

async fn status(engine: &dyn Engine, id: TaskId) -> Option<Status> {
    ok(engine.task(id)).await.map(|task| task.status)
}

async fn attempts(engine: &dyn Engine, id: TaskId) -> Option<u32> {
    ok(engine.task(id)).await.map(|task| task.attempts)
}

async fn depth(engine: &dyn Engine) -> [u64; 3] {
    let depth: Depth = ok(engine.depth()).await;
    [depth.queued, depth.running, depth.dead_lettering]
}

async fn renew(
    engine: &dyn Engine,
    claims: Vec<(TaskId, FencingToken)>,
    lease: Duration,
) -> Vec<Settled> {
    ok(engine.renew(claims, lease)).await
}
