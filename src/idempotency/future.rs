use super::{
    Begin, Claim, Disposition, Fingerprint, IdempotencyError, IdempotencyKey, KeyError, Store,
    StoreOutage, answer,
    held::{Held, Renewal, Timed},
    layer::Settings,
};
use crate::{
    StoreError,
    body::{BufferedBody, Collect, CollectError, ResponseBody, collect},
    lease::FencingToken,
    observe::{Event, Id, Scope},
};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, response};
use http_body::Body;
use pin_project::pin_project;
use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep};
use tower_service::Service;

/// The longest `Retry-After` of a refused repeat: the first request usually ends long before its
/// lease.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(2);

/// The first, and shortest, interval at which a waiting repeat asks the store.
const POLL_FIRST: Duration = Duration::from_millis(5);
const POLL_LAST: Duration = Duration::from_millis(250);

/// The longest wait that the clock can count.
const LONGEST_WAIT: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

type Answer<ResB> = Response<ResponseBody<ResB>>;

/// The next state.
type Next<S, St, ResB> = State<
    S,
    <S as Service<Request<BufferedBody>>>::Future,
    St,
    ResB,
    <S as Service<Request<BufferedBody>>>::Error,
>;

/// Response future of [`Idempotency`](super::Idempotency).
#[pin_project]
pub struct ResponseFuture<S, St, ResB>
where
    S: Service<Request<BufferedBody>>,
    St: Store,
{
    #[pin]
    state: State<S, S::Future, St, ResB, S::Error>,
    /// Begins and settles the claim; `None` if the request needs no claim.
    call: Option<Call<S, St>>,
}

/// The work to do once the claim is held. Kept in the states before that, not beside all states, so
/// that the future of a running request needs no room for it.
type Work<S> = (S, Request<BufferedBody>);

struct Call<S, St> {
    key: IdempotencyKey,
    fingerprint: Option<Fingerprint>,
    store: St,
    settings: Arc<Settings>,
    /// Until when a repeat waits, and how long it sleeps next. Set when it starts to wait.
    waiting: Option<(Instant, Duration)>,
    service: PhantomData<fn() -> S>,
}

#[pin_project(project = StateProj)]
enum State<S, F, St: Store, ResB, E> {
    /// The response is ready.
    Ended {
        result: Option<Result<Answer<ResB>, E>>,
    },
    /// The handler runs without a claim.
    Unclaimed {
        #[pin]
        future: F,
        disposition: Option<Disposition>,
    },
    /// Not polled yet, and the store was not asked: dropping the future now leaves no claim.
    New { work: Option<Work<S>> },
    /// The store was asked for a claim.
    Beginning {
        #[pin]
        begin: Timed<St::Begin>,
        work: Option<Work<S>>,
    },
    /// Another request holds the key, and this one waits for its answer.
    Waiting {
        #[pin]
        timer: Sleep,
        work: Option<Work<S>>,
    },
    /// The handler runs with the claim.
    Running {
        #[pin]
        future: F,
        #[pin]
        renewal: Renewal<St>,
        scope: Scope,
    },
    /// The handler has responded; its body is being read, to be stored.
    Collecting {
        head: Option<response::Parts>,
        body: Option<Collect<ResB>>,
        #[pin]
        renewal: Renewal<St>,
    },
    /// The claim is being settled. The caller gets the response only afterwards: a repeat that follows
    /// the response must find the key settled.
    Settling {
        #[pin]
        settle: Timed<St::Settle>,
        held: Held<St>,
        result: Option<Result<Answer<ResB>, E>>,
    },
}

impl<S, St, ResB> ResponseFuture<S, St, ResB>
where
    S: Service<Request<BufferedBody>, Response = Response<ResB>>,
    St: Store,
{
    pub(super) fn unguarded(future: S::Future) -> Self {
        Self {
            state: State::Unclaimed {
                future,
                disposition: None,
            },
            call: None,
        }
    }

    pub(super) fn refused(settings: &Settings, error: KeyError) -> Self {
        let refused = settings.refuse(IdempotencyError::Key(error));
        Self {
            state: State::ended(refused),
            call: None,
        }
    }

    pub(super) fn begin(
        inner: S,
        req: Request<BufferedBody>,
        key: IdempotencyKey,
        store: &St,
        settings: &Arc<Settings>,
    ) -> Self {
        let call = Call {
            fingerprint: settings.fingerprint.digest(&req),
            key,
            store: store.clone(),
            settings: Arc::clone(settings),
            waiting: None,
            service: PhantomData,
        };
        let work = (inner, req);
        Self {
            state: State::New { work: Some(work) },
            call: Some(call),
        }
    }
}

impl<S, St, ResB> Call<S, St>
where
    S: Service<Request<BufferedBody>, Response = Response<ResB>>,
    St: Store,
{
    fn begin(&self, work: Work<S>) -> Next<S, St, ResB> {
        let settings = &self.settings;
        let begin = self
            .store
            .begin(&self.key, self.fingerprint.as_ref(), settings.lease);
        State::Beginning {
            begin: Timed::new(begin, settings.store_timeout),
            work: Some(work),
        }
    }

    /// Returns the next state for the store's answer.
    fn begun(&mut self, begun: Result<Begin, StoreError>, work: Work<S>) -> Next<S, St, ResB> {
        match begun {
            Ok(Begin::Acquired(token)) => self.run(token, work),
            Ok(Begin::Completed(bytes)) => match answer::decode(bytes) {
                Ok(answer) => self.replay(answer),
                Err(kind) => self.unreadable(&StoreError::new(kind)),
            },
            Ok(Begin::InProgress { lease_left }) => self.in_progress(lease_left, work),
            Ok(Begin::Mismatch) => self.refuse(IdempotencyError::Mismatch),
            Err(error) if error.is_unreadable() => self.unreadable(&error),
            Err(error) => self.store_down(&error, work),
        }
    }

    fn run(&self, token: FencingToken, (mut inner, mut req): Work<S>) -> Next<S, St, ResB> {
        let observers = &self.settings.observers;
        let (key, scope) = (&self.key, Scope::claim(self.key.scope()));
        let held = Held::new(self.store.clone(), key.clone(), token, observers.clone());
        req.extensions_mut().insert(Claim::new(key.clone(), token));
        let future = scope.enter(|| {
            observers.tell(|| Event::Claimed { scope: key.scope() });
            inner.call(req)
        });
        State::Running {
            future,
            renewal: self.renewal(held),
            scope,
        }
    }

    fn renewal(&self, held: Held<St>) -> Renewal<St> {
        Renewal::new(held, self.settings.lease, self.settings.store_timeout)
    }

    fn replay(&self, stored: answer::Answer) -> Next<S, St, ResB> {
        let scope = self.key.scope();
        self.settings.observers.tell(|| Event::Replayed { scope });
        let mut answer = stored.response.map(ResponseBody::buffered);
        answer.headers_mut().insert(
            self.settings.marker.clone(),
            HeaderValue::from_static("true"),
        );
        answer.extensions_mut().insert(if stored.body_omitted {
            Disposition::ReplayedWithoutBody
        } else {
            Disposition::Replayed
        });
        State::ended(answer)
    }

    fn in_progress(&mut self, lease_left: Duration, work: Work<S>) -> Next<S, St, ResB> {
        let now = Instant::now();
        let (until, pause) = *self
            .waiting
            .get_or_insert((now + self.settings.wait.min(LONGEST_WAIT), POLL_FIRST));
        let left = until.saturating_duration_since(now);
        if left.is_zero() {
            return self.refuse(IdempotencyError::InProgress {
                retry_after: lease_left.min(MAX_RETRY_AFTER),
            });
        }
        self.waiting = Some((until, (pause * 2).min(POLL_LAST)));
        State::Waiting {
            timer: sleep(pause.min(left)),
            work: Some(work),
        }
    }

    /// Refuses, whatever the outage setting: the store is up, and has a record of the key, so the work was
    /// done or runs.
    fn unreadable(&self, error: &StoreError) -> Next<S, St, ResB> {
        self.settings
            .trouble("stored answer cannot be read", Some(Id::new(error)));
        self.refuse(IdempotencyError::Store(error.kind()))
    }

    fn store_down(&self, error: &StoreError, work: Work<S>) -> Next<S, St, ResB> {
        self.settings
            .trouble("the store failed", Some(Id::new(error)));
        match self.settings.outage {
            StoreOutage::FailClosed => self.refuse(IdempotencyError::Store(error.kind())),
            StoreOutage::FailOpen => {
                let (mut inner, req) = work;
                State::Unclaimed {
                    future: inner.call(req),
                    disposition: Some(Disposition::Unclaimed),
                }
            }
        }
    }

    fn refuse(&self, reason: IdempotencyError) -> Next<S, St, ResB> {
        State::ended(self.settings.refuse(reason))
    }

    /// Frees the key, then passes `result` on.
    fn release(
        &self,
        mut held: Held<St>,
        result: Result<Answer<ResB>, S::Error>,
    ) -> Next<S, St, ResB> {
        State::Settling {
            settle: Timed::new(held.release(), self.settings.store_timeout),
            held,
            result: Some(result),
        }
    }

    /// Stores `record`, then passes `answer` on.
    fn complete(
        &self,
        mut held: Held<St>,
        record: Bytes,
        answer: Answer<ResB>,
    ) -> Next<S, St, ResB> {
        let settle = held.complete(record, self.settings.ttl);
        State::Settling {
            settle: Timed::new(settle, self.settings.store_timeout),
            held,
            result: Some(Ok(answer)),
        }
    }

    /// Returns the next state once the handler has responded.
    fn answered(
        &self,
        held: Option<Held<St>>,
        result: Result<Response<ResB>, S::Error>,
    ) -> Next<S, St, ResB>
    where
        ResB: Body,
    {
        let Some(held) = held else {
            // Another holder has the claim; its answer is the one that is stored.
            let result = result.map(|answer| not_stored(answer.map(ResponseBody::inner)));
            return State::Ended {
                result: Some(result),
            };
        };
        match result {
            Err(error) => self.release(held, Err(error)),
            Ok(answer) => {
                let (head, body) = answer.into_parts();
                if !self.settings.keep.keeps(&head) {
                    let answer = Response::from_parts(head, ResponseBody::inner(body));
                    return self.release(held, Ok(answer));
                }
                State::Collecting {
                    head: Some(head),
                    body: Some(collect(body, self.settings.max_answer)),
                    renewal: self.renewal(held),
                }
            }
        }
    }

    /// Returns the next state once the body was read, or was found too long to store.
    fn collected(
        &self,
        held: Option<Held<St>>,
        head: response::Parts,
        collected: Result<BufferedBody, CollectError<ResB::Error>>,
        body: Collect<ResB>,
    ) -> Next<S, St, ResB>
    where
        ResB: Body,
    {
        let stored = &self.settings.stored_headers;
        let encode = |head, body| answer::encode(head, body, |name| stored.has(name));
        let (record, answer) = match collected {
            Ok(body) => {
                let record = held.is_some().then(|| encode(&head, Some(&body)));
                let answer = Response::from_parts(head, ResponseBody::buffered(body));
                (record, answer)
            }
            Err(CollectError::TooLarge { .. }) => {
                self.settings.trouble("answer too large to store", None);
                let record = held.is_some().then(|| encode(&head, None));
                let answer = Response::from_parts(head, ResponseBody::resumed(body.into_rest()));
                (record, not_stored(answer))
            }
            Err(CollectError::Read(_)) => {
                (None, self.settings.refuse(IdempotencyError::BrokenAnswer))
            }
        };
        match (held, record) {
            (Some(held), Some(record)) => self.complete(held, record, answer),
            (Some(held), None) => self.release(held, Ok(answer)),
            (None, _) => State::ended(not_stored(answer)),
        }
    }
}

impl<S, F, St: Store, ResB, E> State<S, F, St, ResB, E> {
    const fn ended(answer: Answer<ResB>) -> Self {
        Self::Ended {
            result: Some(Ok(answer)),
        }
    }
}

impl<S, St, ResB> Future for ResponseFuture<S, St, ResB>
where
    S: Service<Request<BufferedBody>, Response = Response<ResB>>,
    St: Store,
    ResB: Body<Data = Bytes> + Unpin,
{
    type Output = Result<Answer<ResB>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            // Invariant: only `Ended` and `Unclaimed` exist without a call, and both end here.
            let next = match (this.state.as_mut().project(), this.call.as_mut()) {
                (StateProj::Ended { result }, _) => return Poll::Ready(once(result)),
                (
                    StateProj::Unclaimed {
                        future,
                        disposition,
                    },
                    _,
                ) => {
                    let mut answer = ready!(future.poll(cx))?.map(ResponseBody::inner);
                    if let Some(disposition) = disposition.take() {
                        answer.extensions_mut().insert(disposition);
                    }
                    return Poll::Ready(Ok(answer));
                }
                (StateProj::New { work }, Some(call)) => call.begin(once(work)),
                (StateProj::Beginning { begin, work }, Some(call)) => {
                    let begun = ready!(begin.poll(cx));
                    call.begun(begun, once(work))
                }
                (StateProj::Waiting { timer, work }, Some(call)) => {
                    ready!(timer.poll(cx));
                    call.begin(once(work))
                }
                (
                    StateProj::Running {
                        future,
                        renewal,
                        scope,
                    },
                    Some(call),
                ) => {
                    let Poll::Ready(result) = scope.enter(|| future.poll(cx)) else {
                        renewal.poll_keep(cx);
                        return Poll::Pending;
                    };
                    call.answered(renewal.take(), result)
                }
                (
                    StateProj::Collecting {
                        head,
                        body,
                        mut renewal,
                    },
                    Some(call),
                ) => {
                    let mut collecting = once(body);
                    let Poll::Ready(collected) = Pin::new(&mut collecting).poll(cx) else {
                        *body = Some(collecting);
                        renewal.as_mut().poll_keep(cx);
                        return Poll::Pending;
                    };
                    call.collected(renewal.take(), once(head), collected, collecting)
                }
                (
                    StateProj::Settling {
                        settle,
                        held,
                        result,
                    },
                    _,
                ) => {
                    let settled = ready!(settle.poll(cx));
                    // The caller gets the handler's result, whether or not the claim could be settled.
                    let result = once(result);
                    return Poll::Ready(if held.settled(settled) {
                        result
                    } else {
                        result.map(not_stored)
                    });
                }
                (_, None) => unreachable!("a claim without a call"),
            };
            this.state.set(next);
        }
    }
}

fn not_stored<ResB>(mut answer: Answer<ResB>) -> Answer<ResB> {
    answer.extensions_mut().insert(Disposition::NotStored);
    answer
}

/// Takes the value that a state holds until its end.
fn once<T>(slot: &mut Option<T>) -> T {
    // Invariant: taken when a state ends, which is then replaced or never polled again.
    #[expect(clippy::expect_used, reason = "a future is not polled after its end")]
    slot.take().expect("polled after completion")
}

impl<S, St, ResB> fmt::Debug for ResponseFuture<S, St, ResB>
where
    S: Service<Request<BufferedBody>>,
    St: Store,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
