//! When a peer wants to be asked again, and how far it is believed.

use crate::{Fields, SIX_HOURS, answer, get, post, secs, verdict};
use http::{HeaderMap, Response, StatusCode};
use proptest::prelude::*;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tower_webhook::{
    BoxError,
    outcome::{
        Classify, GrpcClassifier, HttpClassifier, MakeClassifier, Pushback, find_grpc_pushback,
        find_hint,
    },
};

/// 2025-01-01T00:00:00Z.
fn new_year() -> SystemTime {
    UNIX_EPOCH + secs(1_735_689_600)
}

#[test]
fn hints_are_read_from_every_failure_that_may_pass_and_cut_at_the_cap() {
    let classifier = HttpClassifier::new().max_hint(secs(300)).clock(new_year);
    for status in [408, 413, 425, 429, 500, 502, 503, 504, 599] {
        let judge = |value| {
            let res = answer(status, value);
            verdict(&classifier, &get(), &res).retry_after()
        };
        assert_eq!(
            judge(&[("retry-after", "120")]),
            Some(secs(120)),
            "{status}"
        );
        // linkerd's cap.
        assert_eq!(
            judge(&[("retry-after", "3600")]),
            Some(secs(300)),
            "{status}"
        );
        let date = &[("retry-after", "Wed, 01 Jan 2025 00:01:00 GMT")];
        assert_eq!(judge(date), Some(secs(60)), "{status}");
        assert_eq!(judge(&[("retry-after", "not-a-number")]), None, "{status}");
    }
    let far = answer(503, &[("retry-after", "999999999999999999999")]);
    let outcome = verdict(&HttpClassifier::new(), &get(), &far);
    assert_eq!(outcome.retry_after(), Some(SIX_HOURS));
}

#[test]
fn hints_follow_one_rule_for_each_field() {
    let cases: &[(u16, Fields, Option<u64>)] = &[
        // Retry-After goes first, whether longer or shorter (the draft's "dynamic" example).
        (
            429,
            &[
                ("retry-after", "20"),
                ("ratelimit", "\"dynamic\";r=15;t=40"),
            ],
            Some(20),
        ),
        (
            429,
            &[("retry-after", "20"), ("ratelimit", "\"dynamic\";r=0;t=40")],
            Some(20),
        ),
        (
            429,
            &[
                ("retry-after", "oops"),
                ("ratelimit", "\"dynamic\";r=0;t=40"),
            ],
            Some(40),
        ),
        // One value rule for duplicates.
        (
            503,
            &[("retry-after", "20"), ("retry-after", "20")],
            Some(20),
        ),
        (503, &[("retry-after", "20"), ("retry-after", "30")], None),
        (503, &[("retry-after", "20, 20")], None),
        // What remains decides; without it, the status.
        (429, &[("x-ratelimit-reset", "30")], Some(30)),
        (500, &[("x-ratelimit-reset", "30")], None),
        (
            500,
            &[("x-ratelimit-reset", "30"), ("x-ratelimit-remaining", "0")],
            Some(30),
        ),
        (
            429,
            &[("x-ratelimit-reset", "30"), ("x-ratelimit-remaining", "7")],
            None,
        ),
        (
            429,
            &[
                ("x-ratelimit-reset", "30"),
                ("x-ratelimit-remaining", "many"),
            ],
            Some(30),
        ),
        (503, &[("ratelimit-reset", "30")], Some(30)),
        (
            503,
            &[("ratelimit-reset", "30"), ("ratelimit-remaining", "1")],
            None,
        ),
        (
            503,
            &[("ratelimit-reset", "30"), ("x-ratelimit-remaining", "1")],
            Some(30),
        ),
        (503, &[("ratelimit-reset", "3.5")], None),
        (503, &[("ratelimit-reset", "-3")], None),
        // The longest of those that count.
        (
            429,
            &[("ratelimit-reset", "30"), ("x-ratelimit-reset", "40")],
            Some(40),
        ),
        (
            429,
            &[("ratelimit", "\"a\";r=0;t=50"), ("x-ratelimit-reset", "40")],
            Some(50),
        ),
        // Moments, as GitHub sends them.
        (
            429,
            &[
                ("x-ratelimit-reset", "1735689660"),
                ("x-ratelimit-remaining", "0"),
            ],
            Some(60),
        ),
        (429, &[("x-ratelimit-reset", "1735689600")], Some(0)),
        (429, &[("x-ratelimit-reset", "1")], Some(1)),
        (429, &[("x-ratelimit-reset", "1735689661000")], Some(61)),
        (
            429,
            &[("x-ratelimit-reset", "99999999999999999999999")],
            Some(21600),
        ),
    ];
    for (status, fields, expected) in cases {
        let status = StatusCode::from_u16(*status).unwrap();
        let res = answer(status.as_u16(), fields);
        let hint = find_hint(status, res.headers(), new_year(), SIX_HOURS);
        assert_eq!(hint, expected.map(secs), "{status} {fields:?}");
    }
}

#[test]
fn dates_are_measured_by_the_clock_of_whoever_wrote_them() {
    let at = |fields| {
        let res = answer(503, fields);
        find_hint(res.status(), res.headers(), new_year(), SIX_HOURS)
    };
    // The draft's example, twenty years before our clock: five seconds all the same.
    assert_eq!(
        at(&[
            ("date", "Mon, 05 Aug 2019 09:27:00 GMT"),
            ("retry-after", "Mon, 05 Aug 2019 09:27:05 GMT"),
        ]),
        Some(secs(5))
    );
    assert_eq!(
        at(&[
            ("date", "yesterday"),
            ("retry-after", "Wed, 01 Jan 2025 00:00:05 GMT"),
        ]),
        Some(secs(5))
    );
    assert_eq!(
        at(&[
            ("date", "Mon, 05 Aug 2019 09:27:00 GMT"),
            ("x-ratelimit-reset", "1564997225"),
        ]),
        Some(secs(5))
    );
}

/// Header fields of a peer that means harm.
fn odd_headers() -> impl Strategy<Value = HeaderMap> {
    let name = prop_oneof![
        Just("retry-after"),
        Just("ratelimit"),
        Just("ratelimit-reset"),
        Just("ratelimit-remaining"),
        Just("x-ratelimit-reset"),
        Just("x-ratelimit-remaining"),
        Just("date"),
        Just("grpc-status"),
        Just("grpc-retry-pushback-ms"),
        Just("content-type"),
    ];
    let value = prop_oneof![
        "[0-9]{1,25}",
        "-?[0-9]{1,3}",
        "[ -~]{0,24}",
        r#""[a-z]{0,3}";r=[0-9]{1,2};t=[0-9]{1,17}"#,
        "(Mon|Tue|Wed|Thu|Fri), [0-3][0-9] (Jan|Dec) [12][09][0-9]{2} [0-2][0-9]:[0-5][0-9]:[0-5][0-9] GMT",
    ];
    proptest::collection::vec((name, value), 0..8).prop_map(|fields| {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, value.parse().unwrap());
        }
        headers
    })
}

proptest! {
    #[test]
    fn no_answer_makes_us_wait_beyond_the_cap(
        headers in odd_headers(),
        status in 100_u16..1000,
        max in any::<u32>(),
        now in 0_u64..1 << 40,
    ) {
        let max = Duration::from_millis(max.into());
        let status = StatusCode::from_u16(status).unwrap();
        let now = UNIX_EPOCH + Duration::from_millis(now);
        prop_assert!(find_hint(status, &headers, now, max).is_none_or(|wait| wait <= max));
        if let Some(Pushback::After(wait)) = find_grpc_pushback(&headers, max) {
            prop_assert!(wait <= max);
        }

        let mut res = Response::new(());
        *res.status_mut() = status;
        *res.headers_mut() = headers;
        let http = HttpClassifier::new().max_hint(max).make_classifier(&post());
        let grpc = GrpcClassifier::new().max_hint(max).make_classifier(&post());
        for outcome in [
            http.classify(Ok::<_, &BoxError>(&res)),
            grpc.classify(Ok::<_, &BoxError>(&res)),
        ] {
            prop_assert!(outcome.retry_after().is_none_or(|wait| wait <= max));
            // A POST without a key, answered: never again, whatever the answer says.
            prop_assert!(!outcome.may_retry());
        }
        prop_assert!(grpc.classify(Ok::<_, &BoxError>(&res)).code().is_none_or(|code| code <= 16));
    }
}
