use super::{Entry, EntryId, Reason, Sink, memory};
use crate::{
    BoxError, BoxFuture, InvalidConfig, StoreError, StoreErrorKind,
    catch_panic::catch_panic,
    lease::Settled,
    observe::{Event, Id, Observer, Observers},
};
use std::{
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// How much the entries hold whose callers are gone, in bytes.
const ROOM: usize = 64 << 20;

/// Writes entries to a sink, and to a fallback sink if the first one fails. Layers and workers write
/// through it.
///
/// Each write has a time limit, because a sink may hang. A panic of a sink counts as a failure. If
/// neither sink takes an entry, the result is an error with both causes, and an [`Event::Lost`] is
/// reported. Clones share everything.
///
/// While a caller waits for its entry, the entry is one of the things that the call holds. Entries whose callers are
/// gone (dropped, or answered before the failure was known) hold at most 64 MiB together: one for which there is no
/// room is not written, as [`StoreErrorKind::Full`], and reported as lost. A sink that hangs for as long as its time
/// limit cannot fill the memory.
///
/// # Examples
///
/// ```
/// use std::{sync::Arc, time::{Duration, SystemTime}};
/// use tower_webhook::dead_letter::{
///     Cause, DeadLetters, Entry, EntryId, JsonlDeadLetters, Reason, WriteOutcome,
/// };
/// use tower_webhook::observe::observer_fn;
///
/// # tokio_test::block_on(async {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("entries.jsonl");
/// # let elsewhere = folder.path().join("elsewhere.jsonl");
/// let dead_letters = DeadLetters::new(JsonlDeadLetters::open(path)?)
///     .fallback(JsonlDeadLetters::open(elsewhere)?) // another disk, while this one is full
///     .time_limit(Duration::from_secs(2))?
///     .observe(observer_fn(|event| println!("{event:?}")));
///
/// let cause = Cause::new(Reason::Rejected).with_code(Some(410));
/// let entry = Entry::new(EntryId::random(), "http", "peer.test", cause, SystemTime::now());
/// assert_eq!(dead_letters.write(Arc::new(entry)).await?, WriteOutcome::Written);
/// # Ok::<_, tower_webhook::BoxError>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
#[must_use]
pub struct DeadLetters {
    sink: Arc<dyn Sink>,
    fallback: Option<Arc<dyn Sink>>,
    time_limit: Duration,
    observers: Observers,
    /// A permit is a byte.
    room: Arc<Semaphore>,
}

/// The sink that has an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WriteOutcome {
    /// The fallback sink, because the first sink did not take it.
    FellBack,
    /// Neither sink.
    NotWritten,
    /// The first sink.
    Written,
}

impl WriteOutcome {
    /// Every value, in alphabetical order.
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
    /// Makes a writer to `sink`, without a fallback.
    pub fn new(sink: impl Sink) -> Self {
        Self::shared(Arc::new(sink))
    }

    /// Makes a writer to a shared sink, without a fallback.
    pub fn shared(sink: Arc<dyn Sink>) -> Self {
        Self {
            sink,
            fallback: None,
            time_limit: Duration::from_secs(5),
            observers: Observers::none(),
            room: Arc::new(Semaphore::new(ROOM)),
        }
    }

    /// Sets the fallback sink, for entries that the first sink does not take. Default: none.
    ///
    /// A layer writes an entry once, so the fallback then has the only copy: a fallback in memory loses it
    /// with the process. A [`Worker`](crate::queue::Worker) keeps the job and repeats the write until the
    /// first sink has the entry; the copy in the fallback has the same id, and is only for reading until
    /// then. Re-drive the entries of a worker from the first sink, not from the fallback.
    pub fn fallback(mut self, sink: impl Sink) -> Self {
        self.fallback = Some(Arc::new(sink));
        self
    }

    /// Sets the time limit of each of the two sinks for an entry. Default: 5 s.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] if it is zero.
    pub fn time_limit(mut self, limit: Duration) -> Result<Self, InvalidConfig> {
        if limit.is_zero() {
            return Err(InvalidConfig::new("time_limit", "must be longer than zero"));
        }
        self.time_limit = limit;
        Ok(self)
    }

    /// Adds an observer of the result of each entry: [`Event::DeadLettered`], [`Event::Lost`], and
    /// [`Event::Trouble`] with the sink. Default: none except `tracing`.
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.observers = self.observers.and(observer);
        self
    }

    /// Writes an entry, and returns which sink has it.
    ///
    /// # Errors
    ///
    /// [`NotWritten`]: no sink took it.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the entry is written or not; observers are then not told.
    pub async fn write(&self, entry: Arc<Entry>) -> Result<WriteOutcome, NotWritten> {
        let written = self.attempt(Arc::clone(&entry)).await;
        if let Err(error) = &written {
            let (peer, reason) = (&entry.target, entry.cause.reason);
            self.lost(entry.id, peer, reason, error.first.kind(), None);
        }
        written.map(|fell_back| match fell_back {
            None => WriteOutcome::Written,
            Some(_) => WriteOutcome::FellBack,
        })
    }

    /// Writes the entry of a call whose `caller` is gone when the sender is dropped. The entry then needs room.
    pub(super) async fn write_for(
        &self,
        mut caller: oneshot::Receiver<()>,
        entry: Arc<Entry>,
    ) -> Result<WriteOutcome, NotWritten> {
        let mut writing = pin!(self.write(Arc::clone(&entry)));
        let attended = poll_fn(|cx| match writing.as_mut().poll(cx) {
            Poll::Ready(written) => Poll::Ready(Some(written)),
            Poll::Pending => pin!(&mut caller).poll(cx).map(|_| None),
        });
        if let Some(written) = attended.await {
            return written;
        }
        let Some(_room) = self.room(&entry) else {
            let kind = StoreErrorKind::Full;
            self.lost(entry.id, &entry.target, entry.cause.reason, kind, None);
            return Err(NotWritten {
                first: StoreError::new(kind),
                second: None,
            });
        };
        writing.await
    }

    /// Room for an entry that nobody waits for. `None` if there is none.
    pub(super) fn room(&self, entry: &Entry) -> Option<OwnedSemaphorePermit> {
        let bytes = memory::weight(entry).min(ROOM);
        let permits = u32::try_from(bytes).ok()?;
        Arc::clone(&self.room).try_acquire_many_owned(permits).ok()
    }

    /// Writes an entry. If it fell back, also returns why the first sink did not take it. On an error, the
    /// caller reports that the entry is [lost](Self::lost).
    pub(crate) async fn attempt(
        &self,
        entry: Arc<Entry>,
    ) -> Result<Option<StoreErrorKind>, NotWritten> {
        let write = || -> BoxFuture<Result<Settled, StoreError>> {
            let writing = self.sink.write(&entry);
            Box::pin(async move { writing.await.map(|()| Settled::Done) })
        };
        self.attempt_by(&entry, write).await.map(Result::err)
    }

    /// Like [`attempt`](Self::attempt), where `write` writes the entry to the first sink together with a change of
    /// its job. If the claim of that is lost, nothing is written.
    pub(crate) async fn attempt_by(
        &self,
        entry: &Arc<Entry>,
        write: impl FnOnce() -> BoxFuture<Result<Settled, StoreError>>,
    ) -> Result<Result<Settled, StoreErrorKind>, NotWritten> {
        let written = match self.within(write).await {
            Ok(Settled::Lost) => return Ok(Ok(Settled::Lost)),
            Ok(Settled::Done) => Ok(Settled::Done),
            Err(first) => {
                let Some(fallback) = &self.fallback else {
                    let second = None;
                    return Err(NotWritten { first, second });
                };
                if let Err(second) = self.within(|| fallback.write(entry)).await {
                    let second = Some(second);
                    return Err(NotWritten { first, second });
                }
                self.trouble(
                    "the sink did not take an entry, the fallback sink did",
                    &first,
                );
                Err(first.kind())
            }
        };
        self.observers.tell(|| Event::DeadLettered {
            entry: Id::new(&entry.id),
            peer: &entry.target,
            reason: entry.cause.reason.as_str(),
            event_id: entry.event_id.as_deref(),
            fell_back: written.is_err(),
        });
        Ok(written)
    }

    #[cfg(feature = "queue")]
    pub(crate) fn sink(&self) -> &dyn Sink {
        &*self.sink
    }

    /// Reports that an entry was not written, and when the write is tried again.
    pub(crate) fn lost(
        &self,
        id: EntryId,
        peer: &str,
        reason: Reason,
        kind: StoreErrorKind,
        retry_after: Option<Duration>,
    ) {
        self.observers.tell(|| Event::Lost {
            entry: Id::new(&id),
            peer,
            reason: reason.as_str(),
            kind,
            retry_after,
        });
    }

    pub(super) fn trouble(&self, what: &'static str, detail: &dyn fmt::Display) {
        self.observers.tell(|| Event::Trouble {
            part: "dead_letter",
            what,
            detail: Some(Id::new(detail)),
        });
    }

    async fn within<T>(
        &self,
        write: impl FnOnce() -> BoxFuture<Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let broken = || StoreError::new(StoreErrorKind::Unavailable).caused_by("the sink panicked");
        let mut write = catch_panic(write).ok_or_else(broken)?;
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
    /// The task of the write panicked, or its runtime was shut down.
    pub(super) fn broken_off(cause: impl Into<BoxError>) -> Self {
        Self {
            first: StoreError::new(StoreErrorKind::Unavailable).caused_by(cause),
            second: None,
        }
    }

    /// The error of the sink.
    pub const fn first(&self) -> &StoreError {
        &self.first
    }

    /// The error of the fallback sink, if there is one.
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
