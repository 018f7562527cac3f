use super::{Defect, SecretLabel, SignatureError};
use crate::{body::BufferedBody, clock::WallClock, original_uri::original};
use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use std::{fmt, sync::Arc, time::Duration};

/// The longest signature header that is read, in bytes. Typical ones have a few hundred bytes.
pub(super) const MAX_HEADER: usize = 4096;

/// Enough for thirty million years, and few enough that no arithmetic can overflow.
const MAX_DIGITS: usize = 15;

/// Up to this number of headers, comparing all names is cheaper than hashing one.
const FEW: usize = 24;

/// The input of a [`Scheme`](super::Scheme): a request whose body has been read, and the time.
///
/// # Examples
///
/// Verification without a layer, as a queue worker does it:
///
/// ```
/// use http::Request;
/// use tower_webhook::{body::BufferedBody, clock::WallClock};
/// use tower_webhook::signature::{Message, Scheme, scheme::GitHub};
///
/// let scheme = GitHub::new("It's a Secret to Everybody")?;
/// let request = Request::builder()
///     .header(
///         "x-hub-signature-256",
///         "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
///     )
///     .body(BufferedBody::from("Hello, World!"))?;
/// let verified = scheme.verify(&Message::of(&request, &WallClock::system()))?;
/// assert_eq!(verified.secret_label(), Some("key-1"));
/// # Ok::<(), tower_webhook::BoxError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    head: Head<'a>,
    body: &'a BufferedBody,
}

impl<'a> Message<'a> {
    /// Makes a message of `request`. `clock` is read when a scheme asks for the time.
    pub fn of(request: &'a Request<BufferedBody>, clock: &'a WallClock) -> Self {
        Self {
            head: Head::of(request, clock),
            body: request.body(),
        }
    }

    /// The head, which is what [`Scheme::verify_head`](super::Scheme::verify_head) sees.
    #[inline]
    pub const fn head(&self) -> Head<'a> {
        self.head
    }

    /// The method.
    pub const fn method(&self) -> &'a Method {
        self.head.method
    }

    /// The request target, as [`Head::uri`].
    pub const fn uri(&self) -> &'a Uri {
        self.head.uri
    }

    /// The headers. Use [`header`](Self::header) to read one strictly.
    pub const fn headers(&self) -> &'a HeaderMap {
        self.head.headers
    }

    /// The body, as it was received.
    pub fn body(&self) -> &'a [u8] {
        self.body.as_bytes()
    }

    /// The time since 1970. The clock is read in this call.
    pub fn unix_time(&self) -> Duration {
        self.head.unix_time()
    }

    /// Returns the value of a header that must occur exactly once, as [`Head::header`].
    ///
    /// # Errors
    ///
    /// As [`Head::header`].
    pub fn header(&self, name: &HeaderName) -> Result<&'a HeaderValue, SignatureError> {
        self.head.header(name)
    }
}

/// The part of a [`Message`] that is known before its body: method, target, headers, and the time.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    method: &'a Method,
    uri: &'a Uri,
    headers: &'a HeaderMap,
    extensions: &'a Extensions,
    clock: &'a WallClock,
}

impl<'a> Head<'a> {
    /// Makes the head of `request`, whatever its body. `clock` is read when a scheme asks for the time.
    #[inline]
    pub fn of<B>(request: &'a Request<B>, clock: &'a WallClock) -> Self {
        Self {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
            extensions: request.extensions(),
            clock,
        }
    }

    /// The method.
    pub const fn method(&self) -> &'a Method {
        self.method
    }

    /// The request target. A router may have removed a prefix from it, as axum's `nest` does.
    pub const fn uri(&self) -> &'a Uri {
        self.uri
    }

    /// The URI that the sender requested: [`uri`](Self::uri), or with feature `axum` the one before a router
    /// removed a prefix.
    pub fn original_uri(&self) -> &'a Uri {
        original(self.uri, self.extensions)
    }

    /// The headers. Use [`header`](Self::header) to read one strictly.
    pub const fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    /// The time since 1970. The clock is read in this call.
    pub fn unix_time(&self) -> Duration {
        self.clock.since_epoch()
    }

    /// Returns the value of a header that must occur exactly once.
    ///
    /// # Errors
    ///
    /// [`SignatureError::Missing`]; [`SignatureError::Malformed`] if there are two values, if the value is
    /// empty, or if it is longer than 4096 bytes.
    pub fn header(&self, name: &HeaderName) -> Result<&'a HeaderValue, SignatureError> {
        let [found] = self.find([name]);
        found.single(name)
    }

    /// Returns the single value of each header, or the error of the first one that breaks a rule.
    #[inline]
    pub(super) fn header_values<const N: usize>(
        &self,
        names: [&HeaderName; N],
    ) -> Result<[&'a HeaderValue; N], SignatureError> {
        let mut values = [const { &EMPTY }; N];
        for ((value, found), name) in values.iter_mut().zip(self.find(names)).zip(names) {
            *value = found.single(name)?;
        }
        Ok(values)
    }

    /// Finds the values of each header.
    #[inline]
    pub(super) fn find<const N: usize>(&self, names: [&HeaderName; N]) -> [Found<'a>; N] {
        let mut found = [Found::None; N];
        if self.headers.len() <= FEW {
            // Hashing one name takes as long as passing over the ten headers of a typical request, and a
            // scheme has up to three (November 2026: 28 and 23 ns).
            for (name, value) in self.headers {
                for (found, wanted) in found.iter_mut().zip(names) {
                    if name == wanted {
                        found.add(value);
                        break;
                    }
                }
            }
        } else {
            for (found, name) in found.iter_mut().zip(names) {
                for value in self.headers.get_all(name) {
                    found.add(value);
                }
            }
        }
        found
    }
}

static EMPTY: HeaderValue = HeaderValue::from_static("");

/// Whether a header has no value, one, or several.
#[derive(Clone, Copy)]
pub(super) enum Found<'a> {
    None,
    One(&'a HeaderValue),
    Many,
}

impl<'a> Found<'a> {
    #[inline]
    fn add(&mut self, value: &'a HeaderValue) {
        *self = match self {
            Self::None => Self::One(value),
            Self::One(_) | Self::Many => Self::Many,
        };
    }

    pub(super) const fn is_none(self) -> bool {
        matches!(self, Self::None)
    }

    /// Returns the single value, unless it is empty or longer than a signature header may be.
    #[inline]
    pub(super) fn single(self, name: &HeaderName) -> Result<&'a HeaderValue, SignatureError> {
        let defect = match self {
            Self::None => return Err(SignatureError::missing(name)),
            Self::Many => Defect::Repeated,
            Self::One(value) if value.is_empty() => Defect::Empty,
            Self::One(value) if value.len() > MAX_HEADER => Defect::TooLong,
            Self::One(value) => return Ok(value),
        };
        Err(SignatureError::malformed(name, defect))
    }
}

/// The facts that a verified signature proves about its message. A request extension that
/// [`SignatureVerify`](super::SignatureVerify) inserts, and that replaces an existing one.
///
/// # Examples
///
/// ```
/// use http::{Request, Response};
/// use std::convert::Infallible;
/// use tower_webhook::{body::BufferedBody, signature::Verified};
///
/// async fn handle(req: Request<BufferedBody>) -> Result<Response<BufferedBody>, Infallible> {
///     if let Some(verified) = req.extensions().get::<Verified>() {
///         println!("{} by {:?}", verified.scheme(), verified.secret_label());
///     }
///     Ok(Response::new(BufferedBody::default()))
/// }
/// ```
#[derive(Clone)]
pub struct Verified {
    pub(super) scheme: &'static str,
    pub(super) label: Option<SecretLabel>,
    pub(super) id: Option<Id>,
    pub(super) timestamp: Option<u64>,
    pub(super) claimed_timestamp: Option<u64>,
    pub(super) body: Option<Bytes>,
    pub(super) tenant: Option<Arc<str>>,
    /// A hash of what else is signed and tells messages apart: the target, a nonce.
    pub(super) context: Option<[u8; 32]>,
}

/// An id that the signature covers, and where it was found.
#[derive(Clone)]
pub(super) enum Id {
    Header(HeaderValue),
    #[cfg(feature = "cognigy")]
    Body(Bytes),
}

impl Verified {
    /// Makes a result of this scheme. For a [`Scheme`](super::Scheme) of your own.
    ///
    /// Add only facts that the signature covers, because inner layers trust them.
    #[must_use]
    #[inline]
    pub const fn new(scheme: &'static str) -> Self {
        Self {
            scheme,
            label: None,
            id: None,
            timestamp: None,
            claimed_timestamp: None,
            body: None,
            tenant: None,
            context: None,
        }
    }

    /// Sets the label of the secret that made the signature.
    #[must_use]
    #[inline]
    pub fn with_secret_label(mut self, label: SecretLabel) -> Self {
        self.label = Some(label);
        self
    }

    /// Sets the id of the message, **which the signature must cover**. An id outside visible ASCII is
    /// ignored.
    #[must_use]
    #[inline]
    pub fn with_id(mut self, id: HeaderValue) -> Self {
        self.id = Some(Id::Header(id));
        self
    }

    /// Sets the id of the message to text in its verified body, unless the signature covers one already.
    #[cfg(feature = "cognigy")]
    pub(crate) fn name_event(&mut self, id: Bytes) {
        self.id.get_or_insert(Id::Body(id));
    }

    /// Sets the time of the message in seconds since 1970, **which the signature must cover**.
    #[must_use]
    #[inline]
    pub const fn with_timestamp(mut self, unix_seconds: u64) -> Self {
        self.timestamp = Some(unix_seconds);
        self
    }

    /// Sets the time, in seconds since 1970, that the message claims outside its signature.
    #[must_use]
    #[inline]
    pub const fn with_claimed_timestamp(mut self, unix_seconds: u64) -> Self {
        self.claimed_timestamp = Some(unix_seconds);
        self
    }

    /// Sets the bytes that were verified. [`SignatureVerify`](super::SignatureVerify) sets the body of the request;
    /// for middleware of your own.
    #[must_use]
    pub fn with_body(mut self, body: Bytes) -> Self {
        self.body = Some(body);
        self
    }

    /// Sets the tenant whose secret made the signature. [`SignatureVerify`](super::SignatureVerify) sets the one that it
    /// has [resolved](super::SignatureVerifyLayer::resolve); for middleware of your own.
    #[must_use]
    pub fn with_tenant(mut self, tenant: impl Into<Arc<str>>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// The name of the tenant whose secret made the signature, if the layer has
    /// [tenants](super::SignatureVerifyLayer::resolve). The event ids of two tenants can be the same.
    pub fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// The [name](super::Scheme::name) of the scheme.
    pub const fn scheme(&self) -> &'static str {
        self.scheme
    }

    /// The label of the secret that matched.
    pub fn secret_label(&self) -> Option<&str> {
        self.label.as_ref().map(SecretLabel::as_str)
    }

    pub(super) const fn label(&self) -> Option<SecretLabel> {
        self.label
    }

    /// The id of the message, if the signature covers one. It can serve as an idempotency key. An
    /// [`EventLayer`](crate::cognigy) sets it to the id in the body, if no header has one.
    ///
    /// An id that is not signed (`X-GitHub-Delivery`) is not returned, because anyone who has one signed
    /// message can send it again with another id.
    pub fn id(&self) -> Option<&str> {
        match self.id.as_ref()? {
            Id::Header(id) => id.to_str().ok(),
            #[cfg(feature = "cognigy")]
            Id::Body(id) => str::from_utf8(id).ok(),
        }
    }

    /// The time of the message in seconds since 1970, if the signature covers one.
    pub const fn timestamp(&self) -> Option<u64> {
        self.timestamp
    }

    /// The time that the message claims outside its signature, in seconds since 1970: of the schemes in this
    /// crate, only [`Cognigy`](super::scheme::Cognigy) has one. Anyone who has seen a message can send it
    /// again with another time, so do not rely on it.
    pub const fn claimed_timestamp(&self) -> Option<u64> {
        self.claimed_timestamp
    }

    /// The bytes that were verified: the body of the request when it reached
    /// [`SignatureVerify`](super::SignatureVerify). They stay the same if an inner layer replaces the body. With a
    /// scheme that sends its secret, the body that came with the secret.
    pub const fn body(&self) -> Option<&Bytes> {
        self.body.as_ref()
    }
}

/// Shows the length of the body and not the content, because requests end up in logs.
impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified")
            .field("scheme", &self.scheme)
            .field("label", &self.label)
            .field("id", &self.id())
            .field("timestamp", &self.timestamp)
            .field("claimed_timestamp", &self.claimed_timestamp)
            .field("body", &self.body.as_ref().map(Bytes::len))
            .field("tenant", &self.tenant)
            .finish_non_exhaustive()
    }
}

/// The largest difference between a sender's timestamp and the local clock. Default: 300 seconds in both
/// directions, as in Standard Webhooks, Stripe and Slack.
///
/// The difference is exact, as in the reference libraries of Standard Webhooks for Python and Go: a timestamp
/// of 300.1 seconds ago is refused, although both clocks show a difference of 300 whole seconds.
///
/// A copy of a message is accepted for the same time, unless
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
    /// Sets how far a timestamp may be in the past and in the future.
    pub const fn new(past: Duration, future: Duration) -> Self {
        Self { past, future }
    }

    /// How old a timestamp may be.
    pub const fn past(self) -> Duration {
        self.past
    }

    /// How far ahead of the local clock a timestamp may be.
    pub const fn future(self) -> Duration {
        self.future
    }

    /// The time from the earliest to the latest moment at which one message is accepted.
    pub(super) fn window(self) -> Duration {
        // One second more, because both ends are inclusive and the two clocks need not keep the same pace.
        self.past
            .saturating_add(self.future)
            .saturating_add(Duration::from_secs(1))
    }

    /// Checks a timestamp against the time now, both since 1970. For a [`Scheme`](super::Scheme) of your own.
    ///
    /// # Errors
    ///
    /// [`SignatureError::Stale`] or [`SignatureError::Early`].
    #[inline]
    pub fn check(self, timestamp: Duration, now: Duration) -> Result<(), SignatureError> {
        let age = now.saturating_sub(timestamp);
        let ahead = timestamp.saturating_sub(now);
        if age > self.past {
            return Err(SignatureError::Stale {
                age,
                tolerance: self.past,
            });
        }
        if ahead > self.future {
            return Err(SignatureError::Early {
                ahead,
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
    /// Sets the same tolerance for both directions.
    fn from(tolerance: Duration) -> Self {
        Self::new(tolerance, tolerance)
    }
}

/// How a sender writes the time of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimestampFormat {
    /// Milliseconds since 1970: digits.
    Milliseconds,
    /// RFC 3339: `2026-11-22T08:15:30Z`, with a fraction of up to nine digits or none, and `Z` or an offset such
    /// as `-07:00`. Upper case only.
    Rfc3339,
    /// Seconds since 1970: digits.
    #[default]
    Seconds,
}

impl TimestampFormat {
    /// Parses a time, as the time since 1970. Numbers have one to fifteen digits, no sign, no space and no
    /// fraction. `None` for anything else, and for times before 1970.
    #[inline]
    pub fn parse(self, text: &[u8]) -> Option<Duration> {
        match self {
            Self::Milliseconds => unix_seconds(text).map(Duration::from_millis),
            Self::Rfc3339 => rfc_3339(text),
            Self::Seconds => unix_seconds(text).map(Duration::from_secs),
        }
    }

    /// Writes a time in seconds since 1970, with as many digits as the times of this age have.
    pub(super) fn write(self, unix_seconds: u64) -> String {
        match self {
            Self::Milliseconds => format!("{:013}", unix_seconds.saturating_mul(1000)),
            Self::Rfc3339 => i64::try_from(unix_seconds)
                .ok()
                .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
                .unwrap_or(jiff::Timestamp::MAX)
                .to_string(),
            Self::Seconds => unix_seconds.to_string(),
        }
    }

    /// Whether the text of a time cannot become another time when bytes are added or taken away at one end:
    /// numbers have as many digits as those of the years 2001 to 2286.
    pub(super) const fn is_self_delimiting(self, text: &[u8]) -> bool {
        match self {
            Self::Milliseconds => text.len() == 13,
            Self::Rfc3339 => true,
            Self::Seconds => text.len() == 10,
        }
    }
}

/// Parses RFC 3339 in one spelling. The shape is checked first, because libraries read more than that.
fn rfc_3339(text: &[u8]) -> Option<Duration> {
    let is = |text: &[u8], shape: &[u8]| {
        text.len() == shape.len()
            && text.iter().zip(shape).all(|(char, shape)| match shape {
                b'0' => char.is_ascii_digit(),
                _ => char == shape,
            })
    };
    let (time, mut rest) = text.split_at_checked(19)?;
    if let Some(after) = rest.strip_prefix(b".") {
        let digits = after
            .iter()
            .take_while(|char| char.is_ascii_digit())
            .count();
        if !(1..=9).contains(&digits) {
            return None;
        }
        rest = &after[digits..];
    }
    let is_zone = rest == b"Z" || is(rest, b"+00:00") || is(rest, b"-00:00");
    if !is(time, b"0000-00-00T00:00:00") || !is_zone {
        return None;
    }
    let time: jiff::Timestamp = str::from_utf8(text).ok()?.parse().ok()?;
    time.as_duration().try_into().ok()
}

/// Parses whole seconds since 1970: one to fifteen digits, no sign, no space, no fraction.
///
/// Libraries that accept other forms of a number format it again for the MAC, so that a text that was
/// never signed passes.
#[inline]
pub(super) fn unix_seconds(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > MAX_DIGITS {
        return None;
    }
    text.iter().try_fold(0, |seconds, char| {
        let digit = char.wrapping_sub(b'0');
        (digit < 10).then(|| seconds * 10 + u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn digits_only() {
        assert_eq!(unix_seconds(b"1700000000"), Some(1_700_000_000));
        assert_eq!(unix_seconds(b"0"), Some(0));
        assert_eq!(unix_seconds(b"999999999999999"), Some(999_999_999_999_999));
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
            assert_eq!(unix_seconds(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_tolerance_is_inclusive_both_ways() {
        let tolerance = Tolerance::default();
        let check = |timestamp, now| {
            tolerance.check(Duration::from_millis(timestamp), Duration::from_millis(now))
        };
        assert!(check(1_000_000, 1_300_000).is_ok());
        assert!(check(1_300_000, 1_000_000).is_ok());
        assert!(matches!(
            check(1_000_000, 1_300_900),
            Err(SignatureError::Stale { age, .. }) if age == Duration::from_millis(300_900)
        ));
        assert!(matches!(
            check(1_301_000, 1_000_900),
            Err(SignatureError::Early { ahead, .. }) if ahead == Duration::from_millis(300_100)
        ));
    }

    #[test]
    fn times_of_rfc_3339() {
        let parse = |text: &str| TimestampFormat::Rfc3339.parse(text.as_bytes());
        let seconds = Duration::from_secs(1_700_000_000);
        assert_eq!(
            TimestampFormat::Rfc3339.write(1_700_000_000),
            "2023-11-14T22:13:20Z"
        );
        assert_eq!(parse("2023-11-14T22:13:20Z"), Some(seconds));
        assert_eq!(parse("2023-11-14T15:13:20-07:00"), Some(seconds));
        assert_eq!(
            parse("2023-11-14T22:13:20.25Z"),
            Some(seconds + Duration::from_millis(250))
        );
        for bad in [
            "",
            "2023-11-14",
            "2023-11-14T22:13:20",
            "2023-11-14t22:13:20Z",
            "2023-11-14T22:13:20z",
            "2023-11-14 22:13:20Z",
            "2023-11-14T22:13:20.Z",
            "2023-11-14T22:13:20.0123456789Z",
            "2023-11-14T22:13:20+0000",
            "2023-11-14T22:13:20Z ",
            " 2023-11-14T22:13:20Z",
            "12023-11-14T22:13:20Z",
            "2023-02-30T22:13:20Z",
            "2023-11-14T25:13:20Z",
            "2023-11-14T22:13:20Z[UTC]",
            "1969-12-31T23:59:59Z",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn nothing_overflows(timestamp: Duration, now: Duration, past: Duration, future: Duration) {
            let tolerance = Tolerance::new(past, future);
            let nanos = |duration: Duration| i128::try_from(duration.as_nanos()).unwrap();
            let age = nanos(now) - nanos(timestamp);
            let expected = age <= nanos(past) && -age <= nanos(future);
            prop_assert_eq!(tolerance.check(timestamp, now).is_ok(), expected);
        }

        #[test]
        fn parses_what_it_is_given(text in "[0-9]{1,15}") {
            prop_assert_eq!(unix_seconds(text.as_bytes()), text.parse().ok());
        }
    }
}
