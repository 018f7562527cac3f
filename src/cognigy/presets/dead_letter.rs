//! The messages that S0 and S4 post for an event that could not be delivered.

use crate::dead_letter::{Entry, json};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;

#[derive(Serialize)]
struct Exhausted<'a> {
    webhook_id: &'a str,
    max_attempts_reached: u32,
    final_error: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    event_id: Cow<'a, str>,
    r#type: Cow<'a, str>,
    timestamp: String,
    error_message: &'a str,
    raw_payload: Payload<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Payload<'a> {
    Json(&'a RawValue),
    Text(Cow<'a, str>),
}

#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
}

/// The body that S0 posts to its `dlq_callback_url` when its attempts are exhausted. It contains no
/// payload. For [`CallbackSink::body`](crate::dead_letter::CallbackSink::body).
///
/// | Field | In S0 | Here |
/// | --- | --- | --- |
/// | `webhook_id` | the webhook that failed | the [target](Entry::target) |
/// | `max_attempts_reached` | the number of allowed attempts | the number of attempts that were made |
/// | `final_error` | the text of the last error | the [message](crate::dead_letter::Cause::message), or the name of the reason |
pub fn dead_letter_exhausted(entry: &Entry) -> String {
    print(&Exhausted {
        webhook_id: &entry.target,
        max_attempts_reached: entry.history.attempts(),
        final_error: error(entry),
    })
}

/// The message that S4 puts into its dead-letter queue. For
/// [`CallbackSink::body`](crate::dead_letter::CallbackSink::body).
///
/// | Field | In S4 | Here |
/// | --- | --- | --- |
/// | `eventId` | the id of the event | the [event's id](Entry::event_id), or the entry's |
/// | `type` | the type of the event | `type` in the body if it is text in a JSON object, otherwise the [kind](Entry::kind) |
/// | `timestamp` | when the event happened, ISO 8601 | the [event's time](Entry::event_time), or when the entry was made; UTC, milliseconds |
/// | `errorMessage` | the text of the error | as `final_error` of [`dead_letter_exhausted`] |
/// | `rawPayload` | the event, as an object | the body unchanged if it is complete and a JSON object; otherwise as text, in which invalid UTF-8 is replaced |
pub fn dead_letter_event(entry: &Entry) -> String {
    let body = entry.body.bytes();
    let object = object(entry);
    let typed = object.and_then(|object| serde_json::from_str(object.get()).ok());
    let event_id = entry.event_id.as_deref().map(Cow::Borrowed);
    let kind = Cow::Borrowed(&*entry.kind);
    print(&Event {
        event_id: event_id.unwrap_or_else(|| Cow::Owned(entry.id.to_string())),
        r#type: typed.map_or(kind, |typed: Typed<'_>| typed.r#type),
        timestamp: json::print_time(entry.event_time.unwrap_or(entry.written_at)),
        error_message: error(entry),
        raw_payload: object.map_or_else(
            || Payload::Text(String::from_utf8_lossy(body)),
            Payload::Json,
        ),
    })
}

fn error(entry: &Entry) -> &str {
    let message = entry.cause.message.as_deref();
    message.unwrap_or(entry.cause.reason.as_str())
}

fn object(entry: &Entry) -> Option<&RawValue> {
    if entry.body.is_truncated() {
        return None;
    }
    let value: &RawValue = serde_json::from_slice(entry.body.bytes()).ok()?;
    value.get().starts_with('{').then_some(value)
}

/// Only texts and numbers: writing them to memory cannot fail.
fn print(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        attempt::{AttemptRecord, History},
        dead_letter::{Cause, EntryBody, EntryId, Reason},
        outcome::Outcome,
    };
    use std::time::{Duration, UNIX_EPOCH};

    fn entry(body: &[u8]) -> Entry {
        let cause = Cause::new(Reason::RetriesExhausted).with_message("503 \"busy\"");
        let id = EntryId::from_bytes([0xAB; 16]);
        let written_at = UNIX_EPOCH + Duration::from_millis(1_700_000_000_250);
        let mut entry = Entry::new(id, "http", "hooks-7", cause, written_at);
        entry.body = EntryBody::new(&body.to_vec().into(), 64);
        let mut history = History::new();
        for number in 1..=3 {
            let (at, outcome) = (Duration::ZERO, Outcome::transient());
            history.push(AttemptRecord::new(number, at, at, outcome));
        }
        entry.history = history;
        entry
    }

    fn posted(form: fn(&Entry) -> String, entry: &Entry) -> serde_json::Value {
        serde_json::from_str(&form(entry)).unwrap()
    }

    #[test]
    fn the_retry_guides_form_has_its_three_fields() {
        let mut entry = entry(b"{}");
        assert_eq!(
            posted(dead_letter_exhausted, &entry),
            serde_json::json!({
                "webhook_id": "hooks-7",
                "max_attempts_reached": 3,
                "final_error": "503 \"busy\"",
            })
        );
        entry.cause = Cause::new(Reason::Deadline);
        assert_eq!(
            posted(dead_letter_exhausted, &entry)["final_error"],
            "deadline"
        );
    }

    #[test]
    fn the_event_guides_form_has_the_event_as_it_came() {
        let mut entry = entry(br#" {"type":"USER\u005fINPUT","n":1.50}"#);
        entry.event_id = Some("evt_1".to_owned());
        entry.event_time = Some(UNIX_EPOCH + Duration::from_secs(1_600_000_000));
        let text = dead_letter_event(&entry);
        // To the digit.
        assert!(text.contains(r#""n":1.50}"#), "{text}");
        let posted: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            posted,
            serde_json::json!({
                "eventId": "evt_1",
                "type": "USER_INPUT",
                "timestamp": "2020-09-13T12:26:40.000Z",
                "errorMessage": "503 \"busy\"",
                "rawPayload": {"type": "USER_INPUT", "n": 1.50},
            })
        );
    }

    #[test]
    fn what_is_no_object_is_posted_as_text() {
        let whole = |body: &[u8]| posted(dead_letter_event, &entry(body));
        assert_eq!(whole(b"a\xffb")["rawPayload"], "a\u{fffd}b");
        assert_eq!(whole(b"[1]")["rawPayload"], "[1]");
        let posted = whole(br#"{"type":7}"#);
        assert_eq!(posted["rawPayload"], serde_json::json!({"type": 7}));
        assert_eq!(posted["type"], "http");
        assert_eq!(posted["eventId"], "ab".repeat(16));
        assert_eq!(posted["timestamp"], "2023-11-14T22:13:20.250Z");
        // The beginning of an object is not an object, even if it looks like one.
        let mut cut = entry(b"");
        cut.body = EntryBody::new(&b"{}{}".to_vec().into(), 2);
        let cut = dead_letter_event(&cut);
        assert!(cut.contains(r#""rawPayload":"{}""#), "{cut}");
    }
}
