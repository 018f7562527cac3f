//! One entry: claim, send, settle.

use super::{
    NotSendable, ReadHistory, Redrive, Redriven, Resend, Stop,
    call::{Began, Sent, call},
    claim::{Claim, Hold},
    driver::Shared,
};
use crate::{
    BoxError, StoreError, StoreErrorKind,
    attempt::{AttemptRecord, History},
    catch_panic::catch_panic,
    dead_letter::{Cause, Entry, EntryClaim, EntryId, Reason, cause},
    lease::FencingToken,
    outcome::{Classify, MakeClassifier, Outcome, OutcomeKind},
};
use std::{
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, SystemTime},
};
use tokio::time::Instant;
use tower_service::Service;

pub(super) async fn one<S, M, R>(
    this: Redrive<S, M, R>,
    id: EntryId,
    stop: Stop,
) -> Result<Redriven, StoreError>
where
    S: Service<R::Request>,
    S::Error: Into<BoxError>,
    M: MakeClassifier<R::Request>,
    M::Classifier: Classify<S::Response, S::Error>,
    R: Resend + ReadHistory<S::Response>,
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
            // Another may have it now: what is sent from here on is sent twice.
            Poll::Pending => kept.as_mut().poll(cx).map(|()| None),
        })
        .await
    };
    let Some(sent) = sent else {
        claim.forget();
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

/// The entry, where it is ours now; otherwise why not.
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

/// Adds the attempts of this replay to those before it.
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
