#[cfg(feature = "grpc")]
use super::LateOutcome;
use super::{
    Classify, MakeClassifier, Outcome, Pushback,
    chain::ErrorRule,
    find_grpc_pushback, hint,
    http::by_answer,
    peeked::{GrpcEnd, code},
    repeat::Repeatability,
    rules::{self, Rules},
};
use http::{Extensions, HeaderMap, HeaderName, Request, Response, StatusCode, header};
use std::{
    error::Error,
    time::{Duration, SystemTime},
};

/// Judges gRPC calls, by the head of their answer, and by its trailers where they have been read.
///
/// A call that fails at once is answered with "trailers only", whose `grpc-status` is in the head,
/// and is judged by it. A call whose head says nothing yet has its status in trailers, after the
/// body. With a [`GrpcPeekLayer`](crate::grpc::GrpcPeekLayer) innermost they are looked at where
/// they are there already or the call is unary; where an answer has only begun, it is a success for
/// now, and the verdict at its end is [`late`](Classify::late). Without that layer it is a success,
/// and an answer that has begun is past retrying anyway
/// ([gRFC A6](https://github.com/grpc/proposal/blob/master/A6-client-retries.md#when-retries-are-valid)).
///
/// # Codes
///
/// | Code | Kind | |
/// | --- | --- | --- |
/// | 0 `OK` | `Success` | |
/// | 1 `CANCELLED` | `Transient` | said by the peer: a caller that cancels drops the future instead. tonic servers say it when their own timeout ends (0.14) |
/// | 2 `UNKNOWN` | `Transient` | gRPC's 500 |
/// | 3 `INVALID_ARGUMENT`, 5 `NOT_FOUND`, 6 `ALREADY_EXISTS`, 7 `PERMISSION_DENIED`, 9 `FAILED_PRECONDITION`, 11 `OUT_OF_RANGE`, 12 `UNIMPLEMENTED`, 16 `UNAUTHENTICATED` | `Permanent` | another request is needed |
/// | 4 `DEADLINE_EXCEEDED` | `Transient` | it may have been done all the same |
/// | 8 `RESOURCE_EXHAUSTED` | `Throttled` | |
/// | 10 `ABORTED` | `Permanent` | gRPC's 409: the whole transaction is to be done again, not this call |
/// | 13 `INTERNAL` | `Transient` | |
/// | 14 `UNAVAILABLE` | `Transient` | |
/// | 15 `DATA_LOSS` | `Transient`, never retried | the peer is unwell, and more of the same does not bring the data back |
/// | anything else | as 2 | [the gRPC status codes](https://github.com/grpc/grpc/blob/master/doc/statuscodes.md) |
///
/// 1, 4, 8, 13 and 14 are the codes that Envoy can retry on (`x-envoy-retry-grpc-on`); they and 2
/// are retried here only where the call is repeatable.
///
/// # Answers that are not gRPC
///
/// A proxy answers without `grpc-status`. Its answer is judged by its HTTP status as
/// [`HttpClassifier`](super::HttpClassifier) judges, and [`code`](Outcome::code) is what gRPC's
/// [mapping](https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md) makes of it:
/// 400 `INTERNAL`, 401 `UNAUTHENTICATED`, 403 `PERMISSION_DENIED`, 404 `UNIMPLEMENTED`, 429, 502,
/// 503 and 504 `UNAVAILABLE`, everything else `UNKNOWN`. A 200 that says it is something else than
/// `application/grpc` is a failure too (`UNKNOWN`): somebody's login page.
///
/// # Hints
///
/// `grpc-retry-pushback-ms` of a failure says when to come back, or, when it is negative, unreadable
/// or there more than once, never to (A6). It does not make a code retryable that is not. Without
/// it, the headers that [`find_hint`](super::find_hint) reads count, because proxies send them.
///
/// # Repeating
///
/// Every gRPC call is a POST and the protocol says nothing about which methods may run twice, so
/// none may, unless one of these holds, in this order:
///
/// 1. the request's extensions hold [`Repeatable::Yes`](super::Repeatable); `Repeatable::No`
///    forbids it. With tonic: `request.extensions_mut().insert(Repeatable::Yes)`
/// 2. its metadata carry an idempotency key, in one of the [`key_headers`](Self::key_headers)
/// 3. [`assume_repeatable`](Self::assume_repeatable) is set, as it should be for a service whose
///    methods are all idempotent
///
/// And any call may be made again that the peer provably never saw.
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
    /// The rules above.
    pub const fn new() -> Self {
        Self {
            repeatability: Repeatability::new(),
            rules: Rules::new(),
        }
    }

    /// No hint is longer than this. Default: 6 hours. See
    /// [`HttpClassifier::max_hint`](super::HttpClassifier::max_hint).
    pub const fn max_hint(mut self, max: Duration) -> Self {
        self.rules.max_hint = max;
        self
    }

    /// The metadata that make a call repeatable when they have a value. Default: `idempotency-key`,
    /// `webhook-id` and `svix-id`.
    ///
    /// Name only those by which the receiver really recognises a repetition.
    pub fn key_headers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.repeatability.set_keys(names);
        self
    }

    /// Whether every call may be made twice. Default: `false`.
    pub const fn assume_repeatable(mut self, repeatable: bool) -> Self {
        self.repeatability.assume(repeatable);
        self
    }

    /// The wall clock, for hints that are dates, when the answer has no `Date` of its own. Default:
    /// [`SystemTime::now`].
    pub const fn clock(mut self, clock: fn() -> SystemTime) -> Self {
        self.rules.clock = clock;
        self
    }

    /// Judges some errors otherwise: asked about each link of the chain of sources, outermost
    /// first, before the markers. `None` leaves a link to them.
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
    /// Judges the end of a stream, when it is too late to repeat the call.
    #[cfg(feature = "grpc")]
    pub(super) fn judge_end(end: GrpcEnd) -> Outcome {
        let rules = Rules::new();
        let outcome = Self { rules }.judge(StatusCode::OK, &HeaderMap::new(), Some(end));
        rules.finish(outcome)
    }

    fn judge(self, status: StatusCode, headers: &HeaderMap, end: Option<GrpcEnd>) -> Outcome {
        let outcome = match end.map(|end| end.code).or_else(|| code(headers)) {
            Some(code) => by_code(code).with_code(code),
            None if status == StatusCode::OK && may_be_grpc(headers) => return Outcome::success(),
            None => by_proxy(status, headers),
        };
        if !rules::takes_hints(outcome.kind()) {
            return outcome;
        }
        let pushback = end.and_then(|end| end.pushback);
        match pushback.or_else(|| find_grpc_pushback(headers, self.rules.max_hint)) {
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

/// What the trailers say, where they have been read and the head says nothing.
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

/// Whether the head is that of a gRPC answer, or says nothing to the contrary.
fn may_be_grpc(headers: &HeaderMap) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    headers.get(header::CONTENT_TYPE).is_none_or(|value| {
        let value = value.as_bytes();
        value.len() >= GRPC.len() && value[..GRPC.len()].eq_ignore_ascii_case(GRPC)
    })
}

/// The answer of something between us and the peer, which speaks HTTP only.
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
    // Only a gRPC answer says that the work is done.
    let outcome = if outcome.is_failure() {
        outcome
    } else {
        Outcome::transient()
    };
    outcome.with_code(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BoxError, outcome::OutcomeKind};

    #[test]
    fn a_status_in_the_head_overrides_the_extension() {
        let mut res = Response::new(());
        res.extensions_mut().insert(GrpcEnd::MISSING);
        let classify = GrpcClassifier::new().make_classifier(&Request::new(()));
        let kind = |res| classify.classify(Ok::<_, &BoxError>(res)).kind();
        assert_eq!(kind(&res), OutcomeKind::Transient);
        res.headers_mut().insert("grpc-status", 0.into());
        assert_eq!(kind(&res), OutcomeKind::Success);
    }
}
