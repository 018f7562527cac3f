use super::{
    ReadHistory, RedriveBuilder, Redriven, Report, Resend, ResendHttp, Run, RunFailed, Stop, many,
    pace::Pace, send,
};
use crate::{
    BoxError, StoreError,
    clock::WallClock,
    dead_letter::{Cursor, EntryId, Filter, LetterStore, Redaction},
    observe::{Event, Id, Observers},
    outcome::{Classify, HttpClassifier, MakeClassifier},
};
use std::{fmt, sync::Arc, time::Duration};
use tower_service::Service;

/// Sends dead letters again. See the [module docs](super). Clones share the rate.
#[derive(Clone)]
pub struct Redrive<S, M = HttpClassifier, R = ResendHttp> {
    pub(super) service: S,
    pub(super) make: M,
    pub(super) resend: R,
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) store: Arc<dyn LetterStore>,
    pub(super) settings: Settings,
    pub(super) pace: Option<Pace>,
    pub(super) observers: Observers,
}

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) lease: Duration,
    pub(super) max_replays: u32,
    pub(super) at_once: usize,
    pub(super) patience: Duration,
    pub(super) clock: WallClock,
    pub(super) redaction: Redaction,
}

impl Redrive<()> {
    /// Settings, all with defaults. The entries are those of `store`.
    pub fn builder(store: Arc<dyn LetterStore>) -> RedriveBuilder {
        RedriveBuilder::new(store)
    }
}

impl<S, M, R> Redrive<S, M, R> {
    /// Where the entries are.
    pub fn store(&self) -> &Arc<dyn LetterStore> {
        &self.shared.store
    }

    /// Sends one entry again, because `by` asks for it.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the store did not say whether the entry is ours. Nothing was sent.
    ///
    /// # Cancel safety
    ///
    /// See the [module docs](super).
    pub fn one(
        &self,
        id: EntryId,
        by: &str,
    ) -> impl Future<Output = Result<Redriven, StoreError>> + use<S, M, R>
    where
        Self: Clone,
        S: Service<R::Request>,
        S::Error: Into<BoxError>,
        M: MakeClassifier<R::Request>,
        M::Classifier: Classify<S::Response, S::Error>,
        R: Resend + ReadHistory<S::Response>,
    {
        let (this, by) = (self.clone(), asked_by(by));
        async move {
            let shared = Arc::clone(&this.shared);
            let redriven = send::one(this, id, Stop::new()).await?;
            shared.tell(&by, id, &redriven, [1, 1], None);
            Ok(redriven)
        }
    }

    /// Sends all entries again that match, newest first, because `by` asks for it.
    ///
    /// # Errors
    ///
    /// [`RunFailed`]: the store gives no more entries. It tells what was done until then.
    ///
    /// # Cancel safety
    ///
    /// See the [module docs](super).
    pub fn many(
        &self,
        filter: Filter,
        by: &str,
    ) -> impl Future<Output = Result<Report, RunFailed>> + use<S, M, R>
    where
        Self: Clone,
        S: Service<R::Request>,
        S::Error: Into<BoxError>,
        M: MakeClassifier<R::Request>,
        M::Classifier: Classify<S::Response, S::Error>,
        R: Resend + ReadHistory<S::Response>,
    {
        self.run(Run::new(filter, by))
    }

    /// [`many`](Self::many) with more to say: where to go on, what stops it.
    ///
    /// # Errors
    ///
    /// As [`many`](Self::many).
    ///
    /// # Cancel safety
    ///
    /// See the [module docs](super).
    pub fn run(&self, run: Run) -> impl Future<Output = Result<Report, RunFailed>> + use<S, M, R>
    where
        Self: Clone,
        S: Service<R::Request>,
        S::Error: Into<BoxError>,
        M: MakeClassifier<R::Request>,
        M::Classifier: Classify<S::Response, S::Error>,
        R: Resend + ReadHistory<S::Response>,
    {
        many::drive(self.clone(), run)
    }
}

impl Shared {
    /// Tells what came of an entry. `far` is how many of the run are done, and how many matched.
    pub(super) fn tell(
        &self,
        by: &str,
        id: EntryId,
        redriven: &Redriven,
        [done, total]: [u64; 2],
        cursor: Option<&Cursor>,
    ) {
        self.observers.tell(|| Event::Redriven {
            entry: Id::new(&id),
            by,
            result: redriven.as_str(),
            done,
            total,
            cursor: cursor.map(|cursor| Id::new(cursor)),
        });
    }
}

/// Bounded: it goes into logs once for each entry.
pub(super) fn asked_by(by: &str) -> String {
    by.chars().take(256).collect()
}

impl<S, M, R> fmt::Debug for Redrive<S, M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redrive")
            .field("store", &self.shared.store)
            .field("settings", &self.shared.settings)
            .finish_non_exhaustive()
    }
}
