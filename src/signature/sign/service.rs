use super::{MessageId, Outgoing, ResponseFuture, SignError, SignScheme};
use crate::trace::{scope, trouble};
use crate::{BoxError, body::BufferedBody, clock::WallClock};
use http::{HeaderName, Request};
use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
};
use tower_service::Service;

/// Middleware of [`SignLayer`](super::SignLayer).
#[derive(Clone)]
pub struct Sign<S> {
    pub(super) inner: S,
    pub(super) scheme: Arc<dyn SignScheme>,
    pub(super) clock: WallClock,
}

impl<S> Service<Request<BufferedBody>> for Sign<S>
where
    S: Service<Request<BufferedBody>>,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut req: Request<BufferedBody>) -> Self::Future {
        let signed = scope!("sign").in_scope(|| self.sign(&mut req));
        match signed {
            Ok(()) => ResponseFuture::called(self.inner.call(req)),
            Err(error) => {
                trouble!(
                    "sign",
                    "not sent, because it cannot be signed",
                    error = error
                );
                ResponseFuture::failed(error)
            }
        }
    }
}

impl<S> Sign<S> {
    fn sign(&self, req: &mut Request<BufferedBody>) -> Result<(), SignError> {
        let id = match self.scheme.id_header() {
            Some(name) => Some(message_id(req, name)?),
            None => None,
        };
        // Out of the request meanwhile, which lends its body.
        let mut headers = mem::take(req.headers_mut());
        let mut message = Outgoing::new(req.body().as_bytes(), self.clock.unix_seconds());
        if let Some(id) = &id {
            message = message.with_id(id);
        }
        let signed = self.scheme.sign(&message, &mut headers);
        *req.headers_mut() = headers;
        signed
    }
}

fn message_id(req: &Request<BufferedBody>, name: &HeaderName) -> Result<MessageId, SignError> {
    let mut values = req.headers().get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(_), Some(_)) => Err(SignError::InvalidId),
        (Some(value), None) => MessageId::from_value(value.clone()),
        (None, _) => Ok(match req.extensions().get::<MessageId>() {
            Some(id) => id.clone(),
            None => MessageId::generate(),
        }),
    }
}

impl<S: fmt::Debug> fmt::Debug for Sign<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sign")
            .field("inner", &self.inner)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}
