//! The official platform, Cognigy.AI: its management API, its endpoints, its messages, and what is posted around it.
//!
//! | Item | Content |
//! | --- | --- |
//! | [`ApiClient`] | management API: endpoints and their keys, sessions, tasks, audit events, conversations, profiles, logs, handover providers |
//! | [`EndpointClient`] | messages to a flow (`send`, `inject`) and to its user (`notify`) |
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
//! read is bounded where the body is buffered. The API of the five documents is another one:
//! [`documents`](crate::documents).
//!
//! # Examples
//!
//! ```no_run
//! use futures_util::TryStreamExt;
//! use tower_webhook_cognigy::{
//!     credential::Credential,
//!     platform::{ApiClient, Channel, Host, ListQuery, WebhookSettings},
//! };
//!
//! # async fn run() -> Result<(), tower_webhook::BoxError> {
//! let api = ApiClient::new(&Host::Trial, Credential::api_key("an API key")?)?;
//! let project = "667ed4ae16d66f47dc2a9400".parse()?;
//!
//! let settings = WebhookSettings::new("https://hooks.example.com/cognigy")?
//!     .basic_auth("cognigy", "a long random text")?;
//! let endpoint = api.register_webhook(&project, "Orders", "the flow's reference id", &settings).await?;
//! let key = api.create_endpoint_key(&endpoint.id, "the shop").await?;
//! println!("made {}, keep its key {:?}", endpoint.id, key.info.key_preview);
//!
//! let mut endpoints = std::pin::pin!(api.endpoints(ListQuery::new().project(&project)));
//! while let Some(endpoint) = endpoints.try_next().await? {
//!     if endpoint.channel == Some(Channel::Webhook) {
//!         println!("{}: {:?}", endpoint.id, endpoint.name);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Retries
//!
//! By [`connection`](crate::connection), whose defaults are the delays of the platform's own client. Where that client and
//! these rules differ:
//!
//! | | Its own client (O?) | Here |
//! | --- | --- | --- |
//! | statuses | 408, 429, 5xx except 511 | the same except 501 and 505, which no repetition changes; and 425 |
//! | methods | GET, HEAD, OPTIONS, PUT, DELETE | the same |
//! | no connection | any method | the same |
//! | a connection that breaks | any method | of the methods above: another request may have arrived |
//! | a name that is not known | never | as no connection: resolvers say the same while they fail |
//! | a time limit | never | of the methods above |
//! | a certificate that is refused | never | the same |
//! | `Retry-After` | misread: "5" is a date to it | seconds or a date, and capped |
//! | body of a GET | the query once more, as JSON, for which an installation may answer 403 | none |
//!
//! # Errors
//!
//! [`ApiError`](crate::ApiError), with the platform's own code in [`ErrorCode::of`]: a number or a text on the wire (O has
//! both).
//!
//! # What is read
//!
//! Of the answers of the management API, a field whose value is not of its type, such as a time as text or an empty token, is
//! in `other` as it was read, and its own field is `None`. What is required must fit, or the page with it is an error: an
//! id, because calls are made of it, and a status. Messages are [stricter](message#what-is-read).
//!
//! Numbers keep their value if they are of `i64`, `u64` or `f64`. An integer beyond `u64` becomes the nearest `f64`; a number
//! beyond `f64`, such as `1e400`, cannot be read wherever it stands.
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
//! | hosts of the API, `/new/v2.0`, `X-API-Key`, `limit`, `skip`, `next`, `nextCursor` | O |
//! | endpoint hosts other than trial's | I; of `CXone` 3 |
//! | list, read, change an endpoint; make and list its keys | O |
//! | revoke a key | O that it can be done; its route I |
//! | make an endpoint, the settings of a webhook, batch | O? |
//! | context of a session, reset of its state | O |
//! | injecting the state of a session | O? |
//! | read a task, its fields | O; list and cancel O? |
//! | audit events, conversations, handover providers | O; their lists and deletions partly O? |
//! | profiles, logs | O? |
//! | codes of errors | O? |
//! | messages to an endpoint, its reply, `X-Webhook-Key` | O |
//! | `/inject/{URLToken}`, `/notify/{URLToken}` | O; their attachments I |
//! | the old routes of inject and notify | O, deprecated |
//! | `data._cognigy`: all fields | O: typings of `@cognigy/socket-client` 5.0.0-beta.26; `fallbackText`, `intentName`, `trigger_intent` and `event`: documentation |
//! | the status of a handover | O? |
//! | the body for `/handover/genesysCloudOM` | O |
//! | the names of the handover services | O? |
//! | Live Agent's events | O |
//! | Chatwoot's events and signature | 3; that Live Agent sends them: I |
//! | Voice Gateway's events and the names of the statuses of a call | O |
//! | the fields posted to `notifyUrl`, beside the status | I |
//! | Voice Gateway's signature | 3 (jambonz); that Voice Gateway keeps the header: I |
//! | `NiCE` Expert's signature | O |
//! | the limits | O |
//!
//! # Not settled
//!
//! | Question | What this module does |
//! | --- | --- |
//! | who may call `/inject/{URLToken}` and `/notify/{URLToken}`, and with which body exactly | sends `{userId, sessionId, text, data}`, and the credential of the connection, whose header can be any |
//! | have the old routes gone | [`legacy_inject`](ApiClient::legacy_inject) explains a 404 and a 410 |
//! | what a Webhook Endpoint responds to a message | a 2xx that is empty, JSON or a word such as `OK` is [`Reply::Accepted`]; another text is an error |
//! | the status for a wrong `X-Webhook-Key` | whatever it is, it is an error with this status |
//! | timeout, retries and order of a Webhook Endpoint's deliveries | answer 200 at once |
//! | the headers of Live Agent's and Voice Gateway's signatures | those of Chatwoot and jambonz; Voice Gateway's can be set |
//! | newer typings of the management API | fields without a type are kept in `other` |

mod api;
mod endpoint;
mod error_code;
mod fields;
pub mod handover;
mod host;
mod id;
pub mod limits;
mod list;
pub mod live_agent;
pub mod message;
mod open;
mod resources;
pub mod signature;
pub mod voice;

pub use self::{
    api::ApiClient,
    endpoint::{Attachment, AttachmentType, EndpointClient, Message, Output, Reply, RestReply},
    error_code::ErrorCode,
    fields::{EndpointFields, EndpointOperation, WebhookSettings},
    host::Host,
    id::{MongoId, UrlToken},
    list::ListQuery,
    resources::{
        AuditEvent, AuditEventType, Channel, Conversation, ConversationEntry, ConversationSource,
        Endpoint, EndpointKey, LogEntry, LogLevel, ModifiedResource, NewEndpointKey, Profile, Task,
        TaskStatus, Transformer,
    },
};
