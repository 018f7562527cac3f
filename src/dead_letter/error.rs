use super::{EntryId, NotWritten, Reason, WriteOutcome};
use crate::BoxError;
use std::{convert::Infallible, error::Error, fmt, sync::Arc};

/// The entry of a failed call, and the sink that has it.
///
/// [`HttpRequests`](super::HttpRequests) adds it to the extensions of a failed response. If
/// [`not_written`](Self::not_written) is `Some`, no sink has the entry.
#[derive(Clone, Debug)]
pub struct DeadLettered {
    id: EntryId,
    reason: Reason,
    end: WriteOutcome,
    not_written: Option<Arc<NotWritten>>,
}

impl DeadLettered {
    pub(super) fn new(
        id: EntryId,
        reason: Reason,
        written: Result<WriteOutcome, NotWritten>,
    ) -> Self {
        let (end, not_written) = match written {
            Ok(end) => (end, None),
            Err(error) => (WriteOutcome::NotWritten, Some(Arc::new(error))),
        };
        Self {
            id,
            reason,
            end,
            not_written,
        }
    }

    /// The id of the entry.
    pub const fn id(&self) -> EntryId {
        self.id
    }

    /// The reason why the call failed.
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// The sink that has the entry.
    pub const fn end(&self) -> WriteOutcome {
        self.end
    }

    /// Why no sink has the entry; `None` if a sink has it.
    pub fn not_written(&self) -> Option<&NotWritten> {
        self.not_written.as_deref()
    }
}

/// A call failed and its entry was not written: the error of the call and the error of the sinks.
///
/// Its [`source`](Error::source) is the error of the call, so that outer classifiers judge that error.
///
/// # Examples
///
/// ```
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_webhook::{BoxError, BoxFuture, DeadLetterLayer, StoreError, StoreErrorKind};
/// use tower_webhook::dead_letter::{
///     DeadLetters, Entry, EntryLost, Sink, describe_fn,
/// };
/// use tower_webhook::peer::OnePeer;
/// use tower_webhook::outcome::{Outcome, OutcomeKind, Unreached, classify_fn};
///
/// #[derive(Debug)]
/// struct DiskFull;
///
/// impl Sink for DiskFull {
///     fn write(&self, _: &std::sync::Arc<Entry>) -> BoxFuture<Result<(), StoreError>> {
///         Box::pin(async { Err(StoreError::new(StoreErrorKind::Full)) })
///     }
/// }
///
/// # tokio_test::block_on(async {
/// let by_error = classify_fn(|result: Result<&(), &BoxError>| match result {
///     Ok(()) => Outcome::success(),
///     Err(error) => Outcome::of_error(&**error),
/// });
/// let layer = DeadLetterLayer::new(DeadLetters::new(DiskFull))
///     .classifier(by_error)
///     .peer(OnePeer)
///     .describe(describe_fn(|job: &u32, entry| entry.event_id = Some(job.to_string())));
/// let service = layer.layer(service_fn(|_: u32| async { Err(BoxError::from(Unreached::new())) }));
///
/// let error = service.oneshot(7).await.unwrap_err();
/// let lost: &EntryLost = error.downcast_ref().unwrap();
/// assert_eq!(lost.not_written().first().kind(), StoreErrorKind::Full);
/// assert_eq!(Outcome::of_error(lost).kind(), OutcomeKind::Unreached);
/// # });
/// ```
#[derive(Debug)]
pub struct EntryLost {
    id: EntryId,
    reason: Reason,
    not_written: Arc<NotWritten>,
    source: BoxError,
}

impl EntryLost {
    /// The id of the entry.
    pub const fn id(&self) -> EntryId {
        self.id
    }

    /// The reason why the call failed.
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// Why the entry was not written.
    pub fn not_written(&self) -> &NotWritten {
        &self.not_written
    }

    /// The error of the call.
    pub fn into_source(self) -> BoxError {
        self.source
    }
}

impl fmt::Display for EntryLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the call failed ({}), and {}",
            self.reason, self.not_written
        )
    }
}

impl Error for EntryLost {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}

/// The error type of a service inside a [`DeadLetterLayer`](super::DeadLetterLayer).
///
/// Implemented by [`BoxError`], and by [`Infallible`], which axum uses. For another error type, put
/// `.map_err(BoxError::from)` below the layer, or implement this trait.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot say that a dead-letter entry was lost",
    note = "put `.map_err(BoxError::from)` below the layer, or implement `CallError` for `{Self}`"
)]
pub trait CallError: Sized {
    /// Returns the error itself, whose chain of sources is read.
    fn as_error(&self) -> &(dyn Error + 'static);

    /// Adds the information that the entry was not written, and why.
    #[must_use]
    fn with_loss(self, dead_lettered: &DeadLettered) -> Self;
}

/// Becomes an [`EntryLost`] if the entry was not written.
impl CallError for BoxError {
    fn as_error(&self) -> &(dyn Error + 'static) {
        &**self
    }

    fn with_loss(self, dead_lettered: &DeadLettered) -> Self {
        match &dead_lettered.not_written {
            None => self,
            Some(not_written) => Box::new(EntryLost {
                id: dead_lettered.id,
                reason: dead_lettered.reason,
                not_written: Arc::clone(not_written),
                source: self,
            }),
        }
    }
}

impl CallError for Infallible {
    fn as_error(&self) -> &(dyn Error + 'static) {
        self
    }

    fn with_loss(self, _: &DeadLettered) -> Self {
        self
    }
}
