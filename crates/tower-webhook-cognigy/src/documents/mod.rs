//! The webhook API of the five documents: register, list, set a retry policy, validate.
//!
//! **This is not the official platform**, which is in [`platform`](crate::platform): the routes, bodies and
//! event names here are those of five tutorials (S0 to S4) and have no trace in Cognigy's own documentation. Use it for a
//! gateway or an in-house service that speaks their contract. Where the documents disagree about a path, both are there;
//! all [`Paths`] can be set.
//!
//! | Call | Document | Request |
//! | --- | --- | --- |
//! | [`list`](Webhooks::list) | S0 | `GET /api/v2/bots/{bot}/webhooks?pageSize=100&cursor=` |
//! | [`set_retry_policy`](Webhooks::set_retry_policy) | S0 | `PATCH /api/v2/bots/{bot}/webhooks/{webhook}` |
//! | [`register`](Webhooks::register) a [`WebhookDefinition`] | S1 | `POST /api/v2/webhooks` |
//! | [`register`](Webhooks::register) a [`WebhookEndpoint`] | S2 | `POST /api/v2/webhooks` |
//! | [`register`](Webhooks::register) an [`EventWebhook`] | S4 | `POST /api/v1/webhooks` |
//! | [`execution_limits`](Webhooks::execution_limits), [`validate`](Webhooks::validate) | S1 | `GET /api/v2/flows/execution-limits` |
//! | [`Monitor::post`] | S2 | `POST` to a monitoring URL |
//!
//! # Examples
//!
//! ```no_run
//! use futures_util::TryStreamExt;
//! use tower_webhook_cognigy::{
//!     credential::Credential,
//!     documents::{RetryPolicy, WebhookEndpoint, Webhooks},
//! };
//!
//! # async fn run() -> Result<(), tower_webhook::BoxError> {
//! let api = Webhooks::new("https://api.cognigy.ai", Credential::api_key("an api key")?)?;
//!
//! let orders = WebhookEndpoint::builder("orders", "https://example.com/hooks").build()?;
//! println!("registered as {}", api.register(orders).await?.id());
//!
//! let mut hooks = std::pin::pin!(api.list("bot-1"));
//! let policy = RetryPolicy::builder().max_attempts(5).build()?;
//! while let Some(hook) = hooks.try_next().await? {
//!     if let Some(id) = hook.id() {
//!         api.set_retry_policy("bot-1", id, &policy, "retry-config-v1").await?;
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Errors
//!
//! [`ApiError`]. What its [kinds](crate::ApiErrorKind) mean here, by the documents:
//!
//! | Status | Meaning |
//! | --- | --- |
//! | 400, 422 | a field has a value outside the schema |
//! | 401 | the credential is missing, malformed, expired, or of another region |
//! | 403 | the scope `webhooks:write` is missing, or the role |
//! | 409 | the webhook is locked by another process, or the idempotency key was used with another payload |
//! | 429 | more than the rate limit, typically 60 requests a minute for a key |
//!
//! # Cancel safety
//!
//! As [`connection`](crate::connection): what was asked for may have been done. A stream that is dropped ends its request.

mod audit;
mod model;

pub use self::{
    audit::{Monitor, RegistrationRecord, RetryExhausted, RetrySuccess},
    model::{
        BackoffStrategy, EventWebhook, IntervalRetries, NewWebhook, RetryPolicy,
        RetryPolicyBuilder, TimeoutPipeline, WebhookDefinition, WebhookDefinitionBuilder,
        WebhookEndpoint, WebhookEndpointBuilder,
    },
};
#[doc(no_inline)]
pub use crate::hook::{PayloadFormat, TriggerCondition, TriggerType};

use crate::{
    ApiError,
    connection::{Connection, Pages, request, request_json, segment, with_query},
    credential::Credential,
    rate_limit::RateLimitLayer,
};
use futures_util::stream::{self, Stream, StreamExt, TryStreamExt};
use http::{HeaderName, HeaderValue, Method};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeMap};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    error::Error,
    fmt, iter,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tower_webhook::{InvalidConfig, outcome::Unsendable};

/// The page size of lists.
const PAGE_SIZE: &str = "100";

/// The greatest number of webhooks whose last retry policy is remembered.
const MAX_REMEMBERED: usize = 10_000;

/// A client of the documents' API. Clones share everything.
#[derive(Clone)]
pub struct Webhooks {
    connection: Connection,
    paths: Arc<Paths>,
    applied: Arc<Mutex<HashMap<[u8; 32], Applied>>>,
}

/// What is known of the policy of a webhook.
#[derive(Default)]
struct Applied {
    /// The digest of the one that was set last.
    last: Option<[u8; 32]>,
    /// Calls that set one now.
    running: u32,
    /// Whether calls ran at the same time since none did: nobody knows which the server took last.
    mixed: bool,
}

impl fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhooks")
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

/// The paths of the API, and the name of a header. Each default is the documents' value.
#[derive(Clone, Debug)]
#[must_use]
pub struct Paths {
    bot_webhooks: String,
    webhooks: String,
    event_webhooks: String,
    execution_limits: String,
    idempotency_key: HeaderName,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            bot_webhooks: "/api/v2/bots/{bot}/webhooks".to_owned(),
            webhooks: "/api/v2/webhooks".to_owned(),
            event_webhooks: "/api/v1/webhooks".to_owned(),
            execution_limits: "/api/v2/flows/execution-limits".to_owned(),
            idempotency_key: HeaderName::from_static("idempotency-key"),
        }
    }
}

impl Paths {
    /// Sets the path of a bot's webhooks, in which `{bot}` stands for the bot's id. Default:
    /// `/api/v2/bots/{bot}/webhooks`.
    pub fn bot_webhooks(mut self, path: impl Into<String>) -> Self {
        self.bot_webhooks = path.into();
        self
    }

    /// Sets the path for registering the forms of S1 and S2. Default: `/api/v2/webhooks`.
    pub fn webhooks(mut self, path: impl Into<String>) -> Self {
        self.webhooks = path.into();
        self
    }

    /// Sets the path for registering the form of S4. Default: `/api/v1/webhooks`.
    pub fn event_webhooks(mut self, path: impl Into<String>) -> Self {
        self.event_webhooks = path.into();
        self
    }

    /// Sets the path of the execution limits. Default: `/api/v2/flows/execution-limits`.
    pub fn execution_limits(mut self, path: impl Into<String>) -> Self {
        self.execution_limits = path.into();
        self
    }

    /// Sets the header of the idempotency key of a retry policy. Default: `Idempotency-Key`.
    pub fn idempotency_key(mut self, name: HeaderName) -> Self {
        self.idempotency_key = name;
        self
    }

    fn of_bot(&self, bot: &str) -> Result<String, Unsendable> {
        Ok(self
            .bot_webhooks
            .replace("{bot}", &segment("the bot", bot)?))
    }
}

/// A webhook as the API lists it. The documents do not say its fields: all that it has are kept.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ListedWebhook(Map<String, Value>);

/// Shows the names of the fields: a server may repeat a secret.
impl fmt::Debug for ListedWebhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl ListedWebhook {
    /// The id: `id`, or `_id`.
    pub fn id(&self) -> Option<&str> {
        let id = self.0.get("id").or_else(|| self.0.get("_id"));
        id.and_then(Value::as_str)
    }

    /// The name.
    pub fn name(&self) -> Option<&str> {
        self.0.get("name").and_then(Value::as_str)
    }

    /// All fields.
    pub const fn fields(&self) -> &Map<String, Value> {
        &self.0
    }
}

/// One page of a list. Both keys are optional.
#[derive(Deserialize)]
struct Page {
    items: Option<Vec<ListedWebhook>>,
    pagination: Option<Pagination>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pagination {
    next_cursor: Option<Cursor>,
}

/// S0 goes on until the cursor is falsy.
#[derive(Deserialize)]
#[serde(untagged)]
enum Cursor {
    Text(String),
    Number(serde_json::Number),
    Flag(bool),
}

impl Cursor {
    fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => (!text.is_empty()).then_some(text),
            Self::Number(number) => (number.as_f64() != Some(0.0)).then(|| number.to_string()),
            Self::Flag(flag) => flag.then(|| flag.to_string()),
        }
    }
}

/// The answer to a registration.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Registered {
    #[serde(deserialize_with = "id")]
    id: String,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// An id that is text, or a number, as text.
fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(id) if !id.is_empty() => Ok(id),
        Value::Number(id) => Ok(id.to_string()),
        _ => Err(de::Error::custom("an id must be text or a number")),
    }
}

/// Shows the id and the names of the other fields: a server may repeat a secret.
impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registered")
            .field("id", &self.id)
            .field("more", &self.more.keys())
            .finish()
    }
}

impl Registered {
    /// The id of the webhook.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its status, such as `active` (S1).
    pub fn status(&self) -> Option<&str> {
        self.more.get("status").and_then(Value::as_str)
    }

    /// When it was made, as RFC 3339 text (S1: `created_at`).
    pub fn created_at(&self) -> Option<&str> {
        self.more.get("created_at").and_then(Value::as_str)
    }

    /// All fields but the id.
    pub const fn more(&self) -> &Map<String, Value> {
        &self.more
    }
}

/// What became of a retry policy.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum PolicyUpdate {
    /// The webhook had this policy already, by this client: no request was sent. As JSON, in S0's form:
    /// `{"status":"skipped","reason":"idempotent_duplicate"}`.
    Skipped,
    /// The API took the policy, and answered this.
    Updated(Value),
}

/// Leaves out what the API answered.
impl fmt::Debug for PolicyUpdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Skipped => "Skipped",
            Self::Updated(_) => "Updated(..)",
        })
    }
}

impl Serialize for PolicyUpdate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Skipped => {
                let mut map = serializer.serialize_map(Some(2))?;
                map.serialize_entry("status", "skipped")?;
                map.serialize_entry("reason", "idempotent_duplicate")?;
                map.end()
            }
            Self::Updated(answer) => answer.serialize(serializer),
        }
    }
}

/// What the API permits to a flow's webhooks (S1). A value that is missing is the documents'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutionLimits {
    /// The longest time limit of a delivery, in seconds. Default: 30.
    #[serde(default = "ExecutionLimits::timeout")]
    pub max_webhook_timeout_seconds: u64,
    /// The longest payload, in kilobytes. Default: 256.
    #[serde(default = "ExecutionLimits::payload")]
    pub max_webhook_payload_kb: u64,
}

impl ExecutionLimits {
    const fn timeout() -> u64 {
        30
    }

    const fn payload() -> u64 {
        256
    }

    /// Whether a definition is within the limits.
    pub fn permit(&self, definition: &WebhookDefinition) -> bool {
        definition.timeout() <= Duration::from_secs(self.max_webhook_timeout_seconds)
            && u64::from(definition.max_payload_size_kb()) <= self.max_webhook_payload_kb
    }
}

/// The result of validating a definition (S1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Validation {
    /// Whether the target answered.
    pub endpoint_reachable: bool,
    /// Whether the definition is within the API's limits. `None`, as JSON `null`: the limits could not be read, which is
    /// no permission (S1 takes it for one).
    pub within_flow_limits: Option<bool>,
}

/// The result of one registration of [`Webhooks::register_all`]. As JSON it has S2's form: `endpoint`, `success`, and
/// `data` or `error`, the error with its causes.
#[derive(Debug)]
pub struct BulkItem {
    /// The place in the list that was given, from 0.
    pub index: usize,
    /// The name of the webhook.
    pub name: String,
    /// What became of it.
    pub result: Result<Registered, ApiError>,
}

impl Serialize for BulkItem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("endpoint", &self.name)?;
        map.serialize_entry("success", &self.result.is_ok())?;
        match &self.result {
            Ok(data) => map.serialize_entry("data", data)?,
            Err(error) => {
                let causes = iter::successors(error.source(), |&cause| cause.source());
                let causes = causes.map(|cause| format!(": {cause}"));
                let said = iter::once(error.to_string()).chain(causes);
                map.serialize_entry("error", &said.collect::<String>())?;
            }
        }
        map.end()
    }
}

impl Webhooks {
    /// A client of the API at this address, with the documents' rate limit of 60 requests a minute.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] names `base`.
    pub fn new(base: impl Into<String>, credential: Credential) -> Result<Self, InvalidConfig> {
        let connection = Connection::builder(base)
            .credential(credential)
            .rate_limit(RateLimitLayer::documents());
        Ok(Self::over(connection.build()?))
    }

    /// A client over a connection with settings of its own.
    pub fn over(connection: Connection) -> Self {
        Self {
            connection,
            paths: Arc::default(),
            applied: Arc::default(),
        }
    }

    /// Sets the paths. Default: the documents'.
    #[must_use]
    pub fn paths(mut self, paths: Paths) -> Self {
        self.paths = Arc::new(paths);
        self
    }

    /// The connection.
    pub const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Lists the webhooks of a bot, page by page, as they are asked for (S0).
    ///
    /// # Errors
    ///
    /// The stream ends with the first [`ApiError`]. A cursor that comes again, or more than 10,000 pages, is
    /// [`UnexpectedResponse`](crate::ApiErrorKind::UnexpectedResponse).
    pub fn list(&self, bot: &str) -> impl Stream<Item = Result<ListedWebhook, ApiError>> + use<> {
        const OPERATION: &str = "list webhooks";
        struct At {
            api: Webhooks,
            bot: String,
            cursor: Option<String>,
            pages: Pages,
        }
        let start = At {
            api: self.clone(),
            bot: bot.to_owned(),
            cursor: None,
            pages: Pages::default(),
        };
        stream::try_unfold(Some(start), async |at| {
            let Some(mut at) = at else { return Ok(None) };
            let mut query = vec![("pageSize", PAGE_SIZE)];
            query.extend(at.cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let path = at.api.paths.of_bot(&at.bot);
            let req = path.and_then(|path| request(Method::GET, &with_query(&path, &query)));
            let page: Page = at.api.connection.object(OPERATION, req).await?;
            let next = page.pagination.and_then(|page| page.next_cursor);
            let next = match next.and_then(Cursor::text) {
                None => None,
                Some(next) => {
                    if !at.pages.may_follow(Some(&next)) {
                        return Err(ApiError::endless(OPERATION));
                    }
                    at.cursor = Some(next);
                    Some(at)
                }
            };
            let items = page.items.unwrap_or_default();
            Ok(Some((stream::iter(items.into_iter().map(Ok)), next)))
        })
        .try_flatten()
    }

    /// Registers a webhook, in one of the three documented forms.
    ///
    /// A registration that may have arrived is not sent again, because a second one would be a second webhook. After 429
    /// it is: up to 4 times, when the server says so, or after 1 s, 2 s, 4 s and 8 s with up to 0.5 s of jitter (S2). The
    /// [settings](crate::connection::ConnectionBuilder::retry) of the connection count instead, if there are any.
    ///
    /// # Errors
    ///
    /// [`ApiError`]. Any 2xx with an `id` is a success.
    pub async fn register(&self, webhook: impl Into<NewWebhook>) -> Result<Registered, ApiError> {
        const OPERATION: &str = "register the webhook";
        let webhook = webhook.into();
        let path = match webhook {
            NewWebhook::Definition(_) | NewWebhook::Endpoint(_) => &self.paths.webhooks,
            NewWebhook::Events(_) => &self.paths.event_webhooks,
        };
        let req = request_json(Method::POST, path, &webhook);
        self.connection.create(OPERATION, req).await
    }

    /// Registers many webhooks, up to `concurrency` at a time, and tells what became of each as it ends, in whatever
    /// order. One that fails stops no other; those that an open circuit breaker refuses wait for it. Give the
    /// connection's rate limit room for as many to wait. Nothing is sent before the stream is polled.
    ///
    /// # Cancel safety
    ///
    /// Dropping the stream drops the requests that run; what was not begun is not sent.
    pub fn register_all<W: Into<NewWebhook>>(
        &self,
        webhooks: impl IntoIterator<Item = W>,
        concurrency: usize,
    ) -> impl Stream<Item = BulkItem> {
        let one = move |(index, webhook): (usize, W)| {
            let (api, webhook) = (self.clone(), webhook.into());
            async move {
                BulkItem {
                    index,
                    name: webhook.name().to_owned(),
                    result: api.register(webhook).await,
                }
            }
        };
        stream::iter(webhooks.into_iter().enumerate())
            .map(one)
            .buffer_unordered(concurrency.max(1))
    }

    /// Sets the retry policy of a bot's webhook (S0), with an idempotency key, so that it may be sent again.
    ///
    /// A policy that this client set last for this webhook is not sent again. In S0 the same policy for another webhook is
    /// skipped too; here it is not.
    ///
    /// # Errors
    ///
    /// [`ApiError`], of kind [`InvalidRequest`](crate::ApiErrorKind::InvalidRequest) if `key` is blank or no header can carry
    /// it.
    pub async fn set_retry_policy(
        &self,
        bot: &str,
        webhook: &str,
        policy: &RetryPolicy,
        key: &str,
    ) -> Result<PolicyUpdate, ApiError> {
        const OPERATION: &str = "set the retry policy";
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            retry_policy: &'a RetryPolicy,
        }
        let build = || {
            let path = format!(
                "{}/{}",
                self.paths.of_bot(bot)?,
                segment("the webhook", webhook)?
            );
            let body = Body {
                retry_policy: policy,
            };
            let mut req = request_json(Method::PATCH, &path, &body)?;
            let key = HeaderValue::from_str(key)
                .ok()
                .filter(|key| !key.as_bytes().trim_ascii().is_empty())
                .ok_or_else(|| Unsendable::because("the idempotency key is no header value"))?;
            req.headers_mut().insert(&self.paths.idempotency_key, key);
            // Under any name, it is a key.
            req.extensions_mut()
                .insert(tower_webhook::outcome::Repeatable::Yes);
            Ok((path, req))
        };
        let (path, req) =
            build().map_err(|error: Unsendable| ApiError::invalid(OPERATION, error))?;
        let target = digest(["PATCH", &path]);
        // A `Value` writes its members in order, and here are only short ASCII texts and integers below 2^53: it is
        // canonical JSON (RFC 8785).
        let canonical = serde_json::to_value(policy).map(|policy| policy.to_string());
        let canonical = canonical.map_err(|error| ApiError::invalid(OPERATION, error))?;
        let payload = digest([canonical.as_str()]);
        let Some(setting) = Setting::begin(self, target, payload) else {
            return Ok(PolicyUpdate::Skipped);
        };
        let answer = self.connection.json(OPERATION, Ok(req)).await?;
        setting.succeeded();
        Ok(PolicyUpdate::Updated(answer))
    }

    fn applied(&self) -> MutexGuard<'_, HashMap<[u8; 32], Applied>> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the API permits to a flow's webhooks (S1).
    ///
    /// # Errors
    ///
    /// [`ApiError`]: limits that cannot be read are not permission.
    pub async fn execution_limits(&self) -> Result<ExecutionLimits, ApiError> {
        let req = request(Method::GET, &self.paths.execution_limits);
        self.connection
            .object("read the execution limits", req)
            .await
    }

    /// Validates a definition (S1): with the result of a [probe](crate::probe) of its target, and the API's limits. If
    /// these cannot be read, they are unknown.
    pub async fn validate(
        &self,
        definition: &WebhookDefinition,
        endpoint_reachable: bool,
    ) -> Validation {
        let limits = self.execution_limits().await.ok();
        Validation {
            endpoint_reachable,
            within_flow_limits: limits.map(|limits| limits.permit(definition)),
        }
    }
}

/// A call that sets a policy. Until it is over nobody knows which policy the webhook has, nor if it fails or is dropped.
struct Setting {
    api: Webhooks,
    target: [u8; 32],
    payload: [u8; 32],
    has_succeeded: bool,
}

impl Setting {
    /// `None` if the webhook has this policy.
    fn begin(api: &Webhooks, target: [u8; 32], payload: [u8; 32]) -> Option<Self> {
        let mut all = api.applied();
        if all.len() >= MAX_REMEMBERED && !all.contains_key(&target) {
            // What is forgotten is sent once more, which does no harm.
            all.retain(|_, applied| applied.running > 0);
        }
        let applied = all.entry(target).or_default();
        if applied.running == 0 && applied.last == Some(payload) {
            return None;
        }
        applied.last = None;
        applied.mixed |= applied.running > 0;
        applied.running += 1;
        Some(Self {
            api: api.clone(),
            target,
            payload,
            has_succeeded: false,
        })
    }

    fn succeeded(mut self) {
        self.has_succeeded = true;
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        let mut all = self.api.applied();
        let Some(applied) = all.get_mut(&self.target) else {
            return;
        };
        applied.running -= 1;
        if applied.running > 0 {
            return;
        }
        if self.has_succeeded && !applied.mixed {
            applied.last = Some(self.payload);
        } else {
            all.remove(&self.target);
        }
    }
}

/// SHA-256 over parts, each after its length.
fn digest<const N: usize>(parts: [&str; N]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}
