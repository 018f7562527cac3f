use super::{
    Scheme, sensitive,
    shared_token::{Credential, after_scheme},
};
use crate::{
    InvalidConfig,
    signature::{
        Defect, Head, Message, Outgoing, Secrets, SignError, SignScheme, SignatureError,
        SigningKeys, Verified,
        secrets::{Entry, Keyring},
    },
};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use zeroize::Zeroizing;

/// Longer credentials are refused.
const MAX_DECODED: usize = 768;

/// HTTP Basic authentication (RFC 7617): `Authorization: Basic <base64 of user:password>`.
///
/// **It does not cover the body.** Anyone who reads one request can forge any other, so require TLS.
/// [`Verified`] has neither id nor time. User and password are compared in constant time, whatever their
/// lengths. A refusal carries the `WWW-Authenticate` challenge.
///
/// # Examples
///
/// ```
/// use tower_webhook::{SignatureVerifyLayer, signature::scheme::BasicAuth};
///
/// let layer = SignatureVerifyLayer::new(BasicAuth::new("cognigy", "a long random text")?);
/// # let _ = layer;
/// # Ok::<(), tower_webhook::InvalidConfig>(())
/// ```
#[derive(Clone, Debug)]
pub struct BasicAuth {
    challenge: HeaderValue,
    keys: Keyring<Credential>,
}

impl BasicAuth {
    /// Makes a scheme that accepts this user with any of these passwords.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `user` if it has a colon or control character (RFC 7617 §2); for `secrets` as in
    /// [`SigningKeys::replace`].
    pub fn new(user: &str, passwords: impl Into<Secrets>) -> Result<Self, InvalidConfig> {
        if user.contains(|char: char| char == ':' || char.is_control()) {
            let problem = "must not have a colon or control character";
            return Err(InvalidConfig::new("user", problem));
        }
        let user = format!("{user}:");
        let keys = Keyring::new(passwords, move |password, _| {
            let text = [user.as_bytes(), password.as_bytes()].concat();
            if text.len() > MAX_DECODED {
                let problem =
                    format!("must be at most {MAX_DECODED} bytes long together with the user");
                return Err(InvalidConfig::new("secrets", problem));
            }
            Ok(Credential::of(Zeroizing::new(text)))
        })?;
        Ok(Self {
            challenge: HeaderValue::from_static(r#"Basic realm="webhook", charset="UTF-8""#),
            keys,
        })
    }

    /// Sets the realm of the challenge (RFC 9110 §11.5). Default: `webhook`.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] if it has a quote, a backslash or a character outside printable ASCII.
    pub fn realm(mut self, realm: &str) -> Result<Self, InvalidConfig> {
        let invalid = || InvalidConfig::new("realm", "must be printable ASCII without quotes");
        if realm.contains(|char: char| !matches!(char, ' '..='~') || "\"\\".contains(char)) {
            return Err(invalid());
        }
        let challenge = format!("Basic realm=\"{realm}\", charset=\"UTF-8\"");
        self.challenge = HeaderValue::try_from(challenge).map_err(|_| invalid())?;
        Ok(self)
    }

    /// The handle that [replaces](SigningKeys::replace) the passwords while requests are served.
    pub fn signing_keys(&self) -> SigningKeys {
        self.keys.signing_keys()
    }
}

impl BasicAuth {
    /// Returns what `then` makes of the credential that the request presents.
    fn check<R>(
        &self,
        head: &Head<'_>,
        then: impl FnOnce(&Entry<Credential>) -> R,
    ) -> Result<R, SignatureError> {
        let malformed = |what| SignatureError::malformed(&AUTHORIZATION, what);
        let value = head.header(&AUTHORIZATION)?.as_bytes();
        let base64 = after_scheme(value, "Basic").ok_or_else(|| malformed(Defect::Prefix))?;

        let mut buffer = Zeroizing::new([0; MAX_DECODED]);
        let length = data_encoding::BASE64
            .decode_len(base64.len())
            .map_err(|_| malformed(Defect::Encoding))?;
        let room = buffer
            .get_mut(..length)
            .ok_or_else(|| malformed(Defect::TooLong))?;
        let length = data_encoding::BASE64
            .decode_mut(base64, room)
            .map_err(|_| malformed(Defect::Encoding))?;
        self.keys
            .presented(&room[..length], then)
            .ok_or(SignatureError::Mismatch)
    }
}

impl Scheme for BasicAuth {
    fn name(&self) -> &'static str {
        "basic"
    }

    fn recognizes(&self, headers: &HeaderMap) -> bool {
        headers.contains_key(AUTHORIZATION)
    }

    fn verify(&self, message: &Message<'_>) -> Result<Verified, SignatureError> {
        let label = self.check(&message.head(), Entry::matched)?;
        Ok(Verified::new(self.name()).with_secret_label(label))
    }

    /// The whole check: nothing of it needs the body.
    fn verify_head(&self, head: &Head<'_>) -> Result<(), SignatureError> {
        self.check(head, |_| ())
    }

    fn challenge(&self) -> Option<HeaderValue> {
        Some(self.challenge.clone())
    }
}

/// Signs with the first password.
impl SignScheme for BasicAuth {
    fn sign(&self, _: &Outgoing<'_>, headers: &mut HeaderMap) -> Result<(), SignError> {
        let mut text = String::from("Basic ");
        if let Some(entry) = self.keys.read().first() {
            data_encoding::BASE64.encode_append(entry.key.text(), &mut text);
        }
        headers.insert(AUTHORIZATION, sensitive(text)?);
        Ok(())
    }
}
