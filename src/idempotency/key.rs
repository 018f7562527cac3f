//! The key of a request, and where it is found.

use super::pointer;
use crate::{InvalidConfig, body::BufferedBody};
use http::{HeaderName, Request};
use sha2::{Digest, Sha256};
use std::{
    borrow::Cow,
    fmt::{self, Write as _},
    sync::Arc,
};

/// The longest id, in bytes: Stripe's limit, and more than any provider's delivery id.
pub const MAX_ID_LEN: usize = 255;

/// The longest scope, in bytes: room for a path and a tenant.
pub const MAX_SCOPE_LEN: usize = 1024;

/// What makes two requests the same: an id, within a scope.
///
/// The scope (a route, a tenant) keeps one caller's ids apart from another's. The two are framed,
/// not joined: scope `a` with id `bc` is another key than scope `ab` with id `c`.
///
/// `Debug` and `Display` do not show the id, which may be a customer's.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdempotencyKey {
    /// The scope, then the id.
    text: Arc<str>,
    scope_len: u16,
}

impl IdempotencyKey {
    /// Frames `id` with `scope`.
    ///
    /// # Errors
    ///
    /// [`KeyError`] when the id is empty, longer than [`MAX_ID_LEN`] or contains a control
    /// character, or the scope is longer than [`MAX_SCOPE_LEN`].
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_webhook::idempotency::{IdempotencyKey, KeyError};
    ///
    /// let key = IdempotencyKey::new("tenant-7", "evt_1")?;
    /// assert_eq!((key.scope(), key.id()), ("tenant-7", "evt_1"));
    /// assert_ne!(IdempotencyKey::new("a", "bc")?, IdempotencyKey::new("ab", "c")?);
    /// assert_eq!(IdempotencyKey::new("tenant-7", ""), Err(KeyError::Empty));
    /// # Ok::<(), KeyError>(())
    /// ```
    pub fn new(scope: &str, id: &str) -> Result<Self, KeyError> {
        if id.is_empty() {
            return Err(KeyError::Empty);
        }
        if id.len() > MAX_ID_LEN {
            return Err(KeyError::TooLong { len: id.len() });
        }
        if id.contains(char::is_control) {
            return Err(KeyError::Malformed);
        }
        let scope_len = match u16::try_from(scope.len()) {
            Ok(len) if scope.len() <= MAX_SCOPE_LEN => len,
            _ => return Err(KeyError::ScopeTooLong { len: scope.len() }),
        };
        Ok(Self {
            text: join(scope, id),
            scope_len,
        })
    }

    /// The scope.
    pub fn scope(&self) -> &str {
        self.text
            .get(..usize::from(self.scope_len))
            .unwrap_or_default()
    }

    /// The id.
    pub fn id(&self) -> &str {
        self.text
            .get(usize::from(self.scope_len)..)
            .unwrap_or_default()
    }
}

/// The usual key in one allocation: an `Arc` copies what it is made of, so it is put together here.
fn join(scope: &str, id: &str) -> Arc<str> {
    let mut usual = [0; 256];
    if let Some(text) = usual.get_mut(..scope.len() + id.len()) {
        let (head, tail) = text.split_at_mut(scope.len());
        head.copy_from_slice(scope.as_bytes());
        tail.copy_from_slice(id.as_bytes());
        if let Ok(text) = std::str::from_utf8(text) {
            return text.into();
        }
    }
    [scope, id].concat().into()
}

impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyKey")
            .field("scope", &self.scope())
            .finish_non_exhaustive()
    }
}

/// Why a request has no usable key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyError {
    /// The id is empty.
    Empty,
    /// Not text, or text with a control character, or a quoted string that does not close.
    Malformed,
    /// There is no id where one is required.
    Missing,
    /// The request carries more than one id.
    Repeated,
    /// The scope is longer than [`MAX_SCOPE_LEN`].
    ScopeTooLong {
        /// Its length, in bytes.
        len: usize,
    },
    /// The id is longer than [`MAX_ID_LEN`].
    TooLong {
        /// Its length, in bytes.
        len: usize,
    },
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the idempotency key is empty"),
            Self::Malformed => f.write_str("the idempotency key is malformed"),
            Self::Missing => f.write_str("the idempotency key is missing"),
            Self::Repeated => f.write_str("the request has more than one idempotency key"),
            Self::ScopeTooLong { len } => {
                write!(f, "the scope has {len} bytes, {MAX_SCOPE_LEN} at the most")
            }
            Self::TooLong { len } => write!(
                f,
                "the idempotency key has {len} bytes, {MAX_ID_LEN} at the most"
            ),
        }
    }
}

impl std::error::Error for KeyError {}

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
