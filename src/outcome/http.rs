use super::{
    Classify, MakeClassifier, Outcome,
    classify::{Repeatability, Rules, takes_hints},
    errors::ErrorRule,
    hint,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, Response, StatusCode};
use std::{
    error::Error,
    fmt,
    time::{Duration, SystemTime},
};

/// Judges HTTP calls by the status, the hints in the headers, and whether the request may be
/// repeated.
///
/// # Statuses
///
/// | Status | Kind | Why |
/// | --- | --- | --- |
/// | 2xx | `Success` | |
/// | 1xx | `Permanent` | 101 ends the exchange before the request was handled; clients return no other 1xx |
/// | 429, 503 | `Throttled` | the peer sheds load |
/// | 413 with a `Retry-After` | `Throttled` | too large for now only ([RFC 9110 §15.5.14](https://www.rfc-editor.org/rfc/rfc9110#section-15.5.14)) |
/// | 408, 425, 5xx, 600 and up | `Transient` | a status above 599 counts as a 5xx (RFC 9110 §15) |
/// | 501, 505, 511 | `Permanent` | about the method, the version or the network, which do not change soon |
/// | 508 | `Permanent` | the message was there before ([`loop_guard`](crate::loop_guard)): a repetition is one more round |
/// | 3xx | `Permanent` | see below |
/// | other 4xx | `Permanent` | among them 401 and 409, which need another request, and 410, which ends a subscription |
///
/// A redirect is neither followed nor retried: nobody has registered or checked the new address, a
/// POST may become a GET (RFC 9110 §15.4), and the new address would see the signature. 421 asks for
/// another connection, which no layer here can choose.
///
/// # Hints
///
/// `Throttled` and `Transient` responses are searched for how long the peer asks to wait, which
/// becomes [`Outcome::retry_after`], capped at [`max_hint`](Self::max_hint).
///
/// 1. `Retry-After`, in seconds or as a date. If it is valid, nothing else is read: the others MUST
///    give way to it (draft-ietf-httpapi-ratelimit-headers-10, client behavior).
/// 2. Otherwise the longest wait in these:
///
/// | Field | Read as |
/// | --- | --- |
/// | `RateLimit` | draft -10: a list such as `"minute";r=0;t=20, "day";r=7;t=3600`, where `t` is the wait in seconds and `r` what remains |
/// | `RateLimit-Reset` | drafts up to -06: a wait in seconds; what remains is in `RateLimit-Remaining` |
/// | `X-RateLimit-Reset` | the same; what remains is in `X-RateLimit-Remaining` |
///
/// A `Reset` from 10⁹ up is not a wait (that would be 31 years) but a time: seconds since 1970, as
/// GitHub sends it, and from 10¹² up milliseconds.
///
/// A limit counts if nothing remains of it. One with something left did not make the request fail,
/// and its reset may be far away: GitHub asks clients to wait for the reset only when nothing
/// remains. A limit that does not say what remains counts if the status is 429 or 503.
///
/// Invalid values are ignored. A field with one value counts only if all its lines are equal. A
/// `RateLimit` list counts as a whole or not at all (RFC 9651 §4.2). The dictionary form of drafts
/// -07 and -08 is not read.
///
/// A date is measured from the response's own `Date`, if it has one: the difference of two times of
/// one clock is right even if that clock is wrong. Without it, from [`clock`](Self::clock).
///
/// ```
/// use http::{Request, Response};
/// use std::time::Duration;
/// use tower_webhook::BoxError;
/// use tower_webhook::outcome::{Classify, HttpClassifier, MakeClassifier};
///
/// let classify = HttpClassifier::new().make_classifier(&Request::new(()));
/// let hint = |res: &Response<()>| classify.classify(Ok::<_, &BoxError>(res)).retry_after();
/// let limits = r#""minute";r=0;t=20, "day";r=7;t=3600"#;
/// let mut res = Response::builder().status(429).header("ratelimit", limits).body(())?;
/// assert_eq!(hint(&res), Some(Duration::from_secs(20)));
///
/// res.headers_mut().insert("retry-after", 5.into());
/// assert_eq!(hint(&res), Some(Duration::from_secs(5)));
/// # Ok::<_, http::Error>(())
/// ```
///
/// # Repeating
///
/// A request may be repeated if one of these holds, in this order:
///
/// 1. its extensions contain [`Repeatable::Yes`](super::Repeatable); `Repeatable::No` forbids it
/// 2. its method is idempotent ([RFC 9110 §9.2.2](https://www.rfc-editor.org/rfc/rfc9110#section-9.2.2)):
///    GET, HEAD, OPTIONS, TRACE, PUT, DELETE
/// 3. one of the [`key_headers`](Self::key_headers) has a value when the classifier reads the
///    request: put a layer that adds the key outside the one that retries
/// 4. [`assume_repeatable`](Self::assume_repeatable) is set
///
/// A request that the peer provably never saw may always be sent again.
///
/// # Errors
///
/// [`Transient`](super::OutcomeKind::Transient), unless the chain of sources contains a marker: see
/// the [module docs](super#errors).
#[derive(Clone, Debug)]
#[must_use]
pub struct HttpClassifier {
    repeatability: Repeatability,
    rules: Rules,
    statuses: Option<StatusRule>,
    bodies: Option<BodyRule>,
}

/// Judges the result of one HTTP call. Made by [`HttpClassifier`].
#[derive(Clone, Copy, Debug)]
pub struct ClassifyHttp {
    rules: Rules,
    statuses: Option<StatusRule>,
    bodies: Option<BodyRule>,
}

type StatusRule = fn(StatusCode) -> Option<Outcome>;
type BodyRule = fn(StatusCode, &[u8]) -> Option<Outcome>;

impl HttpClassifier {
    /// A classifier with the rules above.
    pub const fn new() -> Self {
        Self {
            repeatability: Repeatability::new(),
            rules: Rules::new(),
            statuses: None,
            bodies: None,
        }
    }

    /// Sets the longest hint; longer ones are capped. Default: 6 hours.
    ///
    /// It protects against absurd values. The retry layer has its own limit, with a choice of what to do with
    /// longer hints. Zero makes every hint zero, which leaves the wait to the backoff.
    pub const fn max_hint(mut self, max: Duration) -> Self {
        self.rules.max_hint = max;
        self
    }

    /// Sets the headers that make a request repeatable if they have a value. Default:
    /// `idempotency-key`, `webhook-id` and `svix-id`. With an empty list only the method counts.
    ///
    /// Name only headers by which the receiver recognises a repetition.
    pub fn key_headers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.repeatability.set_keys(names);
        self
    }

    /// Sets whether every request may be repeated. Default: `false`.
    ///
    /// Right if all receivers deduplicate by something in the body, or if a repeated request is better than a
    /// lost one. Wrong if a POST moves money.
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

    /// Sets a rule that judges some statuses. Where it returns `None`, the table above applies. Hints,
    /// the status as [`code`](Outcome::code) and the rules on repeating are added to its outcome.
    /// Default: none.
    ///
    /// ```
    /// use http::StatusCode;
    /// use tower_webhook::outcome::{HttpClassifier, Outcome};
    ///
    /// // A receiver that says 409 when it already has the event.
    /// let classifier = HttpClassifier::new().statuses(|status| match status {
    ///     StatusCode::CONFLICT => Some(Outcome::success()),
    ///     _ => None,
    /// });
    /// ```
    pub const fn statuses(mut self, rule: fn(StatusCode) -> Option<Outcome>) -> Self {
        self.statuses = Some(rule);
        self
    }

    /// Sets a rule that judges some responses by their body, before [`statuses`](Self::statuses). It
    /// is called for responses whose beginning a
    /// [`PeekBodyLayer`](crate::body::peek::PeekBodyLayer) below has read, with the status and that
    /// beginning, which may be cut anywhere. Where it returns `None`, the other rules apply. Hints,
    /// the status as [`code`](Outcome::code) and the rules on repeating are added to its outcome.
    /// Default: none.
    ///
    /// ```
    /// use http::StatusCode;
    /// use tower_webhook::outcome::{HttpClassifier, Outcome};
    ///
    /// // A receiver that says 400 for what is not yet there.
    /// let classifier = HttpClassifier::new().bodies(|status, body| {
    ///     let is_early = body.windows(9).any(|window| window == b"not_ready");
    ///     (status == StatusCode::BAD_REQUEST && is_early).then(Outcome::transient)
    /// });
    /// ```
    pub const fn bodies(mut self, rule: fn(StatusCode, &[u8]) -> Option<Outcome>) -> Self {
        self.bodies = Some(rule);
        self
    }

    /// Sets a rule that judges some errors. It is called with each error of the chain of sources,
    /// outermost first, before the markers, which apply where it returns `None`. Default: none.
    ///
    /// The clients of the module `transport` need none. For another transport:
    ///
    /// ```
    /// use hyper_util::client::legacy;
    /// use tower_webhook::outcome::{HttpClassifier, Outcome};
    ///
    /// // No address, no connection or no TLS: nothing was sent.
    /// let classifier = HttpClassifier::new().errors(|link| {
    ///     let error = link.downcast_ref::<legacy::Error>()?;
    ///     error.is_connect().then(Outcome::unreached)
    /// });
    /// ```
    pub const fn errors(mut self, rule: fn(&(dyn Error + 'static)) -> Option<Outcome>) -> Self {
        self.rules.errors = Some(rule as ErrorRule);
        self
    }
}

impl Default for HttpClassifier {
    fn default() -> Self {
        Self::new()
    }
}

/// The classifier of a layer for which none was set. It judges as a new [`HttpClassifier`] does; in a
/// [stack](crate::stack), the classifier of the stack takes its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DefaultClassifier;

impl<B> MakeClassifier<Request<B>> for DefaultClassifier {
    type Classifier = ClassifyHttp;

    fn make_classifier(&self, req: &Request<B>) -> ClassifyHttp {
        HttpClassifier::new().make_classifier(req)
    }
}

impl<B> MakeClassifier<Request<B>> for HttpClassifier {
    type Classifier = ClassifyHttp;

    fn make_classifier(&self, req: &Request<B>) -> ClassifyHttp {
        let idempotent = req.method().is_idempotent();
        let repeatable = self
            .repeatability
            .of(idempotent, req.headers(), req.extensions());
        ClassifyHttp {
            rules: Rules {
                repeatable,
                ..self.rules
            },
            statuses: self.statuses,
            bodies: self.bodies,
        }
    }
}

impl<B, E: 'static> Classify<Response<B>, E> for ClassifyHttp {
    #[inline]
    fn classify(self, result: Result<&Response<B>, &E>) -> Outcome {
        let outcome = match result {
            // Most answers, about which nothing more is asked.
            Ok(response)
                if response.status().is_success()
                    && self.statuses.is_none()
                    && self.bodies.is_none() =>
            {
                return Outcome::success().with_code(response.status().as_u16());
            }
            Ok(response) => {
                let peeked = response.extensions().get::<Peeked>();
                self.judge(response.status(), response.headers(), peeked)
            }
            Err(error) => self.rules.judge_error(error),
        };
        self.rules.finish(outcome)
    }
}

impl ClassifyHttp {
    fn judge(self, status: StatusCode, headers: &HeaderMap, peeked: Option<&Peeked>) -> Outcome {
        let by_body = || (self.bodies?)(status, peeked?.as_bytes());
        let by_status = || (self.statuses?)(status);
        let outcome = by_body()
            .or_else(by_status)
            .unwrap_or_else(|| by_answer(status, headers));
        let outcome = outcome.with_code(status.as_u16());
        if outcome.retry_after().is_some() || !takes_hints(outcome.kind()) {
            return outcome;
        }
        let (now, max) = ((self.rules.clock)(), self.rules.max_hint);
        outcome.with_retry_after(hint::find(headers, hint::is_limit(status), now, max))
    }
}

/// The outcome of a status, and of `Retry-After` where it changes what the status means.
pub(super) fn by_answer(status: StatusCode, headers: &HeaderMap) -> Outcome {
    match status.as_u16() {
        200..=299 => Outcome::success(),
        429 | 503 => Outcome::throttled(None),
        413 if hint::says_temporary(headers) => Outcome::throttled(None),
        501 | 505 | 508 | 511 => Outcome::permanent(),
        408 | 425 | 500.. => Outcome::transient(),
        _ => Outcome::permanent(),
    }
}

/// The beginning of a response's body, an extension of the response.
/// [`PeekBodyLayer`](crate::body::peek::PeekBodyLayer) inserts it, [`HttpClassifier::bodies`] reads
/// it.
///
/// `Debug` shows its length, not its content.
#[derive(Clone)]
pub struct Peeked {
    bytes: Bytes,
    truncated: bool,
}

impl Peeked {
    /// Stores these bytes, and whether more follow or may follow.
    pub const fn new(bytes: Bytes, truncated: bool) -> Self {
        Self { bytes, truncated }
    }

    /// The bytes that were read.
    pub const fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Whether these bytes are not the whole body: it was too long, too slow, or broke off.
    pub const fn is_truncated(&self) -> bool {
        self.truncated
    }
}

impl fmt::Debug for Peeked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peeked")
            .field("len", &self.bytes.len())
            .field("truncated", &self.truncated)
            .finish()
    }
}
