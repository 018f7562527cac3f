use super::{Entry, Sink};
use crate::{
    BoxError, InvalidConfig, StoreError, StoreErrorKind, catch_panic::catch_panic, trace::trouble,
};
use std::{fmt, future::poll_fn, sync::Arc, task::Poll, time::Duration};

type Hook = Arc<dyn Fn(&Entry, WriteOutcome) + Send + Sync>;

/// The way to a sink: what layers and workers write entries with.
///
/// A write has a time limit, because a sink may hang; one that panics has failed. What the sink does not take goes to the
/// fallback sink, where there is one; what neither takes is an error that holds both causes, and a
/// warning. Clones share everything.
///
/// # Examples
///
/// ```
/// use std::{sync::Arc, time::{Duration, SystemTime}};
/// use tower_webhook::dead_letter::{
///     Cause, DeadLetters, JsonlDeadLetters, Entry, WriteOutcome, EntryId, Reason,
/// };
///
/// # tokio_test::block_on(async {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("entries.jsonl");
/// # let elsewhere = folder.path().join("elsewhere.jsonl");
/// let entries = DeadLetters::new(JsonlDeadLetters::open(path)?)
///     .fallback(JsonlDeadLetters::open(elsewhere)?) // another disk, while this one is full
///     .time_limit(Duration::from_secs(2))?
///     .on_end(|entry, end| println!("{} {}", entry.id, end.as_str()));
///
/// let cause = Cause::new(Reason::Rejected).with_code(Some(410));
/// let entry = Entry::new(EntryId::random(), "http", "peer.test", cause, SystemTime::now());
/// assert_eq!(entries.write(Arc::new(entry)).await?, WriteOutcome::Written);
/// # Ok::<_, tower_webhook::BoxError>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
#[must_use]
pub struct DeadLetters {
    sink: Arc<dyn Sink>,
    fallback: Option<Arc<dyn Sink>>,
    time_limit: Duration,
    hook: Option<Hook>,
}

/// Where an entry ended up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WriteOutcome {
    /// In the fallback sink: the first one did not take it.
    FellBack,
    /// Nowhere: no sink took it. Whoever has what it tells of may try again.
    NotWritten,
    /// In the sink.
    Written,
}

impl WriteOutcome {
    /// Every end, in alphabetical order: for counters that are set up in advance.
    pub const ALL: [Self; 3] = [Self::FellBack, Self::NotWritten, Self::Written];

    /// The name in lower case, for metric labels and logs. It does not change between releases.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FellBack => "fell_back",
            Self::NotWritten => "not_written",
            Self::Written => "written",
        }
    }
}

impl DeadLetters {
    /// Writes to `sink`.
    pub fn new(sink: impl Sink) -> Self {
        Self::shared(Arc::new(sink))
    }

    /// Writes to a sink that others use too.
    pub fn shared(sink: Arc<dyn Sink>) -> Self {
        Self {
            sink,
            fallback: None,
            time_limit: Duration::from_secs(5),
            hook: None,
        }
    }

    /// Where what the sink does not take goes. Nowhere by default.
    ///
    /// What calls [`write`](Self::write) once, as a layer does, has no other copy of what fell back:
    /// a fallback in memory loses it with the process. A [`Worker`](crate::queue::Worker) keeps the
    /// job until the sink itself has the entry, and writes it again until then; the copy in the
    /// fallback has the same id, and is for reading meanwhile. Let operators send entries again from
    /// the sink, not from the fallback of a worker.
    pub fn fallback(mut self, sink: impl Sink) -> Self {
        self.fallback = Some(Arc::new(sink));
        self
    }

    /// How long each of the sinks has for an entry. Default: 5 s.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] where it is zero.
    pub fn time_limit(mut self, limit: Duration) -> Result<Self, InvalidConfig> {
        if limit.is_zero() {
            return Err(InvalidConfig::new("time_limit", "must be longer than zero"));
        }
        self.time_limit = limit;
        Ok(self)
    }

    /// Called with each entry and where it ended up: for metrics and audits. Brief; a panic in it
    /// is caught. What was set before is called too.
    pub fn on_end(mut self, hook: impl Fn(&Entry, WriteOutcome) + Send + Sync + 'static) -> Self {
        let before = self.hook.take();
        self.hook = Some(Arc::new(move |entry: &Entry, end| {
            if let Some(before) = &before {
                before(entry, end);
            }
            hook(entry, end);
        }));
        self
    }

    /// Writes an entry. Gives where it is.
    ///
    /// # Errors
    ///
    /// [`NotWritten`]: no sink took it.
    ///
    /// # Cancel safety
    ///
    /// A write that is dropped is either done or not; its hook is then not called.
    pub async fn write(&self, entry: Arc<Entry>) -> Result<WriteOutcome, NotWritten> {
        self.attempt(entry).await.map(|fell_back| match fell_back {
            None => WriteOutcome::Written,
            Some(_) => WriteOutcome::FellBack,
        })
    }

    /// Writes an entry. Where it fell back, gives why the sink did not take it.
    pub(crate) async fn attempt(
        &self,
        entry: Arc<Entry>,
    ) -> Result<Option<StoreErrorKind>, NotWritten> {
        let result = match self.within(&*self.sink, &entry).await {
            Ok(()) => Ok(None),
            Err(first) => match &self.fallback {
                None => Err(NotWritten {
                    first,
                    second: None,
                }),
                Some(fallback) => match self.within(&**fallback, &entry).await {
                    Ok(()) => {
                        trouble!(
                            "dead_letter",
                            "an entry went to the fallback sink",
                            id = entry.id,
                            kind = first.kind().as_str()
                        );
                        Ok(Some(first.kind()))
                    }
                    Err(second) => Err(NotWritten {
                        first,
                        second: Some(second),
                    }),
                },
            },
        };
        let end = match &result {
            Ok(None) => WriteOutcome::Written,
            Ok(Some(_)) => WriteOutcome::FellBack,
            Err(error) => {
                trouble!(
                    "dead_letter",
                    "an entry was not written",
                    id = entry.id,
                    reason = entry.cause.reason,
                    kind = error.first().kind().as_str()
                );
                WriteOutcome::NotWritten
            }
        };
        if let Some(hook) = &self.hook {
            catch_panic(|| hook(&entry, end));
        }
        result
    }

    async fn within(&self, sink: &dyn Sink, entry: &Arc<Entry>) -> Result<(), StoreError> {
        let broken = || StoreError::new(StoreErrorKind::Unavailable).caused_by("the sink panicked");
        let mut write = catch_panic(|| sink.write(entry)).ok_or_else(broken)?;
        let write = poll_fn(|cx| {
            let polled = catch_panic(|| write.as_mut().poll(cx));
            polled.unwrap_or_else(|| Poll::Ready(Err(broken())))
        });
        match tokio::time::timeout(self.time_limit, write).await {
            Ok(written) => written,
            Err(_) => Err(StoreError::new(StoreErrorKind::Timeout)),
        }
    }
}

impl fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetters")
            .field("sink", &self.sink)
            .field("fallback", &self.fallback)
            .field("time_limit", &self.time_limit)
            .finish_non_exhaustive()
    }
}

/// An entry that no sink took.
#[derive(Debug)]
pub struct NotWritten {
    first: StoreError,
    second: Option<StoreError>,
}

impl NotWritten {
    /// The write ended without a word: its task panicked, or the runtime was shut down.
    pub(super) fn broken_off(cause: impl Into<BoxError>) -> Self {
        Self {
            first: StoreError::new(StoreErrorKind::Unavailable).caused_by(cause),
            second: None,
        }
    }

    /// What the sink said.
    pub const fn first(&self) -> &StoreError {
        &self.first
    }

    /// What the fallback sink said, where there is one.
    pub const fn second(&self) -> Option<&StoreError> {
        self.second.as_ref()
    }
}

impl fmt::Display for NotWritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the dead letter was not written: {}", self.first)?;
        match &self.second {
            Some(second) => write!(f, "; by the fallback sink neither: {second}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for NotWritten {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.first)
    }
}
