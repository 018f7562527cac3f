//! Answers in place of a failure.
//!
//! When everything inside has failed (attempts exhausted, circuit open, deadline passed), [`FallbackLayer`] calls a
//! function, and the caller gets its answer. If it answers every failure, the caller sees none.
//!
//! # Examples
//!
//! A fallback over HTTP. The reason is in the response's extensions, for logs and metrics, and not in
//! the response itself:
//!
//! ```
//! use http::{Request, Response, StatusCode};
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_webhook::{BoxError, body::BufferedBody, FallbackLayer};
//! use tower_webhook::fallback::FallbackReason;
//! use tower_webhook::outcome::OutcomeKind;
//!
//! # tokio_test::block_on(async {
//! let lookup = FallbackLayer::http(|_outcome| Some(Response::new(BufferedBody::from("[]"))))
//!     .layer(service_fn(|_: Request<()>| async {
//!         Err::<Response<BufferedBody>, BoxError>("connection reset".into())
//!     }));
//!
//! let res = lookup.oneshot(Request::get("https://example.com/").body(())?).await?;
//! assert_eq!(res.status(), StatusCode::OK);
//! let reason = res.extensions().get::<FallbackReason>().ok_or("no reason")?;
//! assert_eq!(reason.outcome().kind(), OutcomeKind::Transient);
//! # Ok::<_, BoxError>(())
//! # }).unwrap();
//! ```
//!
//! A service that does not use HTTP:
//!
//! ```
//! use std::io;
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_webhook::{FallbackLayer, fallback::Failure, outcome::{Outcome, classify_fn}};
//!
//! # tokio_test::block_on(async {
//! let price = FallbackLayer::new(|failure: &Failure<'_, u32, io::Error>| {
//!     failure.error().is_some().then_some(100)
//! })
//! .classifier(classify_fn(|result: Result<&u32, &io::Error>| match result {
//!     Ok(_) => Outcome::success(),
//!     Err(error) => Outcome::of_error(error),
//! }))
//! .layer(service_fn(|_: &str| async { Err(io::ErrorKind::ConnectionRefused.into()) }));
//!
//! assert_eq!(price.oneshot("tea").await?, 100);
//! # Ok::<_, io::Error>(())
//! # }).unwrap();
//! ```
//!
//! # Order
//!
//! Outside retry, deadline and failover, whose final result it replaces, and outside every layer that
//! must see the failure. Metrics and dead-letter layers that stand outside this layer see a success.
//!
//! ```text
//! fallback > metrics > dead letter > deadline > retry > failover > circuit breaker > transport
//! ```
//!
//! # Settings
//!
//! | Setting | Default | Meaning |
//! | --- | --- | --- |
//! | [`new`](FallbackLayer::new), [`http`](FallbackLayer::http) | to be set | the function; where it returns `None`, the failure is returned |
//! | [`classifier`](FallbackLayer::classifier) | [`HttpClassifier`] | decides the outcome of each call |
//! | [`when`](FallbackLayer::when) | the table below | outcomes that are replaced |
//! | [`observe`](FallbackLayer::observe) | none except `tracing` | adds an observer of [`Event::FallbackAnswered`] |
//!
//! # Errors
//!
//! None of its own: a failure that is not replaced is returned unchanged. An error of `poll_ready` is not replaced,
//! because no call has been made.
//!
//! # Cancel safety
//!
//! Dropping the response future drops the inner call; no fallback is made.
//!
//! # What is replaced
//!
//! | [Outcome](crate::outcome) | Replaced | Why |
//! | --- | --- | --- |
//! | `Throttled`, `Transient`, `Unreached`, `Refused` | yes | the peer could not be used: exhaustion, a deadline, an open circuit |
//! | `Permanent` | no | the peer answered, and the answer is about the request: replacing a 400 or 404 would hide a mistake of the caller |
//! | `Unsendable` | no | a mistake on this side, which must stay visible |
//! | `Success`, `Cancelled` | never | |
//!
//! [`when`](FallbackLayer::when) sets other outcomes. It makes no difference whether the request may be
//! repeated: a 500 for a POST without an idempotency key is not retried, and is replaced.

mod answer;

pub use self::answer::{AnswerHttp, Failure, FallbackReason};

use self::answer::Answer;
use crate::{
    body::BufferedBody,
    context::{self, Verdict},
    observe::{Event, Observer, Observers},
    outcome::{Classify, HttpClassifier, MakeClassifier, Outcome, OutcomeKind},
};
use http::Response;
use pin_project::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tower_layer::Layer;
use tower_service::Service;

/// Answers in place of a failure.
///
/// See the [module docs](self) for what is replaced, and where the layer belongs in a stack.
#[must_use]
pub struct FallbackLayer<A, M = HttpClassifier> {
    answer: Arc<A>,
    make: M,
    when: Kinds,
    observers: Observers,
}

/// A set of [`OutcomeKind`]s.
#[derive(Clone, Copy, Debug)]
struct Kinds(u16);

impl Kinds {
    const fn with(self, kind: OutcomeKind) -> Self {
        Self(self.0 | 1 << kind as u16)
    }

    const fn has(self, kind: OutcomeKind) -> bool {
        self.0 & 1 << kind as u16 != 0
    }
}

/// The outcomes that mean that the peer cannot be used.
const UNAVAILABLE: Kinds = Kinds(0)
    .with(OutcomeKind::Refused)
    .with(OutcomeKind::Throttled)
    .with(OutcomeKind::Transient)
    .with(OutcomeKind::Unreached);

impl<A> FallbackLayer<A> {
    fn answering(answer: A) -> Self {
        Self {
            answer: Arc::new(answer),
            make: HttpClassifier::new(),
            when: UNAVAILABLE,
            observers: Observers::none(),
        }
    }
}

impl<F> FallbackLayer<F> {
    /// Replaces a failure with what `answer` returns, in the response type of the inner service. On `None`
    /// the caller gets the failure.
    ///
    /// `answer` must neither block nor panic. Results are judged as HTTP unless
    /// [`classifier`](Self::classifier) sets another classifier.
    pub fn new<Res, Err>(answer: F) -> Self
    where
        F: Fn(&Failure<'_, Res, Err>) -> Option<Res>,
    {
        Self::answering(answer)
    }
}

impl FallbackLayer<AnswerHttp> {
    /// Replaces a failure with the HTTP response that `answer` returns for its outcome, with a
    /// [`FallbackReason`] in the extensions. On `None` the caller gets the failure.
    ///
    /// The body of every response becomes a [`ResponseBody`](crate::body::ResponseBody). A response that is
    /// replaced is dropped without reading its body.
    pub fn http(
        answer: impl Fn(Outcome) -> Option<Response<BufferedBody>> + Send + Sync + 'static,
    ) -> Self {
        Self::answering(AnswerHttp {
            respond: Box::new(answer),
        })
    }
}

impl<A, M> FallbackLayer<A, M> {
    /// Sets the classifier, which decides the outcome of each call. Default: [`HttpClassifier`]. Use the
    /// classifier of the inner layers, so that all agree on what a failure is.
    pub fn classifier<N>(self, make: N) -> FallbackLayer<A, N> {
        FallbackLayer {
            answer: self.answer,
            make,
            when: self.when,
            observers: self.observers,
        }
    }

    /// Sets the outcomes that are replaced. Default: `Refused`, `Throttled`, `Transient` and
    /// `Unreached`. `Success` and `Cancelled` are not failures and are never replaced.
    pub fn when(mut self, kinds: impl IntoIterator<Item = OutcomeKind>) -> Self {
        self.when = kinds.into_iter().fold(Kinds(0), Kinds::with);
        self
    }

    /// Adds an observer of [`Event::FallbackAnswered`]. Default: none except `tracing`.
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.observers = self.observers.and(observer);
        self
    }
}

impl<S, A, M: Clone> Layer<S> for FallbackLayer<A, M> {
    type Service = Fallback<S, A, M>;

    fn layer(&self, inner: S) -> Fallback<S, A, M> {
        Fallback {
            inner,
            answer: self.answer.clone(),
            make: self.make.clone(),
            when: self.when,
            observers: self.observers.clone(),
        }
    }
}

impl<A, M: fmt::Debug> fmt::Debug for FallbackLayer<A, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackLayer")
            .field("make", &self.make)
            .field("when", &self.when)
            .finish_non_exhaustive()
    }
}

impl<A, M: Clone> Clone for FallbackLayer<A, M> {
    fn clone(&self) -> Self {
        Self {
            answer: self.answer.clone(),
            make: self.make.clone(),
            when: self.when,
            observers: self.observers.clone(),
        }
    }
}

/// Middleware of [`FallbackLayer`]. See the [module docs](self).
pub struct Fallback<S, A, M = HttpClassifier> {
    inner: S,
    answer: Arc<A>,
    make: M,
    when: Kinds,
    observers: Observers,
}

impl<S, Req, A, M> Service<Req> for Fallback<S, A, M>
where
    S: Service<Req>,
    A: Answer<S::Response, S::Error>,
    M: MakeClassifier<Req>,
    M::Classifier: Classify<S::Response, S::Error>,
{
    type Response = A::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, A, M::Classifier>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Req) -> Self::Future {
        let classifier = self.make.make_classifier(&req);
        ResponseFuture {
            future: self.inner.call(req),
            answer: self.answer.clone(),
            classifier: Some(classifier),
            when: self.when,
            observers: self.observers.clone(),
        }
    }
}

impl<S: fmt::Debug, A, M: fmt::Debug> fmt::Debug for Fallback<S, A, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fallback")
            .field("inner", &self.inner)
            .field("make", &self.make)
            .field("when", &self.when)
            .finish_non_exhaustive()
    }
}

impl<S: Clone, A, M: Clone> Clone for Fallback<S, A, M> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            answer: self.answer.clone(),
            make: self.make.clone(),
            when: self.when,
            observers: self.observers.clone(),
        }
    }
}

/// Response future of [`Fallback`].
#[must_use = "futures do nothing unless polled"]
#[pin_project]
pub struct ResponseFuture<F, A, C> {
    #[pin]
    future: F,
    answer: Arc<A>,
    /// Taken at the end.
    classifier: Option<C>,
    when: Kinds,
    observers: Observers,
}

impl<F, Res, Err, A, C> Future for ResponseFuture<F, A, C>
where
    F: Future<Output = Result<Res, Err>>,
    A: Answer<Res, Err>,
    C: Classify<Res, Err>,
{
    type Output = Result<A::Response, Err>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let _judging = context::judging();
        let this = self.project();
        let result = ready!(this.future.poll(cx));
        if let Some(classifier) = this.classifier.take() {
            let result = result.as_ref();
            let verdict = Verdict::by(classifier, result);
            let outcome = verdict.outcome;
            if outcome.is_failure() && this.when.has(outcome.kind()) {
                let failure = Failure { result, outcome };
                if let Some(answer) = this.answer.instead(&failure) {
                    this.observers.tell(|| Event::FallbackAnswered { outcome });
                    Verdict::of(Outcome::success()).tell();
                    return Poll::Ready(Ok(answer));
                }
            }
            verdict.tell();
        }
        Poll::Ready(result.map(|res| this.answer.pass(res)))
    }
}

impl<F, A, C> fmt::Debug for ResponseFuture<F, A, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
