//! The layer, its service and its response future.

use super::{
    CallError, DeadLettered, DeadLetters, Describe, DescribeResponse, Direction, Entry, EntryId,
    HttpRequests, NotWritten, Reason, Redaction, WriteOutcome,
    describe::{Case, Thrown, caught},
};
use crate::{
    BoxFuture, StoreErrorKind,
    attempt::Copied,
    clock::WallClock,
    context::{self, Verdict},
    outcome::{Classify, DefaultClassifier, MakeClassifier, Outcome},
    peer::{ByHost, PeerKey},
};
use pin_project::pin_project;
use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    panic::resume_unwind,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};
use tokio::{runtime::Handle, sync::oneshot, task::JoinHandle};
use tower_layer::Layer;
use tower_service::Service;

/// Writes an entry for each call that fails, and returns the call's result.
///
/// See the [module docs](super). Type parameters: `M` classifies results, `K` names the peer of a
/// request, `D` fills in its entry, and `P` passes the request on.
#[derive(Clone, Debug)]
#[must_use]
pub struct DeadLetterLayer<M = DefaultClassifier, K = ByHost, D = HttpRequests, P = AsItIs> {
    make: M,
    pub(super) settings: Settings,
    peer: K,
    describe: D,
    pass: PhantomData<P>,
}

/// The settings that do not depend on a type parameter.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) dead_letters: DeadLetters,
    pub(super) redaction: Redaction,
    pub(super) direction: Direction,
    pub(super) clock: WallClock,
    pub(super) body_limit: usize,
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
            make: DefaultClassifier,
            settings: Settings {
                dead_letters,
                redaction: Redaction::new(),
                direction: Direction::Outbound,
                clock: WallClock::system(),
                body_limit: 256 << 10,
            },
            peer: ByHost,
            describe: HttpRequests,
            pass: PhantomData,
        }
    }
}

impl<M, K, D, P> DeadLetterLayer<M, K, D, P> {
    /// Sets the classifier of results. Default: [`DefaultClassifier`], which judges HTTP. Use the same one for every
    /// layer that you put around a service by hand; a [stack](crate::stack) has one for all.
    pub fn classifier<M2>(self, classifier: M2) -> DeadLetterLayer<M2, K, D, P> {
        DeadLetterLayer {
            make: classifier,
            settings: self.settings,
            peer: self.peer,
            describe: self.describe,
            pass: PhantomData,
        }
    }

    /// Sets the key that names the peer of a request, which is the target of its entry. Default:
    /// [`ByHost`].
    pub fn peer<K2>(self, peer: K2) -> DeadLetterLayer<M, K2, D, P> {
        DeadLetterLayer {
            make: self.make,
            settings: self.settings,
            peer,
            describe: self.describe,
            pass: PhantomData,
        }
    }

    /// Sets the type that fills in the entry of a request. Default: [`HttpRequests`]. Use
    /// [`describe_fn`](super::describe_fn) for requests that are not HTTP.
    pub fn describe<D2>(self, describe: D2) -> DeadLetterLayer<M, K, D2, P> {
        DeadLetterLayer {
            make: self.make,
            settings: self.settings,
            peer: self.peer,
            describe,
            pass: PhantomData,
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

    /// Calls the inner service with each request together with its copy, as a [`Copied`]: for a retry layer, whose
    /// exchange is [`WithCopies`](crate::retry::WithCopies). Default: it is called with the request. The ready-made stack
    /// does this.
    pub fn with_copies(self) -> DeadLetterLayer<M, K, D, WithCopy> {
        DeadLetterLayer {
            make: self.make,
            settings: self.settings,
            peer: self.peer,
            describe: self.describe,
            pass: PhantomData,
        }
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

/// What the inner service is called with: the request [as it is](AsItIs), or [with its copy](WithCopy).
pub trait PassOn<Req> {
    /// The request of the inner service.
    type Request;

    /// Takes the request, and the copy that this layer keeps.
    fn pass_on(request: Req, copy: &Arc<Req>) -> Self::Request;
}

/// The inner service is called with the request.
#[derive(Clone, Copy, Debug)]
pub struct AsItIs;

impl<Req> PassOn<Req> for AsItIs {
    type Request = Req;

    fn pass_on(request: Req, _: &Arc<Req>) -> Req {
        request
    }
}

/// The inner service is called with the request and its copy.
#[derive(Clone, Copy, Debug)]
pub struct WithCopy;

impl<Req> PassOn<Req> for WithCopy {
    type Request = Copied<Req>;

    fn pass_on(request: Req, copy: &Arc<Req>) -> Copied<Req> {
        let copy = Arc::clone(copy);
        Copied { request, copy }
    }
}

impl<S, M: Clone, K: Clone, D: Clone, P> Layer<S> for DeadLetterLayer<M, K, D, P> {
    type Service = DeadLetter<S, M, K, D, P>;

    fn layer(&self, inner: S) -> Self::Service {
        DeadLetter {
            inner,
            make: self.make.clone(),
            shared: Arc::new(Shared {
                settings: self.settings.clone(),
                peer: self.peer.clone(),
                describe: self.describe.clone(),
            }),
            pass: PhantomData,
        }
    }
}

/// Middleware of [`DeadLetterLayer`]. See the [module docs](super).
pub struct DeadLetter<S, M, K, D, P = AsItIs> {
    pub(super) inner: S,
    pub(super) make: M,
    pub(super) shared: Arc<Shared<K, D>>,
    pass: PhantomData<P>,
}

impl<S, M, K, D, P, Req> Service<Req> for DeadLetter<S, M, K, D, P>
where
    P: PassOn<Req>,
    S: Service<P::Request>,
    S::Error: CallError,
    M: MakeClassifier<Req>,
    M::Classifier: Classify<S::Response, S::Error>,
    K: PeerKey<Req> + Send + Sync + 'static,
    D: Describe<Req> + DescribeResponse<S::Response> + Send + Sync + 'static,
    Req: Clone + Send + Sync + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, M::Classifier, K, D, Req>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Req) -> Self::Future {
        let now = context::now();
        let classifier = self.make.make_classifier(&req);
        let copy = Arc::new(req.clone());
        let passed = P::pass_on(req, &copy);
        let case = Case::open(&self.shared, copy, now);
        // By reference: what is moved into and out of a closure that is caught is copied twice.
        let (mut passed, mut called) = (Some(passed), None);
        let call = || called = passed.take().map(|passed| self.inner.call(passed));
        if let Err(thrown) = caught(call) {
            return ResponseFuture::panicked(&case, thrown);
        }
        // Invariant: it did not panic, so it has called.
        #[expect(clippy::expect_used, reason = "the request is taken once")]
        let future = called.expect("it was called");
        ResponseFuture::new(future, classifier, case)
    }
}

impl<S: Clone, M: Clone, K, D, P> Clone for DeadLetter<S, M, K, D, P> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            make: self.make.clone(),
            shared: Arc::clone(&self.shared),
            pass: PhantomData,
        }
    }
}

impl<S: fmt::Debug, M, K, D, P> fmt::Debug for DeadLetter<S, M, K, D, P> {
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
pub struct ResponseFuture<F: Future, C, K, D, Req> {
    #[pin]
    state: State<F, C, K, D, Req>,
}

#[pin_project(project = StateProj)]
enum State<F: Future, C, K, D, Req> {
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

enum Ended<T, K, D, Req> {
    Failed(Failure<T, K, D, Req>),
    /// The call panicked. Holds the payload of the panic; the lock, never taken, makes this `Sync`.
    Panicked(Mutex<Thrown>),
}

struct Failure<T, K, D, Req> {
    result: T,
    case: Case<K, D, Req>,
    id: EntryId,
    reason: Reason,
    outcome: Outcome,
}

type Written = Result<WriteOutcome, NotWritten>;

/// An entry that is being written.
enum Write {
    /// By a task, which continues if the caller drops the call, and learns that from the dropped sender.
    Spawned {
        task: JoinHandle<Written>,
        _attending: oneshot::Sender<()>,
    },
    /// By this future: there is no runtime for tasks.
    Here(BoxFuture<Written>),
}

impl Write {
    fn begin(dead_letters: &DeadLetters, entry: Entry) -> Self {
        let (dead_letters, entry) = (dead_letters.clone(), Arc::new(entry));
        match Handle::try_current() {
            Ok(runtime) => {
                let (attending, caller) = oneshot::channel();
                let writing = async move { dead_letters.write_for(caller, entry).await };
                Self::Spawned {
                    task: runtime.spawn(writing),
                    _attending: attending,
                }
            }
            Err(_) => Self::Here(Box::pin(async move { dead_letters.write(entry).await })),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Written> {
        match self {
            Self::Here(writing) => writing.as_mut().poll(cx),
            Self::Spawned { task, .. } => {
                let written = ready!(Pin::new(task).poll(cx));
                Poll::Ready(written.unwrap_or_else(|error| Err(NotWritten::broken_off(error))))
            }
        }
    }
}

impl<F: Future, C, K, D, Req> ResponseFuture<F, C, K, D, Req> {
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
{
    /// The future of a call that panicked before it returned a future. It resumes the panic.
    pub(super) fn panicked(case: &Case<K, D, Req>, thrown: Thrown) -> Self {
        Self {
            state: State::panicked(case, thrown),
        }
    }
}

impl<F, K, D, C, Req> State<F, C, K, D, Req>
where
    F: Future,
    K: PeerKey<Req>,
    D: Describe<Req>,
{
    fn panicked(case: &Case<K, D, Req>, thrown: Thrown) -> Self {
        Self::DeadLettering {
            write: Write::begin(&case.shared.settings.dead_letters, case.panicked()),
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
    D: Describe<Req> + DescribeResponse<Res> + Send + Sync + 'static,
    Req: Send + Sync + 'static,
{
    type Output = Result<Res, Err>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let _judging = context::judging();
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
                            state.set(State::panicked(&case, thrown));
                            continue;
                        }
                    };
                    let Some((classifier, case)) = open.take() else {
                        return Poll::Ready(result);
                    };
                    let verdict = Verdict::by(classifier, result.as_ref());
                    let outcome = verdict.outcome;
                    if verdict.late.is_some() || !outcome.is_failure() {
                        if let Some(late) = &verdict.late {
                            let runtime = Handle::try_current().ok();
                            late.then(move |outcome| dead_letter_late(&case, outcome, runtime));
                        }
                        verdict.tell();
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
                            outcome,
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
                    let result = match failed.result {
                        Ok(mut res) => {
                            let describe = &failed.case.shared.describe;
                            describe.annotate(&mut res, dead_lettered);
                            Ok(res)
                        }
                        Err(error) => Err(error.with_loss(&dead_lettered)),
                    };
                    // The result was there before its entry was written.
                    Verdict::of(failed.outcome).tell();
                    return Poll::Ready(result);
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
{
    if !outcome.is_failure() {
        return;
    }
    // The panic of the peer key ends here: no caller is left to receive it.
    let (entry, _) = case.entry(outcome, None, None);
    let dead_letters = &case.shared.settings.dead_letters;
    let kind = match (runtime, dead_letters.room(&entry)) {
        (Some(runtime), Some(room)) => {
            let dead_letters = dead_letters.clone();
            runtime.spawn(async move {
                let _ = dead_letters.write(Arc::new(entry)).await;
                drop(room);
            });
            return;
        }
        (Some(_), None) => StoreErrorKind::Full,
        // Without a runtime it cannot be written.
        (None, _) => StoreErrorKind::Unavailable,
    };
    let (peer, reason) = (&entry.target, entry.cause.reason);
    dead_letters.lost(entry.id, peer, reason, kind, None);
}

impl<F: Future, C, K, D, Req> fmt::Debug for ResponseFuture<F, C, K, D, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
