//! Reading a record. Each member is extracted unparsed and then parsed by itself, so that an error can
//! name the member without quoting its value.

use super::{damaged, parse_time};
use crate::{
    StoreError, StoreErrorKind,
    attempt::{History, wire::HistoryWire},
    dead_letter::{Cause, Direction, Entry, EntryBody, Reason},
};
use bytes::Bytes;
use data_encoding::{BASE64, HEXLOWER};
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::time::SystemTime;

#[derive(Deserialize)]
struct Schema<'a> {
    #[serde(borrow, rename = "schemaVersion")]
    version: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EntryIn<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    direction: Option<&'a RawValue>,
    #[serde(borrow)]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    target: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<&'a RawValue>,
    #[serde(borrow)]
    uri: Option<&'a RawValue>,
    #[serde(borrow)]
    headers: Option<&'a RawValue>,
    #[serde(borrow)]
    headers_left_out: Option<&'a RawValue>,
    #[serde(borrow)]
    credentials_left_out: Option<&'a RawValue>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    #[serde(borrow)]
    reason: Option<&'a RawValue>,
    #[serde(borrow)]
    last_status: Option<&'a RawValue>,
    #[serde(borrow)]
    error_class: Option<&'a RawValue>,
    #[serde(borrow)]
    error_message: Option<&'a RawValue>,
    #[serde(borrow)]
    history: Option<&'a RawValue>,
    #[serde(borrow)]
    first_attempt_at: Option<&'a RawValue>,
    #[serde(borrow)]
    last_attempt_at: Option<&'a RawValue>,
    #[serde(borrow)]
    written_at: Option<&'a RawValue>,
    #[serde(borrow)]
    event_time: Option<&'a RawValue>,
    #[serde(borrow)]
    event_id: Option<&'a RawValue>,
    #[serde(borrow)]
    idempotency_key: Option<&'a RawValue>,
    #[serde(borrow)]
    replays: Option<&'a RawValue>,
    #[serde(borrow)]
    replay_of: Option<&'a RawValue>,
    #[serde(borrow)]
    trace_id: Option<&'a RawValue>,
    #[serde(borrow)]
    task_id: Option<&'a RawValue>,
    #[serde(borrow)]
    dedup_key: Option<&'a RawValue>,
    #[serde(borrow)]
    fifo_group: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct HeaderIn {
    name: String,
    text: Option<String>,
    base64: Option<String>,
}

#[derive(Deserialize)]
struct BodyIn<'a> {
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    base64: Option<&'a RawValue>,
    #[serde(borrow)]
    length: Option<&'a RawValue>,
    #[serde(borrow)]
    truncated: Option<&'a RawValue>,
    #[serde(borrow)]
    sha256: Option<&'a RawValue>,
}

pub(super) fn entry(record: &[u8]) -> Result<Entry, StoreError> {
    let record = std::str::from_utf8(record).map_err(|_| damaged("(record)"))?;
    let schema: Schema<'_> = whole(record)?;
    match optional::<u64>(schema.version, "schemaVersion")? {
        None | Some(0) => Err(damaged("schemaVersion")),
        Some(1) => first(&whole(record)?),
        Some(newer) => Err(StoreError::new(StoreErrorKind::NewerSchema {
            found: u32::try_from(newer).unwrap_or(u32::MAX),
            known: Entry::SCHEMA_VERSION,
        })),
    }
}

fn first(record: &EntryIn<'_>) -> Result<Entry, StoreError> {
    let id: String = required(record.id, "id")?;
    let kind: String = required(record.kind, "kind")?;
    let target: String = required(record.target, "target")?;
    let mut entry = Entry::new(
        id.parse().map_err(|_| damaged("id"))?,
        &kind,
        &target,
        cause(record)?,
        moment(record.written_at, "writtenAt")?.ok_or_else(|| damaged("writtenAt"))?,
    );
    let direction: String = required(record.direction, "direction")?;
    entry.direction = [Direction::Inbound, Direction::Outbound]
        .into_iter()
        .find(|known| known.as_str() == direction)
        .ok_or_else(|| damaged("direction"))?;
    entry.method = optional(record.method, "method")?;
    entry.uri = optional(record.uri, "uri")?;
    let headers: Vec<HeaderIn> = optional(record.headers, "headers")?.unwrap_or_default();
    entry.headers = headers
        .into_iter()
        .map(|header| Some((header.name, bytes(header.text, header.base64)?)))
        .collect::<Option<_>>()
        .ok_or_else(|| damaged("headers"))?;
    entry.headers_left_out =
        optional(record.headers_left_out, "headersLeftOut")?.unwrap_or_default();
    entry.credentials_left_out =
        optional(record.credentials_left_out, "credentialsLeftOut")?.unwrap_or_default();
    entry.body = body(&required(record.body, "body")?)?;
    let history: HistoryWire = required(record.history, "history")?;
    entry.history = History::try_from(history).map_err(|_| damaged("history"))?;
    entry.first_attempt_at = moment(record.first_attempt_at, "firstAttemptAt")?;
    entry.last_attempt_at = moment(record.last_attempt_at, "lastAttemptAt")?;
    entry.event_time = moment(record.event_time, "eventTime")?;
    entry.event_id = optional(record.event_id, "eventId")?;
    entry.idempotency_key = optional(record.idempotency_key, "idempotencyKey")?;
    entry.replays = optional(record.replays, "replays")?.unwrap_or_default();
    entry.replay_of = optional(record.replay_of, "replayOf")?;
    entry.trace_id = optional(record.trace_id, "traceId")?;
    let task: Option<String> = optional(record.task_id, "taskId")?;
    let task = task.map(|id| id.parse()).transpose();
    entry.task_id = task.map_err(|_| damaged("taskId"))?;
    entry.dedup_key = optional(record.dedup_key, "dedupKey")?;
    entry.fifo_group = optional(record.fifo_group, "fifoGroup")?;
    Ok(entry)
}

fn body(body: &BodyIn<'_>) -> Result<EntryBody, StoreError> {
    let text = optional(body.text, "body.text")?;
    let base64 = optional(body.base64, "body.base64")?;
    let bytes = bytes(text, base64).ok_or_else(|| damaged("body"))?;
    let length = required(body.length, "body.length")?;
    let truncated: bool = required(body.truncated, "body.truncated")?;
    let hex: String = required(body.sha256, "body.sha256")?;
    let digest = HEXLOWER.decode(hex.as_bytes()).ok();
    let digest: [u8; 32] = digest
        .and_then(|digest| digest.try_into().ok())
        .ok_or_else(|| damaged("body.sha256"))?;
    let body =
        EntryBody::from_parts(bytes, length, digest).ok_or_else(|| damaged("body.length"))?;
    if body.is_truncated() != truncated {
        return Err(damaged("body.truncated"));
    }
    if !truncated && Sha256::digest(body.bytes())[..] != digest {
        return Err(damaged("body.sha256"));
    }
    Ok(body)
}

fn cause(record: &EntryIn<'_>) -> Result<Cause, StoreError> {
    let reason: String = required(record.reason, "reason")?;
    let reason = Reason::from_name(&reason).ok_or_else(|| damaged("reason"))?;
    let mut cause = Cause::new(reason).with_code(optional(record.last_status, "lastStatus")?);
    cause.class = optional(record.error_class, "errorClass")?;
    if let Some(message) = optional::<String>(record.error_message, "errorMessage")? {
        cause = cause.with_message(&message);
    }
    Ok(cause)
}

/// The bytes of the member that is present.
fn bytes(text: Option<String>, base64: Option<String>) -> Option<Bytes> {
    match (text, base64) {
        (Some(text), None) => Some(text.into()),
        (None, Some(base64)) => BASE64.decode(base64.as_bytes()).ok().map(Bytes::from),
        _ => None,
    }
}

fn moment(member: Option<&RawValue>, name: &'static str) -> Result<Option<SystemTime>, StoreError> {
    match optional::<String>(member, name)? {
        None => Ok(None),
        Some(text) => parse_time(&text).map(Some).ok_or_else(|| damaged(name)),
    }
}

fn whole<'a, T: Deserialize<'a>>(record: &'a str) -> Result<T, StoreError> {
    // serde would also read an array, as the members in their order.
    if !record.trim_start().starts_with('{') {
        return Err(damaged("(record)"));
    }
    serde_json::from_str(record).map_err(|_| damaged("(record)"))
}

fn optional<'a, T: Deserialize<'a>>(
    member: Option<&'a RawValue>,
    name: &'static str,
) -> Result<Option<T>, StoreError> {
    member
        .map(|raw| serde_json::from_str(raw.get()))
        .transpose()
        .map_err(|_| damaged(name))
}

fn required<'a, T: Deserialize<'a>>(
    member: Option<&'a RawValue>,
    name: &'static str,
) -> Result<T, StoreError> {
    optional(member, name)?.ok_or_else(|| damaged(name))
}
