use super::{BufferedBody, ResponseBody, ResponseFuture, layer::Settings};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use std::{
    mem,
    task::{Context, Poll},
};
use tower_service::Service;

/// Middleware of [`BufferBodyLayer`](super::BufferBodyLayer). See the [module docs](super).
#[derive(Clone, Debug)]
pub struct BufferBody<S> {
    pub(super) inner: S,
    pub(super) settings: Settings,
}

impl<S, B, ResB> Service<Request<B>> for BufferBody<S>
where
    S: Service<Request<BufferedBody>, Response = Response<ResB>> + Clone,
    B: Body,
    ResB: Body<Data = Bytes>,
{
    type Response = Response<ResponseBody<ResB>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Request<B>) -> Self::Future {
        // The instance that was polled ready goes into the future; its clone takes its place and
        // will be polled before it is called.
        let spare = self.inner.clone();
        let ready = mem::replace(&mut self.inner, spare);
        ResponseFuture::new(ready, req, self.settings.clone())
    }
}
