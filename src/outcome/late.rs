//! Outcomes that are known later than the result they judge.

use super::Outcome;
use std::{
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

type Listener = Box<dyn FnOnce(Outcome) + Send>;

/// An outcome that is known when a response ends.
///
/// A streamed gRPC response has its status in trailers, at its end. A classifier that judges it at
/// its head returns a `LateOutcome` from [`Classify::late`](super::Classify::late), and a layer that
/// needs the outcome (a breaker for its permit, metrics) waits for it with [`then`](Self::then). A
/// retry layer does not: a call whose response has begun is never retried.
///
/// # Examples
///
/// ```
/// use std::sync::mpsc;
/// use tower_webhook::outcome::{LateOutcome, Outcome};
///
/// let (sender, late) = LateOutcome::new();
/// let (verdicts, seen) = mpsc::channel();
/// late.then(move |outcome| verdicts.send(outcome).unwrap());
///
/// sender.send(Outcome::transient());
/// assert_eq!(seen.recv().unwrap(), Outcome::transient());
/// ```
#[derive(Clone)]
pub struct LateOutcome {
    state: Arc<Mutex<State>>,
}

enum State {
    Open(Vec<Listener>),
    Known(Outcome),
}

/// Sends the outcome. Dropped unsent, it sends [`cancelled`](Outcome::cancelled). For classifiers that
/// implement [`Classify::late`](super::Classify::late).
pub struct LateSender {
    /// `None` once it is sent.
    late: Option<LateOutcome>,
}

impl LateOutcome {
    /// An outcome that is not yet known, and its sender.
    #[must_use]
    pub fn new() -> (LateSender, Self) {
        let late = Self {
            state: Arc::new(Mutex::new(State::Open(Vec::new()))),
        };
        let sender = LateSender {
            late: Some(late.clone()),
        };
        (sender, late)
    }

    /// Calls `listener` with the outcome, once: when it is sent, or now if it was sent before. The
    /// listener runs on the sender's thread, without a lock held, and should be brief.
    pub fn then(&self, listener: impl FnOnce(Outcome) + Send + 'static) {
        let known = match &mut *self.lock() {
            State::Open(listeners) => {
                listeners.push(Box::new(listener));
                return;
            }
            State::Known(outcome) => *outcome,
        };
        listener(known);
    }

    /// The outcome, if it is known already.
    pub fn known(&self) -> Option<Outcome> {
        match &*self.lock() {
            State::Open(_) => None,
            State::Known(outcome) => Some(*outcome),
        }
    }

    fn set(&self, outcome: Outcome) {
        let before = mem::replace(&mut *self.lock(), State::Known(outcome));
        if let State::Open(listeners) = before {
            for listener in listeners {
                listener(outcome);
            }
        }
    }

    /// Nothing that can panic runs under the lock, so a poisoned one is still valid.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LateSender {
    /// Sends the outcome.
    pub fn send(mut self, outcome: Outcome) {
        if let Some(late) = self.late.take() {
            late.set(outcome);
        }
    }
}

impl Drop for LateSender {
    fn drop(&mut self) {
        if let Some(late) = self.late.take() {
            late.set(Outcome::cancelled());
        }
    }
}

impl fmt::Debug for LateOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LateOutcome").field(&self.known()).finish()
    }
}

impl fmt::Debug for LateSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LateSender").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn every_listener_hears_it_once_early_or_late() {
        let (sender, late) = LateOutcome::new();
        let (said, heard) = mpsc::channel();
        for _ in 0..2 {
            let said = said.clone();
            late.then(move |outcome| said.send(outcome).unwrap());
        }
        assert_eq!(late.known(), None);
        sender.send(Outcome::success());
        late.then(move |outcome| said.send(outcome).unwrap());
        assert_eq!(heard.iter().collect::<Vec<_>>(), [Outcome::success(); 3]);
    }

    #[test]
    fn an_answer_that_is_dropped_is_cancelled() {
        let (sender, late) = LateOutcome::new();
        drop(sender);
        assert_eq!(late.known(), Some(Outcome::cancelled()));
    }
}
