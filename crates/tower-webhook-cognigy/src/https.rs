//! An HTTPS client for the bottom of a stack: hyper-util and rustls, restricted by [`TargetRules`].
//!
//! It has no default headers, no cookies, no proxy, and follows no redirect, so a credential that is attached to a request
//! goes to the host of that request and nowhere else. Certificates are checked against the roots of Mozilla, which are
//! compiled in, and those that are [added](HttpsClientBuilder::root_certificates); one that is refused is not tried again.
//! A host that does not take the connection is given up after 10 s, and one that sends more than 16 interim answers (1xx)
//! at once; the rest of a call has no time limit here.
//! The cryptography is `ring`, whatever the process's default provider is.
//!
//! # Examples
//!
//! ```
//! use http::Request;
//! use tower::ServiceExt;
//! use tower_webhook::{body::BufferedBody, outcome::OutcomeKind};
//! use tower_webhook_cognigy::https::HttpsClient;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_webhook::BoxError> {
//! let client = HttpsClient::new();
//! let req = Request::get("https://127.0.0.1/").body(BufferedBody::default())?;
//! let error = client.oneshot(req).await.unwrap_err(); // not a public address
//! assert_eq!(error.outcome().kind(), OutcomeKind::Unsendable);
//! # Ok(())
//! # }
//! ```
//!
//! # Cancel safety
//!
//! Dropping the future of a call closes its connection, unless the response is complete.

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        self,
        connect::{HttpConnector, dns::GaiResolver},
    },
    rt::{TokioExecutor, TokioTimer},
};
use pin_project::pin_project;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use std::{
    error::Error,
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tower_service::Service;
use tower_webhook::{
    InvalidConfig,
    body::BufferedBody,
    outcome::{Outcome, TransportError},
    target::{GuardedResolver, TargetRules},
    transport::{self, InterimFlood, InterimLimited},
};

/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(30);

/// The time limit of a connection over all addresses of the host (S0, S2).
const CONNECT: Duration = Duration::from_secs(10);

type Inner =
    legacy::Client<HttpsConnector<HttpConnector<GuardedResolver<GaiResolver>>>, BufferedBody>;

/// An HTTPS client. Clones share its connections.
#[derive(Clone)]
pub struct HttpsClient {
    client: transport::Hyper<Inner>,
    rules: TargetRules,
}

impl HttpsClient {
    /// A client with the defaults: `https` to public addresses, and the roots of Mozilla.
    pub fn new() -> Self {
        Self::of(Roots::default(), TargetRules::new())
    }

    /// Starts a client with other settings.
    pub fn builder() -> HttpsClientBuilder {
        HttpsClientBuilder::default()
    }

    fn of(roots: Roots, rules: TargetRules) -> Self {
        let mut connector = HttpConnector::new_with_resolver(rules.resolver(GaiResolver::new()));
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(CONNECT));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(roots.config())
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            // What is sent again is counted: the layers outside decide it.
            .retry_canceled_requests(false)
            .build(connector);
        Self {
            client: transport::hyper(client),
            rules,
        }
    }
}

impl Default for HttpsClient {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for HttpsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpsClient")
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

/// Builder of an [`HttpsClient`].
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct HttpsClientBuilder {
    rules: TargetRules,
    roots: Roots,
}

impl HttpsClientBuilder {
    /// Sets where requests may be sent. Default: `https`, and public addresses.
    pub const fn rules(mut self, rules: TargetRules) -> Self {
        self.rules = rules;
        self
    }

    /// Adds root certificates, as PEM, beside those of Mozilla: for a company's own authority. Default: none.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] names `root_certificates` if the text has no certificate, or one that cannot be read.
    pub fn root_certificates(mut self, pem: &[u8]) -> Result<Self, InvalidConfig> {
        self.roots.add(pem)?;
        Ok(self)
    }

    /// Builds the client.
    pub fn build(self) -> HttpsClient {
        HttpsClient::of(self.roots, self.rules)
    }
}

/// The certificates that are trusted.
#[derive(Clone)]
pub(crate) struct Roots(RootCertStore);

impl Default for Roots {
    fn default() -> Self {
        Self(RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        })
    }
}

impl Roots {
    /// Adds the certificates of a PEM text.
    pub(crate) fn add(&mut self, pem: &[u8]) -> Result<(), InvalidConfig> {
        let wrong = |why: &str| InvalidConfig::new("root_certificates", why);
        let mut found = false;
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|_| wrong("is no PEM"))?;
            let added = self.0.add(certificate);
            added.map_err(|_| wrong("has a certificate that is no root"))?;
            found = true;
        }
        if found {
            Ok(())
        } else {
            Err(wrong("has no certificate"))
        }
    }

    /// The settings of TLS: versions 1.2 and 1.3, without a client certificate.
    pub(crate) fn config(self) -> ClientConfig {
        let provider = Arc::new(ring::default_provider());
        let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
        #[allow(
            clippy::expect_used,
            reason = "ring has cipher suites of both versions"
        )]
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .expect("ring knows these versions");
        builder.with_root_certificates(self.0).with_no_client_auth()
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Roots({})", self.0.len())
    }
}

impl Service<Request<BufferedBody>> for HttpsClient {
    type Response = Response<Incoming>;
    type Error = TransportError;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Service::<Request<BufferedBody>>::poll_ready(&mut self.client, cx)
    }

    fn call(&mut self, mut req: Request<BufferedBody>) -> Self::Future {
        // The connector asks the resolver about names only: addresses in a URL are checked here.
        ResponseFuture(match self.rules.check(req.uri()) {
            Ok(()) => {
                let flood = InterimFlood::of(&mut req);
                State::Called(flood.limit(self.client.call(req)))
            }
            Err(error) => State::Forbidden(Some(TransportError::new(Outcome::unsendable(), error))),
        })
    }
}

/// The future of an [`HttpsClient`].
#[pin_project]
pub struct ResponseFuture(#[pin] State);

#[pin_project(project = StateProj)]
enum State {
    Called(#[pin] InterimLimited<transport::ResponseFuture<legacy::ResponseFuture>>),
    Forbidden(Option<TransportError>),
}

impl Future for ResponseFuture {
    type Output = Result<Response<Incoming>, TransportError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().0.project() {
            StateProj::Called(call) => call.poll(cx).map_err(settled),
            StateProj::Forbidden(error) => {
                // A future is not polled after its end.
                error
                    .take()
                    .map_or(Poll::Pending, |error| Poll::Ready(Err(error)))
            }
        }
    }
}

/// A certificate that is refused is refused again: such an error is no reason to try again.
fn settled(error: TransportError) -> TransportError {
    if is_of_certificate(&error) {
        TransportError::new(Outcome::permanent(), error)
    } else {
        error
    }
}

fn is_of_certificate(error: &(dyn Error + 'static)) -> bool {
    if let Some(tls) = error.downcast_ref() {
        return matches!(tls, rustls::Error::InvalidCertificate(_));
    }
    // `source` of an I/O error leaves out the error that it was made of.
    let made_of = error.downcast_ref().and_then(io::Error::get_ref);
    let next = made_of.map(|inner| inner as _).or_else(|| error.source());
    next.is_some_and(is_of_certificate)
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
