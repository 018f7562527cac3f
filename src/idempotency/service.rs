use super::{ResponseFuture, Store, layer::Settings};
use crate::body::{BufferedBody, ResponseBody};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use std::{
    mem,
    sync::Arc,
    task::{Context, Poll},
};
use tower_service::Service;

/// Middleware of [`IdempotencyLayer`](super::IdempotencyLayer). See the [module docs](super).
#[derive(Clone, Debug)]
pub struct Idempotency<S, St> {
    pub(super) inner: S,
    pub(super) store: St,
    pub(super) settings: Arc<Settings>,
}

impl<S, St, ResB> Service<Request<BufferedBody>> for Idempotency<S, St>
where
    S: Service<Request<BufferedBody>, Response = Response<ResB>> + Clone,
    St: Store,
    ResB: Body<Data = Bytes> + Unpin,
{
    type Response = Response<ResponseBody<ResB>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, St, ResB>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Request<BufferedBody>) -> Self::Future {
        let key = match self.settings.key(&req) {
            Ok(Some(key)) => key,
            Ok(None) => return ResponseFuture::unguarded(self.inner.call(req)),
            Err(error) => return ResponseFuture::refused(&self.settings, error),
        };
        // The instance that was polled ready goes into the future; its clone takes its place and
        // will be polled before it is called.
        let spare = self.inner.clone();
        let ready = mem::replace(&mut self.inner, spare);
        ResponseFuture::begin(ready, req, key, &self.store, &self.settings)
    }
}
