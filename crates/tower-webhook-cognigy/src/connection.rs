//! A connection to an API: its address, its credential, and the layers that every call goes through.
//!
//! Both clients are made of one: [`documents::Webhooks`](crate::documents::Webhooks) and
//! [`platform::ApiClient`](crate::platform::ApiClient). A call goes through these layers of [`tower_webhook`], outermost
//! first:
//!
//! ```text
//! retry > credential > rate limit > metrics > breaker > attempt timeout > read the response > transport
//! ```
//!
//! So the rate limit counts what is sent once more after a 401, too. A call that an open breaker or a full rate limit refuses
//! waits for it, up to 8 times.
//!
//! # Settings
//!
//! | Setting | Default | Meaning |
//! | --- | --- | --- |
//! | [`credential`](ConnectionBuilder::credential) | none | who asks; sent to this API's host only |
//! | [`retry`](ConnectionBuilder::retry) | 3 retries, from 2 s, doubling, with up to 1 s of jitter | what is safe to retry: see below |
//! | [`rate_limit`](ConnectionBuilder::rate_limit) | none | requests in a window of time; more wait |
//! | [`attempt_timeout`](ConnectionBuilder::attempt_timeout) | 30 s | time limit of an attempt, with reading the response |
//! | [`rules`](ConnectionBuilder::rules) | `https`, public addresses | where requests may be sent |
//! | [`root_certificates`](ConnectionBuilder::root_certificates) | those of Mozilla | more roots, for a company's own authority |
//! | [`transport`](ConnectionBuilder::transport) | [`HttpsClient`] | another client |
//! | [`metrics`](ConnectionBuilder::metrics) | of its own | counts of calls and attempts |
//!
//! # Retries
//!
//! A request is sent again after 408, 425, 429, 5xx (not 501, 505, 511) and a broken connection, if its method is
//! idempotent or it has an `Idempotency-Key`; any request, if it provably never left, and a registration of the documents'
//! API after 429, which says that it was not taken. `Retry-After` is kept, up to the
//! [limit](tower_webhook::retry::HintLimit) of the retry settings, by default 5 minutes.
//! 401 and 409 are never sent again; a token that is refused is renewed once by the credential.
//!
//! # Cancel safety
//!
//! Dropping the future of a call ends it: the connection closes, its place in the rate limit and the breaker return.
//! What was asked for may have been done.

use crate::{
    ApiError,
    credential::{Credential, CredentialLayer},
    https::HttpsClient,
    rate_limit::RateLimitLayer,
};
use bytes::{Buf, BytesMut};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header, uri::PathAndQuery};
use http_body::Body;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{
    collections::HashSet,
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tower::{
    Layer, Service, ServiceExt,
    util::{BoxCloneSyncService, Either},
};
use tower_layer::Identity;
use tower_webhook::{
    BoxError, BoxFuture, InvalidConfig, RetryWithJitterLayer,
    body::BufferedBody,
    cognigy::presets,
    metrics::DeliveryMetrics,
    outcome::{
        Classify, ClassifyHttp, HttpClassifier, MakeClassifier, Outcome, TransportError, Unsendable,
    },
    retry::{Backoff, HttpExchange, Jitter, Refusals, RetryConfig},
    stack,
    target::TargetRules,
    transport,
};

/// The longest response that is read, in bytes. Of a refusal, what is longer is cut; a success that is longer is an error.
const MAX_RESPONSE: usize = 1 << 20;

/// What stays plain in a segment of a path: RFC 3986's unreserved characters.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

type Calls = BoxCloneSyncService<Request<BufferedBody>, Response<BufferedBody>, BoxError>;

/// A connection to an API. Clones share connections, tokens, limits and metrics.
///
/// # Examples
///
/// ```
/// use tower_webhook_cognigy::{connection::Connection, credential::Credential, rate_limit::RateLimitLayer};
///
/// let connection = Connection::builder("https://api.cognigy.ai")
///     .credential(Credential::api_key("an api key")?)
///     .rate_limit(RateLimitLayer::documents())
///     .build()?;
/// # let _ = connection;
/// # Ok::<_, tower_webhook::InvalidConfig>(())
/// ```
#[derive(Clone)]
pub struct Connection {
    base: Arc<Uri>,
    calls: Calls,
    /// Like `calls`, for what may be repeated after 429 though its method may not.
    creations: Calls,
    credential: Option<Credential>,
    metrics: DeliveryMetrics,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

/// Builder of a [`Connection`]: see the [module docs](self) for its settings.
#[derive(Debug)]
#[must_use]
pub struct ConnectionBuilder {
    base: String,
    credential: Option<Credential>,
    retry: Option<RetryConfig>,
    rate_limit: Option<RateLimitLayer>,
    attempt_timeout: Duration,
    rules: TargetRules,
    root_certificates: Vec<u8>,
    transport: Option<Boxed>,
    metrics: DeliveryMetrics,
}

/// A transport of the user, whose responses are read.
struct Boxed(Calls);

impl fmt::Debug for Boxed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport")
    }
}

/// A client that a [`Connection`] can stand on: every cloneable tower service of `Request<BufferedBody>` that answers with
/// an HTTP response. It is implemented for all of them.
pub trait Transport: sealed::Transport {}

impl<S: sealed::Transport> Transport for S {}

mod sealed {
    use super::{Body, BoxError, BufferedBody, Calls, Read, Request, Response, Service};

    pub trait Transport: Send + Sync + 'static {
        fn read(self) -> Calls;
    }

    impl<S, B> Transport for S
    where
        S: Service<Request<BufferedBody>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: Body<Error: Into<BoxError>, Data: Send> + Send + 'static,
    {
        fn read(self) -> Calls {
            Calls::new(Read(self))
        }
    }
}

impl Connection {
    /// Starts a connection to the API at this address, such as `https://api.cognigy.ai`. Its path, if it has one, comes
    /// before the path of each request.
    pub fn builder(base: impl Into<String>) -> ConnectionBuilder {
        ConnectionBuilder {
            base: base.into(),
            credential: None,
            retry: None,
            rate_limit: None,
            attempt_timeout: Duration::from_secs(30),
            rules: TargetRules::new(),
            root_certificates: Vec::new(),
            transport: None,
            metrics: DeliveryMetrics::new(),
        }
    }

    /// The metrics of the calls over this connection.
    pub const fn metrics(&self) -> &DeliveryMetrics {
        &self.metrics
    }

    /// Sends a request, for what this crate has no method for. Its URI is a path with its query, to which the address of
    /// the API is added.
    ///
    /// # Errors
    ///
    /// [`ApiError`], also if the status is no success.
    pub async fn send(
        &self,
        req: Request<BufferedBody>,
    ) -> Result<Response<BufferedBody>, ApiError> {
        self.call("send the request", Ok(req)).await
    }

    /// Sends a request, and refuses an answer that is no success.
    pub(crate) async fn call(
        &self,
        operation: &'static str,
        req: Result<Request<BufferedBody>, Unsendable>,
    ) -> Result<Response<BufferedBody>, ApiError> {
        self.call_by(&self.calls, operation, req).await
    }

    async fn call_by(
        &self,
        calls: &Calls,
        operation: &'static str,
        req: Result<Request<BufferedBody>, Unsendable>,
    ) -> Result<Response<BufferedBody>, ApiError> {
        let req = req
            .and_then(|req| self.resolved(req))
            .map_err(|error| ApiError::invalid(operation, error))?;
        let judge = HttpClassifier::new().make_classifier(&req);
        let asked = req.body().clone();
        let sent = calls.clone().oneshot(req).await;
        let res = sent.map_err(|error| ApiError::of_call(operation, error))?;
        if res.status().is_success() {
            return Ok(res);
        }
        let outcome = judge.classify(Ok::<_, &BoxError>(&res));
        let error = ApiError::of_response(operation, &res, outcome.retry_after());
        let mut secrets = secrets(asked.as_bytes());
        secrets.extend(self.credential.as_ref().and_then(Credential::sent));
        Err(error.hide(secrets.iter().map(String::as_str)))
    }

    /// Sends a request, and reads the JSON of the answer.
    pub(crate) async fn json<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        req: Result<Request<BufferedBody>, Unsendable>,
    ) -> Result<T, ApiError> {
        read_json(operation, self.call(operation, req).await?).await
    }

    /// [`json`](Self::json), which must be an object.
    #[cfg(feature = "documents")]
    pub(crate) async fn object<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        req: Result<Request<BufferedBody>, Unsendable>,
    ) -> Result<T, ApiError> {
        let Object(found) = self.json(operation, req).await?;
        Ok(found)
    }

    /// [`object`](Self::object), for a request that makes something: after 429 it is sent again too.
    #[cfg(feature = "documents")]
    pub(crate) async fn create<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        req: Result<Request<BufferedBody>, Unsendable>,
    ) -> Result<T, ApiError> {
        let res = self.call_by(&self.creations, operation, req).await?;
        let Object(found) = read_json(operation, res).await?;
        Ok(found)
    }

    /// The request with the address of the API before its path.
    fn resolved(
        &self,
        mut req: Request<BufferedBody>,
    ) -> Result<Request<BufferedBody>, Unsendable> {
        let asked = req.uri().path_and_query().map_or("/", PathAndQuery::as_str);
        if req.uri().authority().is_some() || !asked.starts_with('/') {
            return Err(Unsendable::because("the URI of a request is a path"));
        }
        let before = self.base.path().trim_end_matches('/');
        let mut parts = (*self.base).clone().into_parts();
        let path = PathAndQuery::try_from(format!("{before}{asked}"));
        parts.path_and_query = Some(path.map_err(Unsendable::because)?);
        *req.uri_mut() = Uri::from_parts(parts).map_err(Unsendable::because)?;
        let headers = req.headers_mut();
        let json = HeaderValue::from_static("application/json");
        headers.entry(header::ACCEPT).or_insert(json);
        Ok(req)
    }
}

async fn read_json<T: DeserializeOwned>(
    operation: &'static str,
    res: Response<BufferedBody>,
) -> Result<T, ApiError> {
    let (status, body) = (res.status(), res.body().clone());
    let read = transport::read_json(res).await;
    read.map_err(|error| {
        // The cause names the field; that it failed is said by the kind.
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        ApiError::unexpected(operation, status, &body, cause.unwrap_or_default())
    })
}

/// A JSON object. A type whose fields have defaults would take an array for one, too.
#[cfg(feature = "documents")]
struct Object<T>(T);

#[cfg(feature = "documents")]
impl<'de, T: serde::Deserialize<'de>> serde::Deserialize<'de> for Object<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::{MapAccess, Visitor, value::MapAccessDeserializer};

        struct OfMap<T>(std::marker::PhantomData<T>);

        impl<'de, T: serde::Deserialize<'de>> Visitor<'de> for OfMap<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(OfMap(std::marker::PhantomData))
    }
}

/// The values of a JSON request whose names say that they are secrets.
fn secrets(body: &[u8]) -> Vec<String> {
    fn collect(value: &Value, is_secret: bool, found: &mut Vec<String>) {
        match value {
            Value::String(text) if is_secret && !text.is_empty() => found.push(text.clone()),
            Value::Array(all) => all.iter().for_each(|one| collect(one, is_secret, found)),
            Value::Object(members) => {
                for (name, value) in members {
                    let name = name.to_ascii_lowercase();
                    let names = [
                        "secret", "password", "token", "apikey", "api_key", "api-key",
                    ];
                    let named = names.iter().any(|part| name.contains(part));
                    // Static headers of a webhook may have anything.
                    collect(value, is_secret || named || name == "headers", found);
                }
            }
            _ => {}
        }
    }

    let mut found = Vec::new();
    if let Ok(value) = serde_json::from_slice(body) {
        collect(&value, false, &mut found);
    }
    found
}

/// Judges calls that make something: after 429 they may be repeated, because nothing was made.
#[derive(Clone)]
struct Creations {
    plain: HttpClassifier,
    repeatable: HttpClassifier,
}

#[derive(Clone)]
struct JudgeCreation {
    plain: ClassifyHttp,
    repeatable: ClassifyHttp,
}

impl<B> MakeClassifier<Request<B>> for Creations {
    type Classifier = JudgeCreation;

    fn make_classifier(&self, req: &Request<B>) -> Self::Classifier {
        JudgeCreation {
            plain: self.plain.make_classifier(req),
            repeatable: self.repeatable.make_classifier(req),
        }
    }
}

impl<B, E: 'static> Classify<Response<B>, E> for JudgeCreation {
    fn classify(self, result: Result<&Response<B>, &E>) -> Outcome {
        match result {
            Ok(res) if res.status() == StatusCode::TOO_MANY_REQUESTS => {
                self.repeatable.classify(result)
            }
            _ => self.plain.classify(result),
        }
    }
}

impl ConnectionBuilder {
    /// Sets who asks. Default: nobody.
    pub fn credential(mut self, credential: Credential) -> Self {
        self.credential = Some(credential);
        self
    }

    /// Sets when and how often a call is tried again. Default: up to 3 retries, after 2 s, 4 s and 8 s with up to 1 s of
    /// jitter, as the platform's own client does; of registrations up to 4, after 1 s, 2 s, 4 s and 8 s with up to 0.5 s, as
    /// S2's client does.
    pub fn retry(mut self, retry: RetryConfig) -> Self {
        self.retry = Some(retry);
        self
    }

    /// Sets the rate limit. Default: none. Connections that share a key of the API share a limit: give them clones of it.
    pub fn rate_limit(mut self, limit: RateLimitLayer) -> Self {
        self.rate_limit = Some(limit);
        self
    }

    /// Sets the time limit of an attempt, with reading the response. Default: 30 s.
    pub const fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = timeout;
        self
    }

    /// Sets where requests may be sent. Default: `https`, and public addresses.
    pub const fn rules(mut self, rules: TargetRules) -> Self {
        self.rules = rules;
        self
    }

    /// Adds root certificates, as PEM. Default: those of Mozilla. With a [`transport`](Self::transport) of your own they
    /// have no effect.
    pub fn root_certificates(mut self, pem: &[u8]) -> Self {
        self.root_certificates.extend_from_slice(pem);
        self
    }

    /// Sets the client that sends requests: reqwest's, or one for tests. Default: [`HttpsClient`]. It must not follow
    /// redirects to other hosts with the headers of the request.
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.transport = Some(Boxed(transport.read()));
        self
    }

    /// Sets the metrics that count calls and attempts. Default: new ones.
    pub fn metrics(mut self, metrics: DeliveryMetrics) -> Self {
        self.metrics = metrics;
        self
    }

    /// Builds the connection.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] names the setting: `base`, `root_certificates` or `attempt_timeout`.
    pub fn build(self) -> Result<Connection, InvalidConfig> {
        let base: Uri = self
            .base
            .parse()
            .map_err(|_| InvalidConfig::new("base", "must be the URL of an API"))?;
        let checked = self.rules.check(&base);
        checked.map_err(|error| InvalidConfig::new("base", format!("is refused: {error}")))?;
        if base.query().is_some() {
            return Err(InvalidConfig::new("base", "must have no query"));
        }
        let transport = if let Some(Boxed(transport)) = self.transport {
            transport
        } else {
            let mut client = HttpsClient::builder().rules(self.rules);
            if !self.root_certificates.is_empty() {
                client = client.root_certificates(&self.root_certificates)?;
            }
            sealed::Transport::read(client.build())
        };
        let credential = match self.credential.clone() {
            Some(credential) => Either::Left(CredentialLayer::with_rules(
                credential, &self.base, self.rules,
            )?),
            None => Either::Right(Identity::new()),
        };
        let limit = match self.rate_limit {
            Some(limit) => Either::Left(limit),
            None => Either::Right(Identity::new()),
        };
        let attempt = stack::attempt()
            .attempt_timeout(self.attempt_timeout)
            .metrics(self.metrics.clone())
            .build()?;
        let (retry, of_creations) = match self.retry {
            Some(retry) => (retry.clone(), retry),
            None => (default_retry()?, creation_retry()?),
        };
        let attempt = limit.layer(attempt.layer(transport));
        let attempt = Calls::new(
            credential
                .layer(attempt.map_err(Into::into))
                .map_err(Into::into),
        );
        let layer = |retry| {
            RetryWithJitterLayer::new(retry)
                .observe(self.metrics.clone())
                .exchange(HttpExchange::new())
        };
        let creations = layer(of_creations).classifier(Creations {
            plain: HttpClassifier::new(),
            repeatable: HttpClassifier::new().assume_repeatable(true),
        });
        Ok(Connection {
            base: Arc::new(base),
            calls: Calls::new(layer(retry).layer(attempt.clone()).map_err(Into::into)),
            creations: Calls::new(creations.layer(attempt).map_err(Into::into)),
            credential: self.credential,
            metrics: self.metrics,
        })
    }
}

/// The delays of the platform's own client: `2^n` seconds from 2, and up to 1 s more.
fn default_retry() -> Result<RetryConfig, InvalidConfig> {
    let backoff = Backoff::exponential(Duration::from_secs(2), Duration::from_secs(30))
        .jitter(Jitter::Additive(Duration::from_secs(1)));
    RetryConfig::builder()
        .attempts(4)
        .backoff(backoff.build()?)
        .refusals(REFUSALS)
        .build()
}

/// S2's: up to 4 retries, after 1 s, 2 s, 4 s and 8 s with up to 0.5 s of jitter.
fn creation_retry() -> Result<RetryConfig, InvalidConfig> {
    RetryConfig::builder()
        .schedule(presets::client_schedule())
        .refusals(REFUSALS)
        .build()
}

/// An outage of some seconds opens the breaker: the rest of a bulk waits for it and is not thrown away.
const REFUSALS: Refusals = Refusals::Wait(8);

/// A request with a path of this API.
pub(crate) fn request(method: Method, path: &str) -> Result<Request<BufferedBody>, Unsendable> {
    let req = Request::builder().method(method).uri(path);
    req.body(BufferedBody::default())
        .map_err(Unsendable::because)
}

/// A request with a JSON body.
pub(crate) fn request_json<T: Serialize + ?Sized>(
    method: Method,
    path: &str,
    value: &T,
) -> Result<Request<BufferedBody>, Unsendable> {
    let mut req = transport::post_json(path, value)?;
    *req.method_mut() = method;
    Ok(req)
}

/// An id as one segment of a path.
///
/// `.` and `..` are refused: every client and server may take them, in either spelling, for a step in the path.
pub(crate) fn segment(name: &'static str, id: &str) -> Result<String, Unsendable> {
    if matches!(id, "" | "." | "..") {
        return Err(Unsendable::because(format!("{name} must be an id")));
    }
    Ok(utf8_percent_encode(id, SEGMENT).to_string())
}

/// The most pages of a list: a million webhooks of the documents.
const MAX_PAGES: usize = 10_000;

/// The pages of a list so far. A list whose pages come again or have no end is an error.
#[derive(Default)]
pub(crate) struct Pages {
    read: usize,
    /// Digests: the server decides how long a cursor is.
    cursors: HashSet<[u8; 32]>,
}

impl Pages {
    /// After a page that says that there are more: whether the next one may be asked for, by this cursor if there is one.
    pub(crate) fn may_follow(&mut self, cursor: Option<&str>) -> bool {
        self.read += 1;
        let is_new = |cursor: &str| self.cursors.insert(Sha256::digest(cursor).into());
        self.read < MAX_PAGES && cursor.is_none_or(is_new)
    }
}

/// A path and its query, with the values encoded.
pub(crate) fn with_query(path: &str, query: &[(&str, &str)]) -> String {
    let mut out = path.to_owned();
    for (name, value) in query {
        out.push(if out.contains('?') { '&' } else { '?' });
        out.push_str(name);
        out.push('=');
        out.extend(utf8_percent_encode(value, SEGMENT));
    }
    out
}

/// Reads each response into memory, within the time limit of the attempt.
#[derive(Clone, Debug)]
struct Read<S>(S);

impl<S, B> Service<Request<BufferedBody>> for Read<S>
where
    S: Service<Request<BufferedBody>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: Body<Error: Into<BoxError>, Data: Send> + Send + 'static,
{
    type Response = Response<BufferedBody>;
    type Error = BoxError;
    /// Boxed: a request over the network costs more than a box.
    type Future = BoxFuture<Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, req: Request<BufferedBody>) -> Self::Future {
        let sent = self.0.call(req);
        Box::pin(async move {
            let (head, body) = sent.await.map_err(Into::into)?.into_parts();
            let body = read(body, !head.status.is_success()).await?;
            Ok(Response::from_parts(head, body))
        })
    }
}

/// Reads a body up to the limit. What is longer is cut, or an error.
async fn read<B>(body: B, cut: bool) -> Result<BufferedBody, TransportError>
where
    B: Body<Error: Into<BoxError>>,
{
    let mut body = pin!(body);
    let mut bytes = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| Pin::as_mut(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| TransportError::new(Outcome::transient(), error))?;
        let Ok(mut data) = frame.into_data() else {
            continue;
        };
        let room = MAX_RESPONSE - bytes.len();
        if data.remaining() <= room {
            bytes.extend_from_slice(&data.copy_to_bytes(data.remaining()));
        } else if cut {
            bytes.extend_from_slice(&data.copy_to_bytes(room));
            break;
        } else {
            let text = format!("the response is longer than {MAX_RESPONSE} bytes");
            return Err(TransportError::new(Outcome::permanent(), text));
        }
    }
    Ok(BufferedBody::new(bytes.freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_end_where_a_cursor_comes_again_and_after_ten_thousand() {
        let mut pages = Pages::default();
        let long = "x".repeat(60_000);
        assert!(pages.may_follow(Some(&long)) && pages.may_follow(None) && pages.may_follow(None));
        assert!(!pages.may_follow(Some(&long)));

        let mut pages = Pages::default();
        let last = (1..20_000).find(|page: &usize| !pages.may_follow(Some(&page.to_string())));
        assert_eq!(last, Some(10_000));
    }
}
