//! What HTTP answers mean, and which requests may be repeated.

use crate::{answer, get, post, secs, verdict};
use http::{HeaderName, Method, Request};
use std::time::Duration;
use tower_webhook::outcome::{HttpClassifier, Outcome, OutcomeKind, Repeatable};

#[test]
fn every_status_has_the_kind_of_the_documented_table() {
    use OutcomeKind::{Permanent, Success, Throttled, Transient};
    for status in 100..=999 {
        let expected = match status {
            200..=299 => Success,
            429 | 503 => Throttled,
            501 | 505 | 508 | 511 => Permanent,
            408 | 425 | 500..=999 => Transient,
            _ => Permanent,
        };
        let outcome = verdict(&HttpClassifier::new(), &get(), &answer(status, &[]));
        assert_eq!(outcome.kind(), expected, "{status}");
        assert_eq!(outcome.code(), Some(status));
        assert_eq!(outcome.retry_after(), None);
        let again = matches!(expected, Throttled | Transient);
        assert_eq!(outcome.may_retry(), again, "{status}");
        assert_eq!(outcome.peer_is_healthy(), Some(!again), "{status}");
        assert_eq!(outcome.is_failure(), expected != Success, "{status}");
    }
}

#[test]
fn a_redirect_a_conflict_and_a_missing_credential_are_never_retried() {
    for status in [301, 302, 303, 304, 307, 308, 401, 409, 410, 421] {
        let res = answer(status, &[("retry-after", "1")]);
        let outcome = verdict(&HttpClassifier::new(), &get(), &res);
        assert!(!outcome.may_retry(), "{status}");
        assert_eq!(outcome.retry_after(), None, "{status}");
    }
}

#[test]
fn a_413_is_temporary_only_with_a_retry_after_that_can_be_read() {
    // got retries a 413 with the header and not without it (test/retry.ts); RFC 9110 §15.5.14.
    let kind = |fields| verdict(&HttpClassifier::new(), &get(), &answer(413, fields));
    let temporary = kind(&[("retry-after", "2")]);
    assert_eq!(temporary.kind(), OutcomeKind::Throttled);
    assert_eq!(temporary.retry_after(), Some(secs(2)));
    let dated = kind(&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")]);
    assert_eq!(dated.retry_after(), Some(Duration::ZERO));
    assert_eq!(kind(&[]).kind(), OutcomeKind::Permanent);
    assert_eq!(kind(&[("retry-after", "x")]).kind(), OutcomeKind::Permanent);
    assert_eq!(
        kind(&[("ratelimit-reset", "2")]).kind(),
        OutcomeKind::Permanent
    );
}

#[test]
fn idempotent_methods_are_repeatable_and_others_are_not() {
    for (method, repeatable) in [
        (Method::GET, true),
        (Method::HEAD, true),
        (Method::OPTIONS, true),
        (Method::TRACE, true),
        (Method::PUT, true),
        (Method::DELETE, true),
        (Method::POST, false),
        (Method::PATCH, false),
        (Method::CONNECT, false),
        (Method::from_bytes(b"PROPFIND").unwrap(), false),
    ] {
        let req = Request::builder().method(&method).body(()).unwrap();
        let outcome = verdict(&HttpClassifier::new(), &req, &answer(500, &[]));
        assert_eq!(outcome.may_retry(), repeatable, "{method}");
        assert_eq!(outcome.peer_is_healthy(), Some(false), "{method}");
    }
}

#[test]
fn a_key_makes_a_post_repeatable_and_a_blank_one_does_not() {
    let again = |classifier: &HttpClassifier, name: &'static str, value: &'static str| {
        let mut req = post();
        req.headers_mut().insert(name, value.parse().unwrap());
        verdict(classifier, &req, &answer(500, &[])).may_retry()
    };
    let default = HttpClassifier::new();
    for name in ["idempotency-key", "webhook-id", "svix-id"] {
        assert!(again(&default, name, "\"8e03978e\""), "{name}");
        assert!(!again(&default, name, ""), "{name}");
        assert!(!again(&default, name, " "), "{name}");
    }
    assert!(!again(&default, "x-request-id", "1"));

    let own = HttpClassifier::new().key_headers([HeaderName::from_static("x-request-id")]);
    assert!(again(&own, "x-request-id", "1"));
    assert!(!again(&own, "webhook-id", "1"));
    assert!(!again(
        &HttpClassifier::new().key_headers([]),
        "webhook-id",
        "1"
    ));
}

#[test]
fn an_extension_overrules_method_key_and_setting() {
    let classifier = HttpClassifier::new().assume_repeatable(true);
    assert!(verdict(&classifier, &post(), &answer(500, &[])).may_retry());

    let mut req = get();
    req.headers_mut().insert("webhook-id", "1".parse().unwrap());
    req.extensions_mut().insert(Repeatable::No);
    assert!(!verdict(&classifier, &req, &answer(500, &[])).may_retry());
    // Decided by the request alone: an answer in the negative does not make it repeatable.
    assert!(!verdict(&classifier, &req, &answer(429, &[("retry-after", "1")])).may_retry());
}

#[test]
fn statuses_can_be_judged_otherwise() {
    let classifier = HttpClassifier::new().statuses(|status| match status.as_u16() {
        409 => Some(Outcome::success()),
        404 => Some(Outcome::transient()),
        502 => Some(Outcome::throttled(Some(secs(9)))),
        _ => None,
    });
    let judge = |status| {
        verdict(
            &classifier,
            &post(),
            &answer(status, &[("retry-after", "4")]),
        )
    };
    assert_eq!(judge(409).kind(), OutcomeKind::Success);
    assert_eq!(judge(409).retry_after(), None);
    assert_eq!(judge(404).kind(), OutcomeKind::Transient);
    assert_eq!(judge(404).retry_after(), Some(secs(4)));
    assert_eq!(judge(404).code(), Some(404));
    // What the rule knows better stays, and so does what the request says.
    assert_eq!(judge(502).retry_after(), Some(secs(9)));
    assert!(!judge(502).may_retry());
    assert_eq!(judge(500).kind(), OutcomeKind::Transient);
}
