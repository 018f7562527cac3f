//! The layer that refuses requests without a valid signature.

use super::{
    Head, Message, ReplayCache, Scheme, SecretLabel, SignatureError, Verified, replay::Claim,
};
use crate::{
    InvalidConfig,
    body::{BufferedBody, ResponseBody},
    clock::WallClock,
    observe::{Event, Id, Observer, Observers, Scope},
    problem::{Problem, Refuser},
    refusal::CallOrRefusal,
};
use http::{Request, Response, StatusCode, header::WWW_AUTHENTICATE};
use pin_project::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tower_layer::Layer;
use tower_service::Service;

/// Refuses requests without a valid signature. Its [`Scheme`] decides which are valid.
///
/// See the [module docs](crate::signature) for the refusals, and for its place in a stack.
#[derive(Clone, Debug)]
#[must_use]
pub struct SignatureVerifyLayer {
    settings: Settings,
}

#[derive(Clone)]
struct Settings {
    scheme: Arc<dyn Scheme>,
    clock: WallClock,
    replays: Option<(ReplayCache, Duration)>,
    refuser: Refuser<SignatureError>,
    label_responses: bool,
    observers: Observers,
}

impl SignatureVerifyLayer {
    /// Verifies with `scheme`, which may be an `Arc` or `Box` of one.
    pub fn new(scheme: impl Scheme) -> Self {
        Self {
            settings: Settings {
                scheme: Arc::new(scheme),
                clock: WallClock::system(),
                replays: None,
                refuser: Refuser::new(),
                label_responses: false,
                observers: Observers::none(),
            },
        }
    }

    /// Sets the clock with which timestamps are compared. Default: the system clock.
    pub fn clock(mut self, clock: WallClock) -> Self {
        self.settings.clock = clock;
        self
    }

    /// Refuses a message that was received before, within the tolerance of its timestamp. Default: off; a copy
    /// passes while its timestamp is within the tolerance.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `reject_replays` if the cache has no room, if its window is shorter than the
    /// scheme's or longer than a day, and if the scheme signs no timestamp and the cache has no
    /// [window](ReplayCache::window) of its own.
    pub fn reject_replays(mut self, cache: ReplayCache) -> Result<Self, InvalidConfig> {
        let window = self.settings.scheme.replay_window();
        self.settings.replays = Some(cache.for_scheme(window)?);
        Ok(self)
    }

    /// Adds the [`SecretLabel`] that matched to the extensions of each response, for a metrics layer outside
    /// this one. Default: off, because it costs allocations for each call;
    /// [`SigningKeys::usage`](super::SigningKeys::usage) counts without them.
    pub const fn label_responses(mut self, label: bool) -> Self {
        self.settings.label_responses = label;
        self
    }

    /// Adds an observer of [`Event::Verified`] and [`Event::Refused`]. Default: none except `tracing`.
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.settings.observers = self.settings.observers.and(observer);
        self
    }

    /// Sets a function that makes the response to a refused request. Default: the [`Problem`] that the
    /// function gets, as `application/problem+json`. The response should not tell which check failed.
    pub fn refuse_with(
        mut self,
        respond: impl Fn(&SignatureError, Problem) -> Response<BufferedBody> + Send + Sync + 'static,
    ) -> Self {
        self.settings.refuser = Refuser::with(respond);
        self
    }

    /// A layer for outside the [`BufferBodyLayer`](crate::BufferBodyLayer). It refuses a request that this layer
    /// would refuse whatever its body: by [`Scheme::verify_head`], with the same response, told to the same
    /// observers. The others pass, and their signature is still to be verified.
    pub fn before_body(&self) -> VerifyHeadLayer {
        VerifyHeadLayer {
            settings: self.settings.clone(),
        }
    }
}

impl<S> Layer<S> for SignatureVerifyLayer {
    type Service = SignatureVerify<S>;

    fn layer(&self, inner: S) -> SignatureVerify<S> {
        SignatureVerify {
            inner,
            settings: Arc::new(self.settings.clone()),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("scheme", &self.scheme.name())
            .field("clock", &self.clock)
            .field("replays", &self.replays)
            .field("refuser", &self.refuser)
            .field("label_responses", &self.label_responses)
            .finish_non_exhaustive()
    }
}

/// Middleware of [`SignatureVerifyLayer`]. See the
/// [module docs](crate::signature).
#[derive(Clone, Debug)]
pub struct SignatureVerify<S> {
    inner: S,
    settings: Arc<Settings>,
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
                    verified.label().map(Box::new)
                } else {
                    None
                };
                // Replaces one that other code may have inserted.
                req.extensions_mut().insert(verified);
                ResponseFuture {
                    call: CallOrRefusal::called(self.inner.call(req)),
                    claim,
                    label,
                }
            }
            Err(reason) => ResponseFuture {
                call: CallOrRefusal::refused(self.settings.refuse(reason)),
                claim: None,
                label: None,
            },
        }
    }
}

/// Refuses requests whose head shows that their signature is not valid, before their body is read. Made by
/// [`SignatureVerifyLayer::before_body`].
///
/// With a credential that covers nothing ([`BasicAuth`](super::scheme::BasicAuth),
/// [`SharedToken`](super::scheme::SharedToken)) that is the whole check. With a signature it is the presence and
/// form of the headers, and the age of the timestamp.
#[derive(Clone, Debug)]
#[must_use]
pub struct VerifyHeadLayer {
    settings: Settings,
}

impl<S> Layer<S> for VerifyHeadLayer {
    type Service = VerifyHead<S>;

    fn layer(&self, inner: S) -> VerifyHead<S> {
        VerifyHead {
            inner,
            settings: Arc::new(self.settings.clone()),
        }
    }
}

/// Middleware of [`VerifyHeadLayer`].
#[derive(Clone, Debug)]
pub struct VerifyHead<S> {
    inner: S,
    settings: Arc<Settings>,
}

impl<S, B, ResB> Service<Request<B>> for VerifyHead<S>
where
    S: Service<Request<B>, Response = Response<ResB>>,
{
    type Response = Response<ResponseBody<ResB>>;
    type Error = S::Error;
    type Future = CallOrRefusal<S::Future, ResB>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Request<B>) -> Self::Future {
        match self
            .settings
            .verify_head(&Head::of(&req, &self.settings.clock))
        {
            Ok(()) => CallOrRefusal::called(self.inner.call(req)),
            Err(reason) => CallOrRefusal::refused(self.settings.refuse(reason)),
        }
    }
}

impl Settings {
    fn verify_head(&self, head: &Head<'_>) -> Result<(), SignatureError> {
        let result = self.scheme.verify_head(head);
        if let Err(reason) = &result {
            Scope::verify(self.scheme.name()).enter(|| self.tell_refused(reason));
        }
        result
    }

    fn tell_refused(&self, reason: &SignatureError) {
        self.observers.tell(|| Event::Refused {
            // Several layers of a server have different schemes: who guesses at which credential?
            by: self.scheme.name(),
            reason: reason.as_str(),
            detail: Id::new(reason),
        });
    }

    fn verify(
        &self,
        req: &Request<BufferedBody>,
    ) -> Result<(Verified, Option<Claim>), SignatureError> {
        Scope::verify(self.scheme.name()).enter(|| {
            let result = self.check(req);
            match &result {
                Ok((verified, _)) => self.observers.tell(|| Event::Verified {
                    scheme: verified.scheme(),
                    label: verified.secret_label(),
                }),
                Err(reason) => self.tell_refused(reason),
            }
            result
        })
    }

    fn check(
        &self,
        req: &Request<BufferedBody>,
    ) -> Result<(Verified, Option<Claim>), SignatureError> {
        let mut verified = self.scheme.verify(&Message::of(req, &self.clock))?;
        verified.body = Some(req.body().as_bytes().clone());
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

/// Response future of [`SignatureVerify`].
#[must_use = "futures do nothing unless polled"]
#[pin_project]
pub struct ResponseFuture<F, B> {
    #[pin]
    call: CallOrRefusal<F, B>,
    /// Dropped with the call if there is no response: the message then counts as not received.
    claim: Option<Claim>,
    /// Boxed, because it is rarely asked for and as long as the rest.
    label: Option<Box<SecretLabel>>,
}

impl<F, B, E> Future for ResponseFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.call.poll(cx));
        let (claim, label) = (this.claim.take(), this.label.take());
        Poll::Ready(result.map(|mut response| {
            if let Some(claim) = claim {
                claim.settle(response.status());
            }
            if let Some(label) = label {
                response.extensions_mut().insert(*label);
            }
            response
        }))
    }
}

impl<F, B> fmt::Debug for ResponseFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
