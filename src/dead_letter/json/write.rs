use super::time;
use crate::{
    attempt::wire::HistoryWire,
    dead_letter::{Cause, Entry, EntryBody, Listing, Summary},
};
use data_encoding::{BASE64, HEXLOWER};
use serde::Serialize;
use std::time::SystemTime;

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

pub(super) fn entry(entry: &Entry) -> String {
    text(&EntryOut {
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
        headers_left_out: (entry.headers_left_out > 0).then_some(entry.headers_left_out),
        body: BodyOut::from(&entry.body),
        cause: CauseOut::from(&entry.cause),
        history: HistoryWire::from(&entry.history),
        first_attempt_at: printed(entry.first_attempt_at),
        last_attempt_at: printed(entry.last_attempt_at),
        written_at: time::print(entry.written_at),
        event_time: printed(entry.event_time),
        event_id: entry.event_id.as_deref(),
        idempotency_key: entry.idempotency_key.as_deref(),
        replays: entry.replays,
        replay_of: entry.replay_of.as_deref(),
        trace_id: entry.trace_id.as_deref(),
    })
}

pub(super) fn summary(summary: &Summary) -> String {
    text(&SummaryOut::from(summary))
}

pub(super) fn listing(listing: &Listing) -> String {
    text(&ListingOut {
        items: listing.entries.iter().map(SummaryOut::from).collect(),
        next_cursor: listing.next.as_ref().map(ToString::to_string),
        unreadable: listing.unreadable,
    })
}

fn text(value: &impl Serialize) -> String {
    // Writing to memory fails for maps whose keys are no strings, and there is none.
    #[expect(
        clippy::expect_used,
        reason = "strings, numbers, arrays and structs alone"
    )]
    serde_json::to_string(value).expect("structs of strings and numbers are JSON")
}

fn printed(time: Option<SystemTime>) -> Option<String> {
    time.map(time::print)
}

impl<'a> From<&'a [u8]> for BytesOut<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) if is_worth_reading(text) => Self::Text(text),
            _ => Self::Base64(BASE64.encode(bytes)),
        }
    }
}

/// Whether a text is no more than twice as long in JSON: what is made of control characters takes
/// six bytes for each. Quotes, backslashes and line breaks take two, so that JSON, which is full of
/// them, stays readable.
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
            written_at: time::print(summary.written_at),
            event_id: summary.event_id.as_deref(),
            replays: summary.replays,
            in_progress: summary.in_progress,
        }
    }
}
