use super::{Generic, Piece, settled_generic};
use crate::{
    InvalidConfig,
    signature::{Secrets, Tolerance},
};
use http::HeaderName;

/// Stripe: `Stripe-Signature: t=<seconds>,v1=<hex>[,v1=<hex>]` over `t.body`
/// ([its documentation](https://docs.stripe.com/webhooks#verify-manually)).
///
/// Other versions (`v0`) are passed over. Unlike Stripe's libraries, a timestamp too far in the
/// future is refused, and so is a second `t`, on which those libraries disagree. The id of the
/// event is in the body.
///
/// `t=..,v1=..` is a common format. [jambonz](https://docs.jambonz.org/guides/features/securing-http-endpoints),
/// the engine behind Voice Gateway, writes it to a header of its own:
///
/// ```
/// use http::HeaderName;
/// use tower_webhook::signature::scheme::Stripe;
///
/// let stripe = Stripe::new("whsec_...")?;
/// let jambonz = Stripe::new("...")?.header(HeaderName::from_static("jambonz-signature"));
/// # let _ = (stripe, jambonz);
/// # Ok::<(), tower_webhook::InvalidConfig>(())
/// ```
#[derive(Clone, Debug)]
pub struct Stripe(Generic);

impl Stripe {
    /// The key is the text of the secret as it stands, `whsec_` included: Stripe does not decode
    /// it, as [`StandardWebhooks`](super::StandardWebhooks) does.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `secrets`, as [`Keys::replace`](crate::signature::Keys::replace).
    pub fn new(secrets: impl Into<Secrets>) -> Result<Self, InvalidConfig> {
        Generic::builder(HeaderName::from_static("stripe-signature"))
            .name("stripe")
            .fields(',', "t", "v1")
            .content([Piece::Timestamp, ".".into(), Piece::Body])
            .build(secrets)
            .map(Self)
    }

    /// How far the timestamp may lie from our clock. Default: 300 seconds both ways.
    #[must_use]
    pub fn tolerance(self, tolerance: impl Into<Tolerance>) -> Self {
        Self(self.0.tolerance(tolerance.into()))
    }
}

settled_generic!(Stripe);
