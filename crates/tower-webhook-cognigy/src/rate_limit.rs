//! Limits how often an API is called: at most so many requests in any window of a given length.
//!
//! | Preset | Limit | Source |
//! | --- | --- | --- |
//! | [`RateLimitLayer::documents`] | 60 requests in a minute, for each API key | document S2; no official trace |
//! | [`RateLimitLayer::platform`] | 1,000 requests in 5 minutes, for each IP address | Cognigy.AI, shared `SaaS` |
//!
//! # Examples
//!
//! ```
//! use http::{Request, Response};
//! use std::{convert::Infallible, time::Duration};
//! use tokio::time::Instant;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_webhook_cognigy::rate_limit::RateLimitLayer;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower_webhook::BoxError> {
//! let client = ServiceBuilder::new()
//!     .layer(RateLimitLayer::new(2, Duration::from_secs(60))?)
//!     .service(service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(())) }));
//!
//! let begin = Instant::now();
//! for _ in 0..3 {
//!     client.clone().oneshot(Request::new(())).await?;
//! }
//! assert_eq!(begin.elapsed(), Duration::from_secs(60)); // the third waited for the first to leave the window
//! # Ok(())
//! # }
//! ```
//!
//! # What is counted
//!
//! The limit is exact: it remembers the times of the last calls of the inner service, as many as a window may have,
//! and no window of its length, wherever it begins, has more. A bucket of tokens would let through nearly twice the
//! limit in a window that begins where the bucket is full.
//!
//! Clones of a layer, and all services that they make, share one limit. Make one layer for each API key, or for each
//! address from which you call, as the limit of the server is.
//!
//! # Waiting
//!
//! A call that finds no room waits for its turn in its response future, in the order in which the calls were made.
//! It does not wait in `poll_ready`: a place taken there would be lost when the caller then makes no call, nothing
//! would say whose turn it is, and a time limit of the call would not cover the wait. The inner service that
//! `poll_ready` made ready is the one that is called after the wait.
//!
//! A caller that makes a call and then does not poll its future holds up those behind it. At most
//! [`max_waiting`](RateLimitLayer::max_waiting) calls wait; the next one fails at once.
//!
//! After a 429 with a valid `Retry-After` all calls wait that long, at most an hour: the server counts differently,
//! or others use the same key. The response itself passes through; a retry outside repeats it.
//!
//! # Order
//!
//! Inside a retry, so that each attempt is counted, and outside a limit of concurrent calls and an attempt timeout,
//! so that a waiting call neither holds a place there nor runs out of time.
//!
//! # Settings
//!
//! | Setting | Default | Meaning |
//! | --- | --- | --- |
//! | [`RateLimitLayer::new`] | to be set | the most calls in a window, and its length |
//! | [`RateLimitLayer::max_waiting`] | 1,024 | the most calls that wait |
//!
//! # Errors
//!
//! The error type becomes [`BoxError`]. Errors of the inner service are boxed unchanged.
//!
//! | Error | When | Outcome |
//! | --- | --- | --- |
//! | [`RateLimited`] | too many calls wait | refused, with the time in which the call would have had its turn |
//!
//! # Cancel safety
//!
//! A waiting call that is dropped leaves the queue, and those behind it move up. A call that has begun stays counted,
//! because the server may have counted it.
//!
//! # Cost
//!
//! No allocation where there is room: the times are kept in a ring that is made with the layer, 16 bytes for each
//! call of a window. A call that waits allocates its place and a timer.
//!
//! # Panics
//!
//! A call that waits starts a timer, which needs a tokio runtime with time enabled.

use http::{Request, Response, StatusCode};
use pin_project::pin_project;
use std::{
    collections::VecDeque,
    error::Error,
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};
use tower_layer::Layer;
use tower_service::Service;
use tower_webhook::{
    BoxError, IntoBoxError, InvalidConfig,
    outcome::{Classify, HttpClassifier, LocallyRefused, MakeClassifier},
};

/// The most calls in a window: the ring of their times is 16 MB then.
const MAX_CALLS: usize = 1_000_000;

/// The longest window.
const MAX_WINDOW: Duration = Duration::from_secs(31 * 24 * 60 * 60);

/// The longest time for which a 429 holds back all calls.
const MAX_HOLD: Duration = Duration::from_secs(60 * 60);

/// Lets at most so many calls begin in any window of a given length. The others wait.
///
/// See the [module docs](self).
#[derive(Clone, Debug)]
#[must_use]
pub struct RateLimitLayer {
    limit: Arc<Limit>,
    max_waiting: usize,
}

impl RateLimitLayer {
    /// At most `calls` calls in any window of the length `per`.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `calls` unless it is 1 to 1,000,000, and for `per` unless it is longer than zero and at
    /// most 31 days.
    pub fn new(calls: usize, per: Duration) -> Result<Self, InvalidConfig> {
        if !(1..=MAX_CALLS).contains(&calls) {
            return Err(InvalidConfig::new("calls", "must be 1 to 1,000,000"));
        }
        if per.is_zero() || per > MAX_WINDOW {
            let problem = "must be longer than zero and at most 31 days";
            return Err(InvalidConfig::new("per", problem));
        }
        Ok(Self::of(calls, per))
    }

    /// The limit of the documents: 60 calls in a minute. It is that of one API key (S2: "typically").
    pub fn documents() -> Self {
        Self::of(60, Duration::from_secs(60))
    }

    /// The limit of the shared Cognigy.AI platform: 1,000 calls in 5 minutes. It is that of one IP address.
    pub fn platform() -> Self {
        Self::of(1000, Duration::from_secs(5 * 60))
    }

    fn of(calls: usize, per: Duration) -> Self {
        let state = State {
            window: Window::new(calls, per),
            held_until: None,
            waiting: VecDeque::new(),
            next_ticket: 0,
        };
        Self {
            limit: Arc::new(Limit {
                state: Mutex::new(state),
            }),
            max_waiting: 1024,
        }
    }

    /// Sets the most calls that wait for their turn; the next one fails with [`RateLimited`]. Zero: none waits.
    /// Default: 1,024.
    ///
    /// It counts the calls of all clones; each refuses by its own number.
    pub const fn max_waiting(mut self, calls: usize) -> Self {
        self.max_waiting = calls;
        self
    }
}

impl<S> Layer<S> for RateLimitLayer {
    type Service = RateLimit<S>;

    fn layer(&self, inner: S) -> RateLimit<S> {
        RateLimit {
            inner,
            layer: self.clone(),
        }
    }
}

/// Middleware of [`RateLimitLayer`].
#[derive(Clone, Debug)]
pub struct RateLimit<S> {
    inner: S,
    layer: RateLimitLayer,
}

impl<S, B, ResB> Service<Request<B>> for RateLimit<S>
where
    S: Service<Request<B>, Response = Response<ResB>, Error: IntoBoxError> + Clone,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, req: Request<B>) -> Self::Future {
        let limit = &self.layer.limit;
        let phase = match Limit::enter(limit, self.layer.max_waiting) {
            Entered::Admitted => Phase::Called {
                future: self.inner.call(req),
                limit: Arc::clone(limit),
            },
            Entered::Waits(turn) => {
                let next = self.inner.clone();
                Phase::Waits(Some(Box::new(Waiting {
                    turn,
                    timer: None,
                    // The one that is ready.
                    inner: mem::replace(&mut self.inner, next),
                    req,
                })))
            }
            Entered::Refused(error) => Phase::Refused(error),
        };
        ResponseFuture { phase }
    }
}

/// The call was not made: too many others wait for their turn. May be tried again after
/// [`retry_after`](Self::retry_after).
///
/// Its [`source`](Error::source) is a [`LocallyRefused`], which tells every layer that nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RateLimited(LocallyRefused);

impl RateLimited {
    /// The time in which the call would have had its turn.
    pub const fn retry_after(&self) -> Duration {
        self.0.retry_after()
    }
}

impl fmt::Display for RateLimited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not sent: too many calls wait for the rate limit")
    }
}

impl Error for RateLimited {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

/// The response future of [`RateLimit`].
#[must_use = "futures do nothing unless polled"]
#[pin_project]
pub struct ResponseFuture<S: Service<Request<B>>, B> {
    #[pin]
    phase: Phase<S, B>,
}

#[pin_project(project = PhaseProj)]
enum Phase<S: Service<Request<B>>, B> {
    Waits(Option<Box<Waiting<S, B>>>),
    Called {
        #[pin]
        future: S::Future,
        limit: Arc<Limit>,
    },
    Refused(RateLimited),
}

/// Boxed, so that the future of a call that need not wait is not as large as a request.
struct Waiting<S, B> {
    turn: Turn,
    /// Until the turn of the call that is first.
    timer: Option<Pin<Box<Sleep>>>,
    inner: S,
    req: Request<B>,
}

impl<S, B> Waiting<S, B> {
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let until = match self.turn.poll(cx) {
                Place::Admitted => return Poll::Ready(()),
                Place::Behind => return Poll::Pending,
                Place::First(until) => until,
            };
            let timer = match &mut self.timer {
                Some(timer) => {
                    timer.as_mut().reset(until);
                    timer
                }
                None => self.timer.insert(Box::pin(sleep_until(until))),
            };
            // Again afterwards: a 429 may have come in the meantime.
            ready!(timer.as_mut().poll(cx));
        }
    }
}

impl<S, B, ResB> Future for ResponseFuture<S, B>
where
    S: Service<Request<B>, Response = Response<ResB>, Error: IntoBoxError>,
{
    type Output = Result<Response<ResB>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut phase = self.project().phase;
        loop {
            let waited = match phase.as_mut().project() {
                PhaseProj::Waits(slot) => {
                    if let Some(waiting) = slot {
                        ready!(waiting.poll_turn(cx));
                    }
                    slot.take()
                }
                PhaseProj::Called { future, limit } => {
                    let response = ready!(future.poll(cx)).map_err(Into::into)?;
                    limit.heed(&response);
                    return Poll::Ready(Ok(response));
                }
                PhaseProj::Refused(error) => return Poll::Ready(Err((*error).into())),
            };
            // Invariant: the loop leaves this phase as it takes what is in it.
            #[expect(clippy::expect_used, reason = "it is there until it is taken, here")]
            let waiting = *waited.expect("a waiting call");
            let Waiting {
                turn,
                mut inner,
                req,
                ..
            } = waiting;
            let limit = Arc::clone(&turn.limit);
            let future = inner.call(req);
            phase.set(Phase::Called { future, limit });
        }
    }
}

impl<S: Service<Request<B>>, B> fmt::Debug for ResponseFuture<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// What the services of one layer share.
struct Limit {
    state: Mutex<State>,
}

struct State {
    window: Window,
    /// The end of the time for which the server asked to be left alone.
    held_until: Option<Instant>,
    /// The calls that wait, in the order of their tickets.
    waiting: VecDeque<(u64, Option<Waker>)>,
    next_ticket: u64,
}

/// What a call met.
enum Entered {
    Admitted,
    Waits(Turn),
    Refused(RateLimited),
}

/// Where a waiting call stands.
enum Place {
    Admitted,
    Behind,
    /// Nobody is before it, but nothing may begin before this time.
    First(Instant),
}

impl Limit {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in a critical section panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(this: &Arc<Self>, max_waiting: usize) -> Entered {
        let mut state = this.state();
        // Read inside the lock: the ring is in the order of time.
        let now = Instant::now();
        let ahead = state.waiting.len();
        if ahead == 0 && state.admit(now).is_ok() {
            return Entered::Admitted;
        }
        if ahead >= max_waiting {
            let turn = state.turn_after(ahead, now);
            let wait = LocallyRefused::after(turn.saturating_duration_since(now));
            return Entered::Refused(RateLimited(wait));
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.waiting.push_back((ticket, None));
        Entered::Waits(Turn {
            limit: Arc::clone(this),
            ticket,
            is_over: false,
        })
    }

    /// Holds back all calls if the response asks for that.
    fn heed<B>(&self, response: &Response<B>) {
        if response.status() != StatusCode::TOO_MANY_REQUESTS {
            return;
        }
        let judge = HttpClassifier::new()
            .max_hint(MAX_HOLD)
            .make_classifier(&Request::new(()));
        let outcome = judge.classify(Ok::<_, &BoxError>(response));
        let Some(wait) = outcome.retry_after() else {
            return;
        };
        let mut state = self.state();
        let until = Instant::now() + wait;
        state.held_until = state.held_until.max(Some(until));
    }
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Limit")
            .field("calls", &state.window.calls)
            .field("per", &state.window.per)
            .field("waiting", &state.waiting.len())
            .finish_non_exhaustive()
    }
}

impl State {
    /// Lets a call begin, or says when one may.
    fn admit(&mut self, now: Instant) -> Result<(), Instant> {
        if let Some(held) = self.held_until {
            if now < held {
                return Err(held);
            }
            self.held_until = None;
        }
        self.window.admit(now)
    }

    /// The soonest turn of a call with so many ahead of it.
    fn turn_after(&self, ahead: usize, now: Instant) -> Instant {
        let turn = self.window.turn_after(ahead, now).unwrap_or(now);
        self.held_until.map_or(turn, |held| held.max(turn))
    }
}

/// A place in the queue, until the call is admitted or dropped.
struct Turn {
    limit: Arc<Limit>,
    ticket: u64,
    is_over: bool,
}

impl Turn {
    fn poll(&mut self, cx: &Context<'_>) -> Place {
        let mut state = self.limit.state();
        let Some(place) = state.place_of(self.ticket) else {
            return Place::Admitted;
        };
        if place > 0 {
            let (_, waker) = &mut state.waiting[place];
            match waker {
                Some(waker) => waker.clone_from(cx.waker()),
                None => *waker = Some(cx.waker().clone()),
            }
            return Place::Behind;
        }
        if let Err(until) = state.admit(Instant::now()) {
            return Place::First(until);
        }
        let next = state.leave(0);
        drop(state);
        self.is_over = true;
        wake(next);
        Place::Admitted
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut state = self.limit.state();
        let next = state
            .place_of(self.ticket)
            .and_then(|place| state.leave(place));
        drop(state);
        wake(next);
    }
}

impl State {
    fn place_of(&self, ticket: u64) -> Option<usize> {
        self.waiting
            .binary_search_by_key(&ticket, |(ticket, _)| *ticket)
            .ok()
    }

    /// Removes a waiting call. Returns the waker of the one that is first now, if it was not before.
    fn leave(&mut self, place: usize) -> Option<Waker> {
        self.waiting.remove(place);
        let (_, waker) = self.waiting.front_mut().filter(|_| place == 0)?;
        waker.take()
    }
}

/// Outside the lock: a waker may run anything.
fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The times of the last calls, as many as a window may have. Pure: the time is an argument.
struct Window {
    calls: usize,
    per: Duration,
    /// Not more than `calls`, oldest first.
    times: VecDeque<Instant>,
}

impl Window {
    fn new(calls: usize, per: Duration) -> Self {
        Self {
            calls,
            per,
            times: VecDeque::with_capacity(calls),
        }
    }

    /// Records a call at `now`, or says when there will be room for one.
    fn admit(&mut self, now: Instant) -> Result<(), Instant> {
        if let Some(free) = self.turn_after(0, now) {
            if now < free {
                return Err(free);
            }
            self.times.pop_front();
        }
        self.times.push_back(now);
        Ok(())
    }

    /// The soonest turn of a call with so many ahead of it, if there is no room for it.
    fn turn_after(&self, ahead: usize, now: Instant) -> Option<Instant> {
        let room = self.calls - self.times.len();
        let late = ahead.checked_sub(room)?;
        // Each call makes room for one a window later, and that one for another. Those for which there is room begin now.
        let before = self.times.get(late % self.calls).copied().unwrap_or(now);
        let windows = u32::try_from(late / self.calls + 1).unwrap_or(u32::MAX);
        Some(before + self.per.saturating_mul(windows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Exact: whatever the times of the calls, no window has more than the limit; and not too strict: a call is
        /// turned away only if the window that ends with it is full.
        #[test]
        fn no_window_has_more_than_the_limit_and_a_full_one_alone_turns_calls_away(
            calls in 1_usize..6,
            per in 1_u64..40,
            gaps in proptest::collection::vec(0_u64..20, 1..200),
        ) {
            let per = Duration::from_millis(per);
            let mut window = Window::new(calls, per);
            let mut now = Instant::now();
            let mut admitted: Vec<Instant> = Vec::new();
            for gap in gaps {
                now += Duration::from_millis(gap);
                let in_last = admitted.iter().filter(|at| now - **at < per).count();
                match window.admit(now) {
                    Ok(()) => {
                        prop_assert!(in_last < calls);
                        admitted.push(now);
                    }
                    Err(free) => {
                        prop_assert_eq!(in_last, calls);
                        prop_assert!(free > now);
                        // The promised time is right to the nanosecond.
                        prop_assert_eq!(window.admit(free - Duration::from_nanos(1)), Err(free));
                    }
                }
            }
            for window in admitted.windows(calls + 1) {
                prop_assert!(window[calls] - window[0] >= per);
            }
        }

        /// What a refused call is told is when it would have had its turn.
        #[test]
        fn the_turn_of_a_call_is_known_in_advance(
            calls in 1_usize..5,
            begun in proptest::collection::vec(0_u64..10, 0..5),
            ahead in 0_usize..20,
        ) {
            let per = Duration::from_millis(50);
            let mut window = Window::new(calls, per);
            let mut now = Instant::now();
            for gap in begun.into_iter().take(calls) {
                now += Duration::from_millis(gap);
                window.admit(now).unwrap();
            }
            let told = window.turn_after(ahead, now).map_or(now, |turn| turn.max(now));
            // Those ahead go as soon as they may.
            let mut at = now;
            for _ in 0..ahead {
                while let Err(free) = window.admit(at) {
                    at = free;
                }
            }
            let turn = window.turn_after(0, at).map_or(at, |turn| turn.max(at));
            prop_assert_eq!(told, turn);
        }
    }
}
