use super::{Generic, settled_generic};
use crate::{InvalidConfig, signature::Secrets};
use http::HeaderName;

/// GitHub: `X-Hub-Signature-256: sha256=<hex>` over the body
/// ([its documentation](https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries)).
/// `WebSub` hubs and Meta use the same signature.
///
/// Neither a timestamp nor an id is signed, so a copy of a delivery is accepted at any time: put an
/// idempotency layer inside, with a key from the body. The older `X-Hub-Signature` (SHA-1) is ignored.
///
/// # Examples
///
/// ```
/// use tower_webhook::{SignatureVerifyLayer, signature::scheme::GitHub};
///
/// let layer = SignatureVerifyLayer::new(GitHub::new("It's a Secret to Everybody")?);
/// # let _ = layer;
/// # Ok::<(), tower_webhook::InvalidConfig>(())
/// ```
#[derive(Clone, Debug)]
pub struct GitHub(Generic);

impl GitHub {
    /// Makes a scheme whose key is the text of the secret.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `secrets`, as [`SigningKeys::replace`](crate::signature::SigningKeys::replace).
    pub fn new(secrets: impl Into<Secrets>) -> Result<Self, InvalidConfig> {
        Generic::builder(HeaderName::from_static("x-hub-signature-256"))
            .name("github")
            .prefix("sha256=")
            .build(secrets)
            .map(Self)
    }
}

settled_generic!(GitHub);
