use http::StatusCode;
use std::{convert::Infallible, error::Error, fmt, str::FromStr, sync::Arc, time::Duration};
use tower_webhook::outcome::{LocallyRefused, Outcome, TransportError, Unsendable};

/// Why there is no token, so that a request was not sent.
///
/// The layers of this workspace judge it rightly, as it stands in a chain of sources: nothing was sent, so it says nothing
/// about the API that the request was for, and a POST without a key may be repeated too.
///
/// | What happened | [`OutcomeKind`](tower_webhook::outcome::OutcomeKind) | Again after |
/// | --- | --- | --- |
/// | a refresh failed, and it [is temporary](Self::is_temporary) | `Unreached`, no evidence for a breaker | [`retry_after`](Self::retry_after) |
/// | the last refresh failed so, and it is too early for another one | `Refused` | `retry_after` |
/// | a refresh failed, and it is not temporary | `Unsendable` | never |
///
/// It holds neither a secret nor a token.
#[derive(Clone, Debug)]
pub struct TokenError {
    facts: Arc<Facts>,
    verdict: Verdict,
}

/// The marker by which the error is judged.
#[derive(Clone, Debug)]
enum Verdict {
    Failed(Arc<TransportError>),
    Never,
    Refused(LocallyRefused),
}

/// What a [`TokenError`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenErrorKind {
    /// The endpoint answered with success, and not with a token that can be used: no JSON, too long, no bearer token,
    /// over already. Temporary: a proxy in between may have answered.
    InvalidAnswer,
    /// The endpoint redirected. That is not followed, since the new address would get the credentials.
    Redirected,
    /// The endpoint refused the client, the scopes or the form: a status from 400, but those of `Unavailable`.
    Rejected,
    /// The endpoint did not answer in time. Temporary.
    Timeout,
    /// The endpoint was not reached, or the connection broke. Temporary, unless the client cannot send there at all.
    Transport,
    /// The endpoint is overloaded or failed: 429, 5xx, `temporarily_unavailable`. Temporary.
    Unavailable,
}

/// An error code of OAuth 2.0 ([RFC 6749 §4.1.2.1 and §5.2](https://www.rfc-editor.org/rfc/rfc6749#section-5.2)).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the RFC says what each is")]
pub enum OAuthErrorCode {
    AccessDenied,
    InvalidClient,
    InvalidGrant,
    InvalidRequest,
    InvalidScope,
    ServerError,
    TemporarilyUnavailable,
    UnauthorizedClient,
    UnsupportedGrantType,
    UnsupportedResponseType,
    /// A code that is not in the RFC.
    Other(Box<str>),
}

const CODES: [OAuthErrorCode; 10] = [
    OAuthErrorCode::AccessDenied,
    OAuthErrorCode::InvalidClient,
    OAuthErrorCode::InvalidGrant,
    OAuthErrorCode::InvalidRequest,
    OAuthErrorCode::InvalidScope,
    OAuthErrorCode::ServerError,
    OAuthErrorCode::TemporarilyUnavailable,
    OAuthErrorCode::UnauthorizedClient,
    OAuthErrorCode::UnsupportedGrantType,
    OAuthErrorCode::UnsupportedResponseType,
];

impl OAuthErrorCode {
    /// The code, as it stands on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::AccessDenied => "access_denied",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::InvalidRequest => "invalid_request",
            Self::InvalidScope => "invalid_scope",
            Self::ServerError => "server_error",
            Self::TemporarilyUnavailable => "temporarily_unavailable",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::UnsupportedResponseType => "unsupported_response_type",
            Self::Other(code) => code,
        }
    }
}

impl FromStr for OAuthErrorCode {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let known = CODES.iter().find(|code| code.as_str() == text);
        Ok(known.cloned().unwrap_or_else(|| Self::Other(text.into())))
    }
}

impl fmt::Display for OAuthErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What is known of a failed refresh.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub kind: TokenErrorKind,
    pub is_temporary: bool,
    pub status: Option<StatusCode>,
    pub code: Option<OAuthErrorCode>,
    pub description: Option<Box<str>>,
    /// What went wrong, where status, code and description do not say it. Without secrets.
    pub detail: Option<Box<str>>,
    /// How long the endpoint asks to wait.
    pub hint: Option<Duration>,
}

impl Facts {
    pub(super) const fn new(kind: TokenErrorKind) -> Self {
        Self {
            kind,
            is_temporary: !matches!(kind, TokenErrorKind::Redirected | TokenErrorKind::Rejected),
            status: None,
            code: None,
            description: None,
            detail: None,
            hint: None,
        }
    }

    pub(super) fn detail(mut self, detail: impl Into<Box<str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }
}

impl TokenError {
    pub(super) fn new(facts: Facts) -> Self {
        Self {
            facts: Arc::new(facts),
            verdict: Verdict::Never,
        }
        .failed(Duration::ZERO)
    }

    /// The error of a call that waited for the refresh. It may be made again after this long.
    pub(super) fn failed(mut self, wait: Duration) -> Self {
        if self.facts.is_temporary {
            let outcome = Outcome::unreached().with_retry_after(Some(wait));
            let marker = TransportError::new(outcome.without_evidence(), "there is no token");
            self.verdict = Verdict::Failed(Arc::new(marker));
        }
        self
    }

    /// The error of a call that came this long before the next refresh.
    pub(super) fn refused(mut self, left: Duration) -> Self {
        if self.facts.is_temporary {
            self.verdict = Verdict::Refused(LocallyRefused::after(left));
        }
        self
    }

    pub(super) fn hint(&self) -> Option<Duration> {
        self.facts.hint
    }

    /// What it is about.
    pub fn kind(&self) -> TokenErrorKind {
        self.facts.kind
    }

    /// The status of the endpoint's answer.
    pub fn status(&self) -> Option<StatusCode> {
        self.facts.status
    }

    /// The error code in the endpoint's answer.
    pub fn code(&self) -> Option<&OAuthErrorCode> {
        self.facts.code.as_ref()
    }

    /// The endpoint's description of the error: at most 512 characters, control characters and the secret replaced.
    pub fn description(&self) -> Option<&str> {
        self.facts.description.as_deref()
    }

    /// Whether a later request for a token may succeed with the same credentials.
    pub fn is_temporary(&self) -> bool {
        self.facts.is_temporary
    }

    /// How long no token is asked for, counted from this error: calls until then fail at once. `None` if it is not
    /// [temporary](Self::is_temporary).
    pub fn retry_after(&self) -> Option<Duration> {
        match &self.verdict {
            Verdict::Failed(marker) => marker.outcome().retry_after(),
            Verdict::Never => None,
            Verdict::Refused(marker) => Some(marker.retry_after()),
        }
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = &*self.facts;
        f.write_str(match facts.kind {
            TokenErrorKind::InvalidAnswer => "the answer of the token endpoint cannot be used",
            TokenErrorKind::Redirected => "the token endpoint redirected, which is not followed",
            TokenErrorKind::Rejected => "the token endpoint refused the client",
            TokenErrorKind::Timeout => "the token endpoint did not answer in time",
            TokenErrorKind::Transport => "the token endpoint was not reached",
            TokenErrorKind::Unavailable => "the token endpoint is not available",
        })?;
        let mut begin = ": ";
        let mut part = |f: &mut fmt::Formatter<'_>, text: &dyn fmt::Display| {
            let begin = std::mem::replace(&mut begin, ", ");
            write!(f, "{begin}{text}")
        };
        if let Some(status) = facts.status {
            part(f, &format_args!("status {}", status.as_u16()))?;
        }
        if let Some(code) = &facts.code {
            part(f, code)?;
        }
        if let Some(description) = &facts.description {
            part(f, description)?;
        }
        if let Some(detail) = &facts.detail {
            part(f, detail)?;
        }
        Ok(())
    }
}

impl Error for TokenError {
    /// The marker by which it is judged.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        static UNSENDABLE: Unsendable = Unsendable::new();
        Some(match &self.verdict {
            Verdict::Failed(marker) => &**marker,
            Verdict::Never => &UNSENDABLE,
            Verdict::Refused(marker) => marker,
        })
    }
}
