use super::{GenericBuilder, Scheme, candidates::Candidates, fields::Grammar, sensitive};
use crate::signature::{
    Defect, Encoding, Keys, Message, MessageId, Outgoing, SignError, SignScheme, SignatureError,
    Tolerance, Verified, keyring::Keyring, mac::MacKey, timestamp,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::{borrow::Cow, sync::Arc, time::Duration};

/// Pieces of a content template that fit on the stack.
pub(super) const MAX_PIECES: usize = 8;

/// HMAC-SHA256 in the words of whoever sends: header, prefix, encoding and what is signed.
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
///     .fields(';', "ts", "h1")
///     .content([Piece::Timestamp, ":".into(), Piece::Body])
///     .tolerance(Duration::from_secs(5))
///     .build("pdl_ntfset_...")?;
/// # Ok::<(), tower_webhook::InvalidConfig>(())
/// ```
///
/// Linear: `Linear-Signature: <hex of body>`, and nothing else to say.
///
/// ```
/// # use http::HeaderName;
/// # use tower_webhook::signature::scheme::Generic;
/// let linear = Generic::builder(HeaderName::from_static("linear-signature"))
///     .name("linear")
///     .build("lin_wh_...")?;
/// # Ok::<(), tower_webhook::InvalidConfig>(())
/// ```
#[derive(Clone, Debug)]
pub struct Generic {
    pub(super) recipe: Arc<Recipe>,
    pub(super) keys: Keyring<MacKey>,
}

#[derive(Clone, Debug)]
pub(super) struct Recipe {
    pub(super) name: &'static str,
    pub(super) header: HeaderName,
    pub(super) layout: Layout,
    pub(super) encoding: Encoding,
    pub(super) id: Option<HeaderName>,
    pub(super) timestamp: Option<HeaderName>,
    pub(super) content: Cow<'static, [Piece]>,
    pub(super) tolerance: Tolerance,
}

/// How the signature header is laid out.
#[derive(Clone, Debug)]
pub(super) enum Layout {
    /// `prefix`, one signature, and with a separator perhaps more.
    Plain {
        prefix: Cow<'static, str>,
        separator: Option<char>,
    },
    /// `t=..,v1=..`
    Fields(Grammar),
}

impl Recipe {
    pub(super) const fn has_timestamp(&self) -> bool {
        self.timestamp.is_some() || matches!(self.layout, Layout::Fields(_))
    }
}

/// A piece of what is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Piece {
    /// The body, as it was sent.
    Body,
    /// The text of the id header.
    Id,
    /// Text that is always the same, such as the full stop between two pieces.
    Literal(Cow<'static, str>),
    /// The text of the timestamp, in seconds since 1970.
    Timestamp,
}

impl From<&'static str> for Piece {
    fn from(literal: &'static str) -> Self {
        Self::Literal(literal.into())
    }
}

impl Generic {
    /// A scheme whose signature is in this header; by default it is the bare hexadecimal MAC of
    /// the body under the text of the secret.
    pub fn builder(header: HeaderName) -> GenericBuilder {
        GenericBuilder::new(Recipe {
            name: "generic",
            header,
            layout: Layout::Plain {
                prefix: Cow::Borrowed(""),
                separator: None,
            },
            encoding: Encoding::Hex,
            id: None,
            timestamp: None,
            content: Cow::Borrowed(&[Piece::Body]),
            tolerance: Tolerance::default(),
        })
    }

    /// The keys, to be [replaced](Keys::replace) while requests are served.
    pub fn keys(&self) -> Keys {
        self.keys.handle()
    }

    pub(super) fn header(mut self, name: HeaderName) -> Self {
        Arc::make_mut(&mut self.recipe).header = name;
        self
    }

    pub(super) fn tolerance(mut self, tolerance: Tolerance) -> Self {
        Arc::make_mut(&mut self.recipe).tolerance = tolerance;
        self
    }

    /// The values of the headers, as many as the recipe has.
    #[inline]
    fn read<'a>(&self, message: &Message<'a>) -> Result<Read<'a>, SignatureError> {
        let recipe = &*self.recipe;
        let (signature, timestamp, id) = match (&recipe.timestamp, &recipe.id) {
            (None, None) => {
                let [signature] = message.header_values([&recipe.header])?;
                (signature, None, None)
            }
            (Some(timestamp), None) => {
                let [signature, timestamp] = message.header_values([&recipe.header, timestamp])?;
                (signature, Some(timestamp), None)
            }
            (None, Some(id)) => {
                let [signature, id] = message.header_values([&recipe.header, id])?;
                (signature, None, Some(id))
            }
            (Some(timestamp), Some(id)) => {
                let [signature, timestamp, id] =
                    message.header_values([&recipe.header, timestamp, id])?;
                (signature, Some(timestamp), Some(id))
            }
        };
        if let (Some(value), Some(name)) = (id, &recipe.id) {
            let allowed = MessageId::is_valid(value.as_bytes())
                && !self.may_end_elsewhere(&Piece::Id, value.as_bytes());
            if !allowed {
                return Err(SignatureError::malformed(name, Defect::Id));
            }
        }
        let timestamp = match (timestamp, &recipe.timestamp) {
            (Some(value), Some(name)) => {
                let text = value.as_bytes();
                let seconds = timestamp::parse(text)
                    .ok_or_else(|| SignatureError::malformed(name, Defect::Timestamp))?;
                Some((text, seconds))
            }
            _ => None,
        };
        Ok(Read {
            signature,
            timestamp,
            id,
        })
    }

    /// Whether the literal that ends this piece occurs inside it: bytes could then move from one
    /// piece to the next under the same MAC.
    fn may_end_elsewhere(&self, piece: &Piece, text: &[u8]) -> bool {
        let mut rest = self.recipe.content.iter().skip_while(|at| *at != piece);
        match rest.nth(1) {
            Some(Piece::Literal(end)) => text
                .windows(end.len().max(1))
                .any(|window| window == end.as_bytes()),
            _ => false,
        }
    }

    /// Runs `with` on what is signed.
    #[inline]
    fn with_content<R>(
        &self,
        id: &[u8],
        timestamp: &[u8],
        body: &[u8],
        with: impl FnOnce(&[&[u8]]) -> R,
    ) -> R {
        let mut pieces: [&[u8]; MAX_PIECES] = [b""; MAX_PIECES];
        let content = &self.recipe.content;
        for (text, piece) in pieces.iter_mut().zip(content.iter()) {
            *text = match piece {
                Piece::Body => body,
                Piece::Id => id,
                Piece::Literal(literal) => literal.as_bytes(),
                Piece::Timestamp => timestamp,
            };
        }
        with(&pieces[..content.len()])
    }
}

/// The headers of one message.
struct Read<'a> {
    signature: &'a HeaderValue,
    timestamp: Option<(&'a [u8], u64)>,
    id: Option<&'a HeaderValue>,
}

impl Scheme for Generic {
    fn name(&self) -> &'static str {
        self.recipe.name
    }

    fn recognizes(&self, headers: &HeaderMap) -> bool {
        // Not the id: other schemes may have a header of that name.
        let timestamp = self.recipe.timestamp.as_ref();
        headers.contains_key(&self.recipe.header)
            || timestamp.is_some_and(|name| headers.contains_key(name))
    }

    fn verify(&self, message: &Message<'_>) -> Result<Verified, SignatureError> {
        let recipe = &*self.recipe;
        let malformed = |what| SignatureError::malformed(&recipe.header, what);
        let mut read = self.read(message)?;
        let text = read.signature.as_bytes();

        let (one, mut many);
        let candidates = match &recipe.layout {
            Layout::Plain { prefix, separator } => {
                let text = text
                    .strip_prefix(prefix.as_bytes())
                    .ok_or_else(|| malformed(Defect::Prefix))?;
                match separator {
                    None => {
                        let tag = recipe.encoding.decode(text);
                        one = [tag.ok_or_else(|| malformed(Defect::Encoding))?];
                        &one[..]
                    }
                    Some(separator) => {
                        many = Candidates::new();
                        for text in text.split(|&byte| char::from(byte) == *separator) {
                            many.push(recipe.encoding.decode(text)).map_err(malformed)?;
                        }
                        many.as_slice()
                    }
                }
            }
            Layout::Fields(grammar) => {
                many = Candidates::new();
                let timestamp = grammar
                    .read(text, recipe.encoding, &mut many)
                    .map_err(malformed)?;
                read.timestamp = Some(timestamp);
                many.as_slice()
            }
        };
        if let Some((_, seconds)) = read.timestamp {
            recipe.tolerance.check(seconds, message.unix_seconds())?;
        }

        let id = read.id.map_or(&b""[..], HeaderValue::as_bytes);
        let timestamp = read.timestamp.map_or(&b""[..], |(text, _)| text);
        let label = self
            .with_content(id, timestamp, message.body(), |content| {
                self.keys.matching(content, candidates)
            })
            .ok_or(SignatureError::Mismatch)?;

        let mut verified = Verified::new(recipe.name).with_key(label);
        if let Some(id) = read.id {
            verified = verified.with_id(id.clone());
        }
        if let Some((_, seconds)) = read.timestamp {
            verified = verified.with_timestamp(seconds);
        }
        Ok(verified)
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
        let seconds = message.unix_seconds().to_string();
        let tag = |key: &MacKey| {
            self.with_content(id_text, seconds.as_bytes(), message.body(), |content| {
                key.tag(content)
            })
        };
        let keys = self.keys.read();
        let signature = match &recipe.layout {
            Layout::Plain { prefix, separator } => {
                let mut text = String::with_capacity(80);
                text.push_str(prefix);
                // Without a separator there is room for one signature: the first key's.
                let room = if separator.is_some() { keys.len() } else { 1 };
                for (at, entry) in keys.iter().take(room).enumerate() {
                    if at > 0 {
                        text.extend(*separator);
                    }
                    recipe.encoding.encode_append(&tag(&entry.key), &mut text);
                }
                text
            }
            Layout::Fields(grammar) => {
                let tags = keys.iter().map(|entry| tag(&entry.key));
                grammar.write(&seconds, recipe.encoding, tags)
            }
        };
        drop(keys);
        headers.insert(&recipe.header, sensitive(signature)?);
        if let Some(name) = &recipe.timestamp {
            headers.insert(name, HeaderValue::from(message.unix_seconds()));
        }
        if let (Some(name), Some(id)) = (&recipe.id, id) {
            headers.insert(name, id.clone());
        }
        Ok(())
    }
}
