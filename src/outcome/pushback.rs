//! When a gRPC server wants to be called again.

use super::field::{digits, trim};
use http::HeaderMap;
use std::time::Duration;

/// What `grpc-retry-pushback-ms` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pushback {
    /// Try again after this long.
    After(Duration),
    /// Do not try again.
    Never,
}

/// Reads the value of a `grpc-retry-pushback-ms` field: milliseconds, as a wait no longer than
/// `max`, or the wish not to be asked again.
///
/// The value is a signed 32-bit integer without needless zeros. What is negative or cannot be read
/// is [`Pushback::Never`]
/// ([gRFC A6](https://github.com/grpc/proposal/blob/master/A6-client-retries.md#pushback)).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_webhook::outcome::{Pushback, parse_grpc_pushback};
///
/// let max = Duration::from_secs(60);
/// assert_eq!(parse_grpc_pushback("250", max), Pushback::After(Duration::from_millis(250)));
/// assert_eq!(parse_grpc_pushback("-1", max), Pushback::Never);
/// assert_eq!(parse_grpc_pushback("soon", max), Pushback::Never);
/// ```
pub fn parse_grpc_pushback(value: impl AsRef<[u8]>, max: Duration) -> Pushback {
    let value = trim(value.as_ref());
    let padded = value.len() > 1 && value[0] == b'0';
    match digits(value).map(i32::try_from) {
        Some(Ok(millis)) if !padded => {
            Pushback::After(Duration::from_millis(millis.unsigned_abs().into()).min(max))
        }
        _ => Pushback::Never,
    }
}

/// What the `grpc-retry-pushback-ms` of a head or of trailers asks for, if it is there. There more
/// than once, it is [`Pushback::Never`], as grpc-go has it.
pub fn find_grpc_pushback(headers: &HeaderMap, max: Duration) -> Option<Pushback> {
    let mut values = headers.get_all("grpc-retry-pushback-ms").iter();
    let value = values.next()?;
    Some(match values.next() {
        Some(_) => Pushback::Never,
        None => parse_grpc_pushback(value, max),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: Duration = Duration::from_secs(300);

    #[test]
    fn pushback_follows_a6() {
        let after = |millis| Pushback::After(Duration::from_millis(millis));
        for (value, expected) in [
            ("0", after(0)),
            ("5000", after(5000)),
            (" 5000 ", after(5000)),
            ("999999", Pushback::After(MAX)),
            ("2147483647", Pushback::After(MAX)),
            ("2147483648", Pushback::Never),
            ("18446744073709551617", Pushback::Never),
            ("-1", Pushback::Never),
            ("-0", Pushback::Never),
            ("+5", Pushback::Never),
            ("007", Pushback::Never),
            ("00", Pushback::Never),
            ("1.5", Pushback::Never),
            ("", Pushback::Never),
            ("not-a-number", Pushback::Never),
        ] {
            assert_eq!(parse_grpc_pushback(value, MAX), expected, "{value:?}");
        }
    }

    #[test]
    fn pushback_that_is_repeated_means_never() {
        let mut headers = HeaderMap::new();
        assert_eq!(find_grpc_pushback(&headers, MAX), None);
        headers.append("grpc-retry-pushback-ms", 5.into());
        let after = Pushback::After(Duration::from_millis(5));
        assert_eq!(find_grpc_pushback(&headers, MAX), Some(after));
        headers.append("grpc-retry-pushback-ms", 5.into());
        assert_eq!(find_grpc_pushback(&headers, MAX), Some(Pushback::Never));
    }

    proptest! {
        #[test]
        fn whatever_is_sent_the_wait_is_within_the_cap(
            value in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..32),
                "-?[0-9]{1,4096}".prop_map(String::into_bytes),
            ],
            max in any::<u32>(),
        ) {
            let max = Duration::from_millis(max.into());
            if let Pushback::After(wait) = parse_grpc_pushback(&value, max) {
                prop_assert!(wait <= max);
            }
        }

        #[test]
        fn any_32_bit_number_is_read(millis: i32) {
            let wait = u64::try_from(millis).map(Duration::from_millis);
            let expected = wait.map_or(Pushback::Never, Pushback::After);
            prop_assert_eq!(parse_grpc_pushback(millis.to_string(), Duration::MAX), expected);
        }
    }
}
