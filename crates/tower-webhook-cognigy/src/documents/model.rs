//! What is sent to the documents' API. Each form checks its limits when it is built or read, so a value that exists is
//! one that the documents accept.

use crate::{
    hook::{PayloadFormat, TriggerCondition, TriggerType},
    template,
};
use http::{HeaderName, HeaderValue, Method, Uri};
use serde::{Deserialize, Serialize, Serializer, de::DeserializeOwned, ser::SerializeMap};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    time::Duration,
};
use tower_webhook::{
    InvalidConfig,
    cognigy::presets::{WebhookPolicy, endpoint_schedule},
    retry::Schedule,
    signature::Secret,
    target::TargetRules,
};

/// What registers a webhook: one of the three forms of the documents.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum NewWebhook {
    /// The form of S1, for `POST /api/v2/webhooks`.
    Definition(WebhookDefinition),
    /// The form of S2, for `POST /api/v2/webhooks`.
    Endpoint(WebhookEndpoint),
    /// The form of S4, for `POST /api/v1/webhooks`.
    Events(EventWebhook),
}

impl NewWebhook {
    /// Reads a webhook as JSON, in the form whose fields it has: `target_url` is of S1, `events` of S4, all else S2.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] names the first field outside its limits, or `json` with the path of one that does not fit. Fields
    /// that the form does not have are refused.
    pub fn from_json(value: &Value, rules: TargetRules) -> Result<Self, InvalidConfig> {
        if value.get("target_url").is_some() {
            let builder: WebhookDefinitionBuilder = fields(value)?;
            builder.rules(rules).build().map(Self::Definition)
        } else if value.get("events").is_some() {
            fields::<EventFields>(value)?.build(rules).map(Self::Events)
        } else {
            fields::<EndpointFields>(value)?
                .build(rules)
                .map(Self::Endpoint)
        }
    }

    /// The name of the webhook.
    pub fn name(&self) -> &str {
        match self {
            Self::Definition(webhook) => webhook.name(),
            Self::Endpoint(webhook) => webhook.name(),
            Self::Events(webhook) => webhook.name(),
        }
    }

    /// The URL that events are to be sent to.
    pub fn url(&self) -> &Uri {
        match self {
            Self::Definition(webhook) => webhook.target_url(),
            Self::Endpoint(webhook) => webhook.url(),
            Self::Events(webhook) => webhook.url(),
        }
    }
}

/// Reads the fields of a form. The error does not quote a value, which may be a secret.
fn fields<T: DeserializeOwned>(value: &Value) -> Result<T, InvalidConfig> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let (path, said) = (error.path().to_string(), error.inner().to_string());
        // serde quotes the value first, and what it expected last.
        let said = match said.rsplit_once(", expected ") {
            Some((begin, expected)) if !begin.starts_with("unknown field") => {
                format!("must be {expected}")
            }
            _ => said,
        };
        InvalidConfig::new("json", format!("at `{path}`: {said}"))
    })
}

macro_rules! form {
    ($($variant:ident($of:ident)),*) => {$(
        impl From<$of> for NewWebhook {
            fn from(webhook: $of) -> Self {
                Self::$variant(webhook)
            }
        }

        impl From<&$of> for NewWebhook {
            fn from(webhook: &$of) -> Self {
                Self::$variant(webhook.clone())
            }
        }
    )*};
}

form!(
    Definition(WebhookDefinition),
    Endpoint(WebhookEndpoint),
    Events(EventWebhook)
);

/// A URL that is written as it was read.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Url(Uri);

impl Url {
    /// Reads the URL of a target.
    fn target(
        setting: &'static str,
        text: &str,
        rules: TargetRules,
    ) -> Result<Self, InvalidConfig> {
        let wrong = |why: String| InvalidConfig::new(setting, why);
        let uri: Uri = text
            .parse()
            .map_err(|_| wrong("must be a URL".to_owned()))?;
        rules
            .check(&uri)
            .map_err(|error| wrong(format!("is refused: {error}")))?;
        Ok(Self(uri))
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the query, which often has a token in it.
        write!(f, "{}://", self.0.scheme_str().unwrap_or_default())?;
        write!(
            f,
            "{}{}",
            self.0.authority().map_or("", |of| of.as_str()),
            self.0.path()
        )
    }
}

impl Serialize for Url {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

fn length(
    setting: &'static str,
    text: &str,
    least: usize,
    most: usize,
) -> Result<String, InvalidConfig> {
    let found = text.chars().count();
    if !(least..=most).contains(&found) {
        let why = format!("must be {least} to {most} characters long, not {found}");
        return Err(InvalidConfig::new(setting, why));
    }
    Ok(text.to_owned())
}

/// The time limit of a delivery (S2), in milliseconds.
fn delivery_time(timeout: Duration) -> Result<u64, InvalidConfig> {
    if !(Duration::from_secs(1)..=Duration::from_secs(30)).contains(&timeout) {
        return Err(InvalidConfig::new("timeout", "must be from 1 s to 30 s"));
    }
    Ok(millis(timeout))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A webhook as S1 registers it: trigger conditions and a template.
///
/// # Examples
///
/// ```
/// use tower_webhook_cognigy::documents::{TriggerCondition, TriggerType, WebhookDefinition};
///
/// let webhook = WebhookDefinition::builder("orders", "https://example.com/hooks")
///     .trigger(TriggerCondition::new(TriggerType::Intent, 0.8)?)
///     .payload_template(r#"{"user": {{ user_id }}}"#)
///     .build()?;
/// assert_eq!(
///     serde_json::to_string(&webhook)?,
///     r#"{"name":"orders","target_url":"https://example.com/hooks","trigger_conditions":[{"event_type":"intent","threshold":0.8,"negate":false}],"payload_template":"{\"user\": {{ user_id }}}","timeout_seconds":15,"max_payload_size_kb":256}"#,
/// );
///
/// let short = WebhookDefinition::builder("or", "https://example.com/").build();
/// assert_eq!(short.unwrap_err().setting(), "name");
/// # Ok::<_, tower_webhook::BoxError>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "WebhookDefinitionBuilder")]
pub struct WebhookDefinition {
    name: String,
    target_url: Url,
    trigger_conditions: Vec<TriggerCondition>,
    payload_template: String,
    timeout_seconds: u32,
    max_payload_size_kb: u32,
}

/// Builder of a [`WebhookDefinition`], and its form as JSON.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[must_use]
pub struct WebhookDefinitionBuilder {
    name: String,
    target_url: String,
    trigger_conditions: Vec<TriggerCondition>,
    payload_template: String,
    #[serde(default = "WebhookDefinition::timeout_default")]
    timeout_seconds: u32,
    #[serde(default = "WebhookDefinition::size_default")]
    max_payload_size_kb: u32,
    #[serde(skip)]
    rules: TargetRules,
}

impl WebhookDefinition {
    const fn timeout_default() -> u32 {
        15
    }

    const fn size_default() -> u32 {
        256
    }

    /// Starts a definition with a name of 3 to 128 characters, and the URL that events are sent to.
    pub fn builder(
        name: impl Into<String>,
        target_url: impl Into<String>,
    ) -> WebhookDefinitionBuilder {
        WebhookDefinitionBuilder {
            name: name.into(),
            target_url: target_url.into(),
            trigger_conditions: Vec::new(),
            payload_template: "{}".to_owned(),
            timeout_seconds: Self::timeout_default(),
            max_payload_size_kb: Self::size_default(),
            rules: TargetRules::new(),
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The URL that events are sent to.
    pub const fn target_url(&self) -> &Uri {
        &self.target_url.0
    }

    /// The conditions, all of which must hold.
    pub fn trigger_conditions(&self) -> &[TriggerCondition] {
        &self.trigger_conditions
    }

    /// The template of the payload, for Jinja2.
    pub fn payload_template(&self) -> &str {
        &self.payload_template
    }

    /// The time limit of a delivery.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds.into())
    }

    /// The longest payload, in kilobytes.
    pub const fn max_payload_size_kb(&self) -> u32 {
        self.max_payload_size_kb
    }
}

impl WebhookDefinitionBuilder {
    /// Adds a condition. Default: none, which every event meets.
    pub fn trigger(mut self, condition: TriggerCondition) -> Self {
        self.trigger_conditions.push(condition);
        self
    }

    /// Sets the template of the payload. Default: `{}`.
    ///
    /// The API renders Jinja2. What is checked here, and accepted, is the part of it that a payload needs: expressions,
    /// `if`, `for`, `set`, `with`, `filter` and comments; no macros, includes or inheritance.
    pub fn payload_template(mut self, template: impl Into<String>) -> Self {
        self.payload_template = template.into();
        self
    }

    /// Sets the time limit of a delivery, in seconds: 1 to 30. Default: 15.
    pub const fn timeout_seconds(mut self, seconds: u32) -> Self {
        self.timeout_seconds = seconds;
        self
    }

    /// Sets the longest payload, in kilobytes, from 1. Default: 256.
    pub const fn max_payload_size_kb(mut self, kilobytes: u32) -> Self {
        self.max_payload_size_kb = kilobytes;
        self
    }

    /// Sets which targets are permitted. Default: `https`, and public addresses.
    pub const fn rules(mut self, rules: TargetRules) -> Self {
        self.rules = rules;
        self
    }

    /// Builds the definition.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] names the first field outside its limits, or `payload_template` if it cannot be parsed.
    pub fn build(self) -> Result<WebhookDefinition, InvalidConfig> {
        if !(1..=30).contains(&self.timeout_seconds) {
            return Err(InvalidConfig::new(
                "timeout_seconds",
                "must be from 1 to 30",
            ));
        }
        let open = |of: &TriggerCondition| matches!(of.event_type(), TriggerType::Other(_));
        if self.trigger_conditions.iter().any(open) {
            let why = "must be of the types `intent`, `entity`, `flow_start` and `flow_end`";
            return Err(InvalidConfig::new("trigger_conditions", why));
        }
        let explain = |error: &minijinja::Error, line| {
            let unknown = |detail: &str| detail.starts_with("unknown statement");
            if error.detail().is_some_and(unknown) {
                format!(
                    "has a statement in line {line} that is not checked here, if Jinja2 has it: \
                     write it without macros, includes and inheritance"
                )
            } else {
                format!("is no template: {} in line {line}", error.kind())
            }
        };
        let mut environment = minijinja::Environment::new();
        template::parse(
            &mut environment,
            &self.payload_template,
            str::to_owned,
            explain,
        )?;
        if self.max_payload_size_kb == 0 {
            return Err(InvalidConfig::new(
                "max_payload_size_kb",
                "must be at least 1",
            ));
        }
        Ok(WebhookDefinition {
            name: length("name", &self.name, 3, 128)?,
            target_url: Url::target("target_url", &self.target_url, self.rules)?,
            trigger_conditions: self.trigger_conditions,
            payload_template: self.payload_template,
            timeout_seconds: self.timeout_seconds,
            max_payload_size_kb: self.max_payload_size_kb,
        })
    }
}

impl TryFrom<WebhookDefinitionBuilder> for WebhookDefinition {
    type Error = InvalidConfig;

    fn try_from(builder: WebhookDefinitionBuilder) -> Result<Self, InvalidConfig> {
        builder.build()
    }
}

/// The retry policy of a [`WebhookEndpoint`] (S2): retries at a fixed interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    try_from = "IntervalFields"
)]
pub struct IntervalRetries {
    max_retries: u32,
    retry_interval_ms: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct IntervalFields {
    max_retries: u32,
    retry_interval_ms: u64,
}

impl Default for IntervalFields {
    fn default() -> Self {
        Self {
            max_retries: 3,
            retry_interval_ms: 5000,
        }
    }
}

impl TryFrom<IntervalFields> for IntervalRetries {
    type Error = InvalidConfig;

    fn try_from(of: IntervalFields) -> Result<Self, InvalidConfig> {
        Self::new(of.max_retries, Duration::from_millis(of.retry_interval_ms))
    }
}

impl IntervalRetries {
    /// Up to 10 retries, each after `interval`, 1 s to 30 s, which is written in whole milliseconds.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] names `max_retries` or `interval`.
    pub fn new(max_retries: u32, interval: Duration) -> Result<Self, InvalidConfig> {
        // Its limits are the preset's.
        let _ = endpoint_schedule(max_retries, interval)?;
        Ok(Self {
            max_retries,
            retry_interval_ms: millis(interval),
        })
    }

    /// The number of retries after the first attempt.
    pub const fn max_retries(&self) -> u32 {
        self.max_retries
    }

    /// The time between two attempts.
    pub const fn interval(&self) -> Duration {
        Duration::from_millis(self.retry_interval_ms)
    }
}

impl Default for IntervalRetries {
    /// 3 retries, every 5 s.
    fn default() -> Self {
        Self {
            max_retries: 3,
            retry_interval_ms: 5000,
        }
    }
}

/// A webhook as S2 registers it.
///
/// # Examples
///
/// ```
/// use tower_webhook_cognigy::documents::WebhookEndpoint;
///
/// let webhook = WebhookEndpoint::builder("orders", "https://example.com/hooks")
///     .signature("X-Cognigy-Signature", "a secret of at least 32 bytes ..")
///     .build()?;
/// assert_eq!(
///     serde_json::to_string(&webhook)?,
///     r#"{"name":"orders","url":"https://example.com/hooks","method":"POST","headers":{},"payloadFormat":"JSON","isActive":true,"retryPolicy":{"maxRetries":3,"retryIntervalMs":5000},"timeout":10000,"signatureHeader":"X-Cognigy-Signature","signatureSecret":"a secret of at least 32 bytes .."}"#,
/// );
/// # Ok::<_, tower_webhook::BoxError>(())
/// ```
#[derive(Clone, Deserialize)]
#[serde(try_from = "EndpointFields")]
pub struct WebhookEndpoint {
    name: String,
    url: Url,
    fallback_urls: Vec<Url>,
    method: Method,
    headers: BTreeMap<String, String>,
    payload_format: PayloadFormat,
    is_active: bool,
    retry_policy: IntervalRetries,
    timeout_ms: u64,
    signature: Option<(String, Secret)>,
}

impl fmt::Debug for WebhookEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Of the headers the names: a value may be a credential.
        f.debug_struct("WebhookEndpoint")
            .field("name", &self.name)
            .field("url", &self.url)
            .field("headers", &self.headers.keys())
            .finish_non_exhaustive()
    }
}

impl Serialize for WebhookEndpoint {
    /// The body of the request. The fallback URLs are not part of it, in the document either: they are for the sender.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("url", &self.url)?;
        map.serialize_entry("method", self.method.as_str())?;
        map.serialize_entry("headers", &self.headers)?;
        map.serialize_entry("payloadFormat", &self.payload_format)?;
        map.serialize_entry("isActive", &self.is_active)?;
        map.serialize_entry("retryPolicy", &self.retry_policy)?;
        map.serialize_entry("timeout", &self.timeout_ms)?;
        if let Some((header, secret)) = &self.signature {
            let text = std::str::from_utf8(secret.as_bytes()).map_err(serde::ser::Error::custom)?;
            map.serialize_entry("signatureHeader", header)?;
            map.serialize_entry("signatureSecret", text)?;
        }
        map.end()
    }
}

/// The form of S2's model as JSON, with its own names.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EndpointFields {
    name: String,
    url: String,
    #[serde(default)]
    fallback_urls: Vec<String>,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    payload_format: PayloadFormat,
    #[serde(default = "yes")]
    is_active: bool,
    #[serde(default)]
    retry_policy: IntervalRetries,
    /// The name in the model; in the request it is `timeout`.
    #[serde(default = "ten_seconds", alias = "timeout")]
    timeout_ms: u64,
    signature_header: Option<String>,
    signature_secret: Option<String>,
}

const fn yes() -> bool {
    true
}

const fn ten_seconds() -> u64 {
    10_000
}

impl TryFrom<EndpointFields> for WebhookEndpoint {
    type Error = InvalidConfig;

    fn try_from(of: EndpointFields) -> Result<Self, InvalidConfig> {
        of.build(TargetRules::new())
    }
}

impl EndpointFields {
    fn build(self, rules: TargetRules) -> Result<WebhookEndpoint, InvalidConfig> {
        let method = self.method.as_deref().unwrap_or("POST");
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_| InvalidConfig::new("method", "must be `POST` or `PUT`"))?;
        let mut builder = WebhookEndpoint::builder(self.name, self.url)
            .fallback_urls(self.fallback_urls)
            .method(method)
            .payload_format(self.payload_format)
            .active(self.is_active)
            .retry_policy(self.retry_policy)
            .timeout(Duration::from_millis(self.timeout_ms))
            .rules(rules);
        builder.headers = self.headers;
        match (self.signature_header, self.signature_secret) {
            (Some(header), Some(secret)) => builder = builder.signature(header, secret),
            (None, None) => {}
            _ => {
                let why = "needs both `signatureHeader` and `signatureSecret`, or neither";
                return Err(InvalidConfig::new("signature", why));
            }
        }
        builder.build()
    }
}

/// Builder of a [`WebhookEndpoint`].
#[derive(Clone)]
#[must_use]
pub struct WebhookEndpointBuilder {
    name: String,
    url: String,
    fallback_urls: Vec<String>,
    method: Method,
    headers: BTreeMap<String, String>,
    payload_format: PayloadFormat,
    is_active: bool,
    retry_policy: IntervalRetries,
    timeout: Duration,
    signature: Option<(String, Secret)>,
    rules: TargetRules,
}

impl fmt::Debug for WebhookEndpointBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookEndpointBuilder")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl WebhookEndpoint {
    /// Starts an endpoint with a name of 3 to 100 characters, and the URL that events are sent to.
    pub fn builder(name: impl Into<String>, url: impl Into<String>) -> WebhookEndpointBuilder {
        WebhookEndpointBuilder {
            name: name.into(),
            url: url.into(),
            fallback_urls: Vec::new(),
            method: Method::POST,
            headers: BTreeMap::new(),
            payload_format: PayloadFormat::Json,
            is_active: true,
            retry_policy: IntervalRetries::default(),
            timeout: Duration::from_millis(ten_seconds()),
            signature: None,
            rules: TargetRules::new(),
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The URL that events are sent to.
    pub const fn url(&self) -> &Uri {
        &self.url.0
    }

    /// URLs for when the first is down, at most 5: for
    /// [`presets::fallback_urls`](tower_webhook::cognigy::presets::fallback_urls). They are not sent to the API.
    pub fn fallback_urls(&self) -> impl Iterator<Item = &Uri> {
        self.fallback_urls.iter().map(|url| &url.0)
    }

    /// The retry policy.
    pub const fn retry_policy(&self) -> IntervalRetries {
        self.retry_policy
    }

    /// The time limit of a delivery.
    pub const fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

impl WebhookEndpointBuilder {
    /// Sets the URLs for when the first is down, at most 5. Default: none.
    pub fn fallback_urls<U: Into<String>>(mut self, urls: impl IntoIterator<Item = U>) -> Self {
        self.fallback_urls = urls.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the method of deliveries: `POST` or `PUT`. Default: `POST`.
    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// Adds a header that each delivery carries. Default: none. The API keeps it as text: rather sign deliveries than
    /// put a credential here.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// Sets the format of payloads. Default: JSON.
    pub const fn payload_format(mut self, format: PayloadFormat) -> Self {
        self.payload_format = format;
        self
    }

    /// Sets whether events are sent. Default: yes.
    pub const fn active(mut self, active: bool) -> Self {
        self.is_active = active;
        self
    }

    /// Sets the retry policy. Default: 3 retries, every 5 s.
    pub const fn retry_policy(mut self, policy: IntervalRetries) -> Self {
        self.retry_policy = policy;
        self
    }

    /// Sets the time limit of a delivery: 1 s to 30 s, in whole milliseconds. Default: 10 s.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the header and the secret of signatures. Default: none, and deliveries are not signed.
    pub fn signature(mut self, header: impl Into<String>, secret: impl Into<Secret>) -> Self {
        self.signature = Some((header.into(), secret.into()));
        self
    }

    /// Sets which targets are permitted. Default: `https`, and public addresses.
    pub const fn rules(mut self, rules: TargetRules) -> Self {
        self.rules = rules;
        self
    }

    /// Builds the endpoint.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] names the first field outside its limits.
    pub fn build(self) -> Result<WebhookEndpoint, InvalidConfig> {
        let wrong = |setting, why: &str| InvalidConfig::new(setting, why);
        if self.fallback_urls.len() > 5 {
            return Err(wrong("fallback_urls", "must be at most 5 URLs"));
        }
        if ![Method::POST, Method::PUT].contains(&self.method) {
            return Err(wrong("method", "must be `POST` or `PUT`"));
        }
        let timeout_ms = delivery_time(self.timeout)?;
        let mut names = HashSet::new();
        for (name, value) in &self.headers {
            let wrong = |why: String| Err(InvalidConfig::new("headers", why));
            let parsed = HeaderName::from_bytes(name.as_bytes());
            let (Ok(parsed), Ok(_)) = (parsed, HeaderValue::from_str(value)) else {
                return wrong(format!("has no header in {name:?}"));
            };
            if !names.insert(parsed) {
                return wrong(format!(
                    "has {name:?} twice: the case of letters does not count"
                ));
            }
        }
        if let Some((header, secret)) = &self.signature {
            if HeaderName::from_bytes(header.as_bytes()).is_err() {
                return Err(wrong("signature", "must name a header"));
            }
            if secret.as_bytes().is_empty() {
                return Err(wrong("signature", "must have a secret that is not empty"));
            }
            if std::str::from_utf8(secret.as_bytes()).is_err() {
                return Err(wrong("signature", "must have a secret of UTF-8 text"));
            }
        }
        let fallbacks = self.fallback_urls.iter();
        Ok(WebhookEndpoint {
            name: length("name", &self.name, 3, 100)?,
            url: Url::target("url", &self.url, self.rules)?,
            fallback_urls: fallbacks
                .map(|url| Url::target("fallback_urls", url, self.rules))
                .collect::<Result<_, _>>()?,
            method: self.method,
            headers: self.headers,
            payload_format: self.payload_format,
            is_active: self.is_active,
            retry_policy: self.retry_policy,
            timeout_ms,
            signature: self.signature,
        })
    }
}

/// A webhook as S4 registers it: the events that it gets, and the secret that signs them.
#[derive(Clone, Deserialize)]
#[serde(try_from = "EventFields")]
pub struct EventWebhook {
    name: String,
    url: Url,
    secret: Secret,
    events: Vec<String>,
    active: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventFields {
    name: String,
    url: String,
    secret: String,
    events: Option<Vec<String>>,
    #[serde(default = "yes")]
    active: bool,
}

impl TryFrom<EventFields> for EventWebhook {
    type Error = InvalidConfig;

    fn try_from(of: EventFields) -> Result<Self, InvalidConfig> {
        of.build(TargetRules::new())
    }
}

impl EventFields {
    fn build(self, rules: TargetRules) -> Result<EventWebhook, InvalidConfig> {
        let webhook = EventWebhook::within(rules, self.name, &self.url, self.secret)?;
        let webhook = webhook.active(self.active);
        match self.events {
            Some(events) => webhook.events(events),
            None => Ok(webhook),
        }
    }
}

/// The event types of S4.
const EVENTS: [&str; 4] = [
    "DIALOG_STARTED",
    "USER_INPUT_RECEIVED",
    "PROFILE_UPDATED",
    "DIALOG_ENDED",
];

impl EventWebhook {
    /// An active webhook that gets all four events of S4.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] names `name` if it is empty, `url`, or an empty `secret` or one that is no text.
    pub fn new(
        name: impl Into<String>,
        url: &str,
        secret: impl Into<Secret>,
    ) -> Result<Self, InvalidConfig> {
        Self::within(TargetRules::new(), name, url, secret)
    }

    /// As [`new`](Self::new), with other rules of which targets are permitted.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn within(
        rules: TargetRules,
        name: impl Into<String>,
        url: &str,
        secret: impl Into<Secret>,
    ) -> Result<Self, InvalidConfig> {
        let (name, secret) = (name.into(), secret.into());
        if name.is_empty() {
            return Err(InvalidConfig::new("name", "must not be empty"));
        }
        if secret.as_bytes().is_empty() || std::str::from_utf8(secret.as_bytes()).is_err() {
            return Err(InvalidConfig::new(
                "secret",
                "must be a text that is not empty",
            ));
        }
        Ok(Self {
            name,
            url: Url::target("url", url, rules)?,
            secret,
            events: EVENTS.map(str::to_owned).to_vec(),
            active: true,
        })
    }

    /// Sets the events. Default: the four of S4. Other names are sent as they are.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] names `events` if there is none, or an empty one.
    pub fn events<E: Into<String>>(
        mut self,
        events: impl IntoIterator<Item = E>,
    ) -> Result<Self, InvalidConfig> {
        self.events = events.into_iter().map(Into::into).collect();
        if self.events.is_empty() || self.events.iter().any(String::is_empty) {
            return Err(InvalidConfig::new("events", "must be names of events"));
        }
        Ok(self)
    }

    /// Sets whether events are sent. Default: yes.
    #[must_use]
    pub const fn active(mut self, active: bool) -> Self {
        self.active = active;
        self
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The URL that events are sent to.
    pub const fn url(&self) -> &Uri {
        &self.url.0
    }
}

impl fmt::Debug for EventWebhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventWebhook")
            .field("name", &self.name)
            .field("url", &self.url)
            .field("events", &self.events)
            .field("active", &self.active)
            .finish_non_exhaustive()
    }
}

impl Serialize for EventWebhook {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let secret = std::str::from_utf8(self.secret.as_bytes());
        let mut map = serializer.serialize_map(Some(5))?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("url", &self.url)?;
        map.serialize_entry("secret", secret.map_err(serde::ser::Error::custom)?)?;
        map.serialize_entry("events", &self.events)?;
        map.serialize_entry("active", &self.active)?;
        map.end()
    }
}

/// How the delays of a [`RetryPolicy`] grow (S0).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackoffStrategy {
    /// `base * 2^(n - 1)`.
    #[default]
    Exponential,
    /// `base * n`.
    Linear,
}

/// The retry policy of a bot's webhook (S0).
///
/// # Examples
///
/// ```
/// use tower_webhook_cognigy::documents::RetryPolicy;
///
/// let policy = RetryPolicy::builder().max_attempts(5).build()?;
/// assert_eq!(
///     serde_json::to_string(&policy)?,
///     r#"{"enabled":true,"maxAttempts":5,"backoffStrategy":"exponential","baseDelayMs":1000,"maxDelayMs":30000,"maxRetryWindowSeconds":3600}"#,
/// );
/// assert!(RetryPolicy::builder().max_attempts(11).build().is_err());
/// # Ok::<_, tower_webhook::BoxError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", try_from = "RetryPolicyBuilder")]
pub struct RetryPolicy {
    enabled: bool,
    max_attempts: u32,
    backoff_strategy: BackoffStrategy,
    base_delay_ms: u64,
    max_delay_ms: u64,
    max_retry_window_seconds: u64,
}

/// Builder of a [`RetryPolicy`], and its form as JSON.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[must_use]
pub struct RetryPolicyBuilder {
    enabled: bool,
    max_attempts: u32,
    backoff_strategy: BackoffStrategy,
    base_delay_ms: u64,
    max_delay_ms: u64,
    max_retry_window_seconds: u64,
}

impl Default for RetryPolicyBuilder {
    fn default() -> Self {
        Self {
            enabled: true,
            max_attempts: 3,
            backoff_strategy: BackoffStrategy::Exponential,
            base_delay_ms: 1000,
            max_delay_ms: 30_000,
            max_retry_window_seconds: 3600,
        }
    }
}

impl RetryPolicy {
    /// Starts a policy with the documents' defaults.
    pub fn builder() -> RetryPolicyBuilder {
        RetryPolicyBuilder::default()
    }

    /// The same policy for this crate's own retry layer.
    ///
    /// # Errors
    ///
    /// None in fact: the limits were checked when the policy was built.
    pub fn schedule(&self) -> Result<Schedule, InvalidConfig> {
        let policy = WebhookPolicy::new()
            .max_attempts(self.max_attempts)
            .base_delay(Duration::from_millis(self.base_delay_ms))
            .max_delay(Duration::from_millis(self.max_delay_ms))
            .window(Duration::from_secs(self.max_retry_window_seconds));
        match self.backoff_strategy {
            BackoffStrategy::Exponential => policy.build(),
            BackoffStrategy::Linear => policy.linear().build(),
        }
    }
}

impl RetryPolicyBuilder {
    /// Sets the attempts, the first included: 1 to 10. Default: 3.
    pub const fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// Sets how delays grow. Default: exponentially.
    pub const fn backoff(mut self, strategy: BackoffStrategy) -> Self {
        self.backoff_strategy = strategy;
        self
    }

    /// Sets the first delay, in milliseconds. Default: 1000.
    pub const fn base_delay_ms(mut self, delay: u64) -> Self {
        self.base_delay_ms = delay;
        self
    }

    /// Sets the longest delay, in milliseconds, not shorter than the first. Default: 30000.
    pub const fn max_delay_ms(mut self, delay: u64) -> Self {
        self.max_delay_ms = delay;
        self
    }

    /// Sets the time in which retries begin, in seconds: 1 to 86400. Default: 3600.
    pub const fn max_retry_window_seconds(mut self, window: u64) -> Self {
        self.max_retry_window_seconds = window;
        self
    }

    /// Builds the policy.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] names the first field outside its limits: `max_attempts`, `window`, `base_delay` or
    /// `max_delay`, or `enabled`, which is `true` in the documents.
    pub fn build(self) -> Result<RetryPolicy, InvalidConfig> {
        if !self.enabled {
            return Err(InvalidConfig::new("enabled", "must be `true`"));
        }
        let policy = RetryPolicy {
            enabled: true,
            max_attempts: self.max_attempts,
            backoff_strategy: self.backoff_strategy,
            base_delay_ms: self.base_delay_ms,
            max_delay_ms: self.max_delay_ms,
            max_retry_window_seconds: self.max_retry_window_seconds,
        };
        // Its limits are the preset's.
        let _ = policy.schedule()?;
        Ok(policy)
    }
}

impl TryFrom<RetryPolicyBuilder> for RetryPolicy {
    type Error = InvalidConfig;

    fn try_from(builder: RetryPolicyBuilder) -> Result<Self, InvalidConfig> {
        builder.build()
    }
}

/// The time limits that go with a delivery's own (S2).
///
/// In the document a delivery of 1 s has 5 s to connect; here no part has more time than the whole.
///
/// ```
/// use std::time::Duration;
/// use tower_webhook_cognigy::documents::TimeoutPipeline;
///
/// let limits = TimeoutPipeline::new(Duration::from_secs(15))?;
/// assert_eq!(
///     serde_json::to_string(&limits)?,
///     r#"{"timeout":15000,"connectionTimeout":7500,"readTimeout":15000,"maxIdleTime":30000}"#,
/// );
/// assert!(TimeoutPipeline::new(Duration::ZERO).is_err());
/// # Ok::<_, tower_webhook::BoxError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TimeoutPipeline {
    timeout: u64,
    connection_timeout: u64,
    read_timeout: u64,
    max_idle_time: u64,
}

impl TimeoutPipeline {
    /// The limits of a delivery with this time limit, 1 s to 30 s: half of it to connect, but at least 5 s if it has them.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `timeout`.
    pub fn new(timeout: Duration) -> Result<Self, InvalidConfig> {
        let timeout = delivery_time(timeout)?;
        Ok(Self {
            timeout,
            connection_timeout: (timeout / 2).max(5000).min(timeout),
            read_timeout: timeout,
            max_idle_time: 30_000,
        })
    }
}
