#[cfg(feature = "grpc")]
use super::LateOutcome;
use super::Outcome;
use std::fmt;

/// Makes a [`Classify`] for each request, from what the request says.
///
/// Implemented by [`HttpClassifier`](super::HttpClassifier),
/// [`GrpcClassifier`](super::GrpcClassifier) and what [`classify_fn`] returns.
///
/// # Examples
///
/// A classifier of one's own, around one that exists: a peer whose 404 means "not yet".
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
    /// What travels with the call: best a few `Copy` values taken from the request, not the request.
    type Classifier;

    /// Looks at a request before it is sent.
    fn make_classifier(&self, req: &Req) -> Self::Classifier;
}

/// Judges the result of one call.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot judge `Result<{Res}, {Err}>`",
    note = "`HttpClassifier` and `GrpcClassifier` judge `http::Response<_>` and errors that are `'static`; use `classify_fn(|result| ...)` for other results"
)]
pub trait Classify<Res, Err> {
    /// Judges.
    fn classify(self, result: Result<&Res, &Err>) -> Outcome;

    /// The outcome to come, if the result has only begun and [`classify`](Self::classify) can judge
    /// no more than its beginning. Default: `None`. Values of [`LateOutcome`] need feature `grpc`.
    fn late(&self, result: Result<&Res, &Err>) -> Option<LateOutcome> {
        let _ = result;
        None
    }
}

/// An outcome that is known when a response ends. Feature `grpc` makes such outcomes.
///
/// Without the feature this type has no values: [`Classify::late`] and its callers stay as they are,
/// and the compiler drops their branches.
#[cfg(not(feature = "grpc"))]
#[derive(Clone, Copy, Debug)]
pub enum LateOutcome {}

#[cfg(not(feature = "grpc"))]
impl LateOutcome {
    /// Calls `listener` with the outcome, once.
    pub fn then(&self, listener: impl FnOnce(Outcome) + Send + 'static) {
        let _ = listener;
        match *self {}
    }

    /// The outcome, if it is known already.
    pub const fn known(&self) -> Option<Outcome> {
        match *self {}
    }
}

/// A classifier of results alone. Made by [`classify_fn`].
#[derive(Clone, Copy)]
pub struct ClassifyFn<F> {
    judge: F,
}

/// A classifier from a function of the result: for job workers, plain services and tests.
///
/// The request is not looked at, so the function answers for repeating it: it says
/// [`not_repeatable`](Outcome::not_repeatable) where twice would be wrong. The function is cloned
/// for every call.
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
