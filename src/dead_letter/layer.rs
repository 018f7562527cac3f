//! The layer, its service and its response future.

use super::{
    CallError, DeadLettered, DeadLetters, Describe, DescribeResponse, Direction, Entry, EntryId,
    HttpRequests, NotWritten, Reason, Redaction, WriteOutcome,
    describe::{Case, Thrown, caught},
};
use crate::{
    BoxFuture, StoreErrorKind,
    clock::WallClock,
    outcome::{Classify, HttpClassifier, MakeClassifier, Outcome},
    peer::{ByHost, PeerKey},
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
use tower_layer::Layer;
use tower_service::Service;

/// Writes an entry for each call that fails, and returns the call's result.
///
/// See the [module docs](super). Type parameters: `M` classifies results, `K` names the peer of a
/// request, and `D` fills in its entry.
#[derive(Clone, Debug)]
#[must_use]
pub struct DeadLetterLayer<M = HttpClassifier, K = ByHost, D = HttpRequests> {
    make: M,
    pub(super) settings: Settings,
    peer: K,
    describe: D,
}

/// The settings that do not depend on a type parameter.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) dead_letters: DeadLetters,
    pub(super) redaction: Redaction,
    pub(super) direction: Direction,
    pub(super) clock: WallClock,
    pub(super) body_limit: usize,
    pub(super) share_copy: bool,
}

/// What the calls of a service share.
#[derive(Debug)]
pub(super) struct Shared<K, D> {
    pub(super) settings: Settings,
    pub(super) peer: K,
    pub(super) describe: D,
}

impl DeadLetterLayer {
    /// Makes a layer for HTTP requests with a body in memory, classified as HTTP. The peer is the host.
    pub const fn new(dead_letters: DeadLetters) -> Self {
        Self {
            make: HttpClassifier::new(),
            settings: Settings {
                dead_letters,
                redaction: Redaction::new(),
                direction: Direction::Outbound,
                clock: WallClock::system(),
                body_limit: 256 << 10,
                share_copy: false,
            },
            peer: ByHost,
            describe: HttpRequests,
        }
    }
}

impl<M, K, D> DeadLetterLayer<M, K, D> {
    /// Sets the classifier of results. Default: [`HttpClassifier`]. Use the same one for every layer of a
    /// stack.
    pub fn classifier<M2>(self, classifier: M2) -> DeadLetterLayer<M2, K, D> {
        DeadLetterLayer {
            make: classifier,
            settings: self.settings,
            peer: self.peer,
            describe: self.describe,
        }
    }

    /// Sets the key that names the peer of a request, which is the target of its entry. Default:
    /// [`ByHost`].
    pub fn peer<K2>(self, peer: K2) -> DeadLetterLayer<M, K2, D> {
        DeadLetterLayer {
            make: self.make,
            settings: self.settings,
            peer,
            describe: self.describe,
        }
    }

    /// Sets the type that fills in the entry of a request. Default: [`HttpRequests`]. Use
    /// [`describe_fn`](super::describe_fn) for requests that are not HTTP.
    pub fn describe<D2>(self, describe: D2) -> DeadLetterLayer<M, K, D2> {
        DeadLetterLayer {
            make: self.make,
            settings: self.settings,
            peer: self.peer,
            describe,
        }
    }

    /// Sets the redaction of entries. Default: [`Redaction::new`], which removes credentials by their names.
    pub fn redaction(mut self, redaction: Redaction) -> Self {
        self.settings.redaction = redaction;
        self
    }

    /// Sets the direction of the requests. Default: [`Direction::Outbound`].
    pub const fn direction(mut self, direction: Direction) -> Self {
        self.settings.direction = direction;
        self
    }

    /// Sets the clock of the times in entries. Default: the system clock.
    pub fn clock(mut self, clock: WallClock) -> Self {
        self.settings.clock = clock;
        self
    }

    /// Sets the largest body of an entry, in bytes. Default: 256 KiB. A longer body is cut, and its entry
    /// cannot be sent again.
    pub const fn body_limit(mut self, bytes: usize) -> Self {
        self.settings.body_limit = bytes;
        self
    }

    /// Sets whether an inner retry layer uses this layer's copy of the request instead of making its own.
    /// Default: `false`; `stack` sets it to `true`.
    ///
    /// **Set it to `true` only if no layer between the two changes requests, or makes its own calls with
    /// requests of the same type**: such a change would be missing from the second attempt on.
    pub const fn share_copy(mut self, yes: bool) -> Self {
        self.settings.share_copy = yes;
        self
    }

    /// The writer of the entries.
    pub const fn dead_letters(&self) -> &DeadLetters {
        &self.settings.dead_letters
    }

    #[cfg(feature = "stack")]
    pub(crate) fn map_dead_letters(mut self, map: impl FnOnce(DeadLetters) -> DeadLetters) -> Self {
        self.settings.dead_letters = map(self.settings.dead_letters);
        self
    }
}

impl<S, M: Clone, K: Clone, D: Clone> Layer<S> for DeadLetterLayer<M, K, D> {
    type Service = DeadLetter<S, M, K, D>;

    fn layer(&self, inner: S) -> Self::Service {
        DeadLetter {
            inner,
            make: self.make.clone(),
            shared: Arc::new(Shared {
                settings: self.settings.clone(),
                peer: self.peer.clone(),
                describe: self.describe.clone(),
            }),
        }
    }
}

/// Middleware of [`DeadLetterLayer`]. See the [module docs](super).
pub struct DeadLetter<S, M, K, D> {
    pub(super) inner: S,
    pub(super) make: M,
    pub(super) shared: Arc<Shared<K, D>>,
}

impl<S, M, K, D, Req> Service<Req> for DeadLetter<S, M, K, D>
where
    S: Service<Req>,
    S::Error: CallError,
    M: MakeClassifier<Req>,
    M::Classifier: Classify<S::Response, S::Error>,
    K: PeerKey<Req> + Send + Sync + 'static,
    D: Describe<Req, Kept: Send + 'static> + DescribeResponse<S::Response> + Send + Sync + 'static,
    Req: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, M::Classifier, K, D, Req>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Req) -> Self::Future {
        let classifier = self.make.make_classifier(&req);
        let (case, kept, thrown) = Case::open(&self.shared, &req);
        if let Some(thrown) = thrown {
            return ResponseFuture::panicked(&case, false, thrown);
        }
        let called = caught(|| match kept.filter(|_| self.shared.settings.share_copy) {
            Some(kept) => kept.offer(|| self.inner.call(req)),
            None => self.inner.call(req),
        });
        match called {
            Ok(future) => ResponseFuture::new(future, classifier, case),
            Err(thrown) => ResponseFuture::panicked(&case, true, thrown),
        }
    }
}

impl<S: Clone, M: Clone, K, D> Clone for DeadLetter<S, M, K, D> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            make: self.make.clone(),
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<S: fmt::Debug, M, K, D> fmt::Debug for DeadLetter<S, M, K, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetter")
            .field("inner", &self.inner)
            .field("settings", &self.shared.settings)
            .finish_non_exhaustive()
    }
}

/// Response future of [`DeadLetter`].
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
    /// The call has failed, and its entry is being written.
    DeadLettering {
        write: Write,
        /// `None` once the entry is written.
        failed: Option<Ended<F::Output, K, D, Req>>,
    },
}

enum Ended<T, K, D: Describe<Req>, Req> {
    Failed(Failure<T, K, D, Req>),
    /// The call panicked. Holds the payload of the panic; the lock, never taken, makes this `Sync`.
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
    /// By a task, which continues if the caller drops the call.
    Spawned(JoinHandle<Written>),
    /// By this future: there is no runtime for tasks.
    Here(BoxFuture<Written>),
}

impl Write {
    fn begin(dead_letters: &DeadLetters, entry: Entry) -> Self {
        let writing = write(dead_letters.clone(), entry);
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

async fn write(dead_letters: DeadLetters, entry: Entry) -> Written {
    dead_letters.write(Arc::new(entry)).await
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
    /// The future of a call that panicked before it returned a future. It resumes the panic.
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
            write: Write::begin(&case.shared.settings.dead_letters, case.panicked(called)),
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
    D: Describe<Req, Kept: Send + 'static> + DescribeResponse<Res> + Send + Sync + 'static,
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
                    let write = Write::begin(&case.shared.settings.dead_letters, entry);
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
                    // Invariant: taken only here, at the end.
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

/// Writes the entry of a streamed response that failed at its end, in the background.
fn dead_letter_late<K, D, Req>(case: &Case<K, D, Req>, outcome: Outcome, runtime: Option<Handle>)
where
    K: PeerKey<Req>,
    D: Describe<Req>,
    Req: 'static,
{
    if !outcome.is_failure() {
        return;
    }
    // The panic of the peer key ends here: no caller is left to receive it.
    let (entry, _) = case.entry(outcome, None, None);
    let dead_letters = &case.shared.settings.dead_letters;
    if let Some(runtime) = runtime {
        runtime.spawn(write(dead_letters.clone(), entry));
    } else {
        // Without a runtime it cannot be written.
        let (peer, reason) = (&entry.target, entry.cause.reason);
        dead_letters.lost(entry.id, peer, reason, StoreErrorKind::Unavailable, None);
    }
}

impl<F: Future, C, K, D: Describe<Req>, Req> fmt::Debug for ResponseFuture<F, C, K, D, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
