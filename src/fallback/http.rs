use super::{Answer, Failure};
use crate::{
    body::{BufferedBody, ResponseBody},
    outcome::Outcome,
};
use http::Response;
use std::fmt;

type Respond = dyn Fn(Outcome) -> Option<Response<BufferedBody>> + Send + Sync;

/// Answers over HTTP. Made by [`FallbackLayer::http`](super::FallbackLayer::http).
pub struct AnswerHttp {
    pub(super) respond: Box<Respond>,
}

/// Why a response is a fallback: one of its extensions. The caller is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FallbackReason {
    outcome: Outcome,
}

impl FallbackReason {
    /// How the call ended whose answer was replaced.
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
