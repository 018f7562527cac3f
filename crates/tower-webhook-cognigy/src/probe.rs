//! Whether a target can be reached, and with which version of TLS: asked before it is registered.
//!
//! The probe is that of the documents S1 and S2 (no official trace; of the platform only Voice Gateway documents "TLS
//! 1.2 and later"): a `GET` of the target with `User-Agent: Cognigy-Webhook-Validator/1.0`. It carries no credentials,
//! follows no redirect, and stays within the [`TargetRules`]. The version of TLS is read from the handshake.
//!
//! # Examples
//!
//! ```
//! use tower_webhook_cognigy::probe::{Probe, ProbeError};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let probe = Probe::new();
//!
//! // Not sent at all: the target is at a private address.
//! let report = probe.check(&"https://127.0.0.1:8443/hooks".parse()?).await;
//! assert!(!report.is_reachable());
//! assert!(matches!(report.error(), Some(ProbeError::Forbidden(_))));
//! assert_eq!(
//!     serde_json::to_value(&report)?["error_message"],
//!     "Connection failed: the target is not at a public address, and others are not permitted (`allow_private`)",
//! );
//! # Ok(())
//! # }
//! ```
//!
//! # Reachable
//!
//! The documents have two notions, and the report has both:
//!
//! | Method | Reachable is | Source |
//! | --- | --- | --- |
//! | [`ProbeReport::is_reachable`] | an answer with any status | S2 |
//! | [`ProbeReport::answers_well`] | an answer with a status from 200 to 399 | S1, as `endpoint_reachable` |
//! | [`ProbeReport::has_accepted_tls`] | TLS 1.2 or 1.3 was negotiated, whatever the answer | S2's gate before a registration |
//!
//! # Settings
//!
//! | Setting | Default | Meaning |
//! | --- | --- | --- |
//! | [`Probe::rules`] | `https` and public addresses | which targets are asked at all |
//! | [`Probe::time_limit`] | 5 s | time limit of the whole probe |
//! | [`Probe::root_certificates`] | those of Mozilla | adds certificates of private authorities |
//!
//! # Cancel safety
//!
//! Dropping the future of a probe closes its connection.

use http::{HeaderValue, Request, StatusCode, Uri, header, uri::Scheme};
use hyper::client::conn::http1;
use hyper_util::{
    client::legacy::connect::{HttpConnector, dns::GaiResolver},
    rt::TokioIo,
};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, InvalidMessage,
    OtherError, PeerIncompatible, ProtocolVersion, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::ring,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use serde::{Deserialize, Serialize, Serializer};
use std::{
    error::Error, fmt, future::poll_fn, io, iter, pin::pin, sync::Arc, task::Poll, time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower::{ServiceExt, util::MapErr};
use tower_webhook::{
    InvalidConfig,
    body::BufferedBody,
    target::{ForbiddenTarget, TargetRules},
    transport::InterimFlood,
};

/// What the probe says it is (S1).
const USER_AGENT: &str = "Cognigy-Webhook-Validator/1.0";

/// The longest time limit of a probe.
const MAX_TIME: Duration = Duration::from_secs(5 * 60);

/// The most of another's words in an error.
const MAX_TEXT: usize = 200;

/// Asks a target whether it is there. See the [module docs](self).
#[derive(Clone, Debug)]
#[must_use]
pub struct Probe {
    rules: TargetRules,
    time_limit: Duration,
    roots: RootCertStore,
    tls: Arc<ClientConfig>,
}

impl Probe {
    /// A probe that trusts the authorities that Mozilla does, with the defaults of the [module docs](self).
    pub fn new() -> Self {
        let roots: RootCertStore = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
        Self {
            rules: TargetRules::new(),
            time_limit: Duration::from_secs(5),
            tls: tls(roots.clone()),
            roots,
        }
    }

    /// Sets which targets are asked at all; the others are [`ProbeError::Forbidden`]. They hold for the URL and for
    /// the addresses to which it is resolved. Default: `https` and public addresses.
    pub const fn rules(mut self, rules: TargetRules) -> Self {
        self.rules = rules;
        self
    }

    /// Sets the time limit of the whole probe, from the name's resolution to the head of the answer. Default: 5 s, as
    /// in S1; S2 has 10 s.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `time_limit` unless it is longer than zero and at most 5 minutes.
    pub fn time_limit(mut self, limit: Duration) -> Result<Self, InvalidConfig> {
        if limit.is_zero() || limit > MAX_TIME {
            let problem = "must be longer than zero and at most 5 minutes";
            return Err(InvalidConfig::new("time_limit", problem));
        }
        self.time_limit = limit;
        Ok(self)
    }

    /// Adds the certificates of private authorities, in PEM, to those that are trusted. Default: none are added.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `root_certificates` if there is no certificate, or one that cannot be read.
    pub fn root_certificates(mut self, pem: impl AsRef<[u8]>) -> Result<Self, InvalidConfig> {
        let unfit = |problem: String| InvalidConfig::new("root_certificates", problem);
        let before = self.roots.len();
        for certificate in CertificateDer::pem_slice_iter(pem.as_ref()) {
            let certificate = certificate.map_err(|error| unfit(format!("are no PEM: {error}")))?;
            let added = self.roots.add(certificate);
            added.map_err(|error| unfit(format!("have one that cannot be used: {error}")))?;
        }
        if self.roots.len() == before {
            return Err(unfit("must have a certificate".to_owned()));
        }
        self.tls = tls(self.roots.clone());
        Ok(self)
    }

    /// Asks the target. It never fails: the report says why there was no answer.
    pub async fn check(&self, target: &Uri) -> ProbeReport {
        let begin = Instant::now();
        let mut reached = Reached::default();
        let asked = timeout(self.time_limit, self.ask(target, &mut reached)).await;
        let Reached { tls, step } = reached;
        let answer = match asked {
            Ok(Ok(status)) => Ok((status, begin.elapsed())),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(ProbeError::Timeout(step)),
        };
        ProbeReport { answer, tls }
    }

    /// Connects to the target, with the handshake of TLS, and sends no request: for a target that counts requests. The
    /// version of TLS, or `None` for `http`.
    ///
    /// # Errors
    ///
    /// [`ProbeError`] says why there is no connection.
    pub async fn connect(&self, target: &Uri) -> Result<Option<TlsVersion>, ProbeError> {
        let mut reached = Reached::default();
        match timeout(self.time_limit, self.open(target, &mut reached)).await {
            Ok(opened) => opened.map(|_| reached.tls),
            Err(_) => Err(ProbeError::Timeout(reached.step)),
        }
    }

    async fn ask(&self, target: &Uri, reached: &mut Reached) -> Result<StatusCode, ProbeError> {
        match self.open(target, reached).await? {
            Opened::Plain(stream) => get(stream, target).await,
            Opened::Tls(stream) => get(stream, target).await,
        }
    }

    async fn open(&self, target: &Uri, reached: &mut Reached) -> Result<Opened, ProbeError> {
        self.rules.check(target).map_err(ProbeError::Forbidden)?;
        let stream = self.stream(target).await?;
        if target.scheme() == Some(&Scheme::HTTP) {
            reached.step = ProbeStep::Answer;
            return Ok(Opened::Plain(stream));
        }
        reached.step = ProbeStep::Handshake;
        let host = target.host().unwrap_or_default();
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let host = ServerName::try_from(host).map_err(|error| ProbeError::tls(&error))?;
        let stream = TlsConnector::from(Arc::clone(&self.tls))
            .connect(host, stream)
            .await
            .map_err(|error| ProbeError::of(&error))?;
        let (_, session) = stream.get_ref();
        reached.tls = session.protocol_version().map(TlsVersion::of);
        reached.step = ProbeStep::Answer;
        Ok(Opened::Tls(Box::new(stream)))
    }

    async fn stream(&self, target: &Uri) -> Result<TcpStream, ProbeError> {
        let resolver = MapErr::new(GaiResolver::new(), |error: io::Error| Unresolved(error));
        let mut connector = HttpConnector::new_with_resolver(self.rules.resolver(resolver));
        connector.enforce_http(false);
        // Shared among the addresses of the name.
        connector.set_connect_timeout(Some(self.time_limit));
        match connector.oneshot(target.clone()).await {
            Ok(stream) => Ok(stream.into_inner()),
            Err(error) => Err(ProbeError::of_connect(&error)),
        }
    }
}

impl Default for Probe {
    fn default() -> Self {
        Self::new()
    }
}

/// A connection over which nothing was asked yet.
enum Opened {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// How far a probe came.
#[derive(Default)]
struct Reached {
    tls: Option<TlsVersion>,
    step: ProbeStep,
}

/// Sends the request and waits for the head of the answer.
async fn get(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    target: &Uri,
) -> Result<StatusCode, ProbeError> {
    let of = |error: hyper::Error| ProbeError::of_answer(&error);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(of)?;
    let mut req = Request::new(BufferedBody::default());
    let path = target.path_and_query().cloned();
    *req.uri_mut() = path.map_or_else(Uri::default, Uri::from);
    let headers = req.headers_mut();
    let host = target
        .authority()
        .map_or("", |authority| authority.as_str());
    if let Ok(host) = HeaderValue::from_str(host) {
        headers.insert(header::HOST, host);
    }
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));

    let mut flood = pin!(InterimFlood::of(&mut req));
    // Both in this task, so that nothing is left when the probe is dropped.
    let (mut connection, mut answer) = (pin!(connection), pin!(sender.send_request(req)));
    let mut ended = false;
    poll_fn(|cx| {
        if flood.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(ProbeError::NotHttp));
        }
        if !ended && let Poll::Ready(end) = connection.as_mut().poll(cx) {
            ended = true;
            end.map_err(of)?;
        }
        answer.as_mut().poll(cx).map_err(of)
    })
    .await
    .map(|answer| answer.status())
}

/// What a probe found.
///
/// As JSON it is S2's `ReachabilityResult`: `is_reachable`, `tls_version` (`"none"` without TLS), `response_time_ms`
/// (two decimals; zero without an answer), `status_code` (zero without an answer), and `error_message` if there was no
/// answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeReport {
    answer: Result<(StatusCode, Duration), ProbeError>,
    tls: Option<TlsVersion>,
}

impl ProbeReport {
    /// Whether the target answered, with whatever status (S2).
    pub const fn is_reachable(&self) -> bool {
        self.answer.is_ok()
    }

    /// Whether the target answered with a status from 200 to 399 (S1's `endpoint_reachable`). A redirect counts, and is
    /// not followed.
    pub fn answers_well(&self) -> bool {
        let status = self.status();
        status.is_some_and(|status| (200..400).contains(&status.as_u16()))
    }

    /// Whether a version of TLS was negotiated that deliveries may have: 1.2 or 1.3. It may have been although no answer
    /// came then.
    pub const fn has_accepted_tls(&self) -> bool {
        matches!(self.tls, Some(TlsVersion::Tls12 | TlsVersion::Tls13))
    }

    /// The status of the answer.
    pub fn status(&self) -> Option<StatusCode> {
        self.answer.as_ref().ok().map(|(status, _)| *status)
    }

    /// The time from the beginning of the probe to the head of the answer, with the connection.
    pub fn response_time(&self) -> Option<Duration> {
        self.answer.as_ref().ok().map(|(_, time)| *time)
    }

    /// The version of TLS that was negotiated.
    pub const fn tls_version(&self) -> Option<&TlsVersion> {
        self.tls.as_ref()
    }

    /// Why there was no answer.
    pub fn error(&self) -> Option<&ProbeError> {
        self.answer.as_ref().err()
    }
}

impl Serialize for ProbeReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Wire<'a> {
            is_reachable: bool,
            tls_version: &'a str,
            response_time_ms: f64,
            status_code: u16,
            #[serde(skip_serializing_if = "Option::is_none")]
            error_message: Option<String>,
        }
        let time = self.response_time().unwrap_or_default();
        Wire {
            is_reachable: self.is_reachable(),
            tls_version: self.tls.as_ref().map_or("none", TlsVersion::as_str),
            response_time_ms: (time.as_secs_f64() * 100_000.0).round() / 100.0,
            status_code: self.status().map_or(0, |status| status.as_u16()),
            error_message: self
                .error()
                .map(|error| format!("{}: {error}", error.prefix())),
        }
        .serialize(serializer)
    }
}

/// A version of TLS, by the name that OpenSSL and the documents have for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
#[non_exhaustive]
pub enum TlsVersion {
    /// `TLSv1.2`
    Tls12,
    /// `TLSv1.3`
    Tls13,
    /// Another one, of which this crate knows only the name.
    Other(Box<str>),
}

impl TlsVersion {
    fn of(version: ProtocolVersion) -> Self {
        match version {
            ProtocolVersion::TLSv1_2 => Self::Tls12,
            ProtocolVersion::TLSv1_3 => Self::Tls13,
            other => Self::Other(format!("{other:?}").into()),
        }
    }

    /// The name, such as `TLSv1.3`.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Tls12 => "TLSv1.2",
            Self::Tls13 => "TLSv1.3",
            Self::Other(name) => name,
        }
    }
}

impl From<&str> for TlsVersion {
    fn from(name: &str) -> Self {
        match name {
            "TLSv1.2" => Self::Tls12,
            "TLSv1.3" => Self::Tls13,
            other => Self::Other(other.into()),
        }
    }
}

impl From<String> for TlsVersion {
    fn from(name: String) -> Self {
        Self::from(&*name)
    }
}

impl From<TlsVersion> for String {
    fn from(version: TlsVersion) -> Self {
        version.as_str().to_owned()
    }
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a probe got no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProbeError {
    /// The certificate of the target is not to be trusted.
    Certificate(CertificateProblem),
    /// The target ended the connection before it answered.
    Closed,
    /// The rules do not permit the target, or none of the addresses of its name.
    Forbidden(ForbiddenTarget),
    /// The target answered with something else than HTTP/1, or with interim answers (1xx) alone: more than 16.
    NotHttp,
    /// The target answered with something else than TLS, as a server for `http` does.
    NotTls,
    /// The target has no version of TLS from 1.2 on, and says so. One that refuses with `handshake_failure` instead, as some
    /// servers do, is [`Tls`](Self::Tls): it says the same when it has the version and no cipher in common.
    OldTls,
    /// The handshake failed for another reason, in the words of the TLS library.
    Tls(Box<str>),
    /// No answer within the time limit. The step that was not done in time.
    Timeout(ProbeStep),
    /// No connection: refused, or no way to the host.
    Unreachable(io::ErrorKind),
    /// The name of the host has no address.
    Unresolved,
}

/// A step of a probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProbeStep {
    /// Waiting for the answer.
    Answer,
    /// Resolving the name and connecting.
    #[default]
    Connect,
    /// The TLS handshake.
    Handshake,
}

/// What is wrong with a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateProblem {
    /// It has expired.
    Expired,
    /// It is not valid yet.
    NotYetValid,
    /// It cannot be read, or may not be used for a server; in the words of the TLS library.
    Other(Box<str>),
    /// It is for another host.
    OtherHost,
    /// It was revoked.
    Revoked,
    /// It names itself as its issuer, and is not among the trusted ones.
    SelfSigned,
    /// It was issued by an authority that is not trusted, or a certificate between them was not sent.
    UnknownIssuer,
}

impl ProbeError {
    fn tls(error: &dyn Error) -> Self {
        Self::Tls(bounded(error))
    }

    /// An error of the handshake.
    fn of(error: &io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        inner.map_or(Self::Closed, Self::of_tls)
    }

    fn of_tls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::AlertReceived(AlertDescription::ProtocolVersion)
            | rustls::Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
            ) => Self::OldTls,
            rustls::Error::InvalidCertificate(error) => {
                Self::Certificate(CertificateProblem::of(error))
            }
            rustls::Error::InvalidMessage(
                InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
            ) => Self::NotTls,
            other => Self::tls(other),
        }
    }

    /// An error of the connector.
    fn of_connect(error: &(dyn Error + 'static)) -> Self {
        for link in links(error) {
            if let Some(forbidden) = link.downcast_ref::<ForbiddenTarget>() {
                return Self::Forbidden(*forbidden);
            }
            if link.is::<Unresolved>() {
                return Self::Unresolved;
            }
            if let Some(error) = link.downcast_ref::<io::Error>() {
                return match error.kind() {
                    io::ErrorKind::TimedOut => Self::Timeout(ProbeStep::Connect),
                    kind => Self::Unreachable(kind),
                };
            }
        }
        Self::Unreachable(io::ErrorKind::Other)
    }

    /// An error after the handshake. With TLS 1.3 a server refuses there too, such as for want of a client certificate.
    fn of_answer(error: &hyper::Error) -> Self {
        let tls = links(error).find_map(|link| link.downcast_ref::<rustls::Error>());
        match tls {
            Some(error) => Self::of_tls(error),
            None if error.is_parse() => Self::NotHttp,
            None => Self::Closed,
        }
    }

    /// What S2 writes before the message.
    const fn prefix(&self) -> &'static str {
        match self {
            Self::Timeout(_) => "Timeout",
            Self::Closed | Self::NotHttp => "Unexpected error",
            _ => "Connection failed",
        }
    }
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(problem) => write!(f, "the certificate {problem}"),
            Self::Closed => f.write_str("the target ended the connection before it answered"),
            Self::Forbidden(forbidden) => forbidden.fmt(f),
            Self::NotHttp => f.write_str("the answer is not HTTP/1"),
            Self::NotTls => f.write_str("the target does not speak TLS on this port"),
            Self::OldTls => f.write_str("the target has no TLS version from 1.2 on"),
            Self::Tls(what) => write!(f, "the TLS handshake failed: {what}"),
            Self::Timeout(ProbeStep::Answer) => f.write_str("no answer in time"),
            Self::Timeout(ProbeStep::Connect) => f.write_str("no connection in time"),
            Self::Timeout(ProbeStep::Handshake) => f.write_str("no TLS handshake in time"),
            Self::Unreachable(kind) => kind.fmt(f),
            Self::Unresolved => f.write_str("the name of the host has no address"),
        }
    }
}

impl Error for ProbeError {}

impl CertificateProblem {
    fn of(error: &CertificateError) -> Self {
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotYetValid
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::OtherHost
            }
            CertificateError::Revoked => Self::Revoked,
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::Other(OtherError(error)) if error.is::<SelfSigned>() => {
                Self::SelfSigned
            }
            other => Self::Other(bounded(other)),
        }
    }
}

impl fmt::Display for CertificateProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired => f.write_str("has expired"),
            Self::NotYetValid => f.write_str("is not valid yet"),
            Self::Other(what) => write!(f, "is not valid: {what}"),
            Self::OtherHost => f.write_str("is for another host"),
            Self::Revoked => f.write_str("was revoked"),
            Self::SelfSigned => f.write_str("was issued by itself, and is not among the trusted ones"),
            Self::UnknownIssuer => f.write_str(
                "was issued by an authority that is not trusted, or a certificate between them was not sent",
            ),
        }
    }
}

/// The words of an error, in which a peer's may be.
fn bounded(error: &(impl fmt::Display + ?Sized)) -> Box<str> {
    let text: String = error.to_string().chars().take(MAX_TEXT).collect();
    text.into()
}

/// An error and its sources. What an [`io::Error`] wraps is one of them, which [`Error::source`] leaves out.
fn links<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |&error: &&'a (dyn Error + 'static)| {
        let io = error.downcast_ref::<io::Error>();
        match io.and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

/// The resolver failed.
#[derive(Debug)]
struct Unresolved(io::Error);

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Unresolved {}

/// TLS 1.2 and 1.3, and HTTP/1.1.
fn tls(roots: RootCertStore) -> Arc<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
    // Invariant: there are roots, and no revocation lists that could be unfit.
    #[expect(clippy::expect_used, reason = "it fails without roots")]
    let verifier = verifier.build().expect("roots");
    // Invariant: this provider has cipher suites for both versions.
    #[expect(clippy::expect_used, reason = "it fails without cipher suites")]
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("cipher suites");
    let mut config = config
        // Nothing that the verifier refuses is accepted: it only says more about why.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier(verifier)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// Tells certificates that were issued by themselves from those of an unknown issuer.
#[derive(Debug)]
struct Verifier(Arc<WebPkiServerVerifier>);

/// The certificate was issued by itself.
#[derive(Debug)]
struct SelfSigned;

impl fmt::Display for SelfSigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("self-signed")
    }
}

impl Error for SelfSigned {}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self
            .0
            .verify_server_cert(end_entity, intermediates, host, ocsp, now);
        verified.map_err(|error| match error {
            rustls::Error::InvalidCertificate(
                // Other: one that is its own authority is not a server's.
                CertificateError::UnknownIssuer | CertificateError::Other(_),
            ) if is_self_signed(end_entity) => {
                CertificateError::Other(OtherError(Arc::new(SelfSigned))).into()
            }
            other => other,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Whether its issuer is its subject.
fn is_self_signed(certificate: &CertificateDer<'_>) -> bool {
    let read = webpki::EndEntityCert::try_from(certificate);
    read.is_ok_and(|certificate| certificate.issuer() == certificate.subject())
}
