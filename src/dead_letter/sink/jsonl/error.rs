use crate::{BoxError, InvalidConfig};
use std::{fmt, path::PathBuf};

/// DeadLetterDesk that could not be opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenDeadLettersError {
    /// A file cannot be made, read or mended: its folder must be there, and be ours.
    CannotOpen {
        /// Where.
        path: PathBuf,
        /// Why.
        source: BoxError,
    },
    /// A setting makes no sense.
    InvalidConfig(InvalidConfig),
    /// Another process has them open, or another handle of this one.
    Locked {
        /// Where.
        path: PathBuf,
    },
}

impl fmt::Display for OpenDeadLettersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CannotOpen { path, source } => {
                write!(f, "cannot open the entries at {}: {source}", path.display())
            }
            Self::InvalidConfig(error) => error.fmt(f),
            Self::Locked { path } => write!(
                f,
                "the entries at {} are open already, in another process or by another handle",
                path.display()
            ),
        }
    }
}

impl std::error::Error for OpenDeadLettersError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::CannotOpen { source, .. } => Some(&**source),
            Self::InvalidConfig(error) => Some(error),
            Self::Locked { .. } => None,
        }
    }
}
