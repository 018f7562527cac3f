use jiff::{Timestamp, fmt::temporal::DateTimeParser, tz::Offset};
use std::time::{Duration, SystemTime};

/// Numbers beyond this are milliseconds, as pydantic reads them: 2603-10-11 in seconds.
const LAST_SECOND: u64 = 20_000_000_000;

/// The last instant of the year 9999, in seconds.
const MAX_SECOND: u64 = 253_402_300_799;

static PARSER: DateTimeParser = DateTimeParser::new();

/// Reads a point in time as S4's receiver (pydantic) does.
///
/// `text` is RFC 3339 with an offset or `Z`, the same without an offset (UTC), or a number with or without
/// a fraction: seconds, or milliseconds beyond ±2·10¹⁰.
pub(super) fn parse(text: &str) -> Option<SystemTime> {
    let bytes = text.as_bytes();
    match bytes.get(4) {
        Some(b'-') => from_date(bytes),
        _ => from_number(text),
    }
}

fn from_date(text: &[u8]) -> Option<SystemTime> {
    // The parser also accepts other Temporal forms: time zones in brackets, missing fields. A sender that
    // uses them means something other than RFC 3339.
    let time = text.get(10..)?;
    let usual = |byte: &u8| {
        matches!(
            byte,
            b'0'..=b'9' | b':' | b'-' | b'+' | b'.' | b'T' | b't' | b'Z' | b'z' | b' '
        )
    };
    if time.len() < "T00:00".len() || time[3] != b':' || !time.iter().all(usual) {
        return None;
    }
    let with_offset = time
        .iter()
        .any(|byte| matches!(byte, b'Z' | b'z' | b'+' | b'-'));
    let timestamp = if with_offset {
        PARSER.parse_timestamp(text).ok()?
    } else {
        let naive = PARSER.parse_datetime(text).ok()?;
        Offset::UTC.to_timestamp(naive).ok()?
    };
    system_time(timestamp)
}

fn system_time(timestamp: Timestamp) -> Option<SystemTime> {
    let distance = timestamp.as_duration();
    // Checked, because the range of the clock depends on the platform.
    if distance.is_negative() {
        SystemTime::UNIX_EPOCH.checked_sub(distance.unsigned_abs())
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance.unsigned_abs())
    }
}

fn from_number(text: &str) -> Option<SystemTime> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?;
    // Billionths; finer digits are cut off.
    let billionths = fraction
        .bytes()
        .chain(std::iter::repeat(b'0'))
        .take(9)
        .fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));

    let distance = if whole > LAST_SECOND {
        Duration::from_millis(whole) + Duration::from_nanos(u64::from(billionths / 1000))
    } else {
        Duration::new(whole, billionths)
    };
    if distance.as_secs() > MAX_SECOND {
        return None;
    }
    if negative {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nanos(text: &str) -> Option<i128> {
        let signed = |distance: Duration| i128::try_from(distance.as_nanos()).unwrap();
        Some(match parse(text)?.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => signed(after),
            Err(before) => -signed(before.duration()),
        })
    }

    #[test]
    fn reads_what_pydantic_reads() {
        for (text, expected) in [
            ("2024-01-15T10:00:00Z", 1_705_312_800_000_000_000),
            ("2024-01-15t10:00:00z", 1_705_312_800_000_000_000),
            ("2024-01-15 10:00:00Z", 1_705_312_800_000_000_000),
            ("2024-01-15T12:00:00+02:00", 1_705_312_800_000_000_000),
            ("2024-01-15T05:00:00-05:00", 1_705_312_800_000_000_000),
            ("2024-01-15T10:00:00", 1_705_312_800_000_000_000),
            ("2024-01-15T10:00", 1_705_312_800_000_000_000),
            ("2024-01-15T10:00:00.123456", 1_705_312_800_123_456_000),
            ("2024-01-15T10:00:00.1234567Z", 1_705_312_800_123_456_700),
            ("1969-12-31T23:59:59.5Z", -500_000_000),
            ("1705312800", 1_705_312_800_000_000_000),
            ("1705312800123", 1_705_312_800_123_000_000),
            ("1705312800.5", 1_705_312_800_500_000_000),
            ("1705312800123.25", 1_705_312_800_123_250_000),
            ("20000000000", 20_000_000_000_000_000_000),
            ("20000000001", 20_000_000_001_000_000),
            ("0", 0),
            ("-1", -1_000_000_000),
        ] {
            assert_eq!(nanos(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_point_in_time() {
        for text in [
            "",
            "-",
            "now",
            "2024-01-15",
            "2024-13-15T10:00:00Z",
            "2024-02-30T10:00:00Z",
            "2024-01-15T25:00:00Z",
            "2024-01-15T10:61:00Z",
            "2024-01-15T10:00:00Z[Europe/Berlin]",
            "2024-01-15T10:00:00 Z",
            "2024-01-15T10Z",
            "2024-01-15T100000Z",
            "2024-01-15T10:00:00+99:00",
            "2024-01-15T10:00:00é",
            "+1705312800",
            "1e9",
            "1705312800.",
            ".5",
            "NaN",
            "99999999999999999999999999",
            "253402300800000",
            "18446744073709551615",
        ] {
            assert_eq!(nanos(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,40}", like in "[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9:.]{0,12}[-+Zz0-9:]{0,7}") {
            let _ = (parse(&text), parse(&like));
        }
    }
}
