use jiff::{
    Timestamp,
    fmt::temporal::{DateTimeParser, DateTimePrinter},
};
use std::time::{Duration, SystemTime};

/// The first moment that RFC 3339 can name, and the last that jiff can (22 o'clock on the day before
/// the last of the year 9999), in milliseconds from 1970.
const RANGE: (i64, i64) = (-62_167_219_200_000, 253_402_207_200_000);

static PARSER: DateTimeParser = DateTimeParser::new();
static PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(3));

/// `2026-11-21T12:00:00.000Z`. Finer parts are cut off; what cannot be named is brought to
/// what can.
pub(in crate::dead_letter) fn print(time: SystemTime) -> String {
    let millis = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        // Down to the millisecond before, as after 1970.
        Err(before) => i64::try_from(before.duration().as_nanos().div_ceil(1_000_000))
            .map_or(i64::MIN, |millis| -millis),
    };
    let timestamp = Timestamp::from_millisecond(millis.clamp(RANGE.0, RANGE.1));
    PRINTER.timestamp_to_string(&timestamp.unwrap_or(Timestamp::MAX))
}

/// A time in UTC, with a fraction or without.
pub(super) fn parse(text: &str) -> Option<SystemTime> {
    let bytes = text.as_bytes();
    // The parser reads all that Temporal does: weeks, zones in brackets, fields left out.
    let shape = b"dddd-dd-ddTdd:dd:dd";
    let fits = |(byte, shape): (&u8, &u8)| match shape {
        b'd' => byte.is_ascii_digit(),
        other => byte == other,
    };
    let rest = bytes.get(shape.len()..)?.strip_suffix(b"Z")?;
    let fraction = rest.is_empty()
        || (rest.len() > 1 && rest[0] == b'.' && rest[1..].iter().all(u8::is_ascii_digit));
    if !fraction || !bytes.iter().zip(shape).all(fits) {
        return None;
    }
    let distance = PARSER.parse_timestamp(bytes).ok()?.as_duration();
    // Checked, because platforms differ in how far their clocks reach.
    let unsigned: Duration = distance.unsigned_abs();
    if distance.is_negative() {
        SystemTime::UNIX_EPOCH.checked_sub(unsigned)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(unsigned)
    }
}
