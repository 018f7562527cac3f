//! The JSON form of an entry, for files, tables, callbacks and operators.
//!
//! One object, without line breaks. Its first member is the number of its schema; this is schema
//! [`Entry::SCHEMA_VERSION`], 1. Names are in camel case. Times are RFC 3339 in UTC, to the
//! millisecond. What is not there is left out.
//!
//! | Member | Type | What it is |
//! | --- | --- | --- |
//! | `schemaVersion` | number | 1 |
//! | `id` | string | 32 hexadecimal digits in lower case |
//! | `direction` | string | `inbound` or `outbound` |
//! | `kind` | string | `http`, or the kind of a job |
//! | `target` | string | where it was to go: the key of breakers and metrics |
//! | `method`, `uri` | string, optional | of an HTTP request |
//! | `headers` | array, optional | `{"name", "text"}`, or `{"name", "base64"}`, as with the body |
//! | `headersLeftOut` | number, optional | how many of its headers and trailers are [not there](Entry::headers_left_out), credentials aside; 0 where it is left out |
//! | `body.text` or `body.base64` | string | what is kept: as text where it is UTF-8 and takes no more than twice its length, else in base64 with padding |
//! | `body.length` | number | how many bytes the whole has |
//! | `body.truncated` | boolean | whether less than the whole is kept |
//! | `body.sha256` | string | the digest of the whole, in hexadecimal |
//! | `reason` | string | a [`Reason`](super::Reason) |
//! | `lastStatus` | number, optional | the peer's last answer: an HTTP status, a gRPC code |
//! | `errorClass` | string, optional | what the last attempt came to |
//! | `errorMessage` | string, optional | the last error in words |
//! | `history.attempts` | array | the calls, oldest first: see below |
//! | `history.leftOut` | number | how many calls are not in it |
//! | `history.attemptsMade` | number | how many attempts were made on the peer |
//! | `history.refusals` | number | how many calls were refused on our side |
//! | `history.gaveUp` | string, optional | why the retries ended |
//! | `firstAttemptAt`, `lastAttemptAt` | time, optional | of the attempts |
//! | `writtenAt` | time | when the record was made |
//! | `eventTime`, `eventId` | time, string, optional | of the event, as its sender said |
//! | `idempotencyKey` | string, optional | by which the receiver knows a repetition |
//! | `replays` | number | how often it was tried again from here |
//! | `replayOf` | string, optional | what it was a repetition of |
//! | `traceId` | string, optional | the trace that it belonged to |
//!
//! One of `history.attempts`, with times in milliseconds from `firstAttemptAt`: `number`,
//! `startedMs`, `tookMs`, `outcome` (the name of an
//! [`OutcomeKind`](crate::outcome::OutcomeKind)), `mayRetry`, and optionally `code`,
//! `retryAfterMs`, `waitMs`.
//!
//! # What is read
//!
//! - Members that this schema does not name are ignored; `null` is the same as not there.
//! - A newer schema is [`StoreErrorKind::NewerSchema`], whatever else the record says.
//! - What cannot be is [`StoreErrorKind::Corrupt`], and the error's source names the member, never
//!   its value: a digest that is not that of the whole body, both of `text` and `base64`.
//!
//! # Examples
//!
//! ```
//! use std::time::UNIX_EPOCH;
//! use tower_webhook::dead_letter::{Cause, Entry, EntryBody, EntryId, Reason, json};
//!
//! let cause = Cause::new(Reason::Rejected).with_code(Some(410));
//! let mut entry = Entry::new(EntryId::from_bytes([7; 16]), "http", "peer.test", cause, UNIX_EPOCH);
//! entry.body = EntryBody::new(&"{}".into(), 1024);
//!
//! let record = json::to_json(&entry);
//! assert!(record.starts_with(r#"{"schemaVersion":1,"id":"0707"#));
//! assert_eq!(json::from_json(record.as_bytes())?, entry);
//! # Ok::<_, tower_webhook::BoxError>(())
//! ```

use crate::{StoreError, StoreErrorKind};
mod read;
pub(super) mod time;
mod write;

#[cfg(test)]
mod tests;

use super::{Entry, Listing, Summary};
use std::fmt;

/// The longest record that is read, in bytes. Longer ones are [`StoreErrorKind::TooLarge`].
pub const MAX_LENGTH: usize = 64 << 20;

/// An entry as a record of the newest schema.
pub fn to_json(entry: &Entry) -> String {
    write::entry(entry)
}

/// The entry that a record tells of.
///
/// # Errors
///
/// [`StoreError`] of kind `Corrupt`, `NewerSchema` or `TooLarge`.
pub fn from_json(record: &[u8]) -> Result<Entry, StoreError> {
    if record.len() > MAX_LENGTH {
        return Err(StoreError::new(StoreErrorKind::TooLarge));
    }
    read::entry(record)
}

/// What a list says of an entry, with the names of the entry's own form; instead of `body` and
/// `history` it has `bodyLength` and `attempts`, and `inProgress` besides.
pub fn summary_json(summary: &Summary) -> String {
    write::summary(summary)
}

/// A part of a list: `items`, each a [summary](summary_json); `nextCursor`, `null` at the end; and
/// `unreadable`, how many records cannot be read.
pub fn listing_json(listing: &Listing) -> String {
    write::listing(listing)
}

/// The source of a `Corrupt` error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Damaged(&'static str);

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is missing or makes no sense", self.0)
    }
}

impl std::error::Error for Damaged {}

fn damaged(member: &'static str) -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt).caused_by(Damaged(member))
}
