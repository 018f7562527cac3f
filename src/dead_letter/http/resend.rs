//! Makes HTTP requests from entries.

use crate::{
    body::BufferedBody,
    dead_letter::{
        Entry, HttpRequests,
        redaction::is_redacted,
        redrive::{NotSendable, Resend},
    },
    lease::FencingToken,
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header, header::IntoHeaderName,
};

const OF_THE_CONNECTION: [&str; 8] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl HttpRequests {
    /// Makes the HTTP request of an entry: its method, URI, stored headers and body.
    ///
    /// - The `idempotency-key` is added if the headers have none, so that a receiver that has processed the
    ///   request recognizes the repetition.
    /// - Headers of the original connection are left out: `connection`, `keep-alive`,
    ///   `proxy-connection`, `te`, `trailer`, `transfer-encoding`, `upgrade`
    ///   ([RFC 9110 §7.6.1](https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1)), and
    ///   `content-length`, which the client sets.
    /// - Entries hold neither credentials nor signatures. The service that sends must add them, as it did
    ///   the first time: `stack::deliver()` signs each attempt. An entry whose URI held a credential that was
    ///   [redacted](crate::dead_letter::Redaction) is not sent: restore it with
    ///   [`to_request`](crate::dead_letter::redrive::RedriveBuilder::to_request). Every user, value or path
    ///   segment that equals `redacted` counts as a redacted credential.
    /// - An incomplete request is not sent: its body was cut, its URI was too long to be stored, or
    ///   [headers](Entry::headers_left_out) were left out.
    ///
    /// # Errors
    ///
    /// [`NotSendable`]: the entry lacks what the request needs.
    pub fn request_of(entry: &Entry) -> Result<Request<BufferedBody>, NotSendable> {
        let missing = |part| NotSendable::Missing { part };
        let malformed = |part| NotSendable::Malformed { part };
        let body = &entry.body;
        if body.is_truncated() {
            return Err(NotSendable::BodyTruncated {
                kept: u64::try_from(body.bytes().len()).unwrap_or(u64::MAX),
                length: body.length(),
            });
        }
        let method = entry.method.as_ref().ok_or(missing("method"))?;
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| malformed("method"))?;
        let uri = entry.uri.as_ref().ok_or(missing("URI"))?;
        let uri = Uri::try_from(uri.as_str()).map_err(|_| malformed("URI"))?;
        if is_redacted(&uri.to_string()) {
            return Err(NotSendable::because("a credential in its URI was not kept"));
        }
        if entry.headers_left_out > 0 {
            let left_out = entry.headers_left_out;
            let reason = format!("{left_out} of its headers and trailers were not kept");
            return Err(NotSendable::Because(reason));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &entry.headers {
            if OF_THE_CONNECTION.contains(&name.to_ascii_lowercase().as_str()) {
                continue;
            }
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| malformed("header"))?;
            append(&mut headers, name, value)?;
        }
        if let Some(key) = &entry.idempotency_key {
            let name = HeaderName::from_static("idempotency-key");
            if !headers.contains_key(&name) {
                append(&mut headers, name, key.as_bytes())?;
            }
        }
        // The client derives it from the URI; strict receivers refuse a second one.
        if uri.authority().is_some() {
            headers.remove(header::HOST);
        }
        let mut request = Request::new(BufferedBody::new(body.bytes().clone()));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

/// By [`HttpRequests::request_of`].
impl Resend for HttpRequests {
    type Request = Request<BufferedBody>;

    fn to_request(
        &self,
        entry: &Entry,
        _: FencingToken,
    ) -> Result<Request<BufferedBody>, NotSendable> {
        Self::request_of(entry)
    }
}

fn append(
    headers: &mut HeaderMap,
    name: impl IntoHeaderName,
    value: &[u8],
) -> Result<(), NotSendable> {
    let part = "header";
    let value = HeaderValue::from_bytes(value).map_err(|_| NotSendable::Malformed { part })?;
    let added = headers.try_append(name, value);
    added.map(drop).map_err(|_| NotSendable::Malformed { part })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dead_letter::{Cause, EntryBody, EntryId, Reason, Redaction};
    use bytes::Bytes;
    use std::time::UNIX_EPOCH;

    fn entry() -> Entry {
        let cause = Cause::new(Reason::RetriesExhausted);
        let id = EntryId::from_bytes([7; 16]);
        let mut entry = Entry::new(id, "http", "peer.example", cause, UNIX_EPOCH);
        entry.method = Some("POST".to_owned());
        entry.uri = Some("https://peer.example/hooks?a=1".to_owned());
        entry.body = EntryBody::new(&Bytes::from_static(b"\x00\xff{}"), 100);
        entry
    }

    fn with(headers: &[(&str, &'static [u8])]) -> Entry {
        let mut entry = entry();
        let owned =
            |(name, value): &(&str, &'static [u8])| ((*name).to_owned(), Bytes::from_static(value));
        entry.headers = headers.iter().map(owned).collect();
        entry
    }

    #[test]
    fn the_request_is_what_it_was() {
        let mut entry = with(&[
            ("content-type", b"application/json"),
            ("x-twice", b"1"),
            ("x-twice", b"\xe9"),
            ("content-length", b"99"),
            ("transfer-encoding", b"chunked"),
            ("host", b"another.example"),
        ]);
        entry.idempotency_key = Some("key-1".to_owned());
        let request = HttpRequests::request_of(&entry).unwrap();
        assert_eq!(request.method(), "POST");
        assert_eq!(request.uri(), "https://peer.example/hooks?a=1");
        assert_eq!(&request.body().as_bytes()[..], b"\x00\xff{}");
        let headers = request.headers();
        assert_eq!(headers["idempotency-key"], "key-1");
        let twice: Vec<_> = headers.get_all("x-twice").iter().collect();
        assert_eq!(twice, [&b"1"[..], &b"\xe9"[..]]);
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-type", "idempotency-key", "x-twice"]);
    }

    #[test]
    fn a_key_that_was_kept_is_not_doubled() {
        let mut entry = with(&[("idempotency-key", b"kept")]);
        entry.idempotency_key = Some("kept".to_owned());
        let request = HttpRequests::request_of(&entry).unwrap();
        assert_eq!(
            request.headers().get_all("idempotency-key").iter().count(),
            1
        );
    }

    #[test]
    fn what_redaction_has_made_smaller_is_not_sent() {
        let resent = |change: &dyn Fn(&mut Entry)| {
            let mut entry = entry();
            change(&mut entry);
            Redaction::new().apply(&mut entry);
            HttpRequests::request_of(&entry)
        };
        assert!(resent(&|_| ()).is_ok());
        let long = format!("https://peer.example/{}?tenant=7", "a".repeat(17_000));
        let part = "URI";
        assert_eq!(
            resent(&|entry| entry.uri = Some(long.clone())).unwrap_err(),
            NotSendable::Missing { part }
        );
        for uri in [
            "https://peer.example/hooks?a=1;sig=abc;b=2",
            "https://user:pw@peer.example/hooks",
        ] {
            let redacted = resent(&|entry| entry.uri = Some(uri.to_owned()));
            let why = "a credential in its URI was not kept";
            assert_eq!(redacted.unwrap_err(), NotSendable::because(why));
        }
        let header = |number| (format!("x-{number}"), Bytes::from_static(b"v"));
        assert!(resent(&|entry| entry.headers = (0..128).map(header).collect()).is_ok());
        assert!(resent(&|entry| entry.headers = (0..129).map(header).collect()).is_err());
        let key = "k".repeat(2_000);
        assert!(resent(&|entry| entry.idempotency_key = Some(key.clone())).is_err());
    }

    #[test]
    fn what_makes_no_request_is_said() {
        let refusal = |change: &dyn Fn(&mut Entry)| {
            let mut entry = entry();
            change(&mut entry);
            HttpRequests::request_of(&entry).unwrap_err()
        };
        let truncated = refusal(&|entry| {
            entry.body = EntryBody::new(&Bytes::from_static(b"12345"), 3);
        });
        assert_eq!(truncated, NotSendable::BodyTruncated { kept: 3, length: 5 });
        assert_eq!(
            truncated.to_string(),
            "only 3 of the 5 bytes of its body were kept"
        );
        let part = "method";
        assert_eq!(
            refusal(&|entry| entry.method = None),
            NotSendable::Missing { part }
        );
        assert_eq!(
            refusal(&|entry| entry.method = Some("NO WAY".to_owned())),
            NotSendable::Malformed { part }
        );
        assert_eq!(
            refusal(&|entry| entry.uri = Some("http://[".to_owned())),
            NotSendable::Malformed { part: "URI" }
        );
        for redacted in [
            "https://peer.example/hooks?sig=redacted&a=1",
            "https://peer.example/hooks?a=1;sig=redacted;b=2",
            "https://peer.example/hooks;token=redacted",
            "https://peer.example/proxy/redacted/x",
            "https://redacted@peer.example/hooks",
        ] {
            assert_eq!(
                refusal(&|entry| entry.uri = Some(redacted.to_owned())),
                NotSendable::because("a credential in its URI was not kept")
            );
        }
        assert_eq!(
            refusal(&|entry| entry.headers_left_out = 72).to_string(),
            "72 of its headers and trailers were not kept"
        );
        assert_eq!(
            refusal(&|entry| entry.idempotency_key = Some("a\r\nb: c".to_owned())),
            NotSendable::Malformed { part: "header" }
        );
    }
}
