//! What a token endpoint answers. Pure.

use super::{
    error::{Facts, OAuthErrorCode, TokenErrorKind},
    grant::ClientCredentials,
    secret_text,
};
use http::{HeaderValue, Request, Response};
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;
use tower_webhook::{
    BoxError,
    outcome::{Classify, HttpClassifier, MakeClassifier, OutcomeKind},
};
use zeroize::Zeroizing;

/// The longest answer that is read, in bytes.
pub(super) const LONGEST: usize = 64 << 10;

/// The longest wait that an endpoint can ask for.
const LONGEST_HINT: Duration = Duration::from_secs(300);

/// The lifetime of a token of which none is told: that which S4 names.
const UNTOLD_LIFETIME: Duration = Duration::from_secs(3600);

/// The most characters kept of a description, and of a code.
const MAX_DESCRIPTION: usize = 512;
const MAX_CODE: usize = 64;

/// A token as the value of a header, and how long it lives.
#[derive(Debug)]
pub(super) struct Granted {
    pub header: HeaderValue,
    pub lifetime: Duration,
}

#[derive(Deserialize)]
struct Success {
    access_token: Option<String>,
    token_type: Option<String>,
    expires_in: Option<Value>,
}

#[derive(Deserialize)]
struct Failure {
    error: Option<String>,
    error_description: Option<String>,
}

/// Reads an answer whose body was read to its end. `grant` knows what must not be repeated.
pub(super) fn read(
    head: &Response<()>,
    body: &[u8],
    grant: &ClientCredentials,
) -> Result<Granted, Facts> {
    if !head.status().is_success() {
        return Err(refusal(head, body, grant));
    }
    let invalid = |why: &str| {
        let mut facts = Facts::new(TokenErrorKind::InvalidAnswer).detail(why);
        facts.status = Some(head.status());
        facts
    };
    // The message of the parser may quote what it read, so it is not shown.
    let Ok(answer) = serde_json::from_slice::<Success>(body) else {
        return Err(invalid("it is not a JSON object with a token"));
    };
    let Some(token) = answer.access_token.map(Zeroizing::new) else {
        let refused = refusal(head, body, grant);
        return Err(match refused.code {
            Some(_) => refused,
            None => invalid("it has no access_token"),
        });
    };
    let kind = answer.token_type.as_deref().unwrap_or("Bearer");
    if !kind.eq_ignore_ascii_case("Bearer") {
        return Err(invalid("its token_type is not Bearer"));
    }
    let header = secret_text::bearer(token.as_bytes(), "access_token")
        .map_err(|_| invalid("its access_token is empty or does not fit in a header"))?;
    let lifetime = lifetime(answer.expires_in.as_ref())
        .ok_or_else(|| invalid("its expires_in is not a number of seconds from 1"))?;
    Ok(Granted { header, lifetime })
}

/// Seconds as a number or as text, with or without a fraction. `None`: not that, or less than a second.
fn lifetime(told: Option<&Value>) -> Option<Duration> {
    let seconds = match told {
        None | Some(Value::Null) => return Some(UNTOLD_LIFETIME),
        Some(Value::Number(number)) => number.as_f64()?,
        Some(Value::String(text)) => text.trim().parse().ok()?,
        Some(_) => return None,
    };
    // Also false for NaN.
    let lives = seconds >= 1.0;
    lives.then(|| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

fn refusal(head: &Response<()>, body: &[u8], grant: &ClientCredentials) -> Facts {
    let failure = serde_json::from_slice(body).unwrap_or(Failure {
        error: None,
        error_description: None,
    });
    let shown = |text: String, most: usize| {
        let text = grant.redact(&text);
        let text = text.chars().take(most);
        text.map(|c| if c.is_control() { ' ' } else { c })
            .collect::<String>()
    };
    let code = failure.error.map(|code| {
        let Ok(code) = shown(code, MAX_CODE).parse::<OAuthErrorCode>();
        code
    });
    let classifier = HttpClassifier::new()
        .max_hint(LONGEST_HINT)
        // A second request for a token does no harm.
        .assume_repeatable(true)
        .make_classifier(&Request::new(()));
    let outcome = classifier.classify(Ok::<_, &BoxError>(head));
    let says_later = matches!(
        code,
        Some(OAuthErrorCode::ServerError | OAuthErrorCode::TemporarilyUnavailable)
    );
    let kind = if head.status().is_redirection() {
        TokenErrorKind::Redirected
    } else if says_later
        || matches!(
            outcome.kind(),
            OutcomeKind::Throttled | OutcomeKind::Transient
        )
    {
        TokenErrorKind::Unavailable
    } else {
        TokenErrorKind::Rejected
    };
    Facts {
        status: Some(head.status()),
        code,
        description: failure
            .error_description
            .map(|text| shown(text, MAX_DESCRIPTION).into()),
        hint: outcome.retry_after(),
        ..Facts::new(kind)
    }
}
