//! How the value of a header field is read, whichever field it is.

use http::HeaderMap;
use std::time::{Duration, SystemTime};

/// The value of a field that takes one. `None` without it, or when its lines differ.
pub(super) fn one_value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    values
        .all(|other| other == first)
        .then(|| trim(first.as_bytes()))
}

/// A number, written as digits and nothing else. One that is too large for a `u64` is the largest.
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

/// How far `then` is ahead of `now`: zero when it is past.
pub(super) fn until(then: SystemTime, now: SystemTime) -> Duration {
    then.duration_since(now).unwrap_or(Duration::ZERO)
}

/// An HTTP date in any of the formats of RFC 9110 §5.6.7.
pub(super) fn date(value: &[u8]) -> Option<SystemTime> {
    httpdate::parse_http_date(std::str::from_utf8(value).ok()?).ok()
}

/// Cuts off the white space that is no part of a field value. No other: `trim_ascii` would take
/// line ends as well.
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}
