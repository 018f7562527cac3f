use super::mac::{Backend, MacKey, Tag};
use crate::{
    InvalidConfig,
    observe::{Event, Observer, Observers},
};
use std::{
    fmt,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
};
use zeroize::Zeroizing;

/// The largest number of secrets of a scheme. Each costs a MAC when a forged signature is refused.
const MAX_KEYS: usize = 16;

/// The longest label, in bytes.
const MAX_LABEL: usize = 47;

/// A secret shared with a sender or receiver, as text: `whsec_...`, not its decoded form. The
/// [scheme](super::scheme) decides how the text is decoded.
///
/// The memory is overwritten with zeros on drop. `Debug` shows only the label.
///
/// # Examples
///
/// ```
/// use tower_webhook::signature::Secret;
///
/// let secret = Secret::new("It's a Secret to Everybody").label("2026-11");
/// assert_eq!(format!("{secret:?}"), r#"Secret("2026-11")"#);
/// ```
#[derive(Clone)]
#[must_use]
pub struct Secret {
    text: Zeroizing<Vec<u8>>,
    label: Option<Arc<str>>,
}

impl Secret {
    /// Makes a secret of these bytes. A `String` or `Vec` is moved, not copied.
    ///
    /// Schemes refuse an empty secret.
    pub fn new(text: impl Into<Vec<u8>>) -> Self {
        Self {
            text: Zeroizing::new(text.into()),
            label: None,
        }
    }

    /// Sets the name that logs, metrics and handlers see when this secret matches. Default: `key-1` for
    /// the first of a list, `key-2` for the second, and so on.
    pub fn label(mut self, label: impl Into<Arc<str>>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// The bytes of the text. For a [`Scheme`](super::Scheme) of your own: show them to nobody.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text
    }

    pub(super) const fn label_text(&self) -> Option<&Arc<str>> {
        self.label.as_ref()
    }
}

/// Decodes the base64 text of a secret, with or without padding. Bits behind its last byte are ignored, as
/// the reference libraries of Standard Webhooks do: random text of a fitting length is a secret.
pub(super) fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let encoding = match text.last() {
        Some(b'=') => data_encoding::BASE64,
        _ => data_encoding::BASE64_NOPAD,
    };
    let mut form = encoding.specification();
    form.check_trailing_bits = false;
    form.encoding().ok()?.decode(text).ok()
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Secret")
            .field(&self.label.as_deref().unwrap_or("unlabelled"))
            .finish()
    }
}

/// One or several secrets. A scheme is built from them, and [`SigningKeys::replace`] takes them.
///
/// If a scheme writes only one signature, the first secret signs.
///
/// # Examples
///
/// ```
/// use tower_webhook::signature::{Backend, Secret, Secrets};
///
/// let one = Secrets::from("an old friend");
/// let rotating = Secrets::from([
///     Secret::new("the new one").label("2026-11"),
///     Secret::new("the old one").label("2025-11"),
/// ]);
/// let elsewhere = one.backend(Backend::RustCrypto);
/// # let _ = (rotating, elsewhere);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Secrets {
    pub(super) list: Vec<Secret>,
    pub(super) backend: Backend,
}

impl Secrets {
    /// Sets the library that computes MACs with these secrets. Default: [`Backend::default`].
    pub const fn backend(mut self, backend: Backend) -> Self {
        self.backend = backend;
        self
    }
}

impl FromIterator<Secret> for Secrets {
    fn from_iter<I: IntoIterator<Item = Secret>>(secrets: I) -> Self {
        Self {
            list: secrets.into_iter().collect(),
            backend: Backend::default(),
        }
    }
}

impl From<Secret> for Secrets {
    fn from(secret: Secret) -> Self {
        Self::from_iter([secret])
    }
}

impl From<Vec<Secret>> for Secrets {
    fn from(secrets: Vec<Secret>) -> Self {
        Self::from_iter(secrets)
    }
}

impl<const N: usize> From<[Secret; N]> for Secrets {
    fn from(secrets: [Secret; N]) -> Self {
        Self::from_iter(secrets)
    }
}

macro_rules! from_text {
    ($($text:ty),+) => {$(
        impl From<$text> for Secret {
            fn from(text: $text) -> Self {
                Self::new(text)
            }
        }

        impl From<$text> for Secrets {
            fn from(text: $text) -> Self {
                Self::from(Secret::new(text))
            }
        }
    )+};
}
from_text!(&str, String, &[u8], Vec<u8>);

/// The label of the secret that made a signature: 1 to 47 bytes, without control characters. Never the
/// secret itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SecretLabel {
    // Stored in place rather than shared: copying 48 bytes is faster than counting a reference.
    text: [u8; MAX_LABEL],
    len: u8,
}

impl SecretLabel {
    /// Makes a label, for a [`Scheme`](super::Scheme) outside this crate.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] when it is empty, longer than 47 bytes or has a control character.
    pub fn new(label: &str) -> Result<Self, InvalidConfig> {
        let mut text = [0; MAX_LABEL];
        let len = u8::try_from(label.len()).unwrap_or(u8::MAX);
        match text.get_mut(..label.len()) {
            Some(place) if len > 0 && !label.contains(char::is_control) => {
                place.copy_from_slice(label.as_bytes());
                Ok(Self { text, len })
            }
            _ => Err(InvalidConfig::new(
                "label",
                "must have 1 to 47 bytes and no control character",
            )),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // Made from a `str` of this length.
        str::from_utf8(&self.text[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl fmt::Debug for SecretLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for SecretLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A handle on the secrets of a scheme, from its method `signing_keys()`. Replaces them while requests
/// are served.
///
/// Every clone of the scheme, of the layers built from it and of their services uses the new secrets
/// for its next message.
///
/// # Examples
///
/// ```
/// use tower_webhook::signature::{Secret, scheme::GitHub};
///
/// let scheme = GitHub::new("the old one")?;
/// let keys = scheme.signing_keys();
/// // Later, from a signal handler or a watcher of the secret store:
/// keys.replace([
///     Secret::new("the new one").label("2026-11"),
///     Secret::new("the old one").label("2025-11"),
/// ])?;
/// // And when the old one has stopped matching:
/// assert_eq!(keys.usage()[1].1, 0);
/// keys.replace(Secret::new("the new one").label("2026-11"))?;
/// # Ok::<(), tower_webhook::InvalidConfig>(())
/// ```
#[derive(Clone)]
pub struct SigningKeys {
    ring: Arc<dyn Rotate>,
    observers: Observers,
}

impl SigningKeys {
    /// Adds an observer of [`Event::KeysRotated`], for replacements by this handle and its clones. Default:
    /// none except `tracing`.
    #[must_use]
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.observers = self.observers.and(observer);
        self
    }

    /// Replaces all secrets. If a scheme writes only one signature, the first one signs.
    ///
    /// A message that is being checked or signed is completed with the old secrets: this call waits for it,
    /// at most for the time of one MAC. When it returns, the memory of the old secrets has been overwritten.
    /// Reports [`Event::KeysRotated`] to the [observers](Self::observe).
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] if the scheme cannot use one of the secrets, if there is none or more than sixteen,
    /// or if two have the same label. The old secrets then stay in use.
    pub fn replace(&self, secrets: impl Into<Secrets>) -> Result<(), InvalidConfig> {
        let keys = self.ring.replace(&secrets.into())?;
        self.observers.tell(|| Event::KeysRotated { keys });
        Ok(())
    }

    /// Returns the labels of the secrets in their order, and the number of messages that each has verified
    /// since it was added. The numbers are approximate: of messages that are verified at the same moment,
    /// only one may be counted.
    ///
    /// When the count of the old secret no longer grows, the sender uses the new one, and the old one can be
    /// removed.
    pub fn usage(&self) -> Vec<(SecretLabel, u64)> {
        self.ring.usage()
    }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKeys").field(&self.usage()).finish()
    }
}

/// Makes a key from a secret.
type Rule<K> = dyn Fn(&Secret, Backend) -> Result<K, InvalidConfig> + Send + Sync;

/// Checks the keys together.
type Limit<K> = fn(&[Entry<K>]) -> Result<(), InvalidConfig>;

/// The keys of a scheme, which [`SigningKeys`] replaces while requests are served. For a
/// [`Scheme`](super::Scheme) of your own; those of this crate have one inside. Clones share the keys.
///
/// # Examples
///
/// ```
/// use tower_webhook::InvalidConfig;
/// use tower_webhook::signature::{Encoding, Keyring};
///
/// // Decoded once, not for each message.
/// let keys = Keyring::new("c2VjcmV0", |secret, _| {
///     Encoding::Base64.decode(secret.as_bytes()).ok_or_else(|| InvalidConfig::new("secrets", "must be base64"))
/// })?;
/// let label = keys.find(|key| key == b"secret");
/// assert_eq!(label.as_ref().map(|label| label.as_str()), Some("key-1"));
/// keys.signing_keys().replace("b3RoZXI=")?;
/// assert_eq!(keys.map_first(|key| key.clone()), b"other");
/// # Ok::<(), InvalidConfig>(())
/// ```
// A plain lock: a reader holds it for the time of one MAC, which costs two atomic operations, fewer than cloning an
// `Arc` under a lock; and writers are rare.
pub struct Keyring<K>(Arc<Ring<K>>);

struct Ring<K> {
    rule: Box<Rule<K>>,
    limit: Limit<K>,
    keys: RwLock<Vec<Entry<K>>>,
}

pub(crate) struct Entry<K> {
    pub(crate) key: K,
    label: SecretLabel,
    matched: AtomicU64,
}

impl<K> Entry<K> {
    /// Counts the match and returns the label.
    #[inline]
    pub(crate) fn matched(&self) -> SecretLabel {
        // Not an atomic increment, which would cost as much as reading the headers: see `SigningKeys::usage`.
        let matched = self.matched.load(Ordering::Relaxed);
        self.matched.store(matched + 1, Ordering::Relaxed);
        self.label
    }
}

impl<K> Keyring<K> {
    /// Makes keys of these secrets by `rule`, which gets a secret and the library that it is for.
    ///
    /// # Errors
    ///
    /// Those of `rule`, and as [`SigningKeys::replace`].
    pub fn new(
        secrets: impl Into<Secrets>,
        rule: impl Fn(&Secret, Backend) -> Result<K, InvalidConfig> + Send + Sync + 'static,
    ) -> Result<Self, InvalidConfig> {
        Self::limited(secrets, rule, |_| Ok(()))
    }

    /// # Errors
    ///
    /// As [`SigningKeys::replace`], and those of `limit`.
    pub(crate) fn limited(
        secrets: impl Into<Secrets>,
        rule: impl Fn(&Secret, Backend) -> Result<K, InvalidConfig> + Send + Sync + 'static,
        limit: Limit<K>,
    ) -> Result<Self, InvalidConfig> {
        let keys = prepare(&secrets.into(), &rule)?;
        limit(&keys)?;
        Ok(Self(Arc::new(Ring {
            rule: Box::new(rule),
            limit,
            keys: RwLock::new(keys),
        })))
    }

    /// The keys, of which there is at least one. Held only while a message is checked.
    #[inline]
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Vec<Entry<K>>> {
        // Nothing can panic while a writer has the lock: it swaps two pointers.
        self.0.keys.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K> Keyring<K> {
    /// The label of the first key that `is_right` accepts, which counts as a match. `is_right` must compare in
    /// constant time. A [replacement](SigningKeys::replace) of the keys waits for it.
    pub fn find(&self, mut is_right: impl FnMut(&K) -> bool) -> Option<SecretLabel> {
        let keys = self.read();
        let matched = keys.iter().find(|entry| is_right(&entry.key))?;
        Some(matched.matched())
    }

    /// What `sign` makes of the first key, which signs if there is room for one signature.
    pub fn map_first<R>(&self, sign: impl FnOnce(&K) -> R) -> R {
        // Invariant: there is at least one.
        sign(&self.read()[0].key)
    }
}

impl<K: Send + Sync + 'static> Keyring<K> {
    /// The handle that [replaces](SigningKeys::replace) the keys while requests are served.
    pub fn signing_keys(&self) -> SigningKeys {
        SigningKeys {
            ring: self.0.clone(),
            observers: Observers::none(),
        }
    }
}

impl Keyring<MacKey> {
    /// The label of the first key whose MAC of the pieces is the right one.
    #[inline]
    pub(crate) fn matching(
        &self,
        pieces: &[&[u8]],
        is_right: impl Fn(&Tag) -> bool,
    ) -> Option<SecretLabel> {
        let keys = self.read();
        let mut keys = keys.iter();
        let matched = keys.find(|entry| is_right(&entry.key.tag(pieces)))?;
        Some(matched.matched())
    }
}

/// Uses the bytes of the secret as the key.
pub(crate) fn raw(secret: &Secret, backend: Backend) -> Result<MacKey, InvalidConfig> {
    mac_key(secret.as_bytes(), backend)
}

/// # Errors
///
/// As [`shared`].
pub(crate) fn mac_key(key: &[u8], backend: Backend) -> Result<MacKey, InvalidConfig> {
    Ok(MacKey::new(backend, shared(key)?))
}

/// # Errors
///
/// An empty key is refused, because anyone can compute a MAC with it; and what is written as public keys are, because
/// whoever knows the public key can.
pub(crate) fn shared(key: &[u8]) -> Result<&[u8], InvalidConfig> {
    if key.is_empty() {
        return Err(InvalidConfig::new("secrets", "must not be empty"));
    }
    if let Some(what) = asymmetric(key) {
        let problem = format!(
            "must be what only sender and receiver know, and not {what}: whoever knows a public key could sign with it. \
             Schemes with public keys take those, such as `HttpMessageSignatures::ed25519`"
        );
        return Err(InvalidConfig::new("secrets", problem));
    }
    Ok(key)
}

/// The form of this text if it is one in which public and private keys are written. Not all forms can be told from
/// secrets: a public key as its bare 32 bytes looks like one.
fn asymmetric(text: &[u8]) -> Option<&'static str> {
    let has = |part: &[u8]| text.windows(part.len()).any(|window| window == part);
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let is_around = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'`');
    let start = text.iter().position(|byte| !is_around(byte))?;
    let begins = |parts: &[&[u8]]| parts.iter().any(|part| text[start..].starts_with(part));
    if has(b"-----BEGIN") {
        Some("PEM of a key")
    } else if begins(KEY_DER) {
        Some("DER of a key, in base64 or not")
    } else if begins(&[b"whpk_", b"whsk_"]) {
        Some("a key of Standard Webhooks (`whpk_`, `whsk_`)")
    } else if begins(&[b"{", b"["]) && (has(b"\"kty\"") || has(b"\\\"kty\\\"")) {
        Some("a JWK")
    } else if begins(&[b"ssh-", b"ecdsa-sha2-"]) {
        Some("a key of SSH")
    } else {
        None
    }
}

/// What the DER of a public or private key begins with, up to its algorithm, and its base64: of Ed25519, ECDSA with P-256, and
/// RSA with 2048 to 4096 bits.
const KEY_DER: &[&[u8]] = &[
    b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70",
    b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70",
    b"MCowBQYDK2Vw",
    b"MC4CAQAwBQYDK2Vw",
    b"MFkwEwYHKoZIzj0C",
    b"MIGHAgEAMBMGByqGSM49",
    b"MIIBIjANBgkqhkiG9w0B",
    b"MIIBojANBgkqhkiG9w0B",
    b"MIICIjANBgkqhkiG9w0B",
];

fn prepare<K>(secrets: &Secrets, rule: &Rule<K>) -> Result<Vec<Entry<K>>, InvalidConfig> {
    let invalid = |problem: &str| Err(InvalidConfig::new("secrets", problem));
    if secrets.list.is_empty() {
        return invalid("must name at least one secret");
    }
    if secrets.list.len() > MAX_KEYS {
        return invalid("must not have more than 16");
    }
    let mut keys: Vec<Entry<K>> = Vec::with_capacity(secrets.list.len());
    for (at, secret) in secrets.list.iter().enumerate() {
        let label = match secret.label_text() {
            Some(label) => SecretLabel::new(label)?,
            None => SecretLabel::new(&format!("key-{}", at + 1))?,
        };
        if keys.iter().any(|entry| entry.label == label) {
            return invalid("must have labels that differ");
        }
        if secret.as_bytes().is_empty() {
            return invalid("must not be empty");
        }
        keys.push(Entry {
            key: rule(secret, secrets.backend)?,
            label,
            matched: AtomicU64::new(0),
        });
    }
    Ok(keys)
}

impl<K> Clone for Keyring<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Shows the labels, never a key.
impl<K> fmt::Debug for Keyring<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.read().iter().map(|entry| &entry.label))
            .finish()
    }
}

/// [`Keyring`] without its key type, for [`SigningKeys`].
trait Rotate: Send + Sync {
    /// Returns the number of keys now.
    fn replace(&self, secrets: &Secrets) -> Result<usize, InvalidConfig>;
    fn usage(&self) -> Vec<(SecretLabel, u64)>;
}

impl<K: Send + Sync> Rotate for Ring<K> {
    fn replace(&self, secrets: &Secrets) -> Result<usize, InvalidConfig> {
        let mut keys = prepare(secrets, &*self.rule)?;
        (self.limit)(&keys)?;
        let mut current = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *current, &mut keys);
        let count = current.len();
        // The old keys are dropped, and overwritten, after the lock is released.
        drop(current);
        Ok(count)
    }

    fn usage(&self) -> Vec<(SecretLabel, u64)> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.iter()
            .map(|entry| (entry.label, entry.matched.load(Ordering::Relaxed)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{asymmetric, decode_base64};

    #[test]
    fn what_is_written_as_public_and_private_keys_are_is_told_from_secrets() {
        for (text, what) in [
            ("x -----BEGIN", "PEM of a key"),
            (" 'MC4CAQAwBQYDK2Vw", "DER of a key, in base64 or not"),
            ("MIICIjANBgkqhkiG9w0BAQ", "DER of a key, in base64 or not"),
            ("0*0\u{5}\u{6}\u{3}+ep", "DER of a key, in base64 or not"),
            (
                "\u{feff}whsk_AA",
                "a key of Standard Webhooks (`whpk_`, `whsk_`)",
            ),
            ("[{\"kty\":\"OKP\"}]", "a JWK"),
            ("ssh-ed25519 AAAA", "a key of SSH"),
        ] {
            assert_eq!(asymmetric(text.as_bytes()), Some(what), "{text}");
        }
        for text in [
            "",
            " ",
            "\"",
            "whsec_AA",
            "{secret}",
            "MCow",
            "a MCowBQYDK2Vw",
            "an ssh-key",
            "\u{feff}",
        ] {
            assert_eq!(asymmetric(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_secret_is_read_with_or_without_padding_and_with_bits_behind_its_last_byte() {
        let key = Some(b"key-of-16-bytes!".to_vec());
        for text in [
            "a2V5LW9mLTE2LWJ5dGVzIQ==",
            "a2V5LW9mLTE2LWJ5dGVzIQ",
            // The last character has four bits that no byte needs.
            "a2V5LW9mLTE2LWJ5dGVzIR",
            "a2V5LW9mLTE2LWJ5dGVzIf==",
        ] {
            assert_eq!(decode_base64(text.as_bytes()), key, "{text}");
        }
        for text in [
            "a2V5LW9mLTE2LWJ5dGVzI",
            "a2V5=",
            "a2V5LW9m TE2",
            "a2V5-w",
            "=",
        ] {
            assert_eq!(decode_base64(text.as_bytes()), None, "{text}");
        }
    }
}
