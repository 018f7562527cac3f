//! The layer that signs outgoing requests, and the ids of messages.

use crate::{
    BoxError, IntoBoxError,
    body::{BufferedBody, BufferedFrom},
    call::CallOrError,
    clock::WallClock,
    observe::{Event, Id, Observer, Observers},
    outcome::{Repeatable, Unsendable},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    mem,
    sync::Arc,
    task::{Context, Poll},
};
use tower_layer::Layer;
use tower_service::Service;

/// The longest id: as long as a header that is read may be.
const MAX_ID: usize = super::message::MAX_HEADER;

/// Signs each request that is sent. The attempts of one delivery have the same id, and a new timestamp
/// each.
///
/// It belongs inside the retry, next to the transport: a timestamp that is signed before a long wait is
/// stale on arrival. [`MessageIdLayer`] belongs outside the retry.
///
/// If the scheme signs an id, it is the value of the id header in the request; without that header, the
/// [`MessageId`] in the request's extensions; without both, a new random one.
///
/// # Examples
///
/// ```
/// use tower_webhook::SignLayer;
/// use tower_webhook::signature::{Secret, scheme::StandardWebhooks};
///
/// // Two keys during a rotation: two signatures in one header.
/// let layer = SignLayer::new(StandardWebhooks::new([
///     Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").label("2026-11"),
///     Secret::new("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").label("2025-11"),
/// ])?);
/// # let _ = layer;
/// # Ok::<(), tower_webhook::InvalidConfig>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct SignLayer {
    scheme: Arc<dyn SignScheme>,
    clock: WallClock,
    observers: Observers,
}

impl SignLayer {
    /// Signs with `scheme`, which may be an `Arc` or `Box` of one.
    pub fn new(scheme: impl SignScheme) -> Self {
        Self {
            scheme: Arc::new(scheme),
            clock: WallClock::system(),
            observers: Observers::none(),
        }
    }

    /// Sets the clock for timestamps. Default: the system clock.
    pub fn clock(mut self, clock: WallClock) -> Self {
        self.clock = clock;
        self
    }

    /// Adds an observer of [`Event::Trouble`], which reports a request that cannot be signed and is not sent.
    /// Default: none except `tracing`.
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.observers = self.observers.and(observer);
        self
    }
}

impl<S> Layer<S> for SignLayer {
    type Service = Sign<S>;

    fn layer(&self, inner: S) -> Sign<S> {
        Sign {
            inner,
            scheme: self.scheme.clone(),
            clock: self.clock.clone(),
            observers: self.observers.clone(),
        }
    }
}

impl fmt::Debug for SignLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignLayer")
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

/// Middleware of [`SignLayer`].
#[derive(Clone)]
pub struct Sign<S> {
    inner: S,
    scheme: Arc<dyn SignScheme>,
    clock: WallClock,
    observers: Observers,
}

impl<S, B> Service<Request<B>> for Sign<S>
where
    S: Service<Request<BufferedBody>>,
    S::Error: IntoBoxError,
    BufferedBody: BufferedFrom<B>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = CallOrError<S::Future, SignError>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, req: Request<B>) -> Self::Future {
        let mut req = BufferedBody::buffered(req);
        match self.sign(&mut req) {
            Ok(()) => CallOrError::called(self.inner.call(req)),
            Err(error) => {
                self.observers.tell(|| Event::Trouble {
                    part: "sign",
                    what: "not sent, because it cannot be signed",
                    detail: Some(Id::new(&error)),
                });
                CallOrError::failed(error)
            }
        }
    }
}

impl<S> Sign<S> {
    fn sign(&self, req: &mut Request<BufferedBody>) -> Result<(), SignError> {
        let id = match self.scheme.id_header() {
            Some(name) => Some(message_id(req, name)?),
            None => None,
        };
        // Taken out of the request, because the message borrows its body.
        let mut headers = mem::take(req.headers_mut());
        let mut message = Outgoing::new(req.body().as_bytes(), self.clock.unix_seconds())
            .with_target(req.method(), req.uri());
        if let Some(id) = &id {
            message = message.with_id(id);
        }
        let signed = self.scheme.sign(&message, &mut headers);
        *req.headers_mut() = headers;
        signed
    }
}

fn message_id(req: &Request<BufferedBody>, name: &HeaderName) -> Result<MessageId, SignError> {
    let mut values = req.headers().get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(_), Some(_)) => Err(SignError::InvalidId),
        (Some(value), None) => MessageId::from_value(value.clone()),
        (None, _) => Ok(match req.extensions().get::<MessageId>() {
            Some(id) => id.clone(),
            None => MessageId::generate(),
        }),
    }
}

impl<S: fmt::Debug> fmt::Debug for Sign<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sign")
            .field("inner", &self.inner)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

/// Why a request could not be signed, and was not sent.
///
/// Another attempt would fail in the same way, so the request is not retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SignError {
    /// A reason of a [`SignScheme`] outside this crate.
    Custom {
        /// The reason, from a small closed set.
        reason: &'static str,
    },
    /// The signature is not a valid header value: a separator or prefix is outside ASCII.
    HeaderValue,
    /// The scheme signs a header that the message lacks, or that is not ASCII; or it adds to one that has another
    /// format.
    InvalidHeader,
    /// The id of the message is not 1 to 4096 visible ASCII characters without a full stop, or the
    /// request has two ids.
    InvalidId,
    /// The scheme signs the method or the target, and the message has none; or its target has a character that
    /// no URL has, or its body could be a part of the target.
    InvalidTarget,
    /// The scheme signs an id, and the message has none.
    MissingId,
    /// All secrets are public keys, which only verify.
    NoSigningKey,
}

impl fmt::Display for SignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Custom { reason } => reason,
            Self::HeaderValue => "not signed: a prefix or separator of the scheme has characters that a header cannot have",
            Self::InvalidHeader => "not signed: the message lacks a header that the scheme signs, or has one that is not ASCII, or a `Signature` that is not of RFC 9421",
            Self::InvalidId => "not signed: the message id must be one, of 1 to 4096 visible ASCII characters without a full stop",
            Self::InvalidTarget => "not signed: the scheme signs the method and the URL, and together with this body they could be read in two ways, or are missing",
            Self::MissingId => "not signed: the scheme signs a message id, and the message has none",
            Self::NoSigningKey => "not signed: all keys of the scheme are public keys, which only verify",
        })
    }
}

impl std::error::Error for SignError {
    /// Marks the error for a [classifier](crate::outcome): nothing was sent, and another attempt cannot
    /// help.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        static UNSENDABLE: Unsendable = Unsendable::new();
        Some(&UNSENDABLE)
    }
}

/// Writes the headers that a [`Scheme`](crate::signature::Scheme) verifies. All schemes of this crate
/// except `AnyOf` and those that only have a public key (`Discord`, `SendGrid`) implement both traits.
#[diagnostic::on_unimplemented(
    message = "`{Self}` signs no requests",
    note = "the schemes of `tower_webhook::signature::scheme` sign, such as `StandardWebhooks::new(secret)?`, except `AnyOf`, `Discord` and `SendGrid`; of a `Result`, take what is in it with `?`",
    note = "for a scheme of your own, implement `SignScheme`"
)]
pub trait SignScheme: Send + Sync + 'static {
    /// The header of the message id, if the scheme signs one. Default: none.
    fn id_header(&self) -> Option<&HeaderName> {
        None
    }

    /// Adds the headers, and replaces existing ones. It must not block or panic.
    ///
    /// # Errors
    ///
    /// [`SignError`]: the request is not sent.
    fn sign(&self, message: &Outgoing<'_>, headers: &mut HeaderMap) -> Result<(), SignError>;
}

macro_rules! through_pointer {
    ($($pointer:ident),+) => {$(
        impl<T: SignScheme + ?Sized> SignScheme for $pointer<T> {
            fn id_header(&self) -> Option<&HeaderName> {
                (**self).id_header()
            }

            fn sign(
                &self,
                message: &Outgoing<'_>,
                headers: &mut HeaderMap,
            ) -> Result<(), SignError> {
                (**self).sign(message, headers)
            }
        }
    )+};
}
through_pointer!(Arc, Box);

/// The input of a [`SignScheme`].
///
/// # Examples
///
/// Signing without a layer:
///
/// ```
/// use http::HeaderMap;
/// use tower_webhook::signature::{Outgoing, SignScheme, scheme::GitHub};
///
/// let mut headers = HeaderMap::new();
/// let message = Outgoing::new(b"Hello, World!", 1_700_000_000);
/// GitHub::new("It's a Secret to Everybody")?.sign(&message, &mut headers)?;
/// assert_eq!(
///     headers["x-hub-signature-256"],
///     "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
/// );
/// # Ok::<(), tower_webhook::BoxError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    id: Option<&'a MessageId>,
    unix_seconds: u64,
    target: Option<(&'a Method, &'a Uri)>,
    body: &'a [u8],
}

impl<'a> Outgoing<'a> {
    /// Makes a message with this body and this time, in seconds since 1970.
    pub const fn new(body: &'a [u8], unix_seconds: u64) -> Self {
        Self {
            id: None,
            unix_seconds,
            target: None,
            body,
        }
    }

    /// Sets the id. Default: none.
    #[must_use]
    pub const fn with_id(mut self, id: &'a MessageId) -> Self {
        self.id = Some(id);
        self
    }

    /// Sets the method and the URI of the request. Default: none.
    #[must_use]
    pub const fn with_target(mut self, method: &'a Method, uri: &'a Uri) -> Self {
        self.target = Some((method, uri));
        self
    }

    /// The method and the URI, if the message has them.
    pub const fn target(&self) -> Option<(&'a Method, &'a Uri)> {
        self.target
    }

    /// The id, if the message has one.
    pub const fn id(&self) -> Option<&'a MessageId> {
        self.id
    }

    /// The time of the attempt, in seconds since 1970.
    pub const fn unix_seconds(&self) -> u64 {
        self.unix_seconds
    }

    /// The body.
    pub const fn body(&self) -> &'a [u8] {
        self.body
    }
}

/// The id of an outgoing message: a request extension that [`Sign`] reads. All attempts have the same id,
/// so that the receiver can deduplicate.
///
/// 1 to 4096 visible ASCII characters without a full stop, which separates the id from the timestamp in
/// the signed content (Standard Webhooks requires this). Idempotency layers take at most 255.
///
/// # Examples
///
/// ```
/// use tower_webhook::signature::MessageId;
///
/// let mine = MessageId::new("order-17-paid")?;
/// let random = MessageId::generate();
/// assert_ne!(random, MessageId::generate());
/// assert!(MessageId::new("order.17").is_err());
/// # let _ = mine;
/// # Ok::<(), tower_webhook::signature::SignError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct MessageId(HeaderValue);

impl MessageId {
    /// Makes an id from this text, such as the key of the event in your database.
    ///
    /// # Errors
    ///
    /// [`SignError::InvalidId`].
    pub fn new(id: &str) -> Result<Self, SignError> {
        let value = HeaderValue::from_str(id).map_err(|_| SignError::InvalidId)?;
        Self::from_value(value)
    }

    /// Makes a random id: `msg_` and 128 random bits in hexadecimal.
    ///
    /// The id is unique but not secret: each half is a keyed hash of a pseudo-random number, with a key from
    /// the operating system.
    #[expect(clippy::missing_panics_doc, reason = "it does not")]
    pub fn generate() -> Self {
        let text = format!("msg_{}", unique());
        // Invariant: hexadecimal digits and an underscore.
        #[expect(clippy::expect_used, reason = "visible ASCII")]
        let value = HeaderValue::try_from(text).expect("visible ASCII is a header value");
        Self(value)
    }

    fn from_value(value: HeaderValue) -> Result<Self, SignError> {
        if Self::is_valid(value.as_bytes()) {
            Ok(Self(value))
        } else {
            Err(SignError::InvalidId)
        }
    }

    /// Whether these bytes are an id.
    #[inline]
    pub(super) fn is_valid(bytes: &[u8]) -> bool {
        // A fold rather than a stop at the first bad byte, so that several bytes are checked at a time.
        let bad = |byte: &u8| !matches!(byte, b'!'..=b'~') || *byte == b'.';
        (1..=MAX_ID).contains(&bytes.len())
            && !bytes.iter().fold(false, |seen, byte| seen | bad(byte))
    }

    pub(super) const fn as_value(&self) -> &HeaderValue {
        &self.0
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // Visible ASCII by construction.
        self.0.to_str().unwrap_or_default()
    }
}

/// 128 random bits in hexadecimal.
pub(super) fn unique() -> String {
    let [first, second] = [(); 2].map(|()| RandomState::new().hash_one(fastrand::u64(..)));
    format!("{first:016x}{second:016x}")
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MessageId").field(&self.as_str()).finish()
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Gives each request a [`MessageId`], unless it has one. It belongs outside the retry, so that all
/// attempts have the same id.
///
/// The receiver can then deduplicate, so the request is also marked [`Repeatable`], unless it has such a
/// mark: retry layers may then repeat it, even a POST. This is right for schemes that send the id
/// (Standard Webhooks, Svix). With others, leave this layer out, and give the request a header by which
/// its receiver deduplicates.
///
/// Without this layer, and without an id header in the request, [`Sign`] gives each attempt its own id,
/// and the receiver cannot tell a repeated delivery from a new one.
///
/// # Examples
///
/// ```
/// use tower::ServiceBuilder;
/// use tower_webhook::SignLayer;
/// use tower_webhook::signature::{MessageIdLayer, scheme::StandardWebhooks};
///
/// let stack = ServiceBuilder::new()
///     .layer(MessageIdLayer::new())
///     // the retry layer stands here
///     .layer(SignLayer::new(StandardWebhooks::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?));
/// # let _ = stack;
/// # Ok::<(), tower_webhook::InvalidConfig>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct MessageIdLayer {
    _settings: (),
}

impl MessageIdLayer {
    /// Makes a layer that gives random ids.
    pub const fn new() -> Self {
        Self { _settings: () }
    }
}

impl<S> Layer<S> for MessageIdLayer {
    type Service = SetMessageId<S>;

    fn layer(&self, inner: S) -> SetMessageId<S> {
        SetMessageId { inner }
    }
}

/// Middleware of [`MessageIdLayer`].
#[derive(Clone, Debug)]
pub struct SetMessageId<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for SetMessageId<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut req: Request<B>) -> S::Future {
        let extensions = req.extensions_mut();
        extensions.get_or_insert_with(MessageId::generate);
        extensions.get_or_insert(Repeatable::Yes);
        self.inner.call(req)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Outcome, OutcomeKind};

    #[test]
    fn a_signing_error_is_never_retried() {
        let error = BoxError::from(SignError::InvalidId);
        let outcome = Outcome::of_error(&*error);
        assert_eq!(outcome.kind(), OutcomeKind::Unsendable);
        assert!(!outcome.may_retry());
        assert_eq!(
            error.to_string(),
            "not signed: the message id must be one, of 1 to 4096 visible ASCII characters without a full stop"
        );
    }

    #[test]
    fn ids() {
        for good in [
            "a",
            "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W",
            "~!,;=/",
            &"x".repeat(4096),
        ] {
            assert_eq!(
                MessageId::new(good).map(|id| id.to_string()).as_deref(),
                Ok(good)
            );
        }
        for bad in [
            "",
            ".",
            "a.b",
            "a b",
            "a\tb",
            "a\n",
            "é",
            "\u{7f}",
            &"x".repeat(4097),
        ] {
            assert_eq!(MessageId::new(bad), Err(SignError::InvalidId), "{bad:?}");
        }
        let generated = MessageId::generate();
        assert!(generated.as_str().starts_with("msg_"));
        assert_eq!(generated.as_str().len(), 36);
        assert!(MessageId::is_valid(generated.as_str().as_bytes()));
    }
}
