//! The official platform: what its Webhook Endpoint delivers.

mod delivery;
mod source;

pub use self::{delivery::WebhookDelivery, source::Source};
