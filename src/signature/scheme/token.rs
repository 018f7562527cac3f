use super::{
    Scheme,
    credential::{Credential, after_scheme},
};
use crate::{
    InvalidConfig,
    signature::{
        Defect, Keys, Message, Outgoing, Secrets, SignError, SignScheme, SignatureError, Verified,
        keyring::Keyring,
    },
};
use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};

/// A secret that is sent along in a header: GitLab's `X-Gitlab-Token`, Cognigy's `X-Webhook-Key`,
/// `Authorization: Bearer`.
///
/// **It does not cover the body.** Whoever reads one request can write any other: demand TLS, and
/// nothing that [`Verified`] says about id or time is there. It is compared in constant time,
/// whatever its length.
///
/// # Examples
///
/// ```
/// use http::HeaderName;
/// use tower_webhook::{SignatureVerifyLayer, signature::scheme::Token};
///
/// let gitlab = SignatureVerifyLayer::new(Token::gitlab("a long random text")?);
/// let mine = Token::new(HeaderName::from_static("x-my-token"), "another long random text")?;
/// # let _ = (gitlab, mine);
/// # Ok::<(), tower_webhook::InvalidConfig>(())
/// ```
#[derive(Clone, Debug)]
pub struct Token {
    name: &'static str,
    header: HeaderName,
    bearer: bool,
    keys: Keyring<Credential>,
}

impl Token {
    /// One of these tokens, alone in this header.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `secrets` as [`Keys::replace`], and when a header cannot hold one.
    pub fn new(header: HeaderName, tokens: impl Into<Secrets>) -> Result<Self, InvalidConfig> {
        Ok(Self {
            name: "token",
            header,
            bearer: false,
            keys: Keyring::new(tokens, |token, _| Credential::new(token.bytes().to_vec()))?,
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

    /// The `X-Webhook-Key` that Cognigy's webhook endpoint demands of callers when its API key is
    /// on ([its documentation](https://docs.cognigy.com/ai/agents/deploy/endpoint-reference/webhook)).
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

    /// The tokens, to be [replaced](Keys::replace) while requests are served.
    pub fn keys(&self) -> Keys {
        self.keys.handle()
    }
}

impl Scheme for Token {
    fn name(&self) -> &'static str {
        self.name
    }

    fn recognizes(&self, headers: &HeaderMap) -> bool {
        headers.contains_key(&self.header)
    }

    fn verify(&self, message: &Message<'_>) -> Result<Verified, SignatureError> {
        let mut token = message.header(&self.header)?.as_bytes();
        if self.bearer {
            token = after_scheme(token, "Bearer")
                .ok_or_else(|| SignatureError::malformed(&self.header, Defect::Prefix))?;
        }
        let label = self.keys.presented(token).ok_or(SignatureError::Mismatch)?;
        Ok(Verified::new(self.name).with_key(label))
    }

    fn challenge(&self) -> Option<HeaderValue> {
        self.bearer
            .then(|| HeaderValue::from_static(r#"Bearer realm="webhook""#))
    }
}

/// With the first token.
impl SignScheme for Token {
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
