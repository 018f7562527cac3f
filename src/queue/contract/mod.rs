//! The tests that every [`Engine`] must pass, for those who write one.
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use tower_webhook::queue::{Engine, MemoryQueue, contract};
//!
//! struct Subject;
//!
//! impl contract::Subject for Subject {
//!     async fn engine(&self, settings: contract::Settings) -> Arc<dyn Engine> {
//!         let engine = MemoryQueue::builder()
//!             .max_jobs(settings.max_jobs)
//!             .attempts(settings.attempts)
//!             .per_target(settings.per_target)
//!             .retention(settings.retention);
//!         Arc::new(engine.build().unwrap())
//!     }
//!
//!     // The memory engine reads tokio's clock, which a test can move.
//!     async fn advance(&self, by: Duration) {
//!         tokio::time::advance(by).await;
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! let grade = contract::check(&Subject).await;
//! // It promises everything but moves; the subject opens no queue twice, and sets no clock.
//! let other = ["process", "leaps", "move"];
//! assert!(grade.left_out.iter().all(|rule| other.iter().any(|other| rule.contains(other))));
//! # });
//! ```
//!
//! An engine need not keep every rule: those that its [`Promises`] leave out are left out of the check, and
//! [named](Grade::left_out). So are those for several processes, for a clock that is set, and for dead letters in the
//! database of the queue, unless the [`Subject`] can [open](Subject::again) a queue twice, [set](Subject::leap) its clock,
//! and has such [letters](Subject::letters).
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
//! | a job that was done is done again because its lease had ended a moment before | [`a_late_holder_is_heard_until_another_claims`] |
//! | a worker takes and fails the jobs of another | [`a_kind_is_left_to_who_asks_for_it`] |
//! | a released job has lost an attempt | [`what_is_released_has_lost_no_attempt`] |
//! | a repeated key gives an id that does not exist | [`a_repeated_key_gives_the_first_id`] |
//! | the removal of finished tasks removes all of them | [`what_is_over_leaves_after_its_time`] |
//! | a job is cancelled while it runs, and the next one of its group runs beside it | [`a_cancelled_claim_keeps_its_place_in_order`] |
//! | a backlog of some size can never be claimed | [`a_backlog_is_claimed_at_once`] |
//! | a burst from many producers never drains | [`a_burst_is_drained`] |

mod accepting;
mod claiming;
mod ending;
mod moving;
mod operating;
mod sharing;
mod waiting;

use super::{
    Ask, Claim, Depth, End, Engine, Enqueued, Job, Mark, NewJob, Promises, Status, Task, TaskId,
};
use crate::{
    StoreError,
    attempt::{AttemptRecord, History},
    dead_letter::LetterStore,
    idempotency::IdempotencyKey,
    lease::{FencingToken, Settled},
    outcome::Outcome,
};
use std::{future::Future, sync::Arc, time::Duration};

/// An engine under test, and its clock.
#[diagnostic::on_unimplemented(
    message = "the contract cannot be run on `{Self}`",
    note = "implement `Subject` for a type of your test that makes your engine of a queue"
)]
pub trait Subject {
    /// Makes an empty engine with these settings, that takes payloads of at least 1 MiB.
    fn engine(&self, settings: Settings) -> impl Future<Output = Arc<dyn Engine>>;

    /// Lets time pass for the engine: moves a paused clock, or waits.
    fn advance(&self, by: Duration) -> impl Future<Output = ()>;

    /// The dead letters in the database of the last engine, if it has [moves](Engine::moves) between the two. Default:
    /// `None`; the rules for them are left out.
    fn letters(&self) -> impl Future<Output = Option<Arc<dyn LetterStore>>> {
        async { None }
    }

    /// Opens the queue of the last engine once more, as another process does. Default: `None`, the engine serves one
    /// process; the rules for several are left out.
    fn again(&self) -> impl Future<Output = Option<Arc<dyn Engine>>> {
        async { None }
    }

    /// Sets the clock of the engine ahead, while no time passes. An engine that reads no clock that can be set does
    /// nothing. Returns whether that is so. Default: `false`; the rules for it are left out.
    fn leap(&self, by: Duration) -> impl Future<Output = bool> {
        let _ = by;
        async { false }
    }
}

/// The settings of an engine under test.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// The largest number of unfinished jobs, without those that have failed for good.
    pub max_jobs: usize,
    /// The number of attempts of a job.
    pub attempts: u32,
    /// How many jobs of one target run at the same time. `u32::MAX`: no limit. An engine without such a limit
    /// ignores it.
    pub per_target: u32,
    /// How long a finished task is kept.
    pub retention: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_jobs: 10_000,
            attempts: 3,
            per_target: u32::MAX,
            retention: LONG,
        }
    }
}

/// The rules that an engine was checked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Grade {
    /// The rules that hold.
    pub checked: Vec<&'static str>,
    /// The rules that the engine does not promise.
    pub left_out: Vec<&'static str>,
}

/// A lease that ends within a test. Short, for engines whose clock cannot be moved.
const LEASE: Duration = Duration::from_millis(400);
/// A retention or a wait that ends within a test.
const SOON: Duration = Duration::from_millis(600);
/// Longer than both.
const LATER: Duration = Duration::from_secs(1);
/// A lease, a wait or a retention that does not end within a test.
const LONG: Duration = Duration::from_secs(600);

/// Exports the rules, and checks them in this order.
macro_rules! rules {
    ($($file:ident if $promised:expr => { $($rule:ident,)+ })+) => {
        $(pub use self::$file::{$($rule),+};)+

        /// Checks every rule that the engine promises, one after another, each on its own engine.
        ///
        /// # Panics
        ///
        /// If a rule does not hold. The message names the rule.
        pub async fn check<S: Subject>(subject: &S) -> Grade {
            let settings = Settings { per_target: 2, ..Settings::default() };
            let engine = subject.engine(settings).await;
            let letters = subject.letters().await;
            let promises = Promised {
                promises: engine.promises(),
                tasks: engine.tasks().is_some(),
                jobs: engine.jobs().is_some(),
                moves: letters.is_some_and(|letters| engine.moves(&*letters).is_some()),
                processes: subject.again().await.is_some(),
                leaps: subject.leap(Duration::ZERO).await,
            };
            let mut grade = Grade::default();
            $(
                let is_promised: fn(&Promised) -> bool = $promised;
                $(
                    if is_promised(&promises) {
                        $rule(subject).await;
                        grade.checked.push(stringify!($rule));
                    } else {
                        grade.left_out.push(stringify!($rule));
                    }
                )+
            )+
            grade
        }
    };
}

#[allow(clippy::struct_excessive_bools, reason = "each is a thing of its own")]
struct Promised {
    promises: Promises,
    tasks: bool,
    jobs: bool,
    moves: bool,
    processes: bool,
    leaps: bool,
}

impl Promised {
    /// Whether jobs wait for as long as the rules have them wait.
    fn delays(&self) -> bool {
        self.promises.longest_delay >= LONG
    }
}

rules! {
    accepting if |_| true => {
        a_job_comes_out_as_it_went_in,
        a_batch_goes_in_but_for_what_is_refused,
        a_name_has_a_longest_length,
        what_is_not_promised_is_refused_by_its_name,
        failed_jobs_have_room_of_their_own,
        what_is_unknown_is_none_or_lost,
    }
    accepting if |it| it.promises.dedup.is_some() => {
        a_repeated_key_gives_the_first_id,
        a_full_engine_refuses_until_there_is_room,
        keys_are_apart_by_their_scope,
        an_id_is_put_in_once,
        one_of_many_with_a_key_is_put_in,
        a_job_that_is_not_added_takes_no_key,
    }
    accepting if Promised::delays => {
        a_delayed_job_waits,
    }
    accepting if |it| it.tasks && it.delays() && it.promises.fifo_groups => {
        the_depth_is_exact,
    }
    claiming if |_| true => {
        each_job_is_claimed_once,
        a_claim_gives_no_more_than_was_asked_for,
        a_kind_is_left_to_who_asks_for_it,
        a_backlog_is_claimed_at_once,
        a_claim_counts_the_attempt,
        a_claim_that_ends_is_given_to_another,
        a_renewed_claim_holds,
        a_job_that_kills_its_workers_is_dead_lettered_once,
    }
    claiming if |it| it.promises.due_order && it.delays() => {
        what_is_due_first_is_given_first,
    }
    claiming if |it| it.delays() && it.promises.per_target.is_some() => {
        a_full_target_does_not_hold_up_others,
    }
    ending if |_| true => {
        a_retry_is_for_the_worker_to_decide,
        a_batch_of_ends_is_settled_each_by_itself,
        a_late_holder_is_heard_until_another_claims,
        a_failed_job_is_queued_again_once,
        a_stale_holder_changes_nothing,
    }
    ending if Promised::delays => {
        a_retry_waits_its_time,
        what_is_released_has_lost_no_attempt,
        a_failed_job_is_given_until_its_entry_is_written,
        a_claim_is_settled_once,
    }
    ending if |it| it.tasks && it.promises.max_result >= 256 => {
        a_result_is_kept_to_the_byte,
        a_failed_task_is_resolved_once,
    }
    ending if |it| it.tasks && it.promises.dedup.is_some() => {
        what_is_over_leaves_after_its_time,
    }
    claiming if |it| it.promises.fifo_groups && it.delays() => {
        jobs_in_order_run_one_after_another,
        the_next_in_order_waits_for_a_retry,
        a_delayed_job_is_not_overtaken,
        orders_are_apart,
    }
    operating if |it| it.jobs => {
        a_cancelled_job_is_not_claimed,
        a_cancelled_claim_is_lost,
        what_is_over_is_not_cancelled,
        a_dropped_cancel_is_done_or_not,
        a_list_is_filtered,
        a_list_goes_on_while_jobs_change,
    }
    operating if |it| it.jobs && it.delays() => {
        a_cancelled_job_does_not_come_due,
        what_is_queued_and_running_is_listed,
    }
    operating if |it| it.jobs && it.promises.per_target.is_some() => {
        a_cancelled_claim_keeps_its_place_at_its_target,
    }
    operating if |it| it.jobs && it.promises.fifo_groups => {
        the_next_in_order_follows_a_cancelled_job,
        a_cancelled_claim_keeps_its_place_in_order,
    }
    operating if |it| it.jobs && it.promises.dedup.is_some() => {
        a_cancelled_job_keeps_its_key,
    }
    waiting if |_| true => {
        waiting_has_an_end,
        what_comes_wakes_who_waits,
        news_between_a_claim_and_a_wait_are_not_missed,
        who_can_use_nothing_sleeps,
        a_burst_is_drained,
    }
    waiting if |it| it.delays() => {
        what_time_brings_wakes_who_waits,
    }
    ending if |it| it.promises.dedup.is_some() => {
        a_dropped_enqueue_is_done_or_not,
    }
    ending if |_| true => {
        a_dropped_claim_loses_nothing,
    }
    ending if |it| it.tasks => {
        a_dropped_settle_is_done_or_not,
    }
    ending if |_| true => {
        a_dropped_renewal_is_done_or_not,
    }
    moving if |it| it.moves => {
        a_failed_job_moves_with_its_entry,
        an_entry_moves_back_once,
        an_entry_moves_back_by_its_newest_claim,
        a_dropped_move_is_done_or_not,
    }
    sharing if |it| it.processes => {
        what_one_process_adds_another_does,
        each_job_is_claimed_by_one_process,
        a_claim_holds_for_all_processes,
    }
    sharing if |it| it.processes && it.promises.dedup.is_some() => {
        a_key_is_one_for_all_processes,
    }
    sharing if |it| it.leaps => {
        a_clock_that_leaps_ends_no_claim,
    }
    sharing if |it| it.leaps && it.processes => {
        a_clock_that_leaps_ends_no_claim_of_another_process,
    }
}

/// An empty engine with the default settings.
async fn fresh<S: Subject>(subject: &S) -> Arc<dyn Engine> {
    subject.engine(Settings::default()).await
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

/// A job with everything that the engine promises to look at: a key, a FIFO group. Whatever else it has, a job keeps.
fn promised(engine: &dyn Engine, mut job: NewJob, id: &str) -> NewJob {
    let promises = engine.promises();
    job.dedup_key = promises.dedup.map(|_| key(id));
    job.fifo_group = promises.fifo_groups.then(|| "gr\u{f6}up".to_owned());
    job
}

/// The payload of a job as text.
fn said(job: &Job) -> String {
    String::from_utf8_lossy(&job.payload).into_owned()
}

/// The jobs of a claim.
#[derive(Clone, Debug, Default)]
struct Claimed {
    jobs: Vec<Job>,
    /// Those that have failed for good.
    failed_jobs: Vec<Job>,
    mark: Mark,
}

impl Claimed {
    const fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.failed_jobs.is_empty()
    }
}

fn all_said(claims: &Claimed) -> Vec<String> {
    claims.jobs.iter().map(said).collect()
}

/// Asks for everything there is, with a lease longer than any test.
const fn all() -> Ask {
    Ask::new(100, LONG)
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

const fn done() -> End {
    End::Done { result: None }
}

const fn retry(after: Duration, history: History) -> End {
    End::Retry { after, history }
}

async fn enqueue(engine: &dyn Engine, job: NewJob) -> Enqueued {
    match enqueue_raw(engine, job).await {
        Ok(enqueued) => enqueued,
        Err(error) => panic!("contract: a job was refused: {error:?}"),
    }
}

async fn enqueue_raw(engine: &dyn Engine, job: NewJob) -> Result<Enqueued, StoreError> {
    let mut results = ok(engine.enqueue(vec![job])).await;
    assert_eq!(results.len(), 1, "contract: each job has its result");
    results.remove(0)
}

async fn put(engine: &dyn Engine, job: NewJob) -> TaskId {
    let enqueued = enqueue(engine, job).await;
    assert!(
        !enqueued.repeated,
        "contract: a job whose key and id are new is no repetition"
    );
    enqueued.id
}

async fn claim(engine: &dyn Engine, ask: Ask) -> Claimed {
    let claims = ok(engine.claim(ask)).await;
    let jobs = claims.jobs.into_iter();
    let (failed_jobs, jobs) = jobs.partition(|job| job.cause.is_some());
    Claimed {
        jobs,
        failed_jobs,
        mark: claims.mark,
    }
}

/// Claims the one job that can be claimed.
async fn take(engine: &dyn Engine, ask: Ask) -> Job {
    let mut claims = claim(engine, ask).await;
    assert_eq!(
        (claims.jobs.len(), claims.failed_jobs.len()),
        (1, 0),
        "contract: one job can be claimed, and nothing else"
    );
    claims.jobs.remove(0)
}

/// Checks that nothing can be claimed. Returns what the claim has seen.
async fn take_none(engine: &dyn Engine, why: &str) -> Mark {
    let claims = claim(engine, all()).await;
    assert!(claims.is_empty(), "contract: {why}, got {claims:?}");
    claims.mark
}

async fn settle_raw(engine: &dyn Engine, id: TaskId, token: FencingToken, end: End) -> Settled {
    let mut settled = ok(engine.settle(vec![(Claim { id, token }, end)])).await;
    assert_eq!(settled.len(), 1, "contract: each claim has its result");
    settled.remove(0)
}

async fn settle(engine: &dyn Engine, job: &Job, end: End) {
    assert_eq!(
        settle_raw(engine, job.id, job.token, end).await,
        Settled::Done,
        "contract: the holder settles its claim"
    );
}

async fn task(engine: &dyn Engine, id: TaskId) -> Option<Task> {
    match engine.tasks() {
        Some(tasks) => ok(tasks.task(id)).await,
        None => None,
    }
}

async fn find(engine: &dyn Engine, key: IdempotencyKey) -> Option<Task> {
    match engine.tasks() {
        Some(tasks) => ok(tasks.find(key)).await,
        None => None,
    }
}

/// Checks the status of a task, if the engine reports it.
async fn expect_status(engine: &dyn Engine, id: TaskId, expected: Status) {
    if engine.tasks().is_some() {
        let status = task(engine, id).await.map(|task| task.status);
        assert_eq!(status, Some(expected), "contract: the status is true");
    }
}

/// Checks the number of attempts of a task, if the engine reports it.
async fn expect_attempts(engine: &dyn Engine, id: TaskId, expected: u32) {
    if engine.tasks().is_some() {
        let attempts = task(engine, id).await.map(|task| task.attempts);
        assert_eq!(attempts, Some(expected), "contract: attempts are counted");
    }
}

/// Checks the depth, if the engine reports it.
async fn expect_depth(engine: &dyn Engine, expected: [u64; 3]) {
    if let Some(depth) = depth(engine).await {
        assert_eq!(depth, expected, "contract: the depth is true");
    }
}

async fn depth(engine: &dyn Engine) -> Option<[u64; 3]> {
    let depth: Depth = ok(engine.tasks()?.depth()).await;
    Some([depth.queued, depth.running, depth.dead_lettering])
}

async fn renew(engine: &dyn Engine, claims: Vec<Claim>, lease: Duration) -> Vec<Settled> {
    ok(engine.renew(claims, lease)).await
}
