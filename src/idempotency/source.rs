//! Where the key of a request is found.

use super::{KeyError, pointer};
use crate::{InvalidConfig, body::BufferedBody};
use http::{HeaderName, Request};
use sha2::{Digest, Sha256};
use std::{
    borrow::Cow,
    fmt::{self, Write as _},
    sync::Arc,
};

/// Where the id of a request is found: a header, the verified webhook id, the body, or a closure.
///
/// Take the id from what the signature covers. A header outside the MAC lets whoever captured one
/// signed event run it again under a new id, or burn the id of an event that is still to come.
///
/// # Examples
///
/// ```
/// use http::{HeaderName, Request};
/// use tower_webhook::{body::BufferedBody, idempotency::KeySource};
///
/// let source = KeySource::json_pointer("/eventId").or(KeySource::header(HeaderName::from_static("x-event")));
/// let req = Request::new(BufferedBody::from(r#"{"eventId":"evt_1"}"#));
/// assert_eq!(source.find(&req)?.as_deref(), Some("evt_1"));
/// # Ok::<(), tower_webhook::idempotency::KeyError>(())
/// ```
#[derive(Clone)]
pub struct KeySource {
    kind: Kind,
    /// Asked when the first finds nothing.
    next: Option<Arc<KeySource>>,
}

type Find = dyn Fn(&Request<BufferedBody>) -> Result<Option<String>, KeyError> + Send + Sync;

#[derive(Clone)]
enum Kind {
    BodyDigest,
    Header(HeaderName),
    JsonPointer(Arc<str>),
    Closure(Arc<Find>),
    #[cfg(feature = "signature")]
    VerifiedId,
}

impl KeySource {
    const fn new(kind: Kind) -> Self {
        Self { kind, next: None }
    }

    /// The value of a header: a string in quotes, as draft-ietf-httpapi-idempotency-key-header-07
    /// §2.1 writes it, or bare, as most senders do. The two are the same key.
    pub const fn header(name: HeaderName) -> Self {
        Self::new(Kind::Header(name))
    }

    /// The webhook id that the signature covered: `webhook-id` of Standard Webhooks, `svix-id`.
    ///
    /// Finds nothing where no [`SignatureVerifyLayer`](crate::SignatureVerifyLayer) stands outside,
    /// or its scheme has no id under the MAC.
    #[cfg(feature = "signature")]
    pub const fn verified_id() -> Self {
        Self::new(Kind::VerifiedId)
    }

    /// The string or integer at a [JSON pointer](https://www.rfc-editor.org/rfc/rfc6901) in the
    /// body, such as `/eventId`. A body that is not JSON has none. A body in which a member on the
    /// way is there twice is refused: parsers differ in which one they take.
    pub fn json_pointer(pointer: &str) -> Self {
        Self::new(Kind::JsonPointer(pointer.into()))
    }

    /// The SHA-256 of the body, in hexadecimal: for senders that give no id.
    ///
    /// Two messages of the same bytes are then one message. A sender that means two by them, such
    /// as a bot that says the same twice, needs an id in the body.
    pub const fn body_digest() -> Self {
        Self::new(Kind::BodyDigest)
    }

    /// What a closure finds.
    pub fn from_fn(
        find: impl Fn(&Request<BufferedBody>) -> Result<Option<String>, KeyError>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self::new(Kind::Closure(Arc::new(find)))
    }

    /// Asks `other` where this one finds nothing. An id that is there and malformed is an error, not
    /// nothing.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        let next = match self.next.take() {
            Some(next) => Arc::unwrap_or_clone(next).or(other),
            None => other,
        };
        self.next = Some(Arc::new(next));
        self
    }

    /// Can this find anything?
    pub(crate) fn check(&self) -> Result<(), InvalidConfig> {
        if let Kind::JsonPointer(pointer) = &self.kind
            && !pointer.starts_with('/')
        {
            return Err(InvalidConfig::new(
                "key",
                format!("has the JSON pointer {pointer:?}, which must begin with `/`"),
            ));
        }
        self.next.as_ref().map_or(Ok(()), |next| next.check())
    }

    /// The id of `req`, if it has one.
    ///
    /// # Errors
    ///
    /// [`KeyError`] when there is an id and it is unusable.
    pub fn find<'a>(
        &self,
        req: &'a Request<BufferedBody>,
    ) -> Result<Option<Cow<'a, str>>, KeyError> {
        let found = match &self.kind {
            Kind::BodyDigest => Some(Cow::Owned(hex(&Sha256::digest(req.body().as_bytes())))),
            Kind::Header(name) => from_header(req, name)?,
            Kind::JsonPointer(pointer) => {
                pointer::find(req.body().as_bytes(), pointer)?.map(Cow::Owned)
            }
            Kind::Closure(find) => find(req)?.map(Cow::Owned),
            #[cfg(feature = "signature")]
            Kind::VerifiedId => verified_id(req).map(Cow::Borrowed),
        };
        match (found, &self.next) {
            (None, Some(next)) => next.find(req),
            (found, _) => Ok(found),
        }
    }
}

#[cfg(feature = "signature")]
fn verified_id(req: &Request<BufferedBody>) -> Option<&str> {
    req.extensions().get::<crate::signature::Verified>()?.id()
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
            // Writing to a `String` cannot fail.
            let _ = write!(out, "{byte:02x}");
            out
        })
}

fn from_header<'a>(
    req: &'a Request<BufferedBody>,
    name: &HeaderName,
) -> Result<Option<Cow<'a, str>>, KeyError> {
    let mut values = req.headers().get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(KeyError::Repeated);
    }
    let text = value.to_str().map_err(|_| KeyError::Malformed)?;
    unquote(text).map(Some)
}

/// The text of a structured-field string (RFC 9651 §4.2.5), or bare text as it is.
fn unquote(text: &str) -> Result<Cow<'_, str>, KeyError> {
    let text = text.trim_matches(|char| char == ' ' || char == '\t');
    let Some(quoted) = text.strip_prefix('"') else {
        return if text.contains('"') {
            Err(KeyError::Malformed)
        } else {
            Ok(text.into())
        };
    };
    // Nothing is escaped in the usual key.
    if let Some((inside, "")) = quoted.split_once('"')
        && !inside.contains('\\')
    {
        return Ok(inside.into());
    }
    let mut out = String::with_capacity(quoted.len());
    let mut chars = quoted.chars();
    loop {
        match chars.next() {
            Some('"') => break,
            Some('\\') => match chars.next() {
                Some(char @ ('"' | '\\')) => out.push(char),
                _ => return Err(KeyError::Malformed),
            },
            Some(char) => out.push(char),
            None => return Err(KeyError::Malformed),
        }
    }
    if chars.next().is_some() {
        return Err(KeyError::Malformed);
    }
    Ok(out.into())
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::BodyDigest => f.write_str("body_digest()")?,
            Kind::Header(name) => write!(f, "header({name})")?,
            Kind::JsonPointer(pointer) => write!(f, "json_pointer({pointer})")?,
            Kind::Closure(_) => f.write_str("from_fn(..)")?,
            #[cfg(feature = "signature")]
            Kind::VerifiedId => f.write_str("verified_id()")?,
        }
        match &self.next {
            Some(next) => write!(f, ".or({next:?})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_and_bare_are_the_same_key() {
        for text in ["abc-1", "\"abc-1\"", " \"abc-1\"\t"] {
            assert_eq!(unquote(text).as_deref(), Ok("abc-1"), "{text:?}");
        }
        assert_eq!(unquote(r#""a\"b\\c""#).as_deref(), Ok(r#"a"b\c"#));
        for text in [
            "\"abc",
            "\"abc\"x",
            "\"a\\n\"",
            "a\"b\"",
            "\"abc\";q=1",
            "\"\\",
        ] {
            assert_eq!(unquote(text), Err(KeyError::Malformed), "{text:?}");
        }
    }
}
