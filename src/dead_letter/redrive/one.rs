//! Re-drives one entry: claims, sends and settles it.

use super::{NotSendable, Redrive, Redriven, Resend, Shared, Stop};
use crate::{
    BoxError, IntoBoxError, StoreError, StoreErrorKind,
    attempt::{AttemptRecord, History},
    catch_panic::catch_panic,
    context,
    dead_letter::{
        Cause, DescribeResponse, Entry, EntryClaim, EntryId, LetterStore, Reason, cause,
    },
    lease::{FencingToken, Schedule, Settled},
    outcome::{Classify, MakeClassifier, Outcome, OutcomeKind},
    race::{Race, race},
};
use std::{
    future::poll_fn,
    mem,
    pin::pin,
    sync::Arc,
    task::{Poll, ready},
    time::{Duration, SystemTime},
};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep, sleep_until, timeout},
};
use tower_service::Service;

pub(super) async fn send<S, M, R>(
    this: Redrive<S, M, R>,
    id: EntryId,
    stop: Stop,
) -> Result<Redriven, StoreError>
where
    S: Service<R::Request>,
    S::Error: IntoBoxError,
    M: MakeClassifier<R::Request>,
    M::Classifier: Classify<S::Response, S::Error>,
    R: Resend + DescribeResponse<S::Response>,
{
    let (shared, lease) = (Arc::clone(&this.shared), this.shared.settings.lease);
    let since = Instant::now();
    let (token, entry) = match claimed(&shared, id).await? {
        Ok(claimed) => claimed,
        Err(why_not) => return Ok(why_not),
    };
    // Nothing is sent yet: a drop releases the entry without the replay that the claim has counted.
    let mut unsent = (*entry).clone();
    unsent.replays = unsent.replays.saturating_sub(1);
    let mut claim = Claim {
        store: Arc::clone(&shared.store),
        id,
        token,
        lease,
        schedule: Schedule::new(lease, since.into_std()),
        left: Arc::new(unsent),
        end: End::Release,
    };
    let (end, redriven) = deliver(this, &mut claim, *entry, &stop).await;
    Ok(match (redriven, claim.end(end).await) {
        (Redriven::Accepted, Err(kind)) => Redriven::NotRemoved { kind },
        (Redriven::Failed { outcome, .. }, Err(_)) => Redriven::Failed {
            outcome,
            recorded: false,
        },
        // Another has claimed the entry, so that its service refused it, or while it did.
        (Redriven::Refused { .. }, Err(None)) => shared.lost(),
        (redriven, _) => redriven,
    })
}

/// Sends a claimed entry. Returns how the claim ends: done, or again, with the entry that is left.
async fn deliver<S, M, R>(
    this: Redrive<S, M, R>,
    claim: &mut Claim,
    mut entry: Entry,
    stop: &Stop,
) -> (End, Redriven)
where
    S: Service<R::Request>,
    S::Error: IntoBoxError,
    M: MakeClassifier<R::Request>,
    M::Classifier: Classify<S::Response, S::Error>,
    R: Resend + DescribeResponse<S::Response>,
{
    let Redrive {
        service,
        make,
        resend,
        shared,
    } = this;
    let (id, token, lease) = (claim.id, claim.token, claim.lease);
    let request = catch_panic(|| resend.to_request(&entry, token));
    let request = match request.unwrap_or(Err(NotSendable::Panicked)) {
        Ok(request) => request,
        Err(why) => return (End::Release, Redriven::Unsendable(why)),
    };
    let renew = || shared.store.renew(id, token, lease);
    let turn = turn(service, &shared, &mut claim.schedule, renew);
    let service = match or_stopped(turn, stop).await {
        None => return (End::Release, Redriven::Stopped),
        Some(Turn::Now(service)) => service,
        Some(Turn::NotReady) => {
            return (End::Release, Redriven::Refused { retry_after: None });
        }
        Some(Turn::Lost) => return (End::Nothing, shared.lost()),
    };
    claim.left = Arc::new(entry.clone());
    let began = Began {
        at: shared.settings.clock.now(),
        instant: Instant::now(),
    };
    // When the claim is lost, another caller may have it, so the call is dropped.
    let sending = call(service, &make, request);
    let end = match race(sending, hold(&mut claim.schedule, renew)).await {
        Race::First(end) => end,
        Race::Second(()) => return (End::Nothing, shared.lost()),
    };
    let (outcome, cause, history) = match end {
        None => (Outcome::transient(), Cause::new(Reason::Panicked), None),
        Some((outcome, Ok(response))) => {
            let (cause, history) = cause::find(outcome, resend.history(&response), None);
            (outcome, cause, history)
        }
        Some((outcome, Err(error))) => {
            let error: BoxError = error.into();
            let (cause, history) = cause::find(outcome, None, Some(&*error));
            (outcome, cause, history)
        }
    };
    if outcome.kind() == OutcomeKind::Success {
        return (End::Remove, Redriven::Accepted);
    }
    let attempts = history.as_ref().map_or(0, History::attempts);
    if outcome.kind() == OutcomeKind::Refused && attempts == 0 {
        entry.replays = entry.replays.saturating_sub(1);
        claim.left = Arc::new(entry);
        let retry_after = outcome.retry_after();
        return (End::Release, Redriven::Refused { retry_after });
    }
    entry.cause = cause;
    let now = shared.settings.clock.now();
    add(&mut entry, history, &began, outcome, now);
    let mut redacted = entry.clone();
    shared.settings.redaction.apply(&mut redacted);
    entry.cause = redacted.cause;
    claim.left = Arc::new(entry);
    let recorded = true;
    (End::Release, Redriven::Failed { outcome, recorded })
}

/// Returns the claimed entry, or why it was not claimed.
async fn claimed(
    shared: &Shared,
    id: EntryId,
) -> Result<Result<(FencingToken, Box<Entry>), Redriven>, StoreError> {
    let (lease, max_replays) = (shared.settings.lease, shared.settings.max_replays);
    let why_not = match shared.store.claim(id, lease, max_replays).await {
        Ok(EntryClaim::Claimed { token, entry }) => return Ok(Ok((token, entry))),
        Ok(EntryClaim::InProgress { lease_left }) => Redriven::InProgress { lease_left },
        Ok(EntryClaim::Missing) => Redriven::Missing,
        Ok(EntryClaim::Spent { replays }) => Redriven::Spent { replays },
        Err(error) => match error.kind() {
            kind @ (StoreErrorKind::Corrupt
            | StoreErrorKind::NewerSchema { .. }
            | StoreErrorKind::TooLarge) => Redriven::Unreadable { kind },
            _ => return Err(error),
        },
    };
    Ok(Err(why_not))
}

/// Adds the attempts of this replay to the earlier ones.
fn add(
    entry: &mut Entry,
    history: Option<History>,
    began: &Began,
    outcome: Outcome,
    now: SystemTime,
) {
    let first = *entry.first_attempt_at.get_or_insert(began.at);
    let offset = began.at.duration_since(first).unwrap_or_default();
    entry.last_attempt_at = Some(now);
    let history = history.unwrap_or_else(|| {
        let mut history = History::new();
        let took = began.instant.elapsed();
        history.push(AttemptRecord::new(1, Duration::ZERO, took, outcome));
        history
    });
    entry.history.append(&history, offset);
}

/// What a wait for a turn has led to.
enum Turn<S> {
    Now(S),
    NotReady,
    Lost,
}

struct Began {
    at: SystemTime,
    instant: Instant,
}

/// Waits for the rate limit and for the service, and returns the service when it is ready and the claim holds.
async fn turn<S, Req, F>(
    mut service: S,
    shared: &Shared,
    schedule: &mut Schedule,
    mut renew: impl FnMut() -> F,
) -> Turn<S>
where
    S: Service<Req>,
    F: Future<Output = Result<Settled, StoreError>>,
{
    let turn = shared.pace.as_ref().map(|pace| pace.take(Instant::now()));
    let ready = async {
        if let Some(turn) = turn {
            sleep_until(turn).await;
        }
        poll_fn(|cx| caught(|| service.poll_ready(cx))).await
    };
    match race(ready, hold(schedule, &mut renew)).await {
        Race::First(Some(Ok(()))) => {}
        Race::First(_) => return Turn::NotReady,
        Race::Second(()) => return Turn::Lost,
    }
    // Nothing may have run for longer than the lease, so that another may have claimed the entry.
    while schedule.may_be_over(Instant::now().into_std()) {
        if !renewed(schedule, &mut renew).await {
            return Turn::Lost;
        }
    }
    Turn::Now(service)
}

/// Calls a service that is ready. `None` if it panics.
async fn call<S, M, Req>(
    mut service: S,
    make: &M,
    request: Req,
) -> Option<(Outcome, Result<S::Response, S::Error>)>
where
    S: Service<Req>,
    M: MakeClassifier<Req>,
    M::Classifier: Classify<S::Response, S::Error>,
{
    let (classifier, future) = catch_panic(|| {
        let classifier = make.make_classifier(&request);
        (classifier, service.call(request))
    })?;
    let mut future = pin!(future);
    let mut classifier = Some(classifier);
    poll_fn(|cx| {
        let _judging = context::judging();
        let result = ready!(caught(|| future.as_mut().poll(cx)));
        let judge = |result: Result<_, _>| {
            let classifier = classifier.take()?;
            let outcome = catch_panic(|| {
                let late = classifier.late(result.as_ref());
                let known = late.and_then(|late| late.known());
                known.unwrap_or_else(|| classifier.classify(result.as_ref()))
            });
            outcome.map(|outcome| (outcome, result))
        };
        Poll::Ready(result.and_then(judge))
    })
    .await
}

/// The result of a poll; `None` if it panics.
fn caught<T>(poll: impl FnOnce() -> Poll<T>) -> Poll<Option<T>> {
    catch_panic(poll).map_or(Poll::Ready(None), |poll| poll.map(Some))
}

/// The output of `work`; `None` if it is stopped first.
pub(super) async fn or_stopped<T>(work: impl Future<Output = T>, stop: &Stop) -> Option<T> {
    match race(stop.stopped(), work).await {
        Race::First(()) => None,
        Race::Second(done) => Some(done),
    }
}

/// Renews a claim for as long as it is polled. Ends when the claim is lost.
async fn hold<F>(schedule: &mut Schedule, mut renew: impl FnMut() -> F)
where
    F: Future<Output = Result<Settled, StoreError>>,
{
    loop {
        sleep_until(schedule.wake().into()).await;
        if !renewed(schedule, &mut renew).await {
            return;
        }
    }
}

/// Tries to renew a claim once. Returns whether it still counts as held.
async fn renewed<F>(schedule: &mut Schedule, renew: impl FnOnce() -> F) -> bool
where
    F: Future<Output = Result<Settled, StoreError>>,
{
    let now = Instant::now();
    let Some(limit) = schedule.limit(now.into_std()) else {
        return false;
    };
    match timeout(limit, renew()).await {
        Ok(Ok(Settled::Done)) => schedule.renewed(now.into_std()),
        Ok(Ok(Settled::Lost)) => return false,
        Ok(Err(_)) | Err(_) => schedule.failed(Instant::now().into_std()),
    }
    true
}

/// How long the release of an entry is tried. After that, the claim ends with its lease.
const RELEASE: Duration = Duration::from_secs(2);

/// The number of leases for which the removal of an accepted entry is tried, because the entry may be sent
/// again until it is removed.
const MOST_LEASES: u32 = 5;

/// A claimed entry. When it is dropped, a task releases it, or removes it if it was accepted. Without a
/// runtime, the claim ends with its lease.
struct Claim {
    store: Arc<dyn LetterStore>,
    id: EntryId,
    token: FencingToken,
    lease: Duration,
    schedule: Schedule,
    /// The entry as a release stores it.
    left: Arc<Entry>,
    end: End,
}

/// How a claim ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// It has ended, or has passed to another.
    Nothing,
    Release,
    Remove,
}

impl Claim {
    /// Ends the claim, which is renewed until the store answers. The error is the last one of a store that does not
    /// answer in time, or `None` if the claim has passed to another.
    async fn end(&mut self, end: End) -> Result<(), Option<StoreErrorKind>> {
        self.end = end;
        if end == End::Nothing {
            return Ok(());
        }
        let settled = self.settle(end).await;
        self.end = End::Nothing;
        settled
    }

    async fn settle(&mut self, end: End) -> Result<(), Option<StoreErrorKind>> {
        let (store, id, token, lease) = (&*self.store, self.id, self.token, self.lease);
        let limit = match end {
            End::Remove => lease.saturating_mul(MOST_LEASES),
            End::Nothing | End::Release => RELEASE,
        };
        let schedule = &mut self.schedule;
        // Though it counts as lost, nobody may have claimed it: the store says so when it is settled.
        let kept = async {
            loop {
                hold(schedule, || store.renew(id, token, lease)).await;
                *schedule = Schedule::new(lease, Instant::now().into_std());
            }
        };
        let mut kept = pin!(timeout(limit, kept));
        // A store that never answers counts as timed out.
        let (mut said, mut tried) = (StoreErrorKind::Timeout, 0);
        loop {
            let answer = async {
                if end == End::Release {
                    return store.release(token, &self.left).await;
                }
                let removed = store.remove(id, token).await?;
                // The service may have removed it, or an earlier try that failed.
                let is_gone = removed == Settled::Done || store.get(id).await?.is_none();
                Ok(if is_gone { Settled::Done } else { removed })
            };
            match race(answer, &mut kept).await {
                Race::First(Ok(Settled::Done)) => return Ok(()),
                Race::First(Ok(Settled::Lost)) => return Err(None),
                Race::First(Err(error)) => said = error.kind(),
                Race::Second(_) => return Err(Some(said)),
            }
            // 100, 200, 400 ms and so on, up to 5 s.
            tried = (tried + 1).min(7);
            let wait = Duration::from_millis(50 << tried).min(Duration::from_secs(5));
            if let Race::Second(_) = race(sleep(wait.min(lease / 12)), &mut kept).await {
                return Err(Some(said));
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let end = mem::replace(&mut self.end, End::Nothing);
        if end == End::Nothing {
            return;
        }
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let mut claim = Self {
            store: Arc::clone(&self.store),
            left: Arc::clone(&self.left),
            ..*self
        };
        runtime.spawn(async move { claim.settle(end).await });
    }
}
