use crate::{
    body::{BufferedBody, ResponseBody},
    outcome::Outcome,
};
use http::Response;
use std::fmt;

/// A failed call and its outcome.
pub struct Failure<'a, Res, Err> {
    pub(super) result: Result<&'a Res, &'a Err>,
    pub(super) outcome: Outcome,
}

impl<'a, Res, Err> Failure<'a, Res, Err> {
    /// The outcome of the call.
    pub const fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// The response, if the call failed with a response.
    pub const fn response(&self) -> Option<&'a Res> {
        match self.result {
            Ok(response) => Some(response),
            Err(_) => None,
        }
    }

    /// The error, if the call failed with an error.
    pub const fn error(&self) -> Option<&'a Err> {
        match self.result {
            Ok(_) => None,
            Err(error) => Some(error),
        }
    }
}

/// Shows only the outcome: response and error may hold secrets.
impl<Res, Err> fmt::Debug for Failure<'_, Res, Err> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure")
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

/// Makes the answer that replaces a failure.
///
/// Implemented by functions of the failure and, for HTTP, by [`AnswerHttp`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no answer instead of `Result<{Res}, {Err}>`",
    note = "`FallbackLayer::http` is for `http::Response<_>`; use `FallbackLayer::new(|failure: &Failure<'_, {Res}, {Err}>| ...)` for other responses"
)]
pub trait Answer<Res, Err> {
    /// The response that the caller gets.
    type Response;

    /// Converts a response that is not replaced.
    fn pass(&self, res: Res) -> Self::Response;

    /// Returns the answer that replaces the failure; with `None` the caller gets the failure.
    fn instead(&self, failure: &Failure<'_, Res, Err>) -> Option<Self::Response>;
}

impl<F, Res, Err> Answer<Res, Err> for F
where
    F: Fn(&Failure<'_, Res, Err>) -> Option<Res>,
{
    type Response = Res;

    fn pass(&self, res: Res) -> Res {
        res
    }

    fn instead(&self, failure: &Failure<'_, Res, Err>) -> Option<Res> {
        self(failure)
    }
}

type Respond = dyn Fn(Outcome) -> Option<Response<BufferedBody>> + Send + Sync;

/// Makes HTTP responses with a function of the outcome. Made by
/// [`FallbackLayer::http`](super::FallbackLayer::http).
pub struct AnswerHttp {
    pub(super) respond: Box<Respond>,
}

/// Response extension of a fallback: how the call failed. It is not sent to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FallbackReason {
    outcome: Outcome,
}

impl FallbackReason {
    /// The outcome of the call.
    pub const fn outcome(self) -> Outcome {
        self.outcome
    }
}

impl<B, Err> Answer<Response<B>, Err> for AnswerHttp {
    type Response = Response<ResponseBody<B>>;

    fn pass(&self, res: Response<B>) -> Self::Response {
        res.map(ResponseBody::inner)
    }

    fn instead(&self, failure: &Failure<'_, Response<B>, Err>) -> Option<Self::Response> {
        let outcome = failure.outcome();
        let mut response = (self.respond)(outcome)?;
        response.extensions_mut().insert(FallbackReason { outcome });
        Some(response.map(ResponseBody::buffered))
    }
}

impl fmt::Debug for AnswerHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerHttp").finish_non_exhaustive()
    }
}
