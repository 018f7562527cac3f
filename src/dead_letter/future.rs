use super::{
    CallError, DeadLettered, DeadLetters, Describe, DescribeAnswer, Entry, EntryId, NotWritten,
    Reason, WriteOutcome,
    case::{Case, Thrown, caught},
};
use crate::{
    BoxFuture, StoreErrorKind,
    outcome::{Classify, Outcome},
    peer::PeerKey,
};
use pin_project::pin_project;
use std::{
    fmt,
    future::Future,
    panic::resume_unwind,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};
use tokio::{runtime::Handle, task::JoinHandle};

/// Response future of [`DeadLetter`](super::DeadLetter).
#[must_use = "futures do nothing unless polled"]
#[pin_project]
pub struct ResponseFuture<F: Future, C, K, D: Describe<Req>, Req> {
    #[pin]
    state: State<F, C, K, D, Req>,
}

#[pin_project(project = StateProj)]
enum State<F: Future, C, K, D: Describe<Req>, Req> {
    Called {
        #[pin]
        future: F,
        /// `None` once there is a result.
        open: Option<(C, Case<K, D, Req>)>,
    },
    /// It has failed, and its entry is on its way.
    DeadLettering {
        write: Write,
        /// `None` once it is there.
        failed: Option<Ended<F::Output, K, D, Req>>,
    },
}

enum Ended<T, K, D: Describe<Req>, Req> {
    Failed(Failure<T, K, D, Req>),
    /// And what it threw. Nobody locks it: it is what makes this `Sync`.
    Panicked(Mutex<Thrown>),
}

struct Failure<T, K, D: Describe<Req>, Req> {
    result: T,
    case: Case<K, D, Req>,
    id: EntryId,
    reason: Reason,
}

type Written = Result<WriteOutcome, NotWritten>;

/// An entry that is being written.
enum Write {
    /// By a task of its own, which goes on when the caller goes away.
    Spawned(JoinHandle<Written>),
    /// Here: there is no runtime that could have tasks.
    Here(BoxFuture<Written>),
}

impl Write {
    fn begin(entries: &DeadLetters, entry: Entry) -> Self {
        let writing = write(entries.clone(), entry);
        match Handle::try_current() {
            Ok(runtime) => Self::Spawned(runtime.spawn(writing)),
            Err(_) => Self::Here(Box::pin(writing)),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Written> {
        match self {
            Self::Here(writing) => writing.as_mut().poll(cx),
            Self::Spawned(task) => {
                let written = ready!(Pin::new(task).poll(cx));
                Poll::Ready(written.unwrap_or_else(|error| Err(NotWritten::broken_off(error))))
            }
        }
    }
}

async fn write(entries: DeadLetters, entry: Entry) -> Written {
    entries.write(Arc::new(entry)).await
}

impl<F: Future, C, K, D: Describe<Req>, Req> ResponseFuture<F, C, K, D, Req> {
    pub(super) const fn new(future: F, classifier: C, case: Case<K, D, Req>) -> Self {
        Self {
            state: State::Called {
                future,
                open: Some((classifier, case)),
            },
        }
    }
}

impl<F, K, D, C, Req> ResponseFuture<F, C, K, D, Req>
where
    F: Future,
    K: PeerKey<Req>,
    D: Describe<Req>,
    Req: 'static,
{
    /// Of a call that has panicked before there was a future. The panic goes on in this one.
    pub(super) fn panicked(case: &Case<K, D, Req>, called: bool, thrown: Thrown) -> Self {
        Self {
            state: State::panicked(case, called, thrown),
        }
    }
}

impl<F, K, D, C, Req> State<F, C, K, D, Req>
where
    F: Future,
    K: PeerKey<Req>,
    D: Describe<Req>,
    Req: 'static,
{
    fn panicked(case: &Case<K, D, Req>, called: bool, thrown: Thrown) -> Self {
        Self::DeadLettering {
            write: Write::begin(&case.shared.settings.entries, case.panicked(called)),
            failed: Some(Ended::Panicked(Mutex::new(thrown))),
        }
    }
}

impl<F, C, K, D, Req, Res, Err> Future for ResponseFuture<F, C, K, D, Req>
where
    F: Future<Output = Result<Res, Err>>,
    C: Classify<Res, Err>,
    Err: CallError,
    K: PeerKey<Req> + Send + Sync + 'static,
    D: Describe<Req, Kept: Send + 'static> + DescribeAnswer<Res> + Send + Sync + 'static,
    Req: 'static,
{
    type Output = Result<Res, Err>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                StateProj::Called { future, open } => {
                    let polled = caught(|| future.poll(cx));
                    let result = match polled {
                        Ok(polled) => ready!(polled),
                        Err(thrown) => {
                            let Some((_, case)) = open.take() else {
                                resume_unwind(thrown);
                            };
                            state.set(State::panicked(&case, true, thrown));
                            continue;
                        }
                    };
                    let Some((classifier, case)) = open.take() else {
                        return Poll::Ready(result);
                    };
                    if let Some(late) = classifier.late(result.as_ref()) {
                        let runtime = Handle::try_current().ok();
                        late.then(move |outcome| dead_letter_late(&case, outcome, runtime));
                        return Poll::Ready(result);
                    }
                    let outcome = classifier.classify(result.as_ref());
                    if !outcome.is_failure() {
                        return Poll::Ready(result);
                    }
                    let (entry, thrown) = match &result {
                        Ok(res) => {
                            let noted = case.shared.describe.history(res);
                            case.entry(outcome, noted, None)
                        }
                        Err(error) => case.entry(outcome, None, Some(error.as_error())),
                    };
                    let (id, reason) = (entry.id, entry.cause.reason);
                    let write = Write::begin(&case.shared.settings.entries, entry);
                    let failed = match thrown {
                        Some(thrown) => Ended::Panicked(Mutex::new(thrown)),
                        None => Ended::Failed(Failure {
                            result,
                            case,
                            id,
                            reason,
                        }),
                    };
                    state.set(State::DeadLettering {
                        write,
                        failed: Some(failed),
                    });
                }
                StateProj::DeadLettering { write, failed } => {
                    let written = ready!(write.poll(cx));
                    // Invariant: taken here alone, at the end.
                    #[expect(clippy::expect_used, reason = "a future is not polled after its end")]
                    let failed = match failed.take().expect("polled after completion") {
                        Ended::Failed(failed) => failed,
                        Ended::Panicked(thrown) => {
                            let thrown = thrown.into_inner();
                            resume_unwind(thrown.unwrap_or_else(PoisonError::into_inner))
                        }
                    };
                    let dead_lettered = DeadLettered::new(failed.id, failed.reason, written);
                    return Poll::Ready(match failed.result {
                        Ok(mut res) => {
                            failed
                                .case
                                .shared
                                .describe
                                .annotate(&mut res, dead_lettered);
                            Ok(res)
                        }
                        Err(error) => Err(error.with_loss(&dead_lettered)),
                    });
                }
            }
        }
    }
}

/// An answer that had begun has ended, and badly: nobody waits for its entry.
fn dead_letter_late<K, D, Req>(case: &Case<K, D, Req>, outcome: Outcome, runtime: Option<Handle>)
where
    K: PeerKey<Req>,
    D: Describe<Req>,
    Req: 'static,
{
    if !outcome.is_failure() {
        return;
    }
    // A panic of its key ends here: there is nobody whom it could reach.
    let (entry, _) = case.entry(outcome, None, None);
    match runtime {
        Some(runtime) => drop(runtime.spawn(write(case.shared.settings.entries.clone(), entry))),
        // There is no runtime to write it on.
        None => {
            let entries = &case.shared.settings.entries;
            let (peer, reason) = (&entry.target, entry.cause.reason);
            entries.lost(entry.id, peer, reason, StoreErrorKind::Unavailable, None);
        }
    }
}

impl<F: Future, C, K, D: Describe<Req>, Req> fmt::Debug for ResponseFuture<F, C, K, D, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
