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
    // Not for NaN either.
    let lives = seconds >= 1.0 && seconds.is_finite();
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn grant() -> ClientCredentials {
        ClientCredentials::form("client", "s3cret")
    }

    fn answer(status: u16, retry_after: &str) -> Response<()> {
        let answer = Response::builder().status(status);
        answer.header("retry-after", retry_after).body(()).unwrap()
    }

    fn read(status: u16, body: &str) -> Result<Granted, Facts> {
        super::read(&answer(status, ""), body.as_bytes(), &grant())
    }

    #[test]
    fn a_lifetime_is_read_as_number_and_as_text_and_nothing_below_a_second_is_one() {
        let hour = Some(UNTOLD_LIFETIME);
        for (told, expected) in [
            ("", hour),
            (r#","expires_in":null"#, hour),
            (r#","expires_in":3600"#, hour),
            (r#","expires_in":"3600""#, hour),
            (r#","expires_in":" 3600 ""#, hour),
            (r#","expires_in":3600.0"#, hour),
            (r#","expires_in":1.5"#, Some(Duration::from_millis(1500))),
            (r#","expires_in":1e300"#, Some(Duration::MAX)),
            (
                r#","expires_in":99999999999999999999999"#,
                Some(Duration::MAX),
            ),
            (r#","expires_in":"inf""#, None),
            (r#","expires_in":0"#, None),
            (r#","expires_in":-1"#, None),
            (r#","expires_in":-3600"#, None),
            (r#","expires_in":0.99"#, None),
            (r#","expires_in":"0""#, None),
            (r#","expires_in":"NaN""#, None),
            (r#","expires_in":"soon""#, None),
            (r#","expires_in":"""#, None),
            (r#","expires_in":true"#, None),
            (r#","expires_in":[3600]"#, None),
        ] {
            let body = format!(r#"{{"access_token":"t"{told}}}"#);
            let granted = read(200, &body);
            assert_eq!(
                granted.ok().map(|granted| granted.lifetime),
                expected,
                "{told}"
            );
        }
    }

    #[test]
    fn what_is_no_bearer_token_cannot_be_used() {
        for body in [
            "",
            "null",
            "[]",
            "{}",
            "<!DOCTYPE html><title>Log in</title>",
            r#"{"access_token":null}"#,
            r#"{"access_token":""}"#,
            r#"{"access_token":7}"#,
            r#"{"access_token":["t"]}"#,
            r#"{"access_token":"t","token_type":"mac"}"#,
            r#"{"access_token":"t","token_type":"Bearer "}"#,
            r#"{"access_token":"t\r\nX-Admin: yes"}"#,
            r#"{"access_token":"t\n"}"#,
            r#"{"access_token":"t\u0000"}"#,
            r#"{"access_token":"t\u007f"}"#,
            r#"{"access_token":"a b"}"#,
            r#"{"access_token":"tökén"}"#,
            r#"{"access_token":"t"} trailing"#,
            r#"{"access_token":"t""#,
        ] {
            let facts = read(200, body).unwrap_err();
            assert_eq!(facts.kind, TokenErrorKind::InvalidAnswer, "{body}");
            assert!(facts.is_temporary && facts.code.is_none(), "{body}");
        }
        for kind in ["", r#","token_type":"bearer""#, r#","token_type":"BEARER""#] {
            let granted = read(201, &format!(r#"{{"access_token":"a.b-c_~+/="{kind}}}"#)).unwrap();
            assert_eq!(granted.header, "Bearer a.b-c_~+/=");
            assert!(granted.header.is_sensitive());
        }
    }

    #[test]
    fn a_refusal_is_told_by_status_and_code() {
        use TokenErrorKind::{Redirected, Rejected, Unavailable};
        let code = |code: &str| format!(r#"{{"error":"{code}"}}"#);
        for (status, body, kind) in [
            (400, code("invalid_client"), Rejected),
            (401, code("invalid_client"), Rejected),
            (400, code("unheard_of"), Rejected),
            (401, String::new(), Rejected),
            (403, "<html>".to_owned(), Rejected),
            (404, String::new(), Rejected),
            (501, String::new(), Rejected),
            (200, code("invalid_scope"), Rejected),
            (400, code("temporarily_unavailable"), Unavailable),
            (400, code("server_error"), Unavailable),
            (200, code("temporarily_unavailable"), Unavailable),
            (408, String::new(), Unavailable),
            (429, String::new(), Unavailable),
            (500, String::new(), Unavailable),
            (503, "<html>".to_owned(), Unavailable),
            (302, String::new(), Redirected),
        ] {
            let facts = read(status, &body).unwrap_err();
            assert_eq!(facts.kind, kind, "{status} {body}");
            assert_eq!(facts.is_temporary, kind == Unavailable);
            assert_eq!(facts.status.unwrap().as_u16(), status);
        }
    }

    #[test]
    fn a_code_and_a_description_are_kept_within_bounds_and_without_the_secret() {
        let long = "x".repeat(10_000);
        let body = format!(
            r#"{{"error":"no_s3cret{long}","error_description":"s3cret\n\u001b[31m is wrong {long}"}}"#
        );
        let facts = read(400, &body).unwrap_err();
        let code = facts.code.unwrap();
        assert!(code.as_str().starts_with("no_[redacted]x") && code.as_str().len() == MAX_CODE);
        let description = facts.description.unwrap();
        assert!(
            description.starts_with("[redacted]  [31m is wrong x"),
            "{description}"
        );
        assert_eq!(description.len(), MAX_DESCRIPTION);

        // Of another type, they are not there.
        let facts = read(400, r#"{"error":{"code":7}}"#).unwrap_err();
        assert_eq!((facts.code, facts.description), (None, None));
    }

    #[test]
    fn a_retry_after_is_read_up_to_five_minutes() {
        for (header, expected) in [
            ("7", Some(7)),
            ("86400", Some(300)),
            ("99999999999999999999", Some(300)),
            ("-5", None),
            ("inf", None),
            ("soon", None),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
        ] {
            for status in [429, 503] {
                let facts = super::read(&answer(status, header), b"", &grant()).unwrap_err();
                assert_eq!(facts.hint, expected.map(Duration::from_secs), "{header}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_read_without_a_panic_and_any_token_fits_in_a_header(
            status in 100_u16..1000,
            body in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..64),
                (any::<String>(), any::<f64>()).prop_map(|(token, seconds)| {
                    serde_json::json!({"access_token": token, "expires_in": seconds}).to_string().into_bytes()
                }),
            ],
        ) {
            if let Ok(granted) = super::read(&answer(status, ""), &body, &grant()) {
                prop_assert!(granted.header.as_bytes()[7..].iter().all(u8::is_ascii_graphic));
                prop_assert!(granted.lifetime >= Duration::from_secs(1));
            }
        }
    }
}
