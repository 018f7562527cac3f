//! The HTTP parts of dead letters: the entry of a request, the request of an entry, and a sink that
//! posts entries to a URL.

mod callback;
mod resend;

pub use self::callback::CallbackSink;

use super::{DeadLettered, Describe, DescribeResponse, Entry, EntryBody};
use crate::{attempt::History, body::BufferedBody, original_uri::original_uri};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use std::time::SystemTime;

/// The longest id and key, in bytes. Longer ones are left out.
const MOST_ID: usize = 1024;

/// Fills in the entries of HTTP requests whose body is in memory.
///
/// | Entry | Request |
/// | --- | --- |
/// | `kind` | `http` |
/// | `method`, `uri`, `headers`, `body` | the same (of a nested axum router, the URI that the caller requested), without headers that are marked [sensitive](http::HeaderValue::is_sensitive), and without trailers, which are [counted](Entry::headers_left_out). [`Redaction`](super::Redaction) leaves out more |
/// | `idempotency_key` | `idempotency-key`, or else `webhook-id` |
/// | `event_id` | `webhook-id` ([Standard Webhooks](https://www.standardwebhooks.com)), or else `ce-id` ([CloudEvents](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md)) |
/// | `event_time` | `ce-time` |
/// | `trace_id` | the trace id of `traceparent` ([W3C Trace Context](https://www.w3.org/TR/trace-context/#trace-id)) |
///
/// A failed response gets a [`DeadLettered`] extension.
///
/// As a [`Resend`](super::redrive::Resend), it makes the request of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HttpRequests;

impl Describe<Request<BufferedBody>> for HttpRequests {
    fn describe(&self, req: &Request<BufferedBody>, entry: &mut Entry) {
        let headers = req.headers();
        "http".clone_into(&mut entry.kind);
        entry.method = Some(req.method().to_string());
        entry.uri = Some(original_uri(req).to_string());
        entry.headers = headers
            .iter()
            .filter(|(_, value)| !value.is_sensitive())
            .map(|(name, value)| {
                let value = Bytes::copy_from_slice(value.as_bytes());
                (name.as_str().to_owned(), value)
            })
            .collect();
        let sensitive = headers.len() - entry.headers.len();
        entry.credentials_left_out = u32::try_from(sensitive).unwrap_or(u32::MAX);
        let trailers = req.body().trailers().map_or(0, HeaderMap::len);
        entry.headers_left_out = u32::try_from(trailers).unwrap_or(u32::MAX);
        entry.body = EntryBody::new(req.body().as_bytes(), usize::MAX);
        let told = Self::told(headers);
        entry.idempotency_key = told.idempotency_key;
        entry.event_id = told.event_id;
        entry.event_time = told.event_time;
        entry.trace_id = told.trace_id;
    }
}

impl<B> DescribeResponse<Response<B>> for HttpRequests {
    fn history<'a>(&self, res: &'a Response<B>) -> Option<&'a History> {
        res.extensions().get()
    }

    fn annotate(&self, res: &mut Response<B>, dead_lettered: DeadLettered) {
        res.extensions_mut().insert(dead_lettered);
    }
}

/// The facts about an event that are found in the headers of its request.
pub(crate) struct Told {
    pub(crate) idempotency_key: Option<String>,
    pub(crate) event_id: Option<String>,
    pub(crate) event_time: Option<SystemTime>,
    pub(crate) trace_id: Option<String>,
}

impl HttpRequests {
    /// Shared with the queue, so that an event has the same id in both.
    pub(crate) fn told(headers: &HeaderMap) -> Told {
        let webhook_id = text(headers, "webhook-id");
        Told {
            idempotency_key: text(headers, "idempotency-key").or_else(|| webhook_id.clone()),
            event_id: webhook_id.or_else(|| text(headers, "ce-id")),
            event_time: text(headers, "ce-time").and_then(|time| instant(&time)),
            trace_id: text(headers, "traceparent").and_then(|parent| trace_id(&parent)),
        }
    }
}

/// The value of a header that occurs once, if it consists of visible characters.
fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let mut values = headers.get_all(name).iter();
    let (value, None) = (values.next()?, values.next()) else {
        return None;
    };
    let text = value.to_str().ok()?.trim();
    (!text.is_empty() && text.len() <= MOST_ID && !value.is_sensitive()).then(|| text.to_owned())
}

fn instant(time: &str) -> Option<SystemTime> {
    time.parse::<jiff::Timestamp>().ok().map(SystemTime::from)
}

/// The second part of `00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01`.
fn trace_id(parent: &str) -> Option<String> {
    let mut parts = parent.split('-');
    let (version, id) = (parts.next()?, parts.next()?);
    let hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let known = version.len() == 2 && hex(version) && version != "ff";
    let valid = id.len() == 32 && hex(id) && id.bytes().any(|b| b != b'0');
    (known && valid).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_trace_id_that_the_specification_allows_is_taken() {
        let id = "0af7651916cd43dd8448eb211c80319c";
        let taken = |parent: &str| trace_id(parent);
        assert_eq!(
            taken(&format!("00-{id}-b7ad6b7169203331-01")).as_deref(),
            Some(id)
        );
        for parent in [
            "",
            id,
            "00",
            &format!("ff-{id}-b7ad6b7169203331-01"),
            &format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            &format!("00-{}-b7ad6b7169203331-01", id.to_uppercase()),
            "00-é-b7ad6b7169203331-01",
        ] {
            assert_eq!(taken(parent), None, "{parent}");
        }
    }

    #[test]
    fn a_header_that_is_there_twice_says_nothing() {
        let mut headers = HeaderMap::new();
        headers.append("webhook-id", "msg_1".parse().unwrap());
        assert_eq!(text(&headers, "webhook-id").as_deref(), Some("msg_1"));
        headers.append("webhook-id", "msg_2".parse().unwrap());
        assert_eq!(text(&headers, "webhook-id"), None);
    }
}
