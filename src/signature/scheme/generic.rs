use super::{
    Candidates, Scheme, sensitive,
    stripe::{Grammar, split},
};
use crate::{
    InvalidConfig,
    signature::{
        Algorithm, Defect, Encoding, Head, Message, MessageId, Outgoing, Secret, Secrets,
        SignError, SignScheme, SignatureError, SigningKeys, TimestampFormat, Tolerance, Verified,
        mac::{MacFormat, MacKey},
        message::{Id, MAX_HEADER},
        secrets::{Keyring, decode_base64, shared},
    },
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use std::{borrow::Cow, sync::Arc, time::Duration};
use zeroize::Zeroizing;

/// The largest number of pieces in a content template.
pub(super) const MAX_PIECES: usize = 8;

/// HMAC with the header, prefix, encoding and signed content of any sender.
///
/// # Examples
///
/// Chatwoot: `X-Chatwoot-Signature: sha256=<hex of ts.body>` and `X-Chatwoot-Timestamp`.
///
/// ```
/// use http::HeaderName;
/// use tower_webhook::signature::scheme::{Generic, Piece};
///
/// let chatwoot = Generic::builder(HeaderName::from_static("x-chatwoot-signature"))
///     .name("chatwoot")
///     .prefix("sha256=")
///     .timestamp_header(HeaderName::from_static("x-chatwoot-timestamp"))
///     .content([Piece::Timestamp, ".".into(), Piece::Body])
///     .build("the webhook's secret")?;
/// # Ok::<(), tower_webhook::InvalidConfig>(())
/// ```
///
/// Paddle: `Paddle-Signature: ts=..;h1=<hex of ts:body>`, five seconds of tolerance.
///
/// ```
/// # use http::HeaderName;
/// # use tower_webhook::signature::scheme::{Generic, Piece};
/// use std::time::Duration;
///
/// let paddle = Generic::builder(HeaderName::from_static("paddle-signature"))
///     .name("paddle")
///     .fields(";", "ts", "h1")
///     .content([Piece::Timestamp, ":".into(), Piece::Body])
///     .tolerance(Duration::from_secs(5))
///     .build("pdl_ntfset_...")?;
/// # Ok::<(), tower_webhook::InvalidConfig>(())
/// ```
///
/// Linear: `Linear-Signature: <hex of body>`.
///
/// ```
/// # use http::HeaderName;
/// # use tower_webhook::signature::scheme::Generic;
/// let linear = Generic::builder(HeaderName::from_static("linear-signature"))
///     .name("linear")
///     .build("lin_wh_...")?;
/// # Ok::<(), tower_webhook::InvalidConfig>(())
/// ```
/// `HubSpot`: `X-HubSpot-Signature-v3`, base64 over the method, the URL, the body and the time in milliseconds, with
/// nothing between them.
///
/// ```
/// # use http::HeaderName;
/// # use tower_webhook::signature::{Encoding, TimestampFormat, scheme::{Generic, Piece}};
/// let hubspot = Generic::builder(HeaderName::from_static("x-hubspot-signature-v3"))
///     .name("hubspot")
///     .encoding(Encoding::Base64)
///     .timestamp_header(HeaderName::from_static("x-hubspot-request-timestamp"))
///     .timestamp_format(TimestampFormat::Milliseconds)
///     .content([
///         Piece::Method,
///         "https://hooks.example.com".into(),
///         Piece::Target,
///         Piece::Body,
///         Piece::Timestamp,
///     ])
///     .build("the app's client secret")?;
/// # Ok::<(), tower_webhook::InvalidConfig>(())
/// ```
///
/// # Pieces side by side
///
/// Where nothing stands between two pieces, bytes could move from one to the other with the same MAC. A
/// timestamp beside another piece, or after the body, therefore has as many digits as those of the years 2001
/// to 2286. A body right after the target is refused if it begins with a character that a URL may have:
/// JSON does not, except for a bare number or word. What else cannot be told apart is refused by
/// [`build`](GenericBuilder::build).
#[derive(Clone, Debug)]
pub struct Generic {
    pub(super) recipe: Arc<Recipe>,
    pub(super) keys: Keyring<MacKey>,
}

#[derive(Clone, Debug)]
pub(super) struct Recipe {
    pub(super) name: &'static str,
    pub(super) header: HeaderName,
    pub(super) or_header: Option<HeaderName>,
    pub(super) layout: Layout,
    pub(super) format: MacFormat,
    pub(super) id: Option<HeaderName>,
    pub(super) timestamp: Option<HeaderName>,
    pub(super) timestamp_format: TimestampFormat,
    /// Whether the text of the time must be [self-delimiting](TimestampFormat::is_self_delimiting).
    pub(super) delimits_itself: bool,
    /// Whether the method or the target is signed.
    pub(super) has_target: bool,
    pub(super) content: Cow<'static, [Piece]>,
    pub(super) tolerance: Tolerance,
}

/// The layout of the signature header.
#[derive(Clone, Debug)]
pub(super) enum Layout {
    /// `prefix` and one signature, or several if there is a separator.
    Plain {
        prefix: Cow<'static, str>,
        separator: Option<Cow<'static, str>>,
    },
    /// `t=..,v1=..`
    Fields(Grammar),
}

impl Recipe {
    pub(super) const fn has_timestamp(&self) -> bool {
        self.timestamp.is_some() || matches!(self.layout, Layout::Fields(_))
    }
}

/// A piece of the signed content.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Piece {
    /// The body.
    Body,
    /// The text of the id header.
    Id,
    /// Fixed text, such as the full stop between two pieces.
    Literal(Cow<'static, str>),
    /// The method of the request, such as `POST`.
    Method,
    /// The path and the query of the request, as they were received: `/hook?a=b`. A server behind a proxy does not
    /// know the rest of a URL: put it before, as a literal.
    Target,
    /// The text of the timestamp.
    Timestamp,
}

impl From<&'static str> for Piece {
    fn from(literal: &'static str) -> Self {
        Self::Literal(literal.into())
    }
}

impl Generic {
    /// Makes a builder of a scheme with its signature in this header. Default: the hexadecimal MAC of the
    /// body, with the text of the secret as the key.
    pub fn builder(header: HeaderName) -> GenericBuilder {
        GenericBuilder::new(Recipe {
            name: "generic",
            header,
            or_header: None,
            layout: Layout::Plain {
                prefix: Cow::Borrowed(""),
                separator: None,
            },
            format: MacFormat::SHA256_HEX,
            id: None,
            timestamp: None,
            timestamp_format: TimestampFormat::Seconds,
            delimits_itself: false,
            has_target: false,
            content: Cow::Borrowed(&[Piece::Body]),
            tolerance: Tolerance::default(),
        })
    }

    /// The handle that [replaces](SigningKeys::replace) the secrets while requests are served.
    pub fn signing_keys(&self) -> SigningKeys {
        self.keys.signing_keys()
    }

    pub(super) fn header(mut self, name: HeaderName) -> Self {
        let recipe = Arc::make_mut(&mut self.recipe);
        recipe.header = name;
        recipe.or_header = None;
        self
    }

    pub(super) fn tolerance(mut self, tolerance: Tolerance) -> Self {
        Arc::make_mut(&mut self.recipe).tolerance = tolerance;
        self
    }

    /// Reads the headers that the recipe uses, up to what needs the body.
    #[inline]
    fn read<'a>(
        &self,
        head: &Head<'a>,
        candidates: &mut Candidates,
    ) -> Result<Read<'a>, SignatureError> {
        let recipe = &*self.recipe;
        // The usual ones in one pass over the headers.
        let (signatures, timestamp, id) = match (&recipe.or_header, &recipe.timestamp, &recipe.id) {
            (None, None, None) => {
                let [signature] = head.header_values([&recipe.header])?;
                ([Some(signature), None], None, None)
            }
            (None, Some(timestamp), None) => {
                let [signature, timestamp] = head.header_values([&recipe.header, timestamp])?;
                ([Some(signature), None], Some(timestamp), None)
            }
            (_, timestamp, id) => {
                let value = |name: &Option<HeaderName>| {
                    name.as_ref().map(|name| head.header(name)).transpose()
                };
                (self.signatures(head)?, value(timestamp)?, value(id)?)
            }
        };
        if let (Some(value), Some(name)) = (id, &recipe.id) {
            let allowed = MessageId::is_valid(value.as_bytes())
                && !self.may_end_elsewhere(&Piece::Id, value.as_bytes());
            if !allowed {
                return Err(SignatureError::malformed(name, Defect::Id));
            }
        }
        let mut timestamp = match (timestamp, &recipe.timestamp) {
            (Some(value), Some(name)) => {
                let text = value.as_bytes();
                let time = (recipe.timestamp_format.parse(text))
                    .ok_or_else(|| SignatureError::malformed(name, Defect::Timestamp))?;
                Some((text, time))
            }
            _ => None,
        };
        let malformed = |what| SignatureError::malformed(&recipe.header, what);
        for text in signatures.into_iter().flatten() {
            let text = text.as_bytes();
            match &recipe.layout {
                Layout::Plain { prefix, separator } => {
                    let text = text
                        .strip_prefix(prefix.as_bytes())
                        .ok_or_else(|| malformed(Defect::Prefix))?;
                    let mut undecodable = 0;
                    let mut push = |text| match recipe.format.decode(text) {
                        Some(tag) => candidates.push(tag),
                        None => undecodable += 1,
                    };
                    match separator {
                        None => push(text),
                        Some(separator) => {
                            let mut rest = Some(text);
                            while let Some(text) = rest {
                                let item;
                                (item, rest) = split(text, separator);
                                push(item);
                            }
                        }
                    }
                    candidates.or_defect(undecodable).map_err(malformed)?;
                }
                Layout::Fields(grammar) => {
                    let time = recipe.timestamp_format;
                    let found = grammar.read(text, recipe.format, time, candidates);
                    timestamp = Some(found.map_err(malformed)?);
                }
            }
        }
        if let Some((text, time)) = timestamp {
            if recipe.delimits_itself && !recipe.timestamp_format.is_self_delimiting(text) {
                let header = recipe.timestamp.as_ref().unwrap_or(&recipe.header);
                return Err(SignatureError::malformed(header, Defect::Timestamp));
            }
            recipe.tolerance.check(time, head.unix_time())?;
        }
        Ok(Read { timestamp, id })
    }

    /// The header of the signature, or the other one, or both.
    fn signatures<'a>(
        &self,
        head: &Head<'a>,
    ) -> Result<[Option<&'a HeaderValue>; 2], SignatureError> {
        let header = &self.recipe.header;
        let Some(or_header) = &self.recipe.or_header else {
            return Ok([Some(head.header(header)?), None]);
        };
        let [one, other] = head.find([header, or_header]);
        if other.is_none() {
            return Ok([Some(one.single(header)?), None]);
        }
        let other = Some(other.single(or_header)?);
        if one.is_none() {
            return Ok([None, other]);
        }
        Ok([Some(one.single(header)?), other])
    }

    /// Whether the literal after this piece also begins inside it: bytes could then move from one piece to the
    /// next with the same MAC.
    fn may_end_elsewhere(&self, piece: &Piece, text: &[u8]) -> bool {
        let mut rest = self.recipe.content.iter().skip_while(|at| *at != piece);
        let Some(Piece::Literal(end)) = rest.nth(1) else {
            return false;
        };
        let end = end.as_bytes();
        (0..text.len()).any(|start| {
            text[start..]
                .iter()
                .chain(end)
                .zip(end)
                .all(|(a, b)| a == b)
        })
    }

    /// Calls `with` with the signed content, unless its target and body could be others.
    #[inline]
    fn with_content<R>(
        &self,
        values: &Values<'_>,
        body: &[u8],
        with: impl FnOnce(&[&[u8]]) -> R,
    ) -> Option<R> {
        let mut pieces: [&[u8]; MAX_PIECES] = [b""; MAX_PIECES];
        let content = &self.recipe.content;
        let mut is_after_target = false;
        for (text, piece) in pieces.iter_mut().zip(content.iter()) {
            *text = match piece {
                Piece::Body => body,
                Piece::Id => values.id,
                Piece::Literal(literal) => literal.as_bytes(),
                Piece::Method => values.target?.0.as_str().as_bytes(),
                Piece::Target => target(values.target?.1)?.as_bytes(),
                Piece::Timestamp => values.timestamp,
            };
            let begins_like_a_target = || text.first().copied().is_some_and(is_in_urls);
            if is_after_target && *piece == Piece::Body && begins_like_a_target() {
                return None;
            }
            is_after_target = *piece == Piece::Target;
        }
        Some(with(&pieces[..content.len()]))
    }
}

/// The path and the query, if they have only characters that RFC 3986 allows there.
fn target(uri: &Uri) -> Option<&str> {
    let target = uri
        .path_and_query()
        .map_or("/", http::uri::PathAndQuery::as_str);
    (target.starts_with('/') && target.bytes().all(is_in_urls)).then_some(target)
}

/// Whether a path or query may have this byte (RFC 3986 §3.3, §3.4).
fn is_in_urls(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:@/?".contains(&byte)
}

/// Whether a method may have this byte (RFC 9110 §5.6.2).
fn is_in_methods(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What a message puts into the pieces, except for its body.
struct Values<'a> {
    id: &'a [u8],
    timestamp: &'a [u8],
    target: Option<(&'a Method, &'a Uri)>,
}

/// The headers of one message.
struct Read<'a> {
    timestamp: Option<(&'a [u8], Duration)>,
    id: Option<&'a HeaderValue>,
}

impl Scheme for Generic {
    fn name(&self) -> &'static str {
        self.recipe.name
    }

    fn recognizes(&self, headers: &HeaderMap) -> bool {
        // Not the id, because other schemes may use the same header for it.
        let timestamp = self.recipe.timestamp.as_ref();
        headers.contains_key(&self.recipe.header)
            || (self.recipe.or_header.as_ref()).is_some_and(|name| headers.contains_key(name))
            || timestamp.is_some_and(|name| headers.contains_key(name))
    }

    fn verify(&self, message: &Message<'_>) -> Result<Verified, SignatureError> {
        let mut candidates = Candidates::default();
        let read = self.read(&message.head(), &mut candidates)?;
        let values = Values {
            id: read.id.map_or(&b""[..], HeaderValue::as_bytes),
            timestamp: read.timestamp.map_or(&b""[..], |(text, _)| text),
            target: (self.recipe.has_target)
                .then(|| (message.method(), message.head().original_uri())),
        };
        let label = self
            .with_content(&values, message.body(), |content| {
                self.keys.matching(content, |tag| candidates.contain(tag))
            })
            .flatten()
            .ok_or(SignatureError::Mismatch)?;

        Ok(Verified {
            label: Some(label),
            id: read.id.cloned().map(Id::Header),
            timestamp: read.timestamp.map(|(_, time)| time.as_secs()),
            ..Verified::new(self.recipe.name)
        })
    }

    fn verify_head(&self, head: &Head<'_>) -> Result<(), SignatureError> {
        self.read(head, &mut Candidates::default()).map(drop)
    }

    fn replay_window(&self) -> Option<Duration> {
        self.recipe
            .has_timestamp()
            .then(|| self.recipe.tolerance.window())
    }
}

impl SignScheme for Generic {
    fn id_header(&self) -> Option<&HeaderName> {
        self.recipe.id.as_ref()
    }

    fn sign(&self, message: &Outgoing<'_>, headers: &mut HeaderMap) -> Result<(), SignError> {
        let recipe = &*self.recipe;
        let id = match &recipe.id {
            Some(_) => Some(message.id().ok_or(SignError::MissingId)?.as_value()),
            None => None,
        };
        let id_text = id.map_or(&b""[..], HeaderValue::as_bytes);
        if self.may_end_elsewhere(&Piece::Id, id_text) {
            return Err(SignError::InvalidId);
        }
        let timestamp = recipe.timestamp_format.write(message.unix_seconds());
        let values = Values {
            id: id_text,
            timestamp: timestamp.as_bytes(),
            target: message.target(),
        };
        let keys = self.keys.read();
        let signature =
            self.with_content(&values, message.body(), |content| match &recipe.layout {
                Layout::Plain { prefix, separator } => {
                    let mut text = String::with_capacity(80);
                    text.push_str(prefix);
                    // Without a separator there is room for one signature, that of the first key.
                    let room = if separator.is_some() { keys.len() } else { 1 };
                    for (at, entry) in keys.iter().take(room).enumerate() {
                        if at > 0 {
                            text.push_str(separator.as_deref().unwrap_or_default());
                        }
                        let encoding = recipe.format.encoding;
                        entry.key.encode_append(content, encoding, &mut text);
                    }
                    text
                }
                Layout::Fields(grammar) => grammar.write(&timestamp, recipe.format, &keys, content),
            });
        let signature = signature.ok_or(SignError::InvalidTarget)?;
        drop(keys);
        headers.insert(&recipe.header, sensitive(signature)?);
        if let Some(name) = &recipe.timestamp {
            let value = HeaderValue::try_from(timestamp).map_err(|_| SignError::HeaderValue)?;
            headers.insert(name, value);
        }
        if let (Some(name), Some(id)) = (&recipe.id, id) {
            headers.insert(name, id.clone());
        }
        Ok(())
    }
}

/// Settings of a [`Generic`] scheme.
#[derive(Clone, Debug)]
#[must_use]
pub struct GenericBuilder {
    recipe: Recipe,
    key_rule: SecretEncoding,
}

impl GenericBuilder {
    pub(super) fn new(recipe: Recipe) -> Self {
        Self {
            recipe,
            key_rule: SecretEncoding::default(),
        }
    }

    /// Sets the name for logs and metrics. Default: `generic`.
    pub const fn name(mut self, name: &'static str) -> Self {
        self.recipe.name = name;
        self
    }

    /// Sets a second header that has signatures, read if it is present and never written: Box has
    /// `BOX-SIGNATURE-PRIMARY` and `-SECONDARY`, for two secrets. One of the two headers is enough. Default: none.
    pub fn or_header(mut self, name: HeaderName) -> Self {
        self.recipe.or_header = Some(name);
        self
    }

    /// Sets the text before the signature, such as `sha256=`. Default: none.
    pub fn prefix(mut self, prefix: impl Into<Cow<'static, str>>) -> Self {
        let separator = match self.recipe.layout {
            Layout::Plain { separator, .. } => separator,
            Layout::Fields(_) => None,
        };
        self.recipe.layout = Layout::Plain {
            prefix: prefix.into(),
            separator,
        };
        self
    }

    /// Sets the separator between several signatures after the prefix, for senders that rotate secrets.
    /// Default: one signature.
    pub fn separator(mut self, between: impl Into<Cow<'static, str>>) -> Self {
        let prefix = match self.recipe.layout {
            Layout::Plain { prefix, .. } => prefix,
            Layout::Fields(_) => Cow::Borrowed(""),
        };
        self.recipe.layout = Layout::Plain {
            prefix,
            separator: Some(between.into()),
        };
        self
    }

    /// Sets the header to be a list of fields, as in Stripe's `t=..,v1=..`, which contains the timestamp.
    /// Default: one signature. The arguments are the separator, the name of the timestamp and the name of the
    /// signature, which may occur several times. Replaces [`prefix`](Self::prefix) and
    /// [`separator`](Self::separator).
    pub fn fields(
        mut self,
        between: impl Into<Cow<'static, str>>,
        timestamp: impl Into<Cow<'static, str>>,
        signature: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.recipe.layout = Layout::Fields(Grammar {
            separator: between.into(),
            timestamp: timestamp.into(),
            signature: signature.into(),
        });
        self
    }

    /// Sets the encoding of the signature. Default: [`Encoding::Hex`].
    pub const fn encoding(mut self, encoding: Encoding) -> Self {
        self.recipe.format.encoding = encoding;
        self
    }

    /// Sets the hash of the HMAC. Default: [`Algorithm::Sha256`].
    pub const fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.recipe.format.algorithm = algorithm;
        self
    }

    /// Sets the header of [`Piece::Id`]. Default: none.
    pub fn id_header(mut self, name: HeaderName) -> Self {
        self.recipe.id = Some(name);
        self
    }

    /// Sets the header of [`Piece::Timestamp`]. Default: none.
    pub fn timestamp_header(mut self, name: HeaderName) -> Self {
        self.recipe.timestamp = Some(name);
        self
    }

    /// Sets how the timestamp is written. Default: [`TimestampFormat::Seconds`].
    pub const fn timestamp_format(mut self, format: TimestampFormat) -> Self {
        self.recipe.timestamp_format = format;
        self
    }

    /// Sets the pieces of the signed content, in order. Default: the body.
    pub fn content(mut self, pieces: impl IntoIterator<Item = Piece>) -> Self {
        self.recipe.content = pieces.into_iter().collect();
        self
    }

    /// Sets the tolerance of the timestamp. Default: 300 seconds in both directions.
    pub fn tolerance(mut self, tolerance: impl Into<Tolerance>) -> Self {
        self.recipe.tolerance = tolerance.into();
        self
    }

    /// Sets how the text of a secret is decoded to a key. Default: [`SecretEncoding::Raw`].
    pub const fn secret_encoding(mut self, rule: SecretEncoding) -> Self {
        self.key_rule = rule;
        self
    }

    /// Builds the scheme with these secrets.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for:
    ///
    /// - `content`, if it has no body or two, more than eight pieces, a piece twice, an empty literal, an id or
    ///   timestamp without a header, or pieces that [cannot be told apart](Generic#pieces-side-by-side); and if it
    ///   leaves out an id or timestamp that has a header, because anyone could change a value that looks protected
    /// - `timestamp_header`, if the fields contain the timestamp already
    /// - `or_header`, if the fields contain the timestamp, because two headers could disagree on it
    /// - `header`, if two of the headers are one, which no message can satisfy
    /// - `prefix`, if no header can begin so
    /// - `separator`, if it can be part of a signature, name or timestamp
    /// - `secrets`, as in [`SigningKeys::replace`](crate::signature::SigningKeys::replace)
    pub fn build(self, secrets: impl Into<Secrets>) -> Result<Generic, InvalidConfig> {
        let Self {
            mut recipe,
            key_rule,
        } = self;
        check(&recipe)?;
        let signs = |piece| recipe.content.contains(&piece);
        recipe.has_target = signs(Piece::Method) || signs(Piece::Target);
        recipe.delimits_itself = delimits_itself(&recipe.content);
        let algorithm = recipe.format.algorithm;
        let keys = Keyring::new(secrets, move |secret, backend| {
            let key = key_rule.decode(secret)?;
            Ok(MacKey::with(algorithm, backend, shared(&key)?))
        })?;
        Ok(Generic {
            recipe: Arc::new(recipe),
            keys,
        })
    }
}

/// How the text of a secret is decoded to a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SecretEncoding {
    /// Base64 (RFC 4648 §4), padded or not.
    Base64,
    /// Hexadecimal, in either case.
    Hex,
    /// The text is the key.
    #[default]
    Raw,
}

impl SecretEncoding {
    fn decode(self, secret: &Secret) -> Result<Zeroizing<Vec<u8>>, InvalidConfig> {
        let text = secret.as_bytes();
        let (decoded, problem) = match self {
            Self::Base64 => (decode_base64(text), "must be base64 of the key"),
            Self::Hex => (
                data_encoding::HEXLOWER_PERMISSIVE.decode(text).ok(),
                "must be hexadecimal of the key",
            ),
            Self::Raw => (Some(text.to_vec()), ""),
        };
        decoded
            .map(Zeroizing::new)
            .ok_or_else(|| InvalidConfig::new("secrets", problem))
    }
}

fn check(recipe: &Recipe) -> Result<(), InvalidConfig> {
    check_content(recipe)?;

    let headers = [
        Some(&recipe.header),
        recipe.or_header.as_ref(),
        recipe.timestamp.as_ref(),
        recipe.id.as_ref(),
    ];
    let headers = headers.iter().flatten().collect::<Vec<_>>();
    let twice = |at: usize| headers[..at].contains(&headers[at]);
    if (0..headers.len()).any(twice) {
        let problem = "must be another one than those of the id, the timestamp and `or_header`";
        return Err(InvalidConfig::new("header", problem));
    }

    let separator = match &recipe.layout {
        Layout::Plain { prefix, separator } => {
            // What no header value begins with: it has visible ASCII, and no space around it.
            let is_fit = |char: char| matches!(char, ' '..='~');
            if prefix.starts_with(' ') || !prefix.chars().all(is_fit) || prefix.len() > MAX_HEADER {
                let problem = "must be ASCII with which a header can begin";
                return Err(InvalidConfig::new("prefix", problem));
            }
            separator
        }
        Layout::Fields(grammar) => {
            if recipe.or_header.is_some() {
                let problem = "must not be set, because the fields have the timestamp";
                return Err(InvalidConfig::new("or_header", problem));
            }
            if recipe.timestamp.is_some() {
                let problem = "must not be set, because the fields have the timestamp";
                return Err(InvalidConfig::new("timestamp_header", problem));
            }
            let name_is_bad = |name: &str| {
                let bad = |char: char| !char.is_ascii_graphic() || char == '=';
                name.is_empty() || name.contains(bad) || name.contains(&*grammar.separator)
            };
            if name_is_bad(&grammar.timestamp)
                || name_is_bad(&grammar.signature)
                || grammar.timestamp == grammar.signature
            {
                let problem = "must have two different names of visible ASCII";
                return Err(InvalidConfig::new("fields", problem));
            }
            &Some(grammar.separator.clone())
        }
    };
    // One character that is nowhere else is enough.
    let elsewhere = match (&recipe.layout, recipe.timestamp_format) {
        (Layout::Fields(_), TimestampFormat::Rfc3339) => "+/=-_:.",
        _ => "+/=-_",
    };
    let is_apart = |char: char| !char.is_ascii_alphanumeric() && !elsewhere.contains(char);
    if let Some(separator) = separator
        && !(separator.contains(is_apart)
            && separator.chars().all(|char| matches!(char, ' '..='~')))
    {
        let problem = "must be ASCII that no signature contains";
        return Err(InvalidConfig::new("separator", problem));
    }
    Ok(())
}

/// Whether the content says where each of its pieces ends: read from the left up to the body, and from the right
/// down to it.
fn check_content(recipe: &Recipe) -> Result<(), InvalidConfig> {
    let content = |problem: &str| Err(InvalidConfig::new("content", problem));
    let count = |piece| recipe.content.iter().filter(|at| **at == piece).count();

    if recipe.content.len() > MAX_PIECES {
        return content("must not have more than eight pieces");
    }
    if recipe.content.contains(&"".into()) {
        return content("must not have an empty literal");
    }
    if count(Piece::Body) != 1 {
        return content("must have the body once");
    }
    if count(Piece::Timestamp) != usize::from(recipe.has_timestamp()) {
        return content("must have the timestamp once if a header gives it, and else not at all");
    }
    if count(Piece::Id) != usize::from(recipe.id.is_some()) {
        return content("must have the id once if a header gives it, and else not at all");
    }
    if count(Piece::Method) > 1 || count(Piece::Target) > 1 {
        return content("must not have the method or the target twice");
    }
    for two in recipe.content.windows(2) {
        let [piece, next] = two else { continue };
        // The first byte that no method has says where the method ends, and so on.
        let is_told_apart = match (piece, next) {
            (Piece::Timestamp, Piece::Literal(text)) => {
                !text.starts_with(|char: char| char.is_ascii_digit())
            }
            (Piece::Body | Piece::Literal(_) | Piece::Timestamp, _) => true,
            (Piece::Id, next) => matches!(next, Piece::Literal(_)),
            (Piece::Method, Piece::Literal(text)) => text.bytes().any(|byte| !is_in_methods(byte)),
            (Piece::Method, next) => *next == Piece::Target,
            (Piece::Target, Piece::Literal(text)) => text.bytes().any(|byte| !is_in_urls(byte)),
            (Piece::Target, next) => *next == Piece::Body,
        };
        if !is_told_apart {
            return content("must have a literal after a piece that could go on with the next one");
        }
    }
    let mut after_body = recipe
        .content
        .iter()
        .skip_while(|piece| **piece != Piece::Body)
        .skip(1);
    if after_body.any(|piece| !matches!(piece, Piece::Literal(_) | Piece::Timestamp)) {
        return content("must not have the id, the method or the target after the body");
    }
    Ok(())
}

/// Whether nothing but the timestamp itself says where it begins and ends.
fn delimits_itself(content: &[Piece]) -> bool {
    let after_body = content.iter().skip_while(|piece| **piece != Piece::Body);
    let is_last_or_beside = |two: &[Piece]| match two {
        [Piece::Timestamp, next] => !matches!(next, Piece::Literal(_)),
        _ => false,
    };
    after_body.skip(1).any(|piece| *piece == Piece::Timestamp)
        || content.windows(2).any(is_last_or_beside)
}
