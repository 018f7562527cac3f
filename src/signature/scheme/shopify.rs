use super::{Generic, settled_generic};
use crate::{
    InvalidConfig,
    signature::{Encoding, Secrets},
};
use http::HeaderName;

/// Shopify: `X-Shopify-Hmac-Sha256: <base64>` over the body
/// ([its documentation](https://shopify.dev/docs/apps/build/webhooks/subscribe/https#step-2-validate-the-origin-of-your-webhook-to-ensure-its-coming-from-shopify)).
///
/// No timestamp and no id is signed, so a copy of a delivery passes for ever: put idempotency
/// behind it. `X-Shopify-Webhook-Id` is beside the signature, not under it.
#[derive(Clone, Debug)]
pub struct Shopify(Generic);

impl Shopify {
    /// The key is the text of the app's client secret.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `secrets`, as [`SigningKeys::replace`](crate::signature::SigningKeys::replace).
    pub fn new(secrets: impl Into<Secrets>) -> Result<Self, InvalidConfig> {
        Generic::builder(HeaderName::from_static("x-shopify-hmac-sha256"))
            .name("shopify")
            .encoding(Encoding::Base64)
            .build(secrets)
            .map(Self)
    }
}

settled_generic!(Shopify);
