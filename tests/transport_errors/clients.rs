//! The clients, each with the rule for its errors.

use crate::faults::client_config;
use http::{Request, Response};
use http_body_util::StreamBody;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use rustls::pki_types::CertificateDer;
use std::{error::Error, fmt::Write, io, time::Duration};
use tower::ServiceExt;
use tower_webhook::{
    BoxError,
    body::BufferedBody,
    outcome::{Classify, HttpClassifier, MakeClassifier, Outcome, transport},
};

/// Nothing here waits longer.
const BOUND: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    HyperUtil,
    Reqwest,
    Tonic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Talk {
    Http1,
    Http2,
}

pub const CLIENTS: [Kind; 3] = [Kind::HyperUtil, Kind::Reqwest, Kind::Tonic];

type Rule = fn(&(dyn Error + 'static)) -> Option<Outcome>;

impl Kind {
    pub fn speaks(self, talk: Talk) -> bool {
        self != Self::Tonic || talk == Talk::Http2
    }

    fn rule(self) -> Rule {
        match self {
            Self::HyperUtil => transport::hyper_util,
            Self::Reqwest => transport::reqwest,
            Self::Tonic => transport::tonic,
        }
    }
}

/// The verdict, and the chain of errors that it was made from.
fn verdict<T>(rule: Rule, result: Result<T, BoxError>) -> (Outcome, String) {
    let error = result.map(drop).expect_err("it fails");
    let mut said = String::new();
    let mut link: Option<&(dyn Error + 'static)> = Some(&*error);
    while let Some(error) = link {
        let _ = write!(said, "{error} <- ");
        link = error.source();
    }
    let _ = write!(said, "{error:?}");
    let post = Request::post("https://example.com/").body(()).unwrap();
    let classify = HttpClassifier::new().errors(rule).make_classifier(&post);
    (classify.classify(Err::<&Response<()>, _>(&error)), said)
}

async fn bounded<T>(work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(BOUND, work).await;
    done.expect("it ends in time")
}

pub async fn judged(
    client: Kind,
    talk: Talk,
    url: &str,
    timeout: Option<Duration>,
) -> (Outcome, String) {
    const BODY: &[u8] = b"\0\0\0\0\x03a body that is sent";
    let post = || Request::post(url).body(BufferedBody::from(BODY)).unwrap();
    let result = bounded(async {
        match client {
            Kind::HyperUtil => {
                let client = Client::builder(TokioExecutor::new())
                    .http2_only(talk == Talk::Http2)
                    .build_http();
                client
                    .oneshot(post())
                    .await
                    .map(drop)
                    .map_err(BoxError::from)
            }
            Kind::Reqwest => {
                let mut builder = reqwest::Client::builder()
                    .retry(reqwest::retry::never())
                    .no_proxy();
                if talk == Talk::Http2 {
                    builder = builder.http2_prior_knowledge();
                }
                if let Some(timeout) = timeout {
                    builder = builder.timeout(timeout);
                }
                let request = builder.build().unwrap().post(url).body(BODY);
                request.send().await.map(drop).map_err(BoxError::from)
            }
            Kind::Tonic => {
                let mut endpoint = tonic::transport::Endpoint::from_shared(url.to_owned()).unwrap();
                if let Some(timeout) = timeout {
                    endpoint = endpoint.timeout(timeout);
                }
                let req = post().map(tonic::body::Body::new);
                endpoint
                    .connect_lazy()
                    .oneshot(req)
                    .await
                    .map(drop)
                    .map_err(BoxError::from)
            }
        }
    });
    verdict(client.rule(), result.await)
}

/// A client that speaks TLS. reqwest is built without TLS here; its errors are those of the same
/// client and connector.
pub enum Https {
    HyperUtil(rustls::ClientConfig),
    /// A channel whose connector speaks TLS.
    Tonic(rustls::ClientConfig),
}

pub fn https(authority: Option<&CertificateDer<'static>>) -> [Https; 2] {
    let config = || match authority {
        Some(authority) => client_config(authority.clone()),
        None => rustls::ClientConfig::builder_with_provider(
            rustls::crypto::ring::default_provider().into(),
        )
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth(),
    };
    [Https::HyperUtil(config()), Https::Tonic(config())]
}

impl Https {
    pub fn has_connect_timeout(&self) -> bool {
        matches!(self, Self::Tonic(_))
    }

    pub async fn judged(self, url: &str) -> (Outcome, String) {
        match self {
            Self::HyperUtil(config) => {
                let connector = hyper_rustls::HttpsConnectorBuilder::new()
                    .with_tls_config(config)
                    .https_only()
                    .enable_all_versions()
                    .build();
                let client = Client::builder(TokioExecutor::new()).build(connector);
                let post = Request::post(url)
                    .body(BufferedBody::from("a body"))
                    .unwrap();
                let result = bounded(client.oneshot(post)).await;
                verdict(transport::hyper_util, result.map_err(BoxError::from))
            }
            Self::Tonic(config) => {
                let connector = hyper_rustls::HttpsConnectorBuilder::new()
                    .with_tls_config(config)
                    .https_only()
                    .enable_http2()
                    .build();
                let endpoint = tonic::transport::Endpoint::from_shared(url.to_owned()).unwrap();
                let endpoint = endpoint.connect_timeout(Duration::from_millis(300));
                let channel = endpoint.connect_with_connector_lazy(connector);
                let post = Request::post(url).body(tonic::body::Body::empty()).unwrap();
                let result = bounded(channel.oneshot(post)).await;
                verdict(transport::tonic, result.map_err(BoxError::from))
            }
        }
    }
}

pub mod plain {
    use super::{
        BoxError, Client, Outcome, Request, ServiceExt, StreamBody, Talk, TokioExecutor, bounded,
        io, transport, verdict,
    };
    use bytes::Bytes;
    use http_body::Frame;

    /// A request whose body fails after its first piece.
    pub async fn failing_body(talk: Talk, url: &str) -> (Outcome, String) {
        let first = Ok(Frame::data(Bytes::from_static(b"first")));
        let pieces = [
            first,
            Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
        ];
        let body = StreamBody::new(tokio_stream::iter(pieces));
        let client = Client::builder(TokioExecutor::new())
            .http2_only(talk == Talk::Http2)
            .build_http();
        let result = bounded(client.oneshot(Request::post(url).body(body).unwrap())).await;
        verdict(transport::hyper_util, result.map_err(BoxError::from))
    }

    /// A runtime that connections live on and that can end before them.
    pub struct Runtime(tokio::runtime::Runtime);

    pub fn runtime() -> Runtime {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        Runtime(builder.worker_threads(1).enable_all().build().unwrap())
    }

    pub fn get() -> Request<http_body_util::Empty<Bytes>> {
        Request::get("http://example.com/")
            .body(http_body_util::Empty::default())
            .unwrap()
    }

    type Sender = hyper::client::conn::http2::SendRequest<http_body_util::Empty<Bytes>>;

    impl Runtime {
        pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
            self.0.block_on(bounded(work))
        }

        /// A connection that is driven here, whoever uses it.
        pub async fn connect(&self, url: &str) -> Sender {
            let address = url
                .trim_start_matches("http://")
                .trim_end_matches('/')
                .to_owned();
            let connect = self.0.spawn(async {
                let stream = tokio::net::TcpStream::connect(address).await.unwrap();
                let io = hyper_util::rt::TokioIo::new(stream);
                let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io);
                let (sender, connection) = handshake.await.unwrap();
                tokio::spawn(connection);
                sender
            });
            connect.await.unwrap()
        }

        pub fn end(self) {
            self.0.shutdown_background();
        }
    }
}
