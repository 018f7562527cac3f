//! The rate limit fields that are read beside `Retry-After`.

use super::hint::{digits, one_value, until};
use http::HeaderMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A number from here up is not a wait but seconds since 1970 (this one is in 2001).
const FIRST_SECOND: u64 = 1_000_000_000;
/// A number from here up is milliseconds since 1970.
const FIRST_MILLI: u64 = 1_000_000_000_000;

/// The longest wait that a rate limit of the response asks for. `limited`: the status says that a
/// limit was reached, which decides for limits that do not say what remains.
pub(super) fn reset(headers: &HeaderMap, limited: bool, now: SystemTime) -> Option<Duration> {
    let listed = list(headers, limited).ok().flatten();
    let plain = [
        ("ratelimit-reset", "ratelimit-remaining"),
        ("x-ratelimit-reset", "x-ratelimit-remaining"),
    ];
    let plain = plain.into_iter().filter_map(|(reset, remaining)| {
        let remaining = one_value(headers, remaining).and_then(digits);
        if !is_reached(remaining, limited) {
            return None;
        }
        one_value(headers, reset)
            .and_then(digits)
            .map(|number| wait(number, now))
    });
    plain.chain(listed.map(Duration::from_secs)).max()
}

/// Whether this limit was reached.
fn is_reached(remaining: Option<u64>, limited: bool) -> bool {
    remaining.map_or(limited, |remaining| remaining == 0)
}

fn wait(number: u64, now: SystemTime) -> Duration {
    let since_1970 = match number {
        FIRST_MILLI.. => Duration::from_millis(number),
        FIRST_SECOND.. => Duration::from_secs(number),
        _ => return Duration::from_secs(number),
    };
    match UNIX_EPOCH.checked_add(since_1970) {
        Some(then) => until(then, now),
        None => Duration::MAX,
    }
}

/// The longest `t`, in seconds, of the limits that were reached, over all `RateLimit` lines.
fn list(headers: &HeaderMap, limited: bool) -> Result<Option<u64>, Malformed> {
    headers
        .get_all("ratelimit")
        .iter()
        .try_fold(None, |longest, line| {
            Ok(longest.max(longest_reached(line.as_bytes(), limited)?))
        })
}

/// The longest `t` of one line, read as a list of structured items (RFC 9651 §4.2.1).
fn longest_reached(line: &[u8], limited: bool) -> Result<Option<u64>, Malformed> {
    let mut line = Reader::new(line);
    let mut longest = None;
    line.skip_spaces();
    if line.is_at_end() {
        return Ok(None);
    }
    loop {
        let (remaining, reset) = limit(&mut line)?;
        if is_reached(remaining, limited) {
            longest = longest.max(reset);
        }
        line.skip_spaces();
        if line.is_at_end() {
            return Ok(longest);
        }
        line.expect(b',')?;
        line.skip_spaces();
    }
}

/// Reads one limit, a name with parameters, and returns `r` and `t`. Of a repeated parameter the
/// last value counts (RFC 9651 §4.2.3.2).
fn limit(line: &mut Reader<'_>) -> Result<(Option<u64>, Option<u64>), Malformed> {
    line.bare_item()?;
    let (mut remaining, mut reset) = (None, None);
    while line.take(b';') {
        line.skip_spaces();
        let key = line.key()?;
        let number = if line.take(b'=') {
            line.bare_item()?
        } else {
            None
        };
        match key {
            b"r" => remaining = Some(number.ok_or(Malformed)?),
            b"t" => reset = Some(number.ok_or(Malformed)?),
            _ => {}
        }
    }
    Ok((remaining, reset))
}

/// Not a list of items as in RFC 9651.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Malformed;

/// Reads integers among the parameters of a structured field
/// ([RFC 9651](https://www.rfc-editor.org/rfc/rfc9651#section-4.2)). It keeps nothing else, so it does
/// not allocate.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    const fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    const fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Skips tabs too, where the RFC has only spaces.
    fn skip_spaces(&mut self) {
        self.take_while(|byte| byte == b' ' || byte == b'\t');
    }

    /// Takes `wanted`, if it is next.
    fn take(&mut self, wanted: u8) -> bool {
        let is_next = self.rest.first() == Some(&wanted);
        if is_next {
            self.rest = &self.rest[1..];
        }
        is_next
    }

    fn expect(&mut self, wanted: u8) -> Result<(), Malformed> {
        if self.take(wanted) {
            Ok(())
        } else {
            Err(Malformed)
        }
    }

    /// The name of a parameter (§4.2.3.3).
    fn key(&mut self) -> Result<&'a [u8], Malformed> {
        let key = self.take_while(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(&byte)
        });
        match key.first() {
            Some(b'a'..=b'z' | b'*') => Ok(key),
            _ => Err(Malformed),
        }
    }

    /// Reads a value of any type (§4.2.3.1). Returns it if it is an integer from zero up.
    fn bare_item(&mut self) -> Result<Option<u64>, Malformed> {
        match self.rest.first().ok_or(Malformed)? {
            b'0'..=b'9' => {
                let integer = self.integer()?;
                return Ok((!self.fraction()?).then_some(integer));
            }
            b'-' => {
                self.expect(b'-')?;
                self.integer()?;
                self.fraction()?;
            }
            b'@' => {
                self.expect(b'@')?;
                self.take(b'-');
                self.integer()?;
            }
            b'%' => {
                self.expect(b'%')?;
                self.string()?;
            }
            b'"' => self.string()?,
            b':' => {
                self.expect(b':')?;
                self.take_while(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
                self.expect(b':')?;
            }
            b'?' => {
                self.expect(b'?')?;
                if !self.take(b'0') {
                    self.expect(b'1')?;
                }
            }
            b'*' | b'a'..=b'z' | b'A'..=b'Z' => {
                self.take_while(|byte| {
                    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte)
                });
            }
            _ => return Err(Malformed),
        }
        Ok(None)
    }

    /// At most 15 digits (§3.3.1), which always fit.
    fn integer(&mut self) -> Result<u64, Malformed> {
        let digits = self.take_while(|byte| byte.is_ascii_digit());
        if !(1..=15).contains(&digits.len()) {
            return Err(Malformed);
        }
        let number = |sum, digit: &u8| sum * 10 + u64::from(digit - b'0');
        Ok(digits.iter().fold(0, number))
    }

    /// Reads the fraction of a decimal. Returns whether there is one.
    fn fraction(&mut self) -> Result<bool, Malformed> {
        if !self.take(b'.') {
            return Ok(false);
        }
        self.integer().map(|_| true)
    }

    /// A quoted string (§4.2.5).
    fn string(&mut self) -> Result<(), Malformed> {
        self.expect(b'"')?;
        loop {
            self.take_while(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\');
            if self.take(b'"') {
                return Ok(());
            }
            self.expect(b'\\')?;
            if !self.take(b'"') {
                self.expect(b'\\')?;
            }
        }
    }

    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.rest.iter().position(|byte| !wanted(*byte));
        let (taken, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_the_draft_are_read() {
        // draft-ietf-httpapi-ratelimit-headers-10 (2025), and its `quota;t=1` without `r`.
        for (line, refused, failed) in [
            (r#""default";r=50;t=30"#, None, None),
            (r#""default";r=0;t=5"#, Some(5), Some(5)),
            (r#""default";r=999;pk=:dHJpYWwxMjEzMjM=:"#, None, None),
            (
                r#""default";r=0;t=60;pk=:QXBwLTk5OQ==:"#,
                Some(60),
                Some(60),
            ),
            (r#""daily";r=1;t=36400"#, None, None),
            (r#""dynamic";r=15;t=40"#, None, None),
            ("quota;t=1", Some(1), None),
            (
                r#""permin";r=0;t=20,"perhr";r=7;t=3600"#,
                Some(20),
                Some(20),
            ),
            (
                r#""permin";r=0;t=20,"perhr";r=0;t=3600"#,
                Some(3600),
                Some(3600),
            ),
            (r#""default";r=0"#, None, None),
        ] {
            assert_eq!(
                longest_reached(line.as_bytes(), true),
                Ok(refused),
                "{line}"
            );
            assert_eq!(
                longest_reached(line.as_bytes(), false),
                Ok(failed),
                "{line}"
            );
        }
    }

    #[test]
    fn every_item_type_of_rfc_9651_may_stand_beside() {
        for line in [
            r#" "a";r=0;t=9  "#,
            r#""a\"b\\";r=0;t=9"#,
            "a/b:c*;  r=0; t=9;acme-x",
            r#""a";x=?1;y=-1.5;z=@1659578233;w=%"f%c3%bc";v=:YQ==:;r=0;t=9"#,
            r#""a";r=7;t=1;r=0;t=9"#,
            "\"a\";r=0;t=9\t,\t\"b\";r=0;t=8",
            "7;r=0;t=9",
        ] {
            assert_eq!(
                longest_reached(line.as_bytes(), false),
                Ok(Some(9)),
                "{line}"
            );
        }
    }

    #[test]
    fn a_malformed_list_is_malformed_as_a_whole() {
        for line in [
            r#""a";r=0;t=9,"#,
            r#","a";r=0;t=9"#,
            r#""a";r=0;t=9 "b";r=0;t=9"#,
            r#""a;r=0;t=9"#,
            r#""a\x";r=0;t=9"#,
            r#""a";r=-1;t=9"#,
            r#""a";r=0;t=9.5"#,
            r#""a";r=0;t="9""#,
            r#""a";r=0;t"#,
            r#""a";r=0;t="#,
            r#""a";r=0;t=1234567890123456"#,
            r#""a";R=0;t=9"#,
            r#"("a" "b");r=0;t=9"#,
            "\"\u{e9}\";r=0;t=9",
            // The dictionary of drafts -07 and -08.
            "limit=100, remaining=0, reset=9",
        ] {
            assert_eq!(
                longest_reached(line.as_bytes(), true),
                Err(Malformed),
                "{line}"
            );
        }
    }

    #[test]
    fn lists_are_read_over_all_their_lines() {
        let mut headers = HeaderMap::new();
        headers.append("ratelimit", r#""a";r=0;t=9"#.parse().unwrap());
        headers.append("ratelimit", r#""b";r=0;t=11"#.parse().unwrap());
        let wait = |headers: &HeaderMap| reset(headers, false, UNIX_EPOCH);
        assert_eq!(wait(&headers), Some(Duration::from_secs(11)));
        headers.append("ratelimit", "???".parse().unwrap());
        assert_eq!(wait(&headers), None);
    }

    #[test]
    fn a_large_reset_is_a_moment() {
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        for (number, seconds) in [
            (0, 0),
            (30, 30),
            (999_999_999, 999_999_999),
            (1_000_000_000, 0),
            (1_700_000_000, 0),
            (1_700_000_060, 60),
            (1_700_000_060_000, 60),
        ] {
            assert_eq!(wait(number, now), Duration::from_secs(seconds), "{number}");
        }
        assert!(wait(u64::MAX, now) > Duration::from_secs(1_000_000_000));
    }

    proptest! {
        #[test]
        fn no_line_is_too_odd(
            line in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..64),
                r#"["a-z0-9;=:?@%,. \\-]{0,40}"#.prop_map(String::into_bytes),
            ],
            limited: bool,
        ) {
            let _ = longest_reached(&line, limited);
        }

        #[test]
        fn the_longest_limit_that_is_met_wins(
            limits in proptest::collection::vec((0_u64..3, 0_u64..100_000), 1..6),
        ) {
            let line: Vec<_> = limits.iter().map(|(r, t)| format!(r#""p";r={r};t={t}"#)).collect();
            let longest = limits.iter().filter(|(r, _)| *r == 0).map(|(_, t)| *t).max();
            prop_assert_eq!(longest_reached(line.join(", ").as_bytes(), true), Ok(longest));
        }
    }
}
