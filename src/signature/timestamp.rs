//! Timestamps of senders: read, and judged against our clock. No clock in here.

use super::SignatureError;
use std::time::Duration;

/// Enough for thirty million years; few enough that no arithmetic can overflow.
const MAX_DIGITS: usize = 15;

/// How far a sender's timestamp may lie from our clock, in whole seconds; what is less than a
/// second is cut off. Default: 300 seconds both ways, as in Standard Webhooks, Stripe and Slack.
///
/// Wider is more time for a copy of a message to be sent again, unless
/// [replays are refused](super::SignatureVerifyLayer::reject_replays).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_webhook::signature::Tolerance;
///
/// let both_ways = Tolerance::from(Duration::from_secs(5));
/// assert_eq!(both_ways.past(), both_ways.future());
/// let lenient_with_slow_mail = Tolerance::new(Duration::from_secs(3600), Duration::from_secs(30));
/// # let _ = lenient_with_slow_mail;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tolerance {
    past: Duration,
    future: Duration,
}

impl Tolerance {
    /// This far back, and this far ahead.
    pub const fn new(past: Duration, future: Duration) -> Self {
        Self { past, future }
    }

    /// How old a timestamp may be.
    pub const fn past(self) -> Duration {
        self.past
    }

    /// How far ahead a timestamp may be: the clocks of two machines are never the same.
    pub const fn future(self) -> Duration {
        self.future
    }

    /// For how long one message can be received: from the earliest arrival that is tolerated to
    /// the latest.
    pub(super) fn window(self) -> Duration {
        // One second more: both ends are inclusive and our clock has fractions.
        self.past
            .saturating_add(self.future)
            .saturating_add(Duration::from_secs(1))
    }

    /// # Errors
    ///
    /// [`SignatureError::Stale`] or [`SignatureError::Early`].
    #[inline]
    pub(super) fn check(self, timestamp: u64, now: u64) -> Result<(), SignatureError> {
        let age = now.saturating_sub(timestamp);
        let ahead = timestamp.saturating_sub(now);
        if age > self.past.as_secs() {
            return Err(SignatureError::Stale {
                age: Duration::from_secs(age),
                tolerance: self.past,
            });
        }
        if ahead > self.future.as_secs() {
            return Err(SignatureError::Early {
                ahead: Duration::from_secs(ahead),
                tolerance: self.future,
            });
        }
        Ok(())
    }
}

impl Default for Tolerance {
    fn default() -> Self {
        Self::from(Duration::from_secs(300))
    }
}

impl From<Duration> for Tolerance {
    /// Both ways alike.
    fn from(tolerance: Duration) -> Self {
        Self::new(tolerance, tolerance)
    }
}

/// Unix seconds from one to fifteen digits, and nothing else: no sign, no space, no fraction.
///
/// Libraries that read a number more kindly render it again for the MAC, so that text which was
/// never signed passes.
#[inline]
pub(super) fn parse(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > MAX_DIGITS {
        return None;
    }
    let mut seconds = 0;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        seconds = seconds * 10 + u64::from(digit);
    }
    Some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn digits_only() {
        assert_eq!(parse(b"1700000000"), Some(1_700_000_000));
        assert_eq!(parse(b"0"), Some(0));
        assert_eq!(parse(b"999999999999999"), Some(999_999_999_999_999));
        let bad: &[&[u8]] = &[
            b"",
            b"+1",
            b"-1",
            b" 1",
            b"1 ",
            b"1.0",
            b"1e9",
            b"0x1",
            b"1700000000abc",
            b"1_000",
            b"-9223372036854775808",
            b"9223372036854775808",
            b"123456789012345678901234567890",
            "١".as_bytes(),
        ];
        for text in bad {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_tolerance_is_inclusive_both_ways() {
        let tolerance = Tolerance::default();
        assert!(tolerance.check(1000, 1300).is_ok());
        assert!(tolerance.check(1300, 1000).is_ok());
        assert!(matches!(
            tolerance.check(999, 1300),
            Err(SignatureError::Stale { age, .. }) if age == Duration::from_secs(301)
        ));
        assert!(matches!(
            tolerance.check(1301, 1000),
            Err(SignatureError::Early { ahead, .. }) if ahead == Duration::from_secs(301)
        ));
    }

    proptest! {
        #[test]
        fn nothing_overflows(timestamp: u64, now: u64, past: Duration, future: Duration) {
            let tolerance = Tolerance::new(past, future);
            let fresh = i128::from(now) - i128::from(timestamp);
            let expected =
                fresh <= i128::from(past.as_secs()) && -fresh <= i128::from(future.as_secs());
            prop_assert_eq!(tolerance.check(timestamp, now).is_ok(), expected);
        }

        #[test]
        fn parses_what_it_is_given(text in "[0-9]{1,15}") {
            prop_assert_eq!(parse(text.as_bytes()), text.parse().ok());
        }
    }
}
