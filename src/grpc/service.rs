use super::{GrpcBody, ResponseFuture, layer::Settings};
use http::{Request, Response};
use http_body::Body;
use std::task::{Context, Poll};
use tower_service::Service;

/// Middleware of [`GrpcPeekLayer`](super::GrpcPeekLayer). See the [module docs](super).
#[derive(Clone, Debug)]
pub struct GrpcPeek<S> {
    pub(super) inner: S,
    pub(super) settings: Settings,
}

impl<S, ReqB, B> Service<Request<ReqB>> for GrpcPeek<S>
where
    S: Service<Request<ReqB>, Response = Response<B>>,
    B: Body + Unpin,
{
    type Response = Response<GrpcBody<B>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Request<ReqB>) -> Self::Future {
        let limit = self.settings.max_message;
        let wait = self.settings.is_unary(&req).then_some(limit);
        ResponseFuture::new(self.inner.call(req), wait)
    }
}
