use super::record::Record;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    mem,
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

pub(super) struct Shared<B> {
    state: Mutex<State<B>>,
}

/// What the bodies of one request share. Locked for a few words at a time: never while the
/// original is polled, and no waker is called under it.
pub(super) struct State<B> {
    pub(super) source: Source<B>,
    pub(super) record: Record,
    /// A frame that was read and neither recorded nor given: it comes after what is recorded.
    pub(super) stash: Option<Frame<Bytes>>,
    /// What the original said of its length when it was lent.
    lent: SizeHint,
    /// Whether the original told its length at the beginning.
    is_sized: bool,
    /// The number of the body that reads the original. Zero: none yet.
    turn: u32,
    /// The number of the body that was made last.
    made: u32,
    /// The body that was made last, while it has not been polled.
    next: Option<u32>,
    /// Whether the handle lives that can make more bodies.
    kept: bool,
    /// Whether it was told that it can.
    promised: bool,
    /// Of the body whose turn it is.
    waker: Option<Waker>,
}

pub(super) enum Source<B> {
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
            kept: true,
            promised: false,
            waker: None,
        }
    }

    /// Takes the original, to poll it without the lock.
    pub(super) fn lend(&mut self) -> Lend<B> {
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

    pub(super) fn size_hint(&self, given: u64) -> SizeHint {
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

    pub(super) fn is_end(&self) -> bool {
        let ended = match &self.source {
            Source::Here(body) => body.is_end_stream(),
            Source::Lent | Source::Failed => false,
            Source::Ended => true,
        };
        ended && self.stash.is_none()
    }
}

/// What [`State::lend`] gives.
pub(super) enum Lend<B> {
    Body(Pin<Box<B>>),
    Busy,
    Ended,
    Failed,
}

impl<B> State<B> {
    /// The number of a new body.
    pub(super) fn number(&mut self) -> u32 {
        self.made = self.made.saturating_add(1);
        self.next = Some(self.made);
        self.made
    }

    /// The first poll of this body: it takes over, unless a later one has. Returns whom to wake.
    pub(super) fn begin(&mut self, number: u32) -> Option<Waker> {
        self.next = self.next.filter(|next| *next > number);
        if number <= self.turn {
            return None;
        }
        self.turn = number;
        self.promised = false;
        self.waker.take()
    }

    pub(super) const fn has_turn(&self, number: u32) -> bool {
        self.turn == number
    }

    pub(super) const fn is_past(&self, number: u32) -> bool {
        self.turn > number
    }

    /// This body is dropped. Returns whom to wake.
    pub(super) fn leave(&mut self, number: u32) -> Option<Waker> {
        if self.turn == number {
            self.waker = None;
        }
        if self.next != Some(number) {
            return None;
        }
        self.next = None;
        self.waker.take()
    }

    /// The handle is dropped. Returns whom to wake.
    pub(super) fn forget(&mut self) -> Option<Waker> {
        self.kept = false;
        // Only who waits for the handle: the others wait for the original.
        self.stash.as_ref().and_then(|_| self.waker.take())
    }

    pub(super) fn promise(&mut self) -> bool {
        let can = !self.record.is_lost() && !matches!(self.source, Source::Failed);
        self.promised |= can;
        can
    }

    /// Whether what is recorded must not be lost.
    pub(super) fn is_promised(&self) -> bool {
        (self.promised && self.kept) || self.next.is_some()
    }

    /// Whether what is given may have to be given again.
    pub(super) const fn is_wanted(&self) -> bool {
        self.kept || self.next.is_some()
    }

    /// Remembers whom to wake when something other than the original has changed.
    pub(super) fn wait(&mut self, cx: &Context<'_>) {
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    pub(super) fn take_waker(&mut self) -> Option<Waker> {
        self.waker.take()
    }
}

pub(super) fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// What the original gives.
type Read<B> = Option<Result<Frame<<B as Body>::Data>, <B as Body>::Error>>;

/// The original, while it is polled. Where it panics it has failed: nobody waits for it to come
/// back.
pub(super) struct Loan<'a, B> {
    pub(super) shared: &'a Shared<B>,
    pub(super) body: Option<Pin<Box<B>>>,
}

impl<B: Body> Loan<'_, B> {
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Read<B>> {
        match &mut self.body {
            Some(body) => body.as_mut().poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    pub(super) fn back(mut self) -> Source<B> {
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
