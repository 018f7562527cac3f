#[cfg(feature = "grpc")]
use super::LateOutcome;
use super::{
    Outcome, OutcomeKind,
    errors::{self, ErrorRule},
};
use http::{Extensions, HeaderMap, HeaderName};
#[cfg(not(feature = "grpc"))]
use std::convert::Infallible;
use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// Makes a [`Classify`] for each request.
///
/// Implemented by [`HttpClassifier`](super::HttpClassifier),
/// [`GrpcClassifier`](super::GrpcClassifier) and what [`classify_fn`] returns.
///
/// # Examples
///
/// A classifier around another, for a peer whose 404 means "not yet".
///
/// ```
/// use http::{Request, Response, StatusCode};
/// use tower_webhook::BoxError;
/// use tower_webhook::outcome::*;
///
/// #[derive(Clone)]
/// struct NotYet(HttpClassifier);
///
/// struct ClassifyNotYet(ClassifyHttp);
///
/// impl<B> MakeClassifier<Request<B>> for NotYet {
///     type Classifier = ClassifyNotYet;
///
///     fn make_classifier(&self, req: &Request<B>) -> ClassifyNotYet {
///         ClassifyNotYet(self.0.make_classifier(req))
///     }
/// }
///
/// impl<B> Classify<Response<B>, BoxError> for ClassifyNotYet {
///     fn classify(self, result: Result<&Response<B>, &BoxError>) -> Outcome {
///         match result {
///             Ok(res) if res.status() == StatusCode::NOT_FOUND => Outcome::transient(),
///             result => self.0.classify(result),
///         }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` makes no classifier for requests of type `{Req}`",
    note = "`HttpClassifier` and `GrpcClassifier` take `http::Request<_>`; use `classify_fn(|result| ...)` for other requests"
)]
pub trait MakeClassifier<Req> {
    /// The classifier of one call, kept until its end. Keep it small: a few `Copy` values taken from the
    /// request, not the request.
    type Classifier;

    /// Reads a request before it is sent.
    fn make_classifier(&self, req: &Req) -> Self::Classifier;
}

/// Judges the result of one call.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot judge `Result<{Res}, {Err}>`",
    note = "`HttpClassifier` and `GrpcClassifier` judge `http::Response<_>` and errors that are `'static`; use `classify_fn(|result| ...)` for other results"
)]
pub trait Classify<Res, Err> {
    /// Judges the result.
    fn classify(self, result: Result<&Res, &Err>) -> Outcome;

    /// The outcome to come, if the result has only begun and [`classify`](Self::classify) can judge
    /// no more than its beginning. Default: `None`. Values of [`LateOutcome`] need feature `grpc`.
    fn late(&self, result: Result<&Res, &Err>) -> Option<LateOutcome> {
        let _ = result;
        None
    }

    /// When the result was there, if a layer inside has read the clock. Default: `None`, and the layer that asks reads
    /// the clock.
    fn ended(&self) -> Option<Instant> {
        None
    }
}

/// An outcome that is known when a response ends. Feature `grpc` makes such outcomes.
///
/// Without the feature this type has no values: [`Classify::late`] and its callers stay as they are,
/// and the compiler drops their branches. It promises nothing that it does not promise with the feature.
#[cfg(not(feature = "grpc"))]
#[derive(Clone, Debug)]
pub struct LateOutcome(Infallible);

#[cfg(not(feature = "grpc"))]
impl LateOutcome {
    /// Calls `listener` with the outcome, once.
    pub fn then(&self, listener: impl FnOnce(Outcome) + Send + 'static) {
        let _ = listener;
        match self.0 {}
    }

    /// The outcome, if it is known already.
    #[expect(clippy::missing_const_for_fn, reason = "it is not with the feature")]
    pub fn known(&self) -> Option<Outcome> {
        match self.0 {}
    }
}

/// A classifier that reads only the result. Made by [`classify_fn`].
#[derive(Clone, Copy)]
pub struct ClassifyFn<F> {
    judge: F,
}

/// Makes a classifier from a function of the result: for job workers, plain services and tests.
///
/// It does not read the request, so the function must call
/// [`not_repeatable`](Outcome::not_repeatable) where a repetition would be wrong. The function is
/// cloned for every call.
///
/// # Examples
///
/// ```
/// use tower_webhook::outcome::{Classify, MakeClassifier, Outcome, OutcomeKind, classify_fn};
///
/// let judge = classify_fn(|result: Result<&(), &&str>| match result {
///     Ok(()) => Outcome::success(),
///     Err(_) => Outcome::transient(),
/// });
/// let outcome = judge.make_classifier(&"any request").classify(Err(&"it broke"));
/// assert_eq!(outcome.kind(), OutcomeKind::Transient);
/// ```
pub const fn classify_fn<F, Res, Err>(judge: F) -> ClassifyFn<F>
where
    F: Fn(Result<&Res, &Err>) -> Outcome + Clone,
{
    ClassifyFn { judge }
}

impl<F: Clone, Req> MakeClassifier<Req> for ClassifyFn<F> {
    type Classifier = Self;

    fn make_classifier(&self, _: &Req) -> Self {
        self.clone()
    }
}

impl<F, Res, Err> Classify<Res, Err> for ClassifyFn<F>
where
    F: Fn(Result<&Res, &Err>) -> Outcome,
{
    fn classify(self, result: Result<&Res, &Err>) -> Outcome {
        (self.judge)(result)
    }
}

impl<F> fmt::Debug for ClassifyFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClassifyFn").finish_non_exhaustive()
    }
}

/// Whether one request may be repeated. An extension of the request, which overrides its method and
/// headers.
///
/// # Examples
///
/// ```
/// use http::{Request, Response};
/// use tower_webhook::BoxError;
/// use tower_webhook::outcome::{Classify, HttpClassifier, MakeClassifier, Repeatable};
///
/// // A search by POST.
/// let mut request = Request::post("https://example.com/search").body(())?;
/// request.extensions_mut().insert(Repeatable::Yes);
///
/// let failed = Response::builder().status(500).body(())?;
/// let classify = HttpClassifier::new().make_classifier(&request);
/// assert!(classify.classify(Ok::<_, &BoxError>(&failed)).may_retry());
/// # Ok::<_, http::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Repeatable {
    /// It must not be repeated, even if its method is idempotent.
    No,
    /// It may be repeated: a repetition has no further effect.
    Yes,
}

/// The headers by which receivers recognise a repetition, if none are set.
static KEY_HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("webhook-id"),
    HeaderName::from_static("svix-id"),
];

/// The settings for whether a request may be repeated, of the HTTP and the gRPC classifier.
#[derive(Clone, Debug)]
pub(super) struct Repeatability {
    /// `None` is [`KEY_HEADERS`]. Shared, so that cloning a classifier does not allocate.
    keys: Option<Arc<[HeaderName]>>,
    assumed: bool,
}

impl Repeatability {
    pub(super) const fn new() -> Self {
        Self {
            keys: None,
            assumed: false,
        }
    }

    pub(super) fn set_keys(&mut self, names: impl IntoIterator<Item = HeaderName>) {
        self.keys = Some(names.into_iter().collect());
    }

    pub(super) const fn assume(&mut self, repeatable: bool) {
        self.assumed = repeatable;
    }

    /// `by_method`: the request's method is idempotent.
    pub(super) fn of(&self, by_method: bool, headers: &HeaderMap, extensions: &Extensions) -> bool {
        if let Some(said) = extensions.get::<Repeatable>() {
            return *said == Repeatable::Yes;
        }
        by_method || self.assumed || self.has_key(headers)
    }

    fn has_key(&self, headers: &HeaderMap) -> bool {
        let names = self.keys.as_deref().unwrap_or(&KEY_HEADERS);
        names.iter().any(|name| {
            // A blank key is no key: the receiver cannot recognise anything by it.
            let value = headers.get(name).map(|value| value.as_bytes().trim_ascii());
            value.is_some_and(|value| !value.is_empty())
        })
    }
}

/// urllib3's `DEFAULT_RETRY_AFTER_MAX` (2026): as long as the longest waits of published webhook
/// schedules, and less than a day.
const MAX_HINT: Duration = Duration::from_secs(6 * 3600);

/// The settings that the HTTP and the gRPC classifier share, kept with every call: a few words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) max_hint: Duration,
    pub(super) clock: fn() -> SystemTime,
    pub(super) errors: Option<ErrorRule>,
    pub(super) repeatable: bool,
}

impl Rules {
    pub(super) const fn new() -> Self {
        Self {
            max_hint: MAX_HINT,
            clock: SystemTime::now,
            errors: None,
            repeatable: false,
        }
    }

    pub(super) fn judge_error<E: 'static>(self, error: &E) -> Outcome {
        errors::judge(error, self.errors)
    }

    /// Completes every outcome: caps the hint, and applies whether the request may be repeated.
    pub(super) fn finish(self, outcome: Outcome) -> Outcome {
        let capped = outcome.retry_after().map(|wait| wait.min(self.max_hint));
        let outcome = outcome.with_retry_after(capped);
        if self.repeatable {
            outcome
        } else {
            outcome.not_repeatable()
        }
    }
}

/// Whether hints are read for this kind.
pub(super) const fn takes_hints(kind: OutcomeKind) -> bool {
    matches!(kind, OutcomeKind::Throttled | OutcomeKind::Transient)
}
