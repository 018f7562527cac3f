//! Re-drives one entry: claims, sends and settles it.

use super::{NotSendable, Redrive, Redriven, Resend, Shared, Stop};
use crate::{
    BoxError, StoreError, StoreErrorKind,
    attempt::{AttemptRecord, History},
    catch_panic::catch_panic,
    context,
    dead_letter::{
        Cause, DescribeResponse, Entry, EntryClaim, EntryId, LetterStore, Reason, cause,
    },
    lease::{FencingToken, Settled},
    observe::Event,
    outcome::{Classify, MakeClassifier, Outcome, OutcomeKind},
};
use std::{
    future::poll_fn,
    mem,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Poll, ready},
    time::{Duration, SystemTime},
};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tower_service::Service;

pub(super) async fn send<S, M, R>(
    this: Redrive<S, M, R>,
    id: EntryId,
    stop: Stop,
) -> Result<Redriven, StoreError>
where
    S: Service<R::Request>,
    S::Error: Into<BoxError>,
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
    let (lease, since) = (shared.settings.lease, Instant::now());
    let store = Arc::clone(&shared.store);
    let (token, mut entry) = match claimed(&shared, id).await? {
        Ok(claimed) => claimed,
        Err(why_not) => return Ok(why_not),
    };
    let mut claim = Claim::new(Arc::clone(&store), token, &entry);
    let mut hold = Hold::new(store, id, token, since, lease);
    let request = catch_panic(|| resend.to_request(&entry)).unwrap_or(Err(NotSendable::Panicked));
    let request = match request {
        Ok(request) => request,
        Err(why) => {
            claim.release().await;
            return Ok(Redriven::Unsendable(why));
        }
    };
    let sent = {
        let mut sending = pin!(call(service, &make, request, &shared, &stop, || {
            claim.leave((*entry).clone());
        }));
        let mut kept = pin!(hold.keep());
        poll_fn(|cx| match sending.as_mut().poll(cx) {
            Poll::Ready(sent) => Poll::Ready(Some(sent)),
            // Another caller may claim it now, so the call is dropped.
            Poll::Pending => kept.as_mut().poll(cx).map(|()| None),
        })
        .await
    };
    let Some(sent) = sent else {
        claim.forget();
        shared.observers.tell(|| Event::ClaimLost {
            what: "dead_letter",
        });
        return Ok(Redriven::Lost);
    };
    let (began, end) = match sent {
        Sent::Stopped => {
            claim.release().await;
            return Ok(Redriven::Stopped);
        }
        Sent::NotReady => {
            claim.release().await;
            return Ok(Redriven::Refused { retry_after: None });
        }
        Sent::Done { began, end } => (began, end),
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
        return Ok(match claim.remove(hold).await {
            Ok(()) => Redriven::Accepted,
            Err(kind) => Redriven::NotRemoved { kind },
        });
    }
    let attempts = history.as_ref().map_or(0, History::attempts);
    if outcome.kind() == OutcomeKind::Refused && attempts == 0 {
        entry.replays = entry.replays.saturating_sub(1);
        claim.leave(*entry);
        claim.release().await;
        return Ok(Redriven::Refused {
            retry_after: outcome.retry_after(),
        });
    }
    entry.cause = cause;
    let now = shared.settings.clock.now();
    add(&mut entry, history, &began, outcome, now);
    let mut redacted = (*entry).clone();
    shared.settings.redaction.apply(&mut redacted);
    entry.cause = redacted.cause;
    claim.leave(*entry);
    let recorded = claim.release().await;
    Ok(Redriven::Failed { outcome, recorded })
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

enum Sent<Res, Err> {
    Stopped,
    NotReady,
    Done {
        began: Began,
        /// `None` if the service panicked.
        end: Option<(Outcome, Result<Res, Err>)>,
    },
}

struct Began {
    at: SystemTime,
    instant: Instant,
}

/// Waits for the rate limit and for the service, and calls. `sending` is called just before the call.
async fn call<S, M, Req>(
    mut service: S,
    make: &M,
    request: Req,
    shared: &Shared,
    stop: &Stop,
    sending: impl FnOnce(),
) -> Sent<S::Response, S::Error>
where
    S: Service<Req>,
    M: MakeClassifier<Req>,
    M::Classifier: Classify<S::Response, S::Error>,
{
    let turn = shared.pace.as_ref().map(|pace| pace.take(Instant::now()));
    let ready = {
        let ready = async {
            if let Some(turn) = turn {
                sleep_until(turn).await;
            }
            poll_fn(|cx| caught(|| service.poll_ready(cx))).await
        };
        or_stopped(ready, stop).await
    };
    match ready {
        None => return Sent::Stopped,
        Some(Some(Ok(()))) => {}
        Some(_) => return Sent::NotReady,
    }
    sending();
    let began = Began {
        at: shared.settings.clock.now(),
        instant: Instant::now(),
    };
    let Some((classifier, future)) = catch_panic(|| {
        let classifier = make.make_classifier(&request);
        (classifier, service.call(request))
    }) else {
        return Sent::Done { began, end: None };
    };
    let mut future = pin!(future);
    let mut classifier = Some(classifier);
    let end = poll_fn(|cx| {
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
    .await;
    Sent::Done { began, end }
}

/// The result of a poll; `None` if it panics.
fn caught<T>(poll: impl FnOnce() -> Poll<T>) -> Poll<Option<T>> {
    catch_panic(poll).map_or(Poll::Ready(None), |poll| poll.map(Some))
}

/// The output of `work`; `None` if it is stopped first.
pub(super) async fn or_stopped<T>(work: impl Future<Output = T>, stop: &Stop) -> Option<T> {
    let mut stopped = pin!(stop.stopped());
    let mut work = pin!(work);
    poll_fn(|cx| {
        if stopped.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        work.as_mut().poll(cx).map(Some)
    })
    .await
}

/// How many times the release of an entry is tried, within 1.5 s.
const TRIES: u32 = 5;

/// The number of leases for which the removal of an accepted entry is tried, if the store renews the
/// claim but does not remove the entry.
const MOST_LEASES: u32 = 5;

/// The longest wait between two tries.
const MOST_WAIT: Duration = Duration::from_secs(5);

/// A claimed entry. When it is dropped, a task releases it, or removes it if it was accepted. Without a
/// runtime, the claim ends with its lease.
struct Claim {
    store: Arc<dyn LetterStore>,
    token: FencingToken,
    /// The entry as the release stores it.
    entry: Arc<Entry>,
    end: End,
}

enum End {
    Leave,
    /// The entry is removed, and the claim is renewed meanwhile.
    Remove(Hold),
    Settled,
}

impl Claim {
    /// Takes a claimed entry, whose replay is counted already. As nothing is sent yet, a drop releases it
    /// unchanged.
    fn new(store: Arc<dyn LetterStore>, token: FencingToken, entry: &Entry) -> Self {
        let mut unsent = entry.clone();
        unsent.replays = unsent.replays.saturating_sub(1);
        Self {
            store,
            token,
            entry: Arc::new(unsent),
            end: End::Leave,
        }
    }

    /// Sets the entry that a release stores from now on.
    fn leave(&mut self, entry: Entry) {
        self.entry = Arc::new(entry);
    }

    /// Releases the claim. Returns whether the store took the updated entry.
    async fn release(mut self) -> bool {
        for tried in 1..=TRIES {
            let released = self.store.release(self.token, &self.entry).await;
            match released {
                Ok(settled) => {
                    self.end = End::Settled;
                    return settled == Settled::Done;
                }
                Err(_) if tried < TRIES => sleep(wait(tried)).await,
                Err(_) => {}
            }
        }
        // The claim ends with its lease.
        self.end = End::Settled;
        false
    }

    /// Removes the accepted entry. Tries for as long as the claim can be renewed, because the entry may be
    /// sent again until it is removed.
    async fn remove(mut self, hold: Hold) -> Result<(), Option<StoreErrorKind>> {
        // Stored, so that a drop continues the removal with this lease.
        self.end = End::Remove(hold);
        let removed = match &mut self.end {
            End::Remove(hold) => hold.remove().await,
            End::Leave | End::Settled => return Err(None),
        };
        self.end = End::Settled;
        removed
    }

    /// The claim was lost: leaves the entry to its new holder.
    fn forget(mut self) {
        self.end = End::Settled;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        match mem::replace(&mut self.end, End::Settled) {
            End::Settled => {}
            End::Leave => {
                runtime.spawn(self.store.release(self.token, &self.entry));
            }
            End::Remove(mut hold) => {
                runtime.spawn(async move { hold.remove().await });
            }
        }
    }
}

/// The lease of a claim, and its renewal.
struct Hold {
    store: Arc<dyn LetterStore>,
    id: EntryId,
    token: FencingToken,
    lease: Duration,
    until: Instant,
    /// When it is renewed.
    next: Instant,
}

impl Hold {
    /// The lease of a claim that began at `since` or later.
    fn new(
        store: Arc<dyn LetterStore>,
        id: EntryId,
        token: FencingToken,
        since: Instant,
        lease: Duration,
    ) -> Self {
        Self {
            store,
            id,
            token,
            lease,
            until: since + lease,
            next: since + lease / 3,
        }
    }

    /// Renews the claim for as long as it is polled; it may be dropped and called again. Ends when the claim
    /// is lost, or could not be renewed in time.
    async fn keep(&mut self) {
        let lease = self.lease;
        loop {
            sleep_until(self.next.min(self.until)).await;
            let asked = Instant::now();
            let renewed = self.store.renew(self.id, self.token, lease);
            match timeout_at(self.until, renewed).await {
                Ok(Ok(Settled::Done)) => {
                    self.until = asked + lease;
                    self.next = asked + lease / 3;
                }
                Ok(Ok(Settled::Lost)) | Err(_) => return,
                Ok(Err(_)) if Instant::now() >= self.until => return,
                Ok(Err(_)) => self.next = asked + shortest(lease),
            }
        }
    }

    async fn remove(&mut self) -> Result<(), Option<StoreErrorKind>> {
        // The last error of the store. A store that never answers counts as timed out.
        let said = Mutex::new(StoreErrorKind::Timeout);
        let (store, id, token, lease) = (Arc::clone(&self.store), self.id, self.token, self.lease);
        let end = Instant::now() + lease.saturating_mul(MOST_LEASES);
        let mut removal = pin!(removed(&*store, id, token, lease, &said));
        let mut kept = pin!(timeout_at(end, self.keep()));
        let removed = poll_fn(|cx| match removal.as_mut().poll(cx) {
            Poll::Ready(removed) => Poll::Ready(Some(removed)),
            Poll::Pending => kept.as_mut().poll(cx).map(|_| None),
        });
        match removed.await {
            Some(true) => Ok(()),
            Some(false) => Err(None),
            None => Err(Some(*said.lock().unwrap_or_else(PoisonError::into_inner))),
        }
    }
}

/// Whether the entry was removed; `false` if the claim had ended.
async fn removed(
    store: &dyn LetterStore,
    id: EntryId,
    token: FencingToken,
    lease: Duration,
    said: &Mutex<StoreErrorKind>,
) -> bool {
    let mut tried = 0;
    loop {
        let error = match store.remove(id, token).await {
            Ok(Settled::Done) => return true,
            // The service may have removed it, or an earlier try that failed.
            Ok(Settled::Lost) => match store.get(id).await {
                Ok(entry) => return entry.is_none(),
                Err(error) => error,
            },
            Err(error) => error,
        };
        *said.lock().unwrap_or_else(PoisonError::into_inner) = error.kind();
        tried += 1;
        sleep(wait(tried).min(shortest(lease))).await;
    }
}

/// 100, 200, 400, 800 ms and so on.
fn wait(tried: u32) -> Duration {
    let factor = 1_u32.checked_shl(tried).unwrap_or(u32::MAX);
    let wait = Duration::from_millis(50).saturating_mul(factor);
    wait.min(MOST_WAIT)
}

/// A wait that leaves room for several tries in one lease.
fn shortest(lease: Duration) -> Duration {
    (lease / 12).max(Duration::from_millis(1))
}
