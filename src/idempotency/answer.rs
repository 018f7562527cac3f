//! The form in which a response is stored.
//!
//! Stores keep opaque bytes, so that no store needs to know HTTP. The layout is described in
//! [`codec`](crate::codec#a-stored-response).

use crate::{
    StoreErrorKind,
    body::BufferedBody,
    credentials::names_a_credential,
    fields::{fields_len, get_headers, put_fields, versioned},
};
use bytes::{Buf, BufMut, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header, response};

const VERSION: u8 = 1;

/// The body was too long to store: a repeat gets only the status and the headers.
const FLAG_BODY_OMITTED: u8 = 1;

/// Headers and trailers that are never stored: connection management (RFC 9110 §7.6.1), the date, and the length,
/// which is computed again.
const OF_ONE_EXCHANGE: [HeaderName; 9] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::DATE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Whether a header or trailer of an answer is stored by default: all but cookies, credentials and challenges.
///
/// A name, in any case and without its punctuation, is that of a credential if it contains `accesskey`, `apikey`,
/// `authenticat`, `authorization`, `bearer`, `clientcert`, `cookie`, `credential`, `hmac`, `jwt`, `passphrase`, `passw`,
/// `privatekey`, `secret`, `session`, `signature` or `token`, has the word `auth`, or ends with `key` (but not with
/// `idempotency-key`). Other names are stored, whatever their values are.
pub fn stored_by_default(name: &HeaderName) -> bool {
    // Most answers have no others, and reading a name takes longer than comparing it with these.
    let is_usual = [
        header::CACHE_CONTROL,
        header::CONTENT_TYPE,
        header::ETAG,
        header::LOCATION,
        header::VARY,
    ];
    is_usual.contains(name) || !names_a_credential(name.as_str())
}

/// A stored response.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: Response<BufferedBody>,
    pub(super) body_omitted: bool,
}

/// Writes a response; `body` is `None` when it was too long to keep.
/// `is_stored` says which headers and trailers are written, of those that do not belong to one exchange.
pub(super) fn encode(
    head: &response::Parts,
    body: Option<&BufferedBody>,
    is_stored: impl Fn(&HeaderName) -> bool,
) -> Bytes {
    let empty = BufferedBody::default();
    let flags = if body.is_none() { FLAG_BODY_OMITTED } else { 0 };
    let body = body.unwrap_or(&empty);

    let connection = head.headers.get_all(header::CONNECTION);
    let keep = |name: &HeaderName| {
        // RFC 9110 §7.6.1: headers that `Connection` names belong to the connection too.
        let named = connection.iter().any(|value| {
            value.to_str().is_ok_and(|names| {
                names
                    .split(',')
                    .any(|listed| listed.trim().eq_ignore_ascii_case(name.as_str()))
            })
        });
        !named && !OF_ONE_EXCHANGE.contains(name) && is_stored(name)
    };
    // Asked once for each: reading a name costs more than remembering what it said.
    let headers = kept(&head.headers, keep);
    // A server may send a credential after the body as well.
    let trailers = body
        .trailers()
        .map(|fields| kept(fields, keep))
        .unwrap_or_default();

    // The exact size: a store counts the length of a record, not its capacity.
    let len = 4 + fields_len(headers.iter().copied()) + fields_len(trailers.iter().copied());
    let mut out = Vec::with_capacity(len + body.as_bytes().len());
    out.put_u8(VERSION);
    out.put_u8(flags);
    out.put_u16(head.status.as_u16());
    put_fields(&mut out, headers.into_iter());
    put_fields(&mut out, trailers.into_iter());
    out.put_slice(body.as_bytes());
    in_one_piece(out)
}

/// The fields to keep.
fn kept(
    fields: &HeaderMap,
    keep: impl Fn(&HeaderName) -> bool,
) -> Vec<(&HeaderName, &HeaderValue)> {
    let mut kept = Vec::with_capacity(fields.len());
    kept.extend(fields.iter().filter(|(name, _)| keep(name)));
    kept
}

/// Keeps a record that is not long in one allocation, together with the count of its owners: one less for
/// a store to fetch and free, long after the processor has forgotten it.
fn in_one_piece(record: Vec<u8>) -> Bytes {
    // With the length, the count and the allocator's own word: 64, 128 and 256 bytes.
    match record.len() {
        0..40 => Piece::<39>::bytes(&record),
        40..104 => Piece::<103>::bytes(&record),
        104..232 => Piece::<231>::bytes(&record),
        _ => record.into(),
    }
}

/// `N` bytes at the most, and their number.
struct Piece<const N: usize> {
    len: u8,
    bytes: [u8; N],
}

impl<const N: usize> Piece<N> {
    fn bytes(record: &[u8]) -> Bytes {
        let mut bytes = [0; N];
        match (bytes.get_mut(..record.len()), u8::try_from(record.len())) {
            (Some(room), Ok(len)) => {
                room.copy_from_slice(record);
                Bytes::from_owner(Self { len, bytes })
            }
            _ => Bytes::copy_from_slice(record),
        }
    }
}

impl<const N: usize> AsRef<[u8]> for Piece<N> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// Reads what [`encode`] wrote, without copying the body. The error is `NewerSchema` or `Corrupt`.
pub(super) fn decode(bytes: Bytes) -> Result<Answer, StoreErrorKind> {
    versioned(bytes, VERSION, first)
}

fn first(mut bytes: Bytes) -> Option<Answer> {
    let flags = bytes.try_get_u8().ok()?;
    let status = StatusCode::from_u16(bytes.try_get_u16().ok()?).ok()?;
    let headers = get_headers(&mut bytes)?;
    let trailers = get_headers(&mut bytes)?;

    let mut body = BufferedBody::new(bytes);
    if !trailers.is_empty() {
        body = body.with_trailers(trailers);
    }
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Some(Answer {
        response,
        body_omitted: flags & FLAG_BODY_OMITTED != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(build: response::Builder) -> response::Parts {
        build.body(()).unwrap().into_parts().0
    }

    #[test]
    fn an_answer_comes_back_with_repeated_headers_and_trailers() {
        let head = parts(
            Response::builder()
                .status(201)
                .header("link", "</1>")
                .header("link", "</2>")
                .header("x-binary", HeaderValue::from_bytes(b"\xff\xfe").unwrap()),
        );
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        let body = BufferedBody::new(vec![0, 159, 146, 150]).with_trailers(trailers.clone());

        let answer = decode(encode(&head, Some(&body), stored_by_default)).unwrap();
        assert!(!answer.body_omitted);
        assert_eq!(answer.response.status(), 201);
        let links: Vec<_> = answer.response.headers().get_all("link").iter().collect();
        assert_eq!(links, ["</1>", "</2>"]);
        assert_eq!(
            answer.response.headers()["x-binary"].as_bytes(),
            b"\xff\xfe"
        );
        assert_eq!(answer.response.body().as_bytes(), body.as_bytes());
        assert_eq!(answer.response.body().trailers(), Some(&trailers));
    }

    #[test]
    fn the_layout_is_the_one_that_is_described() {
        let mut link = HeaderValue::from_static("/1");
        link.set_sensitive(true);
        let head = parts(Response::builder().status(201).header("link", link));
        let trailers = HeaderMap::from_iter([(header::ETAG, HeaderValue::from_static("\"1\""))]);
        let body = BufferedBody::from("abc").with_trailers(trailers);
        assert_eq!(
            encode(&head, Some(&body), stored_by_default),
            &b"\x01\x00\x00\xc9\
                \x00\x00\x00\x01\x00\x04link\x80\x00\x00\x02/1\
                \x00\x00\x00\x01\x00\x04etag\x00\x00\x00\x03\"1\"\
                abc"[..]
        );
        assert_eq!(
            encode(&parts(Response::builder()), None, stored_by_default),
            &b"\x01\x01\x00\xc8\x00\x00\x00\x00\x00\x00\x00\x00"[..]
        );
    }

    #[test]
    fn a_record_of_any_length_is_kept_whole() {
        for len in 0..600 {
            let body: Vec<u8> = (0..=250).cycle().take(len).collect();
            let head = parts(Response::builder());
            let record = encode(
                &head,
                Some(&BufferedBody::new(body.clone())),
                stored_by_default,
            );
            assert_eq!(record.len(), 12 + len);
            let answer = decode(record).unwrap();
            assert_eq!(answer.response.body().as_bytes(), &body);
        }
    }

    #[test]
    fn headers_of_one_exchange_are_not_kept() {
        let head = parts(
            Response::builder()
                .header("set-cookie", "session=1")
                .header("content-length", "3")
                .header("date", "Sat, 21 Nov 2026 00:00:00 GMT")
                .header("connection", "close, X-Hop")
                .header("x-hop", "1")
                .header("www-authenticate", "Basic")
                .header("X-Auth-Token", "1")
                .header("x-amz-security-token", "1")
                .header("x-api-key", "1")
                .header("authentication-info", "1")
                .header("location", "/orders/1"),
        );
        let answer = decode(encode(
            &head,
            Some(&BufferedBody::from("abc")),
            stored_by_default,
        ))
        .unwrap();
        let names: Vec<_> = answer.response.headers().keys().collect();
        assert_eq!(names, ["location"]);
    }

    #[test]
    fn an_omitted_body_is_marked() {
        let answer = decode(encode(&parts(Response::builder()), None, stored_by_default)).unwrap();
        assert!(answer.body_omitted);
        assert!(answer.response.body().as_bytes().is_empty());
    }

    proptest! {
        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(bytes.into());
        }

        #[test]
        fn a_cut_record_is_no_record_unless_only_the_body_is_cut(cut in 0_usize..60) {
            let head = parts(Response::builder().header("location", "/orders/1"));
            let whole = encode(&head, Some(&BufferedBody::from("abc")), stored_by_default);
            let without_body = whole.len() - 3;
            let cut = cut.min(whole.len());
            let decoded = decode(whole.slice(..cut));
            prop_assert_eq!(decoded.is_ok(), cut >= without_body);
            if let Err(kind) = decoded {
                prop_assert_eq!(kind, StoreErrorKind::Corrupt);
            }
        }
    }
}
