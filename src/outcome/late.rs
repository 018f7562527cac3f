//! Verdicts that come after the result they are about.

use super::{ClassifyGrpc, GrpcEnd, Outcome};
use std::{
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

type Listener = Box<dyn FnOnce(Outcome) + Send>;

/// The verdict on an answer that has only begun: it comes when the answer ends.
///
/// A streamed gRPC call says how it went in its trailers. What judges such an answer at its head
/// hands out a `LateOutcome` ([`Classify::late`](super::Classify::late)), and a layer that keeps
/// something open until the verdict (a breaker's permit, a metric) puts it into
/// [`then`](Self::then). A retry layer does not: an answer that has begun is past retrying.
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

/// Says the verdict. Dropped without, it says [`cancelled`](Outcome::cancelled).
pub struct LateSender {
    /// `None` once it is said.
    late: Option<LateOutcome>,
}

impl LateOutcome {
    /// A verdict to come, and what will say it.
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

    /// Calls `listener` with the verdict, once: when it is said, or now if it has been. On the
    /// thread that says it, so it is brief; no lock is held meanwhile.
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

    /// The verdict, where it has been said.
    pub fn known(&self) -> Option<Outcome> {
        match &*self.lock() {
            State::Open(_) => None,
            State::Known(outcome) => Some(*outcome),
        }
    }

    fn say(&self, outcome: Outcome) {
        let before = mem::replace(&mut *self.lock(), State::Known(outcome));
        if let State::Open(listeners) = before {
            for listener in listeners {
                listener(outcome);
            }
        }
    }

    /// Nothing that could panic runs under the lock, so a poisoned one is as good.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LateSender {
    /// Says the verdict.
    pub fn send(mut self, outcome: Outcome) {
        if let Some(late) = self.late.take() {
            late.say(outcome);
        }
    }
}

impl Drop for LateSender {
    fn drop(&mut self) {
        if let Some(late) = self.late.take() {
            late.say(Outcome::cancelled());
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

/// The outcome of a gRPC stream that ended so.
pub(crate) fn late_verdict(end: GrpcEnd) -> Outcome {
    ClassifyGrpc::judge_end(end)
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
