//! A call that may yet fail: what its entry would be made of.

use super::{Describe, Entry, EntryId, Reason, cause, layer::Shared};
use crate::{
    attempt::{AttemptRecord, History, Kept},
    catch_panic::catch_panic,
    outcome::Outcome,
    peer::PeerKey,
};
use std::{
    any::Any,
    error::Error,
    marker::PhantomData,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

pub(super) struct Case<K, D: Describe<Req>, Req> {
    pub(super) shared: Arc<Shared<K, D>>,
    kept: D::Kept,
    /// Where the request itself is not kept. Empty where its key panicked.
    target: Option<String>,
    started: Instant,
    of: PhantomData<fn() -> Req>,
}

impl<K, D, Req> Case<K, D, Req>
where
    K: PeerKey<Req>,
    D: Describe<Req>,
    Req: 'static,
{
    /// And the request, where that is what is kept; and what its key threw, where it panicked.
    pub(super) fn open(
        shared: &Arc<Shared<K, D>>,
        req: &Req,
    ) -> (Self, Option<Kept<Req>>, Option<Thrown>) {
        let kept = shared.describe.keep(req);
        let copy = shared.describe.share(&kept);
        let key = || shared.key.key(req).into_owned();
        let found = copy.is_none().then(|| caught(key));
        let (target, thrown) = match found {
            None => (None, None),
            Some(Ok(target)) => (Some(target), None),
            Some(Err(thrown)) => (Some(String::new()), Some(thrown)),
        };
        let case = Self {
            shared: Arc::clone(shared),
            kept,
            target,
            started: Instant::now(),
            of: PhantomData,
        };
        (case, copy, thrown)
    }

    /// The entry of a call that has panicked. `called` says whether it was begun.
    pub(super) fn panicked(&self, called: bool) -> Entry {
        let outcome = if called {
            Outcome::transient()
        } else {
            Outcome::refused(None)
        };
        let (mut entry, _) = self.entry(outcome, None, None);
        entry.cause.reason = Reason::Panicked;
        entry
    }

    /// The entry of a call that has failed, and what its key threw, where it panicked. `noted` is
    /// what its answer says of its attempts.
    pub(super) fn entry(
        &self,
        outcome: Outcome,
        noted: Option<&History>,
        error: Option<&(dyn Error + 'static)>,
    ) -> (Entry, Option<Thrown>) {
        let Shared {
            settings,
            key,
            describe,
        } = &*self.shared;
        let (mut cause, history) = cause::find(outcome, noted, error);
        let took = self.started.elapsed();
        let history = history.unwrap_or_else(|| alone(outcome, took));
        let now = settings.clock.now();

        let mut thrown = None;
        let target = match (&self.target, describe.share(&self.kept)) {
            (Some(target), _) => target.clone(),
            (None, Some(kept)) => {
                let found = caught(|| key.key(kept.request()).into_owned());
                found.unwrap_or_else(|panic| {
                    cause.reason = Reason::Panicked;
                    thrown = Some(panic);
                    String::new()
                })
            }
            (None, None) => String::new(),
        };
        let mut entry = Entry::new(EntryId::random(), "request", &target, cause, now);
        entry.direction = settings.direction;
        if history.attempts() > 0 {
            let began = now.checked_sub(took).unwrap_or(now);
            let last = history.last().map(|last| last.started() + last.took());
            entry.first_attempt_at = Some(began);
            entry.last_attempt_at =
                Some(last.and_then(|last| began.checked_add(last)).unwrap_or(now));
        }
        entry.history = history;
        if catch_panic(|| describe.describe(&self.kept, &mut entry)).is_none() {
            let what = "describing a request panicked: its entry is not complete";
            settings.entries.trouble(what, &entry.id);
        }
        entry.body = mem::take(&mut entry.body).cut(settings.body_limit);
        settings.redaction.apply(&mut entry);
        (entry, thrown)
    }
}

/// What a panic has thrown.
pub(super) type Thrown = Box<dyn Any + Send>;

/// What `work` returns, or throws. What it left half done is not used again: the panic goes on
/// when the entry is written.
pub(super) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Thrown> {
    catch_unwind(AssertUnwindSafe(work))
}

/// The history of a call of which none is told: no retry layer is inside, or its call was cut.
fn alone(outcome: Outcome, took: Duration) -> History {
    let mut history = History::new();
    if outcome.was_attempted() {
        history.push(AttemptRecord::new(1, Duration::ZERO, took, outcome));
    }
    history
}
