//! The layer with its settings, and the service.

use super::{
    FingerprintOf, IdempotencyError, IdempotencyKey, KeySource, ResponseFuture, Store, answer,
};
use crate::{
    InvalidConfig,
    body::{BufferedBody, BufferedFrom, BufferedService, CloneService, ResponseBody},
    observe::{Event, Id, Observer, Observers},
    original_uri::original_uri,
    problem::{Problem, Refuser},
};
use bytes::Bytes;
use http::{HeaderName, Method, Request, Response, response};
use http_body::Body;
use std::{
    borrow::Cow,
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tower_layer::Layer;
use tower_service::Service;

/// Runs the handler once per key and gives repeats the stored answer.
///
/// See the [module docs](super). Made by [`webhook`](Self::webhook) or [`api`](Self::api), which set
/// different defaults for the two kinds of caller.
#[derive(Clone, Debug)]
#[must_use]
pub struct IdempotencyLayer<St> {
    store: St,
    settings: Settings,
}

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) source: KeySource,
    pub(super) required: bool,
    pub(super) scope: Scope,
    pub(super) methods: Option<Vec<Method>>,
    pub(super) fingerprint: FingerprintOf,
    pub(super) lease: Duration,
    pub(super) ttl: Duration,
    pub(super) wait: Duration,
    pub(super) outage: StoreOutage,
    pub(super) store_timeout: Duration,
    pub(super) keep: Keep,
    pub(super) stored_headers: StoredHeaders,
    pub(super) max_answer: usize,
    pub(super) marker: HeaderName,
    pub(super) refuser: Refuser<IdempotencyError>,
    pub(super) observers: Observers,
}

impl Settings {
    /// Returns the key of `req`, or `None` if it has none and needs none.
    pub(super) fn key(
        &self,
        req: &Request<BufferedBody>,
    ) -> Result<Option<IdempotencyKey>, IdempotencyError> {
        if let Some(methods) = &self.methods
            && !methods.contains(req.method())
        {
            return Ok(None);
        }
        let malformed = |error| IdempotencyError::Key {
            error,
            expected: self.source.place(),
        };
        match self.source.find(req).map_err(malformed)? {
            Some(id) => IdempotencyKey::new(&self.scope.of(req), &id)
                .map(Some)
                .map_err(malformed),
            None if self.required => Err(IdempotencyError::KeyMissing {
                expected: self.source.place(),
            }),
            None => Ok(None),
        }
    }

    /// Refuses a request, and tells the observers why.
    pub(super) fn refuse<B>(&self, reason: IdempotencyError) -> Response<ResponseBody<B>> {
        // For the program, not for the caller.
        let advice = match reason {
            IdempotencyError::KeyMissing { .. } => self.source.advice(),
            _ => "",
        };
        let detail = format_args!("{reason}{advice}");
        self.observers.tell(|| Event::Refused {
            by: "idempotency",
            reason: reason.as_str(),
            detail: Id::new(&detail),
        });
        self.refuser.response(reason)
    }

    pub(super) fn trouble(&self, what: &'static str, detail: Option<Id<'_>>) {
        self.observers.tell(|| Event::Trouble {
            part: "idempotency",
            what,
            detail,
        });
    }
}

/// What the layer does while its store fails or does not answer.
///
/// It does not apply to a stored answer that cannot be read, because it is damaged or a newer release
/// wrote it: the work was done, so the request is refused with 503 in either case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreOutage {
    /// Refuses requests with 503 and `Retry-After`, so that nothing runs twice. The default.
    #[default]
    FailClosed,
    /// Runs the handler without a claim: no request is refused, but repeats run again. The responses carry
    /// [`Disposition::Unclaimed`](super::Disposition::Unclaimed) in their extensions.
    FailOpen,
}

/// Which answers are stored and replayed.
#[derive(Clone)]
pub(super) enum Keep {
    Webhook,
    Api,
    Custom(Arc<dyn Fn(&response::Parts) -> bool + Send + Sync>),
}

/// Which headers and trailers of an answer are stored. `None`: all but cookies and credentials.
#[derive(Clone, Default)]
pub(super) struct StoredHeaders(Option<Arc<IsStored>>);

type IsStored = dyn Fn(&HeaderName) -> bool + Send + Sync;

impl StoredHeaders {
    pub(super) fn has(&self, name: &HeaderName) -> bool {
        match &self.0 {
            Some(is_stored) => is_stored(name),
            None => answer::stored_by_default(name),
        }
    }
}

impl fmt::Debug for StoredHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "custom"
        } else {
            "no credentials"
        })
    }
}

impl Keep {
    pub(super) fn keeps(&self, head: &response::Parts) -> bool {
        let status = head.status;
        match self {
            // A delivery that the handler refused is sent again when the handler was mended. A gRPC call that fails at
            // once has status 200.
            Self::Webhook => {
                let of_grpc = head.headers.get("grpc-status");
                status.is_success() && of_grpc.is_none_or(|status| status == "0")
            }
            // "Not now" is not a result: the caller is asked to try again, and the handler must run then.
            Self::Api => !matches!(status.as_u16(), 408 | 409 | 425 | 429 | 503),
            Self::Custom(keep) => keep(head),
        }
    }
}

impl fmt::Debug for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Webhook => "success",
            Self::Api => "any result",
            Self::Custom(_) => "custom",
        })
    }
}

type ScopeOf = dyn Fn(&Request<BufferedBody>) -> String + Send + Sync;

/// The scope within which an id is unique.
#[derive(Clone)]
pub(super) enum Scope {
    Path,
    Fixed(Arc<str>),
    Closure(Arc<ScopeOf>),
}

impl Scope {
    fn of<'a>(&'a self, req: &'a Request<BufferedBody>) -> Cow<'a, str> {
        let scope = match self {
            Self::Path => original_uri(req).path(),
            Self::Fixed(scope) => &**scope,
            Self::Closure(scope) => return scope(req).into(),
        };
        match tenant(req) {
            Some(tenant) => of_tenant(tenant, scope).into(),
            None => scope.into(),
        }
    }
}

/// The tenant whose secret signed the request.
#[cfg(feature = "signature")]
fn tenant(req: &Request<BufferedBody>) -> Option<&str> {
    let verified = req.extensions().get::<crate::signature::Verified>()?;
    verified.tenant()
}

#[cfg(not(feature = "signature"))]
const fn tenant(_: &Request<BufferedBody>) -> Option<&str> {
    None
}

/// Of two tenants, the ids of one may be those of the other: by chance, or because one of them wants it. The length
/// keeps the two texts apart.
fn of_tenant(tenant: &str, scope: &str) -> String {
    format!("tenant:{}:{tenant}:{scope}", tenant.len())
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path => f.write_str("path"),
            Self::Fixed(scope) => write!(f, "{scope:?}"),
            Self::Closure(_) => f.write_str("closure"),
        }
    }
}

impl<St: Store> IdempotencyLayer<St> {
    /// Makes the layer for incoming webhooks, whose senders repeat every request that is not answered 2xx.
    ///
    /// | Setting | Value |
    /// | --- | --- |
    /// | stored statuses | 2xx, without a `grpc-status` of a failure; any other, a panic and a cancelled request free the key, so that the handler runs when the sender, or an operator of it, sends the event again |
    /// | time to live | 7 days: longer than any provider repeats |
    /// | fingerprint | none: senders repeat an id with another timestamp |
    /// | scope | the original path, and the verified [tenant](crate::signature#many-tenants) |
    /// | request without a key | refused with 400 |
    ///
    /// The signature should cover the id that `key` reads: see [`KeySource`].
    pub fn webhook(store: St, key: KeySource) -> Self {
        Self {
            store,
            settings: Settings {
                source: key,
                required: true,
                scope: Scope::Path,
                methods: None,
                fingerprint: FingerprintOf::Nothing,
                lease: Duration::from_secs(60),
                ttl: Duration::from_secs(7 * 24 * 60 * 60),
                wait: Duration::ZERO,
                outage: StoreOutage::FailClosed,
                store_timeout: Duration::from_secs(5),
                keep: Keep::Webhook,
                stored_headers: StoredHeaders::default(),
                max_answer: 256 << 10,
                marker: HeaderName::from_static("idempotent-replayed"),
                refuser: Refuser::new(),
                observers: Observers::none(),
            },
        }
    }

    /// Makes the layer for an API of your own, after draft-ietf-httpapi-idempotency-key-header-07.
    ///
    /// | Setting | Value |
    /// | --- | --- |
    /// | key | the header `Idempotency-Key` |
    /// | methods | `POST` and `PATCH`; requests with other methods pass |
    /// | stored statuses | all, including errors (as Stripe does), except 408, 409, 425, 429 and 503; a panic and a cancelled request free the key |
    /// | time to live | 24 hours |
    /// | fingerprint | method, original path and query, body |
    /// | scope | the original path |
    /// | request without a key | refused with 400 |
    ///
    /// If callers have accounts, include the account in the scope with
    /// [`scope_with`](Self::scope_with). Otherwise one caller can get the stored
    /// answers of another.
    pub fn api(store: St) -> Self {
        let key = KeySource::header(HeaderName::from_static("idempotency-key"));
        let mut layer = Self::webhook(store, key);
        layer.settings.methods = Some(vec![Method::POST, Method::PATCH]);
        layer.settings.fingerprint = FingerprintOf::Request;
        layer.settings.keep = Keep::Api;
        layer.settings.ttl = Duration::from_secs(24 * 60 * 60);
        layer
    }
}

impl<St> IdempotencyLayer<St> {
    /// Sets the source of the id. Default: the argument of [`webhook`](IdempotencyLayer::webhook), or the
    /// header `Idempotency-Key`.
    pub fn key(mut self, source: KeySource) -> Self {
        self.settings.source = source;
        self
    }

    /// Passes requests without a key to the handler, without a claim. Default: they are refused with 400.
    pub const fn key_optional(mut self) -> Self {
        self.settings.required = false;
        self
    }

    /// Sets a fixed scope, such as the name of the provider. Default: the original path. To either, the name of the
    /// [tenant](crate::signature#many-tenants) is added whose secret signed the request, if a layer has looked it up.
    pub fn scope(mut self, scope: impl Into<Arc<str>>) -> Self {
        self.settings.scope = Scope::Fixed(scope.into());
        self
    }

    /// Sets a function that makes the scope from the request, such as its route and tenant. Default: the
    /// original path. Join the parts so that two different pairs never give the same text. Nothing is added to it: where
    /// there are tenants, the function adds `Verified::tenant`.
    pub fn scope_with(
        mut self,
        scope: impl Fn(&Request<BufferedBody>) -> String + Send + Sync + 'static,
    ) -> Self {
        self.settings.scope = Scope::Closure(Arc::new(scope));
        self
    }

    /// Sets the methods that need a claim; requests with others pass. Default: all for a webhook, `POST`
    /// and `PATCH` for an API.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] if there is none: the layer would do nothing.
    pub fn methods(
        mut self,
        methods: impl IntoIterator<Item = Method>,
    ) -> Result<Self, InvalidConfig> {
        let methods: Vec<_> = methods.into_iter().collect();
        if methods.is_empty() {
            return Err(InvalidConfig::new("methods", "must name at least one"));
        }
        self.settings.methods = Some(methods);
        Ok(self)
    }

    /// Sets the parts in which two requests with one key must be equal; otherwise the later one is refused
    /// with 422. Default: nothing for a webhook, the whole request for an API.
    pub const fn fingerprint(mut self, of: FingerprintOf) -> Self {
        self.settings.fingerprint = of;
        self
    }

    /// Sets the lease of a claim. Default: 60 s. The layer renews it after each third of it while the
    /// handler runs, so the lease limits how long a crash blocks a key, not how long a handler may take.
    /// A handler that blocks its thread prevents the renewal. A lease longer than [`ttl`](Self::ttl) counts as that.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] if it is zero.
    pub fn lease(mut self, lease: Duration) -> Result<Self, InvalidConfig> {
        self.settings.lease = longer_than_zero("lease", lease)?;
        Ok(self)
    }

    /// Sets how long an answer is kept. Default: 7 days for a webhook, 24 hours for an API.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] if it is zero.
    pub fn ttl(mut self, ttl: Duration) -> Result<Self, InvalidConfig> {
        self.settings.ttl = longer_than_zero("ttl", ttl)?;
        Ok(self)
    }

    /// Sets how long a repeat waits for the first request's answer before it is refused with 409.
    /// Default: zero. A waiting repeat holds its connection and its body.
    pub const fn wait(mut self, wait: Duration) -> Self {
        self.settings.wait = wait;
        self
    }

    /// Sets what the layer does while the store fails or does not answer. Default:
    /// [`StoreOutage::FailClosed`].
    pub const fn store_outage(mut self, outage: StoreOutage) -> Self {
        self.settings.outage = outage;
        self
    }

    /// Sets the time limit of each store operation. Default: 5 s.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] if it is zero.
    pub fn store_timeout(mut self, timeout: Duration) -> Result<Self, InvalidConfig> {
        self.settings.store_timeout = longer_than_zero("store_timeout", timeout)?;
        Ok(self)
    }

    /// Sets which answers are stored and replayed, by their status, headers and extensions; any other frees
    /// the key. Default: a success for a [webhook](IdempotencyLayer::webhook), any but "not now" statuses such as 429 for
    /// an [API](IdempotencyLayer::api).
    pub fn store_when(
        mut self,
        keep: impl Fn(&response::Parts) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.settings.keep = Keep::Custom(Arc::new(keep));
        self
    }

    /// Sets which headers and trailers of an answer are stored and replayed. Default: [`stored_by_default`], all but those whose
    /// name is that of a cookie or a credential, such as `Set-Cookie`, `X-Auth-Token` and `X-Api-Key`. Those of
    /// one exchange (connection, date, length) are never stored.
    ///
    /// To leave out more: `.store_headers(|name| stored_by_default(name) && name != "x-one-time-link")`.
    ///
    /// [`stored_by_default`]: super::stored_by_default
    pub fn store_headers(
        mut self,
        is_stored: impl Fn(&HeaderName) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.settings.stored_headers = StoredHeaders(Some(Arc::new(is_stored)));
        self
    }

    /// Sets the longest body that is stored, in bytes. Default: 256 KiB. The caller gets a longer response
    /// whole; a repeat gets its status and headers, an empty body and
    /// [`Disposition::ReplayedWithoutBody`](super::Disposition::ReplayedWithoutBody).
    pub const fn max_answer(mut self, bytes: usize) -> Self {
        self.settings.max_answer = bytes;
        self
    }

    /// Adds an observer of claims, replays, refusals, lost claims and store errors. Default: none except
    /// `tracing`.
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.settings.observers = self.settings.observers.and(observer);
        self
    }

    /// Sets the header that marks a replayed response, with the value `true`. Default:
    /// `Idempotent-Replayed`, as Stripe spells it.
    pub fn marker(mut self, name: HeaderName) -> Self {
        self.settings.marker = name;
        self
    }

    /// Sets a function that makes the response to a refused request. Default: the [`Problem`] that the
    /// function gets, as `application/problem+json`.
    pub fn refuse_with(
        mut self,
        respond: impl Fn(&IdempotencyError, Problem) -> Response<BufferedBody> + Send + Sync + 'static,
    ) -> Self {
        self.settings.refuser = Refuser::with(respond);
        self
    }
}

fn longer_than_zero(setting: &'static str, time: Duration) -> Result<Duration, InvalidConfig> {
    if time.is_zero() {
        return Err(InvalidConfig::new(setting, "must be longer than zero"));
    }
    Ok(time)
}

impl<S, St: Clone> Layer<S> for IdempotencyLayer<St> {
    type Service = Idempotency<S, St>;

    fn layer(&self, inner: S) -> Self::Service {
        let mut settings = self.settings.clone();
        settings.lease = settings.lease.min(settings.ttl);
        Idempotency {
            inner,
            store: self.store.clone(),
            settings: Arc::new(settings),
        }
    }
}

/// Middleware of [`IdempotencyLayer`]. See the [module docs](super).
#[derive(Clone, Debug)]
pub struct Idempotency<S, St> {
    inner: S,
    store: St,
    settings: Arc<Settings>,
}

impl<S, St, B> Service<Request<B>> for Idempotency<S, St>
where
    S: BufferedService<Body: Body<Data = Bytes> + Unpin> + CloneService,
    St: Store,
    BufferedBody: BufferedFrom<B>,
{
    type Response = Response<ResponseBody<<S as BufferedService>::Body>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, St, <S as BufferedService>::Body>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Request<B>) -> Self::Future {
        let req = BufferedBody::buffered(req);
        let key = match self.settings.key(&req) {
            Ok(Some(key)) => key,
            Ok(None) => return ResponseFuture::unguarded(self.inner.call(req)),
            Err(error) => return ResponseFuture::refused(&self.settings, error),
        };
        // The future takes the instance that was polled ready. A clone, which is polled before its
        // first call, replaces it.
        let spare = self.inner.clone();
        let ready = mem::replace(&mut self.inner, spare);
        ResponseFuture::begin(ready, req, key, &self.store, &self.settings)
    }
}
