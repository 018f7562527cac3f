//! One letter: claim, send, settle.

use super::{
    NotSendable, ReadHistory, Redrive, Redriven, Resend, Stop,
    call::{Began, Sent, call},
    claim::{Claim, Hold},
    driver::Shared,
};
use crate::{
    BoxError,
    attempt::{AttemptRecord, History},
    dead_letter::{Cause, Letter, LetterClaim, LetterId, Reason, SinkError, SinkErrorKind, cause},
    fence::Token,
    outcome::{Classify, MakeClassifier, Outcome, OutcomeKind},
    shield::shielded,
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
    id: LetterId,
    stop: Stop,
) -> Result<Redriven, SinkError>
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
    let (token, mut letter) = match claimed(&shared, id).await? {
        Ok(claimed) => claimed,
        Err(why_not) => return Ok(why_not),
    };
    let mut claim = Claim::new(Arc::clone(&store), token, &letter);
    let mut hold = Hold::new(store, id, token, since, lease);
    let request = shielded(|| resend.to_request(&letter)).unwrap_or(Err(NotSendable::Panicked));
    let request = match request {
        Ok(request) => request,
        Err(why) => {
            claim.release().await;
            return Ok(Redriven::Unsendable(why));
        }
    };
    let sent = {
        let mut sending = pin!(call(service, &make, request, &shared, &stop, || {
            claim.leave((*letter).clone());
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
        letter.replays = letter.replays.saturating_sub(1);
        claim.leave(*letter);
        claim.release().await;
        return Ok(Redriven::Refused {
            retry_after: outcome.retry_after(),
        });
    }
    letter.cause = cause;
    let now = shared.settings.clock.now();
    add(&mut letter, history, &began, outcome, now);
    let mut redacted = (*letter).clone();
    shared.settings.redaction.apply(&mut redacted);
    letter.cause = redacted.cause;
    claim.leave(*letter);
    let recorded = claim.release().await;
    Ok(Redriven::Failed { outcome, recorded })
}

/// The letter, where it is ours now; otherwise why not.
async fn claimed(
    shared: &Shared,
    id: LetterId,
) -> Result<Result<(Token, Box<Letter>), Redriven>, SinkError> {
    let (lease, max_replays) = (shared.settings.lease, shared.settings.max_replays);
    let why_not = match shared.store.claim(id, lease, max_replays).await {
        Ok(LetterClaim::Claimed { token, letter }) => return Ok(Ok((token, letter))),
        Ok(LetterClaim::InProgress { lease_left }) => Redriven::InProgress { lease_left },
        Ok(LetterClaim::Missing) => Redriven::Missing,
        Ok(LetterClaim::Spent { replays }) => Redriven::Spent { replays },
        Err(error) => match error.kind() {
            kind @ (SinkErrorKind::Corrupt
            | SinkErrorKind::NewerSchema { .. }
            | SinkErrorKind::TooLarge) => Redriven::Unreadable { kind },
            _ => return Err(error),
        },
    };
    Ok(Err(why_not))
}

/// Adds the attempts of this replay to those before it.
fn add(
    letter: &mut Letter,
    history: Option<History>,
    began: &Began,
    outcome: Outcome,
    now: SystemTime,
) {
    let first = *letter.first_attempt_at.get_or_insert(began.at);
    let offset = began.at.duration_since(first).unwrap_or_default();
    letter.last_attempt_at = Some(now);
    let history = history.unwrap_or_else(|| {
        let mut history = History::new();
        let took = began.instant.elapsed();
        history.push(AttemptRecord::new(1, Duration::ZERO, took, outcome));
        history
    });
    letter.history.append(&history, offset);
}
