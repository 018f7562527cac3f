use super::DatabaseError;
use std::{error::Error, fmt, path::PathBuf, time::Duration};
use tower_webhook::{BoxError, InvalidConfig};

/// Why a database could not be opened. The message names the file and what to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// The file cannot be opened or created.
    CannotOpen {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: BoxError,
    },
    /// A setting is invalid.
    Config(InvalidConfig),
    /// The database is damaged.
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The file is a database of another application.
    Foreign {
        /// The file.
        path: PathBuf,
        /// The `application_id` in its header, 0 if none was set.
        application_id: i32,
    },
    /// Another process holds the file.
    Locked {
        /// The file.
        path: PathBuf,
        /// How long the call waited for it.
        waited: Duration,
    },
    /// A migration step failed. The file is as it was before.
    Migration {
        /// The file.
        path: PathBuf,
        /// The owner of the tables.
        component: String,
        /// The version that could not be reached.
        version: u32,
        /// What failed.
        source: DatabaseError,
    },
    /// A newer release made the tables.
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// The owner of the tables.
        component: String,
        /// The version in the file.
        found: u32,
        /// The newest version that this release knows.
        known: u32,
    },
    /// The file is not an SQLite database.
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// The file, its folder or its disk is read-only, or its folder cannot be entered.
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CannotOpen { path, source } => {
                write!(f, "cannot open the database {}: {source}", path.display())
            }
            Self::Config(invalid) => invalid.fmt(f),
            Self::Corrupt { path, detail } => write!(
                f,
                "the database {} is damaged ({detail}): restore it from a backup, or move it away to start anew",
                path.display()
            ),
            Self::Foreign {
                path,
                application_id,
            } => write!(
                f,
                "{} is the database of another application (application_id {application_id}): choose another file",
                path.display()
            ),
            Self::Locked { path, waited } => write!(
                f,
                "another process or connection holds the database {}, waited {waited:?}: end it, or wait longer",
                path.display()
            ),
            Self::Migration {
                path,
                component,
                version,
                source,
            } => write!(
                f,
                "cannot bring `{component}` in {} to version {version}: {source}",
                path.display()
            ),
            Self::NewerSchema {
                path,
                component,
                found,
                known,
            } => write!(
                f,
                "`{component}` in {} has version {found}, made by a newer release, and this one knows {known}: update this program, or choose another file",
                path.display()
            ),
            Self::NotADatabase { path } => write!(
                f,
                "{} is not an SQLite database: choose another file",
                path.display()
            ),
            Self::ReadOnly { path } => write!(
                f,
                "the database {} cannot be written: give this user the right to write the file and its folder {}",
                path.display(),
                path.parent().unwrap_or(path).display()
            ),
        }
    }
}

impl Error for OpenError {
    // `Display` contains the message of `source`, so the chain goes on below it.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::CannotOpen { source, .. } => source.source(),
            Self::Migration { source, .. } => source.source(),
            _ => None,
        }
    }
}

impl From<InvalidConfig> for OpenError {
    fn from(invalid: InvalidConfig) -> Self {
        Self::Config(invalid)
    }
}
