//! The responses of layers that refuse a request.
//!
//! A refusal is a response, never an error, so that a stack keeps the error type of its handler (`Infallible`
//! in axum). By default it is `application/problem+json`
//! ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)); the typed reason is in the response's extensions,
//! which metrics and logs can read and the caller cannot. Every layer that refuses has a `refuse_with` setter
//! that takes a closure and replaces the answer.
//!
//! # Examples
//!
//! ```
//! use http::StatusCode;
//! use tower_webhook::problem::Problem;
//!
//! let response = Problem::new(StatusCode::BAD_REQUEST)
//!     .detail("`eventId` is missing")
//!     .member("field", "eventId")
//!     .into_response();
//! assert_eq!(response.headers()["content-type"], "application/problem+json");
//! assert_eq!(
//!     response.body().as_bytes(),
//!     r#"{"type":"about:blank","title":"Bad Request","status":400,"detail":"`eventId` is missing","field":"eventId"}"#,
//! );
//! ```
//!
//! A gRPC server answers in its own terms:
//!
//! ```
//! use http::StatusCode;
//! use tower_webhook::problem::Problem;
//!
//! let response = Problem::new(StatusCode::UNAUTHORIZED).into_grpc();
//! assert_eq!(response.status(), 200);
//! assert_eq!(response.headers()["grpc-status"], "16");
//! ```

use crate::{
    body::{BufferedBody, ResponseBody},
    percent,
};
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

/// A problem in the sense of [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457): a status, a title, and
/// further facts for the caller.
#[derive(Clone, Debug)]
#[must_use]
pub struct Problem {
    status: StatusCode,
    reason: Option<&'static str>,
    title: Option<Cow<'static, str>>,
    detail: Option<Cow<'static, str>>,
    members: Vec<(&'static str, Cow<'static, str>)>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem of type `about:blank`, whose title is the reason phrase of `status`
    /// (RFC 9457 §4.2.1).
    pub const fn new(status: StatusCode) -> Self {
        Self {
            status,
            reason: None,
            title: None,
            detail: None,
            members: Vec::new(),
            headers: Vec::new(),
        }
    }

    /// Sets the name of this refusal, from a closed set, for metrics and logs. Default: none. The caller does
    /// not see it. An [`EnqueueService`](crate::queue::EnqueueService) whose closure answers with this problem
    /// tells the name and the [detail](Self::detail) as [`Event::Refused`](crate::observe::Event::Refused).
    pub const fn reason(mut self, name: &'static str) -> Self {
        self.reason = Some(name);
        self
    }

    /// Sets the title. Default: the reason phrase of the status.
    pub fn title(mut self, title: impl Into<Cow<'static, str>>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// Sets the explanation of this refusal. Default: none. The caller sees it: no secret, no internals.
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds an extension member (RFC 9457 §3.2), such as the name of the invalid field. Default: none.
    pub fn member(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.members.push((name, value.into()));
        self
    }

    /// Adds a response header. Default: none but `content-type`.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Adds `Retry-After`, in whole seconds, rounded up so that no caller returns too early. Default: none.
    pub fn retry_after(self, wait: Duration) -> Self {
        let seconds = wait
            .as_secs()
            .saturating_add(u64::from(wait.subsec_nanos() > 0));
        self.header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// The status.
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// The title: the reason phrase of the status, unless it was replaced.
    pub fn title_text(&self) -> &str {
        self.title
            .as_deref()
            .or_else(|| self.status.canonical_reason())
            .unwrap_or("Error")
    }

    /// The response as `application/problem+json`.
    pub fn into_response(self) -> Response<BufferedBody> {
        let mut json = String::with_capacity(96);
        json.push_str(r#"{"type":"about:blank","title":"#);
        push_json_string(&mut json, self.title_text());
        json.push_str(r#","status":"#);
        json.push_str(self.status.as_str());
        let detail = self.detail.iter().map(|text| ("detail", text));
        let members = self.members.iter().map(|(name, text)| (*name, text));
        for (name, text) in detail.chain(members) {
            json.push(',');
            push_json_string(&mut json, name);
            json.push(':');
            push_json_string(&mut json, text);
        }
        json.push('}');

        let mut response = Response::new(BufferedBody::from(json));
        *response.status_mut() = self.status;
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        for (name, value) in self.headers {
            response.headers_mut().insert(name, value);
        }
        Named::insert(self.reason, self.detail, &mut response);
        response
    }

    /// The response as a gRPC status without a message ("trailers-only", the
    /// [gRPC protocol](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#responses)).
    ///
    /// 400 and 422 become `INVALID_ARGUMENT`, 401 `UNAUTHENTICATED`, 403 `PERMISSION_DENIED`, 404
    /// `NOT_FOUND`, 408 `DEADLINE_EXCEEDED`, 409 `ABORTED`, 413 and 429 `RESOURCE_EXHAUSTED`, 503
    /// `UNAVAILABLE`, 508 `FAILED_PRECONDITION`, and everything else `UNKNOWN`.
    pub fn into_grpc(self) -> Response<BufferedBody> {
        let code = match self.status.as_u16() {
            400 | 422 => "3",
            401 => "16",
            403 => "7",
            404 => "5",
            408 => "4",
            409 => "10",
            413 | 429 => "8",
            503 => "14",
            508 => "9",
            _ => "2",
        };
        let text = self.detail.as_deref().unwrap_or_else(|| self.title_text());
        let mut response = Response::new(BufferedBody::default());
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/grpc"),
        );
        headers.insert("grpc-status", HeaderValue::from_static(code));
        if let Ok(message) = HeaderValue::try_from(percent_encode(text)) {
            headers.insert("grpc-message", message);
        }
        for (name, value) in self.headers {
            headers.insert(name, value);
        }
        Named::insert(self.reason, self.detail, &mut response);
        response
    }
}

/// The [`reason`](Problem::reason) and the detail of the problem that a response was made of, among its
/// extensions.
#[derive(Clone, Debug)]
#[cfg_attr(
    not(feature = "queue"),
    expect(dead_code, reason = "only a queue's service reads them")
)]
pub(crate) struct Named {
    pub(crate) reason: &'static str,
    pub(crate) detail: Option<Cow<'static, str>>,
}

impl Named {
    fn insert<B>(
        reason: Option<&'static str>,
        detail: Option<Cow<'static, str>>,
        response: &mut Response<B>,
    ) {
        if let Some(reason) = reason {
            response.extensions_mut().insert(Self { reason, detail });
        }
    }
}

impl From<Problem> for Response<BufferedBody> {
    fn from(problem: Problem) -> Self {
        problem.into_response()
    }
}

/// Percent-encodes as the gRPC protocol asks of `grpc-message`: everything outside
/// printable ASCII, and `%` itself.
fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let is_plain = |byte| (0x20..=0x7e).contains(&byte) && byte != b'%';
    percent::push_encoded(&mut out, text, is_plain);
    out
}

/// Appends `text` as a JSON string (RFC 8259 §7).
///
/// By hand, because modules use it that do not depend on `serde_json`.
fn push_json_string(out: &mut String, text: &str) {
    use fmt::Write as _;
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if u32::from(control) < 0x20 => {
                // Writing to a `String` cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

/// Lets a handler refuse with `?`.
#[cfg(feature = "axum")]
impl axum_core::response::IntoResponse for Problem {
    fn into_response(self) -> axum_core::response::Response {
        Self::into_response(self).map(axum_core::body::Body::new)
    }
}

/// A typed reason for which a layer refuses a request.
pub trait Refusal: Clone + Send + Sync + 'static {
    /// The default answer, unless `refuse_with` replaces it.
    fn problem(&self) -> Problem;
}

/// The closure type behind every `refuse_with` setter.
type Respond<E> = dyn Fn(&E, Problem) -> Response<BufferedBody> + Send + Sync;

/// Turns a [`Refusal`] into a response: the default problem, or what the user's closure makes of it.
pub(crate) struct Refuser<E> {
    respond: Option<Arc<Respond<E>>>,
}

impl<E> Refuser<E> {
    pub(crate) const fn new() -> Self {
        Self { respond: None }
    }

    pub(crate) fn with(
        respond: impl Fn(&E, Problem) -> Response<BufferedBody> + Send + Sync + 'static,
    ) -> Self {
        Self {
            respond: Some(Arc::new(respond)),
        }
    }
}

impl<E: Refusal> Refuser<E> {
    /// The answer, with the typed reason among its extensions.
    pub(crate) fn response<B>(&self, reason: E) -> Response<ResponseBody<B>> {
        self.buffered(reason).map(ResponseBody::buffered)
    }

    /// The same, from a service that answers itself.
    pub(crate) fn buffered(&self, reason: E) -> Response<BufferedBody> {
        let problem = reason.problem();
        let mut response = match &self.respond {
            Some(respond) => respond(&reason, problem),
            None => problem.into_response(),
        };
        response.extensions_mut().insert(reason);
        response
    }
}

impl<E> Clone for Refuser<E> {
    fn clone(&self) -> Self {
        Self {
            respond: self.respond.clone(),
        }
    }
}

impl<E> fmt::Debug for Refuser<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.respond {
            Some(_) => "custom",
            None => "problem+json",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_strings_are_escaped() {
        let mut out = String::new();
        push_json_string(&mut out, "a\"b\\c\n\u{1}é");
        assert_eq!(out, r#""a\"b\\c\n\u0001é""#);
    }

    #[test]
    fn retry_after_rounds_up() {
        let after = |wait| {
            let response = Problem::new(StatusCode::SERVICE_UNAVAILABLE)
                .retry_after(wait)
                .into_response();
            response.headers()[header::RETRY_AFTER].clone()
        };
        assert_eq!(after(Duration::from_millis(1)), "1");
        assert_eq!(after(Duration::from_secs(2)), "2");
        assert_eq!(after(Duration::MAX), u64::MAX.to_string().as_str());
    }

    #[test]
    fn grpc_messages_are_percent_encoded() {
        let response = Problem::new(StatusCode::CONFLICT)
            .detail("50 % is é\n")
            .into_grpc();
        assert_eq!(response.headers()["grpc-message"], "50 %25 is %C3%A9%0A");
        assert_eq!(response.headers()["grpc-status"], "10");
    }
}
