use rusqlite::ErrorCode;
use std::{error::Error, fmt, sync::Arc};
use tower_webhook::BoxError;

/// Why an operation was not done.
///
/// The operation changed nothing, with one exception: after
/// [`Unavailable`](DatabaseErrorKind::Unavailable) this is unknown, because a disk that failed to
/// confirm a write may still have written it.
///
/// It contains no bound value, so it is safe to log.
#[derive(Clone, Debug)]
pub struct DatabaseError {
    kind: DatabaseErrorKind,
    /// Shared, because one failed commit is the error of every operation in it.
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// The kind of a [`DatabaseError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DatabaseErrorKind {
    /// The operation was undone, by itself or by another one in the same transaction.
    Aborted,
    /// Another process held the file for longer than the busy timeout.
    Busy,
    /// The database was closed.
    Closed,
    /// A constraint was violated: a unique key, a `CHECK`, a foreign key.
    Constraint,
    /// The file is damaged.
    Corrupt,
    /// The disk is full, or the file has its maximum size.
    DiskFull,
    /// Too many operations are waiting.
    Full,
    /// The statement is invalid: its SQL, its parameters, or the place where it was used.
    Invalid,
    /// A value is missing, has another type, or is out of range.
    Mistyped,
    /// The operation, or the clock of the database, panicked.
    Panicked,
    /// The file or its disk has become read-only.
    ReadOnly,
    /// The result has more rows than the database allows.
    TooManyRows,
    /// The file is gone, or reading or writing it failed.
    Unavailable,
}

impl DatabaseErrorKind {
    /// A fixed name, for instance for a metric's label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::Busy => "busy",
            Self::Closed => "closed",
            Self::Constraint => "constraint",
            Self::Corrupt => "corrupt",
            Self::DiskFull => "disk_full",
            Self::Full => "full",
            Self::Invalid => "invalid",
            Self::Mistyped => "mistyped",
            Self::Panicked => "panicked",
            Self::ReadOnly => "read_only",
            Self::TooManyRows => "too_many_rows",
            Self::Unavailable => "unavailable",
        }
    }
}

impl DatabaseError {
    pub(crate) const fn new(kind: DatabaseErrorKind) -> Self {
        Self { kind, source: None }
    }

    pub(crate) fn caused(kind: DatabaseErrorKind, source: impl Into<BoxError>) -> Self {
        Self {
            kind,
            source: Some(Arc::from(source.into())),
        }
    }

    /// An error that undoes the operation which returns it.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_webhook_sqlite::database::{DatabaseError, DatabaseErrorKind};
    ///
    /// let error = DatabaseError::aborted("the account has no credit");
    /// assert_eq!(error.kind(), DatabaseErrorKind::Aborted);
    /// ```
    pub fn aborted(reason: impl Into<BoxError>) -> Self {
        Self::caused(DatabaseErrorKind::Aborted, reason)
    }

    /// The kind of the error.
    pub const fn kind(&self) -> DatabaseErrorKind {
        self.kind
    }

    /// Wraps an error of the driver. Not a `From`, because the driver is not part of the public API.
    pub(crate) fn from_driver(error: rusqlite::Error) -> Self {
        Self::caused(kind_of(&error), error)
    }
}

/// The kind of a driver's error.
fn kind_of(error: &rusqlite::Error) -> DatabaseErrorKind {
    use DatabaseErrorKind as Kind;
    let code = match error {
        rusqlite::Error::SqliteFailure(error, _) | rusqlite::Error::SqlInputError { error, .. } => {
            error.code
        }
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::Utf8Error(..) => return Kind::Mistyped,
        _ => return Kind::Invalid,
    };
    match code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Kind::Busy,
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Kind::Corrupt,
        ErrorCode::DiskFull => Kind::DiskFull,
        ErrorCode::ConstraintViolation => Kind::Constraint,
        ErrorCode::OperationAborted => Kind::Aborted,
        ErrorCode::ReadOnly => Kind::ReadOnly,
        ErrorCode::Unknown
        | ErrorCode::TooBig
        | ErrorCode::TypeMismatch
        | ErrorCode::ApiMisuse
        | ErrorCode::ParameterOutOfRange => Kind::Invalid,
        _ => Kind::Unavailable,
    }
}

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            DatabaseErrorKind::Aborted => "the operation was undone",
            DatabaseErrorKind::Busy => "another process holds the database",
            DatabaseErrorKind::Closed => "the database is closed",
            DatabaseErrorKind::Constraint => "a constraint does not hold",
            DatabaseErrorKind::Corrupt => "the database file is damaged",
            DatabaseErrorKind::DiskFull => "the disk or the database is full",
            DatabaseErrorKind::Full => "too many operations are waiting for the database",
            DatabaseErrorKind::Invalid => "the statement, or a value of it, is not valid",
            DatabaseErrorKind::Mistyped => "a value has another type, or is out of range",
            DatabaseErrorKind::Panicked => "the operation or the clock panicked",
            DatabaseErrorKind::ReadOnly => {
                "the database cannot be written: its file or disk is read-only"
            }
            DatabaseErrorKind::TooManyRows => "the result has too many rows",
            DatabaseErrorKind::Unavailable => "the database is unavailable",
        })
    }
}

impl Error for DatabaseError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
