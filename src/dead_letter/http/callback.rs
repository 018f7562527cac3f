//! A sink that posts entries to a URL.

use crate::{
    BoxError, BoxFuture, IntoBoxError, InvalidConfig, StoreError, StoreErrorKind,
    body::BufferedBody,
    dead_letter::{Entry, Sink, cause::message, json, redaction::redacted_text},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header,
};
use std::{
    fmt,
    future::poll_fn,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tower_service::Service;

/// A sink that posts each entry to a URL, with any HTTP service.
///
/// Each entry is one `POST` with `Content-Type: application/json` and `Idempotency-Key: <entry id>`,
/// so that a receiver recognizes a repetition.
///
/// # Examples
///
/// ```
/// use http::{Request, Response};
/// use tower::service_fn;
/// use tower_webhook::{
///     BoxError,
///     body::BufferedBody,
///     dead_letter::{CallbackSink, DeadLetters},
/// };
///
/// // In practice a client in `stack::deliver()`, which retries while the receiver is unavailable.
/// let client = service_fn(|req: Request<BufferedBody>| async move {
///     assert_eq!(req.headers()["content-type"], "application/json");
///     Ok::<_, BoxError>(Response::new(BufferedBody::default()))
/// });
/// let sink = CallbackSink::new("https://ops.example/dead-letters", client)?;
/// let dead_letters = DeadLetters::new(sink);
/// # Ok::<_, BoxError>(())
/// ```
///
/// # Order
///
/// The service is a whole delivery, with the retries and the breaker of `stack::deliver()`. It must not
/// contain a [`DeadLetterLayer`](crate::DeadLetterLayer) that writes to this sink: each failed post would
/// cause another one. [`DeadLetters::time_limit`](crate::dead_letter::DeadLetters::time_limit) ends the
/// whole delivery, after 5 s by default: set it long enough for the retries, and set a fallback.
///
/// # Results
///
/// | Response | Result |
/// | --- | --- |
/// | 2xx | written |
/// | 413 | [`TooLarge`](StoreErrorKind::TooLarge) |
/// | 408, 425, 429 | [`Unavailable`](StoreErrorKind::Unavailable) |
/// | another 3xx or 4xx | [`Rejected`](StoreErrorKind::Rejected) |
/// | everything else, and every error | [`Unavailable`](StoreErrorKind::Unavailable) |
/// | no response within the [time limit](Self::time_limit) | [`Timeout`](StoreErrorKind::Timeout) |
///
/// The source of such an error is the message of the client's error without the path of any URL, because
/// a path may be a secret.
///
/// # Cancel safety
///
/// The receiver may have processed a write whose future was dropped.
#[must_use]
pub struct CallbackSink<S> {
    /// Locked only to clone the service, which need not be `Sync`.
    service: Mutex<S>,
    url: Uri,
    body: fn(&Entry) -> String,
    headers: HeaderMap,
    time_limit: Duration,
}

impl<S> CallbackSink<S> {
    /// Makes a sink that posts to `url`, which must be absolute.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] if `url` is not an `http` or `https` URL, or holds a user or password, which
    /// belong in a [`header`](Self::header).
    pub fn new(url: &str, service: S) -> Result<Self, InvalidConfig> {
        let wrong = || InvalidConfig::new("url", "must be absolute, with http or https");
        let url: Uri = url.parse().map_err(|_| wrong())?;
        if !matches!(url.scheme_str(), Some("http" | "https")) {
            return Err(wrong());
        }
        let authority = url.authority().ok_or_else(wrong)?;
        if authority.as_str().contains('@') {
            return Err(InvalidConfig::new("url", "must hold no user or password"));
        }
        let mut headers = HeaderMap::new();
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        Ok(Self {
            service: Mutex::new(service),
            url,
            body: json::to_json,
            headers,
            time_limit: Duration::from_secs(15),
        })
    }

    /// Sets the function that makes the JSON body of the request. Default: [`json::to_json`], the whole
    /// entry. Other bodies are a function of yours, or one of the presets.
    pub const fn body(mut self, body: fn(&Entry) -> String) -> Self {
        self.body = body;
        self
    }

    /// Adds a header to each request, such as a credential. Default: none but `content-type`. Replaces a
    /// header of the same name. `Debug` does not show it.
    pub fn header(mut self, name: HeaderName, mut value: HeaderValue) -> Self {
        value.set_sensitive(true);
        self.headers.insert(name, value);
        self
    }

    /// Sets the time limit for an entry, including all attempts of the service. Default: 15 s.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] if it is zero.
    pub fn time_limit(mut self, limit: Duration) -> Result<Self, InvalidConfig> {
        if limit.is_zero() {
            return Err(InvalidConfig::new("time_limit", "must be longer than zero"));
        }
        self.time_limit = limit;
        Ok(self)
    }

    fn request(&self, entry: &Entry) -> Request<BufferedBody> {
        let mut request = Request::new(BufferedBody::from((self.body)(entry)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.clone();
        *request.headers_mut() = self.headers.clone();
        // 32 hexadecimal digits are always a valid value.
        if let Ok(id) = HeaderValue::try_from(entry.id.to_string()) {
            let name = HeaderName::from_static("idempotency-key");
            request.headers_mut().insert(name, id);
        }
        request
    }
}

impl<S, B> Sink for CallbackSink<S>
where
    S: Service<Request<BufferedBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: IntoBoxError,
    S::Future: Send,
{
    fn write(&self, entry: &Arc<Entry>) -> BoxFuture<Result<(), StoreError>> {
        let service = self.service.lock();
        let mut service = service.unwrap_or_else(PoisonError::into_inner).clone();
        let (request, time_limit) = (self.request(entry), self.time_limit);
        Box::pin(async move {
            let path = request.uri().path_and_query().map(ToString::to_string);
            let posted = tokio::time::timeout(time_limit, async move {
                poll_fn(|cx| service.poll_ready(cx)).await?;
                let response = service.call(request).await?;
                Ok::<_, S::Error>(response.status())
            });
            match posted.await {
                Ok(Ok(status)) => judge(status),
                Ok(Err(error)) => {
                    let error: BoxError = error.into();
                    let said = without_path(&message(&*error), &path.unwrap_or_default());
                    Err(StoreError::new(StoreErrorKind::Unavailable).caused_by(said))
                }
                Err(_) => Err(StoreError::new(StoreErrorKind::Timeout)),
            }
        })
    }
}

/// Clients quote the URL in their errors, and its path may be a secret.
fn without_path(said: &str, path_and_query: &str) -> String {
    let path = path_and_query.split(['?', '#']).next().unwrap_or_default();
    let mut said = redacted_text(said);
    // The longest first, because it contains the others.
    for part in [path_and_query, path, path.trim_matches('/')] {
        if !part.trim_matches('/').is_empty() {
            said = said.replace(part, "redacted");
        }
    }
    said
}

fn judge(status: StatusCode) -> Result<(), StoreError> {
    let kind = match status.as_u16() {
        200..=299 => return Ok(()),
        413 => StoreErrorKind::TooLarge,
        408 | 425 | 429 => StoreErrorKind::Unavailable,
        300..=499 => StoreErrorKind::Rejected,
        _ => StoreErrorKind::Unavailable,
    };
    Err(StoreError::new(kind).caused_by(format!("the receiver answered {status}")))
}

/// Shows the URL without the path, which may be a secret.
impl<S> fmt::Debug for CallbackSink<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackSink")
            .field("host", &self.url.host())
            .field("time_limit", &self.time_limit)
            .finish_non_exhaustive()
    }
}
