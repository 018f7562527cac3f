//! The call, when its turn comes.

use super::{Stop, driver::Shared};
use crate::{
    catch_panic::catch_panic,
    outcome::{Classify, MakeClassifier, Outcome},
};
use std::{future::poll_fn, pin::pin, task::Poll, time::SystemTime};
use tokio::time::{Instant, sleep_until};
use tower_service::Service;

pub(super) enum Sent<Res, Err> {
    Stopped,
    NotReady,
    Done {
        began: Began,
        /// `None` where the service panicked.
        end: Option<(Outcome, Result<Res, Err>)>,
    },
}

pub(super) struct Began {
    pub(super) at: SystemTime,
    pub(super) instant: Instant,
}

/// Waits for its turn, and calls. `sending` hears when the peer may see it from now on.
pub(super) async fn call<S, M, Req>(
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
    let result = poll_fn(|cx| caught(|| future.as_mut().poll(cx))).await;
    let end = result.and_then(|result| {
        let outcome = catch_panic(|| {
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
    catch_panic(poll).map_or(Poll::Ready(None), |poll| poll.map(Some))
}

/// What `work` comes to; `None` where it is stopped before.
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
