use crate::BoxError;
use std::fmt;

/// An invalid setting. Found when a layer or store is built, never at request time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidConfig {
    setting: &'static str,
    problem: String,
}

impl InvalidConfig {
    /// Makes an error from the name of a setting and its problem: "`lease` must be longer than zero" is
    /// `InvalidConfig::new("lease", "must be longer than zero")`. Never put a secret in `problem`.
    pub fn new(setting: &'static str, problem: impl Into<String>) -> Self {
        Self {
            setting,
            problem: problem.into(),
        }
    }

    /// The name of the setting.
    pub const fn setting(&self) -> &'static str {
        self.setting
    }
}

impl fmt::Display for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.setting, self.problem)
    }
}

impl std::error::Error for InvalidConfig {}

/// The error of every idempotency store, queue, sink and dead-letter store: a kind from a closed
/// set, and the driver's error as its source.
///
/// # Examples
///
/// ```
/// use tower_webhook::{StoreError, StoreErrorKind};
///
/// let error = StoreError::new(StoreErrorKind::Unavailable).caused_by("connection refused");
/// assert_eq!(error.kind().as_str(), "unavailable");
/// assert_eq!(error.to_string(), "the store is unavailable");
/// ```
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    source: Option<BoxError>,
}

/// The kind of an error of a store, queue or sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The store was closed.
    Closed,
    /// A stored record cannot be read.
    Corrupt,
    /// The store has reached its bound, or the disk is full. Retry later.
    Full,
    /// A newer release wrote the record. The record is left as it is.
    NewerSchema {
        /// The schema version of the record.
        found: u32,
        /// The newest schema version that this release reads.
        known: u32,
    },
    /// The record was refused and would be refused again: by the receiver of a sink that posts to a server, or because
    /// it asks for what the store does not keep.
    Rejected,
    /// The store did not answer in time.
    Timeout,
    /// The record is larger than the store accepts.
    TooLarge,
    /// The store cannot be reached, or failed.
    Unavailable,
}

impl StoreErrorKind {
    /// The name in lower case, for metric labels and logs. It does not change between releases.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Corrupt => "corrupt",
            Self::Full => "full",
            Self::NewerSchema { .. } => "newer_schema",
            Self::Rejected => "rejected",
            Self::Timeout => "timeout",
            Self::TooLarge => "too_large",
            Self::Unavailable => "unavailable",
        }
    }
}

impl fmt::Display for StoreErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl StoreError {
    /// Makes an error of this kind.
    pub const fn new(kind: StoreErrorKind) -> Self {
        Self { kind, source: None }
    }

    /// Adds the cause, as the [source](std::error::Error::source).
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The kind.
    pub const fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Whether there is a record, and it cannot be read.
    #[cfg(feature = "idempotency")]
    pub(crate) const fn is_unreadable(&self) -> bool {
        matches!(
            self.kind,
            StoreErrorKind::Corrupt | StoreErrorKind::NewerSchema { .. }
        )
    }

    #[cfg(feature = "queue")]
    pub(crate) const fn is_newer(&self) -> bool {
        matches!(self.kind, StoreErrorKind::NewerSchema { .. })
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            StoreErrorKind::Closed => "the store is closed",
            StoreErrorKind::Corrupt => "the stored record cannot be read",
            StoreErrorKind::Full => "the store is full",
            StoreErrorKind::NewerSchema { found, known } => {
                return write!(
                    f,
                    "the stored record has schema {found}; this release reads up to {known}"
                );
            }
            StoreErrorKind::Rejected => "the record was refused, and would be refused again",
            StoreErrorKind::Timeout => "the store did not answer in time",
            StoreErrorKind::TooLarge => "the record is larger than the store accepts",
            StoreErrorKind::Unavailable => "the store is unavailable",
        })
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
