use super::{MAX_SIGNATURES, Scheme, sensitive};
#[cfg(feature = "ed25519")]
use crate::signature::ed25519::Ed25519Key;
use crate::{
    InvalidConfig,
    signature::{
        Backend, Defect, Encoding, Head, Message, MessageId, Outgoing, Secret, Secrets, SignError,
        SignScheme, SignatureError, SigningKeys, Tolerance, Verified,
        mac::{MacKey, Tag, equal},
        message::Id,
        secrets::{Entry, Keyring, raw},
        sign::unique,
    },
};
use http::{HeaderMap, HeaderName, HeaderValue, header::HOST};
use sfv::{BareItemFromInput, Key as Label, ListSerializer, StringRef, key_ref};
use sha2::{Digest as _, Sha256};
use std::time::Duration;

mod component;
mod dictionary;
mod digest;

use self::{
    component::{Component, Origin, Subject},
    dictionary::{Dictionary, Member, lines},
    digest::{CONTENT_DIGEST, Digests},
};

const SIGNATURE: HeaderName = HeaderName::from_static("signature");
const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");

/// HTTP Message Signatures ([RFC 9421](https://www.rfc-editor.org/rfc/rfc9421)) with `hmac-sha256` and, with feature
/// `ed25519`, `ed25519`; and the digest of the body in `Content-Digest`
/// ([RFC 9530](https://www.rfc-editor.org/rfc/rfc9530)). Needs feature `http-message-signatures`.
///
/// # Secrets
///
/// The constructor says what the secrets are, and nothing is guessed from their text: [`hmac`](Self::hmac) takes keys that
/// sender and receiver share, and `ed25519` (feature `ed25519`) takes PEM of keys, of which `PUBLIC KEY` verifies and
/// `PRIVATE KEY` signs too. Each refuses what is the other's.
///
/// The label of a secret is its `keyid`: it verifies only signatures with this `keyid`, or without one. A secret
/// without a label verifies signatures with any `keyid`, also one that is longer than a label can be, and signs without
/// one.
///
/// # What is verified
///
/// One signature must be right, of those in `Signature-Input` and `Signature`. The others are ignored: signatures of
/// somebody else's key, of another algorithm, or over components that are not known here. Up to sixteen combinations
/// of a signature with a secret are tried.
///
/// - It covers all [`components`](Self::components): the method, the target and, if there is a body or a
///   `Content-Digest`, that digest. The reason of a refusal names what it lacks
///   ([`NotCovered`](SignatureError::NotCovered)).
/// - `created` is there and within the [tolerance](Self::tolerance), and `expires` is not over.
/// - `alg`, if it is there, is the algorithm of the secret.
/// - All digests of `Content-Digest` with SHA-256 and SHA-512 are those of the body, and there is one.
///
/// `nonce` and `created` tell messages apart for [`reject_replays`](crate::SignatureVerifyLayer::reject_replays), because
/// a sender that tries again signs again. A message with two right signatures that differ in them passes once for each; those
/// that are [written here](Self#what-is-signed) have the same two. The nonce is not the id of the message, because each attempt has
/// another one: see [`id_header`](Self::id_header).
///
/// A server does not see the scheme of a URL, and behind a proxy not always its host. **Set
/// [`origin`](Self::origin)** where one key signs for several receivers, as an Ed25519 key does: otherwise the
/// host is the one in the request, and a receiver can pass a message on to another one.
///
/// [`before_body`](crate::SignatureVerifyLayer::before_body) verifies the whole signature, before the body is read.
///
/// # What is signed
///
/// Each secret that can sign makes a signature, under the labels `sig1`, `sig1-2` and so on, with `created`, a fresh
/// `nonce`, `keyid` and `alg`. Signatures under other labels stay. `Content-Digest` is set, with SHA-256.
///
/// # Components
///
/// `@method`, `@target-uri`, `@authority`, `@scheme`, `@request-target`, `@path`, `@query`, header fields, and in
/// signatures of others `@query-param`. A signature over a component with another parameter (`sf`, `key`, `bs`, `tr`,
/// `req`) is ignored. The signature covers header fields as they are: a proxy must not change them.
///
/// # Examples
///
/// ```
/// use tower_webhook::SignatureVerifyLayer;
/// use tower_webhook::signature::{Secret, scheme::HttpMessageSignatures};
///
/// let scheme = HttpMessageSignatures::hmac(Secret::new("an old friend's secret").label("acme-2026"))?
///     .origin("https://hooks.example.com")?;
/// let layer = SignatureVerifyLayer::new(scheme);
/// # let _ = layer;
/// # Ok::<(), tower_webhook::InvalidConfig>(())
/// ```
///
/// Signed without a layer:
///
/// ```
/// use http::{HeaderMap, Method};
/// use tower_webhook::signature::{Outgoing, Secret, SignScheme, scheme::HttpMessageSignatures};
///
/// let scheme = HttpMessageSignatures::hmac(Secret::new("an old friend's secret").label("acme-2026"))?;
/// let uri = "https://hooks.example.com/paid".parse()?;
/// let mut headers = HeaderMap::new();
/// let message = Outgoing::new(b"{}", 1_700_000_000).with_target(&Method::POST, &uri);
/// scheme.sign(&message, &mut headers)?;
/// assert!(headers["signature-input"].to_str()?.starts_with(
///     r#"sig1=("@method" "@target-uri" "content-digest");created=1700000000;nonce="#
/// ));
/// assert_eq!(
///     headers["content-digest"],
///     "sha-256=:RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=:",
/// );
/// # Ok::<(), tower_webhook::BoxError>(())
/// ```
#[derive(Clone, Debug)]
pub struct HttpMessageSignatures {
    components: Vec<Component>,
    id: Option<HeaderName>,
    origin: Option<Origin>,
    tag: Option<sfv::String>,
    label: Label,
    tolerance: Tolerance,
    expires_after: Option<Duration>,
    keys: Keyring<Key>,
}

/// A key, with the `keyid` of its signatures.
struct Key {
    id: Option<sfv::String>,
    algorithm: AlgorithmKey,
}

/// A key of one algorithm, and never of another.
enum AlgorithmKey {
    HmacSha256(MacKey),
    #[cfg(feature = "ed25519")]
    Ed25519(Ed25519Key),
}

impl AlgorithmKey {
    /// The name in the registry of RFC 9421 §6.2.
    const fn name(&self) -> &'static str {
        match self {
            Self::HmacSha256(_) => "hmac-sha256",
            #[cfg(feature = "ed25519")]
            Self::Ed25519(_) => "ed25519",
        }
    }

    fn verifies(&self, base: &str, signature: &[u8]) -> bool {
        match self {
            Self::HmacSha256(key) => Tag::try_from(signature)
                .is_ok_and(|signature| equal(&signature, &key.tag(&[base.as_bytes()]))),
            #[cfg(feature = "ed25519")]
            Self::Ed25519(key) => signature
                .try_into()
                .is_ok_and(|signature| key.verify(&[base.as_bytes()], signature)),
        }
    }

    /// Whether it is not only a public key.
    #[cfg_attr(not(feature = "ed25519"), allow(clippy::unused_self))]
    const fn signs(&self) -> bool {
        match self {
            Self::HmacSha256(_) => true,
            #[cfg(feature = "ed25519")]
            Self::Ed25519(key) => key.signs(),
        }
    }

    #[cfg_attr(not(feature = "ed25519"), allow(clippy::unnecessary_wraps))]
    fn sign(&self, base: &str) -> Option<String> {
        let signature = match self {
            Self::HmacSha256(key) => Encoding::Base64.encode(key.tag(&[base.as_bytes()])),
            #[cfg(feature = "ed25519")]
            Self::Ed25519(key) => Encoding::Base64.encode(key.sign(&[base.as_bytes()])?),
        };
        Some(signature)
    }
}

impl Key {
    fn new(secret: &Secret, algorithm: AlgorithmKey) -> Result<Self, InvalidConfig> {
        let id = secret.label_text();
        let id = id.map(|label| string("label", label)).transpose()?;
        Ok(Self { id, algorithm })
    }
}

fn hmac_key(secret: &Secret, backend: Backend) -> Result<Key, InvalidConfig> {
    Key::new(secret, AlgorithmKey::HmacSha256(raw(secret, backend)?))
}

#[cfg(feature = "ed25519")]
fn ed25519_key(secret: &Secret, _: Backend) -> Result<Key, InvalidConfig> {
    let key = Ed25519Key::from_pem(secret.as_bytes())?;
    Key::new(secret, AlgorithmKey::Ed25519(key))
}

/// A text that a parameter can have.
fn string(setting: &'static str, text: &str) -> Result<sfv::String, InvalidConfig> {
    sfv::String::from_string(text.to_owned())
        .map_err(|_| InvalidConfig::new(setting, "must be visible ASCII"))
}

impl HttpMessageSignatures {
    /// Makes a scheme with the keys of an HMAC, `hmac-sha256`: what only sender and receiver know.
    ///
    /// The bytes are the key as they are: decode them first if they are kept as base64 ([`Encoding::decode`]).
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `secrets`, as [`SigningKeys::replace`], and for what is written as public and private keys
    /// are (PEM, DER or its base64, a JWK, `whpk_`, `whsk_`, a key of SSH): whoever knows a public key could sign with
    /// it. And for a `label` that is not visible ASCII.
    pub fn hmac(secrets: impl Into<Secrets>) -> Result<Self, InvalidConfig> {
        Keyring::new(secrets, hmac_key).map(Self::with)
    }

    /// Makes a scheme with Ed25519 keys, each as PEM ([RFC 8410](https://www.rfc-editor.org/rfc/rfc8410)): `PUBLIC KEY`
    /// verifies, `PRIVATE KEY` verifies and signs. Needs feature `ed25519`.
    ///
    /// ```
    /// use tower_webhook::signature::{Secret, scheme::HttpMessageSignatures};
    ///
    /// let public = "-----BEGIN PUBLIC KEY-----
    /// MCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=
    /// -----END PUBLIC KEY-----";
    /// let scheme = HttpMessageSignatures::ed25519(Secret::new(public).label("acme-2026"))?
    ///     .origin("https://hooks.example.com")?;
    /// # let _ = scheme;
    /// # Ok::<(), tower_webhook::InvalidConfig>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `secrets`, as [`SigningKeys::replace`], and for all that is not PEM of an Ed25519 key and
    /// nothing else: no comment before it, no quotes, no byte order mark. And for a `label` that is not visible ASCII.
    #[cfg(feature = "ed25519")]
    pub fn ed25519(keys: impl Into<Secrets>) -> Result<Self, InvalidConfig> {
        Keyring::new(keys, ed25519_key).map(Self::with)
    }

    fn with(keys: Keyring<Key>) -> Self {
        Self {
            components: vec![
                Component::Method,
                Component::TargetUri,
                Component::Field(CONTENT_DIGEST),
            ],
            id: None,
            origin: None,
            tag: None,
            label: key_ref("sig1").to_owned(),
            tolerance: Tolerance::default(),
            expires_after: None,
            keys,
        }
    }

    /// Sets what a signature must cover at least, and what is signed, in this order. Default: `@method`, `@target-uri`
    /// and `content-digest`.
    ///
    /// `@target-uri` is also covered by `@authority` with `@path` and `@query` or `@request-target`; what it consists of
    /// is covered by it. A header field that is named here must be in each message, except for `content-digest` if the
    /// body is empty.
    ///
    /// **Whatever is left out, anyone can change**: without `content-digest` the body, without `@authority` the
    /// receiver.
    ///
    /// ```
    /// use tower_webhook::signature::scheme::HttpMessageSignatures;
    ///
    /// let scheme = HttpMessageSignatures::hmac("secret")?
    ///     .components(["@method", "@target-uri", "content-digest", "content-type"])?;
    /// # let _ = scheme;
    /// # Ok::<(), tower_webhook::InvalidConfig>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `components` if there is none, or one is there twice, is not known, has upper-case letters,
    /// or is one of the two headers of the signature.
    pub fn components<'a>(
        mut self,
        components: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, InvalidConfig> {
        let invalid = |problem| InvalidConfig::new("components", problem);
        self.components.clear();
        for name in components {
            let component = Component::named(name)
                .filter(|_| name != SIGNATURE && name != SIGNATURE_INPUT)
                .ok_or_else(|| {
                    invalid(
                        "must be components of RFC 9421 or names of other headers in lower case",
                    )
                })?;
            if self.components.contains(&component) {
                return Err(invalid("must not be the same twice"));
            }
            self.components.push(component);
        }
        if self.components.is_empty() {
            return Err(invalid("must not be empty, as nothing would be signed"));
        }
        Ok(self)
    }

    /// Sets a header that has the id of the message, which is then signed too: [`Verified::id`] of what was received, and
    /// the [`MessageId`] of what is sent. Default: none, and inner layers do not find an id.
    #[must_use]
    pub fn id_header(mut self, name: HeaderName) -> Self {
        self.id = Some(name);
        self
    }

    /// Sets the scheme and host that senders use: `https://hooks.example.com`. Default: the host of the request, and
    /// `https` unless its URI has a scheme, as with HTTP/2.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `origin` if it is not `http` or `https` with a host, or has a path.
    pub fn origin(mut self, origin: &str) -> Result<Self, InvalidConfig> {
        self.origin = Some(Origin::parse(origin)?);
        Ok(self)
    }

    /// Sets the `tag` that a signature must have, and that is signed: the name of an application or protocol. Default:
    /// any, and none is signed.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `tag` if it is not visible ASCII.
    pub fn tag(mut self, tag: &str) -> Result<Self, InvalidConfig> {
        self.tag = Some(string("tag", tag)?);
        Ok(self)
    }

    /// Sets the label of the signature that is made, which replaces one that has it. Default: `sig1`. The signature of the
    /// second secret has `-2` behind it, and so on.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `label` if it is not lower-case letters, digits, `_`, `-`, `.` and `*`, with a letter first.
    pub fn label(mut self, label: &str) -> Result<Self, InvalidConfig> {
        self.label = Label::from_string(label.to_owned()).map_err(|_| {
            let problem =
                "must be lower-case letters, digits, `_`, `-`, `.` and `*`, with a letter first";
            InvalidConfig::new("label", problem)
        })?;
        Ok(self)
    }

    /// Sets the tolerance of `created`. Default: 300 seconds in both directions.
    #[must_use]
    pub fn tolerance(mut self, tolerance: impl Into<Tolerance>) -> Self {
        self.tolerance = tolerance.into();
        self
    }

    /// Sets after what time a signature that is made expires, in whole seconds. Default: none, the receiver's tolerance
    /// decides.
    #[must_use]
    pub const fn expires_after(mut self, time: Duration) -> Self {
        self.expires_after = Some(time);
        self
    }

    /// The handle that [replaces](SigningKeys::replace) the secrets while requests are served.
    pub fn signing_keys(&self) -> SigningKeys {
        self.keys.signing_keys()
    }

    /// What a signature must cover.
    fn required(&self) -> impl Iterator<Item = Component> {
        let id = self.id.clone().map(Component::Field);
        let id = id.filter(|id| !self.components.contains(id));
        self.components.iter().cloned().chain(id)
    }

    /// Whether `Content-Digest` must be covered, of a message that has one.
    fn requires_digest(&self) -> bool {
        self.components.contains(&Component::Field(CONTENT_DIGEST))
    }

    /// Finds a signature that is right, and the key that made it. What a body has to do with it is left out without one.
    fn check<R>(
        &self,
        head: &Head<'_>,
        body: Option<&[u8]>,
        found: impl FnOnce(&Received<'_>, &Input<'_>, &Entry<Key>) -> Result<R, SignatureError>,
    ) -> Result<R, SignatureError> {
        let inputs = lines(head.headers(), &SIGNATURE_INPUT)?;
        let signatures = lines(head.headers(), &SIGNATURE)?;
        let received = Received {
            id: self.id.as_ref().map(|name| id(head, name)).transpose()?,
            subject: Subject::received(head, self.origin.as_ref()),
            inputs: Dictionary::read(&SIGNATURE_INPUT, &inputs)?,
            signatures: Dictionary::read(&SIGNATURE, &signatures)?,
            signatures_text: &signatures,
            digests: Some(Digests::read(head.headers()))
                .filter(|_| head.headers().contains_key(CONTENT_DIGEST)),
            now: head.unix_time(),
            body,
        };
        let keys = self.keys.read();
        let mut tries = 0;
        let mut refused: Option<Refused> = None;
        for member in &received.inputs.0 {
            match self.judge(member, &received, &keys, &mut tries) {
                Ok((input, entry)) => return found(&received, &input, entry),
                // The reason that concerns one of our keys, rather than that somebody else signed too.
                Err(new)
                    if refused
                        .as_ref()
                        .is_none_or(|old| new.is_ours && !old.is_ours) =>
                {
                    refused = Some(new);
                }
                Err(_) => {}
            }
        }
        Err(refused.map_or_else(|| malformed(Defect::NoCandidate), |refused| refused.reason))
    }

    fn judge<'m, 'k>(
        &self,
        member: &'m Member<'_>,
        received: &Received<'_>,
        keys: &'k [Entry<Key>],
        tries: &mut usize,
    ) -> Result<(Input<'m>, &'k Entry<Key>), Refused> {
        let not_ours = |what| Refused {
            is_ours: false,
            reason: malformed(what),
        };
        let ours = |reason| Refused {
            is_ours: true,
            reason,
        };
        let input = Input::read(member).map_err(not_ours)?;
        if (self.tag.as_ref()).is_some_and(|tag| input.tag != Some(tag.as_str())) {
            return Err(not_ours(Defect::Format));
        }
        let mut keys = keys
            .iter()
            .filter(|entry| input.is_of(&entry.key))
            .peekable();
        if keys.peek().is_none() {
            return Err(not_ours(Defect::NoCandidate));
        }
        self.qualifies(&input, received).map_err(ours)?;
        let signature = received.signature(member).map_err(ours)?;
        if *tries >= MAX_SIGNATURES {
            return Err(ours(SignatureError::Mismatch));
        }
        let base = received.subject.base(&input.components, &input.parameters);
        let base = base.map_err(ours)?;
        let entry = keys.find(|entry| {
            *tries += 1;
            *tries <= MAX_SIGNATURES && entry.key.algorithm.verifies(&base, signature)
        });
        let entry = entry.ok_or_else(|| ours(SignatureError::Mismatch))?;
        self.check_body(&input, received).map_err(ours)?;
        Ok((input, entry))
    }

    /// Checks what needs neither a key nor the body.
    fn qualifies(&self, input: &Input<'_>, received: &Received<'_>) -> Result<(), SignatureError> {
        let created = input.created.ok_or_else(|| malformed(Defect::Timestamp))?;
        let created = Duration::from_secs(created);
        self.tolerance.check(created, received.now)?;
        if let Some(expires) = input.expires.map(Duration::from_secs)
            && received.now > expires
        {
            return Err(SignatureError::Stale {
                age: received.now.saturating_sub(created),
                tolerance: expires.saturating_sub(created),
            });
        }
        let has_digests = received.digests.is_some();
        let mut required = self.required().filter(|one| has_digests || !is_digest(one));
        match required.find(|one| !one.is_covered_by(&input.components)) {
            Some(component) => Err(not_covered(&component)),
            None => Ok(()),
        }?;
        match &received.digests {
            Some(Err(error)) if input.components.iter().any(is_digest) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    fn check_body(&self, input: &Input<'_>, received: &Received<'_>) -> Result<(), SignatureError> {
        let Some(body) = received.body else {
            return Ok(());
        };
        let is_covered = input.components.iter().any(is_digest);
        match &received.digests {
            Some(Ok(digests)) if is_covered && !digests.are_of(body) => {
                Err(SignatureError::Mismatch)
            }
            _ if !is_covered && self.requires_digest() && !body.is_empty() => {
                Err(not_covered(&Component::Field(CONTENT_DIGEST)))
            }
            _ => Ok(()),
        }
    }

    /// What is signed and tells messages apart, whatever else a signature covers: a message with two signatures is one if
    /// they have one nonce and one time of creation, and otherwise as many as it has of those.
    fn context(
        &self,
        received: &Received<'_>,
        nonce: Option<&str>,
    ) -> Result<[u8; 32], SignatureError> {
        // The digest is that of the body, which is told apart by itself.
        let components = self.required().filter(|one| !is_digest(one));
        let base = received
            .subject
            .base(&components.collect::<Vec<_>>(), nonce.unwrap_or_default())?;
        Ok(Sha256::digest(base).into())
    }

    /// The inner list of components and its parameters.
    fn parameters(
        &self,
        components: &[Component],
        key: &Key,
        seconds: u64,
        nonce: &str,
    ) -> Result<String, SignError> {
        let integer = |seconds| sfv::Integer::try_from(seconds).map_err(|_| SignError::HeaderValue);
        let mut out = ListSerializer::new();
        let mut list = out.inner_list();
        for component in components {
            let _ = list.bare_item(string_ref(component.name())?);
        }
        let mut parameters = list
            .finish()
            .parameter(key_ref("created"), integer(seconds)?);
        if let Some(time) = self.expires_after {
            let expires = integer(seconds.saturating_add(time.as_secs()))?;
            parameters = parameters.parameter(key_ref("expires"), expires);
        }
        parameters = parameters.parameter(key_ref("nonce"), string_ref(nonce)?);
        if let Some(id) = &key.id {
            parameters = parameters.parameter(key_ref("keyid"), &**id);
        }
        parameters = parameters.parameter(key_ref("alg"), string_ref(key.algorithm.name())?);
        if let Some(tag) = &self.tag {
            parameters = parameters.parameter(key_ref("tag"), &**tag);
        }
        let _ = parameters;
        Ok(out.finish().unwrap_or_default())
    }

    /// The members of this field under labels that are not of this scheme.
    fn others(&self, headers: &HeaderMap, name: &HeaderName) -> Result<String, SignError> {
        if !headers.contains_key(name) {
            return Ok(String::new());
        }
        let text = lines(headers, name).map_err(|_| SignError::InvalidHeader)?;
        let members = Dictionary::read(name, &text).map_err(|_| SignError::InvalidHeader)?;
        Ok(members.without(|label| {
            let number = label.strip_prefix(self.label.as_str());
            number.is_some_and(|rest| {
                rest.is_empty()
                    || rest
                        .strip_prefix('-')
                        .is_some_and(|number| number.parse::<u32>().is_ok())
            })
        }))
    }
}

/// A request with signatures.
struct Received<'a> {
    id: Option<&'a HeaderValue>,
    subject: Subject<'a>,
    inputs: Dictionary<'a>,
    signatures: Dictionary<'a>,
    signatures_text: &'a [u8],
    /// Those of `Content-Digest`, if the request has one.
    digests: Option<Result<Digests, SignatureError>>,
    now: Duration,
    body: Option<&'a [u8]>,
}

impl Received<'_> {
    /// The bytes under the label of this member of `Signature-Input`.
    fn signature(&self, input: &Member<'_>) -> Result<&[u8], SignatureError> {
        self.inputs.find(input.key.as_str()).map_err(malformed)?;
        let member = self.signatures.find(input.key.as_str());
        member
            .and_then(|member| member.ok_or(Defect::NoCandidate))
            .and_then(|member| member.bytes(self.signatures_text).ok_or(Defect::Encoding))
            .map_err(|what| SignatureError::malformed(&SIGNATURE, what))
    }
}

/// Why one of several signatures is not accepted, and whether it may be one of our keys.
struct Refused {
    is_ours: bool,
    reason: SignatureError,
}

/// A member of `Signature-Input`.
struct Input<'a> {
    components: Vec<Component>,
    parameters: String,
    created: Option<u64>,
    expires: Option<u64>,
    alg: Option<&'a str>,
    keyid: Option<&'a str>,
    nonce: Option<&'a str>,
    tag: Option<&'a str>,
}

impl<'a> Input<'a> {
    fn read(member: &'a Member<'_>) -> Result<Self, Defect> {
        let items = member.items().ok_or(Defect::Syntax)?;
        if items.len().max(member.parameters.len()) > MAX_PARTS {
            return Err(Defect::TooLong);
        }
        let mut input = Self {
            components: Vec::with_capacity(items.len()),
            parameters: member.written_value(),
            created: None,
            expires: None,
            alg: None,
            keyid: None,
            nonce: None,
            tag: None,
        };
        for item in items {
            let component = Component::of(item)?;
            if input.components.contains(&component) {
                return Err(Defect::Repeated);
            }
            input.components.push(component);
        }
        let keys = || member.parameters.iter().map(|(key, _)| key.as_str());
        for (at, (key, value)) in member.parameters.iter().enumerate() {
            if keys().take(at).any(|before| before == key.as_str()) {
                return Err(Defect::Repeated);
            }
            match key.as_str() {
                "created" => input.created = Some(time(value)?),
                "expires" => input.expires = Some(time(value)?),
                "alg" => input.alg = Some(text(value)?),
                "keyid" => input.keyid = Some(text(value)?),
                "nonce" => input.nonce = Some(text(value)?),
                "tag" => input.tag = Some(text(value)?),
                // Signed, and nothing that is known here.
                _ => {}
            }
        }
        Ok(input)
    }

    /// Whether this key may have made it.
    fn is_of(&self, key: &Key) -> bool {
        let is_named = match (&key.id, self.keyid) {
            (Some(id), Some(keyid)) => id.as_str() == keyid,
            _ => true,
        };
        is_named && self.alg.is_none_or(|alg| alg == key.algorithm.name())
    }
}

/// The largest number of components, and of parameters, of a signature.
const MAX_PARTS: usize = 128;

fn time(value: &BareItemFromInput<'_>) -> Result<u64, Defect> {
    match value {
        BareItemFromInput::Integer(seconds) => (*seconds).try_into().map_err(|_| Defect::Timestamp),
        _ => Err(Defect::Timestamp),
    }
}

fn text<'a>(value: &'a BareItemFromInput<'_>) -> Result<&'a str, Defect> {
    match value {
        BareItemFromInput::String(text) => Ok(text.as_str()),
        _ => Err(Defect::Syntax),
    }
}

fn id<'a>(head: &Head<'a>, name: &HeaderName) -> Result<&'a HeaderValue, SignatureError> {
    let id = head.header(name)?;
    if MessageId::is_valid(id.as_bytes()) {
        Ok(id)
    } else {
        Err(SignatureError::malformed(name, Defect::Id))
    }
}

fn malformed(what: Defect) -> SignatureError {
    SignatureError::malformed(&SIGNATURE_INPUT, what)
}

fn not_covered(component: &Component) -> SignatureError {
    SignatureError::NotCovered {
        component: component.name().to_owned(),
    }
}

fn is_digest(component: &Component) -> bool {
    matches!(component, Component::Field(name) if *name == CONTENT_DIGEST)
}

impl Scheme for HttpMessageSignatures {
    fn name(&self) -> &'static str {
        "http_message_signatures"
    }

    fn recognizes(&self, headers: &HeaderMap) -> bool {
        headers.contains_key(SIGNATURE) || headers.contains_key(SIGNATURE_INPUT)
    }

    fn verify(&self, message: &Message<'_>) -> Result<Verified, SignatureError> {
        self.check(
            &message.head(),
            Some(message.body()),
            |received, input, entry| {
                Ok(Verified {
                    context: Some(self.context(received, input.nonce)?),
                    id: received.id.cloned().map(Id::Header),
                    timestamp: input.created,
                    label: Some(entry.matched()),
                    ..Verified::new(self.name())
                })
            },
        )
    }

    /// Checks everything but the body.
    fn verify_head(&self, head: &Head<'_>) -> Result<(), SignatureError> {
        self.check(head, None, |_, _, _| Ok(()))
    }

    fn replay_window(&self) -> Option<Duration> {
        Some(self.tolerance.window())
    }
}

/// Writes one signature for each key that can sign, in the order of the keys.
impl SignScheme for HttpMessageSignatures {
    fn id_header(&self) -> Option<&HeaderName> {
        self.id.as_ref()
    }

    fn sign(&self, message: &Outgoing<'_>, headers: &mut HeaderMap) -> Result<(), SignError> {
        let target = message.target().ok_or(SignError::InvalidTarget)?;
        if let Some(name) = &self.id {
            let id = message.id().ok_or(SignError::MissingId)?;
            headers.insert(name, id.as_value().clone());
        }
        if self.requires_digest() {
            let digest = digest::of(message.body()).ok_or(SignError::HeaderValue)?;
            headers.insert(CONTENT_DIGEST, digest);
        }
        let mut inputs = self.others(headers, &SIGNATURE_INPUT)?;
        let mut signatures = self.others(headers, &SIGNATURE)?;
        let components = self.required().collect::<Vec<_>>();
        let subject = Subject::sent(target, headers, self.origin.as_ref());
        // One for all, so that they are signatures of one message.
        let nonce = unique();
        let keys = self.keys.read();
        let mut keys = keys
            .iter()
            .filter(|entry| entry.key.algorithm.signs())
            .peekable();
        keys.peek().ok_or(SignError::NoSigningKey)?;
        for (at, entry) in keys.enumerate() {
            let parameters =
                self.parameters(&components, &entry.key, message.unix_seconds(), &nonce)?;
            let base = subject
                .base(&components, &parameters)
                .map_err(|error| unsigned(&error))?;
            let signature = entry
                .key
                .algorithm
                .sign(&base)
                .ok_or(SignError::NoSigningKey)?;
            let label = match at {
                0 => self.label.to_string(),
                _ => format!("{}-{}", self.label, at + 1),
            };
            push(&mut inputs, &format!("{label}={parameters}"));
            push(&mut signatures, &format!("{label}=:{signature}:"));
        }
        let inputs = HeaderValue::try_from(inputs).map_err(|_| SignError::HeaderValue)?;
        headers.insert(SIGNATURE_INPUT, inputs);
        headers.insert(SIGNATURE, sensitive(signatures)?);
        Ok(())
    }
}

fn string_ref(text: &str) -> Result<&StringRef, SignError> {
    StringRef::from_str(text).map_err(|_| SignError::HeaderValue)
}

/// Adds a member to a dictionary.
fn push(dictionary: &mut String, member: &str) {
    if !dictionary.is_empty() {
        dictionary.push_str(", ");
    }
    dictionary.push_str(member);
}

/// Why a component has no value.
fn unsigned(error: &SignatureError) -> SignError {
    match error {
        SignatureError::Missing { header } | SignatureError::Malformed { header, .. }
            if *header != HOST && *header != SIGNATURE_INPUT =>
        {
            SignError::InvalidHeader
        }
        _ => SignError::InvalidTarget,
    }
}
