//! When the peer wants to be asked again.

use super::{
    field::{date, digits, one_value, trim, until},
    rate_limit,
};
use http::{HeaderMap, StatusCode, header};
use std::{
    fmt,
    time::{Duration, SystemTime},
};

/// Why a value is no hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HintError {
    /// Neither a number of seconds nor a date.
    NotADelay,
}

impl fmt::Display for HintError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("neither a number of seconds nor an HTTP date")
    }
}

impl std::error::Error for HintError {}

/// Reads the value of a `Retry-After` field as a wait no longer than `max`.
///
/// Both forms of [RFC 9110 §10.2.3](https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3) are read:
///
/// - seconds, as digits and nothing else. More of them than a number holds is as long as can be
///   (as RFC 9111 §1.2.2 has it for the same syntax), so it is `max`.
/// - a date, in any of the three formats of RFC 9110 §5.6.7, measured from `now`. A date in the
///   past is zero.
///
/// Spaces and tabs around the value are no part of it (RFC 9110 §5.5).
///
/// # Errors
///
/// [`HintError::NotADelay`] when it is neither. Callers fall back to their own backoff.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use tower_webhook::outcome::{HintError, parse_retry_after};
///
/// let (now, max) = (SystemTime::now(), Duration::from_secs(60));
/// assert_eq!(parse_retry_after("7", now, max)?, Duration::from_secs(7));
/// // A peer does not park us for an hour.
/// assert_eq!(parse_retry_after("3600", now, max)?, max);
/// assert_eq!(parse_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now, max)?, Duration::ZERO);
/// assert_eq!(parse_retry_after("-1", now, max), Err(HintError::NotADelay));
/// # Ok::<_, HintError>(())
/// ```
pub fn parse_retry_after(
    value: impl AsRef<[u8]>,
    now: SystemTime,
    max: Duration,
) -> Result<Duration, HintError> {
    let value = trim(value.as_ref());
    let wait = match digits(value) {
        Some(seconds) => Duration::from_secs(seconds),
        None => until(date(value).ok_or(HintError::NotADelay)?, now),
    };
    Ok(wait.min(max))
}

/// When the answer to a failed request wants to be asked again, as a wait no longer than `max`.
///
/// # What is read
///
/// 1. `Retry-After`, in both its forms. Where it can be read, nothing else is: the others MUST give
///    way to it (draft-ietf-httpapi-ratelimit-headers-10, client behavior).
/// 2. Otherwise the longest wait in these:
///
/// | Field | Read as |
/// | --- | --- |
/// | `RateLimit` | draft -10: a list such as `"minute";r=0;t=20, "day";r=7;t=3600`, of which `t` is the wait in seconds and `r` what remains |
/// | `RateLimit-Reset` | drafts up to -06: a wait in seconds; what remains is in `RateLimit-Remaining` |
/// | `X-RateLimit-Reset` | the same; what remains is in `X-RateLimit-Remaining` |
///
/// A `Reset` from 10⁹ up is no wait (that would be 31 years) but a moment: seconds since 1970, as
/// GitHub sends it, and from 10¹² up milliseconds.
///
/// A limit counts when nothing remains of it. One that still has something is not what made the
/// request fail, and its reset may be far: GitHub asks clients to wait for the reset when the
/// remaining is 0, and otherwise not. Where the answer does not say what remains, the limit counts
/// if `status` is 429 or 503.
///
/// # What is ignored
///
/// Everything that cannot be read. A field that takes one value counts only if all its lines say
/// the same: two that differ are as unreadable as two in one line. A `RateLimit` list counts whole
/// or not at all (RFC 9651 §4.2). The dictionary form of drafts -07 and -08 is not read.
///
/// # Clocks
///
/// A date is measured from the answer's own `Date`, where it has one: the difference of two times
/// by one clock is right even if that clock is not. Without it, from `now`.
///
/// # Examples
///
/// ```
/// use http::{HeaderMap, StatusCode};
/// use std::time::{Duration, SystemTime};
/// use tower_webhook::outcome::find_hint;
///
/// let mut headers = HeaderMap::new();
/// headers.insert("ratelimit", r#""minute";r=0;t=20, "day";r=7;t=3600"#.parse()?);
/// let hint = |headers: &HeaderMap| {
///     let hour = Duration::from_secs(3600);
///     find_hint(StatusCode::TOO_MANY_REQUESTS, headers, SystemTime::now(), hour)
/// };
/// assert_eq!(hint(&headers), Some(Duration::from_secs(20)));
///
/// headers.insert("retry-after", "5".parse()?);
/// assert_eq!(hint(&headers), Some(Duration::from_secs(5)));
/// # Ok::<_, http::header::InvalidHeaderValue>(())
/// ```
pub fn find_hint(
    status: StatusCode,
    headers: &HeaderMap,
    now: SystemTime,
    max: Duration,
) -> Option<Duration> {
    find(headers, is_limit(status), now, max)
}

/// [`find_hint`], for answers whose status is not HTTP's.
pub(super) fn find(
    headers: &HeaderMap,
    limited: bool,
    now: SystemTime,
    max: Duration,
) -> Option<Duration> {
    let now = one_value(headers, "date").and_then(date).unwrap_or(now);
    let asked = one_value(headers, header::RETRY_AFTER.as_str())
        .and_then(|value| parse_retry_after(value, now, max).ok());
    asked.or_else(|| rate_limit::reset(headers, limited, now).map(|wait| wait.min(max)))
}

/// Whether a status by itself says that a limit was met.
pub(super) fn is_limit(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 503)
}

/// Whether there is a `Retry-After` that can be read, whatever it says.
pub(super) fn says_temporary(headers: &HeaderMap) -> bool {
    one_value(headers, header::RETRY_AFTER.as_str())
        .is_some_and(|value| digits(value).is_some() || date(value).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::UNIX_EPOCH;

    const MAX: Duration = Duration::from_secs(300);
    /// Mon, 03 Jun 2019 11:00:00 GMT, the "now" of urllib3's own table.
    const NOW: Duration = Duration::from_secs(1_559_559_600);

    fn wait(value: &str) -> Option<u64> {
        let far = Duration::from_secs(6 * 3600);
        let wait = parse_retry_after(value, UNIX_EPOCH + NOW, far).ok()?;
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
    fn garbage_is_an_error() {
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
        assert!(parse_retry_after(b"\xff\xfe", UNIX_EPOCH, MAX).is_err());
        assert!(parse_retry_after([b'x'; 4096], UNIX_EPOCH, MAX).is_err());
    }

    #[test]
    fn more_digits_than_a_number_holds_are_the_cap() {
        for value in [
            "18446744073709551615",
            "18446744073709551616",
            "99999999999999999999999",
        ] {
            assert_eq!(parse_retry_after(value, UNIX_EPOCH, MAX), Ok(MAX));
        }
        assert_eq!(parse_retry_after([b'9'; 4096], UNIX_EPOCH, MAX), Ok(MAX));
        assert_eq!(
            parse_retry_after([b'0'; 4096], UNIX_EPOCH, MAX),
            Ok(Duration::ZERO)
        );
        assert_eq!(
            parse_retry_after([b'9'; 4096], UNIX_EPOCH, Duration::MAX),
            Ok(Duration::from_secs(u64::MAX))
        );
    }

    proptest! {
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
            if let Ok(wait) = parse_retry_after(&value, now, max) {
                prop_assert!(wait <= max);
            }
        }

        #[test]
        fn any_number_of_seconds_comes_back(seconds: u64) {
            let wait = parse_retry_after(seconds.to_string(), UNIX_EPOCH, Duration::MAX);
            prop_assert_eq!(wait, Ok(Duration::from_secs(seconds)));
        }

        #[test]
        fn any_date_is_measured_from_now(then in 0_u64..200_000_000_000, now in 0_u64..200_000_000_000) {
            let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
            let wait = parse_retry_after(httpdate::fmt_http_date(at(then)), at(now), Duration::MAX);
            prop_assert_eq!(wait, Ok(Duration::from_secs(then.saturating_sub(now))));
        }
    }
}
