//! One letter: claim, send, settle.

use super::{
    NotSendable, ReadHistory, Redrive, Redriven, Resend, Stop,
    claim::{Claim, keep},
    driver::Shared,
};
use crate::{
    BoxError,
    attempt::{AttemptRecord, Failed, History},
    dead_letter::{Cause, Letter, LetterClaim, LetterId, Reason, SinkError, SinkErrorKind},
    outcome::{Classify, MakeClassifier, Outcome, OutcomeKind},
    shield::shielded,
};
use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::SystemTime,
};
use tokio::time::{Instant, sleep_until};
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
    let claimed = store.claim(id, lease, shared.settings.max_replays).await;
    let (token, mut letter) = match claimed {
        Ok(LetterClaim::Claimed { token, letter }) => (token, letter),
        Ok(LetterClaim::InProgress { lease_left }) => {
            return Ok(Redriven::InProgress { lease_left });
        }
        Ok(LetterClaim::Missing) => return Ok(Redriven::Missing),
        Ok(LetterClaim::Spent { replays }) => return Ok(Redriven::Spent { replays }),
        Err(error) => {
            let kind = error.kind();
            return match kind {
                SinkErrorKind::Corrupt
                | SinkErrorKind::NewerSchema { .. }
                | SinkErrorKind::TooLarge => Ok(Redriven::Unreadable { kind }),
                _ => Err(error),
            };
        }
    };
    let mut claim = Claim::new(Arc::clone(&store), token, &letter);
    let request = shielded(|| resend.to_request(&letter)).unwrap_or(Err(NotSendable::Panicked));
    let request = match request {
        Ok(request) => request,
        Err(why) => {
            claim.release().await;
            return Ok(Redriven::Unsendable(why));
        }
    };
    let sent = {
        let mut sending = pin!(send(service, &make, request, &shared, &stop, || {
            claim.leave((*letter).clone());
        }));
        let mut kept = pin!(keep(store, id, token, since, lease));
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
    let (outcome, reason, message, history) = match end {
        None => (Outcome::transient(), Some(Reason::Panicked), None, None),
        Some((outcome, Ok(response))) => {
            let history = resend.history(&response).cloned();
            (outcome, None, None, history)
        }
        Some((outcome, Err(error))) => {
            let error: BoxError = error.into();
            let history = failed(&error).map(|failed| failed.history().clone());
            (outcome, None, Some(in_words(&error)), history)
        }
    };
    if outcome.kind() == OutcomeKind::Success {
        return Ok(match claim.remove().await {
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
    let gave_up = history.as_ref().and_then(History::gave_up);
    let reason = reason.unwrap_or_else(|| Reason::of(outcome, gave_up));
    let mut cause = Cause::new(reason)
        .with_code(outcome.code())
        .with_class(outcome.kind().as_str());
    if let Some(message) = message {
        cause = cause.with_message(&message);
    }
    letter.cause = cause;
    add(
        &mut letter,
        history,
        &began,
        outcome,
        shared.settings.clock.now(),
    );
    claim.leave(*letter);
    let recorded = claim.release().await;
    Ok(Redriven::Failed { outcome, recorded })
}

enum Sent<Res, Err> {
    Stopped,
    NotReady,
    Done {
        began: Began,
        /// `None` where the service panicked.
        end: Option<(Outcome, Result<Res, Err>)>,
    },
}

struct Began {
    at: SystemTime,
    instant: Instant,
}

/// Waits for its turn, and calls. `sending` hears when the peer may see it from now on.
async fn send<S, M, Req>(
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
    let Some((classifier, future)) = shielded(|| {
        let classifier = make.make_classifier(&request);
        (classifier, service.call(request))
    }) else {
        return Sent::Done { began, end: None };
    };
    let mut future = pin!(future);
    let result = poll_fn(|cx| caught(|| future.as_mut().poll(cx))).await;
    let end = result.and_then(|result| {
        let outcome = shielded(|| {
            let late = classifier.late(result.as_ref());
            let known = late.and_then(|late| late.known());
            known.unwrap_or_else(|| classifier.classify(result.as_ref()))
        });
        outcome.map(|outcome| (outcome, result))
    });
    Sent::Done { began, end }
}

/// What a poll gives; `None` where it panics.
fn caught<T>(poll: impl FnOnce() -> Poll<T>) -> Poll<Option<T>> {
    shielded(poll).map_or(Poll::Ready(None), |poll| poll.map(Some))
}

/// What `work` comes to; `None` where it is stopped before.
pub(super) async fn or_stopped<T>(work: impl Future<Output = T>, stop: &Stop) -> Option<T> {
    let mut stopped = pin!(stop.stopped());
    let mut work = pin!(work);
    let both = |cx: &mut Context<'_>, stopped: Pin<&mut _>| {
        let stopped: Pin<&mut dyn Future<Output = ()>> = stopped;
        if stopped.poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        work.as_mut().poll(cx).map(Some)
    };
    let mut both = both;
    poll_fn(|cx| both(cx, stopped.as_mut())).await
}

fn failed(error: &BoxError) -> Option<&Failed> {
    let mut link: Option<&(dyn std::error::Error + 'static)> = Some(&**error);
    for _ in 0..16 {
        if let Some(failed) = link?.downcast_ref() {
            return Some(failed);
        }
        link = link?.source();
    }
    None
}

/// An error and what is below it, without what says the same twice.
fn in_words(error: &BoxError) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    for _ in 0..16 {
        let Some(error) = source else { break };
        let more = error.to_string();
        if !words.ends_with(&more) {
            words.push_str(": ");
            words.push_str(&more);
        }
        source = error.source();
    }
    words
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
        history.push(AttemptRecord::new(1, Default::default(), took, outcome));
        history
    });
    letter.history.append(&history, offset);
}
