//! The stored forms: what engines store beside a payload, and the bytes of stored requests and responses.
//!
//! For authors of a store or a queue, and of programs that read its files. A store writes and reads the facts with
//! [`encode`] and [`decode`]. Requests and responses are opaque to it: it keeps their bytes as they are.
//!
//! | What | Form | Version | An older program that finds a newer version |
//! | --- | --- | --- | --- |
//! | [`History`], [`Cause`], [`About`](crate::queue::About) | [JSON](#facts) | `schemaVersion` | `SqliteQueue` leaves the job to the newer release; an engine of your own should do so too |
//! | an [`Entry`](crate::dead_letter::Entry) | [JSON](crate::dead_letter::json) | `schemaVersion` | leaves the entry as it is |
//! | the payload of a job of kind [`http`](crate::queue::NewJob::HTTP) | [bytes](#a-stored-request) | first byte | [releases the job](crate::queue::NewJob::http), without counting an attempt |
//! | the answer that an [`IdempotencyLayer`](crate::idempotency::IdempotencyLayer) stores | [bytes](#a-stored-response) | first byte | refuses the repeat with 503, and does not run the handler |
//!
//! The answer of a [`RunOnce`](crate::idempotency::RunOnce) has no form: its bytes are those that the work returned.
//!
//! # Facts
//!
//! A [`History`], a [`Cause`] and an [`About`](crate::queue::About) become one JSON object each, as
//! text without line breaks. Times of attempts are whole milliseconds; members whose value is
//! absent are left out.
//!
//! | Value | Members |
//! | --- | --- |
//! | all | `schemaVersion` (1) |
//! | `History` | those of `history` in the [JSON form of an entry](crate::dead_letter::json) |
//! | `Cause` | `reason`, `code`, `class`, `message` |
//! | `About` | `eventId`, `eventTime` (an array: seconds since 1970, nanoseconds), `idempotencyKey`, `hops`, `replayOf`, `replays`, `traceId` |
//!
//! A value without `schemaVersion` has version 1, because SQLite files of builds before 0.1.0 hold such
//! values; in an entry, which always had a version, the same is damage. 0 is damage in both. Members that a
//! release does not know are ignored. A value of a newer release with a greater version is refused as
//! [`StoreErrorKind::NewerSchema`]: an engine does not change such a record, so that the newer release can
//! still read it.
//!
//! # A stored request
//!
//! Made by [`NewJob::http`](crate::queue::NewJob::http), read by [`Job::http_request`](crate::queue::Job::http_request).
//!
//! | Field | Bytes | Meaning |
//! | --- | --- | --- |
//! | version | 1 | 1 |
//! | method | 4, then so many | the length of the method, then the method |
//! | URI | 4, then so many | the length of the URI, then the URI as the caller requested it |
//! | headers | see [header fields](#header-fields) | all, credentials included |
//! | trailers | the same | all |
//! | body | the rest | the whole body |
//!
//! # A stored response
//!
//! Made and read by an [`IdempotencyLayer`](crate::idempotency::IdempotencyLayer).
//!
//! | Field | Bytes | Meaning |
//! | --- | --- | --- |
//! | version | 1 | 1 |
//! | flags | 1 | 1 if the body was [too long](crate::idempotency::IdempotencyLayer::max_answer) to store, otherwise 0; the other bits are 0, and are not read |
//! | status | 2 | the HTTP status |
//! | headers | see [header fields](#header-fields) | those that are [stored](crate::idempotency::IdempotencyLayer::store_headers) |
//! | trailers | the same | those that are stored, by the rule of headers; none if the body was too long |
//! | body | the rest | the whole body; empty if it was too long |
//!
//! # Header fields
//!
//! Headers and trailers, in requests and responses. All numbers are unsigned, with the highest byte first.
//!
//! | Field | Bytes | Meaning |
//! | --- | --- | --- |
//! | count | 4 | the number of fields; the rest of this table follows for each of them |
//! | name | 2, then so many | the length of the name, then the name in lower case |
//! | value | 4, then so many | the length of the value, then the value; the highest bit of the length is 1 if the value is marked as [sensitive](http::HeaderValue::is_sensitive) |
//!
//! # Versions of requests and responses
//!
//! Any change of a layout makes a new version, because nothing in it can be skipped. Versions go up to 8, so that no text
//! begins like a stored request or response. A version above the known one, up to 8, is
//! [`StoreErrorKind::NewerSchema`]; any other first byte, and a field that is cut or invalid, is
//! [`StoreErrorKind::Corrupt`]. The body has no length and no digest: a cut body is not noticed.
//!
//! # Examples
//!
//! ```
//! use tower_webhook::{StoreErrorKind, codec, dead_letter::{Cause, Reason}};
//!
//! let cause = Cause::new(Reason::Rejected).with_code(Some(410));
//! let stored = codec::encode(&cause);
//! assert_eq!(stored, r#"{"schemaVersion":1,"reason":"rejected","code":410}"#);
//! assert_eq!(codec::decode::<Cause>(&stored)?, cause);
//!
//! let newer = codec::decode::<Cause>(r#"{"schemaVersion":2,"why":{}}"#);
//! assert_eq!(newer.unwrap_err().kind(), StoreErrorKind::NewerSchema { found: 2, known: 1 });
//! # Ok::<_, tower_webhook::StoreError>(())
//! ```

use crate::{
    StoreError, StoreErrorKind,
    attempt::{History, wire::HistoryWire},
    dead_letter::{Cause, Reason},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::error::Category;
use std::fmt;

/// The version that is written, and the newest one that can be read.
pub const SCHEMA_VERSION: u32 = 1;

/// The types that can be [encoded](encode): [`History`], [`Cause`], [`About`](crate::queue::About).
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no encoding here",
    note = "`History`, `Cause` and `About` have one; what is yours has that of your serializer"
)]
pub trait Encoded: sealed::Encoded {}

impl<T: sealed::Encoded> Encoded for T {}

/// Encodes the value as JSON.
pub fn encode<T: Encoded>(value: &T) -> String {
    value.write()
}

/// Decodes the value that [`encode`] encoded.
///
/// # Errors
///
/// [`NewerSchema`](StoreErrorKind::NewerSchema) if a newer release wrote it, and
/// [`Corrupt`](StoreErrorKind::Corrupt) if it is not valid.
pub fn decode<T: Encoded>(text: &str) -> Result<T, StoreError> {
    T::read(text)
}

/// The members as JSON, with the version.
fn write<T: Serialize>(members: T) -> String {
    let versioned = Versioned {
        schema_version: SCHEMA_VERSION,
        members,
    };
    // Strings, numbers and structs with fixed names always have a JSON form.
    serde_json::to_string(&versioned).unwrap_or_default()
}

/// Reads the members, if the version is known.
fn read<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    let head: Head = serde_json::from_str(text).map_err(|error| damaged(error.classify()))?;
    match head.schema_version {
        Some(0) => Err(damaged(Category::Data)),
        Some(found) if found > SCHEMA_VERSION.into() => {
            Err(StoreError::new(StoreErrorKind::NewerSchema {
                found: u32::try_from(found).unwrap_or(u32::MAX),
                known: SCHEMA_VERSION,
            }))
        }
        Some(_) | None => serde_json::from_str(text).map_err(|error| damaged(error.classify())),
    }
}

fn damaged(category: Category) -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt).caused_by(Damaged(category))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    schema_version: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Versioned<T> {
    schema_version: u32,
    #[serde(flatten)]
    members: T,
}

/// Why a record cannot be read. Holds nothing of its content.
#[derive(Debug)]
struct Damaged(Category);

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Category::Data => "a member is missing or makes no sense",
            _ => "it is not JSON",
        })
    }
}

impl std::error::Error for Damaged {}

mod sealed {
    pub trait Encoded: Sized {
        fn write(&self) -> String;

        fn read(text: &str) -> Result<Self, crate::StoreError>;
    }
}

impl sealed::Encoded for History {
    fn write(&self) -> String {
        write(HistoryWire::from(self))
    }

    fn read(text: &str) -> Result<Self, StoreError> {
        let wire: HistoryWire = read(text)?;
        wire.try_into().map_err(|_| damaged(Category::Data))
    }
}

#[derive(Deserialize, Serialize)]
struct CauseWire {
    reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    class: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

impl sealed::Encoded for Cause {
    fn write(&self) -> String {
        write(CauseWire {
            reason: self.reason.as_str().to_owned(),
            code: self.code,
            class: self.class.clone(),
            message: self.message.clone(),
        })
    }

    fn read(text: &str) -> Result<Self, StoreError> {
        let wire: CauseWire = read(text)?;
        let reason = Reason::from_name(&wire.reason).ok_or_else(|| damaged(Category::Data))?;
        let mut cause = Self::new(reason).with_code(wire.code);
        cause.class = wire.class;
        cause.message = wire.message;
        Ok(cause)
    }
}

#[cfg(feature = "queue")]
mod about {
    use super::{Deserialize, Serialize, read, sealed, write};
    use crate::{StoreError, queue::About};
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    #[derive(Default, Deserialize, Serialize)]
    #[serde(rename_all = "camelCase", default)]
    struct AboutWire {
        #[serde(skip_serializing_if = "Option::is_none")]
        event_id: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        event_time: Option<(i64, u32)>,
        #[serde(skip_serializing_if = "Option::is_none")]
        idempotency_key: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        hops: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        replay_of: Option<String>,
        replays: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        trace_id: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        entry_id: Option<String>,
    }

    impl sealed::Encoded for About {
        fn write(&self) -> String {
            let About {
                event_id,
                event_time,
                idempotency_key,
                hops,
                replay_of,
                replays,
                trace_id,
                entry_id,
            } = self.clone();
            write(AboutWire {
                event_id,
                event_time: event_time.map(since_epoch),
                idempotency_key,
                hops,
                replay_of,
                replays,
                trace_id,
                entry_id: entry_id.map(|id| id.to_string()),
            })
        }

        fn read(text: &str) -> Result<Self, StoreError> {
            let wire: AboutWire = read(text)?;
            Ok(Self {
                event_id: wire.event_id,
                event_time: wire.event_time.and_then(from_epoch),
                idempotency_key: wire.idempotency_key,
                hops: wire.hops,
                replay_of: wire.replay_of,
                replays: wire.replays,
                trace_id: wire.trace_id,
                entry_id: wire.entry_id.and_then(|id| id.parse().ok()),
            })
        }
    }

    /// Seconds since 1970 or, negative, before; then nanoseconds.
    fn since_epoch(time: SystemTime) -> (i64, u32) {
        let seconds = |length: Duration| i64::try_from(length.as_secs()).unwrap_or(i64::MAX);
        match time.duration_since(UNIX_EPOCH) {
            Ok(since) => (seconds(since), since.subsec_nanos()),
            Err(before) => {
                let before = before.duration();
                match before.subsec_nanos() {
                    0 => (-seconds(before), 0),
                    nanos => (-seconds(before) - 1, 1_000_000_000 - nanos),
                }
            }
        }
    }

    fn from_epoch((seconds, nanos): (i64, u32)) -> Option<SystemTime> {
        let length = Duration::from_secs(seconds.unsigned_abs());
        let time = if seconds < 0 {
            UNIX_EPOCH.checked_sub(length)
        } else {
            UNIX_EPOCH.checked_add(length)
        };
        time?.checked_add(Duration::from_nanos(nanos.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "queue")]
    #[test]
    fn what_a_job_is_about_comes_back_as_it_was_stored() {
        use crate::{dead_letter::EntryId, queue::About};
        use std::time::{Duration, UNIX_EPOCH};

        let text = || Some("ä \"1\"".to_owned());
        for event_time in [
            None,
            Some(UNIX_EPOCH),
            Some(UNIX_EPOCH + Duration::new(1_700_000_000, 1)),
            Some(UNIX_EPOCH - Duration::new(1, 1)),
            Some(UNIX_EPOCH - Duration::new(7, 0)),
        ] {
            let told = About {
                event_id: text(),
                event_time,
                idempotency_key: text(),
                hops: text(),
                replay_of: text(),
                replays: 3,
                trace_id: text(),
                entry_id: Some(EntryId::from_bytes([7; 16])),
            };
            assert_eq!(decode::<About>(&encode(&told)).unwrap(), told);
        }
        assert_eq!(decode::<About>("{}").unwrap(), About::default());
    }

    #[test]
    fn a_cause_comes_back_as_it_was_stored() {
        for reason in Reason::ALL {
            let told = Cause::new(*reason)
                .with_code(Some(503))
                .with_class("transient")
                .with_message("no");
            assert_eq!(decode::<Cause>(&encode(&told)).unwrap(), told);
        }
    }

    #[test]
    fn a_history_comes_back_as_it_was_stored() {
        use crate::{attempt::AttemptRecord, outcome::Outcome};
        use std::time::Duration;

        let mut history = History::new();
        let second = Duration::from_secs(1);
        history.push(AttemptRecord::new(1, second, second, Outcome::transient()));
        assert_eq!(decode::<History>(&encode(&history)).unwrap(), history);
    }

    #[test]
    fn what_a_newer_release_wrote_is_refused_and_what_makes_no_sense_is_corrupt() {
        let kind = |text: &str| decode::<Cause>(text).unwrap_err().kind();
        let newer = StoreErrorKind::NewerSchema { found: 7, known: 1 };
        assert_eq!(kind(r#"{"schemaVersion":7}"#), newer);
        assert_eq!(kind(r#"{"reason":"rejected","schemaVersion":7}"#), newer);
        let far = StoreErrorKind::NewerSchema {
            found: u32::MAX,
            known: 1,
        };
        assert_eq!(kind(r#"{"schemaVersion":99999999999}"#), far);
        let without = decode::<Cause>(r#"{"reason":"rejected","more":1}"#).unwrap();
        assert_eq!(without, Cause::new(Reason::Rejected));
        for text in [
            "",
            "{",
            "[]",
            "{}",
            r#"{"reason":"odd"}"#,
            r#"{"schemaVersion":-1}"#,
            r#"{"schemaVersion":0,"reason":"rejected"}"#,
        ] {
            assert_eq!(kind(text), StoreErrorKind::Corrupt, "{text}");
        }
    }
}
