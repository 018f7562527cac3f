//! HTTP requests as jobs: their stored form, whose layout is described in
//! [`codec`](crate::codec#a-stored-request).

use crate::{
    StoreError, StoreErrorKind,
    body::BufferedBody,
    dead_letter::HttpRequests,
    fields::{fields_len, get_headers, put_fields, take, versioned},
    original_uri::original_uri,
    peer::{ByHost, PeerKey},
    queue::{About, Job, NewJob},
};
use bytes::{Buf, BufMut, Bytes};
use http::{HeaderMap, Method, Request, Uri, header};

const VERSION: u8 = 1;

impl NewJob {
    /// The kind of a job that is an HTTP request, made by [`http`](Self::http). Use another kind for your
    /// own payloads: if a job of this kind cannot be read, its entry has only the length and the digest
    /// of the payload.
    pub const HTTP: &'static str = "http";

    /// Makes a job of an HTTP request: method, URI, headers in their order, body and trailers, in a
    /// [versioned form](crate::codec#a-stored-request). Extensions are not kept. Behind a nested axum router, the URI is the one that the
    /// caller requested.
    ///
    /// The [`target`](Self::target) is the [host](ByHost). The facts for the dead-letter entry are those
    /// that [`HttpRequests`] finds in the headers.
    ///
    /// The whole request is stored, including user names in the URI and credentials in the headers. Add
    /// credentials where the request is sent, not here. A header that is marked
    /// [sensitive](http::HeaderValue::is_sensitive) keeps that mark when it is sent, and is left out of an
    /// entry.
    ///
    /// A form that only a newer release can read (after a rollback, or while workers are replaced one by
    /// one) is not a failure: a [`Worker`](crate::queue::Worker) releases such a job again and again, for
    /// up to a minute each time, without counting an attempt, and writes no entry for it.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::Request;
    /// use tower_webhook::{body::BufferedBody, queue::NewJob};
    ///
    /// let req = Request::post("https://peer.example/hooks")
    ///     .header("webhook-id", "evt_1")
    ///     .body(BufferedBody::from("{}"))?;
    /// let job = NewJob::http(req);
    /// assert_eq!((job.kind.as_str(), job.target.as_str()), ("http", "peer.example"));
    /// assert_eq!(job.about.event_id.as_deref(), Some("evt_1"));
    /// # Ok::<_, http::Error>(())
    /// ```
    #[expect(clippy::needless_pass_by_value, reason = "it becomes the job")]
    pub fn http(req: Request<BufferedBody>) -> Self {
        let target = ByHost.key(&req).into_owned();
        let about = about(req.headers());
        Self::new(Self::HTTP, encode(&req))
            .target(target)
            .about(about)
    }
}

impl Job {
    /// Reads the HTTP request of the job, as [`NewJob::http`] stored it.
    ///
    /// # Errors
    ///
    /// [`NewerSchema`](StoreErrorKind::NewerSchema) if a newer release stored the request, and
    /// [`Corrupt`](StoreErrorKind::Corrupt) if the job is of another kind or its payload is damaged.
    pub fn http_request(&self) -> Result<Request<BufferedBody>, StoreError> {
        let read = if self.kind == NewJob::HTTP {
            decode(self.payload.clone())
        } else {
            Err(StoreErrorKind::Corrupt)
        };
        read.map_err(|kind| match kind {
            StoreErrorKind::Corrupt => {
                StoreError::new(kind).caused_by("the job holds no HTTP request that can be read")
            }
            kind => StoreError::new(kind),
        })
    }
}

fn about(headers: &HeaderMap) -> About {
    let told = HttpRequests::told(headers);
    About {
        event_id: told.event_id,
        event_time: told.event_time,
        idempotency_key: told.idempotency_key,
        trace_id: told.trace_id,
        ..About::default()
    }
}

fn encode(req: &Request<BufferedBody>) -> Bytes {
    let none = HeaderMap::new();
    let (method, uri) = (req.method().as_str(), original_uri(req).to_string());
    let (headers, body) = (req.headers(), req.body());
    let trailers = body.trailers().unwrap_or(&none);
    let fields = fields_len(headers.iter()) + fields_len(trailers.iter());
    let head = 9 + method.len() + uri.len() + fields;
    let mut out = Vec::with_capacity(head + body.as_bytes().len());
    out.put_u8(VERSION);
    put_text(&mut out, method);
    put_text(&mut out, &uri);
    put_fields(&mut out, headers.iter());
    put_fields(&mut out, trailers.iter());
    out.put_slice(body.as_bytes());
    out.into()
}

/// The `http` crate limits methods and URIs to far less than 4 GiB.
fn put_text(out: &mut Vec<u8>, text: &str) {
    out.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
    out.put_slice(text.as_bytes());
}

/// Reads what [`encode`] wrote, without copying the body. The error is `NewerSchema` or `Corrupt`.
fn decode(bytes: Bytes) -> Result<Request<BufferedBody>, StoreErrorKind> {
    versioned(bytes, VERSION, first)
}

fn first(mut bytes: Bytes) -> Option<Request<BufferedBody>> {
    let method = Method::from_bytes(&get_text(&mut bytes)?).ok()?;
    let uri = Uri::from_maybe_shared(get_text(&mut bytes)?).ok()?;
    let mut headers = get_headers(&mut bytes)?;
    let trailers = get_headers(&mut bytes)?;
    // Marked as sensitive, even if the sender did not mark them.
    for name in [
        header::AUTHORIZATION,
        header::COOKIE,
        header::PROXY_AUTHORIZATION,
    ] {
        if let http::header::Entry::Occupied(mut values) = headers.entry(name) {
            for value in values.iter_mut() {
                value.set_sensitive(true);
            }
        }
    }
    let mut body = BufferedBody::new(bytes);
    if !trailers.is_empty() {
        body = body.with_trailers(trailers);
    }
    let mut req = Request::new(body);
    *req.method_mut() = method;
    *req.uri_mut() = uri;
    *req.headers_mut() = headers;
    Some(req)
}

fn get_text(bytes: &mut Bytes) -> Option<Bytes> {
    let len = usize::try_from(bytes.try_get_u32().ok()?).ok()?;
    take(bytes, len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};
    use proptest::{collection::vec, prelude::*};
    use std::fmt;

    fn request() -> Request<BufferedBody> {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-checksum", HeaderValue::from_static("1"));
        Request::put("https://user:pass@Peer.test:8443/a%20b?x=1&y")
            .header("link", "</1>")
            .header("x-binary", HeaderValue::from_bytes(b"\xff\xfe").unwrap())
            .header("link", "</2>")
            .header("authorization", "Bearer secret")
            .body(BufferedBody::new(vec![0, 159, 146, 150]).with_trailers(trailers))
            .unwrap()
    }

    fn parts(req: &Request<BufferedBody>) -> impl PartialEq + fmt::Debug + use<> {
        let headers: Vec<_> = req
            .headers()
            .iter()
            .map(|(name, value)| (name.clone(), value.as_bytes().to_vec()))
            .collect();
        (
            req.method().clone(),
            req.uri().clone(),
            headers,
            req.body().trailers().cloned(),
            req.body().as_bytes().clone(),
        )
    }

    #[test]
    fn a_request_comes_back_with_its_order_repeated_headers_and_trailers() {
        let req = request();
        let back = decode(encode(&req)).unwrap();
        assert_eq!(parts(&back), parts(&req));
        assert!(!format!("{back:?}").contains("secret"));
    }

    #[test]
    fn the_layout_is_the_one_that_is_described() {
        let mut pin = HeaderValue::from_static("1234");
        pin.set_sensitive(true);
        let trailers = HeaderMap::from_iter([(header::ETAG, HeaderValue::from_static("\"1\""))]);
        let req = Request::put("https://peer.test/a?x=1")
            .header("x-pin", pin)
            .body(BufferedBody::from("{}").with_trailers(trailers))
            .unwrap();
        assert_eq!(
            encode(&req),
            &b"\x01\
                \x00\x00\x00\x03PUT\
                \x00\x00\x00\x17https://peer.test/a?x=1\
                \x00\x00\x00\x01\x00\x05x-pin\x80\x00\x00\x041234\
                \x00\x00\x00\x01\x00\x04etag\x00\x00\x00\x03\"1\"\
                {}"[..]
        );
    }

    #[test]
    fn what_is_marked_as_sensitive_comes_back_so() {
        let mut req = request();
        let mut pin = HeaderValue::from_static("1234");
        pin.set_sensitive(true);
        req.headers_mut().append("link", pin.clone());
        let trailers = HeaderMap::from_iter([(HeaderName::from_static("x-pin"), pin)]);
        *req.body_mut() = BufferedBody::from("{}").with_trailers(trailers);
        let back = decode(encode(&req)).unwrap();
        assert_eq!(parts(&back), parts(&req));
        let links = back.headers().get_all("link").iter();
        let marks: Vec<_> = links.map(HeaderValue::is_sensitive).collect();
        assert_eq!(marks, [false, false, true]);
        assert!(back.body().trailers().unwrap()["x-pin"].is_sensitive());
    }

    proptest! {
        #[test]
        fn every_request_comes_back(
            method in "[A-Z]{1,20}",
            path in "/[a-z0-9/]{0,60}(\\?[a-z=&]{0,20})?",
            headers in vec(("[a-z][a-z0-9-]{0,12}", vec(0x20_u8..0x7f, 0..40)), 0..40),
            body in vec(any::<u8>(), 0..300),
        ) {
            let mut req = Request::new(BufferedBody::new(body));
            *req.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();
            *req.uri_mut() = path.parse().unwrap();
            for (name, value) in headers {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                req.headers_mut().append(name, HeaderValue::from_bytes(&value).unwrap());
            }
            let encoded = encode(&req);
            prop_assert_eq!(parts(&decode(encoded.clone()).unwrap()), parts(&req));
            let head = encoded.len() - req.body().as_bytes().len();
            for cut in 0..head {
                let damaged = decode(encoded.slice(..cut)).unwrap_err();
                prop_assert_eq!(damaged, StoreErrorKind::Corrupt, "cut at {}", cut);
            }
        }

        #[test]
        fn hostile_bytes_are_no_request_and_no_panic(bytes in vec(any::<u8>(), 0..200)) {
            let _ = decode(bytes.clone().into());
            let mut versioned = vec![VERSION];
            versioned.extend(bytes);
            let _ = decode(versioned.into());
        }

        #[test]
        fn one_changed_byte_is_no_panic(at in 0_usize..200, byte: u8) {
            let mut bytes = encode(&request()).to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = decode(bytes.into());
        }
    }
}
