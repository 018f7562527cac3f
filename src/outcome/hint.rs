//! The hints of a peer on when to try again: `Retry-After`, and how header fields are read.

use super::rate_limit;
use http::{HeaderMap, StatusCode, header};
use std::time::{Duration, SystemTime};

/// Reads the value of a `Retry-After` field as a wait no longer than `max`.
///
/// Both forms of [RFC 9110 §10.2.3](https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3) are read:
///
/// - seconds, as digits only. A number that overflows is the longest wait, so `max` (as RFC 9111
///   §1.2.2 has it for the same syntax).
/// - a date, in any of the three formats of RFC 9110 §5.6.7, measured from `now`. A date in the
///   past is zero.
///
/// Spaces and tabs around the value are ignored (RFC 9110 §5.5).
fn parse_retry_after(value: impl AsRef<[u8]>, now: SystemTime, max: Duration) -> Option<Duration> {
    let value = trim(value.as_ref());
    let wait = match digits(value) {
        Some(seconds) => Duration::from_secs(seconds),
        None => until(date(value)?, now),
    };
    Some(wait.min(max))
}

/// How long the peer asks to wait, at most `max`. `limited`: the status says that a limit was
/// reached. [`HttpClassifier`](super::HttpClassifier#hints) documents what is read.
pub(super) fn find(
    headers: &HeaderMap,
    limited: bool,
    now: SystemTime,
    max: Duration,
) -> Option<Duration> {
    let now = one_value(headers, "date").and_then(date).unwrap_or(now);
    let asked = one_value(headers, header::RETRY_AFTER.as_str())
        .and_then(|value| parse_retry_after(value, now, max));
    asked.or_else(|| rate_limit::reset(headers, limited, now).map(|wait| wait.min(max)))
}

/// Whether a status says that a limit was reached.
pub(super) fn is_limit(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 503)
}

/// Whether there is a valid `Retry-After`.
pub(super) fn says_temporary(headers: &HeaderMap) -> bool {
    one_value(headers, header::RETRY_AFTER.as_str())
        .is_some_and(|value| digits(value).is_some() || date(value).is_some())
}

/// The value of a field that has one value. `None` without it, or if its lines differ.
pub(super) fn one_value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    values
        .all(|other| other == first)
        .then(|| trim(first.as_bytes()))
}

/// A number that consists of digits only. One too large for a `u64` is `u64::MAX`.
pub(super) fn digits(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |sum, byte| match byte {
        b'0'..=b'9' => Some(
            sum.saturating_mul(10)
                .saturating_add(u64::from(byte - b'0')),
        ),
        _ => None,
    })
}

/// The time from `now` to `then`: zero if `then` is past.
pub(super) fn until(then: SystemTime, now: SystemTime) -> Duration {
    then.duration_since(now).unwrap_or(Duration::ZERO)
}

/// An HTTP date in any of the formats of RFC 9110 §5.6.7.
pub(super) fn date(value: &[u8]) -> Option<SystemTime> {
    httpdate::parse_http_date(std::str::from_utf8(value).ok()?).ok()
}

/// Removes the spaces and tabs around a field value. `trim_ascii` would remove line ends too.
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        BoxError,
        outcome::{
            Classify, GrpcClassifier, HttpClassifier, MakeClassifier,
            grpc::{Pushback, find_pushback},
        },
    };
    use http::{Request, Response};
    use proptest::prelude::*;
    use std::time::UNIX_EPOCH;

    const MAX: Duration = Duration::from_secs(300);
    /// Mon, 03 Jun 2019 11:00:00 GMT, the "now" of urllib3's own table.
    const NOW: Duration = Duration::from_secs(1_559_559_600);

    fn wait(value: &str) -> Option<u64> {
        let far = Duration::from_secs(6 * 3600);
        let wait = parse_retry_after(value, UNIX_EPOCH + NOW, far)?;
        Some(wait.as_secs())
    }

    #[test]
    fn seconds_are_read_as_urllib3_reads_them() {
        for (value, seconds) in [("0", 0), ("1000", 1000), ("\t42 ", 42), ("3600", 3600)] {
            assert_eq!(wait(value), Some(seconds), "{value:?}");
        }
        assert_eq!(wait("21600"), Some(21600));
        assert_eq!(wait("21601"), Some(21600));
        for value in ["-1", "+1", "1.0", "\u{b2}"] {
            assert_eq!(wait(value), None, "{value:?}");
        }
    }

    #[test]
    fn dates_are_read_in_the_three_formats_of_rfc_9110() {
        for (value, seconds) in [
            ("Mon, 03 Jun 2019 11:30:12 GMT", 1812),
            ("Monday, 03-Jun-19 11:30:12 GMT", 1812),
            ("Mon Jun  3 11:30:12 2019", 1812),
            ("Mon, 03 Jun 2019 12:00:00 GMT", 3600),
            ("Mon, 03 Jun 2019 11:00:00 GMT", 0),
            ("Mon, 03 Jun 2019 10:59:59 GMT", 0),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 21600),
            // The example of RFC 9110 §10.2.3.
            ("Fri, 31 Dec 1999 23:59:59 GMT", 0),
        ] {
            assert_eq!(wait(value), Some(seconds), "{value:?}");
        }
    }

    #[test]
    fn garbage_is_no_hint() {
        for value in [
            "",
            " ",
            "\t",
            "soon",
            "1e9",
            "+5",
            "5.0",
            "5s",
            "0x10",
            "1 2",
            "1, 2",
            "1,2",
            "٣",
            "5\n",
            "5\0",
            "32 Dec",
            "Sun, 32 Dec 2019 11:30:12 GMT",
            "Mon, 03 Jun 2019 11:30:12",
            "Mon, 03 Jun 2019 11:30:12 UTC",
            "Mon, 03 Jun 2019 24:00:00 GMT",
            "Mon, 30 Feb 2019 11:30:12 GMT",
            "2019-06-03T11:30:12Z",
            // It was a Tuesday: a date that contradicts itself is no date.
            "Wed, 21 Oct 2025 07:28:00 GMT",
            "Monday, é",
            "Mon, 03 Jun 2019 11:30:12 GMT, 5",
        ] {
            assert_eq!(wait(value), None, "{value:?}");
        }
        assert!(parse_retry_after(b"\xff\xfe", UNIX_EPOCH, MAX).is_none());
        assert!(parse_retry_after([b'x'; 4096], UNIX_EPOCH, MAX).is_none());
    }

    #[test]
    fn more_digits_than_a_number_holds_are_the_cap() {
        for value in [
            "18446744073709551615",
            "18446744073709551616",
            "99999999999999999999999",
        ] {
            assert_eq!(parse_retry_after(value, UNIX_EPOCH, MAX), Some(MAX));
        }
        assert_eq!(parse_retry_after([b'9'; 4096], UNIX_EPOCH, MAX), Some(MAX));
        assert_eq!(
            parse_retry_after([b'0'; 4096], UNIX_EPOCH, MAX),
            Some(Duration::ZERO)
        );
        assert_eq!(
            parse_retry_after([b'9'; 4096], UNIX_EPOCH, Duration::MAX),
            Some(Duration::from_secs(u64::MAX))
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
            prop_assert!(find(&headers, is_limit(status), now, max).is_none_or(|wait| wait <= max));
            if let Some(Pushback::After(wait)) = find_pushback(&headers, max) {
                prop_assert!(wait <= max);
            }

            let post = Request::post("/hook").body(()).unwrap();
            let mut res = Response::new(());
            *res.status_mut() = status;
            *res.headers_mut() = headers;
            let http = HttpClassifier::new().max_hint(max).make_classifier(&post);
            let grpc = GrpcClassifier::new().max_hint(max).make_classifier(&post);
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

        #[test]
        fn whatever_is_sent_the_wait_is_within_the_cap(
            value in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..64),
                "[ -~]{0,40}".prop_map(String::into_bytes),
                "[0-9]{1,4096}".prop_map(String::into_bytes),
                "(Mon|Sun|Thu)(day)?,? [0-9]{2}[ -](Jan|Feb|Jun)[ -][0-9]{2,4} [0-9]{2}:[0-9]{2}:[0-9]{2} ?(GMT)?"
                    .prop_map(String::into_bytes),
            ],
            now in 0_u64..1 << 40,
            max in any::<u32>(),
        ) {
            let max = Duration::from_millis(max.into());
            let now = UNIX_EPOCH + Duration::from_millis(now);
            if let Some(wait) = parse_retry_after(&value, now, max) {
                prop_assert!(wait <= max);
            }
        }

        #[test]
        fn any_number_of_seconds_comes_back(seconds: u64) {
            let wait = parse_retry_after(seconds.to_string(), UNIX_EPOCH, Duration::MAX);
            prop_assert_eq!(wait, Some(Duration::from_secs(seconds)));
        }

        #[test]
        fn any_date_is_measured_from_now(then in 0_u64..200_000_000_000, now in 0_u64..200_000_000_000) {
            let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
            let wait = parse_retry_after(httpdate::fmt_http_date(at(then)), at(now), Duration::MAX);
            prop_assert_eq!(wait, Some(Duration::from_secs(then.saturating_sub(now))));
        }
    }
}
