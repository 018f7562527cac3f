//! The entries in SQLite.

#[cfg(feature = "sqlite")]
pub mod sqlite;
