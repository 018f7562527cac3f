use super::{Candidates, Scheme, sensitive, stripe::Grammar};
use crate::{
    InvalidConfig,
    signature::{
        Defect, Encoding, Head, Message, Outgoing, Secrets, SignError, SignScheme, SignatureError,
        SigningKeys, TimestampFormat, Tolerance, Verified,
        mac::{MacFormat, MacKey, Tag},
        message::unix_seconds,
        secrets::{Keyring, raw},
    },
};
use http::{HeaderMap, HeaderName};
use std::time::Duration;

/// Cognigy webhooks as the tutorials describe them: `X-Cognigy-Signature` in one of four
/// [formats](CognigyFormat), with the text of the secret as the key.
///
/// A receiver lists the formats that it accepts. The form of a signature determines its format, and only
/// that format is checked.
///
/// The official documentation of the platform does not mention this header. Its webhook endpoint
/// authenticates its own requests with [`BasicAuth`](super::BasicAuth), and expects
/// [`SharedToken::webhook_key`](super::SharedToken::webhook_key) from callers.
///
/// # What to accept
///
/// Only [`SignedTimestamp`](CognigyFormat::SignedTimestamp) protects against a copy that is sent again
/// later. With the other three, a copy is accepted **at any time**: put an idempotency layer inside, with
/// a key from the body. The timestamp of [`UnsignedTimestamp`](CognigyFormat::UnsignedTimestamp) does not
/// protect, because the MAC does not cover it: anyone who has seen one message can send it again with a
/// new timestamp and the same MAC.
///
/// If `SignedTimestamp` is accepted together with others, a message in another format is refused if its
/// body begins with digits and a full stop: it could be a copy of a `SignedTimestamp` message, with
/// `ts.body` sent as the body. No JSON object begins so.
///
/// # Examples
///
/// ```
/// use tower_webhook::SignatureVerifyLayer;
/// use tower_webhook::signature::scheme::{Cognigy, CognigyFormat};
///
/// let scheme = Cognigy::new("a long random text", [CognigyFormat::Hex, CognigyFormat::Base64])?;
/// let layer = SignatureVerifyLayer::new(scheme);
/// # let _ = layer;
/// # Ok::<(), tower_webhook::InvalidConfig>(())
/// ```
#[derive(Clone, Debug)]
pub struct Cognigy {
    header: HeaderName,
    accepted: Vec<CognigyFormat>,
    signs: CognigyFormat,
    tolerance: Tolerance,
    keys: Keyring<MacKey>,
}

/// The format of a [`Cognigy`] signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CognigyFormat {
    /// Base64 of the MAC of the body: 44 characters.
    Base64,
    /// Lower-case hexadecimal of the MAC of the body: 64 characters.
    Hex,
    /// `t=<seconds>,v1=<hex>` with the MAC of `<seconds>.<body>`; several `v1` during a rotation. The safe
    /// format.
    SignedTimestamp,
    /// `<seconds>,<base64>` with the MAC of the body alone. **The timestamp is not signed**: see
    /// [`Cognigy`]. Spaces around the parts are refused. The tutorial's receiver cuts them off, but no sender
    /// writes them.
    UnsignedTimestamp,
}

impl CognigyFormat {
    /// The format of text of this form, whether or not it can be decoded.
    fn of(text: &[u8]) -> Option<Self> {
        match text.len() {
            _ if text.starts_with(b"t=") => Some(Self::SignedTimestamp),
            44 => Some(Self::Base64),
            64 => Some(Self::Hex),
            _ if text.contains(&b',') => Some(Self::UnsignedTimestamp),
            _ => None,
        }
    }
}

impl Cognigy {
    /// Makes a scheme that accepts these formats. It signs with [`CognigyFormat::SignedTimestamp`].
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `accepted` if it is empty; for `secrets` as in [`SigningKeys::replace`].
    pub fn new(
        secrets: impl Into<Secrets>,
        accepted: impl IntoIterator<Item = CognigyFormat>,
    ) -> Result<Self, InvalidConfig> {
        let accepted = accepted.into_iter().collect::<Vec<_>>();
        if accepted.is_empty() {
            return Err(InvalidConfig::new(
                "accepted",
                "must name at least one format",
            ));
        }
        Ok(Self {
            header: HeaderName::from_static("x-cognigy-signature"),
            accepted,
            signs: CognigyFormat::SignedTimestamp,
            tolerance: Tolerance::default(),
            keys: Keyring::new(secrets, raw)?,
        })
    }

    /// Sets the name of the header. Default: `X-Cognigy-Signature`.
    #[must_use]
    pub fn header(mut self, name: HeaderName) -> Self {
        self.header = name;
        self
    }

    /// Sets the format in which requests are signed. Default:
    /// [`CognigyFormat::SignedTimestamp`].
    #[must_use]
    pub const fn sign_as(mut self, format: CognigyFormat) -> Self {
        self.signs = format;
        self
    }

    /// Sets the tolerance of the timestamp. Default: 300 seconds in both directions.
    #[must_use]
    pub fn tolerance(mut self, tolerance: impl Into<Tolerance>) -> Self {
        self.tolerance = tolerance.into();
        self
    }

    /// The handle that [replaces](SigningKeys::replace) the secrets while requests are served.
    pub fn signing_keys(&self) -> SigningKeys {
        self.keys.signing_keys()
    }

    /// Reads the header, up to what needs the body: its signatures, what they cover besides the body, and the
    /// time.
    #[inline]
    fn read<'a>(
        &self,
        head: &Head<'a>,
        candidates: &mut Candidates,
    ) -> Result<Read<'a>, SignatureError> {
        let text = head.header(&self.header)?.as_bytes();
        let format = CognigyFormat::of(text).ok_or_else(|| self.malformed(Defect::Encoding))?;
        if !self.accepts(format) {
            return Err(self.malformed(Defect::Format));
        }
        let mut push = |tag: Option<Tag>| {
            tag.map(|tag| candidates.push(tag))
                .ok_or_else(|| self.malformed(Defect::Encoding))
        };
        match format {
            CognigyFormat::Hex => push(Encoding::Hex.decode_tag(text)).map(|()| Read::Body(None)),
            CognigyFormat::Base64 => {
                push(Encoding::Base64.decode_tag(text)).map(|()| Read::Body(None))
            }
            CognigyFormat::UnsignedTimestamp => {
                let comma = text.iter().position(|&byte| byte == b',');
                let (seconds, tag) = text.split_at(comma.unwrap_or_default());
                let seconds =
                    unix_seconds(seconds).ok_or_else(|| self.malformed(Defect::Timestamp))?;
                self.tolerance
                    .check(Duration::from_secs(seconds), head.unix_time())?;
                push(Encoding::Base64.decode_tag(&tag[1..]))?;
                Ok(Read::Body(Some(seconds)))
            }
            CognigyFormat::SignedTimestamp => {
                let (timestamp, time) = Grammar::STRIPE
                    .read(
                        text,
                        MacFormat::SHA256_HEX,
                        TimestampFormat::Seconds,
                        candidates,
                    )
                    .map_err(|what| self.malformed(what))?;
                self.tolerance.check(time, head.unix_time())?;
                Ok(Read::Timed(timestamp, time.as_secs()))
            }
        }
    }

    fn accepts(&self, format: CognigyFormat) -> bool {
        self.accepted.contains(&format)
    }

    fn malformed(&self, what: Defect) -> SignatureError {
        SignatureError::malformed(&self.header, what)
    }
}

/// Whether this body could be what [`CognigyFormat::SignedTimestamp`] signs.
fn begins_with_timestamp(body: &[u8]) -> bool {
    let digits = body.iter().take_while(|byte| byte.is_ascii_digit()).count();
    digits > 0 && body.get(digits) == Some(&b'.')
}

/// What the MAC covers.
enum Read<'a> {
    /// The body alone, whatever time the header claims.
    Body(Option<u64>),
    /// This text of the time, a full stop, and the body.
    Timed(&'a [u8], u64),
}

impl Scheme for Cognigy {
    fn name(&self) -> &'static str {
        "cognigy"
    }

    fn recognizes(&self, headers: &HeaderMap) -> bool {
        headers.contains_key(&self.header)
    }

    fn verify(&self, message: &Message<'_>) -> Result<Verified, SignatureError> {
        let mut candidates = Candidates::default();
        let read = self.read(&message.head(), &mut candidates)?;
        let body = message.body();
        let is_right = |tag: &Tag| candidates.contain(tag);
        let (label, timestamp, claimed_timestamp) = match read {
            Read::Body(_)
                if self.accepts(CognigyFormat::SignedTimestamp) && begins_with_timestamp(body) =>
            {
                (None, None, None)
            }
            Read::Body(claimed) => (self.keys.matching(&[body], is_right), None, claimed),
            Read::Timed(text, seconds) => {
                let content = [text, b".", body];
                (self.keys.matching(&content, is_right), Some(seconds), None)
            }
        };
        Ok(Verified {
            label: Some(label.ok_or(SignatureError::Mismatch)?),
            timestamp,
            claimed_timestamp,
            ..Verified::new(self.name())
        })
    }

    fn verify_head(&self, head: &Head<'_>) -> Result<(), SignatureError> {
        self.read(head, &mut Candidates::default()).map(drop)
    }

    /// `None`, unless only [`CognigyFormat::SignedTimestamp`] is accepted.
    fn replay_window(&self) -> Option<Duration> {
        self.accepted
            .iter()
            .all(|format| *format == CognigyFormat::SignedTimestamp)
            .then(|| self.tolerance.window())
    }
}

/// [`CognigyFormat::SignedTimestamp`] has a signature of each key; in the other formats, only the first
/// key signs.
impl SignScheme for Cognigy {
    fn sign(&self, message: &Outgoing<'_>, headers: &mut HeaderMap) -> Result<(), SignError> {
        let keys = self.keys.read();
        let seconds = message.unix_seconds().to_string();
        let body = |encoding: Encoding, mut text: String| {
            if let Some(entry) = keys.first() {
                encoding.encode_append(&entry.key.tag(&[message.body()]), &mut text);
            }
            text
        };
        let text = match self.signs {
            CognigyFormat::Base64 => body(Encoding::Base64, String::new()),
            CognigyFormat::Hex => body(Encoding::Hex, String::new()),
            CognigyFormat::UnsignedTimestamp => body(Encoding::Base64, format!("{seconds},")),
            CognigyFormat::SignedTimestamp => {
                let content = [seconds.as_bytes(), b".", message.body()];
                Grammar::STRIPE.write(&seconds, MacFormat::SHA256_HEX, &keys, &content)
            }
        };
        headers.insert(&self.header, sensitive(text)?);
        Ok(())
    }
}
