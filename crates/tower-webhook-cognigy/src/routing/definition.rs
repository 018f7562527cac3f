use super::{
    Input, LoadError, LookupRule, RouteErrorKind,
    template::{Context, Template},
};
use crate::credential::CredentialName;
use crate::hook::{PayloadFormat, TriggerCondition};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri,
    header::{self, CONTENT_TYPE},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};
use tower_webhook::{InvalidConfig, body::BufferedBody};

/// The most lookups of a definition.
const MOST_LOOKUPS: usize = 16;

/// The most `max_payload_size_kb`.
const MOST_KB: usize = 16 << 10;

/// The header by which S1's router names itself, and its value.
const SOURCE: HeaderName = HeaderName::from_static("x-webhook-source");
const ROUTER: HeaderValue = HeaderValue::from_static("cognigy-router");

/// Headers that a definition must not have: of the connection, and those that the delivery sets itself, among them
/// the loop-prevention headers of S2, which are new for each delivery.
const SET_ELSEWHERE: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "idempotency-key",
    "keep-alive",
    "prevent-loop",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "webhook-loop",
    "x-cognigy-webhook-source",
    "x-correlation-id",
    "x-request-id",
    "x-webhook-attempt",
    "x-webhook-source",
];

/// Parts of the names of headers that hold credentials, by their letters and digits.
const CREDENTIALS: &[&str] = &[
    "apikey",
    "accesskey",
    "auth",
    "bearer",
    "cookie",
    "credential",
    "passw",
    "secret",
    "session",
    "signature",
    "token",
    "webhookkey",
];

/// Where events go, under which conditions, and in which form: S1's `WebhookDefinition`, with more.
///
/// Its JSON has S1's names. [`from_json`](Self::from_json) reads it, and refuses names that it does not know:
///
/// | Field | Default | Meaning |
/// | --- | --- | --- |
/// | `name` | required | S1: 3 to 128 characters, without control characters |
/// | `target_url` | required | S1: `http` or `https`; [`Routes`](super::Routes) checks it by its rules |
/// | `trigger_conditions` | required | S1: all must hold; with `[]`, every event goes there |
/// | `payload_template` | the event itself | S1: the template of the payload, see the [module](super#templates) |
/// | `timeout_seconds` | 15 | S1: 1 to 30 |
/// | `max_payload_size_kb` | 256 | S1: the longest payload, 1 to 16384 times 1024 bytes |
/// | `method` | `POST` | S2: `POST` or `PUT` |
/// | `headers` | none | S2: static headers, without credentials |
/// | `payload_format` | `JSON` | S2's `payloadFormat`: `JSON` or `XML` |
/// | `lookups` | none | external data, by the variable's name: see [`LookupRule`] |
/// | `credential` | none | the name of a credential that the application knows; never the credential itself |
/// | `metadata` | none | anything, for people and tools |
///
/// In a directory the template may stand in a file of its own: `payload_template_file`, a name beside it.
///
/// # Examples
///
/// ```
/// use tower_webhook_cognigy::routing::{Definition, TriggerCondition, TriggerType};
///
/// let definition = Definition::builder("crm-lookup", "https://api.example.com/v1/customer/lookup")
///     .when(TriggerCondition::new(TriggerType::Intent, 0.8)?)
///     .template(r#"{"customer": {{ variables.customerId }}}"#)
///     .build()?;
///
/// let same = Definition::from_json(br#"{
///     "name": "crm-lookup",
///     "target_url": "https://api.example.com/v1/customer/lookup",
///     "trigger_conditions": [{"event_type": "intent", "threshold": 0.8}],
///     "payload_template": "{\"customer\": {{ variables.customerId }}}"
/// }"#)?;
/// assert_eq!(same.trigger_conditions(), definition.trigger_conditions());
/// # Ok::<_, tower_webhook::BoxError>(())
/// ```
#[derive(Clone)]
pub struct Definition {
    name: Arc<str>,
    target: Uri,
    conditions: Vec<TriggerCondition>,
    template: Option<Template>,
    timeout: Duration,
    max_payload: usize,
    method: Method,
    headers: HeaderMap,
    format: PayloadFormat,
    lookups: Vec<(Arc<str>, LookupRule)>,
    credential: Option<CredentialName>,
    metadata: Map<String, Value>,
}

impl Definition {
    /// Begins a definition: a POST of the event itself, as JSON, for every event.
    pub fn builder(name: impl Into<String>, target_url: impl Into<String>) -> DefinitionBuilder {
        DefinitionBuilder(Wire {
            name: name.into(),
            target_url: target_url.into(),
            trigger_conditions: Vec::new(),
            payload_template: None,
            payload_template_file: None,
            timeout_seconds: default_timeout(),
            max_payload_size_kb: default_size(),
            method: None,
            headers: BTreeMap::new(),
            payload_format: PayloadFormat::default(),
            lookups: BTreeMap::new(),
            credential: None,
            metadata: Map::new(),
        })
    }

    /// Reads a definition.
    ///
    /// # Errors
    ///
    /// [`LoadError`] names the field at fault.
    pub fn from_json(json: &[u8]) -> Result<Self, LoadError> {
        Self::read(json, |_| {
            Err("stands in a directory: use payload_template".into())
        })
    }

    /// Reads a definition whose template may be in a file, which `template` reads.
    pub(super) fn read(
        json: &[u8],
        template: impl FnOnce(&str) -> Result<String, String>,
    ) -> Result<Self, LoadError> {
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let wire: Result<Wire, _> = serde_path_to_error::deserialize(&mut deserializer);
        let mut wire = wire.map_err(|error| {
            let path = error.path().to_string();
            LoadError::new(Some(path), without_value(&error.into_inner()))
        })?;
        deserializer
            .end()
            .map_err(|error| LoadError::new(None, without_value(&error)))?;
        if let Some(file) = wire.payload_template_file.take() {
            let at =
                |problem: String| LoadError::new(Some("payload_template_file".into()), problem);
            if wire.payload_template.is_some() {
                return Err(at("there is a payload_template too: only one may be".into()));
            }
            wire.payload_template = Some(template(&file).map_err(at)?);
        }
        DefinitionBuilder(wire)
            .build()
            .map_err(|error| LoadError::new(Some(error.setting().into()), error.to_string()))
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) const fn shared_name(&self) -> &Arc<str> {
        &self.name
    }

    /// Where the payload goes.
    pub const fn target_url(&self) -> &Uri {
        &self.target
    }

    /// The conditions, which must all hold.
    pub fn trigger_conditions(&self) -> &[TriggerCondition] {
        &self.conditions
    }

    /// The time limit of one request.
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The longest payload, in bytes.
    pub const fn max_payload(&self) -> usize {
        self.max_payload
    }

    /// `POST` or `PUT`.
    pub const fn method(&self) -> &Method {
        &self.method
    }

    /// The form of the payload.
    pub const fn payload_format(&self) -> PayloadFormat {
        self.format
    }

    /// The name of the credential that the target asks for.
    pub const fn credential(&self) -> Option<&CredentialName> {
        self.credential.as_ref()
    }

    /// Anything that the definition says about itself.
    pub const fn metadata(&self) -> &Map<String, Value> {
        &self.metadata
    }

    pub(super) fn lookups(&self) -> &[(Arc<str>, LookupRule)] {
        &self.lookups
    }

    /// Whether all conditions hold.
    pub fn matches(&self, input: &Input) -> bool {
        let signals = input.signals();
        self.conditions
            .iter()
            .all(|condition| condition.holds(signals))
    }

    /// The request, with what the lookups have found.
    pub(super) fn request(
        &self,
        input: &Input,
        lookups: Vec<(Arc<str>, minijinja::Value)>,
    ) -> Result<Request<BufferedBody>, RouteErrorKind> {
        let body = match &self.template {
            Some(template) => {
                let event = input.value();
                template.render(Context::new(event, lookups))?
            }
            None if input.raw().len() > self.max_payload => {
                return Err(RouteErrorKind::TooLarge {
                    limit: self.max_payload,
                });
            }
            None => input.raw().clone(),
        };
        let mut req = Request::new(BufferedBody::new(body));
        *req.method_mut() = self.method.clone();
        *req.uri_mut() = self.target.clone();
        let headers = req.headers_mut();
        *headers = self.headers.clone();
        headers.insert(CONTENT_TYPE, self.format.content_type());
        headers.insert(SOURCE, ROUTER);
        if let Some(id) = input.id() {
            // Of the definition too: two of them may post to one target. Escaped, so that no other pair has this key.
            let id = id.replace('%', "%25").replace('/', "%2F");
            let key = HeaderValue::try_from(format!("{id}/{}", self.name).into_bytes());
            if let Ok(key) = key {
                headers.insert("idempotency-key", key);
            }
        }
        if let Some(credential) = &self.credential {
            req.extensions_mut().insert(credential.clone());
        }
        Ok(req)
    }
}

/// Leaves out headers, template and metadata.
impl fmt::Debug for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Definition")
            .field("name", &self.name)
            .field("target", &self.target)
            .field("conditions", &self.conditions)
            .field("method", &self.method)
            .field("format", &self.format)
            .field("credential", &self.credential)
            .finish_non_exhaustive()
    }
}

/// Settings of a [`Definition`]. Made by [`Definition::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct DefinitionBuilder(Wire);

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    name: String,
    target_url: String,
    trigger_conditions: Vec<TriggerCondition>,
    #[serde(default)]
    payload_template: Option<String>,
    #[serde(default)]
    payload_template_file: Option<String>,
    #[serde(default = "default_timeout")]
    timeout_seconds: u64,
    #[serde(default = "default_size")]
    max_payload_size_kb: usize,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    payload_format: PayloadFormat,
    #[serde(default)]
    lookups: BTreeMap<String, LookupRule>,
    #[serde(default)]
    credential: Option<String>,
    #[serde(default)]
    metadata: Map<String, Value>,
}

const fn default_timeout() -> u64 {
    15
}

const fn default_size() -> usize {
    256
}

impl DefinitionBuilder {
    /// Adds a condition. Default: none, so that every event matches.
    pub fn when(mut self, condition: TriggerCondition) -> Self {
        self.0.trigger_conditions.push(condition);
        self
    }

    /// Sets the template of the payload. Default: the event itself, unchanged.
    pub fn template(mut self, template: impl Into<String>) -> Self {
        self.0.payload_template = Some(template.into());
        self
    }

    /// Sets the time limit of a request, in seconds: 1 to 30. Default: 15.
    pub const fn timeout_seconds(mut self, seconds: u64) -> Self {
        self.0.timeout_seconds = seconds;
        self
    }

    /// Sets the longest payload, in units of 1024 bytes: 1 to 16384. Default: 256.
    pub const fn max_payload_size_kb(mut self, kb: usize) -> Self {
        self.0.max_payload_size_kb = kb;
        self
    }

    /// Sets the method, `POST` or `PUT`. Default: `POST`.
    pub fn method(mut self, method: &Method) -> Self {
        self.0.method = Some(method.to_string());
        self
    }

    /// Adds a static header. Default: none. Credentials do not belong here: see [`credential`](Self::credential).
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.headers.insert(name.into(), value.into());
        self
    }

    /// Sets the form of the payload. Default: JSON. XML needs a [`template`](Self::template).
    pub const fn payload_format(mut self, format: PayloadFormat) -> Self {
        self.0.payload_format = format;
        self
    }

    /// Adds external data as the variable `name` of the template. Default: none; at most 16.
    pub fn lookup(mut self, name: impl Into<String>, rule: LookupRule) -> Self {
        self.0.lookups.insert(name.into(), rule);
        self
    }

    /// Names the credential that the target asks for. Default: none. Each request carries the name as an extension, by
    /// which [`Credentials`](crate::credential::Credentials), a layer of the client, attach the credential.
    pub fn credential(mut self, name: impl Into<String>) -> Self {
        self.0.credential = Some(name.into());
        self
    }

    /// Sets metadata. Default: none.
    pub fn metadata(mut self, metadata: Map<String, Value>) -> Self {
        self.0.metadata = metadata;
        self
    }

    /// Parses the template and checks everything.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] names the first field that is not as [`Definition`] says.
    pub fn build(self) -> Result<Definition, InvalidConfig> {
        let Self(wire) = self;
        let length = wire.name.chars().count();
        if !(3..=128).contains(&length) || wire.name.chars().any(char::is_control) {
            let problem = "must have 3 to 128 characters, none of them a control character";
            return Err(InvalidConfig::new("name", problem));
        }
        let target = target(&wire.target_url)?;
        if !(1..=30).contains(&wire.timeout_seconds) {
            return Err(InvalidConfig::new(
                "timeout_seconds",
                "must be from 1 to 30",
            ));
        }
        if !(1..=MOST_KB).contains(&wire.max_payload_size_kb) {
            let problem = format!("must be from 1 to {MOST_KB}");
            return Err(InvalidConfig::new("max_payload_size_kb", problem));
        }
        let max_payload = wire.max_payload_size_kb << 10;
        let method = match wire.method.as_deref() {
            None | Some("POST") => Method::POST,
            Some("PUT") => Method::PUT,
            Some(_) => return Err(InvalidConfig::new("method", "must be `POST` or `PUT`")),
        };
        let format = wire.payload_format;
        let template = match wire.payload_template {
            Some(source) => Some(Template::parse(&source, format, max_payload)?),
            None if format == PayloadFormat::Json => None,
            None => {
                let problem = "is missing: the event is JSON, so XML needs a template";
                return Err(InvalidConfig::new("payload_template", problem));
            }
        };
        if wire.lookups.len() > MOST_LOOKUPS {
            let problem = format!("must be {MOST_LOOKUPS} at most");
            return Err(InvalidConfig::new("lookups", problem));
        }
        for (name, rule) in &wire.lookups {
            check_lookup(name, rule)?;
        }
        let lookups = wire
            .lookups
            .into_iter()
            .map(|(name, rule)| (name.into(), rule));
        Ok(Definition {
            name: wire.name.into(),
            target,
            conditions: wire.trigger_conditions,
            template,
            timeout: Duration::from_secs(wire.timeout_seconds),
            max_payload,
            method,
            headers: headers(wire.headers)?,
            format,
            lookups: lookups.collect(),
            credential: wire.credential.map(CredentialName::new).transpose()?,
            metadata: wire.metadata,
        })
    }
}

/// What serde says, without the value that it quotes, which may be a secret in the wrong place.
fn without_value(error: &serde_json::Error) -> String {
    let said = error.to_string();
    let quotes = [
        "invalid type",
        "invalid value",
        "invalid length",
        "unknown variant",
    ];
    let Some(kind) = quotes.iter().find(|kind| said.starts_with(**kind)) else {
        return said;
    };
    match said.rfind(", expected ") {
        Some(expected) => format!("{kind}{}", &said[expected..]),
        None => format!("{kind} at line {} column {}", error.line(), error.column()),
    }
}

fn target(url: &str) -> Result<Uri, InvalidConfig> {
    let invalid = |problem: &str| InvalidConfig::new("target_url", problem);
    let uri: Uri = url.parse().map_err(|_| invalid("must be a URL"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
        return Err(invalid(
            "must begin with `https://` or `http://`, and have a host",
        ));
    }
    Ok(uri)
}

fn headers(given: BTreeMap<String, String>) -> Result<HeaderMap, InvalidConfig> {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        // A header's value is never quoted: it may be a credential.
        let invalid = |problem: &str| InvalidConfig::new("headers", format!("`{name}` {problem}"));
        let parsed =
            HeaderName::try_from(&name).map_err(|_| invalid("is not the name of a header"))?;
        if SET_ELSEWHERE.contains(&parsed.as_str()) {
            return Err(invalid("is not for a definition: the delivery sets it"));
        }
        if holds_credentials(parsed.as_str()) {
            return Err(invalid("holds a credential: name it in `credential`"));
        }
        let value = HeaderValue::try_from(value)
            .map_err(|_| invalid("has a value that no header may have"))?;
        if headers.insert(parsed, value).is_some() {
            return Err(invalid("is there twice"));
        }
    }
    Ok(headers)
}

fn holds_credentials(name: &str) -> bool {
    let letters: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    name == header::WWW_AUTHENTICATE || CREDENTIALS.iter().any(|part| letters.contains(part))
}

fn check_lookup(name: &str, rule: &LookupRule) -> Result<(), InvalidConfig> {
    let invalid = |problem: String| InvalidConfig::new("lookups", format!("`{name}` {problem}"));
    let mut chars = name.chars();
    let begins = |char: char| char.is_ascii_alphabetic() || char == '_';
    let is_variable = chars.next().is_some_and(begins)
        && chars.all(|char| begins(char) || char.is_ascii_digit())
        && name.len() <= 64
        && name != "event";
    if !is_variable {
        return Err(invalid(
            "must be a variable: letters, digits and `_`, and not `event`".into(),
        ));
    }
    rule.check()
        .map_err(|error| invalid(format!("{}: {error}", error.setting())))
}
