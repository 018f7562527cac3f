use super::{Candidates, Scheme, sensitive};
#[cfg(feature = "ed25519")]
use crate::signature::ed25519::{self, Ed25519Key, MAX_ED25519};
use crate::{
    InvalidConfig,
    signature::{
        Backend, Defect, Encoding, Head, Message, MessageId, Outgoing, Secret, Secrets, SignError,
        SignScheme, SignatureError, SigningKeys, Tolerance, Verified,
        mac::MacKey,
        message::{Id, unix_seconds},
        secrets::{Entry, Keyring, decode_base64, mac_key},
    },
};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;
use zeroize::Zeroizing;

/// [Standard Webhooks](https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md)
/// 1.0: `webhook-id`, `webhook-timestamp` and `webhook-signature: v1,<base64>[ v1,<base64>]` over
/// `id.ts.body`. Svix uses the same signature.
///
/// With feature `ed25519` also `v1a`: verified with `whpk_...`, signed with `whsk_...`. A scheme has at most
/// four of these keys, and of the `v1a` signatures of a message the first four are tried, because each
/// costs as much as the MAC of a long body.
///
/// One signature that a key verifies is enough, of either version. Others beside it are ignored, also those
/// that cannot be decoded: the specification has receivers try each.
///
/// An id that contains a full stop is refused, although the reference libraries accept it: the message
/// with id `A`, time `T` and body `N.x` has the same signature as the message with id `A.T`, time `N` and
/// body `x`, and the new id would pass deduplication.
///
/// # Examples
///
/// ```
/// use tower_webhook::SignatureVerifyLayer;
/// use tower_webhook::signature::{Secret, scheme::StandardWebhooks};
///
/// let layer = SignatureVerifyLayer::new(StandardWebhooks::new([
///     Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").label("2026-11"),
///     Secret::new("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").label("2025-11"),
/// ])?);
/// # let _ = layer;
/// # Ok::<(), tower_webhook::InvalidConfig>(())
/// ```
#[derive(Clone, Debug)]
pub struct StandardWebhooks {
    names: Names,
    /// Read if none of `names` is present; never written.
    otherwise: Option<Names>,
    tolerance: Tolerance,
    keys: Keyring<Key>,
}

/// The three headers.
#[derive(Clone, Debug)]
struct Names {
    id: HeaderName,
    timestamp: HeaderName,
    signature: HeaderName,
}

impl Names {
    const WEBHOOK: Self = Self {
        id: HeaderName::from_static("webhook-id"),
        timestamp: HeaderName::from_static("webhook-timestamp"),
        signature: HeaderName::from_static("webhook-signature"),
    };

    const SVIX: Self = Self {
        id: HeaderName::from_static("svix-id"),
        timestamp: HeaderName::from_static("svix-timestamp"),
        signature: HeaderName::from_static("svix-signature"),
    };

    const fn all(&self) -> [&HeaderName; 3] {
        [&self.id, &self.timestamp, &self.signature]
    }
}

/// A key of either kind. A sender that changes from one kind to the other uses both for a while.
enum Key {
    Mac(MacKey),
    #[cfg(feature = "ed25519")]
    Ed25519(Ed25519Key),
}

impl StandardWebhooks {
    /// Makes a scheme. The secrets are `whsec_` and the base64 of the key, or only the base64, padded or not;
    /// with feature `ed25519` also `whpk_` and `whsk_`. The specification requires keys of 24 to 64 bytes;
    /// shorter ones are accepted here, an empty one is not.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `secrets`, as [`SigningKeys::replace`].
    pub fn new(secrets: impl Into<Secrets>) -> Result<Self, InvalidConfig> {
        Ok(Self {
            names: Names::WEBHOOK,
            otherwise: None,
            tolerance: Tolerance::default(),
            keys: Keyring::limited(secrets, key, limit)?,
        })
    }

    /// Makes a scheme whose secrets are the bytes of the keys, as they are: for keys that are kept decoded, and for
    /// senders that take a text for the key. There is no `v1a`.
    ///
    /// ```
    /// use tower_webhook::signature::scheme::StandardWebhooks;
    ///
    /// let key: [u8; 24] = *b"24 to 64 random bytes...";
    /// let scheme = StandardWebhooks::raw(&key[..])?;
    /// # let _ = scheme;
    /// # Ok::<(), tower_webhook::InvalidConfig>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn raw(secrets: impl Into<Secrets>) -> Result<Self, InvalidConfig> {
        let key = |secret: &Secret, backend| mac_key(secret.as_bytes(), backend).map(Key::Mac);
        Ok(Self {
            names: Names::WEBHOOK,
            otherwise: None,
            tolerance: Tolerance::default(),
            keys: Keyring::new(secrets, key)?,
        })
    }

    /// Makes a scheme with Svix's header names: `svix-id`, `svix-timestamp`, `svix-signature`. If none of
    /// them is present, the `webhook-...` headers are read, as Svix's libraries do. Signs with `svix-...`.
    ///
    /// A sender that changes from one set of names to the other writes both. Then the ids must be equal, and the
    /// timestamps, so that whoever reads the other set inside finds what was verified; the signatures of both
    /// are tried.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn svix(secrets: impl Into<Secrets>) -> Result<Self, InvalidConfig> {
        Ok(Self {
            names: Names::SVIX,
            otherwise: Some(Names::WEBHOOK),
            ..Self::new(secrets)?
        })
    }

    /// Sets the prefix of the header names: `acme` makes them `acme-id`, `acme-timestamp` and `acme-signature`.
    /// Default: `webhook`, or `svix` then `webhook` after [`svix`](Self::svix).
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `header_prefix` if it does not make valid header names.
    pub fn header_prefix(mut self, prefix: &str) -> Result<Self, InvalidConfig> {
        let name = |what| {
            HeaderName::try_from(format!("{prefix}-{what}")).map_err(|_| {
                InvalidConfig::new(
                    "header_prefix",
                    "must be letters, digits and `-`, as it begins a header name",
                )
            })
        };
        self.names = Names {
            id: name("id")?,
            timestamp: name("timestamp")?,
            signature: name("signature")?,
        };
        self.otherwise = None;
        Ok(self)
    }

    /// Sets the tolerance of the timestamp. Default: 300 seconds in both directions, as in the reference
    /// libraries.
    #[must_use]
    pub fn tolerance(mut self, tolerance: impl Into<Tolerance>) -> Self {
        self.tolerance = tolerance.into();
        self
    }

    /// The handle that [replaces](SigningKeys::replace) the secrets while requests are served.
    pub fn signing_keys(&self) -> SigningKeys {
        self.keys.signing_keys()
    }

    /// Reads the headers, up to what needs the body: the id, the timestamp, and the signatures.
    #[inline]
    fn read<'a>(
        &self,
        head: &Head<'a>,
        keys: &[Entry<Key>],
        found: &mut Signatures,
    ) -> Result<(&'a HeaderValue, &'a HeaderValue, u64), SignatureError> {
        let (names, [id, timestamp, signature], also) = self.find(head)?;
        if !MessageId::is_valid(id.as_bytes()) {
            return Err(SignatureError::malformed(&names.id, Defect::Id));
        }
        let seconds = unix_seconds(timestamp.as_bytes())
            .ok_or_else(|| SignatureError::malformed(&names.timestamp, Defect::Timestamp))?;
        self.tolerance
            .check(Duration::from_secs(seconds), head.unix_time())?;
        found.read(signature.as_bytes());
        if let Some(also) = also {
            found.read(also.as_bytes());
        }
        found
            .is_usable(keys)
            .map_err(|what| SignatureError::malformed(&names.signature, what))?;
        Ok((id, timestamp, seconds))
    }

    /// Returns the header names that this request uses, their three values, and the signatures of the other set
    /// of names if the request has both.
    #[inline]
    fn find<'a>(&self, head: &Head<'a>) -> Result<Headers<'_, 'a>, SignatureError> {
        let Some(other) = &self.otherwise else {
            return Ok((&self.names, head.header_values(self.names.all())?, None));
        };
        let ours = head.find(self.names.all());
        let others = head.find(other.all());
        if ours.iter().all(|found| found.is_none()) {
            return Ok((other, head.header_values(other.all())?, None));
        }
        let values = head.header_values(self.names.all())?;
        // Inner layers may read the other set, so it must not say anything else than what is verified.
        for ((found, name), value) in others.iter().zip(other.all()).zip(values).take(2) {
            if !found.is_none() && found.single(name)? != value {
                return Err(SignatureError::malformed(name, Defect::Repeated));
            }
        }
        let also = if others[2].is_none() {
            None
        } else {
            Some(others[2].single(&other.signature)?)
        };
        Ok((&self.names, values, also))
    }
}

/// The names and values of the id, the timestamp and the signatures, and more signatures.
type Headers<'n, 'a> = (&'n Names, [&'a HeaderValue; 3], Option<&'a HeaderValue>);

/// Makes a key from a secret.
fn key(secret: &Secret, backend: Backend) -> Result<Key, InvalidConfig> {
    let text = secret.as_bytes();
    let decode = |text| {
        decode_base64(text)
            .map(Zeroizing::new)
            .ok_or_else(|| InvalidConfig::new("secrets", "must be `whsec_` and base64 of the key"))
    };
    #[cfg(feature = "ed25519")]
    {
        if let Some(public) = text.strip_prefix(b"whpk_") {
            return Ed25519Key::public(&decode(public)?).map(Key::Ed25519);
        }
        if let Some(private) = text.strip_prefix(b"whsk_") {
            return Ed25519Key::private(&decode(private)?).map(Key::Ed25519);
        }
    }
    #[cfg(not(feature = "ed25519"))]
    if text.starts_with(b"whpk_") || text.starts_with(b"whsk_") {
        return Err(InvalidConfig::new(
            "secrets",
            "must not be ed25519 keys without the feature `ed25519`",
        ));
    }
    let text = text.strip_prefix(b"whsec_").unwrap_or(text);
    mac_key(&decode(text)?, backend).map(Key::Mac)
}

/// # Errors
///
/// More keys of signatures that are costly to check than signatures of them are tried: a receiver that
/// has only the last one would refuse what all of them sign.
#[cfg_attr(
    not(feature = "ed25519"),
    allow(clippy::missing_const_for_fn, clippy::unnecessary_wraps)
)]
fn limit(keys: &[Entry<Key>]) -> Result<(), InvalidConfig> {
    #[cfg(feature = "ed25519")]
    {
        let ed25519 = keys
            .iter()
            .filter(|entry| matches!(entry.key, Key::Ed25519(_)));
        if ed25519.count() > MAX_ED25519 {
            let problem = "must not have more than four ed25519 keys";
            return Err(InvalidConfig::new("secrets", problem));
        }
    }
    let _ = keys;
    Ok(())
}

/// The signatures of a message, by version.
#[derive(Default)]
struct Signatures {
    v1: Candidates,
    #[cfg(feature = "ed25519")]
    v1a: [Option<[u8; 64]>; MAX_ED25519],
    undecodable: usize,
}

impl Signatures {
    /// Adds the signatures of one header. Ignores other versions, and what is none.
    #[inline]
    fn read(&mut self, text: &[u8]) {
        // Fast path for the usual header, one `v1`, without a search for spaces.
        if let Some(base64) = text.strip_prefix(b"v1,")
            && let Some(tag) = Encoding::Base64.decode_tag(base64)
        {
            self.v1.push(tag);
            return;
        }
        for item in text.split(|&byte| byte == b' ') {
            if let Some(base64) = item.strip_prefix(b"v1,") {
                match Encoding::Base64.decode_tag(base64) {
                    Some(tag) => self.v1.push(tag),
                    None => self.undecodable += 1,
                }
            }
            #[cfg(feature = "ed25519")]
            if let Some(base64) = item.strip_prefix(b"v1a,") {
                let place = self.v1a.iter_mut().find(|place| place.is_none());
                if let (Some(signature), Some(place)) = (ed25519::from_base64(base64), place) {
                    *place = Some(signature);
                }
            }
        }
    }

    /// Whether there is one that a key can check.
    #[inline]
    fn is_usable(&self, keys: &[Entry<Key>]) -> Result<(), Defect> {
        let is_usable = |entry: &Entry<Key>| match &entry.key {
            Key::Mac(_) => self.v1.first.is_some(),
            #[cfg(feature = "ed25519")]
            Key::Ed25519(_) => self.v1a().next().is_some(),
        };
        match self.undecodable {
            _ if keys.iter().any(is_usable) => Ok(()),
            0 => Err(Defect::NoCandidate),
            _ => Err(Defect::Encoding),
        }
    }

    #[cfg(feature = "ed25519")]
    fn v1a(&self) -> impl Iterator<Item = &[u8; 64]> {
        self.v1a.iter().flatten()
    }
}

impl Scheme for StandardWebhooks {
    fn name(&self) -> &'static str {
        "standard_webhooks"
    }

    fn recognizes(&self, headers: &HeaderMap) -> bool {
        let any = |names: &Names| names.all().iter().any(|name| headers.contains_key(*name));
        any(&self.names) || self.otherwise.as_ref().is_some_and(any)
    }

    fn verify(&self, message: &Message<'_>) -> Result<Verified, SignatureError> {
        let keys = self.keys.read();
        let mut found = Signatures::default();
        let (id, timestamp, seconds) = self.read(&message.head(), &keys, &mut found)?;
        let content = [
            id.as_bytes(),
            b".",
            timestamp.as_bytes(),
            b".",
            message.body(),
        ];
        let matched = keys.iter().find(|entry| match &entry.key {
            Key::Mac(key) => found.v1.first.is_some() && found.v1.contain(&key.tag(&content)),
            #[cfg(feature = "ed25519")]
            Key::Ed25519(key) => found.v1a().any(|v1a| key.verify(&content, v1a)),
        });
        Ok(Verified {
            label: Some(matched.ok_or(SignatureError::Mismatch)?.matched()),
            id: Some(Id::Header(id.clone())),
            timestamp: Some(seconds),
            ..Verified::new(self.name())
        })
    }

    fn verify_head(&self, head: &Head<'_>) -> Result<(), SignatureError> {
        let found = &mut Signatures::default();
        self.read(head, &self.keys.read(), found).map(drop)
    }

    fn replay_window(&self) -> Option<Duration> {
        Some(self.tolerance.window())
    }
}

/// Writes one signature for each key that can sign, in the order of the keys.
impl SignScheme for StandardWebhooks {
    fn id_header(&self) -> Option<&HeaderName> {
        Some(&self.names.id)
    }

    fn sign(&self, message: &Outgoing<'_>, headers: &mut HeaderMap) -> Result<(), SignError> {
        let id = message.id().ok_or(SignError::MissingId)?.as_value();
        let timestamp = HeaderValue::from(message.unix_seconds());
        let content = [
            id.as_bytes(),
            b".",
            timestamp.as_bytes(),
            b".",
            message.body(),
        ];
        let mut text = String::with_capacity(64);
        for entry in &*self.keys.read() {
            let between = if text.is_empty() { "" } else { " " };
            match &entry.key {
                Key::Mac(key) => {
                    text.push_str(between);
                    text.push_str("v1,");
                    Encoding::Base64.encode_append(&key.tag(&content), &mut text);
                }
                #[cfg(feature = "ed25519")]
                Key::Ed25519(key) => {
                    if let Some(signature) = key.sign(&content) {
                        text.push_str(between);
                        text.push_str("v1a,");
                        data_encoding::BASE64.encode_append(&signature, &mut text);
                    }
                }
            }
        }
        if text.is_empty() {
            return Err(SignError::NoSigningKey);
        }
        headers.insert(&self.names.signature, sensitive(text)?);
        headers.insert(&self.names.id, id.clone());
        headers.insert(&self.names.timestamp, timestamp);
        Ok(())
    }
}
