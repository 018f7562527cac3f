use super::Scheme;
use crate::signature::{Message, SignatureError, Verified};
use http::{HeaderMap, HeaderValue};
use std::{fmt, time::Duration};

/// Several schemes on one route, the strongest first.
///
/// The first scheme that [recognizes](Scheme::recognizes) the request by its headers decides, and
/// its refusal is final: a signature that fails in a stronger scheme is not rescued by a weaker
/// one. Headers of the others are not looked at. Give each scheme a secret of its own.
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
    /// The strongest scheme.
    #[must_use]
    pub fn first(scheme: impl Scheme) -> Self {
        Self {
            first: Box::new(scheme),
            others: Vec::new(),
        }
    }

    /// The next scheme, for requests that carry no header of those before it.
    #[must_use]
    pub fn or(mut self, scheme: impl Scheme) -> Self {
        self.others.push(Box::new(scheme));
        self
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
        self.schemes()
            .find(|scheme| scheme.recognizes(message.headers()))
            // Nothing there at all: the first one says what is missing.
            .unwrap_or(&*self.first)
            .verify(message)
    }

    /// The longest, or `None` when one of them has none.
    fn replay_window(&self) -> Option<Duration> {
        self.schemes()
            .map(Scheme::replay_window)
            .reduce(|a, b| Some(a?.max(b?)))
            .flatten()
    }

    /// That of the first scheme that has one.
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
