//! Signature schemes: the signed content and the headers of each provider.
//!
//! | Scheme | Headers | What the MAC covers | Written as | Key |
//! | --- | --- | --- | --- | --- |
//! | [`Cognigy`] hex, base64 | `X-Cognigy-Signature` | body | hex, base64 | the text |
//! | [`Cognigy`] `ts,base64` | `X-Cognigy-Signature` | body; **not** the timestamp | base64 | the text |
//! | [`Cognigy`] timestamped | `X-Cognigy-Signature` | `ts.body` | `t=ts,v1=hex` | the text |
//! | [`StandardWebhooks`] | `webhook-id`, `-timestamp`, `-signature`; `svix-*` | `id.ts.body` | `v1,base64` | `whsec_` + base64, decoded |
//! | the same, feature `ed25519` | the same | `id.ts.body` | `v1a,base64` | `whpk_`, `whsk_` + base64, decoded |
//! | [`Stripe`] | `Stripe-Signature` | `ts.body` | `t=ts,v1=hex` | the text, with `whsec_` |
//! | [`GitHub`] | `X-Hub-Signature-256` | body | `sha256=hex` | the text |
//! | [`Slack`] | `X-Slack-Signature`, `X-Slack-Request-Timestamp` | `v0:ts:body` | `v0=hex` | the text |
//! | [`Shopify`] | `X-Shopify-Hmac-Sha256` | body | base64 | the text |
//! | `HttpMessageSignatures`, feature `http-message-signatures` | `Signature-Input`, `Signature`, `Content-Digest` | method, target, digest of the body, `created`, any header | `label=:base64:` | the text, `hmac`; or PEM, `ed25519` |
//! | `Discord`, feature `ed25519` | `X-Signature-Ed25519`, `X-Signature-Timestamp` | `ts` and body | hex | public key, hex |
//! | `SendGrid`, feature `p256` | `X-Twilio-Email-Event-Webhook-Signature`, `-Timestamp` | `ts` and body | base64 | public key, base64 |
//! | [`Generic`] | any | any template, also with method and target | hex, base64, base64url | configurable |
//! | [`BasicAuth`], [`SharedToken`] | `Authorization`, any | **nothing**: the secret itself is sent | | |
//! | [`AnyOf`] | those of its schemes | | | |
//!
//! # Providers
//!
//! How to verify what these senders sign, and how it was tested: with the provider's own package, with a vector that the
//! provider published, or only with the rule of its documentation. In templates, `+` is nothing between two pieces.
//!
//! | Sender | Scheme | Tested with |
//! | --- | --- | --- |
//! | Box | template: `body + time`, RFC 3339, base64, [`or_header`](GenericBuilder::or_header) | `boxsdk` 10.18.0 (`PyPI`) |
//! | Chatwoot | template, in the docs of [`Generic`] | documentation |
//! | Clerk, Resend, and others that send through Svix | [`StandardWebhooks::svix`] | as Svix |
//! | Cognigy | [`Cognigy`] | vector of a tutorial |
//! | Discord | `Discord` | vector of `PyNaCl` that `discord-interactions` 0.4.0 (`PyPI`) accepts |
//! | GitHub, Meta | [`GitHub`] | vector of GitHub's documentation |
//! | GitLab | [`SharedToken::gitlab`] | documentation |
//! | HTTP Message Signatures (RFC 9421) | `HttpMessageSignatures` | `http-message-signatures` 3.0.0 (`PyPI`), vectors of RFC 9421 and RFC 9530 |
//! | `HubSpot` v3 | template, in the docs of [`Generic`] | `hubspot-api-client` 12.0.0 (`PyPI`) |
//! | Inngest | template: `body + time`, fields `t=..&s=..`, the key without its prefix | `inngest` 0.5.19 (`PyPI`) |
//! | Intercom | template: body, `sha1=`, [`LegacySha1`](crate::signature::Algorithm) | HMAC of another library |
//! | Jambonz | [`Stripe`] with another header | documentation |
//! | Linear | template: body | documentation |
//! | Outpost (Hookdeck) | template: body, `v0=`, separator `,`; or [`StandardWebhooks`] | documentation |
//! | Paddle | template, in the docs of [`Generic`] | documentation |
//! | `PagerDuty` | code: `examples/custom_scheme.rs` | documentation |
//! | Paystack | template: body, [`Sha512`](crate::signature::Algorithm::Sha512) | HMAC of another library |
//! | `SendGrid` | `SendGrid` | vector of `sendgrid` (`PyPI`) |
//! | Shopify | [`Shopify`] | documentation |
//! | Slack | [`Slack`] | `slack-sdk` 3.47.0 (`PyPI`), vector of its documentation |
//! | Standard Webhooks | [`StandardWebhooks`] | `standardwebhooks` 1.1.0 (`PyPI`), vectors of its libraries |
//! | Stripe | [`Stripe`] | `stripe` 16.1.0 (`PyPI`) |
//! | Svix | [`StandardWebhooks::svix`] | `svix` 2.9.1 (`PyPI`), `v1a` with a vector of its server |
//! | `WorkOS` | template: `time.body`, fields `t=.., v1=..`, milliseconds | HMAC of another library |
//! | Zendesk | template: `time + body`, RFC 3339, base64 | HMAC of another library |
//! | Zoom | template, in `examples/handshakes.rs` | documentation |
//!
//! What Meta, Dropbox, Slack and Zoom ask before they sign anything is answered in `examples/handshakes.rs`.
//!
//! # Secrets
//!
//! The scheme decides how a secret is decoded, and never guesses: `whsec_...` is base64 for one provider
//! and plain text for another. What is written as a public or private key is (PEM, DER, a JWK) is refused as the key of a MAC:
//! whoever knows the public key could sign.
//!
//! Use different secrets for different schemes. With one key, the MAC of `ts.body` in one scheme equals
//! the MAC of a body that begins with `ts.` in another.
//!
//! # Strictness
//!
//! Each header has one value of at most 4096 bytes. Timestamps consist of digits only. A signature decodes
//! to exactly the bytes of a MAC, without trailing bits, spaces or missing padding. Hexadecimal is lower case,
//! as all of these senders write it. Ids have visible ASCII characters without a full stop, which would let
//! bytes move between id, timestamp and body. A request that breaks a rule is refused before any MAC is
//! computed.
//!
//! Where a header may have several signatures, the first sixteen are tried, and one that is right is enough:
//! those that cannot be decoded, have another version or are wrong are ignored.
//!
//! The headers of HTTP Message Signatures are structured fields (RFC 9651), in one line or several, of at most 8192 bytes
//! together. What occurs twice in one is not used, and byte sequences have one spelling.
//!
//! # A scheme of your own
//!
//! Try [`Generic`] first. Otherwise implement [`Scheme`]. The parts of the schemes of this crate are public: keys that can
//! be replaced ([`Keyring`](crate::signature::Keyring)), encodings ([`Encoding`](crate::signature::Encoding)), times and
//! their tolerance ([`TimestampFormat`](crate::signature::TimestampFormat),
//! [`Tolerance::check`](crate::signature::Tolerance::check)), headers that occur once ([`Message::header`]).
//!
//! ```
//! use http::{HeaderMap, HeaderName};
//! use tower_webhook::SignatureVerifyLayer;
//! use tower_webhook::signature::{Message, Scheme, SignatureError, Verified};
//!
//! /// Accepts whoever knows the length of the body.
//! #[derive(Debug)]
//! struct Length;
//!
//! const HEADER: HeaderName = HeaderName::from_static("x-length");
//!
//! impl Scheme for Length {
//!     fn name(&self) -> &'static str {
//!         "length"
//!     }
//!
//!     fn recognizes(&self, headers: &HeaderMap) -> bool {
//!         headers.contains_key(&HEADER)
//!     }
//!
//!     fn verify(&self, message: &Message<'_>) -> Result<Verified, SignatureError> {
//!         if message.header(&HEADER)? != message.body().len().to_string().as_str() {
//!             return Err(SignatureError::Mismatch);
//!         }
//!         Ok(Verified::new(self.name()))
//!     }
//! }
//!
//! let layer = SignatureVerifyLayer::new(Length);
//! # let _ = layer;
//! ```

use super::{
    Defect, Head, Message, SignError, SignatureError, Verified,
    mac::{Tag, equal},
};
use http::{HeaderMap, HeaderValue};
use std::{fmt, sync::Arc, time::Duration};

mod basic;
mod cognigy;
mod generic;
mod github;
#[cfg(feature = "http-message-signatures")]
mod http_message_signatures;
#[cfg(any(feature = "ed25519", feature = "p256"))]
mod public_key;
mod shared_token;
mod shopify;
mod slack;
mod standard_webhooks;
mod stripe;

#[cfg(feature = "http-message-signatures")]
pub use self::http_message_signatures::HttpMessageSignatures;
#[cfg(feature = "ed25519")]
pub use self::public_key::Discord;
#[cfg(feature = "p256")]
pub use self::public_key::SendGrid;
pub use self::{
    basic::BasicAuth,
    cognigy::{Cognigy, CognigyFormat},
    generic::{Generic, GenericBuilder, Piece, SecretEncoding},
    github::GitHub,
    shared_token::SharedToken,
    shopify::Shopify,
    slack::Slack,
    standard_webhooks::StandardWebhooks,
    stripe::Stripe,
};

/// Verifies the signature of a message.
///
/// See the [module docs](self) for the schemes of this crate, and for how to write one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no signature scheme",
    label = "needs a signature scheme",
    note = "the schemes are in `tower_webhook::signature::scheme`: `StandardWebhooks::new(secret)?`; of a `Result`, take what is in it with `?`",
    note = "for a scheme of your own, implement `Scheme`"
)]
pub trait Scheme: Send + Sync + 'static {
    /// A short name from a closed set, for logs and metrics.
    fn name(&self) -> &'static str;

    /// Whether the request carries any of the headers of this scheme.
    ///
    /// [`AnyOf`] uses it to choose a scheme, and its choice is final. Return `true` for any header of the
    /// scheme; otherwise a caller who leaves out one header is verified by a weaker scheme.
    fn recognizes(&self, headers: &HeaderMap) -> bool;

    /// Verifies the signature. It must not block or panic, whatever the message contains, and must compare in
    /// constant time.
    ///
    /// # Errors
    ///
    /// [`SignatureError`]. The caller does not learn which one.
    fn verify(&self, message: &Message<'_>) -> Result<Verified, SignatureError>;

    /// Checks what needs no body: that the headers of the signature are there, once and well formed, that the
    /// timestamp is within the tolerance, and a credential that covers nothing, wholly. Default: accepts.
    ///
    /// It must refuse only what [`verify`](Self::verify) would refuse at the same time, whatever the body.
    /// [`before_body`](crate::SignatureVerifyLayer::before_body) calls it before the body is read.
    ///
    /// # Errors
    ///
    /// As [`verify`](Self::verify).
    fn verify_head(&self, head: &Head<'_>) -> Result<(), SignatureError> {
        let _ = head;
        Ok(())
    }

    /// How long one signed message is accepted: the sum of the tolerance in both directions. Default:
    /// `None`, for a signature without a timestamp, so that a message is accepted at any time.
    fn replay_window(&self) -> Option<Duration> {
        None
    }

    /// The `WWW-Authenticate` challenge of a refusal (RFC 9110 §11.6.1). Default: none, because a
    /// webhook signature is not a registered authentication scheme.
    fn challenge(&self) -> Option<HeaderValue> {
        None
    }
}

macro_rules! through_pointer {
    ($($pointer:ident),+) => {$(
        impl<T: Scheme + ?Sized> Scheme for $pointer<T> {
            fn name(&self) -> &'static str {
                (**self).name()
            }

            fn recognizes(&self, headers: &HeaderMap) -> bool {
                (**self).recognizes(headers)
            }

            fn verify(&self, message: &Message<'_>) -> Result<Verified, SignatureError> {
                (**self).verify(message)
            }

            fn verify_head(&self, head: &Head<'_>) -> Result<(), SignatureError> {
                (**self).verify_head(head)
            }

            fn replay_window(&self) -> Option<Duration> {
                (**self).replay_window()
            }

            fn challenge(&self) -> Option<HeaderValue> {
                (**self).challenge()
            }
        }
    )+};
}
through_pointer!(Arc, Box);

/// Several schemes on one route, the strongest first.
///
/// The first scheme that [recognizes](Scheme::recognizes) the headers of the request decides. Its
/// refusal is final: no weaker scheme is tried after it, and headers of the others are ignored. Give each
/// scheme its own secret.
///
/// # Examples
///
/// ```
/// use tower_webhook::SignatureVerifyLayer;
/// use tower_webhook::signature::scheme::{AnyOf, GitHub, StandardWebhooks};
///
/// let layer = SignatureVerifyLayer::new(
///     AnyOf::first(StandardWebhooks::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?)
///         .or(GitHub::new("It's a Secret to Everybody")?),
/// );
/// # let _ = layer;
/// # Ok::<(), tower_webhook::InvalidConfig>(())
/// ```
pub struct AnyOf {
    first: Box<dyn Scheme>,
    others: Vec<Box<dyn Scheme>>,
}

impl AnyOf {
    /// Sets the strongest scheme.
    #[must_use]
    pub fn first(scheme: impl Scheme) -> Self {
        Self {
            first: Box::new(scheme),
            others: Vec::new(),
        }
    }

    /// Adds a scheme for requests without any header of the schemes before it.
    #[must_use]
    pub fn or(mut self, scheme: impl Scheme) -> Self {
        self.others.push(Box::new(scheme));
        self
    }

    /// The scheme that decides on a request with these headers.
    fn of(&self, headers: &HeaderMap) -> &dyn Scheme {
        self.schemes()
            .find(|scheme| scheme.recognizes(headers))
            // No scheme recognizes the request: the first one reports what is missing.
            .unwrap_or(&*self.first)
    }

    fn schemes(&self) -> impl Iterator<Item = &dyn Scheme> {
        std::iter::once(&self.first)
            .chain(&self.others)
            .map(|scheme| &**scheme)
    }
}

impl Scheme for AnyOf {
    /// `any_of`; [`Verified::scheme`] has the name of the scheme that decided.
    fn name(&self) -> &'static str {
        "any_of"
    }

    fn recognizes(&self, headers: &HeaderMap) -> bool {
        self.schemes().any(|scheme| scheme.recognizes(headers))
    }

    fn verify(&self, message: &Message<'_>) -> Result<Verified, SignatureError> {
        self.of(message.headers()).verify(message)
    }

    fn verify_head(&self, head: &Head<'_>) -> Result<(), SignatureError> {
        self.of(head.headers()).verify_head(head)
    }

    /// The longest window, or `None` if one of the schemes has none.
    fn replay_window(&self) -> Option<Duration> {
        self.schemes()
            .map(Scheme::replay_window)
            .reduce(|a, b| Some(a?.max(b?)))
            .flatten()
    }

    /// The challenge of the first scheme that has one.
    fn challenge(&self) -> Option<HeaderValue> {
        self.schemes().find_map(Scheme::challenge)
    }
}

impl fmt::Debug for AnyOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.schemes().map(Scheme::name).collect::<Vec<_>>();
        f.debug_tuple("AnyOf").field(&names).finish()
    }
}

/// The largest number of signatures that are tried: those after them are ignored. Each costs a comparison for
/// each secret, not a MAC.
const MAX_SIGNATURES: usize = 16;

/// The signatures of one header, decoded, on the stack.
#[derive(Default)]
struct Candidates {
    first: Option<Tag>,
    /// Those after it, and their number. Most headers have none, and clearing the room for them takes as long as
    /// decoding one.
    others: Option<([Tag; MAX_SIGNATURES - 1], usize)>,
}

impl Candidates {
    /// Adds a signature, unless there are sixteen.
    #[inline]
    fn push(&mut self, tag: Tag) {
        if self.first.is_none() {
            self.first = Some(tag);
            return;
        }
        let (others, len) = self
            .others
            .get_or_insert(([[0; 32]; MAX_SIGNATURES - 1], 0));
        if let Some(place) = others.get_mut(*len) {
            *place = tag;
            *len += 1;
        }
    }

    #[inline]
    fn iter(&self) -> impl Iterator<Item = &Tag> {
        let others = self.others.as_ref();
        self.first
            .iter()
            .chain(others.map_or(&[][..], |(others, len)| &others[..*len]))
    }

    /// Returns what is wrong with a header if it had none, and this many that could not be decoded.
    #[inline]
    const fn or_defect(&self, undecodable: usize) -> Result<(), Defect> {
        match (self.first, undecodable) {
            (Some(_), _) => Ok(()),
            (None, 0) => Err(Defect::NoCandidate),
            (None, _) => Err(Defect::Encoding),
        }
    }

    /// Whether one of them is this MAC.
    #[inline]
    fn contain(&self, tag: &Tag) -> bool {
        self.iter().any(|candidate| equal(candidate, tag))
    }
}

/// The methods and traits of a scheme that wraps a configured [`Generic`].
macro_rules! settled_generic {
    ($scheme:ty) => {
        impl $scheme {
            /// The handle that [replaces](crate::signature::SigningKeys::replace) the secrets while
            /// requests are served.
            pub fn signing_keys(&self) -> crate::signature::SigningKeys {
                self.0.signing_keys()
            }

            /// Sets the name of the signature header, for senders that use this format under another name.
            /// Default: the name in the table above.
            #[must_use]
            pub fn header(self, name: http::HeaderName) -> Self {
                Self(self.0.header(name))
            }
        }

        impl crate::signature::Scheme for $scheme {
            fn name(&self) -> &'static str {
                self.0.name()
            }

            fn recognizes(&self, headers: &http::HeaderMap) -> bool {
                self.0.recognizes(headers)
            }

            fn verify(
                &self,
                message: &crate::signature::Message<'_>,
            ) -> Result<crate::signature::Verified, crate::signature::SignatureError> {
                self.0.verify(message)
            }

            fn verify_head(
                &self,
                head: &crate::signature::Head<'_>,
            ) -> Result<(), crate::signature::SignatureError> {
                self.0.verify_head(head)
            }

            fn replay_window(&self) -> Option<std::time::Duration> {
                self.0.replay_window()
            }
        }

        impl crate::signature::SignScheme for $scheme {
            fn sign(
                &self,
                message: &crate::signature::Outgoing<'_>,
                headers: &mut http::HeaderMap,
            ) -> Result<(), crate::signature::SignError> {
                self.0.sign(message, headers)
            }
        }
    };
}
use settled_generic;

/// A signature as a header value that neither `Debug` nor HPACK tables keep.
fn sensitive(text: String) -> Result<HeaderValue, SignError> {
    let mut value = HeaderValue::try_from(text).map_err(|_| SignError::HeaderValue)?;
    value.set_sensitive(true);
    Ok(value)
}
