use super::{Generic, Piece, settled_generic};
use crate::{
    InvalidConfig,
    signature::{Secrets, Tolerance},
};
use http::HeaderName;

/// Slack: `X-Slack-Signature: v0=<hex>` over `v0:ts:body`, with `X-Slack-Request-Timestamp`
/// ([its documentation](https://api.slack.com/authentication/verifying-requests-from-slack)).
#[derive(Clone, Debug)]
pub struct Slack(Generic);

impl Slack {
    /// Makes a scheme whose key is the text of the app's signing secret.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `secrets`, as [`SigningKeys::replace`](crate::signature::SigningKeys::replace).
    pub fn new(secrets: impl Into<Secrets>) -> Result<Self, InvalidConfig> {
        Generic::builder(HeaderName::from_static("x-slack-signature"))
            .name("slack")
            .prefix("v0=")
            .timestamp_header(HeaderName::from_static("x-slack-request-timestamp"))
            .content(["v0:".into(), Piece::Timestamp, ":".into(), Piece::Body])
            .build(secrets)
            .map(Self)
    }

    /// Sets the tolerance of the timestamp. Default: 300 seconds in both directions, as Slack recommends.
    #[must_use]
    pub fn tolerance(self, tolerance: impl Into<Tolerance>) -> Self {
        Self(self.0.tolerance(tolerance.into()))
    }
}

settled_generic!(Slack);
