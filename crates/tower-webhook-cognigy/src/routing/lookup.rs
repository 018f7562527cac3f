//! External data by key: from whom, by which key, how long, and what if it fails.

use super::{Input, RouteErrorKind, template};
use crate::credential::CredentialName;
use futures_util::{
    FutureExt,
    future::{Shared, WeakShared},
};
use http::{HeaderValue, Request, Response, Uri, header::ACCEPT};
use http_body::Body;
use moka::{policy::EvictionPolicy, sync::Cache};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;
use std::{
    collections::HashMap,
    error::Error,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, timeout};
use tower::{ServiceExt, util::BoxCloneSyncService};
use tower_service::Service;
use tower_webhook::{
    BoxError, BoxFuture, InvalidConfig,
    body::{BufferedBody, collect},
    outcome::{Classify, HttpClassifier, MakeClassifier, Outcome, TransportError},
};

/// The longest key, in bytes.
const LONGEST_KEY: usize = 1024;

/// The longest answer to a lookup over HTTP, in bytes.
const LONGEST_ANSWER: usize = 256 << 10;

/// The bytes of all that was found and is kept.
const MOST_KEPT: u64 = 32 << 20;

/// The most seconds for which something found is kept: a day.
const LONGEST_TTL: u64 = 24 * 60 * 60;

/// What stands for the key in a URL.
const PLACE: &str = "{key}";

/// What a URL may have as it is in any place: RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Finds external data by key.
///
/// [`lookup_fn`] makes one of a closure; a definition that has a `url` needs none. A lookup that takes too long is
/// dropped.
///
/// Errors are judged by their [outcome](tower_webhook::outcome::Outcome::of_error): any other error is transient, so
/// that the event is routed again.
pub trait Lookup: Send + Sync + 'static {
    /// What is known of `key`; `None` if nothing.
    fn look_up(&self, key: &str) -> BoxFuture<Result<Option<Value>, BoxError>>;
}

/// A [`Lookup`] of a closure.
///
/// # Examples
///
/// ```
/// use serde_json::json;
/// use tower_webhook_cognigy::routing::{Routes, lookup_fn};
///
/// let crm = lookup_fn(|key| async move { Ok(Some(json!({"id": key, "tier": "gold"}))) });
/// let routes = Routes::builder().lookup("crm", crm);
/// # let _ = routes;
/// ```
pub fn lookup_fn<F, Fut>(look_up: F) -> impl Lookup
where
    F: Fn(String) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Option<Value>, BoxError>> + Send + 'static,
{
    struct LookupFn<F>(F);

    impl<F, Fut> Lookup for LookupFn<F>
    where
        F: Fn(String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Option<Value>, BoxError>> + Send + 'static,
    {
        fn look_up(&self, key: &str) -> BoxFuture<Result<Option<Value>, BoxError>> {
            Box::pin((self.0)(key.to_owned()))
        }
    }

    LookupFn(look_up)
}

/// Which external data a definition needs, and what if they cannot be had. In JSON:
///
/// | Field | Default | Meaning |
/// | --- | --- | --- |
/// | `url` | this or `source` | a GET of this URL: `{key}` stands for the key, and is percent-encoded |
/// | `source` | this or `url` | the name of a [`Lookup`] that the application has |
/// | `key` | required | JSON pointers (RFC 6901) into the event, as text or as a list: the first that finds text, a number or a boolean |
/// | `required` | `true` | whether the event is not routed if this fails; otherwise the variable is null |
/// | `listed_in` | always | a JSON pointer to a list in the event, as S1's `lookup_keys`: if it does not have the variable's name, nothing is looked up, and the variable is undefined |
/// | `timeout_ms` | 2000 | 1 to 30000 |
/// | `ttl_seconds` | 60 | how old what was found may be, at most a day; 0: it is asked for again |
/// | `credential` | none | the name of a credential for the GET; never the credential itself |
///
/// # Examples
///
/// S4's CRM, by `externalId` or else `userId`:
///
/// ```
/// use tower_webhook_cognigy::routing::{Definition, LookupRule};
///
/// let crm = LookupRule::url(
///     "https://api.example-crm.com/v1/contacts?external_id={key}",
///     ["/externalId", "/userId"],
/// );
/// let definition = Definition::builder("enriched", "https://example.com/events")
///     .lookup("crm_context", crm.optional())
///     .template(r#"{"event": {{ event }}, "crm_context": {{ crm_context }}}"#)
///     .build()?;
/// # let _ = definition;
/// # Ok::<_, tower_webhook::InvalidConfig>(())
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[must_use]
pub struct LookupRule {
    #[serde(default)]
    pub(super) url: Option<String>,
    #[serde(default)]
    pub(super) source: Option<String>,
    #[serde(deserialize_with = "one_or_many")]
    key: Vec<String>,
    #[serde(default = "yes")]
    pub(super) required: bool,
    #[serde(default)]
    listed_in: Option<String>,
    #[serde(default = "default_timeout")]
    timeout_ms: u64,
    #[serde(default = "default_ttl")]
    ttl_seconds: u64,
    #[serde(default)]
    pub(super) credential: Option<String>,
}

const fn yes() -> bool {
    true
}

const fn default_timeout() -> u64 {
    2000
}

const fn default_ttl() -> u64 {
    60
}

impl LookupRule {
    /// A GET of `url`, in which `{key}` stands for the first of these values of the event.
    pub fn url(url: impl Into<String>, key: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::new(Some(url.into()), None, key)
    }

    /// A [`Lookup`] that [`Routes`](super::Routes) has under this name.
    pub fn source(
        source: impl Into<String>,
        key: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self::new(None, Some(source.into()), key)
    }

    fn new(
        url: Option<String>,
        source: Option<String>,
        key: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self {
            url,
            source,
            key: key.into_iter().map(Into::into).collect(),
            required: true,
            listed_in: None,
            timeout_ms: default_timeout(),
            ttl_seconds: default_ttl(),
            credential: None,
        }
    }

    /// The event is routed without: the variable is null if the lookup fails, finds nothing, or has no key. Default: it
    /// is not routed.
    pub const fn optional(mut self) -> Self {
        self.required = false;
        self
    }

    /// Looks up only if the list at this JSON pointer has the variable's name. Default: always.
    pub fn listed_in(mut self, pointer: impl Into<String>) -> Self {
        self.listed_in = Some(pointer.into());
        self
    }

    /// Sets the time limit, in milliseconds: 1 to 30000. Default: 2000.
    pub const fn timeout_ms(mut self, ms: u64) -> Self {
        self.timeout_ms = ms;
        self
    }

    /// Sets how old what was found may be, in seconds: at most 86400. Default: 60. With 0 it is asked for again.
    ///
    /// Rules with one URL or source, and one credential, share what is found and what is under way. Each holds to its
    /// own time to live and time limit.
    pub const fn ttl_seconds(mut self, seconds: u64) -> Self {
        self.ttl_seconds = seconds;
        self
    }

    /// Names the credential of the GET. Default: none.
    pub fn credential(mut self, name: impl Into<String>) -> Self {
        self.credential = Some(name.into());
        self
    }

    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        match (&self.url, &self.source) {
            (Some(url), None) => {
                UrlTemplate::new(url)?;
            }
            (None, Some(_)) if self.credential.is_some() => {
                return Err(InvalidConfig::new("credential", "is only for a `url`"));
            }
            (None, Some(_)) => {}
            _ => {
                return Err(InvalidConfig::new(
                    "url",
                    "or `source` must be there, and not both",
                ));
            }
        }
        if let Some(credential) = &self.credential {
            CredentialName::new(credential.as_str())?;
        }
        let is_pointer = |pointer: &String| pointer.is_empty() || pointer.starts_with('/');
        if self.key.is_empty() || !self.key.iter().all(is_pointer) {
            return Err(InvalidConfig::new(
                "key",
                "must be JSON pointers, such as `/userId`",
            ));
        }
        if !self.listed_in.iter().all(is_pointer) {
            return Err(InvalidConfig::new(
                "listed_in",
                "must be a JSON pointer, such as `/lookup_keys`",
            ));
        }
        if !(1..=30_000).contains(&self.timeout_ms) {
            return Err(InvalidConfig::new("timeout_ms", "must be from 1 to 30000"));
        }
        if self.ttl_seconds > LONGEST_TTL {
            return Err(InvalidConfig::new("ttl_seconds", "must be 86400 at most"));
        }
        Ok(())
    }

    /// The key of an event, if it has one.
    fn key_of(&self, event: &Value) -> Option<String> {
        let key = self
            .key
            .iter()
            .find_map(|pointer| match event.pointer(pointer)? {
                Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
                Value::Number(number) => Some(number.to_string()),
                Value::Bool(bool) => Some(bool.to_string()),
                _ => None,
            })?;
        // In a path these two are not data, however they are encoded.
        Some(key).filter(|key| key.len() <= LONGEST_KEY && key != "." && key != "..")
    }

    fn is_asked_for(&self, name: &str, event: &Value) -> bool {
        let Some(pointer) = &self.listed_in else {
            return true;
        };
        let list = event.pointer(pointer).and_then(Value::as_array);
        list.is_some_and(|list| list.iter().any(|listed| listed == name))
    }
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct OneOrMany;

    impl<'de> de::Visitor<'de> for OneOrMany {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON pointer or a list of them")
        }

        fn visit_str<E>(self, one: &str) -> Result<Vec<String>, E> {
            Ok(vec![one.to_owned()])
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, many: A) -> Result<Vec<String>, A::Error> {
            Vec::deserialize(de::value::SeqAccessDeserializer::new(many))
        }
    }

    deserializer.deserialize_any(OneOrMany)
}

/// A URL with a place for the key.
pub(super) struct UrlTemplate<'a> {
    before: &'a str,
    after: &'a str,
}

impl<'a> UrlTemplate<'a> {
    fn new(url: &'a str) -> Result<Self, InvalidConfig> {
        let invalid = |problem: &str| InvalidConfig::new("url", problem);
        let (before, after) = url
            .split_once(PLACE)
            .filter(|(_, after)| !after.contains(PLACE))
            .ok_or_else(|| invalid("must have one `{key}`"))?;
        // The key must not choose the host.
        let Some((_, behind)) = before.split_once("://") else {
            return Err(invalid("must begin with `https://` or `http://`"));
        };
        if url.contains('#') {
            return Err(invalid("must have no fragment: it is not sent"));
        }
        if !behind.contains('/') {
            return Err(invalid("must have `{key}` in its path or query"));
        }
        let template = Self { before, after };
        template
            .uri("key")
            .ok_or_else(|| invalid("must be a URL"))?;
        Ok(template)
    }

    fn uri(&self, key: &str) -> Option<Uri> {
        let key = utf8_percent_encode(key, RESERVED);
        format!("{}{key}{}", self.before, self.after).parse().ok()
    }
}

/// The URL of a rule for an ordinary key: what the rules for targets are asked about.
pub(super) fn example(url: &str) -> Option<Uri> {
    UrlTemplate::new(url).ok()?.uri("key")
}

pub(super) type Client =
    BoxCloneSyncService<Request<BufferedBody>, Response<BufferedBody>, BoxError>;

/// A client whose answers are read, up to a limit.
pub(super) fn client<S, B>(service: S) -> Client
where
    S: Service<Request<BufferedBody>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError> + Send,
{
    let reading = |res: Response<B>| async move {
        let (head, body) = res.into_parts();
        let body = collect(body, LONGEST_ANSWER).await;
        let body = body.map_err(|error| match error {
            tower_webhook::body::CollectError::Read(error) => {
                TransportError::new(Outcome::transient(), error)
            }
            _ => TransportError::new(Outcome::permanent(), "the answer is too long"),
        })?;
        Ok::<_, BoxError>(Response::from_parts(head, body))
    };
    Client::new(service.map_err(Into::<BoxError>::into).and_then(reading))
}

/// The GET of a rule.
async fn get(
    client: Client,
    uri: Uri,
    credential: Option<CredentialName>,
) -> Result<Option<Value>, BoxError> {
    let mut req = Request::new(BufferedBody::default());
    *req.uri_mut() = uri;
    req.headers_mut()
        .insert(ACCEPT, HeaderValue::from_static("application/json"));
    if let Some(credential) = credential {
        req.extensions_mut().insert(credential);
    }
    let classifier = HttpClassifier::new().make_classifier(&req);
    let res = client.oneshot(req).await?;
    let status = res.status();
    if matches!(status.as_u16(), 204 | 404 | 410) {
        return Ok(None);
    }
    let outcome = classifier.classify(Ok::<_, &BoxError>(&res));
    if !status.is_success() {
        return Err(TransportError::new(outcome, format!("status {}", status.as_u16())).into());
    }
    let json = serde_json::from_slice(res.body().as_bytes());
    // The text of serde's error may quote the answer.
    json.map(Some)
        .map_err(|_| TransportError::new(Outcome::permanent(), "the answer is not JSON").into())
}

/// Where a lookup goes: what is kept and what is under way is known by this and the key.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    source: String,
    key: String,
}

/// What was found, nothing or a value, and when: how long it may be used is for each rule to say.
#[derive(Clone)]
struct Found {
    value: Option<minijinja::Value>,
    bytes: u32,
    at: Instant,
}

type Flight = BoxFuture<Result<Found, Arc<dyn Error + Send + Sync>>>;

/// A lookup that is under way.
struct Underway {
    number: u64,
    began: Instant,
    flight: WeakShared<Flight>,
}

/// All lookups of a registry, with what they found.
pub(super) struct Lookups {
    pub named: HashMap<String, Arc<dyn Lookup>>,
    pub client: Option<Client>,
    kept: Cache<Key, Found>,
    flights: Mutex<HashMap<Key, Underway>>,
    next: AtomicU64,
}

impl Lookups {
    pub(super) fn new(named: HashMap<String, Arc<dyn Lookup>>, client: Option<Client>) -> Self {
        Self {
            named,
            client,
            kept: Cache::builder()
                .max_capacity(MOST_KEPT)
                .weigher(|key: &Key, found: &Found| {
                    let key = u32::try_from(key.source.len() + key.key.len()).unwrap_or(u32::MAX);
                    found.bytes.saturating_add(key).saturating_add(128)
                })
                .time_to_live(Duration::from_secs(LONGEST_TTL))
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            flights: Mutex::default(),
            next: AtomicU64::new(0),
        }
    }

    /// The value of a rule for an event. `None`: it was not asked for.
    pub(super) async fn find(
        self: &Arc<Self>,
        name: &Arc<str>,
        rule: &LookupRule,
        input: &Input,
    ) -> Result<Option<minijinja::Value>, RouteErrorKind> {
        if !rule.is_asked_for(name, input.json()) {
            return Ok(None);
        }
        let lookup = || Arc::clone(name);
        let found = match rule.key_of(input.json()) {
            None => Err(RouteErrorKind::Key { lookup: lookup() }),
            Some(key) => match self.look_up(rule, key).await {
                Ok(Some(value)) => Ok(value),
                Ok(None) => Err(RouteErrorKind::NotFound { lookup: lookup() }),
                Err(source) => Err(RouteErrorKind::Lookup {
                    lookup: lookup(),
                    source,
                }),
            },
        };
        match found {
            Ok(value) => Ok(Some(value)),
            Err(_) if !rule.required => Ok(Some(minijinja::Value::from(()))),
            Err(error) => Err(error),
        }
    }

    async fn look_up(
        self: &Arc<Self>,
        rule: &LookupRule,
        key: String,
    ) -> Result<Option<minijinja::Value>, Arc<dyn Error + Send + Sync>> {
        let limit = Duration::from_millis(rule.timeout_ms);
        let ttl = Duration::from_secs(rule.ttl_seconds);
        let key = Key {
            source: source_of(rule),
            key,
        };
        let kept = |key| self.kept.get(key).map(|found: Found| (found.at, found));
        if !ttl.is_zero()
            && let Some((at, found)) = kept(&key)
            && at.elapsed() < ttl
        {
            return Ok(found.value);
        }
        let flight = self.flight(rule, &key, limit);
        let found = timeout(limit, flight).await;
        let found = found.unwrap_or_else(|_| Err(too_slow().into()))?;
        if !ttl.is_zero() && kept(&key).is_none_or(|(at, _)| at < found.at) {
            self.kept.insert(key, found.clone());
        }
        Ok(found.value)
    }

    /// The lookup of this key that is under way, or a new one. It ends when nobody waits for it any more: each waits as
    /// long as its own rule says. One that has already taken longer than that is not waited for again.
    fn flight(self: &Arc<Self>, rule: &LookupRule, key: &Key, limit: Duration) -> Shared<Flight> {
        let mut flights = self.flights();
        if let Some(flight) = flights
            .get(key)
            .filter(|underway| underway.began.elapsed() < limit)
            .and_then(|underway| underway.flight.upgrade())
        {
            return flight;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let landing = Landing {
            lookups: Arc::downgrade(self),
            key: key.clone(),
            number,
        };
        let (this, rule) = (Arc::clone(self), rule.clone());
        let flight: Flight = Box::pin(async move {
            let found = this.ask(&rule, &landing.key.key).await?;
            let bytes = found.as_ref().map_or(0, size);
            Ok(Found {
                value: found.as_ref().map(template::value),
                bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
                at: Instant::now(),
            })
        });
        let flight = flight.shared();
        if let Some(weak) = flight.downgrade() {
            let underway = Underway {
                number,
                began: Instant::now(),
                flight: weak,
            };
            flights.insert(key.clone(), underway);
        }
        flight
    }

    fn ask(&self, rule: &LookupRule, key: &str) -> BoxFuture<Result<Option<Value>, BoxError>> {
        if let Some(lookup) = rule
            .source
            .as_ref()
            .and_then(|source| self.named.get(source))
        {
            return lookup.look_up(key);
        }
        let template = rule
            .url
            .as_deref()
            .and_then(|url| UrlTemplate::new(url).ok());
        let uri = template.and_then(|template| template.uri(key));
        let credential = rule.credential.as_deref().map(CredentialName::new);
        match (&self.client, uri, credential.transpose()) {
            (Some(client), Some(uri), Ok(credential)) => {
                Box::pin(get(client.clone(), uri, credential))
            }
            // Only a key that makes the URL too long comes here: the rest was checked when it was loaded.
            _ => Box::pin(async {
                Err(TransportError::new(Outcome::unsendable(), "no such URL").into())
            }),
        }
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<Key, Underway>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Two rules with one source share what is found.
fn source_of(rule: &LookupRule) -> String {
    match (&rule.url, &rule.source) {
        (Some(url), _) => {
            let credential = rule.credential.as_deref().unwrap_or_default();
            format!("url {credential} {url}")
        }
        (None, source) => format!("source {}", source.as_deref().unwrap_or_default()),
    }
}

fn too_slow() -> BoxError {
    TransportError::new(Outcome::transient(), "it took too long").into()
}

/// The end of a flight, also of one that is dropped.
struct Landing {
    lookups: Weak<Lookups>,
    key: Key,
    number: u64,
}

impl Drop for Landing {
    fn drop(&mut self) {
        if let Some(lookups) = self.lookups.upgrade() {
            let mut flights = lookups.flights();
            if flights
                .get(&self.key)
                .is_some_and(|underway| underway.number == self.number)
            {
                flights.remove(&self.key);
            }
        }
    }
}

/// About how many bytes a value takes.
fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 32,
        Value::String(text) => 32 + text.len(),
        Value::Array(items) => 32 + items.iter().map(size).sum::<usize>(),
        Value::Object(members) => {
            let members = members
                .iter()
                .map(|(key, member)| 64 + key.len() + size(member));
            32 + members.sum::<usize>()
        }
    }
}
