//! What gRPC answers mean, and those of proxies that speak no gRPC.

use crate::{Fields, answer, get, post, secs};
use http::{Request, header};
use std::time::Duration;
use tower_webhook::{
    BoxError,
    outcome::{Classify, GrpcClassifier, MakeClassifier, Outcome, OutcomeKind, Repeatable},
};

fn grpc(fields: Fields) -> Outcome {
    let classify = GrpcClassifier::new()
        .assume_repeatable(true)
        .make_classifier(&post());
    classify.classify(Ok::<_, &BoxError>(&answer(200, fields)))
}

#[test]
fn every_grpc_code_has_the_kind_of_the_documented_table() {
    use OutcomeKind::{Permanent, Success, Throttled, Transient};
    let table = [
        ("0", 0, Success, false),
        ("1", 1, Transient, true),
        ("2", 2, Transient, true),
        ("3", 3, Permanent, false),
        ("4", 4, Transient, true),
        ("5", 5, Permanent, false),
        ("6", 6, Permanent, false),
        ("7", 7, Permanent, false),
        ("8", 8, Throttled, true),
        ("9", 9, Permanent, false),
        ("10", 10, Permanent, false),
        ("11", 11, Permanent, false),
        ("12", 12, Permanent, false),
        ("13", 13, Transient, true),
        ("14", 14, Transient, true),
        ("15", 15, Transient, false),
        ("16", 16, Permanent, false),
    ];
    let garbage = [
        "17", "99", "100", "", " ", "-1", "+5", "00", "014", "1.0", "OK", "١",
    ];
    let unknown = garbage.map(|text| (text, 2, Transient, true));
    for (text, code, kind, again) in table.into_iter().chain(unknown) {
        let mut res = answer(200, &[]);
        let value = http::HeaderValue::from_bytes(text.as_bytes()).unwrap();
        res.headers_mut().insert("grpc-status", value);
        let classify = |repeatable| {
            let classifier = GrpcClassifier::new().assume_repeatable(repeatable);
            let classify = classifier.make_classifier(&post());
            classify.classify(Ok::<_, &BoxError>(&res))
        };
        assert_eq!(classify(true).kind(), kind, "{text:?}");
        assert_eq!(classify(true).code(), Some(code), "{text:?}");
        assert_eq!(classify(true).may_retry(), again, "{text:?}");
        assert!(!classify(false).may_retry(), "{text:?}");
    }
}

#[test]
fn grpc_codes_that_contradict_each_other_are_unknown() {
    let outcome = grpc(&[("grpc-status", "0"), ("grpc-status", "14")]);
    assert_eq!(outcome.code(), Some(2));
    assert_eq!(
        grpc(&[("grpc-status", "0"), ("grpc-status", "0")]).code(),
        Some(0)
    );
}

#[test]
fn a_grpc_head_without_a_status_is_a_success_until_the_trailers_say_otherwise() {
    for fields in [
        &[][..],
        &[("content-type", "application/grpc")],
        &[("content-type", "application/grpc+proto")],
        &[("content-type", "Application/gRPC")],
    ] {
        assert_eq!(grpc(fields).kind(), OutcomeKind::Success, "{fields:?}");
        assert_eq!(grpc(fields).code(), None);
    }
    for kind in ["text/html", "application/json", "application/grp", ""] {
        let mut res = answer(200, &[]);
        res.headers_mut()
            .insert(header::CONTENT_TYPE, kind.parse().unwrap());
        let classify = GrpcClassifier::new().make_classifier(&post());
        let outcome = classify.classify(Ok::<_, &BoxError>(&res));
        assert_eq!(outcome.kind(), OutcomeKind::Transient, "{kind}");
        assert_eq!(outcome.code(), Some(2));
    }
}

#[test]
fn answers_of_http_proxies_are_mapped_to_grpc_codes() {
    use OutcomeKind::{Permanent, Throttled, Transient};
    for (status, code, kind) in [
        (204, 2, Transient),
        (302, 2, Permanent),
        (400, 13, Permanent),
        (401, 16, Permanent),
        (403, 7, Permanent),
        (404, 12, Permanent),
        (413, 2, Permanent),
        (429, 14, Throttled),
        (500, 2, Transient),
        (501, 2, Permanent),
        (502, 14, Transient),
        (503, 14, Throttled),
        (504, 14, Transient),
    ] {
        let res = answer(status, &[("ratelimit-reset", "3")]);
        let classify = GrpcClassifier::new().make_classifier(&post());
        let outcome = classify.classify(Ok::<_, &BoxError>(&res));
        assert_eq!(outcome.code(), Some(code), "{status}");
        assert_eq!(outcome.kind(), kind, "{status}");
        let hint = (kind == Throttled).then_some(secs(3));
        assert_eq!(outcome.retry_after(), hint, "{status}");
    }
    // A `grpc-status` goes before the HTTP status.
    let classify = GrpcClassifier::new().make_classifier(&post());
    let res = answer(503, &[("grpc-status", "5")]);
    let outcome = classify.classify(Ok::<_, &BoxError>(&res));
    assert_eq!(outcome.kind(), OutcomeKind::Permanent);
}

#[test]
fn pushback_says_when_or_never() {
    let millis = Duration::from_millis;
    let after = grpc(&[("grpc-status", "14"), ("grpc-retry-pushback-ms", "250")]);
    assert_eq!(after.retry_after(), Some(millis(250)));
    assert!(after.may_retry());

    for value in ["-1", "soon", "2147483648"] {
        let mut res = answer(200, &[("grpc-status", "14")]);
        res.headers_mut()
            .insert("grpc-retry-pushback-ms", value.parse().unwrap());
        let classifier = GrpcClassifier::new().assume_repeatable(true);
        let classify = classifier.make_classifier(&post());
        let never = classify.classify(Ok::<_, &BoxError>(&res));
        assert!(!never.may_retry(), "{value}");
        assert_eq!(never.kind(), OutcomeKind::Transient);
    }

    // It makes nothing retryable that is not, and goes before the headers of a proxy.
    let permanent = grpc(&[("grpc-status", "3"), ("grpc-retry-pushback-ms", "1")]);
    assert!(!permanent.may_retry());
    let both = &[
        ("grpc-status", "8"),
        ("grpc-retry-pushback-ms", "1"),
        ("retry-after", "9"),
    ];
    assert_eq!(grpc(both).retry_after(), Some(millis(1)));
    let proxy = grpc(&[("grpc-status", "8"), ("x-ratelimit-reset", "9")]);
    assert_eq!(proxy.retry_after(), Some(secs(9)));
    let unlimited = grpc(&[("grpc-status", "14"), ("x-ratelimit-reset", "9")]);
    assert_eq!(unlimited.retry_after(), None);
}

#[test]
fn grpc_calls_are_repeatable_by_key_extension_or_setting() {
    let again = |classifier: &GrpcClassifier, req: &Request<()>| {
        let classify = classifier.make_classifier(req);
        let res = answer(200, &[("grpc-status", "14")]);
        classify.classify(Ok::<_, &BoxError>(&res)).may_retry()
    };
    let default = GrpcClassifier::new();
    assert!(!again(&default, &post()));
    // The method says nothing: gRPC has POST alone.
    assert!(!again(&default, &get()));

    let mut keyed = post();
    keyed.headers_mut().insert("idempotency-key", 1.into());
    assert!(again(&default, &keyed));
    assert!(!again(&GrpcClassifier::new().key_headers([]), &keyed));

    let mut marked = post();
    marked.extensions_mut().insert(Repeatable::Yes);
    assert!(again(&default, &marked));
    marked.extensions_mut().insert(Repeatable::No);
    let all = GrpcClassifier::new().assume_repeatable(true);
    assert!(again(&all, &post()));
    assert!(!again(&all, &marked));
}
