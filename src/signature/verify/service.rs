use super::{ResponseFuture, layer::Settings};
use crate::{
    body::{BufferedBody, ResponseBody},
    signature::{Message, SignatureError, Verified, replay::Claim},
};
use http::{Request, Response, StatusCode, header::WWW_AUTHENTICATE};
use std::{
    sync::Arc,
    task::{Context, Poll},
};
use tower_service::Service;

/// Middleware of [`SignatureVerifyLayer`](super::SignatureVerifyLayer). See the
/// [module docs](crate::signature).
#[derive(Clone, Debug)]
pub struct SignatureVerify<S> {
    pub(super) inner: S,
    pub(super) settings: Arc<Settings>,
}

impl<S, ResB> Service<Request<BufferedBody>> for SignatureVerify<S>
where
    S: Service<Request<BufferedBody>, Response = Response<ResB>>,
{
    type Response = Response<ResponseBody<ResB>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, ResB>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut req: Request<BufferedBody>) -> Self::Future {
        match self.settings.verify(&req) {
            Ok((verified, claim)) => {
                let label = if self.settings.label_responses {
                    verified.key()
                } else {
                    None
                };
                // In the place of one that somebody else may have put there.
                req.extensions_mut().insert(verified);
                ResponseFuture::called(self.inner.call(req), claim, label)
            }
            Err(reason) => ResponseFuture::refused(self.settings.refuse(reason)),
        }
    }
}

impl Settings {
    fn verify(
        &self,
        req: &Request<BufferedBody>,
    ) -> Result<(Verified, Option<Claim>), SignatureError> {
        #[cfg(feature = "tracing")]
        let span = tracing::debug_span!(
            target: "tower_webhook",
            "verify_signature",
            scheme = self.scheme.name(),
            key = tracing::field::Empty,
        )
        .entered();

        let verified = self.scheme.verify(&Message::of(req, &self.clock))?;
        #[cfg(feature = "tracing")]
        if let Some(label) = verified.key_label() {
            span.record("key", label);
        }
        let claim = match &self.replays {
            Some((cache, window)) => {
                Some(cache.claim(&verified, req.body().as_bytes(), *window)?)
            }
            None => None,
        };
        Ok((verified, claim))
    }

    #[cold]
    fn refuse<B>(&self, reason: SignatureError) -> Response<ResponseBody<B>> {
        crate::trace::refused!("verify_signature", reason);
        let mut response = self.refuser.response(reason);
        if response.status() == StatusCode::UNAUTHORIZED
            && let Some(challenge) = self.scheme.challenge()
        {
            response
                .headers_mut()
                .entry(WWW_AUTHENTICATE)
                .or_insert(challenge);
        }
        response
    }
}
