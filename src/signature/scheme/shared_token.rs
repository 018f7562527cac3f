use super::Scheme;
use crate::{
    InvalidConfig,
    signature::{
        Defect, Head, Message, Outgoing, Secrets, SignError, SignScheme, SignatureError,
        SigningKeys, Verified,
        mac::{Tag, equal},
        secrets::{Entry, Keyring},
    },
};
use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// A secret that is sent in a header: `Authorization: Bearer`, GitLab's `X-Gitlab-Token`, `X-Webhook-Key`.
///
/// **It does not cover the body.** Whoever reads one request can forge any other, so require TLS.
/// [`Verified`] has neither id nor time. It is compared in constant time,
/// whatever its length.
///
/// # Examples
///
/// ```
/// use http::HeaderName;
/// use tower_webhook::{SignatureVerifyLayer, signature::scheme::SharedToken};
///
/// let gitlab = SignatureVerifyLayer::new(SharedToken::gitlab("a long random text")?);
/// let mine = SharedToken::new(HeaderName::from_static("x-my-token"), "another long random text")?;
/// # let _ = (gitlab, mine);
/// # Ok::<(), tower_webhook::InvalidConfig>(())
/// ```
#[derive(Clone, Debug)]
pub struct SharedToken {
    name: &'static str,
    header: HeaderName,
    bearer: bool,
    keys: Keyring<Credential>,
}

impl SharedToken {
    /// Makes a scheme that accepts any of these tokens as the value of this header.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `secrets` as in [`SigningKeys::replace`], and if a header cannot hold a token.
    pub fn new(header: HeaderName, tokens: impl Into<Secrets>) -> Result<Self, InvalidConfig> {
        Ok(Self {
            name: "token",
            header,
            bearer: false,
            keys: Keyring::new(tokens, |token, _| {
                Credential::new(token.as_bytes().to_vec())
            })?,
        })
    }

    /// `Authorization: Bearer <token>` (RFC 6750 §2.1). A refusal carries a `Bearer` challenge.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn bearer(tokens: impl Into<Secrets>) -> Result<Self, InvalidConfig> {
        Ok(Self {
            name: "bearer",
            bearer: true,
            ..Self::new(AUTHORIZATION, tokens)?
        })
    }

    /// GitLab's `X-Gitlab-Token`
    /// ([its documentation](https://docs.gitlab.com/user/project/integrations/webhooks/)).
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn gitlab(tokens: impl Into<Secrets>) -> Result<Self, InvalidConfig> {
        Ok(Self {
            name: "gitlab",
            ..Self::new(HeaderName::from_static("x-gitlab-token"), tokens)?
        })
    }

    /// `X-Webhook-Key: <token>`: the API key of a webhook endpoint.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn webhook_key(tokens: impl Into<Secrets>) -> Result<Self, InvalidConfig> {
        Ok(Self {
            name: "webhook_key",
            ..Self::new(HeaderName::from_static("x-webhook-key"), tokens)?
        })
    }

    /// The handle that [replaces](SigningKeys::replace) the tokens while requests are served.
    pub fn signing_keys(&self) -> SigningKeys {
        self.keys.signing_keys()
    }
}

impl SharedToken {
    /// Returns what `then` makes of the credential that the request presents.
    fn check<R>(
        &self,
        head: &Head<'_>,
        then: impl FnOnce(&Entry<Credential>) -> R,
    ) -> Result<R, SignatureError> {
        let mut token = head.header(&self.header)?.as_bytes();
        if self.bearer {
            token = after_scheme(token, "Bearer")
                .ok_or_else(|| SignatureError::malformed(&self.header, Defect::Prefix))?;
        }
        self.keys
            .presented(token, then)
            .ok_or(SignatureError::Mismatch)
    }
}

impl Scheme for SharedToken {
    fn name(&self) -> &'static str {
        self.name
    }

    fn recognizes(&self, headers: &HeaderMap) -> bool {
        headers.contains_key(&self.header)
    }

    fn verify(&self, message: &Message<'_>) -> Result<Verified, SignatureError> {
        let label = self.check(&message.head(), Entry::matched)?;
        Ok(Verified::new(self.name).with_secret_label(label))
    }

    /// The whole check: nothing of it needs the body.
    fn verify_head(&self, head: &Head<'_>) -> Result<(), SignatureError> {
        self.check(head, |_| ())
    }

    fn challenge(&self) -> Option<HeaderValue> {
        self.bearer
            .then(|| HeaderValue::from_static(r#"Bearer realm="webhook""#))
    }
}

/// Signs with the first token.
impl SignScheme for SharedToken {
    fn sign(&self, _: &Outgoing<'_>, headers: &mut HeaderMap) -> Result<(), SignError> {
        let keys = self.keys.read();
        let token = keys.first().map_or(&b""[..], |entry| entry.key.text());
        let value = if self.bearer {
            HeaderValue::from_bytes(&[b"Bearer ", token].concat())
        } else {
            HeaderValue::from_bytes(token)
        };
        let mut value = value.map_err(|_| SignError::HeaderValue)?;
        value.set_sensitive(true);
        headers.insert(&self.header, value);
        Ok(())
    }
}

/// A secret that is sent as it is.
pub(super) struct Credential {
    /// The text that a sender writes.
    text: Zeroizing<Vec<u8>>,
    /// The digest that a receiver compares. All digests have one length, so that the time does not reveal
    /// the length of the secret.
    digest: Tag,
}

impl Credential {
    /// # Errors
    ///
    /// If a header cannot hold the text.
    pub(super) fn new(text: Vec<u8>) -> Result<Self, InvalidConfig> {
        let text = Zeroizing::new(text);
        if HeaderValue::from_bytes(&text).is_err() {
            return Err(InvalidConfig::new(
                "secrets",
                "must be text without control characters, as it is sent in a header",
            ));
        }
        Ok(Self::of(text))
    }

    /// Makes a credential without that check, for text that is encoded before it is sent.
    pub(super) fn of(text: Zeroizing<Vec<u8>>) -> Self {
        let digest = Sha256::digest(&*text).into();
        Self { text, digest }
    }

    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }
}

impl Keyring<Credential> {
    /// What `then` makes of the credential that equals `text`.
    pub(super) fn presented<R>(
        &self,
        text: &[u8],
        then: impl FnOnce(&Entry<Credential>) -> R,
    ) -> Option<R> {
        let digest: Tag = Sha256::digest(text).into();
        self.read()
            .iter()
            .find(|entry| equal(&entry.key.digest, &digest))
            .map(then)
    }
}

/// The text after the name of an authentication scheme (RFC 9110 §11.4: in upper or lower case, followed
/// by one or more spaces).
pub(super) fn after_scheme<'a>(value: &'a [u8], scheme: &str) -> Option<&'a [u8]> {
    let (name, rest) = value.split_at_checked(scheme.len())?;
    let rest = rest.strip_prefix(b" ")?.trim_ascii_start();
    (name.eq_ignore_ascii_case(scheme.as_bytes()) && !rest.is_empty()).then_some(rest)
}
