//! The idempotency key of a request, and the sources it can be read from.

use super::pointer;
use crate::{InvalidConfig, body::BufferedBody, percent};
use http::{HeaderName, Request};
use sha2::{Digest, Sha256};
use std::{
    borrow::Cow,
    cmp::Ordering,
    fmt::{self, Write as _},
    hash::{Hash, Hasher},
    slice::SliceIndex,
    sync::Arc,
};

/// The longest id, in bytes: Stripe's limit, and more than any provider's delivery id.
pub const MAX_ID_LEN: usize = 255;

/// The longest scope, in bytes: room for a path and a tenant.
pub const MAX_SCOPE_LEN: usize = 1024;

/// Identifies a request: two requests with the same key are the same request. A key is an id within
/// a scope.
///
/// The scope (a route, a tenant) keeps the ids of one caller apart from those of another. Scope and id
/// are kept as two parts: scope `a` with id `bc` is another key than scope `ab` with id `c`.
///
/// `Debug` and `Display` do not show the id, which may be a customer's.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdempotencyKey {
    /// The scope, followed by the id.
    text: Text,
    scope_len: u16,
}

/// Text that is kept in place if it is not long: a store that keeps many keys otherwise spends much of its time
/// on fetching and freeing their texts, which the processor has long forgotten.
#[derive(Clone)]
enum Text {
    /// The length, and as many bytes; the rest is zero.
    Short(u8, [u8; SHORT]),
    Long(Arc<[u8]>),
}

/// Room for a path of 26 bytes and a UUID.
const SHORT: usize = 62;

impl Text {
    fn new(one: &str, two: &str) -> Self {
        let mut short = [0; SHORT];
        if let Some(text) = joined(&mut short, one, two)
            && let Ok(len) = u8::try_from(text.len())
        {
            return Self::Short(len, short);
        }
        // On the stack, so that the shared text is the only allocation.
        match joined(&mut [0; 256], one, two) {
            Some(text) => Self::Long(Arc::from(&*text)),
            None => Self::Long([one, two].concat().into_bytes().into()),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short(len, bytes) => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Self::Long(bytes) => bytes,
        }
    }
}

/// Writes two texts into `room`, and returns what was written, or `None` if it is too small.
fn joined<'a>(room: &'a mut [u8], one: &str, two: &str) -> Option<&'a mut [u8]> {
    let text = room.get_mut(..one.len() + two.len())?;
    let (head, tail) = text.split_at_mut(one.len());
    head.copy_from_slice(one.as_bytes());
    tail.copy_from_slice(two.as_bytes());
    Some(text)
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Text {}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl IdempotencyKey {
    /// Makes a key of a scope and an id.
    ///
    /// # Errors
    ///
    /// [`KeyError`] when the id is empty, longer than [`MAX_ID_LEN`], contains a control character, or begins
    /// or ends with whitespace, or the scope is longer than [`MAX_SCOPE_LEN`]. Whitespace around an id is lost
    /// where a header carries the id, and two ids would become one.
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
        let has_control = if id.is_ascii() {
            id.bytes().any(|byte| byte.is_ascii_control())
        } else {
            id.contains(char::is_control)
        };
        if has_control {
            return Err(KeyError::Malformed);
        }
        if id.trim().len() != id.len() {
            return Err(KeyError::Padded);
        }
        let scope_len = match u16::try_from(scope.len()) {
            Ok(len) if scope.len() <= MAX_SCOPE_LEN => len,
            _ => return Err(KeyError::ScopeTooLong { len: scope.len() }),
        };
        Ok(Self {
            text: Text::new(scope, id),
            scope_len,
        })
    }

    /// Writes scope and id as one text, for a place that has no scope, such as the header `Idempotency-Key` of
    /// a request to another service. Different keys give different texts.
    ///
    /// A key with an empty scope is its id, as it is. Any other key is `key:SCOPE:ID`, in which every byte but
    /// letters, digits and `-._~/` is percent-encoded. So are the ids in the empty scope that a reader could
    /// take for something else: those that begin with `key:` or contain a quotation mark.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_webhook::idempotency::IdempotencyKey;
    ///
    /// let key = IdempotencyKey::new("tenant-7", "evt 1")?;
    /// assert_eq!(key.to_text(), "key:tenant-7:evt%201");
    /// assert_eq!(IdempotencyKey::from_text("key:tenant-7:evt%201")?, key);
    /// assert_eq!(IdempotencyKey::new("", "evt 1")?.to_text(), "evt 1");
    /// # Ok::<(), tower_webhook::idempotency::KeyError>(())
    /// ```
    pub fn to_text(&self) -> String {
        let (scope, id) = (self.scope(), self.id());
        if scope.is_empty() && !id.starts_with(QUALIFIED) && !id.contains('"') {
            return id.to_owned();
        }
        let mut out = String::with_capacity(QUALIFIED.len() + scope.len() + 1 + id.len());
        out.push_str(QUALIFIED);
        percent::push_encoded(&mut out, scope, is_plain);
        out.push(':');
        percent::push_encoded(&mut out, id, is_plain);
        out
    }

    /// Reads what [`to_text`](Self::to_text) has written, and nothing else: no two texts are one key.
    ///
    /// # Errors
    ///
    /// [`KeyError::Malformed`] when the text begins with `key:` and is not how `to_text` writes a key, and otherwise as
    /// for [`new`](Self::new).
    pub fn from_text(text: &str) -> Result<Self, KeyError> {
        let Some(qualified) = text.strip_prefix(QUALIFIED) else {
            return Self::new("", text);
        };
        let (scope, id) = qualified.split_once(':').ok_or(KeyError::Malformed)?;
        let key = Self::new(&percent::decoded(scope), &percent::decoded(id))?;
        // As after a path that was decoded once too often: it would be another key. What cannot be decoded is not
        // written so either.
        if key.to_text() != text {
            return Err(KeyError::Malformed);
        }
        Ok(key)
    }

    /// Returns the scope.
    pub fn scope(&self) -> &str {
        self.part(..usize::from(self.scope_len))
    }

    /// Returns the id.
    pub fn id(&self) -> &str {
        self.part(usize::from(self.scope_len)..)
    }

    /// Returns 16 bytes that stand for the key, for a store that keeps many keys: the beginning of the SHA-256 of
    /// the length of the scope (8 bytes, big-endian), the scope and the id. The digest of a key never changes, so
    /// it can be stored.
    ///
    /// Two keys have the same digest by chance with a probability of 2⁻¹²⁸. Who may choose scope and id of both
    /// can find two such keys with about 2⁶⁴ attempts; to find one for a key of somebody else takes 2¹²⁸.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_webhook::idempotency::IdempotencyKey;
    ///
    /// let key = IdempotencyKey::new("a", "bc")?;
    /// assert_eq!(key.digest(), IdempotencyKey::new("a", "bc")?.digest());
    /// assert_ne!(key.digest(), IdempotencyKey::new("ab", "c")?.digest());
    /// # Ok::<(), tower_webhook::idempotency::KeyError>(())
    /// ```
    pub fn digest(&self) -> [u8; 16] {
        let mut sha = Sha256::new();
        sha.update(u64::from(self.scope_len).to_be_bytes());
        sha.update(self.text.as_bytes());
        let mut digest = [0; 16];
        for (to, from) in digest.iter_mut().zip(sha.finalize()) {
            *to = from;
        }
        digest
    }

    fn part(&self, part: impl SliceIndex<[u8], Output = [u8]>) -> &str {
        // Always text: it was made of two texts, and is cut where they met.
        let bytes = self.text.as_bytes().get(part).unwrap_or_default();
        str::from_utf8(bytes).unwrap_or_default()
    }

    /// The lengths of scope and id together.
    #[cfg(feature = "moka")]
    pub(super) fn len(&self) -> usize {
        self.text.as_bytes().len()
    }
}

/// The beginning of a [text](IdempotencyKey::to_text) that has a scope.
const QUALIFIED: &str = "key:";

/// RFC 3986's unreserved bytes, and the slash.
const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/')
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
    /// The id is not text, contains a control character, or is a quoted string without closing quote.
    Malformed,
    /// The id begins or ends with whitespace.
    Padded,
    /// The request carries more than one id.
    Repeated,
    /// The scope is longer than [`MAX_SCOPE_LEN`].
    ScopeTooLong {
        /// The length of the scope, in bytes.
        len: usize,
    },
    /// The id is longer than [`MAX_ID_LEN`].
    TooLong {
        /// The length of the id, in bytes.
        len: usize,
    },
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the idempotency key is empty"),
            Self::Malformed => f.write_str(
                "the idempotency key is not text of visible characters, or has a quote without its pair",
            ),
            Self::Padded => f.write_str("the idempotency key begins or ends with whitespace"),
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

/// Where a layer finds the id of a request: in a header, the verified webhook id, the body, or the
/// result of a closure.
///
/// Choose an id that the signature covers. With a header that is not signed, an attacker who captured
/// one signed event can run it again under a new id, or use up the id of an event that has not arrived
/// yet.
///
/// # Examples
///
/// ```
/// use http::{HeaderName, Request};
/// use tower_webhook::{body::BufferedBody, idempotency::KeySource};
///
/// let source = KeySource::json_pointer("/eventId")?.or(KeySource::header(HeaderName::from_static("x-event")));
/// let req = Request::new(BufferedBody::from(r#"{"eventId":"evt_1"}"#));
/// assert_eq!(source.find(&req)?.as_deref(), Some("evt_1"));
/// # Ok::<(), tower_webhook::BoxError>(())
/// ```
#[derive(Clone)]
pub struct KeySource {
    kind: Kind,
    /// The source that is tried when this one finds nothing.
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

    /// Reads the id from a header. The value may be a quoted string, as
    /// draft-ietf-httpapi-idempotency-key-header-07 §2.1 requires, or bare text, as most senders write it:
    /// both give the same key.
    pub const fn header(name: HeaderName) -> Self {
        Self::new(Kind::Header(name))
    }

    /// Reads the webhook id that the signature covers: `webhook-id` of Standard Webhooks, `svix-id`.
    ///
    /// The default scope of the id is the original path, so that one event may be delivered to two endpoints. Few schemes
    /// sign the path: where a service takes webhooks at any path, without a router, or at several spellings of one, a copy
    /// to another path is another event until its timestamp is too old. Set
    /// [`scope`](super::IdempotencyLayer::scope) there.
    ///
    /// Finds nothing if the request has not passed a
    /// [`SignatureVerifyLayer`](crate::SignatureVerifyLayer), or if the scheme signs no id.
    #[cfg(feature = "signature")]
    pub const fn verified_id() -> Self {
        Self::new(Kind::VerifiedId)
    }

    /// Reads the string or integer at a [JSON pointer](https://www.rfc-editor.org/rfc/rfc6901) in the
    /// body, such as `/eventId`. Finds nothing in a body that is not JSON. A body in which a member along
    /// the pointer occurs twice is refused, because parsers differ in which of the two they use.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] if the pointer does not begin with `/`: it would never find anything.
    pub fn json_pointer(pointer: &str) -> Result<Self, InvalidConfig> {
        if !pointer.starts_with('/') {
            let problem = format!("is {pointer:?}, and must begin with `/`");
            return Err(InvalidConfig::new("json_pointer", problem));
        }
        Ok(Self::new(Kind::JsonPointer(pointer.into())))
    }

    /// Uses the SHA-256 of the body, in hexadecimal: for senders that give no id.
    ///
    /// Two messages with the same bytes count as one message. If a sender can mean two messages by them
    /// (a bot that says the same sentence twice), the body needs an id.
    pub const fn body_digest() -> Self {
        Self::new(Kind::BodyDigest)
    }

    /// Uses the id that a closure returns.
    pub fn from_fn(
        find: impl Fn(&Request<BufferedBody>) -> Result<Option<String>, KeyError>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self::new(Kind::Closure(Arc::new(find)))
    }

    /// Tries `other` if this source finds nothing. A malformed id is an error; `other` is not tried then.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        let next = match self.next.take() {
            Some(next) => Arc::unwrap_or_clone(next).or(other),
            None => other,
        };
        self.next = Some(Arc::new(next));
        self
    }

    /// Where it looks.
    pub(super) fn place(&self) -> String {
        let place = match &self.kind {
            Kind::BodyDigest => "a body".to_owned(),
            Kind::Closure(_) => "what the closure of `KeySource::from_fn` looks for".to_owned(),
            Kind::Header(name) => format!("the header `{name}`"),
            Kind::JsonPointer(pointer) => {
                format!("a string or an integer at `{pointer}` in a JSON body")
            }
            #[cfg(feature = "signature")]
            Kind::VerifiedId => {
                "an id that is signed and was verified by a layer outside".to_owned()
            }
        };
        match &self.next {
            None => place,
            Some(next) => format!("{place}, or {}", next.place()),
        }
    }

    /// What to write where it finds nothing, if that may be a fault of the program.
    pub(super) const fn advice(&self) -> &'static str {
        match (&self.kind, &self.next) {
            #[cfg(feature = "signature")]
            (Kind::VerifiedId, None) => {
                ": not every scheme signs an id (GitHub's does not); name another source, as in \
                 `.once_by(store, KeySource::header(HeaderName::from_static(\"x-github-delivery\")))`"
            }
            _ => "",
        }
    }

    /// Returns the id of `req`, if it has one.
    ///
    /// # Errors
    ///
    /// [`KeyError`] when the request has an id that cannot be used.
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

/// Returns the text of a structured-field string (RFC 9651 §4.2.5); bare text is returned as it is.
fn unquote(text: &str) -> Result<Cow<'_, str>, KeyError> {
    let text = text.trim_matches(|char| char == ' ' || char == '\t');
    let Some(quoted) = text.strip_prefix('"') else {
        return if text.contains('"') {
            Err(KeyError::Malformed)
        } else {
            Ok(text.into())
        };
    };
    // The usual key has no escapes.
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
    use proptest::prelude::*;

    /// It is stored, so it must not change: the first 16 bytes of what `sha256sum` says of the framed text.
    #[test]
    fn the_digest_of_a_key_stays_as_it_is() {
        let key = IdempotencyKey::new("a", "bc").unwrap();
        let expected = 0xe98b_c483_cc6a_f9cc_f82b_c23e_481a_128c_u128;
        assert_eq!(u128::from_be_bytes(key.digest()), expected);
        let other = IdempotencyKey::new("ab", "c").unwrap();
        assert_ne!(other.digest(), key.digest(), "the scope is framed");
    }

    /// 62 bytes is the longest text that is kept in place, 256 the longest that is made on the stack.
    #[test]
    fn a_key_of_any_length_is_its_scope_and_its_id() {
        for scope_len in [0, 1, 25, 26, 27, 61, 62, 63, 220, 221, 255, 1024] {
            let scope = "é".repeat(scope_len / 2) + &"s".repeat(scope_len % 2);
            for id_len in [1, 2, 35, 36, 37, 61, 62, 63, 255] {
                let id = "i".repeat(id_len);
                let key = IdempotencyKey::new(&scope, &id).unwrap();
                assert_eq!((key.scope(), key.id()), (&*scope, &*id));
                assert_eq!(key, key.clone());
                let shifted = IdempotencyKey::new(&(scope.clone() + "i"), &id[1..]);
                assert!(shifted.map_or(true, |shifted| shifted != key));
                let other = "i".repeat(id_len - 1) + "j";
                assert_ne!(IdempotencyKey::new(&scope, &other).unwrap(), key);
            }
        }
    }

    #[test]
    fn control_characters_are_refused_wherever_they_stand() {
        for id in ["a\n", "\0", "\u{7f}", "\u{85}", "é\u{1}", "a\u{9f}b"] {
            assert_eq!(
                IdempotencyKey::new("s", id),
                Err(KeyError::Malformed),
                "{id:?}"
            );
        }
        assert!(IdempotencyKey::new("s", "é \u{a0}~").is_ok());
    }

    /// A header loses them, and some receivers trim more than blanks.
    #[test]
    fn outer_whitespace_is_refused() {
        for id in [" ", " a", "a ", "\u{a0}a", "a\u{2003}", "\u{3000}"] {
            assert_eq!(
                IdempotencyKey::new("s", id),
                Err(KeyError::Padded),
                "{id:?}"
            );
        }
        assert!(IdempotencyKey::new(" s ", "a b").is_ok());
    }

    #[test]
    fn an_id_without_scope_is_its_own_text_unless_it_could_be_taken_for_another() {
        for (scope, id, text) in [
            ("", "evt_1", "evt_1"),
            ("", "a b/é", "a b/é"),
            ("", "trigger:evt_1", "trigger:evt_1"),
            ("", "key:trigger:evt_1", "key::key%3Atrigger%3Aevt_1"),
            ("", "\"evt_1\"", "key::%22evt_1%22"),
            ("trigger", "evt_1", "key:trigger:evt_1"),
            ("a:b", "c", "key:a%3Ab:c"),
            ("a", "b:c", "key:a:b%3Ac"),
            ("cognigy/é", "%41", "key:cognigy/%C3%A9:%2541"),
        ] {
            let key = IdempotencyKey::new(scope, id).unwrap();
            assert_eq!(key.to_text(), text);
            assert_eq!(IdempotencyKey::from_text(text), Ok(key));
        }
        for text in [
            "key:",
            "key:a",
            "key:a:",
            "key:a:%4",
            "key:a:%FF",
            "key:a:%20",
            // Written in another way than `to_text` does.
            "key:a:%78",
            "key:a%2Fb:c",
            "key:a:%c3%a9",
            "key:a:é",
            "key::evt_1",
            "",
        ] {
            assert!(IdempotencyKey::from_text(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn different_keys_have_different_texts(
            one in ("(key:|a|:|%3A|\"){0,3}", "(key:|a|:|%3A|\"|é){1,4}"),
            other in ("(key:|a|:|%3A|\"){0,3}", "(key:|a|:|%3A|\"|é){1,4}"),
        ) {
            let [one, other] = [one, other].map(|(scope, id)| IdempotencyKey::new(&scope, &id).unwrap());
            prop_assert_eq!(one.to_text() == other.to_text(), one == other);
            prop_assert_eq!(IdempotencyKey::from_text(&one.to_text()), Ok(one));
        }

        #[test]
        fn no_text_is_a_panic(text in "(key:)?\\PC{0,20}") {
            let _ = IdempotencyKey::from_text(&text);
        }
    }

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
