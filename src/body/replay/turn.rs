use super::{
    ReplayError, into_bytes,
    state::{Lend, Loan, Shared, Source, State, wake},
};
use crate::BoxError;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

type Given = Option<Result<Frame<Bytes>, BoxError>>;

/// One sending of the body.
pub(super) struct Turn<B> {
    shared: Arc<Shared<B>>,
    number: u32,
    place: Place,
    has_begun: bool,
    has_ended: bool,
}

/// How much of what is recorded has been given.
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
                    // Read for this one, and for the next to give.
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

/// Gives a frame of the original, and records it where it may be wanted again.
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
