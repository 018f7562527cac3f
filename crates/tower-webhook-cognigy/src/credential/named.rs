use super::{CredentialLayer, ResponseFuture};
use http::{Request, Response};
use std::{
    collections::HashMap,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};
use tower_layer::Layer;
use tower_service::Service;
use tower_webhook::{BoxError, IntoBoxError, InvalidConfig, outcome::Unsendable};

/// The name of a credential in [`Credentials`]: an extension of the requests that need it.
///
/// Configuration, such as a routing definition, has the name and never the credential itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CredentialName(Arc<str>);

impl CredentialName {
    /// A name of 1 to 128 characters, none of which is a control character or white space.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] if it is something else, such as the credential itself with its `Bearer`.
    pub fn new(name: impl Into<Arc<str>>) -> Result<Self, InvalidConfig> {
        let name = name.into();
        let unusual = |char: char| char.is_control() || char.is_whitespace();
        if !(1..=128).contains(&name.chars().count()) || name.contains(unusual) {
            let problem =
                "must be a name of 1 to 128 characters without spaces: not the credential itself";
            return Err(InvalidConfig::new("credential", problem));
        }
        Ok(Self(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CredentialName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Several credentials, each with a name and for one origin, as a layer: a request with a [`CredentialName`] as its
/// extension gets the one of that name, and a request without gets none.
///
/// A request that names one which is not there is not sent ([`Unsendable`]); one to another origin than the credential's
/// passes without it, as with [`CredentialLayer`]. Clones are cheap.
///
/// # Examples
///
/// ```
/// # use std::convert::Infallible;
/// # use http::{Request, Response, header::AUTHORIZATION};
/// # use tower::service_fn;
/// # use tower_webhook::{BoxError, body::BufferedBody};
/// use tower::{Layer, ServiceExt};
/// use tower_webhook_cognigy::credential::{Credential, CredentialLayer, CredentialName, Credentials};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// # let client = service_fn(|req: Request<BufferedBody>| async move {
/// #     Ok::<_, Infallible>(Response::new(req.headers().get(AUTHORIZATION).cloned()))
/// # });
/// let crm = CredentialLayer::new(Credential::bearer("t-1")?, "https://crm.example.com")?;
/// let credentials = Credentials::new().with(CredentialName::new("crm")?, crm);
///
/// let request = Request::post("https://crm.example.com/events").extension(CredentialName::new("crm")?);
/// let response = credentials.layer(client).oneshot(request.body(BufferedBody::default())?).await?;
/// assert_eq!(response.into_body().unwrap(), "Bearer t-1");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Credentials(Arc<HashMap<CredentialName, CredentialLayer>>);

/// The service of [`Credentials`].
#[derive(Clone, Debug)]
pub struct WithNamed<S> {
    inner: S,
    credentials: Credentials,
}

impl Credentials {
    /// No credentials.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one, or replaces the one of this name.
    #[must_use]
    pub fn with(mut self, name: CredentialName, credential: CredentialLayer) -> Self {
        Arc::make_mut(&mut self.0).insert(name, credential);
        self
    }

    /// Whether there is one of this name.
    pub(super) fn contains(&self, name: &CredentialName) -> bool {
        self.0.contains_key(name)
    }

    /// Whether there is one of this name for the origin of `target`.
    ///
    /// # Errors
    ///
    /// Says that there is none, or for which origin it is.
    #[cfg(feature = "routing")]
    pub(crate) fn check(&self, name: &CredentialName, target: &http::Uri) -> Result<(), String> {
        match self.0.get(name) {
            None => Err(format!("there is no credential `{name}`")),
            Some(layer) if layer.origin().is_of(target) => Ok(()),
            Some(layer) => Err(format!(
                "the credential `{name}` is for {:?} and no other origin",
                layer.origin()
            )),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl<S> Layer<S> for Credentials {
    type Service = WithNamed<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WithNamed {
            inner,
            credentials: self.clone(),
        }
    }
}

impl<S, B, R> Service<Request<B>> for WithNamed<S>
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

    fn call(&mut self, req: Request<B>) -> Self::Future {
        let Some(name) = req.extensions().get::<CredentialName>() else {
            return ResponseFuture::plain(self.inner.call(req));
        };
        let Some(layer) = self.credentials.0.get(name) else {
            let why = format!("there is no credential `{name}`");
            return ResponseFuture::failed(Unsendable::because(why).into());
        };
        // The instance that was polled is the one that is called.
        let next = self.inner.clone();
        let polled = std::mem::replace(&mut self.inner, next);
        layer.layer(polled).call(req)
    }
}
