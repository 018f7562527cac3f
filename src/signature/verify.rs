//! The layer that refuses requests without a valid signature.
//!
//! The scheme of a request is one for all, or that of its tenant, which may have to be looked up first.

use super::{
    Head, Message, ReplayCache, Scheme, SecretLabel, SignatureError, Tenants, Verified,
    replay::Claim,
    tenants::{Answer, Found},
};
use crate::{
    BoxFuture, InvalidConfig,
    body::{BufferedBody, BufferedFrom, BufferedService, CloneService, ResponseBody},
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
    hint::black_box,
    mem,
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
    source: Source,
    clock: WallClock,
    replays: Option<(ReplayCache, Duration)>,
    refuser: Refuser<SignatureError>,
    label_responses: bool,
    observers: Observers,
}

/// Where the scheme of a request is found.
#[derive(Clone)]
enum Source {
    One(Arc<dyn Scheme>),
    Tenants(Tenants),
}

impl Source {
    /// The scheme itself, or the decoy of the tenants: what is asked where no request is known.
    fn scheme(&self) -> &dyn Scheme {
        match self {
            Self::One(scheme) => &**scheme,
            Self::Tenants(tenants) => tenants.decoy(),
        }
    }
}

impl SignatureVerifyLayer {
    /// Verifies with `scheme`, which may be an `Arc` or `Box` of one.
    pub fn new(scheme: impl Scheme) -> Self {
        Self::of(Source::One(Arc::new(scheme)))
    }

    /// Verifies each request with the scheme of the tenant that it names. See
    /// [many tenants](crate::signature#many-tenants).
    pub fn resolve(tenants: Tenants) -> Self {
        Self::of(Source::Tenants(tenants))
    }

    fn of(source: Source) -> Self {
        Self {
            settings: Settings {
                source,
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
    /// [window](ReplayCache::window) of its own. With [`resolve`](Self::resolve), by the decoy; a message of a tenant whose
    /// scheme has a longer window is remembered for as long as that.
    pub fn reject_replays(mut self, cache: ReplayCache) -> Result<Self, InvalidConfig> {
        let window = self.settings.source.scheme().replay_window();
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
            .field("scheme", &self.source.scheme().name())
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

impl<S, B> Service<Request<B>> for SignatureVerify<S>
where
    S: BufferedService + CloneService,
    BufferedBody: BufferedFrom<B>,
{
    type Response = Response<ResponseBody<<S as BufferedService>::Body>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, BufferedBody, <S as BufferedService>::Body>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Request<B>) -> Self::Future {
        let req = BufferedBody::buffered(req);
        ResponseFuture::new(&self.settings, &mut self.inner, req, Settings::call)
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
    S: Service<Request<B>, Response = Response<ResB>> + CloneService,
{
    type Response = Response<ResponseBody<ResB>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, B, ResB>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Request<B>) -> Self::Future {
        ResponseFuture::new(&self.settings, &mut self.inner, req, Settings::call_by_head)
    }
}

impl Settings {
    fn find<B>(&self, req: &Request<B>) -> Found {
        match &self.source {
            Source::One(_) => Found::Now(Answer::Anyones),
            Source::Tenants(tenants) => tenants.find(Head::of(req, &self.clock)),
        }
    }

    /// What checks the request that got this answer.
    fn check_of<'a>(&'a self, answer: &'a Answer) -> Check<'a> {
        let (scheme, tenant, refused) = match answer {
            Answer::Anyones => (self.source.scheme(), None, None),
            Answer::Known { name, scheme } => (&**scheme, Some(name), None),
            Answer::Refused { name, why } => (self.source.scheme(), name.as_ref(), Some(why)),
        };
        Check {
            settings: self,
            scheme,
            tenant,
            refused,
        }
    }

    /// Verifies the request and passes it on, or refuses it.
    fn call<S, ResB>(
        &self,
        inner: &mut S,
        mut req: Request<BufferedBody>,
        answer: &Answer,
    ) -> Answered<S::Future, ResB>
    where
        S: Service<Request<BufferedBody>>,
    {
        let check = self.check_of(answer);
        match check.verify(&req) {
            Ok((verified, claim)) => {
                let label = if self.label_responses {
                    verified.label().map(Box::new)
                } else {
                    None
                };
                // Replaces one that other code may have inserted.
                req.extensions_mut().insert(verified);
                Answered {
                    call: CallOrRefusal::called(inner.call(req)),
                    claim,
                    label,
                }
            }
            Err(reason) => check.refuse(reason),
        }
    }

    /// Passes the request on unless its head shows that it will be refused.
    fn call_by_head<S, B, ResB>(
        &self,
        inner: &mut S,
        req: Request<B>,
        answer: &Answer,
    ) -> Answered<S::Future, ResB>
    where
        S: Service<Request<B>>,
    {
        let check = self.check_of(answer);
        match check.verify_head(&Head::of(&req, &self.clock)) {
            Ok(()) => Answered {
                call: CallOrRefusal::called(inner.call(req)),
                claim: None,
                label: None,
            },
            Err(reason) => check.refuse(reason),
        }
    }
}

/// The check of one request.
struct Check<'a> {
    settings: &'a Settings,
    scheme: &'a dyn Scheme,
    /// The name that was read, of a tenant or not.
    tenant: Option<&'a Arc<str>>,
    /// Why the request is refused, whatever the scheme says.
    refused: Option<&'a SignatureError>,
}

impl Check<'_> {
    fn verify_head(&self, head: &Head<'_>) -> Result<(), SignatureError> {
        let result = match self.refused {
            None => self.scheme.verify_head(head),
            // A wrong signature in a good head is refused after the body, and so is an unknown tenant: an earlier
            // answer would tell.
            Some(SignatureError::UnknownTenant) if self.scheme.verify_head(head).is_ok() => Ok(()),
            Some(reason) => Err(reason.clone()),
        };
        if let Err(reason) = &result {
            Scope::verify(self.scheme.name()).enter(|| self.tell_refused(reason));
        }
        result
    }

    fn tell_refused(&self, reason: &SignatureError) {
        let of_tenant = OfTenant(self.tenant.map(|name| &**name), reason);
        self.settings.observers.tell(|| Event::Refused {
            // Several layers of a server have different schemes: who guesses at which credential?
            by: self.scheme.name(),
            reason: reason.as_str(),
            detail: Id::new(&of_tenant),
        });
    }

    fn verify(
        &self,
        req: &Request<BufferedBody>,
    ) -> Result<(Verified, Option<Claim>), SignatureError> {
        Scope::verify(self.scheme.name()).enter(|| {
            let result = self.check(req);
            match &result {
                Ok((verified, _)) => self.settings.observers.tell(|| Event::Verified {
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
        let verify = || self.scheme.verify(&Message::of(req, &self.settings.clock));
        if let Some(reason) = self.refused {
            if *reason == SignatureError::UnknownTenant {
                // Whatever it says: the decoy is asked for the time that it takes.
                let _ = black_box(verify());
            }
            return Err(reason.clone());
        }
        let mut verified = verify()?;
        verified.body = Some(req.body().as_bytes().clone());
        verified.tenant = self.tenant.cloned();
        let claim = match &self.settings.replays {
            Some((cache, window)) => {
                // That of the layer is the decoy's, where tenants have schemes of their own.
                let own = self.tenant.and_then(|_| self.scheme.replay_window());
                let window = own.map_or(*window, |own| own.max(*window));
                Some(cache.claim(&verified, req.body().as_bytes(), window)?)
            }
            None => None,
        };
        Ok((verified, claim))
    }

    #[cold]
    fn refuse<F, B>(&self, reason: SignatureError) -> Answered<F, B> {
        let mut response = self.settings.refuser.response(reason);
        if response.status() == StatusCode::UNAUTHORIZED
            && let Some(challenge) = self.scheme.challenge()
        {
            response
                .headers_mut()
                .entry(WWW_AUTHENTICATE)
                .or_insert(challenge);
        }
        Answered {
            call: CallOrRefusal::refused(response),
            claim: None,
            label: None,
        }
    }
}

/// A reason with the name of the tenant, which comes from the request: escaped.
struct OfTenant<'a>(Option<&'a str>, &'a SignatureError);

impl fmt::Display for OfTenant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            (Some(name), SignatureError::UnknownTenant) => {
                write!(f, "it names the tenant {name:?}, which does not exist")
            }
            (None, SignatureError::UnknownTenant) => {
                f.write_str("no name of a tenant was read from it")
            }
            (Some(name), reason) => write!(f, "{reason}; it names the tenant {name:?}"),
            (None, reason) => reason.fmt(f),
        }
    }
}

/// Response future of [`SignatureVerify`] and [`VerifyHead`]. Type parameters: the inner service, the body of its
/// requests and that of its responses.
#[must_use = "futures do nothing unless polled"]
#[pin_project]
pub struct ResponseFuture<S, B, ResB>
where
    S: Service<Request<B>>,
{
    #[pin]
    state: State<S, B, ResB, S::Future>,
}

#[pin_project(project = StateProj)]
enum State<S, B, ResB, F> {
    /// Boxed: the scheme of most requests is known.
    LookingUp {
        waiting: Option<Box<Waiting<S, B, ResB, F>>>,
    },
    Answered {
        #[pin]
        answered: Answered<F, ResB>,
    },
}

/// What is done with a request when its scheme is known.
type Proceed<S, B, ResB, F> = fn(&Settings, &mut S, Request<B>, &Answer) -> Answered<F, ResB>;

/// A request whose scheme is being looked up.
struct Waiting<S, B, ResB, F> {
    answer: BoxFuture<Answer>,
    inner: S,
    req: Request<B>,
    settings: Arc<Settings>,
    proceed: Proceed<S, B, ResB, F>,
}

/// A call, or a refusal.
#[pin_project]
struct Answered<F, B> {
    #[pin]
    call: CallOrRefusal<F, B>,
    /// Dropped with the call if there is no response: the message then counts as not received.
    claim: Option<Claim>,
    /// Boxed, because it is rarely asked for and as long as the rest.
    label: Option<Box<SecretLabel>>,
}

impl<S, B, ResB> ResponseFuture<S, B, ResB>
where
    S: Service<Request<B>> + Clone,
{
    #[inline]
    fn new(
        settings: &Arc<Settings>,
        inner: &mut S,
        req: Request<B>,
        proceed: Proceed<S, B, ResB, S::Future>,
    ) -> Self {
        let state = match settings.find(&req) {
            Found::Now(answer) => State::Answered {
                answered: proceed(settings, inner, req, &answer),
            },
            Found::Later(answer) => {
                // The future takes the instance that was polled ready, and leaves a clone.
                let spare = inner.clone();
                State::LookingUp {
                    waiting: Some(Box::new(Waiting {
                        answer,
                        inner: mem::replace(inner, spare),
                        req,
                        settings: settings.clone(),
                        proceed,
                    })),
                }
            }
        };
        Self { state }
    }
}

impl<S, B, ResB, E> Future for ResponseFuture<S, B, ResB>
where
    S: Service<Request<B>, Response = Response<ResB>, Error = E>,
{
    type Output = Result<Response<ResponseBody<ResB>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let answered = match state.as_mut().project() {
                StateProj::Answered { answered } => return answered.poll(cx),
                StateProj::LookingUp { waiting } => {
                    // Invariant: only taken below, on the way to `Answered`.
                    #[expect(clippy::expect_used, reason = "a future is not polled after its end")]
                    let lookup = waiting.as_mut().expect("polled after completion");
                    let answer = ready!(lookup.answer.as_mut().poll(cx));
                    #[expect(clippy::expect_used, reason = "it was there a line ago")]
                    let mut lookup = *waiting.take().expect("polled after completion");
                    let inner = &mut lookup.inner;
                    (lookup.proceed)(&lookup.settings, inner, lookup.req, &answer)
                }
            };
            state.set(State::Answered { answered });
        }
    }
}

impl<F, B, E> Future for Answered<F, B>
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

impl<S, B, ResB> fmt::Debug for ResponseFuture<S, B, ResB>
where
    S: Service<Request<B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// Verifies with this scheme, and the default settings.
impl<S: Scheme> From<S> for SignatureVerifyLayer {
    fn from(scheme: S) -> Self {
        Self::new(scheme)
    }
}
