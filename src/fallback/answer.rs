use crate::outcome::Outcome;
use std::fmt;

/// A call that failed, and how.
pub struct Failure<'a, Res, Err> {
    pub(super) result: Result<&'a Res, &'a Err>,
    pub(super) outcome: Outcome,
}

impl<'a, Res, Err> Failure<'a, Res, Err> {
    /// How it failed.
    pub const fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// The response that says so, if there is one.
    pub const fn response(&self) -> Option<&'a Res> {
        match self.result {
            Ok(response) => Some(response),
            Err(_) => None,
        }
    }

    /// The error, if there is one.
    pub const fn error(&self) -> Option<&'a Err> {
        match self.result {
            Ok(_) => None,
            Err(error) => Some(error),
        }
    }
}

/// How it failed: what came of it is a matter between peer and caller.
impl<Res, Err> fmt::Debug for Failure<'_, Res, Err> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure")
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

/// What is answered in the place of a failure.
///
/// Implemented by [`AnswerFn`] and, for HTTP, by [`AnswerHttp`](super::AnswerHttp).
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no answer in the place of `Result<{Res}, {Err}>`",
    note = "`FallbackLayer::http` is for `http::Response<_>`; use `FallbackLayer::new(|failure: &Failure<'_, {Res}, {Err}>| ...)` for other responses"
)]
pub trait Answer<Res, Err> {
    /// What the caller gets.
    type Response;

    /// A response that is not replaced.
    fn pass(&self, res: Res) -> Self::Response;

    /// What is answered instead. `None`: the failure stays.
    fn instead(&self, failure: &Failure<'_, Res, Err>) -> Option<Self::Response>;
}

/// Answers from a function. Made by [`FallbackLayer::new`](super::FallbackLayer::new).
#[derive(Clone, Copy)]
pub struct AnswerFn<F>(pub(super) F);

impl<F, Res, Err> Answer<Res, Err> for AnswerFn<F>
where
    F: Fn(&Failure<'_, Res, Err>) -> Option<Res>,
{
    type Response = Res;

    fn pass(&self, res: Res) -> Res {
        res
    }

    fn instead(&self, failure: &Failure<'_, Res, Err>) -> Option<Res> {
        (self.0)(failure)
    }
}

impl<F> fmt::Debug for AnswerFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerFn").finish_non_exhaustive()
    }
}
