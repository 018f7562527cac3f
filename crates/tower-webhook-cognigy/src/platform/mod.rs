//! The official platform, Cognigy.AI: its messages, and what is posted around it.
//!
//! | Module | Content |
//! | --- | --- |
//! | [`message`] | `data` of an output or an input: `_cognigy`, plugins, uploaded files; typed, and built for sending |
//! | [`handover`] | status of a handover, providers, what Genesys posts |
//! | [`live_agent`] | events of Live Agent and of Chatwoot |
//! | [`voice`] | events and status of calls of Voice Gateway |
//! | [`signature`] | signature schemes of these senders |
//! | [`limits`] | limits of the platform |
//!
//! The deliveries of a Webhook Endpoint are
//! [`WebhookDelivery`](tower_webhook::cognigy::WebhookDelivery) of the library. The types for bodies implement
//! `Deserialize`, for axum's `Json` or the library's `Signed<Json<T>>`, which names the field that does not fit. How much is
//! read is bounded where the body is buffered.
//!
//! # Sources
//!
//! Nothing here is guessed silently. The marks are used throughout this module:
//!
//! | Mark | Source |
//! | --- | --- |
//! | O | the platform's documentation and packages |
//! | O? | the same, in an old copy: `@cognigy/rest-api-client` 0.19.0 of 2024, the documentation of October 2025 |
//! | 3 | a third party |
//! | I | an inference |
//!
//! | What | Source |
//! | --- | --- |
//! | `data._cognigy`: all fields | O: typings of `@cognigy/socket-client` 5.0.0-beta.26; `fallbackText`, `intentName`, `trigger_intent` and `event`: documentation |
//! | the status of a handover | O? |
//! | the body for `/handover/genesysCloudOM`, handover providers | O |
//! | the names of the handover services | O? |
//! | Live Agent's events | O |
//! | Chatwoot's events and signature | 3; that Live Agent sends them: I |
//! | Voice Gateway's events and the names of the statuses of a call | O |
//! | the fields posted to `notifyUrl`, beside the status | I |
//! | Voice Gateway's signature | 3 (jambonz); that Voice Gateway keeps the header: I |
//! | `NiCE` Expert's signature | O |
//! | the limits | O |

pub mod handover;
pub mod limits;
pub mod live_agent;
pub mod message;
mod open;
pub mod signature;
pub mod voice;
