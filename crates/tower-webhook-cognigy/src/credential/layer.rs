use super::{
    Credential, Kind,
    source::{Ask, Token, TokenSource},
};
use http::{
    HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header::AUTHORIZATION, uri::Scheme,
};
use pin_project::pin_project;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower_layer::Layer;
use tower_service::Service;
use tower_webhook::{BoxError, BoxFuture, IntoBoxError, InvalidConfig, target::TargetRules};

use super::error::TokenError;

/// Attaches a [`Credential`] to the requests to one origin, and to no others.
///
/// The [module docs](super) have an example, the order of layers, and what happens on 401.
#[derive(Clone, Debug)]
#[must_use]
pub struct CredentialLayer {
    credential: Credential,
    origin: Origin,
}

/// The service of [`CredentialLayer`].
#[derive(Clone, Debug)]
pub struct WithCredential<S> {
    inner: S,
    credential: Credential,
    origin: Origin,
}

impl CredentialLayer {
    /// Attaches `credential` to requests to the scheme, host and port of `origin`: an `https` URL, of which the rest does
    /// not count.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`], if `origin` is no `https` URL, or its host is a private address.
    pub fn new(credential: Credential, origin: &str) -> Result<Self, InvalidConfig> {
        Self::with_rules(credential, origin, TargetRules::new())
    }

    /// [`new`](Self::new) with rules that permit more: `http`, which shows the credential to the whole network, or private
    /// addresses.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`], if `origin` is no URL that the rules permit.
    pub fn with_rules(
        credential: Credential,
        origin: &str,
        rules: TargetRules,
    ) -> Result<Self, InvalidConfig> {
        let origin = Origin::read(origin, rules)?;
        Ok(Self { credential, origin })
    }

    #[cfg(feature = "routing")]
    pub(super) const fn origin(&self) -> &Origin {
        &self.origin
    }
}

impl<S> Layer<S> for CredentialLayer {
    type Service = WithCredential<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WithCredential {
            inner,
            credential: self.credential.clone(),
            origin: self.origin.clone(),
        }
    }
}

impl<S, B, R> Service<Request<B>> for WithCredential<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    S::Error: IntoBoxError,
    B: Clone,
{
    type Response = Response<R>;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future, S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut req: Request<B>) -> Self::Future {
        let is_ours = self.origin.is_of(req.uri());
        let step = match &self.credential.0 {
            Kind::None => Step::plain(self.inner.call(req)),
            Kind::Fixed { name, value } => {
                if is_ours {
                    req.headers_mut().insert(name, value.clone());
                } else {
                    let ours = secret(name, value);
                    keep_off(&mut req, name, |found| found == ours);
                }
                Step::plain(self.inner.call(req))
            }
            Kind::Token(source) if is_ours => {
                // The instance that was polled is the one that is called.
                let next = self.inner.clone();
                let round = Round {
                    service: std::mem::replace(&mut self.inner, next),
                    source: source.clone(),
                    request: req,
                    is_first: true,
                };
                match source.ask() {
                    Ask::Has(token) => round.send(token),
                    Ask::Waits(end) => Step::Waiting {
                        end,
                        round: Some(round),
                    },
                    Ask::Fails(error) => Step::failed(error.into()),
                }
            }
            Kind::Token(source) => {
                keep_off(&mut req, &AUTHORIZATION, |found| source.has_given(found));
                Step::plain(self.inner.call(req))
            }
        };
        ResponseFuture { step }
    }
}

/// Removes a copy of the credential from a request to another origin: whoever repeats a request elsewhere may have
/// copied its headers.
fn keep_off<B>(req: &mut Request<B>, name: &HeaderName, is_ours: impl Fn(&[u8]) -> bool) {
    let mut values = req.headers().get_all(name).iter();
    if values.any(|value| is_ours(secret(name, value))) {
        req.headers_mut().remove(name);
    }
}

/// What is secret in the value of this header. Of `Authorization` without the scheme, which can be spelled in other ways.
pub(super) fn secret<'a>(name: &HeaderName, value: &'a HeaderValue) -> &'a [u8] {
    let value = value.as_bytes();
    let space = |byte: &u8| *byte == b' ';
    match value.iter().position(space) {
        Some(at) if *name == AUTHORIZATION => value[at..].trim_ascii(),
        _ => value,
    }
}

/// Response future of [`WithCredential`].
#[must_use = "futures do nothing unless polled"]
#[pin_project]
pub struct ResponseFuture<F, S, B> {
    #[pin]
    step: Step<F, S, B>,
}

#[pin_project(project = StepProj)]
enum Step<F, S, B> {
    Called {
        #[pin]
        future: F,
        /// What a second call needs, if there may be one.
        again: Option<(Token, Round<S, B>)>,
    },
    /// Waits until the service is ready for the second call.
    Driving {
        call: Option<(Token, Round<S, B>)>,
    },
    Failed {
        error: Option<BoxError>,
    },
    Waiting {
        end: BoxFuture<Result<Token, TokenError>>,
        round: Option<Round<S, B>>,
    },
}

/// A call that needs a token.
struct Round<S, B> {
    /// Polled ready for the first call.
    service: S,
    source: TokenSource,
    request: Request<B>,
    is_first: bool,
}

impl<F, S, B> Step<F, S, B> {
    const fn plain(future: F) -> Self {
        Self::Called {
            future,
            again: None,
        }
    }

    const fn failed(error: BoxError) -> Self {
        Self::Failed { error: Some(error) }
    }
}

impl<F, S, B> ResponseFuture<F, S, B> {
    pub(super) const fn plain(future: F) -> Self {
        let step = Step::plain(future);
        Self { step }
    }

    pub(super) const fn failed(error: BoxError) -> Self {
        let step = Step::failed(error);
        Self { step }
    }
}

impl<S, B> Round<S, B> {
    /// Calls the service, which is ready. The first call keeps the request for a second one.
    fn send<R>(mut self, token: Token) -> Step<S::Future, S, B>
    where
        S: Service<Request<B>, Response = Response<R>>,
        B: Clone,
    {
        if self.is_first {
            let mut req = self.request.clone();
            req.headers_mut()
                .insert(AUTHORIZATION, token.header.clone());
            let future = self.service.call(req);
            self.is_first = false;
            return Step::Called {
                future,
                again: Some((token, self)),
            };
        }
        self.request
            .headers_mut()
            .insert(AUTHORIZATION, token.header);
        Step::plain(self.service.call(self.request))
    }
}

impl<F, S, B, R> Future for ResponseFuture<F, S, B>
where
    S: Service<Request<B>, Response = Response<R>, Future = F>,
    S::Error: IntoBoxError,
    F: Future<Output = Result<Response<R>, S::Error>>,
    B: Clone,
{
    type Output = Result<Response<R>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Each step is left with what it held: what it holds is there once.
        const TAKEN: &str = "polled after completion";
        let mut step = self.project().step;
        loop {
            let next = match step.as_mut().project() {
                StepProj::Called { future, again } => {
                    let result = ready!(future.poll(cx)).map_err(Into::into);
                    let is_unauthorized =
                        matches!(&result, Ok(res) if res.status() == StatusCode::UNAUTHORIZED);
                    match again.take() {
                        Some((token, round))
                            if is_unauthorized && round.source.rejected(&token) =>
                        {
                            match round.source.ask() {
                                Ask::Has(token) => Step::Driving {
                                    call: Some((token, round)),
                                },
                                Ask::Waits(end) => Step::Waiting {
                                    end,
                                    round: Some(round),
                                },
                                Ask::Fails(error) => Step::failed(error.into()),
                            }
                        }
                        _ => return Poll::Ready(result),
                    }
                }
                StepProj::Driving { call } => {
                    let Some((_, round)) = call else {
                        panic!("{TAKEN}");
                    };
                    ready!(round.service.poll_ready(cx)).map_err(Into::into)?;
                    match call.take() {
                        Some((token, round)) => round.send(token),
                        None => panic!("{TAKEN}"),
                    }
                }
                StepProj::Failed { error } => match error.take() {
                    Some(error) => return Poll::Ready(Err(error)),
                    None => panic!("{TAKEN}"),
                },
                StepProj::Waiting { end, round } => {
                    let token = ready!(end.as_mut().poll(cx))?;
                    match round.take() {
                        Some(round) if round.is_first => round.send(token),
                        Some(round) => Step::Driving {
                            call: Some((token, round)),
                        },
                        None => panic!("{TAKEN}"),
                    }
                }
            };
            step.set(next);
        }
    }
}

impl<F, S, B> fmt::Debug for ResponseFuture<F, S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// Scheme, host and port.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Origin {
    scheme: Scheme,
    host: Box<str>,
    port: u16,
}

impl Origin {
    fn read(url: &str, rules: TargetRules) -> Result<Self, InvalidConfig> {
        // The value is not shown: a URL may have a password in it.
        let invalid = |problem: &str| InvalidConfig::new("origin", problem);
        let uri: Uri = url.parse().map_err(|_| invalid("must be an https URL"))?;
        rules
            .check(&uri)
            .map_err(|error| invalid(&format!("is not permitted: {error}")))?;
        let (Some(scheme), Some(host), Some(port)) = (uri.scheme(), uri.host(), port(&uri)) else {
            return Err(invalid("must be an https URL"));
        };
        Ok(Self {
            scheme: scheme.clone(),
            host: host.into(),
            port,
        })
    }

    pub(super) fn is_of(&self, uri: &Uri) -> bool {
        uri.scheme() == Some(&self.scheme)
            && uri
                .host()
                .is_some_and(|host| host.eq_ignore_ascii_case(&self.host))
            && port(uri) == Some(self.port)
    }
}

/// The port of a URL, or that of its scheme.
fn port(uri: &Uri) -> Option<u16> {
    uri.port_u16().or_else(|| match uri.scheme_str()? {
        "https" => Some(443),
        "http" => Some(80),
        _ => None,
    })
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme, self.host, self.port)
    }
}
