use super::{
    Begin, Claim, Disposition, Fingerprint, IdempotencyError, IdempotencyKey, Store, StoreOutage,
    answer,
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

/// The first, and shortest, interval at which a waiting repeat asks the store. Each is up to half longer: see
/// [`spread`].
const POLL_FIRST: Duration = Duration::from_millis(5);
const POLL_LAST: Duration = Duration::from_millis(250);

/// The longest wait that the clock can count.
const LONGEST_WAIT: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

type Answer<ResB> = Response<ResponseBody<ResB>>;

/// What follows on the store's answer.
enum Begun<ResB> {
    Run(FencingToken),
    RunUnclaimed,
    Wait(Duration),
    Respond(Answer<ResB>),
}

/// The handler's result, and the record to store of it. Without one, the key is freed.
type Answered<S, ResB> = (
    Option<Bytes>,
    Result<Answer<ResB>, <S as Service<Request<BufferedBody>>>::Error>,
);

/// Response future of [`Idempotency`](super::Idempotency).
#[pin_project]
pub struct ResponseFuture<S, St, ResB>
where
    S: Service<Request<BufferedBody>>,
    St: Store,
{
    // Dropped before the claim: the key is free when the handler has gone.
    #[pin]
    state: State<S, S::Future, St, ResB, S::Error>,
    #[pin]
    renewal: Renewal<St>,
    /// Begins and settles the claim; `None` if the request needs no claim.
    call: Option<Call<S, St>>,
}

/// The work to do once the claim is held. Kept in the states before that, not beside all states, so
/// that the future of a running request needs no room for it.
type Work<S> = (S, Request<BufferedBody>);

struct Call<S, St: Store> {
    held: Held<St>,
    fingerprint: Option<Fingerprint>,
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
    /// The store is to be asked. Dropping the future before its first poll leaves no claim.
    New { work: Option<Work<S>> },
    /// The store was asked for a claim.
    Beginning {
        begin: Timed<St::Begin>,
        work: Option<Work<S>>,
    },
    /// Another request holds the key, and this one waits for its answer.
    Waiting {
        /// Boxed, so that the future of a request that does not wait needs no room for it.
        timer: Pin<Box<Sleep>>,
        work: Option<Work<S>>,
    },
    /// The handler runs with the claim.
    Running {
        #[pin]
        future: F,
        scope: Scope,
    },
    /// The handler has responded; its body is being read, to be stored.
    Collecting {
        head: Option<response::Parts>,
        body: Option<Collect<ResB>>,
    },
    /// The claim is being settled. The caller gets the response only afterwards: a repeat that follows
    /// the response must find the key settled.
    Settling {
        settle: Timed<St::Settle>,
        result: Option<Result<Answer<ResB>, E>>,
    },
}

impl<S, St, ResB> ResponseFuture<S, St, ResB>
where
    S: Service<Request<BufferedBody>, Response = Response<ResB>>,
    St: Store,
{
    pub(super) const fn unguarded(future: S::Future) -> Self {
        Self {
            state: State::Unclaimed {
                future,
                disposition: None,
            },
            renewal: Renewal::new(),
            call: None,
        }
    }

    pub(super) fn refused(settings: &Settings, error: IdempotencyError) -> Self {
        let refused = settings.refuse(error);
        Self {
            state: State::Ended {
                result: Some(Ok(refused)),
            },
            renewal: Renewal::new(),
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
            held: Held::new(store.clone(), key, settings.observers.clone()),
            settings: Arc::clone(settings),
            waiting: None,
            service: PhantomData,
        };
        let work = (inner, req);
        Self {
            state: State::New { work: Some(work) },
            renewal: Renewal::new(),
            call: Some(call),
        }
    }

    /// Settles the claim. The caller gets the handler's result, whether or not that could be done.
    fn settle(
        self: Pin<&mut Self>,
        (record, result): Answered<S, ResB>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Answer<ResB>, S::Error>> {
        let mut this = self.project();
        let Some(call) = this.call else {
            return Poll::Ready(result);
        };
        let settle = match record {
            Some(record) => call.held.complete(record, call.settings.ttl),
            None => call.held.release(),
        };
        let Some(settle) = settle else {
            return Poll::Ready(result.map(not_stored));
        };
        let mut settle = Timed::new(settle, call.settings.store_timeout);
        match Pin::new(&mut settle).poll(cx) {
            Poll::Ready(settled) => Poll::Ready(if call.held.settled(settled) {
                result
            } else {
                result.map(not_stored)
            }),
            Poll::Pending => {
                let result = Some(result);
                this.state.set(State::Settling { settle, result });
                Poll::Pending
            }
        }
    }
}

impl<S, St, ResB> Call<S, St>
where
    S: Service<Request<BufferedBody>, Response = Response<ResB>>,
    St: Store,
    ResB: Body<Data = Bytes> + Unpin,
{
    fn begin(&self) -> Timed<St::Begin> {
        let Settings {
            lease,
            store_timeout,
            ..
        } = *self.settings;
        let begin = self.held.begin(self.fingerprint.as_ref(), lease);
        Timed::new(begin, store_timeout)
    }

    fn begun(&mut self, begun: Result<Begin, StoreError>) -> Begun<ResB> {
        Begun::Respond(match begun {
            Ok(Begin::Acquired(token)) => return Begun::Run(token),
            Ok(Begin::Completed(bytes)) => match answer::decode(bytes) {
                Ok(answer) => self.replay(answer),
                Err(kind) => self.unreadable(&StoreError::new(kind)),
            },
            Ok(Begin::InProgress { lease_left }) => return self.in_progress(lease_left),
            Ok(Begin::Mismatch) => self.settings.refuse(IdempotencyError::Mismatch),
            Err(error) if error.is_unreadable() => self.unreadable(&error),
            Err(error) => {
                self.settings
                    .trouble("the store failed", Some(Id::new(&error)));
                match self.settings.outage {
                    StoreOutage::FailOpen => return Begun::RunUnclaimed,
                    StoreOutage::FailClosed => {
                        let reason = IdempotencyError::Store(error.kind());
                        self.settings.refuse(reason)
                    }
                }
            }
        })
    }

    fn run(&mut self, token: FencingToken, (mut inner, mut req): Work<S>) -> (S::Future, Scope) {
        self.held.acquired(token);
        let key = self.held.key();
        let scope = Scope::claim(key.scope());
        req.extensions_mut().insert(Claim::new(key.clone(), token));
        let future = scope.enter(|| {
            let observers = &self.settings.observers;
            observers.tell(|| Event::Claimed { scope: key.scope() });
            inner.call(req)
        });
        (future, scope)
    }

    /// Keeps the claim while the work is pending.
    fn keep(&mut self, renewal: Pin<&mut Renewal<St>>, cx: &mut Context<'_>) {
        let Settings {
            lease,
            store_timeout,
            ..
        } = *self.settings;
        renewal.poll_keep(&mut self.held, lease, store_timeout, cx);
    }

    fn replay(&self, stored: answer::Answer) -> Answer<ResB> {
        let scope = self.held.key().scope();
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
        answer
    }

    fn in_progress(&mut self, lease_left: Duration) -> Begun<ResB> {
        let now = Instant::now();
        let (until, pause) = *self
            .waiting
            .get_or_insert((now + self.settings.wait.min(LONGEST_WAIT), POLL_FIRST));
        let left = until.saturating_duration_since(now);
        if left.is_zero() {
            let retry_after = lease_left.min(MAX_RETRY_AFTER);
            let reason = IdempotencyError::InProgress { retry_after };
            return Begun::Respond(self.settings.refuse(reason));
        }
        self.waiting = Some((until, (pause * 2).min(POLL_LAST)));
        Begun::Wait(spread(pause, fastrand::u32(..)).min(left))
    }

    /// Refuses, whatever the outage setting: the store is up, and has a record of the key, so the work was
    /// done or runs.
    fn unreadable(&self, error: &StoreError) -> Answer<ResB> {
        self.settings
            .trouble("stored answer cannot be read", Some(Id::new(error)));
        self.settings.refuse(IdempotencyError::Store(error.kind()))
    }

    /// Whether to store an answer. If another holder has the claim, that one's is stored.
    fn keeps(&self, head: &response::Parts) -> bool {
        self.held.is_held() && self.settings.keep.keeps(head)
    }

    /// Makes the record of an answer whose body was read, or was found too long to store.
    fn collected(
        &self,
        head: response::Parts,
        collected: Result<BufferedBody, CollectError<ResB::Error>>,
        body: Collect<ResB>,
    ) -> Answered<S, ResB> {
        let stored = &self.settings.stored_headers;
        let encode = |head, body| answer::encode(head, body, |name| stored.has(name));
        match collected {
            Ok(body) => {
                let record = encode(&head, Some(&body));
                let answer = Response::from_parts(head, ResponseBody::buffered(body));
                (Some(record), Ok(answer))
            }
            Err(CollectError::TooLarge { .. }) => {
                self.settings.trouble("answer too large to store", None);
                let record = encode(&head, None);
                let answer = Response::from_parts(head, ResponseBody::resumed(body.into_rest()));
                (Some(record), Ok(not_stored(answer)))
            }
            Err(CollectError::Read(_)) => {
                let answer = self.settings.refuse(IdempotencyError::BrokenAnswer);
                (None, Ok(answer))
            }
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

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.as_mut().project();
        let answered = loop {
            // Invariant: only `Ended` and `Unclaimed` exist without a call, and both end here.
            let (call, begun, work) = match (this.state.as_mut().project(), this.call.as_mut()) {
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
                (StateProj::New { work }, Some(call)) => {
                    let mut begin = call.begin();
                    let Poll::Ready(begun) = Pin::new(&mut begin).poll(cx) else {
                        let work = work.take();
                        this.state.set(State::Beginning { begin, work });
                        return Poll::Pending;
                    };
                    (call, begun, work)
                }
                (StateProj::Beginning { begin, work }, Some(call)) => {
                    let begun = ready!(Pin::new(begin).poll(cx));
                    (call, begun, work)
                }
                (StateProj::Waiting { timer, work }, Some(_)) => {
                    ready!(timer.as_mut().poll(cx));
                    let work = work.take();
                    this.state.set(State::New { work });
                    continue;
                }
                (StateProj::Running { future, scope }, Some(call)) => {
                    let Poll::Ready(result) = scope.enter(|| future.poll(cx)) else {
                        call.keep(this.renewal, cx);
                        return Poll::Pending;
                    };
                    this.renewal.as_mut().stop();
                    let (head, body) = match result {
                        Ok(answer) => answer.into_parts(),
                        Err(error) => break (None, Err(error)),
                    };
                    if !call.keeps(&head) {
                        let answer = Response::from_parts(head, ResponseBody::inner(body));
                        break (None, Ok(answer));
                    }
                    let body = Some(collect(body, call.settings.max_answer));
                    let head = Some(head);
                    this.state.set(State::Collecting { head, body });
                    continue;
                }
                (StateProj::Collecting { head, body }, Some(call)) => {
                    let mut collecting = once(body);
                    let Poll::Ready(collected) = Pin::new(&mut collecting).poll(cx) else {
                        *body = Some(collecting);
                        call.keep(this.renewal, cx);
                        return Poll::Pending;
                    };
                    this.renewal.as_mut().stop();
                    break call.collected(once(head), collected, collecting);
                }
                (StateProj::Settling { settle, result }, Some(call)) => {
                    let settled = ready!(Pin::new(settle).poll(cx));
                    let stored = call.held.settled(settled);
                    let result = once(result);
                    return Poll::Ready(if stored {
                        result
                    } else {
                        result.map(not_stored)
                    });
                }
                (_, None) => unreachable!("a claim without a call"),
            };
            match call.begun(begun) {
                Begun::Run(token) => {
                    let (future, scope) = call.run(token, once(work));
                    this.state.set(State::Running { future, scope });
                }
                Begun::RunUnclaimed => {
                    let (mut inner, mut req) = once(work);
                    // No `Claim`: there is no token.
                    req.extensions_mut().insert(call.held.key().clone());
                    let future = inner.call(req);
                    let disposition = Some(Disposition::Unclaimed);
                    this.state.set(State::Unclaimed {
                        future,
                        disposition,
                    });
                }
                Begun::Wait(pause) => {
                    let (timer, work) = (Box::pin(sleep(pause)), work.take());
                    this.state.set(State::Waiting { timer, work });
                }
                Begun::Respond(answer) => return Poll::Ready(Ok(answer)),
            }
        };
        self.settle(answered, cx)
    }
}

/// An interval from `pause` to half more, so that repeats that came together do not ask together each time.
fn spread(pause: Duration, random: u32) -> Duration {
    pause + (pause / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_up_to_half_longer() {
        let pause = Duration::from_millis(100);
        assert_eq!(spread(pause, 0), pause);
        assert_eq!(spread(pause, u32::MAX), pause + pause / 2);
        let middle = spread(pause, u32::MAX / 2);
        assert!(
            middle > pause + pause / 5 && middle < pause + pause / 3,
            "{middle:?}"
        );
        assert_eq!(spread(Duration::ZERO, 7), Duration::ZERO);
    }
}
