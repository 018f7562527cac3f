//! When a peer wants to be asked again, and how far it is believed.

use crate::{Fields, SIX_HOURS, answer, get, secs, verdict};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tower_webhook::outcome::HttpClassifier;

/// 2025-01-01T00:00:00Z.
fn new_year() -> SystemTime {
    UNIX_EPOCH + secs(1_735_689_600)
}

/// What an answer to a request that may be repeated asks for.
fn hint(status: u16, fields: Fields) -> Option<Duration> {
    let classifier = HttpClassifier::new().clock(new_year);
    verdict(&classifier, &get(), &answer(status, fields)).retry_after()
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
        let hint = hint(*status, fields);
        assert_eq!(hint, expected.map(secs), "{status} {fields:?}");
    }
}

#[test]
fn dates_are_measured_by_the_clock_of_whoever_wrote_them() {
    let at = |fields| hint(503, fields);
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
