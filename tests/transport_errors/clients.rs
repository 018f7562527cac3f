//! The clients, each in the service that judges its errors.

use crate::faults::client_config;
use http::{Request, Response};
use http_body_util::StreamBody;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use rustls::pki_types::CertificateDer;
use std::{error::Error, fmt::Write, io, time::Duration};
use tower::ServiceExt;
use tower_webhook::{
    body::BufferedBody,
    outcome::{Classify, HttpClassifier, MakeClassifier, Outcome, TransportError},
    transport,
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

impl Kind {
    pub fn speaks(self, talk: Talk) -> bool {
        self != Self::Tonic || talk == Talk::Http2
    }
}

/// The chain of an error's causes.
pub fn said(error: &(dyn Error + 'static)) -> String {
    let mut said = String::new();
    let mut link = Some(error);
    while let Some(error) = link {
        let _ = write!(said, "{error} <- ");
        link = error.source();
    }
    said
}

/// The verdict of every layer outside, and the chain of errors that it was made from.
fn verdict<T>(result: Result<T, TransportError>) -> (Outcome, String) {
    let error = result.map(drop).expect_err("it fails");
    let post = Request::post("https://example.com/").body(()).unwrap();
    let classify = HttpClassifier::new().make_classifier(&post);
    let outcome = classify.classify(Err::<&Response<()>, _>(&error));
    assert_eq!(outcome.kind(), error.outcome().kind());
    (outcome, format!("{}{error:?}", said(&error)))
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
                transport::hyper(client).oneshot(post()).await.map(drop)
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
                let client = transport::reqwest(builder.build().unwrap());
                client.oneshot(post()).await.map(drop)
            }
            Kind::Tonic => {
                let mut endpoint = tonic::transport::Endpoint::from_shared(url.to_owned()).unwrap();
                if let Some(timeout) = timeout {
                    endpoint = endpoint.timeout(timeout);
                }
                let channel = transport::tonic(endpoint.connect_lazy());
                channel.oneshot(post()).await.map(drop)
            }
        }
    });
    verdict(result.await)
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
                verdict(bounded(transport::hyper(client).oneshot(post)).await)
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
                let post = Request::post(url).body(BufferedBody::default()).unwrap();
                verdict(bounded(transport::tonic(channel).oneshot(post)).await)
            }
        }
    }
}

pub mod plain {
    use super::{
        Client, Outcome, Request, Response, ServiceExt, StreamBody, Talk, TokioExecutor, bounded,
        io, transport, verdict,
    };
    use bytes::Bytes;
    use http_body::Frame;
    use std::{
        pin::Pin,
        task::{Context, Poll},
    };
    use tower::Service;

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
        let post = Request::post(url).body(body).unwrap();
        verdict(bounded(transport::hyper(client).oneshot(post)).await)
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

    /// A connection as a service.
    pub struct Connection(pub Sender);

    impl Service<Request<http_body_util::Empty<Bytes>>> for Connection {
        type Response = Response<hyper::body::Incoming>;
        type Error = hyper::Error;
        type Future =
            Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send + 'static>>;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
            self.0.poll_ready(cx)
        }

        fn call(&mut self, req: Request<http_body_util::Empty<Bytes>>) -> Self::Future {
            Box::pin(self.0.send_request(req))
        }
    }

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
