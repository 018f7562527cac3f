use super::{AnswerFn, AnswerHttp, Failure, Fallback};
use crate::{
    body::BufferedBody,
    outcome::{HttpClassifier, Outcome, OutcomeKind},
};
use http::Response;
use std::sync::Arc;
use tower_layer::Layer;

/// Answers in the place of a failure.
///
/// See the [module docs](super) for what is replaced, and where it stands in a stack.
#[derive(Debug)]
#[must_use]
pub struct FallbackLayer<A, M = HttpClassifier> {
    answer: Arc<A>,
    make: M,
    when: Kinds,
}

/// A set of [`OutcomeKind`]s.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kinds(u16);

impl Kinds {
    const fn with(self, kind: OutcomeKind) -> Self {
        Self(self.0 | 1 << kind as u16)
    }

    pub(super) const fn has(self, kind: OutcomeKind) -> bool {
        self.0 & 1 << kind as u16 != 0
    }
}

/// The peer could not be used.
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
        }
    }
}

impl<F> FallbackLayer<AnswerFn<F>> {
    /// Answers what `answer` returns, in the type of the service inside. `None`: the failure stays.
    ///
    /// Neither blocks nor panics. Results are judged as HTTP until
    /// [`classifier`](Self::classifier) says otherwise.
    pub fn new<Res, Err>(answer: F) -> Self
    where
        F: Fn(&Failure<'_, Res, Err>) -> Option<Res>,
    {
        Self::answering(AnswerFn(answer))
    }
}

impl FallbackLayer<AnswerHttp> {
    /// Answers over HTTP what `answer` returns for this outcome, with a
    /// [`FallbackReason`](super::FallbackReason) among its extensions. `None`: the failure stays.
    ///
    /// The body of the response becomes a [`ResponseBody`](crate::body::ResponseBody). What was
    /// replaced is dropped, its body unread.
    pub fn http(
        answer: impl Fn(Outcome) -> Option<Response<BufferedBody>> + Send + Sync + 'static,
    ) -> Self {
        Self::answering(AnswerHttp {
            respond: Box::new(answer),
        })
    }
}

impl<A, M> FallbackLayer<A, M> {
    /// What judges the results. Default: [`HttpClassifier::new`]. The same as that of the layers
    /// inside, or one of them calls a failure what the other calls an answer.
    pub fn classifier<N>(self, make: N) -> FallbackLayer<A, N> {
        FallbackLayer {
            answer: self.answer,
            make,
            when: self.when,
        }
    }

    /// The outcomes that are replaced. Default: `Refused`, `Throttled`, `Transient` and
    /// `Unreached`. `Success` and `Cancelled` are no failures and never replaced.
    pub fn when(mut self, kinds: impl IntoIterator<Item = OutcomeKind>) -> Self {
        self.when = kinds.into_iter().fold(Kinds(0), Kinds::with);
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
        }
    }
}

impl<A, M: Clone> Clone for FallbackLayer<A, M> {
    fn clone(&self) -> Self {
        Self {
            answer: self.answer.clone(),
            make: self.make.clone(),
            when: self.when,
        }
    }
}
