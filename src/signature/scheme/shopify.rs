use super::{Generic, settled_generic};
use crate::{
    InvalidConfig,
    signature::{Encoding, Secrets},
};
use http::HeaderName;

/// Shopify: `X-Shopify-Hmac-Sha256: <base64>`, or `Shopify-Hmac-Sha256`, over the body
/// ([its documentation](https://shopify.dev/docs/apps/build/webhooks/subscribe/https#step-2-validate-the-origin-of-your-webhook-to-ensure-its-coming-from-shopify)).
///
/// Neither a timestamp nor an id is signed, so a copy of a delivery is accepted at any time: put an
/// idempotency layer inside. `X-Shopify-Webhook-Id` is not signed either.
#[derive(Clone, Debug)]
pub struct Shopify(Generic);

impl Shopify {
    /// Makes a scheme whose key is the text of the app's client secret.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `secrets`, as [`SigningKeys::replace`](crate::signature::SigningKeys::replace).
    pub fn new(secrets: impl Into<Secrets>) -> Result<Self, InvalidConfig> {
        Generic::builder(HeaderName::from_static("x-shopify-hmac-sha256"))
            .or_header(HeaderName::from_static("shopify-hmac-sha256"))
            .name("shopify")
            .encoding(Encoding::Base64)
            .build(secrets)
            .map(Self)
    }
}

settled_generic!(Shopify);
