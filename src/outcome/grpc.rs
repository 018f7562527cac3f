#[cfg(feature = "grpc")]
use super::LateOutcome;
use super::{
    Classify, MakeClassifier, Outcome,
    classify::{Repeatability, Rules, takes_hints},
    errors::ErrorRule,
    hint::{self, digits, one_value, trim},
    http::by_answer,
};
use http::{Extensions, HeaderMap, HeaderName, Request, Response, StatusCode, header};
use std::{
    error::Error,
    time::{Duration, SystemTime},
};

/// Judges gRPC calls by the head of the response, and by its trailers if they have been read.
///
/// A call that fails at once has a response of "trailers only", with `grpc-status` in its head. Any
/// other response has its status in trailers, after the body. With a
/// [`GrpcPeekLayer`](crate::grpc::GrpcPeekLayer) innermost (feature `grpc`) the trailers are read if
/// they have arrived or the call is unary; a stream is a success at its head, and its outcome
/// follows at its end ([`late`](Classify::late)). Without that layer it is a success. A call whose
/// response has begun is never retried
/// ([gRFC A6](https://github.com/grpc/proposal/blob/master/A6-client-retries.md#when-retries-are-valid)).
///
/// # Codes
///
/// | Code | Kind | |
/// | --- | --- | --- |
/// | 0 `OK` | `Success` | |
/// | 1 `CANCELLED` | `Transient` | sent by the peer (a caller that cancels drops the future instead). tonic 0.14 servers send it when their own timeout ends |
/// | 2 `UNKNOWN` | `Transient` | gRPC's 500 |
/// | 3 `INVALID_ARGUMENT`, 5 `NOT_FOUND`, 6 `ALREADY_EXISTS`, 7 `PERMISSION_DENIED`, 9 `FAILED_PRECONDITION`, 11 `OUT_OF_RANGE`, 12 `UNIMPLEMENTED`, 16 `UNAUTHENTICATED` | `Permanent` | another request is needed |
/// | 4 `DEADLINE_EXCEEDED` | `Transient` | the call may have taken effect |
/// | 8 `RESOURCE_EXHAUSTED` | `Throttled` | |
/// | 10 `ABORTED` | `Permanent` | gRPC's 409: the whole transaction must be repeated, not this call |
/// | 13 `INTERNAL` | `Transient` | |
/// | 14 `UNAVAILABLE` | `Transient` | |
/// | 15 `DATA_LOSS` | `Transient`, never retried | the peer is unhealthy, and a repetition does not restore the data |
/// | anything else | as 2 | [the gRPC status codes](https://github.com/grpc/grpc/blob/master/doc/statuscodes.md) |
///
/// 1, 4, 8, 13 and 14 are the codes that Envoy can retry on (`x-envoy-retry-grpc-on`). Here they and
/// 2 are retried only if the call may be repeated.
///
/// # Responses that are not gRPC
///
/// The response of a proxy has no `grpc-status`. It is judged by its HTTP status as
/// [`HttpClassifier`](super::HttpClassifier) does, and its [`code`](Outcome::code) follows gRPC's
/// [mapping](https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md):
/// 400 `INTERNAL`, 401 `UNAUTHENTICATED`, 403 `PERMISSION_DENIED`, 404 `UNIMPLEMENTED`, 429, 502,
/// 503 and 504 `UNAVAILABLE`, everything else `UNKNOWN`. A 200 with a content type other than
/// `application/grpc`, such as a login page, is a failure too (`UNKNOWN`).
///
/// # Hints
///
/// `grpc-retry-pushback-ms` of a failure is the wait in milliseconds. If it is negative, invalid or
/// there more than once, the call is not retried (A6). It does not make a code retryable that is
/// not. Without it, the [hints of HTTP](super::HttpClassifier#hints) are read, because proxies send
/// them.
///
/// # Repeating
///
/// Every gRPC call is a POST, and the protocol does not say which methods are idempotent. So a call
/// may be repeated only if one of these holds, in this order:
///
/// 1. the request's extensions contain [`Repeatable::Yes`](super::Repeatable); `Repeatable::No`
///    forbids it. With tonic: `request.extensions_mut().insert(Repeatable::Yes)`
/// 2. one of the [`key_headers`](Self::key_headers) in its metadata has a value
/// 3. [`assume_repeatable`](Self::assume_repeatable) is set: right for a service whose methods are
///    all idempotent
///
/// A call that the peer provably never saw may always be repeated.
///
/// # Examples
///
/// ```
/// use http::{Request, Response};
/// use std::time::Duration;
/// use tower_webhook::BoxError;
/// use tower_webhook::outcome::{Classify, GrpcClassifier, MakeClassifier, OutcomeKind};
///
/// let classifier = GrpcClassifier::new().assume_repeatable(true);
/// let call = Request::post("/greeter.Greeter/SayHello").body(())?;
/// let busy = Response::builder()
///     .header("content-type", "application/grpc")
///     .header("grpc-status", "8")
///     .header("grpc-retry-pushback-ms", "250")
///     .body(())?;
///
/// let outcome = classifier.make_classifier(&call).classify(Ok::<_, &BoxError>(&busy));
/// assert_eq!(outcome.kind(), OutcomeKind::Throttled);
/// assert_eq!(outcome.code(), Some(8));
/// assert_eq!(outcome.retry_after(), Some(Duration::from_millis(250)));
/// assert!(outcome.may_retry());
/// # Ok::<_, http::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct GrpcClassifier {
    repeatability: Repeatability,
    rules: Rules,
}

/// Judges the result of one gRPC call. Made by [`GrpcClassifier`].
#[derive(Clone, Copy, Debug)]
pub struct ClassifyGrpc {
    rules: Rules,
}

impl GrpcClassifier {
    /// A classifier with the rules above.
    pub const fn new() -> Self {
        Self {
            repeatability: Repeatability::new(),
            rules: Rules::new(),
        }
    }

    /// Sets the longest hint; longer ones are capped. Default: 6 hours. See
    /// [`HttpClassifier::max_hint`](super::HttpClassifier::max_hint).
    pub const fn max_hint(mut self, max: Duration) -> Self {
        self.rules.max_hint = max;
        self
    }

    /// Sets the metadata that make a call repeatable if they have a value. Default:
    /// `idempotency-key`, `webhook-id` and `svix-id`.
    ///
    /// Name only those by which the receiver recognises a repetition.
    pub fn key_headers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.repeatability.set_keys(names);
        self
    }

    /// Sets whether every call may be repeated. Default: `false`.
    pub const fn assume_repeatable(mut self, repeatable: bool) -> Self {
        self.repeatability.assume(repeatable);
        self
    }

    /// Sets the wall clock for hints that are dates, used if the response has no `Date`. Default:
    /// [`SystemTime::now`].
    pub const fn clock(mut self, clock: fn() -> SystemTime) -> Self {
        self.rules.clock = clock;
        self
    }

    /// Sets a rule that judges some errors. It is called with each error of the chain of sources,
    /// outermost first, before the markers, which apply where it returns `None`. Default: none.
    pub const fn errors(mut self, rule: fn(&(dyn Error + 'static)) -> Option<Outcome>) -> Self {
        self.rules.errors = Some(rule as ErrorRule);
        self
    }
}

impl Default for GrpcClassifier {
    fn default() -> Self {
        Self::new()
    }
}

impl<B> MakeClassifier<Request<B>> for GrpcClassifier {
    type Classifier = ClassifyGrpc;

    fn make_classifier(&self, req: &Request<B>) -> ClassifyGrpc {
        let repeatable = self
            .repeatability
            .of(false, req.headers(), req.extensions());
        ClassifyGrpc {
            rules: Rules {
                repeatable,
                ..self.rules
            },
        }
    }
}

impl<B, E: 'static> Classify<Response<B>, E> for ClassifyGrpc {
    fn classify(self, result: Result<&Response<B>, &E>) -> Outcome {
        let outcome = match result {
            Ok(response) => {
                let headers = response.headers();
                let end = end(headers, response.extensions());
                self.judge(response.status(), headers, end)
            }
            Err(error) => self.rules.judge_error(error),
        };
        self.rules.finish(outcome)
    }

    /// The [`LateOutcome`] that [`GrpcPeekLayer`](crate::grpc::GrpcPeekLayer) has put into the
    /// extensions of a response that has only begun.
    #[cfg(feature = "grpc")]
    fn late(&self, result: Result<&Response<B>, &E>) -> Option<LateOutcome> {
        let extensions = result.ok()?.extensions();
        extensions.get::<LateOutcome>().cloned()
    }
}

impl ClassifyGrpc {
    fn judge(self, status: StatusCode, headers: &HeaderMap, end: Option<GrpcEnd>) -> Outcome {
        let outcome = match end.map(|end| end.code).or_else(|| code(headers)) {
            Some(code) => by_code(code).with_code(code),
            None if status == StatusCode::OK && may_be_grpc(headers) => return Outcome::success(),
            None => by_proxy(status, headers),
        };
        if !takes_hints(outcome.kind()) {
            return outcome;
        }
        let pushback = end.and_then(|end| end.pushback);
        match pushback.or_else(|| find_pushback(headers, self.rules.max_hint)) {
            Some(Pushback::After(wait)) => outcome.with_retry_after(Some(wait)),
            Some(Pushback::Never) => outcome.never_retry(),
            None => {
                let limited = hint::is_limit(status) || outcome.code() == Some(8);
                let (now, max) = ((self.rules.clock)(), self.rules.max_hint);
                outcome.with_retry_after(hint::find(headers, limited, now, max))
            }
        }
    }
}

/// What the trailers say, if they have been read and the head has no status.
fn end(headers: &HeaderMap, extensions: &Extensions) -> Option<GrpcEnd> {
    let end = extensions.get::<GrpcEnd>()?;
    (!headers.contains_key("grpc-status")).then_some(*end)
}

fn by_code(code: u16) -> Outcome {
    match code {
        0 => Outcome::success(),
        3 | 5 | 6 | 7 | 9 | 10 | 11 | 12 | 16 => Outcome::permanent(),
        8 => Outcome::throttled(None),
        15 => Outcome::transient().never_retry(),
        _ => Outcome::transient(),
    }
}

/// Whether the response is gRPC, or does not say what it is.
fn may_be_grpc(headers: &HeaderMap) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    headers.get(header::CONTENT_TYPE).is_none_or(|value| {
        let value = value.as_bytes();
        value.len() >= GRPC.len() && value[..GRPC.len()].eq_ignore_ascii_case(GRPC)
    })
}

/// Judges the response of a proxy, which speaks HTTP only.
fn by_proxy(status: StatusCode, headers: &HeaderMap) -> Outcome {
    let code = match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    };
    let outcome = by_answer(status, headers);
    // Only a gRPC response is a success.
    let outcome = if outcome.is_failure() {
        outcome
    } else {
        Outcome::transient()
    };
    outcome.with_code(code)
}

/// How a gRPC call ended, as its trailers say. [`GrpcPeekLayer`](crate::grpc::GrpcPeekLayer) inserts
/// it into the extensions of a response whose head does not say it;
/// [`GrpcClassifier`] reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GrpcEnd {
    code: u16,
    pushback: Option<Pushback>,
}

impl GrpcEnd {
    /// Ended without a `grpc-status`: `UNKNOWN`, the code for a status with too little information
    /// in [the list of codes](https://github.com/grpc/grpc/blob/master/doc/statuscodes.md).
    pub(crate) const MISSING: Self = Self {
        code: 2,
        pushback: None,
    };

    /// Broke off after it had begun: `UNAVAILABLE`, the code of the same list for a connection that
    /// breaks after some data were transmitted.
    #[cfg(feature = "grpc")]
    pub(crate) const BROKEN: Self = Self {
        code: 14,
        pushback: None,
    };

    /// Reads trailers. A value that is no code is 2, `UNKNOWN`.
    #[cfg(feature = "grpc")]
    pub(crate) fn of_trailers(trailers: &HeaderMap) -> Self {
        Self {
            code: code(trailers).unwrap_or(Self::MISSING.code),
            pushback: find_pushback(trailers, Duration::MAX),
        }
    }

    #[cfg(feature = "grpc")]
    pub(crate) const fn is_ok(self) -> bool {
        self.code == 0
    }

    /// Judges the end of a stream, which is too late to repeat the call.
    #[cfg(feature = "grpc")]
    pub(crate) fn judge(self) -> Outcome {
        let rules = Rules::new();
        let outcome = ClassifyGrpc { rules }.judge(StatusCode::OK, &HeaderMap::new(), Some(self));
        rules.finish(outcome)
    }
}

/// The value of `grpc-status`, if there is one. Anything but 0 to 16 is `UNKNOWN`, so that labels are
/// a closed set.
fn code(headers: &HeaderMap) -> Option<u16> {
    if !headers.contains_key("grpc-status") {
        return None;
    }
    let value = one_value(headers, "grpc-status").unwrap_or_default();
    let code = match value {
        // Servers write neither a sign nor a leading zero.
        [unit @ b'0'..=b'9'] => u16::from(unit - b'0'),
        [b'1', unit @ b'0'..=b'6'] => 10 + u16::from(unit - b'0'),
        _ => GrpcEnd::MISSING.code,
    };
    Some(code)
}

/// The meaning of `grpc-retry-pushback-ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushback {
    /// Try again after this long.
    After(Duration),
    /// Do not try again.
    Never,
}

/// Reads the value of a `grpc-retry-pushback-ms` field: milliseconds, as a wait no longer than
/// `max`.
///
/// The value is a signed 32-bit integer without leading zeros. A negative or invalid one is
/// [`Pushback::Never`]
/// ([gRFC A6](https://github.com/grpc/proposal/blob/master/A6-client-retries.md#pushback)).
fn parse_pushback(value: impl AsRef<[u8]>, max: Duration) -> Pushback {
    let value = trim(value.as_ref());
    let padded = value.len() > 1 && value[0] == b'0';
    match digits(value).map(i32::try_from) {
        Some(Ok(millis)) if !padded => {
            Pushback::After(Duration::from_millis(millis.unsigned_abs().into()).min(max))
        }
        _ => Pushback::Never,
    }
}

/// Reads `grpc-retry-pushback-ms` from a head or from trailers, if it is there. A repeated field is
/// [`Pushback::Never`], as in grpc-go.
pub(super) fn find_pushback(headers: &HeaderMap, max: Duration) -> Option<Pushback> {
    let mut values = headers.get_all("grpc-retry-pushback-ms").iter();
    let value = values.next()?;
    Some(match values.next() {
        Some(_) => Pushback::Never,
        None => parse_pushback(value, max),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BoxError, outcome::OutcomeKind};
    use proptest::prelude::*;

    const MAX: Duration = Duration::from_secs(300);

    #[test]
    fn a_status_in_the_head_overrides_the_extension() {
        let mut res = Response::new(());
        res.extensions_mut().insert(GrpcEnd::MISSING);
        let classify = GrpcClassifier::new().make_classifier(&Request::new(()));
        let kind = |res: &Response<()>| classify.classify(Ok::<_, &BoxError>(res)).kind();
        assert_eq!(kind(&res), OutcomeKind::Transient);
        res.headers_mut().insert("grpc-status", 0.into());
        assert_eq!(kind(&res), OutcomeKind::Success);
    }

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
            assert_eq!(parse_pushback(value, MAX), expected, "{value:?}");
        }
    }

    #[test]
    fn pushback_that_is_repeated_means_never() {
        let mut headers = HeaderMap::new();
        assert_eq!(find_pushback(&headers, MAX), None);
        headers.append("grpc-retry-pushback-ms", 5.into());
        let after = Pushback::After(Duration::from_millis(5));
        assert_eq!(find_pushback(&headers, MAX), Some(after));
        headers.append("grpc-retry-pushback-ms", 5.into());
        assert_eq!(find_pushback(&headers, MAX), Some(Pushback::Never));
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
            if let Pushback::After(wait) = parse_pushback(&value, max) {
                prop_assert!(wait <= max);
            }
        }

        #[test]
        fn any_32_bit_number_is_read(millis: i32) {
            let wait = u64::try_from(millis).map(Duration::from_millis);
            let expected = wait.map_or(Pushback::Never, Pushback::After);
            prop_assert_eq!(parse_pushback(millis.to_string(), Duration::MAX), expected);
        }
    }
}
