use super::{ReplayError, into_bytes, record::Record};
use crate::BoxError;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

pub(super) struct Shared<B> {
    state: Mutex<State<B>>,
}

/// The state that the bodies of one request share. The lock is held briefly: never while the
/// original is polled or a waker is called.
pub(super) struct State<B> {
    source: Source<B>,
    pub(super) record: Record,
    /// A frame that was read but neither recorded nor yielded. It follows the recorded ones.
    stash: Option<Frame<Bytes>>,
    /// The size hint of the original when it was lent.
    lent: SizeHint,
    /// Whether the length of the original was known at the beginning.
    is_sized: bool,
    /// The number of the body that reads the original; zero before the first poll.
    turn: u32,
    /// The number of the body that was made last.
    made: u32,
    /// The last of the bodies that may take over: it was made after the one whose turn it is, and has not been polled.
    next: Option<u32>,
    /// The others, which are there only where two were made before one was polled. In the order of their numbers.
    others: Vec<u32>,
    /// Whether the [`Replay`](super::Replay) exists, which can make more bodies.
    kept: bool,
    /// Whether it has been promised that it can.
    promised: bool,
    /// The waker of the body whose turn it is.
    waker: Option<Waker>,
}

enum Source<B> {
    Here(Pin<Box<B>>),
    /// Being polled.
    Lent,
    Ended,
    Failed,
}

impl<B> Shared<B> {
    pub(super) fn new(state: State<B>) -> Self {
        Self {
            state: Mutex::new(state),
        }
    }

    /// A panic under the lock can only come from a body's `size_hint`, which changes nothing.
    pub(super) fn lock(&self) -> MutexGuard<'_, State<B>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: Body> State<B> {
    pub(super) fn new(body: B, record: Record) -> Self {
        let hint = body.size_hint();
        Self {
            is_sized: hint.exact().is_some(),
            lent: hint,
            source: Source::Here(Box::pin(body)),
            record,
            stash: None,
            turn: 0,
            made: 0,
            next: None,
            others: Vec::new(),
            kept: true,
            promised: false,
            waker: None,
        }
    }

    /// Takes the original, to poll it without the lock.
    fn lend(&mut self) -> Lend<B> {
        match mem::replace(&mut self.source, Source::Lent) {
            Source::Here(body) => {
                self.lent = body.size_hint();
                Lend::Body(body)
            }
            Source::Lent => Lend::Busy,
            Source::Ended => {
                self.source = Source::Ended;
                Lend::Ended
            }
            Source::Failed => {
                self.source = Source::Failed;
                Lend::Failed
            }
        }
    }

    fn size_hint(&self, given: u64) -> SizeHint {
        let stash = self.stash.as_ref();
        let stashed = stash
            .and_then(Frame::data_ref)
            .map_or(0, |data| data.len() as u64);
        let here = self.record.data().saturating_sub(given) + stashed;
        let rest = match &self.source {
            Source::Here(body) => body.size_hint(),
            Source::Lent => self.lent,
            Source::Ended => SizeHint::with_exact(0),
            Source::Failed => SizeHint::new(),
        };
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(here));
        let has_trailers = self.record.has_trailers() || stash.is_some_and(Frame::is_trailers);
        let upper = rest.upper().filter(|_| self.is_sized || !has_trailers);
        if let Some(upper) = upper.and_then(|upper| upper.checked_add(here)) {
            hint.set_upper(upper);
        }
        hint
    }

    fn is_end(&self) -> bool {
        let ended = match &self.source {
            Source::Here(body) => body.is_end_stream(),
            Source::Lent | Source::Failed => false,
            Source::Ended => true,
        };
        ended && self.stash.is_none()
    }
}

/// The result of [`State::lend`].
enum Lend<B> {
    Body(Pin<Box<B>>),
    Busy,
    Ended,
    Failed,
}

impl<B> State<B> {
    /// The number of a new body.
    fn number(&mut self) -> u32 {
        self.made = self.made.saturating_add(1);
        self.others.extend(self.next.replace(self.made));
        self.made
    }

    /// The first poll of this body: it takes over, unless a later one has. Returns whom to wake.
    fn begin(&mut self, number: u32) -> Option<Waker> {
        self.others.retain(|other| *other > number);
        self.next = self.next.filter(|next| *next > number);
        if number <= self.turn {
            return None;
        }
        self.turn = number;
        self.promised = false;
        self.waker.take()
    }

    const fn has_turn(&self, number: u32) -> bool {
        self.turn == number
    }

    const fn is_past(&self, number: u32) -> bool {
        self.turn > number
    }

    /// This body is dropped. Returns whom to wake.
    fn leave(&mut self, number: u32) -> Option<Waker> {
        if self.turn == number {
            self.waker = None;
        }
        self.others.retain(|other| *other != number);
        if self.next != Some(number) {
            return None;
        }
        self.next = self.others.pop();
        self.waker.take()
    }

    /// The handle is dropped. Returns whom to wake.
    pub(super) fn forget(&mut self) -> Option<Waker> {
        self.kept = false;
        // Only the body that waits for the handle; others wait for the original.
        self.stash.as_ref().and_then(|_| self.waker.take())
    }

    pub(super) fn promise(&mut self) -> bool {
        let can = !self.record.is_lost() && !matches!(self.source, Source::Failed);
        self.promised |= can;
        can
    }

    /// Whether the record must not be lost.
    pub(super) fn is_promised(&self) -> bool {
        (self.promised && self.kept) || self.next.is_some()
    }

    /// Whether yielded frames may be needed again.
    const fn is_wanted(&self) -> bool {
        self.kept || self.next.is_some()
    }

    /// Stores the waker for a change of this state, other than one of the original.
    fn wait(&mut self, cx: &Context<'_>) {
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    fn take_waker(&mut self) -> Option<Waker> {
        self.waker.take()
    }
}

pub(super) fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// A frame of the original.
type Read<B> = Option<Result<Frame<<B as Body>::Data>, <B as Body>::Error>>;

/// The original while it is polled. If it panics, it counts as failed and nobody waits for it.
struct Loan<'a, B> {
    shared: &'a Shared<B>,
    body: Option<Pin<Box<B>>>,
}

impl<B: Body> Loan<'_, B> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Read<B>> {
        match &mut self.body {
            Some(body) => body.as_mut().poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn back(mut self) -> Source<B> {
        self.body.take().map_or(Source::Ended, Source::Here)
    }
}

impl<B> Drop for Loan<'_, B> {
    fn drop(&mut self) {
        if self.body.is_some() {
            let waiting = {
                let mut state = self.shared.lock();
                state.source = Source::Failed;
                state.record.lose();
                state.take_waker()
            };
            wake(waiting);
        }
    }
}

type Given = Option<Result<Frame<Bytes>, BoxError>>;

/// One sending of the body.
pub(super) struct Turn<B> {
    shared: Arc<Shared<B>>,
    number: u32,
    place: Place,
    has_begun: bool,
    has_ended: bool,
}

/// How much of the record has been yielded.
#[derive(Default)]
struct Place {
    frames: usize,
    bytes: u64,
}

impl Place {
    fn pass(&mut self, frame: &Frame<Bytes>) {
        self.frames += 1;
        self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
}

impl<B> Turn<B> {
    pub(super) fn new(shared: &Arc<Shared<B>>) -> Self {
        Self {
            number: shared.lock().number(),
            shared: Arc::clone(shared),
            place: Place::default(),
            has_begun: false,
            has_ended: false,
        }
    }
}

impl<B> Turn<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Given> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let given = ready!(self.poll_turn(cx));
        self.has_ended = !matches!(given, Some(Ok(_)));
        Poll::Ready(given)
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Given> {
        let (number, place, shared) = (self.number, &mut self.place, &*self.shared);
        if !self.has_begun {
            self.has_begun = true;
            let earlier = shared.lock().begin(number);
            wake(earlier);
        }
        let mut state = shared.lock();
        if !state.has_turn(number) {
            return failed(ReplayError::TakenOver);
        }
        if let Some(frame) = state.record.get(place.frames) {
            place.pass(&frame);
            return Poll::Ready(Some(Ok(frame)));
        }
        if let Some(frame) = state.stash.take() {
            return give(&mut state, place, frame, cx);
        }
        if !state.is_wanted() && !state.record.is_lost() {
            state.record.lose();
        }
        let body = match state.lend() {
            Lend::Body(body) => body,
            Lend::Busy => {
                state.wait(cx);
                return Poll::Pending;
            }
            Lend::Ended => return Poll::Ready(None),
            Lend::Failed => return failed(ReplayError::Lost),
        };
        drop(state);

        let mut loan = Loan {
            shared,
            body: Some(body),
        };
        let polled = loan.poll_frame(cx).map(|frame| frame.map(into_bytes));
        // Declared before the lock, so that the original is dropped after it is released.
        let _original;
        let mut state = shared.lock();
        let has_turn = state.has_turn(number);
        let later = if has_turn { None } else { state.take_waker() };
        let given = match polled {
            Poll::Pending => {
                state.source = loan.back();
                if has_turn {
                    state.wait(cx);
                    Poll::Pending
                } else {
                    failed(ReplayError::TakenOver)
                }
            }
            Poll::Ready(Some(Ok(frame))) => {
                state.source = loan.back();
                if has_turn {
                    give(&mut state, place, frame, cx)
                } else {
                    // The next body yields it.
                    state.stash = Some(frame);
                    failed(ReplayError::TakenOver)
                }
            }
            Poll::Ready(Some(Err(error))) => {
                _original = loan.back();
                state.source = Source::Failed;
                state.record.lose();
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(None) => {
                _original = loan.back();
                state.source = Source::Ended;
                Poll::Ready(None)
            }
        };
        drop(state);
        wake(later);
        given
    }

    pub(super) fn is_end_stream(&self) -> bool {
        let state = self.shared.lock();
        let may_give = !state.is_past(self.number);
        self.has_ended || (may_give && state.record.len() <= self.place.frames && state.is_end())
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        if self.has_ended {
            return SizeHint::with_exact(0);
        }
        let state = self.shared.lock();
        if state.is_past(self.number) {
            return SizeHint::new();
        }
        state.size_hint(self.place.bytes)
    }
}

/// Yields a frame of the original, and records it if it may be needed again.
fn give<B>(
    state: &mut State<B>,
    place: &mut Place,
    frame: Frame<Bytes>,
    cx: &Context<'_>,
) -> Poll<Given> {
    let is_nothing = frame.data_ref().is_some_and(Bytes::is_empty);
    if is_nothing || state.record.is_lost() {
        return Poll::Ready(Some(Ok(frame)));
    }
    if state.is_wanted() {
        if state.record.push(&frame) {
            place.pass(&frame);
            return Poll::Ready(Some(Ok(frame)));
        }
        if state.is_promised() {
            state.stash = Some(frame);
            state.wait(cx);
            return Poll::Pending;
        }
    }
    state.record.lose();
    Poll::Ready(Some(Ok(frame)))
}

fn failed(error: ReplayError) -> Poll<Given> {
    Poll::Ready(Some(Err(error.into())))
}

impl<B> Drop for Turn<B> {
    fn drop(&mut self) {
        let waiting = self.shared.lock().leave(self.number);
        wake(waiting);
    }
}
