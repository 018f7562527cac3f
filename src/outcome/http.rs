use super::{
    Classify, MakeClassifier, Outcome, Peeked,
    chain::ErrorRule,
    find_hint, hint,
    repeat::Repeatability,
    rules::{self, Rules},
};
use http::{HeaderMap, HeaderName, Request, Response, StatusCode};
use std::{
    error::Error,
    time::{Duration, SystemTime},
};

/// Judges HTTP calls: by status, by the hints in the headers, and by whether the request may be
/// done twice.
///
/// # Statuses
///
/// | Status | Kind | Why |
/// | --- | --- | --- |
/// | 1xx, 2xx | `Success` | |
/// | 429, 503 | `Throttled` | the peer sheds load |
/// | 413 with a `Retry-After` | `Throttled` | which is how a server says that it is too large only for now ([RFC 9110 §15.5.14](https://www.rfc-editor.org/rfc/rfc9110#section-15.5.14)) |
/// | 408, 425, 5xx, 600 and up | `Transient` | a status beyond 599 is taken as a 5xx (RFC 9110 §15) |
/// | 501, 505, 511 | `Permanent` | they speak of the method, the version, the network: not of this moment |
/// | 3xx | `Permanent` | see below |
/// | other 4xx | `Permanent` | among them 401 and 409, which need another request, and 410, which ends a subscription |
///
/// A redirect is never followed and never retried. The new address is one that nobody has
/// registered or checked, a POST may become a GET on the way (RFC 9110 §15.4), and the delivery's
/// signature would be shown to whoever is there. 421 asks for another connection, which no layer
/// here can choose.
///
/// # Hints
///
/// [`find_hint`] is asked for `Throttled` and `Transient` answers, and for nothing else. Hints are
/// cut at [`max_hint`](Self::max_hint).
///
/// # Repeating
///
/// A request may be done twice if one of these holds, in this order:
///
/// 1. its extensions hold [`Repeatable::Yes`](super::Repeatable); `Repeatable::No` forbids it
/// 2. its method is idempotent ([RFC 9110 §9.2.2](https://www.rfc-editor.org/rfc/rfc9110#section-9.2.2)):
///    GET, HEAD, OPTIONS, TRACE, PUT, DELETE
/// 3. it carries an idempotency key, in one of the [`key_headers`](Self::key_headers), where the
///    classifier sees it: put the layer that adds the key outside the one that retries
/// 4. [`assume_repeatable`](Self::assume_repeatable) is set
///
/// And any request may be sent again that the peer provably never saw.
///
/// # Errors
///
/// [`Transient`](super::OutcomeKind::Transient), unless the chain of sources says more: see the
/// [module docs](super).
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
    /// The rules above.
    pub const fn new() -> Self {
        Self {
            repeatability: Repeatability::new(),
            rules: Rules::new(),
            statuses: None,
            bodies: None,
        }
    }

    /// No hint is longer than this. Default: 6 hours.
    ///
    /// The retry layer has its own limit, for what to do with a long hint; this one is only against
    /// nonsense. Zero turns every hint into "at once", which leaves the wait to the backoff.
    pub const fn max_hint(mut self, max: Duration) -> Self {
        self.rules.max_hint = max;
        self
    }

    /// The headers that make a request repeatable when they have a value. Default:
    /// `idempotency-key`, `webhook-id` and `svix-id`. An empty list leaves only the method.
    ///
    /// Name only headers by which the receiver really recognises a repetition.
    pub fn key_headers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.repeatability.set_keys(names);
        self
    }

    /// Whether every request may be done twice. Default: `false`.
    ///
    /// Right when all receivers deduplicate by something in the body, or when twice is better than
    /// not at all. Wrong when a POST moves money.
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

    /// Judges some statuses otherwise. `None` leaves a status to the table above. Hints, the status
    /// as [`code`](Outcome::code) and the rules about repeating are added to what it returns.
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

    /// Judges some answers by their body. Asked before [`statuses`](Self::statuses), about answers
    /// whose beginning a [`PeekBodyLayer`](crate::body::peek::PeekBodyLayer) below has read: it is
    /// given the status and that beginning, which may be cut anywhere. `None` leaves the answer to
    /// the other rules. Hints, the status as [`code`](Outcome::code) and the rules about repeating
    /// are added to what it returns.
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

    /// Judges some errors otherwise: asked about each link of the chain of sources, outermost
    /// first, before the markers. `None` leaves a link to them.
    ///
    /// For the errors of a transport, whose types only its user names:
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
    fn classify(self, result: Result<&Response<B>, &E>) -> Outcome {
        let outcome = match result {
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
        if outcome.retry_after().is_some() || !rules::takes_hints(outcome.kind()) {
            return outcome;
        }
        let (now, max) = ((self.rules.clock)(), self.rules.max_hint);
        outcome.with_retry_after(find_hint(status, headers, now, max))
    }
}

/// The verdict of the status, and of the one header that changes what a status means.
pub(super) fn by_answer(status: StatusCode, headers: &HeaderMap) -> Outcome {
    match status.as_u16() {
        ..=299 => Outcome::success(),
        429 | 503 => Outcome::throttled(None),
        413 if hint::says_temporary(headers) => Outcome::throttled(None),
        501 | 505 | 511 => Outcome::permanent(),
        408 | 425 | 500.. => Outcome::transient(),
        _ => Outcome::permanent(),
    }
}
