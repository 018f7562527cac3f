//! An HTTPS server for the tests, with a certificate of its own authority.

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::sync::Arc;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig, SupportedProtocolVersion,
        crypto::ring,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
        version::{TLS12, TLS13},
    },
};

/// A server at `https://localhost:PORT`, until it is dropped.
pub struct Server {
    pub url: String,
    /// The certificate of its authority, as PEM.
    pub root: String,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves with TLS 1.2 and 1.3.
pub async fn serve(app: Router) -> Server {
    serve_with(app, &[&TLS12, &TLS13]).await
}

/// Serves with these versions of TLS.
pub async fn serve_with(app: Router, versions: &[&'static SupportedProtocolVersion]) -> Server {
    serve_as(app, versions, vec!["localhost".to_owned()]).await
}

/// Serves with these versions of TLS, and a certificate for these names.
pub async fn serve_as(
    app: Router,
    versions: &[&'static SupportedProtocolVersion],
    names: Vec<String>,
) -> Server {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    // Not that of the certificate: OpenSSL would take this for self-signed.
    let name = &mut params.distinguished_name;
    name.push(DnType::CommonName, "the authority of the tests");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let authority = CertifiedIssuer::self_signed(params, key).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(names)
        .and_then(|params| params.signed_by(&key, &authority))
        .expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .expect("these versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("a certificate and its key");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, app) = (acceptor.clone(), app.clone());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    let served = auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app))
                        .await;
                    // A client that goes away is no failure of the server.
                    drop(served);
                }
            });
        }
    });
    Server {
        url: format!("https://localhost:{port}"),
        root: authority.pem(),
        task,
    }
}
