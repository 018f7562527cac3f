use super::{super::PeekedBody, ResponseFuture, layer::Settings};
use bytes::Bytes;
use http::Response;
use http_body::Body;
use std::task::{Context, Poll};
use tower_service::Service;

/// Middleware of [`PeekBodyLayer`](super::PeekBodyLayer). See the [module docs](super).
#[derive(Clone, Debug)]
pub struct PeekBody<S> {
    pub(super) inner: S,
    pub(super) settings: Settings,
}

impl<S, Req, B> Service<Req> for PeekBody<S>
where
    S: Service<Req, Response = Response<B>>,
    B: Body<Data = Bytes> + Unpin,
{
    type Response = Response<PeekedBody<B>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Req) -> Self::Future {
        ResponseFuture::new(self.inner.call(req), self.settings)
    }
}
