//! The JSON form of an entry, for files, tables, callbacks and operators.
//!
//! One object, without line breaks. Its first member is the version of its schema,
//! [`Entry::SCHEMA_VERSION`], which is 1. Names are in camel case. Times are RFC 3339 in UTC, with
//! milliseconds. An empty member is left out.
//!
//! | Member | Type | Meaning |
//! | --- | --- | --- |
//! | `schemaVersion` | number | 1 |
//! | `id` | string | 32 hexadecimal digits in lower case |
//! | `direction` | string | `inbound` or `outbound` |
//! | `kind` | string | `http`, or the kind of a job |
//! | `target` | string | the peer, named as for breakers and metrics |
//! | `method`, `uri` | string, optional | of an HTTP request |
//! | `headers` | array, optional | `{"name", "text"}`, or `{"name", "base64"}`, as with the body |
//! | `headersLeftOut` | number, optional | how many headers and trailers are [left out](Entry::headers_left_out), credentials aside; left out where it is 0 |
//! | `credentialsLeftOut` | number, optional | how many [credentials](Entry::credentials_left_out) are left out; left out where it is 0 |
//! | `body.text` or `body.base64` | string | the stored bytes: as text if they are UTF-8 and take at most twice their length in JSON, otherwise in base64 with padding |
//! | `body.length` | number | the length of the whole body, in bytes |
//! | `body.truncated` | boolean | whether only the beginning is stored |
//! | `body.sha256` | string | the digest of the whole body, in hexadecimal |
//! | `reason` | string | a [`Reason`](super::Reason) |
//! | `lastStatus` | number, optional | the code of the last response: an HTTP status, a gRPC code |
//! | `errorClass` | string, optional | the outcome of the last attempt |
//! | `errorMessage` | string, optional | the message of the last error |
//! | `history.attempts` | array | the calls, oldest first: see below |
//! | `history.leftOut` | number | the number of calls that are not listed |
//! | `history.attemptsMade` | number | the number of attempts on the peer |
//! | `history.refusals` | number | the number of calls that this side refused |
//! | `history.gaveUp` | string, optional | why the retries ended |
//! | `firstAttemptAt`, `lastAttemptAt` | time, optional | of the attempts |
//! | `writtenAt` | time | when the entry was made |
//! | `eventTime`, `eventId` | time, string, optional | of the event, as its sender set them |
//! | `idempotencyKey` | string, optional | the key by which the receiver recognizes a repetition |
//! | `replays` | number | the number of times that it was sent again |
//! | `replayOf` | string, optional | the event or entry that it repeats |
//! | `traceId` | string, optional | the id of its trace |
//! | `taskId`, `dedupKey`, `fifoGroup` | string, optional | of a job: its task, its deduplication key as text, its FIFO group |
//!
//! One of `history.attempts`, with times in milliseconds from `firstAttemptAt`: `number`,
//! `startedMs`, `tookMs`, `outcome` (the name of an
//! [`OutcomeKind`](crate::outcome::OutcomeKind)), `mayRetry`, and optionally `code`,
//! `retryAfterMs`, `waitMs`.
//!
//! # Reading
//!
//! - Unknown members are ignored; `null` is the same as a missing member.
//! - A newer schema is [`StoreErrorKind::NewerSchema`], whatever else the record contains.
//! - An invalid record is [`StoreErrorKind::Corrupt`], for instance if the digest does not match the
//!   whole body, or if it has both `text` and `base64`. The source of the error names the member, never
//!   its value.
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

mod read;

#[cfg(test)]
mod tests;

use super::{Cause, Entry, EntryBody, Listing, Summary};
use crate::{StoreError, StoreErrorKind, attempt::wire::HistoryWire};
use data_encoding::{BASE64, HEXLOWER};
use jiff::{
    Timestamp,
    fmt::temporal::{DateTimeParser, DateTimePrinter},
};
use serde::Serialize;
use std::{
    fmt,
    time::{Duration, SystemTime},
};

/// The longest record that is read, in bytes. Longer ones are [`StoreErrorKind::TooLarge`].
pub const MAX_LENGTH: usize = 64 << 20;

/// Writes an entry in the newest schema.
pub fn to_json(entry: &Entry) -> String {
    text(&EntryOut::from(entry))
}

/// Reads an entry.
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

/// Writes a summary with the member names of an entry. Instead of `body` and `history` it has
/// `bodyLength`, `attempts` and `inProgress`.
pub fn summary_json(summary: &Summary) -> String {
    text(&SummaryOut::from(summary))
}

/// Writes a page of a list: `items`, each a [summary](summary_json); `nextCursor`, `null` at the end; and
/// `unreadable`, the number of records that cannot be read.
pub fn listing_json(listing: &Listing) -> String {
    text(&ListingOut {
        items: listing.entries.iter().map(SummaryOut::from).collect(),
        next_cursor: listing.next.as_ref().map(ToString::to_string),
        unreadable: listing.unreadable,
    })
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

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EntryOut<'a> {
    schema_version: u32,
    id: String,
    direction: &'static str,
    kind: &'a str,
    target: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<HeaderOut<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers_left_out: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credentials_left_out: Option<u32>,
    body: BodyOut<'a>,
    #[serde(flatten)]
    cause: CauseOut<'a>,
    history: HistoryWire,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_attempt_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_attempt_at: Option<String>,
    written_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<&'a str>,
    replays: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    replay_of: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dedup_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fifo_group: Option<&'a str>,
}

#[derive(Serialize)]
struct HeaderOut<'a> {
    name: &'a str,
    #[serde(flatten)]
    value: BytesOut<'a>,
}

#[derive(Serialize)]
struct BodyOut<'a> {
    #[serde(flatten)]
    bytes: BytesOut<'a>,
    length: u64,
    truncated: bool,
    sha256: String,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum BytesOut<'a> {
    Text(&'a str),
    Base64(String),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CauseOut<'a> {
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_class: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_message: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SummaryOut<'a> {
    id: String,
    kind: &'a str,
    target: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<&'a str>,
    #[serde(flatten)]
    cause: CauseOut<'a>,
    attempts: u32,
    body_length: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_attempt_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_attempt_at: Option<String>,
    written_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<&'a str>,
    replays: u32,
    in_progress: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListingOut<'a> {
    items: Vec<SummaryOut<'a>>,
    next_cursor: Option<String>,
    unreadable: u64,
}

fn text(value: &impl Serialize) -> String {
    // Writing to memory fails only for maps whose keys are not strings, and there are none.
    #[expect(
        clippy::expect_used,
        reason = "strings, numbers, arrays and structs alone"
    )]
    serde_json::to_string(value).expect("structs of strings and numbers are JSON")
}

fn printed(time: Option<SystemTime>) -> Option<String> {
    time.map(print_time)
}

impl<'a> From<&'a Entry> for EntryOut<'a> {
    fn from(entry: &'a Entry) -> Self {
        let counted = |count: u32| (count > 0).then_some(count);
        Self {
            schema_version: Entry::SCHEMA_VERSION,
            id: entry.id.to_string(),
            direction: entry.direction.as_str(),
            kind: &entry.kind,
            target: &entry.target,
            method: entry.method.as_deref(),
            uri: entry.uri.as_deref(),
            headers: entry
                .headers
                .iter()
                .map(|(name, value)| HeaderOut {
                    name,
                    value: BytesOut::from(&**value),
                })
                .collect(),
            headers_left_out: counted(entry.headers_left_out),
            credentials_left_out: counted(entry.credentials_left_out),
            body: BodyOut::from(&entry.body),
            cause: CauseOut::from(&entry.cause),
            history: HistoryWire::from(&entry.history),
            first_attempt_at: printed(entry.first_attempt_at),
            last_attempt_at: printed(entry.last_attempt_at),
            written_at: print_time(entry.written_at),
            event_time: printed(entry.event_time),
            event_id: entry.event_id.as_deref(),
            idempotency_key: entry.idempotency_key.as_deref(),
            replays: entry.replays,
            replay_of: entry.replay_of.as_deref(),
            trace_id: entry.trace_id.as_deref(),
            task_id: entry.task_id.map(|id| id.to_string()),
            dedup_key: entry.dedup_key.as_deref(),
            fifo_group: entry.fifo_group.as_deref(),
        }
    }
}

impl<'a> From<&'a [u8]> for BytesOut<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) if is_worth_reading(text) => Self::Text(text),
            _ => Self::Base64(BASE64.encode(bytes)),
        }
    }
}

/// Whether a text takes at most twice its length in JSON. Control characters take six bytes each;
/// quotes, backslashes and line breaks two, so that a body of JSON stays readable as text.
fn is_worth_reading(text: &str) -> bool {
    let escapes = text.bytes().map(|byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 1,
        0..0x20 => 5,
        _ => 0,
    });
    escapes.sum::<usize>() <= text.len()
}

impl<'a> From<&'a EntryBody> for BodyOut<'a> {
    fn from(body: &'a EntryBody) -> Self {
        Self {
            bytes: BytesOut::from(&**body.bytes()),
            length: body.length(),
            truncated: body.is_truncated(),
            sha256: HEXLOWER.encode(body.sha256()),
        }
    }
}

impl<'a> From<&'a Cause> for CauseOut<'a> {
    fn from(cause: &'a Cause) -> Self {
        Self {
            reason: cause.reason.as_str(),
            last_status: cause.code,
            error_class: cause.class.as_deref(),
            error_message: cause.message.as_deref(),
        }
    }
}

impl<'a> From<&'a Summary> for SummaryOut<'a> {
    fn from(summary: &'a Summary) -> Self {
        Self {
            id: summary.id.to_string(),
            kind: &summary.kind,
            target: &summary.target,
            method: summary.method.as_deref(),
            uri: summary.uri.as_deref(),
            cause: CauseOut::from(&summary.cause),
            attempts: summary.attempts,
            body_length: summary.body_length,
            first_attempt_at: printed(summary.first_attempt_at),
            last_attempt_at: printed(summary.last_attempt_at),
            written_at: print_time(summary.written_at),
            event_id: summary.event_id.as_deref(),
            replays: summary.replays,
            in_progress: summary.in_progress,
        }
    }
}

/// The first time that RFC 3339 can express, and the last that jiff can (22:00 on 9999-12-30), in
/// milliseconds since 1970.
const RANGE: (i64, i64) = (-62_167_219_200_000, 253_402_207_200_000);

static PARSER: DateTimeParser = DateTimeParser::new();
static PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(3));

/// Formats a time as `2026-11-21T12:00:00.000Z`, rounded down and clamped to the range.
pub(crate) fn print_time(time: SystemTime) -> String {
    let millis = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        // Rounds down before 1970 too.
        Err(before) => i64::try_from(before.duration().as_nanos().div_ceil(1_000_000))
            .map_or(i64::MIN, |millis| -millis),
    };
    let timestamp = Timestamp::from_millisecond(millis.clamp(RANGE.0, RANGE.1));
    PRINTER.timestamp_to_string(&timestamp.unwrap_or(Timestamp::MAX))
}

/// Parses a time in UTC, with a fraction or without.
fn parse_time(text: &str) -> Option<SystemTime> {
    let bytes = text.as_bytes();
    // The parser also accepts other Temporal forms: weeks, zones in brackets, missing fields.
    let shape = b"dddd-dd-ddTdd:dd:dd";
    let fits = |(byte, shape): (&u8, &u8)| match shape {
        b'd' => byte.is_ascii_digit(),
        other => byte == other,
    };
    let rest = bytes.get(shape.len()..)?.strip_suffix(b"Z")?;
    let fraction = rest.is_empty()
        || (rest.len() > 1 && rest[0] == b'.' && rest[1..].iter().all(u8::is_ascii_digit));
    if !fraction || !bytes.iter().zip(shape).all(fits) {
        return None;
    }
    let distance = PARSER.parse_timestamp(bytes).ok()?.as_duration();
    // Checked, because the range of the clock depends on the platform.
    let unsigned: Duration = distance.unsigned_abs();
    if distance.is_negative() {
        SystemTime::UNIX_EPOCH.checked_sub(unsigned)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(unsigned)
    }
}
