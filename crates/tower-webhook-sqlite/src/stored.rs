//! Times, lengths, counts and tokens as they are stored.

use rusqlite::{Connection, Row, functions::FunctionFlags, types::ValueRef};
use std::{
    fmt::Write,
    time::{Duration, UNIX_EPOCH},
};
use tower_webhook::{clock::WallClock, idempotency::IdempotencyKey, lease::FencingToken};

/// A century, in milliseconds. Sums of it and any time that a clock shows stay far from the end of an
/// `i64`.
pub(crate) const LONGEST: i64 = 100 * 366 * 86_400_000;

/// The time of the wall clock, in milliseconds since 1970.
pub(crate) fn now(clock: &WallClock) -> i64 {
    i64::try_from(clock.unix_millis()).map_or(i64::MAX / 4, |now| now.min(i64::MAX / 4))
}

/// Nanoseconds since 1970, from which tokens start, so that they grow even if a loss of power undid the last
/// claim.
pub(crate) fn nanos(clock: &WallClock) -> i64 {
    let since = clock.now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).map_or(i64::MAX / 2, |nanos| nanos.clamp(1, i64::MAX / 2))
}

/// The end of a time of `length` that begins now. Rounded up, so that a lease is never shorter.
pub(crate) fn until(now: i64, length: Duration) -> i64 {
    let millis = length.as_nanos().div_ceil(1_000_000);
    let millis = i64::try_from(millis).map_or(LONGEST, |millis| millis.min(LONGEST));
    now.saturating_add(millis)
}

/// Adds the functions that the steps of a migration call: `tower_webhook_digest(scope, id)`, the
/// [digest](IdempotencyKey::digest) of a key. NULL if it is none.
pub(crate) fn add_functions(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8
        | FunctionFlags::SQLITE_DETERMINISTIC
        | FunctionFlags::SQLITE_DIRECTONLY;
    connection.create_scalar_function("tower_webhook_digest", 2, flags, |arguments| {
        let (scope, id): (String, String) = (arguments.get(0)?, arguments.get(1)?);
        Ok(IdempotencyKey::new(&scope, &id)
            .ok()
            .map(|key| key.digest()))
    })
}

/// A count, or a bound of one.
pub(crate) fn count(of: usize) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
}

/// The numbers of rows, for `json_each`.
pub(crate) fn list(rows: impl Iterator<Item = i64>) -> String {
    let mut list = String::from("[");
    for row in rows {
        if list.len() > 1 {
            list.push(',');
        }
        // Writing to a string does not fail.
        let _ = write!(list, "{row}");
    }
    list.push(']');
    list
}

/// A text of a row that must not fail for it: what is no text is replaced.
pub(crate) fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    Ok(text_or_null(row, column)?.unwrap_or_default())
}

/// The same. `None` if it is NULL.
pub(crate) fn text_or_null(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<String>> {
    Ok(match row.get_ref(column)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            Some(String::from_utf8_lossy(bytes).into_owned())
        }
        ValueRef::Integer(_) | ValueRef::Null | ValueRef::Real(_) => None,
    })
}

/// A number of a row that must not fail for it: the nearest one that there can be.
pub(crate) fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u32> {
    Ok(match row.get_ref(column)? {
        ValueRef::Integer(number) => u32::try_from(number.max(0)).unwrap_or(u32::MAX),
        _ => 0,
    })
}

/// `None` for a token that does not fit, which equals no stored one.
pub(crate) fn token(token: FencingToken) -> Option<i64> {
    i64::try_from(token.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_rounded_up_and_end() {
        assert_eq!(until(5, Duration::from_nanos(1)), 6);
        assert_eq!(until(5, Duration::from_millis(400)), 405);
        assert_eq!(until(i64::MAX / 4, Duration::MAX), i64::MAX / 4 + LONGEST);
    }
}
