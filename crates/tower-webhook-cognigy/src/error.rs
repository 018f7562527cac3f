use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Map, Value};
use std::{error::Error, fmt, time::Duration};
use tower_webhook::{
    BoxError,
    body::BufferedBody,
    outcome::{Outcome, OutcomeKind},
};

/// The longest piece of a response that an error keeps, in bytes.
const MAX_BODY: usize = 4 << 10;

/// The longest text of the server that an error shows, in characters.
const MAX_DETAIL: usize = 512;

/// Why a call to an API failed. One type for the documents' API and for the platform.
///
/// It carries what the server said: [status](Self::status), [detail](Self::detail), [code](Self::code), and the first
/// 4 KiB of its [body](Self::body). `Display` shows the operation, the status and the detail, with control
/// characters escaped. A server may repeat a secret of the request: where the detail has the credential, or a member of
/// the request whose name says that it is a secret, that is replaced; the body is as it came, and `Debug` does not show it.
///
/// A problem of [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) (before: RFC 7807) is read, and the forms
/// `{"error":..,"error_description":..}` and `{"message":..}`.
#[derive(Debug)]
pub struct ApiError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    operation: &'static str,
    kind: ApiErrorKind,
    status: Option<StatusCode>,
    said: Said,
    body: Kept,
    retry_after: Option<Duration>,
    source: Option<BoxError>,
}

/// What an [`ApiError`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ApiErrorKind {
    /// 400: the request is malformed, or an argument is missing or invalid.
    BadRequest,
    /// 409: locked by another process, or the idempotency key was used with another payload. Never sent again blindly.
    Conflict,
    /// 403: the credential lacks a permission or scope.
    Forbidden,
    /// The request could not be made of these arguments: nothing was sent.
    InvalidRequest,
    /// 404, 410: there is no such thing, or not any more.
    NotFound,
    /// 3xx: the API has moved. Redirects are not followed, as they would take the credential along.
    Redirected,
    /// Not sent: a limit of this machine, such as the rate limit or an open circuit breaker.
    Refused,
    /// 5xx: the server failed, after all attempts.
    Server,
    /// Another status.
    Status,
    /// 429, after all attempts.
    Throttled,
    /// 413: the request is larger than the server takes.
    TooLarge,
    /// The server was not reached, or the connection failed, or it did not answer in time.
    Transport,
    /// 401: the credential is missing, wrong or expired.
    Unauthorized,
    /// 422: a field has a value that the server does not take.
    Unprocessable,
    /// A success whose body is not what was expected. What was asked for may have been done.
    UnexpectedResponse,
}

impl ApiErrorKind {
    /// The name in lower case, for metric labels, logs and scripts. It does not change between releases.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::Conflict => "conflict",
            Self::Forbidden => "forbidden",
            Self::InvalidRequest => "invalid_request",
            Self::NotFound => "not_found",
            Self::Redirected => "redirected",
            Self::Refused => "refused",
            Self::Server => "server",
            Self::Status => "status",
            Self::Throttled => "throttled",
            Self::TooLarge => "too_large",
            Self::Transport => "transport",
            Self::Unauthorized => "unauthorized",
            Self::Unprocessable => "unprocessable",
            Self::UnexpectedResponse => "unexpected_response",
        }
    }

    const fn of_status(status: StatusCode) -> Self {
        match status.as_u16() {
            300..=399 => Self::Redirected,
            400 => Self::BadRequest,
            401 => Self::Unauthorized,
            403 => Self::Forbidden,
            404 | 410 => Self::NotFound,
            409 => Self::Conflict,
            413 => Self::TooLarge,
            422 => Self::Unprocessable,
            429 => Self::Throttled,
            500..=599 => Self::Server,
            _ => Self::Status,
        }
    }
}

impl fmt::Display for ApiErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What the server said of its refusal.
#[derive(Debug, Default)]
struct Said {
    detail: Option<String>,
    code: Option<String>,
    trace_id: Option<String>,
}

impl Said {
    fn read(body: &[u8]) -> Self {
        let members: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
        let member = |name: &str| members.get(name).and_then(text);
        let details = ["detail", "error_description", "message", "error", "title"];
        Self {
            detail: details.into_iter().find_map(member),
            code: member("code"),
            trace_id: member("traceId"),
        }
    }
}

/// A text or number as bounded text. Of a list or object what it says, and not what it repeats of the request:
/// `[{"loc": ["body", "name"], "msg": "too short", "input": ..}]`, as pydantic writes it, is `body.name: too short`.
/// Empty ones are none.
fn text(value: &Value) -> Option<String> {
    let text = match value {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        Value::Array(all) => {
            let said: Vec<_> = all.iter().filter_map(text).collect();
            said.join("; ")
        }
        Value::Object(members) => {
            let names = ["msg", "message", "detail", "title", "error"];
            let said = names.into_iter().find_map(|name| members.get(name))?;
            let said = text(said)?;
            match members.get("loc").and_then(Value::as_array) {
                Some(path) => {
                    let path: Vec<_> = path.iter().filter_map(text).collect();
                    format!("{}: {said}", path.join("."))
                }
                None => said,
            }
        }
        other => other.to_string(),
    };
    let text = text.trim();
    (!text.is_empty()).then(|| text.chars().take(MAX_DETAIL).collect())
}

/// A piece of a response. `Debug` shows its length only.
struct Kept(Bytes);

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl ApiError {
    fn new(operation: &'static str, kind: ApiErrorKind) -> Self {
        Self(Box::new(Inner {
            operation,
            kind,
            status: None,
            said: Said::default(),
            body: Kept(Bytes::new()),
            retry_after: None,
            source: None,
        }))
    }

    /// The error of a response that is no success.
    pub(crate) fn of_response(
        operation: &'static str,
        res: &Response<BufferedBody>,
        retry_after: Option<Duration>,
    ) -> Self {
        let mut error = Self::new(operation, ApiErrorKind::of_status(res.status()));
        error.0.status = Some(res.status());
        error.0.said = Said::read(res.body().as_bytes());
        error.0.retry_after = retry_after;
        error.keep(res.body());
        error
    }

    /// Hides these texts in what the server said.
    pub(crate) fn hide<'a>(mut self, secrets: impl IntoIterator<Item = &'a str>) -> Self {
        for secret in secrets {
            let Said {
                detail,
                code,
                trace_id,
            } = &mut self.0.said;
            for said in [detail, code, trace_id].into_iter().flatten() {
                if said.contains(secret) {
                    *said = said.replace(secret, "[redacted]");
                }
            }
        }
        self
    }

    /// The error of a call without a response.
    pub(crate) fn of_call(operation: &'static str, source: BoxError) -> Self {
        let outcome = Outcome::of_error(&*source);
        let kind = match outcome.kind() {
            OutcomeKind::Refused => ApiErrorKind::Refused,
            OutcomeKind::Unsendable => ApiErrorKind::InvalidRequest,
            OutcomeKind::Throttled => ApiErrorKind::Throttled,
            _ => ApiErrorKind::Transport,
        };
        let mut error = Self::new(operation, kind);
        error.0.retry_after = outcome.retry_after();
        error.0.source = Some(source);
        error
    }

    /// The error of arguments of which no request can be made.
    pub(crate) fn invalid(operation: &'static str, source: impl Into<BoxError>) -> Self {
        let mut error = Self::new(operation, ApiErrorKind::InvalidRequest);
        error.0.source = Some(source.into());
        error
    }

    /// The error of a success that is not what was expected.
    pub(crate) fn unexpected(
        operation: &'static str,
        status: StatusCode,
        body: &BufferedBody,
        source: impl Into<BoxError>,
    ) -> Self {
        let mut error = Self::new(operation, ApiErrorKind::UnexpectedResponse);
        error.0.status = Some(status);
        error.0.source = Some(source.into());
        error.keep(body);
        error
    }

    /// The error of a list whose pages have no end.
    pub(crate) fn endless(operation: &'static str) -> Self {
        let mut error = Self::new(operation, ApiErrorKind::UnexpectedResponse);
        error.0.source = Some("its pages have no end".into());
        error
    }

    fn keep(&mut self, body: &BufferedBody) {
        let body = body.as_bytes();
        // A copy: a slice would keep the whole response in memory.
        self.0.body = Kept(Bytes::copy_from_slice(&body[..body.len().min(MAX_BODY)]));
    }

    /// The operation, such as `list webhooks`.
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// What the error is about.
    pub fn kind(&self) -> ApiErrorKind {
        self.0.kind
    }

    /// The status of the response, if there was one.
    pub fn status(&self) -> Option<StatusCode> {
        self.0.status
    }

    /// What the server said, for people: `detail`, `error_description`, `message`, `error` or `title` of its JSON, up to
    /// 512 characters. Of a list of problems, their messages and fields. `None` if the response has none of them.
    pub fn detail(&self) -> Option<&str> {
        self.0.said.detail.as_deref()
    }

    /// The server's own code of the problem (`code`): a number such as `1004` on the platform, as text, as its
    /// documentation shows both forms.
    pub fn code(&self) -> Option<&str> {
        self.0.said.code.as_deref()
    }

    /// The id under which the server logged the request (`traceId`), for its support.
    pub fn trace_id(&self) -> Option<&str> {
        self.0.said.trace_id.as_deref()
    }

    /// The first 4 KiB of the response. Show it to nobody who may not see the request: a server may repeat it.
    pub fn body(&self) -> &Bytes {
        &self.0.body.0
    }

    /// How long the server, the rate limit or the circuit breaker asks to wait, up to 6 hours.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            operation,
            kind,
            status,
            said,
            ..
        } = &*self.0;
        write!(f, "cannot {operation}: ")?;
        match (kind, status) {
            (ApiErrorKind::UnexpectedResponse, _) => {
                f.write_str("the response is not what was expected")?;
            }
            (_, Some(status)) => write!(f, "{status}")?,
            (ApiErrorKind::InvalidRequest, None) => f.write_str("the request is invalid")?,
            (ApiErrorKind::Refused, None) => f.write_str("not sent now")?,
            (_, None) => f.write_str("the server gave no answer")?,
        }
        if let Some(code) = &said.code {
            write!(f, ", code {}", code.escape_debug())?;
        }
        if let Some(detail) = &said.detail {
            write!(f, ": {}", detail.escape_debug())?;
        }
        Ok(())
    }
}

impl Error for ApiError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
