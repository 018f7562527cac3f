//! Signature schemes of the senders around the platform, for
//! [`SignatureVerifyLayer`](tower_webhook::SignatureVerifyLayer).
//!
//! | Sender | Scheme | Header | What the MAC covers | Source |
//! | --- | --- | --- | --- | --- |
//! | Webhook Endpoint | [`BasicAuth`](tower_webhook::signature::scheme::BasicAuth) | `Authorization` | nothing | O |
//! | Chatwoot, on which Live Agent is built | [`chatwoot`] | `X-Chatwoot-Signature: sha256=<hex>` | `ts.body` | 3; that Live Agent sends it: I |
//! | Voice Gateway, as jambonz | [`voice_gateway`] | `Jambonz-Signature: t=..,v1=<hex>` | `ts.body` | 3; that Voice Gateway sends it: I |
//! | `NiCE` Expert | [`nice_expert`] | `X-Nexus-Signature-256: sha256=<hex>` | `ts.body` | O |
//!
//! The marks are those of the [module above](super#sources). The platform's own deliveries are not signed. Genesys signs
//! with `X-Hub-Signature-256`, which is [`GitHub`](tower_webhook::signature::scheme::GitHub).
//!
//! # Examples
//!
//! ```
//! use tower_webhook::SignatureVerifyLayer;
//! use tower_webhook_cognigy::platform::signature;
//!
//! let layer = SignatureVerifyLayer::new(signature::chatwoot("the webhook's secret")?);
//! # let _ = layer;
//! # Ok::<_, tower_webhook::InvalidConfig>(())
//! ```

use http::HeaderName;
use tower_webhook::{
    InvalidConfig,
    signature::{
        Secrets,
        scheme::{Generic, Piece, Stripe},
    },
};

/// The delivery id of a Chatwoot webhook. It is not signed.
pub const CHATWOOT_DELIVERY: HeaderName = HeaderName::from_static("x-chatwoot-delivery");
/// The delivery id of a `NiCE` Expert webhook. It is not signed.
pub const NICE_EXPERT_DELIVERY: HeaderName = HeaderName::from_static("x-nexus-delivery-id");
/// The type of the event of a `NiCE` Expert webhook, such as `Page_Create`. It is not signed.
pub const NICE_EXPERT_EVENT_TYPE: HeaderName = HeaderName::from_static("x-nexus-event-type");

/// Chatwoot: `X-Chatwoot-Signature: sha256=<hex of ts.body>` and `X-Chatwoot-Timestamp`, in seconds.
///
/// The tolerance is 300 seconds in both directions. Chatwoot documents none.
///
/// # Errors
///
/// [`InvalidConfig`] for `secrets`, if there is none or one is empty.
pub fn chatwoot(secrets: impl Into<Secrets>) -> Result<Generic, InvalidConfig> {
    timestamped(
        "chatwoot",
        HeaderName::from_static("x-chatwoot-signature"),
        HeaderName::from_static("x-chatwoot-timestamp"),
        secrets,
    )
}

/// `NiCE` Mpower Expert: `X-Nexus-Signature-256: sha256=<hex of ts.body>` and `X-Nexus-Timestamp`, in seconds.
///
/// The sender waits one second for the response, and repeats after a 5xx: answer first, work later. The body is
/// XML (`text/xml`). The tolerance is 300 seconds in both directions. Expert documents none.
///
/// # Errors
///
/// [`InvalidConfig`] for `secrets`, if there is none or one is empty.
pub fn nice_expert(secrets: impl Into<Secrets>) -> Result<Generic, InvalidConfig> {
    timestamped(
        "nice_expert",
        HeaderName::from_static("x-nexus-signature-256"),
        HeaderName::from_static("x-nexus-timestamp"),
        secrets,
    )
}

/// Voice Gateway: `Jambonz-Signature: t=<seconds>,v1=<hex of t.body>[,v1=..]`, with a tolerance of 300 seconds.
///
/// The format is that of jambonz, from which Voice Gateway is made (3). That Voice Gateway keeps the name of the
/// header is an inference (I): its documentation only says that there is a webhook secret. Set another name with
/// [`header`](Stripe::header).
///
/// # Errors
///
/// [`InvalidConfig`] for `secrets`, if there is none or one is empty.
pub fn voice_gateway(secrets: impl Into<Secrets>) -> Result<Stripe, InvalidConfig> {
    Ok(Stripe::new(secrets)?.header(HeaderName::from_static("jambonz-signature")))
}

/// `<header>: sha256=<hex of ts.body>` with the timestamp in a header of its own.
fn timestamped(
    name: &'static str,
    header: HeaderName,
    timestamp: HeaderName,
    secrets: impl Into<Secrets>,
) -> Result<Generic, InvalidConfig> {
    Generic::builder(header)
        .name(name)
        .prefix("sha256=")
        .timestamp_header(timestamp)
        .content([Piece::Timestamp, ".".into(), Piece::Body])
        .build(secrets)
}
