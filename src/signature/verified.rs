use super::KeyLabel;
use http::HeaderValue;

/// What is known about a message whose signature was verified: a request extension that
/// [`SignatureVerify`](super::SignatureVerify) inserts, in the place of any that was there.
///
/// # Examples
///
/// ```
/// use http::{Request, Response};
/// use std::convert::Infallible;
/// use tower_webhook::{body::BufferedBody, signature::Verified};
///
/// async fn handle(req: Request<BufferedBody>) -> Result<Response<BufferedBody>, Infallible> {
///     if let Some(verified) = req.extensions().get::<Verified>() {
///         println!("{} by {:?}", verified.scheme(), verified.key_label());
///     }
///     Ok(Response::new(BufferedBody::default()))
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Verified {
    scheme: &'static str,
    key: Option<KeyLabel>,
    id: Option<HeaderValue>,
    timestamp: Option<u64>,
    claimed_timestamp: Option<u64>,
}

impl Verified {
    /// Verified by this scheme: for a [`Scheme`](super::Scheme) of your own.
    ///
    /// Add what the signature covers: the layers behind trust it.
    #[must_use]
    #[inline]
    pub const fn new(scheme: &'static str) -> Self {
        Self {
            scheme,
            key: None,
            id: None,
            timestamp: None,
            claimed_timestamp: None,
        }
    }

    /// The key that made the signature.
    #[must_use]
    #[inline]
    pub fn with_key(mut self, label: KeyLabel) -> Self {
        self.key = Some(label);
        self
    }

    /// The id of the message, **covered by the signature**. A value outside visible ASCII is no id
    /// and reads as none.
    #[must_use]
    #[inline]
    pub fn with_id(mut self, id: HeaderValue) -> Self {
        self.id = Some(id);
        self
    }

    /// The time of the message in seconds since 1970, **covered by the signature**.
    #[must_use]
    #[inline]
    pub const fn with_timestamp(mut self, unix_seconds: u64) -> Self {
        self.timestamp = Some(unix_seconds);
        self
    }

    /// The time that somebody wrote beside the signature.
    #[must_use]
    #[inline]
    pub const fn with_claimed_timestamp(mut self, unix_seconds: u64) -> Self {
        self.claimed_timestamp = Some(unix_seconds);
        self
    }

    /// The scheme, by its [name](super::Scheme::name).
    pub const fn scheme(&self) -> &'static str {
        self.scheme
    }

    /// The label of the key that matched.
    pub fn key_label(&self) -> Option<&str> {
        self.key.as_ref().map(KeyLabel::as_str)
    }

    pub(super) const fn key(&self) -> Option<KeyLabel> {
        self.key
    }

    /// The id of the message, if the signature covers one: fit to be an idempotency key.
    ///
    /// An id that a sender writes beside the signature (`X-GitHub-Delivery`) is not here, because
    /// whoever holds one signed message can put another id beside it.
    pub fn id(&self) -> Option<&str> {
        self.id.as_ref().and_then(|id| id.to_str().ok())
    }

    /// The time of the message in seconds since 1970, if the signature covers one.
    pub const fn timestamp(&self) -> Option<u64> {
        self.timestamp
    }

    /// The time that was written beside the signature, in seconds since 1970: only Cognigy's
    /// `ts,base64`. Whoever has seen one message can send it again with another time, so nothing
    /// may be decided by it.
    pub const fn claimed_timestamp(&self) -> Option<u64> {
        self.claimed_timestamp
    }
}
