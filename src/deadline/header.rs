//! Writes the time left into a header, and reads it from one.

use http::{HeaderMap, HeaderName, HeaderValue};
use std::{fmt, time::Duration};

static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// A header and the format of its value.
#[derive(Clone, Debug)]
pub(super) enum Format {
    /// `grpc-timeout`.
    Grpc,
    /// Whole milliseconds.
    Millis(HeaderName),
}

impl Format {
    pub(super) fn name(&self) -> &HeaderName {
        match self {
            Self::Grpc => &GRPC_TIMEOUT,
            Self::Millis(name) => name,
        }
    }

    /// The time in the headers; `None` if the header is missing, repeated or malformed.
    pub(super) fn read(&self, headers: &HeaderMap) -> Option<Duration> {
        let mut values = headers.get_all(self.name()).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return None;
        };
        let text = value.to_str().ok()?;
        match self {
            Self::Grpc => GrpcTimeout::parse(text).map(GrpcTimeout::duration),
            // `parse` alone would take a sign.
            Self::Millis(_) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                text.parse().ok().map(Duration::from_millis)
            }
            Self::Millis(_) => None,
        }
    }

    /// The header value of this time, rounded down; `None` if the result is zero.
    pub(super) fn write(&self, left: Duration) -> Option<HeaderValue> {
        match self {
            Self::Grpc if left.is_zero() => None,
            Self::Grpc => HeaderValue::try_from(GrpcTimeout::new(left).to_string()).ok(),
            Self::Millis(_) => match u64::try_from(left.as_millis()).unwrap_or(u64::MAX) {
                0 => None,
                millis => Some(HeaderValue::from(millis)),
            },
        }
    }
}

/// The largest number with 8 digits.
const MAX: u64 = 99_999_999;

/// The units, finest first: the letter, and how many make a second (or how many seconds make one).
const UNITS: [(u8, Scale); 6] = [
    (b'n', Scale::Fraction(1_000_000_000)),
    (b'u', Scale::Fraction(1_000_000)),
    (b'm', Scale::Fraction(1_000)),
    (b'S', Scale::Seconds(1)),
    (b'M', Scale::Seconds(60)),
    (b'H', Scale::Seconds(3600)),
];

#[derive(Clone, Copy)]
enum Scale {
    Fraction(u64),
    Seconds(u64),
}

/// A value of the `grpc-timeout` header: at most 8 digits and a unit, `H`, `M`, `S`, `m`, `u` or
/// `n` ([gRPC over HTTP/2](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#requests)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct GrpcTimeout {
    value: u32,
    unit: u8,
}

impl GrpcTimeout {
    /// Uses the finest unit that can hold the time, rounded down, so that it never exceeds the time left.
    /// At most 99,999,999 hours.
    fn new(timeout: Duration) -> Self {
        let (seconds, nanos) = (timeout.as_secs(), u64::from(timeout.subsec_nanos()));
        for (unit, scale) in UNITS {
            let value = match scale {
                Scale::Fraction(per_second) => seconds
                    .checked_mul(per_second)
                    .and_then(|whole| whole.checked_add(nanos / (1_000_000_000 / per_second))),
                Scale::Seconds(each) => Some(seconds / each),
            };
            if let Some(value) = value.filter(|value| *value <= MAX)
                && let Ok(value) = u32::try_from(value)
            {
                return Self { value, unit };
            }
        }
        Self {
            value: 99_999_999,
            unit: b'H',
        }
    }

    /// Reads a value, strictly: 1 to 8 digits and one unit, without blanks or signs.
    ///
    /// Zero, which the protocol does not allow, means that no time is left.
    fn parse(value: &str) -> Option<Self> {
        let (&unit, digits) = value.as_bytes().split_last()?;
        let known = UNITS.iter().any(|(letter, _)| *letter == unit);
        if !known || !(1..=8).contains(&digits.len()) {
            return None;
        }
        let mut value = 0;
        for digit in digits {
            if !digit.is_ascii_digit() {
                return None;
            }
            // 8 digits fit.
            value = value * 10 + u32::from(digit - b'0');
        }
        Some(Self { value, unit })
    }

    /// Converts it to a duration.
    fn duration(self) -> Duration {
        let value = u64::from(self.value);
        match self.unit {
            b'n' => Duration::from_nanos(value),
            b'u' => Duration::from_micros(value),
            b'm' => Duration::from_millis(value),
            b'S' => Duration::from_secs(value),
            b'M' => Duration::from_secs(value * 60),
            _ => Duration::from_secs(value * 3600),
        }
    }
}

impl fmt::Display for GrpcTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.value, char::from(self.unit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_finest_unit_that_holds_it() {
        for (timeout, text) in [
            (Duration::ZERO, "0n"),
            (Duration::from_nanos(1), "1n"),
            (Duration::from_nanos(99_999_999), "99999999n"),
            (Duration::from_nanos(100_000_999), "100000u"),
            (Duration::from_millis(1_500), "1500000u"),
            (Duration::from_secs(99), "99000000u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_micros(99_999_999_999), "99999999m"),
            (Duration::from_secs(100_000), "100000S"),
            (Duration::from_secs(100_000_000), "1666666M"),
            (Duration::from_secs(6_000_000_000), "1666666H"),
            (Duration::MAX, "99999999H"),
        ] {
            assert_eq!(GrpcTimeout::new(timeout).to_string(), text);
        }
    }

    #[test]
    fn every_unit_is_read() {
        for (text, seconds) in [
            ("2H", 7200.0),
            ("2M", 120.0),
            ("2S", 2.0),
            ("2m", 2e-3),
            ("2u", 2e-6),
            ("2n", 2e-9),
        ] {
            let read = GrpcTimeout::parse(text).unwrap().duration();
            assert_eq!(read, Duration::from_secs_f64(seconds), "{text}");
        }
        let longest = GrpcTimeout::parse("99999999H").unwrap().duration();
        assert_eq!(longest.as_secs(), 359_999_996_400);
    }

    #[test]
    fn everything_else_is_refused() {
        let long = "9".repeat(4096);
        for text in [
            "",
            "S",
            "1",
            "1s",
            "1h",
            "-1S",
            "+1S",
            " 1S",
            "1S ",
            "1 S",
            "1.5S",
            "0x1S",
            "1SS",
            "123456789n",
            "１S",
            "1\u{0}S",
            &long,
            &format!("{long}S"),
        ] {
            assert_eq!(GrpcTimeout::parse(text), None, "{text:?}");
        }
        assert_eq!(GrpcTimeout::parse("0S").unwrap().duration(), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again_and_is_never_more(secs: u64, nanos in 0_u32..1_000_000_000, small: bool) {
            let timeout = Duration::new(if small { secs % 200_000_000 } else { secs }, nanos);
            let written = GrpcTimeout::new(timeout);
            let text = written.to_string();
            prop_assert!(text.len() <= 9);
            prop_assert_eq!(GrpcTimeout::parse(&text), Some(written));
            prop_assert!(written.duration() <= timeout);
            // Six digits are left where eight of the smaller unit do not hold it; hours hold the most.
            if timeout.as_secs() < 359_999_996_400 {
                let lost = timeout.checked_sub(written.duration()).unwrap();
                prop_assert!(lost <= timeout / 100_000, "{} of {:?}", text, timeout);
            }
        }

        #[test]
        fn nothing_makes_the_parser_panic(text in "\\PC{0,12}") {
            if let Some(read) = GrpcTimeout::parse(&text) {
                prop_assert!(read.duration() <= Duration::from_secs(359_999_996_400));
            }
        }
    }
}
