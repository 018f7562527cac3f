use super::{Letter, Sink, SinkError, SinkErrorKind};
use crate::{BoxError, InvalidConfig, shield::shielded, trace::trouble};
use std::{fmt, future::poll_fn, sync::Arc, task::Poll, time::Duration};

type Hook = Arc<dyn Fn(&Letter, LetterEnd) + Send + Sync>;

/// The way to a sink: what layers and workers write letters with.
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
///     Cause, DeadLetters, JsonlLetters, Letter, LetterEnd, LetterId, Reason,
/// };
///
/// # tokio_test::block_on(async {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("letters.jsonl");
/// # let elsewhere = folder.path().join("elsewhere.jsonl");
/// let letters = DeadLetters::new(JsonlLetters::open(path)?)
///     .fallback(JsonlLetters::open(elsewhere)?) // another disk, while this one is full
///     .time_limit(Duration::from_secs(2))?
///     .on_end(|letter, end| println!("{} {}", letter.id, end.as_str()));
///
/// let cause = Cause::new(Reason::Rejected).with_code(Some(410));
/// let letter = Letter::new(LetterId::random(), "http", "peer.test", cause, SystemTime::now());
/// assert_eq!(letters.write(Arc::new(letter)).await?, LetterEnd::Written);
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

/// Where a letter ended up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LetterEnd {
    /// In the fallback sink: the first one did not take it.
    FellBack,
    /// Nowhere: no sink took it. Whoever has what it tells of may try again.
    NotWritten,
    /// In the sink.
    Written,
}

impl LetterEnd {
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
    /// job until the sink itself has the letter, and writes it again until then; the copy in the
    /// fallback has the same id, and is for reading meanwhile. Let operators send letters again from
    /// the sink, not from the fallback of a worker.
    pub fn fallback(mut self, sink: impl Sink) -> Self {
        self.fallback = Some(Arc::new(sink));
        self
    }

    /// How long each of the sinks has for a letter. Default: 5 s.
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

    /// Called with each letter and where it ended up: for metrics and audits. Brief; a panic in it
    /// is caught. What was set before is called too.
    pub fn on_end(mut self, hook: impl Fn(&Letter, LetterEnd) + Send + Sync + 'static) -> Self {
        let before = self.hook.take();
        self.hook = Some(Arc::new(move |letter: &Letter, end| {
            if let Some(before) = &before {
                before(letter, end);
            }
            hook(letter, end);
        }));
        self
    }

    /// Writes a letter. Gives where it is.
    ///
    /// # Errors
    ///
    /// [`NotWritten`]: no sink took it.
    ///
    /// # Cancel safety
    ///
    /// A write that is dropped is either done or not; its hook is then not called.
    pub async fn write(&self, letter: Arc<Letter>) -> Result<LetterEnd, NotWritten> {
        self.attempt(letter).await.map(|fell_back| match fell_back {
            None => LetterEnd::Written,
            Some(_) => LetterEnd::FellBack,
        })
    }

    /// Writes a letter. Where it fell back, gives why the sink did not take it.
    pub(crate) async fn attempt(
        &self,
        letter: Arc<Letter>,
    ) -> Result<Option<SinkErrorKind>, NotWritten> {
        let result = match self.within(&*self.sink, &letter).await {
            Ok(()) => Ok(None),
            Err(first) => match &self.fallback {
                None => Err(NotWritten {
                    first,
                    second: None,
                }),
                Some(fallback) => match self.within(&**fallback, &letter).await {
                    Ok(()) => {
                        trouble!(
                            "dead_letter",
                            "a letter went to the fallback sink",
                            id = letter.id,
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
            Ok(None) => LetterEnd::Written,
            Ok(Some(_)) => LetterEnd::FellBack,
            Err(error) => {
                trouble!(
                    "dead_letter",
                    "a letter was not written",
                    id = letter.id,
                    reason = letter.cause.reason,
                    kind = error.first().kind().as_str()
                );
                LetterEnd::NotWritten
            }
        };
        if let Some(hook) = &self.hook {
            shielded(|| hook(&letter, end));
        }
        result
    }

    async fn within(&self, sink: &dyn Sink, letter: &Arc<Letter>) -> Result<(), SinkError> {
        let broken = || SinkError::new(SinkErrorKind::Unavailable).caused_by("the sink panicked");
        let mut write = shielded(|| sink.write(letter)).ok_or_else(broken)?;
        let write = poll_fn(|cx| {
            let polled = shielded(|| write.as_mut().poll(cx));
            polled.unwrap_or_else(|| Poll::Ready(Err(broken())))
        });
        match tokio::time::timeout(self.time_limit, write).await {
            Ok(written) => written,
            Err(_) => Err(SinkError::new(SinkErrorKind::Timeout)),
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

/// A letter that no sink took.
#[derive(Debug)]
pub struct NotWritten {
    first: SinkError,
    second: Option<SinkError>,
}

impl NotWritten {
    /// The write ended without a word: its task panicked, or the runtime was shut down.
    pub(super) fn broken_off(cause: impl Into<BoxError>) -> Self {
        Self {
            first: SinkError::new(SinkErrorKind::Unavailable).caused_by(cause),
            second: None,
        }
    }

    /// What the sink said.
    pub const fn first(&self) -> &SinkError {
        &self.first
    }

    /// What the fallback sink said, where there is one.
    pub const fn second(&self) -> Option<&SinkError> {
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
